# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling updates: which instances of an outdated version end now, so that others of the declared one take over. Pure.

Stopping makes room and nothing else: the replacement is what the rule table starts when the next plan finds one
missing. So an old instance is seen to be gone before a new one starts, and everything that keeps a start from happening
keeps an update from beginning.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _rules
from ansible_collections.sciops.sites.plugins.plugin_utils._fleet import Running, fits_class
from ansible_collections.sciops.sites.plugins.plugin_utils._placement import Placement
from ansible_collections.sciops.sites.plugins.plugin_utils._rules import Case, Decision


def choose(
    case: Case, decision: Decision, placement: Placement, *, stops: int, starts: int
) -> tuple[list[tuple[Running, str]], str]:
    """Return the outdated instances that are to end in this plan, each with its reason, and words for the table.

    `stops` and `starts` are what is left of the budgets: what ends must be startable again in the same pass. To be
    asked after everything else of the plan is chosen and placed.

    Of a component, `max_unavailable` instances may be missing, unhealthy or younger than their `healthy_after` because
    of an update. Outdated ones that are not healthy anyway count once they are stopped, and they go first.
    """
    stale = [one for one in case.running if one.stale]
    if not stale or case.state != "on" or decision.stop != "surplus" or not _is_complete(case, decision):
        return [], ""
    words = f"{len(stale)} to be replaced"
    wait = _wait(case)
    if wait:
        return [], f"{words}: {wait}"
    healthy = case.fleet.healthy_after(case.name)
    unproven = [one for one in case.running if not one.stale and not one.available(healthy)]
    room = int((case.spec.get("update") or {}).get("max_unavailable", 1)) - len(unproven)
    if room <= 0:
        verb = "is" if len(unproven) == 1 else "are"
        return [], f"{words}: waits until {len(unproven)} new {verb} healthy for {healthy:g} s"
    ill = sorted((one for one in stale if not one.available(healthy)), key=_worst)
    well = sorted((one for one in stale if one.available(healthy)), key=_worst)
    most = min(room, stops, starts)
    # what is ill is as good as missing, stopped or not
    spare = room - len(ill)
    picked: list[tuple[Running, str]] = []
    for one in [*ill, *well]:
        is_spare = one.available(healthy)
        if len(picked) >= most or (is_spare and spare <= 0):
            break
        if _may_end(case, placement, one):
            picked.append((one, one.stale))
            spare -= is_spare
    if picked:
        left = len(stale) - len(picked)
        return picked, f"{len(picked)} stopped to be replaced" + (f", {left} to follow" if left else "")
    if most <= 0:
        return [], f"{words}, the budget of {'stops' if stops <= 0 else 'starts'} is used up"
    return [], f"{words}, none can be stopped and started again now"


def _worst(one: Running) -> tuple[Any, ...]:
    """Order in which outdated instances go: those with a flaw, then the oldest; names break ties."""
    return not one.flaw, -one.age, one.host, one.slot or 0, one.pid


def _is_complete(case: Case, decision: Decision) -> bool:
    """Whether nothing else is to be done about the number of instances, so that a stop is followed by a start."""
    to_stop = decision.stops or decision.over_budget or decision.unstopped or decision.unheard
    return not to_stop and len(case.running) <= case.high and len(case.running) + case.extra >= case.low


def _wait(case: Case) -> str:
    """Say what would keep a replacement from being started, or make it one too few; "" where nothing does."""
    if case.extra:
        return "waits until it is known what runs"
    for rule in (_rules.singleton_in_doubt, _rules.gate_closed):
        decision = rule(case)
        if decision is not None:
            return decision.why
    if _rules.after_failures(case) is not None:
        return "waits after a failure until an instance has been healthy"
    return ""


def _may_end(case: Case, placement: Placement, one: Running) -> bool:
    """Whether an instance can be stopped now, and one more would find a place once it is gone."""
    host = case.fleet.hosts[one.host]
    if host.held or host.drained or one.launcher in host.silent:
        return False
    fits = host.declared and fits_class(case.spec, host.classes)
    return placement.takes_again(case.name, case.spec, host if fits else None, case.failed_here)
