# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every launcher has what docs/launchers.md says, and what it says of itself is what the conformance suite expects."""

from __future__ import annotations

import types

import pytest
from conformance.launchers import KINDS

from ansible_collections.sciops.sites.plugins.module_utils import _managed, _shim, _work
from ansible_collections.sciops.sites.plugins.plugin_utils import _schema, _wire


@pytest.mark.parametrize("name", _work.LAUNCHERS)
def test_a_launcher_has_the_whole_contract(name: str) -> None:
    found = _work.launcher(name)
    for function in ("observe", "start", "stop", "rotate", "describe", "prerequisites"):
        assert callable(getattr(found, function)), function
    assert set(found.CAPABILITIES) == {"restarts", "placement", "logout", "reboot"}
    assert name == "process" or name in _wire.LAUNCHERS
    assert name == "process" or name in _schema.DEFAULTS["launchers"]


@pytest.mark.parametrize("label", KINDS)
def test_the_suite_expects_what_a_launcher_says_of_itself(label: str) -> None:
    kind = KINDS[label]
    told = _work.launcher(kind.launcher).CAPABILITIES
    assert told["restarts"] == kind.restarts and told["logout"]
    assert not kind.boots or told["reboot"] == kind.reboots


def test_what_cannot_be_killed_is_unknown_and_keeps_its_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Called failed, it would be started again beside itself."""
    alive = {"t": [types.SimpleNamespace(pid=7)]}
    done: dict = {}
    manager = types.SimpleNamespace(end=lambda units: None)
    work = types.SimpleNamespace(look=lambda: ({}, {}, alive), results=[{}])
    work.end = lambda index, outcome, words, **more: done.update(outcome=outcome, words=words)
    monkeypatch.setattr(_managed, "PATIENCE", 0.05)
    monkeypatch.setattr(_managed._process, "send", lambda p, number: "")
    flight = types.SimpleNamespace(index=0, unit="u@1", log="/none", offset=0, hidden=[])
    old = {"u@1": {"token": "t"}}
    for error in (None, _shim.Failed("refused it", "refused")):
        _managed.undo(manager, work, flight, old, error, {"state": "FATAL"})
        assert done["outcome"] == "unknown" and "pid 7 lives" in done["words"]
        assert "u@1" in old
