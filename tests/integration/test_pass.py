# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop on three real hosts: start, nothing to do, scale, stop, hold, dry run, saved plans, connection settings."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from bed.fleet import SSH_ARGS, Fleet
from bed.play import Player

pytestmark = pytest.mark.hosts

RECONCILE = "playbooks/reconcile.yml"
POLICY = {"host_timeout": 6, "pass_timeout": 90}


def site(components: dict, **more) -> dict:
    """A site of one pipe `p` with quick settle times."""
    return {
        "policy": POLICY,
        "defaults": {"settle": 0.5, "grace": 3},
        "pipes": {"p": {"components": components}},
        **more,
    }


def sleeper(number: int, count: int = 1, **more) -> dict:
    """A component whose processes are told apart in `ps` by a number."""
    return {"command": f"sleep {number}", "count": count, **more}


def by_ps(fleet: Fleet, number: int) -> int:
    """Count `sleep <number>` on all hosts, seen from outside."""
    return sum(process.args == f"sleep {number}" for host in fleet.names for process in fleet.ps(host))


def pids(fleet: Fleet, number: int) -> set[tuple[str, int]]:
    return {
        (host, process.pid) for host in fleet.names for process in fleet.ps(host) if process.args == f"sleep {number}"
    }


def test_j06_j10_starts_what_is_missing_then_nothing(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    inventory = hosts.site_file(tmp_path, site({"a": sleeper(10001, 5), "b": sleeper(10002, 2, hot=True)}))

    checked = play(RECONCILE, inventory, "--check", "--diff")
    assert checked.rc == 0, checked.stdout + checked.stderr
    assert checked.recap("changed") > 0 and by_ps(hosts, 10001) == 0
    assert not play.state.exists(), "check mode must leave nothing on the controller"
    assert all(hosts.ssh(host, "ls -A /var/lib/sciops.sites 2>/dev/null || true") == "" for host in hosts.names)
    assert "p/a" in checked.stdout and "+" in checked.stdout

    first = play(RECONCILE, inventory)
    assert first.rc == 0, first.stdout + first.stderr
    assert first.outcome == "changed"
    assert by_ps(hosts, 10001) == 5 and by_ps(hosts, 10002) == 2

    def strip(actions: list[dict]) -> list[list]:
        return [[action[key] for key in ("kind", "host", "component", "slot", "reason")] for action in actions]

    assert strip(checked.site()["planned"]) == strip(first.site()["planned"]), "the dry run shows what the run does"

    before = pids(hosts, 10001)
    second = play(RECONCILE, inventory)
    assert (second.rc, second.outcome, second.recap("changed")) == (0, "unchanged", 0), second.stdout
    assert second.report["execs"] == 3, "a converged host costs one exec"
    assert second.report["sent"] / 3 < 8192
    assert pids(hosts, 10001) == before

    time.sleep(5)
    assert pids(hosts, 10001) == before, "instances outlive the connections that started them"


def test_j07_scale_down_keeps_the_survivors_and_off_and_absent_stop(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    three = site({"a": sleeper(10011, 3), "b": sleeper(10012, 2), "c": sleeper(10013, 1)})
    assert play(RECONCILE, hosts.site_file(tmp_path, three)).rc == 0
    before = pids(hosts, 10011)
    foreign = hosts.ssh("h1", "setsid -f sleep 10019 </dev/null >/dev/null 2>&1; sleep 0.2; pgrep -f 'sleep 10019'")

    fewer = site({"a": sleeper(10011, 1), "b": sleeper(10012, 2, state="off"), "c": sleeper(10013, 1, state="absent")})
    inventory = hosts.site_file(tmp_path, fewer)
    result = play(RECONCILE, inventory)
    assert result.rc == 0, result.stdout + result.stderr
    after = pids(hosts, 10011)
    assert len(after) == 1 and after < before
    assert by_ps(hosts, 10012) == by_ps(hosts, 10013) == 0
    assert hosts.ssh("h1", "pgrep -f 'sleep 10019'") == foreign, "what is not ours is untouched"
    shown = result.site()["plan"]["components"]
    assert shown["p/b"]["state"] == "off" and "p/c" not in shown
    assert play(RECONCILE, inventory).outcome == "unchanged"


def test_stop_ends_the_whole_tree_even_if_it_ignores_term(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    stubborn = "sh -c \"trap '' TERM; (trap '' TERM; setsid sleep 10022) & while :; do sleep 10021; done\""
    assert (
        play(RECONCILE, hosts.site_file(tmp_path, site({"a": {"command": stubborn, "count": 1, "grace": 1}}))).rc == 0
    )
    assert by_ps(hosts, 10021) == by_ps(hosts, 10022) == 1
    result = play(RECONCILE, hosts.site_file(tmp_path, site({"a": {"command": stubborn, "count": 0, "grace": 1}})))
    assert result.rc == 0, result.stdout
    assert by_ps(hosts, 10021) == by_ps(hosts, 10022) == 0


def test_j21_an_empty_declaration_is_unsafe_until_somebody_lifts_the_guard(
    hosts: Fleet, play: Player, tmp_path: Path
) -> None:
    full = site({"a": sleeper(10031, 24)}, policy={**POLICY, "stop_budget": 4})
    assert play(RECONCILE, hosts.site_file(tmp_path, full)).rc == 0
    inventory = hosts.site_file(tmp_path, site({}, policy={**POLICY, "stop_budget": 4}))
    refused = play(RECONCILE, inventory)
    assert refused.outcome == "unsafe" and refused.rc == 2, refused.stdout
    assert by_ps(hosts, 10031) == 24
    lifted = play(RECONCILE, inventory, "-e", "sciops_sites_lift_stop_guard=true", "-e", "sciops_sites_by=ana")
    assert by_ps(hosts, 10031) == 20, lifted.stdout
    assert "ana lifted the stop guard" in json.dumps(lifted.site()["authorised"])


def test_j09_command_that_ends_at_once_is_failed_with_its_last_words_and_backs_off(
    hosts: Fleet, play: Player, tmp_path: Path
) -> None:
    broken = {"command": "sh -c 'echo no such area /cvmfs; exit 3'", "count": 2}
    inventory = hosts.site_file(tmp_path, site({"a": broken, "b": sleeper(10042, 2)}))
    first = play(RECONCILE, inventory)
    assert first.outcome == "not_converged" and first.rc == 2
    assert by_ps(hosts, 10042) == 2, "other components go on"
    failures = [one for one in first.site()["failures"] if one["component"] == "p/a"]
    assert failures and all(one["exit"] == 3 for one in failures)
    assert "no such area /cvmfs" in "".join(failures[0]["log_tail"])
    assert len({one["host"] for one in failures}) == len(failures) > 1, "a failed start goes to the next host"
    second = play(RECONCILE, inventory)
    assert not [one for one in second.site()["results"] if one["component"] == "p/a"], "it waits before it tries again"
    assert "no such area /cvmfs" in json.dumps(second.site()["plan"]["components"]["p/a"]["failure"])


def test_j04_only_real_copies_of_the_right_user_are_counted(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    hosts.ssh(
        "h1", "cp /bin/sleep /usr/local/bin/lta-mover; useradd -m other 2>/dev/null || true; touch /tmp/lta-mover.log"
    )
    for command in (
        "runuser -u jadelta -- setsid -f /usr/local/bin/lta-mover 10051",
        "runuser -u other -- setsid -f /usr/local/bin/lta-mover 10052",
        "runuser -u jadelta -- setsid -f tail -f /tmp/lta-mover.log",
        "runuser -u jadelta -- setsid -f sh -c 'sleep 10053; : lta-mover'",
    ):
        hosts.ssh("h1", f"{command} </dev/null >/dev/null 2>&1")
    mover = {
        "command": "/usr/local/bin/lta-mover 10054",
        "count": 1,
        "user": "jadelta",
        "match": [["lta-mover", "[0-9]+"]],
    }
    inventory = hosts.site_file(tmp_path, site({"mover": mover}))
    result = play(RECONCILE, inventory)
    assert (result.outcome, result.rc) == ("unchanged", 0), result.stdout
    shown = result.site()["plan"]["components"]["p/mover"]
    assert shown["certain"] == 1 and shown["where"] == {"h1": 1}, "one adopted copy, started by others, not restarted"


def test_j11_form_of_a_start(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    hosts.ssh(
        "h1",
        "mkdir -p /srv/work /srv/log; chown jadelta /srv/work /srv/log; umask 077; echo s3cret-token > /srv/tok",
    )
    component = {
        "command": [
            "sh",
            "-c",
            'pwd; env; echo "$1"; exec sleep 10061',
            "x",
            "two words {{ slot }} {{ host }} %d $HOME 'q'",
        ],
        "cwd": "/srv/work",
        "user": "jadelta",
        "environment": {"LEVEL": "a b=c", "SITE": "{{ site }}"},
        "secrets": {"LTA_REST_TOKEN": {"file": "/srv/tok"}},
        "log": {"path": "/srv/log/{{ component }}.run.{{ host }}.{{ epoch }}.log"},
        "count": 1,
    }
    spec = site({"form": component}, hosts={"h1": {}})
    begun = time.time()
    result = play(RECONCILE, hosts.site_file(tmp_path, spec))
    assert result.rc == 0, result.stdout + result.stderr
    (name,) = hosts.ssh("h1", "ls /srv/log").split()
    head, run, host, epoch, end = name.split(".")
    assert (head, run, host, end) == ("form", "run", "h1", "log") and begun - 2 <= int(epoch) <= time.time() + 1
    text = hosts.ssh("h1", f"cat /srv/log/{name}").splitlines()
    assert text[0] == "/srv/work"
    assert "two words 1 h1 %d $HOME 'q'" in text
    seen = dict(line.split("=", 1) for line in text if "=" in line)
    assert seen["LEVEL"] == "a b=c" and seen["SITE"] == "bed" and seen["LTA_REST_TOKEN"] == "s3cret-token"
    assert seen["HOME"] == "/home/jadelta" and seen["USER"] == "jadelta"
    assert set(seen) <= {
        "LEVEL", "SITE", "LTA_REST_TOKEN", "HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "PWD", "OLDPWD", "_",
        "SCIOPS_SITES", "SHLVL",
    }  # fmt: skip
    (process,) = [one for one in hosts.ps("h1") if one.args == "sleep 10061"]
    assert process.user == "jadelta"
    everything = result.stdout + result.stderr + json.dumps(result.report)
    everything += "".join(path.read_text(errors="replace") for path in play.state.rglob("*") if path.is_file())
    everything += hosts.ssh("h1", "cat /var/lib/sciops.sites/*/*/instances/*; ps -eo args")
    assert "s3cret-token" not in everything


def test_j17_drain_of_a_host_moves_and_halt_stops_everything(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    inventory = hosts.site_file(tmp_path, site({"a": sleeper(10071, 6, healthy_after=0)}))
    assert play(RECONCILE, inventory).rc == 0
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 7200))
    drain = {"scope": "host:h1", "mode": "drain", "by": "ana", "reason": "disk", "until": until}
    hold = ("-e", json.dumps({f"sciops_sites_{key}": value for key, value in drain.items()}))
    held = play("playbooks/hold.yml", inventory, *hold)
    assert held.rc == 0 and held.recap("changed") > 0, held.stdout + held.stderr
    assert play("playbooks/hold.yml", inventory, *hold).recap("changed") == 0
    result = play(RECONCILE, inventory)
    assert result.rc == 0, result.stdout
    assert Counter(host for host, _pid in pids(hosts, 10071)).keys() == {"h2", "h3"} and by_ps(hosts, 10071) == 6
    assert "ana" in json.dumps(result.site()["plan"]["hosts"]["h1"])

    (folder,) = [one for one in play.state.iterdir() if one.is_dir()]
    (folder / "HALT").write_text("ana: power work\n")
    hosts.ssh("h2", "pkill -f 'sleep 10071'")
    halted = play(RECONCILE, inventory)
    assert (halted.outcome, halted.report["exit_code"], halted.rc) == ("halted", 40, 0), halted.stdout
    assert halted.report["execs"] == 0 and "power work" in halted.stdout
    (folder / "HALT").unlink()
    assert play(RECONCILE, inventory).outcome == "changed"
    assert by_ps(hosts, 10071) == 6


def test_saved_plan_is_applied_or_refused_where_what_it_saw_has_changed(
    hosts: Fleet, play: Player, tmp_path: Path
) -> None:
    inventory = hosts.site_file(tmp_path, site({"a": sleeper(10081, 3)}))
    saved = tmp_path / "plan.json"
    assert play(RECONCILE, inventory, "--check", "-e", f"sciops_sites_plan_dest={saved}").rc == 0
    applied = play(RECONCILE, inventory, "-e", f"sciops_sites_plan_src={saved}")
    assert applied.rc == 0 and by_ps(hosts, 10081) == 3, applied.stdout + applied.stderr
    again = play(RECONCILE, inventory, "-e", f"sciops_sites_plan_src={saved}")
    assert again.rc == 2 and again.outcome == "error", again.stdout
    assert "saved plan" in again.stdout and "h1" in again.stdout
    saved.write_text(json.dumps({"other": json.loads(saved.read_text())["bed"]}))
    without = play(RECONCILE, inventory, "-e", f"sciops_sites_plan_src={saved}")
    assert without.rc == 2 and f"{saved}: bed: no plan of this site" in without.stdout.replace("\n", " ")
    assert by_ps(hosts, 10081) == 3


def test_limit_leaves_other_hosts_alone_and_unknown(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    inventory = hosts.site_file(tmp_path, site({"a": sleeper(10091, 3)}, policy={**POLICY, "quorum": 0}))
    result = play(RECONCILE, inventory, "--limit", "h2")
    assert {host for host, _pid in pids(hosts, 10091)} <= {"h2"}
    assert "outside --limit" in json.dumps(result.site()["plan"]["hosts"]), result.stdout


def test_singleton_moves_only_after_the_old_one_is_gone(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    one = {"command": "sleep 10101", "count": 1, "singleton": True}
    assert play(RECONCILE, hosts.site_file(tmp_path, site({"one": one}))).rc == 0
    ((home, _pid),) = pids(hosts, 10101)
    drained = site({"one": one}, hosts={name: ({"state": "drain"} if name == home else {}) for name in hosts.names})
    result = play(RECONCILE, hosts.site_file(tmp_path, drained))
    assert result.rc == 0, result.stdout
    ((moved, _pid),) = pids(hosts, 10101)
    assert moved != home
    kinds = [one["kind"] for one in result.site()["results"]]
    assert kinds == ["stop", "start"]


def test_noise_on_the_connection_is_not_an_answer(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    hosts.ssh("h1", "echo 'echo WELCOME to h1; echo; echo @sciops is not us >&2' > /root/.bashrc")
    hosts.ssh("h2", "printf 'motd line\\n' > /etc/motd; echo 'Banner /etc/motd' >> /etc/ssh/sshd_config; kill -HUP 1")
    time.sleep(0.5)
    inventory = hosts.site_file(tmp_path, site({"a": sleeper(10111, 3)}))
    assert play(RECONCILE, inventory).outcome == "changed"
    assert play(RECONCILE, inventory).outcome == "unchanged"


def test_connection_settings_of_a_site_keep_working(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    """become, a jump host, a forced command: one each, on real sshd."""
    key = hosts.key
    jump = f"ssh -i {key} {SSH_ARGS} -W %h:%p root@{hosts.hosts['h1'].address}"
    forced = f'command="/bin/sh -c \\"$SSH_ORIGINAL_COMMAND\\"",restrict {Path(key + ".pub").read_text().strip()}'
    hosts.ssh("h3", ["sh", "-c", 'printf "%s\\n" "$1" > /root/.ssh/authorized_keys', "x", forced])
    declared = {
        "h1": {"vars": {"ansible_user": "deploy", "ansible_become": True, "ansible_become_user": "jadelta"}},
        "h2": {"vars": {"ansible_ssh_common_args": f'{SSH_ARGS} -o ProxyCommand="{jump}"'}},
        "h3": {},
    }
    inventory = hosts.site_file(tmp_path, site({"a": sleeper(10121, 3, max_per_host=1)}, hosts=declared))
    result = play(RECONCILE, inventory)
    assert result.rc == 0 and result.outcome == "changed", result.stdout + result.stderr
    users = {host: p.user for host in hosts.names for p in hosts.ps(host) if p.args == "sleep 10121"}
    assert users == {"h1": "jadelta", "h2": "root", "h3": "root"}
    assert play(RECONCILE, inventory).outcome == "unchanged"


class Delay:
    """A long line to a host: every byte takes `seconds` longer, in both directions. Listens on the loopback address."""

    def __init__(self, address: str, seconds: float) -> None:
        self._address, self._seconds = address, seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _from = self._listener.accept()
                far = socket.create_connection((self._address, 22))
                self._open += [near, far]
                for here, there in ((near, far), (far, near)):
                    there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                    threading.Thread(target=self._read, args=(here, line), daemon=True).start()
                    threading.Thread(target=self._write, args=(there, line), daemon=True).start()

    def _read(self, here: socket.socket, line: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        data = b"x"
        while data:
            try:
                data = here.recv(65536)
            except OSError:
                data = b""
            line.put((time.monotonic() + self._seconds, data))

    def _write(self, there: socket.socket, line: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = line.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    there.shutdown(socket.SHUT_WR)
                    return
                there.sendall(data)

    def __enter__(self) -> Delay:
        return self

    def __exit__(self, *exc: object) -> None:
        for one in self._open:
            one.close()


def test_a_warm_pass_costs_three_round_trips(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    """One to open the session, one for the exec, one for the input and the answer.

    sshd opens a session with a window of nothing, so no input can go before the exec is accepted (docs/performance.md).
    """
    one_way = 0.6
    # the first connection over such a line takes a dozen round trips
    spec = site({"a": sleeper(10201)}, policy={"host_timeout": 60, "pass_timeout": 90})
    with Delay(hosts.hosts["h1"].address, one_way) as line:
        far = {"vars": {"ansible_host": "127.0.0.1", "ansible_port": line.port}}
        inventories = [
            hosts.site_file(tmp_path / "near", {**spec, "hosts": {"h1": {}}}),
            hosts.site_file(tmp_path / "far", {**spec, "hosts": {"h1": far}}),
        ]
        seconds = []
        for inventory in inventories:
            play(RECONCILE, inventory)
            runs = [play(RECONCILE, inventory) for _run in range(3)]
            assert {(run.outcome, run.report["execs"]) for run in runs} == {("unchanged", 1)}, runs[0].stdout
            seconds.append(min(run.seconds for run in runs))
    near, far_away = seconds
    assert 0.9 < (far_away - near) / (2 * one_way) <= 3.5, seconds


def test_status_and_process_info(hosts: Fleet, play: Player, tmp_path: Path) -> None:
    inventory = hosts.site_file(tmp_path, site({"a": sleeper(10131, 2), "b": sleeper(10132, 1)}))
    assert play(RECONCILE, inventory).rc == 0
    hosts.cut("h3")
    state = {path: path.read_bytes() for path in play.state.rglob("*") if path.is_file()}
    shown = play("playbooks/status.yml", inventory)
    assert shown.rc == 0 and "p/a" in shown.stdout and "h3" in shown.stdout, shown.stdout + shown.stderr
    assert state == {path: path.read_bytes() for path in play.state.rglob("*") if path.is_file()}, (
        "reading stores nothing"
    )
    dest = tmp_path / "check_mk"
    lines = play(
        "playbooks/status.yml", inventory, "-e", f"sciops_sites_format=check_mk sciops_sites_status_dest={dest}"
    )
    assert lines.rc == 0, lines.stdout
    assert all(line.split(" ", 1)[0] in "0123" for line in dest.read_text().splitlines())
    hosts.heal("h3")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pipes": {"p": {"components": {"a": {"command": "sleep 1", "cuont": 2}}}}}, ['"count"', "cuont"]),
        ({"pipes": {"p": {"components": {"a": {"command": "sleep 1", "count": -1}}}}}, ["count", "-1"]),
        ({"pipes": {"p": {"components": {"a": {"command": "sleep {{ slto }}", "count": 1}}}}}, ["slto"]),
        ({"pipes": {"p": {"components": {"a": {"command": "sleep 1", "count": 1, "uses": {"tape": 1}}}}}}, ["tape"]),
    ],
)
def test_a_bad_component_is_put_aside_and_the_rest_goes_on(
    hosts: Fleet, play: Player, tmp_path: Path, change: dict, words: list[str]
) -> None:
    good = site({"good": sleeper(10141, 1)})
    good["pipes"]["p"]["components"].update(change["pipes"]["p"]["components"])
    result = play(RECONCILE, hosts.site_file(tmp_path, good))
    assert by_ps(hosts, 10141) == 1, result.stdout
    said = " ".join((result.stdout + result.stderr).split())
    assert result.outcome == "not_converged" and "bed.site.yml" in said, said
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("plugin: sciops.sites.site\nsite: [", ["bed.site.yml:3", "not valid YAML"]),
        ("plugin: sciops.sites.site\nsite: bed\nhotlimt: 2\nhosts: {h1: {}}\n", ["hotlimt"]),
        ("plugin: sciops.sites.site\nsite: bed\nhosts: {h1: {}}\nsite: led\n", ["duplicate", "site"]),
    ],
)
def test_a_bad_site_file_touches_nothing(
    hosts: Fleet, play: Player, tmp_path: Path, text: str, words: list[str]
) -> None:
    inventory = hosts.site_file(tmp_path, yaml.safe_dump(site({})))
    (inventory / "bed.site.yml").write_text(text)
    result = play(RECONCILE, inventory)
    said = " ".join((result.stdout + result.stderr).split())
    assert result.rc != 0 and all(word in said for word in words), said
    assert "Traceback" not in said
    assert not play.state.exists()
