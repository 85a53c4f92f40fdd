# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of a target, with real processes and real files: forward, back, cut off, begun again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.deploy.change_target import Target, steps

from ansible_collections.sciops.sites.plugins.module_utils import (
    _files,
    _launches,
    _probe,
    _switch,
    _transaction,
)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    found = Target(tmp_path, f"target-{os.getpid()}-{time.monotonic_ns()}")
    yield found
    found.end()


def test_first_release_then_the_same_then_another(target: Target) -> None:
    one = target.release("1", target.service("rpc"), target.service("run"), link=True)
    assert target.ask(manifest=one, check=True)["outcome"] == "activated" and not (target.root / "site").exists()
    result = target.ask(manifest=one)
    assert (result["outcome"], result["release"], result["previous"]) == ("activated", one["id"], None)
    order = ["prepare", "stop", "switch", "start", "verify"]
    assert steps(result) == [(step, "done") for step in order] and result["downtime"] is None
    before = target.pids()
    assert sorted(before) == ["rpc", "run"]
    again = target.ask(manifest=one)
    assert (again["changed"], again["outcome"], again["kept"]) == (False, "unchanged", ["rpc", "run"])
    # another script for one of them, another service, the same for the rest
    two = target.release(
        "2", target.service("rpc", script=target.script("1")), target.service("run"), target.service("new"), link=True
    )
    two["build"] = one["build"]
    two["prints"]["rpc"] = one["prints"]["rpc"]
    result = target.ask(manifest=two)
    assert (result["stopped"], result["started"], result["kept"]) == (["run"], ["run", "new"], ["rpc"])
    assert result["downtime"] > 0.2
    after = target.pids()
    assert after["rpc"] == before["rpc"] and after["run"] != before["run"]
    assert not (target.root / ".sciops" / "journal.json").exists()
    assert not list(target.root.rglob(".sciops.*"))


def test_link_is_switched_and_a_folder_in_its_place_steps_aside(target: Target) -> None:
    (target.root / "site").mkdir()
    (target.root / "site" / "old").write_text("x")
    bad = target.release("1", target.service("rpc", script="#!/bin/sh\nexit 3\n"), link=True)
    assert target.ask(manifest=bad)["failed"]
    assert (target.root / "site" / "old").read_text() == "x" and not (target.root / "site").is_symlink()
    good = target.release("2", target.service("rpc"), link=True)
    target.ask(manifest=good)
    assert str((target.root / "site").readlink()) == good["build"]["target"]


def test_a_release_that_does_not_come_up_is_taken_back(target: Target) -> None:
    one = target.release("1", target.service("rpc"), target.service("run"), link=True)
    target.ask(manifest=one)
    before = target.pids()
    conf = (target.root / "site.conf").read_text()
    bad = target.release(
        "2",
        target.service("rpc"),
        target.service("run", script="#!/bin/sh\nexit 3\n"),
        target.service("more"),
        conf="[y]\n",
        link=True,
    )
    result = target.ask(manifest=bad)
    assert result["failed"] and result["outcome"] == "rolled_back" and result["failed_step"] == "verify", result
    assert "run: stopped" in result["msg"] and f"Release {one['id']} is live as before" in result["msg"]
    assert steps(result)[-2:] == [("verify", "failed"), ("undo", "done")]
    assert sorted(target.pids()) == sorted(before)
    assert (target.root / "site.conf").read_text() == conf
    assert str((target.root / "site").readlink()) == one["build"]["target"]
    assert not (target.root / "bin" / "more").exists()
    assert target.info()["release"] == one["id"] and target.info()["drift"] == {}
    # it is not tried again by itself
    with pytest.raises(_transaction.Trouble, match="was taken back here"):
        target.ask(manifest=bad, check=True)
    assert target.ask(manifest=bad)["failed"]
    assert target.ask(manifest=bad, retry=True)["outcome"] == "rolled_back"
    assert target.ask(manifest=one)["changed"] is False


def test_services_that_do_not_come_up_again_are_told_and_bar_nothing(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old release is the one that does not work: its files are back, and another one or a stop must be possible."""
    (target.root / "well").touch()
    ill = f"#!/bin/sh\n[ -e {target.root}/well ] || exit 3\nwhile :; do sleep 0.2; done\n"
    one = target.release("1", target.service("rpc", script=ill), target.service("run"), link=True)
    assert target.ask(manifest=one)["changed"]
    (target.root / "well").unlink()
    bad = target.release("2", target.service("rpc", script="#!/bin/sh\nexit 3\n"), target.service("run"), link=True)
    result = target.ask(manifest=bad)
    assert result["failed"] and result["outcome"] == "rolled_back" and "downtime" not in result, result
    assert f"Back to {one['id']}, whose services do not come up: rpc: stopped" in result["msg"]
    assert steps(result)[-1] == ("undo", "done") and "rpc: stopped" in result["steps"][-1]["detail"]
    info = target.info()
    assert (info["release"], info["cut_off"], info["drift"]) == (one["id"], None, {})
    assert str((target.root / "site").readlink()) == one["build"]["target"]
    assert target.ask("stopped", services=["run"])["stopped"] == ["run"]
    assert target.ask("started", services=["run"])["started"] == ["run"]
    # also where it was cut off on the way back
    (target.root / "well").touch()
    assert target.ask("started")["started"] == ["rpc"]
    (target.root / "well").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(_switch.Switch, "_revive", lambda self: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(_transaction.Trouble, match="was killed"):
            target.ask(manifest=bad, retry=True)
    good = target.release("3", target.service("rpc"), target.service("run"), link=True)
    result = target.ask(manifest=good)
    assert f"in step verify: back to {one['id']}, whose services do not come up: rpc: stopped" in result["recovered"]
    assert result["outcome"] == "activated" and sorted(target.pids()) == ["rpc", "run"]
    assert not list(target.root.rglob(".sciops.*"))


def test_a_way_back_that_cannot_put_files_back_is_tried_again(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    one = target.release("1", target.service("rpc"), conf="[1]\n")
    target.ask(manifest=one)
    bad = target.release("2", target.service("rpc", script="#!/bin/sh\nexit 3\n"), conf="[2]\n")

    def broken(self: Any) -> None:
        raise OSError(30, "Read-only file system", "site.conf")

    with monkeypatch.context() as patch:
        patch.setattr(_switch.Switch, "_restore", broken)
        result = target.ask(manifest=bad)
        assert result["outcome"] == "broken" and "it is tried once more" in result["msg"]
        assert "Read-only" in target.ask("stopped")["msg"] and target.info()["cut_off"] == "undo"
    assert "back to " + one["id"] in target.ask("started")["recovered"]
    assert (target.root / "site.conf").read_text() == "[1]\n" and list(target.pids()) == ["rpc"]


def test_a_file_of_others_in_the_way_comes_back_even_where_the_way_back_is_cut_off(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target.root / "site.conf").write_text("[theirs]\n")
    (target.root / "site.conf").chmod(0o640)
    bad = target.release("1", target.service("rpc", script="#!/bin/sh\nexit 3\n", timeout=1))
    with monkeypatch.context() as patch:
        # killed at the very end of the way back
        patch.setattr(_switch.Switch, "clean", lambda self: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(_transaction.Trouble, match="was killed"):
            target.ask(manifest=bad)
    assert "nothing is deployed here yet" in target.ask("started")["msg"]
    assert (target.root / "site.conf").read_text() == "[theirs]\n"
    assert (target.root / "site.conf").stat().st_mode & 0o777 == 0o640
    assert not (target.root / "bin" / "rpc").exists() and not list(target.root.rglob(".sciops.*"))


def test_back_to_the_release_before_and_it_stays_there(target: Target) -> None:
    one, two = (target.release(v, target.service("rpc"), conf=f"[{v}]\n", link=True) for v in "12")
    assert target.ask(manifest=one)["changed"] and target.ask(manifest=two)["changed"]
    result = target.ask("previous", reason="ticket 4711")
    assert (result["release"], result["previous"]) == (one["id"], two["id"])
    assert (target.root / "site.conf").read_text() == "[1]\n"
    assert "ticket 4711" in target.ask(manifest=two)["msg"]
    assert "no release before this one" in target.ask("previous")["msg"]


@pytest.mark.parametrize("step", ["prepare", "stop", "switch", "start", "verify", "keep"])
def test_failure_in_any_step_leaves_the_old_release(target: Target, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (target.release(v, target.service("rpc"), conf=f"[{v}]\n", link=True) for v in "12")
    target.ask(manifest=one)
    place, name = (_transaction.Store, "remember") if step == "keep" else (_switch.Switch, f"_{step}")
    whole = getattr(place, name)

    def broken(self: Any, *args: Any) -> None:
        if step != "keep":
            whole(self, *args)  # done, and then it failed
        raise _launches.Failure("it is broken")

    with monkeypatch.context() as patch:
        patch.setattr(place, name, broken)
        result = target.ask(manifest=two)
    assert result["failed"] and result["failed_step"] == step and result["outcome"] == "rolled_back", result
    assert f"step {step} failed: it is broken. Release {one['id']} is live as before." in result["msg"]
    assert target.info()["release"] == one["id"] and list(target.pids()) == ["rpc"]
    assert (target.root / "site.conf").read_text() == "[1]\n"
    assert str((target.root / "site").readlink()) == one["build"]["target"]
    assert target.info()["drift"] == {} and not list(target.root.rglob(".sciops.*"))


@pytest.mark.parametrize("phase", ["prepare", "stop", "switch", "start", "verify", "keep"])
def test_worker_killed_in_any_step(target: Target, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (target.release(v, target.service("rpc"), conf=f"[{v}]\n", link=True) for v in "12")
    target.ask(manifest=one)
    whole = _transaction.Store.note

    def deadly(store: Any, journal: Any) -> None:
        whole(store, journal)
        if journal and journal["phase"] == phase:
            if phase in ("switch", "start", "verify"):
                # in the middle of it
                getattr(switch[0], "_" + phase)()
            os.kill(os.getpid(), signal.SIGKILL)

    switch: list[Any] = []
    begin = _switch.Switch.__init__

    def remembered(self: Any, *args: Any, **more: Any) -> None:
        begin(self, *args, **more)
        switch.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(_transaction.Store, "note", deadly)
        patch.setattr(_switch.Switch, "__init__", remembered)
        with pytest.raises(_transaction.Trouble, match="was killed"):
            target.ask(manifest=two)
    assert target.info()["cut_off"] == phase
    # any next run puts it right before it does anything else
    result = target.ask("started")
    assert phase in result["recovered"] or "verified" in result["recovered"]
    live = two if phase == "keep" else one
    assert target.info()["release"] == live["id"] and list(target.pids()) == ["rpc"]
    assert (target.root / "site.conf").read_text() == f"[{live['version']}]\n"
    assert str((target.root / "site").readlink()) == live["build"]["target"]
    assert target.info()["drift"] == {} and target.info()["cut_off"] is None
    assert target.ask(manifest=two)["release"] == two["id"]
    assert not list(target.root.rglob(".sciops.*"))


@pytest.mark.parametrize("booted", [False, True])
def test_what_a_boot_has_started_meanwhile_does_not_stay_with_files_that_are_gone(
    target: Target, booted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut once the files were switched: the host comes up with services of the release that is taken back."""
    one, two = (target.release(v, target.service("rpc"), conf=f"[{v}]\n") for v in "12")
    target.ask(manifest=one)

    def cut(self: _switch.Switch) -> None:
        switch(self)
        self.after.start(["rpc"])
        self.after.verify(["rpc"])
        os.kill(os.getpid(), signal.SIGKILL)

    switch = _switch.Switch._switch
    with monkeypatch.context() as patch:
        patch.setattr(_switch.Switch, "_switch", cut)
        with pytest.raises(_transaction.Trouble, match="was killed"):
            target.ask(manifest=two)
    (began,) = target.running("rpc")
    if booted:
        monkeypatch.setattr(_probe, "boot_id", lambda: "another")
    assert "cut off in step switch" in target.ask("started")["recovered"]
    assert (target.root / "site.conf").read_text() == "[1]\n" and len(target.running("rpc")) == 1
    assert (target.running("rpc") != [began]) == booted


def test_a_way_back_from_a_release_as_good_as_kept_goes_on_back(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (target.release(v, target.service("rpc"), conf=f"[{v}]\n", link=True) for v in "12")
    target.ask(manifest=one)

    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    def once(self: _switch.Services, names: list[str]) -> list[str]:
        told.extend([names] if names else [])
        if len(told) > 1:
            raise _launches.Failure("it does not stop")
        return list(stop(self, names))

    told: list[list[str]] = []
    stop = _switch.Services.stop
    with monkeypatch.context() as patch:
        patch.setattr(_transaction.Store, "remember", full)
        patch.setattr(_switch.Services, "stop", once)
        result = target.ask(manifest=two)
    assert result["outcome"] == "broken" and "it does not stop" in result["msg"]
    assert target.ask("started")["recovered"].endswith(f"back to {one['id']}")
    assert target.info()["release"] == one["id"] and (target.root / "site.conf").read_text() == "[1]\n"


def test_time_to_show_that_it_stays_up_comes_after_the_time_to_come_up(target: Target) -> None:
    one = target.release("1", target.service("rpc", timeout=1, settle=2))
    assert target.ask(manifest=one)["outcome"] == "activated"


def test_drift_is_told_and_put_right(target: Target) -> None:
    one = target.release("1", target.service("rpc"), target.service("run"))
    target.ask(manifest=one)
    before = target.pids()
    (target.root / "site.conf").write_text("[edited]\n")
    (target.root / "bin" / "run").unlink()
    os.kill(before["rpc"], signal.SIGKILL)
    seen = target.ask(manifest=one, check=True)
    assert seen["changed"] and seen["started"] == ["rpc"] and seen["stopped"] == []
    assert seen["drift"] == {str(target.root / "site.conf"): "content", str(target.root / "bin" / "run"): "missing"}
    assert (target.root / "site.conf").read_text() == "[edited]\n"
    result = target.ask(manifest=one)
    assert result["drift"] == seen["drift"] and result["kept"] == ["run"]
    # what ran before the edit goes on
    assert target.pids()["run"] == before["run"]
    assert target.ask(manifest=one)["changed"] is False
    # what began after an edit may have read it
    (target.root / "site.conf").write_text("[edited]\n")
    (target.root / "site.conf").chmod(0o640)  # which does not hide what else was done to it
    time.sleep(0.05)
    os.kill(target.pids()["rpc"], signal.SIGKILL)
    subprocess.Popen([str(target.root / "bin" / "rpc"), target.name], start_new_session=True)
    deadline = time.monotonic() + 20
    while "rpc" not in target.pids() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert target.info()["doubtful"] == ["rpc"]
    result = target.ask(manifest=one)
    assert (result["stopped"], result["started"], result["kept"]) == (["rpc"], ["rpc"], ["run"])


def test_a_stop_holds_until_a_start(target: Target) -> None:
    one, two = (target.release(v, target.service("rpc"), conf=f"[{v}]\n") for v in "12")
    target.ask(manifest=one)
    assert target.ask("stopped", reason="maintenance")["stopped"] == ["rpc"]
    assert target.ask("stopped")["changed"] is False
    assert target.info()["stopped"]["reason"] == "maintenance"
    result = target.ask(manifest=two)
    assert result["outcome"] == "activated" and result["started"] == [] and target.pids() == {}
    assert any("stopped by ann: maintenance" in note for note in result["notes"])
    assert target.ask(manifest=two)["changed"] is False
    assert target.ask("started", check=True)["started"] == ["rpc"] and target.pids() == {}
    assert target.ask("started")["started"] == ["rpc"]
    before = target.pids()
    assert target.ask("started")["changed"] is False and target.pids() == before
    assert target.ask("restarted")["downtime"] > 0 and target.pids()["rpc"] != before["rpc"]
    assert "not among those deployed here: rpc" in target.ask("started", services=["rcp"])["msg"]


def test_a_stop_ends_with_a_restart_of_all(target: Target) -> None:
    one, two = (target.release(v, target.service("rpc"), target.service("run"), conf=f"[{v}]\n") for v in "12")
    target.ask(manifest=one)
    target.ask("stopped")
    # a part of it leaves the word in force, and what somebody has started does not stay down for a deployment
    assert target.ask("restarted", services=["rpc"])["started"] == ["rpc"]
    result = target.ask(manifest=two)
    assert (result["stopped"], result["started"]) == (["rpc"], ["rpc"]) and list(target.pids()) == ["rpc"]
    assert any("stopped by ann" in note for note in result["notes"])
    assert target.ask("restarted")["started"] == ["rpc", "run"] and target.info()["stopped"] is None
    result = target.ask(manifest=one)
    assert result["started"] == ["rpc", "run"] and sorted(target.pids()) == ["rpc", "run"]
    assert not any("stopped by" in note for note in result["notes"])


def test_one_change_at_a_time(target: Target) -> None:
    one = target.release("1", target.service("rpc"))
    store = _transaction.Store(str(target.root))
    store.lock()
    assert target.info()["busy"]
    for check in (False, True):
        with pytest.raises(_transaction.Busy, match=r"(another|a) change is under way"):
            target.ask(manifest=one, check=check)
    store.unlock()
    assert target.ask(manifest=one)["changed"]


def test_the_change_goes_on_without_its_caller(target: Target) -> None:
    """As a killed connection does it: the caller is gone in the middle, the worker brings it to its end."""
    one = target.release("1", target.service("rpc"))
    two = target.release("2", target.service("rpc", settle=2), conf="[2]\n")
    target.ask(manifest=one)
    child = os.fork()
    if child == 0:
        target.ask(manifest=two)
        os._exit(0)
    deadline = time.monotonic() + 30
    while (target.info()["cut_off"], target.info()["busy"]) != (None, True) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert target.info()["busy"]
    while target.info()["busy"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert target.info()["release"] == two["id"] and list(target.pids()) == ["rpc"]


def test_old_releases_go(target: Target) -> None:
    for version in "12345":
        target.ask(manifest=target.release(version, target.service("rpc"), conf=f"[{version}]\n"), keep=2)
    kept = [ident.split("-")[0] for ident in target.info()["activations"]]
    assert kept == ["4", "5"]
    assert sorted(p.name.split("-")[0] for p in (target.root / ".sciops" / "releases").iterdir()) == ["4", "5"]


def test_unknown_stops_nothing(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (target.release(v, target.service("rpc"), conf=f"[{v}]\n") for v in "12")
    target.ask(manifest=one)
    before = target.pids()
    silent = {"rpc": {"state": "unknown", "why": "supervisord does not answer", "pid": 0, "restarts": 0}}
    with monkeypatch.context() as patch:
        patch.setattr(_launches.METHODS["process"].Launch, "states", lambda self: silent)
        for state in ("active", "stopped", "restarted"):
            assert "nobody knows" in target.ask(state, manifest=two)["msg"]
    assert target.pids() == before and (target.root / "site.conf").read_text() == "[1]\n"


def test_damaged_memory_is_told(target: Target) -> None:
    target.ask(manifest=target.release("1", target.service("rpc")))
    (target.root / ".sciops" / "state.json").write_text("")
    assert "is not the JSON that was written there" in target.ask("started")["msg"]


def test_a_full_disk_changes_nothing(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (target.release(v, target.service("rpc"), conf=f"[{v}]\n") for v in "12")
    target.ask(manifest=one)
    before = target.pids()

    def full(entries: Any, backup: bool = False) -> Any:
        raise OSError(28, "No space left on device", entries[0]["dest"])

    with monkeypatch.context() as patch:
        patch.setattr(_files, "put", full)
        result = target.ask(manifest=two)
    assert result["failed"] and "No space left" in result["msg"] and result["failed_step"] == "prepare"
    assert target.pids() == before and json.dumps(target.info()["drift"]) == "{}"
