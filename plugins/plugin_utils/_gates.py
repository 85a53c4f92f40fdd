# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates: a reading from outside decides whether anything may be started. What cannot be read is a closed gate.

evaluate() is pure; read() and check() fetch the reading with a command, from a URL or from a file.
A reading is JSON {"used": size, "quota": size, "time": unix seconds or ISO time}. A gate without a `fraction` opens
when its command ends with status 0, its URL answers 2xx, or its file exists.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import json
import math
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

ANSWER_BYTES = 65536
FUTURE = 300.0
"""Seconds by which a reading's clock may be ahead of ours."""
_UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|[KMGTP]i)B?", re.ASCII)


class Unread(Exception):
    """There is no reading, or none that can be understood; the message says why."""


def parse_size(value: Any) -> Fraction:
    """Return a size in bytes: a number, or text such as "85", "1.5Ti", "10 GiB". Raises Unread for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return Fraction(value)
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise Unread(f"{value!r} is not a size (a number, alone or with Ki, Mi, Gi, Ti or Pi)")
    return Fraction(match[1]) * _UNITS[match[2]]


def evaluate(reading: Any, fraction: float | None, max_age: float | None, now: float) -> tuple[bool, str]:
    """Say whether a gate is open at unix time `now`, and why in words.

    Closed where used > fraction * quota, where the reading is older than `max_age` seconds (None: any age will do), and
    where it is missing or cannot be understood. With `fraction` None any reading opens.
    """
    if reading is None:
        return False, "no reading"
    if fraction is None:
        return True, "open"
    try:
        if not isinstance(reading, Mapping):
            raise Unread(f"{_short(reading)} is not a mapping with used, quota and time")
        for key in ("used", "quota", *(() if max_age is None else ("time",))):
            if reading.get(key) is None:
                raise Unread(f"the reading has no {key}")
        used, quota = parse_size(reading["used"]), parse_size(reading["quota"])
        if quota <= 0:
            raise Unread("the quota is 0")
        if max_age is not None:
            age = now - _moment(reading["time"])
            if age > max_age:
                raise Unread(f"the reading is {_span(age)} old, more than {_span(max_age)}")
            if age < -FUTURE:
                raise Unread(f"the reading is {_span(-age)} in the future")
    except Unread as error:
        return False, str(error)
    text = f"{reading['used']} of {reading['quota']} used, limit {float(fraction):.4g} of it"
    # As decimals: 0.85 of 20 is 17, not a little less.
    return used <= Fraction(str(fraction)) * quota, text


def read(gate: Mapping[str, Any], timeout: float = 10.0) -> Any:
    """Fetch the reading of one gate. Raises Unread with the reason. `timeout` is wall-clock seconds."""
    kinds = [key for key in ("command", "url", "file") if gate.get(key)]
    if len(kinds) != 1:
        raise Unread("a gate needs one of command, url, file")
    fetch = {"command": _command, "url": _url, "file": _file}[kinds[0]]
    text = fetch(gate[kinds[0]], timeout)
    if gate.get("fraction") is None:
        return {}
    try:
        return json.loads(text)
    except ValueError as error:
        raise Unread(f"the reading is not JSON ({error}): {_short(text)}") from error


def check(gates: Mapping[str, Mapping[str, Any]], now: float, timeout: float = 10.0) -> dict[str, dict[str, Any]]:
    """Read all gates side by side; return {name: {"open": bool, "reason": words}} within about `timeout` seconds."""
    if not gates:
        return {}
    if any(gate.get("url") for gate in gates.values()):
        import ansible.module_utils.urls  # noqa: F401 - takes a second at first, which is none of the server's time
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=min(len(gates), 16))
    pending = {name: pool.submit(read, gate, timeout) for name, gate in sorted(gates.items())}
    deadline = time.monotonic() + timeout + 1.0
    result: dict[str, dict[str, Any]] = {}
    for name, future in pending.items():
        gate = gates[name]
        try:
            reading = future.result(max(0.0, deadline - time.monotonic()))
            opened, reason = evaluate(reading, gate.get("fraction"), gate.get("max_age"), now)
        except Unread as error:
            opened, reason = False, str(error)
        except concurrent.futures.TimeoutError:
            opened, reason = False, f"no reading within {timeout:g} s"
        result[name] = {"open": opened, "reason": reason}
    pool.shutdown(wait=False, cancel_futures=True)
    return result


def _command(argv: Any, timeout: float) -> bytes:
    """Run a command without a shell, in its own process group, which is killed at the end of the time."""
    if not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
        raise Unread(f"command: {argv!r}: must be a list of words")
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise Unread(f"{argv[0]}: cannot be run: {error}") from error
    deadline = time.monotonic() + timeout
    try:
        text = _collect(child, deadline)
        status = child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise Unread(f"{argv[0]}: no answer within {timeout:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if child.stdout:
            child.stdout.close()
    if status != 0:
        raise Unread(f"{argv[0]}: ended with status {status}")
    return text


def _collect(child: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Read what the child writes until it closes its output, up to ANSWER_BYTES; the rest is left unread."""
    if child.stdout is None:
        return b""
    text = b""
    with selectors.DefaultSelector() as waiting:
        waiting.register(child.stdout, selectors.EVENT_READ)
        while len(text) <= ANSWER_BYTES:
            left = deadline - time.monotonic()
            # A child that ended and left its output open in the background has said what it had to say.
            if not waiting.select(max(0.0, min(left, 0.2))):
                if child.poll() is not None:
                    return text
                if left <= 0:
                    raise subprocess.TimeoutExpired(child.args, 0)
                continue
            part = os.read(child.stdout.fileno(), ANSWER_BYTES)
            if not part:
                return text
            text += part
    raise Unread(f"the answer is longer than {ANSWER_BYTES} bytes")


def _url(url: str, timeout: float) -> bytes:
    from ansible.module_utils.urls import open_url

    try:
        with open_url(url, timeout=timeout, http_agent="sciops.sites") as answer:
            text: bytes = answer.read(ANSWER_BYTES + 1)
    except Exception as error:
        raise Unread(f"{url}: {error}") from error
    return _bounded(text)


def _file(path: str, _timeout: float) -> bytes:
    try:
        with Path(path).expanduser().open("rb") as file:
            return _bounded(file.read(ANSWER_BYTES + 1))
    except OSError as error:
        raise Unread(f"{path}: {error.strerror}") from error


def _bounded(text: bytes) -> bytes:
    if len(text) > ANSWER_BYTES:
        raise Unread(f"the answer is longer than {ANSWER_BYTES} bytes")
    return text


def _moment(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    try:
        moment = datetime.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", str(value)))
    except ValueError:
        raise Unread(f"time: {value!r} is neither unix seconds nor an ISO time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _short(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
