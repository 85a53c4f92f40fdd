# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin as Ansible runs it; what stands for the collector is a program in its option `command`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

BIN = Path(sys.executable).parent
SLOT = {
    "Name": "slot1@n1.a.org",
    "Machine": "n1.a.org",
    "MyAddress": "<10.0.0.7:9618?addrs=10.0.0.7-9618>",
    "State": "Unclaimed",
    "PartitionableSlot": True,
    "Cpus": 3,
    "TotalSlotCpus": 8,
    "Memory": 1000,
    "TotalSlotMemory": 4000,
    "OpSysAndVer": "Debian13",
    "Entitlements": "kennedy",
    "Odd": "{{ lookup('pipe', 'touch HACKED') }}",
}
STUB = """\
#!%s
import json, sys
from pathlib import Path
here = Path(__file__).parent
with (here / "calls").open("a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
reply = json.loads((here / "reply.json").read_text())
if isinstance(reply, str):
    sys.exit(reply)
kind = next(word for word in sys.argv if word in ("-slot", "-schedd", "-master"))
print(json.dumps(reply.get(kind, [])))
"""


class Pool:
    """An inventory file, the program behind it, and ansible-inventory."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.stub = folder / "collector"
        self.stub.write_text(STUB % sys.executable)
        self.stub.chmod(0o755)
        self.file = folder / "pool.condor.yml"
        self.says({"-slot": [SLOT]})

    def says(self, reply: Any) -> None:
        (self.folder / "reply.json").write_text(json.dumps(reply))

    def calls(self) -> list[list[str]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def run(self, *more: str, env: dict | None = None, **options: Any) -> tuple[int, str, str]:
        head = {"plugin": "sciops.sites.condor", "command": [str(self.stub)]}
        self.file.write_text(yaml.safe_dump({**head, **options}))
        done = subprocess.run(
            [str(BIN / "ansible-inventory"), "-i", str(self.file), "--list", "--export", *more],
            cwd=self.folder,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        # messages are broken into lines for the terminal
        return done.returncode, done.stdout, " ".join(done.stderr.split())

    def listed(self, *more: str, env: dict | None = None, **options: Any) -> dict:
        status, out, err = self.run(*more, env=env, **options)
        assert status == 0, err
        return json.loads(out)

    def refused(self, **options: Any) -> str:
        status, out, err = self.run(**options)
        assert status != 0, out
        return err


@pytest.fixture
def pool(tmp_path: Path, root: Path) -> Pool:
    return Pool(tmp_path, root)


def test_machines_groups_and_what_is_constructed(pool: Pool) -> None:
    """R13: inventory groups by entitlement; free and used resources; constructed features."""
    pool.says({"-slot": [SLOT], "-schedd": [{"Name": "s", "Machine": "s.a.org", "MyAddress": "<10.0.0.8:9618?x>"}]})
    told = pool.listed(
        daemons=["startd", "schedd"],
        attributes=["Odd"],
        group_by=["OpSysAndVer"],
        constraint='OpSys == "LINUX" && Memory > 1',
        pool="cm.a.org:9618",
        compose={"ansible_host": "condor_address", "half": "condor_cpus.total // 2"},
        groups={"small": "condor_memory.free < 2000"},
        keyed_groups=[{"key": "condor_entitlements", "prefix": "may"}],
    )
    variables = told["_meta"]["hostvars"]["n1.a.org"]
    assert variables["condor_cpus"] == {"total": 8, "used": 5, "free": 3}
    assert variables["condor_memory"] == {"total": 4000, "used": 3000, "free": 1000}
    assert variables["condor_disk"] == {"total": None, "used": None, "free": None}
    assert (variables["ansible_host"], variables["half"], variables["condor_entitlements"]) == (
        "10.0.0.7",
        4,
        ["kennedy"],
    )
    assert told["_meta"]["hostvars"]["s.a.org"] | {"condor_machine": "s.a.org"} == {
        "ansible_host": "10.0.0.8",
        "condor_address": "10.0.0.8",
        "condor_daemons": ["schedd"],
        "condor_machine": "s.a.org",
        "condor_version": None,
    }
    of = {name: one["hosts"] for name, one in told.items() if isinstance(one, dict) and "hosts" in one}
    for group in ("condor_startd", "condor_free", "condor_state_unclaimed", "condor_entitlement_kennedy", "small"):
        assert of[group] == ["n1.a.org"], group
    assert of["condor_opsysandver_Debian13"] == of["may_kennedy"] == ["n1.a.org"]
    assert (of["condor"], of["condor_schedd"]) == (["n1.a.org", "s.a.org"], ["s.a.org"])
    slots, schedds = pool.calls()
    assert slots[:2] == ["condor_status", "-slot"] and schedds[:2] == ["condor_status", "-schedd"]
    assert slots[slots.index("-constraint") + 1] == 'OpSys == "LINUX" && Memory > 1'
    assert slots[slots.index("-pool") + 1] == "cm.a.org:9618"
    assert {"Entitlements", "Odd", "TotalSlotCpus"} <= set(slots[slots.index("-attributes") + 1].split(","))


def test_what_a_pool_says_is_never_rendered(pool: Pool) -> None:
    """A machine's owner chooses its attributes; they are data, also where something is made from them."""
    odd = SLOT["Odd"]
    pool.says({"-slot": [{**SLOT, "OpSysAndVer": odd, "Entitlements": [odd], "RemoteOwner": odd, "State": odd}]})
    told = pool.listed(
        attributes=["Odd"],
        compose={"copy": "condor_attributes.Odd", "both": "condor_attributes.Odd ~ '{{ 1 }}'"},
        keyed_groups=[{"key": "condor_attributes.Odd", "prefix": "odd"}],
    )
    variables = told["_meta"]["hostvars"]["n1.a.org"]
    assert json.dumps(variables).count("touch HACKED") >= 6
    assert not (pool.folder / "HACKED").exists()
    # and a play that shows them renders nothing either
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "connection": "local",
            "tasks": [
                {
                    "ansible.builtin.debug": {
                        "msg": "{{ copy }} {{ both }} {{ condor_owners }} {{ condor_entitlements }}"
                    }
                }
            ],
        }
    ]
    (pool.folder / "play.yml").write_text(json.dumps(play))
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), "-i", str(pool.file), str(pool.folder / "play.yml")],
        cwd=pool.folder,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(pool.root / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(pool.folder / "t"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and "touch HACKED" in done.stdout, done.stdout + done.stderr
    assert not (pool.folder / "HACKED").exists()


@pytest.mark.parametrize(
    ("reply", "options", "words"),
    [
        (
            "Error: Failed to connect to collector",
            {},
            "command: the collector of HTCondor's configuration gave no answer",
        ),
        ("Error: Failed to connect", {"pool": "cm.a.org"}, "command: the collector cm.a.org gave no answer"),
        (
            "Error: invalid constraint",
            {"constraint": "((("},
            "constraint: the collector of HTCondor's configuration was not",
        ),
        (
            {"-slot": []},
            {},
            "allow_empty: the collector of HTCondor's configuration knows of no startd, and may have just",
        ),
        ({"-slot": []}, {"constraint": "false"}, "knows of no startd with false"),
        ({"-slot": [SLOT]}, {"attributes": ["a-b"]}, "attributes: 'a-b' is no name of an attribute"),
        ({"-slot": [SLOT]}, {"entitlements": "a b"}, "entitlements: 'a b' is no name of an attribute"),
        ({"-slot": [SLOT]}, {"daemons": []}, "daemons: is empty"),
        ({"-slot": [SLOT]}, {"way": "bindings"}, "way: bindings do not go through command"),
        ({"-slot": [SLOT]}, {"config": "/x"}, "config: is a file of this host, and command asks from elsewhere"),
        (
            {"-slot": [SLOT]},
            {"command": ["/no/such"]},
            "command: the collector of HTCondor's configuration was not asked: ",
        ),
        ({"-slot": [SLOT]}, {"strict": True, "compose": {"x": "nowhere"}}, "nowhere"),
    ],
)
def test_what_is_wrong_is_an_error_with_file_and_option(pool: Pool, reply: Any, options: dict, words: str) -> None:
    """Never an empty inventory: the file, the option and what to do."""
    pool.says(reply)
    said = pool.refused(**options)
    assert words in said, said
    if "strict" not in options:
        option = words.split(":", maxsplit=1)[0] if ": " in words else "allow_empty"
        assert f"{pool.file}: {option}: " in said


def test_nobody_goes_on_with_what_could_not_be_read(pool: Pool) -> None:
    """Where a person lets Ansible go on, the modules of this collection still see that something is missing."""
    pool.says("Error: Failed to connect")
    told = pool.listed(env={"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "False"})
    assert "gave no answer" in json.dumps(told["all"]["vars"]["sciops_sites_broken"])
    assert told["_meta"]["hostvars"] == {}


def test_an_empty_pool_where_that_is_well(pool: Pool) -> None:
    pool.says({"-slot": []})
    assert pool.listed(allow_empty=True)["_meta"]["hostvars"] == {}


def test_a_machine_that_can_be_no_host_is_left_out_and_told(pool: Pool) -> None:
    pool.says({"-slot": [SLOT, {**SLOT, "Name": "slot1@x", "Machine": "localhost"}]})
    status, out, err = pool.run()
    assert status == 0 and list(json.loads(out)["_meta"]["hostvars"]) == ["n1.a.org"]
    assert "slot 'slot1@x' is left out: 'localhost' can be no host" in err


def test_the_cache_answers_the_same_question_only(pool: Pool) -> None:
    cache = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(pool.folder / "cache")}
    first = pool.listed(**cache)
    pool.says("Error: Failed to connect")
    assert pool.listed(**cache) == first and len(pool.calls()) == 1
    assert "gave no answer" in pool.refused(**cache, pool="other.a.org"), "another question"
    pool.says({"-slot": [{**SLOT, "Cpus": 1}]})
    assert pool.listed("--flush-cache", **cache)["_meta"]["hostvars"]["n1.a.org"]["condor_cpus"]["free"] == 1
    assert len(pool.calls()) == 3


def test_words_for_ssh_are_quoted(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell takes the words of condor_status apart there; it must find the same ones."""
    shell = pool.folder / "ssh"
    shell.write_text(f'#!/bin/sh\n[ "$1" = submit ] && shift && exec sh -c "{pool.stub} $*"\n')
    shell.chmod(0o755)
    constraint = 'Name =!= "it\'s $(x)" && Memory > 1'
    pool.listed(command=[str(shell), "submit"], constraint=constraint)
    (words,) = pool.calls()
    assert words[words.index("-constraint") + 1] == constraint and words[0] == "condor_status"


def test_names_of_files(root: Path) -> None:
    from ansible_collections.sciops.sites.plugins.inventory.condor import InventoryModule

    plugin: Callable[[str], bool] = InventoryModule().verify_file
    assert all(plugin(name) for name in ("condor.yml", "/x/prod.condor.yaml"))
    assert not any(plugin(name) for name in ("x.site.yml", "hosts.yml", "condor.txt"))
