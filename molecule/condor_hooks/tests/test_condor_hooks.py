# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hooks seen from outside, by pytest-testinfra: whose they are, and the folder, limits and idle time of a job."""

from __future__ import annotations

import time

HOME = "/usr/local/libexec/sciops.sites/condor"
ROOT = "/home/deploy/.HMDC/jobs/interactive"
JOB = f"""
executable = /bin/sh
transfer_executable = false
should_transfer_files = no
request_memory = 256
arguments = "-c 'ulimit -v; sleep 600'"
MY.HMDCNewSubmit = true
MY.HMDCInteractive = true
MY.HMDCUseXpra = true
MY.HMDCApplicationName = "shell"
MY.HMDCApplicationVersion = "1"
MY.LocalJobDir = strcat("{ROOT}/shell_", ClusterId)
queue
"""


def until(what, seconds: float = 180):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = what()
        if seen:
            return seen
        time.sleep(0.5)
    return None


def test_programs_are_roots(host) -> None:
    for name in ("prepare", "wrapper", "update", "publish", "exit"):
        program = host.file(f"{HOME}/{name}")
        assert (program.user, program.group, program.mode) == ("root", "root", 0o755)
    assert host.file("/var/lib/sciops.sites/condor").mode == 0o755


def test_htcondor_names_them(host) -> None:
    said = host.check_output("condor_config_val HMDC_HOOK_PREPARE_JOB USER_JOB_WRAPPER SYSTEM_PERIODIC_REMOVE")
    assert said.splitlines()[:2] == [f"{HOME}/prepare", f"{HOME}/wrapper"]
    assert "HMDCInteractive" in said.splitlines()[2]


def test_publisher_is_on(host) -> None:
    timer = host.service("sciops-sites-condor-idle.timer")
    assert timer.is_enabled and timer.is_running


def test_job_from_its_folder_to_the_end(host) -> None:
    submit = "cd /home/deploy && su deploy -c 'condor_submit -terse /tmp/job.sub'"
    job = host.check_output(f"cat > /tmp/job.sub <<'END'\n{JOB}END\n{submit}").split(".")[0]
    folder = f"{ROOT}/shell_{job}"
    try:
        log = host.file(f"{folder}/shell.out.txt")
        assert until(lambda: log.exists and log.content_string)
        assert (host.file(folder).user, host.file(folder).mode) == ("deploy", 0o700)
        assert log.content_string.strip() == str(256 * 1024)
        assert until(lambda: f"{job}.0," in host.check_output("condor_status -af HMDCIdleJobs"))
    finally:
        host.check_output("condor_rm %s", job)
    assert until(lambda: not host.file(folder).exists)
    assert host.file(f"/home/deploy/.HMDC/jobs/logs/shell_{job}/shell.out.txt").exists
    # the destroy step finds no starter that still needs the programs
    assert until(lambda: host.run("pgrep -x condor_starter").rc != 0)
