# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent on real hosts over real ssh: what lives on after logout, who counts, cut connections, reboots."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.fleet import Fleet

from ansible_collections.sciops.sites.plugins.plugin_utils import _wire

pytestmark = pytest.mark.hosts

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {p.stem: p.read_text() for p in (ROOT / "plugins" / "module_utils").glob("_*.py")}


@pytest.fixture(scope="module")
def two(fleet: Callable[..., Fleet]) -> Iterator[Fleet]:
    with fleet(2) as made:
        yield made


class Agent:
    """What a controller does to one host of a fleet, by hand."""

    def __init__(self, fleet: Fleet, host: str, user: str = "jadelta") -> None:
        self.fleet, self.host, self.user = fleet, host, user
        self.site, self.number = f"s{secrets.token_hex(3)}", 1

    def start(self, mode: str, **more: Any) -> tuple[dict, subprocess.Popen]:
        fence = {"number": self.number, "holder": "test"}
        request = {"v": 1, "nonce": secrets.token_hex(8), "mode": mode, "site": self.site, "deployment": "bed"}
        request |= {"host": self.host, "fence": fence, "timeout": 15, "components": {}} | more
        argv = ["ssh", "-F", self.fleet.ssh_config, "-o", "BatchMode=yes", "-o", "ControlPath=none"]
        argv += ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"]
        argv += [f"{self.user}@{self.host}", _wire.command("/usr/bin/python3")]
        pipe = subprocess.PIPE
        child = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)
        assert child.stdin
        child.stdin.write(_wire.payload(request, SOURCES))
        child.stdin.flush()
        return request, child

    def ask(self, mode: str = "observe", **more: Any) -> dict:
        request, child = self.start(mode, **more)
        out, err = child.communicate(timeout=60)
        try:
            return _wire.parse(out, request["nonce"])
        except _wire.Garbled as error:
            raise AssertionError(f"{error}: {err.decode()}") from error

    def apply(self, *actions: dict, **more: Any) -> dict:
        return self.ask("apply", actions=list(actions), expect={"boot_id": self.ask()["boot_id"]}, **more)

    def action(self, *argv: str, slot: int = 1, **more: Any) -> dict:
        base = {"kind": "start", "host": self.host, "component": "p/c", "slot": slot, "hash": "0123456789ab"}
        base |= {"token": f"{self.number:x}-{secrets.token_hex(3)}", "argv": list(argv), "environment": {}}
        base |= {"secrets": {}, "cwd": None, "user": None, "log": {"path": None}, "settle": 0.3, "grace": 3}
        return base | {"reason": ""} | more

    def rows(self, match: list | None = None, user: str | None = None) -> list[dict]:
        seen = self.ask(components={"p/m": {"match": match or [], "user": user}})
        assert seen["answered"], seen
        return seen["instances"]

    def stop_all(self) -> None:
        keys = ("component", "slot", "token", "pid", "start")
        stops = [{"kind": "stop"} | {k: row[k] for k in keys} for row in self.rows()]
        assert {r["outcome"] for r in self.apply(*stops)["results"]} <= {"stopped", "gone"}


def test_j11_connection_ends_and_the_process_lives_on(two: Fleet) -> None:
    """J11: the connection ends within 2 s of the answer, the process is there 5 s after logout, its log is named."""
    agent = Agent(two, "h1")
    text = r"#!/bin/bash\npwd; echo mode=$MODE; sleep 4713\n:\n"
    two.ssh("h1", f"mkdir -p LTA/lta; printf '{text}' > wrapper; chmod +x wrapper", user="jadelta")
    action = agent.action("./wrapper", "7", cwd="LTA/lta/../..", environment={"MODE": "run"}, settle=1)
    action["log"] = {"path": "logs/bundler.run.h1.1700000000.log", "max_bytes": 1000, "keep": 3}
    boot = agent.ask()["boot_id"]
    request, child = agent.start("apply", actions=[action], expect={"boot_id": boot})
    assert child.stdout
    said = b""
    while b"@sciops" not in said:
        said += child.stdout.readline()
    began = time.monotonic()
    said += child.communicate(timeout=30)[0]
    assert time.monotonic() - began < 2
    result = _wire.parse(said, request["nonce"])["results"][0]
    assert result["outcome"] == "started", result
    time.sleep(5)
    lines = {p.pid: p for p in two.ps("h1")}
    assert lines[result["pid"]].args == "/bin/bash ./wrapper 7"
    assert lines[result["pid"]].user == "jadelta"
    # no shell, sshd session or python of the request is left
    assert not [p for p in lines.values() if "jadelta" in p.args and "sshd" in p.args]
    assert not [p for p in lines.values() if "python3" in p.args]
    log = two.ssh("h1", "cat logs/bundler.run.h1.1700000000.log", user="jadelta")
    assert log == "/home/jadelta\nmode=run"
    assert [i["site"] for i in two.instances("h1")] == [agent.site]
    agent.stop_all()
    assert not [p for p in two.ps("h1") if "4713" in p.args]


def test_j04_others_and_readers_never_count(two: Fleet) -> None:
    """J4: another user's copy, editors, tail of the log and grep are not counted; the submitter's own script is."""
    script = "printf 'sleep 4714\\n:\\n' > /tmp/pipe0-bundler.sh; chmod 755 /tmp/pipe0-bundler.sh"
    two.ssh("h2", f"{script}; touch /tmp/pipe0-bundler.run.log")
    away = "</dev/null >/dev/null 2>&1"
    for user in ("deploy", "root"):
        two.ssh("h2", f"setsid -f bash /tmp/pipe0-bundler.sh {away}", user=user)
    for reader in ("tail -f /tmp/pipe0-bundler.run.log", "bash -c 'exec -a vim sleep 4715' /tmp/pipe0-bundler.sh"):
        two.ssh("h2", f"setsid -f {reader} {away}", user="jadelta")
    agent = Agent(two, "h2")
    rule = [["bash", r"pipe0-bundler(\.sh)?"]]
    assert agent.rows(rule) == []
    two.ssh("h2", f"setsid -f bash /tmp/pipe0-bundler.sh {away}", user="jadelta")
    rows = agent.rows(rule)
    assert len(rows) == 1
    mine = [p.pid for p in two.ps("h2") if p.user == "jadelta" and p.args == "bash /tmp/pipe0-bundler.sh"]
    assert [rows[0]["pid"]] == mine
    assert rows[0]["owned"] is False
    # root sees all of them and still counts those of the user that is meant
    assert len(Agent(two, "h2", "root").rows(rule, user="jadelta")) == 1
    assert len(Agent(two, "h2", "root").rows(rule, user="deploy")) == 1
    two.ssh("h2", "pkill -f '[p]ipe0-bundler'; pkill -f '471[45]$'; true")


def test_hidepid_hides_others_and_not_our_own(two: Fleet) -> None:
    agent = Agent(two, "h2")
    agent.apply(agent.action("sleep", "4716"))
    two.run("h2", "mount", "-o", "remount,hidepid=2", "/proc")
    try:
        hidden = two.ssh("h2", "ls -d /proc/1 2>/dev/null | wc -l", user="jadelta")
        if hidden != "0":
            pytest.skip("this kernel does not hide processes here")
        seen = agent.ask()
        assert [r["component"] for r in seen["instances"]] == ["p/c"]
        assert seen["problems"] == []
        agent.stop_all()
    finally:
        two.run("h2", "mount", "-o", "remount,hidepid=0", "/proc")


def test_noise_of_a_login_does_not_harm(two: Fleet) -> None:
    """A .bashrc that talks, before and in the middle."""
    agent = Agent(two, "h2")
    noise = "echo Welcome to h2; (for i in 1 2 3 4 5 6; do sleep 0.03; echo motd $i; done) &"
    two.ssh("h2", f"printf '%s\\n' {json.dumps(noise)} > .bashrc", user="jadelta")
    request, child = agent.start("observe")
    out, _err = child.communicate(timeout=30)
    assert b"Welcome to h2" in out
    assert _wire.parse(out, request["nonce"])["answered"]
    two.ssh("h2", "rm .bashrc", user="jadelta")


def test_a_connection_that_is_cut_in_the_middle_leaves_no_half_start(two: Fleet) -> None:
    """The cable is pulled while starts are under way: what lives is what the next look sees, and tokens start once."""
    agent = Agent(two, "h1")
    boot = agent.ask()["boot_id"]
    actions = [agent.action("sleep", "4717", slot=i, settle=0.3) for i in range(1, 16)]
    _request, child = agent.start("apply", actions=actions, expect={"boot_id": boot})
    for _try in range(200):
        if [i for i in two.instances("h1") if i["site"] == agent.site]:
            break
        time.sleep(0.05)
    two.cut("h1")
    child.communicate(timeout=30)
    time.sleep(1)
    two.heal("h1")
    agent.number += 1
    seen = agent.ask()
    assert seen["answered"], seen
    alive = sorted(int(i["pid"]) for i in two.instances("h1") if i["site"] == agent.site)
    assert sorted(r["pid"] for r in seen["instances"]) == alive
    assert alive
    again = agent.apply(*actions, timeout=30)
    assert len([i for i in two.instances("h1") if i["site"] == agent.site]) == 15
    assert {r["outcome"] for r in again["results"]} <= {"started", "already"}
    agent.stop_all()
    assert not [i for i in two.instances("h1") if i["site"] == agent.site]


def test_root_starts_as_the_user_that_is_declared(two: Fleet) -> None:
    agent = Agent(two, "h1", "root")
    action = agent.action("sh", "-c", "id -un; id -Gn; sleep 4718", user="jadelta")
    result = agent.apply(action)["results"][0]
    assert result["outcome"] == "started", result
    assert {p.user for p in two.ps("h1") if "4718" in p.args} == {"jadelta"}
    row = agent.rows()[0]
    assert row["log"].startswith("/var/lib/sciops.sites/")
    assert two.ssh("h1", f"cat {row['log']}") == "jadelta\njadelta"
    agent.stop_all()


def test_after_a_power_cut_nothing_counts_and_the_old_plan_is_refused(two: Fleet) -> None:
    agent = Agent(two, "h1")
    reply = agent.apply(agent.action("sleep", "4719"))
    assert len(reply["instances"]) == 1
    two.kill("h1")
    two.boot("h1")
    late = agent.ask("apply", actions=[agent.action("sleep", "4719")], expect={"boot_id": reply["boot_id"]})
    assert late["results"][0]["outcome"] == "refused"
    assert late["boot_id"] != reply["boot_id"]
    assert late["instances"] == []
    again = agent.apply(agent.action("sleep", "4719"))
    assert again["results"][0]["outcome"] == "started"
    records = two.ssh("h1", "ls .local/state/sciops.sites/*/h1/instances", user="jadelta").split()
    assert f"{again['results'][0]['token']}.json" in records
    assert f"{reply['results'][0]['token']}.json" not in records, "the record of before the power cut is gone"
    agent.stop_all()


def test_process_info_on_hosts(two: Fleet) -> None:
    """`ansible all -m sciops.sites.process_info`, as users run it."""
    agent = Agent(two, "h1", "root")
    agent.apply(agent.action("sh", "-c", "while :; do :; done"))
    two.ssh("h2", "setsid -f sleep 4720 </dev/null >/dev/null 2>&1", user="jadelta")
    options = {"limit": 0, "sample": 1, "patterns": ["472[0]"], "hot_threshold": 0.05}
    options["match"] = {"naps": [["sleep", "4720"]]}
    argv = [str(Path(sys.executable).with_name("ansible")), "-i", two.inventory, "all"]
    argv += ["-m", "sciops.sites.process_info"]
    env = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    env["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"
    said = {}
    for check in ([], ["--check"]):
        words = [*argv, *check, "-a", json.dumps(options)]
        done = subprocess.run(words, env=env, capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        for host in two.names:
            _before, sep, text = done.stdout.partition(f"{host} | SUCCESS => ")
            assert sep, done.stdout
            said[host] = json.JSONDecoder().raw_decode(text)[0]
        assert [r["component"] for r in said["h1"]["instances"]] == ["p/c"]
        assert "sh" in [r["argv"][0] for r in said["h1"]["hot"]]
        assert not {"sh", "sleep"} & {r["argv"][0] for r in said["h2"]["hot"]}
        assert said["h2"]["by_pattern"] == {"472[0]": 1}
        assert said["h2"]["by_match"] == {"naps": 0}, "another user's copy does not count"
        assert said["h2"]["by_user"]["jadelta"] == 1
        assert said["h1"]["changed"] is False
        assert len(said["h1"]["processes"]) == said["h1"]["total"] == sum(said["h1"]["by_user"].values())
    agent.stop_all()
