# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs playbooks as a person or a timer would: one process of ansible-playbook each, with its report."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Result:
    """What one run gave: exit code, output, the JSON report (empty where none was written), seconds of wall clock."""

    rc: int
    stdout: str
    stderr: str
    report: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def outcome(self) -> str:
        """The worst outcome of all sites, as in the report; empty where there is no report."""
        return str(self.report.get("outcome", ""))

    def site(self, name: str = "bed") -> dict[str, Any]:
        """Return the report of one site; by its name, or where names carry the deployment by their beginning."""
        sites = self.report.get("sites", {})
        for key, value in sites.items():
            if key == name or key.startswith(f"{name}."):
                return dict(value)
        raise AssertionError(f"no report of site {name}, only of {list(sites)}; output:\n{self.stdout}\n{self.stderr}")

    def recap(self, key: str) -> int:
        """Sum one number of the play recap (ok, changed, unreachable, failed ...) over all hosts."""
        return sum(int(value) for value in re.findall(rf"\b{key}=(\d+)", self.stdout))


class Player:
    """Runs playbooks with one state folder, as one controller does; make a second one for a second controller."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self._runs = 0
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # a path of a unix socket may have 107 characters only
        self._sockets = tempfile.mkdtemp(prefix="cp")

    def environment(self) -> dict[str, str]:
        """Return the environment of a run: this checkout's settings, this player's state and connections."""
        dropped = ("ANSIBLE_", "SCIOPS_SITES", "PYTHONDONTWRITEBYTECODE")
        env = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        bin_dir = str(Path(sys.executable).parent)
        return {
            **env,
            "PATH": f"{bin_dir}:{env.get('PATH', '')}",
            # compiled once for all runs, as on a controller, and nothing written beside the sources
            "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "pycache"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(self._folder / "tmp"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": self._sockets,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "SCIOPS_SITES_STATE_DIR": str(self.state),
        }

    def start(
        self, playbook: str, inventory: str | Path, *args: str, env: dict[str, str] | None = None
    ) -> tuple[subprocess.Popen[str], Path]:
        """Start a run without waiting; returns the process (own process group) and where its report will be."""
        self._runs += 1
        report = self._folder / f"report-{self._runs}.json"
        program = str(Path(sys.executable).parent / "ansible-playbook")
        argv = [program, playbook, "-i", str(inventory), "-e", f"sciops_sites_report={report}", *args]
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**self.environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return process, report

    def __call__(
        self,
        playbook: str,
        inventory: str | Path,
        *args: str,
        env: dict[str, str] | None = None,
        timeout: float = 300,
    ) -> Result:
        """Run a playbook (a path below the checkout, or a name such as sciops.sites.reconcile) and wait for its end."""
        begun = time.monotonic()
        process, report = self.start(playbook, inventory, *args, env=env)
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return self.result(process.returncode, stdout, stderr, report, time.monotonic() - begun)

    @staticmethod
    def result(rc: int, stdout: str, stderr: str, report: Path, seconds: float = 0.0) -> Result:
        """Put the parts of a finished run together."""
        text = report.read_text(encoding="utf-8") if report.exists() else "{}"
        return Result(rc, stdout, stderr, json.loads(text), seconds)

    def close(self) -> None:
        """End the ssh masters that runs left for the next one."""
        for socket in Path(self._sockets).iterdir():
            subprocess.run(
                ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "none"],
                capture_output=True,
                timeout=10,
                check=False,
            )
        shutil.rmtree(self._sockets, ignore_errors=True)
