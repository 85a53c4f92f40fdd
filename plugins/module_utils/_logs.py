# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The log files of instances on a host: where they are, how they begin, rotate and end.

Note that this module util is **PRIVATE** to the collection.

Files that belong to another user are touched with that user's rights only, so that a link in a folder of theirs leads
nowhere they could not go themselves. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import contextlib
import errno
import fcntl
import os
import pwd
import re
import stat

MAX_BYTES = 104857600
KEEP = 5
TAIL_LINES = 20
TAIL_BYTES = 65536
WIDEST = 500
EPOCH = re.compile(r"(?<!\d)\d{9,11}(?!\d)")


def account(name):
    """The password entry of a user, of the own one where none is named. Raises OSError where there is no such user."""
    try:
        return pwd.getpwnam(name) if name else pwd.getpwuid(os.geteuid())
    except KeyError:
        if name:
            raise OSError(errno.ENOENT, "this host knows no user", name)
        me = str(os.geteuid())
        return pwd.struct_passwd((me, "x", os.geteuid(), os.getegid(), "", os.environ.get("HOME", "/"), "/bin/sh"))


def person(uid):
    """The password entry of a user by number. Raises OSError where this host knows none."""
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise OSError(errno.ENOENT, "this host knows no user", str(uid))


@contextlib.contextmanager
def rights_of(who):
    """Root with the rights of a user for a while; nobody else changes."""
    if os.geteuid() != 0 or who.pw_uid == 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups(os.getgrouplist(who.pw_name, who.pw_gid))
    os.setegid(who.pw_gid)
    os.seteuid(who.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


@contextlib.contextmanager
def umask(bits):
    """Another umask for a while."""
    old = os.umask(bits)
    try:
        yield
    finally:
        os.umask(old)


def home(path, who):
    """A path of a user: ``~`` and what is not absolute begin at the user's home."""
    if path == "~" or path.startswith("~/"):
        path = who.pw_dir + path[1:]
    return os.path.normpath(os.path.join(who.pw_dir, path))


def place(action, folder, who):
    """The path of the log that a start is to write."""
    path = (action.get("log") or {}).get("path")
    if not path:
        return "%s/log/%s.%d.log" % (folder, action["component"].replace("/", "-"), action["slot"])
    base = home(action.get("cwd") or "~", who)
    return home(path, who) if path.startswith("~") else os.path.normpath(os.path.join(base, path))


def begin(path, spec, folder, who, used):
    """Open a log for appending, its folder made, what was there rotated when too big, old ones of its kind removed.

    ``used`` are logs that must stay. Returns a file descriptor; raises OSError, with ENOSPC also where the disk has no
    room for a line.
    """
    keep, biggest = spec.get("keep", KEEP), spec.get("max_bytes", MAX_BYTES)
    ours = path.startswith(folder + "/")
    with rights_of(account(None) if ours else who), umask(0o027):
        make_folder(os.path.dirname(path))
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(path)
            if stat.S_ISREG(old.st_mode) and biggest and old.st_size > biggest:
                shift(path, keep)
                os.rename(path, path + ".1") if keep else os.unlink(path)
        prune(path, keep, used)
        # NONBLOCK: a pipe that nobody reads must be an error, not a wait
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(path, flags, 0o640)
    try:
        kind = os.fstat(handle).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISCHR(kind)):
            raise OSError(errno.EINVAL, "this is no file to write a log to", path)
        fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        if stat.S_ISREG(kind):
            room = os.fstatvfs(handle)
            if room.f_blocks and not (room.f_bavail if who.pw_uid else room.f_bfree):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            if ours and os.geteuid() == 0:
                os.fchown(handle, who.pw_uid, who.pw_gid)
    except BaseException:
        os.close(handle)
        raise
    return handle


def make_folder(path):
    """Make a folder and those above it that are missing, mode 0750."""
    if not os.path.isdir(path):
        make_folder(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o750)


def shift(path, keep):
    """Make room for ``path.1``: each older one moves up by one, the last goes."""
    for n in range(keep, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            if n == keep:
                os.unlink("%s.%d" % (path, n))
            else:
                os.rename("%s.%d" % (path, n), "%s.%d" % (path, n + 1))


def prune(path, keep, used):
    """Remove the oldest logs whose names differ from this one only in the time of the start, beyond ``keep``."""
    folder, name = os.path.split(path)
    spots = list(EPOCH.finditer(name))
    if not spots:
        return
    at = spots[-1]
    kind = re.compile(re.escape(name[: at.start()]) + r"(\d{9,11})" + re.escape(name[at.end() :]) + r"(\.\d+)?")
    old = []
    for other in os.listdir(folder):
        found = kind.fullmatch(other)
        if found and other != name and folder + "/" + other not in used:
            old.append((int(found.group(1)), other))
    for _number, other in sorted(old, reverse=True)[keep:]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder + "/" + other)


def cut(path, keep, who):
    """Copy a log to ``path.1`` and empty it, in place; returns words. Raises OSError, and then the log is as it was."""
    with rights_of(who), open(path, "r+b") as log:
        size = os.fstat(log.fileno()).st_size
        if keep:
            spare = path + ".0"
            try:
                with open(spare, "wb") as copy:
                    os.fchmod(copy.fileno(), 0o640)
                    while True:
                        part = log.read(1 << 20)
                        if not part:
                            break
                        copy.write(part)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(spare)
                raise
            shift(path, keep)
            os.rename(spare, path + ".1")
        log.truncate(0)
    return "%d bytes moved to %s.1" % (size, path) if keep else "%d bytes removed" % size


def tail(path, offset, hidden):
    """The last lines that were written to a log after ``offset``, without the values in ``hidden``."""
    try:
        with open(path, "rb") as log:
            end = os.fstat(log.fileno()).st_size
            begin_at = max(offset, end - TAIL_BYTES) if end >= offset else max(0, end - TAIL_BYTES)
            log.seek(begin_at)
            text = log.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError as error:
        return ["(no log: %s)" % error]
    if begin_at > offset:
        # a first line that is cut could show half of a secret
        text = text.partition("\n")[2]
    parts = {part for value in hidden for part in [value] + value.splitlines() if part}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "****")
    return [line[:WIDEST] for line in text.splitlines()[-TAIL_LINES:]]
