# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A target in a folder of its own, changed by real processes and real files."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible_collections.sciops.sites.plugins.module_utils import _change, _launches, _probe, _release, _switching


class Target:
    """A target in a folder of its own with services that are shell scripts."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        (root / "log").mkdir()

    def service(self, name: str, **more: Any) -> dict[str, Any]:
        script = str(self.root / "bin" / name)
        base = {"name": name, "command": [script, self.name], "log": str(self.root / "log" / name), "settle": 0.2}
        return {**base, "timeout": 5, **more}

    def release(
        self, version: str, *services: dict[str, Any], conf: str = "", link: bool = False, method: str = "process"
    ) -> dict[str, Any]:
        """A manifest with its files staged: a script for each service, and a configuration for all of them."""
        rendered = [
            {
                "dest": str(self.root / "bin" / one["name"]),
                "content": one.pop("script", self.script(version)),
                "mode": "0700",
            }
            for one in services
        ]
        rendered.append({"dest": str(self.root / "site.conf"), "content": conf or "[x]\n", "mode": "0600"})
        for one in rendered:
            named = Path(one["dest"]).name
            restarts = "all" if named == "site.conf" else [named]
            one.update(owner=None, group=None, validate=None, restarts=restarts, secret=True, template="")
        entries = [_release.entry(one) for one in rendered]
        build = None
        if link:
            made = self.root / "builds" / version
            made.mkdir(parents=True, exist_ok=True)
            build = {"method": "venv", "id": version, "link": str(self.root / "site"), "target": str(made)}
        launch: dict[str, Any] = {"method": method, method: {}}
        texts = {one["dest"]: one["content"] for one in rendered}
        definitions = _launches.definitions(launch, services, texts)
        manifest: dict[str, Any] = _switching.manifest(version, build, entries, launch, list(services), definitions)
        staged = self.root / ".sciops" / "releases" / manifest["id"] / "files"
        staged.mkdir(parents=True, exist_ok=True)
        for index, one in enumerate(rendered):
            (staged / str(index)).write_text(one["content"])
        return manifest

    def script(self, version: str) -> str:
        # the process keeps the command line of the script, by which it is known
        return f"#!/bin/sh\n# {version}\nwhile :; do sleep 0.2; done\n"

    def ask(self, state: str = "active", manifest: Any = None, check: bool = False, **more: Any) -> dict[str, Any]:
        params = {"root": str(self.root), "state": state, "manifest": manifest, "services": [], "keep": 3}
        params.update({"retry": False, "by": "ann", "reason": ""}, **more)
        return _change.carry_out(params, check)

    def pids(self) -> dict[str, int]:
        return {n: s["pid"] for n, s in self.info()["services"].items() if s["state"] == "running"}

    def info(self) -> dict[str, Any]:
        return _change.inform(str(self.root))

    def others(self, name: str) -> int:
        """Somebody else starts a script of his own in the place of a service; its process."""
        script = self.root / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(self.script("theirs"))
        script.chmod(0o700)
        words = ["sh", "-c", '"$@" > /dev/null 2>&1 &', "sh", str(script), self.name]
        subprocess.run(words, check=True)
        deadline = time.monotonic() + 20
        while not self.running(name) and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.running(name)[0]

    def running(self, name: str) -> list[int]:
        """Processes of a service, whoever started them."""
        words = ["/bin/sh", str(self.root / "bin" / name), self.name]
        return [pid for pid in _probe.scan() if _probe.argv(pid) == words]

    def end(self) -> None:
        for pid in _probe.scan():
            if self.name in _probe.argv(pid):
                os.kill(pid, signal.SIGKILL)


def steps(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["step"], one["outcome"]) for one in result["steps"]]
