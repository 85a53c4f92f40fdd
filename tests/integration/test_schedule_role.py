# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role `schedule` on a host with a real systemd and cron: J13, with the real pass."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bed.fleet import Fleet
from bed.play import Player

pytestmark = pytest.mark.hosts

SCENARIO = "molecule/schedule"
HOME = "/usr/local/lib/sciops.sites/pool"
LOGS = "/var/log/sciops.sites/pool"
REPORT = "/opt/sciops/state/pool.demo/report.json"
RUN = f"sh {HOME}/run-pass {HOME}/pass.conf"
HOLD_LOCK = (
    "import sys, time; sys.path[:0] = ['/opt/sciops/collections']; "
    "from ansible_collections.sciops.sites.plugins.plugin_utils._store import Store; "
    "lock = Store('/opt/sciops/state', 'pool', 'demo').lock('a long pass'); lock.__enter__(); time.sleep(300)"
)


@pytest.fixture(scope="module")
def controller(bed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Callable]]:
    """A host with systemd that has ansible-core, this collection and a site; and what runs a playbook on it."""
    player = Player(tmp_path_factory.mktemp("schedule"))
    with Fleet(1, "systemd") as fleet:

        def on_it(name: str, **values: object):
            done = player(f"{SCENARIO}/{name}.yml", fleet.inventory, "-e", json.dumps(values))
            assert done.rc == 0, done.stdout + done.stderr
            return done

        on_it("prepare")
        yield fleet, on_it
    player.close()


def wait(condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.5)
    return False


def outcome(fleet: Fleet) -> str:
    text = fleet.ssh("h1", f"cat {REPORT} 2>/dev/null || true")
    return json.loads(text)["outcome"] if text else ""


def sleepers(fleet: Fleet) -> list[int]:
    return sorted(process.pid for process in fleet.ps("h1") if process.args in ("sleep 9101", "sleep 9102"))


def test_j13_timer_passes_overlap_and_removal(controller) -> None:
    fleet, on_it = controller
    before = on_it("converge")
    assert before.recap("changed") > 0
    assert wait(lambda: outcome(fleet) == "unchanged", 120), fleet.ssh("h1", f"tail -n 40 {LOGS}/*.log")
    running = sleepers(fleet)
    assert len(running) == 3
    assert on_it("converge").recap("changed") == 0

    # quiet the timer: what follows looks at one run at a time
    fleet.ssh("h1", "systemctl stop pool.timer")
    assert wait(lambda: fleet.ssh("h1", "systemctl is-active pool.service || true") in ("inactive", "failed"), 60)
    fleet.ssh("h1", f"touch -d '40 days ago' {LOGS}/pass.1.1.log")
    assert fleet.ssh("h1", f"{RUN} 2>&1; echo rc=$?") == "rc=0"
    assert "pass.1.1.log" not in fleet.ssh("h1", f"ls {LOGS}")

    # a second run while one is at work
    fleet.ssh("h1", ["sh", "-c", f'setsid python3 -c "{HOLD_LOCK}" >/dev/null 2>&1 </dev/null & echo $! > /tmp/holder'])
    pid = fleet.ssh("h1", "cat /tmp/holder")
    assert wait(lambda: "a long pass" in fleet.ssh("h1", "cat /opt/sciops/state/pool.demo/lock"), 20)
    said = fleet.ssh("h1", f"{RUN} 2>&1; echo rc=$?")
    assert said.endswith("rc=75")
    assert f"pid {pid}" in said
    assert "a long pass by root on h1" in said
    fleet.ssh("h1", "systemctl start pool.service")  # 75 is no failure to systemd
    fleet.ssh("h1", f"kill -9 {pid}")
    assert fleet.ssh("h1", f"{RUN} 2>&1; echo rc=$?") == "rc=0"

    # passes stop: the alert fires, in systemd and for who asks
    fleet.ssh("h1", f"echo 1000 > {HOME}/last-pass")
    assert wait(lambda: fleet.ssh("h1", "systemctl is-failed pool-alert.service || true") == "failed", 40)
    assert "PASSES CRIT" in fleet.ssh("h1", "journalctl -t sciops.sites --no-pager")

    on_it("destroy")
    left = fleet.ssh(
        "h1", "ls /etc/systemd/system /usr/local/lib/sciops.sites /var/log/sciops.sites; systemctl list-timers"
    )
    assert "pool" not in left
    assert sleepers(fleet) == running
    assert outcome(fleet) == "unchanged"
    assert on_it("destroy").recap("changed") == 0


def test_j13_cron_runs_passes_and_is_removed(controller) -> None:
    fleet, on_it = controller
    fleet.ssh("h1", f"rm -f {REPORT}")
    values = {"schedule_kind": "cron", "schedule_cron": "* * * * *", "schedule_mailto": ""}
    on_it("converge", **values)
    assert on_it("converge", **values).recap("changed") == 0
    assert wait(lambda: outcome(fleet), 100), fleet.ssh("h1", f"cat /etc/cron.d/pool; ls -la {LOGS}")
    on_it("destroy", **values)
    assert "pool" not in fleet.ssh("h1", "ls /etc/cron.d /usr/local/lib/sciops.sites")


@pytest.mark.parametrize("kind", ["systemd", "cron"])
def test_user_scope_touches_nothing_of_others(controller, kind: str) -> None:
    fleet, on_it = controller
    if kind == "cron":
        fleet.ssh("h1", "(echo 'MAILTO=me'; echo '0 0 1 1 * /bin/true # mine') | crontab -", user="deploy")
    values = {"schedule_kind": kind, "schedule_scope": "user", "ansible_user": "deploy", "schedule_state_dir": ""}
    on_it("converge", **values)
    assert on_it("converge", **values).recap("changed") == 0
    if kind == "systemd":
        timers = fleet.ssh("h1", "XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user list-timers", user="deploy")
        assert "pool.timer" in timers
    else:
        assert "run-pass" in fleet.ssh("h1", "crontab -l", user="deploy")
    on_it("destroy", **values)
    assert (
        fleet.ssh("h1", "ls .local/lib/sciops.sites .config/systemd/user 2>/dev/null || true", user="deploy").count(
            "pool"
        )
        == 0
    )
    if kind == "cron":
        assert fleet.ssh("h1", "crontab -l", user="deploy") == "MAILTO=me\n0 0 1 1 * /bin/true # mine"
