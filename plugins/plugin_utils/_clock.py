# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steady timeline of one controller: seconds that a clock jump does not move.

Everything that is remembered between passes (when a host was last seen, until when a component waits) is a
point on this line. It follows the clock that runs since boot (also through suspend), which nobody can set. Only
between two boots, where that clock says nothing, the wall clock is asked, and believed for REBOOT_STEP seconds at most.

Pure: what the clocks say comes in as a sample {"boot_id": str, "boottime": seconds, "wall": unix seconds}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

REBOOT_STEP = 600.0
"""Most seconds that one change of the boot id may move the timeline. Below the defaults of lost_after and of the
longest back-off (3600), so that a wall clock which is wrong after a boot expires neither."""


def steady(previous: Mapping[str, Any] | None, sample: Mapping[str, Any]) -> float:
    """Return the point on the steady timeline at which `sample` was taken, in seconds.

    `previous` is what advance() returned before, or None at the very first time: the line then begins at the
    wall clock's value, which is a label only. The result is never lower than the previous point.
    """
    if previous is None:
        return float(sample["wall"])
    before = float(previous["steady"])
    if previous["boot_id"] == sample["boot_id"]:
        elapsed = float(sample["boottime"]) - float(previous["boottime"])
        if elapsed >= 0:
            return before + elapsed
    # Another boot, another machine with the same state folder, or a time namespace: only the wall clock is left.
    return before + min(max(_finite(sample["wall"]) - _finite(previous["wall"]), 0.0), REBOOT_STEP)


def advance(previous: Mapping[str, Any] | None, sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return `sample` with its `steady` point: what must be kept to go on from here."""
    return {
        "steady": steady(previous, sample),
        "boot_id": str(sample["boot_id"]),
        "boottime": float(sample["boottime"]),
        "wall": float(sample["wall"]),
    }


def age(since: Mapping[str, Any], sample: Mapping[str, Any]) -> float:
    """Return how many seconds before `sample` the sample `since` was taken, never below 0.

    Within one boot it is exact; across boots it is what the wall clocks say.
    """
    if since.get("boot_id") == sample["boot_id"] and "boottime" in since:
        return max(float(sample["boottime"]) - float(since["boottime"]), 0.0)
    return max(_finite(sample["wall"]) - _finite(since.get("wall", sample["wall"])), 0.0)


def _finite(value: Any) -> float:
    number = float(value)
    return number if math.isfinite(number) else 0.0
