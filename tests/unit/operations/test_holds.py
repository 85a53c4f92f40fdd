# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds: scopes, expiry, the stronger one, and J17."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _holds

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def hold(scope: str = "site", mode: str = "hold", until: float | None = None, reason: str = "why") -> dict:
    return _holds.make(scope, mode, owner="ana", reason=reason, until=until, since=NOW)


@pytest.mark.parametrize(
    ("text", "until"),
    [
        (None, None),
        ("", None),
        ("2h", NOW + 7200),
        ("90m", NOW + 5400),
        ("1d 12h", NOW + 129600),
        ("1.5h", NOW + 5400),
        ("2026-01-01T01:00:00Z", NOW + 3600),
        ("2026-01-01T01:00:00", NOW + 3600),
        ("2026-01-01T02:00:00+01:00", NOW + 3600),
        ("2026-01-02", NOW + 86400),
        (int(NOW) + 60, NOW + 60),
        (str(NOW + 60), NOW + 60),
    ],
)
def test_until_is_understood(text: object, until: float | None) -> None:
    assert _holds.parse_until(text, NOW) == until


@pytest.mark.parametrize(
    "text",
    ["2", 3600, "soon", "2 hours", "-2h", "2h!", "2025-12-31", "99999d", "20260301", "1e30", "nan", "inf", "0s", "٣h"],
)
def test_until_that_means_nothing_is_refused_with_its_value(text: object) -> None:
    with pytest.raises(ValueError, match="until: "):
        _holds.parse_until(text, NOW)


@given(st.text(max_size=12))
def test_until_never_returns_what_is_over(text: str) -> None:
    try:
        until = _holds.parse_until(text, NOW)
    except ValueError:
        return
    assert until is None or until > NOW


@pytest.mark.parametrize("scope", ["", "sites", "site:", "host", "host:", "host: a", "pipe:a/b", "component:a", "x:y"])
def test_scope_that_is_none_is_refused(scope: str) -> None:
    with pytest.raises(ValueError, match="scope: "):
        _holds.parse_scope(scope)


@pytest.mark.parametrize(
    ("scope", "mode", "owner", "reason", "until"),
    [
        ("host:a", "halt", "ana", "why", None),
        ("site", "halt", "ana", "why", NOW + 1),
        ("site", "stop", "ana", "why", None),
        ("site", "hold", " ", "why", None),
        ("site", "hold", "ana", "", None),
    ],
)
def test_hold_that_makes_no_sense_is_refused(scope, mode, owner, reason, until) -> None:
    with pytest.raises(ValueError):
        _holds.make(scope, mode, owner=owner, reason=reason, until=until, since=NOW)


def test_j17_expired_holds_are_ignored_and_reported() -> None:
    holds = [hold(until=NOW - 1), hold("host:a"), hold("pipe:p", until=NOW), hold("pipe:q", until=NOW + 1)]
    assert [one["scope"] for one in _holds.effective(holds, NOW)] == ["host:a", "pipe:q"]
    assert [one["scope"] for one in _holds.expired(holds, NOW)] == ["site", "pipe:p"]


def test_j17_the_strongest_hold_that_covers_a_thing_governs() -> None:
    holds = [hold("component:p/a"), hold("pipe:p", "drain"), hold("host:h"), hold("pipe:q")]
    assert _holds.governing(holds, component="p/a")["mode"] == "drain"
    assert _holds.governing(holds, component="q/a")["scope"] == "pipe:q"
    assert _holds.governing(holds, component="r/a") is None
    assert _holds.governing(holds, host="h")["mode"] == "hold"
    assert _holds.governing(holds, host="h", component="p/a")["mode"] == "drain"
    assert _holds.governing([*holds, hold(mode="halt")], host="x")["mode"] == "halt"


def test_present_is_idempotent_and_there_is_one_for_each_scope_and_mode() -> None:
    first, changed = _holds.present([], hold("host:a"))
    assert changed
    again, changed = _holds.present(first, {**hold("host:a"), "since": NOW + 99})
    assert (again, changed) == (first, False)
    other, changed = _holds.present(first, hold("host:a", reason="another"))
    assert changed
    assert [one["reason"] for one in other] == ["another"]
    both, _changed = _holds.present(other, hold("host:a", "drain"))
    assert len(both) == 2


def test_absent_takes_one_mode_or_all_of_a_scope() -> None:
    holds = [hold("host:a"), hold("host:a", "drain"), hold("host:ab")]
    assert [one["mode"] for one in _holds.absent(holds, "host:a", "drain")[1]] == ["drain"]
    assert _holds.absent(holds, "host:a")[0] == [holds[2]]


def test_describe_is_one_line_with_who_until_and_why() -> None:
    assert (
        _holds.describe(hold("host:a", "drain", NOW + 60)) == "drain of host:a by ana until 2026-01-01T00:01:00Z: why"
    )
