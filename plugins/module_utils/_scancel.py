# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How the jobs of the launcher ``slurm`` are stopped, until Slurm says that they are gone.

Note that this module util is **PRIVATE** to the collection.

What runs has TERM from us, and is cancelled after its grace. Python 3.6 and the standard library, no f-strings (see
_probe).
"""

import time

from ansible_collections.sciops.sites.plugins.module_utils import _dequeue
from ansible_collections.sciops.sites.plugins.module_utils._manager import Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

# scancel asks again by itself for as long as a job changes; the queue is looked at meanwhile
SIGNAL = 4


class Target(_dequeue.Target):
    """Something that is being stopped; what had TERM before it is told to end."""

    def __init__(self, index, action):
        _dequeue.Target.__init__(self, index, action)
        self.term = {}


class Stop(_dequeue.Stop):
    """Stop jobs: what waits is cancelled first; the rest has TERM, and its grace."""

    program, target = "scancel", Target

    def since(self, target, now):
        return min(target.told.values()) if target.told else None

    def how(self, target, numbers, now):
        if not target.term and target.jobs:
            return "%s was cancelled" % numbers
        words = "%s %s %.1f s after TERM"
        return words % (numbers, "was cancelled" if target.told else "ended", now - target.begun)

    def leave(self, record):
        for name in (record.get("options") or {}).get("cancels") or []:
            # what it submitted by itself, and would leave behind; scancel takes one name at a time
            self.cancel(["--quiet", "--user=" + record["user"]], ["--name=" + name])

    def tell(self, targets, scene):
        now, waiting, term, kill = time.monotonic(), [], [], []
        for target in targets:
            for one in scene.alive(target.token):
                number = one["id"]
                target.words = "job %d is still %s" % (number, "+".join(one["words"]))
                target.jobs.add(number)
                gentle = not one["waits"] and target.grace > 0 and one["verdict"] == "alive"
                if one["word"] == "COMPLETING" and target.begun:
                    continue
                if one["waits"]:
                    waiting.append(number)
                elif gentle and number not in target.term:
                    term.append(number)
                    target.term[number] = now
                elif gentle and now - target.term[number] < target.grace:
                    continue
                elif now - target.told.get(number, 0) > SIGNAL + 1:
                    kill.append(number)
                    target.told[number] = now
            if target.begun is None and target.jobs:
                target.begun = now
        # what waits first: nothing may take over from what ends
        told = [self.cancel([], waiting), self.cancel(["--signal=TERM", "--full"], term), self.cancel([], kill)]
        return "; ".join(words for words in told if words)

    def cancel(self, words, numbers):
        """Give scancel these jobs. That one is over already is no trouble: the queue tells."""
        if not numbers:
            return ""
        try:
            code, _out, err = self.client.run(["scancel"] + words + [str(one) for one in numbers], limit=SIGNAL)
        except (Silent, Failed) as error:
            return str(error)
        return " ".join(err.split())[-200:] if code else ""
