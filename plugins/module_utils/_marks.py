# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Whose the jobs of a queue are: the mark that each of ours carries. Pure: no I/O, no clock.

Note that this module util is **PRIVATE** to the collection.

A job is a mapping with ``id``, ``verdict`` (``alive``, ``over`` or ``unknown``), ``waits`` and ``submit``; _squeue and
_condorq make them of what a queue says. Python 3.6 and the standard library, no f-strings (see _probe).
"""

RANK = ("alive", "unknown", "over")


class Garbled(ValueError):
    """An answer of a queue that is not understood; the text says which."""


def mark(ident, action):
    """The mark of a job: what the marker of its process says, but for the pid."""
    words = ["sciops.sites"] + list(ident) + [action["component"], str(action["slot"]), action["hash"], action["token"]]
    return " ".join(words)


def named(text, ident):
    """What a mark of ours says, None where it is none, or of another site, deployment or host."""
    words = text.split(" ")
    if len(words) != 8 or words[0] != "sciops.sites" or words[1:4] != list(ident) or not words[5].isdigit():
        return None
    return {"component": words[4], "slot": int(words[5]), "hash": words[6], "token": words[7]}


def sort_out(jobs, ident, records, keys=("mark", "unit")):
    """(groups, missing): what of a queue is ours, and which records are not explained by it.

    A group is token -> component, slot, hash, token and its jobs, the leading one first; it is ``alive``, ``over`` or
    ``unknown``. A job is known by its mark, or by a record that has its number and its unit: numbers alone begin again
    with 1 where a queue was lost. ``keys`` are those of mark and unit in a job.
    """
    by_id = {}
    for token, record in records.items():
        for one in record.get("jobs") or []:
            by_id[(one, record.get("unit"))] = token
    groups = {}
    for one in jobs:
        who, token = named(one[keys[0]], ident), by_id.get((one["id"], one[keys[1]]))
        if who is None and token is not None:
            record = records[token]
            who = {key: record[key] for key in ("component", "slot", "hash", "token")}
        if who is not None:
            groups.setdefault(who["token"], dict(who, jobs=[]))["jobs"].append(one)
    for group in groups.values():
        kinds = [one["verdict"] for one in group["jobs"]]
        group["verdict"] = next(kind for kind in RANK if kind in kinds)
        # what runs before what waits, older before newer; the last of those that are over tells how it ended
        group["jobs"].sort(key=lambda j: (RANK.index(j["verdict"]), j["waits"], j["submit"] or 0, j["id"]))
        if group["verdict"] == "over":
            group["jobs"].reverse()
    missing = []
    for token, record in sorted(records.items()):
        group, last = groups.get(token), (record.get("jobs") or [])[-1:]
        over = group is not None and group["verdict"] == "over"
        if group is None or (over and last and last[0] not in [one["id"] for one in group["jobs"]]):
            missing.append(token)
    return groups, missing


def living(group):
    """The jobs of a group that have a place in the queue or on a node, or may have."""
    return [one for one in group["jobs"] if one["verdict"] != "over"]
