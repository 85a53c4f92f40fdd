# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launch method `scrontab`: one job of Slurm that an entry of the user's scrontab keeps alive.

Note that this module util is **PRIVATE** to the collection.

The entry runs the starter, which submits the job where there is none. So whoever stops the job takes the entry out
first. Only modules use it: Python 3.8 as these, and the standard library.
"""

import json
import os
import shutil
import time

from ansible_collections.sciops.sites.plugins.module_utils import (
    _launch,
    _probe,
    _scrontab,
    _slurmctl,
    _squeue,
)
from ansible_collections.sciops.sites.plugins.module_utils._launch import Failure, state
from ansible_collections.sciops.sites.plugins.module_utils._manager import Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

TIMEOUT = 10.0
DISABLED = "its entry in the scrontab is not as declared (Slurm disables it after a plain scancel)"


def entry_of(settings):
    """The entry of the scrontab. Raises Failure."""
    lost = [key for key in ("name", "starter") if not settings.get(key)]
    if lost:
        raise Failure("launch.scrontab.%s: is missing" % lost[0])
    entry = dict({"minute": "*/5", "command": settings["starter"]}, **settings.get("entry") or {})
    faults = _scrontab.entry_faults(entry)
    if entry.get("job_name") in (None, settings["name"]):
        if entry.get("job_name"):
            faults.append("job_name: %s is the name of the job that it keeps alive" % settings["name"])
        entry["job_name"] = settings["name"] + "_starter"
    block = settings.get("block") or settings["name"]
    if not _scrontab.NAME.match(block):
        faults.append("block: %r: must be letters, digits, _ . and -" % block)
    if faults:
        raise Failure("; ".join("launch.scrontab.entry.%s" % words for words in faults))
    return entry


def definitions(settings, services, files):
    """The entry and the text of the starter. Raises Failure."""
    if len(services) > 1:
        names = ", ".join(one["name"] for one in services)
        raise Failure("services %s: launch method scrontab keeps one job, so it takes one service" % names)
    said = {"entry": entry_of(settings), "name": settings["name"], "starter": files.get(settings["starter"], "")}
    return {one["name"]: json.dumps(said, sort_keys=True) for one in services}


class Launch(_launch.Launch):
    """See docs/deploy-launch.md for the settings."""

    def __init__(self, settings, services):
        _launch.Launch.__init__(self, settings, services)
        self.name, self.entry = settings.get("name"), entry_of(settings)
        self.block = settings.get("block") or self.name
        self.timeout = float(settings.get("timeout") or TIMEOUT)
        self.tab = _scrontab.Scrontab(None, self.timeout)

    def slurm(self, seconds=60):
        """The programs of Slurm, with a limit of time for all that follows."""
        return _slurmctl.Slurm({"timeout": self.timeout}, time.monotonic() + seconds)

    def missing(self):
        lost = _slurmctl.missing()
        if self.settings.get("stop") and not shutil.which("srun", path=_slurmctl.paths()):
            lost.append("srun")
        if lost:
            return [_slurmctl.MISSING % ", ".join(lost)]
        try:
            self.tab.read()
        except _scrontab.ScrontabError as error:
            return [str(error)]
        return []

    # --- what is there

    def jobs(self, names):
        """Jobs of this user with one of these names that have a place, what waits first. Raises Failure."""
        try:
            found = self.slurm().queue({_probe.login()})
        except (Silent, Failed) as error:
            raise Failure(str(error))
        found = [one for one in found if one["name"] in names and one["verdict"] != "over"]
        odd = [one for one in found if one["verdict"] == "unknown"]
        if odd:
            raise Failure(
                "job %d: squeue has a state that is not known: %s" % (odd[0]["id"], "+".join(odd[0]["words"]))
            )
        return sorted(found, key=lambda one: (not one["waits"], one["id"]))

    def forgotten(self):
        """Why an empty queue proves nothing, empty where it does."""
        slurm = self.slurm()
        try:
            says = _squeue.controller(slurm.ask(["scontrol", "show", "config"]))
            return _squeue.forgetful(says, slurm.ask(["sinfo", "-a", "-h", "-o", "%T"]))
        except (Silent, Failed) as error:
            return str(error)

    def states(self):
        try:
            jobs = self.jobs([self.name])
            text = self.tab.read()
        except (Failure, _scrontab.ScrontabError) as error:
            return {name: state("unknown", str(error)) for name in self.services}
        found = self.one(jobs)
        if jobs and self.wanted(text) != text:
            found["drift"] = DISABLED
        return {name: dict(found) for name in self.services}

    def one(self, jobs):
        """The state of the service of these jobs."""
        running = [one for one in jobs if not one["waits"]]
        if running:
            return state("running", "job %d is %s" % (running[0]["id"], _squeue.state({"jobs": running})))
        if jobs:
            try:
                waits = self.slurm().waiting(self.settings, time.time())[1]
            except (Silent, Failed):
                # it only says why
                waits = ""
            group = {"jobs": jobs}
            why = _squeue.health(group) or _squeue.state(group, waits)
            return state("waiting", "job %d: %s" % (jobs[0]["id"], why))
        why = self.forgotten()
        return state("unknown", why) if why else state("stopped", "no job %s in the queue" % self.name)

    def wanted(self, text):
        """The scrontab with our entry, switched on; all else byte for byte as it was."""
        old = _scrontab.block_of(text, self.block)
        return _scrontab.put(text, self.block, _scrontab.wanted(self.block, [self.entry], old, False))

    def edit(self, change):
        """Bring the scrontab to what `change` makes of it. Raises Failure."""
        try:
            self.tab.change(change)
        except _scrontab.ScrontabError as error:
            raise Failure(str(error))

    def cancel(self, numbers):
        """Cancel jobs. Raises Failure where Slurm does not."""
        try:
            if numbers:
                self.tab.cancel(numbers)
        except _scrontab.ScrontabError as error:
            raise Failure(str(error))

    # --- what is done

    def stop(self, names, seconds):
        self.sure(names)
        # nothing may start it again, also not the starter that is just under way
        self.edit(lambda text: _scrontab.put(text, self.block, []))
        every, told = [self.name] + list(self.settings.get("cancels") or []), set()
        try:
            self.cancel(self.tab.jobs_of(self.block))
        except _scrontab.ScrontabError as error:
            raise Failure(str(error))
        jobs = self.jobs(every)
        # what waits first: nothing may take over from what ends
        self.cancel([one["id"] for one in jobs if one["waits"]])
        running = [one["id"] for one in jobs if one["name"] == self.name and not one["waits"]]
        said = [words for words in [self.calm(job, seconds) for job in running] if words]

        def left():
            jobs = self.jobs(every)
            fresh = [one["id"] for one in jobs if one["id"] not in told and one["word"] != "COMPLETING"]
            self.cancel(fresh)
            told.update(fresh)
            return jobs

        jobs = _launch.wait(left, seconds)
        if jobs:
            words = ", ".join("job %d (%s) is %s" % (one["id"], one["name"], one["word"]) for one in jobs)
            raise Failure("%s: still there %d s after scancel" % ("; ".join([words] + said), seconds))
        return "; ".join(said) or None

    def calm(self, job, seconds):
        """Run the stop command inside a job, where there is one; why that failed, in words.

        The job is cancelled all the same.
        """
        words = [str(word) for word in self.settings.get("stop") or []]
        if not words:
            return ""
        try:
            code, out, err = self.slurm(seconds).run(["srun", "--overlap", "--jobid=%d" % job] + words, limit=seconds)
        except (Silent, Failed) as error:
            return "launch.scrontab.stop: job %d was cancelled without it: %s" % (job, error)
        if not code:
            return ""
        said = " ".join((err or out).split())[-300:] or "no words"
        return "launch.scrontab.stop: ended with status %d in job %d, which was cancelled then: %s" % (code, job, said)

    def load(self, names, gone):
        """The entry is brought to what is declared where it is; only a start puts it there."""
        for name in list(names) + list(gone):
            self.service(name)
        if gone:
            self.edit(lambda text: _scrontab.put(text, self.block, []))
        elif names:
            self.edit(lambda text: text if _scrontab.block_of(text, self.block) is None else self.wanted(text))

    def start(self, names, seconds):
        found = self.sure(names)
        if not names:
            return
        self.edit(self.wanted)
        if found[names[0]]["state"] != "stopped":
            return
        if not os.access(self.settings["starter"], os.X_OK):
            raise Failure("%s: is not there, or cannot be executed" % self.settings["starter"])
        try:
            code, out, err = self.slurm(seconds).run([self.settings["starter"]], limit=seconds)
        except (Silent, Failed) as error:
            raise Failure("%s: %s" % (self.settings["starter"], error))
        if code:
            said = " ".join((err or out).split())[-300:]
            raise Failure("%s: ended with status %d: %s" % (self.settings["starter"], code, said or "no words"))
