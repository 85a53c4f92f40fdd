# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The actions of one request on a host, and what becomes of each.

Note that this module util is **PRIVATE** to the collection.

``LAUNCHERS`` is the table of launchers: a new one is one file with the functions of _process and one line here.
Python 3.6 and the standard library, no f-strings (see _probe).
"""

import errno
import importlib
import os
import time
from collections import OrderedDict

from ansible_collections.sciops.sites.plugins.module_utils import _probe

# between two looks, in seconds
POLL = 0.05
# launcher -> file of module_utils that has start, stop and rotate, each of (work, indices)
LAUNCHERS = {"process": "_process"}


def words(error):
    """What an OSError says, in the way people write it."""
    return "%s: %s" % (error.filename, error.strerror) if error.filename and error.strerror else str(error)


class Failed(Exception):
    """An action was not done; ``outcome`` is ``failed`` or ``refused``, the text says why."""

    def __init__(self, text, outcome="failed"):
        Exception.__init__(self, text)
        self.outcome = outcome


class Work:
    """The actions of one request and what becomes of them; ``results`` are in the order of the actions."""

    def __init__(self, request, folder, ends):
        self.request, self.folder, self.ends = request, folder, ends
        self.boot, self.actions, self.results = _probe.boot_id(), request["actions"], []
        for action in self.actions:
            keys = ("kind", "host", "component", "slot", "token", "pid", "start", "reason")
            one = {k: action[k] for k in keys if k in action}
            one.update(outcome=None, message="", exit=None, log_tail=[])
            one.setdefault("pid", None)
            one.setdefault("token", None)
            self.results.append(one)

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

    def drop(self, token):
        """Remove the record of a start."""
        try:
            os.unlink(self.record(token))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def run(self):
        """Stops first, so that what they free can be used, then rotations, then starts."""
        for kind in ("stop", "rotate", "start"):
            lots = OrderedDict()
            for i, action in enumerate(self.actions):
                if action["kind"] == kind:
                    lots.setdefault(action.get("launcher", "process"), []).append(i)
            for name, indices in lots.items():
                if name in LAUNCHERS:
                    package = __name__.rpartition(".")[0]
                    getattr(importlib.import_module(package + "." + LAUNCHERS[name]), kind)(self, indices)
                else:
                    for i in indices:
                        self.end(i, "refused", "there is no launcher %s" % name)
            if kind == "stop":
                self.spent = self.prune()
        self.close("refused", "%s is no kind of action" % ", ".join(sorted({a["kind"] for a in self.actions})))

    def prune(self):
        """Remove the records whose processes are gone; returns their tokens, which must not be used again."""
        _table, known, sets = self.look()
        if any(t not in sets for t in known):
            time.sleep(POLL)
            _table, known, sets = self.look()
        gone = {t for t in known if t not in sets}
        for token in gone:
            self.drop(token)
        for name in os.listdir(self.folder + "/instances"):
            if name.endswith(".tmp"):
                os.unlink(self.folder + "/instances/" + name)
        return gone
