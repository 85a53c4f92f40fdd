# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a file of HTCondor's configuration, and what is made of condor_config_val's answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _condor_config as config
from ansible_collections.sciops.sites.plugins.module_utils import _condor_tools as tools

# as 23.9.6 and 25.14.1 print it; the older one prints no empty line for a name without a value
VERBOSE = """\
FOO = a b
 # at: /etc/condor/config.d/60-x, line 2


M @=end
   line1
   line2 $(X)
@end
 # at: /etc/condor/config.d/60-x, line 10

EMPTY = 
 # at: /etc/condor/config.d/60-x, line 5

SLOT_TYPE_1 = 100%
 # at: /etc/condor/config.d/60-x, line 3, use FEATURE:PartitionableSlot+2

NUM_CPUS = 0
 # at: <Default>

"""  # noqa: W291
DUMP = """\
# Configuration from machine: h1

# Parameters with names that match ^(M|EMPTY|NUM_CPUS)$:
EMPTY = 
M @=end
   a b
   last  "q"
@end
NUM_CPUS = 8
# Contributing configuration file(s):
#	/etc/condor/condor_config
"""  # noqa: W291


# --- the text


def test_every_kind_of_value() -> None:
    text = config.render(
        {
            "TEXT": ' as it is $(X) "q" # no comment ',
            "YES": True,
            "NO": False,
            "N": 172800,
            "R": 0.5,
            "LIST": ["$(LIST)", "a", 3],
            "LEFT_OUT": None,
            "EMPTY": "",
            "LINES": "one\n   two @end\n",
            "STARTD.X": "y",
        },
        ["ROLE:Execute"],
        ["if version >= 24.0", "  A = 1", "endif"],
    )
    assert text == config.HEAD + (
        "use ROLE:Execute\n"
        'TEXT = as it is $(X) "q" # no comment\n'
        "YES = true\nNO = false\nN = 172800\nR = 0.5\nLIST = $(LIST), a, 3\nEMPTY =\n"
        "LINES @=end1\none\ntwo @end\n@end1\n"
        "STARTD.X = y\n"
        "if version >= 24.0\n  A = 1\nendif\n"
    )


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"A B": 1}, "knobs.A B: is no name of a knob; letters, digits, _ and ."),
        ({"a\nB": 1}, "is no name of a knob"),
        ({"use": "x"}, "knobs.use: begins a statement of the configuration; say it in use or lines"),
        ({"FOO": 1, "Foo": 2}, "knobs.Foo: is there twice, the other is FOO; the case of letters does not count"),
        ({"A": {"b": 1}}, "knobs.A: is a mapping; a knob takes text, a number, a boolean, or a list of those"),
        ({"A": "x\\"}, "knobs.A: a line ends in a backslash, which would take the next line with it"),
        ({"A": "x\ny\\\nz"}, "a line ends in a backslash"),
        ({"A": "x\n\nz"}, "knobs.A: has an empty line, which HTCondor drops"),
        ({"A": "x\n# y"}, "knobs.A: has a line that begins with #, which HTCondor drops"),
        ({"A": "x\0"}, "knobs.A: holds the control character '\\x00'"),
        ({"A": "x\ry"}, "knobs.A: holds the control character '\\r'"),
        ({"A": ["x", "y\nz"]}, "knobs.A: a list takes words of one line"),
    ],
)
def test_what_no_file_can_say(knobs: dict, words: str) -> None:
    (fault,) = config.faults(knobs, [], [])
    assert words in fault


def test_templates_and_lines() -> None:
    assert config.faults({}, ["ROLE:Execute", "FEATURE : PartitionableSlot(1, 100%)"], ["A = 1"]) == []
    assert config.faults({}, ["ROLE", "A = 1", "ROLE:\nX = 1"], ["A\nB"]) == [
        "use[0]: 'ROLE': must be CATEGORY:TEMPLATE, such as ROLE:Execute",
        "use[1]: 'A = 1': must be CATEGORY:TEMPLATE, such as ROLE:Execute",
        "use[2]: 'ROLE:\\nX = 1': must be CATEGORY:TEMPLATE, such as ROLE:Execute",
        "lines[0]: must be one line",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "../x"}, "name: '../x': is no name of a file of the configuration"),
        ({"name": ".x"}, "name: '.x': is no name of a file of the configuration"),
        ({"path": "x"}, "path: 'x': must be the absolute path of a file"),
        ({"mode": "rw"}, "mode: 'rw': must be an octal number in quotes"),
        ({"knobs": {}}, "knobs, use and lines are empty; say state absent to take the file away"),
        ({"knobs": {"A_TOKEN": "x"}}, "knobs.A_TOKEN: looks secret, and mode 0644 lets everybody read it"),
    ],
)
def test_options_that_are_wrong(options: dict, words: str) -> None:
    given = {"knobs": {"A": 1}, "use": [], "lines": [], "name": None, "path": None, "mode": "0644", "state": "present"}
    assert config.option_faults({**given, **options}) == [words]
    assert config.option_faults(given) == config.option_faults({**given, "knobs": {"A_TOKEN": None}}) == []


def test_a_host_without_htcondor(tmp_path, root) -> None:
    """What is to be there is refused with what to do; what is to be away is."""
    code = "import sys\nfrom ansible.module_utils import basic\nbasic._ANSIBLE_ARGS = sys.stdin.buffer.read()\n"
    code += "if hasattr(basic, '_ANSIBLE_PROFILE'):\n    basic._ANSIBLE_PROFILE = 'legacy'\n"
    code += "from ansible_collections.sciops.sites.plugins.module_utils import _condor_tools\n"
    code += f"_condor_tools.PATHS = {str(tmp_path)!r}\n"
    code += "from ansible_collections.sciops.sites.plugins.modules import condor_config\ncondor_config.main()\n"

    def run(**options: object) -> dict:
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {"path": f"{tmp_path}/60-x", **options}}),
            env={"PATH": str(tmp_path), "PYTHONPATH": str(root / ".collections")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    gone = run(state="absent")
    assert (gone["changed"], gone["path"], gone["reconfigured"]) == (False, f"{tmp_path}/60-x", False)
    failed = run(knobs={"A": 1})
    assert "nothing was changed: " in failed["msg"] and not (tmp_path / "60-x").exists()


def statements(text: str) -> dict[str, str]:
    """Read a file as HTCondor's manual says, written for these tests: `NAME = value` and `NAME @=tag .. @tag`."""
    found, lines = {}, iter(text.split("\n"))
    for line in lines:
        if not line or line.startswith("#"):
            continue
        assert not line.endswith("\\"), line
        name, _blank, rest = line.partition(" ")
        if rest.startswith("@="):
            tag, inner = rest[2:], []
            for one in lines:
                if one == "@" + tag:
                    break
                assert not one.endswith("\\") and one.strip(config.BLANKS) and not one.startswith("#")
                inner.append(one)
            else:
                raise AssertionError(f"{name} is not closed")
            found[name] = "\n".join(inner)
        else:
            assert rest.startswith("="), line
            found[name] = rest[1:].strip(config.BLANKS)
    return found


WORDS = st.text(st.sampled_from("ab$()=@# \t\n\\\"'%end1\x0b\u2028\u00e9")).map(lambda text: text[:40])
NAMES = st.from_regex(r"[A-Z][A-Z_]{0,8}", fullmatch=True)


@given(st.dictionaries(NAMES, st.one_of(WORDS, st.booleans(), st.integers(), st.none())))
def test_a_value_is_refused_or_stays_one_statement(knobs: dict) -> None:
    """No value begins a statement of its own, takes the next one with it, or ends up as something else."""
    faults = config.faults(knobs, [], [])
    named = {fault.split(":")[0].removeprefix("knobs.") for fault in faults}
    assert named <= set(knobs)
    good = {name: value for name, value in knobs.items() if name not in named}
    assert statements(config.render(good)) == config.rendered(good)
    for name, value in good.items():
        if isinstance(value, str) and "\n" not in value.strip(config.BLANKS):
            assert config.rendered(good)[name] == value.strip(config.BLANKS)


# --- secrets


@given(st.text(st.sampled_from("abc =@\\#\n")), st.sampled_from(["A_PASSWORD", "my_Secret", "SITE_API_KEY"]))
def test_no_part_of_a_secret_is_shown(before: str, name: str) -> None:
    for value in ("hush1", "hush1\nhush2", "hush1 hush2"):
        text = config.render({"PLAIN": "shown", name: value, "LAST": "shown"})
        told = config.masked(text)
        assert "hush" not in told and told.count("shown") == 2 and name in told
    # what somebody else wrote, continued lines included
    assert "hush" not in config.masked(f"{name} = hush \\\n  hush\nB = 1\n")
    assert config.masked(f"{name} = hush \\\n  hush\nB = 1\n").endswith("\nB = 1\n")
    # a file without one is shown as it is
    assert config.masked(before) == before


def test_names_that_look_secret() -> None:
    assert [
        name
        for name in ("POOL_PASSWORD", "x_token", "SEC_PASSWORD_FILE", "SEC_TOKEN_DIRECTORY")
        if config.looks_secret(name)
    ] == ["POOL_PASSWORD", "x_token"]


# --- what condor_config_val says


def test_answers_are_read() -> None:
    found = config.parse_verbose(VERBOSE)
    assert found["foo"] == {"name": "FOO", "raw": "a b", "file": "/etc/condor/config.d/60-x", "line": 2}
    assert (found["m"]["raw"], found["m"]["line"]) == ("line1\nline2 $(X)", 10)
    assert (found["empty"]["raw"], found["slot_type_1"]["raw"], found["slot_type_1"]["line"]) == ("", "100%", 3)
    assert (found["num_cpus"]["file"], found["num_cpus"]["line"]) == ("<Default>", None)
    assert config.parse_dump(DUMP) == {"empty": "", "m": 'a b\nlast  "q"', "num_cpus": "8"}
    assert config.sources("\t/a/main\n\t/a/b\n\t/a/c\n") == ("/a/main", ["/a/b", "/a/c"])
    assert config.sources("") == (None, [])
    assert config.folders("/a, /b /c") == ["/a", "/b", "/c"]


def test_a_knob_that_is_not_what_the_file_says() -> None:
    path = "/etc/condor/config.d/60-x"
    found = config.parse_verbose(VERBOSE)
    wanted = {"Foo": "a b", "M": "line1\nline2 $(X)", "EMPTY": ""}
    assert config.unlike(wanted, found, path) == []
    assert config.unlike({"FOO": "$(FOO) b"}, found, path) == [], "HTCondor puts the older value in"
    assert config.unlike({"FOO": "a c"}, found, path) == ["FOO: HTCondor reads the value as 'a b'"]
    assert config.unlike({"NOWHERE": "1"}, found, path) == [
        f"NOWHERE: HTCondor knows no value of it, although {path} gives one"
    ]
    (words,) = config.unlike({"FOO": "a b"}, found, "/etc/condor/config.d/50-y")
    assert words.startswith(f"FOO: {path}, line 2 says it again and wins, with 'a b'; ")
    secret = {"a_secret": {"name": "A_SECRET", "raw": "hush", "file": path, "line": 3}}
    assert "hush" not in str(
        config.unlike({"A_SECRET": "x"}, secret, path) + config.unlike({"A_SECRET": "x"}, secret, "y")
    )


# --- what a change asks for


def test_knobs_that_need_a_restart() -> None:
    old = {"num_cpus": "4", "start": "true", "network_interface": "*", "slot_type_1": "50%"}
    new = {"num_cpus": "8", "start": "false", "network_interface": "*", "num_slots_type_2": "1", "daemon_list": "x"}
    assert config.restarts(old, new) == {"NUM_CPUS": "startd", "NUM_SLOTS_TYPE_2": "startd", "SLOT_TYPE_1": "startd"}
    assert config.restarts(old, old) == {}
    assert [config.reader(one) for one in ("STARTD.MEMORY", "BIND_ALL_INTERFACES", "MEMORY_X")] == [
        "startd",
        "master",
        "",
    ]


def test_knobs_that_name_programs() -> None:
    names = ["HMDC_HOOK_PREPARE_JOB", "HMDC_HOOK_UPDATE_JOB_INFO", "HMDC_HOOK_JOB_EXIT", "USER_JOB_WRAPPER"]
    names += ["BETA_JOB_WRAPPER", "STABLE_JOB_WRAPPER", "STARTD_CRON_IDLEJOBS_EXECUTABLE"]
    others = ["STARTER_JOB_HOOK_KEYWORD", "HMDC_HOOK_PREPARE_JOB_ARGS", "HMDC_HOOK_JOB_EXIT_TIMEOUT", "START"]
    others += ["STARTD_CRON_IDLEJOBS_MODE", "IDLE_WARNING_TRIGGER"]
    assert config.programs(names + others) == names


# --- programs


def test_programs_that_others_could_replace(tmp_path) -> None:
    """Owner, mode, folders and links on the way: each is looked at."""
    me, base = (os.getuid(),), str(tmp_path)
    tmp_path.chmod(0o755)
    good = tmp_path / "bin" / "hook"
    good.parent.mkdir(mode=0o755)
    good.write_text("#!/bin/sh\n")
    good.chmod(0o755)

    def fault(path: object, owners: tuple = me) -> str:
        return tools.program_fault(str(path), owners, base)

    assert fault(good) == ""
    assert fault("bin/hook").endswith("is no absolute path")
    assert fault(tmp_path / "none") == f"{tmp_path}/none: No such file or directory"
    assert fault(good.parent).endswith("bin: is no file")
    assert "belongs to user" in fault(good, (me[0] + 1,))
    for place, mode in ((good, 0o757), (good.parent, 0o777), (good.parent, 0o1777)):
        old = place.stat().st_mode & 0o7777
        place.chmod(mode)
        assert fault(good).startswith(f"{place}: mode {mode:04o}: others may write there"), (place, mode)
        place.chmod(old)
    good.chmod(0o750)
    assert "may not execute it" in fault(good)
    good.chmod(0o755)
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    (loose / "hook").symlink_to(good)
    assert fault(loose / "hook").startswith(f"{loose}: mode 0777")
    (tmp_path / "near").symlink_to("loose/../bin")
    assert fault(tmp_path / "near" / "hook").startswith(f"{loose}: mode 0777"), "on the way of a link"
    (tmp_path / "round").symlink_to("round")
    assert fault(tmp_path / "round").endswith("too many links")


# --- daemons and what they have not read yet


@pytest.fixture
def proc(tmp_path):
    """A folder like /proc with these processes: (pid, name, parent, seconds since boot)."""

    def make(*processes: tuple[int, str, int, int]) -> str:
        folder = tmp_path / "proc"
        for pid, name, parent, at in processes:
            (folder / str(pid)).mkdir(parents=True)
            words = ["S", parent, *["0"] * 17, int(at * tools._probe.TICK)]
            (folder / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(str(word) for word in words)} 0\n")
        (folder / "self").mkdir()
        return str(folder)

    return make


def test_daemons_are_those_of_a_master(proc) -> None:
    folder = proc(
        (10, "condor_master", 1, 5),
        (11, "condor_startd", 10, 6),
        (12, "condor_collecto", 10, 7),
        (13, "condor_collecto", 12, 90),
        (14, "condor_q", 1, 99),
    )
    assert tools.daemons(folder) == {"condor_master": 5, "condor_startd": 6, "condor_collecto": 7}


def test_what_is_due_is_remembered_until_the_daemons_have_it(tmp_path, monkeypatch) -> None:
    """NUM_CPUS is another one until the startd starts anew, is what it was again, or is not there any more."""
    monkeypatch.setattr(tools._probe, "uptime", lambda: 100.0)
    path, folder = "/etc/condor/config.d/60-x", str(tmp_path / "due")
    running = {"condor_master": 5.0, "condor_startd": 6.0}

    def kept() -> tools.Due:
        return tools.Due(path, folder)

    due = kept()
    assert (due.reconfig, due.needed({}, running)) == (False, {})
    due.reconfig = True
    due.add({"num_cpus": "8"}, {"num_cpus": "6", "start": "true"})
    due.keep()
    assert kept().reconfig and kept().needed({"num_cpus": "6"}, running) == {"NUM_CPUS": "startd"}
    again = kept()
    again.add({"num_cpus": "6"}, {"num_cpus": "4"})
    assert again.needed({"num_cpus": "4"}, running) == {"NUM_CPUS": "startd"}
    assert again.needed({"num_cpus": "8"}, running) == {}, "the startd still has that value"
    assert kept().needed({"num_cpus": "6"}, {**running, "condor_startd": 101.0}) == {}
    assert kept().needed({"num_cpus": "6"}, {"condor_master": 5.0}) == {}, "who does not run reads it when it starts"
    done = kept()
    done.reconfig, done.began = False, {}
    done.keep()
    assert list((tmp_path / "due").iterdir()) == []
    (tmp_path / "due" / "condor-etc-condor-config.d-60-x.json").write_text(json.dumps(["odd"]))
    assert kept().reconfig, "what is not known to be done is due"


def test_all_daemons_start_anew_for_some_knobs() -> None:
    running = {"condor_master": 5.0, "condor_startd": 6.0, "condor_negotiat": 200.0}
    assert tools.names(["negotiator", "schedd"], running) == ["condor_negotiat"]
    assert tools.names(["master"], running) == ["condor_startd", "condor_negotiat"]
    assert not tools.restarted(running, "master", 100) and tools.restarted(running, "negotiator", 100)


def test_documented_list_is_data() -> None:
    """Every knob that the manual's section on restarts names has a daemon."""
    named = """BIND_ALL_INTERFACES FetchWorkDelay MAX_NUM_CPUS MAX_TRACKING_GID MEMORY MIN_TRACKING_GID NETWORK_HOSTNAME
    NETWORK_INTERFACE NUM_CPUS PREEMPTION_REQUIREMENTS_STABLE PROCD_ADDRESS SLOT_TYPE_1 OFFLINE_MACHINE_RESOURCE_GPUS
    ENABLE_IPV4 ENABLE_IPV6 USE_SHARED_PORT SHARED_PORT_PORT NUM_SLOTS_TYPE_1"""
    assert [name for name in re.split(r"\s+", named) if not config.reader(name)] == []
    assert [name for name in ("DAEMON_LIST", "START", "STARTD_ATTRS", "PREEMPT") if config.reader(name)] == []
