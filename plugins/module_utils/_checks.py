# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Questions about a host and what it can reach: an address, a port, a program, free space. Nothing is ever changed.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import base64
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import unquote, urlsplit

from ansible_collections.sciops.sites.plugins.module_utils import _manager

TIMEOUT = 5
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
UNITS.update({"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40})
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", re.IGNORECASE)
VERSION = re.compile(r"\s*(==|!=|>=|<=|>|<)\s*(\d+(?:\.\d+)*)\s*")
# what may stand beside each kind
KINDS = {
    "url": (),
    "port": ("address",),
    "command": (),
    "program": ("version",),
    "free": ("path",),
    "writable": (),
    "log_age": ("log",),
}


def kind_of(check):
    """The kind of a check. Raises ValueError, which says what is wrong with it."""
    kinds = [kind for kind in KINDS if check.get(kind) is not None]
    if len(kinds) != 1:
        raise ValueError("must have one of %s, has %s" % (", ".join(KINDS), ", ".join(kinds) or "none"))
    READ[kinds[0]](check[kinds[0]], check)
    return kinds[0]


def fault(check):
    """What is wrong with a check itself, in words; empty where nothing is."""
    try:
        kind = kind_of(check)
    except ValueError as error:
        return str(error)
    known = (kind, "timeout") + KINDS[kind]
    for name in sorted(check):
        if name not in known and check[name] is not None:
            return "%s: no such key; a check of %s has %s" % (name, kind, ", ".join(known))
    return "" if _seconds(check) else "timeout: %r: must be a number of seconds, more than 0" % (check["timeout"],)


def _seconds(check):
    """The timeout of a check; None where it is none."""
    given = TIMEOUT if check.get("timeout") is None else check["timeout"]
    return given if isinstance(given, (int, float)) and not isinstance(given, bool) and given > 0 else None


def hidden(check):
    """The values in a check that nobody is to see: the password in an address."""
    word = urlsplit(str(check["url"])).password if check.get("url") else None
    return [word, unquote(word)] if word else []


def title(check):
    """What a check asks, in a few words, without a password."""
    kind = next((kind for kind in KINDS if check.get(kind) is not None), None)
    words = check.get(kind)
    if kind == "url":
        words = re.sub(r"(://[^/@]*?:)[^/]*@", r"\1****@", str(words))
    elif kind == "port":
        words = "%s:%s" % (check.get("address") or "127.0.0.1", words)
    elif kind == "command" and isinstance(words, list):
        words = " ".join(str(word) for word in words)
    elif kind == "program" and check.get("version"):
        words = "%s %s" % (words, check["version"])
    elif kind == "free":
        words = "%s in %s" % (words, check.get("path"))
    return "%s %s" % (kind, words)


def ask(check):
    """What speaks against a check, and what to do about it; empty where nothing does. Ends within its timeout."""
    return ask_all([check])[0]


def ask_all(checks):
    """The answers of `ask` for all of these, which are asked side by side."""
    told = [None] * len(checks)

    def look(index, check, seconds):
        try:
            told[index] = ASK[kind_of(check)](check, seconds)
        except (OSError, ValueError, http.client.HTTPException) as error:
            told[index] = str(error)

    begun, threads = time.monotonic(), []
    for index, check in enumerate(checks):
        seconds = _seconds(check) or TIMEOUT
        # a look-up of a name has no timeout of its own, so nobody waits for the end of such a thread
        thread = threading.Thread(target=look, args=(index, check, seconds), daemon=True)
        thread.start()
        threads.append((thread, seconds))
    for index, (thread, seconds) in enumerate(threads):
        # a command that is late is ended by its own clock, and says so
        thread.join(max(0, begun + seconds + 1 - time.monotonic()))
        if told[index] is None:
            told[index] = "no answer within %g s" % seconds
    return told


# --- what a check says, read; each raises ValueError


def _read_url(value, _check):
    url = urlsplit(str(value))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("url: must begin with http:// or https:// and a host")
    return url


def _read_port(value, _check):
    if isinstance(value, bool) or not str(value).isdigit() or not 0 < int(value) < 65536:
        raise ValueError("port: %r: must be a number from 1 to 65535" % (value,))
    return int(value)


def _read_command(value, _check):
    if not isinstance(value, list) or not value:
        raise ValueError("command: %r: must be a list of words" % (value,))
    return [str(word) for word in value]


def _read_program(value, check):
    if not isinstance(value, str) or not value:
        raise ValueError("program: %r: must be a name or a path" % (value,))
    wanted = [VERSION.fullmatch(part) for part in str(check.get("version") or "").split(",") if part.strip()]
    if None in wanted:
        raise ValueError("version: %r: must be such as '>=1.1' or '>=1.1,<2'" % check["version"])
    return [(match.group(1), match.group(2)) for match in wanted]


def _read_free(value, check):
    _read_path(check.get("path"), check, "path")
    match = SIZE.fullmatch(str(value).strip())
    if isinstance(value, bool) or not match or match.group(2).upper() == "I":
        raise ValueError("free: %r: must be a size such as 2GiB" % (value,))
    return int(float(match.group(1)) * UNITS[match.group(2).upper()])


def _read_path(value, _check, name="writable"):
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError("%s: %r: must be an absolute path" % (name, value))
    return value


def _read_age(value, check):
    _read_path(check.get("log"), check, "log")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ValueError("log_age: %r: must be a number of seconds" % (value,))
    return value


READ = {"url": _read_url, "port": _read_port, "command": _read_command, "program": _read_program, "free": _read_free}
READ.update({"writable": _read_path, "log_age": _read_age})


# --- the questions


def _ask_url(check, seconds):
    url = _read_url(check["url"], check)
    plain = url._replace(netloc=url.netloc.rpartition("@")[2], fragment="").geturl()
    request = urllib.request.Request(plain)  # noqa: S310 - _read_url refuses other schemes
    if url.username is not None:
        words = "%s:%s" % (unquote(url.username), unquote(url.password or ""))
        # not sent on to where a redirect leads
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(words.encode()).decode())
    try:
        urllib.request.build_opener().open(request, timeout=seconds).close()
    except urllib.error.HTTPError as error:
        error.close()
        return "answers %d %s; look there, or correct the address" % (error.code, error.reason)
    except urllib.error.URLError as error:
        return "%s; look at the service, the network and proxies" % (
            getattr(error.reason, "strerror", None) or error.reason
        )
    return ""


def _ask_port(check, seconds):
    place = (check.get("address") or "127.0.0.1", _read_port(check["port"], check))
    try:
        socket.create_connection(place, seconds).close()
    except OSError as error:
        return "%s; look at the service, the network and firewalls" % (error.strerror or error)
    return ""


def _path():
    return os.pathsep.join([os.environ.get("PATH", ""), _manager.PATHS])


def _run(words, seconds):
    """(exit status, what it said) of a command; status None where it was ended because it was late."""
    child = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, PATH=_path()),
        cwd="/",
        start_new_session=True,
    )
    try:
        said = child.communicate(timeout=seconds)[0]
        return child.returncode, said.decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()
        return None, ""


def _ask_command(check, seconds):
    try:
        code, said = _run(_read_command(check["command"], check), seconds)
    except OSError as error:
        return "%s: %s" % (error.filename or check["command"][0], error.strerror)
    if code is None:
        return "did not end within %g s" % seconds
    return "exit status %d: %s" % (code, (said.splitlines() or ["it said nothing"])[-1][:300]) if code else ""


def _ask_program(check, seconds):
    found = shutil.which(check["program"], path=_path())
    if not found:
        return "no such program on this host; install it, or give its path"
    wanted = _read_program(check["program"], check)
    if not wanted:
        return ""
    code, said = _run([found, "--version"], seconds)
    seen = re.search(r"\d+(\.\d+)+", said) or re.search(r"\d+", said)
    if code is None or not seen:
        return "%s --version says no version" % found
    for sign, version in wanted:
        if not _holds(seen.group(), sign, version):
            return "%s is %s, needed is %s; install another" % (found, seen.group(), check["version"])
    return ""


def _holds(seen, sign, version):
    one, two = ([int(part) for part in text.split(".")] for text in (seen, version))
    size = max(len(one), len(two))
    one, two = one + [0] * (size - len(one)), two + [0] * (size - len(two))
    order = (one > two) - (one < two)
    return {"==": order == 0, "!=": order != 0, ">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0}[
        sign
    ]


def _there(path):
    """A path, or what is there of it: its nearest folder above."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _ask_free(check, _seconds):
    wanted, place = _read_free(check["free"], check), _there(check["path"])
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    words = "%.1f GiB are free on the file system of %s, %.1f GiB are needed; make room"
    return words % (free / 2.0**30, place, wanted / 2.0**30) if free < wanted else ""


def _ask_writable(check, _seconds):
    place = _there(check["writable"])
    if not os.path.isdir(place):
        return "%s is no folder" % place
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return "the file system of %s is read-only" % place
    words = "this user may not write in %s; change its owner, group or mode"
    return "" if os.access(place, os.W_OK | os.X_OK) else words % place


def _ask_log_age(check, _seconds):
    try:
        quiet = time.time() - os.stat(check["log"]).st_mtime
    except OSError as error:
        return "%s: %s" % (check["log"], error.strerror)
    if quiet <= _read_age(check["log_age"], check):
        return ""
    return "%s was written %d s ago, limit %g s" % (check["log"], quiet, check["log_age"])


ASK = {"url": _ask_url, "port": _ask_port, "command": _ask_command, "program": _ask_program, "free": _ask_free}
ASK.update({"writable": _ask_writable, "log_age": _ask_log_age})
