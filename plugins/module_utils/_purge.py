# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which entries below a folder are old and nobody's any more, and the report of their removal.

Note that this module util is **PRIVATE** to the collection.

What is not known is kept: a list of references that cannot be had stops the run before anything goes, an entry whose
state nobody tells stays. Python 3.6 and the standard library, no f-strings: the role `purge` copies this file,
_purge_walk and _place to hosts without Ansible, where main() is the program.
"""

import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import time

from ansible_collections.sciops.sites.plugins.module_utils import _place, _purge_walk
from ansible_collections.sciops.sites.plugins.module_utils._purge_walk import ASIDE, Kept, Refused

TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SIZES = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "kB": 10**3, "MB": 10**6, "GB": 10**9}
SIZES["TB"] = 10**12
DEFAULTS = {
    "owner": None,
    "minimum_components": 3,
    "depth": 1,
    "keep": [],
    "keep_file": None,
    "keep_command": None,
    "runs": None,
    "runs_command": None,
    "purge_states": ["done", "failed", "cancelled"],
    "max_entries": None,
    "max_bytes": None,
    "time_limit": None,
    "command_timeout": "60s",
    "report": None,
}
# what the program's JSON must have, the module has had checked
LISTS = ("keep", "keep_command", "runs_command", "purge_states")
KINDS = {"path": str, "runs": dict, "depth": int, "minimum_components": int, "max_entries": int}
KINDS.update(dict.fromkeys(LISTS, list))
# why an entry stays that somebody should look at
PROBLEMS = ("unreadable", "denied", "failed")
USAGE = "usage: CONFIG.json [--check | --settings]; its keys are the options of the module sciops.sites.purge"


# --- settings


def amount(option, text, units):
    """A number with a unit, such as 14d or 50GiB."""
    found = re.match(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)\Z", str(text).strip())
    if not found or found.group(2) not in units:
        known = ", ".join(unit for unit in units if unit)
        raise Refused("%s: %s: must be a number with one of %s" % (option, text, known))
    return float(found.group(1)) * units[found.group(2)]


def settings(given):
    """All settings, times in seconds and sizes in bytes; raises Refused for what is missing or unknown."""
    unknown = sorted(set(given) - set(DEFAULTS) - {"path", "older_than"})
    if unknown:
        raise Refused("%s: there is no such option" % ", ".join(unknown))
    known = dict(DEFAULTS, **given)
    for option in ("path", "older_than"):
        if known.get(option) is None:
            raise Refused("%s: is missing" % option)
    for option, kind in KINDS.items():
        if known[option] is not None and not isinstance(known[option], kind):
            raise Refused("%s: %r: must be of type %s" % (option, known[option], kind.__name__))
    for option in ("keep_command", "runs_command"):
        if known[option] == []:
            raise Refused("%s: has no words" % option)
    for option in ("older_than", "time_limit", "command_timeout"):
        if known[option] is not None:
            known[option] = amount(option, known[option], TIMES)
    if known["max_bytes"] is not None:
        known["max_bytes"] = amount("max_bytes", known["max_bytes"], SIZES)
    if known["depth"] < 1:
        raise Refused("depth: %s: must be 1 or more" % known["depth"])
    if known["minimum_components"] < _purge_walk.LEAST:
        text = "minimum_components: %s: must be %d or more"
        raise Refused(text % (known["minimum_components"], _purge_walk.LEAST))
    return known


# --- what is in use


def said_by(option, words, seconds):
    """What a command writes. Raises Refused where it fails, or says nothing but complains."""
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True)
    except OSError as error:
        raise Refused("%s: %s: %s" % (option, words[0], error.strerror))
    with child:
        try:
            out, err = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise Refused("%s: %s: did not end within %d s" % (option, words[0], seconds))
    said = err.decode("utf-8", "replace").strip()[-300:]
    if child.returncode:
        raise Refused("%s: %s: status %d: %s" % (option, words[0], child.returncode, said or "no words"))
    if not out.strip() and said:
        raise Refused("%s: %s: listed nothing, and complained: %s" % (option, words[0], said))
    return os.fsdecode(out)


def listed(known):
    """The references of all lists. Raises Refused where one cannot be had."""
    texts = ["\n".join(known["keep"])]
    if known["keep_file"] is not None:
        try:
            with open(known["keep_file"], "rb") as handle:
                texts.append(os.fsdecode(handle.read()))
        except OSError as error:
            raise Refused("keep_file: %s: %s" % (known["keep_file"], error.strerror))
        if not texts[-1]:
            text = "keep_file: %s: is empty, as a writer that failed leaves it; a list of nothing has a comment line"
            raise Refused(text % known["keep_file"])
    if known["keep_command"]:
        texts.append(said_by("keep_command", known["keep_command"], known["command_timeout"]))
    lines = [line.strip() for text in texts for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def states_of(known):
    """{name, path or pattern of an entry: state}, None where no states were asked for."""
    if known["runs"] is None and known["runs_command"] is None:
        return None
    states = dict(known["runs"] or {})
    if known["runs_command"]:
        text = said_by("runs_command", known["runs_command"], known["command_timeout"])
        try:
            told = json.loads(text)
        except ValueError as error:
            raise Refused("runs_command: wrote no JSON: %s" % error)
        if not isinstance(told, dict):
            raise Refused("runs_command: must write a JSON object of ids and states")
        states.update(told)
    for name, state in states.items():
        if not isinstance(state, str):
            raise Refused("runs: %s: %r: a state is a word" % (name, state))
    return states


def patterns(lines):
    """The test whether a text fits one of those lines that have one of *?[."""
    globs = [fnmatch.translate(line) for line in lines if re.search(r"[*?\[]", line)]
    # without any, what nothing fits
    return re.compile("|".join(globs) or r"(?!)").match


class References:
    """What must not go: ``lines`` are absolute paths, paths below the root, names, or patterns of one of these.

    ``roots`` are the root as it was written and as it really is. A pattern's * also stands for slashes.
    """

    def __init__(self, lines, roots):
        self.roots, self.all, self.paths = roots, False, set()
        self.names = {line for line in lines if "/" not in line}
        absolute = [line for line in lines if line.startswith("/")]
        relative = [line for line in lines if "/" in line and not line.startswith("/")]
        for line in relative:
            if ".." in line.split("/"):
                raise Refused("keep: %s: write it without .." % line)
        # one that leads through a symlink means what it leads to, however it is written
        below = [os.path.join(root, line) for line in relative for root in roots]
        for line in absolute + below:
            for form in forms(line):
                self.paths.update(os.path.relpath(form, root) for root in roots if inside(form, root))
                # what holds the root is everything in it
                self.all = self.all or any(inside(root, form) for root in roots)
        self.above = {folder for path in self.paths for folder in folders(path)}
        self.fits_name, self.fits_path, self.fits_absolute = (patterns(one) for one in (self.names, relative, absolute))
        self.all = self.all or any(self.fits_absolute(one) for root in roots for one in folders(root) + [root])

    def hits(self, path):
        """Whether a path below the root is itself referred to."""
        name = path.rsplit("/", 1)[-1]
        if name in self.names or path in self.paths or self.fits_name(name) or self.fits_path(path):
            return True
        return any(self.fits_absolute(root + "/" + path) for root in self.roots)

    def meets(self, path):
        """Raise Kept where a path below the root is referred to, or something in it is."""
        if self.all or path in self.above or self.hits(path):
            raise Kept("referenced", "%s: is in use, says keep" % path)

    def check(self, path):
        """As meets, and also where a folder that it lies in is referred to."""
        for folder in folders(path):
            if self.hits(folder):
                raise Kept("referenced", "%s: %s is in use, says keep" % (path, folder))
        self.meets(path)


def forms(path):
    """An absolute path as it is written, and where it leads through symlinks, with and without itself."""
    folder, name = os.path.split(os.path.normpath(path))
    real = os.path.join(os.path.realpath(folder), name)
    return {os.path.join(folder, name), real, os.path.realpath(real)}


def folders(path):
    """All folders that a path lies in, without the topmost."""
    return [path[:place] for place, one in enumerate(path) if one == "/" and place]


def inside(path, folder):
    """Whether a path is a folder or below it."""
    return (path + "/").startswith(folder.rstrip("/") + "/")


class States:
    """Run states of entries; None for ``states`` lets everything pass."""

    def __init__(self, states, over):
        self.states, self.over = states, {state.lower() for state in over}
        self.globs = [key for key in states or {} if re.search(r"[*?\[]", key)]

    def check(self, path):
        """Raise Kept unless every state that is told of an entry is one of those that are over, and one is told."""
        if self.states is None:
            return
        name = path.rsplit("/", 1)[-1]
        keys = {key for key in (name, path) if key in self.states}
        keys.update(key for key in self.globs if fnmatch.fnmatchcase(name, key) or fnmatch.fnmatchcase(path, key))
        states = {self.states[key] for key in keys}
        if not states:
            raise Kept("state", "%s: its state is not known" % path)
        live = sorted(state for state in states if state.lower() not in self.over)
        if live:
            raise Kept("state", "%s: its state is %s" % (path, ", ".join(live)))


# --- the run


def shown(path):
    """A path as text that fits on one line, whatever bytes are in it."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in path)


def purge(given, check=False, now=None):
    """Remove what is old and nobody's; with ``check`` only tell what would go. Returns the report.

    Raises Refused, with nothing removed. ``now`` is seconds since 1970.
    """
    known, now = settings(given), time.time() if now is None else now
    owner = os.geteuid() if known["owner"] is None else _purge_walk.user(known["owner"])
    root, real = _purge_walk.open_root(known["path"], owner, known["minimum_components"])
    try:
        written = "/" + "/".join(_purge_walk.words_of(known["path"]))
        references = References(listed(known), {written, real})
        states = States(states_of(known), known["purge_states"])
        walk = _purge_walk.Walk(root, int((now - known["older_than"]) * 10**9), references.meets)
        result = {"path": written, "at": int(now), "check": check, "removed": [], "kept": []}
        result.update(bytes=0, allocated=0)
        limits = Limits(known, result)
        for parent, name, path, kept in walk.entries(known["depth"]):
            # what an interrupted run has set aside is known by its old name
            own = path[: len(path) - len(name)] + (name[len(ASIDE) :] if name.startswith(ASIDE) else name)
            try:
                if kept:
                    raise kept
                references.check(own)
                states.check(own)
                limits.check_time(path)
                tally = walk.scan(parent, name, own)
                limits.check_size(path, tally)
                if not check:
                    walk.take(parent, name, own, tally)
            except Kept as stays:
                result["kept"].append({"path": shown(path), "why": stays.why, "detail": shown(str(stays))})
                continue
            one = {"path": shown(path), "bytes": tally.bytes, "allocated": tally.allocated, "objects": tally.objects}
            one["age"] = int(now - tally.youngest / 1e9)
            result["removed"].append(one)
            result["bytes"] += tally.bytes
            result["allocated"] += tally.allocated
    finally:
        os.close(root)
    result["problems"] = [one["detail"] for one in result["kept"] if one["why"] in PROBLEMS]
    if known["report"] is not None and not check:
        try:
            _place.write(known["report"], json.dumps(result, indent=1, sort_keys=True) + "\n", 0o644)
        except _place.Misplaced as error:
            result["problems"].append("report: %s" % error)
    return result


class Limits:
    """How much one run may remove, and for how long it begins with further entries."""

    def __init__(self, known, result):
        self.known, self.result = known, result
        self.ends = None if known["time_limit"] is None else time.monotonic() + known["time_limit"]

    def check_time(self, path):
        """Raise Kept after the time limit."""
        if self.ends is not None and time.monotonic() >= self.ends:
            raise Kept("limit", "%s: time_limit is reached" % path)

    def check_size(self, path, tally):
        """Raise Kept where an entry is one too many."""
        entries, size = self.known["max_entries"], self.known["max_bytes"]
        if entries is not None and len(self.result["removed"]) >= entries:
            raise Kept("limit", "%s: max_entries is reached" % path)
        if size is not None and self.result["bytes"] + tally.bytes > size:
            raise Kept("limit", "%s: max_bytes would be passed" % path)


# --- on a host without a controller


def lines_of(result):
    """The report in lines for a log."""
    verb = "would remove" if result["check"] else "removed"
    for one in result["removed"]:
        yield "%s %s (%d bytes, %d s old)" % ((verb, one["path"], one["bytes"], one["age"]))
    for why in sorted({one["why"] for one in result["kept"]}):
        yield "kept, %s: %d" % (why, len([one for one in result["kept"] if one["why"] == why]))
    text = "%s %d entries of %s: %d bytes, %d on disk"
    yield text % (verb, len(result["removed"]), result["path"], result["bytes"], result["allocated"])


def stop(_number, _frame):
    """End a run as an exception does, so that nothing stays set aside."""
    raise SystemExit(3)


def main(arguments):
    """Exit status: 0 all is well, 1 refused, 2 something could not be looked into or removed, 3 told to stop.

    With --check it tells what would go, with --settings it only looks whether the settings are such that it would run.
    """
    if len(arguments) not in (1, 2) or arguments[1:] not in ([], ["--check"], ["--settings"]):
        sys.stderr.write(USAGE + "\n")
        return 1
    signal.signal(signal.SIGTERM, stop)
    try:
        with open(arguments[0]) as handle:
            given = json.load(handle)
        if arguments[1:] == ["--settings"]:
            known = settings(given)
            _purge_walk.check_place(known["path"], known["minimum_components"], {os.geteuid()})
            return 0
        sys.stdout.write("%s purge of %s\n" % (time.strftime("%Y-%m-%dT%H:%M:%S%z"), given.get("path")))
        sys.stdout.flush()
        result = purge(given, arguments[1:] == ["--check"])
    except (Refused, OSError, ValueError) as error:
        sys.stderr.write("purge: %s: %s\n" % (arguments[0], error))
        return 1
    for line in lines_of(result):
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
    for problem in result["problems"]:
        sys.stderr.write("purge: %s\n" % problem)
    return 2 if result["problems"] else 0
