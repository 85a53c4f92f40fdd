# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one pass leaves to the next: last known instances, starts in doubt, failures, the last good total. Pure.

Every function takes a memory and returns a new one; the one given is never changed. An empty memory is a first pass.
Beyond the shapes in docs/architecture.md a memory holds: `stopping`, `established` and `waits` (its manager did not run
it when it was seen) at an instance, `explained` in `last_good`, `since` in `foreign`, `at` and `tried` in a failure,
and `costs` (what instances of components that are no longer declared cost when they were). Versions, `proven` and
`rejected`, are _updates'.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _updates
from ansible_collections.sciops.sites.plugins.plugin_utils._fleet import DEFAULT_HEALTHY_AFTER, reading
from ansible_collections.sciops.sites.plugins.plugin_utils._guards import delay
from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import (
    PROCESS,
    is_up,
    launcher_for,
    was_ended,
)

VERSION = 1
Memory = dict[str, Any]


class UnknownMemoryError(ValueError):
    """The memory was written by another version or is no memory; the text says what to do."""


def empty() -> Memory:
    """Return the memory before the first pass."""
    return {
        "version": VERSION,
        "number": 0,
        "hosts": {},
        "pending": [],
        "failures": {},
        "last_good": None,
        "foreign": None,
        "holds": [],
        "costs": {},
        "restarts": {},
        "proven": {},
        "rejected": {},
    }


def view(memory: Memory | None) -> Memory:
    """Return a memory with every part present, sharing its parts with the one given: to read, not to change.

    Raises UnknownMemoryError where the version is not ours: guessing would forget what may still run.
    """
    fresh = empty()
    if not memory:
        return fresh
    version = memory.get("version", VERSION)
    if version != VERSION:
        raise UnknownMemoryError(
            f"memory: version: {version!r}: this release reads version {VERSION}; "
            "use the release that wrote it, or move the file away after making sure what runs"
        )
    fresh.update({key: value for key, value in memory.items() if value is not None})
    return fresh


def normalise(memory: Memory | None) -> Memory:
    """Return a complete copy of a memory in which parts may be missing. Raises UnknownMemoryError as `view` does."""
    fresh = view(memory)
    return {key: _copied(value) for key, value in fresh.items()}


def _copied(value: Any) -> Any:
    """Copy what JSON can hold; copy.deepcopy takes several times as long for ten thousand instances."""
    if isinstance(value, dict):
        return {key: _copied(one) if isinstance(one, (dict, list)) else one for key, one in value.items()}
    if isinstance(value, list):
        return [_copied(one) if isinstance(one, (dict, list)) else one for one in value]
    return value


def _identity(one: dict[str, Any]) -> tuple[Any, ...]:
    return ("token", one["token"]) if one.get("token") else ("pid", one.get("pid"), one.get("start"))


def _healthy_after(components: dict[str, Any], name: str) -> float:
    return float((components.get(name) or {}).get("healthy_after", DEFAULT_HEALTHY_AFTER))


def _fail(
    memory: Memory,
    declaration: dict[str, Any],
    name: str,
    host: str,
    now: float,
    *,
    last: str,
    new: bool,
    tail: list[str] | None = None,
    tried: bool = False,
) -> None:
    """Raise the level of a component by one failure on a host; `tried` says that it was a start in this pass.

    With `new` it speaks against the declared version: where there is a proven one, the declared one is rejected, and
    its level holds nothing up.
    """
    if (memory["failures"].get(name) or {}).get("rejected"):
        del memory["failures"][name]
    policy = declaration.get("policy") or {}
    entry = memory["failures"].setdefault(name, {"level": 0, "until": now, "hosts": {}})
    if tried:
        number = memory["number"]
        if (entry.get("tried") or {}).get("number") != number:
            entry["tried"] = {"number": number, "level": entry["level"], "hosts": []}
        if host not in entry["tried"]["hosts"]:
            entry["tried"]["hosts"].append(host)
    entry["level"] += 1
    entry["until"] = now + delay(entry["level"], policy)
    entry["at"] = now
    entry["last"] = last
    if tail is not None:
        entry["log_tail"] = tail[-20:]
    entry["hosts"][host] = now
    if new and _updates.reject(memory, declaration, name, last, now):
        entry["rejected"] = True


def _forgive(memory: Memory, name: str) -> None:
    """Forget the level of a component; on which hosts it failed lately stays known until that is old.

    What a rejected version did is told as long as it is rejected, whatever the proven one does.
    """
    entry = memory["failures"].get(name)
    if entry is not None and not entry.get("rejected"):
        entry["level"] = 0
        entry.pop("tried", None)


def _record(one: dict[str, Any], components: dict[str, Any], now: float, stopping: Any) -> dict[str, Any]:
    record = {
        "component": one["component"],
        "slot": one.get("slot"),
        "token": one.get("token"),
        "pid": one["pid"],
        "start": one.get("start"),
        "owned": bool(one.get("owned", True)),
        "since": now - one["age"],
    }
    record.update(_told(one))
    if not is_up(one.get("state")):
        record["waits"] = True
    if one["age"] >= _healthy_after(components, one["component"]):
        record["established"] = True
    if stopping is not None:
        record["stopping"] = stopping
    return record


def _told(one: dict[str, Any]) -> dict[str, Any]:
    """What tells versions apart, of an instance or an action; no word for the launcher process."""
    told = {key: one[key] for key in ("hash", "launcher") if one.get(key)}
    return {key: value for key, value in told.items() if value != PROCESS}


def _doubted(before: dict[str, Any] | None, row: dict[str, Any], now: float) -> dict[str, Any]:
    """Keep what was known of an instance that may still run; `doubt` is since when it is only possible."""
    if before is not None:
        return {**before, "doubt": before.get("doubt", now)}
    known = {"component": row["component"], "slot": row.get("slot"), "token": row["token"], "pid": 0, "start": None}
    return {**known, "owned": True, "since": now, **_told(row), "doubt": now}


def _told_by_others(memory: Memory, host: str, boot_id: str | None) -> set[tuple[Any, ...]]:
    """Name the processes of nobody in particular that another logical host of the same machine is remembered to run.

    Each is remembered once, as a plan counts it once: else a machine with three logical hosts would seem to have lost
    two thirds of them between one pass and the next.
    """
    return {
        (one["component"], *_identity(one))
        for name, known in memory["hosts"].items()
        if name != host and boot_id and known["boot_id"] == boot_id
        for one in known["instances"]
        if not one["owned"]
    }


def _look(memory: Memory, declaration: dict[str, Any], host: str, seen: dict[str, Any], now: float) -> None:
    """Take in what one host that answered runs, and explain what is gone since it was last seen."""
    components = declaration.get("components") or {}
    before = memory["hosts"].get(host) or {"seen": now, "boot_id": None, "instances": []}
    present = {_identity(one): one for one in seen["instances"]}
    possible = {_identity(one): one for one in seen.get("possible") or () if _identity(one) not in present}
    rebooted = bool(before["boot_id"] and seen.get("boot_id") and before["boot_id"] != seen["boot_id"])
    remembered = {_identity(one): one for one in before["instances"]}
    over = seen.get("over") or {}
    crashed: dict[str, bool] = {}
    explained = 0
    for identity, one in remembered.items():
        name = one["component"]
        if identity in possible:
            continue
        on = (components.get(name) or {}).get("state") == "on"
        ours = "stopping" in one
        # an instance that was only possible proves nothing by its absence
        judged = one["owned"] and on and not rebooted and not ours and "doubt" not in one
        young = before["seen"] - one["since"] < _healthy_after(components, name)
        new = judged and young and _updates.is_new(memory, declaration, name, host, one)
        if not rebooted and identity in present:
            # what its manager restarts is its manager's affair, but a new version must not need it
            process = one["pid"] and one["start"] and "waits" not in one
            again = process and one["start"] != present[identity].get("start")
            if new and again and _updates.may_reject(memory, declaration, name):
                crashed[name] = True
            # it is not lost: its successor, or what its manager restarted, is only young again
            explained += bool(one.get("established") and present[identity]["age"] < _healthy_after(components, name))
            continue
        if judged and young:
            crashed[name] = crashed.get(name, False) or new
        elif judged:
            _forgive(memory, name)
        failing = memory["failures"].get(name) or {}
        looping = failing.get("level", 0) > 0 and not failing.get("rejected")
        if one.get("established") and (rebooted or ours or looping or was_ended(over.get(one.get("token")))):
            explained += 1
    for name, new in sorted(crashed.items()):
        _fail(memory, declaration, name, host, now, last=f"ended on {host} soon after its start", new=new)
    if explained and memory["last_good"]:
        memory["last_good"]["explained"] = memory["last_good"].get("explained", 0) + explained
    elsewhere = _told_by_others(memory, host, seen.get("boot_id"))
    memory["hosts"][host] = {
        "seen": now,
        "boot_id": seen.get("boot_id"),
        "instances": [
            _record(one, components, now, (remembered.get(_identity(one)) or {}).get("stopping"))
            for one in seen["instances"]
            if one.get("owned", True) or (one["component"], *_identity(one)) not in elsewhere
        ]
        + [_doubted(remembered.get(identity), row, now) for identity, row in possible.items()],
    }
    for one in seen["instances"]:
        name = one["component"]
        healthy = one["age"] >= _healthy_after(components, name) and not one.get("health") and is_up(one.get("state"))
        if not healthy or not one.get("owned", True):
            continue
        _updates.prove(memory, declaration, name, host, one)
        entry = memory["failures"].get(name)
        # only a life that began after the failure proves that starting works again
        if entry and entry["level"] and now - one["age"] >= entry.get("at", now):
            _forgive(memory, name)


def _note_costs(memory: Memory, declaration: dict[str, Any]) -> None:
    components = declaration.get("components") or {}
    present = {one["component"] for known in memory["hosts"].values() for one in known["instances"]}
    costs = {name: cost for name, cost in memory["costs"].items() if name in present}
    for name in present:
        spec = components.get(name)
        if spec is not None:
            costs[name] = {key: spec.get(key) for key in ("load", "memory", "uses")}
    memory["costs"] = dict(sorted(costs.items()))


def _note_foreign(
    memory: Memory, declaration: dict[str, Any], answered: dict[str, Any], *, ours: str, now: float
) -> None:
    """Note which hosts could not be asked after another controller acted: it may have started anything there."""
    old = memory.get("foreign") or {}
    since = {host: at for host, at in (old.get("since") or {}).items() if host not in answered}
    holders = {(seen.get("fence") or {}).get("holder") for seen in answered.values()}
    others = sorted(str(holder) for holder in holders if holder not in (None, ours))
    if others:
        for host in sorted(declaration.get("hosts") or {}):
            if host not in answered:
                since.setdefault(host, now)
    memory["foreign"] = None
    if since:
        holder = ", ".join(others) or old.get("holder")
        memory["foreign"] = {"holder": holder, "hosts": sorted(since), "since": dict(sorted(since.items()))}


def _tidy(memory: Memory, declaration: dict[str, Any], now: float) -> None:
    """Drop what can no longer matter: failures of components that are gone, hosts that are gone, old hints."""
    components = declaration.get("components") or {}
    frozen = declaration.get("set_aside") or {}
    policy = declaration.get("policy") or {}
    longest = float(policy.get("backoff_max", 3600))
    for name in list(memory["failures"]):
        entry = memory["failures"][name]
        spec = components.get(name)
        entry["hosts"] = {host: at for host, at in entry["hosts"].items() if now - at < longest}
        gone = (spec is None and name not in frozen) or (spec is not None and spec["state"] == "absent")
        if gone or (not entry["level"] and not entry["hosts"]) or now - entry.get("at", now) > 2 * longest:
            del memory["failures"][name]
    _updates.tidy(memory, declaration)
    for host in sorted(set(memory["hosts"]) - set(declaration.get("hosts") or {})):
        known = memory["hosts"][host]
        kept = any((components.get(one["component"]) or {}).get("singleton") for one in known["instances"])
        if not known["instances"] or (not kept and now - known["seen"] > float(policy.get("lost_after", 3600))):
            if memory["last_good"]:
                lost = sum(1 for one in known["instances"] if one.get("established"))
                memory["last_good"]["explained"] = memory["last_good"].get("explained", 0) + lost
            del memory["hosts"][host]


def learn(
    memory: Memory | None,
    declaration: dict[str, Any],
    observations: dict[str, Any],
    now: float,
    holder: str | None = None,
) -> Memory:
    """Take in an observation of the fleet: last known instances, crashes, starts in doubt that are now decided.

    `now` is seconds on the steady timeline. `holder` is the name this controller writes into fences, the same in all
    its passes; by it the acts of another controller are recognised (without it they are not, and old notes stay).
    """
    fresh = normalise(memory)
    answered = {host: observations[host] for host in sorted(observations) if reading(observations[host])[0]}
    for host, seen in answered.items():
        _look(fresh, declaration, host, seen, now)
    fresh["pending"] = [one for one in fresh["pending"] if one["host"] not in answered]
    if holder is not None:
        _note_foreign(fresh, declaration, answered, ours=holder, now=now)
    _note_costs(fresh, declaration)
    _tidy(fresh, declaration, now)
    return fresh


def intend(memory: Memory | None, actions: list[dict[str, Any]], now: float) -> Memory:
    """Write down what is about to be done, before it is: a start may happen though its reply never arrives."""
    fresh = normalise(memory)
    stops: dict[str, set[tuple[Any, ...]]] = {}
    for action in actions:
        if action["kind"] == "start":
            fresh["pending"].append(
                {
                    "host": action["host"],
                    "component": action["component"],
                    "slot": action.get("slot"),
                    "token": action.get("token"),
                    "at": now,
                    **_told(action),
                }
            )
        elif action["kind"] == "stop":
            stops.setdefault(action["host"], set()).add(_identity(action))
    for host, gone in stops.items():
        boot_id = (fresh["hosts"].get(host) or {}).get("boot_id")
        for name, known in fresh["hosts"].items():
            # what carries no token may be remembered by another logical host of the same machine
            same = bool(boot_id) and known["boot_id"] == boot_id
            for one in known["instances"]:
                if _identity(one) in gone and (name == host or (same and not one["owned"])):
                    one["stopping"] = now
    return fresh


def conclude(
    memory: Memory | None,
    declaration: dict[str, Any],
    results: list[dict[str, Any]],
    observations: dict[str, Any],
    now: float,
) -> Memory:
    """Take in what became of the actions, and what the hosts said after them.

    A start with outcome `unknown` stays pending; `failed` raises the level of its component; a component in back-off
    that started waits until the new instance had time to prove itself. `observations` may hold all hosts or only the
    ones that changed; a host with an unknown outcome is not believed, whatever its observation says.
    """
    fresh = normalise(memory)
    components = declaration.get("components") or {}
    doubtful = {one["host"] for one in results if one["outcome"] == "unknown"}
    started: dict[str, list[dict[str, Any]]] = {}
    for one in results:
        if one["outcome"] == "unknown":
            continue
        if one["kind"] == "start":
            _settle(fresh, one)
            if one["outcome"] in ("started", "already"):
                started.setdefault(one["host"], []).append(one)
    for host in sorted(observations):
        if host not in doubtful and reading(observations[host])[0]:
            _look(fresh, declaration, host, observations[host], now)
            fresh["pending"] = [one for one in fresh["pending"] if one["host"] != host]
    for host, ones in started.items():
        _add_started(fresh, host, ones, now)
    for name in sorted({one["component"] for ones in started.values() for one in ones}):
        entry = fresh["failures"].get(name)
        if entry and entry["level"]:
            entry["until"] = max(entry["until"], now + _healthy_after(components, name))
    for one in results:
        if one["kind"] == "start" and one["outcome"] == "failed":
            last = one.get("message") or f"exit status {one.get('exit')}"
            tail = list(one.get("log_tail") or ())
            new = _updates.is_new(fresh, declaration, one["component"], one["host"], _started_as(one, declaration))
            _fail(
                fresh,
                declaration,
                one["component"],
                one["host"],
                now,
                last=str(last),
                new=new,
                tail=tail,
                tried=True,
            )
    _note_costs(fresh, declaration)
    _tidy(fresh, declaration, now)
    return fresh


def _started_as(result: dict[str, Any], declaration: dict[str, Any]) -> dict[str, Any]:
    """The version that a start was of: what its action says, else what was declared."""
    if result.get("hash"):
        return result
    spec = (declaration.get("components") or {}).get(result["component"]) or {}
    host = (declaration.get("hosts") or {}).get(result["host"])
    return {"hash": spec.get("hash"), "launcher": launcher_for(spec, host)}


def _settle(memory: Memory, result: dict[str, Any]) -> None:
    """Remove the one pending start that a result decides."""
    for at, one in enumerate(memory["pending"]):
        if all(one.get(key) == result.get(key) for key in ("host", "component", "slot")):
            del memory["pending"][at]
            return


def _add_started(memory: Memory, host: str, results: list[dict[str, Any]], now: float) -> None:
    """Remember a start even where the observation after it is missing or no longer shows it: then it is a crash."""
    known = memory["hosts"].setdefault(host, {"seen": now, "boot_id": None, "instances": []})
    present = {_identity(one) for one in known["instances"]}
    for one in results:
        if _identity(one) not in present and (one.get("token") or one.get("pid")):
            known["instances"].append(
                {
                    "component": one["component"],
                    "slot": one.get("slot"),
                    "token": one.get("token"),
                    "pid": one.get("pid") or 0,
                    "start": one.get("start"),
                    "owned": True,
                    "since": now,
                    **_told(one),
                }
            )
            present.add(_identity(one))


def launchers(memory: Memory, host: str) -> set[str]:
    """Return the launchers, process apart, of what is remembered on a host and of starts there that are in doubt."""
    known = (memory.get("hosts") or {}).get(host) or {}
    doubt = [one for one in memory.get("pending") or () if one["host"] == host]
    return {str(one["launcher"]) for one in [*known.get("instances", ()), *doubt] if one.get("launcher")}


def note_good(memory: Memory | None, plan: dict[str, Any], now: float) -> Memory:
    """Remember the number of established instances after a pass whose verdict was ok: the cliff guard's measure."""
    fresh = normalise(memory)
    if plan.get("verdict") == "ok":
        total = sum(1 for known in fresh["hosts"].values() for one in known["instances"] if one.get("established"))
        fresh["last_good"] = {"at": now, "established": total, "explained": 0}
    return fresh
