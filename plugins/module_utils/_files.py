# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Files of a release on a host: checked before they go live, written whole, compared with what is there.

Note that this module util is **PRIVATE** to the collection.

An entry is what a manifest says of a file (see _release.OF_A_FILE); with its `text` it can be written. Python 3.6 and
the standard library, no f-strings (see _probe).
"""

import base64
import configparser
import contextlib
import grp
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import time
import zlib

from ansible_collections.sciops.sites.plugins.module_utils import _place, _release

digest = _release.digest

#: folders that are missing above a file
FOLDER_MODE = 0o750
CHECK_SECONDS = 60
#: what a supervisord.conf may name with %(..)s
SUPERVISOR_NAMES = ("here", "host_node_name", "program_name", "group_name", "process_num", "numprocs")
# bash -n takes these for commands: `$PATH=..`, `PATH = ..`, `export NAME = ..`
NO_ASSIGNMENT = re.compile(r"[ \t]*(\$\w+=|PATH[ \t]+=|export[ \t]+(\$\w+[ \t]*=|\w+[ \t]+=))")


class Failure(Exception):
    """A file is not as it must be, or cannot be; the text names it and says why."""


def pack(data):
    """Data as one word for the arguments of a module, which go over standard input; small, and read by nobody."""
    return base64.b64encode(zlib.compress(json.dumps(data).encode("ascii"), 6)).decode("ascii")


def unpack(word):
    """What was packed. ValueError where it is something else."""
    try:
        return json.loads(zlib.decompress(base64.b64decode(word, validate=True)).decode("ascii"))
    except (zlib.error, ValueError):
        raise ValueError("is not what the controller packs; use the task sciops.sites.site_config")


# --- owners and places


def ids(entry):
    """(uid, gid) that an entry asks for, -1 for what it leaves as it comes."""
    found = []
    for key, base, known in (("owner", pwd.getpwnam, "pw_uid"), ("group", grp.getgrnam, "gr_gid")):
        name = entry.get(key)
        try:
            found.append(-1 if name is None else int(name) if str(name).isdigit() else getattr(base(name), known))
        except KeyError:
            raise Failure("%s: %s %s is not known on this host" % (entry["dest"], key, name))
    return tuple(found)


def refuse(entry):
    """Raise Failure where this user may not write a file of this owner and group there, or where it leads elsewhere."""
    dest, (uid, gid), me = entry["dest"], ids(entry), os.geteuid()
    if me != 0 and uid not in (-1, me):
        raise Failure("%s: only root can give it to %s" % (dest, entry["owner"]))
    if me != 0 and gid not in [-1, os.getegid()] + os.getgroups():
        raise Failure("%s: only root or a member can give it to group %s" % (dest, entry["group"]))
    trusted(os.path.dirname(dest), (0, me, uid))
    with contextlib.suppress(FileNotFoundError):
        seen = os.lstat(dest)
        if stat.S_ISLNK(seen.st_mode):
            raise Failure("%s: is a link to %s, not a file; remove it" % (dest, os.readlink(dest)))
        if not stat.S_ISREG(seen.st_mode):
            raise Failure("%s: is a folder or a device, not a file; remove it" % dest)


def trusted(path, owners):
    """Raise Failure where a link on the way belongs to somebody else, who could lead a writer anywhere."""
    walked = ""
    for part in path.split("/")[1:]:
        walked += "/" + part
        try:
            seen = os.lstat(walked)
        except OSError:
            return
        if stat.S_ISLNK(seen.st_mode) and seen.st_uid not in owners:
            raise Failure("%s: goes through the link %s of another user (%d)" % (path, walked, seen.st_uid))


# --- comparing and writing


def drift(entries):
    """[(dest, why)] of files that are not as their entries say: missing, not a file, content, mode, owner, group.

    The first of these that holds: who may have read another content is restarted, also where the mode differs too.
    """
    found = []
    for entry in entries:
        why = _differs(entry)
        if why:
            found.append((entry["dest"], why))
    return found


def _differs(entry):
    try:
        seen = os.lstat(entry["dest"])
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        raise Failure("%s: cannot be looked at: %s" % (entry["dest"], error.strerror))
    if not stat.S_ISREG(seen.st_mode):
        return "not a file"
    uid, gid = ids(entry)
    rights = "group" if gid not in (-1, seen.st_gid) else ""
    rights = "owner" if uid not in (-1, seen.st_uid) else rights
    rights = "mode" if stat.S_IMODE(seen.st_mode) != int(entry["mode"], 8) else rights
    try:
        text = _place.read(entry["dest"])
    except _place.Misplaced:
        if rights:  # what keeps us from reading it is itself put right
            return rights
        raise
    if text is None:
        return "missing"
    return rights if digest(text) == entry["digest"] else "content"


def put(entries, backup=False):
    """Write the files that are not as their entries, each with its `text`, say; their dests.

    Nothing is written where one of them may not be. Folders above them are made where they are missing. With `backup`,
    what was there stays beside it as NAME.<time>~, no more readable than it was.
    """
    differing = {dest for dest, _why in drift(entries)}
    wanted = [entry for entry in entries if entry["dest"] in differing]
    for entry in wanted:
        refuse(entry)
    stamp = time.strftime(".%Y-%m-%d@%H:%M:%S~")
    beside = []
    try:
        # all of them before the first goes live, so that a full disk changes nothing
        for entry in wanted:
            (folder, name), (uid, gid) = os.path.split(entry["dest"]), ids(entry)
            # a folder with the setgid bit gives its group to files
            owner = None if (uid, gid) == (-1, -1) else (uid, gid)
            _place.folder(folder, FOLDER_MODE, owner)
            if backup and os.path.exists(entry["dest"]):
                seen, kept = os.lstat(entry["dest"]), entry["dest"] + stamp
                _place.write(kept, _place.read(entry["dest"]), stat.S_IMODE(seen.st_mode), (seen.st_uid, seen.st_gid))
            beside.append((os.path.join(folder, ".sciops.%s.put" % name), entry["dest"]))
            _place.write(beside[-1][0], entry["text"], int(entry["mode"], 8), owner)
        for made, dest in beside:
            os.rename(made, dest)
    except OSError as error:
        raise Failure("%s: cannot be written: %s" % (error.filename, error.strerror))
    finally:
        for made, _dest in beside:
            _place.drop(made)
    return [entry["dest"] for entry in wanted]


# --- checks


def validate(entry, text, coming=()):
    """Raise Failure where a text is not what its entry says it is. What cannot be checked here comes back in words.

    `coming` are the dests of files that go live with it. A secret file is never quoted.
    """
    how, said, note = entry["validate"], "", ""
    if how in (None, "json", "yaml"):  # those two were checked where they were rendered
        return ""
    if how == "ini":
        said = _ini_fault(text)
    elif how == "supervisor":
        said = _supervisor_fault(text)
    else:
        said = _bash_fault(text) if how == "bash" else ""
        if not said:
            said, note = _asked(entry, text, how, coming)
    if said:
        raise Failure("%s: is refused by its check (%s): %s" % (entry["dest"], _title(how), said))
    return "%s: %s" % (entry["dest"], note) if note else ""


def _title(how):
    return how if isinstance(how, str) else how[0]


def _ini_fault(text):
    # the texts of these errors quote lines
    try:
        configparser.RawConfigParser().read_string(text)
    except configparser.MissingSectionHeaderError as error:
        return "line %d: stands before the first section" % error.lineno
    except configparser.ParsingError as error:
        return "line %s: is no key = value" % ", ".join(str(line) for line, _text in error.errors)
    except configparser.Error as error:
        what = ".".join([getattr(error, "section", "")] + [getattr(error, "option", "")]).strip(".")
        return "line %s: %s is there twice" % (getattr(error, "lineno", "?"), what)
    return ""


class _Names(dict):
    """What supervisord replaces; its own environment is known to itself only."""

    def __missing__(self, name):
        if not name.startswith("ENV_") and name not in SUPERVISOR_NAMES:
            raise KeyError(name)
        return 0 if name in ("process_num", "numprocs") else "x"


def _supervisor_fault(text):
    # it knows HTTP, which takes longer to load than all the rest
    from ansible_collections.sciops.sites.plugins.module_utils import _supervisor

    try:
        sections = _supervisor.parse(text, "it")
    except ValueError:
        return _ini_fault(text) or "is no INI file"
    for title, options in sections.items():
        kind = title.partition(":")[0]
        if kind in ("program", "eventlistener", "fcgi-program") and not options.get("command"):
            return "[%s]: has no command" % title
        if kind == "include" and not options.get("files"):
            return "[include]: has no files"
        if kind in ("inet_http_server", "unix_http_server") and "password" in options and not options["password"]:
            return "[%s]: has an empty password, so everybody may control it" % title
        for key, value in options.items():
            try:
                value % _Names()
            except KeyError as error:
                return "[%s] %s: %%(%s)s is no name that supervisord knows" % (title, key, error.args[0])
            except (TypeError, ValueError):
                return "[%s] %s: a %% is neither doubled nor a %%(name)s" % (title, key)
    return ""


def _bash_fault(text):
    for number, line in enumerate(text.split("\n"), 1):
        if NO_ASSIGNMENT.match(line):
            return "line %d: is no assignment; it is NAME=value without a dollar sign and blanks" % number
    return ""


def _asked(entry, text, how, coming):
    """(what a program says against a text, what else is to be said); both empty where all is well."""
    name, env = os.path.basename(entry["dest"]), dict(os.environ, LC_ALL="C.UTF-8")
    # a private folder: the file has its own name there, and nobody else sees it for a moment
    folder = tempfile.mkdtemp(prefix=".sciops.check.", dir=_near(entry["dest"]))
    try:
        path = os.path.join(folder, name)
        _place.write(path, text, 0o700 if text.startswith("#!") else 0o600)
        if how == "bash":
            argv = ["bash", "-n", path]
        elif how == "systemd":
            argv = ["systemd-analyze"] + ["--user"] * _of_user(entry["dest"]) + ["verify", "--man=no", path]
            env.setdefault("XDG_RUNTIME_DIR", folder)
        else:
            argv = [word.replace("{file}", path) for word in how]
        code, said = _run(argv, env)
        if code is None:
            return "", "was not checked, since this host has no %s" % argv[0]
        lines = [line.replace(folder + "/", "").strip() for line in said.splitlines() if line.strip()]
        note = ""
        if how == "systemd":
            code, lines, note = _of_unit(code, lines, name, coming)
        if not code:
            return "", note
        if entry.get("secret"):
            numbers = sorted({int(n) for n in re.findall(r"(?:line |:)(\d+)", "\n".join(lines))})
            where = ", line %s" % ", ".join(map(str, numbers)) if numbers else ""
            return "status %d%s; what it says is not shown, since the file holds secrets" % (code, where), ""
        return "; ".join(lines[:5]) or "status %d" % code, ""
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _near(path):
    """The folder of a file where this user may write there, else the one for temporary files."""
    folder = os.path.dirname(path)
    return folder if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK) else tempfile.gettempdir()


def _of_user(dest):
    return "/systemd/user/" in dest


def _of_unit(code, lines, name, coming):
    """(status, lines against it, what else is to be said) of what systemd-analyze says of a unit.

    It speaks of other units too, and of programs and units that come with this one and are not there yet. What it
    ignores does not count for it, and does for who wrote it, except a setting that this systemd does not know.
    """
    kept, unknown, names = [], [], [os.path.basename(dest) for dest in coming]
    for line in lines:
        program = re.search(r"Command (/.*?) is not executable: No such file", line)
        unit = re.search(r"Unit (\S+) not found", line)
        if not line.startswith(name + ":") or (program and program.group(1) in coming):
            continue
        if re.search(r": Unknown (key|lvalue|section)", line):
            unknown.append(line)
        elif not (unit and unit.group(1) in names) and (code or ", ignoring: " in line):
            kept.append(line)
    return len(kept), kept, "; ".join(unknown)


def _run(argv, env):
    try:
        done = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/"
        )
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return 126, "%s: cannot be run: %s" % (argv[0], error.strerror)
    try:
        out = done.communicate(timeout=CHECK_SECONDS)[0]
    except subprocess.TimeoutExpired:
        done.kill()
        done.communicate()
        return 124, "gave no answer within %d s" % CHECK_SECONDS
    return done.returncode, out.decode("utf-8", "replace")
