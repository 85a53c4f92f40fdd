# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""R9 and R10: how idle time is counted, and when the owner is told."""

from __future__ import annotations

import json
import os
import socket
import string
import time
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from hypothesis import given
from hypothesis import strategies as st
from unit.condor.hooks_home import Home, module, recorded, settings

common, idle, update = module("_common"), module("_idle"), module("_update")
I, B, U, H = idle.IDLE, idle.BUSY, idle.UNKNOWN, idle.HELD  # noqa: E741


def values(*samples: tuple[float, str], boot: str = "b", gap: float = 600) -> list[float]:
    state, found = idle.load(None, "j"), []
    for clock, what in samples:
        state = idle.step(state, what, clock, boot, gap)
        found.append(state["value"])
    return found


def test_r9_values() -> None:
    assert values((0, I), (300, I), (900, I), (1200, B), (1500, I)) == [0, 300, 900, 0, 300]


def test_r9_gap() -> None:
    """More than 600 s without a sample add nothing; 600 do."""
    assert values((0, I), (600, I), (1201, I), (1501, I)) == [0, 600, 600, 900]


def test_r9_held_and_undefined() -> None:
    assert values((0, I), (300, I), (600, H), (900, I)) == [0, 300, 300, 600]
    assert values((0, I), (300, I), (600, U), (900, I)) == [0, 300, 300, 600]


def test_r9_clock_jump_and_boot() -> None:
    """A clock that goes back, and one of another boot, add nothing; and nothing is lost."""
    assert values((1000, I), (1300, I), (100, I), (400, I)) == [0, 300, 300, 600]
    state = idle.step(idle.step(idle.load(None, "j"), I, 100, "b", 600), I, 400, "b", 600)
    assert idle.step(state, I, 500, "another", 600)["value"] == 300


SAMPLES = st.lists(st.tuples(st.floats(0, 2000), st.sampled_from([I, B, U, H]), st.sampled_from("ab")), max_size=40)


@given(SAMPLES)
def test_r9_never_more_than_the_time_that_passed(samples: list[tuple[float, str, str]]) -> None:
    """Never below 0, never more than what passed since the last busy sample, kept over a restart."""
    state, now, since, boot = idle.load(None, "j"), 0.0, 0.0, "a"
    for step, what, boot in samples:
        now += step
        before = state["value"]
        state = idle.load(json.loads(json.dumps(idle.step(state, what, now, boot, 600))), "j")
        since = 0.0 if what == B else since + min(step, 600)
        assert 0 <= state["value"] <= since + 1e-6
        if what in (U, H):
            assert state["value"] == before


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.dictionaries(st.sampled_from(sorted(idle.NONE)), x),
    )
)
def test_r9_a_broken_state_is_a_new_one(found: Any) -> None:
    state = idle.load(found, "j")
    assert set(state) == set(idle.NONE)
    idle.step(state, I, 5.0, "b", 600)


@pytest.mark.parametrize("name", ["update-25.ad", "update-23.ad"])
def test_r9_sample_of_recorded_ads(name: str) -> None:
    """JobCpuIsIdle where it is there, else what the job used; nothing known is undefined."""

    def seen(*lines: str, without: tuple[str, ...] = ()) -> str:
        ad = common.pick(recorded(name, *lines, without=without), update.NEEDED)
        return str(update.sample(ad, idle.load(None, "j"), 0, "b", 0.01))

    assert seen("CpusUsage = 0.0003") == I and seen("CpusUsage = 0.01") == B
    assert seen("CpusUsage = 0.5", "JobCpuIsIdle = true") == I and seen("JobCpuIsIdle = false") == B
    assert seen("JobCpuIsIdle = CpusUsage < 0.1", "CpusUsage = 0.0") == I
    assert seen(without=("CpusUsage",)) == U and seen("CpusUsage = undefined") == U
    assert seen("JobStatus = 5") == H and seen('JobState = "Suspended"') == H


def test_r9_cpu_time_where_nothing_else_is_known() -> None:
    state = dict(idle.load(None, "j"), clock=100.0, boot="b", cpu=50.0)
    assert idle.judge(None, None, 50.5, state, 400.0, "b", 0.01) == I
    assert idle.judge(None, None, 60.0, state, 400.0, "b", 0.01) == B
    assert idle.judge(None, None, 50.5, state, 400.0, "c", 0.01) == U
    assert idle.judge(None, None, 40.0, state, 400.0, "b", 0.01) == U


# --- R10: mail, to a real server


class Sink:
    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        message = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(message, EmailMessage)
        self.mails.append(message)
        return "250 OK"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def sink() -> Iterator[tuple[Sink, int]]:
    found, port = Sink(), free_port()
    server = Controller(found, hostname="127.0.0.1", port=port, ready_timeout=30)
    server.start()
    yield found, port
    server.stop()


class Job:
    """A job whose update hook runs at times that the test says."""

    def __init__(self, folder: Path, *lines: str, **given: Any) -> None:
        self.ad = common.pick(recorded("update-25.ad", *lines), update.NEEDED)
        self.path = folder
        self.settings = settings(**{"smtp_host": "127.0.0.1", **given})

    def at(self, clock: float, what: str, **more: Any) -> float:
        self.ad["JobCpuIsIdle"] = {I: True, B: False, U: None, H: None}[what]
        self.ad["JobStatus"] = 5 if what == H else 2
        if what == U:
            self.ad["CpusUsage"] = None
        folder = os.open(self.path, os.O_RDONLY)
        try:
            return float(update.run(self.ad, folder, self.settings, clock, "b", **more)["value"])
        finally:
            os.close(folder)

    @property
    def published(self) -> str:
        return (self.path / ".idletime").read_text()


def test_r10_two_mails(tmp_path: Path, sink: tuple[Sink, int]) -> None:
    mails, port = sink
    job = Job(tmp_path, smtp_port=port, idle_trigger=7200)
    seen = {}
    for clock in range(0, 18001, 300):
        value = job.at(clock, B if clock == 9300 else I)
        assert job.published == f"{int(value)}\n"
        seen[clock] = len(mails.mails)
    assert [clock for clock in seen if seen[clock] > seen.get(clock - 300, 0)] == [7200, 16500]
    assert len(mails.mails) == 2


def test_r10_subject_and_text(tmp_path: Path, sink: tuple[Sink, int]) -> None:
    mails, port = sink
    job = Job(tmp_path, "ClusterId = 110", smtp_port=port, idle_trigger=172800)
    state = idle.load(None, job.ad["GlobalJobId"])
    (tmp_path / ".idle-state").write_text(json.dumps(dict(state, value=172700.0, clock=0.0, boot="b")))
    assert job.at(300, I) == 173000
    assert mails.mails[0]["Subject"] == "Warning: Job 110: shell 2.31.3 has been idle for 2 days"
    assert mails.mails[0]["To"] == "ann@example.org"
    text = mails.mails[0].get_content()
    assert "From 3 days on" in text and "lost" in text and "starts the count anew" in text and "Attach all jobs" in text


def test_r10_mail_from_a_template_and_no_header_of_a_job(tmp_path: Path, sink: tuple[Sink, int]) -> None:
    mails, port = sink
    name = 'HMDCApplicationName = "x\\r\\nBcc: all@example.org $cluster"'
    job = Job(tmp_path, name, smtp_port=port, idle_trigger=0, mail_text="$app\nsays $owner and $nobody\n")
    job.at(0, I)
    assert mails.mails[0]["Bcc"] is None and "Bcc: all" in mails.mails[0]["Subject"]
    assert "says deploy and $nobody" in mails.mails[0].get_content()


def test_r10_retried_and_nothing_else_changes(tmp_path: Path, sink: tuple[Sink, int]) -> None:
    """A server that is down, then one that answers: counting never notices, and the mail comes once."""
    mails, port = sink
    job = Job(tmp_path, smtp_port=free_port(), idle_trigger=300)
    assert [job.at(clock, I) for clock in (0, 300, 600)] == [0, 300, 600] and job.published == "600\n"
    job.settings["smtp_port"] = port
    assert [job.at(clock, I) for clock in (900, 1200)] == [900, 1200]
    assert len(mails.mails) == 1


@pytest.mark.parametrize("address", ["undefined", '"ann"', '"a b@c"', '"a@b,c@d"', '"a@b\\nBcc: x@y"', "7"])
def test_r10_odd_addresses_change_nothing(tmp_path: Path, sink: tuple[Sink, int], address: str) -> None:
    mails, port = sink
    job = Job(tmp_path, f"Email = {address}", "NotifyUser = undefined", smtp_port=port, idle_trigger=0)
    assert [job.at(clock, I) for clock in (0, 300, 600)] == [0, 300, 600]
    assert mails.mails == []


def test_r10_reminder(tmp_path: Path, sink: tuple[Sink, int]) -> None:
    mails, port = sink
    job = Job(tmp_path, smtp_port=port, idle_trigger=600, preempt_after=3000, remind_before=900)
    seen = {}
    for clock in range(0, 3601, 300):
        job.at(clock, I)
        seen[clock] = len(mails.mails)
    assert [clock for clock in seen if seen[clock] > seen.get(clock - 300, 0)] == [600, 2100]


def test_r10_a_hanging_server_is_left(tmp_path: Path) -> None:
    """A server that accepts and says nothing: the hook ends at its limit, and the time is counted."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        home = Home(
            tmp_path / "h", smtp_host="127.0.0.1", smtp_port=port, smtp_timeout=50, time_limit=1.5, idle_trigger=0
        )
        begun = time.monotonic()
        done = home.run("update", ad=recorded("update-25.ad"), env={"_CONDOR_SCRATCH_DIR": str(tmp_path)})
        assert done.returncode == 0 and b"no answer within 1.5 seconds" in done.stderr
        assert time.monotonic() - begun < 20
    assert (tmp_path / ".idletime").read_text() == "0\n"
    assert json.loads((tmp_path / ".idle-state").read_text())["warned"] is False


# --- the hook as a process


def test_update_survives_what_it_finds(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    env = {"_CONDOR_SCRATCH_DIR": str(tmp_path)}
    # not interactive, and nothing known at the first run: nothing is written
    for lines in (("HMDCInteractive = false",), ("CpusUsage = undefined",)):
        done = home.run("update", ad=recorded("update-23.ad", *lines), env=env)
        assert (done.returncode, done.stdout) == (0, b"") and not (tmp_path / ".idletime").exists()
    # links in the way are replaced, not followed
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for name in (".idle-state", ".idletime", ".idletime.new"):
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to(secret)
    assert home.run("update", ad=recorded("update-25.ad", "CpusUsage = 0.0"), env=env).returncode == 0
    assert secret.read_text() == "secret" and (tmp_path / ".idletime").read_text() == "0\n"
    assert not (tmp_path / ".idletime").is_symlink()
    # no ad, no scratch folder, no settings: still 0
    assert home.run("update", ad=b"\xff\xfe", env=env).returncode == 0
    assert home.run("update", ad=recorded("update-25.ad"), env={"_CONDOR_SCRATCH_DIR": "/nonexistent"}).returncode == 0
    (home.folder / "settings.json").write_text("{")
    assert home.run("update", ad=recorded("update-25.ad"), env=env).returncode == 0


def test_update_ten_megabytes(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    ad = recorded("update-25.ad", 'Environment = "X=' + "y" * 10_000_000 + '"', "CpusUsage = 0.0")
    begun = time.monotonic()
    assert home.run("update", ad=ad, env={"_CONDOR_SCRATCH_DIR": str(tmp_path)}).returncode == 0
    assert (tmp_path / ".idletime").read_text() == "0\n" and time.monotonic() - begun < 20


def test_templates_of_the_defaults_know_their_words() -> None:
    for text in (common.DEFAULTS["mail_subject"], update.TEXT):
        words = set(string.Template(text).pattern.findall(text))
        names = {word[1] for word in words}
        assert names <= {"cluster", "proc", "app", "version", "owner", "days", "hours", "preempt_days"}
