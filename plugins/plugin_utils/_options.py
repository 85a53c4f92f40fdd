# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the person or the schedule that runs a pass said. PRIVATE to the collection."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.sciops.sites.plugins.plugin_utils._store import login

Json = dict[str, t.Any]


@dataclass(frozen=True)
class Options:
    """What the person or the schedule that runs the pass said."""

    check: bool = False
    #: Whether hosts are asked what starts would write into the files of their managers.
    diff: bool = False
    by: str = field(default_factory=login)
    accept_collapse: bool = False
    lift_stop_guard: bool = False
    assume_lost: tuple[str, ...] = ()
    #: Components whose rejected version is to be tried again.
    retry_update: tuple[str, ...] = ()
    #: Components of which all that runs now is to be replaced, as an update would.
    restart: tuple[str, ...] = ()
    #: Hosts that the pass may contact, None for all.
    limit: frozenset[str] | None = None
    seed: int = 0
    #: A plan saved earlier, to be applied if what it was based on still holds.
    saved_plan: Json | None = None

    def of(self, components: t.Container[str]) -> Options:
        """Return what of it concerns a site that has these components."""
        again, anew = (
            tuple(name for name in names if name in components) for names in (self.retry_update, self.restart)
        )
        return replace(self, retry_update=again, restart=anew)

    def for_planner(self) -> Json:
        """Return the part that the planner knows."""
        return {
            "accept_collapse": self.accept_collapse,
            "lift_stop_guard": self.lift_stop_guard,
            "assume_lost": sorted(self.assume_lost),
            "retry_update": sorted(self.retry_update),
            "limit": None if self.limit is None else sorted(self.limit),
            "by": self.by,
        }

    def authorised(self) -> list[str]:
        """Return in words what a person allowed beyond the declaration, for the history."""
        words = []
        if self.accept_collapse:
            words.append(f"{self.by} accepted the collapse of the observed total")
        if self.lift_stop_guard:
            words.append(f"{self.by} lifted the stop guard")
        words += [f"{self.by} declared {host} lost" for host in sorted(self.assume_lost)]
        words += [f"{self.by} had {name} restarted" for name in sorted(self.restart)]
        words += [f"{self.by} had the update of {name} tried again" for name in sorted(self.retry_update)]
        return words
