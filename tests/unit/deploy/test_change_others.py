# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment over what runs already, and services under a manager of their own."""

from __future__ import annotations

import os
import signal
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.deploy.change_target import Target

from ansible_collections.sciops.sites.plugins.module_utils import (
    _launch_process,
    _launches,
    _switch,
    _transaction,
)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    found = Target(tmp_path, f"target-{os.getpid()}-{time.monotonic_ns()}")
    yield found
    found.end()


@pytest.fixture
def managed(monkeypatch: pytest.MonkeyPatch) -> str:
    """A launch method like `process`, and none: what runs of it is taken over, as from systemd or supervisord."""
    method = types.SimpleNamespace(Launch=_launch_process.Launch, definitions=_launch_process.definitions)
    monkeypatch.setitem(_launches.METHODS, "managed", method)
    return "managed"


def test_what_others_had_started_is_not_taken_for_the_release(target: Target, managed: str) -> None:
    rpc, runner = target.others("rpc"), target.others("runner")
    services = [target.service("rpc"), target.service("runner", apart=True), target.service("new")]
    one = target.release("1", *services, method=managed)
    for check in (True, False):
        result = target.ask(manifest=one, check=check)
        assert (result["stopped"], result["started"], result["kept"]) == (["rpc"], ["rpc", "new"], ["runner"])
        assert (
            "stopped and started anew: rpc" in result["notes"][0] and "restarted by hand: runner" in result["notes"][1]
        )
        if check:
            assert target.running("rpc") == [rpc]
    pids = target.pids()
    assert result["downtime"] > 0 and sorted(pids) == ["new", "rpc", "runner"]
    assert pids["rpc"] != rpc and pids["runner"] == runner and len(target.running("rpc")) == 1
    assert target.ask(manifest=one)["changed"] is False


@pytest.mark.parametrize("cut_off", [False, True])
def test_what_others_had_started_runs_again_after_a_way_back(
    target: Target, managed: str, cut_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc, runner = target.others("rpc"), target.others("runner")
    # its health is a matter of the new release
    services = [target.service("rpc", health={"command": ["false"]}), target.service("runner", apart=True)]
    services.append(target.service("new", script="#!/bin/sh\nexit 3\n"))
    bad = target.release("1", *services, method=managed)
    if cut_off:
        with monkeypatch.context() as patch:
            patch.setattr(_switch.Switch, "_verify", lambda self: os.kill(os.getpid(), signal.SIGKILL))
            with pytest.raises(_transaction.Trouble, match="was killed"):
                target.ask(manifest=bad)
        assert "nothing is deployed here yet" in target.ask("started")["msg"]
    else:
        result = target.ask(manifest=bad)
        assert result["outcome"] == "rolled_back" and result["msg"].endswith("Nothing is live, as before."), result
    assert target.running("runner") == [runner]
    (again,) = target.running("rpc")
    assert again != rpc and "theirs" in (target.root / "bin" / "rpc").read_text()
    assert not target.running("new") and not (target.root / "bin" / "new").exists()
    assert target.info()["cut_off"] is None and not list(target.root.rglob(".sciops.*"))


def test_a_plain_process_that_runs_already_goes_on(target: Target) -> None:
    rpc = target.others("rpc")
    bad = target.release("1", target.service("rpc"), target.service("new", script="#!/bin/sh\nexit 3\n"))
    assert target.ask(manifest=bad)["outcome"] == "rolled_back" and target.running("rpc") == [rpc]
    result = target.ask(manifest=target.release("2", target.service("rpc")))
    assert (result["stopped"], result["started"], result["kept"]) == ([], [], ["rpc"])
    assert target.pids() == {"rpc": rpc}


def test_a_manager_that_only_the_release_makes_known_bars_no_first_deployment(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a supervisord that a first try has left: its configuration went, so nobody could ask what it has."""

    class Launch(_launch_process.Launch):  # type: ignore[misc]
        def states(self) -> Any:
            if (target.root / "site.conf").exists():
                return super().states()
            return {name: {"state": "unknown", "why": "lost", "pid": 0, "restarts": 0} for name in self.services}

    method = types.SimpleNamespace(Launch=Launch, definitions=_launch_process.definitions)
    monkeypatch.setitem(_launches.METHODS, "managed", method)
    one = target.release("1", target.service("rpc"), method="managed")
    assert target.ask(manifest=one)["started"] == ["rpc"] and list(target.pids()) == ["rpc"]


def test_a_manager_that_a_service_has_for_itself_is_not_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Launch(_launches.METHODS["process"].Launch):  # type: ignore[name-defined, misc]
        def manager(self, names: list[str]) -> str:
            return f"restarted {self.settings['config']} for {names}"

    monkeypatch.setitem(_launches.METHODS, "managed", types.SimpleNamespace(Launch=Launch))
    apart = {"name": "runner", "launch": {"method": "managed", "managed": {"config": "/theirs"}}}
    launch = {"method": "managed", "managed": {"config": "/ours"}}
    services = _switch.Services({"launch": launch, "services": [{"name": "rpc"}, apart]})
    assert services.manage(["rpc", "runner"]) == ["restarted /ours for ['rpc']"]
    # what is to stay down is none of what it is restarted for
    assert services.manage([]) == ["restarted /ours for []"]


def test_a_manager_ends_with_the_file_that_only_the_release_had(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisord of its own: on the way back, and where another release does not have it any more."""
    asked = target.root / "asked"  # by a process of its own

    class Launch(_launch_process.Launch):  # type: ignore[misc]
        def retire(self, dests: set[str]) -> str:
            conf = str(target.root / "site.conf")
            if conf in dests:
                # as long as the file is there, and after its services have ended
                with asked.open("a") as told:
                    told.write(f"{Path(conf).read_text().strip()} {target.running('rpc')}\n")
            return ""

    method = types.SimpleNamespace(Launch=Launch, definitions=_launch_process.definitions)
    monkeypatch.setitem(_launches.METHODS, "managed", method)
    bad = target.release(
        "1", target.service("rpc"), target.service("bad", script="#!/bin/sh\nexit 3\n"), method="managed"
    )
    assert target.ask(manifest=bad)["outcome"] == "rolled_back" and asked.read_text() == "[x] []\n"
    two = target.release("2", target.service("rpc"), method="managed")
    assert target.ask(manifest=two)["outcome"] == "activated" and asked.read_text() == "[x] []\n"
    three = target.release("3", target.service("rpc"))
    three["files"] = [one for one in three["files"] if not one["dest"].endswith("site.conf")]
    assert target.ask(manifest=three)["outcome"] == "activated" and asked.read_text() == "[x] []\n" * 2
