# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What is said to HTCondor and what it says: words of its commands, submit descriptions, and its JSON. Pure.

Note that this module util is **PRIVATE** to the collection.
"""

from __future__ import absolute_import, annotations, division, print_function

import json
import re
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.sciops.sites.plugins.module_utils import _classad

#: what can be done to jobs -> the command for it
ACTIONS = {"hold": "condor_hold", "release": "condor_release", "remove": "condor_rm", "vacate": "condor_vacate_job"}
#: what a schedd says of each job it was to act on, by number (action_result_t)
RESULTS = ("error", "success", "not_found", "bad_status", "already_done", "permission_denied")
#: kinds of ads of a collector -> the option of condor_status
KINDS = {
    "startd": ["-slot"],
    "schedd": ["-schedd"],
    "master": ["-master"],
    "collector": ["-collector"],
    "negotiator": ["-negotiator"],
    "submitter": ["-submitters"],
    "any": ["-any"],
}
COMMAND = re.compile(r"(?:MY\.|\+)?[A-Za-z_][A-Za-z0-9_.]*\Z")
VARIABLE = re.compile(r"(?!sciops_)[A-Za-z_][A-Za-z0-9_]*\Z")
# what stands for a sign that would end a cell of the table of items. Two of them are cut out of a longer text, since
# the blanks around a value are taken off; the sign of \x1f parts cells too, in some versions
MACROS = """\
sciops_comma = ,
sciops_cut = | |\t|\x1f|
sciops_blank = $SUBSTR(sciops_cut,1,1)
sciops_tab = $SUBSTR(sciops_cut,3,1)
sciops_unit = $SUBSTR(sciops_cut,5,1)
sciops_none =
"""
_CELL = {",": "$(sciops_comma)", " ": "$(sciops_blank)", "\t": "$(sciops_tab)", "\x1f": "$(sciops_unit)"}
# a schedd or collector that gave no answer
_NO_ANSWER = re.compile(
    r"can't find address|failed to connect|couldn't connect|can't connect|cannot connect|unable to locate|"
    r"no record of|failed communication|communication error|failed to fetch ads|timed? ?out|failed to end classad|"
    r"unable to contact|can't locate|couldn't find|can't contact|connection (?:refused|reset|closed)|"
    r"failed to (?:send|receive|read|get)|secman:200[37]|cedar:|unknown host|can't resolve|no answer|temporarily",
    re.IGNORECASE,
)
# a clear no
_NO = re.compile(
    r"parse error|could not parse|invalid (?:constraint|attribute value)|insert constraint|the job_spec string|"
    r"denied|not authorized|authorization|syntax error|illegal|immutable|not allowed",
    re.IGNORECASE,
)


class CondorError(Exception):
    """HTCondor did not do what it was asked; the text says what, where and what to do."""


class Silent(CondorError):
    """Nobody answered, or not in a way that can be read: what is there is not known, and may be anything."""


class Refused(CondorError):
    """A clear no: it was asked for something that cannot be, or that this user may not."""


def judge(text: str, unknown: type = Silent) -> type:
    """Return the kind of error that a text of HTCondor tells of; `unknown` for a text that is not known here."""
    return Refused if _NO.search(text) else Silent if _NO_ANSWER.search(text) else unknown


def said(text: str, limit: int = 600) -> str:
    """Return what a program said in one line, without the long hints of HTCondor."""
    return " ".join(text.partition("Extra Info:")[0].split())[:limit]


# --- JSON


def ads(text: str, projection: Optional[List[str]] = None) -> List[Dict[str, Any]]:
    """Return the ads of a text of HTCondor's JSON: one or more lists, or nothing at all.

    What is an expression there (``"\\/Expr(...)\\/"``) is a _classad.Expression, and a string where it is only the
    way to write one (see _classad.quote). With a projection each ad has the names of it that it knows, spelled like
    there, and no others. Raises Silent for what is no JSON: an answer that was cut off is none.
    """
    # HTCondor escapes a slash nowhere else, and no string of it has a NUL: so an expression is never taken for a string
    text = re.sub(r"\\(.)", lambda found: "\\u0000" if found.group(1) == "/" else found.group(0), text, flags=re.S)
    found, at, decoder = [], 0, json.JSONDecoder(strict=False)  # type: List[Dict[str, Any]], int, json.JSONDecoder
    wanted = {name.lower(): name for name in projection or []}
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text):
            return found
        try:
            part, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise Silent("the answer of HTCondor is no JSON (%s): %s" % (error, said(text[at : at + 80])))
        for ad in part if isinstance(part, list) else [part]:
            if not isinstance(ad, dict):
                raise Silent("the answer of HTCondor has no ad where one must be: %s" % said(repr(ad), 80))
            known = sorted(ad, key=str.lower)
            if projection:
                found.append({wanted[one.lower()]: plain(ad[one]) for one in known if one.lower() in wanted})
            else:
                found.append({one: plain(ad[one]) for one in known if one != "ServerTime"})


def plain(value: Any) -> Any:
    """Return a value of HTCondor's JSON with its expressions as such."""
    if isinstance(value, str):
        if value.startswith("\0Expr(") and value.endswith(")\0"):
            text = _classad.old_form(value[len("\0Expr(") : -len(")\0")])
            same = _classad.unquoted_parts(text)
            return _classad.Expression(text) if same is None else same
        return value.replace("\0", "/")
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value


def totals(text: str) -> Dict[str, int]:
    """Return how many jobs had which result, of what condor_hold -long and its like print."""
    found = dict.fromkeys(RESULTS, 0)
    for code in re.findall(r"^job_[0-9]+_[0-9]+ = ([0-5])$", text, re.M):
        found[RESULTS[int(code)]] += 1
    return found


def submitted(text: str) -> Tuple[int, int]:
    """Return cluster and number of jobs, of what condor_submit -terse prints. Raises Silent where that is not clear."""
    found = re.search(r"^([0-9]+)\.([0-9]+) - ([0-9]+)\.([0-9]+)\s*$", text, re.M)
    if not found or found.group(1) != found.group(3):
        raise Silent("condor_submit did not say which jobs there are now: %s" % said(text))
    return int(found.group(1)), int(found.group(4)) - int(found.group(2)) + 1


# --- words


def both(*parts: Optional[str]) -> str:
    """Return a constraint that all of these hold; those that are None or empty are left out."""
    kept = [one for one in parts if one]
    return kept[0] if len(kept) == 1 else " && ".join("(%s)" % one for one in kept) if kept else "true"


def equal(name: str, value: Any) -> str:
    """Return a constraint that an attribute has exactly this value (=?=: never undefined, letters as they are)."""
    return "%s =?= %s" % (_classad.name(name), _classad.literal(value))


def read_words(
    program: str, constraint: Optional[str], projection: Optional[List[str]], limit: Optional[int] = None
) -> List[str]:
    """Return the words of condor_q or condor_history for these ads as JSON."""
    words = [program, "-json"]
    if program == "condor_q":
        words.append("-allusers")
    words += ["-constraint", constraint or "true"]
    if projection:
        words += ["-attributes", ",".join(_classad.name(one) for one in projection)]
    if limit is not None:
        words += ["-limit", str(int(limit))]
    return words


def where(pool: Optional[str], schedd: Optional[str]) -> List[str]:
    """Return the words that name a pool and a schedd."""
    return (["-pool", pool] if pool else []) + (["-name", schedd] if schedd else [])


def reason(text: str) -> str:
    """Return a reason in one line, as HTCondor keeps it: it does not quote one itself, and loses one with a quote."""
    return " ".join(text.split()).replace('"', "'").replace("\0", "").rstrip("\\")


# --- submit descriptions


def escape(text: str) -> str:
    """Return text that a submit description takes as it is: what begins a macro does not any more.

    Two dollar signs are left to HTCondor, which looks at them when a job starts (see _classad.quote).
    """
    return re.sub(r"(?<!\$)\$(?!\$)", "$(DOLLAR)", text)


def line(name: str, value: Any) -> str:
    """Return one line of a description. Raises ValueError for a name or a value that is none."""
    if not COMMAND.match(name) or name.lower() in ("queue", "iterate", "if", "else", "elif", "endif", "include", "use"):
        raise ValueError("%s: is no command of a submit description" % name)
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, (list, tuple)):
        value = ", ".join(str(one) for one in value)
    value = "" if value is None else str(value)
    if re.search(r"[\n\r\0]", value):
        hint = "; give %s as a list or mapping" % name if name.lower() in ("arguments", "environment") else ""
        raise ValueError("%s: a submit description takes no line break in a value%s" % (name, hint))
    if value.endswith("\\"):
        raise ValueError("%s: a submit description takes no backslash at the end of a value" % name)
    return "%s = %s\n" % (name, value)


def words_of(given: Dict[str, Any], base: Optional[Dict[str, str]] = None) -> Dict[str, Any]:
    """Return attributes for `arguments` (list), `environment` and `attributes` (mappings) of what is given."""
    found = {}  # type: Dict[str, Any]
    if isinstance(given.get("arguments"), (list, tuple)):
        found["Arguments"] = _classad.join_arguments([str(one) for one in given["arguments"]])
    if isinstance(given.get("environment"), dict):
        environment = dict(base or {}, **given["environment"])
        found["Environment"] = _classad.join_environment({name: str(one) for name, one in environment.items()})
    for name, value in (given.get("attributes") or {}).items():
        found[_classad.name(name)] = value
    return found


def description_text(description: Dict[str, Any], attributes: Optional[Dict[str, Any]] = None) -> str:
    """Return a submit description without its queue statement.

    Commands are text as HTCondor takes it. `arguments` may be a list and `environment` a mapping: those arrive in the
    job unchanged, whatever they hold. So do attributes, which are values. Raises ValueError, TypeError.
    """
    given = {name.lower(): name for name in description}
    own = {low: description[name] for low, name in given.items() if low in ("arguments", "environment")}
    typed = words_of(dict(own, attributes=attributes))
    lines = [
        line(name, value)
        for name, value in description.items()
        if not (name.lower() in own and isinstance(value, (list, tuple, dict)))
    ]
    lines += ["MY.%s = %s\n" % (name, escape(_classad.literal(value))) for name, value in typed.items()]
    return "".join(lines)


def cell(text: str) -> str:
    """Return text as a cell of a table of items. Raises ValueError for a line break and for $(DOLLAR)."""
    if re.search(r"[\n\r\0]", text):
        raise ValueError("%r: a variable of an item takes no line break" % text)
    if re.search(r"\$\(dollar\b", text, re.IGNORECASE):
        # HTCondor replaces it once more in what all other macros have become
        raise ValueError("%r: a variable of an item takes no $(DOLLAR); give arguments as a list" % text)
    made = re.sub("[, \t\x1f]", lambda found: _CELL[found.group(0)], escape(text))
    # a row that ends with a backslash would go on with the next one
    return made + "$(sciops_none)" if not made or made.endswith("\\") else made


def table(description: Dict[str, Any], items: List[Dict[str, Any]]) -> Tuple[str, List[Dict[str, str]]]:
    """Return the lines that a description needs for items, and their rows: variable -> cell, all with the same names.

    A value of an item is a variable ``$(name)``, but `arguments` as a list, `environment` as a mapping (its variables
    beside those of the description) and `attributes` are of the job itself. Raises ValueError with the item's number.
    """
    low = {name.lower(): value for name, value in description.items()}
    base = low["environment"] if isinstance(low.get("environment"), dict) else None
    rows, variables, typed = [], [], []  # type: List[Tuple[Dict[str, Any], Dict[str, Any]]], List[str], List[str]
    for i, item in enumerate(items):
        try:
            own = words_of(item, base)
            rest = {
                name: value
                for name, value in item.items()
                if name != "attributes"
                and not (name in ("arguments", "environment") and isinstance(value, (list, tuple, dict)))
            }
            for name in rest:
                if not VARIABLE.match(name):
                    raise ValueError("%s: is no name of a variable" % name)
            own_cells = {name: cell(_classad.literal(value)) for name, value in own.items()}
            cells = {name: cell("" if value is None else str(value)) for name, value in rest.items()}
        except (ValueError, TypeError) as error:
            raise ValueError("items[%d]: %s" % (i, error))
        variables += [name for name in cells if name not in variables]
        typed += [name for name in own_cells if name not in typed]
        rows.append((cells, own_cells))
    # what an item has not is what the description has, and else not there
    default = words_of({name: low.get(name) for name in ("arguments", "environment")})
    absent = {name: cell(_classad.literal(default.get(name))) for name in typed}
    lines = [MACROS] + ["MY.%s = $(sciops_%s)\n" % (name, name) for name in typed]
    found = []
    for i, (cells, own) in enumerate(rows):
        row = {"sciops_row": str(i)}
        row.update((name, cells.get(name, "$(sciops_none)")) for name in variables)
        row.update(("sciops_%s" % name, own.get(name, absent[name])) for name in typed)
        found.append(row)
    return "".join(lines), found


def submit_text(
    description: Dict[str, Any],
    items: Optional[List[Dict[str, Any]]] = None,
    attributes: Optional[Dict[str, Any]] = None,
    count: int = 1,
) -> str:
    """Return a whole submit description with its queue statement, as condor_submit reads it. Raises ValueError."""
    text = description_text(description, attributes)
    if items is None:
        return text + queue(None, count)
    head, rows = table(description, items)
    return text + head + queue(rows)


def queue(rows: Optional[List[Dict[str, str]]], count: int = 1) -> str:
    """Return the queue statement for rows of `table`, or for a number of jobs."""
    if rows is None:
        return "queue %d\n" % count
    return "queue %s from (\n%s\n)\n" % (",".join(rows[0]), "\n".join(",".join(row.values()) for row in rows))


def edited(text: str) -> int:
    """Return of how many jobs condor_qedit says that it changed them. Raises Silent where it does not."""
    found = re.search(r"for ([0-9]+) matching job", text)
    if not found:
        raise Silent("condor_qedit did not say what it changed: %s" % said(text))
    return int(found.group(1))
