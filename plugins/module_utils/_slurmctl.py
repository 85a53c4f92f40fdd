# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The programs of Slurm on this host, and what they know of the jobs of a site, deployment and host.

Note that this module util is **PRIVATE** to the collection.

A controller that does not answer, one that answers nonsense and one that may have forgotten a job are never taken for
an empty queue. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import os
import shutil

from ansible_collections.sciops.sites.plugins.module_utils import _jobqueue, _marks, _squeue
from ansible_collections.sciops.sites.plugins.module_utils._manager import Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
PATHS = "/usr/local/bin:/usr/bin:/bin:/opt/slurm/bin:/usr/local/slurm/bin"
MISSING = "slurm: there is no program %s on this host; install Slurm's client here"


def paths():
    return _jobqueue.paths(PATHS)


def missing():
    """The programs that this host lacks."""
    return [name for name in PROGRAMS if not shutil.which(name, path=paths())]


class Slurm(_jobqueue.Client):
    """The programs of Slurm on this host."""

    name, server = "slurm", "slurmctld"

    def __init__(self, settings, ends):
        _jobqueue.Client.__init__(self, settings, ends)
        self.version = (0, 0)

    def paths(self):
        return paths()

    def check(self, program):
        if not shutil.which(program, path=paths()):
            raise Failed(MISSING % program, "refused")

    def environment(self, program):
        # what the caller has of SLURM_ and SBATCH_ would be options of the job; where the cluster is, is none
        env = {k: v for k, v in os.environ.items() if k == "SLURM_CONF"}
        env["HOME"] = os.path.expanduser("~")
        if program == "scontrol":
            env["SLURM_TIME_FORMAT"] = "%s"
        return env

    def queue(self, users):
        """All jobs of users, also those that ended a short while ago."""
        text = self.ask(["squeue", "--json", "--states=all", "--user=" + ",".join(sorted(users))])
        try:
            jobs, self.version = _squeue.queue(text, users)
        except _marks.Garbled as error:
            raise Silent("slurm: %s" % error)
        return jobs

    def waiting(self, options, now):
        """What reservations mean for a job with these options, see _squeue.before."""
        words = options.get("reservation_words")
        if not words:
            return None, ""
        found = _squeue.reservations(self.ask(["scontrol", "show", "res", "-o"]), words)
        margin = options.get("reservation_margin", _squeue.MARGIN)
        return _squeue.before(found, now, margin, options.get("time"))


class Scene(_jobqueue.Scene):
    """What slurmctld knows of our jobs at one moment, and what its age and the accounting prove."""

    KEYS = _squeue.KEYS

    def how_it_ended(self, one):
        return _squeue.how_it_ended(one)

    def strange(self, jobs):
        words = ["job %d: %s" % (one["id"], "+".join(one["words"])) for one in jobs]
        return "squeue has a state that is not known: %s" % ", ".join(words)

    def explain(self, client, lost, users):
        lost = [token for token in lost if not self.unheard(token, "sbatch")]
        if not lost:
            return
        says = {"accounting": False}
        try:
            says = _squeue.controller(client.ask(["scontrol", "show", "config"]))
            why = _squeue.forgetful(says, client.ask(["sinfo", "-a", "-h", "-o", "%T"]))
        except (Silent, Failed) as error:
            why = str(error)
        # slurmctld forgets within minutes how a job ended, and the collapse guard wants to know it
        known = accounts(client, [self.records[token] for token in lost]) if says["accounting"] else {}
        for token in lost:
            jobs = self.records[token].get("jobs") or []
            if jobs and all(number in known for number in jobs):
                self.over[token] = "job %d: %s, says sacct" % (jobs[-1], known[jobs[-1]])
            elif not why:
                self.over[token] = "its job is not in the queue any more"
            else:
                self.doubt[token] = "its job is not in the queue, and that proves nothing: %s" % why


def accounts(slurm, records):
    """What slurmdbd knows of the jobs of records that are over: number -> state."""
    units = {number: record.get("unit") for record in records for number in record.get("jobs") or []}
    if not units:
        return {}
    words = ["sacct", "-X", "-n", "-P", "-o", "JobIDRaw,State,JobName", "-j", ",".join(str(n) for n in sorted(units))]
    try:
        return _squeue.accounted(slurm.ask(words), units)
    except (Silent, Failed):
        return {}
