# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One count and several launchers: moved from one to another, spread over hosts, taken back where none comes up."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.fleet import BED, Fleet
from bed.play import Player

pytestmark = pytest.mark.hosts
RECONCILE = "playbooks/reconcile.yml"


@pytest.fixture(scope="module")
def three(fleet: Callable[..., Fleet]) -> Iterator[Fleet]:
    with fleet(3, "systemd") as made:
        yield made


def site(fleet: Fleet, folder: Path, hosts: list[str], **components: dict[str, Any]) -> Path:
    spec = {
        "connection": {"ansible_user": "deploy"},
        "hosts": {name: {"classes": [f"on-{name}"]} for name in hosts},
        "policy": {"cliff_floor": 100},
        "defaults": {"settle": 0.5, "grace": 5, "healthy_after": 0},
        "pipes": {"p": {"components": components}},
    }
    return fleet.site_file(folder, spec)


def pids(fleet: Fleet, host: str, text: str) -> list[int]:
    return [one.pid for one in fleet.ps(host) if text in one.args and "ssh" not in one.args]


def test_a_singleton_moves_under_load_and_is_never_there_twice(three: Fleet, play: Player, tmp_path: Path) -> None:
    """supervisord to systemd and back, on a busy host, with a look at the process table every 50 ms.

    The singleton forks nothing: between fork and exec a child of a shell has its parent's command line, and counts as
    two.
    """
    slow = [
        "#!/usr/bin/python3",
        "import signal, sys, time",
        "signal.signal(signal.SIGTERM, lambda *told: (time.sleep(0.6), sys.exit(0)))",
        "while True: time.sleep(3600)",
    ]
    three.ssh("h1", f"printf '%s\\n' {shlex.join(slow)} > slow; chmod +x slow", user="deploy")
    load = "for n in 1 2 3; do (while :; do :; done) & done; sleep 600"
    look = "while :; do pgrep -fc '^/usr/bin/python3 /home/deploy/slow' || :; sleep 0.05; done"
    inside = [str(BED), "exec", three.number, "h1"]
    busy = subprocess.Popen([*inside, "sh", "-c", load])
    with (tmp_path / "seen").open("w") as seen:
        probe = subprocess.Popen([*inside, "sh", "-c", look], stdout=seen)
        try:
            for launcher in ("supervisord", "systemd", "supervisord", "process", "systemd"):
                component = {"singleton": True, "count": 1, "command": "/home/deploy/slow", "launcher": launcher}
                result = play(RECONCILE, site(three, tmp_path, ["h1"], c=component))
                assert (result.rc, result.outcome) == (0, "changed"), result.stdout
                again = play(RECONCILE, site(three, tmp_path, ["h1"], c=component))
                assert (again.rc, again.outcome) == (0, "unchanged"), again.stdout
                (marked,) = [one for one in three.instances("h1") if one["component"] == "p/c"]
                group = three.run("h1", "cat", f"/proc/{marked['pid']}/cgroup")
                assert ("sciops-p-c-" in group) == (launcher == "systemd"), group
        finally:
            three.run("h1", "sh", "-c", "pkill -f 'while [:]' || :")
            probe.wait(20)
            busy.wait(20)
            play("playbooks/stop.yml", site(three, tmp_path, ["h1"]), "-e", "sciops_sites_names=bed")
    counts = [int(line) for line in (tmp_path / "seen").read_text().split()]
    assert len(counts) > 200 and set(counts) == {0, 1}, sorted(set(counts))


def test_one_count_over_three_launchers(three: Fleet, play: Player, tmp_path: Path) -> None:
    how = {"default": "process", "on-h2": "supervisord", "on-h3": "systemd"}
    component = {"count": 6, "command": "/bin/sleep 86420.5", "launcher": how}
    inventory = site(three, tmp_path, ["h1", "h2", "h3"], c=component)
    result = play(RECONCILE, inventory)
    assert (result.rc, result.outcome) == (0, "changed"), result.stdout
    assert [len(pids(three, host, "sleep 86420.5")) for host in ("h1", "h2", "h3")] == [2, 2, 2]
    again = play(RECONCILE, inventory)
    assert (again.outcome, again.recap("changed")) == ("unchanged", 0), again.stdout
    assert len(pids(three, "h2", "supervisord -c")) == 1
    assert three.ssh("h3", "systemctl --user list-units 'sciops-*' --no-legend | wc -l", user="deploy") == "2"
    before = {host: pids(three, host, "sleep 86420.5") for host in ("h1", "h3")}
    # the hosts of one launcher go over to another one: only what is there moves
    component["launcher"] = {**how, "on-h2": "systemd"}
    moved = play(RECONCILE, site(three, tmp_path, ["h1", "h2", "h3"], c=component))
    assert moved.outcome == "changed", moved.stdout
    assert {host: pids(three, host, "sleep 86420.5") for host in ("h1", "h3")} == before
    assert three.ssh("h2", "systemctl --user list-units 'sciops-*' --no-legend | wc -l", user="deploy") == "2"
    assert pids(three, "h2", "supervisord -c") == []


def test_an_update_that_does_not_come_up_is_taken_back(three: Fleet, play: Player, tmp_path: Path) -> None:
    component = {"count": 3, "command": "/bin/sleep 75319.5", "launcher": "systemd"}
    good = site(three, tmp_path, ["h1"], c=component)
    assert play(RECONCILE, good).outcome == "changed"
    assert play(RECONCILE, good).outcome == "unchanged"
    bad = {**component, "command": "/bin/sh -c 'echo no database; exit 9'", "launcher": "supervisord"}
    result = play(RECONCILE, site(three, tmp_path, ["h1"], c=bad))
    assert (result.rc, result.outcome) == (2, "not_converged"), result.stdout
    assert "reverted to" in result.stdout and "no database" in result.stdout, result.stdout
    again = play(RECONCILE, site(three, tmp_path, ["h1"], c=bad))
    assert again.outcome == "not_converged" and again.recap("changed") == 0, again.stdout
    assert len(pids(three, "h1", "sleep 75319.5")) == 3
    fixed = {**bad, "command": "/bin/sleep 75320.5"}
    inventory = site(three, tmp_path, ["h1"], c=fixed)
    ends = time.monotonic() + 60
    # the next batch waits until supervisord calls the new ones RUNNING, which takes its startsecs
    while (result := play(RECONCILE, inventory)).outcome != "unchanged" and time.monotonic() < ends:
        assert result.outcome == "changed", result.stdout
    assert (len(pids(three, "h1", "sleep 75319.5")), len(pids(three, "h1", "sleep 75320.5"))) == (0, 3)


def test_w15_supervisord_down_is_told_from_a_program_that_is_down(three: Fleet, play: Player, tmp_path: Path) -> None:
    """A dead supervisord, and one that gave a program up, are told in words; a pass puts both right, once."""
    component = {"count": 1, "command": "/home/deploy/lives", "launcher": "supervisord"}
    component["options"] = {"supervisord": {"startretries": 0}}
    three.ssh("h2", "printf '#!/bin/sh\\nexec sleep 64207.5\\n' > lives; chmod +x lives", user="deploy")
    inventory = site(three, tmp_path, ["h2"], c=component)
    assert play(RECONCILE, inventory).outcome == "changed"
    # without its socket it is neither down nor started a second time
    sockets = "~/.local/state/sciops.sites/*/h2/supervisord/*.sock ~/.sciops.sites/*.sock"
    three.ssh("h2", f"rm $(ls {sockets} 2>/dev/null)", user="deploy")
    told = play(RECONCILE, inventory)
    assert "still runs" in told.stdout and told.outcome != "changed", told.stdout
    assert len(three.run("h2", "pgrep", "-f", "supervisord [-]c").split()) == 1
    three.run("h2", "sh", "-c", "kill -9 $(pgrep -f 'supervisord [-]c')")
    told = play("playbooks/status.yml", inventory)
    assert "supervisord is not running" in told.stdout and "adopt" not in told.stdout, told.stdout
    # what it left lives on and counts; the pass changes nothing for it
    assert play(RECONCILE, inventory).outcome == "unchanged"
    assert len(pids(three, "h2", "sleep 64207.5")) == 1
    three.ssh("h2", "rm lives", user="deploy")
    three.run("h2", "sh", "-c", "pkill -f 'sleep 64207.[5]'")
    assert play(RECONCILE, inventory).outcome == "not_converged"
    three.ssh("h2", "printf '#!/bin/sh\\nexec sleep 64207.5\\n' > lives; chmod +x lives", user="deploy")
    time.sleep(10)
    assert play(RECONCILE, inventory).outcome == "changed"
    # one that it gives up
    three.ssh("h2", "rm lives", user="deploy")
    three.run("h2", "sh", "-c", "pkill -f 'sleep 64207.[5]'")
    ends = time.monotonic() + 30
    while "FATAL" not in (told := play("playbooks/status.yml", inventory)).stdout and time.monotonic() < ends:
        time.sleep(1)
    assert "FATAL" in told.stdout and "is not running" not in told.stdout, told.stdout


def test_what_ended_with_its_supervisord_is_not_started_beside_its_successor(
    three: Fleet, play: Player, tmp_path: Path
) -> None:
    """supervisord and its programs are killed, the singleton goes elsewhere, and a supervisord is started anew."""
    single = {"count": 1, "singleton": True, "command": "sleep 64301.5", "launcher": "supervisord"}
    other = {"count": 1, "command": "sleep 64302.5", "launcher": "supervisord"}
    here, there = {"classes": ["on-h1"]}, {"classes": ["on-h3"]}
    inventory = site(three, tmp_path, ["h1", "h3"], lone=single | here)
    assert play(RECONCILE, inventory).outcome == "changed" and pids(three, "h1", "sleep 64301.5")
    three.run("h1", "sh", "-c", "kill -9 $(pgrep -f 'supervisord [-]c') $(pgrep -f '[s]leep 64301.5')")
    inventory = site(three, tmp_path, ["h1", "h3"], lone=single | there, more=other | here)
    result = play(RECONCILE, inventory)
    assert result.outcome == "changed", result.stdout
    # not even for the moment until the pass would end it again: one start is that before the kill
    log = three.ssh("h1", "cat ~/.local/state/sciops.sites/*/h1/supervisord/supervisord.log", user="deploy")
    assert log.count("spawned: 'sciops-p-lone-") == 1 and log.count("spawned: 'sciops-p-more-") == 1, log
    found = {host: len(pids(three, host, "sleep 64301.5")) for host in ("h1", "h3")}
    assert found == {"h1": 0, "h3": 1} and len(pids(three, "h1", "sleep 64302.5")) == 1
    assert play(RECONCILE, inventory).outcome == "unchanged"
