# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What a launcher has to do whose instances are jobs of a queue: observe, start, renew, rotate, erase.

Note that this module util is **PRIVATE** to the collection.

A launcher gives a Queue of _jobqueue; stopping is in _dequeue. Python 3.6 and the standard library, no f-strings (see
_probe).
"""

import json
import os
import time

from ansible_collections.sciops.sites.plugins.module_utils import (
    _jobqueue,
    _logs,
    _managed,
    _probe,
    _process,
    _shim,
    _work,
)
from ansible_collections.sciops.sites.plugins.module_utils._manager import Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed, said

# between two looks at a queue, in seconds: each is work for what serves many users
POLL = 0.5
# how long a job that ends, or a queue that does not answer, is waited for beyond the settle time of a start
PATIENCE = 10


def look(queue, work, client, indices=()):
    """(Scene, live processes by token) now."""
    _table, known, sets = work.look()
    mine = {token: record for token, record in known.items() if record.get("launcher") == queue.name}
    users = _jobqueue.users_of(work.request, mine, [work.actions[i] for i in indices])
    return queue.scene(client, work.request, mine, users), sets


def erase(work, name, token, record):
    """Remove the record of jobs that are over, and their spec where it is still theirs."""
    place = "%s/managed/%s" % (work.folder, name)
    paths = [record["spec"]] if record and record.get("spec") else []
    if not paths and os.path.isdir(place):
        # the record was lost, and what is secret must not stay
        paths = [place + "/" + one for one in os.listdir(place) if one.endswith(".json")]
    for path in paths:
        try:
            with _logs.rights_of(_logs.account((record or {}).get("user"))):
                if json.loads(_probe.read(path).decode())["token"] == token:
                    os.unlink(path)
                    os.unlink(path[: -len(".json")] + ".sh")
        except (OSError, ValueError, LookupError, TypeError):
            # not there, or not readable: then it is nobody's
            pass
    work.drop(token)


# --- observe


def observe(queue, ask):
    """All jobs of the site, deployment and host, in one query; see docs/launchers.md.

    What is over is forgotten where fence and lock are held: it may be that nothing is started here any more that would
    tidy it up, and its record would be taken for an instance as soon as nobody asks this queue.
    """
    told = {"rows": [], "states": {}, "possible": [], "problems": [], "over": {}}
    records = {token: record for token, record in ask["records"].items() if record.get("launcher") == queue.name}
    now, client = time.time(), queue.client(ask["settings"], ask["ends"] - 0.3)

    def doubt(who, token, why):
        told["possible"].append({"component": who["component"], "slot": who["slot"], "token": token})
        told["possible"][-1].update(launcher=queue.name, why=why)

    def problem(who, words):
        told["problems"].append("%s slot %d: %s" % (who["component"], who["slot"], words))

    try:
        scene = queue.scene(client, ask["request"], records, _jobqueue.users_of(ask["request"], records))
    except (Silent, Failed) as error:
        told["silent"] = str(error)
        told["problems"].append(str(error))
        for token, record in sorted(records.items()):
            if token in ask["sets"]:
                told["states"][token] = {"launcher": queue.name, "state": "unknown", "unit": record.get("unit")}
            else:
                doubt(record, token, str(error))
        return told
    for token, group in sorted(scene.groups.items()):
        record = records.get(token) or {}
        if group["verdict"] == "alive":
            seen = queue.shown(client, group, record, now)
            if queue.alarms and seen.get("health"):
                problem(group, "job %d: %s" % (seen["job"], seen["health"]))
            if token in ask["sets"]:
                told["states"][token] = {k: v for k, v in seen.items() if k != "health" or v}
            else:
                told["rows"].append(row(group, record, now, seen))
    for token, why in sorted(scene.doubt.items()):
        who = scene.groups.get(token) or records[token]
        problem(who, why)
        if token not in ask["sets"]:
            doubt(who, token, why)
    for token, how in sorted(scene.over.items()):
        if token in records:
            told["over"][token] = how
            problem(records[token], how)
        if token in ask["sets"]:
            told["states"][token] = {"launcher": queue.name, "state": "left over: %s" % how}
        elif token in records and ask.get("held"):
            try:
                work = _work.Work(dict(ask["request"], actions=[]), ask["folder"], ask["ends"])
                erase(work, queue.name, token, records[token])
            except OSError as error:
                problem(records[token], "its record cannot be removed: %s" % said(error))
    return told


def row(group, record, now, seen):
    """The row of an observation for jobs that have no process on this host."""
    first, log, size = group["jobs"][0], record.get("log"), None
    try:
        size = os.stat(log).st_size if log else None
    except OSError:
        # not made yet, or not seen from here
        pass
    found = {key: group[key] for key in ("component", "slot", "hash", "token")}
    age = 0.0 if first["waits"] or not first["start"] else max(0.0, now - first["start"])
    found.update(owned=True, leader=True, pid=first["id"], start=first["submit"] or 0, age=round(age, 2))
    found.update(cpu=0.0, rss=0, processes=0, log=log, log_size=size)
    found.update(seen)
    return found


# --- start


class Flight:
    """A start that is being watched."""

    def __init__(self, index, job, until, log):
        self.index, self.job, self.until, self.asked = index, job, until, time.monotonic()
        self.log, self.offset, self.hidden, self.note = log[0], log[1], log[2], log[3]
        self.broken = ""


def begin(queue, work, client, index, live):
    """Submit one start: a Flight to watch, or None where its result is known already."""
    action, one = work.actions[index], work.results[index]
    try:
        if not work.may_start(index, live):
            return None
        spec, path, who = queue.plan(work, action)
        hidden = _shim.environment(action, who)[1]
        log = spec["log_path"]
        # not root's own folder, also for what is below it
        folder = work.folder if who.pw_uid == os.geteuid() else "/nowhere"
        os.close(_logs.begin(log, spec.get("log") or {}, folder, who, work.logs))
        work.logs.add(log)
        offset = os.stat(log).st_size
        record = {"pid": 0, "start": 0, "boot_id": None, "log": log, "launcher": queue.name, "jobs": [], "spec": path}
        record.update((k, spec[k]) for k in ("component", "slot", "hash", "token", "unit", "manager", "grace"))
        record.update((k, work.request[k]) for k in ("site", "deployment", "host"))
        record.update(options=spec.get("options") or {}, user=who.pw_name, singleton=bool(action.get("singleton")))
        queue.write(spec, path, who)
        one["begun"] = "%s, and the time of the request ended before the job was seen" % queue.submission
        try:
            job, note = queue.submit(work, client, record, who)
        except (Failed, OSError):
            one.pop("begun")
            erase(work, queue.name, record["token"], record)
            raise
        one["pid"] = job
        live[(action["component"], action["slot"])] = (action["token"], job)
        return Flight(index, job, time.monotonic() + float(action.get("settle", 2)), (log, offset, hidden, note))
    except Silent as error:
        one.pop("begun", None)
        work.end(index, "unknown", str(error))
    except (Failed, OSError) as error:
        _managed.fail(work, index, error)
    return None


def start(queue, work, indices):
    """Submit in batches, see Work.batches; a job that is over within its settle time is a failed start."""
    client = queue.client(work.settings(queue.name), work.ends)
    try:
        scene, sets = look(queue, work, client, indices)
    except (Silent, Failed) as error:
        raise Failed("%s; nothing was submitted" % error, "refused")
    for token in [token for token in scene.over if token in scene.records]:
        erase(work, queue.name, token, scene.records.pop(token))
        work.spent.add(token)
    _table, known, _sets = work.look()
    work.logs = {known[t].get("log") for t in known}
    live, taken, now = work.live(known, sets), scene.slots(), time.time()
    doubt = {}
    for token, why in scene.doubt.items():
        who = scene.groups.get(token) or scene.records[token]
        doubt[(who["component"], who["slot"])] = why

    def launch(batch):
        flights = []
        for i in batch:
            key = (work.actions[i]["component"], work.actions[i]["slot"])
            if key in taken:
                first = taken[key]["jobs"][0]
                words = "slot %d has job %d: %s" % (key[1], first["id"], queue.state(taken[key], now))
                work.end(i, "already", words, pid=first["id"], token=taken[key]["token"])
            elif key in doubt:
                work.end(i, "refused", "what had slot %d before may still run: %s" % (key[1], doubt[key]))
            else:
                flights.append(begin(queue, work, client, i, live))
        return [flight for flight in flights if flight]

    def settle(flights):
        now = time.monotonic()
        if not any(now - flight.asked >= POLL for flight in flights):
            return []
        try:
            seen, trouble = look(queue, work, client, indices)[0], ""
        except (Silent, Failed) as error:
            seen, trouble = None, str(error)
        for flight in flights:
            flight.asked = now
        return [flight for flight in flights if settled(queue, work, client, flight, seen, trouble)]

    work.batches(indices, launch, settle)


def settled(queue, work, client, flight, scene, trouble):
    """Whether it is known what became of a start, which is then its result."""
    one, now = work.results[flight.index], time.monotonic()
    token = one["token"]
    group = scene.groups.get(token) if scene else None
    late = now >= min(flight.until + PATIENCE, work.ends - 0.5)
    note = "; " + flight.note if flight.note else ""
    alive = group is not None and group["verdict"] == "alive" and not queue.ending(group)
    if alive and not flight.broken:
        flight.broken = queue.broken(client, work, flight.index, group)
    if scene and token in scene.over:
        erase(work, queue.name, token, scene.records.get(token))
        last = scene.last.get(token) or {}
        code = -last["signal"] if last.get("signal") else last.get("exit")
        tail = _logs.tail(flight.log, flight.offset, flight.hidden)
        words = "job %d: %s" % (flight.job, flight.broken) if flight.broken else scene.over[token]
        work.end(flight.index, "failed", words, exit=code, log_tail=tail)
    elif alive and not flight.broken:
        if now < flight.until:
            return False
        first = group["jobs"][0]
        reason = ": " + first["reason"] if first.get("reason") else ""
        words = "is queued" + reason if first["waits"] else "runs"
        work.end(flight.index, "started", "job %d %s%s" % (first["id"], words, note), pid=first["id"])
    elif late:
        words = trouble or flight.broken or (scene.doubt.get(token) if scene else "") or "it ends, and is not over yet"
        work.end(flight.index, "unknown", "job %d: %s" % (flight.job, words))
    else:
        return False
    one.pop("begun", None)
    return True


# --- what else is done to a job


def renew(queue, work, indices):
    """Queue a successor for each job whose time is nearly over; how it waits for the other is the queue's."""
    client = queue.client(work.settings(queue.name), work.ends)
    try:
        scene = look(queue, work, client, indices)[0]
    except (Silent, Failed) as error:
        raise Failed("%s; nothing was submitted" % error, "refused")
    for i in indices:
        token = work.actions[i].get("token")
        alive, record = scene.alive(token), scene.records.get(token)
        if token in scene.doubt:
            work.end(i, "refused", scene.doubt[token])
        elif not alive:
            work.end(i, "gone", "it was not there any more")
        elif len(alive) > 1 or alive[0]["waits"]:
            queue.waits(work, client, i, alive)
        elif not record or not os.path.exists(record["spec"]):
            work.end(i, "refused", "its record or its spec is lost: it can only be stopped and started")
        else:
            queue.again(work, client, i, record, alive[0])


def rotate(queue, work, indices):
    """Copy the logs of jobs aside and cut them, while they are written to."""
    client = queue.client(work.settings(queue.name), work.ends)
    try:
        scene, sets = look(queue, work, client, indices)
    except (Silent, Failed) as error:
        raise Failed("%s; no log was touched" % error, "refused")
    for i in indices:
        action = work.actions[i]
        token, path = action.get("token"), action.get("log")
        path = path.get("path") if isinstance(path, dict) else path
        record = scene.records.get(token)
        try:
            if token not in scene.doubt and not scene.alive(token):
                work.end(i, "gone", "it was not there any more")
                continue
            if not record or record.get("log") != path:
                raise Failed("%s is not the log of token %s" % (path, token), "refused")
            # the job appends; a program that opens it by itself is seen only where it runs on this host
            torn = [p for p in sets.get(token, []) if _process.appends(p.pid, path) is False]
            if torn:
                raise Failed("pid %d does not append to %s: cutting it would tear it" % (torn[0].pid, path), "refused")
            who = _logs.account(record.get("user")) if os.geteuid() == 0 else _logs.account(None)
            work.end(i, "rotated", _logs.cut(path, int(action.get("keep", 5)), who), log=path)
        except Failed as error:
            work.end(i, error.outcome, str(error))
        except OSError as error:
            work.end(i, "refused", said(error))
