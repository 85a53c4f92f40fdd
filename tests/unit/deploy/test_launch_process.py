# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launch method process, with real processes of this very user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _launch, _launch_process, _probe

SCRIPT = """#!/usr/bin/env bash
{trap}
echo "conf $2 $MODULE $SECRET"
sleep 1000 &
wait; wait
"""


class Runner:
    """A service like gitlab-runner: a script that is told of a configuration file and runs on."""

    def __init__(self, folder: Path) -> None:
        self.program, self.config, self.log = folder / "runner", folder / "config.toml", folder / "runner.log"
        self.program.write_text(SCRIPT.format(trap=""))
        self.program.chmod(0o755)
        self.config.write_text("concurrent = 1\n")
        self.command = [str(self.program), "-c", str(self.config)]
        self.service = {"name": "runner", "command": self.command, "log": str(self.log)}
        self.service["prelude"] = "module() { export MODULE=$2; }; module load gcc"

    def launch(self) -> _launch_process.Launch:
        return _launch_process.Launch({}, [self.service])

    def state(self) -> dict:
        return self.launch().states()["runner"]

    def up(self) -> int:
        assert not _launch.wait(lambda: self.state()["state"] != "running" or not self.log.stat().st_size, 30)
        return self.state()["pid"]

    def pids(self) -> list[int]:
        return [p.pid for p in _probe.scan().values() if _probe.argv(p.pid)[-3:] == self.command]

    def kill(self) -> None:
        """End what a test left, with all that it started, in whatever way the test ended."""
        table = _probe.scan()
        for process in _probe.family(table, [table[pid] for pid in self.pids() if pid in table]):
            os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    one = Runner(tmp_path)
    yield one
    one.kill()


def test_dead_is_started_once_and_running_is_left_alone(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """W14."""
    monkeypatch.setenv("SECRET", "hunter2")
    stamp = runner.config.stat()
    assert runner.state()["state"] == "stopped" and runner.launch().missing() == []
    runner.launch().start(["runner"], 10)
    pid = runner.up()
    runner.launch().start(["runner"], 10)
    assert runner.state() == {"state": "running", "why": "", "pid": pid, "restarts": 0} and runner.pids() == [pid]
    # its prelude is in its environment, nothing of whoever started it is
    assert runner.log.read_text() == f"conf {runner.config} gcc \n"
    assert runner.log.stat().st_mode & 0o777 == 0o600
    assert os.getsid(pid) not in (os.getsid(0), 0) and Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")
    now = runner.config.stat()
    assert (now.st_ino, now.st_mtime_ns) == (stamp.st_ino, stamp.st_mtime_ns)
    child = [p for p in _probe.scan().values() if p.ppid == pid]
    runner.launch().stop(["runner"], 10)
    assert runner.pids() == [] and not [p for p in child if _probe.look(p.pid)]
    runner.launch().stop(["runner"], 10)


def test_who_only_looks_at_its_files_does_not_count(runner: Runner) -> None:
    looking = [["tail", "-f", *runner.command[::2]], [sys.executable, "-c", "input()", *runner.command]]
    others = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for words in looking]
    try:
        assert runner.state()["state"] == "stopped"
        runner.launch().stop(["runner"], 5)
        assert [other.poll() for other in others] == [None, None]
    finally:
        for other in others:
            other.kill()
            other.communicate()


def test_one_that_a_person_started_counts(runner: Runner) -> None:
    """Found, and ended with what it started; whatever shares its process group is not touched."""
    shell = subprocess.Popen(["bash", "-c", '"$@" & sleep 1000', "bash", *runner.command], start_new_session=True)
    try:
        assert not _launch.wait(lambda: runner.state()["state"] != "running", 30)
        runner.launch().start(["runner"], 5)
        assert len(runner.pids()) == 1 + 1  # with the shell that has these words as its own
        runner.launch().stop(["runner"], 5)
        assert runner.state()["state"] == "stopped" and shell.poll() is None
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def test_two_at_once_start_one(runner: Runner) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.sciops.sites.plugins.module_utils import _launch_process\n"
        "import json; _launch_process.Launch({}, [json.loads(sys.argv[2])]).start(['runner'], 10)\n"
    )
    collections = str(Path(_launch_process.__file__).resolve().parents[2])
    links = runner.program.parent / "lib" / "ansible_collections" / "sciops"
    links.mkdir(parents=True)
    (links / "sites").symlink_to(collections)
    # the prelude takes its time, so that both meet in it
    runner.service["prelude"] += "; sleep 0.5"
    words = [sys.executable, "-c", code, str(links.parents[1]), json.dumps(runner.service)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _n: subprocess.run(words, capture_output=True, check=False), range(4)))
    assert [(one.returncode, one.stderr) for one in done] == [(0, b"")] * 4
    pid = runner.up()
    assert runner.pids() == [pid] and len(runner.log.read_text().splitlines()) == 1


def test_deaf_to_term_it_is_killed(runner: Runner) -> None:
    runner.program.write_text(SCRIPT.format(trap="trap '' TERM"))
    runner.launch().start(["runner"], 10)
    runner.up()
    begun = time.monotonic()
    runner.launch().stop(["runner"], 1)
    assert runner.pids() == [] and time.monotonic() - begun >= 1


def test_what_cannot_be_started_is_told(runner: Runner) -> None:
    runner.service["log"] = "/nowhere/log"
    with pytest.raises(_launch.Failure, match="service runner: /nowhere/log: No such file"):
        runner.launch().start(["runner"], 5)
    runner.service.pop("log")
    with pytest.raises(_launch.Failure, match="needs log"):
        runner.launch().start(["runner"], 5)
    with pytest.raises(_launch.Failure, match="service other: is none of this release"):
        runner.launch().start(["other"], 5)


def test_what_this_very_run_hangs_on_is_not_ended(runner: Runner) -> None:
    table = _probe.scan()
    with pytest.raises(_launch.Failure, match="stop it from elsewhere"):
        _launch.end(lambda _table: [table[os.getpid()]], 1)
