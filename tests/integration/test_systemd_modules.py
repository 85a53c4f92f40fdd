# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd_instances and systemd_instances_info with a real systemd on a real host, in plays as people write them."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bed.fleet import Fleet
from bed.play import Player

Run = Callable[..., list[dict]]
AWKWARD = 'a%b$HOME "c d"\\'
SLEEP = "sleep 1000"


@pytest.fixture(scope="module")
def host(fleet: Callable[..., Fleet]) -> Fleet:
    return fleet(1, kind="systemd")


@pytest.fixture
def run(host: Fleet, play: Player, tmp_path: Path) -> Run:
    """Tasks on h1, one after the other in one play, failed ones too; returns what each of them returned."""

    def tasks(*steps: dict) -> list[dict]:
        book, out = tmp_path / "book.yml", tmp_path / "out.json"
        done = [{"name": "T", "register": f"r{i}", "ignore_errors": True, **step} for i, step in enumerate(steps)]
        text = "{{ [" + ", ".join(f"r{i}" for i in range(len(steps))) + "] | to_json }}"
        write = {"copy": {"content": text, "dest": str(out)}, "delegate_to": "localhost", "connection": "local"}
        book.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [*done, write]}]))
        # a connection that is kept is a login
        env = {"ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=2s"}
        words = ["--diff", "-e", f"ansible_playbook_python={sys.executable}"]
        shown = play(str(book), host.inventory, *words, env=env)
        assert out.exists(), shown.stdout + shown.stderr
        results = json.loads(out.read_text())
        out.unlink()
        return [{**one, "shown": shown.stdout + json.dumps(results)} for one in results]

    return tasks


def instances(login: str = "root", check: bool = False, **args: object) -> dict:
    args = {"settle": 0.5, **args}
    return {"sciops.sites.systemd_instances": args, "check_mode": check, "vars": {"ansible_user": login}}


def info(login: str = "root", **args: object) -> dict:
    return {"sciops.sites.systemd_instances_info": args, "vars": {"ansible_user": login}}


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
    assert {(one["state"], one["enabled"]) for one in result["units"]} == {("active", True)}, result["units"]
    return {one["instance"]: one["pid"] for one in result["units"]}


def same(checked: dict, done: dict) -> None:
    """What check mode said is what happened."""
    keys = (
        "changed started stopped restarted kept enabled disabled reloaded files unit diff linger linger_enabled".split()
    )
    assert {key: checked[key] for key in keys} == {key: done[key] for key in keys}


def test_counts_and_changes_touch_exactly_what_they_must(host: Fleet, run: Run) -> None:
    base = {"name": "mover", "user": "jadelta", "command": ["sleep", "10{instance}"]}
    base |= {"environment": {"A": "100% $HOME", "I": "n{instance}"}, "secrets": {"TOKEN": AWKWARD + "\nline"}}
    host.ssh("h1", "printf '[Service]\\nExecStart=/bin/sleep 7\\n' > /etc/systemd/system/theirs@.service")
    empty, checked, first, again, three, before = run(
        info(names=["mover"]),
        instances(**base, count=4, check=True),
        instances(**base, count=4),
        instances(**base, count=4),
        instances(**base, count=2, check=True),
        info(names=["mover", "cron.service"]),
    )
    assert good(empty, False)["units"] == [] and empty["running"]
    same(good(checked, True), good(first, True))
    four = pids(first)
    assert list(four) == ["1", "2", "3", "4"] and first["started"] == first["enabled"] == list(four)
    assert pids(good(again, False)) == four and again["kept"] == list(four) and not again["reloaded"]
    assert pids({"units": before["units"][1:]}) == four and before["units"][0]["name"] == "cron.service"
    assert "c d" not in first["shown"]
    given = host.ssh("h1", f"tr '\\0' '|' < /proc/{four['2']}/environ; tr '\\0' '|' < /proc/{four['2']}/cmdline")
    assert f"TOKEN={AWKWARD}\nline|" in given and "A=100% $HOME|" in given and "I=n2|" in given
    assert given.endswith("sleep|102|")
    folder = "/etc/systemd/system/mover@.service"
    assert host.ssh("h1", f"stat -c '%a %U' {folder}.secrets/* {folder}") == "600 root\n644 root"
    assert "c d" not in host.ssh("h1", f"cat {folder}")

    two, gone, back, all_four = run(
        instances(**base, count=2),
        info(names=["mover"]),
        instances(**base, count=4),
        info(names=["mover"]),
    )
    same(three, good(two, True))
    assert two["stopped"] == two["disabled"] == ["3", "4"] and not two["reloaded"] and not two["restarted"]
    assert pids(gone) == {name: four[name] for name in ("1", "2")}
    assert good(back, True)["started"] == back["enabled"] == ["3", "4"] and back["kept"] == ["1", "2"]
    now = pids(all_four)
    assert {name: now[name] for name in ("1", "2")} == pids(gone) and len(now) == 4

    base["secrets"] = {"TOKEN": "new"}
    kept, checked, turned, crashed, limited = run(
        instances(**base, count=4, on_change="none", check=True),
        instances(**base, count=4, serial=3, check=True),
        instances(**base, count=4, serial=3),
        instances(name="crash", count=1, command="sh -c 'echo so sad; exit 3'", restart="no"),
        instances(name="crash", count=1, command="false", restart="always", restart_sec=0.01, settle=1),
    )
    assert good(kept, True)["kept"] == list(four)
    same(good(checked, True), good(turned, True))
    assert turned["restarted"] == list(four) and turned["reloaded"]
    assert not set(pids(turned).values()) & set(now.values())
    assert "TOKEN=new" in host.ssh("h1", f"tr '\\0' '\\n' < /proc/{pids(turned)['1']}/environ").split("\n")
    bad(crashed, "crash@1.service is", "exit status 3", running=True, changed=True)
    assert crashed["units_failed"][0]["exit_status"] == 3
    bad(limited, "crash@1.service is failed: start limit hit, systemd gave it up after 5 restarts", "exit status 1")

    # a run that was cut off before its restarts: the next one does what it did not come to
    host.ssh("h1", "echo 3 > /etc/systemd/system/.mover@.service.sciops; systemctl stop mover@1")
    checked, healed, tried, refused, theirs, clash, broken, good_again, absent, nothing, left = run(
        instances(**base, count=4, check=True),
        instances(**base, count=4),
        instances(name="crash", count=1, command="false", restart="always", restart_sec=0.01, check=True),
        instances(
            name="crash", count=1, command="/bin/true", type="notify", restart="no", drop_in="[Service]\nType=x\n"
        ),
        instances(name="theirs", count=1, command=SLEEP),
        instances(name="user@1000.service", count=1, command=SLEEP),
        instances(**base, count=4, drop_in="[Service]\nExecStart=/bin/two\n"),
        instances(**base, count=4),
        instances(name="mover", state="absent"),
        instances(name="mover", state="absent"),
        info(names=["mover"]),
    )
    same(good(checked, True), good(healed, True))
    assert (healed["restarted"], healed["started"], healed["kept"]) == (["3"], ["1"], ["2", "4"])
    assert {name: pids(healed)[name] for name in "24"} == {name: pids(turned)[name] for name in "24"}
    assert good(tried, True)["started"] == ["1"]
    bad(refused, "crash@1.service is")
    bad(theirs, "theirs@.service: was not written by this module", changed=False)
    bad(clash, "name")
    # what systemd refuses is taken back: two ExecStart= for one simple service
    bad(broken, "systemd refuses", "bad-setting", changed=False)
    assert pids(good(good_again, False)) == pids(healed)
    assert good(absent, True)["stopped"] == absent["disabled"] == list(four)
    good(nothing, False)
    assert left["units"] == []
    assert host.ssh("h1", "ls -A /etc/systemd/system | grep mover || true") == ""

    # a template of the distribution, and a unit of the administrator that has the name of an instance
    vendor, unit = "/usr/lib/systemd/system/vendor@.service", "[Service]\\nExecStart=/bin/sleep 7000\\n"
    host.ssh("h1", f"printf '{unit}[Install]\\nWantedBy=multi-user.target\\n' > {vendor}")
    host.ssh("h1", f"printf '{unit}' > /etc/systemd/system/lifter@debug.service; systemctl daemon-reload")
    host.ssh("h1", "systemctl enable --now vendor@one; systemctl start lifter@debug")
    absent, none, one, fewer, over = run(
        instances(name="vendor", state="absent"),
        instances(name="vendor", count=0, command=SLEEP),
        instances(name="lifter", count=2, command=SLEEP),
        instances(name="lifter", count=1, command=SLEEP),
        instances(name="lifter", state="absent"),
    )
    for told in (absent, none):
        # it may be called /lib here
        bad(told, f"{vendor[4:]}: has a unit file of its own or of somebody else", changed=False)
    assert good(one, True)["stopped"] == [] and good(fewer, True)["stopped"] == ["2"]
    assert good(over, True)["stopped"] == ["1"]
    assert host.ssh("h1", "systemctl is-active vendor@one lifter@debug").split() == ["active", "active"]
    assert host.ssh("h1", "ls -A /etc/systemd/system | grep 'lifter\\|vendor'") == "lifter@debug.service"


def test_w8_user_units_live_on_after_logout_and_reboot(host: Fleet, run: Run) -> None:
    base = {"name": "jaws", "scope": "user", "command": SLEEP, "instances": ["runs", "rpc-server"]}
    poor, wrong, denied, checked, mine, first, again = run(
        instances("jadelta", **base),
        instances("jadelta", **base, user="root"),
        instances("jadelta", **base, owner="deploy"),
        instances(**base, owner="jadelta", linger=True, check=True),
        instances("deploy", **base),
        instances(**base, owner="jadelta", linger=True),
        instances(**base, owner="jadelta", linger=True),
    )
    bad(poor, "linger of user jadelta is off", changed=False)
    bad(wrong, "leave it out")
    bad(denied, "only root acts for another user")
    same(good(checked, True), good(first, True))
    assert first["linger"] and first["linger_enabled"]
    good(again, False)
    theirs, ours = pids(first), pids(good(mine, True))
    unit = "/home/jadelta/.config/systemd/user/jaws@.service"
    assert first["unit"] == unit
    assert "WantedBy=default.target" in host.ssh("h1", f"cat {unit}")
    owners = host.ssh("h1", "find /home/jadelta/.config -printf '%u %y %m\\n' | sort -u").splitlines()
    assert {line.split()[0] for line in owners} == {"jadelta"}

    # 5 s after the last login
    end = time.monotonic() + 20
    while any(re.match(r"sshd(-session)?: (jadelta|deploy)", p.args) for p in host.ps("h1")):
        assert time.monotonic() < end, "somebody stays logged in"
        time.sleep(0.2)
    time.sleep(5)
    alive = {p.pid for p in host.ps("h1") if p.args.endswith(SLEEP)}
    assert alive >= set(theirs.values()) | set(ours.values())
    seen, mine = run(info(names=["jaws"], scope="user", owner="jadelta"), info("deploy", names=["jaws"], scope="user"))
    assert pids(seen) == theirs and pids(mine) == ours and seen["linger"]

    host.kill("h1")
    host.boot("h1")
    (second,) = run(instances(**base, owner="jadelta"))
    assert pids(good(second, False)).keys() == theirs.keys()

    # a manager that hangs is neither down nor fine
    pid = host.ssh("h1", "pgrep -u jadelta -f 'systemd --user'")
    host.ssh("h1", f"kill -STOP {pid}")
    try:
        hung, hung_change = run(
            info(names=["jaws"], scope="user", owner="jadelta", timeout=1),
            instances(**base, owner="jadelta", timeout=1),
        )
    finally:
        host.ssh("h1", f"kill -CONT {pid}")
    bad(hung, "hangs", running=None)
    bad(hung_change, "hangs", running=None, changed=False)
    (down,) = run(info("root", names=["jaws"], scope="user", owner="nobody"))
    assert good(down, False)["running"] is False
