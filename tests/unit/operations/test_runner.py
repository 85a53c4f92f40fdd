# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runner and dead-man alert of the role `schedule`: POSIX sh, run with a small program in the place of a playbook."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.plugin_utils import _store

FILES = Path(__file__).resolve().parents[3] / "roles" / "schedule" / "files"
SHELLS = [shell for shell in ("dash", "bash") if any(Path(folder, shell).exists() for folder in ("/bin", "/usr/bin"))]


def gone(pid: str) -> bool:
    """Whether a process ends within a moment; a zombie that nobody has reaped yet is gone."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


class Runner:
    def __init__(self, folder: Path, shell: str) -> None:
        self.folder, self.shell = folder, shell
        self.logs = folder / "logs"
        self.stamp = folder / "last-pass"
        self.conf = folder / "pass.conf"

    def configure(self, body: str, **values: object) -> None:
        known = {
            "SCHEDULE_NAME": "demo",
            "SCHEDULE_DIRECTORY": self.folder,
            "SCHEDULE_LOGS": self.logs,
            "SCHEDULE_STAMP": self.stamp,
            "SCHEDULE_ALERT_AFTER": 3600,
            **values,
        }
        words = [f"{name}={shlex.quote(str(value))}" for name, value in known.items()]
        alert = f'schedule_alert() {{ echo "$1" >> {shlex.quote(str(self.folder / "alerts"))}; }}'
        self.conf.write_text("\n".join([*words, f"schedule_command() {{\n{body}\n}}", alert, ""]))

    def run(self, name: str = "run-pass", *more: str) -> subprocess.CompletedProcess[str]:
        command = [self.shell, str(FILES / f"{name}.sh"), str(self.conf), *more]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    def reporting(self, report: object, status: int = 0, **values: object) -> subprocess.CompletedProcess[str]:
        source = self.folder / "report"
        source.write_text(report if isinstance(report, str) else json.dumps(report, sort_keys=True))
        self.configure(f'echo what the pass says; cp {shlex.quote(str(source))} "$1"; return {status}', **values)
        return self.run()


@pytest.fixture(params=SHELLS)
def runner(tmp_path: Path, request: pytest.FixtureRequest) -> Runner:
    return Runner(tmp_path, request.param)


def report(*outcomes: str, indent: bool = False) -> dict:
    worst = _store.worst(list(outcomes))
    sites = {
        f"s{index}": {
            "outcome": word,
            "exit_code": _store.OUTCOMES[word],
            "plan": {"why": 'he said "exit_code": 30, then'},
        }
        for index, word in enumerate(outcomes)
    }
    return {"outcome": worst, "exit_code": _store.OUTCOMES[worst], "sites": sites, "table": '{"exit_code": 1}'}


@pytest.mark.parametrize("outcome", list(_store.OUTCOMES))
def test_each_outcome_has_its_exit_code(runner: Runner, outcome: str) -> None:
    done = runner.reporting(report(outcome), status=0 if outcome in ("unchanged", "changed") else 2)
    assert done.returncode == _store.OUTCOMES[outcome]
    if outcome in ("unchanged", "changed"):
        assert (done.stdout, done.stderr) == ("", "")
    else:
        assert f"exit {done.returncode}" in done.stderr
        assert "what the pass says" in done.stderr
    assert list(runner.logs.glob("*.json")) == []
    assert len(list(runner.logs.glob("pass.*.log"))) == 1
    assert runner.stamp.exists() == (outcome not in ("busy", "error"))


@pytest.mark.parametrize(
    "outcomes",
    [("unchanged", "changed"), ("not_converged", "unsafe", "busy"), ("halted", "not_converged"), ("busy", "error")],
)
def test_worst_of_the_sites_wins(runner: Runner, outcomes: tuple[str, ...]) -> None:
    expected = _store.OUTCOMES[_store.worst(list(outcomes))]
    assert runner.reporting(report(*outcomes), status=0 if expected in (0, 10) else 2).returncode == expected
    pretty = json.dumps(report(*outcomes), indent=2)
    assert runner.reporting(pretty, status=0 if expected in (0, 10) else 2).returncode == expected


def test_failure_beside_a_good_pass_is_an_error(runner: Runner) -> None:
    assert runner.reporting(report("unchanged"), status=2).returncode == 1


def test_unknown_code_in_a_report_is_an_error(runner: Runner) -> None:
    assert runner.reporting({"exit_code": 7}).returncode == 1


@pytest.mark.parametrize(("status", "code"), [(0, 1), (2, 2), (4, 4), (10, 1), (75, 1), (250, 250)])
def test_without_a_report_it_is_never_the_outcome_of_a_pass(runner: Runner, status: int, code: int) -> None:
    runner.configure(f"echo oops; return {status}")
    done = runner.run()
    assert done.returncode == code
    assert "left no report" in done.stderr
    assert "oops" in done.stderr
    assert not runner.stamp.exists()


def test_report_of_another_run_is_not_taken_for_this_one(runner: Runner) -> None:
    runner.logs.mkdir()
    (runner.logs / "pass.1.2.json").write_text('{"exit_code": 0}')
    runner.configure("return 3")
    assert runner.run().returncode == 3


def test_j13_logs_older_than_n_days_are_gone(runner: Runner) -> None:
    runner.logs.mkdir()
    for days in (1, 13, 14.1, 40):
        for name in (f"pass.{days}.log", f"other.{days}.log"):
            path = runner.logs / name
            path.write_text("x")
            then = time.time() - days * 86400
            os.utime(path, (then, then))
    runner.reporting(report("unchanged"), SCHEDULE_LOG_DAYS=14)
    names = {path.name for path in runner.logs.iterdir()}
    assert {"pass.1.log", "pass.13.log"} <= names
    assert not {"pass.14.1.log", "pass.40.log"} & names
    assert {"other.40.log", "other.14.1.log"} <= names


def test_jitter_delays_at_most_as_said(runner: Runner) -> None:
    begin = time.monotonic()
    assert runner.reporting(report("unchanged"), SCHEDULE_JITTER=1).returncode == 0
    assert time.monotonic() - begin < 5


def test_ended_from_outside_it_ends_what_it_started(runner: Runner) -> None:
    note = runner.folder / "pid"
    runner.configure(f"echo $$ > /dev/null; exec timeout -k 5 60 sh -c 'echo $$ > {note}; sleep 60'")
    running = subprocess.Popen([runner.shell, str(FILES / "run-pass.sh"), str(runner.conf)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 10
    while not (note.exists() and note.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) not in (0, 10, 20, 30, 40, 75)
    running.stderr.close()
    assert gone(note.read_text().strip())


def test_pass_over_its_limit_is_ended_with_its_group(runner: Runner) -> None:
    note = runner.folder / "pid"
    runner.configure(f"exec timeout -k 5 1 sh -c 'sleep 60 & echo $! > {note}; wait'", SCHEDULE_LIMIT=1)
    done = runner.run()
    assert done.returncode == 124
    assert "limit of 1 s" in done.stderr
    assert gone(note.read_text().strip())


def test_words_with_spaces_stay_words(runner: Runner) -> None:
    (runner.folder / "a b").mkdir()
    runner.configure('printf "%s|" "$@" 2>&1; return 5', SCHEDULE_DIRECTORY=runner.folder / "a b")
    assert runner.run().returncode == 5


def test_missing_configuration_is_an_error(runner: Runner) -> None:
    assert runner.run().returncode not in (0, 10)
    runner.conf.write_text("SCHEDULE_NAME=x\n")
    assert runner.run().returncode not in (0, 10)


def test_j13_dead_man_alert_is_quiet_while_passes_end(runner: Runner) -> None:
    runner.reporting(report("not_converged"), status=2)
    done = runner.run("check-passes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "PASSES OK" in runner.run("check-passes", "show").stdout
    assert not (runner.folder / "alerts").exists()


@pytest.mark.parametrize("stamp", [None, "", "yesterday", "1000"])
def test_j13_dead_man_alert_fires_when_passes_stop(runner: Runner, stamp: str | None) -> None:
    runner.configure("return 0")
    if stamp is not None:
        runner.stamp.write_text(stamp)
    done = runner.run("check-passes")
    assert done.returncode == 2
    assert done.stderr.startswith("PASSES CRIT | demo: no pass has ended")
    assert (runner.folder / "alerts").read_text() == done.stderr


def test_j13_passes_that_only_find_another_at_work_do_not_keep_the_alert_quiet(runner: Runner) -> None:
    runner.stamp.write_text(str(int(time.time()) - 7200))
    runner.reporting(report("busy"), status=2)
    assert runner.run("check-passes").returncode == 2
