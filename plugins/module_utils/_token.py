# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""A named lock with an owner, an expiry and a fencing number that only grows.

One file for each token, `NAME.json`, changed under flock of `NAME.lock` and replaced as a whole. The file stays when
the token is free, since it holds the number. Whoever writes to the target under the token sends the number along, and
the target refuses one that is lower than what it has seen: that is what keeps an owner out whose token expired while it
slept.
"""

from __future__ import absolute_import, annotations, division, print_function

import contextlib
import fcntl
import json
import os
import re
import tempfile
import time
from typing import Any, Dict, Iterator, Optional, Tuple

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")


class TokenError(Exception):
    """The token cannot be used; the message names the file, what is wrong and what to do."""


def default_folder() -> str:
    """Return the folder of tokens of this login: below /var/lib for root, else below its state folder."""
    if os.geteuid() == 0:
        return "/var/lib/sciops.sites/tokens"
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "sciops.sites", "tokens")


def clocks() -> Dict[str, Any]:
    """Return this machine's boot id, seconds since boot and unix seconds."""
    boot_id = ""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return {"boot_id": boot_id, "boottime": time.clock_gettime(clock), "wall": time.time()}


def elapsed(since: Dict[str, Any], now: Dict[str, Any]) -> float:
    """Return the seconds between two readings of clocks(); within one boot the wall clock does not count."""
    if since["boot_id"] and since["boot_id"] == now["boot_id"]:
        return max(float(now["boottime"]) - float(since["boottime"]), 0.0)
    return max(float(now["wall"]) - float(since["wall"]), 0.0)


def view(record: Dict[str, Any], now: Dict[str, Any]) -> Dict[str, Any]:
    """Return what a record says at `now`: held, owner, number, age, ttl and expires_in (seconds), expired."""
    result = {
        "name": record["name"],
        "held": False,
        "owner": None,
        "number": record["number"],
        "age": None,
        "ttl": None,
        "expires_in": None,
        "expired": False,
    }  # type: Dict[str, Any]
    if record["owner"] is None:
        return result
    ttl = record["ttl"]
    left = None if ttl is None else ttl - elapsed(record["renewed"], now)
    result["age"] = round(elapsed(record["since"], now), 3)
    result["owner"] = record["owner"]
    result["ttl"] = ttl
    if left is not None and left <= 0:
        result["expired"] = True
        return result
    result["held"] = True
    result["expires_in"] = None if left is None else round(left, 3)
    return result


def take(
    record: Dict[str, Any], owner: str, ttl: Optional[float], now: Dict[str, Any], renew: bool = True
) -> Tuple[bool, Dict[str, Any]]:
    """Return whether `owner` has the token, and the record as it should be.

    A free or expired token goes to `owner` with the next number. Who has it already keeps number and `since`; its time
    starts again unless `renew` is false.
    """
    seen = view(record, now)
    if seen["held"] and seen["owner"] != owner:
        return False, record
    if seen["held"]:
        if not renew and record["ttl"] == ttl:
            return True, record
        return True, dict(record, ttl=ttl, renewed=now)
    return True, dict(record, owner=owner, number=record["number"] + 1, ttl=ttl, since=now, renewed=now)


def give(record: Dict[str, Any], owner: str, now: Dict[str, Any]) -> Tuple[bool, Dict[str, Any]]:
    """Return whether `owner` does not have the token any more, and the record as it should be. Another's stays his."""
    seen = view(record, now)
    if seen["held"] and seen["owner"] != owner:
        return False, record
    if record["owner"] is None:
        return True, record
    return True, dict(record, owner=None, ttl=None, since=None, renewed=None)


class Token:
    """The token `name` in `folder` (created, mode 0700, when it is first written)."""

    def __init__(self, name: str, folder: Optional[str] = None) -> None:
        if not NAME.match(name):
            raise TokenError("name: %r: use letters, digits, _ . and -, at most 100, not beginning with . or -" % name)
        self.name = name
        self.folder = folder or default_folder()
        self.file = os.path.join(self.folder, name + ".json")

    def read(self) -> Dict[str, Any]:
        """Return the record; one that was never taken has number 0. A damaged file is an error, never a free token."""
        try:
            with open(self.file, encoding="utf-8") as file:
                record = json.load(file)  # type: Dict[str, Any]
            good = (
                isinstance(record, dict)
                and record.get("name") == self.name
                and isinstance(record["number"], int)
                and (record["owner"] is None or (isinstance(record["owner"], str) and _reading(record["since"])))
                and (record["owner"] is None or _reading(record["renewed"]))
                and (record["ttl"] is None or isinstance(record["ttl"], (int, float)))
            )
        except FileNotFoundError:
            return {"name": self.name, "owner": None, "number": 0, "ttl": None, "since": None, "renewed": None}
        except OSError as error:
            raise TokenError("%s: cannot be read: %s" % (self.file, error.strerror))
        except (ValueError, KeyError):
            good = False
        if not good:
            raise TokenError(
                "%s: is damaged, so nobody gets this token; find out who has it, then write a good file with a higher "
                "number or remove it where no target checks numbers" % self.file
            )
        return record

    @contextlib.contextmanager
    def changing(self) -> Iterator[Dict[str, Any]]:
        """Yield the record while nobody else can change it."""
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            handle = os.open(
                os.path.join(self.folder, self.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise TokenError("%s: cannot be written: %s" % (self.folder, error.strerror))
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield self.read()
        finally:
            os.close(handle)

    def write(self, record: Dict[str, Any]) -> None:
        """Put a record in the place of the old one, whole; call it inside changing()."""
        temporary = None
        try:
            handle, temporary = tempfile.mkstemp(prefix="." + self.name + ".", dir=self.folder)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(record, file, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.file)
            temporary = None
        except OSError as error:
            raise TokenError("%s: cannot be written: %s" % (self.file, error.strerror))
        finally:
            if temporary is not None:
                os.unlink(temporary)

    def acquire(self, owner: str, ttl: Optional[float] = None, renew: bool = True) -> Tuple[bool, Dict[str, Any]]:
        """Take the token for `owner`; `ttl` is seconds, None for ever. Returns whether it is his, and its view()."""
        with self.changing() as record:
            now = clocks()
            mine, after = take(record, owner, ttl, now, renew)
            if after != record:
                self.write(after)
            return mine, view(after, now)

    def release(self, owner: str) -> Tuple[bool, Dict[str, Any]]:
        """Give the token back. Returns False, with its view(), where it is somebody else's."""
        with self.changing() as record:
            now = clocks()
            done, after = give(record, owner, now)
            if after != record:
                self.write(after)
            return done, view(after, now)


def _reading(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and "boot_id" in value
        and all(isinstance(value.get(key), (int, float)) for key in ("boottime", "wall"))
    )
