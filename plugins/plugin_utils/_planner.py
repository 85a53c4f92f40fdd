# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner: what is declared and what was seen go in, an ordered list of actions with reasons comes out.

Pure: no clock, no randomness, no I/O; the same input gives the same bytes. It reads from top to bottom: `plan` asks the
guards, lets the first rule that fits decide about each component, turns the wishes into stops and starts within limits
and budgets, and says in words what could not be done. docs/planning.md tells the same to operators.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _guards, _memory, _rolling
from ansible_collections.sciops.sites.plugins.plugin_utils._fleet import Fleet, Running, reading
from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import PROCESS
from ansible_collections.sciops.sites.plugins.plugin_utils._placement import Placement, some
from ansible_collections.sciops.sites.plugins.plugin_utils._rules import Case, Decision, decide

Action = dict[str, Any]


# -- the plan ---------------------------------------------------------------------------------------------------------


def plan(
    declaration: dict[str, Any],
    observations: dict[str, Any],
    memory: dict[str, Any] | None,
    now: float,
    spent: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the plan for one fleet state, in the shape that docs/architecture.md gives.

    `memory` is the memory after `learn`; `now` is in seconds on its timeline. `spent` is what this pass used before.
    `options` are what a person allowed for this pass, and beside it
    `halt` {by, reason}: the kill switch;
    `gates` {name: {open, reason}}: what was read of the gates, a gate without a reading is closed;
    `holds`: those in force; without it the declared and remembered ones, as far as `unix_time` is not past their end;
    `starts_per_component`: at most so many starts of each;
    `each_host`: add `refusals`, a word for each host, to components of which not all could be placed.

    Raises UnknownMemoryError for a memory of another version.
    """
    allowed = options or {}
    used = spent or {}
    known = _memory.view(memory)
    fleet = Fleet(declaration, observations, known, now, allowed)
    cases = _cases(fleet, used, allowed)

    verdict, why = "ok", _guards.halted(fleet, allowed)
    if why:
        verdict = "halted"
    else:
        why = _guards.site_quorum(fleet) or _guards.collapse(fleet, allowed)
        if why:
            verdict = "unsafe"
    decisions = {case.name: decide(case) for case in cases} if verdict == "ok" else {}
    if verdict == "ok":
        _choose_stops(fleet, cases, decisions)
        why = _guards.mass_stop(fleet, sum(len(one.stops) for one in decisions.values()), allowed)
        if why:
            verdict, decisions = "unsafe", {}

    placement = _placement(declaration, fleet)
    actions: list[Action] = []
    if verdict == "ok":
        actions += _stops(fleet, cases, decisions, used)
        actions += _starts(fleet, cases, decisions, placement, spent=used, options=allowed)
        actions += _rolls(fleet, cases, decisions, placement, spent=used)
        actions += _care(fleet, cases, decisions)
    return {
        "site": declaration.get("site"),
        "deployment": declaration.get("deployment"),
        "number": known["number"],
        "at": now,
        "verdict": verdict,
        "why": why,
        "basis": basis(declaration, observations, known, allowed.get("holds"), allowed.get("gates")),
        "actions": actions,
        "components": _components(cases, decisions, placement, why, each_host=bool(allowed.get("each_host"))),
        "hosts": _hosts(fleet),
        "set_aside": dict(sorted(fleet.set_aside.items())),
        "notes": sorted(fleet.notes),
    }


def _cases(fleet: Fleet, spent: dict[str, Any], options: dict[str, Any]) -> list[Case]:
    """One case for each component that is declared, set aside, or seen; in declared order, unknown names last."""
    number = fleet.memory["number"]
    failed: dict[str, set[str]] = {}
    for component, host in [*(spent.get("failed_here") or ()), *(options.get("failed_here") or ())]:
        failed.setdefault(component, set()).add(host)
    for name, entry in fleet.memory["failures"].items():
        if not entry.get("rejected") and (entry.get("tried") or {}).get("number") == number:
            failed.setdefault(name, set()).update(entry["tried"]["hosts"])
    seen = set(fleet.certain) | set(fleet.maybe)
    names = set(fleet.components) | set(fleet.set_aside) | seen
    cases = []
    for name in sorted(names, key=lambda one: (fleet.components.get(one, {}).get("order", 1 << 30), one)):
        spec = fleet.components.get(name)
        state = "set_aside" if name in fleet.set_aside else "undeclared" if spec is None else str(spec["state"])
        if state == "absent" and name not in seen:
            continue
        count = spec["count"] if spec and state == "on" else {"min": 0, "max": 0}
        cases.append(
            Case(
                name=name,
                spec=spec or {},
                state=state,
                low=int(count["min"]),
                high=int(count["max"]),
                running=fleet.certain.get(name, []),
                maybe=fleet.maybe.get(name, []),
                extra=fleet.beyond(name),
                fleet=fleet,
                number=number,
                failed_here=frozenset(failed.get(name, ())),
                gates=options.get("gates") or {},
            )
        )
    return cases


def _placement(declaration: dict[str, Any], fleet: Fleet) -> Placement:
    used: dict[str, float] = {}
    for name in sorted(set(fleet.certain) | set(fleet.maybe)):
        total = len(fleet.certain.get(name, ())) + fleet.beyond(name)
        for limit, amount in fleet.cost(name)["uses"].items():
            used[limit] = used.get(limit, 0) + amount * total
    limits = declaration.get("shared_limits") or {}
    return Placement(fleet, str(fleet.policy.get("placement", "spread")), limits, used)


# -- stops ------------------------------------------------------------------------------------------------------------


def _choose_stops(fleet: Fleet, cases: list[Case], decisions: dict[str, Decision]) -> None:
    """Decide which instances are to go, all of them: the budget comes later, the stop guard looks at the whole wish."""
    relief: dict[str, list[float]] = {}
    for case in cases:
        decision = decisions[case.name]
        if decision.stop == "none":
            continue
        adopt = case.spec.get("adopt", True)
        mine = [one for one in case.running if (one.owned or adopt) and not fleet.hosts[one.host].held]
        heard = [one for one in mine if one.launcher not in fleet.hosts[one.host].silent]
        if decision.stop == "all":
            picked = _worst_first(fleet, heard, len(heard), relief)
            decision.stops = [(one, decision.reason) for one in picked]
            decision.unstopped = len(case.running) - len(picked)
            continue
        # what leaves a drained host does so once its manager answers; no other one is to end in its place
        leaving = [one for one in heard if fleet.hosts[one.host].drained]
        staying = [one for one in heard if not fleet.hosts[one.host].drained]
        first = _worst_first(fleet, leaving, len(leaving), relief)
        decision.stops = [(one, f"{one.host} is {fleet.hosts[one.host].drained}") for one in first]
        decision.unheard = sum(1 for one in mine if fleet.hosts[one.host].drained) - len(leaving)
        surplus = len(case.running) - len(leaving) - decision.unheard - case.high
        if surplus > 0:
            words = f"{len(case.running)} running, {case.high} wanted"
            picked = _worst_first(fleet, staying, surplus, relief)
            decision.stops += [(one, words) for one in picked]
            decision.unstopped = surplus - len(picked)


def _worst_first(fleet: Fleet, running: list[Running], most: int, relief: dict[str, list[float]]) -> list[Running]:
    """Choose whom to stop: unhealthy, then outdated or without a leader, then our own, from the fullest host, newest.

    `relief` holds what was taken from each host by earlier choices, so that one host is not emptied for another.
    """

    def fullness(host: str) -> tuple[float, float]:
        load, count = relief.get(host, (0.0, 0.0))
        return load - fleet.hosts[host].load, count - fleet.hosts[host].count

    groups: dict[Any, list[Running]] = {}
    for one in running:
        rank = (not one.flaw, not one.stale and one.leader, not one.owned)
        groups.setdefault((rank, one.host), []).append(one)
    for group in groups.values():
        group.sort(key=lambda one: (one.age, one.pid), reverse=True)
    heap = [(rank, fullness(host), group[-1].age, host) for (rank, host), group in groups.items()]
    heapq.heapify(heap)
    picked: list[Running] = []
    while heap and len(picked) < most:
        rank, full, _age, host = heapq.heappop(heap)
        group = groups[rank, host]
        if full == fullness(host):
            one = group.pop()
            picked.append(one)
            had = relief.setdefault(host, [0.0, 0.0])
            had[0] += fleet.cost(one.component)["load"]
            had[1] += 1
        if group:
            heapq.heappush(heap, (rank, fullness(host), group[-1].age, host))
    return picked


def _stops(fleet: Fleet, cases: list[Case], decisions: dict[str, Decision], spent: dict[str, Any]) -> list[Action]:
    left = max(0, int(fleet.policy.get("stop_budget", 10)) - int(spent.get("stops", 0)))
    actions = []
    for case in cases:
        decision = decisions[case.name]
        decision.over_budget = max(0, len(decision.stops) - left)
        decision.stops = decision.stops[:left]
        left -= len(decision.stops)
        actions += [_stop(one, reason) for one, reason in decision.stops]
    return actions


def _stop(one: Running, reason: str) -> Action:
    action = {
        "kind": "stop",
        "host": one.host,
        "component": one.component,
        "slot": one.slot,
        "token": one.token,
        "pid": one.pid,
        "start": one.start,
    }
    return {**action, **_managed(one), "reason": reason}


def _managed(one: Running) -> dict[str, str]:
    return {} if one.launcher == PROCESS else {"launcher": one.launcher}


def _rolls(
    fleet: Fleet, cases: list[Case], decisions: dict[str, Decision], placement: Placement, *, spent: dict[str, Any]
) -> list[Action]:
    """Stop outdated instances, as far as all else that the plan does leaves of the budgets."""
    stops = int(fleet.policy.get("stop_budget", 10)) - int(spent.get("stops", 0))
    stops -= sum(len(one.stops) for one in decisions.values())
    starts = int(fleet.policy.get("start_budget", 100)) - int(spent.get("starts", 0))
    starts -= sum(len(one.placed) for one in decisions.values())
    actions = []
    for case in cases:
        decision = decisions[case.name]
        decision.rolled, decision.rolling = _rolling.choose(case, decision, placement, stops=stops, starts=starts)
        stops, starts = stops - len(decision.rolled), starts - len(decision.rolled)
        actions += [{**_stop(one, reason), "roll": True} for one, reason in decision.rolled]
    return actions


# -- starts -----------------------------------------------------------------------------------------------------------


def _starts(
    fleet: Fleet,
    cases: list[Case],
    decisions: dict[str, Decision],
    placement: Placement,
    *,
    spent: dict[str, Any],
    options: dict[str, Any],
) -> list[Action]:
    """Place what is missing, the highest priority first. Room that this plan's stops make is not used before it exists.

    A stop may fail, and a limit must hold after each action, so freed room counts only once it was seen to be free.
    """
    left = max(0, int(fleet.policy.get("start_budget", 100)) - int(spent.get("starts", 0)))
    each = options.get("starts_per_component")
    actions = []
    for case in sorted(cases, key=lambda one: -int(one.spec.get("priority") or 0)):
        decision = decisions[case.name]
        wanted = decision.start if each is None else min(decision.start, int(each))
        now = min(wanted, left)
        if now <= 0:
            continue
        entry = fleet.failure(case.name) or {}
        doubtful = frozenset(entry.get("hosts") or ())
        decision.placed = placement.fill(case.name, case.spec, now, case.failed_here, doubtful)
        left -= len(decision.placed)
        taken = {one.slot for one in case.running} | {slot for one in case.maybe for slot in one.slots}
        free = (slot for slot in range(1, case.high + 1) if slot not in taken)
        for host, slot in zip(decision.placed, free, strict=False):
            actions.append(
                {"kind": "start", "host": host, "component": case.name, "slot": slot, "reason": decision.reason}
            )
    return actions


def _care(fleet: Fleet, cases: list[Case], decisions: dict[str, Decision]) -> list[Action]:
    """Rotate logs that are too long, and queue the successors of what will end: both change no count."""
    actions = []
    for case in cases:
        decision = decisions[case.name]
        if decision.stop == "none":
            continue
        most = (case.spec.get("log") or {}).get("max_bytes")
        ending = {id(one) for one, _reason in (*decision.stops, *decision.rolled)}
        for one in sorted(case.running, key=lambda one: (one.host, one.slot or 0, one.pid)):
            if not one.owned or id(one) in ending or fleet.hosts[one.host].held:
                continue
            who = {"host": one.host, "component": case.name, "slot": one.slot, "token": one.token, **_managed(one)}
            if most is not None and one.log and one.log_size is not None and one.log_size > most:
                reason = f"log has {one.log_size:g} bytes, {most:g} allowed"
                actions.append({"kind": "rotate", **who, "log": one.log, "reason": reason})
            if one.renew and decision.stop == "surplus" and not fleet.hosts[one.host].drained:
                actions.append({"kind": "renew", **who, "reason": one.renew})
    return actions


# -- telling ----------------------------------------------------------------------------------------------------------


def _components(
    cases: list[Case], decisions: dict[str, Decision], placement: Placement, stopped: str, *, each_host: bool
) -> dict[str, dict[str, Any]]:
    found = {}
    for case in cases:
        decision = decisions.get(case.name) or Decision("none", why=stopped)
        where: dict[str, int] = {}
        for one in case.running:
            where[one.host] = where.get(one.host, 0) + 1
        after = len(case.running) - len(decision.stops) - len(decision.rolled) + len(decision.placed)
        reverted = case.spec.get("reverted")
        failure = case.fleet.memory["failures"].get(case.name)
        found[case.name] = {
            "state": case.state,
            "wanted": [case.low, case.high],
            "certain": len(case.running),
            "possible": len(case.running) + case.extra,
            "after": after,
            "where": dict(sorted(where.items())),
            "unhealthy": sum(1 for one in case.running if one.flaw),
            "flaw": next((one.flaw for one in case.running if one.flaw), ""),
            "stale": sum(1 for one in case.running if one.stale),
            "oldest": max((one.age for one in case.running), default=None),
            "missing": max(0, case.low - after),
            "why": _why(case, decision, placement, after),
            "failure": _failure(failure) if failure and failure.get("level") else None,
            "reverted": {key: reverted[key] for key in ("hash", "to", "why")} if reverted else None,
        }
        if each_host and decision.start > len(decision.placed):
            found[case.name]["refusals"] = placement.refusals(case.name, case.spec, case.failed_here)
    return found


def _failure(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what a table and a monitor need of a remembered failure, keys in a fixed order."""
    keys = ("level", "until", "at", "last", "log_tail")
    return {**{key: entry[key] for key in keys if key in entry}, "hosts": dict(sorted(entry["hosts"].items()))}


def _why(case: Case, decision: Decision, placement: Placement, after: int) -> str:
    """Say in an operator's words why a component is not, or may not be, as wanted; "" where it is."""
    parts = [(case.spec.get("reverted") or {}).get("words", ""), decision.why]
    unplaced = decision.start - len(decision.placed)
    if unplaced > 0:
        parts += placement.explain(case.name, case.spec, case.failed_here) or ["budget of starts is used up"]
    for word in sorted({one.why for one in case.maybe}):
        hosts = [one for one in case.maybe if one.why == word]
        total = sum(one.count for one in hosts)
        parts.append(f"{total} possibly running on {some(one.host for one in hosts)} ({word})")
    parts.append(decision.rolling)
    if decision.over_budget:
        parts.append(f"{decision.over_budget} more to stop, the budget of stops is used up")
    if decision.unheard:
        parts.append(f"{decision.unheard} to leave drained hosts once their manager answers")
    if decision.unstopped:
        silent = any(one.launcher in case.fleet.hosts[one.host].silent for one in case.running)
        words = "held, not ours to stop, or their manager does not answer" if silent else "held or not ours to stop"
        parts.append(f"{decision.unstopped} more than wanted, {words}")
    said = "; ".join(part for part in parts if part)
    return f"{after} of {case.low}: {said or 'not started in this pass'}" if after < case.low else said


def _hosts(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """Describe each host; `load` and `instances` are the highest that the plan leads to."""
    found = {}
    for host in fleet.hosts.values():
        if not host.answered:
            state, why = "unknown", host.why
        elif host.held:
            state, why = "held", host.held
        elif host.drained:
            state, why = "drained", host.drained
        else:
            state, why = "answered", ""
        load, count = host.load, host.count
        if not host.answered:
            known = (fleet.memory["hosts"].get(host.name) or {}).get("instances", ())
            load, count = sum(fleet.cost(one["component"])["load"] for one in known), len(known)
        found[host.name] = {
            "state": state,
            "why": why,
            "load": round(load, 6),
            "hot_limit": host.hot_limit,
            "instances": count,
            "problems": list(host.problems),
        }
    return found


# -- what a plan stands on --------------------------------------------------------------------------------------------


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)


def _digest(value: Any) -> str:
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()[:12]


def basis(
    declaration: dict[str, Any],
    observations: dict[str, Any],
    memory: dict[str, Any] | None,
    holds: list[dict[str, Any]] | None = None,
    gates: dict[str, Any] | None = None,
) -> dict[str, str]:
    """Return {part: digest} of all that a plan depends on and that must be the same when it is applied later.

    Identities count; ages, CPU, loads and the pass number do not, since they change while nothing happens. `holds` are
    those in force; without it the declared and the remembered ones. Of `gates` (as in the options of `plan`) those
    count that something asks which is on.
    """
    known = _memory.view(memory)
    parts = {"declaration": _digest({key: value for key, value in declaration.items() if key != "holds"})}
    if holds is None:
        holds = [*(declaration.get("holds") or ()), *known["holds"]]
    parts["holds"] = _digest(sorted(holds, key=lambda one: json.dumps(one, sort_keys=True, default=str)))
    parts["failures"] = _digest({name: entry["level"] for name, entry in known["failures"].items() if entry["level"]})
    parts["starts in doubt"] = _digest(
        sorted([one["host"], one["component"], str(one.get("slot")), str(one.get("token"))] for one in known["pending"])
    )
    on = [one for one in (declaration.get("components") or {}).values() if one.get("state") == "on"]
    for gate in sorted({gate for one in on for gate in one.get("gates") or ()}):
        parts[f"gate {gate}"] = _digest(bool(((gates or {}).get(gate) or {}).get("open")))
    parts["another controller"] = _digest((known["foreign"] or {}).get("hosts") or [])
    for name in sorted(set(observations) | set(known["hosts"]) | set(declaration.get("hosts") or {})):
        seen = observations.get(name)
        if isinstance(seen, dict) and reading(seen)[0]:
            here: Any = [seen.get("boot_id"), _identities(seen["instances"])]
            if seen.get("possible") or seen.get("silent"):
                here += [sorted(one["token"] for one in seen.get("possible") or ()), sorted(seen.get("silent") or ())]
        else:
            here = ["unknown", _identities((known["hosts"].get(name) or {"instances": []})["instances"])]
        parts[f"host {name}"] = _digest(here)
    return parts


def _identities(instances: list[dict[str, Any]]) -> list[str]:
    return sorted(
        f"{one['component']} {one.get('slot')} {one.get('token')} {one.get('pid')} {one.get('start')}"
        for one in instances
    )


def basis_changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Name what changed between the states that two plans were made from; empty where a saved plan still holds."""
    words = []
    for part in sorted(set(old) | set(new)):
        if part not in new:
            words.append(f"{part} is gone")
        elif part not in old:
            words.append(f"{part} is new")
        elif old[part] != new[part]:
            words.append(f"{part} changed")
    return words
