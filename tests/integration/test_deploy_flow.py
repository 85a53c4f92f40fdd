# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A system deployed for real: over supervisord at one site, over systemd at another; forward, back, broken, cut off."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bed.echo import DEPLOY, HOSTS, PORTS, SECRET, Echo
from bed.fleet import BED, Fleet, until
from bed.play import Player

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def bench(fleet: Callable[..., Fleet], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Echo]:
    folder = tmp_path_factory.mktemp("deploy")
    player = Player(folder / "controller")
    with fleet(2, "systemd") as two:
        yield Echo(two, folder, player)
    player.close()


class Watch:
    """Asks the service every 100 ms what it says, until the block ends."""

    def __init__(self, bench: Echo, site: str) -> None:
        script = (
            "import sys, time, urllib.request as u\n"
            "while True:\n"
            f"    try: said = u.urlopen('http://127.0.0.1:{PORTS[site]}', timeout=1).read().decode()[0]\n"
            "    except OSError: said = '-'\n"
            "    print(time.time(), said, flush=True); time.sleep(0.1)\n"
        )
        inside = [str(BED), "exec", bench.fleet.number, HOSTS[site], "python3", "-c", script]
        self._process = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.seen: list[tuple[float, str]] = []

    def __enter__(self) -> Watch:
        assert self._process.stdout
        self._process.stdout.readline()
        return self

    def __exit__(self, *_exc: object) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        text = self._process.communicate(timeout=20)[0]
        self.seen = [(float(at), said) for at, said in (line.split() for line in text.splitlines() if " " in line)]

    def down(self) -> float:
        """Seconds between the last answer before the longest silence and the first after it; 0 without one."""
        times = [at for at, said in self.seen if said != "-"]
        silent = [at for at, said in self.seen if said == "-"]
        return max((b - a for a, b in itertools.pairwise(times) if any(a < s < b for s in silent)), default=0)


@pytest.mark.parametrize("site", ["acme", "beta"])
def test_first_deploy_then_the_same_then_another(bench: Echo, site: str) -> None:
    plan = bench.deploy(site, "1", "--check", "--diff")
    assert plan.rc == 0 and plan.recap("changed") > 0, plan.stdout + plan.stderr
    assert bench.run(site, "ls -d echo 2>/dev/null || :") == ""
    assert "[echo]" in plan.stdout and "a%%b" not in plan.stdout and "********" in plan.stdout, plan.stdout
    # one that does not come up leaves nothing behind, no supervisord either, and bars no other
    bad = bench.deploy(site, "6")
    assert bad.rc != 0 and "Nothing is live, as before." in bad.stdout, bad.stdout
    assert bench.pids(site) == {} and "supervisord" not in str(bench.fleet.ps(HOSTS[site]))
    first = bench.deploy(site, "1")
    assert first.rc == 0, first.stdout + first.stderr
    assert bench.answer(site) == f"1|hello|{SECRET}"
    pids = bench.pids(site)
    assert sorted(pids) == ["echo", "worker"]
    again = bench.deploy(site, "1", "--diff")
    assert (again.rc, again.recap("changed")) == (0, 0), again.stdout
    assert bench.pids(site) == pids
    # only what the file concerns is restarted
    changed = bench.deploy(site, "1", GREETING="good morning", SLOW=1)
    assert changed.rc == 0 and changed.recap("changed") == 1, changed.stdout
    assert bench.answer(site) == f"1|good morning|{SECRET}"
    now = bench.pids(site)
    assert now["worker"] == pids["worker"] and now["echo"] != pids["echo"]
    with Watch(bench, site) as watch:
        second = bench.deploy(site, "2")
    assert second.rc == 0, second.stdout
    assert bench.answer(site) == f"2|hello|{SECRET}"
    # the worker is apart: what is installed does not concern it
    assert bench.pids(site)["worker"] == pids["worker"]
    told = float(second.stdout.split("down for ")[1].split(" s")[0])
    assert 0.5 < watch.down() <= told + 2, (watch.down(), told)
    # what did not come up is built too
    assert bench.run(site, f"ls {bench.root(site)}/builds/*.json | wc -l") == "3"


def test_a_build_that_fails_is_no_downtime(bench: Echo) -> None:
    bench.deploy("acme", "1")
    before = bench.pids("acme")
    with Watch(bench, "acme") as watch:
        failed = bench.deploy("acme", "4")
    assert failed.rc != 0 and "FAILED in step release_build" in failed.stdout, failed.stdout
    assert len(watch.seen) > 5 and watch.down() == 0
    assert bench.pids("acme") == before and bench.answer("acme").startswith("1|")
    assert bench.deploy("acme", "1").recap("changed") == 0


@pytest.mark.parametrize("site", ["acme", "beta"])
def test_a_version_that_does_not_come_up_is_taken_back(bench: Echo, site: str) -> None:
    bench.deploy(site, "1")
    failed = bench.deploy(site, "3")
    assert failed.rc != 0 and "step verify failed" in failed.stdout and "is live as before" in failed.stdout
    assert bench.answer(site) == f"1|hello|{SECRET}"
    assert "was taken back here" in bench.deploy(site, "3").stdout
    assert bench.deploy(site, "1").recap("changed") == 0


def test_a_failure_ends_the_run_before_the_next_target(bench: Echo) -> None:
    for site in ("acme", "beta"):
        bench.deploy(site, "1")
    before = bench.pids("beta")
    failed = bench.deploy("all", "3", "-e", "sciops_sites_retry=true", WORKER="all")
    # the worker, which changes too, comes after the echo
    assert failed.rc != 0 and "acme-dev: FAILED in step start" in failed.stdout, failed.stdout
    assert "beta-dev: checked" in failed.stdout and "beta-dev: FAILED" not in failed.stdout
    assert bench.pids("beta") == before
    assert [bench.answer(site)[0] for site in ("acme", "beta")] == ["1", "1"]


def test_a_host_that_is_down_stops_a_run_before_anything_is_touched(bench: Echo) -> None:
    for site in ("acme", "beta"):
        bench.deploy(site, "1")
    before = bench.pids("acme")
    bench.fleet.cut("h2")
    try:
        failed = bench.deploy("all", "2", "-e", "ansible_ssh_timeout=4")
    finally:
        bench.fleet.heal("h2")
    assert failed.rc != 0 and failed.recap("unreachable") == 1, failed.stdout
    assert bench.pids("acme") == before and bench.answer("acme").startswith("1|")


def test_back_with_one_command(bench: Echo) -> None:
    bench.deploy("acme", "1")
    bench.deploy("acme", "2")
    result = bench.do("rollback", "acme", "-e", "sciops_sites_reason='ticket 4711'")
    assert result.rc == 0, result.stdout
    assert bench.answer("acme") == f"1|hello|{SECRET}"
    assert "ticket 4711" in bench.deploy("acme", "2").stdout
    assert bench.deploy("acme", "2", "-e", "sciops_sites_retry=true").rc == 0
    assert bench.answer("acme").startswith("2|")


@pytest.mark.parametrize("site", ["acme", "beta"])
def test_stop_start_restart_status(bench: Echo, site: str) -> None:
    bench.deploy(site, "1")
    pids = bench.pids(site)
    assert bench.do("restart", site, "-e", '{"sciops_sites_services": ["worker"]}').rc == 0
    assert bench.pids(site)["echo"] == pids["echo"] and bench.pids(site)["worker"] != pids["worker"]
    assert bench.do("stop", site, "-e", "sciops_sites_reason=maintenance").rc == 0
    assert bench.pids(site) == {}
    status = bench.do("status", site)
    assert status.rc == 0 and "echo stopped" in status.stdout and "maintenance" in status.stdout, status.stdout
    assert bench.deploy(site, "1").recap("changed") == 0 and bench.pids(site) == {}
    # a file of supervisord itself changes meanwhile: a new one would start all that it finds
    other = bench.deploy(site, "1", TAG="-other")
    assert other.rc == 0 and other.recap("changed") == int(site == "acme"), other.stdout
    time.sleep(2)
    assert bench.pids(site) == {}
    # the whole machine was down meanwhile: supervisord itself is gone, and systemd has begun anew
    bench.fleet.kill(HOSTS[site])
    bench.fleet.boot(HOSTS[site])
    until(lambda: site == "acme" or "active" in bench.run(site, "systemctl --user is-active default.target || :"))
    assert bench.pids(site) == {}
    assert bench.do("start", site).rc == 0
    pids = bench.pids(site)
    assert sorted(pids) == ["echo", "worker"]
    assert bench.do("start", site).recap("changed") == 0 and bench.pids(site) == pids


def test_drift_is_named_and_repaired(bench: Echo) -> None:
    bench.deploy("acme", "1")
    root, pids = bench.root("acme"), bench.pids("acme")
    bench.run("acme", f"echo '# x' >> {root}/config/echo.conf; rm {root}/bin/echo; rm {root}/site")
    told = bench.deploy("acme", "1", "--check")
    for name in ("config/echo.conf", "bin/echo", "site"):
        assert f"{root}/{name}" in told.stdout, told.stdout
    assert told.recap("changed") == 1
    status = bench.do("status", "acme")
    assert f"{root}/config/echo.conf: content" in status.stdout, status.stdout
    assert bench.deploy("acme", "1").rc == 0
    assert bench.pids("acme") == pids
    assert bench.deploy("acme", "1").recap("changed") == 0


def test_nothing_is_touched_where_central_is_silent_or_a_secret_is_missing(bench: Echo) -> None:
    bench.deploy("acme", "1")
    before = bench.pids("acme")
    failed = bench.deploy("acme", "2", CENTRAL="http://127.0.0.1:9/")
    assert failed.rc != 0 and "nothing was touched" in failed.stdout, failed.stdout
    args, _env = bench.arguments("acme", "2", PORT=70000)
    failed = bench.play(DEPLOY, bench.folder, *args, env={"ECHO_PASSWORD": ""})
    assert failed.rc != 0 and "PASSWORD" in failed.stdout and "PORT" in failed.stdout, failed.stdout
    assert bench.pids("acme") == before and bench.answer("acme").startswith("1|")


def test_two_at_once(bench: Echo, tmp_path: Path) -> None:
    bench.deploy("acme", "1", SLOW=3)
    args, env = bench.arguments("acme", "2")
    first, _report = bench.play.start(DEPLOY, bench.folder, *args, env=env)
    deadline = time.monotonic() + 120
    while not bench.journal("acme") and time.monotonic() < deadline:
        time.sleep(0.1)
    # however slow this machine is, the change is not over before the second one has asked
    worker = bench.worker("acme")
    bench.run("acme", f"kill -STOP {worker}")
    try:
        second = bench.do("restart", "acme")
    finally:
        bench.run("acme", f"kill -CONT {worker}")
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, out + err
    assert second.rc != 0 and "another change is under way" in second.stdout, second.stdout
    assert bench.answer("acme").startswith("2|") and sorted(bench.pids("acme")) == ["echo", "worker"]


@pytest.mark.parametrize("phase", ["build", "stop", "start", "verify"])
def test_controller_killed(bench: Echo, phase: str) -> None:
    """The old version goes on, or the host brings the switch to its end; the next run completes."""
    bench.deploy("beta", "1", SLOW=1)
    old = bench.answer("beta")[0]
    # one that was never built: what is there already is not built again
    version = "5" if phase == "build" else "2"
    args, env = bench.arguments("beta", version, PAUSE=3, WORKER=phase)
    process, _report = bench.play.start(DEPLOY, bench.folder, *args, env=env)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if bench.run("beta", "pgrep -xf 'sleep [3]' || :") if phase == "build" else bench.journal("beta") == phase:
            break
        time.sleep(0.02)
    bench.kill_tree(process)
    while bench.journal("beta") and time.monotonic() < deadline:
        time.sleep(0.1)
    answered = bench.answer("beta")
    assert answered[:1] in ((old,) if phase == "build" else (old, version)), answered
    done = bench.deploy("beta", version, WORKER=phase)
    assert done.rc == 0, done.stdout
    assert bench.answer("beta").startswith(f"{version}|") and sorted(bench.pids("beta")) == ["echo", "worker"]


def test_no_secret_anywhere_it_must_not_be(bench: Echo) -> None:
    word = f"s3cret-{os.getpid()}"
    sampler = "while :; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; sleep 0.05; done"
    inside = [str(BED), "exec", bench.fleet.number, "h1", "sh", "-c", sampler]
    args, _env = bench.arguments("acme", "2", GREETING="x")
    watch = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        result = bench.play(DEPLOY, bench.folder, *args, "-vvv", "--diff", env={"ECHO_PASSWORD": word})
    finally:
        os.killpg(watch.pid, signal.SIGTERM)
        seen = watch.communicate(timeout=20)[0]
    assert result.rc == 0, result.stdout[-3000:]
    assert "sciecho" in seen and word not in seen
    assert word not in result.stdout + result.stderr
    held = bench.run("acme", f"grep -rls {word} /home/deploy /tmp /var/log 2>/dev/null | sort; :").split()
    assert held and all(path.startswith(bench.root("acme")) for path in held), held
    modes = bench.run("acme", f"stat -c %a {' '.join(held)}").split()
    assert set(modes) == {"600"}, (held, modes)
    assert bench.answer("acme") == f"2|x|{word}"
