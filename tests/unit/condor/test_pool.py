# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is free and used in a pool: rows, tables, slots folded into machines. R13 with stubs for HTCondor's commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _condor_overview as overview
from ansible_collections.sciops.sites.plugins.plugin_utils import _pool

RCE_RULES = [
    {"pattern": "ksg", "entitlement": "kennedy"},
    {"pattern": "edlabs", "entitlement": "edlabs"},
    {"pattern": "nsaph", "entitlement": "nsaph"},
]
# --- R13: the module as Ansible runs it, HTCondor's commands replaced by stubs that note how they were called

STATUS = """\
#!%(python)s
import json, sys
with open("%(folder)s/calls", "a") as log:
    log.write(json.dumps(["condor_status"] + sys.argv[1:]) + "\\n")
print(open("%(folder)s/schedds.json" if "-schedd" in sys.argv else "%(folder)s/slots.json").read())
"""
QUEUE = """\
#!%(python)s
import json, os, sys
with open("%(folder)s/calls", "a") as log:
    log.write(json.dumps(["condor_q"] + sys.argv[1:]) + "\\n")
path = "%(folder)s/jobs." + sys.argv[sys.argv.index("-name") + 1] + ".json"
if not os.path.exists(path):
    sys.exit("-- Failed to fetch ads from: <10.0.0.9:9618>\\nSECMAN:2007:Failed to end classad message.")
print(open(path).read())
"""
SLOTS = [
    {"Name": "slot1@node-2.rce", "Machine": "node-2.rce", "Cpus": 2, "Memory": 30720},
    {"Name": "slot1@node-10.rce", "Machine": "node-10.rce", "Cpus": 12, "Memory": 65536},
    {"Name": "slot1@ksg-1", "Machine": "ksg-1", "Cpus": 40, "Memory": 131072},
    {"Name": "slot1@node-1.rce", "Machine": "node-1.rce", "Cpus": 2, "Memory": 104448},
    {"Name": "slot1@edlabs-3", "Machine": "edlabs-3", "Cpus": 7, "Memory": 4000},
    {"Name": "slot1@nsaph-1", "Machine": "nsaph-1", "Cpus": 3, "Memory": 1536},
    {"Name": "slot1@node-3.rce", "Machine": "node-3.rce", "Cpus": 2, "Memory": 30720},
]
GB = 1024 * 1024
JOBS = {
    "s1.rce": [
        {"Owner": "ann", "RequestCpus": 2, "RequestMemory": 8192, "ResidentSetSize_RAW": 2 * GB},
        {"Owner": "bob", "RequestCpus": 1, "RequestMemory": 65536, "ResidentSetSize_RAW": 512 * 1024},
        {"Owner": "eve", "RequestCpus": 1, "RequestMemory": 1024, "ResidentSetSize_RAW": 3 * GB},
    ],
    "s2.rce": [
        {"Owner": "ann", "RequestCpus": 4, "RequestMemory": 4096, "ResidentSetSize_RAW": GB},
        # begun a moment ago: what it uses is not known
        {"Owner": "dan", "RequestCpus": 1, "RequestMemory": 2048},
    ],
}


@pytest.fixture
def stubbed(tmp_path: Path, root: Path):
    """Run the module with stubs; `run(jobs=.., slots=.., **options)` gives its result."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    for name, text in (("condor_status", STATUS), ("condor_q", QUEUE)):
        (folder / name).write_text(text % {"python": sys.executable, "folder": folder})
        (folder / name).chmod(0o755)

    def run(
        jobs: dict | None = None,
        slots: list | None = None,
        env: dict | None = None,
        schedds: tuple = ("s1.rce", "s2.rce"),
        **options: Any,
    ) -> dict:
        jobs = JOBS if jobs is None else jobs
        slots = SLOTS if slots is None else slots
        (folder / "calls").unlink(missing_ok=True)
        (folder / "slots.json").write_text(json.dumps(slots) if slots else "")
        (folder / "schedds.json").write_text(json.dumps([{"Name": name, "MyType": "Scheduler"} for name in schedds]))
        for name, ads in jobs.items():
            (folder / f"jobs.{name}.json").write_text(json.dumps(ads))
        arguments = {"way": "commands", "entitlement_rules": RCE_RULES, **options}
        path = f"{folder}:{os.environ['PATH']}"
        # the stubs come before what this machine may have of HTCondor
        code = "from ansible_collections.sciops.sites.plugins.module_utils import _condor\n"
        code += f"_condor.PATHS = {str(folder)!r}\n"
        code += (
            "from ansible_collections.sciops.sites.plugins.modules import condor_pool_info\ncondor_pool_info.main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", HEAD + code],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env={"PATH": path, "PYTHONPATH": str(root / ".collections"), **(env or {})},
            cwd=root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        result["calls"] = [json.loads(line) for line in (folder / "calls").read_text().splitlines()]
        return result

    return run


#: what the wrapper of a module does before it (newer ansible-core wants to know how results are written)
HEAD = """\
import sys
from ansible.module_utils import basic
data = sys.stdin.buffer.read()
basic._ANSIBLE_ARGS = data
if hasattr(basic, "_ANSIBLE_PROFILE"):
    basic._ANSIBLE_PROFILE = "legacy"
"""


def test_what_is_available(stubbed) -> None:
    """R13: constraint, columns, rows and their order; a machine `ksg-1` only with the entitlement kennedy."""
    told = stubbed()
    assert told["available_table"] == [
        "CpusAvailable MemoryAvailable(gb) Machine",
        "           12                  64 node-10.rce",
        "            2                 102 node-1.rce",
        "            2                  30 node-2.rce",
        "            2                  30 node-3.rce",
    ]
    (asked,) = [call for call in told["calls"] if call[0] == "condor_status" and "-schedd" not in call]
    constraint = asked[asked.index("-constraint") + 1]
    assert constraint == 'regexp("^slot1@",Name) && Start == true && RemoteOwner =?= undefined'
    assert told["available"][0] == {
        "machine": "node-10.rce",
        "slot": "slot1@node-10.rce",
        "cpus": 12,
        "memory_mb": 65536,
        "memory_gb": 64.0,
    }
    assert told["available_totals"] == {"cpus": 18, "memory_gb": 226.0, "machines": 4}


@pytest.mark.parametrize(
    ("held", "machines"),
    [
        ("kennedy", ["ksg-1"]),
        ("edlabs,kennedy", ["ksg-1", "edlabs-3"]),
        ("nsaph edlabs", ["edlabs-3", "nsaph-1"]),
        ("kennedy2, Kennedy", []),
        ("", []),
    ],
)
def test_entitlements_show_more_machines(stubbed, held: str, machines: list[str]) -> None:
    """R13: from the user's environment as before, and as an option, which wins."""
    for told in (
        stubbed(env={"_CONDOR_ENTITLEMENTS": held}, show=["available"]),
        stubbed(env={"_CONDOR_ENTITLEMENTS": "kennedy nsaph edlabs"}, entitlements=[held], show=["available"]),
    ):
        seen = [row["machine"] for row in told["available"]]
        assert [one for one in seen if not one.startswith("node-")] == machines
        assert [line.split()[-1] for line in told["available_table"][1:]] == seen
        assert "used" not in told and [call[0] for call in told["calls"]] == ["condor_status"]


def test_without_rules_every_machine_is_shown(stubbed) -> None:
    told = stubbed(entitlement_rules=[], show=["available"])
    assert [row["machine"] for row in told["available"]] == [
        *("ksg-1", "node-10.rce", "edlabs-3", "nsaph-1", "node-1.rce", "node-2.rce", "node-3.rce")
    ]


def test_what_is_used(stubbed) -> None:
    """R13: running jobs of all schedds, per user, who leaves most unused first; unknown is no zero."""
    told = stubbed()
    assert told["used_table"] == [
        "User Cpus Requested(gb) Used(gb) Unused(gb)",
        "bob     1            64      0.5       63.5",
        "ann     6            12        3          9",
        "eve     1             1        3         -2",
        "dan     1             2        ?          ?",
        "1 running job is not measured yet",
    ]
    queries = [call for call in told["calls"] if call[0] == "condor_q"]
    assert [call[call.index("-name") + 1] for call in queries] == ["s1.rce", "s2.rce"]
    assert {call[call.index("-constraint") + 1] for call in queries} == {"JobStatus == 2"}
    assert all("-allusers" in call for call in queries)
    assert told["used"][1] == {
        "user": "ann",
        "jobs": 2,
        "cpus": 6,
        "requested_gb": 12.0,
        "used_gb": 3.0,
        "unused_gb": 9.0,
        "unmeasured": 0,
    }
    assert told["used_totals"] == {"jobs": 5, "cpus": 9, "requested_gb": 79.0, "unmeasured": 1}
    assert (told["complete"], told["schedds"], told["changed"]) == (True, ["s1.rce", "s2.rce"], False)


def test_who_does_not_answer_is_not_taken_for_nobody(stubbed) -> None:
    failed = stubbed(schedds=("s1.rce", "s2.rce", "s3.rce"))
    assert failed["failed"] and "s3.rce: condor_q: " in failed["msg"] and "say partial to go on" in failed["msg"]
    told = stubbed(schedds=("s1.rce", "s2.rce", "s3.rce"), partial=True)
    assert (told["complete"], list(told["silent"]), len(told["used"])) == (False, ["s3.rce"], 4)
    for nothing in ({"slots": []}, {"schedds": ()}):
        failed = stubbed(**nothing)
        assert failed["failed"] and "it may have just started" in failed["msg"], nothing


def test_wrong_rules_are_told(stubbed) -> None:
    (words,) = overview.rule_faults([{"pattern": "(", "entitlement": "x"}])
    assert words.startswith("entitlement_rules[0].pattern: '(': is no regular expression")
    assert overview.rule_faults([{"pattern": "x", "entitlement": " , "}]) == [
        "entitlement_rules[0].entitlement: is empty"
    ]


def test_sizes_that_are_not_known_come_last() -> None:
    rows = overview.available([{"Machine": "a"}, {"Machine": "b", "Cpus": 0, "Memory": 0}], [], [])
    assert [(row["machine"], row["cpus"], row["memory_gb"]) for row in rows] == [("b", 0, 0.0), ("a", None, None)]
    assert overview.available_table(rows)[1:] == [
        "            0                   0 b",
        "            ?                   ? a",
    ]
    assert overview.totals(rows, ("cpus",)) == {"cpus": None}
    # an expression is no number; what the slot was given is
    (row,) = overview.used([{"User": "ann@x", "RequestCpus": "ifthenelse(..)", "CpusProvisioned": 3}])
    assert (row["user"], row["cpus"], row["requested_gb"], row["unmeasured"]) == ("ann", 3, None, 1)


# --- machines for the inventory


def slot(name: str, machine: str = "n1", **more: Any) -> dict:
    return {"Name": f"{name}@{machine}", "Machine": machine, "State": "Unclaimed", **more}


def whole(machine: str = "n1", cpus: int = 3, memory: int = 1000, **more: Any) -> dict:
    sizes = {"Cpus": cpus, "TotalSlotCpus": 8, "Memory": memory, "TotalSlotMemory": 4000, "PartitionableSlot": True}
    return slot("slot1", machine, **{**sizes, **more})


def part(number: int, cpus: int = 5, machine: str = "n1", **more: Any) -> dict:
    sizes = {"Cpus": cpus, "TotalSlotCpus": cpus, "Memory": 3000, "DynamicSlot": True, "State": "Claimed"}
    return slot(f"slot1_{number}", machine, **{**sizes, "RemoteOwner": "ann@bed", **more})


def test_slots_are_folded_into_their_machine() -> None:
    """What a dynamic slot has is a part of its partitionable slot's, and is not counted twice."""
    machines, left_out = _pool.fold(
        [part(10, 1), whole(cpus=2), part(2, Entitlements="kennedy, nsaph"), whole("n2", Entitlements=["x"])],
        {"schedd": [{"Name": "s", "Machine": "cm", "MyAddress": "<10.0.0.1:9618?addrs=x>"}]},
        "Entitlements",
        ["Rank"],
    )
    assert (list(machines), left_out) == (["cm", "n1", "n2"], [])
    one = machines["n1"]
    assert one["cpus"] == {"total": 8, "used": 6, "free": 2}
    assert one["memory"] == {"total": 4000, "used": 3000, "free": 1000}
    assert one["disk"] == {"total": None, "used": None, "free": None}, "not said is not zero"
    assert [(s["name"], s["type"]) for s in one["slots"]] == [
        ("slot1@n1", "partitionable"),
        ("slot1_2@n1", "dynamic"),
        ("slot1_10@n1", "dynamic"),
    ]
    assert (one["states"], one["owners"]) == ({"Unclaimed": 1, "Claimed": 2}, ["ann@bed"])
    assert (one["entitlements"], one["attributes"], one["daemons"]) == (
        ["kennedy", "nsaph"],
        {"Rank": None},
        ["startd"],
    )
    assert machines["cm"] == {"machine": "cm", "address": "10.0.0.1", "version": None, "daemons": ["schedd"]}
    assert _pool.groups(machines) == {
        "condor": ["cm", "n1", "n2"],
        "condor_schedd": ["cm"],
        "condor_startd": ["n1", "n2"],
        "condor_state_claimed": ["n1"],
        "condor_state_unclaimed": ["n1", "n2"],
        "condor_entitlement_kennedy": ["n1"],
        "condor_entitlement_nsaph": ["n1"],
        "condor_entitlement_x": ["n2"],
        "condor_free": ["n1", "n2"],
    }


def test_static_and_backfill_slots() -> None:
    static = [slot(f"slot{i}", Cpus=2, Memory=500, State=state) for i, state in enumerate(("Claimed", "Unclaimed"))]
    backfill = whole(SlotBackfill=True)
    machines, _schedds = _pool.fold([*static, backfill], {})
    assert machines["n1"]["cpus"] == {"total": 4, "used": 2, "free": 2}
    unknown, _schedds = _pool.fold([slot("slot1", Cpus=2, State=None)], {})
    assert unknown["n1"]["cpus"] == {"total": 2, "used": None, "free": None}


@pytest.mark.parametrize(
    ("slots", "word"),
    [
        ([whole()], "free"),
        ([whole(cpus=0)], "full"),
        ([whole(memory=0)], "full"),
        ([whole(State="Owner")], "full"),
        ([whole(Draining=True)], "full"),
        ([whole(State="Drained")], "full"),
        ([whole(Offline=True)], "full"),
        ([whole(Cpus=None)], "unknown"),
        ([whole(State=None)], "unknown"),
        ([part(1)], "full"),
        ([slot("slot1", Cpus=1, Memory=1, State="Claimed"), slot("slot2", Cpus=1, Memory=1)], "free"),
        ([slot("slot1", Cpus=1, Memory=1, State="Claimed")], "full"),
    ],
)
def test_room_for_a_job(slots: list, word: str) -> None:
    machines, _schedds = _pool.fold(slots, {})
    assert [group for group in _pool.groups(machines) if group in ("condor_free", "condor_full", "condor_unknown")] == [
        f"condor_{word}"
    ]


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST", "127.0.0.1", "all", "-oProxyCommand=x", "a b", "a\nb", "", None, 7, "x" * 300]
)
def test_a_machine_cannot_be_the_controller_or_an_option(name: Any) -> None:
    """Whoever may advertise a slot chooses its name; it must not run on the controller, nor in a command line."""
    machines, left_out = _pool.fold([whole(), {"Name": "odd", "Machine": name}], {"schedd": [{"Machine": name}]})
    assert list(machines) == ["n1"] and len(left_out) == 2
    assert all("is left out" in words and "\n" not in words for words in left_out)


def test_short_names_and_attributes_of_groups() -> None:
    machines, _schedds = _pool.fold(
        [whole("n1.a.org", Site="b", Fast=True, Odd=[1])], {}, "", ["Site", "Fast", "Odd"], True
    )
    assert list(machines) == ["n1"] and machines["n1"]["machine"] == "n1.a.org"
    found = _pool.groups(machines, ["Site", "Fast", "Odd", "Other"])
    assert found["condor_site_b"] == ["n1"] and found["condor_fast_true"] == ["n1"]
    assert not [group for group in found if group.startswith(("condor_odd", "condor_other"))]


def test_contact_strings() -> None:
    def address(text: str) -> str | None:
        return _pool.address({"MyAddress": text})

    assert address("<10.1.2.3:9618?addrs=10.1.2.3-9618&alias=n1>") == "10.1.2.3"
    assert address("<[2001:db8::1]:9618?addrs=x>") == "2001:db8::1"
    assert address("nonsense") is None and _pool.address({}) is None
    assert _pool.version({"CondorVersion": "$CondorVersion: 25.14.1 2026-10-16 PackageID: 25.14.1 $"}) == "25.14.1"


SIZES = st.one_of(st.none(), st.integers(0, 64))
ADS = st.lists(
    st.builds(
        lambda number, machine, state, kind, has, total: {
            "Name": f"slot{number}@{machine}",
            "Machine": machine,
            "State": state,
            "Cpus": has,
            "TotalSlotCpus": None if has is None or total is None else has + total,
            "Memory": 1,
            **({kind: True} if kind else {}),
        },
        st.integers(1, 20),
        st.sampled_from(["n1", "n2", "n10", "localhost"]),
        st.sampled_from(["Unclaimed", "Claimed", "Owner", "Drained", None]),
        st.sampled_from(["PartitionableSlot", "DynamicSlot", "SlotBackfill", ""]),
        SIZES,
        SIZES,
    ),
    unique_by=lambda ad: ad["Name"],
)


@given(ADS, st.randoms(use_true_random=False))
def test_folding_loses_nothing_and_knows_no_order(ads: list, random: Any) -> None:
    machines, left_out = _pool.fold(ads, {})
    other = list(ads)
    random.shuffle(other)
    assert _pool.fold(other, {}) == (machines, left_out)
    good = [ad for ad in ads if ad["Machine"] != "localhost"]
    assert sum(len(one["slots"]) for one in machines.values()) == len(good)
    assert len(left_out) == len(ads) - len(good)
    found = _pool.groups(machines)
    for name, one in machines.items():
        cpus = one["cpus"]
        if None not in cpus.values():
            assert cpus["used"] + cpus["free"] == cpus["total"] and min(cpus.values()) >= 0
        mine = [ad for ad in good if ad["Machine"] == name and not (ad.get("DynamicSlot") or ad.get("SlotBackfill"))]
        if any(ad["Cpus"] is None and ad["State"] in ("Unclaimed", "Owner", None) for ad in mine):
            assert cpus["free"] is None, "unknown is not zero"
        rooms = ("condor_free", "condor_full", "condor_unknown")
        assert sum(name in found.get(group, []) for group in rooms) == 1
