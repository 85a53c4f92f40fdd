# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts that other tests stand on behave like hosts, and their faults are real faults."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from bed.fleet import Fleet, slurm_pool
from bed.play import Player

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def two(fleet: Callable[..., Fleet]) -> Iterator[Fleet]:
    with fleet(2) as made:
        yield made


def answers(fleet: Fleet, host: str) -> bool:
    try:
        return fleet.ssh(host, "echo yes", timeout=3) == "yes"
    except (AssertionError, subprocess.TimeoutExpired):
        return False


def until(said: str, ask: Callable[[], str], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while said not in (answer := ask()):
        assert time.monotonic() < ends, f"no {said!r} after {seconds} s: {answer}"
        time.sleep(0.1)


def test_hosts_have_their_own_processes_and_names(two: Fleet) -> None:
    two.ssh("h1", "nohup sleep 4711 >/dev/null 2>&1 & echo done")
    assert two.ssh("h1", "hostname") == "h1"
    assert [p.args for p in two.ps("h1")].count("sleep 4711") == 1
    assert not [p for p in two.ps("h2") if "4711" in p.args]
    assert two.ssh("h1", "cat /proc/sys/kernel/random/boot_id") != two.ssh("h2", "cat /proc/sys/kernel/random/boot_id")


def test_users(two: Fleet) -> None:
    assert two.ssh("h1", "id -un", user="jadelta") == "jadelta"
    assert two.ssh("h1", "sudo id -un", user="deploy") == "root"
    assert [p.user for p in two.ps("h1") if p.pid == 1] == ["root"]


def test_marker_of_an_instance_is_seen_from_outside(two: Fleet) -> None:
    # what the agent does: the pid is put into the marker between fork and exec
    start = 'export SCIOPS_SITES="bed test h2 p/c 1 0123456789ab 1-0 $$"; exec sleep 4712'
    two.ssh("h2", f"setsid -f sh -c {shlex.quote(start)} </dev/null >/dev/null 2>&1; sleep 0.3")
    assert [i["component"] for i in two.instances("h2")] == ["p/c"]
    assert two.count("p/c") == 1
    assert two.count("p/other") == 0


def test_cable_out_and_in(two: Fleet) -> None:
    two.cut("h1")
    assert not answers(two, "h1")
    assert answers(two, "h2")
    assert two.run("h1", "hostname") == "h1"
    two.heal("h1")
    assert answers(two, "h1")


def test_mute_host_accepts_and_never_answers(two: Fleet) -> None:
    two.mute("h2")
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        two.ssh("h2", "true", timeout=2)
    assert time.monotonic() - begun >= 2
    two.unmute("h2")
    assert answers(two, "h2")


def test_power_cut_and_back(two: Fleet) -> None:
    before = two.ssh("h1", "touch /root/kept; cat /proc/sys/kernel/random/boot_id")
    two.kill("h1")
    assert not answers(two, "h1")
    two.boot("h1")
    assert two.ssh("h1", "ls /root/kept") == "/root/kept"
    assert two.ssh("h1", "cat /proc/sys/kernel/random/boot_id") != before


def test_two_sets_side_by_side(two: Fleet, fleet: Callable[..., Fleet]) -> None:
    with fleet(1) as other:
        assert other.number != two.number
        assert other.hosts["h1"].address != two.hosts["h1"].address
        assert other.ssh("h1", "hostname") == "h1"
    assert answers(two, "h1")


def test_a_fleet_that_was_ended_does_not_end_the_next_one_of_its_number(bed: Path) -> None:
    first = Fleet(1)
    first.down()
    with Fleet(1) as second:
        first.number = second.number  # as when the first free number is given again
        first.down()
        assert second.ssh("h1", "echo there") == "there"


def test_systemd_hosts_boot(fleet: Callable[..., Fleet]) -> None:
    with fleet(1, kind="systemd") as one:
        assert one.ssh("h1", "systemctl is-system-running --wait") == "running"
        assert one.ssh("h1", "systemctl --user is-active default.target", user="deploy") == "active"


SUPERVISORD = """\
[unix_http_server]
file=/root/s.sock
[supervisord]
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix:///root/s.sock
[program:p]
command=sleep 4713
"""


def test_supervisord_runs_programs(two: Fleet) -> None:
    assert two.ssh("h2", "supervisord --version", user="jadelta") == "4.3.0"
    two.ssh("h2", f"cd /root; printf %s {shlex.quote(SUPERVISORD)} > s.conf; supervisord -c s.conf")
    until("RUNNING", lambda: two.ssh("h2", "supervisorctl -c /root/s.conf status p", check=False))
    two.ssh("h2", "supervisorctl -c /root/s.conf shutdown")


@pytest.mark.parametrize(("recipe", "version"), [("slurm22", "22.05"), ("slurm24", "24.11"), ("cluster", "")])
def test_slurm_runs_a_job_to_its_end(fleet: Callable[..., Fleet], recipe: str, version: str) -> None:
    with fleet(1, kind="systemd", recipe=recipe) as one:
        assert slurm_pool(one).startswith(version)
        job = one.ssh("h1", "sbatch --parsable --wrap 'id -un > ran'", user="jadelta")
        until("JobState=COMPLETED", lambda: one.ssh("h1", f"scontrol show job -o {job}"))
        assert one.ssh("h1", "cat ran", user="jadelta") == "jadelta"


def test_slurm_of_two_hosts_has_scrontab(fleet: Callable[..., Fleet]) -> None:
    with fleet(2, kind="systemd", recipe="slurm24") as pair:
        slurm_pool(pair)
        assert sorted(pair.ssh("h1", "srun -N2 hostname", user="jadelta").split()) == ["h1", "h2"]
        line = "0 0 1 1 * true"
        pair.ssh("h2", f"echo {shlex.quote(line)} | scrontab -", user="jadelta")
        assert line in pair.ssh("h1", "scrontab -l", user="jadelta")


def test_apptainer_runs_images_of_several_contents(fleet: Callable[..., Fleet]) -> None:
    with fleet(1, recipe="cluster") as one:
        tags = ("one", "two", "three")
        assert len({one.image("h1", f"/srv/{tag}.sif", tag) for tag in tags}) == len(tags)
        show = "for t in one two three; do apptainer exec /srv/$t.sif cat /etc/tag; done"
        for user in ("root", "deploy", "jadelta"):
            assert tuple(one.ssh("h1", show, user=user).split()) == tags
            one.ssh("h1", "apptainer instance start /srv/two.sif w sleep 4714", user=user)
            assert [p.user for p in one.ps("h1") if p.args == "sleep 4714"] == [user]
            one.ssh("h1", "apptainer instance stop w", user=user)


def test_site_file_fills_in_what_only_the_fleet_knows(two: Fleet, tmp_path: Path) -> None:
    folder = two.site_file(tmp_path, "hosts: {h2: {hot_limit: 2}}\npipes: {}\n")
    document = yaml.safe_load((folder / "bed.site.yml").read_text())
    assert document["hosts"] == {"h2": {"hot_limit": 2, "vars": {"ansible_host": two.hosts["h2"].address}}}
    assert list(yaml.safe_load((two.site_file(tmp_path, {}) / "bed.site.yml").read_text())["hosts"]) == ["h1", "h2"]


def test_playbooks_run_on_the_hosts(two: Fleet, play: Player, tmp_path: Path) -> None:
    book = tmp_path / "ping.yml"
    book.write_text("[{name: Ping, hosts: all, tasks: [{name: Ping, ansible.builtin.ping: }]}]\n")
    result = play(str(book), two.inventory)
    assert result.rc == 0, result.stdout + result.stderr
    assert result.recap("ok") == 2
    assert result.report == {}
