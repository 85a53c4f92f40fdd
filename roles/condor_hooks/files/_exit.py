# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JOB_EXIT: removes the folder of a job that used a session, and keeps its logs for some days.

It removes only what lies below the configured root, links above it resolved. Folders are opened one below the other
and held open, so a link that is put in the way leads nowhere; mounts are not entered. It always ends with 0: the job
is over.
"""

import errno
import fnmatch
import os
import stat
import sys
import time

import _common as common

NEEDED = ("HMDCUseXpra", "LocalJobDir", "ClusterId", "ProcId", "ExitCode", "ExitBySignal")
DEEPEST = 200
#: how the name of a copy of a log begins that is not whole yet, in the folder of logs
HALF = ".half-copied-log"
#: seconds after which nobody works on such a copy any more
HALF_AGE = 3600
#: a job that was evicted runs again, in a folder of the same name: so many logs of one name are kept
RUNS = 1000
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def failed(ad, reason):
    """Whether the job ended otherwise than well: by a signal, with another code than 0, or by somebody's hand."""
    return reason != "exit" or ad.get("ExitBySignal") is True or ad.get("ExitCode") not in (0, None)


def keeps(ad, reason, how):
    """Whether the logs of this job are kept."""
    return how == "always" or (how == "failed" and failed(ad, reason))


def remove_tree(parent, name, device, depth=0):
    """Remove a folder of an open folder with all that is in it, without following links. Raises OSError."""
    try:
        fd = common.open_folder(name, parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        fd = common.open_folder(name, parent)
    try:
        found = os.fstat(fd)
        if found.st_dev != device:
            raise OSError(errno.EXDEV, "another file system", name)
        if depth > DEEPEST:
            raise OSError(errno.ELOOP, "too deep", name)
        if stat.S_IMODE(found.st_mode) & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
        for one in os.listdir(fd):
            if stat.S_ISDIR(os.stat(one, dir_fd=fd, follow_symlinks=False).st_mode):
                remove_tree(fd, one, device, depth + 1)
            else:
                os.unlink(one, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def mounted_below(path, mounts="/proc/self/mountinfo"):
    """Whether something is mounted below a path, a part of the same file system included."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            points = [line.split(" ")[4] for line in file]
    except (OSError, IndexError):
        return False
    # blanks and backslashes are octal numbers there
    path = path.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
    return any(point == path or point.startswith(path + "/") for point in points)


def move(name, folder, place):
    """Move a plain file of an open folder into another, also into one of another file system. Raises OSError."""
    try:
        put(name, folder, name, place)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        copy(name, folder, place)
        os.unlink(name, dir_fd=folder)


def put(name, folder, wanted, place):
    """Rename a file of an open folder into another: out.txt, or out.1.txt and so on where that is of an earlier run.

    The name is taken by an empty file first, so that no other hook can have it, and the rename replaces only that.
    Raises OSError.
    """
    there, (stem, ending) = set(os.listdir(place)), os.path.splitext(wanted)
    for number in range(RUNS):
        free = "%s.%d%s" % (stem, number, ending) if number else wanted
        if free in there:
            continue
        try:
            os.close(os.open(free, _NEW, 0o600, dir_fd=place))
        except FileExistsError:
            continue
        try:
            os.rename(name, free, src_dir_fd=folder, dst_dir_fd=place)
        except BaseException:
            drop(free, place)
            raise
        return
    raise OSError(errno.EEXIST, "%d logs of this name are kept already" % RUNS, wanted)


def copy(name, folder, place):
    """Copy a plain file of an open folder into another: afterwards the whole file is there, or what was before."""
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "no plain file", name)
        # of no other host and no other process: a home may be the same on many hosts
        half = "%s.%s.%d" % (HALF, os.uname()[1], os.getpid())
        drop(half, place)
        target = os.open(half, _NEW, 0o600, dir_fd=place)
        try:
            try:
                drop_halves(place, half, os.fstat(target).st_ctime - HALF_AGE)
                piece = os.read(source, 1 << 20)
                while piece:
                    while piece:
                        piece = piece[os.write(target, piece) :]
                    piece = os.read(source, 1 << 20)
                os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
                os.fsync(target)
            finally:
                # some file servers say only here that there is no room
                os.close(target)
            put(half, place, name, place)
        except BaseException:
            drop(half, place)
            raise
    finally:
        os.close(source)


def drop_halves(place, own, before):
    """Remove what hooks left that were killed while they copied, by the clock of the file system."""
    for one in os.listdir(place):
        try:
            if one.startswith(HALF) and one != own and os.lstat(one, dir_fd=place).st_ctime < before:
                os.unlink(one, dir_fd=place)
        except OSError:
            # another hook was faster; else the folder goes as a whole one day
            pass


def drop(name, place):
    """Remove a file of an open folder, where it is there."""
    try:
        os.unlink(name, dir_fd=place)
    except FileNotFoundError:
        pass


def keep_logs(folder, name, settings):
    """Move the logs of an open folder to the folder of logs; returns the names that stay where they are."""
    stay, place = [], None
    try:
        for one in sorted(os.listdir(folder)):
            if not any(fnmatch.fnmatchcase(one, pattern) for pattern in settings["log_patterns"]):
                continue
            if not stat.S_ISREG(os.stat(one, dir_fd=folder, follow_symlinks=False).st_mode):
                continue
            try:
                if place is None:
                    place = common.make_below(os.path.realpath(common.fill(settings["log_root"])), [name])
                move(one, folder, place)
            except (OSError, common.Refused) as exc:
                common.say("the log %s stays in the folder of the job: %s" % (one, exc))
                stay.append(one)
    finally:
        if place is not None:
            os.close(place)
    return stay


def forget_logs(settings, now, limit=50):
    """Remove logs that nothing was added to for the days of the settings; at most so many at once."""
    try:
        root = common.open_folder(os.path.realpath(common.fill(settings["log_root"])))
    except OSError:
        return
    try:
        device = os.fstat(root).st_dev
        for name in sorted(os.listdir(root)):
            found = os.stat(name, dir_fd=root, follow_symlinks=False)
            old = now - found.st_mtime > settings["log_days"] * 86400
            if old and limit > 0 and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                limit -= 1
                try:
                    remove_tree(root, name, device)
                except OSError as exc:
                    common.say("the old log %s is not removed: %s" % (name, exc))
    finally:
        os.close(root)


def clean(ad, reason, settings, now):
    """Clean up after a job. Raises Refused or OSError where its folder stays."""
    if ad.get("HMDCUseXpra") is not True:
        return
    path = common.text_of(ad, "LocalJobDir")
    if not path:
        raise common.Refused("the job has no LocalJobDir that can be understood")
    root, names = common.split_below(settings["job_roots"], path)
    try:
        here = common.open_folder(root)
    except FileNotFoundError:
        return
    try:
        device = os.fstat(here).st_dev
        for name in names[:-1]:
            below = common.open_folder(name, here)
            os.close(here)
            here = below
        if mounted_below("/".join([root] + names)):
            raise common.Refused("the folder %s stays: something is mounted in it" % path)
        inside = common.open_folder(names[-1], here)
        try:
            found = os.fstat(inside)
            if found.st_dev != device or found.st_uid != os.getuid():
                raise common.Refused("the folder %s stays: another file system or another account's" % path)
            stay = keep_logs(inside, names[-1], settings) if keeps(ad, reason, settings["logs"]) else []
        finally:
            os.close(inside)
        if not stay:
            remove_tree(here, names[-1], device)
    except FileNotFoundError:
        # it has gone already
        pass
    finally:
        os.close(here)
    forget_logs(settings, now)


def main(settings_file=None):
    """Clean up; always 0."""
    try:
        text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        settings = common.load_settings(settings_file)
        ad = common.pick(text, NEEDED)
        reason = (sys.argv[1:] + ["exit"])[0]
        if os.getuid() == 0:
            raise common.Refused("nothing is removed as root")
        common.bounded(lambda: clean(ad, reason, settings, time.time()), settings["time_limit"])
    except Exception as exc:
        common.say("the folder of the job may still be there: %s: %s" % (type(exc).__name__, exc))
    return 0
