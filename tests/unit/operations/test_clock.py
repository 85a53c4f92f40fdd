# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steady timeline: a clock jump moves nothing that is remembered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _clock

LOST_AFTER = 3600


def at(boottime: float, wall: float, boot: str = "a") -> dict:
    return {"boot_id": boot, "boottime": boottime, "wall": wall}


def test_begins_at_the_wall_clock() -> None:
    assert _clock.steady(None, at(5, 1e9)) == 1e9


def test_same_boot_follows_the_boot_clock_whatever_the_wall_clock_says() -> None:
    before = _clock.advance(None, at(100, 1e9))
    for wall in (0, 1e9 - 86400, 1e9 + 7, 4e9, float("nan"), float("inf")):
        assert _clock.steady(before, at(107, wall)) == 1e9 + 7


def test_reboot_believes_the_wall_clock_within_a_bound_below_lost_after() -> None:
    before = _clock.advance(None, at(100, 1e9))
    assert _clock.steady(before, at(3, 1e9 + 60, "b")) == 1e9 + 60
    assert _clock.steady(before, at(3, 1e9 - 9999, "b")) == 1e9
    assert _clock.steady(before, at(3, 4e9, "b")) == 1e9 + _clock.REBOOT_STEP
    assert _clock.REBOOT_STEP < LOST_AFTER


def test_boot_clock_that_ran_backwards_is_another_time_namespace() -> None:
    before = _clock.advance(None, at(100, 1e9))
    assert _clock.steady(before, at(1, 1e9 + 30)) == 1e9 + 30


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.floats(0, 1e6), st.floats(-1e10, 1e10, allow_nan=False)),
        min_size=2,
        max_size=12,
    )
)
def test_never_goes_back_and_never_jumps_at_a_boot(samples: list) -> None:
    kept = None
    for boot, boottime, wall in samples:
        following = _clock.advance(kept, at(boottime, wall, boot))
        if kept is not None:
            step = following["steady"] - kept["steady"]
            assert step >= 0
            if kept["boot_id"] != boot:
                assert step <= _clock.REBOOT_STEP + 1e-3
        kept = following


def test_age_of_a_lock_is_not_moved_by_the_wall_clock() -> None:
    assert _clock.age(at(10, 1e9), at(25, 5)) == 15
    assert _clock.age(at(10, 1000), at(2, 1100, "b")) == 100
    assert _clock.age(at(10, 1000), at(2, 900, "b")) == 0
