# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real faults on real hosts: no process too many, none lost, whatever breaks and whenever."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from bed.fleet import Fleet
from bed.play import Player, Result

pytestmark = pytest.mark.hosts

RECONCILE = "playbooks/reconcile.yml"


def site(number: int, count: int, *, settle: float = 0.5, policy: dict | None = None, **more) -> dict:
    """One component of `sleep <number>`."""
    return {
        "policy": {"host_timeout": 5, "pass_timeout": 90, "quorum": 0.3, **(policy or {})},
        "defaults": {"settle": settle, "grace": 2},
        "pipes": {"p": {"components": {"a": {"command": f"sleep {number}", "count": count, **more}}}},
    }


def copies(fleet: Fleet, number: int) -> list[tuple[str, int]]:
    return [(h, p.pid) for h in fleet.names for p in fleet.ps(h) if p.args == f"sleep {number}" and "Z" not in p.stat]


class Watch:
    """Samples how many copies run, from outside, for as long as the block lasts."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet, self._number, self.most = fleet, number, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.most = max(self.most, len(copies(self._fleet, self._number)))
            time.sleep(0.1)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


def converge(play: Player, inventory: Path, passes: int = 4) -> None:
    """Passes until nothing is to do; one that finds another at work is not counted, but waits for its end."""
    deadline = time.monotonic() + 60
    while passes:
        result = play(RECONCILE, inventory)
        if result.outcome == "unchanged":
            return
        passes -= result.outcome != "busy" or time.monotonic() > deadline
    raise AssertionError(f"not converged:\n{result.stdout}\n{result.stderr}")


def play_number(result: Result) -> int:
    """The number of the pass, as its report has it."""
    return int(result.site()["number"])


def kill_controller(process: subprocess.Popen[str], *, whole: bool) -> None:
    """Kill -9 a run: all of its processes, or only the first, whose worker then goes on alone (its own session)."""
    out = subprocess.run(["ps", "-eo", "pid=,ppid="], text=True, capture_output=True, check=True).stdout
    parents = [tuple(map(int, line.split())) for line in out.splitlines()]
    doomed = [process.pid]
    for pid in doomed:
        doomed += [child for child, parent in parents if whole and parent == pid]
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def ssh_clients(fleet: Fleet) -> list[str]:
    """Command lines of ssh clients on this machine that go to a host of the fleet and are not persistent masters."""
    addresses = [host.address for host in fleet.hosts.values()]
    out = subprocess.run(["ps", "-eo", "args"], text=True, capture_output=True, check=True).stdout
    return [line for line in out.splitlines() if line.startswith("ssh ") and any(a in line.split() for a in addresses)]


def test_j14_mute_host_costs_its_limit_and_no_process_stays(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    # what dies young would be a crash loop, and many at once a collapse; neither is the matter here
    inventory = hosts.site_file(tmp_path, site(20001, 6, healthy_after=0, policy={"cliff_floor": 100}))
    assert play(RECONCILE, inventory).rc == 0
    hosts.mute("h2")
    play.close()
    os.makedirs(play._sockets, exist_ok=True)
    for host in ("h1", "h3"):
        hosts.ssh(host, "pkill -f 'sleep 20001'")
    result = play(RECONCILE, inventory)
    seen = result.site()["plan"]["hosts"]["h2"]
    assert seen["state"] == "unknown" and "no answer within 5 s" in seen["why"]
    assert result.seconds < 45, (
        "it would wait for ever, so any end shows the limit; how fast a pass is belongs to the bench"
    )
    assert len([1 for host, _pid in copies(hosts, 20001) if host != "h2"]) == 4, "others are served, h2's two count"
    assert not ssh_clients(hosts)
    hosts.unmute("h2")
    converge(play, inventory)
    assert len(copies(hosts, 20001)) == 6


def test_j03_dead_hosts_cost_one_limit_in_all_and_words_are_not_an_answer(
    fleet: Callable[..., Fleet], play: Player, tmp_path: Path
) -> None:
    with fleet(20) as twenty:
        inventory = twenty.site_file(tmp_path, site(20021, 20, policy={"host_timeout": 6, "start_budget": 0}))
        dead = twenty.names[:10]
        liar = twenty.names[10]
        forced = 'command="echo Unreachable; exit 0" ' + twenty.ssh(liar, "cat /root/.ssh/authorized_keys").strip()
        twenty.ssh(liar, ["sh", "-c", 'printf "%s\\n" "$1" > /root/.ssh/authorized_keys', "x", forced])
        assert play(RECONCILE, inventory).report["execs"] == 20  # connections are warm from here on
        for host in dead:
            twenty.cut(host)
        result = play(RECONCILE, inventory)
        hosts = result.site()["plan"]["hosts"]
        assert {name for name, one in hosts.items() if one["state"] == "unknown"} == {*dead, liar}
        assert all("no answer within 6 s" in hosts[name]["why"] for name in dead), hosts
        assert "Unreachable" in hosts[liar]["why"], hosts[liar]
        assert result.seconds < 5 * 6, "ten limits lie side by side"


def test_host_that_hangs_behind_a_warm_connection(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    """The network goes while a persistent master is up: the next passes must not wait for it again and again."""
    inventory = hosts.site_file(tmp_path, site(20011, 3))
    assert play(RECONCILE, inventory).rc == 0
    hosts.cut("h3")
    cut = play(RECONCILE, inventory)
    assert cut.site()["plan"]["hosts"]["h3"]["state"] == "unknown"
    assert "1 possibly running" in json.dumps(cut.site()["plan"]["components"]["p/a"]), cut.stdout
    assert not [one for one in cut.site()["results"] if one["kind"] == "start"]
    hosts.heal("h3")
    assert play(RECONCILE, inventory).outcome == "unchanged"
    assert len(copies(hosts, 20011)) == 3


def test_j08_unknown_is_not_zero(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    inventory = hosts.site_file(tmp_path, site(20021, 6))
    assert play(RECONCILE, inventory).rc == 0
    assert Counter(host for host, _pid in copies(hosts, 20021)) == {"h1": 2, "h2": 2, "h3": 2}
    hosts.cut("h1")
    result = play(RECONCILE, inventory)
    assert result.site()["results"] == [] and result.outcome == "not_converged"
    assert "2 possibly running" in json.dumps(result.site()["plan"]["components"]["p/a"])
    hosts.heal("h1")
    assert len(copies(hosts, 20021)) == 6


@pytest.mark.parametrize("delay", [0.2, 1.2])
def test_host_cut_off_in_the_middle_of_an_apply(hosts: Fleet, play: Player, tmp_path: Path, delay: float) -> None:
    number = 20100 + int(delay * 10)
    inventory = hosts.site_file(tmp_path, site(number, 6, settle=2.0))
    with Watch(hosts, number) as watch:
        process, report = play.start(RECONCILE, inventory)
        deadline = time.monotonic() + 30
        while not copies(hosts, number) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(delay)
        busiest = Counter(host for host, _pid in copies(hosts, number)).most_common(1)[0][0]
        hosts.cut(busiest)
        stdout, stderr = process.communicate(timeout=120)
        during = play.result(process.returncode, stdout, stderr, report)
        again = play(RECONCILE, inventory)
        hosts.heal(busiest)
        converge(play, inventory)
    assert watch.most <= 6, (during.stdout, again.stdout)
    assert len(copies(hosts, number)) == 6


@pytest.mark.parametrize("seed", range(3))
def test_controller_killed_at_any_point(hosts: Fleet, play: Player, tmp_path: Path, seed: int) -> None:
    number = 20200 + seed
    inventory = hosts.site_file(tmp_path, site(number, 12))
    draw = random.Random(seed)
    with Watch(hosts, number) as watch:
        for _round in range(2):
            process, _report = play.start(RECONCILE, inventory)
            time.sleep(0.8 + 2.5 * draw.random())
            kill_controller(process, whole=bool(seed))
        converge(play, inventory)
    assert watch.most <= 12 and len(copies(hosts, number)) == 12


def test_a_hundred_starts_in_flight(fleet: Callable[..., Fleet], play: Player, tmp_path: Path) -> None:
    with fleet(4) as four:
        inventory = four.site_file(tmp_path, site(20301, 100, policy={"start_budget": 200}))
        with Watch(four, 20301) as watch:
            process, _report = play.start(RECONCILE, inventory)
            while len(copies(four, 20301)) < 10 and process.poll() is None:
                time.sleep(0.05)
            kill_controller(process, whole=True)
            converge(play, inventory)
        assert watch.most <= 100 and len(copies(four, 20301)) == 100
        assert set(Counter(host for host, _pid in copies(four, 20301)).values()) == {25}


def test_j13_second_pass_on_one_controller_is_busy(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    inventory = hosts.site_file(tmp_path, site(20401, 6, settle=3.0))
    process, _report = play.start(RECONCILE, inventory)
    while not copies(hosts, 20401):
        time.sleep(0.05)
    busy = play(RECONCILE, inventory)
    assert (busy.outcome, busy.report["exit_code"]) == ("busy", 75), busy.stdout
    assert str(process.pid) not in ("", None) and "pid" in busy.site()["why"] and " s" in busy.site()["why"]
    process.communicate(timeout=120)
    assert len(copies(hosts, 20401)) == 6


@pytest.mark.parametrize("seed", range(2))
def test_two_controllers_at_once_never_start_more_than_wished(
    hosts: Fleet, controller: Callable[[str], Player], tmp_path: Path, seed: int
) -> None:
    number = 20500 + seed
    inventory = hosts.site_file(tmp_path, site(number, 9))
    first, second = controller("first"), controller("second")
    draw = random.Random(seed)
    with Watch(hosts, number) as watch:
        for _round in range(2):
            one, _report = first.start(RECONCILE, inventory)
            time.sleep(draw.random() * 1.5)
            two, _report = second.start(RECONCILE, inventory)
            outputs = [process.communicate(timeout=120) for process in (one, two)]
        converge(first, inventory)
        converge(second, inventory)
    assert watch.most <= 9, outputs
    assert len(copies(hosts, number)) == 9


def test_controller_that_lost_its_memory_takes_over_in_one_pass(
    hosts: Fleet, controller: Callable[[str], Player], tmp_path: Path
) -> None:
    """The hosts know a higher number than a new controller does: it asks again with one that is higher still."""
    inventory = hosts.site_file(tmp_path, site(20551, 6, policy={"pass_timeout": 20}))
    old, new = controller("old"), controller("new")
    converge(old, inventory)
    assert play_number(old(RECONCILE, inventory)) == 3
    before = copies(hosts, 20551)
    first = new(RECONCILE, inventory)
    assert (first.outcome, play_number(first), first.report["execs"]) == ("unchanged", 4, 6), first.stdout
    # the old one is not told apart from a pass that is still at work, as long as one may be
    busy = old(RECONCILE, inventory)
    assert (busy.outcome, busy.report["exit_code"]) == ("busy", 75), busy.stdout
    assert "pass 4 by" in busy.site()["why"]
    new(RECONCILE, inventory)
    new(RECONCILE, inventory)
    time.sleep(20)
    late = old(RECONCILE, inventory)
    assert (late.outcome, late.report["execs"]) == ("unchanged", 6), late.stdout
    assert play_number(late) > 6
    assert copies(hosts, 20551) == before


def test_full_disk_on_a_host_starts_nothing_there_and_says_so(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    inventory = hosts.site_file(tmp_path, site(20601, 3, max_per_host=1))
    hosts.run("h2", "sh", "-c", "mkdir -p /var/lib/sciops.sites; mount -t tmpfs -o size=64k t /var/lib/sciops.sites")
    hosts.run("h2", "sh", "-c", "head -c 200000 /dev/zero > /var/lib/sciops.sites/fill; true")
    result = play(RECONCILE, inventory)
    assert result.outcome == "not_converged"
    assert "No space left" in json.dumps(result.report), result.stdout
    assert {host for host, _pid in copies(hosts, 20601)} == {"h1", "h3"}
    hosts.run("h2", "rm", "/var/lib/sciops.sites/fill")
    deadline = time.monotonic() + 60
    while len(copies(hosts, 20601)) < 3 and time.monotonic() < deadline:
        play(RECONCILE, inventory)  # a failed start waits ten seconds
    assert {host for host, _pid in copies(hosts, 20601)} == {"h1", "h2", "h3"}


def test_full_disk_on_the_controller_touches_nothing(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    inventory = hosts.site_file(tmp_path, site(20611, 3))
    play.state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "t", str(play.state)], check=True)
    try:
        subprocess.run(["sh", "-c", f"head -c 200000 /dev/zero > {play.state}/fill"], capture_output=True, check=False)
        result = play(RECONCILE, inventory)
        assert result.rc == 2 and "No space left" in result.stdout + result.stderr
        assert copies(hosts, 20611) == []
    finally:
        subprocess.run(["umount", str(play.state)], check=True)


def test_damaged_memory_is_named_and_nothing_is_touched(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    inventory = hosts.site_file(tmp_path, site(20621, 3))
    assert play(RECONCILE, inventory).rc == 0
    (memory,) = play.state.glob("*/memory.json")
    memory.write_text(memory.read_text()[:40])
    hosts.ssh("h1", "pkill -f 'sleep 20621'")
    result = play(RECONCILE, inventory)
    assert result.rc == 2 and "memory.json" in result.stdout, result.stdout
    assert len(copies(hosts, 20621)) == 2


def test_power_cut_and_reboot_explain_a_loss(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    inventory = hosts.site_file(tmp_path, site(20631, 9))
    assert play(RECONCILE, inventory).rc == 0
    for host in hosts.names:
        hosts.kill(host)
    dark = play(RECONCILE, inventory)
    assert dark.outcome == "unsafe", dark.stdout  # no quorum
    for host in hosts.names:
        hosts.boot(host)
    result = play(RECONCILE, inventory)
    assert result.outcome == "changed", result.stdout
    assert len(copies(hosts, 20631)) == 9


@pytest.mark.parametrize("reboot", [False, True])
def test_clock_of_the_controller_jumps(hosts: Fleet, play: Player, tmp_path: Path, reboot: bool) -> None:
    """A wall clock a week ahead of the last pass must not make the last known instances of a silent host lost."""
    inventory = hosts.site_file(tmp_path, site(20641, 3, policy={"lost_after": 3600}))
    assert play(RECONCILE, inventory).rc == 0
    hosts.cut("h3")
    (path,) = play.state.glob("*/memory.json")
    document = json.loads(path.read_text())
    document["clock"]["wall"] -= 7 * 86400  # the same as a jump forward by now; the kernel lets nobody set it here
    if reboot:
        document["clock"]["boot_id"] = "another boot, so that only the wall clock is left to tell"
    path.write_text(json.dumps(document))
    result = play(RECONCILE, inventory)
    assert result.site()["results"] == [] and "1 possibly running" in json.dumps(result.site()["plan"]), result.stdout
    hosts.heal("h3")
    assert play(RECONCILE, inventory).outcome == "unchanged"


def test_j21_collapse_without_a_cause_stops_the_pass(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    spec = site(20651, 9, healthy_after=1)
    inventory = hosts.site_file(tmp_path, spec)
    assert play(RECONCILE, inventory).rc == 0
    time.sleep(1.2)
    assert play(RECONCILE, inventory).outcome == "unchanged"
    for host in ("h1", "h2"):
        hosts.ssh(host, "pkill -f 'sleep 20651'")
    result = play(RECONCILE, inventory)
    assert result.outcome == "unsafe" and result.site()["results"] == [], result.stdout
    accepted = play(RECONCILE, inventory, "-e", "sciops_sites_accept_collapse=true", "-e", "sciops_sites_by=ana")
    assert accepted.rc == 0 and len(copies(hosts, 20651)) == 9, accepted.stdout
    history = "".join(path.read_text() for path in play.state.glob("*/history.jsonl"))
    assert "ana accepted the collapse" in history
