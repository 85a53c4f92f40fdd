# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What all launch methods of a deployment share: how they fail, how they wait, how they end processes.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import os
import time

from ansible_collections.sciops.sites.plugins.module_utils import _probe, _process

# between two looks, in seconds
POLL = 0.1
# how long after KILL a process may still be there before it is called unstoppable
KILL_WAIT = 5


class Failure(Exception):
    """It cannot be done, or nobody knows how things are; the text says what, where and what to do."""


class Launch:
    """The services of one deployment under one launch method; docs/architecture-deploy.md has the contract."""

    def __init__(self, settings, services):
        self.settings = settings
        self.services = {one["name"]: one for one in services}

    def service(self, name):
        """The declared service of a name. Raises Failure."""
        if name not in self.services:
            raise Failure("service %s: is none of this release, which has %s" % (name, ", ".join(self.services)))
        return self.services[name]

    def unit(self, name):
        """What the manager calls a service."""
        return self.service(name).get("unit") or name

    def sure(self, names):
        """States of services. Raises Failure where one of them is unknown: nothing is stopped or started then."""
        found = {name: self.service(name) for name in names} and self.states()
        lost = ["%s: %s" % (name, found[name]["why"]) for name in names if found[name]["state"] == "unknown"]
        if lost:
            raise Failure("nobody knows what runs, so nothing was done: %s" % "; ".join(lost))
        return found

    def missing(self):
        return []

    def states(self):
        raise NotImplementedError

    def prepare(self):
        """Ask for what may be refused, before anything is stopped."""

    def load(self, names, gone):
        """Nothing is to be read again: definitions are looked at when a service starts."""

    def rest(self, names):
        """Nothing of these comes back with the host by itself."""

    def manager(self, names):
        """Nothing of the manager itself is in a deployment. Returns what happened, in words."""
        return ""

    def retire(self, dests):
        """No manager lives by the files that go. Returns what happened, in words."""
        return ""


def state(word, why="", pid=0, restarts=0):
    """One entry of states()."""
    return {"state": word, "why": why, "pid": pid or 0, "restarts": restarts}


def wait(look, seconds):
    """What `look()` still gives, empty where it gave nothing in time."""
    ends = time.monotonic() + seconds
    while True:
        left = look()
        if not left or time.monotonic() > ends:
            return left
        time.sleep(POLL)


def end(find, seconds):
    """End the processes that `find(table)` gives and all that descends from them: TERM, after `seconds` KILL.

    Raises Failure with what lives on, and before any signal where this very program hangs on one of them.
    """
    met, told, begun = {}, set(), time.monotonic()
    while True:
        table = _probe.scan()
        roots = list(find(table))
        roots += [p for p in table.values() if met.get(p.pid) == p.start and p not in roots]
        alive = _probe.family(table, roots)
        if not alive:
            return
        above = [1, os.getpid()] + _probe.ancestors(table, table.get(os.getpid()))
        if any(p.pid in above for p in alive):
            raise Failure("pid %d is what this very run hangs on: stop it from elsewhere" % alive[0].pid)
        met.update((p.pid, p.start) for p in alive)
        past = time.monotonic() - begun
        if past > seconds + KILL_WAIT:
            left = ", ".join("pid %d (%s)" % (p.pid, p.name) for p in alive)
            raise Failure("%s: still there %d s after KILL" % (left, KILL_WAIT))
        for p in alive:
            if past > seconds:
                _process.send(p, 9)
            elif (p.pid, p.start) not in told:
                told.add((p.pid, p.start))
                _process.send(p, 15)
                # a stopped process sees TERM only once it goes on
                _process.send(p, 18)
        time.sleep(POLL)


def groups(launch, services):
    """[(method, its settings, the services under it)]: most are under the deployment's, one may name its own.

    A service's own `launch` is a name of a method, or a mapping in the form of the deployment's.
    """
    found = []
    for one in services:
        own = one.get("launch") or launch
        own = dict(launch, method=own) if isinstance(own, str) else own
        key = (own["method"], own.get(own["method"]) or {})
        same = [entry for entry in found if entry[:2] == key]
        if same:
            same[0][2].append(one)
        else:
            found.append(key + ([one],))
    return found
