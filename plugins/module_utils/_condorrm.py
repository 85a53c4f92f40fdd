# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How the jobs of the launcher ``htcondor`` are stopped, until the schedd says that they are gone.

Note that this module util is **PRIVATE** to the collection.

Jobs are removed by number and time of submission. HTCondor itself tells the program TERM and kills it after the grace
that the job was submitted with. A job that is being removed is over when it has left the queue. Python 3.6 and the
standard library, no f-strings (see _probe).
"""

import time

from ansible_collections.sciops.sites.plugins.module_utils import _dequeue

REMOVE = ["condor_rm", "-reason", "stopped by sciops.sites"]
# after which time a job that is as it was is told again, and how long a removal may take beyond the grace
AGAIN, PATIENCE = 5, 10


class Stop(_dequeue.Stop):
    """Stop jobs: what waits is removed first."""

    program = "condor_rm"

    def since(self, target, now):
        return target.begun if now - target.begun > target.grace + PATIENCE else None

    def how(self, target, numbers, now):
        return "%s was removed, and gone %.1f s later" % (numbers, now - target.begun)

    def tell(self, targets, scene):
        now, waiting, running = time.monotonic(), [], []
        for target in targets:
            for one in scene.alive(target.token):
                target.words = "job %d is still %s" % (one["id"], one["word"])
                if one["lost"]:
                    target.words += ", and its node has not answered since"
                target.jobs.add(one["id"])
                if target.begun is None:
                    target.begun = now
                if one["word"] != "REMOVED" and now - target.told.get(one["id"], now - AGAIN - 1) > AGAIN:
                    target.told[one["id"]] = now
                    (waiting if one["waits"] else running).append(one)
                target.told.setdefault(one["id"], now)
        # what waits first: nothing may take over from what ends
        told = [self.client.tell(REMOVE, ones) for ones in (waiting, running) if ones]
        return "; ".join(words for words in told if words)
