# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The programs of HTCondor on this host, and what they know of the jobs of a site, deployment and host.

Note that this module util is **PRIVATE** to the collection.

A schedd that does not answer, one that answers nonsense and one that may have lost a job are never taken for an empty
queue. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import os
import shutil
import time

from ansible_collections.sciops.sites.plugins.module_utils import _classad, _condorq, _jobqueue, _logs, _marks
from ansible_collections.sciops.sites.plugins.module_utils._manager import Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

PROGRAMS = ("condor_submit", "condor_q", "condor_rm", "condor_history", "condor_qedit", "condor_config_val")
MISSING = "htcondor: there is no program %s on this host; install HTCondor's client here"


def missing():
    """The programs that this host lacks."""
    return [name for name in PROGRAMS if not shutil.which(name, path=_jobqueue.paths())]


class Condor(_jobqueue.Client):
    """The programs of HTCondor on this host."""

    name, server = "htcondor", "the schedd"

    def check(self, program):
        lost = missing()
        if lost:
            raise Failed(MISSING % ", ".join(lost), "refused")

    def environment(self, program):
        # what the caller has of _CONDOR_ would be configuration; where that is, is none
        env = {k: v for k, v in os.environ.items() if k == "CONDOR_CONFIG"}
        if self.settings.get("config"):
            env["CONDOR_CONFIG"] = self.settings["config"]
        return env

    def at(self):
        """Which schedd, as options of each program; none where it is the one of this host."""
        words = ["-name", self.settings["schedd"]] if self.settings.get("schedd") else []
        return words + (["-pool", self.settings["pool"]] if self.settings.get("pool") else [])

    def jobs(self, words, users):
        """The jobs of an answer."""
        words = [words[0]] + self.at() + words[1:] + ["-json", "-attributes", ",".join(_condorq.ATTRIBUTES)]
        try:
            return _condorq.jobs(self.ask(words), users)
        except _marks.Garbled as error:
            raise Silent("htcondor: %s: %s" % (words[0], error))

    def queue(self, users):
        """All jobs of users that carry a mark."""
        return self.jobs(["condor_q", "-allusers", "-constraint", _condorq.ours(users)], users)

    def history(self, marks, limit, users):
        """The jobs with these marks that left the queue, the last one last; None where the history does not answer."""
        words = ["condor_history", "-limit", str(limit), "-constraint", _condorq.any_of("SciopsSites", marks)]
        try:
            return self.jobs(words, users)[::-1]
        except (Silent, Failed):
            return None

    def since(self):
        """When the schedd was started, None where nobody says."""
        try:
            if self.settings.get("schedd"):
                words = ["condor_status", "-schedd"] + self.at()[2:]
                words += ["-constraint", "Name == %s" % _classad.quote(self.settings["schedd"])]
                times = self.ask(words + ["-af", "DaemonStartTime"]).split()
                return int(times[0]) if len(times) == 1 else None
            # a schedd writes down where it is before it answers anybody
            return int(os.stat(self.ask(["condor_config_val", "SCHEDD_ADDRESS_FILE"]).strip()).st_mtime)
        except (Silent, Failed, OSError, ValueError):
            return None

    def tell(self, words, ones):
        """Give a program that changes jobs these very ones, as those whose they are; what hindered it, in words."""
        trouble = []
        for user in sorted({one["user"] for one in ones}):
            mine = [one for one in ones if one["user"] == user]
            try:
                who = _logs.account(user)
                at = [words[0]] + self.at() + ["-constraint", _condorq.exactly(mine)]
                code, _out, err = self.run(at + words[1:], who=who)
                trouble.append(" ".join(err.split())[-200:] if code else "")
            except (Silent, Failed) as error:
                trouble.append(str(error))
        return "; ".join(words for words in trouble if words)


class Scene(_jobqueue.Scene):
    """What a schedd knows of our jobs at one moment, and what its history and its age prove."""

    def how_it_ended(self, one):
        return _condorq.how_it_ended(one)

    def strange(self, jobs):
        return "job %d has a state that is not known: %s" % (jobs[0]["id"], jobs[0]["word"])

    def explain(self, client, lost, users):
        marks = {_marks.mark(self.ident, self.records[token]): token for token in lost}
        limit = sum(max(1, len(self.records[token].get("jobs") or [])) for token in lost)
        told, now, past = client.history(marks, limit, users), time.time(), {}
        for one in told or []:
            past.setdefault(marks.get(one["mark"]), []).append(one)
        since, asked = None, False
        for token in lost:
            if not past.get(token) and self.unheard(token, "condor_submit"):
                continue
            if not asked:
                since, asked = client.since(), True
            if not past.get(token) and not _condorq.same_place(self.records[token].get("manager"), client.settings):
                self.doubt[token] = _condorq.elsewhere(self.records[token])
                continue
            skew = _condorq.SLACK if client.settings.get("schedd") else 0
            found, words = _condorq.absence(self.records[token], past.get(token, []), since, int(now), skew)
            if found == "over":
                self.over[token] = words
                if past.get(token):
                    self.last[token] = past[token][-1]
            else:
                self.doubt[token] = words
