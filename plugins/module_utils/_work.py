# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The actions of one request on a host, and what becomes of each.

Note that this module util is **PRIVATE** to the collection.

``LAUNCHERS`` is the table of launchers: a new one is one file as docs/launchers.md describes it and one line here.
Python 3.6 and the standard library, no f-strings (see _probe).
"""

import errno
import importlib
import os
import re
import time
from collections import OrderedDict

from ansible_collections.sciops.sites.plugins.module_utils import _probe
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

# between two looks, in seconds: the first come soon, since most things are done soon
SOON, LATER = 0.01, 0.1
# launcher -> its file of module_utils
LAUNCHERS = {
    "process": "_process",
    "supervisord": "_supervisord",
    "systemd": "_systemd",
    "apptainer": "_apptainer",
    "slurm": "_slurm",
    "htcondor": "_htcondor",
}


def launcher(name):
    """The file of a launcher as a module. Raises Failed where there is no such launcher, or it was not sent along."""
    package = __name__.rpartition(".")[0]
    try:
        return importlib.import_module(package + "." + LAUNCHERS[name])
    except (KeyError, ImportError):
        raise Failed("there is no launcher %s" % name, "refused")


class Pause:
    """Waits between two looks, longer from time to time."""

    def __init__(self):
        self.seconds = SOON

    def __call__(self):
        time.sleep(self.seconds)
        self.seconds = min(LATER, self.seconds * 1.5)


class Work:
    """The actions of one request and what becomes of them; ``results`` are in the order of the actions."""

    def __init__(self, request, folder, ends):
        self.request, self.folder, self.ends = request, folder, ends
        self.boot, self.actions, self.results = _probe.boot_id(), request["actions"], []
        self.found = None
        for action in self.actions:
            keys = ("kind", "host", "component", "slot", "token", "pid", "start", "reason")
            one = {k: action[k] for k in keys if k in action}
            one.update(outcome=None, message="", exit=None, log_tail=[])
            one.setdefault("pid", None)
            one.setdefault("token", None)
            self.results.append(one)

    def settings(self, name):
        """What the site file says of a launcher."""
        return (self.request.get("launchers") or {}).get(name, {})

    def ident(self):
        return [self.request[k] for k in ("site", "deployment", "host")]

    def end(self, index, outcome, message, **more):
        self.results[index].update(outcome=outcome, message=message, **more)

    def close(self, outcome, message):
        """Give what has no outcome yet this one; what was begun and not seen to its end is unknown."""
        for one in self.results:
            if one["outcome"] is None:
                begun = one.pop("begun", None)
                one.update(outcome="unknown" if begun else outcome, message=begun or message)
            one.pop("begun", None)

    def record(self, token):
        return "%s/instances/%s.json" % (self.folder, token)

    def look(self):
        """(processes, records, live processes by token), now."""
        table, known = _probe.scan(), _probe.records(self.folder, [])
        return table, known, _probe.owned(table, self.request, known, self.boot)

    def scene(self):
        """The look that was taken when what is over was tidied up, for who comes right after it; else a new one."""
        found, self.found = self.found or self.look(), None
        return found

    def live(self, known, sets):
        """(component, slot) -> (token, pid) of what lives."""
        found = {}
        for token, members in sets.items():
            mark = next((p.mark for p in members if p.mark), None)
            key = (mark[3], int(mark[4])) if mark else (known[token]["component"], known[token]["slot"])
            found[key] = (token, members[0].pid)
        return found

    def may_start(self, index, live):
        """Whether a start is to be tried; where its slot is taken that is its result. Raises Failed."""
        action = self.actions[index]
        key = (action["component"], action["slot"])
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", action["token"]):
            raise Failed("token: %r cannot be the name of a file" % action["token"], "refused")
        if key in live:
            self.end(index, "already", "slot %d runs: token %s, pid %d" % ((key[1],) + live[key]), pid=live[key][1])
            return False
        if action["token"] in self.spent:
            raise Failed("the process that token %s started has ended" % action["token"])
        if time.monotonic() + action.get("settle", 2) > self.ends:
            raise Failed("no time was left to watch it", "refused")
        return True

    def batches(self, indices, begin, settle):
        """Start 1, 2, 4 ... per component, all components side by side; a failure ends those of its own.

        ``begin`` takes indices and returns what is to be watched (things with an ``index``; what failed at once has its
        result); ``settle`` takes all that is watched and returns of what the result is known by now.
        """
        lanes, pause = OrderedDict(), Pause()
        for i in indices:
            new = {"todo": [], "size": 1, "flying": [], "failed": False}
            lanes.setdefault(self.actions[i]["component"], new)["todo"].append(i)
        while any(lane["todo"] or lane["flying"] for lane in lanes.values()):
            batch = []
            for lane in lanes.values():
                if lane["failed"] and not lane["flying"]:
                    for i in lane["todo"]:
                        self.end(i, "refused", "not tried: an earlier start of this batch failed")
                    lane["todo"] = []
                if lane["todo"] and not lane["flying"]:
                    batch += lane["todo"][: lane["size"]]
                    lane["todo"] = lane["todo"][lane["size"] :]
                    lane["size"] *= 2
            begun = begin(batch) if batch else []
            pause = Pause() if batch else pause
            for i in batch:
                lane = lanes[self.actions[i]["component"]]
                lane["flying"] += [flight for flight in begun if flight.index == i]
                lane["failed"] = lane["failed"] or self.results[i]["outcome"] == "failed"
            for flight in settle([flight for lane in lanes.values() for flight in lane["flying"]]):
                lane = lanes[self.actions[flight.index]["component"]]
                lane["flying"].remove(flight)
                lane["failed"] = lane["failed"] or self.results[flight.index]["outcome"] != "started"
            if any(lane["flying"] for lane in lanes.values()):
                pause()

    def drop(self, token):
        """Remove the record of a start."""
        try:
            os.unlink(self.record(token))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def run(self):
        """Stops first, so that what they free can be used, then rotations, then starts."""
        known = _probe.records(self.folder, [])
        for kind in ("stop", "rotate", "renew", "start"):
            lots = OrderedDict()
            for i, action in enumerate(self.actions):
                if action["kind"] == kind:
                    # what started it ends it, whoever asks
                    own = known.get(action.get("token"), {}).get("launcher") if kind != "start" else None
                    lots.setdefault(own or action.get("launcher", "process"), []).append(i)
            for name, indices in lots.items():
                try:
                    getattr(launcher(name), kind)(self, indices)
                except Failed as error:
                    for i in indices:
                        if self.results[i]["outcome"] is None:
                            self.end(i, error.outcome, str(error))
            if kind == "stop":
                self.spent = self.prune()
        self.close("refused", "%s is no kind of action" % ", ".join(sorted({a["kind"] for a in self.actions})))

    def prune(self):
        """Remove the records whose processes are gone; returns their tokens, which must not be used again."""
        table, known, sets = self.look()
        if any(t not in sets and known[t]["boot_id"] for t in known):
            time.sleep(LATER / 2)
            table, known, sets = self.look()
        # a record without a boot is of something that lives elsewhere: nothing here says that it is gone
        gone = {t for t in known if t not in sets and known[t]["boot_id"]}
        for token in gone:
            self.drop(token)
        for name in os.listdir(self.folder + "/instances"):
            if name.endswith(".tmp"):
                os.unlink(self.folder + "/instances/" + name)
        self.found = (table, {t: known[t] for t in known if t not in gone}, sets)
        return gone
