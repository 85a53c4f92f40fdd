# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where one more instance may go, and in words why it may go nowhere. Pure.

A profile is what matters of a component to a host: its eligible hosts, its load and its memory. Each profile has one
heap of hosts, best first. Within one plan a host only fills up, so a host that is too full for a profile leaves that
heap for good: the cost is the number of instances placed, not hosts times components.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._fleet import Fleet, Host, signature
from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import normal

# Loads are sums of decimal fractions; without a tolerance 0.1 * 3 would not fit into 0.3.
EPSILON = 1e-9

# short word of a refusal -> how a table says it of several hosts
PHRASES = {
    "hot limit": "hot limit reached on {}",
    "memory": "not enough memory on {}",
    "memory unknown": "size of memory not known on {}",
    "instance limit": "instance limit reached on {}",
    "load average": "load average too high on {}",
    "load average unknown": "load average not known on {}",
    "per-host maximum": "per-host maximum reached on {}",
    "drained": "{} drained",
    "held": "{} held",
    "failed here": "failed in this pass on {}",
    "down": "{} did not answer",
    "unknown": "{} did not answer",
}


def some(names: Iterable[str], most: int = 5) -> str:
    """Join names for a sentence; beyond `most` only their number is told."""
    listed = list(names)
    if len(listed) <= most:
        return ", ".join(listed)
    return ", ".join(listed[:most]) + f" and {len(listed) - most} more"


def refuses(host: Host, load: float, memory: float) -> str:
    """Return the short word why the host itself takes no instance of this cost, "" where it does."""
    if not host.answered:
        return "down" if host.kind == "unreachable" else "unknown"
    if host.held:
        return "held"
    if host.drained:
        return "drained"
    if load > 0 and host.hot_limit is not None and host.load + load > host.hot_limit + EPSILON:
        return "hot limit"
    if memory > 0 and host.memory is None:
        return "memory unknown"
    if memory > 0 and host.memory is not None and host.used + memory > host.memory + EPSILON:
        return "memory"
    if host.max_instances is not None and host.count >= host.max_instances:
        return "instance limit"
    if host.max_load is not None:
        if host.busy is None:
            return "load average unknown"
        if host.busy + load > host.max_load + EPSILON:
            return "load average"
    return ""


class _Heap:
    """Hosts of one profile, best first; entries are checked against the host's present key when they come up."""

    def __init__(self, hosts: list[Host], load: float, cursor: int) -> None:
        self.members = {host.name: host for host in hosts}
        self.load = load
        self.entries: list[tuple[Any, ...]] = []
        self.cursor = cursor


class Placement:
    """Chooses hosts for instances, one component after the other, and keeps every limit while doing so."""

    def __init__(self, fleet: Fleet, policy: str, limits: Mapping[str, float], used: Mapping[str, float]) -> None:
        self._fleet = fleet
        self._pack = policy == "pack"
        self._limits = limits
        self._used = dict(used)
        self._heaps: dict[Any, _Heap] = {}
        self._changes: list[Host] = []
        self._refused: dict[Any, list[tuple[str, Host]]] = {}
        self._elsewhere: dict[str, bool] = {}
        self._any_silent = any(host.silent for host in fleet.hosts.values())
        self.steps = 0

    def _key(self, host: Host, load: float) -> tuple[Any, ...]:
        """Order of preference, by free load, for what costs no load by number of instances.

        A host without a hot limit ranks as if its cores were the limit. The name, not the place in a list, breaks ties.
        """
        room = (host.hot_limit if host.hot_limit is not None else host.cores) - host.load
        first, second = (-room, float(host.count)) if load > 0 else (float(host.count), -room)
        return (-first, -second, host.name) if self._pack else (first, second, host.name)

    def _profile(self, spec: dict[str, Any], load: float, memory: float) -> tuple[Any, ...]:
        """Return the key of what matters of a component to hosts; its launcher, only where some manager is silent."""
        launchers = tuple(sorted(normal(spec.get("launcher")).items())) if self._any_silent else ()
        return signature(spec), load, memory, launchers

    def _heap(self, spec: dict[str, Any], load: float, memory: float) -> _Heap:
        profile = self._profile(spec, load, memory)
        heap = self._heaps.get(profile)
        if heap is None:
            hosts = [host for host in self._fleet.eligible(spec) if host.usable and not self._fleet.silence(spec, host)]
            heap = _Heap(hosts, load, len(self._changes))
            heap.entries = [self._key(host, load) for host in hosts]
            heapq.heapify(heap.entries)
            self._heaps[profile] = heap
        return heap

    def _next(self, heap: _Heap) -> Host | None:
        """Take the best host off the heap; outdated entries are thrown away, since a change pushed a new one."""
        while heap.cursor < len(self._changes):
            host = self._changes[heap.cursor]
            heap.cursor += 1
            if host.name in heap.members:
                heapq.heappush(heap.entries, self._key(host, heap.load))
        while heap.entries:
            self.steps += 1
            entry = heapq.heappop(heap.entries)
            host = heap.members[entry[-1]]
            if entry == self._key(host, heap.load):
                return host
        return None

    def short_of(self, spec: dict[str, Any]) -> str:
        """Return the words of the shared limit that lets no further instance of the component start, "" if none."""
        for name, amount in sorted((spec.get("uses") or {}).items()):
            limit = self._limits.get(name)
            if limit is None:
                return f"shared limit {name} is not declared"
            used = self._used.get(name, 0)
            if used + amount > limit + EPSILON:
                return f"shared limit {name}: {used:g} of {limit:g} in use"
        return ""

    def fill(
        self, name: str, spec: dict[str, Any], wanted: int, excluded: frozenset[str], doubtful: frozenset[str]
    ) -> list[str]:
        """Place up to `wanted` instances; return their hosts in order.

        `excluded` hosts get none; `doubtful` ones (a recent failure) only where no other host takes it.
        """
        load, memory = float(spec.get("load") or 0.0), float(spec.get("memory") or 0.0)
        most = spec.get("max_per_host")
        heap = self._heap(spec, load, memory)
        aside: dict[str, Host] = {}
        later: dict[str, Host] = {}
        placed: list[str] = []
        while len(placed) < wanted and not self.short_of(spec):
            host = self._next(heap)
            if host is None:
                if not later:
                    break
                for doubt in later.values():
                    heapq.heappush(heap.entries, self._key(doubt, load))
                doubtful, later = frozenset(), {}
                continue
            if host.name in excluded or (most is not None and host.per_component.get(name, 0) >= most):
                aside[host.name] = host
            elif refuses(host, load, memory):
                continue
            elif host.name in doubtful:
                later[host.name] = host
            else:
                self._take(name, spec, host, load, memory)
                placed.append(host.name)
        for host in (*aside.values(), *later.values()):
            heapq.heappush(heap.entries, self._key(host, heap.load))
        return placed

    def _take(self, name: str, spec: dict[str, Any], host: Host, load: float, memory: float) -> None:
        host.load += load
        host.used += memory
        host.count += 1
        host.per_component[name] = host.per_component.get(name, 0) + 1
        if host.busy is not None:
            host.busy += load
        for limit, amount in (spec.get("uses") or {}).items():
            self._used[limit] = self._used.get(limit, 0) + amount
        self._changes.append(host)

    def takes_again(self, name: str, spec: dict[str, Any], leaving: Host | None, excluded: frozenset[str]) -> bool:
        """Whether one more instance would find a place if one that is on an eligible host `leaving` ended.

        To be asked after everything is placed.
        """
        for limit, amount in (spec.get("uses") or {}).items():
            if limit not in self._limits or (amount and self._used.get(limit, 0) > self._limits[limit] + EPSILON):
                return False
        if leaving is not None:
            load, memory = float(spec.get("load") or 0.0), float(spec.get("memory") or 0.0)
            # the load average does not fall at once, so that stays as it is
            freed = replace(
                leaving,
                load=leaving.load - load,
                used=leaving.used - memory,
                count=leaving.count - 1,
                per_component={**leaving.per_component, name: leaving.per_component.get(name, 0) - 1},
            )
            if self._takes(name, spec, freed, excluded):
                return True
        elsewhere = self._elsewhere.get(name)
        if elsewhere is None:
            elsewhere = any(self._takes(name, spec, host, excluded) for host in self._fleet.eligible(spec))
            self._elsewhere[name] = elsewhere
        return elsewhere

    def _takes(self, name: str, spec: dict[str, Any], host: Host, excluded: frozenset[str]) -> bool:
        most = spec.get("max_per_host")
        return (
            host.usable
            and host.name not in excluded
            and not refuses(host, float(spec.get("load") or 0.0), float(spec.get("memory") or 0.0))
            and (most is None or host.per_component.get(name, 0) < most)
            and not self._fleet.silence(spec, host)
        )

    # -- why not ---------------------------------------------------------------------------------------------------

    def refusals(self, name: str, spec: dict[str, Any], excluded: frozenset[str]) -> dict[str, str]:
        """Return {host: why} for each eligible host that takes no further instance, in declared order.

        Why is a key of PHRASES, or the words of a manager that does not answer.

        To be asked after everything is placed: the answer describes the hosts as the plan leaves them.
        """
        load, memory = float(spec.get("load") or 0.0), float(spec.get("memory") or 0.0)
        profile = self._profile(spec, load, memory)
        base = self._refused.get(profile)
        if base is None:
            hosts = sorted(self._fleet.eligible(spec), key=lambda host: (host.order, host.name))
            base = [(refuses(host, load, memory) or self._fleet.silence(spec, host), host) for host in hosts]
            self._refused[profile] = base
        most = spec.get("max_per_host")
        found: dict[str, str] = {}
        for word, host in base:
            if word:
                found[host.name] = word
            elif host.name in excluded:
                found[host.name] = "failed here"
            elif most is not None and host.per_component.get(name, 0) >= most:
                found[host.name] = "per-host maximum"
        return found

    def explain(self, name: str, spec: dict[str, Any], excluded: frozenset[str]) -> list[str]:
        """Return the phrases for a table: why nothing more of the component could be placed."""
        shared = self.short_of(spec)
        if shared:
            return [shared]
        if not self._fleet.eligible(spec):
            wanted, avoided = signature(spec)
            words = f"no host has class {some(wanted)}" if wanted else "no host is left"
            return [words + (f" without class {some(avoided)}" if avoided else "")]
        groups: dict[str, list[str]] = {}
        silent: dict[str, list[str]] = {}
        for host, word in self.refusals(name, spec, excluded).items():
            if word in PHRASES:
                groups.setdefault(PHRASES[word], []).append(host)
            else:
                silent.setdefault(word, []).append(host)
        order = list(PHRASES.values())
        told = [phrase.format(some(groups[phrase])) for phrase in sorted(groups, key=order.index)]
        return told + [f"on {some(hosts)} {word}" for word, hosts in sorted(silent.items())]
