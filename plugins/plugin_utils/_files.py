# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or not there at all, and one kind of error for all that goes wrong with them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import tempfile
from pathlib import Path
from typing import Any

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
HALT_BYTES = 64 * 1024


class StoreError(Exception):
    """The state cannot be used: the message names the file, what is wrong with it and what to do."""


def write_json(path: Path, data: Any) -> None:
    """Put `data` at `path` as JSON so that a reader sees the old file or the new one whole, also after a power cut.

    Raises StoreError where it could not be written; the old file is then untouched.
    """
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` atomically, mode 0600; see write_json()."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = ""
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def append_line(path: Path, line: bytes) -> None:
    """Add `line` and a line end to the file in one write, safe on disk when this returns. Raises StoreError."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            end = os.lseek(handle, 0, os.SEEK_END)
            # A line that a power cut left unfinished must not swallow this one.
            torn = end > 0 and os.pread(handle, 1, end - 1) != b"\n"
            data = (b"\n" if torn else b"") + line + b"\n"
            if os.write(handle, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise unwritable(path, error) from error


def fill(path: Path, size: int) -> None:
    """Make sure that `path` takes at least `size` bytes of the disk; else raise StoreError and leave no file."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(handle).st_blocks * 512 < size:
                os.ftruncate(handle, 0)
                # Random bytes: a file system that compresses or makes holes would promise space it does not have.
                block = os.urandom(65536)
                for _part in range(0, size, len(block)):
                    os.write(handle, block)
                os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise unwritable(path, error) from error


def rotate(path: Path, keep: int) -> None:
    """Put `path` aside as path.1, path.1 as path.2 and so on; the oldest of `keep` is lost."""
    for index in range(keep, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}.{index - 1}").replace(path.with_name(f"{path.name}.{index}"))
    path.replace(path.with_name(f"{path.name}.1"))


def read_halt(path: Path) -> dict[str, Any] | None:
    """Return who set the kill switch at `path`, why and since when; None only where it is surely not there."""
    try:
        info = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return {"by": "unknown", "reason": f"{path} cannot be looked for: {error.strerror}", "since": None}
    try:
        owner = pwd.getpwuid(info.st_uid).pw_name
    except KeyError:
        owner = str(info.st_uid)
    found = {"by": owner, "reason": f"{path} exists", "since": info.st_mtime}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(HALT_BYTES).strip()
    except OSError as error:
        return {**found, "reason": f"{path} cannot be read: {error.strerror}"}
    try:
        said = json.loads(text)
        if isinstance(said, dict):
            return {**found, **{key: said[key] for key in ("by", "reason", "since") if said.get(key)}}
    except ValueError:
        pass
    return {**found, "reason": text} if text else found


def sync_folder(folder: Path) -> None:
    """Have renames and new names in `folder` survive a power cut."""
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error to raise where `path` could not be written."""
    hint = "free space there" if error.errno in NO_SPACE else "the login must own it"
    return StoreError(f"{path}: cannot be written: {error.strerror or error}; {hint}, or set SCIOPS_SITES_STATE_DIR")


def unreadable(path: Path, error: Exception) -> StoreError:
    """Return the error to raise where `path` could not be read."""
    return StoreError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}; the login must own it")
