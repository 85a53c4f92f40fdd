# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Small files that a module keeps: read whole, replaced whole, never wider than they end up.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import contextlib
import errno
import os
import stat
import tempfile


class Misplaced(Exception):
    """A file cannot be read or written; the text names it and says why."""


def read(path):
    """The text of a file, None where there is none."""
    try:
        with open(path, "rb") as handle:
            return handle.read().decode("utf-8", "surrogateescape")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise Misplaced("%s: cannot be read: %s" % (path, error.strerror))


def fits(path, mode, owner=None):
    """Whether a file has this mode and, where one is given, this owner (uid, gid)."""
    try:
        seen = os.lstat(path)
    except OSError:
        return False
    return stat.S_IMODE(seen.st_mode) == mode and owner in (None, (seen.st_uid, seen.st_gid))


def write(path, text, mode, owner=None, lasting=False):
    """Put a file of this text, mode and owner in the place of the old one, at once.

    One that is `lasting` is there after a power cut too; of another the old one may be.
    """
    folder, temporary = os.path.dirname(path), None
    try:
        # mkstemp makes it 0600; no pattern of others takes a name that begins with a dot
        handle, temporary = tempfile.mkstemp(prefix=".sciops.", suffix=".tmp", dir=folder)
        with os.fdopen(handle, "wb") as file:
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(handle, owner[0], owner[1])
            os.fchmod(handle, mode)
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(handle)
        os.rename(temporary, path)
        temporary = None
        if lasting:
            sync(folder)
    except OSError as error:
        raise Misplaced("%s: cannot be written: %s" % (path, error.strerror))
    finally:
        if temporary is not None:
            os.unlink(temporary)


def sync(folder):
    """Have the names in a folder on the disk, as far as its file system does that: they are as they are by now."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def folder(path, mode, owner=None):
    """Make a folder, and those above it that are missing, with this mode and owner.

    One that is there stays as is, also where another process made it since it was looked for.
    """
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for one in reversed(missing):
        try:
            os.mkdir(one, 0o700)
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.chown(one, owner[0], owner[1])
            os.chmod(one, mode)
        except OSError as error:
            if error.errno != errno.EEXIST or not os.path.isdir(one):
                raise Misplaced("%s: cannot be made: %s" % (one, error.strerror))


def drop(path):
    """Remove a file; whether there was one."""
    try:
        os.unlink(path)
        return True
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise Misplaced("%s: cannot be removed: %s" % (path, error.strerror))
