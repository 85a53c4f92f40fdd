# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules slurm_scrontab and slurm_scrontab_info against real Slurm, as users run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.fleet import Fleet, slurm_pool

pytestmark = pytest.mark.hosts

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {"22.05": "slurm22", "24.11": "slurm24", "26.05": "cluster"}


class Login:
    """The one host of a cluster, and a user of it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def ssh(self, text: str, check: bool = True) -> str:
        return self.fleet.ssh("h1", text, user="deploy", check=check)


POOLS: dict[str, Login] = {}


@pytest.fixture(scope="module", autouse=True)
def pools(bed: Path) -> Iterator[None]:
    yield
    for pool in POOLS.values():
        pool.fleet.down()
    POOLS.clear()


@pytest.fixture
def pool(request: pytest.FixtureRequest, bed: Path) -> Login:
    """The host of a version, made once."""
    version = request.param
    if version not in POOLS:
        POOLS[version] = Login(Fleet(1, "systemd", RECIPES[version]))
        assert slurm_pool(POOLS[version].fleet).startswith(version)
    return POOLS[version]


def versions(*names: str) -> pytest.MarkDecorator:
    params = [pytest.param(name, marks=pytest.mark.xdist_group(f"scrontab {name}")) for name in names]
    return pytest.mark.parametrize("pool", params, indirect=True)


def play(pool: Login, tmp_path: Path, *tasks: dict, user: str = "deploy") -> list[dict]:
    """Run tasks as a playbook would; the result of each."""
    head = {"hosts": "h1", "gather_facts": False, "vars": {"ansible_user": user}}
    (tmp_path / "play.yml").write_text(json.dumps([head | {"tasks": list(tasks)}]))
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", pool.fleet.inventory]
    argv.append(str(tmp_path / "play.yml"))
    env = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = subprocess.run([*argv, "-v"], env=env, capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)
    found = [
        json.JSONDecoder().raw_decode(done.stdout, match.end())[0]
        for match in re.finditer(r"^(?:ok|changed|fatal): \[h1\](?:: FAILED!)? => ", done.stdout, re.M)
    ]
    assert len(found) == len(tasks), done.stdout + done.stderr
    return found


def task(**options: Any) -> dict:
    return {"sciops.sites.slurm_scrontab": {"name": "lookout"} | options}


@versions("24.11", "26.05")
def test_scrontab(pool: Login, tmp_path: Path) -> None:
    """W9: our block `#DISABLED:` is repaired unless held; the user's other lines are byte-equal, whatever they are."""
    mine = "# mine\\r\\nA=b\\n#SCRON -t 5\\n0 3 * * * /bin/true mine\\n\\n# no line feed"
    pool.ssh(f"printf '{mine}' | scrontab -")
    before = pool.ssh("scrontab -l | od -c")
    entries = [{"minute": "*/5", "command": "sleep 1 # $A 50%", "options": ["--time=5"]}]
    entries.append({"special": "daily", "command": "/bin/true", "job_name": "ours"})
    first, again = play(pool, tmp_path, task(entries=entries), task(entries=entries))
    assert (first["changed"], again["changed"], first["entries"]) == (True, False, 2)
    assert pool.ssh("scrontab -l | sed '/^# BEGIN/,/^# END/d' | od -c") == before
    pool.ssh("scancel --cron $(squeue --me -h -n ours -o %i)")
    assert pool.ssh("scrontab -l").count("#DISABLED: ") == 3
    seen, held, dry = play(
        pool,
        tmp_path,
        {"sciops.sites.slurm_scrontab_info": {}},
        task(entries=entries, held=True),
        task(entries=entries) | {"check_mode": True},
    )
    told = seen["blocks"][0]["entries"]
    assert [one["disabled"] for one in told] == [False, True]
    assert told[0]["job"] and told[0]["next_run"] > 1_700_000_000 and told[1]["job"] is None
    assert (held["changed"], held["disabled"]) == (False, ["@daily /bin/true"])
    assert (dry["changed"], dry["enabled"]) == (True, ["@daily /bin/true"])
    assert pool.ssh("scrontab -l").count("#DISABLED: ") == 3
    mended, wrong, dry, gone, over = play(
        pool,
        tmp_path,
        task(entries=entries),
        task(entries=[{"minute": "61", "command": "x"}]) | {"ignore_errors": True},
        task(state="absent") | {"check_mode": True},
        task(state="absent"),
        task(state="absent"),
    )
    assert (mended["changed"], mended["enabled"]) == (True, ["@daily /bin/true"])
    assert wrong["msg"] == "slurm_scrontab: entries[0].minute: 61: must be 0 to 59"
    assert (dry["changed"], gone["changed"], over["changed"]) == (True, True, False)
    # Slurm ends a last line that had no end when it disables an entry; all else is as it was
    assert pool.ssh("scrontab -l | od -c") in (before, pool.ssh(f"printf '{mine}\\n' | od -c"))
    assert pool.ssh("squeue --me -h -n ours -o %i") == ""
    pool.ssh("scrontab -r")


@versions("24.11")
def test_scrontab_that_has_nothing_but_ours(pool: Login, tmp_path: Path) -> None:
    """With the block the scrontab goes; what runs of it is cancelled, what Slurm refuses changes nothing."""
    entries = [{"command": "sleep 4807"}]
    first, wrong = play(
        pool,
        tmp_path,
        task(entries=entries),
        task(entries=[{"command": "x", "options": ["--partition=nowhere"]}]) | {"ignore_errors": True},
    )
    assert first["changed"]
    assert "nothing was changed: " in wrong["msg"] and "invalid partition specified: nowhere" in wrong["msg"]
    assert "sleep 4807" in pool.ssh("scrontab -l")
    # one that runs, as Slurm leaves it
    comment = re.search(r"--comment=(\S+)", pool.ssh("scrontab -l"))
    assert comment
    left = pool.ssh(f"sbatch --parsable --comment={comment[1]} --output=/dev/null --wrap 'sleep 4808'")
    (gone,) = play(pool, tmp_path, task(state="absent"))
    assert gone["changed"] and int(left) in gone["cancelled"]
    assert pool.ssh("scrontab -l 2>&1", check=False) == "no crontab for deploy"
    left = "squeue --me -h -t PD,R -o %k | grep -c sciops.sites:"
    ends = time.monotonic() + 20
    while pool.ssh(left, check=False) != "0" and time.monotonic() < ends:
        time.sleep(0.2)
    assert pool.ssh(left, check=False) == "0"


@versions("22.05")
def test_slurm_without_scrontab(pool: Login, tmp_path: Path) -> None:
    failed, told = play(
        pool,
        tmp_path,
        task(entries=[{"command": "x"}]) | {"ignore_errors": True},
        {"sciops.sites.slurm_scrontab_info": {}, "ignore_errors": True},
    )
    for name, result in (("slurm_scrontab", failed), ("slurm_scrontab_info", told)):
        assert result["msg"].startswith(f"{name}: there is no program scrontab on this host")
