# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A queue of one file and a host that submits there: what the tests of launchers of jobs share."""

from __future__ import annotations

import json
import sys
import time
import typing as t
from pathlib import Path

from ansible_collections.sciops.sites.plugins.module_utils import _agent, _probe, _work
from ansible_collections.sciops.sites.plugins.plugin_utils import _apply, _memory, _planner

HERE = Path(__file__).parent


class Bed:
    """Programs of a stub, the state that they have in common, and one host of a site."""

    launcher = ""
    stub = ""
    programs: t.ClassVar[tuple[str, ...]] = ()

    def __init__(self, folder: Path) -> None:
        self.bin, self.folder = folder / "bin", folder / "state"
        self.bin.mkdir()
        (self.folder / "instances").mkdir(parents=True)
        text = (HERE / self.stub).read_text()
        for name in self.programs:
            (self.bin / name).write_text(f"#!{sys.executable} -ISB\n{text}")
            (self.bin / name).chmod(0o755)
        self.set(jobs=[], last=40, user=_probe.login())
        self.number, self.timeout = 0, 5.0

    def state(self) -> dict:
        return json.loads((self.bin / "state.json").read_text())

    def set(self, **more: t.Any) -> None:
        old = self.state() if (self.bin / "state.json").exists() else {}
        (self.bin / "state.json").write_text(json.dumps(old | more))

    def job(self, index: int = 0, **more: t.Any) -> None:
        """Change one job of the queue."""
        jobs = self.state()["jobs"]
        jobs[index] |= more
        self.set(jobs=jobs)

    def calls(self, name: str) -> list[list]:
        path = self.bin / "calls.jsonl"
        every = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call[1:] for call in every if call[0] == name]

    def request(self, actions: list[dict]) -> dict:
        return {"site": "s", "deployment": "d", "host": "h1", "components": {}, "actions": actions, "launchers": {}}

    def made(self, *actions: dict, seconds: float = 8) -> _work.Work:
        request = self.request(list(actions)) | {"launchers": {self.launcher: {"timeout": self.timeout}}}
        return _work.Work(request, str(self.folder), time.monotonic() + seconds)

    def work(self, *actions: dict, seconds: float = 8) -> list[dict]:
        work = self.made(*actions, seconds=seconds)
        work.run()
        return work.results

    def action(self, *argv: str, slot: int = 1, **more: t.Any) -> dict:
        self.number += 1
        base = {"kind": "start", "host": "h1", "component": "p/c", "slot": slot, "hash": "0123456789ab", "reason": ""}
        base |= {"token": f"1a-{self.number}", "argv": list(argv) or ["sleep", "60"], "environment": {}, "secrets": {}}
        base |= {"cwd": None, "user": None, "log": {"path": None}, "settle": 0.1, "grace": 0.2}
        base |= {"launcher": self.launcher, "manager": {}, "options": {}, "container": None, "singleton": False}
        return base | more

    def other(self, kind: str, token: str, **more: t.Any) -> dict:
        base = {"kind": kind, "host": "h1", "component": "p/c", "slot": 1, "token": token, "launcher": self.launcher}
        return base | {"grace": 0.2, "reason": ""} | more

    def observe(self, seconds: float = 8) -> dict:
        known = _probe.records(str(self.folder), [])
        ask = {"request": self.request([]), "settings": {"timeout": self.timeout}, "folder": str(self.folder)}
        ask |= {"records": known, "sets": {}, "boot": "b", "ends": time.monotonic() + seconds, "wanted": True}
        return _work.launcher(self.launcher).observe(ask)

    def look(self, *launchers: str, number: int = 0) -> dict:
        """What the pass with this number sees when it asks these launchers; one in check mode has no number."""
        request = self.request([]) | {"launchers": {name: {"timeout": self.timeout} for name in launchers}}
        request["fence"] = {"number": number, "holder": "me"} if number else None
        return {"answered": True, **_agent.observe(request, str(self.folder), time.monotonic() + 8, set())}

    def passes(self, declared: dict, count: int) -> list[bool]:
        """Whether all is as declared after each of so many passes of a controller that starts and stops nothing."""
        memory, found = _memory.empty(), []
        for number in range(1, count + 1):
            asked = _apply.request_for(declared, "h1", "observe", known=_memory.launchers(memory, "h1"))
            seen = {"h1": self.look(*asked.get("launchers", {}), number=number)}
            memory = _memory.learn(memory, declared, seen, 300.0 * number, "me")
            found.append(_apply.converged(_planner.plan(declared, seen, memory, 300.0 * number)))
        return found

    def start(self, **more: t.Any) -> str:
        action = self.action(**more)
        result = self.work(action)[0]
        assert result["outcome"] == "started", result
        return action["token"]

    def record(self, token: str) -> dict:
        return json.loads((self.folder / "instances" / f"{token}.json").read_text())

    def edit(self, token: str, **more: t.Any) -> None:
        path = self.folder / "instances" / f"{token}.json"
        path.write_text(json.dumps(self.record(token) | more))

    def files(self) -> list[str]:
        found = [path for path in self.folder.rglob("*") if path.suffix in (".json", ".sh")]
        return sorted(str(path.relative_to(self.folder)) for path in found)
