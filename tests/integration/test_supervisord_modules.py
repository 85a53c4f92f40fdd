# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisord_programs and supervisord_info with a real supervisord on a real host, in plays as people write them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bed.fleet import Fleet
from bed.play import Player

Run = Callable[..., list[dict]]
AWKWARD = 'a%b$HOME "c d"'
SLEEP = ["sleep", "1000"]


@pytest.fixture(scope="module")
def host(fleet: Callable[..., Fleet]) -> Fleet:
    return fleet(1)


@pytest.fixture
def run(host: Fleet, play: Player, tmp_path: Path) -> Run:
    """Tasks on h1, one after the other in one play, failed ones too; returns what each of them returned."""

    def tasks(*steps: dict) -> list[dict]:
        book, out = tmp_path / "book.yml", tmp_path / "out.json"
        done = [{"name": "T", "register": f"r{i}", "ignore_errors": True, **step} for i, step in enumerate(steps)]
        text = "{{ [" + ", ".join(f"r{i}" for i in range(len(steps))) + "] | to_json }}"
        write = {"copy": {"content": text, "dest": str(out)}, "delegate_to": "localhost", "connection": "local"}
        book.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [*done, write]}]))
        shown = play(str(book), host.inventory, "--diff", "-e", f"ansible_playbook_python={sys.executable}")
        assert out.exists(), shown.stdout + shown.stderr
        results = json.loads(out.read_text())
        out.unlink()
        return [{**one, "shown": shown.stdout + json.dumps(results)} for one in results]

    return tasks


def programs(user: str = "root", check: bool = False, **args: object) -> dict:
    return {"sciops.sites.supervisord_programs": args, "check_mode": check, "vars": {"ansible_user": user}}


def info(user: str = "root", **args: object) -> dict:
    return {"sciops.sites.supervisord_info": args, "vars": {"ansible_user": user}}


def good(result: dict, changed: bool) -> dict:
    assert not result.get("failed"), result["msg"]
    assert result["changed"] is changed, result
    return result


def bad(result: dict, *words: str, **keys: object) -> dict:
    assert result.get("failed"), result
    assert not [word for word in words if word not in result["msg"]], result["msg"]
    assert {key: result.get(key) for key in keys} == keys
    return result


def pids(result: dict) -> dict[str, int]:
    assert {one["state"] for one in result["processes"]} == {"RUNNING"}, result
    return {one["name"]: one["pid"] for one in result["processes"]}


def same(checked: dict, done: dict) -> None:
    """What check mode said is what happened."""
    keys = ("changed", "added", "removed", "restarted", "started", "kept", "file", "supervisord_started", "diff")
    assert {key: checked[key] for key in keys} == {key: done[key] for key in keys}


def ctl(host: Fleet, config: str, *words: str, user: str = "root") -> str:
    return host.ssh("h1", shlex.join(["supervisorctl", "-c", config, *words]), user=user, check=False)


def jaws(*more: str) -> list[dict]:
    names = ("runs", "transfers", "rpc-server", "message-consumer", *more)
    return [{"name": name, "command": SLEEP, "startsecs": 1, "stopasgroup": True} for name in names]


def test_w7_from_nothing_then_a_fifth_program_and_four_keep_their_pids(host: Fleet, run: Run) -> None:
    user, folder = "jadelta", "/home/jadelta/deep/er/supervisor"
    config = f"{folder}/supervisord.conf"
    base = {"user": user, "name": "jaws", "config": config}
    absent, checked = run(
        programs(**base, programs=jaws()), programs(**base, programs=jaws(), start_supervisord=True, check=True)
    )
    bad(absent, "start_supervisord", running=False, changed=False)
    assert "cannot access" in host.ssh("h1", "ls -A /home/jadelta/deep 2>&1 || true")
    (first,) = run(programs(**base, programs=jaws(), start_supervisord=True))
    same(good(checked, True), good(first, True))
    four = pids(first)
    assert len(set(four.values())) == 4 and first["running"] and first["supervisord_started"]
    modes = host.ssh("h1", f"cd {folder} && stat -c '%a %U %n' supervisor.sock supervisord.conf conf.d/*")
    assert modes.splitlines() == [
        "600 jadelta supervisor.sock",
        "600 jadelta supervisord.conf",
        "600 jadelta conf.d/sciops.jaws.conf",
    ]

    # somebody else's program beside ours, whose file changes without a word to supervisord
    foreign, other = f"{folder}/conf.d/supervisor.x.conf", "[program:pool-manager]\ncommand=sleep 2000\n; a note\n"
    host.ssh("h1", f"printf %s {shlex.quote(other)} > {foreign}", user=user)
    ctl(host, config, "update", user=user)
    ctl(host, config, "start", "pool-manager", user=user)
    edited = other.replace("2000", "3000") + "[program:new]\ncommand=sleep 4000\n"
    host.ssh("h1", f"printf %s {shlex.quote(edited)} > {foreign}", user=user)
    stamp = host.ssh("h1", f"stat -c '%i %Y %Z' {foreign}")

    theirs, again, checked, now, fifth, all_now, clash, clash_unread = run(
        info(user, config=config, names=["pool-*"]),
        programs(**base, programs=jaws()),
        programs(**base, programs=jaws("perf-metrics"), check=True),
        info(user, config=config),
        programs(**base, programs=jaws("perf-metrics")),
        info(user, config=config),
        programs(**base, programs=jaws("pool-manager")),
        programs(**base, programs=jaws("new")),
    )
    theirs = pids(theirs)
    assert pids(good(again, False)) == four and sorted(again["kept"]) == sorted(four)
    assert pids(now) == four | theirs
    same(good(checked, True), good(fifth, True))
    assert fifth["added"] == ["perf-metrics"] and fifth["restarted"] == fifth["removed"] == []
    five = pids(fifth)
    assert {name: five[name] for name in four} == four
    assert pids(all_now) == five | theirs
    assert host.ssh("h1", f"cat {foreign}; echo .") == edited + "."
    assert host.ssh("h1", f"stat -c '%i %Y %Z' {foreign}") == stamp
    # a name that somebody has is never merged with his
    bad(clash, "pool-manager", foreign)
    bad(clash_unread, "new", foreign)

    unchanged, gone, left, nothing = run(
        programs(**base, programs=jaws("perf-metrics")),
        programs(**base, state="absent"),
        info(user, config=config),
        programs(**base, state="absent"),
    )
    good(unchanged, False)
    assert sorted(good(gone, True)["removed"]) == sorted(five)
    assert pids(left) == theirs
    assert host.ssh("h1", f"ls {folder}/conf.d") == "supervisor.x.conf"
    good(nothing, False)

    # what cleans up /tmp may take the socket; the supervisord lives on, and a second one would double all it has
    host.ssh("h1", f"rm {folder}/supervisor.sock", user=user)
    second, looked = run(programs(**base, programs=jaws(), start_supervisord=True), info(user, config=config))
    for told in (second, looked):
        bad(told, "nobody listens there", "still runs", running=None, changed=False)
    assert len(host.ssh("h1", "pgrep -f 'supervisord [-]c'").split()) == 1


CONFIG = "/opt/jaws/supervisor.conf"
SERVER = f"""[inet_http_server]
port = 127.0.0.1:64103
username = jaws
password = {AWKWARD.replace("%", "%%")}
[supervisord]
logfile = /opt/jaws/log
pidfile = /opt/jaws/pid
user = root
[supervisorctl]
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = supervisor.*.conf
"""


@pytest.fixture(scope="module")
def server(host: Fleet) -> str:
    """A supervisord of somebody, with a password on the loopback address, as JAWS has it."""
    host.ssh("h1", f"mkdir /opt/jaws && printf %s {shlex.quote(SERVER)} > {CONFIG} && chmod 600 {CONFIG}")
    return CONFIG


def mover(count: int, **more: object) -> list[dict]:
    return [{"name": "mover", "command": SLEEP, "count": count, "startsecs": 0, **more}]


def test_counts_secrets_and_changes_restart_exactly_what_they_must(host: Fleet, run: Run, server: str) -> None:
    base = {"name": "movers", "config": server}
    secret = {
        "secrets": {"TOKEN": AWKWARD + "\nline", "N": 7000001},
        "environment": {"A": "x ;y 100%", "I": "n{instance}"},
    }
    more = {"user": "jadelta", "directory": "/home/jadelta", **secret}
    down, seen, checked = run(
        programs(**base, programs=mover(4)),
        info(config=server),
        programs(**base, programs=mover(4, **more), start_supervisord=True, check=True),
    )
    bad(down, "no supervisord runs", running=False, changed=False)
    assert good(seen, False)["running"] is False
    assert host.ssh("h1", "ls /opt/jaws") == "supervisor.conf"
    (first,) = run(programs(**base, programs=mover(4, **more), start_supervisord=True))
    same(good(checked, True), good(first, True))
    file = first["file"]
    assert file == "/opt/jaws/supervisor.sciops.movers.conf"
    assert "c d" not in first["shown"] and "c d" not in checked["shown"]
    four = pids(first)
    assert list(four) == ["mover-1", "mover-2", "mover-3", "mover-4"]
    given = host.ssh("h1", f"tr '\\0' '|' < /proc/{four['mover-2']}/environ")
    assert f"TOKEN={AWKWARD}\nline|" in given and "A=x ;y 100%|" in given and "I=n2|" in given and "N=7000001|" in given
    words = host.ssh("h1", f"stat -c %U /proc/{four['mover-2']}; tr '\\0' '|' < /proc/{four['mover-2']}/cmdline")
    assert words == "jadelta\nsleep|1000|"
    listing = host.ssh("h1", "stat -c '%a %U' /opt/jaws/supervisor.sciops.movers.secrets/*").splitlines()
    assert listing == ["600 jadelta"] * 4
    assert "c d" not in host.ssh("h1", f"cat {file}")

    fresh = {**more, "secrets": {"TOKEN": "new", "N": 7000001}}
    two, checked, turned, unchanged = run(
        programs(**base, programs=mover(2, **more)),
        # a secret that changed restarts, and only then
        programs(**base, programs=mover(2, **fresh), check=True),
        programs(**base, programs=mover(2, **fresh)),
        programs(**base, programs=mover(2, **fresh)),
    )
    assert good(two, True)["removed"] == ["mover-3", "mover-4"] and two["restarted"] == []
    assert pids(two) == {name: four[name] for name in ("mover-1", "mover-2")}
    same(good(checked, True), good(turned, True))
    good(unchanged, False)
    assert turned["restarted"] == ["mover-1", "mover-2"]
    assert not set(pids(turned).values()) & set(four.values())
    assert "TOKEN=new|" in host.ssh("h1", f"tr '\\0' '|' < /proc/{pids(turned)['mover-1']}/environ")
    assert len(host.ssh("h1", "ls /opt/jaws/supervisor.sciops.movers.secrets").split()) == 2

    # a run that was cut off after its file was written: the next one does what it did not come to
    host.ssh("h1", f"sed -i '1a ; not yet done: mover-2' {file}")
    checked, healed = run(
        programs(**base, programs=mover(2, **fresh), check=True), programs(**base, programs=mover(2, **fresh))
    )
    same(good(checked, True), good(healed, True))
    assert healed["restarted"] == ["mover-2"] and healed["kept"] == ["mover-1"]
    assert "not yet done" not in host.ssh("h1", f"cat {file}")

    # somebody stopped one, and loosened files
    ctl(host, server, "-u", "jaws", "-p", AWKWARD, "-s", "http://127.0.0.1:64103", "stop", "mover-1")
    host.ssh("h1", f"chmod 644 {file} /opt/jaws/supervisor.sciops.movers.secrets/mover-2.*")
    (back,) = run(programs(**base, programs=mover(2, **fresh)))
    assert good(back, True)["started"] == ["mover-1"] and back["kept"] == ["mover-2"]
    assert pids(back)["mover-2"] == pids(healed)["mover-2"]
    assert set(host.ssh("h1", f"stat -c %a {file} /opt/jaws/supervisor.sciops.movers.secrets/*").split()) == {"600"}


def test_what_does_not_run_is_told_with_its_reason_and_nobody_else_suffers(host: Fleet, run: Run, server: str) -> None:
    base = {"name": "bad", "config": server}
    ends = {"name": "ends", "command": ["sh", "-c", "echo so sad >&2; exit 3"], "startretries": 0}
    once = {"name": "ends", "command": "true", "startsecs": 0, "exitcodes": [0]}
    crew = {"name": "crew", "command": SLEEP, "count": 2, "startsecs": 0}
    poor = {**crew, "command": "/no/such", "startretries": 0, "startsecs": 1}
    results = run(
        programs(name="good", config=server, start_supervisord=True, programs=jaws()[:1]),
        programs(**base, programs=[{"name": "lost", "command": "/no/such", "startretries": 0}]),
        programs(**base, programs=[ends]),
        programs(**base, programs=[ends], check=True),
        programs(**base, programs=[once]),
        programs(**base, programs=[once]),
        programs(**base, programs=[{**once, "stdout_logfile": "/no/such/folder/log"}]),
        programs(**base, programs=[once]),
        programs(**base, programs=[{**once, "environment": {"A": AWKWARD}}]),
    )
    first, lost, failed, tried, mended, unchanged, refused, kept, unfit = results
    before = pids(good(first, True))
    bad(lost, "can't find command '/no/such'", running=True, changed=True)
    assert [one["state"] for one in lost["programs_failed"]] == ["FATAL"]
    bad(failed, "Exited too quickly")
    assert failed["programs_failed"][0]["log_tail"] == ["so sad"]
    # it is tried again each time, and check mode says so
    assert good(tried, True)["started"] == ["ends"]
    assert good(mended, True)["restarted"] == ["ends"]
    good(unchanged, False)
    # what supervisord refuses is taken back
    bad(refused, "does not exist", changed=False)
    good(kept, False)
    bad(unfit, "give it under secrets", changed=False)

    # the first of a bad batch keeps the rest as they were
    old, stuck, rest, mended = run(
        programs(name="crew", config=server, programs=[crew]),
        programs(name="crew", config=server, programs=[poor], serial=1),
        info(config=server, names=["crew-2"]),
        programs(name="crew", config=server, programs=[crew], serial=1),
    )
    bad(stuck, "crew-1 is FATAL", changed=True)
    assert pids(rest) == {"crew-2": pids(good(old, True))["crew-2"]}
    assert good(mended, True)["restarted"] == ["crew-1", "crew-2"]

    # a supervisord that hangs is neither down nor fine
    pid = host.ssh("h1", "cat /opt/jaws/pid")
    host.ssh("h1", f"kill -STOP {pid}")
    try:
        for hung in run(info(config=server, timeout=1), programs(name="x", config=server, timeout=1)):
            bad(hung, "hangs", running=None)
    finally:
        host.ssh("h1", f"kill -CONT {pid}")
    assert pids(run(info(config=server, names=["runs"]))[0]) == before
