# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks hold, release and history, and the token modules, run as a person runs them. No host is contacted."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from bed.play import Player

SITE = {
    "plugin": "sciops.sites.site",
    "site": "pool",
    "connection": {"ansible_connection": "local"},
    "hosts": {"pool-1": {}, "pool-2": {}},
    "holds": [{"scope": "pipe:pipe0", "mode": "hold", "owner": "ben", "reason": "declared"}],
    "pipes": {"pipe0": {"components": {"mover": {"count": 1, "command": "sleep 9"}}}},
}


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    folder = tmp_path / "inventories" / "test"
    folder.mkdir(parents=True)
    (folder / "pool.site.yml").write_text(yaml.safe_dump(SITE))
    return folder


def extra(**values: object) -> list[str]:
    return ["-e", json.dumps({f"sciops_sites_{name}": value for name, value in values.items()})]


def holds(play: Player) -> list[dict]:
    path = play.state / "pool.test" / "holds.json"
    return json.loads(path.read_text())["holds"] if path.exists() else []


def test_j17_hold_is_truthful_in_check_mode_idempotent_and_released(play: Player, inventory: Path) -> None:
    wanted = extra(reason="disk is replaced", scope="host:pool-1", mode="drain", until="2999-01-01", by="ana")
    wanted_soon = extra(reason="disk is replaced", scope="host:pool-1", mode="drain", until="1d", by="ana")
    assert "more than ten years" in play("playbooks/hold.yml", inventory, *wanted).stdout
    checked = play("playbooks/hold.yml", inventory, *wanted_soon, "--check", "--diff")
    assert checked.rc == 0, checked.stdout + checked.stderr
    assert checked.recap("changed") == 1
    assert "+- mode: drain" in checked.stdout
    assert not play.state.exists()

    forever = extra(reason="disk is replaced", scope="host:pool-1", mode="drain", by="ana")
    assert play("playbooks/hold.yml", inventory, *forever).recap("changed") == 1
    assert play("playbooks/hold.yml", inventory, *forever).recap("changed") == 0
    (hold,) = holds(play)
    assert (hold["scope"], hold["mode"], hold["owner"], hold["until"]) == ("host:pool-1", "drain", "ana", None)

    seen = play("playbooks/history.yml", inventory).stdout
    assert "drain of host:pool-1 by ana: disk is replaced" in seen
    assert "hold of pipe:pipe0 by ben: declared" in seen
    assert "no pass yet" in seen

    assert play("playbooks/release.yml", inventory, *extra(scope="host:pool-1"), "--check").recap("changed") == 1
    assert len(holds(play)) == 1
    assert play("playbooks/release.yml", inventory, *extra(scope="host:pool-1")).recap("changed") == 1
    assert holds(play) == []
    assert play("playbooks/release.yml", inventory, *extra(scope="host:pool-1")).recap("changed") == 0
    declared = play("playbooks/release.yml", inventory, *extra(scope="pipe:pipe0"))
    assert "is declared in" in declared.stdout + declared.stderr


def test_j17_halt_stops_the_pass_and_tells_by_whom_until_it_is_lifted(play: Player, inventory: Path) -> None:
    assert play("playbooks/hold.yml", inventory, *extra(reason="flood", mode="halt", by="ana")).recap("changed") == 1
    done = play("playbooks/reconcile.yml", inventory)
    assert done.outcome == "halted"
    assert done.report["exit_code"] == 40
    assert "halted by ana: flood" in done.stdout
    assert done.site("pool")["results"] == []
    assert play("playbooks/release.yml", inventory).recap("changed") == 0  # a hold is not the kill switch
    assert (play.state / "pool.test" / "HALT").exists()
    assert play("playbooks/release.yml", inventory, *extra(mode="halt")).recap("changed") == 1
    assert not (play.state / "pool.test" / "HALT").exists()
    # run: back to normal; checked, so that nothing is started
    assert play("playbooks/reconcile.yml", inventory, "--check").outcome != "halted"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scope": "host:pool-3", "reason": "x"}, "did you mean pool-"),
        ({"scope": "pool-1", "reason": "x"}, "must be site, host:NAME"),
        ({"scope": "host:pool-1", "mode": "halt", "reason": "x"}, "halt stops the whole site"),
        ({"scope": "site", "reason": ""}, "reason: is empty"),
        ({"scope": "site"}, "say why"),
        ({"scope": "site", "reason": "x", "until": "2"}, "duration with unit"),
        ({"scope": "site", "reason": "x", "names": ["nowhere"]}, "nowhere"),
    ],
)
def test_bad_hold_is_refused_and_nothing_is_kept(play: Player, inventory: Path, values: dict, words: str) -> None:
    done = play("playbooks/hold.yml", inventory, *extra(**values))
    assert done.rc != 0
    assert words in " ".join((done.stdout + done.stderr).split())
    assert not play.state.exists()


def test_damaged_memory_stops_the_pass_and_is_named_by_history(play: Player, inventory: Path) -> None:
    folder = play.state / "pool.test"
    folder.mkdir(parents=True)
    (folder / "memory.json").write_text('{"version": 1, "mem')
    done = play("playbooks/reconcile.yml", inventory)
    assert done.rc != 0
    assert "memory.json" in done.stdout + done.stderr
    assert (folder / "memory.json").read_text() == '{"version": 1, "mem'
    seen = play("playbooks/history.yml", inventory)
    assert seen.rc == 0
    assert "PROBLEM" in seen.stdout


def test_j18_token_modules(play: Player, tmp_path: Path) -> None:
    book = tmp_path / "token.yml"
    path = tmp_path / "tokens"
    task = {
        "name": "check",
        "owner": "{{ who }}",
        "state": "{{ state | default('held') }}",
        "path": str(path),
        "ttl": 600,
    }
    book.write_text(
        yaml.safe_dump(
            [
                {
                    "name": "Token",
                    "hosts": "localhost",
                    "connection": "local",
                    "gather_facts": False,
                    "tasks": [
                        {"name": "Turn", "sciops.sites.token": task},
                        {
                            "name": "See",
                            "sciops.sites.token_info": {"name": "check", "path": str(path), "number": 1},
                            "register": "t",
                        },
                        {
                            "name": "Show",
                            "ansible.builtin.debug": {"msg": "{{ t.owner }} {{ t.number }} {{ t.current }}"},
                        },
                    ],
                }
            ]
        )
    )

    def turn(who: str, *more: str):
        return play(str(book), "localhost,", "-e", f"who={who} ansible_python_interpreter={sys.executable}", *more)

    assert turn("ana", "--check").recap("changed") == 1
    assert not path.exists()
    first = turn("ana")
    assert first.recap("changed") == 1, first.stdout + first.stderr
    assert "ana 1 True" in first.stdout
    assert turn("ana").recap("changed") == 0
    assert "held by ana since" in turn("ben").stdout
    assert "not yours, it is held by ana" in turn("ben", "-e", "state=released").stdout
    assert turn("ana", "-e", "state=released", "--check").recap("changed") == 1
    assert turn("ana", "-e", "state=released").recap("changed") == 1
    assert "ben 2 False" in turn("ben").stdout
    shutil.rmtree(path)
