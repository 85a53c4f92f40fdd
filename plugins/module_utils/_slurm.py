# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launcher ``slurm``: a service that runs as a job; this host is where jobs are submitted, slots are jobs.

Note that this module util is **PRIVATE** to the collection.

Each slot has a job name of its own and each job a comment with the words of its marker: one squeue tells what there is,
also where a record was lost. Job script and command lines hold no secret: the script runs the spec, a file of mode 0600
below the state folder, which therefore has to be on a file system that compute nodes see too. What squeue says is read
by _squeue. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import shlex
import time

from ansible_collections.sciops.sites.plugins.module_utils import (
    _jobqueue,
    _managed,
    _marks,
    _queued,
    _scancel,
    _slurmctl,
    _squeue,
)
from ansible_collections.sciops.sites.plugins.module_utils._manager import Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

CAPABILITIES = {"restarts": False, "placement": "engine", "logout": True, "reboot": True}
# what a job has of the environment that Slurm gives it
BEGIN = """    job = dict((k, v) for k, v in os.environ.items() if k.startswith("SLURM_") and k != "SLURM_EXPORT_ENV")
    env = dict(job, **env)
"""


def program():
    """The text that the job script runs."""
    return _jobqueue.program("slurm", "", BEGIN)


def script(path, token):
    """The job script: a plain call of what is beside the spec."""
    return _jobqueue.script(path, shlex.quote(token))


class Jobs(_jobqueue.Queue):
    """What the parts in _queued and _dequeue need of Slurm."""

    name = "slurm"
    submission = "sbatch was called"
    alarms = False

    def client(self, settings, ends):
        return _slurmctl.Slurm(settings, ends)

    def scene(self, client, request, records, users):
        return _slurmctl.Scene(client, request, records, users)

    def state(self, group, now):
        return _squeue.state(group)

    def ending(self, group):
        return group["jobs"][0]["word"] == "COMPLETING"

    def shown(self, client, group, record, now):
        first, options = group["jobs"][0], record.get("options") or {}
        waits = ""
        if first["waits"] and first["reason"] != "Dependency":
            try:
                waits = client.waiting(options, now)[1]
            except (Silent, Failed):
                # it only says why
                pass
        seen = {"launcher": self.name, "state": _squeue.state(group, waits), "unit": first["name"], "job": first["id"]}
        seen["health"] = _squeue.health(group)
        renewal = _squeue.renewal(group, options.get("handover"), now)
        return dict(seen, renew=renewal) if renewal else seen

    def faults(self, options):
        return _squeue.faults(options)

    def fits(self, spec, path):
        if "\\" in spec["log_path"] or "\n" in spec["log_path"]:
            raise Failed("log: %r: sbatch takes no such path" % spec["log_path"], "refused")

    def files(self, spec, path):
        return {_jobqueue.runner(path): program()}

    def submit(self, work, client, record, who):
        """The note is what reservations mean for the job."""
        options, now = record.get("options") or {}, time.time()
        try:
            minutes, waits = client.waiting(options, now)
        except Silent as error:
            raise Failed("%s; nothing was submitted" % error, "refused")
        mark = _marks.mark(work.ident(), record)
        words = _squeue.submit_words(record["unit"], mark, record["log"], options, minutes, client.version)
        record["asked"] = now
        job = self.hand_over(work, client, record, who, words, script(record["spec"], record["token"]))
        note = "its time may be cut to %d minutes, before the next reservation" % minutes if minutes else ""
        return job, note or (waits and "it " + waits)

    def read(self, out, err):
        return (_squeue.submitted(out),) + _squeue.refusal(err)


QUEUE = Jobs()


def prerequisites(settings, folder):
    """What this host lacks, in words. That compute nodes see the folder too cannot be known from here."""
    missing = _slurmctl.missing()
    return [_slurmctl.MISSING % ", ".join(missing)] if missing else []


def observe(ask):
    """All jobs of the site, deployment and host, in one call of squeue; see docs/launchers.md."""
    return _queued.observe(QUEUE, ask)


def start(work, indices):
    _queued.start(QUEUE, work, indices)


def stop(work, indices):
    _scancel.Stop(QUEUE, work, indices).run()


def rotate(work, indices):
    _queued.rotate(QUEUE, work, indices)


def renew(work, indices):
    """Queue a successor behind each job whose time is nearly over; the name makes it wait for the end of the other."""
    _queued.renew(QUEUE, work, indices)


def describe(work, indices):
    """What starts would write, and what sbatch is given: path -> {"before", "after"}, without secrets."""
    told = {}
    for index in indices:
        spec, path, _who = QUEUE.plan(work, work.actions[index])
        job = "job script of %s, standard input of sbatch" % spec["unit"]
        told[path] = {"before": None, "after": _managed.shown(spec)}
        told[job] = {"before": None, "after": script(path, "TOKEN")}
    return told
