# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state folder of one site and deployment on the controller; nothing else reads or writes there.

    lock            held with flock during a pass; its text names the holder
    memory.json     what is remembered between passes, with the clock it is told by
    holds.json      holds and drains that people set
    HALT            kill switch: while it is there no pass acts
    history.jsonl   one line for each pass, and for each hold set or taken away
    report.json     the last pass
    reserve         ballast: space that is given up when the disk is full, so that a pass can still remember

The folder has mode 0700, files 0600. A file that cannot be understood is an error, never an empty state.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pwd
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _clock
from ansible_collections.sciops.sites.plugins.plugin_utils._files import (
    NO_SPACE,
    StoreError,
    append_line,
    fill,
    read_halt,
    rotate,
    sync_folder,
    unreadable,
    unwritable,
    write_json,
    write_text,
)

HISTORY_BYTES = 10 * 1024 * 1024
HISTORY_KEEP = 5
RESERVE_BYTES = 1024 * 1024
HALT_BYTES = 64 * 1024

_ADVICE = {
    "memory.json": "memory.json.previous is the state one pass earlier; without any, instances on hosts that do not "
    "answer are forgotten, so do it when all hosts answer",
    "holds.json": "without it no hold that people set is in force",
    "report.json": "the next pass writes a new one",
}


OUTCOMES = {"unchanged": 0, "changed": 10, "busy": 75, "halted": 40, "not_converged": 20, "unsafe": 30, "error": 1}
"""Outcome of a pass and its exit code, from best to worst."""


class Busy(StoreError):
    """Another process holds the lock. `holder` is its text ({} where it cannot be known), `age` seconds or None."""

    def __init__(self, folder: Path, holder: Mapping[str, Any], age: float | None) -> None:
        self.holder = dict(holder)
        self.age = age
        who = "a process that has not written its name"
        if holder:
            who = "{pass} by {user} on {host}, pid {pid}".format(
                **{key: holder.get(key, "?") for key in ("pass", "user", "host", "pid")}
            )
        since = "" if age is None else f", for {int(age)} s"
        super().__init__(f"{folder / 'lock'}: busy: {who}{since}")


def worst(outcomes: list[str]) -> str:
    """Return the worst of some outcomes ("unchanged" of none); a word that is not one of OUTCOMES counts as error."""
    order = list(OUTCOMES)
    return max((one if one in OUTCOMES else "error" for one in outcomes), key=order.index, default="unchanged")


def default_root(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder that holds the state of all sites, as the environment says."""
    env = os.environ if environ is None else environ
    if env.get("SCIOPS_SITES_STATE_DIR"):
        return Path(env["SCIOPS_SITES_STATE_DIR"]).expanduser().absolute()
    base = env.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "sciops.sites"


def sample() -> dict[str, Any]:
    """Read the controller's clocks: boot id, seconds since boot (suspend included), unix seconds."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot_id = "unknown"
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return {"boot_id": boot_id, "boottime": time.clock_gettime(clock), "wall": time.time()}


class Store:
    """State of `site` and `deployment` below `root`. Creates nothing before the first write or lock.

    `clock` returns a sample of the clocks; it is a parameter so that a jump can be tried.
    """

    def __init__(
        self, root: os.PathLike[str] | str, site: str, deployment: str, clock: Callable[[], dict[str, Any]] = sample
    ) -> None:
        for what, word in (("site", site), ("deployment", deployment)):
            # A dot would let two sites share one folder: a.b + c and a + b.c.
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", word):
                raise StoreError(f"{what}: {word!r}: use letters, digits, _ and - only, it names a folder")
        self.root = Path(root)
        self.site = site
        self.deployment = deployment
        self.folder = self.root / f"{site}.{deployment}"
        self._sample = clock
        self._clock: dict[str, Any] | None = None

    # The lock ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, purpose: str) -> Iterator[dict[str, Any]]:
        """Hold the lock of this site and deployment; yields the holder's text. Raises Busy at once when it is taken.

        The kernel keeps the lock and drops it when the process ends in whatever way; the text only tells who it is.
        """
        self._make_folder()
        path = self.folder / "lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            self._take(handle)
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "user": login(), "pass": purpose}
            holder.update(self._sample())
            holder["since"] = holder["wall"]
            _overwrite(handle, json.dumps(holder, sort_keys=True))
            try:
                yield holder
            finally:
                _overwrite(handle, "")
                fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)

    def holder(self) -> dict[str, Any] | None:
        """Return who holds the lock now, with its `age` in seconds, or None. Does not take the lock from anybody."""
        path = self.folder / "lock"
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            # A shared lock of a moment; /proc/locks would not know of another machine.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            busy = self._busy()
            return {**busy.holder, "age": busy.age}
        finally:
            os.close(handle)
        return None

    def _take(self, handle: int) -> None:
        for last in (False, True):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    message = f"cannot be locked: {error.strerror}; use a file system that knows locks"
                    raise StoreError(f"{self.folder / 'lock'}: {message}") from error
            busy = self._busy()
            # Nameless: who looks at the lock with holder() has it for a moment.
            if busy.holder or last:
                raise busy

    def _busy(self) -> Busy:
        text: dict[str, Any] = {}
        # The new holder writes its name a moment after it has the lock: what a killed one left may still stand there.
        for _attempt in range(20):
            try:
                said = json.loads((self.folder / "lock").read_text(encoding="utf-8"))
                text = said if isinstance(said, dict) else {}
                if text.get("host") != socket.gethostname() or Path(f"/proc/{int(text['pid'])}").exists():
                    break
            except (OSError, ValueError, KeyError, TypeError):
                text = {}
            time.sleep(0.01)
        return Busy(self.folder, text, _clock.age(text, self._sample()) if text else None)

    # Before anything is touched ------------------------------------------------------------------------------------

    def reserve(self, size: int = 0) -> None:
        """Make sure that a pass can remember what it does; raise StoreError when it could not.

        Keeps `size` bytes (default: 1 MiB and twice the memory) as ballast, given up when a later write finds no space.
        """
        self._make_folder()
        fill(self.folder / "reserve", size if size > 0 else RESERVE_BYTES + 2 * _size(self.folder / "memory.json"))
        probe = self.folder / ".probe"
        write_text(probe, "")
        probe.unlink()

    def _write(self, action: Callable[[], None]) -> None:
        """Do a write; when there is no space, give up the ballast and do it once more."""
        self._make_folder()
        try:
            action()
        except StoreError as error:
            cause = error.__cause__
            if not (isinstance(cause, OSError) and cause.errno in NO_SPACE):
                raise
            with contextlib.suppress(OSError):
                (self.folder / "reserve").unlink()
            action()

    # Memory and time -----------------------------------------------------------------------------------------------

    def load_memory(self) -> dict[str, Any]:
        """Return the memory of the passes before, {} at the first one.

        Raises StoreError where the file is there and cannot be understood: an empty memory would be a guess, and
        instances on hosts that do not answer would be started a second time.
        """
        document = self._load("memory.json", "the memory of earlier passes")
        if document is None:
            return {}
        memory, clock = document.get("memory"), document.get("clock")
        if not isinstance(memory, dict) or not _is_clock(clock):
            raise self._damaged("memory.json", "has no memory or no clock")
        self._clock = clock
        return memory

    def save_memory(self, memory: Mapping[str, Any]) -> None:
        """Keep `memory` and the clock it is told by. The one before stays as memory.json.previous."""
        if self._clock is None:
            self.load_memory()
        self._clock = _clock.advance(self._clock, self._sample())
        document = {"version": 1, "clock": self._clock, "memory": memory}
        path = self.folder / "memory.json"

        def action() -> None:
            with contextlib.suppress(OSError):
                previous = path.with_name("memory.json.previous")
                spare = path.with_name(".memory.json.previous")
                spare.unlink(missing_ok=True)
                os.link(path, spare)
                spare.replace(previous)
            write_json(path, document)

        self._write(action)

    def now(self) -> float:
        """Return the present point of the steady timeline, in seconds; see _clock."""
        if self._clock is None:
            self.load_memory()
        reading = self._sample()
        if self._clock is None:
            self._clock = _clock.advance(None, reading)
        return _clock.steady(self._clock, reading)

    # What people set -------------------------------------------------------------------------------------------------

    def load_holds(self) -> list[dict[str, Any]]:
        """Return the recorded holds; StoreError where they cannot be read, since a hold unread is not a hold lifted."""
        document = self._load("holds.json", "the holds that people set")
        if document is None:
            return []
        holds = document.get("holds")
        if not isinstance(holds, list) or not all(isinstance(one, dict) and "scope" in one for one in holds):
            raise self._damaged("holds.json", "has no list of holds")
        return holds

    @contextlib.contextmanager
    def changing_holds(self, timeout: float = 10.0) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
        """Hold the small lock of holds.json (not the pass lock); yields the function that keeps a new list."""
        self._make_folder()
        path = self.folder / "holds.lock"
        deadline = time.monotonic() + timeout
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise StoreError(
                            f"{path}: somebody else changes holds for {timeout:.0f} s; try again"
                        ) from error
                    time.sleep(0.05)
            path = self.folder / "holds.json"
            yield lambda holds: self._write(lambda: write_json(path, {"version": 1, "holds": holds}))
        finally:
            os.close(handle)

    def halted(self) -> dict[str, Any] | None:
        """Return {"by", "reason", "since"} where the kill switch of this site or of all (in the root) is set.

        Any file called HALT counts, whatever its text; so does one that cannot be read or looked for.
        """
        for path in (self.folder / "HALT", self.root / "HALT"):
            found = read_halt(path)
            if found is not None:
                return found
        return None

    def set_halt(self, by: str, reason: str) -> None:
        """Set the kill switch of this site and deployment."""
        text = {"by": by, "reason": reason, "since": self._sample()["wall"]}
        self._write(lambda: write_json(self.folder / "HALT", text))

    def clear_halt(self) -> None:
        """Take the kill switch of this site and deployment away; one for all sites (in the root) stays."""
        try:
            (self.folder / "HALT").unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise unwritable(self.folder / "HALT", error) from error
        sync_folder(self.folder)

    # What a pass leaves ----------------------------------------------------------------------------------------------

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Keep the report of the last pass."""
        self._write(lambda: write_json(self.folder / "report.json", report))

    def read_report(self) -> dict[str, Any] | None:
        """Return the report of the last pass, or None where there was none."""
        return self._load("report.json", "the report of the last pass")

    def append_history(
        self, entry: Mapping[str, Any], max_bytes: int = HISTORY_BYTES, keep: int = HISTORY_KEEP
    ) -> None:
        """Add one line to the history. A file over `max_bytes` is put aside first; `keep` such are kept."""
        path = self.folder / "history.jsonl"
        line = json.dumps(entry, sort_keys=True, ensure_ascii=False, allow_nan=False).encode("utf-8")

        def action() -> None:
            if _size(path) > max_bytes:
                rotate(path, keep)
            append_line(path, line)

        self._write(action)

    def read_history(self, last: int = 20) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the last entries, oldest first, and in words which lines could not be read."""
        entries: list[dict[str, Any]] = []
        problems: list[str] = []
        path = self.folder / "history.jsonl"
        older = [path.with_name(f"history.jsonl.{index}") for index in range(1, HISTORY_KEEP + 1)]
        for file in [path, *older]:
            try:
                lines = file.read_bytes().split(b"\n")
            except FileNotFoundError:
                break
            except OSError as error:
                problems.append(str(unreadable(file, error)))
                break
            for number, line in reversed(list(enumerate(lines, 1))):
                if len(entries) >= last:
                    break
                if not line.strip():
                    continue
                try:
                    entry = json.loads(line)
                    if not isinstance(entry, dict):
                        raise ValueError("not a mapping")
                    entries.append(entry)
                except ValueError:
                    problems.append(f"{file}:{number}: not a whole line, left out ({len(line)} bytes)")
            if len(entries) >= last:
                break
        return entries[::-1], problems

    # ------------------------------------------------------------------------------------------------------------------

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.folder.stat().st_mode & 0o002:
                raise StoreError(f"{self.folder}: anybody may write there; chmod 700 it and look at what is in it")
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def _load(self, name: str, what: str) -> dict[str, Any] | None:
        path = self.folder / name
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(path, error) from error
        try:
            document = json.loads(text)
        except ValueError as error:
            raise self._damaged(name, f"is cut off or damaged ({error})" if text.strip() else "is empty") from error
        if not isinstance(document, dict) or document.get("version", 1) != 1:
            found = document.get("version") if isinstance(document, dict) else type(document).__name__
            raise self._damaged(name, f"does not hold {what} in version 1 (found {found!r})")
        return document

    def _damaged(self, name: str, what: str) -> StoreError:
        advice = f"look at it, then put a good copy in its place or move it away: {_ADVICE.get(name, '')}"
        return StoreError(f"{self.folder / name}: {what}. Nothing was touched; {advice}")


def login() -> str:
    """Return the name of the login that runs this process."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _overwrite(handle: int, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk must not stop a lock that is held
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode("utf-8"), 0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_clock(clock: Any) -> bool:
    numbers = ("steady", "boottime", "wall")
    return (
        isinstance(clock, dict)
        and "boot_id" in clock
        and all(isinstance(clock.get(key), (int, float)) for key in numbers)
    )
