# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""A declared block in a user's scrontab, and nothing else of it.

Note that this module util is **PRIVATE** to the collection.

A scrontab is text of a person. Only the lines between our two markers are ever changed; all others stay byte by byte,
whatever they are. Slurm itself writes into it too: the entry of a job that was cancelled becomes ``#DISABLED:`` lines.
Only modules use it: Python 3.8 as these, and the standard library.
"""

from __future__ import absolute_import, annotations, division, print_function

import hashlib
import os
import re
import shutil
import subprocess
from typing import Any, Callable, Dict, List, Optional, Tuple

from ansible_collections.sciops.sites.plugins.module_utils import _probe, _squeue

BEGIN, END = "# BEGIN sciops.sites ", "# END sciops.sites "
DISABLED = "#DISABLED: "
OPTION = "#SCRON "
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
SPECIALS = ("yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly", "elevenses", "fika", "teatime")
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
DAYS = "sun mon tue wed thu fri sat".split()
# field, lowest, highest, names from the lowest on
FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("weekday", 0, 7, DAYS),
)  # type: Tuple[Tuple[str, int, int, Any], ...]
# what an edit of somebody else at the same moment may make us begin again
TRIES = 5


class ScrontabError(Exception):
    """The scrontab cannot be read or changed; the text says where and what to do."""


# --- the text


def lines_of(text: str) -> List[str]:
    """Split a text into lines with their ends; only a line feed ends one, and the last may have none."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def marked(line: str, mark: str) -> Optional[str]:
    """Return the name in a marker line, None where it is none."""
    return line[len(mark) :].strip() if line.startswith(mark) else None


def find_all(text: str) -> Dict[str, Tuple[int, int]]:
    """Return our blocks in their order: name -> (number of its first line, one after its last).

    Raises ScrontabError for markers that do not fit together: nobody knows then whose the lines between them are.
    """
    found, name, start = {}, None, 0  # type: Dict[str, Tuple[int, int]], Optional[str], int
    for i, line in enumerate(lines_of(text)):
        begins, ends = marked(line, BEGIN), marked(line, END)
        trouble = None
        if begins is not None:
            if name is not None:
                trouble = "begins inside of block %s, which does not end" % name
            elif begins in found:
                trouble = "is there a second time"
            name, start = begins, i
        elif ends is not None:
            if ends != name:
                trouble = "ends, and does not begin"
            else:
                found[ends] = (start, i + 1)
            name = None
        if trouble:
            text = "scrontab: line %d: block %s %s; put the lines # BEGIN and # END of it in order by hand"
            raise ScrontabError(text % (i + 1, begins if begins is not None else ends, trouble))
    if name is not None:
        text = "scrontab: line %d: block %s begins, and does not end; put its line # END back by hand"
        raise ScrontabError(text % (start + 1, name))
    return found


def block_of(text: str, name: str) -> Optional[List[str]]:
    """Return the lines of a block with their ends and its markers, None where it is not there."""
    place = find_all(text).get(name)
    return None if place is None else lines_of(text)[place[0] : place[1]]


def put(text: str, name: str, block: List[str]) -> str:
    """Return the text with this block in the place of the old one, or as a new one; none where it is empty.

    A new one goes to the end; before all else where the last line has no end, which then stays as it is.
    """
    place, lines = find_all(text).get(name), lines_of(text)
    if place is not None:
        lines[place[0] : place[1]] = block
    elif not text or text.endswith("\n"):
        lines += block
    else:
        lines = block + lines
    return "".join(lines)


# --- entries


def field_fault(value: str, low: int, high: int, names: Any = ()) -> str:
    """Return what is wrong with a field of a time, in words; empty where nothing is.

    This is scrontab's own grammar, narrower than cron's: * and names stand alone, a step is 2 or more and comes last.
    What scrontab takes beyond its range by mistake (minute 60) is not taken here.
    """
    if value == "*" or value.lower() in names:
        return ""
    parts = value.split(",")
    for i, part in enumerate(parts):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        words = [first, last] if dash else [first]
        if span == "*" and slash and "," not in value:
            ends = [low, high]
        elif all(re.match(r"[0-9]{1,4}\Z", word) for word in words):
            ends = [int(word) for word in words]
        else:
            one = "one name like %s, " % names[0] if names else ""
            return "%s: must be * or */2, %sor numbers and ranges with commas between them" % (part or "nothing", one)
        if any(not low <= end <= high for end in ends):
            return "%s: must be %d to %d" % (part, low, high)
        if ends[0] >= ends[-1] and dash:
            return "%s: the end of a range must be higher than its beginning" % part
        if slash and len(ends) < 2:
            return "%s: a step needs * or a range before it" % part
        if slash and i + 1 < len(parts):
            return "%s: must stand last, since scrontab takes nothing after a step" % part
        if slash and not (re.match(r"[0-9]{1,4}\Z", step) and 2 <= int(step) <= ends[1] - ends[0]):
            return "%s: the step after / must be 2 to %d" % (part, ends[1] - ends[0])
    return ""


def entry_faults(entry: Dict[str, Any]) -> List[str]:
    """Return what is wrong with a declared entry: texts that begin with the name of the option."""
    found = []
    times = [name for name, _low, _high, _names in FIELDS if entry.get(name) not in (None, "*")]
    if entry.get("special"):
        if entry["special"] not in SPECIALS:
            found.append("special: %s: must be one of %s" % (entry["special"], ", ".join(SPECIALS)))
        if times:
            found.append("special: cannot be together with %s" % ", ".join(times))
    for name, low, high, names in FIELDS:
        value = entry.get(name)
        wrong = field_fault(str(value), low, high, names) if value is not None else ""
        if wrong:
            found.append("%s: %s" % (name, wrong))
    if not (entry.get("command") or "").strip() or re.search(r"[\n\r\0]", entry["command"]):
        found.append("command: must be one line, and not be empty")
    elif entry["command"] != entry["command"].strip():
        found.append("command: must not begin or end with a space")
    for option in entry.get("options") or []:
        if not re.match(r"--?[A-Za-z]", option) or re.search(r"[\n\r\0]", option):
            found.append("options: %r: must be one option of sbatch, such as --partition=cron" % option)
        elif option.startswith("--comment"):
            found.append("options: %r: the comment is how jobs of this block are known" % option)
    if entry.get("job_name") is not None and not re.match(r"[^\s#\"'\\]+\Z", entry["job_name"]):
        found.append("job_name: %r: must be a word without quotes" % entry["job_name"])
    return found


def when(entry: Dict[str, Any]) -> str:
    """Return the time of a declared entry as scrontab reads it."""
    if entry.get("special"):
        return "@%s" % entry["special"]
    return " ".join(str(entry.get(name) or "*") for name, _low, _high, _names in FIELDS)


def comment(name: str, digest: str = "") -> str:
    """Return the comment of the jobs of a block, or of one entry of it."""
    return "sciops.sites:%s:%s" % (name, digest)


def entry_lines(name: str, entry: Dict[str, Any]) -> List[str]:
    """Return the lines of a declared entry, without their ends."""
    options = ["--job-name=%s" % entry["job_name"]] if entry.get("job_name") else []
    options += list(entry.get("options") or [])
    last = "%s %s" % (when(entry), entry["command"])
    digest = hashlib.sha256("\n".join(options + [last]).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return [OPTION + option for option in options + ["--comment=" + comment(name, digest)]] + [last]


def entries_of(lines: List[str]) -> List[Dict[str, Any]]:
    """Return what stands between the markers of a block: entries, and under `stray` the lines that are none.

    An entry has its `lines` (as Slurm wrote them first), `options`, `when`, `command`, `comment` and `disabled`.
    """
    found, options, raw, off = [], [], [], False  # type: List[Dict[str, Any]], List[str], List[str], bool
    for line in lines:
        text = line.rstrip("\r\n")
        disabled = text.startswith(DISABLED)
        text = text[len(DISABLED) :] if disabled else text
        if text.startswith(BEGIN) or text.startswith(END):
            continue
        if text.startswith(OPTION):
            options.append(text[len(OPTION) :].strip())
            raw.append(text)
            off = off or disabled
        elif text.startswith("#") or not text.strip():
            found.append({"stray": text})
        else:
            words = text.split(None, 1 if text.startswith("@") else 5)
            time, command = " ".join(words[:-1]), words[-1]
            said = [one[len("--comment=") :] for one in options if one.startswith("--comment=")]
            found.append({"lines": raw + [text], "options": options, "when": time, "command": command})
            found[-1].update(comment=said[-1] if said else "", disabled=off or disabled)
            options, raw, off = [], [], False
    return found + [{"stray": text} for text in raw]


def wanted(name: str, entries: List[Dict[str, Any]], old: Optional[List[str]], held: bool) -> List[str]:
    """Return the block for declared entries. While it is held nothing is on that was not on before."""
    on = [one["lines"] for one in entries_of(old or []) if not one.get("disabled") and "lines" in one]
    lines = []
    for entry in entries:
        own = entry_lines(name, entry)
        lines += [DISABLED + line for line in own] if held and own not in on else own
    return [line + "\n" for line in [BEGIN + name] + lines + [END + name]]


# --- the tool


class Scrontab:
    """The scrontab of a user, the own one where none is named."""

    def __init__(self, user: Optional[str] = None, timeout: float = 30.0) -> None:
        self.user, self.timeout = user, timeout

    def run(self, words: List[str], data: bytes = b"") -> Tuple[int, str, str]:
        """Run a program of Slurm: its status, output and errors."""
        paths = "/usr/local/bin:/usr/bin:/bin:/opt/slurm/bin:" + os.environ.get("PATH", "")
        program = shutil.which(words[0], path=paths)
        if not program:
            hint = "; it comes with Slurm's client, and needs ScronParameters=enable" if "scrontab" in words[0] else ""
            raise ScrontabError("there is no program %s on this host%s" % (words[0], hint))
        env = {"PATH": paths, "LANG": "C.UTF-8", "HOME": os.path.expanduser("~")}
        env.update((key, value) for key, value in os.environ.items() if key == "SLURM_CONF")
        try:
            done = subprocess.run(
                [program] + words[1:],
                input=data,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                cwd="/",
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ScrontabError("%s: had no answer from slurmctld within %g s" % (words[0], self.timeout))
        except OSError as error:
            raise ScrontabError("%s: %s" % (program, error.strerror))
        out, err = (part.decode("utf-8", "surrogateescape") for part in (done.stdout, done.stderr))
        return done.returncode, out, err

    def words(self, *more: str) -> List[str]:
        """Return a command line of scrontab for this user."""
        return ["scrontab"] + (["-u", self.user] if self.user else []) + list(more)

    def read(self) -> str:
        """Return the text of the scrontab, empty where there is none."""
        code, out, err = self.run(self.words("-l"))
        if code and "no crontab for" in err + out:
            return ""
        if code:
            raise ScrontabError("scrontab -l: %s" % (" ".join(err.split()) or "ended with status %d" % code))
        return out

    def write(self, text: str) -> None:
        """Put this text in the place of the scrontab; an empty one removes it."""
        words = self.words("-") if text else self.words("-r")
        code, out, err = self.run(words, text.encode("utf-8", "surrogateescape"))
        if code:
            said = " ".join((err + " " + out).split()) or "ended with status %d" % code
            raise ScrontabError("scrontab: refused, and nothing was changed: %s" % said)

    def change(self, edit: Callable[[str], str], check: bool = False) -> Tuple[str, str]:
        """Bring the scrontab to what `edit` makes of it; returns the text as it was and as it is, or would be.

        Slurm has no way to write only where nobody else did. So it is looked at right before and right after, and
        begun again where it is not what it was: what somebody adds at the same time is kept.
        """
        first = None
        for _try in range(TRIES):
            before = self.read()
            after = edit(before)
            first = before if first is None else first
            if check or after == before:
                return first, after
            if self.read() == before:
                self.write(after)
                if self.read() == after:
                    return first, after
        raise ScrontabError("scrontab: somebody else changes it again and again; try again later")

    def jobs(self) -> List[Dict[str, Any]]:
        """Return the user's jobs that have a place in the queue."""
        user = self.user or _probe.login()
        code, out, err = self.run(["squeue", "--json", "--user=" + user])
        if code:
            raise ScrontabError("squeue: %s" % (" ".join(err.split()) or "ended with status %d" % code))
        try:
            found = _squeue.queue(out, {user})[0]
        except _squeue.Garbled as error:
            raise ScrontabError(str(error))
        return [one for one in found if one["verdict"] != "over"]

    def jobs_of(self, name: str) -> List[int]:
        """Return the numbers of the jobs of a block that have a place in the queue and do not end already."""
        jobs = [one for one in self.jobs() if one["comment"].startswith(comment(name))]
        return [one["id"] for one in jobs if one["word"] != "COMPLETING"]

    def cancel(self, numbers: List[int]) -> None:
        """Cancel jobs of the scrontab, and what they would come back as. That one is over already is no trouble."""
        code, _out, err = self.run(["scancel", "--cron"] + [str(number) for number in numbers])
        left = {one["id"] for one in self.jobs() if one["word"] != "COMPLETING"} if code else set()
        if left & set(numbers):
            raise ScrontabError("scancel --cron: %s" % " ".join(err.split()))
