# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one command with one input on many hosts side by side, each within its own wall-clock limit.

PRIVATE to the collection. Ansible's connection plugins block without an upper bound (`timeout` of the ssh plugin
covers only the connection set-up), so each exec runs in a thread of its own, every process such a thread starts is put
in a process group of its own and noted, and a watchdog kills the group when the limit is over.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
import typing as t
from dataclasses import dataclass

#: How long a killed exec may take to come back before its thread is given up, in seconds.
KILL_PATIENCE = 1.0


class Connection(t.Protocol):
    """What is used of an Ansible connection plugin, behind the glue in `_runtime`."""

    def run(self, payload: bytes) -> tuple[int, bytes, bytes]:
        """Run the connection's command with `payload` on standard input; return status, output and errors."""

    def drop(self) -> None:
        """End what the connection keeps open between runs, so that the next run does not meet a dead channel."""


@dataclass(frozen=True)
class Job:
    """One exec on one host; `connect` is called in the worker's thread: a slow set-up delays no other host."""

    host: str
    connect: t.Callable[[], Connection]
    payload: bytes
    #: Wall-clock limit in seconds, connection included.
    timeout: float


@dataclass(frozen=True)
class Outcome:
    """What came of a job: `kind` is empty for an answer, else `timeout`, `unreachable` or `skipped`."""

    host: str
    kind: str
    reason: str
    rc: int
    stdout: bytes
    stderr: bytes
    #: Seconds from the begin of the job.
    elapsed: float


class _Children:
    """Processes started by worker threads, by thread, so that the watchdog ends exactly those of a hanging job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[int, list[subprocess.Popen[bytes]]] = {}
        self._dead: set[int] = set()

    def watch(self, ident: int) -> None:
        """Note from now on what thread `ident` starts."""
        with self._lock:
            self._of[ident] = []
            self._dead.discard(ident)

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """Note a process of the calling thread, if that is watched; end it at once if the job is already over."""
        ident = threading.get_ident()
        with self._lock:
            self._of.get(ident, []).append(process)
            dead = ident in self._dead
        if dead:
            _kill_group(process)

    def watched(self) -> bool:
        """Whether the calling thread is a worker."""
        with self._lock:
            return threading.get_ident() in self._of

    def kill(self, ident: int) -> None:
        """Kill the process groups of what thread `ident` started and has not reaped, and of what it still starts."""
        with self._lock:
            self._dead.add(ident)
            processes = list(self._of.get(ident, []))
        for process in processes:
            _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _tracked(children: _Children) -> t.Iterator[None]:
    """In this block `subprocess.Popen` notes what worker threads start, and gives each its own process group.

    Connection plugins offer no handle on the process behind an exec. The task runs in a forked worker of its own, so
    the change is seen by nobody else, and it is undone at the end.
    """
    original = subprocess.Popen

    class TrackedPopen(original):  # type: ignore[misc,valid-type]
        def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
            if children.watched():
                kwargs["start_new_session"] = True
            super().__init__(*args, **kwargs)
            children.add(self)

    subprocess.Popen = TrackedPopen  # type: ignore[misc]
    try:
        yield
    finally:
        subprocess.Popen = original  # type: ignore[misc]


@dataclass
class _Running:
    job: Job
    began: float
    limit: float
    killed_at: float | None = None


class _Pool:
    """Worker threads and the table of what each is at. A worker whose job does not come back after the kill is
    replaced."""

    def __init__(self, jobs: t.Sequence[Job], children: _Children, deadline: float) -> None:
        self.todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            self.todo.put(job)
        self.children = children
        self.deadline = deadline
        self.done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.running: dict[int, _Running] = {}
        self.lock = threading.Lock()

    def spawn(self) -> None:
        """Add one worker."""
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        ident = threading.get_ident()
        while True:
            try:
                job = self.todo.get_nowait()
            except queue.Empty:
                return
            self.children.watch(ident)
            began = time.monotonic()
            entry = _Running(job, began, min(began + job.timeout, self.deadline))
            with self.lock:
                self.running[ident] = entry
            outcome = self._run(job, entry, began)
            with self.lock:
                if self.running.get(ident) is not entry:
                    return  # given up meanwhile; the watchdog has answered for this host and replaced this worker
                del self.running[ident]
            self.done.put(outcome)

    def _run(self, job: Job, entry: _Running, began: float) -> Outcome:
        connection: Connection | None = None
        if began >= self.deadline:
            return Outcome(job.host, "timeout", "the pass limit was over before this host's turn", -1, b"", b"", 0.0)
        try:
            connection = job.connect()
            rc, stdout, stderr = connection.run(job.payload)
        except Exception as exc:  # any plugin may raise anything; one host's fault never ends the pass
            kind, reason, rc, stdout, stderr = (
                "unreachable",
                failure_words(str(exc)) or type(exc).__name__,
                -1,
                b"",
                b"",
            )
        else:
            kind, reason = "", ""
        elapsed = time.monotonic() - began
        if entry.killed_at is not None:
            kind, reason = "timeout", timeout_words(job, elapsed, began + job.timeout > self.deadline)
            if connection is not None:
                # a persistent channel to a dead host would make every later pass wait as long
                self.children.watch(threading.get_ident())
                with contextlib.suppress(Exception):
                    connection.drop()
        return Outcome(job.host, kind, reason, rc, stdout, stderr, elapsed)


def timeout_words(job: Job, elapsed: float, by_pass: bool) -> str:
    """Say which limit was over."""
    if by_pass and elapsed < job.timeout:
        return f"no answer within {elapsed:.0f} s, then the pass limit was over"
    return f"no answer within {job.timeout:g} s"


def failure_words(text: str) -> str:
    """Return the line of a failure that says why: ssh's own last word, without what `-v` makes it print."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("debug")]
    own = [line for line in lines if "ssh: " in line and not line.endswith(":")]
    chosen = (own or lines or [""])[-1]
    return chosen[max(0, chosen.rfind("ssh: ")) :][:300] if own else chosen[:300]


def fan_out(jobs: t.Sequence[Job], width: int, limit: float) -> dict[str, Outcome]:
    """Run all jobs, `width` at a time, and return an outcome for every host within `limit` seconds (plus the kill
    patience).

    Nothing is raised for a host: an exec that fails, hangs or cannot begin is an outcome with a reason.
    """
    if not jobs:
        return {}
    outcomes: dict[str, Outcome] = {}
    children = _Children()
    pool = _Pool(jobs, children, time.monotonic() + limit)
    with _tracked(children):
        for _index in range(max(1, min(width, len(jobs)))):
            pool.spawn()
        while len(outcomes) < len(jobs):
            try:
                finished = [pool.done.get(timeout=_next_event(pool))]
            except queue.Empty:
                finished = _overdue(pool)
            for outcome in finished:
                outcomes.setdefault(outcome.host, outcome)
    return outcomes


def _next_event(pool: _Pool) -> float:
    """Seconds until the next limit of a running job, at most one."""
    now = time.monotonic()
    with pool.lock:
        events = [
            entry.limit if entry.killed_at is None else entry.killed_at + KILL_PATIENCE
            for entry in pool.running.values()
        ]
    return max(0.01, min([event - now for event in events] + [1.0]))


def _overdue(pool: _Pool) -> list[Outcome]:
    """Kill what is over its limit; give up workers that a kill did not bring back, and answer for their hosts."""
    now = time.monotonic()
    given_up: list[Outcome] = []
    with pool.lock:
        for ident, entry in list(pool.running.items()):
            if entry.killed_at is None and now >= entry.limit:
                entry.killed_at = now
                pool.children.kill(ident)
            elif entry.killed_at is not None and now >= entry.killed_at + KILL_PATIENCE:
                del pool.running[ident]
                pool.children.kill(ident)
                elapsed = now - entry.began
                reason = timeout_words(entry.job, elapsed, entry.began + entry.job.timeout > pool.deadline)
                given_up.append(Outcome(entry.job.host, "timeout", reason, -1, b"", b"", elapsed))
                pool.spawn()
    return given_up
