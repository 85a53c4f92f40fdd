# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""One file of HTCondor's configuration: its text, what condor_config_val says of it, what a change asks for. Pure.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import re
import stat

HEAD = "# Kept by sciops.sites.condor_config. What is changed here by hand is undone.\n"
MASK = "********"

#: a knob, also one of a single daemon (STARTD.NAME) or of a local name
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*\Z")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*\Z")
# words that begin a statement, so that no value can be given to them
STATEMENTS = ("use", "include", "if", "elif", "else", "endif", "error", "warning")
# what HTCondor takes away around a value
BLANKS = " \t\n\v\f\r"
TEMPLATE = re.compile(r"[A-Za-z]+[ \t]*:[ \t]*[^\s#].*\Z")
# names whose values nobody is to see; HTCondor's own secrets are in files, whose names end otherwise
SECRET = re.compile(r"(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)\Z", re.I)

#: knobs that the daemons read only when they start, and which of them has to: the section "Macros That Will Require a
#: Restart When Changed" of HTCondor's manual (23.x and 25.x; the longer list of 8.x where it does not contradict).
#: The master takes changes of DAEMON_LIST on a reconfig.
RESTART = (
    (
        "master",
        re.compile(
            r"(BIND_ALL_INTERFACES|NETWORK_INTERFACE|NETWORK_HOSTNAME|ENABLE_IPV[46]|PRIVATE_NETWORK_(NAME|INTERFACE)"
            r"|PROCD_ADDRESS|USE_SHARED_PORT|SHARED_PORT_PORT|MIN_TRACKING_GID|MAX_TRACKING_GID)\Z",
            re.I,
        ),
    ),
    (
        "startd",
        re.compile(
            r"(MEMORY|NUM_CPUS|MAX_NUM_CPUS|NUM_SLOTS|NUM_SLOTS_TYPE_\w+|SLOT_TYPE_\w+|MACHINE_RESOURCE_\w+"
            r"|OFFLINE_MACHINE_RESOURCE_\w+|FETCHWORKDELAY)\Z",
            re.I,
        ),
    ),
    ("negotiator", re.compile(r"PREEMPTION_REQUIREMENTS_STABLE\Z", re.I)),
)

# knobs whose value is a program that HTCondor starts: hooks of jobs and of daemons, wrappers, cron of its daemons
_HOOK = re.compile(r"[A-Z0-9_]+_HOOK_[A-Z0-9_]+\Z", re.I)
_HOOK_OTHER = re.compile(r"_HOOK_(KEYWORDS?|[A-Z0-9_]+_(ARGS|TIMEOUT|KEYWORDS?))\Z", re.I)
_PROGRAM = re.compile(r"([A-Z0-9_]*JOB_WRAPPER|[A-Z0-9]+_CRON_[A-Z0-9_]+_EXECUTABLE)\Z", re.I)

_ENTRY = re.compile(
    r"^(?P<name>[^\s=]+) (?:= ?(?P<line>.*)|@=end\n(?P<lines>(?:.*\n)*?)@end)\n"
    r" # at: (?P<at>.*?)(?:, line (?P<number>\d+)(?:, use (?P<use>.*))?)?$",
    re.M,
)
_DUMPED = re.compile(r"^(?P<name>[^\s=#]+) (?:= ?(?P<line>.*)|@=end\n(?P<lines>(?:.*\n)*?)@end)$", re.M)


class Refused(Exception):
    """The configuration is not taken; the text says what, where and what to do."""


# --- the text


def value_text(value):
    """A value as text of a configuration, None where the knob is left out. ValueError: it cannot be one."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        words = [value_text(one) for one in value if one is not None]
        if any("\n" in word for word in words):
            raise ValueError("a list takes words of one line")
        return ", ".join(words)
    if not isinstance(value, str):
        raise ValueError("is %s; a knob takes text, a number, a boolean, or a list of those" % _kind(value))
    text = "\n".join(line.strip(BLANKS) for line in value.replace("\r\n", "\n").strip(BLANKS).split("\n"))
    bad = [one for one in text if (ord(one) < 32 and one not in "\n\t") or ord(one) == 127]
    if bad:
        raise ValueError("holds the control character %r" % bad[0])
    for line in text.split("\n"):
        if line.endswith("\\"):
            raise ValueError("a line ends in a backslash, which would take the next line with it")
    if "\n" in text:
        lines = text.split("\n")
        if not all(lines):
            raise ValueError("has an empty line, which HTCondor drops")
        if any(line.startswith("#") for line in lines):
            raise ValueError("has a line that begins with #, which HTCondor drops")
    return text


def _kind(value):
    return {"dict": "a mapping"}.get(type(value).__name__, "a " + type(value).__name__)


def _statement(name, text):
    if "\n" not in text:
        return "%s = %s\n" % (name, text) if text else "%s =\n" % name
    tag, number = "end", 0
    while "@" + tag in text:
        number += 1
        tag = "end%d" % number
    return "%s @=%s\n%s\n@%s\n" % (name, tag, text, tag)


def faults(knobs, use, lines):
    """What is wrong with the options of a file, in words."""
    found, seen = [], {}
    for name, value in knobs.items():
        if not isinstance(name, str) or not NAME.match(name):
            found.append("knobs.%s: is no name of a knob; letters, digits, _ and ." % name)
            continue
        if name.lower() in STATEMENTS:
            found.append("knobs.%s: begins a statement of the configuration; say it in use or lines" % name)
        if name.lower() in seen:
            found.append(
                "knobs.%s: is there twice, the other is %s; the case of letters does not count"
                % (name, seen[name.lower()])
            )
        seen[name.lower()] = name
        try:
            value_text(value)
        except ValueError as error:
            found.append("knobs.%s: %s" % (name, error))
    for i, one in enumerate(use):
        if "\n" in one or not TEMPLATE.match(one):
            found.append("use[%d]: %r: must be CATEGORY:TEMPLATE, such as ROLE:Execute" % (i, one))
    for i, one in enumerate(lines):
        if "\n" in one or "\0" in one or "\r" in one:
            found.append("lines[%d]: must be one line" % i)
    return found


def option_faults(given):
    """What is wrong with the options of the module, in words."""
    found = faults(given["knobs"], given["use"], given["lines"])
    if given["name"] is not None and not FILE_NAME.match(given["name"]):
        found.append("name: %r: is no name of a file of the configuration" % given["name"])
    if given["path"] is not None and (not given["path"].startswith("/") or given["path"].endswith("/")):
        found.append("path: %r: must be the absolute path of a file" % given["path"])
    try:
        mode = int(given["mode"], 8)
    except ValueError:
        return found + ["mode: %r: must be an octal number in quotes" % given["mode"]]
    secret = [name for name, value in given["knobs"].items() if value is not None and looks_secret(str(name))]
    if mode & stat.S_IROTH:
        words = "knobs.%s: looks secret, and mode %s lets everybody read it"
        found += [words % (name, given["mode"]) for name in secret]
    if given["state"] == "present" and not (given["knobs"] or given["use"] or given["lines"]):
        found.append("knobs, use and lines are empty; say state absent to take the file away")
    return found


def render(knobs, use=(), lines=()):
    """The text of the file: templates first, so that knobs win over them, then knobs, then lines as they are."""
    parts = [HEAD]
    parts += ["use %s\n" % one.strip() for one in use]
    for name, value in knobs.items():
        text = value_text(value)
        if text is not None:
            parts.append(_statement(name, text))
    parts += [one.rstrip() + "\n" for one in lines]
    return "".join(parts)


def rendered(knobs):
    """{name: text} of the knobs that are not left out."""
    found = {}
    for name, value in knobs.items():
        text = value_text(value)
        if text is not None:
            found[name] = text
    return found


def looks_secret(name):
    return bool(SECRET.search(name))


def masked(text):
    """The text of a file without the values of knobs that look secret, for people."""
    out, hidden, tag = [], False, None
    for line in text.splitlines(True):
        body = line.rstrip("\n")
        end = "\n" if line.endswith("\n") else ""
        if tag is not None:
            if body.strip() == "@" + tag:
                tag, hidden = None, False
                out.append(line)
            else:
                out.append(MASK + end if hidden else line)
            continue
        if hidden:
            # goes on from a line that ended in a backslash
            out.append(MASK + end)
            hidden = body.endswith("\\")
            continue
        match = re.match(r"\s*([A-Za-z_][\w.]*)\s*(@?=)\s*(.*)", body)
        if not match:
            out.append(line)
        elif match.group(2) == "@=":
            tag, hidden = match.group(3).strip(), looks_secret(match.group(1))
            out.append(line)
        elif looks_secret(match.group(1)) and match.group(3):
            out.append(body[: match.start(3)] + MASK + end)
            hidden = body.endswith("\\")
        else:
            out.append(line)
    return "".join(out)


# --- what condor_config_val says


def parse_verbose(text):
    """{name in lower case: {"name", "raw", "file", "line"}} of the output of ``condor_config_val -verbose -raw``.

    ``file`` is ``<Default>``, ``<Detected>`` or ``<Environment>`` where no file says it, and ``line`` is None then.
    """
    found = {}
    for match in _ENTRY.finditer(text):
        number = match.group("number")
        found[match.group("name").lower()] = {
            "name": match.group("name"),
            "raw": _lines(match),
            "file": match.group("at"),
            "line": int(number) if number else None,
        }
    return found


def parse_dump(text):
    """{name in lower case: value} of the output of ``condor_config_val -dump``."""
    return {match.group("name").lower(): _lines(match) for match in _DUMPED.finditer(text)}


def _lines(match):
    if match.group("lines") is None:
        return (match.group("line") or "").strip(BLANKS)
    return "\n".join(line.strip(BLANKS) for line in match.group("lines").split("\n")[:-1])


def sources(text):
    """(main file, the other files in their order) of the output of ``condor_config_val -config``; None without any."""
    # its headings are not on standard output
    files = [line.strip() for line in text.splitlines() if line.startswith("\t") and line.strip()]
    return (files[0] if files else None), files[1:]


def folders(text):
    """The folders that a value of LOCAL_CONFIG_DIR names."""
    return [word for word in re.split(r"[,\s]+", text or "") if word]


def unlike(wanted, found, path):
    """[words] on knobs that are not what the file says: not read, said again later, read as something else."""
    told = []
    for name in wanted:
        seen = found.get(name.lower())
        if seen is None:
            told.append("%s: HTCondor knows no value of it, although %s gives one" % (name, path))
        elif seen["file"] != path:
            where = seen["file"] + (", line %d" % seen["line"] if seen["line"] else "")
            words = (
                "%s: %s says it again and wins, with %s; take it out there, or give this file a name that comes later"
            )
            told.append(words % (name, where, MASK if looks_secret(name) else repr(seen["raw"])))
        elif not refers(name, wanted[name]) and seen["raw"] != wanted[name]:
            shown = MASK if looks_secret(name) else repr(seen["raw"])
            told.append("%s: HTCondor reads the value as %s" % (name, shown))
    return told


def refers(name, text):
    """Whether a value uses the older value of its own knob, which HTCondor puts in where it reads it."""
    last = re.escape(name.split(".")[-1])
    return bool(re.search(r"\$\(\s*([\w.]*\.)?%s\s*[:)]" % last, text, re.I))


# --- what a change asks for


def restarts(old, new):
    """{knob: daemon} of those that are different and that a daemon reads only when it starts.

    ``old`` and ``new`` are values by names in lower case, as they are with everything put in.
    """
    found = {}
    for name in sorted(set(old) | set(new)):
        who = reader(name)
        if who and old.get(name, "") != new.get(name, ""):
            found[name.upper()] = who
    return found


def reader(name):
    """The daemon that reads this knob only when it starts, empty for other knobs."""
    last = name.split(".")[-1]
    for who, pattern in RESTART:
        if pattern.match(last):
            return who
    return ""


def programs(names):
    """Those of the knobs whose value is a program that HTCondor starts."""
    return [name for name in names if _PROGRAM.match(name) or (_HOOK.match(name) and not _HOOK_OTHER.search(name))]
