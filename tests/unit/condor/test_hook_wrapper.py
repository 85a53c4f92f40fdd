# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""R8: what becomes of a job's command, its arguments, its variables and its limits."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from unit.condor.hooks_home import Home, module, recorded, settings

wrapper = module("_wrapper")
MEMORY = 2147483648
#: says what it got, byte by byte
ECHO = """
import json, os, resource, sys
names = {n: resource.getrlimit(getattr(resource, "RLIMIT_" + n)) for n in ("AS", "DATA", "RSS")}
with open("/proc/self/environ", "rb") as file:
    env = file.read().decode("latin-1")
with open("/proc/self/cmdline", "rb") as file:
    words = file.read().decode("latin-1").split("\\0")[:-1]
print(json.dumps({"words": words[3:], "env": env, "limits": names, "cpus": len(os.sched_getaffinity(0))}))
"""


class Slot:
    """A job's scratch folder with recorded ads."""

    def __init__(self, folder: Path, **given: Any) -> None:
        self.home = Home(folder / "hooks", job_roots=[f"{folder}/jobs"], **given)
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.folder = folder
        self.ad("job", f'LocalJobDir = "{folder}/jobs/one"', "HMDCUseXpra = false")
        self.ad("machine", "Memory = 2048", "Cpus = 1")

    def ad(self, kind: str, *lines: str, without: tuple[str, ...] = ()) -> None:
        name = {"job": "prepare-25.ad", "machine": "machine-25.ad"}[kind]
        (self.scratch / f".{kind}.ad").write_text(recorded(name, *lines, without=without))

    def run(self, *words: str | bytes, env: dict[bytes, bytes] | None = None) -> subprocess.CompletedProcess[bytes]:
        where = os.fsencode(self.scratch)
        whole = {
            b"_CONDOR_SCRATCH_DIR": where,
            b"_CONDOR_JOB_AD": where + b"/.job.ad",
            b"_CONDOR_MACHINE_AD": where + b"/.machine.ad",
            b"_CONDOR_WRAPPER_ERROR_FILE": where + b"/.job_wrapper_failure",
            **(env or {}),
        }
        argv = [str(self.home.folder / "wrapper"), *words]
        return subprocess.run(argv, env=whole, capture_output=True, timeout=60, check=False)

    def echo(self, *words: str | bytes, env: dict[bytes, bytes] | None = None) -> dict[str, Any]:
        done = self.run(sys.executable, "-c", ECHO, *words, env=env)
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said | {"stderr": done.stderr.decode()}


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path)


def test_r8_limits(slot: Slot) -> None:
    said = slot.echo()
    assert said["limits"] == {name: [MEMORY, MEMORY + 1] for name in ("AS", "DATA", "RSS")}
    assert said["cpus"] == 1 and said["stderr"] == ""
    # Python ignores SIGPIPE and SIGXFSZ, and a job that inherits that does not end when its reader does
    ignored = slot.run("/bin/grep", "SigIgn", "/proc/self/status").stdout
    assert int(ignored.split()[1], 16) & (1 << 12 | 1 << 24) == 0


WORDS = ["a b", '"', "'", "x\ny", "", "$(id)", "*", "\\", "--session-child", "é", "-"]


def test_r8_arguments_and_variables_arrive(slot: Slot) -> None:
    raw = [*map(os.fsencode, WORDS), b"\xff\xfe"]
    env = {
        b"A": b"a b \n'\"\\",
        b"LC_ALL": b"C",
        b"ODD": b"\xff",
        b"PYTHONPATH": b"/nowhere",
        b"PYTHONHOME": b"/nowhere",
    }
    said = slot.run("/usr/bin/env", "-u", "PYTHONHOME", sys.executable, "-c", ECHO, *raw, env=env)
    got = json.loads(said.stdout)
    assert [word.encode("latin-1") for word in got["words"]] == raw
    for key, value in env.items():
        assert key == b"PYTHONHOME" or f"{key.decode()}={value.decode('latin-1')}" in got["env"].split("\0")
    # Python adds a locale of its own to a process without one; a job does not get it
    plain = slot.run("/usr/bin/env", "-0").stdout
    assert b"LC_CTYPE" not in plain and len(plain.split(b"\0")) == 5


@pytest.mark.parametrize("lines", [("HMDCNewSubmit = false",), ("HMDCNewSubmit = undefined",)])
def test_r8_a_job_that_is_none_of_ours(slot: Slot, lines: tuple[str, ...]) -> None:
    slot.ad("job", *lines)
    before = resource.getrlimit(resource.RLIMIT_AS)
    said = slot.echo(*WORDS)
    assert said["words"] == [word.encode().decode("latin-1") for word in WORDS]
    assert (
        tuple(said["limits"]["AS"]) == before and said["cpus"] == len(os.sched_getaffinity(0)) and said["stderr"] == ""
    )
    # even where the settings of this machine are broken
    slot.home.configure(nonsense=1)
    assert slot.run("/bin/echo", "hello").stdout == b"hello\n"


def test_r8_sshd_passes_through_with_the_limits(slot: Slot, tmp_path: Path) -> None:
    sshd = tmp_path / "sshd"
    sshd.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{ECHO}' \"$@\"\n")
    sshd.chmod(0o755)
    slot.home.configure(sshd=[str(sshd)], session_command=["/bin/false"], job_roots=[])
    slot.ad("job", "HMDCUseXpra = true")
    done = slot.run(sshd, "-i", "-e", "-f", "a b")
    said = json.loads(done.stdout)
    assert said["words"] == ["-i", "-e", "-f", "a b"] and said["limits"]["AS"] == [MEMORY, MEMORY + 1]
    plan = wrapper.plan([b"/usr/sbin/sshd", b"-i"], {"HMDCUseXpra": True}, {}, settings(), "/x")
    assert plan == [b"/usr/sbin/sshd", b"-i"]


def test_r8_session_of_the_spec(slot: Slot) -> None:
    """xpra without a shell and without pexpect; what it is to run needs no quoting that it could get wrong."""
    env = {b"_CONDOR_SCRATCH_DIR": os.fsencode(slot.scratch)}
    job = module("_classad").Ad(HMDCUseXpra=True, HMDCApplicationName="shell", ClusterId=110, ProcId=0)
    got = wrapper.plan([b"/opt/app", b"a b", b"\n"], job, env, settings(), "/opt/hooks/wrapper")
    assert [word.decode() for word in got] == [
        "/usr/bin/xpra",
        "start",
        "--daemon=no",
        "--exit-with-children=yes",
        f"--start-child=/opt/hooks/wrapper --session-child {slot.scratch}",
        f"--socket-dir={slot.scratch}",
    ]
    assert (slot.scratch / ".session-command").read_bytes() == b"/opt/app\0a b\0\n\0"


@pytest.mark.parametrize("template", [["/bin/sh", "-c", "eval {child}"], ["/usr/bin/env", "{command}"]])
def test_r8_a_session_server_by_template(slot: Slot, template: list[str]) -> None:
    """A server that takes a line, and one that takes words: both times the command arrives as it was."""
    slot.home.configure(session_command=template, job_roots=[f"{slot.folder}/jobs"])
    slot.ad("job", f'LocalJobDir = "{slot.folder}/jobs/one"')
    done = slot.run(sys.executable, "-c", ECHO, *WORDS)
    assert done.returncode == 0, done.stderr
    log = slot.folder / "jobs/one/shell.out.txt"
    said = json.loads(log.read_text() if "sh" in template[0] else done.stdout)
    assert said["words"] == [word.encode().decode("latin-1") for word in WORDS]
    assert said["limits"]["AS"] == [MEMORY, MEMORY + 1]


@profile(max_examples=20)
@given(st.lists(st.binary(max_size=20).filter(lambda word: b"\0" not in word), max_size=6))
def test_r8_any_words(tmp_path_factory: pytest.TempPathFactory, words: list[bytes]) -> None:
    slot = Slot(tmp_path_factory.mktemp("any"))
    said = slot.run("/usr/bin/printf", r"%s\0", *(word or b"-" for word in words), b"end")
    assert said.stdout.split(b"\0")[:-1] == [*(word or b"-" for word in words), b"end"]


def test_r8_a_limit_that_cannot_be_set_is_reported(slot: Slot) -> None:
    for lines, words in ((("Memory = undefined",), b"says no Memory"), (("Cpus = 0",), b"says no Cpus")):
        slot.ad("machine", *lines)
        done = slot.run("/bin/echo", "runs")
        assert done.stdout == b"runs\n" and words in done.stderr
    (slot.scratch / ".machine.ad").unlink()
    done = slot.run("/bin/echo", "runs")
    assert done.stdout == b"runs\n" and b"the machine ad cannot be read" in done.stderr
    slot.home.configure(limits_required=True)
    done = slot.run("/bin/echo", "runs")
    assert done.returncode == 1 and done.stdout == b"" and b"a limit cannot be set" in done.stderr
    assert b"a limit cannot be set" in (slot.scratch / ".job_wrapper_failure").read_bytes()


def test_r8_no_job_ad(slot: Slot) -> None:
    """It cannot be known whose job it is, so it runs; a link or a pipe by that name is not read."""
    (slot.scratch / ".job.ad").unlink()
    for make in (lambda p: None, os.mkfifo, lambda p: p.symlink_to("/etc/passwd")):
        make(slot.scratch / ".job.ad")
        done = slot.run("/bin/echo", "runs")
        assert done.stdout == b"runs\n" and b"the job ad cannot be read" in done.stderr
        (slot.scratch / ".job.ad").unlink(missing_ok=True)


def test_r8_a_command_that_is_not_there(slot: Slot) -> None:
    done = slot.run("/nowhere/app")
    assert done.returncode == 1 and b"/nowhere/app cannot be executed" in done.stderr
    assert slot.run().returncode == 1


def test_r8_ten_megabytes_of_environment_in_the_ad(slot: Slot) -> None:
    slot.ad("job", 'Environment = "X=' + "y" * 10_000_000 + '"', "HMDCUseXpra = false")
    assert slot.echo()["limits"]["AS"] == [MEMORY, MEMORY + 1]


@given(st.sets(st.integers(0, 200), min_size=1), st.integers(1, 64), st.integers(1, 64))
def test_processors(allowed: set[int], count: int, slot: int) -> None:
    chosen = wrapper.choose_cpus(allowed, count, slot)
    assert set(chosen) <= allowed and len(chosen) == len(set(chosen)) == min(count, len(allowed))
    # slots of one size share none for as long as there are enough
    if (slot + 1) * count <= len(allowed):
        assert not set(chosen) & set(wrapper.choose_cpus(allowed, count, slot + 1))


def test_slot_numbers() -> None:
    names = ["slot1@h", "slot3", "slot1_12@h", "slot2_7", "slot11_1@h", "slot1_2_1@h", "other", None]
    assert [wrapper.slot_number(name) for name in names] == [1, 3, 12, None, None, None, None, None]


def test_r8_slots_of_another_partitionable_slot_are_not_narrowed(slot: Slot) -> None:
    """slot1_1 and slot2_1 would get the same processors, and share them while others are free."""
    slot.home.configure(job_roots=[f"{slot.folder}/jobs"], memory_limits=False)
    slot.ad("machine", "Cpus = 1", 'Name = "slot2_1@h1"')
    said = slot.echo()
    assert said["cpus"] == len(os.sched_getaffinity(0))
    assert "a limit is not set" in said["stderr"] and "slot (slot2_1@h1)" in said["stderr"]
    assert "ASSIGN_CPU_AFFINITY" in said["stderr"]
    slot.home.configure(job_roots=[f"{slot.folder}/jobs"], limits_required=True)
    assert b"a limit cannot be set: processors" in slot.run("/bin/echo").stderr
    slot.home.configure(job_roots=[f"{slot.folder}/jobs"], limits_required=True, cpu_affinity=False)
    assert slot.run("/bin/echo", "runs").stdout == b"runs\n"
    for name in ("slot2@h1", "slot1_2@h1"):
        slot.home.configure(job_roots=[f"{slot.folder}/jobs"], memory_limits=False)
        slot.ad("machine", "Cpus = 1", f'Name = "{name}"')
        said = slot.echo()
        assert said["cpus"] == 1 and said["stderr"] == ""
