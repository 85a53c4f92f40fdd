# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Components that run as Slurm jobs: a queue becomes an observation, submissions come from the same planner. Pure.

The cluster is one host. A type's limit is its count, session limits are shared limits, and the order downstream first
is the priority: nothing here decides what the planner does not decide for processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _planner

CLUSTER = "cluster"

# A closed table of the state words of squeue, old (one word) and new (a list of a base state and flags). A job with one
# word of ALIVE occupies its place; one with words of OVER only does not. Anything else is an observation that failed.
ALIVE = frozenset(
    {
        "PENDING",
        "RUNNING",
        "SUSPENDED",
        "REQUEUED",
        "RESIZING",
        "CONFIGURING",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "SPECIAL_EXIT",
        "RESV_DEL_HOLD",
        "SIGNALING",
        "STAGE_OUT",
        "STOPPED",
        "POWER_UP_NODE",
        "EXPEDITING",
    }
)
OVER = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "COMPLETING",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "RECONFIG_FAIL",
        "REVOKED",
        "TIMEOUT",
    }
)


class QueueError(ValueError):
    """The queue's answer has a word or a type that is not known; the text names job, field and value."""


@dataclass(frozen=True)
class Type:
    """One kind of job: its limit, and how much of each shared limit one job takes."""

    name: str
    limit: int
    uses: Mapping[str, float]


def alive(job: Mapping[str, Any]) -> bool:
    """Whether a job of `squeue --json` occupies a place. Raises QueueError for an unknown word or type."""
    number, state = job.get("job_id"), job.get("job_state")
    words = [state] if isinstance(state, str) else state
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise QueueError(f"job {number}: job_state: {state!r}: must be a word or a list of words")
    for word in words:
        if word not in ALIVE and word not in OVER:
            raise QueueError(f"job {number}: job_state: {word!r}: is not a known word")
    return any(word in ALIVE for word in words)


def _text(job: Mapping[str, Any], key: str) -> str:
    value = job.get(key)
    if not isinstance(value, str):
        raise QueueError(f"job {job.get('job_id')}: {key}: {value!r}: must be a text")
    return value


def observe(document: Any, user: str, account: str, names: frozenset[str]) -> dict[str, Any]:
    """Turn the JSON of squeue into an observation of the cluster: one instance for each live job of these names.

    Other users, accounts and names do not count. A word or type that is not known gives an observation that did not
    answer and names it, so that nothing is submitted on its strength.
    """
    try:
        return {"answered": True, "boot_id": CLUSTER, "instances": _instances(document, user, account, names)}
    except QueueError as error:
        return {"answered": False, "kind": "garbled", "reason": str(error)}


def _instances(document: Any, user: str, account: str, names: frozenset[str]) -> list[dict[str, Any]]:
    if not isinstance(document, dict) or not isinstance(document.get("jobs"), list):
        raise QueueError("jobs: must be a list of jobs")
    if document.get("errors"):
        raise QueueError(f"errors: {document['errors']!r}: the queue could not be read")
    found = []
    for job in document["jobs"]:
        if not isinstance(job, dict):
            raise QueueError(f"jobs: {job!r}: must be a mapping")
        if _text(job, "user_name") != user or _text(job, "account") != account:
            continue
        name = _text(job, "name").removesuffix(".sh")
        number = job.get("job_id")
        if not isinstance(number, int):
            raise QueueError(f"job {number!r}: job_id: must be a number")
        if alive(job) and name in names:
            found.append({"component": f"slurm/{name}", "owned": False, "pid": number, "start": 0, "age": 0.0})
    return found


def declaration(types: list[Type], shared_limits: Mapping[str, float]) -> dict[str, Any]:
    """Return the declaration of a cluster; `types` are in the order in which they are served."""
    return {
        "site": CLUSTER,
        "deployment": "slurm",
        "policy": {"quorum": 0, "undeclared": "report"},
        "hosts": {CLUSTER: {"order": 0}},
        "shared_limits": dict(shared_limits),
        "components": {
            f"slurm/{one.name}": {
                "pipe": "slurm",
                "name": one.name,
                "order": at,
                "state": "on",
                "count": {"min": one.limit, "max": one.limit},
                "uses": dict(one.uses),
                "priority": len(types) - at,
                # jobs end by themselves: one too many is never cancelled
                "adopt": False,
            }
            for at, one in enumerate(types)
        },
        "set_aside": {},
    }


def submissions(
    document: Any, user: str, account: str, types: list[Type], shared_limits: Mapping[str, float]
) -> tuple[list[str], str, dict[str, Any]]:
    """Return (names to submit, error words or "", plan): at most one job of each type, in the order of `types`."""
    seen = observe(document, user, account, frozenset(one.name for one in types))
    made = _planner.plan(
        declaration(types, shared_limits), {CLUSTER: seen}, None, 0.0, options={"starts_per_component": 1}
    )
    names = [one["component"].removeprefix("slurm/") for one in made["actions"] if one["kind"] == "start"]
    return names, "" if seen["answered"] else str(seen["reason"]), made
