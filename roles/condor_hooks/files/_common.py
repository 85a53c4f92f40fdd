# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hooks share: settings, ads, a limit of time, and folders that are opened one below the other.

Python 3.6 and the standard library; _classad.py of the collection lies beside this file.
"""

import errno
import json
import os
import pwd
import re
import select
import signal
import stat
import sys
import time

import _classad as classad

#: what settings.json may say, with what holds where it does not
DEFAULTS = {
    "time_limit": 25.0,
    # {home} and {owner} are those of the account of the job
    "job_roots": ["{home}/.HMDC/jobs/interactive"],
    # more than this is not printed back by prepare: HTCondor reads PIPE_BUFFER_MAX bytes and cuts the rest
    "print_limit": 10000,
    "log_root": "{home}/.HMDC/jobs/logs",
    "logs": "always",
    "log_days": 14,
    "log_patterns": ["*.txt", "*.log"],
    "memory_limits": True,
    "cpu_affinity": True,
    "limits_required": False,
    "sshd": ["/usr/sbin/sshd"],
    "session_command": [
        "/usr/bin/xpra",
        "start",
        "--daemon=no",
        "--exit-with-children=yes",
        "--start-child={child}",
        "--socket-dir={scratch}",
    ],
    "session_log": "{app}.out.txt",
    "idle_cpus": 0.01,
    "update_interval": 300,
    "idle_trigger": None,
    "preempt_after": None,
    "remind_before": 21600,
    "mail_from": "root@localhost",
    "smtp_host": "localhost",
    "smtp_port": 25,
    "smtp_timeout": 8.0,
    "mail_subject": "Warning: Job $cluster: $app $version has been idle for $days days",
    "mail_text": "",
    "execute": [],
    "data": "/var/lib/sciops.sites/condor/idle.ad",
    "data_max_age": 900,
}
#: settings that may be null
_NULLABLE = ("idle_trigger", "preempt_after")


class Refused(Exception):
    """What was asked for will not be done; the text is for the person whose job it is."""


# --- settings


def check_settings(given):
    """The settings with all defaults. Raises ValueError that names the key."""
    if not isinstance(given, dict):
        raise ValueError("the settings are no mapping")
    for key, value in given.items():
        if key not in DEFAULTS:
            raise ValueError("%s: no such setting" % key)
        wanted = DEFAULTS[key]
        if value is None and key in _NULLABLE:
            continue
        if wanted is None or (isinstance(wanted, (int, float)) and not isinstance(wanted, bool)):
            right = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
        elif isinstance(wanted, list):
            right = isinstance(value, list) and all(isinstance(one, str) and "\0" not in one for one in value)
        else:
            right = isinstance(value, type(wanted))
        if not right:
            raise ValueError("%s: %r is not what it takes" % (key, value))
    found = dict(DEFAULTS)
    found.update(given)
    if found["logs"] not in ("always", "failed", "never"):
        raise ValueError("logs: %r is none of always, failed, never" % found["logs"])
    for key in ("job_roots", "sshd", "execute"):
        if any(not one.startswith(("/", "{home}/")) for one in found[key]):
            raise ValueError("%s: takes absolute paths only" % key)
    return found


def load_settings(path=None):
    """The settings beside this file. Raises ValueError or OSError."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(path or os.path.join(here, "settings.json"), encoding="utf-8") as file:
        return check_settings(json.load(file))


# --- what is said


def say(text):
    """A line for the starter's log. Whatever happens to it, the hook goes on."""
    try:
        sys.stderr.write(plain(text) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def plain(text, limit=1000):
    """Text on one line, without what moves a cursor."""
    line = "".join(one if one.isprintable() else "?" for one in str(text).replace("\n", " "))
    return line if len(line) <= limit else line[: limit - 3] + "..."


# --- ads


def pick(text, names):
    """The attributes of these names of an ad. The others, of which one may have megabytes, are not looked at."""
    wanted = {name.lower() for name in names}
    lines = (line for line in text.split("\n") if line.partition("=")[0].strip().lower() in wanted)
    return classad.parse("\n".join(lines))


def text_of(ad, name):
    """An attribute as text, None where it is not there, is undefined, or is an expression that nobody knows here."""
    value = ad.get(name)
    if isinstance(value, classad.Expression):
        try:
            return evaluate(ad, value)
        except ValueError:
            return None
    return value if isinstance(value, str) else None


def number_of(ad, name):
    """An attribute as number, None where it is none."""
    value = ad.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[0-9]+|[A-Za-z_][A-Za-z0-9_.]*|[(),])')


def evaluate(ad, expression):
    """The text of strings, whole numbers, attributes and strcat() of these. Raises ValueError for all else."""
    tokens, at = [], 0
    text = expression.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match or len(tokens) > 200:
            raise ValueError("%s is not an expression of strings and strcat" % plain(expression, 200))
        tokens.append(match.group(1))
        at = match.end()
    value, rest = _term(ad, tokens, 0, 0)
    if rest != len(tokens):
        raise ValueError("%s: more follows than one value" % plain(expression, 200))
    return value


def _term(ad, tokens, at, depth):
    if at >= len(tokens) or depth > 8:
        raise ValueError("an expression without an end")
    token = tokens[at]
    if token[0] == '"':
        return classad.unquote(token), at + 1
    if token.isdigit():
        return token, at + 1
    if token.lower() == "strcat" and tokens[at + 1 : at + 2] == ["("]:
        parts, at = [], at + 2
        while True:
            value, at = _term(ad, tokens, at, depth + 1)
            parts.append(value)
            end = tokens[at : at + 1]
            if end not in ([","], [")"]):
                raise ValueError("strcat wants its values between commas")
            at += 1
            if end == [")"]:
                return "".join(parts), at
    name = token[3:] if token.lower().startswith("my.") else token
    value = ad.get(name)
    if isinstance(value, classad.Expression):
        return _term(ad, _TOKEN.findall(value), 0, depth + 1)[0], at + 1
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("%s has no value" % plain(token, 100))
    return str(value), at + 1


# --- a limit of time


def bounded(function, seconds):
    """What a function returns (text or bytes) in a process of its own, which is left behind at the limit.

    A call that a dead file server never ends cannot be interrupted from within. Raises Refused: that of the function,
    or what its end or the limit was.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            os.setpgid(0, 0)
            try:
                answer = function()
                data = b"+" + (answer.encode("utf-8", "surrogateescape") if isinstance(answer, str) else answer or b"")
            except Refused as exc:
                data = b"-" + str(exc).encode("utf-8", "surrogateescape")
            except Exception as exc:  # the parent says what it was, the job's owner may read it
                data = b"-" + ("%s: %s" % (type(exc).__name__, exc)).encode("utf-8", "surrogateescape")
            while data:
                data = data[os.write(writer, data) :]
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    try:
        data = _read_until(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
    if data is None:
        for target in (-child, child):
            try:
                os.kill(target, signal.SIGKILL)
            except OSError:
                pass
        raise Refused("no answer within %g seconds; is a file system or a server not there?" % seconds)
    os.waitpid(child, 0)
    if data[:1] == b"+":
        return data[1:]
    raise Refused(data[1:].decode("utf-8", "replace") or "it ended without a word")


def _read_until(fd, end):
    pieces = []
    while True:
        left = end - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return None
        piece = os.read(fd, 1 << 20)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


# --- folders and files

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(name, within=None):
    """A descriptor of a folder that is no link. Raises OSError."""
    return os.open(name, _FOLDER, dir_fd=within)


def fill(path):
    """A path of the settings with the home and the name of the account that this runs as."""
    account = pwd.getpwuid(os.getuid())
    return path.replace("{home}", account.pw_dir.rstrip("/") or "/").replace("{owner}", account.pw_name)


def split_below(roots, path):
    """(root, names): by which folders a path is reached below one of the roots, links above it resolved.

    Raises Refused where it is not below one, or says `..`.
    """
    if not path.startswith("/") or "\0" in path or any(one in (".", "..") for one in path.split("/")):
        raise Refused("the folder %s is not an absolute path without .. in it" % plain(path, 300))
    path = path.rstrip("/")
    parent, name = os.path.realpath(os.path.dirname(path)), os.path.basename(path)
    for root in roots:
        real = os.path.realpath(fill(root))
        if real != "/" and name and (parent == real or parent.startswith(real + "/")):
            return real, [one for one in parent[len(real) :].split("/") if one] + [name]
    where = ", ".join(fill(root) for root in roots)
    raise Refused("the folder %s is not below %s, where folders of jobs are" % (plain(path, 300), plain(where, 300)))


def make_below(root, names, mode=0o700):
    """Make a folder and those above it below the root, without following links; returns its descriptor."""
    os.umask(0o077)
    os.makedirs(root, mode=0o700, exist_ok=True)
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    reached = root
    for name in names:
        reached += "/" + name
        try:
            os.mkdir(name, mode, dir_fd=here)
        except FileExistsError:
            pass
        try:
            below = open_folder(name, here)
        except OSError as exc:
            if exc.errno in (errno.ENOTDIR, errno.ELOOP):
                raise Refused("%s is in the way: it is no folder. Move it away, then release the job" % plain(reached))
            raise
        finally:
            os.close(here)
        here = below
    if os.fstat(here).st_uid != os.getuid():
        raise Refused("the folder %s belongs to another account" % plain(reached))
    os.fchmod(here, mode)
    return here


def read_file(folder, name, limit, owners=None):
    """The bytes of a file of an open folder, at most so many. Raises OSError; links and odd kinds are refused."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "no plain file", name)
        if owners is not None and found.st_uid not in owners:
            raise OSError(errno.EPERM, "belongs to another account", name)
        if found.st_size > limit:
            raise OSError(errno.EFBIG, "more than %d bytes" % limit, name)
        pieces, size = [], 0
        while size <= limit:
            piece = os.read(fd, min(1 << 20, limit + 1 - size))
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
        raise OSError(errno.EFBIG, "more than %d bytes" % limit, name)
    finally:
        os.close(fd)


def write_file(folder, name, data, mode=0o600):
    """Put a file of an open folder in its place in one step: it is the old or the new one at any time."""
    aside = name + ".new"
    try:
        os.unlink(aside, dir_fd=folder)
    except FileNotFoundError:
        pass
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        os.fchmod(fd, mode)
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
