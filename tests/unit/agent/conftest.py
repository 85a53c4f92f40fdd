# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place where the real agent runs as on a host: over its own wire, unprivileged, with a home of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.plugin_utils import _wire

UTILS = Path(__file__).resolve().parents[3] / "plugins" / "module_utils"
SOURCES = {p.stem: p.read_text() for p in UTILS.glob("_*.py")}
NOBODY = 65534


class Host:
    """One host as a controller sees it. ``home`` is a folder its user may write to."""

    def __init__(self, home: Path, uid: int) -> None:
        self.home, self.uid = home, uid
        self.site = f"t{secrets.token_hex(4)}"
        self.name = "h1"
        self.number = 1
        self.spawned: list[subprocess.Popen] = []
        self.prefix: list[str] = []

    @property
    def folder(self) -> Path:
        return self.home / "state" / "sciops.sites" / f"{self.site}.test" / self.name

    def request(self, mode: str, **more: t.Any) -> dict:
        base = {"v": 1, "nonce": secrets.token_hex(6), "mode": mode, "site": self.site, "deployment": "test"}
        base |= {"host": self.name, "fence": {"number": self.number, "holder": "me"}, "timeout": 15, "components": {}}
        return base | more

    def popen(self, argv: list[str] | str, **more: t.Any) -> subprocess.Popen:
        """A process of this host's user, ended with the test."""
        if os.geteuid() == 0 and self.uid:
            more = {"user": self.uid, "group": self.uid, "extra_groups": []} | more
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home), "XDG_STATE_HOME": f"{self.home}/state"}
        more.setdefault("env", env)
        child = subprocess.Popen(argv, cwd=self.home, start_new_session=True, **more)
        self.spawned.append(child)
        return child

    def raw(self, request: dict, interpreter: str | None = None, data: bytes | None = None) -> bytes:
        """What the host writes for a request, over a shell as with ssh."""
        pipe = subprocess.PIPE
        words = [*self.prefix, "/bin/sh", "-c", _wire.command(interpreter)]
        child = self.popen(words, stdin=pipe, stdout=pipe, stderr=pipe)
        out, err = child.communicate(data or _wire.payload(request, SOURCES), timeout=60)
        self.stderr = err.decode()
        return out

    def ask(self, mode: str = "observe", **more: t.Any) -> dict:
        interpreter = more.pop("interpreter", None)
        request = self.request(mode, **more)
        return _wire.parse(self.raw(request, interpreter), request["nonce"])

    def apply(self, *actions: dict, **more: t.Any) -> dict:
        """An observation that takes the fence, then an apply, as a pass does."""
        seen = self.ask(components=more.get("components", {}))
        assert seen["answered"], seen
        return self.ask("apply", actions=list(actions), expect={"boot_id": seen["boot_id"]}, **more)

    def action(self, *argv: str, component: str = "p/c", slot: int = 1, **more: t.Any) -> dict:
        token = more.pop("token", f"{self.number:x}-{secrets.token_hex(3)}")
        base = {"kind": "start", "host": self.name, "component": component, "slot": slot, "token": token}
        base |= {"hash": "0123456789ab", "argv": list(argv), "environment": {}, "secrets": {}, "cwd": str(self.home)}
        base |= {"user": None, "log": {"path": None, "max_bytes": 1000, "keep": 2}, "settle": 0.3, "grace": 5}
        return base | {"reason": "test"} | more

    def stop(self, one: dict, **more: t.Any) -> dict:
        """The action that stops a row of an observation."""
        keys = ("component", "slot", "token", "pid", "start")
        return {"kind": "stop", "host": self.name, "reason": "test"} | {k: one[k] for k in keys} | more

    def script(self, name: str, text: str) -> str:
        path = self.home / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def marked(self) -> list[int]:
        """Pids of live processes with this host's marker, read here, not by the agent."""
        mark, found = f"SCIOPS_SITES={self.site} ".encode(), []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                # the last thread: the first one of a program may have ended
                if entry.name.isdigit():
                    thread = max((entry / "task").iterdir(), key=lambda path: int(path.name), default=None)
                    if thread is None:  # it ended between the two looks
                        continue
                    if mark in (thread / "environ").read_bytes():
                        found.append(int(entry.name))
        return sorted(found)

    def close(self) -> None:
        for _try in range(20):
            left = self.marked()
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if not left:
                break
            time.sleep(0.05)
        for child in self.spawned:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe:
                    pipe.close()


@pytest.fixture
def host() -> t.Iterator[Host]:
    home = Path(tempfile.mkdtemp(prefix="sciops-agent-"))
    uid = NOBODY if os.geteuid() == 0 else os.geteuid()
    os.chown(home, uid, -1)
    one = Host(home, uid)
    yield one
    one.close()
    shutil.rmtree(home)


@pytest.fixture
def wait() -> t.Callable:
    """Wait until something is true; fails the test when it never is."""

    def until(what: t.Callable[[], t.Any], seconds: float = 10) -> t.Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = what()
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError("it did not come true in time")

    return until


def fill(path: Path) -> None:
    """Write a file until its disk has no room for one more block."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
