# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""A manager of a host as a launcher sees it: what it has of ours, and what it says of that.

Note that this module util is **PRIVATE** to the collection.

Each instance has a spec, ``managed/<launcher>/<unit>.json`` in the state folder (mode 0600), that the manager has _shim
run. A launcher gives a class with ``CAPABILITIES``, ``prerequisites``, ``states``, ``files``, ``begin``, ``end`` and
``forget``; see docs/launchers.md. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import hashlib
import json
import os
import re
import sys

from ansible_collections.sciops.sites.plugins.module_utils import _logs, _probe, _work
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

# where the programs of managers are looked for, whatever the caller's environment says
PATHS = os.pathsep.join(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])


class Down(Exception):
    """The manager does not run: whatever it had is not restarted by it."""


class Silent(Exception):
    """The manager does not answer, or not with sense: nothing is known."""


def unit_name(ident, component):
    """The name of a component of a site, deployment and host among everything else that a manager has."""
    words = json.dumps(list(ident) + [component])
    slug = re.sub(r"[^A-Za-z0-9]+", "-", component).strip("-")[:40]
    return "sciops-%s-%s" % (slug, hashlib.sha256(words.encode()).hexdigest()[:8])


def keep(path, text):
    """Write a file unless it has this text already; whether it was written."""
    try:
        if _probe.read(path).decode("utf-8", "replace") == text:
            return False
    except FileNotFoundError:
        pass
    _probe.write_file(path, text)
    return True


def specs(folder, launcher):
    """The specs of a launcher: unit -> spec. Raises Silent where one cannot be read: nobody knows what it started."""
    found, place = {}, "%s/managed/%s" % (folder, launcher)
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else []:
        if name.endswith(".json"):
            try:
                spec = json.loads(_probe.read(place + "/" + name).decode())
                found[spec["unit"]] = spec
            except (OSError, ValueError, LookupError, TypeError) as error:
                raise Silent("%s/%s: not a readable spec: %s" % (place, name, error))
    return found


class Manager:
    """One manager on this host, with what is common to all; ``settings`` are the site file's."""

    name = ""
    # whether a manager that does not run is started by the first start
    starts = False
    CAPABILITIES = {"restarts": True, "placement": "host", "logout": True, "reboot": True}

    def __init__(self, settings, folder):
        self.settings, self.folder = settings, folder
        self.seen, self.down = {}, False
        self.place = "%s/managed/%s" % (folder, self.name)

    @classmethod
    def where(cls, settings):
        """What of settings says which manager it is; with other values of the rest it is the same one."""
        return {}

    def specs(self):
        """The specs of this manager, whatever else the settings said when they were made: unit -> spec."""
        every, here = specs(self.folder, self.name), self.where(self.settings)
        return {unit: spec for unit, spec in every.items() if self.where(spec.get("manager", {})) == here}

    def spec_path(self, unit):
        return "%s/%s.json" % (self.place, unit)

    def words(self, spec_path):
        """The command line that a manager is given; every part is a plain path."""
        for word in (sys.executable, spec_path):
            if not re.fullmatch(r"[A-Za-z0-9_./@:+,=-]+", word):
                raise Failed("%s: a path with other letters cannot be given to %s" % (word, self.name), "refused")
        return [sys.executable, "-ISB", self.folder + "/managed/shim.py", spec_path]

    # what a launcher's file adds

    def prerequisites(self):
        """What is missing on this host, in words. Only looks: every observation asks, also that of a dry run."""
        return []

    def prepare(self):
        """Before the first start of a request: do what the settings allow for the prerequisites. Raises Failed."""

    def states(self, units):
        """What it says of these units, in one call: unit -> {"state", "message", "pid", "exit", "restarts"}.

        Beside these ``alive`` (it runs, or will by itself) and ``failing``. Raises Down or Silent.
        """
        raise NotImplementedError

    def files(self, specs_of):
        """The manager's own files for all specs that it is to have: path -> text, None for one to be removed."""
        raise NotImplementedError

    def fits(self, unit, spec):
        """Raises Failed where no file of the manager can hold what a spec says."""
        self.files({unit: spec})

    def begin(self, units):
        """Have exactly these units run; their specs and files are written."""
        raise NotImplementedError

    def end(self, units):
        """Have exactly these units stop, without waiting, and not start again."""
        raise NotImplementedError

    def forget(self, units):
        """Remove what the manager has of units that do not run any more; the specs are gone."""

    # what is common

    def ready(self, units):
        """``states`` before a start: a manager that the start is going to start has nothing yet. Raises Silent."""
        self.seen, self.down = {}, False
        try:
            self.seen = self.states(units)
        except Down as error:
            self.down = True
            if not self.starts:
                raise Failed(str(error), "refused")
        return self.seen

    def write(self, wanted):
        """Bring the manager's files to what ``files`` says; the paths that were changed."""
        changed = []
        for path, text in sorted(self.files(wanted).items()):
            if text is None:
                if os.path.lexists(path):
                    os.unlink(path)
                    changed.append(path)
                    if not os.listdir(os.path.dirname(path)) and path.endswith(".d/sciops.conf"):
                        os.rmdir(os.path.dirname(path))
                continue
            _logs.make_folder(os.path.dirname(path))
            if keep(path, text):
                changed.append(path)
        return changed

    def spec(self, action, request):
        """What the shim is told about one instance."""
        who = _logs.account(action.get("user"))
        ident = [request[k] for k in ("site", "deployment", "host")]
        unit = "%s@%d" % (unit_name(ident, action["component"]), action["slot"])
        more = {}
        if action.get("container"):
            tool = (request.get("launchers") or {}).get("apptainer", {})
            more = _work.launcher("apptainer").wrapped(action, unit, who, self.name, tool)
            action = dict(action, **more)
        keys = (
            "component",
            "slot",
            "token",
            "hash",
            "argv",
            "environment",
            "secrets",
            "cwd",
            "user",
            "log",
            "options",
            "settle",
        )
        spec = dict(more, **{k: action[k] for k in keys if k in action})
        spec.update(ident=ident, launcher=self.name, unit=unit, manager=self.settings, folder=self.folder)
        spec.update(log_path=_logs.place(action, self.folder, who), grace=action.get("grace", 10))
        if action.get("singleton"):
            spec["only_boot"] = _probe.boot_id()
        return spec


def observe(manager, ask):
    """What /proc does not say of the instances of a manager, see docs/launchers.md."""
    rows, states, possible, problems = [], {}, [], []
    known = manager.specs()
    told, trouble, silent = {}, "", None
    try:
        problems += manager.prerequisites() if known or ask["wanted"] else []
        told = manager.states(sorted(known)) if known else {}
    except Down as error:
        trouble = str(error)
        problems.append(trouble)
    except Silent as error:
        silent = str(error)
        problems.append(silent)
    for unit, spec in known.items():
        token, state = spec["token"], told.get(unit) or {}
        name = "%s slot %d (%s)" % (spec["component"], spec["slot"], unit)
        more = {"state": state.get("state", "unknown" if silent else "not managed"), "unit": unit}
        if state.get("restarts"):
            more["restarts"] = state["restarts"]
        if token in ask["sets"]:
            if not silent and not state.get("alive"):
                more["state"] = "left over"
                why = state.get("state") or trouble or "unknown to it"
                problems.append("%s lives, and %s does not look after it: %s" % (name, manager.name, why))
            elif state.get("pid") and state["pid"] not in [p.pid for p in ask["sets"][token]]:
                more["state"] = "adopted"
            states[token] = more
        elif silent:
            possible.append({k: spec[k] for k in ("component", "slot", "token")})
            possible[-1].update(launcher=manager.name, why=silent)
        elif state.get("alive"):
            row = {k: spec[k] for k in ("component", "slot", "token", "hash")}
            row.update(owned=True, leader=True, pid=0, start=0, age=0.0, cpu=0.0, rss=0, processes=0)
            row.update(log=spec["log_path"], log_size=None, launcher=manager.name)
            row["health"] = ": ".join(str(x) for x in (state["state"], state.get("message")) if x)
            row.update(more)
            rows.append(row)
        elif not trouble:
            words = ": ".join(str(x) for x in (state.get("state") or "unknown to it", state.get("message")) if x)
            problems.append("%s: %s: %s" % (name, manager.name, words))
    told = {"rows": rows, "states": states, "possible": possible, "problems": problems}
    if silent:
        told["silent"] = silent
    return told


def witness(request, folder, ends, scene, held=False):
    """Ask all managers of a request; ``scene`` is (records, live sets, rows, problems, boot id) and is added to.

    ``held`` says that fence and lock are those of the request. Returns what the observation says beyond the scene:
    ``possible``, ``silent`` and ``over``.
    """
    known, sets, rows, problems, boot = scene
    more = {"possible": [], "silent": {}, "over": {}}
    for name, settings in sorted(request["launchers"].items()):
        mine = {t: r for t, r in known.items() if r.get("launcher") == name}
        ask = {"request": request, "settings": settings, "folder": folder, "records": mine, "sets": sets}
        ask.update(boot=boot, ends=ends, wanted=True, held=held)
        try:
            told = _work.launcher(name).observe(ask)
        except (Failed, Silent, Down, OSError) as error:
            why = "%s: %s" % (name, error)
            mine = {t: r for t, r in mine.items() if t not in sets}
            told = {"problems": [why], "silent": why, "possible": []}
            for token, record in mine.items():
                told["possible"].append({"component": record["component"], "slot": record["slot"], "token": token})
                told["possible"][-1].update(launcher=name, why=why)
        if told.get("silent"):
            more["silent"][name] = told["silent"]
        for row in rows:
            row.update(told.get("states", {}).get(row["token"], {}))
        rows += told.get("rows", [])
        more["possible"] += told.get("possible", [])
        more["over"].update(told.get("over", {}))
        problems += told.get("problems", [])
    return {key: value for key, value in more.items() if value}
