# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stops and rotations: the one that was meant, the whole of it, and seen to be gone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _probe

from .test_start import dead, one, records

TREE = "#!/bin/sh\nsleep 71.5 &\nsh -c 'sleep 72.5; :' &\nenv -i sh -c 'sleep 73.5; :' &\n"
TREE += "(setsid sleep 74.5 &)\nsleep 75.5\n:\n"


def test_j21_a_stop_ends_the_whole_tree_and_nothing_else(host) -> None:
    """J21: children in other sessions, and without the marker, go too; the neighbour stays."""
    host.apply(host.action(host.script("tree", TREE), settle=0.5), host.action("sleep", "60", slot=2))
    rows = {r["slot"]: r for r in host.ask()["instances"]}
    table = _probe.scan()
    tree = [p for p in table.values() if p.pid != rows[2]["pid"] and p.uid == host.uid]
    naps = [p.pid for p in tree if _probe.argv(p.pid)[0] == "sleep" and _probe.argv(p.pid)[1][:2] in "71 72 73 74 75"]
    assert len(naps) == 5
    result = one(host.apply(host.stop(rows[1])))
    assert result["outcome"] == "stopped"
    assert all(dead(pid) for pid in naps)
    assert host.marked() == [rows[2]["pid"]]
    left = host.ask()["instances"]
    assert [(r["pid"], r["start"]) for r in left] == [(rows[2]["pid"], rows[2]["start"])]
    assert records(host) == [f"{rows[2]['token']}.json"]


def test_what_ignores_term_is_killed_after_its_grace(host) -> None:
    stubborn = host.script("stubborn", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    row = host.apply(host.action(stubborn))["instances"][0]
    began = time.monotonic()
    result = one(host.apply(host.stop(row, grace=1)))
    assert result["outcome"] == "stopped"
    assert "killed" in result["message"]
    assert 1 <= time.monotonic() - began < 6
    assert host.marked() == []


def test_what_ends_on_term_gets_the_time_it_needs(host) -> None:
    tidy = host.script("tidy", "#!/bin/sh\ntrap 'sleep 0.5; echo tidy; exit 0' TERM\nwhile :; do sleep 0.1; done\n")
    row = host.apply(host.action(tidy))["instances"][0]
    result = one(host.apply(host.stop(row, grace=8)))
    assert "ended" in result["message"]
    assert Path(row["log"]).read_text().strip().endswith("tidy")


def test_a_stopped_process_ends_too(host) -> None:
    row = host.apply(host.action("sleep", "60"))["instances"][0]
    os.kill(row["pid"], signal.SIGSTOP)
    assert "ended" in one(host.apply(host.stop(row)))["message"]


def test_stops_run_side_by_side(host) -> None:
    stubborn = host.script("stubborn", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    rows = host.apply(*(host.action(stubborn, component=f"p/{i}", settle=0.1) for i in range(5)))["instances"]
    began = time.monotonic()
    results = host.apply(*(host.stop(r, grace=1) for r in rows))["results"]
    assert [r["outcome"] for r in results] == ["stopped"] * 5
    assert time.monotonic() - began < 6


def test_a_fork_storm_is_stopped(host) -> None:
    """New children appear while it is being killed; the stop ends when none is left."""
    storm = host.script(
        "storm", "#!/bin/sh\ntrap '' TERM\nwhile :; do sh -c 'trap \"\" TERM; sleep 0.2' & sleep 0.02; done\n"
    )
    row = host.apply(host.action(storm, settle=0.5))["instances"][0]
    assert one(host.apply(host.stop(row, grace=0.2)))["outcome"] == "stopped"
    assert host.marked() == []


def test_a_stop_of_what_is_gone_is_gone(host, wait) -> None:
    row = host.apply(host.action("sleep", "60"))["instances"][0]
    os.kill(row["pid"], signal.SIGKILL)
    wait(lambda: dead(row["pid"]))
    assert records(host) == [f"{row['token']}.json"]
    assert host.ask()["instances"] == []
    assert records(host) == [f"{row['token']}.json"], "a look removes nothing"
    result = one(host.apply(host.stop(row)))
    assert (result["outcome"], result["message"]) == ("gone", "it was not there any more")
    assert records(host) == []


def test_a_matched_process_is_stopped_only_by_pid_and_start(host, wait) -> None:
    alien = host.popen(["sh", "-c", "sleep 76.5; :"])
    rule = {"p/m": {"match": [["sh", "-c", r"sleep 76\.5.*"]], "user": None}}
    row = wait(lambda: [r for r in host.ask(components=rule)["instances"] if r["processes"] == 2])[0]
    assert row["pid"] == alien.pid
    for wrong in ({"start": row["start"] + 1}, {"pid": os.getpid()}):
        assert one(host.apply(host.stop(row, **wrong)))["outcome"] == "gone"
    assert alien.poll() is None
    assert one(host.apply(host.stop(row)))["outcome"] == "stopped"
    alien.wait()
    assert host.ask(components={"p/n": {"match": [["sleep", r"76\.5"]], "user": None}})["instances"] == []


def test_what_may_not_be_signalled_is_unstoppable_in_words(host) -> None:
    if os.geteuid():
        pytest.skip("only root can start a process of another user")
    other = subprocess.Popen(["sleep", "77.5"], user=1, group=1, extra_groups=[], start_new_session=True)
    host.spawned.append(other)
    seen = host.ask(components={"p/m": {"match": [["sleep", r"77\.5"]], "user": "daemon"}})
    result = one(host.apply(host.stop(seen["instances"][0], grace=0.2)))
    assert result["outcome"] == "unstoppable"
    assert f"pid {other.pid} (uid 1): Operation not permitted" in result["message"]
    assert other.poll() is None


def test_a_stop_never_touches_init_or_what_the_agent_hangs_on(host) -> None:
    """Their families are everything there is; here they are this test and the machine itself."""
    bystander = host.popen(["sleep", "79.5"])
    for pid in (1, os.getpid()):
        target = {"kind": "stop", "component": "p/c", "slot": None, "token": None, "pid": pid}
        result = one(host.apply(target | {"start": _probe.look(pid).start}))
        assert result["outcome"] == "refused"
        assert "cannot be stopped by itself" in result["message"]
    assert bystander.poll() is None


def test_an_instance_started_by_an_instance_is_its_own(host) -> None:
    """A marked process below another is not stopped with it: it has its own token."""
    inner = host.script(
        "inner", "#!/bin/sh\nSCIOPS_SITES='other test h9 p/x 1 0123456789ab 9-9 1' setsid sleep 78.5 &\nsleep 60\n"
    )
    row = host.apply(host.action(inner, settle=0.5))["instances"][0]
    name = {"p/x": {"match": [["sleep", r"78\.5"]], "user": None}}
    own = {"site": "other", "host": "h9", "fence": None}
    found = host.ask(components=name, **own)["instances"]
    assert len(found) == 1 and found[0]["owned"]
    try:
        assert one(host.apply(host.stop(row)))["outcome"] == "stopped"
        assert host.ask(**own)["instances"][0]["pid"] == found[0]["pid"]
    finally:
        os.kill(found[0]["pid"], signal.SIGKILL)


def test_time_that_runs_out_in_a_stop_is_unknown_and_not_stopped(host) -> None:
    stubborn = host.script("stubborn", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    row = host.apply(host.action(stubborn))["instances"][0]
    reply = host.apply(host.stop(row, grace=30), host.action("sleep", "60", slot=2), timeout=2)
    assert [r["outcome"] for r in reply["results"]] == ["unknown", "refused"]
    assert "TERM was sent" in reply["results"][0]["message"]
    assert [r["pid"] for r in reply["instances"]] == [row["pid"]]


def test_a_stop_and_a_start_of_one_slot_in_one_request(host) -> None:
    row = host.apply(host.action("sleep", "60"))["instances"][0]
    reply = host.apply(host.action("sleep", "61"), host.stop(row))
    assert [r["outcome"] for r in reply["results"]] == ["started", "stopped"]
    assert [r["pid"] for r in reply["instances"]] == [reply["results"][0]["pid"]]


def rotate(row: dict, **more: object) -> dict:
    base = {"kind": "rotate", "component": row["component"], "token": row["token"], "log": row["log"], "reason": ""}
    return base | more


def test_rotate_while_the_log_is_written_to(host) -> None:
    count = host.script(
        "count",
        "#!/bin/sh\ni=0\nwhile :; do i=$((i+1)); echo $i; [ $((i%10)) != 0 ] || sleep 0.01; done\n",
    )
    row = host.apply(host.action(count, settle=0.3))["instances"][0]
    log = Path(row["log"])
    for _try in range(3):
        result = one(host.apply(rotate(row, keep=9)))
        assert result["outcome"] == "rotated", result
    assert log.with_name(log.name + ".3").exists()
    kept = [int(line) for n in (3, 2, 1) for line in Path(f"{log}.{n}").read_text().split()]
    assert kept == sorted(kept)
    assert len(kept) > 10
    assert log.read_bytes()[:1] != b"\0", "the writer appends, so no hole is left"
    assert host.ask()["instances"][0]["pid"] == row["pid"]


def test_rotate_keeps_as_many_as_it_is_told(host) -> None:
    row = host.apply(host.action("sh", "-c", "while :; do echo x; sleep 0.05; done"))["instances"][0]
    for _try in range(4):
        one(host.apply(rotate(row, keep=2)))
    log = Path(row["log"])
    assert sorted(p.name for p in log.parent.iterdir()) == [log.name, f"{log.name}.1", f"{log.name}.2"]


def test_rotate_touches_only_the_log_of_its_instance(host) -> None:
    row = host.apply(host.action("sleep", "60"))["instances"][0]
    victim = host.home / "victim"
    victim.write_text("keep me")
    os.chown(victim, host.uid, -1)
    result = one(host.apply(rotate(row, log=str(victim))))
    assert result["outcome"] == "refused"
    assert "is not the log of token" in result["message"]
    assert victim.read_text() == "keep me"
    assert one(host.apply(rotate(row, token="9-9")))["outcome"] == "gone"


def test_a_log_that_is_not_appended_to_is_not_cut(host) -> None:
    """A program that opened its log itself would go on at its old place and leave a hole."""
    text = 'exec >"$1"; while :; do echo x; sleep 0.05; done'
    log = host.home / "state/sciops.sites" / f"{host.site}.test/h1/log/p-c.1.log"
    row = host.apply(host.action("sh", "-c", text, "x", str(log)))["instances"][0]
    result = one(host.apply(rotate(row)))
    assert result["outcome"] == "refused"
    assert "does not append" in result["message"]


def test_unknown_kinds_and_launchers_are_refused(host) -> None:
    reply = host.apply({"kind": "dance", "component": "p/c"}, host.action("sleep", "60", launcher="systemd"))
    assert [r["outcome"] for r in reply["results"]] == ["refused", "refused"]
    assert "dance" in reply["results"][0]["message"]
    assert reply["results"][1]["message"] == "there is no launcher systemd"
