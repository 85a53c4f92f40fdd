# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interactive sessions in a real pool with a real xpra (R1 to R6)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bed.fleet import Fleet, until
from bed.play import Player
from bed.sessions import WORDS, Run, clear, queue, runner, session_pool

pytestmark = pytest.mark.hosts

SECRET = "hunter2-and-more"


@pytest.fixture(scope="module")
def pool(bed: Path) -> Iterator[Fleet]:
    with Fleet(1, "systemd", "cluster") as one:
        session_pool(one)
        yield one


@pytest.fixture
def run(pool: Fleet, play: Player, tmp_path: Path) -> Iterator[Run]:
    yield runner(pool, play, tmp_path)
    clear(pool)


def session(check: bool = False, **options: object) -> dict:
    given = {"app": "calc", "interval": 1, "limit": 60, "xpra": False} | options
    if given.get("state") != "absent":
        given["catalogue"] = "rceapp.yml"
    return {"sciops.sites.condor_session": given, "check_mode": check}


def test_r2_every_attribute_and_a_key_that_makes_it_once(pool: Fleet, run: Run) -> None:
    one = {"version": "1", "way": "bindings", "email": "ann@example.org", "entitlements": ["a", "b"]}
    planned, empty, done, again, planned_again = run(
        session(check=True, **one),
        {"command": "condor_q -allusers -af ClusterId", "changed_when": False},
        session(**one),
        session(**one | {"way": "commands"}),
        session(check=True, **one),
    )
    assert planned["changed"] and planned["outcome"] == "planned" and planned["job"] is None
    assert planned["diff"]["after"] == planned["ad"] and empty["stdout"] == ""
    assert done["changed"] and done["outcome"] == "started" and not again["changed"]
    assert again["job"] == done["job"] == planned_again["job"] and again["outcome"] == "started"
    assert not planned_again["changed"] and "ad" not in planned_again
    (ad,) = queue(pool)
    wanted = {
        "AcctGroup": "group_interactive",
        "AcctGroupUser": "ann",
        "AccountingGroup": "group_interactive.ann",
        "HMDCNewSubmit": True,
        "HMDCInteractive": True,
        "HMDCUseXpra": False,
        "HMDCApplicationName": "calc",
        "HMDCApplicationVersion": "1",
        "Cmd": "/opt/apps/sleep",
        "Args": "-q",
        "RequestCpus": 1,
        "RequestMemory": 512,
        "Entitlements": "a,b",
        "Email": "ann@example.org",
        "NotifyUser": "ann@example.org",
        "FileSystemDomain": "h1",
        "JobLeaseDuration": 1200,
        "JobNotification": 1,
        "ShouldTransferFiles": "NO",
        "TransferExecutable": False,
        "TransferIn": False,
        "DebugPrepareJobHook": True,
        "SciopsSitesKey": "calc_1",
        "Owner": "ann",
        "Iwd": "/home/ann",
    }
    assert {name: ad.get(name) for name in wanted} == wanted
    # the plan told what HTCondor then had, but for the time in the names
    told = dict(line.split(" = ", 1) for line in planned["ad"].splitlines())
    assert len(told) == 27 and set(told) - set(ad) == set()
    for name in set(told) & set(wanted):
        assert told[name] == json.dumps(wanted[name]), name
    evaluated = pool.ssh("h1", f"condor_q {done['job']} -af LocalJobDir Out Err", user="ann").split()
    assert evaluated == [done["folder"], done["out"], done["err"]]
    folder = f"/home/ann/.HMDC/jobs/interactive/calc_1_{done['job']}_"
    assert re.fullmatch(re.escape(folder) + r"20\d{6}1\d{9}", done["folder"])
    assert done["out"] == done["folder"] + "/out.txt" and done["err"] == done["folder"] + "/err.txt"

    pool.ssh("h1", f"condor_rm {done['job']}", user="ann")
    other, dry, gone, over = run(
        session(way="commands"),
        session(state="absent", key="calc_2", check=True),
        session(state="absent", job="{{ r0.job }}"),
        session(state="absent", key="calc_2"),
    )
    assert other["job"] != done["job"] and [one["changed"] for one in (other, dry, gone, over)] == [True] * 3 + [False]
    assert dry["jobs"] == gone["jobs"] == [other["job"]] and over["outcome"] == "absent"
    assert 'Args = "-a -b"' in other["ad"] and "Email = undefined" in other["ad"]


VALUES = {
    "BLANKS": "  two  words ",
    "QUOTES": 'it\'s "so"',
    "BACKSLASH": "a\\b\\",
    "BREAK": "one\ntwo\n",
    "ALL": "'\"\\\n\\\"' $(HOME) $$(Memory) %n",
}


@pytest.mark.parametrize("way", ["bindings", "commands"])
def test_r3_values_arrive_unchanged_and_secrets_never(pool: Fleet, run: Run, way: str) -> None:
    seen = f"/home/ann/seen-{way}"
    given = {"app": "show", "wait": False, "way": way, "key": way}
    passed = {"DBUS_SESSION_BUS_ADDRESS": "x", "GNOME_A": "y", "APP_TOKEN": SECRET, "LC_MEASUREMENT": "C", "ED": "v i"}
    allowed = ["LC_*", "ED", "DBUS*", "GNOME*", "APP_*"]
    done, refused = run(
        session(**given, environment={**VALUES, "SEEN": seen, "DBUS_Y": "z"}, environment_from=allowed),
        session(**given | {"key": "other"}, environment={"DB_PASSWORD": SECRET + "2"}),
        environment=passed,
    )
    assert done["changed"] and done["outcome"] == "submitted"
    until(lambda: pool.ssh("h1", f"test -s {seen} && echo y", check=False) == "y")
    words, variables = json.loads(pool.ssh("h1", f"cat {seen}"))
    assert words == WORDS
    assert {name: variables.get(name) for name in VALUES} == VALUES
    assert variables["LC_MEASUREMENT"] == "C" and variables["ED"] == "v i"
    assert not [name for name in variables if name.startswith(("DBUS", "GNOME", "APP_"))]
    assert any("APP_TOKEN of the submit host looks like a secret" in one for one in done["warnings"])
    # the one that is given is refused on the controller; neither is in an ad, a log, or anything that was shown
    assert refused["failed"] and "DB_PASSWORD: looks like a secret" in refused["msg"]
    logs = pool.ssh("h1", "journalctl --no-pager; cat /var/log/condor/*Log*; condor_history -l", check=False)
    assert "condor_session" in logs and SECRET not in logs
    assert SECRET not in json.dumps(queue(pool)) + done["shown"]


def test_r4_sizes(pool: Fleet, run: Run) -> None:
    given = {"wait": False}
    unit, fixed, two, large, known = run(
        session(**given, memory="4GB"),
        session(**given, app="fixed", cpu=8),
        session(**given, memory=2),
        session(**given, memory=64, key="large"),
        session(**given, memory=1),
    )
    assert unit["failed"]
    assert unit["msg"].endswith('memory: "4GB": must be a whole number of GB, without a unit, such as 4')
    assert fixed["changed"] and "RequestCpus = 1\n" in fixed["ad"]
    assert fixed["warnings"] == [
        "condor_session: fixed does not let its cpu be adjusted: 8 was asked for, 1 of the catalogue is used"
    ]
    assert "RequestMemory = 2048\n" in two["ad"]
    assert large["failed"] and large["outcome"] == "refused"
    words = "no slot of the pool has 1 cpus and 65536 MB together; the largest is slot1@h1 with 8 cpus and 4000 MB"
    assert words in large["msg"]
    assert not known["changed"] and "has RequestMemory 2048 and not 1024; it stays" in known["warnings"][0]
    assert sorted(one["SciopsSitesKey"] for one in queue(pool)) == ["calc_2", "fixed_1"]


def test_r1_a_faulty_catalogue_submits_nothing(pool: Fleet, run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("calc:\n  global: {cpu: -1, memory: lots}\n  '1': {default: 'yes', comand: /x}\n")
    bad, unknown = run({"sciops.sites.condor_session": {"catalogue": "bad.yml", "app": "calc"}}, session(app="clac"))
    for words in (
        f"{tmp_path}/bad.yml:2: calc.global.cpu: -1: must be 1 or more",
        f'{tmp_path}/bad.yml:2: calc.global.memory: "lots": must be a whole number',
        f'{tmp_path}/bad.yml:3: calc.1.comand: unknown key, did you mean "command"?',
        f'{tmp_path}/bad.yml:3: calc.1.default: "yes": must be true or false, without quotes',
    ):
        assert words in bad["msg"]
    assert unknown["msg"].endswith('clac: no such application, did you mean "calc"?') and queue(pool) == []


def test_r5_each_end_has_its_own_words(pool: Fleet, run: Run) -> None:
    held, full, late, again, gone = run(
        session(key="held", root="/proc/none", xpra=True),
        session(cpu=8, key="full"),
        session(cpu=8, key="late", limit=3),
        session(cpu=8, key="late", limit=0),
        session(cpu=8, key="late", limit=1, remove_at_limit=True),
    )
    assert held["failed"] and held["outcome"] == "held", held["reason"]
    assert "the folder cannot be made" in held["reason"]
    assert f"job {held['job']} did not start: held: " in held["msg"]
    assert full["outcome"] == "started"
    assert late["failed"] and late["outcome"] == "timeout" and late["changed"] and late["waited"] >= 3
    assert "did not start: timeout: not started within 3 s" in late["msg"]
    assert (again["outcome"], again["changed"], again["job"]) == ("timeout", False, late["job"])
    assert gone["outcome"] == "timeout" and gone["reason"].endswith("it was removed")
    assert late["job"] not in [one["ClusterId"] for one in queue(pool) if one["JobStatus"] != 3]

    with ThreadPoolExecutor(1) as thread:
        waits = thread.submit(run, session(cpu=8, key="removed", limit=80))
        until(lambda: [one for one in queue(pool) if one.get("SciopsSitesKey") == "removed"])
        mine = "-constraint 'SciopsSitesKey == \"removed\"'"
        pool.ssh("h1", f"condor_rm {mine} -reason 'the room is needed'", user="ann")
        (removed,) = waits.result(timeout=120)
    assert removed["outcome"] == "removed" and "the room is needed" in removed["reason"]
    assert "timeout" not in removed["msg"]

    pool.ssh("h1", "condor_rm -all", user="ann")
    (completed,) = run(session(app="true", interval=12, limit=60))
    assert completed["outcome"] == "completed" and "exit status 0" in completed["reason"]


def test_r6_attach_and_list(pool: Fleet, run: Run) -> None:
    pool.ssh("h1", "systemd-run --quiet --unit desktop --uid ann Xvfb :99")
    xpra = {"xpra": True, "version": "1"}
    there, second, _plain, held = run(
        session(**xpra, way="bindings"),
        session(**xpra, key="second", schedd="second@", attach="none"),
        session(key="plain"),
        session(**xpra, key="held", wait=False),
    )
    (other,) = run(session(**xpra, attach="none"), user="deploy")
    pool.ssh("h1", f"condor_hold {held['job']}", user="ann")
    assert other["outcome"] == second["outcome"] == there["outcome"] == "started", there
    assert second["schedd"] == "second@"

    address = pool.ssh("h1", "condor_status -schedd -constraint 'Name == \"h1\"' -af MyAddress")
    words = there["attach"]["words"]
    assert words == [
        "/usr/bin/xpra",
        "attach",
        "--socket-dir=$TEMP",
        "--tray-icon=/usr/share/icons/calc.png",
        f"--ssh=/usr/bin/condor_ssh_to_job -name '{address}' {there['job']}",
        f"ssh: :{there['display']}",  # xpra 3 of this host; earlier ones have no blank there
    ]
    # the same way into the job that a client takes
    info = there["attach"]["shell"].replace(" attach ", " info ").replace("--tray-icon=/usr/share/icons/calc.png ", "")
    said = pool.ssh("h1", info, user="ann")
    assert "'/opt/apps/sleep', '-q'" in said, said[:3000]

    desktop = {"DISPLAY": ":99"}
    first, twice = run(session(**xpra, attach="run"), session(**xpra, attach="run"), environment=desktop)
    assert first["changed"] and not twice["changed"] and first["attach"]["pid"] == twice["attach"]["pid"]
    # it lives after the task that started it, and the server has it. (Another condor_ssh_to_job would end this one.)
    until(lambda: "Attached to" in pool.ssh("h1", f"cat {there['err']}"))
    assert "client 1 disconnected" not in pool.ssh("h1", f"cat {there['err']}")
    assert pool.ssh("h1", f"ps -o user= -p {first['attach']['pid']}") == "ann"

    until(lambda: any(one["JobStatus"] == 5 for one in queue(pool)))
    listed, commands = run(
        {"sciops.sites.condor_session_info": {"catalogue": "rceapp.yml"}},
        {"sciops.sites.condor_session_info": {"catalogue": "rceapp.yml", "sessions": False, "check_commands": True}},
    )
    assert not listed["changed"] and listed["silent"] == []
    assert [(one["schedd"], one["job"], one["key"]) for one in listed["sessions"]] == [
        ("h1", there["job"], "calc_1"),
        ("second@", second["job"], "second"),
    ]
    assert listed["sessions"][0]["attach"]["words"] == words
    assert f"-name '{address}'" not in listed["sessions"][1]["attach"]["shell"]
    assert listed["table"].splitlines()[1].split() == [str(there["job"]), "calc", "1", "1", "512"]
    assert "calc         1, 2 **" in listed["applications_table"]
    assert [one["command"] for one in commands["missing"]] == ["/opt/apps/not-there"]


def test_a_schedd_that_is_silent_is_not_an_empty_one(pool: Fleet, run: Run) -> None:
    pid = pool.ssh("h1", "pgrep -f '[c]ondor_schedd.*second'")
    pool.ssh("h1", f"kill -STOP {pid}")
    try:
        listed, failed = run(
            {"sciops.sites.condor_session_info": {"timeout": 4}}, session(schedd="second@", timeout=4, way="commands")
        )
    finally:
        pool.ssh("h1", f"kill -CONT {pid}")
    assert listed["silent"] == ["second@"] and "what it has is not known" in str(listed["warnings"])
    assert failed["failed"] and failed["outcome"] == "unknown" and not failed["changed"]


def test_r3_also_with_htcondor_23_9(bed: Path, play: Player, tmp_path: Path) -> None:
    """The older version has the same ad, and the same values in the job."""
    with Fleet(1, "systemd", "slurm24") as one:
        session_pool(one)
        run = runner(one, play, tmp_path)
        for way in ("bindings", "commands"):
            given = {"way": way, "key": way, "environment": {**VALUES, "SEEN": f"/home/ann/{way}"}}
            (done,) = run(session(app="show", wait=False, **given))
            assert done["changed"] and done["outcome"] == "submitted", done
        for way in ("bindings", "commands"):
            until(lambda way=way: one.ssh("h1", f"test -s /home/ann/{way} && echo y", check=False) == "y")
            words, variables = json.loads(one.ssh("h1", f"cat /home/ann/{way}"))
            assert words == WORDS and {name: variables.get(name) for name in VALUES} == VALUES
        first, again = run(session(), session())
        assert first["outcome"] == "started" and first["changed"] and not again["changed"]
        (ad,) = [one for one in queue(one) if one.get("SciopsSitesKey") == "calc_2"]
        assert (ad["Args"], ad["AccountingGroup"], ad["RequestMemory"]) == ("-a -b", "group_interactive.ann", 256)
