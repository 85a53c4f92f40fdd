# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The process table of a host for people: counts, hot jobs, instances.

Note that this module util is **PRIVATE** to the collection.

Built on the same pass over /proc as the reconciler's own look, so both count alike.
"""

import os
import pwd
import re
import time

from ansible_collections.sciops.sites.plugins.module_utils import _probe

SORTS = {
    "cpu": lambda row: (-row["share"], row["pid"]),
    "rss": lambda row: (-row["rss"], row["pid"]),
    "age": lambda row: (-row["age"], row["pid"]),
    "pid": lambda row: row["pid"],
}


def name_of(uid, known):
    """The name of a user id, the number as text where it has none; ``known`` remembers."""
    if uid not in known:
        try:
            known[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:
            known[uid] = str(uid)
    return known[uid]


def shares(table, seconds):
    """pid -> share of one core: over ``seconds`` from now, or over the life of each process where that is 0."""
    if seconds <= 0:
        now = _probe.uptime()
        return {p.pid: p.ticks / _probe.TICK / max(0.1, now - p.start / _probe.TICK) for p in table.values()}
    before, began = dict(table), time.monotonic()
    time.sleep(seconds)
    span, found = time.monotonic() - began, {}
    for p in before.values():
        now = _probe.look(p.pid)
        if now and now.start == p.start:
            found[p.pid] = max(0, now.ticks - p.ticks) / _probe.TICK / span
    return found


def process_table(user=None, patterns=(), match=None, sort="cpu", limit=0, sample=0.0, hot_threshold=0.5):  # noqa: PLR0917
    """What runs on this host.

    ``user`` leaves only that user's processes; ``patterns`` are regular expressions searched for in command lines;
    ``match`` maps a name to alternatives as in a component's ``match``, which count its user's topmost processes only.
    ``limit`` cuts the list of processes (0: all), never a count. ``sample`` and ages are seconds, ``rss`` bytes,
    ``share`` and ``hot_threshold`` parts of one core. Raises ValueError for an unknown user or a pattern that is none.
    """
    problems, names = [], {}
    try:
        wanted = None if user is None else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ValueError("user: this host knows no user %s" % user)
    try:
        searches = [(text, re.compile(text)) for text in patterns]
    except re.error as error:
        raise ValueError("patterns: %s is not a regular expression: %s" % (error.pattern, error))
    table = _probe.scan(problems)
    table.pop(os.getpid(), None)
    share, now, rows = shares(table, sample), _probe.uptime(), []
    for pid in share:
        p = table[pid]
        if p.state == "K" or wanted not in (None, p.uid):
            continue
        words = _probe.argv(pid)
        row = {"pid": pid, "ppid": p.ppid, "user": name_of(p.uid, names), "command": p.name, "argv": words}
        row.update(cpu=round(p.ticks / _probe.TICK, 2), share=round(share[pid], 3), rss=p.rss, state=p.state)
        row.update(age=round(max(0.0, now - p.start / _probe.TICK), 2), instance=instance_of(p))
        rows.append(row)
    rows.sort(key=SORTS[sort])
    lines = [" ".join(row["argv"]) for row in rows]
    by_user, by_match = {}, {}
    for row in rows:
        by_user[row["user"]] = by_user.get(row["user"], 0) + 1
    specs = {name: {"match": alternatives, "user": user} for name, alternatives in (match or {}).items()}
    marked = {p.pid for p in table.values() if p.mark}
    try:
        hits = _probe.matched(table, specs, marked, problems)
    except _probe.Refused as error:
        raise ValueError("match: %s" % error)
    for name in specs:
        by_match[name] = sum(1 for hit in hits if hit[0] == name)
    facts = _probe.facts()
    del facts["answered"]
    return {
        "processes": rows[: limit or None],
        "total": len(rows),
        "by_user": by_user,
        "by_pattern": {text: sum(1 for line in lines if found.search(line)) for text, found in searches},
        "by_match": by_match,
        "hot": [row for row in rows if row["share"] >= hot_threshold],
        "instances": instances([table[row["pid"]] for row in rows], now),
        "host": facts,
        "problems": problems,
    }


def instance_of(p):
    """``site/deployment/host/component/slot`` of the instance that a process belongs to, or None."""
    return "/".join(p.mark[:5]) if p.mark else None


def instances(procs, now):
    """The instances of any site among these processes, by their marker."""
    sets, rows = {}, []
    for p in procs:
        if p.mark:
            sets.setdefault(tuple(p.mark[:3]) + (p.mark[6],), []).append(p)
    for key in sorted(sets):
        members = sets[key]
        lead, first = _probe.leader(members, None)
        more = {"site": key[0], "deployment": key[1], "host": key[2], "token": key[3], "leader": first}
        more.update(slot=int(lead.mark[4]), hash=lead.mark[5])
        row = _probe.row(lead.mark[3], lead, members, now, _probe.output(lead.pid), **more)
        del row["health"]
        rows.append(row)
    return rows
