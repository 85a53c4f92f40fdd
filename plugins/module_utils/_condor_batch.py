# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Brings the jobs of a key to what is declared, with a client of HTCondor. What to do is decided in _condor_jobs.

Note that this module util is **PRIVATE** to the collection.
"""

from __future__ import absolute_import, annotations, division, print_function

import os
import pwd
from typing import Any, Dict, List, Optional

from ansible_collections.sciops.sites.plugins.module_utils import _condor, _condor_cli, _condor_jobs

#: jobs that one constraint names, so that it fits into a word of a command
CHUNK = 2000
NOTHING = {
    "cluster": None,
    "submitted": 0,
    "differs": False,
    "retried": [],
    "given_up": [],
    "acted": [],
    "not_done": [],
    "held": [],
    "ad": None,
    "description": None,
}  # type: Dict[str, Any]


class Failed(Exception):
    """Some of it was done, and some was not: the text says how much, `result` which."""

    def __init__(self, text: str, result: Dict[str, Any]) -> None:
        Exception.__init__(self, text)
        self.result = result


def login() -> str:
    """Return the name of the user who asks."""
    return pwd.getpwuid(os.geteuid()).pw_name


class Batch:
    """The options of condor_job, and a client."""

    def __init__(self, client: _condor.Client, given: Dict[str, Any], check: bool) -> None:
        self.client, self.given, self.check = client, given, check
        self.key = given.get("key")
        self.owner = given.get("owner") or login()
        self.result = dict(NOTHING, key=self.key, changed=False)
        self.before, self.after = [], []  # type: List[str], List[str]

    def run(self) -> Dict[str, Any]:
        """Do what is declared; returns the result. Raises CondorError, Failed."""
        state = self.given["state"]
        if state == "present":
            jobs = self.present()
        elif state == "swept":
            jobs = self.swept()
        else:
            jobs = self.brought(state)
        self.result["states"] = _condor_jobs.counts(jobs)
        self.result["held"] = [_condor_jobs.told(job) for job in jobs if job.get("JobStatus") == 5]
        diff = {"before": "".join(self.before), "after": "".join(self.after)}
        header = "jobs of %s" % self.key if self.key else "jobs"
        self.result["diff"] = dict(diff, before_header=header, after_header=header)
        return self.result

    def said(self, before: str, after: str) -> None:
        """Add a line to both sides of the diff."""
        self.before.append(before + "\n" if before else "")
        self.after.append(after + "\n" if after else "")

    def owned(self) -> Optional[str]:
        return None if self.owner == "*" else self.owner

    def keyed(self) -> str:
        """Return the constraint for the jobs of the key, of an owner where one is named."""
        return _condor_jobs.of_key(self.key, self.owned() if self.given.get("owner") else None)

    # --- present

    def look(self, wanted: Optional[List[str]], count: int) -> List[Dict[str, Any]]:
        """Return the jobs of the key: those in the queue, and those of the history where the queue has not all.

        A job that ends goes into the history before it leaves the queue, so one that is looked for in this order is
        found. Raises Refused where the key is another user's.
        """
        constraint = self.keyed()
        jobs = self.client.query(constraint, _condor_jobs.TOLD)
        if self.given.get("history", True) and self.lacking(jobs, wanted, count):
            known = {_condor_jobs.number(job) for job in jobs}
            past = self.client.history(constraint, _condor_jobs.TOLD)
            jobs = jobs + [dict(job, past=True) for job in past if _condor_jobs.number(job) not in known]
        others = _condor_jobs.strangers(jobs, self.owner) if self.owned() else []
        if others:
            text = "key: %s: jobs of %s have it; take another key, or name the owner of yours with owner"
            raise _condor.Refused(text % (self.key, ", ".join(others)))
        return jobs

    @staticmethod
    def lacking(jobs: List[Dict[str, Any]], wanted: Optional[List[str]], count: int) -> int:
        if wanted is None:
            return max(count - len(_condor_jobs.counted(jobs)), 0)
        return len(_condor_jobs.missing(wanted, jobs))

    def present(self) -> List[Dict[str, Any]]:
        """Submit what was never submitted, retry what is held, remove what is not declared any more."""
        given = self.given
        items, count = self.items(), given.get("count") or 1
        wanted = None if items is None else list(items)
        mark = _condor_jobs.digest(given.get("description"), given.get("attributes"), given.get("dag"))
        jobs = self.look(wanted, count)
        queue = [job for job in jobs if not job.get("past")]
        self.result["differs"] = any(job.get(_condor_jobs.DIGEST) not in (None, mark) for job in queue)
        lacks = self.lacking(jobs, wanted, count)
        if lacks:
            todo = None
            if items is not None:
                names = _condor_jobs.missing(list(items), jobs)
                todo = [_condor_jobs.marked(items[name], name) for name in names]
            attributes = dict(given.get("attributes") or {})
            attributes.update({_condor_jobs.KEY: self.key, _condor_jobs.DIGEST: mark})
            self.submit(todo, lacks, attributes, jobs)
        if not self.check and (self.result["submitted"] or given.get("retry")):
            queue = self.client.query(self.keyed(), _condor_jobs.TOLD)
        if given.get("prune") and wanted is not None:
            self.act("remove", _condor_jobs.gone(wanted, queue), "sciops.sites: not declared any more")
        if given.get("retry") and self.retry(queue) and not self.check:
            queue = self.client.query(self.keyed(), _condor_jobs.TOLD)
        past = [job for job in jobs if job.get("past")]
        return queue + past

    def items(self) -> Optional[Dict[str, Dict[str, Any]]]:
        given = self.given
        try:
            if given.get("table") is not None:
                return _condor_jobs.keyed(_condor_jobs.rows(given["table"]["variables"], given["table"]["text"]))
            return None if given.get("items") is None else _condor_jobs.keyed(given["items"])
        except ValueError as error:
            raise _condor.Refused(str(error))

    def submit(
        self, todo: Optional[List[Dict[str, Any]]], lacks: int, attributes: Dict[str, Any], jobs: List[Dict[str, Any]]
    ) -> None:
        """Submit in one transaction, once: also where the answer is lost, and where somebody else does it just now."""
        description, dag = self.given.get("description"), self.given.get("dag")
        self.result["changed"] = True
        if dag:
            self.result["description"] = _condor_cli.description_text({}, attributes)
        else:
            self.result["description"] = self.text(todo, lacks, attributes)
        self.said("jobs: %d" % len(jobs), "jobs: %d" % (len(jobs) + lacks))
        self.said("", "dag: %s" % dag if dag else self.result["description"].rstrip("\n"))
        if self.check:
            self.result["submitted"] = lacks
            if not dag:
                self.result["ad"] = self.client.preview(description or {}, todo, attributes)
            elif not os.path.isfile(dag):
                raise _condor.Refused("dag: %s: there is no such file on this host" % dag)
            return
        known = {job.get("ClusterId") for job in jobs}
        try:
            if dag:
                cluster, done = self.client.submit_dag(dag, attributes)
            else:
                cluster, done = self.client.submit(description or {}, todo, attributes, lacks)
        except _condor.Silent as error:
            # all of them are there, or none; a schedd that does not say which leaves it to the next run
            names = None if todo is None else [one["attributes"][_condor_jobs.ITEM] for one in todo]
            there = [job for job in self.look(names, lacks) if job.get("ClusterId") not in known]
            if self.lacking(there, names, lacks):
                raise error
            cluster, done = min(job["ClusterId"] for job in there), lacks
        self.result.update(cluster=cluster, submitted=done)
        self.one_of_two(cluster, known)

    def text(self, todo: Optional[List[Dict[str, Any]]], lacks: int, attributes: Dict[str, Any]) -> str:
        try:
            return _condor_cli.submit_text(self.given.get("description") or {}, todo, attributes, lacks)
        except (ValueError, TypeError) as error:
            raise _condor.Refused(str(error))

    def one_of_two(self, cluster: int, known: Any) -> None:
        """Take back those of ours that another run submitted at the same moment, and was first; the others stay."""
        lower = _condor_cli.both(self.keyed(), "ClusterId < %d" % cluster)
        if not {job["ClusterId"] for job in self.client.query(lower, ["ClusterId"])} - set(known):
            return
        which = _condor_cli.both(self.keyed(), "ClusterId <= %d" % cluster)
        asked = ["ClusterId", "ProcId", "JobStatus", "RemoveReason", _condor_jobs.ITEM]
        jobs = self.client.query(which, asked)
        same, other = _condor_jobs.twins(jobs, cluster, known)
        for part in _chunks(same):
            self.client.act("remove", _condor_jobs.ids(part), _condor_jobs.TWIN % other)
        if same:
            left = self.result["submitted"] - len(same)
            self.result.update(submitted=left, cluster=cluster if left else other)

    # --- held jobs

    def retry(self, queue: List[Dict[str, Any]]) -> int:
        """Give held jobs what their rule says, and release them; returns how many."""
        groups, given_up = _condor_jobs.retries(queue, self.given["retry"])
        self.result["given_up"] = given_up
        for value, jobs in groups:
            rows = [dict(_condor_jobs.told(job), attempt=value["attempts"], memory=value.get("memory")) for job in jobs]
            self.result["changed"] = True
            self.result["retried"] += rows
            some = ", ".join(_condor_jobs.spans(jobs))
            before = "" if value.get("memory") is None else ", RequestMemory %s" % jobs[0].get("RequestMemory")
            after = "" if value.get("memory") is None else ", RequestMemory %d" % value["memory"]
            self.said(some + ": held" + before, "%s: released, attempt %d%s" % (some, value["attempts"], after))
            for part in [] if self.check else _chunks(jobs):
                which = _condor_cli.both(_condor_jobs.ids(part), "JobStatus == 5")
                self.client.edit(which, _condor_jobs.RETRY, value)
                if value.get("memory") is not None:
                    self.client.edit(which, "RequestMemory", value["memory"])
                self.client.act("release", which, "sciops.sites: attempt %d" % value["attempts"])
        return len(self.result["retried"])

    # --- held, released, removed, swept

    def brought(self, state: str) -> List[Dict[str, Any]]:
        """Bring jobs to a state; returns the jobs that were meant, as they are now."""
        action, others = _condor_jobs.acts_on(state)
        which = _condor_jobs.of_key(self.key) if self.key else self.given["constraint"]
        which = _condor_cli.both(which, _condor_cli.equal("Owner", self.owned()) if self.owned() else None)
        jobs = self.client.query(_condor_cli.both(which, others), _condor_jobs.TOLD)
        self.act(action, jobs, self.given.get("reason") or "sciops.sites: %s" % state, others)
        return self.client.query(which, _condor_jobs.TOLD)

    def swept(self) -> List[Dict[str, Any]]:
        """Remove jobs whose declaration is gone. Only jobs that have a key are looked at."""
        prefix, keys = self.given.get("prefix"), self.given.get("keys") or []
        which = _condor_jobs.ours(self.owned(), prefix)
        jobs = self.client.query(which, _condor_jobs.TOLD)
        lost = _condor_jobs.orphans(jobs, keys, prefix)
        self.act("remove", lost, self.given.get("reason") or "sciops.sites: its declaration is gone", which)
        return [job for job in jobs if job not in lost]

    def act(self, action: str, jobs: List[Dict[str, Any]], reason: str, guard: Optional[str] = None) -> None:
        """Do this to jobs that are still so (`guard`). Raises Failed where some could not be."""
        if not jobs:
            return
        now = {"hold": "held", "release": "idle", "remove": "removed"}[action]
        self.result["changed"] = True
        rows = _condor_jobs.grouped(jobs)
        for row in rows:
            some = "%s%s" % (", ".join(row["jobs"]), " (%s)" % row["key"] if row["key"] else "")
            self.said("%s: %s" % (some, row["state"]), "%s: %s" % (some, now))
        if self.check:
            self.result["acted"] += rows
            return
        totals = dict.fromkeys(_condor_cli.RESULTS, 0)
        left = []  # type: List[Dict[str, Any]]
        for part in _chunks(jobs):
            which = _condor_cli.both(_condor_jobs.ids(part), guard)
            for name, number in self.client.act(action, which, reason).items():
                totals[name] += number
        if totals["success"] < len(jobs):
            for part in _chunks(jobs):
                which = _condor_cli.both(_condor_jobs.ids(part), guard or _condor_jobs.acts_on("removed")[1])
                left += self.client.query(which, _condor_jobs.TOLD)
        numbers = {_condor_jobs.number(job) for job in left}
        self.result["acted"] += _condor_jobs.grouped([job for job in jobs if _condor_jobs.number(job) not in numbers])
        if left:
            self.result["not_done"] = [_condor_jobs.told(job) for job in left]
            self.result["changed"] = bool(self.result["acted"])
            why = ", ".join("%s %d" % (name, n) for name, n in sorted(totals.items()) if n and name != "success")
            text = "%s: %d of %d jobs are not (%s): %s"
            some = ", ".join(_condor_jobs.number(job) for job in left[:5]) + (", .." if len(left) > 5 else "")
            raise Failed(text % (action, len(left), len(jobs), why or "no reason was given", some), self.result)


def _chunks(jobs: List[Dict[str, Any]]) -> List[List[Dict[str, Any]]]:
    return [jobs[at : at + CHUNK] for at in range(0, len(jobs), CHUNK)]
