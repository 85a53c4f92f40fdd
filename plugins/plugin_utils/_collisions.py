# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports, paths, units and DNS names that two targets both claim, and free ports for a new site."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

Json = dict[str, Any]

_HIGHEST_PORT = 65535


@dataclass(frozen=True, order=True)
class Claim:
    """One value that a variable of a target claims; `scope` is the machine, empty where it is the whole network."""

    kind: str
    scope: str
    value: str
    owner: str
    variable: str
    floating: str  # the hosts of one deployment at one site may share a name in DNS
    place: str

    def __str__(self) -> str:
        return f"{self.owner} {self.variable}" + (f" ({self.place})" if self.place else "")


@dataclass(frozen=True)
class Clash:
    """Two claims that cannot both hold: the same value, or a path inside the other one."""

    kind: str
    one: Claim
    other: Claim

    @property
    def owners(self) -> tuple[str, str]:
        """The names of the two targets."""
        return self.one.owner, self.other.owner

    def __str__(self) -> str:
        where = f"on {self.one.scope}: " if self.one.scope else ""
        if self.one.value != self.other.value:
            return f"{where}path {self.other.value} of {self.other} lies inside {self.one.value} of {self.one}"
        return f"{where}{self.kind} {self.one.value} is claimed by {self.one} and by {self.other}"

    def as_dict(self) -> Json:
        """The clash as plain data."""
        sides = [
            {"host": claim.owner, "variable": claim.variable, "value": claim.value} for claim in (self.one, self.other)
        ]
        return {"kind": self.kind, "machine": self.one.scope or None, "owners": sides, "text": str(self)}


def clashes(targets: Iterable[Json]) -> list[Clash]:
    """Every pair of claims of resolved targets that clash, in the order of kinds, machines and values.

    Ports, units and paths are compared between the targets of one machine, names in DNS and object stores between all.
    A port is also compared with the others of its own target. Empty values claim nothing.
    """
    found: list[Clash] = []
    by_scope: dict[tuple[str, str], list[Claim]] = {}
    for claim in sorted(claim for target in targets for claim in _claims(target)):
        by_scope.setdefault((claim.kind, claim.scope), []).append(claim)
    for (kind, _scope), claims in by_scope.items():
        at: dict[str, list[Claim]] = {}
        for claim in claims:
            at.setdefault(claim.value, []).append(claim)
        for claim in claims:
            above = _above(claim.value) if kind == "path" else ()
            outer = [one for value in above for one in at.get(value, ())]
            found += [Clash(kind, one, claim) for one in outer if _rivals(kind, one, claim)]
        for same in at.values():
            pairs = itertools.combinations(same, 2)
            found += [Clash(kind, one, other) for one, other in pairs if _rivals(kind, one, other)]
    return found


def _claims(target: Json) -> Iterator[Claim]:
    for kind, given in target["unique"].items():
        for name, value in given.items():
            word = str(value).strip()
            if not word:
                continue
            everywhere = kind == "dns" or "://" in word
            origin = target["origins"].get(name) or {"file": "", "line": 0}
            yield Claim(
                kind,
                "" if everywhere else target["machine"],
                _normal(kind, word),
                target["host"],
                name,
                f"{target['system']}/{target['site']}/{target['deployment']}",
                f"{origin['file']}:{origin['line']}" if origin["line"] else origin["file"],
            )


def _normal(kind: str, word: str) -> str:
    if kind == "dns":
        return word.rstrip(".").lower()
    return word.rstrip("/") or "/" if kind == "path" else word


def _above(value: str) -> Iterator[str]:
    """The folders that a path lies in."""
    scheme, slashes, rest = value.rpartition("://")
    for parent in PurePosixPath(rest).parents:
        if str(parent) != ".":
            yield f"{scheme}{slashes}{parent}"


def _rivals(kind: str, one: Claim, other: Claim) -> bool:
    if one.owner == other.owner:
        return kind == "port"
    return kind != "dns" or one.floating != other.floating


def propose(targets: Sequence[Json], machine: str) -> dict[str, dict[str, int]]:
    """A block of ports for a new site of a machine: {deployment: {variable: port}}, empty where none is free.

    It is the lowest block that any site has, moved up by as many ports as there are deployments until none of its
    ports is taken on the machine.
    """
    block: dict[tuple[str, str], int] = {}
    taken: set[int] = set()
    for target in targets:
        for name, port in target["unique"].get("port", {}).items():
            key = (target["deployment"], name)
            block[key] = min(port, block.get(key, port))
            if target["machine"] == machine:
                taken.add(port)
    step = len({deployment for deployment, _name in block}) or 1
    for shift in range(0, _HIGHEST_PORT, step):
        moved = {key: port + shift for key, port in block.items()}
        if max(moved.values(), default=0) > _HIGHEST_PORT:
            break
        if not taken.intersection(moved.values()):
            found: dict[str, dict[str, int]] = {}
            for (deployment, name), port in moved.items():
                found.setdefault(deployment, {})[name] = port
            return found
    return {}
