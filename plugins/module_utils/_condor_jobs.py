# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Decisions about batch jobs: which items are not there yet, what a held job gets, which jobs are orphans. Pure.

Note that this module util is **PRIVATE** to the collection.
"""

from __future__ import absolute_import, annotations, division, print_function

import hashlib
import json
import re
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.sciops.sites.plugins.module_utils import _classad, _condor_cli

#: attributes of our jobs: the key of the declaration, the item of it, what the description was, and what retries did
KEY, ITEM, DIGEST, RETRY = "SciopsKey", "SciopsItem", "SciopsDigest", "SciopsRetry"
STATES = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held", 6: "transferring", 7: "suspended"}
#: why a job is removed whose item or place among so many a lower cluster has; HTCondor adds who did it
TWIN, TWIN_WORDS = "sciops.sites: cluster %d is the same", re.compile(r"sciops\.sites: cluster [0-9]+ is the same")
KEY_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}\Z")
#: what is asked of a job to tell about it
TOLD = [
    "ClusterId",
    "ProcId",
    "JobStatus",
    "Owner",
    "HoldReason",
    "HoldReasonCode",
    "RemoveReason",
    "NumHolds",
    "RequestMemory",
    "MemoryProvisioned",
    DIGEST,
    ITEM,
    KEY,
    RETRY,
]


# --- declarations


def faults(given: Dict[str, Any]) -> List[str]:
    """Return what is wrong with the options of condor_job: texts that begin with the name of the option."""
    found, state = [], given["state"]
    key, described = given.get("key"), bool(given.get("description")) or bool(given.get("dag"))
    if key is not None and not KEY_WORD.match(key):
        found.append("key: %r: must be letters, digits and . _ : / @ + -, 200 at most" % key)
    if key is None and (state == "present" or (state != "swept" and given.get("constraint") is None)):
        found.append("key: is needed with state %s" % state)
    if key is not None and given.get("constraint") is not None:
        found.append("constraint: cannot be together with key")
    if state == "present" and not described:
        found.append("description: one of description and dag is needed with state present")
    if given.get("description") and given.get("dag"):
        found.append("dag: cannot be together with description")
    if given.get("items") is not None and given.get("table") is not None:
        found.append("table: cannot be together with items")
    many = given.get("items") is not None or given.get("table") is not None
    if many and (given.get("dag") or (given.get("count") or 1) != 1):
        found.append("items: cannot be together with %s" % ("dag" if given.get("dag") else "count"))
    if given.get("items") is not None and not given["items"]:
        found.append("items: is empty")
    if given.get("count") is not None and not 1 <= given["count"] <= 1000000:
        found.append("count: %s: must be 1 to 1000000" % given["count"])
    if state == "swept":
        if not given.get("keys") and not given.get("prefix"):
            found.append("keys: is empty, and would make every job an orphan; name a prefix to mean that")
        for one in ["prefix"] if given.get("prefix") is not None else []:
            if not KEY_WORD.match(given[one]):
                found.append("prefix: %r: must be the beginning of keys" % given[one])
    for i, rule in enumerate(given.get("retry") or []):
        found += ["retry[%d].%s" % (i, text) for text in rule_faults(rule)]
    return found


def rule_faults(rule: Dict[str, Any]) -> List[str]:
    """Return what is wrong with a rule of `retry`."""
    found = []
    if rule.get("reason") is None and not rule.get("codes"):
        found.append("reason: one of reason and codes is needed")
    if rule.get("reason") is not None:
        try:
            re.compile(rule["reason"])
        except re.error as error:
            found.append("reason: %r is no regular expression: %s" % (rule["reason"], error))
    if rule.get("memory_factor") is not None and not 1 < rule["memory_factor"] <= 100:
        found.append("memory_factor: %s: must be over 1, and 100 at most" % rule["memory_factor"])
    for name in ("memory_step", "memory_limit"):
        if rule.get(name) is not None and rule[name] < 1:
            found.append("%s: %s: must be 1 MB or more" % (name, rule[name]))
    if not 1 <= rule["attempts"] <= 100:
        found.append("attempts: %s: must be 1 to 100" % rule["attempts"])
    return found


def rows(variables: List[str], text: str) -> List[Dict[str, str]]:
    """Return items of a table as `queue VARIABLES from` reads it.

    A line is an item. Its cells end at a comma or at blanks, and the last has the rest; lines that are empty or begin
    with # are none. Raises ValueError for a line with too few cells.
    """
    found = []
    for number, raw in enumerate(text.split("\n"), 1):
        text_line = raw.strip()
        if not text_line or text_line.startswith("#"):
            continue
        if "\x1f" in text_line:
            cells = [one.strip() for one in text_line.split("\x1f")]
        elif len(variables) == 1:
            cells = [text_line]
        else:
            cells = re.split(r"[ \t]*,[ \t]*|[ \t]+", text_line, maxsplit=len(variables) - 1)
        if len(cells) != len(variables):
            here = "table: line %d: has %d cells, and must have %d (%s)"
            raise ValueError(here % (number, len(cells), len(variables), ", ".join(variables)))
        found.append(dict(zip(variables, cells)))
    return found


def keyed(items: List[Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    """Return items by their keys: their own `key`, else their number. Raises ValueError for two with the same."""
    found = {}  # type: Dict[str, Dict[str, Any]]
    for i, item in enumerate(items):
        name = str(item["key"]) if item.get("key") is not None else str(i)
        if name in found:
            raise ValueError("items[%d].key: %s is the key of another item too" % (i, name))
        found[name] = item
    return found


def marked(item: Dict[str, Any], name: str) -> Dict[str, Any]:
    """Return an item with its key as attribute of its job."""
    attributes = dict(item.get("attributes") or {}, **{ITEM: name})
    return dict(((key, value) for key, value in item.items() if key != "key"), attributes=attributes)


def digest(*what: Any) -> str:
    """Return a mark by which two declarations are told apart."""
    text = json.dumps(what, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


# --- what there is


def number(job: Dict[str, Any]) -> str:
    """Return the number of a job, CLUSTER.PROC."""
    return "%s.%s" % (job.get("ClusterId"), job.get("ProcId"))


def state_of(job: Dict[str, Any]) -> str:
    """Return the state of a job in a word."""
    return STATES.get(job.get("JobStatus"), "unknown")


def counts(jobs: List[Dict[str, Any]]) -> Dict[str, int]:
    """Return how many jobs are in which state; all states are there."""
    found = dict.fromkeys(list(STATES.values()) + ["unknown"], 0)
    for job in jobs:
        found[state_of(job)] += 1
    return found


def told(job: Dict[str, Any]) -> Dict[str, Any]:
    """Return what a result says of one job."""
    reason = job.get("HoldReason") or job.get("RemoveReason")
    return {
        "job": number(job),
        "key": job.get(KEY),
        "item": job.get(ITEM),
        "state": state_of(job),
        "reason": None if reason is None else str(reason),
        "code": job.get("HoldReasonCode"),
    }


def strangers(jobs: List[Dict[str, Any]], owner: str) -> List[str]:
    """Return owners of jobs who are not this one."""
    return sorted({str(job.get("Owner")) for job in jobs} - {owner})


def missing(wanted: List[str], jobs: List[Dict[str, Any]]) -> List[str]:
    """Return the keys of items that no job in queue or history has, in their order."""
    seen = {job.get(ITEM) for job in counted(jobs)}
    return [name for name in wanted if name not in seen]


def counted(jobs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return jobs without those that were taken back because another has their place: nothing was done by them."""
    return [job for job in jobs if job.get("JobStatus") != 3 or not TWIN_WORDS.match(str(job.get("RemoveReason")))]


def twins(jobs: List[Dict[str, Any]], cluster: int, known: Any) -> Tuple[List[Dict[str, Any]], Optional[int]]:
    """Return jobs of a cluster whose place a lower one has that was not known before, and the lowest of those.

    A job with an item is one where a job of these has the same item, so that each item stays where it is lowest. Of
    jobs without items, as many of the last are as these have jobs.
    """
    lower = [job for job in counted(jobs) if job["ClusterId"] < cluster and job["ClusterId"] not in known]
    mine = [job for job in jobs if job["ClusterId"] == cluster]
    items = {job[ITEM] for job in lower if job.get(ITEM) is not None}
    same = [job for job in mine if job.get(ITEM) in items]
    alike = sorted((job for job in mine if job.get(ITEM) is None), key=lambda job: job["ProcId"])
    same += alike[max(len(alike) - len(lower), 0) :]
    return same, min(job["ClusterId"] for job in lower) if lower else None


def gone(wanted: List[str], jobs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return jobs in the queue whose item is not declared any more."""
    return [job for job in jobs if job.get(ITEM) is not None and job[ITEM] not in wanted and not ended(job)]


def ended(job: Dict[str, Any]) -> bool:
    """Whether a job in the queue is on its way out."""
    return job.get("JobStatus") in (3, 4)


# --- which jobs


def of_key(key: str, owner: Optional[str] = None) -> str:
    """Return the constraint for the jobs of a key."""
    return _condor_cli.both(_condor_cli.equal(KEY, key), _condor_cli.equal("Owner", owner) if owner else None)


def ids(jobs: List[Dict[str, Any]]) -> str:
    """Return the constraint for exactly these jobs. ``false`` for none."""
    clusters = {}  # type: Dict[int, List[int]]
    for job in jobs:
        clusters.setdefault(job["ClusterId"], []).append(job["ProcId"])
    parts = [_some(cluster, sorted(procs)) for cluster, procs in sorted(clusters.items())]
    return " || ".join(parts) if parts else "false"


def _some(cluster: int, procs: List[int]) -> str:
    """Return the constraint for jobs of a cluster: by ranges, so that 10,000 of them are a short text."""
    parts = [
        "ProcId == %d" % low if low == high else "(ProcId >= %d && ProcId <= %d)" % (low, high)
        for low, high in _ranges(procs)
    ]
    return "(ClusterId == %d && (%s))" % (cluster, " || ".join(parts))


def _ranges(procs: List[int]) -> List[List[int]]:
    found = []  # type: List[List[int]]
    for proc in procs:
        if found and proc == found[-1][1] + 1:
            found[-1][1] = proc
        else:
            found.append([proc, proc])
    return found


def spans(jobs: List[Dict[str, Any]]) -> List[str]:
    """Return the numbers of jobs in short: 12.0, or 12.3-12.9 for those and what is between them."""
    clusters = {}  # type: Dict[int, List[int]]
    for job in jobs:
        clusters.setdefault(job["ClusterId"], []).append(job["ProcId"])
    return [
        "%d.%d" % (cluster, low) if low == high else "%d.%d-%d.%d" % (cluster, low, cluster, high)
        for cluster, procs in sorted(clusters.items())
        for low, high in _ranges(sorted(procs))
    ]


def grouped(jobs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return what a result says of many jobs: a row for each key and state, with their numbers in short."""
    groups = {}  # type: Dict[Tuple[str, str], List[Dict[str, Any]]]
    for job in jobs:
        groups.setdefault((str(job.get(KEY) or ""), state_of(job)), []).append(job)
    return [
        {"key": key or None, "state": state, "count": len(some), "jobs": spans(some)}
        for (key, state), some in sorted(groups.items())
    ]


def acts_on(state: str) -> Tuple[str, str]:
    """Return what to do for a state, and the constraint for jobs that are not in it."""
    return {
        "held": ("hold", "JobStatus =!= 5 && JobStatus =!= 3 && JobStatus =!= 4"),
        "released": ("release", "JobStatus =?= 5"),
        "removed": ("remove", "JobStatus =!= 3"),
    }[state]


# --- held jobs


def rule_for(job: Dict[str, Any], rules: List[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """Return the first rule that a held job meets, None where none does."""
    for rule in rules:
        if rule.get("codes") and job.get("HoldReasonCode") not in rule["codes"]:
            continue
        if rule.get("reason") is not None and not re.search(rule["reason"], str(job.get("HoldReason") or "")):
            continue
        return rule
    return None


def memory_after(now: Any, provisioned: Any, rule: Dict[str, Any]) -> Tuple[Any, str]:
    """Return the memory in MB for the next attempt, and why there is none; (None, "") leaves the memory alone.

    Where the job asks by an expression, what its last slot had counts.
    """
    if rule.get("memory_factor") is None and rule.get("memory_step") is None:
        return None, ""
    numbers = [one for one in (now, provisioned) if isinstance(one, (int, float)) and not isinstance(one, bool)]
    if not numbers:
        return None, "asks for memory by an expression, and no slot says how much it had"
    raised = int(max(numbers[0] * (rule.get("memory_factor") or 1), numbers[0] + (rule.get("memory_step") or 0)))
    raised = max(raised, int(numbers[0]) + 1)
    if rule.get("memory_limit") is not None and raised > rule["memory_limit"]:
        if numbers[0] >= rule["memory_limit"]:
            return None, "had %d MB, and the limit is %d MB" % (numbers[0], rule["memory_limit"])
        raised = rule["memory_limit"]
    return raised, ""


def retries(
    jobs: List[Dict[str, Any]], rules: List[Dict[str, Any]]
) -> Tuple[List[Tuple[Dict[str, Any], List[Dict[str, Any]]]], List[Dict[str, Any]]]:
    """Return what held jobs get: pairs of a value for RETRY and the jobs with it, and the jobs that are given up.

    The value has `attempts`, `hold` (how often the job had been held when this was decided) and `memory` (MB, or
    none). A job whose value is of this very hold was decided on before, and only what was not finished is done again:
    so an attempt counts once. A job that is given up has a `why`.
    """
    groups, given_up = {}, []  # type: Dict[str, Tuple[Dict[str, Any], List[Dict[str, Any]]]], List[Dict[str, Any]]
    for job in jobs:
        rule = rule_for(job, rules) if job.get("JobStatus") == 5 else None
        if rule is None:
            continue
        before = job[RETRY] if isinstance(job.get(RETRY), dict) else {}
        hold = job.get("NumHolds") or 0
        if before.get("hold") == hold and isinstance(before.get("attempts"), int):
            value = before
        else:
            attempts = before["attempts"] if isinstance(before.get("attempts"), int) else 0
            if attempts >= rule["attempts"]:
                given_up.append(dict(told(job), why="%d attempts were made" % attempts))
                continue
            memory, why = memory_after(job.get("RequestMemory"), job.get("MemoryProvisioned"), rule)
            if why:
                given_up.append(dict(told(job), why=why))
                continue
            value = {"attempts": attempts + 1, "hold": hold}
            if memory is not None:
                value["memory"] = memory
        groups.setdefault(json.dumps(value, sort_keys=True), (value, []))[1].append(job)
    return [groups[name] for name in sorted(groups)], given_up


# --- orphans


def ours(owner: Optional[str], prefix: Optional[str]) -> str:
    """Return the constraint for jobs in the queue that a declaration made, of an owner, with keys that begin so."""
    begins = None
    if prefix:
        begins = "substr(%s,0,%d) =?= %s" % (KEY, len(prefix.encode("utf-8")), _classad.quote(prefix))
    mine = _condor_cli.equal("Owner", owner) if owner else None
    return _condor_cli.both("isString(%s)" % KEY, begins, mine, "JobStatus =!= 3 && JobStatus =!= 4")


def orphans(jobs: List[Dict[str, Any]], keys: List[str], prefix: Optional[str] = None) -> List[Dict[str, Any]]:
    """Return jobs with a key that is not declared. One without a key is nobody's orphan."""
    return [
        job
        for job in jobs
        if isinstance(job.get(KEY), str) and job[KEY] not in keys and job[KEY].startswith(prefix or "")
    ]
