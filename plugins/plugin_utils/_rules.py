# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule table: what is to become of one component, decided by the first rule that has an answer. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _guards
from ansible_collections.sciops.sites.plugins.plugin_utils._fleet import Fleet, Maybe, Running
from ansible_collections.sciops.sites.plugins.plugin_utils._placement import some


@dataclass(slots=True)
class Case:
    """All that the rules look at for one component."""

    name: str
    spec: dict[str, Any]
    state: str
    low: int
    high: int
    running: list[Running]
    maybe: list[Maybe]
    extra: int
    fleet: Fleet
    number: int
    failed_here: frozenset[str]
    gates: dict[str, Any]


@dataclass(slots=True)
class Decision:
    """What the first rule that fits says: stop `none`, the `surplus` or `all`; how many to start; and why not more."""

    stop: str = "surplus"
    start: int = 0
    why: str = ""
    reason: str = ""
    stops: list[tuple[Running, str]] = field(default_factory=list)
    unstopped: int = 0
    unheard: int = 0
    placed: list[str] = field(default_factory=list)
    over_budget: int = 0
    #: Outdated instances that end so that others take over, and what is said of an update.
    rolled: list[tuple[Running, str]] = field(default_factory=list)
    rolling: str = ""


# -- the rules, in order; the first one that answers decides ------------------------------------------------------


def _set_aside(case: Case) -> Decision | None:
    if case.state != "set_aside":
        return None
    return Decision("none", why=f"set aside: {case.fleet.set_aside[case.name]}")


def _held(case: Case) -> Decision | None:
    held, _drained = case.fleet.holds.of_component(case.name)
    return Decision("none", why=held) if held else None


def _too_few_answers(case: Case) -> Decision | None:
    if case.state == "undeclared":
        return None
    words = _guards.component_quorum(case.fleet, case.spec)
    return Decision("none", why=words) if words else None


def _drained(case: Case) -> Decision | None:
    _held_text, drained = case.fleet.holds.of_component(case.name)
    return Decision("all", why=drained, reason=drained) if drained else None


def _absent(case: Case) -> Decision | None:
    return Decision("all", reason="declared absent") if case.state == "absent" else None


def _off(case: Case) -> Decision | None:
    return Decision("all", why="off: never started", reason="declared off") if case.state == "off" else None


def _undeclared(case: Case) -> Decision | None:
    if case.state != "undeclared":
        return None
    if case.fleet.policy.get("undeclared", "stop") == "stop":
        return Decision("all", why="not declared", reason="not declared any more")
    return Decision("none", why="not declared, left alone as the policy says")


def _enough(case: Case) -> Decision | None:
    return Decision() if len(case.running) + case.extra >= case.low else None


def singleton_in_doubt(case: Case) -> Decision | None:
    """A singleton that may run on a host that never answered."""
    if not case.spec.get("singleton"):
        return None
    silent = case.fleet.never_answered(case.spec)
    if not silent:
        return None
    return Decision(why=f"{some(silent)} never answered and may hold it")


def gate_closed(case: Case) -> Decision | None:
    """A gate of the component is closed, or nobody could read it."""
    for gate in case.spec.get("gates") or ():
        reading_ = case.gates.get(gate) or {"open": False, "reason": "no reading"}
        if not reading_.get("open"):
            return Decision(why=f"gate {gate} is closed: {reading_.get('reason') or 'no reason given'}")
    return None


def after_failures(case: Case) -> Decision | None:
    """The component as it is declared now failed lately."""
    entry = case.fleet.failure(case.name)
    allowed, words = _guards.backoff(entry, case.number, case.fleet.now, case.failed_here)
    if allowed is None:
        return None
    if allowed == 0:
        return Decision(why=words)
    missing = case.low - len(case.running) - case.extra
    level = int(entry["level"]) if entry else 0
    times = "a failure" if level == 1 else f"{level} failures"
    return Decision(
        start=1,
        why="" if missing == 1 else f"one at a time after {times}",
        reason=f"{len(case.running)} of {case.low} running, one try after {times}",
    )


def _missing(case: Case) -> Decision | None:
    missing = case.low - len(case.running) - case.extra
    return Decision(start=missing, reason=f"{len(case.running)} of {case.low} running, {missing} missing")


RULES: tuple[tuple[str, Callable[[Case], Decision | None]], ...] = (
    ("its declaration has a fault: touch nothing", _set_aside),
    ("somebody holds it: touch nothing", _held),
    ("too few of its hosts answered: touch nothing", _too_few_answers),
    ("somebody drains it: stop all", _drained),
    ("declared absent: stop all", _absent),
    ("declared off: stop all", _off),
    ("nobody declares it: stop all, or report", _undeclared),
    ("enough run or may run: stop what certainly is too many", _enough),
    ("a singleton that may run on a host that never answered: start nothing", singleton_in_doubt),
    ("a gate is closed: start nothing", gate_closed),
    ("it failed lately: wait, or try one", after_failures),
    ("some are missing: start them", _missing),
)


def decide(case: Case) -> Decision:
    """Apply the rule table to one component."""
    for _words, rule in RULES:
        decision = rule(case)
        if decision is not None:
            return decision
    raise AssertionError("the last rule always decides")
