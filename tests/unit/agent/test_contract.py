# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every launcher has what docs/launchers.md says, and what it says of itself is what the conformance suite expects."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
import types
from pathlib import Path

import pytest
from conformance.launchers import KINDS

from ansible_collections.sciops.sites.plugins.module_utils import (
    _agent,
    _managed,
    _probe,
    _process,
    _shim,
    _supervisord,
    _work,
)
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


def spec_of(folder: Path, launcher: str, token: str, manager: dict, **more: object) -> dict:
    """The spec of an instance that runs, as a start wrote it."""
    place = folder / "managed" / launcher
    place.mkdir(parents=True, exist_ok=True)
    spec = {"unit": f"sciops-{token}@1", "token": token, "manager": manager, "component": "p/c", "slot": 1}
    spec |= {"ident": ["s", "d", "h"], "launcher": launcher, "log_path": "/none", **more}
    (place / f"{spec['unit']}.json").write_text(json.dumps(spec))
    return spec


@pytest.mark.parametrize(
    ("launcher", "then", "now", "same"),
    [
        ("systemd", {}, {"linger": True, "timeout": 3}, True),
        ("systemd", {"scope": "user"}, {"scope": "system"}, False),
        ("supervisord", {"timeout": 5}, {"timeout": 9, "start": False}, True),
        ("supervisord", {}, {"include": "/somewhere"}, True),
        ("supervisord", {}, {"config": "/etc/supervisord.conf"}, False),
        ("supervisord", {"config": "/a"}, {"config": "/b"}, False),
    ],
)
def test_a_manager_is_the_same_whatever_else_its_settings_say(
    tmp_path: Path, launcher: str, then: dict, now: dict, same: bool
) -> None:
    """Else the units of what runs would be taken for nobody's, and removed."""
    old = spec_of(tmp_path, launcher, "a", then)
    manager = _work.launcher(launcher).Manager(now, str(tmp_path))
    assert (old["unit"] in manager.specs()) is same
    if launcher == "systemd" and same:
        files = manager.files(dict(manager.specs(), **{"sciops-b@1": old | {"unit": "sciops-b@1"}}))
        assert [path for path, text in files.items() if text is None and not path.endswith("sciops.conf")] == []


def test_a_supervisord_of_ours_is_ended_with_the_last_of_all_its_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list = []
    manager = _supervisord.Manager({"timeout": 9}, str(tmp_path))
    monkeypatch.setattr(manager, "ask", lambda *words: asked.append(words))
    old = spec_of(tmp_path, "supervisord", "a", {"timeout": 5})
    manager.forget([])
    assert ("call", "shutdown") not in asked
    (tmp_path / "managed" / "supervisord" / f"{old['unit']}.json").unlink()
    manager.forget([])
    assert ("call", "shutdown") in asked


def test_a_manager_that_starts_anew_has_only_what_lives_and_what_is_asked_for(tmp_path: Path) -> None:
    """What died with it was counted as gone, and may run elsewhere by now."""
    living, dead = spec_of(tmp_path, "supervisord", "a", {}), spec_of(tmp_path, "supervisord", "b", {})
    fresh = spec_of(tmp_path, "supervisord", "c", {}, only_boot="now")
    manager, dropped = _supervisord.Manager({}, str(tmp_path)), []
    manager.write, manager.forget = lambda wanted: None, lambda units: None
    # the first look misses what lives
    looks = iter([{}, {"a": ["pid"]}, {}, {}, {}])
    work = types.SimpleNamespace(look=lambda: ({}, {}, next(looks)), drop=dropped.append, request={})
    old = {one["unit"]: one for one in (living, dead)}
    _managed.bury(manager, work, old, {fresh["unit"]: fresh})
    assert list(old) == [living["unit"]] and dropped == ["b"]
    assert sorted(manager.specs()) == [living["unit"], fresh["unit"]]


def test_supervisord_starts_no_singleton_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, asked = _supervisord.Manager({}, str(tmp_path)), []
    plain, single = spec_of(tmp_path, "supervisord", "a", {}), spec_of(tmp_path, "supervisord", "b", {}, only_boot="x")
    assert [dict(manager.options(one["unit"], one))["autostart"] for one in (plain, single)] == [True, False]

    def ask(what: str, *args: list) -> object:
        asked.append((what, *args))
        return [True] * len(args[0]) if what == "many" else None

    monkeypatch.setattr(manager, "ask", ask)
    monkeypatch.setattr(manager, "infos", lambda units: {})
    manager.begin([plain["unit"], single["unit"]])
    assert ("many", [("startProcess", single["unit"], False)]) in asked


def test_a_full_disk_before_a_start_is_told_for_each(tmp_path: Path) -> None:
    (tmp_path / "managed").write_text("in the way")
    manager = types.SimpleNamespace(place=str(tmp_path / "managed" / "x"), folder=str(tmp_path))
    manager.specs, manager.prerequisites, manager.prepare = dict, list, dict
    work = types.SimpleNamespace(scene=lambda: ({}, {}, {}), live=lambda known, sets: {})
    with pytest.raises(_shim.Failed, match="nothing was started"):
        _managed.start(manager, work, [0])


# --- logs of others


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads and writes for others")
def test_root_rotates_a_log_with_the_rights_of_who_runs(tmp_path: Path) -> None:
    """A link that a user put in the place of the log leads to nothing of root's; the default log is rotated."""
    folder, theirs, secret = tmp_path / "state", tmp_path / "theirs", tmp_path / "root.log"
    for one in (folder, theirs):
        one.mkdir()
    for one in [tmp_path, *list(tmp_path.parents)[:-2]]:
        one.chmod(one.stat().st_mode | 0o755)
    folder.chmod(0o700)
    os.chown(theirs, 65534, 65534)
    secret.write_text("keep\n")
    secret.chmod(0o600)
    (theirs / "log").symlink_to(secret)
    (folder / "log").write_text("line\n")
    os.chown(folder / "log", 65534, 65534)
    child = subprocess.Popen(["sleep", "60"], user=65534)
    told: list = []
    try:
        sets = {"t": [types.SimpleNamespace(pid=child.pid)]}
        for path in (theirs / "log", folder / "log"):
            known = {"t": {"log": str(path)}}
            work = types.SimpleNamespace(look=lambda known=known: ({}, known, sets), folder=str(folder))
            work.actions = [{"token": "t", "log": str(path), "keep": 1}]
            work.end = lambda index, outcome, words, **more: told.append(outcome)
            _process.rotate(work, [0])
    finally:
        child.kill()
        child.wait()
    assert told == ["refused", "rotated"] and secret.read_text() == "keep\n"
    assert (folder / "log.1").read_text() == "line\n" and (folder / "log").read_text() == ""


# --- what is not asked about, what is half written, what breaks


def test_a_job_of_a_queue_that_is_not_asked_is_possible(tmp_path: Path) -> None:
    """A controller that lost its memory knows of it by the record on the host."""
    (tmp_path / "instances").mkdir()
    record = {"component": "p/c", "slot": 2, "hash": "h", "token": "1a-7", "pid": 41, "start": 1, "boot_id": None}
    record |= {"site": "s", "deployment": "d", "host": "h", "launcher": "slurm", "log": None}
    (tmp_path / "instances" / "1a-7.json").write_text(json.dumps(record))
    request = {"site": "s", "deployment": "d", "host": "h", "components": {}}
    seen = _probe.observe(request, str(tmp_path), time.monotonic() + 5, set())
    why = {"component": "p/c", "slot": 2, "launcher": "slurm", "token": "1a-7", "why": "slurm was not asked"}
    assert seen["possible"] == [why] and seen["instances"] == []


def test_a_file_is_whole_or_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, room = tmp_path / "f", os.write, [10**6]

    def short(handle: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "full")
        done = write(handle, bytes(data[: min(7, room[0])]))
        room[0] -= done
        return done

    monkeypatch.setattr(_probe.os, "write", short)
    _probe.write_file(str(path), "0123456789" * 3)
    assert path.read_text() == "0123456789" * 3
    room[0] = 10
    with pytest.raises(OSError, match="full"):
        _probe.write_file(str(path), "other text that is longer")
    assert path.read_text() == "0123456789" * 3 and [one.name for one in tmp_path.iterdir()] == ["f"]


def test_what_was_done_before_a_request_broke_stays_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fence = {"number": 3, "holder": "me"}
    request = {"site": "s", "deployment": "d", "host": "h", "components": {}, "fence": fence, "v": 1}
    _agent.observe(request, str(tmp_path), time.monotonic() + 5, set())
    actions = [{"kind": kind, "token": "1a-1", "component": "p/c", "slot": 1} for kind in ("stop", "start")]

    def run(work: _work.Work) -> None:
        work.end(0, "stopped", "it is over")
        raise OSError(errno.EIO, "the disk")

    monkeypatch.setattr(_work.Work, "run", run)
    request |= {"actions": actions, "expect": {"boot_id": _probe.boot_id()}}
    monkeypatch.setattr(_agent, "limit", lambda seconds: None)
    told = _agent.apply(request, str(tmp_path), time.monotonic() + 5, set())
    assert [one["outcome"] for one in told["results"]] == ["stopped", "unknown"]
    assert "the request broke: OSError" in told["results"][1]["message"]
