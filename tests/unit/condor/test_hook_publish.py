# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""R11: idle times of all jobs of a machine, and what a job's owner can not make of them."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from pathlib import Path

import classad2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from unit.condor.hooks_home import ROOT, Home, module, recorded, settings

publish = module("_publish")
WANTED = 'HMDCIdleJobs = "110.0,3702664 113.0,3637730 114.0,0"'


class Machine:
    """EXECUTE with folders of jobs, and a /proc with their starters."""

    def __init__(self, folder: Path) -> None:
        self.execute, self.proc, self.data = folder / "execute", folder / "proc", folder / "data" / "idle.ad"
        for one in (self.execute, self.proc, self.data.parent):
            one.mkdir(mode=0o755)

    def job(self, pid: int, cluster: int, idle: bytes | None, schedd: str = "h1", deeper: bool = True) -> Path:
        """A job's folder as HTCondor 25 (one level deeper) or 23 has it."""
        folder = self.execute / f"dir_{pid}" / ("scratch" if deeper else "")
        folder.mkdir(parents=True)
        name = "prepare-25.ad" if deeper else "prepare-23.ad"
        lines = (f"ClusterId = {cluster}", "ProcId = 0", f'GlobalJobId = "{schedd}#{cluster}.0#1796020098"')
        (folder / ".job.ad").write_text(recorded(name, *lines))
        if idle is not None:
            (folder / ".idletime").write_bytes(idle)
        (self.proc / str(pid)).mkdir()
        words = [b"condor_starter", b"-f", b"-a", b"slot1_%d" % (pid % 100), b"h1"]
        (self.proc / str(pid) / "cmdline").write_bytes(b"\0".join(words) + b"\0")
        return folder

    def settings(self) -> dict[str, object]:
        return settings(execute=[str(self.execute)], data=str(self.data))

    def publish(self) -> list[str]:
        text = publish.publish(self.settings(), str(self.proc))
        assert self.data.read_text() == text
        return list(text.splitlines())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_r11_three_slots(machine: Machine) -> None:
    machine.job(903, 114, None)
    machine.job(901, 113, b"3637730\n", deeper=False)
    machine.job(902, 110, b"3702664")
    lines = machine.publish()
    assert lines[0] == WANTED
    assert lines[1] == 'HMDCIdleJobsBySchedd = "h1#110.0,3702664 h1#113.0,3637730 h1#114.0,0"'
    assert lines[2:7] == [
        "-",
        'SlotMergeConstraint = regexp("^slot1_1@", Name)',
        "HMDCIdleTime = 3637730",
        'HMDCIdleJob = "h1#113.0#1796020098"',
        "- slot1_1",
    ]
    assert publish.shown(machine.settings(), time.time()) == machine.data.read_text()


ATTACKS = [
    b"$(id)",
    b"1\n2\n",
    b'7"',
    b'0" ; touch x ; echo "',
    b"-1",
    b"1e9",
    b"",
    b" 5",
    b"5 ",
    b"9" * 13,
    b"\xff",
    b"0x10",
    "٣".encode(),
]


@pytest.mark.parametrize("text", ATTACKS)
def test_r11_what_is_no_number_is_dropped(machine: Machine, text: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    machine.job(901, 113, b"3637730")
    machine.job(902, 110, text)
    lines = machine.publish()
    assert lines[0] == 'HMDCIdleJobs = "113.0,3637730"' and "110" not in "".join(lines)
    assert "dir_902 is left out" in capsys.readouterr().err


def test_r11_links_and_odd_files_are_refused(machine: Machine, tmp_path: Path) -> None:
    machine.job(901, 113, b"3637730")
    secret = tmp_path / "secret"
    secret.write_text("12345\n")
    (machine.job(902, 110, None) / ".idletime").symlink_to(secret)
    os.mkfifo(machine.job(903, 111, None) / ".idletime")
    (machine.job(904, 112, None) / ".idletime").mkdir()
    # the folder itself, and the one below it, a link to another job's
    (machine.execute / "dir_905").symlink_to(machine.execute / "dir_901")
    (machine.execute / "dir_906").mkdir()
    (machine.execute / "dir_906/scratch").symlink_to(machine.execute / "dir_901/scratch")
    begun = time.monotonic()
    assert machine.publish()[0] == 'HMDCIdleJobs = "113.0,3637730"'
    assert time.monotonic() - begun < 20


def test_r11_no_job_ad_loses_only_its_own(machine: Machine) -> None:
    machine.job(901, 110, b"3702664")
    (machine.job(902, 120, b"1") / ".job.ad").unlink()
    (machine.job(903, 121, b"1") / ".job.ad").write_text('ClusterId = "121.0,5 110"\nProcId = 0\n')
    (machine.job(904, 122, b"1") / ".job.ad").write_text("ClusterId = -122\nProcId = 0\n")
    (machine.job(905, 123, b"1") / ".job.ad").write_bytes(b"\0\xff")
    (machine.execute / "dir_906").mkdir()
    (machine.execute / "dir_907").write_text("a file")
    assert machine.publish()[0] == 'HMDCIdleJobs = "110.0,3702664"'


def little_memory() -> None:
    """Far more than the hook needs, and less than what an ad as large as it may be took when it was taken apart."""
    resource.setrlimit(resource.RLIMIT_AS, (192 << 20, 192 << 20))


HEAD = "ClusterId = 120\nProcId = 0\n"
#: 3 MB, 7 MB and 50 MB: within what is read, and beyond
HUGE = {
    "string": (HEAD + 'GlobalJobId = "', "a", '"\n'),
    "string without an end": (HEAD + 'GlobalJobId = "', "a", ""),
    "number": ("ProcId = 0\nClusterId = ", "1", "\n"),
    "lines": (HEAD, "\n", ""),
    "blanks": (HEAD + "GlobalJobId", " ", "\n"),
    "names": (HEAD, "GlobalJobId = 1\n", ""),
    "beginnings of names": (HEAD, "\nClusterId =", "\n"),
    "one line that is none": (HEAD, '= = "\\', "\n"),
}


@pytest.mark.parametrize("kind", HUGE)
def test_r11_a_huge_job_ad_loses_only_its_own(machine: Machine, tmp_path: Path, kind: str) -> None:
    """The owner may replace it by anything; no other job's entry is lost, in the time and memory of always."""
    head, unit, tail = HUGE[kind]
    home = Home(tmp_path / "hooks", execute=[str(machine.execute)], data=str(machine.data), time_limit=5)
    machine.job(901, 110, b"3702664")
    for number, size in enumerate((3 << 20, 7 << 20, 50 << 20)):
        ad = machine.job(902 + number, 120 + number, b"1") / ".job.ad"
        ad.write_text(head + unit * (size // len(unit)) + tail)
    done = home.run("publish", preexec_fn=little_memory)
    assert done.returncode == 0, done.stderr
    said = machine.data.read_text().splitlines()[0]
    assert said in ('HMDCIdleJobs = "110.0,3702664"', 'HMDCIdleJobs = "110.0,3702664 120.0,1"')
    assert b"dir_904 is left out: " in done.stderr and b"more than 8388608 bytes" in done.stderr
    if "string" in kind:
        assert b"dir_903 is left out: the job ad's GlobalJobId has more than 300 bytes" in done.stderr


@pytest.mark.parametrize("size", [1, 6])
def test_r11_a_large_environment_is_no_hindrance(machine: Machine, size: int) -> None:
    """As many MB as a kernel takes."""
    folder = machine.job(901, 110, b"5")
    text = (folder / ".job.ad").read_text()
    (folder / ".job.ad").write_text(f'Environment = "V={"x" * (size << 20)}"\n{text}')
    assert machine.publish()[1] == 'HMDCIdleJobsBySchedd = "h1#110.0,5"'


@given(st.binary(max_size=60) | st.text('\n =ProcId"1a', max_size=40).map(str.encode))
def test_r11_an_attribute_is_a_line_of_its_own(noise: bytes) -> None:
    """What stands before, and has no such line, changes nothing; nor does a value of the longest length."""
    names = ("ProcId", "GlobalJobId")
    ad = publish.pick(noise + b'\nProcId = 4\nGlobalJobId = "' + b"a" * 298 + b'"', names)
    assert dict(ad) == {"ProcId": 4, "GlobalJobId": "a" * 298}
    with pytest.raises(ValueError, match="GlobalJobId has more than 300 bytes"):
        publish.pick(noise + b'\nGlobalJobId = "' + b"a" * 299 + b'"', names[1:])
    assert not publish.pick(b"XProcId = 4\nProcId == 4\n ProcIdX = 4", names)


@pytest.mark.skipif(os.getuid() != 0, reason="gives a file to another account, so only as root")
def test_r11_files_of_others_are_refused(machine: Machine) -> None:
    """A name of somebody else's file in one's own folder, as a hard link is."""
    folder = machine.job(901, 110, b"5")
    os.chown(folder, 65534, 65534)
    assert machine.publish()[0] == 'HMDCIdleJobs = ""'
    os.chown(folder / ".idletime", 65534, 65534)
    assert machine.publish()[0] == 'HMDCIdleJobs = "110.0,5"'


def test_r11_two_schedds_and_false_claims(machine: Machine) -> None:
    """The same number at two schedds, and a claim to another's job: the lower number, which ends nobody's job."""
    machine.job(901, 110, b"100", "h1")
    machine.job(902, 110, b"900000", "h2")
    machine.job(903, 110, b"800000", "h1")
    lines = machine.publish()
    assert lines[0] == 'HMDCIdleJobs = "110.0,100"'
    assert lines[1] == 'HMDCIdleJobsBySchedd = "h1#110.0,100 h2#110.0,900000"'


def test_r11_names_that_would_break_out(machine: Machine) -> None:
    for number, name in enumerate(['h1" || true', "h1\\n- slot", "h1#1.0#1#2", "h 1", "h1#111.0#5"]):
        folder = machine.job(901 + number, 110 + number, b"1")
        with (folder / ".job.ad").open("a") as file:
            file.write(f"GlobalJobId = {module('_classad').quote(name)}\n")
    lines = machine.publish()
    assert lines[0] == 'HMDCIdleJobs = "110.0,1 111.0,1 112.0,1 113.0,1 114.0,1"'
    assert lines[1:] == ['HMDCIdleJobsBySchedd = ""', "-"]


@pytest.mark.parametrize(
    ("slot", "ends"),
    [
        ({}, True),
        ({"HMDCIdleTime": 999}, False),
        ({"HMDCIdleJob": '"h1#1.0#4"'}, False),
        # of the run before the job was evicted: it has run for 30 seconds
        ({"JobStart": "time() - 30"}, False),
        ({"JobStart": "undefined"}, False),
        ({"HMDCIdleTime": "undefined"}, False),
        ({"HMDCIdleTime": "undefined", "Old": "true"}, True),
    ],
)
def test_r11_preempted_for_the_idle_time_of_this_run_only(slot: dict[str, object], ends: bool) -> None:
    knobs = yaml.safe_load((ROOT / "roles/condor_hooks/vars/main.yml").read_text())["__condor_hooks_preempt_knobs"]
    text = re.sub("{{.*}}", "1000", knobs["PREEMPT"]).replace("$(PREEMPT:false)", "Old")
    ad = {"Old": "false", "HMDCIdleJob": '"h1#1.0#5"', "GlobalJobId": '"h1#1.0#5"', "HMDCIdleTime": 1000}
    ad |= {"JobStart": "time() - 1500", **slot, "PREEMPT": text}
    lines = "".join(f"{name} = {value}\n" for name, value in ad.items())
    assert classad2.parseOne(lines, classad2.ParserType.Old).eval("PREEMPT") is ends


ENTRIES = st.lists(
    st.builds(
        publish.Entry,
        st.integers(0, 300),
        st.integers(0, 2),
        st.integers(0, 10**12),
        st.none() | st.text(max_size=20) | st.sampled_from(["a#1.0#5", "b#1.0#5", "b.c@d#2.1#7"]),
        st.none() | st.text(max_size=10) | st.sampled_from(["slot1", "slot1_1", "slot2_10"]),
    ),
    max_size=12,
)


@given(ENTRIES)
def test_r11_whatever_the_entries_each_line_is_known(entries: list[object]) -> None:
    text = publish.render(entries)
    assert publish.check(text) == text == publish.render(list(reversed(list(reversed(entries)))))
    jobs = text.splitlines()[0].split('"')[1].split()
    keys = [tuple(map(int, re.split("[.,]", one)[:2])) for one in jobs]
    assert keys == sorted(set(keys)) == sorted({(one.cluster, one.proc) for one in entries})  # type: ignore[attr-defined]


def test_r11_killed_while_writing(machine: Machine, tmp_path: Path) -> None:
    machine.job(901, 110, b"3702664")
    home = Home(tmp_path / "hooks", execute=[str(machine.execute)], data=str(machine.data))
    machine.publish()
    for number in range(12):
        child = os.fork()
        if child == 0:
            while True:
                publish.publish(machine.settings(), str(machine.proc))
        time.sleep(0.004 * (number % 5) + 0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert machine.data.read_text().startswith('HMDCIdleJobs = "110.0,3702664"\n')
        publish.check(machine.data.read_text())
    # a rest of it does not stop the next run
    machine.data.with_name("idle.ad.new").write_text("half")
    assert home.run("publish").returncode == 0
    assert home.run("publish", "--print").stdout.startswith(b'HMDCIdleJobs = "110.0,3702664"\n')


@pytest.mark.parametrize(
    "text", ["", "echo $(id)\n", 'HMDCIdleJobs = "$(id)"\n', "Start = false\n", 'HMDCIdleJobs = ""\nx']
)
def test_r11_print_takes_only_known_lines(machine: Machine, text: str) -> None:
    machine.data.write_text(text)
    shown = publish.shown(machine.settings(), time.time())
    assert shown == text == "" or shown.startswith("HMDCIdleJobs = undefined\n")


def test_r11_print_unknown_is_not_zero(machine: Machine, tmp_path: Path) -> None:
    """No file, an old one, a link, a folder that others write to: undefined, and the startd goes on."""
    home = Home(tmp_path / "hooks", execute=[str(machine.execute)], data=str(machine.data))
    said = b"HMDCIdleJobs = undefined\nHMDCIdleJobsBySchedd = undefined\n-\n"
    assert home.run("publish", "--print").stdout == said
    machine.publish()
    assert home.run("publish", "--print").stdout != said
    os.utime(machine.data, (1, 1))
    assert home.run("publish", "--print").stdout == said
    machine.publish()
    machine.data.rename(tmp_path / "x")
    machine.data.symlink_to(tmp_path / "x")
    assert home.run("publish", "--print").stdout == said
    machine.data.unlink()
    machine.publish()
    machine.data.parent.chmod(0o777)
    assert home.run("publish", "--print").stdout == said
    assert home.run("publish").returncode == 1


def test_publish_settings(tmp_path: Path) -> None:
    home = Home(tmp_path / "hooks")
    (tmp_path / "s.json").write_text('{"idle_cpus": "much"}')
    done = home.run("publish", "--settings", str(tmp_path / "s.json"))
    assert done.returncode == 1 and b"idle_cpus: 'much' is not what it takes" in done.stderr
    assert home.run("publish", "--settings", str(home.folder / "settings.json")).returncode == 0
    assert home.run("publish", "--other").returncode == 1
