# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Builds of a target, each beside the others: made whole or not at all, the last ones kept.

Note that this module util is **PRIVATE** to the collection.

A build is ``ROOT/builds/<method>-<id>``, with a log and, once it is whole, a note beside it. A note is written last and
removed first: without it a build is a leftover of a run that was ended. Python 3.6 and the standard library, no
f-strings (see _probe).

An install method is a file with

    SETTINGS, SECRETS                           {name: type} of what it can be told, and names of what is secret
    missing(settings) -> [words]                what the host lacks, in words; changes nothing
    identify(settings, version) -> build        what would be built: {"method", "id", "link", "name"}; raises Failure
    make(settings, target, work)                makes it at this path, whatever is there; raises Failure
    look(target) -> anything JSON has           what it looks like when it is whole; None where it cannot be used

and a line in METHODS. ``settings`` are the method's in the system file, with texts in the place of files' names.
"""

import contextlib
import fcntl
import glob
import json
import os
import re
import shutil
import tempfile
import time

from ansible_collections.sciops.sites.plugins.module_utils import (
    _building,
    _install_apptainer,
    _install_venv,
    _logs,
    _place,
)

METHODS = {"venv": _install_venv, "apptainer": _install_apptainer}
Failure = _building.Failure
NAME = re.compile(r"(%s)-[0-9a-f]{12}" % "|".join(METHODS))
WORDS = {str: "text", bool: "true or false", list: "a list"}


def fit(method, settings, secrets):
    """All settings of a method in one mapping, those that are null left out. Raises Failure, naming every fault."""
    if method not in METHODS:
        raise Failure("install.method: %s: there are none, %s" % (method, ", ".join(METHODS)))
    known, faults = METHODS[method].SETTINGS, []
    for name, value in sorted(settings.items()):
        if name in METHODS[method].SECRETS:
            faults.append("%s: is a secret; give it in secrets" % name)
        elif name not in known:
            faults.append("%s: no such setting; there are %s" % (name, ", ".join(sorted(known))))
        elif value is not None and not isinstance(value, known[name]):
            faults.append("%s: %r: must be %s" % (name, value, WORDS[known[name]]))
    for name, value in sorted(secrets.items()):
        if name not in METHODS[method].SECRETS:
            faults.append("%s: no such secret; there are %s" % (name, ", ".join(METHODS[method].SECRETS)))
        elif value is not None and (not isinstance(value, str) or not value.strip() or re.search(r"[\r\n]", value)):
            faults.append("%s: must be one line of text that is not empty" % name)
    if faults:
        raise Failure("; ".join("%s.%s" % (method, fault) for fault in faults))
    return {name: value for name, value in dict(settings, **secrets).items() if value is not None}


def missing(method, settings):
    """What the host lacks to build, in words; faults of the settings are among them."""
    try:
        return METHODS[method].missing(fit(method, settings, {}))
    except Failure as error:
        return [str(error)]


def identify(method, settings, version, root):
    """The build that settings ask for: {"method", "id", "link", "target"}, see docs/architecture-deploy.md."""
    build = METHODS[method].identify(settings, version)
    build["target"] = "%s/builds/%s" % (root, build.pop("name"))
    return build


def name_of(build):
    """The name of a build among the others."""
    return re.sub(r"\.sif\Z", "", os.path.basename(build["target"]))


def log_of(build):
    """The path of the log of a build."""
    return "%s/%s.log" % (os.path.dirname(build["target"]), name_of(build))


def _note(target):
    return re.sub(r"\.sif\Z", "", target) + ".json"


def whole(build):
    """Whether a build is there, and is what it was when it was made."""
    try:
        note = json.loads(_place.read(_note(build["target"])) or "{}")
    except ValueError:
        return False
    seen = METHODS[build["method"]].look(build["target"])
    return seen is not None and note.get("look") == seen and note.get("id") == build["id"]


@contextlib.contextmanager
def _locked(folder, ends):
    """One run at a time in a folder of builds; waits for another one. Gives the file descriptor of the lock."""
    path = folder + "/.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise Failure("%s: another run still builds here; wait for its end, or end it" % path)
                time.sleep(0.1)
        yield handle
    finally:
        os.close(handle)


def _discard(target):
    """Remove a build or what is left of one; its note first, so that half of it is never taken for whole."""
    _place.drop(_note(target))
    if os.path.isdir(target) and not os.path.islink(target):
        shutil.rmtree(target)
    else:
        _place.drop(target)


def provide(build, settings, root, seconds):
    """Have a build in its place; whether it was made. Those that are there are not touched. Raises Failure.

    ``seconds``: for everything, waiting for another run included.
    """
    tool, target, ends = METHODS[build["method"]], build["target"], time.monotonic() + seconds
    folder = os.path.dirname(target)
    log = log_of(build)
    try:
        _place.folder(root, 0o750)
        _place.folder(folder, 0o755)
        with _locked(folder, ends) as lock, _logs.umask(0o022):
            if whole(build):
                return False
            _place.drop(_note(target))
            for left in glob.glob(glob.escape(folder) + "/.private-*"):
                shutil.rmtree(left)
            private = tempfile.mkdtemp(prefix=".private-", dir=folder)
            try:
                secrets = [settings.get(name) for name in tool.SECRETS]
                tool.make(settings, target, _building.Work(log, private, lock, ends, secrets))
                note = {"method": build["method"], "id": build["id"], "look": tool.look(target)}
                _place.write(_note(target), json.dumps(note, sort_keys=True) + "\n", 0o644)
            except BaseException:
                _discard(target)
                raise
            finally:
                shutil.rmtree(private, ignore_errors=True)
    except OSError as error:
        raise Failure("%s: %s" % (error.filename or folder, error.strerror), log=log, log_tail=[])
    return True


def present(root):
    """Names of the whole builds below a root, the newest first."""
    notes = []
    for path in glob.glob(glob.escape(root) + "/builds/*.json"):
        with contextlib.suppress(FileNotFoundError):
            notes.append((os.stat(path).st_mtime_ns, os.path.basename(path)[: -len(".json")]))
    return [name for _at, name in sorted(notes, reverse=True) if NAME.fullmatch(name)]


def used(root):
    """Paths of the builds that releases of a root need. Raises Failure where one cannot be read: it may need any."""
    found = set()
    for path in glob.glob(glob.escape(root) + "/.sciops/releases/*/manifest.json"):
        try:
            build = json.loads(_place.read(path) or "null")["build"] or {}
        except (ValueError, LookupError, TypeError) as error:
            raise Failure("%s: not a readable manifest (%s), so no build was removed" % (path, error))
        found.add(build.get("target"))
    return found


def spare(root, keep, needed):
    """Names of the builds that are neither among the newest ``keep`` nor in ``needed`` (paths)."""
    names = {name_of({"target": path}) for path in needed if path}
    return [name for name in present(root)[keep:] if name not in names]


def prune(root, keep, needed, seconds=60):
    """Remove what ``spare`` names, with its logs, and logs of builds that failed beyond ``keep``; the names."""
    folder = root + "/builds"
    if not os.path.isdir(folder):
        return []
    try:
        with _locked(folder, time.monotonic() + seconds):
            names = spare(root, keep, needed)
            for name in names:
                for end in ("", ".sif", ".log"):
                    _discard("%s/%s%s" % (folder, name, end))
            logs = glob.glob(glob.escape(folder) + "/*.log")
            failed = [path for path in logs if not os.path.exists(path[: -len(".log")] + ".json")]
            for path in sorted(failed, key=os.path.getmtime, reverse=True)[keep:]:
                _place.drop(path)
    except OSError as error:
        raise Failure("%s: %s" % (error.filename or folder, error.strerror))
    return names
