# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stops a whole pass, or a component in it: halt, quorum, collapse, mass stop, back-off. Pure.

Each guard returns words for the operator, or "" where it has nothing to say. A guard that speaks wins over every wish.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._fleet import Fleet
from ansible_collections.sciops.sites.plugins.plugin_utils._placement import some

# A component that was healthy may go on to another host within one pass after a failure, but not through the whole
# fleet: what fails on three hosts in a row is not the host's fault.
MOST_HOSTS_TRIED = 3
BACKOFF_FACTOR = 3
# Beyond this level every delay is the longest one anyhow; without a bound 3 ** level would grow for ever.
HIGHEST_LEVEL = 40


def delay(level: int, policy: dict[str, Any]) -> float:
    """Seconds to wait after failure number `level` (1 and up): 10 s, 30 s, 90 s .. up to an hour by default."""
    shortest, longest = float(policy.get("backoff_min", 10)), float(policy.get("backoff_max", 3600))
    return min(longest, float(shortest * BACKOFF_FACTOR ** (min(level, HIGHEST_LEVEL) - 1)))


def halted(fleet: Fleet, options: dict[str, Any]) -> str:
    """Kill switch, or a hold of the whole site."""
    halt = options.get("halt")
    if halt:
        by = halt.get("by") or "nobody named"
        return f"halted by {by}" + (f": {halt['reason']}" if halt.get("reason") else "")
    return fleet.holds.halted


def below_quorum(answered: int, asked: int, quorum: float) -> bool:
    """Whether too few answered: not more than the fraction `quorum` of those asked. 0 asks for nobody."""
    return quorum > 0 and asked > 0 and answered < asked and not answered > quorum * asked


def site_quorum(fleet: Fleet) -> str:
    """Answers of the site's declared hosts.

    Hosts outside --limit that were seen within lost_after do not count against it: a person left them out, and what
    runs there is known well enough. Never seen ones do.
    """
    quorum = float(fleet.policy.get("quorum", 0.5))
    answered, silent = 0, []
    for host in fleet.hosts.values():
        if not host.declared:
            continue
        if host.answered:
            answered += 1
        elif not _left_out(fleet, host.name):
            silent.append(host.name)
    if not below_quorum(answered, answered + len(silent), quorum):
        return ""
    return (
        f"{answered} of {answered + len(silent)} hosts answered, the quorum is more than {quorum:.0%}: "
        f"{some(silent)} did not"
    )


def component_quorum(fleet: Fleet, spec: dict[str, Any]) -> str:
    """Answers of the hosts on which the component may run."""
    hosts = fleet.eligible(spec)
    answered = sum(1 for host in hosts if host.answered)
    silent = [host.name for host in hosts if not host.answered and not _left_out(fleet, host.name)]
    quorum = float(fleet.policy.get("quorum", 0.5))
    if not below_quorum(answered, answered + len(silent), quorum):
        return ""
    return f"{answered} of {answered + len(silent)} eligible hosts answered, too few to act: {some(silent)} did not"


def _left_out(fleet: Fleet, name: str) -> bool:
    if fleet.limit is None or name in fleet.limit:
        return False
    known = fleet.memory["hosts"].get(name)
    return known is not None and fleet.now - known["seen"] <= fleet.lost_after


def established(fleet: Fleet) -> int:
    """How many instances are past their `healthy_after`; on hosts that do not answer, as last seen."""
    total = sum(1 for name, running in fleet.certain.items() for one in running if one.age >= fleet.healthy_after(name))
    return total + fleet.established_elsewhere


def collapse(fleet: Fleet, options: dict[str, Any]) -> str:
    """Cliff guard: too many established instances are gone since the last good pass, and nothing explains it."""
    good = fleet.memory.get("last_good") or {}
    before = int(good.get("established", 0)) - int(good.get("explained", 0))
    if int(good.get("established", 0)) < int(fleet.policy.get("cliff_floor", 6)):
        return ""
    left = established(fleet)
    if before - left <= float(fleet.policy.get("cliff", 0.5)) * good["established"]:
        return ""
    words = f"{left} of {before} established instances are left since the last good pass, and nothing explains it"
    if options.get("accept_collapse"):
        fleet.notes.append(f"{words}; accepted by {options.get('by') or 'nobody named'}")
        return ""
    return f"{words}; look at the hosts, then accept the collapse for one pass"


def mass_stop(fleet: Fleet, wanted_stops: int, options: dict[str, Any]) -> str:
    """Stop guard: the declaration would end too large a part of what runs."""
    total = sum(len(running) for running in fleet.certain.values())
    budget = int(fleet.policy.get("stop_budget", 10))
    if wanted_stops <= budget or wanted_stops <= float(fleet.policy.get("stop_guard", 0.5)) * total:
        return ""
    words = f"the declaration would stop {wanted_stops} of {total}"
    if options.get("lift_stop_guard"):
        fleet.notes.append(f"{words}; allowed by {options.get('by') or 'nobody named'}, {budget} in each pass")
        return ""
    return f"{words}; if that is meant, lift the stop guard for one pass"


def backoff(
    entry: dict[str, Any] | None, number: int, now: float, failed_here: frozenset[str]
) -> tuple[int | None, str]:
    """Say how many instances a component that failed lately may start now.

    Returns (None, "") without a bound, (1, "") for a single probe after the wait, (0, words) while it waits.
    """
    level = int(entry["level"]) if entry else 0
    if entry is None or level == 0:
        return None, ""
    tried = entry.get("tried") or {}
    if tried.get("number") == number and tried.get("level") == 0:
        if len(failed_here) < MOST_HOSTS_TRIED:
            return None, ""
    elif now >= entry["until"]:
        return 1, ""
    if now < entry["until"]:
        wait = f"next try in {entry['until'] - now:.0f} s"
        times = "once" if level == 1 else f"{level} times"
        return 0, f"failed {times}, {wait}; last: {entry.get('last') or 'unknown'}"
    return 0, f"failed on {some(sorted(failed_here))} in this pass; last: {entry.get('last') or 'unknown'}"
