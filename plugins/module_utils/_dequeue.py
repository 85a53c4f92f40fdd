# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How jobs of a queue are stopped, until the queue says that they are gone.

Note that this module util is **PRIVATE** to the collection.

The queue is looked at anew before each word to it, and only jobs that carry our mark are told anything. Python 3.6 and
the standard library, no f-strings (see _probe).
"""

import time

from ansible_collections.sciops.sites.plugins.module_utils import _process, _queued
from ansible_collections.sciops.sites.plugins.module_utils._manager import Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed


class Target:
    """Something that is being stopped: its jobs that were seen, since when, and what is to be said of it."""

    def __init__(self, index, action):
        self.index, self.token, self.grace = index, action.get("token"), float(action.get("grace", 10))
        self.jobs, self.begun, self.words = set(), None, ""
        # number -> when it was told to end
        self.told = {}


class Stop:
    """The stops of one request; a launcher says how."""

    # what ends a job
    program = ""
    target = Target

    def __init__(self, queue, work, indices):
        self.queue, self.work, self.indices = queue, work, indices
        self.client = queue.client(work.settings(queue.name), work.ends - 0.5)

    def tell(self, targets, scene):
        """Tell the jobs of all targets what it is time for; returns what hindered it, in words."""
        raise NotImplementedError

    def since(self, target, now):
        """When a target was told to end, where it should have by now; None where it has time yet."""
        raise NotImplementedError

    def how(self, target, numbers, now):
        """How a target ended that was told to, in words."""
        raise NotImplementedError

    def leave(self, record):
        """What else is to be done where nothing of a target is left."""

    def run(self):
        """What waits is told first, so that nothing takes over."""
        work, trouble = self.work, ""
        targets = [self.target(i, work.actions[i]) for i in self.indices]
        while targets:
            scene = None
            try:
                scene, sets = _queued.look(self.queue, work, self.client, self.indices)
            except (Silent, Failed) as error:
                trouble = str(error)
            if scene:
                targets = [target for target in targets if not self.over(target, scene, sets)]
                trouble = self.tell(targets, scene) or trouble
            targets = [target for target in targets if self.goes_on(target, trouble)]
            if targets:
                time.sleep(_queued.POLL)

    def goes_on(self, target, trouble):
        """Whether there is time for another look; where there is none, its result is what is known now."""
        one, now = self.work.results[target.index], time.monotonic()
        if target.begun is None:
            self.work.end(target.index, "refused", "%s; nothing was stopped" % trouble)
            return False
        if now <= self.client.ends - _queued.POLL:
            one["begun"] = "%s, and the time of the request ended" % target.words
            return True
        since = self.since(target, now)
        if since is not None:
            one.pop("begun", None)
            words = "%s %.0f s after %s. %s" % (target.words, now - since, self.program, trouble)
            self.work.end(target.index, "unstoppable", words.strip())
        # else its result says that it was begun
        return False

    def over(self, target, scene, sets):
        """Whether nothing of a target is left, or nothing can be known of it; that is then its result."""
        work, one, now = self.work, self.work.results[target.index], time.monotonic()
        left = sets.get(target.token) or []
        if not target.token:
            work.end(target.index, "refused", "a job is stopped by its token only")
        elif scene.alive(target.token):
            return False
        elif target.token in scene.doubt:
            work.end(target.index, "unknown", scene.doubt[target.token])
        elif left:
            # it got away from the queue, on this very host
            target.begun = target.begun or now
            for p in left:
                _process.send(p, 9 if now - target.begun > target.grace else 15)
            target.words = "pid %d of it lives on this host" % left[0].pid
            return False
        else:
            record = scene.records.get(target.token)
            self.leave(record or {})
            _queued.erase(work, self.queue.name, target.token, record)
            numbers = "job " + ", ".join(str(number) for number in sorted(target.jobs)) if target.jobs else "it"
            if target.begun is None:
                work.end(target.index, "gone", "it was not there any more")
            else:
                work.end(target.index, "stopped", self.how(target, numbers, now))
        one.pop("begun", None)
        return True
