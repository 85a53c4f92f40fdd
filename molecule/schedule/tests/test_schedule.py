# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schedule as seen from outside, by pytest-testinfra: the timer really fires and a pass really starts processes."""

from __future__ import annotations

import json
import time

HOME = "/usr/local/lib/sciops.sites/pool"
STATE = "/opt/sciops/state/pool.demo"


def wait(condition, seconds: float = 180) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.5)
    return False


def test_timers_are_on(host) -> None:
    for name in ("pool.timer", "pool-alert.timer"):
        assert host.service(name).is_enabled
        assert host.service(name).is_running


def test_timer_fires_a_pass_that_starts_processes_and_lives_on(host) -> None:
    assert wait(lambda: host.file(f"{STATE}/report.json").exists)
    assert wait(lambda: json.loads(host.file(f"{STATE}/report.json").content_string)["outcome"] == "unchanged")
    assert len(host.process.filter(comm="sleep", args="sleep 9101")) == 2
    assert len(host.process.filter(comm="sleep", args="sleep 9102")) == 1


def test_state_is_private(host) -> None:
    assert host.file(STATE).mode == 0o700
    assert host.file(f"{STATE}/memory.json").mode == 0o600


def test_services_did_not_fail(host) -> None:
    assert host.run("systemctl is-failed pool.service pool-alert.service").rc != 0


def test_alert_is_quiet(host) -> None:
    assert wait(lambda: host.run(f"sh {HOME}/check-passes {HOME}/pass.conf show").rc == 0)
