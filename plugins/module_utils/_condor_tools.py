# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The configuration of HTCondor on this host: asked, tried with another file, and told to the daemons.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile

from ansible_collections.sciops.sites.plugins.module_utils import _condor_config, _place, _probe
from ansible_collections.sciops.sites.plugins.module_utils._condor_config import Refused

PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAIN = "/etc/condor/condor_config"
FOLDER = "/etc/condor/config.d"
#: what is due since the daemons last read their configuration; a boot, which makes them read it, takes it away
DUE = "/run/sciops.sites"
LINKS = 40


class Condor:
    """The programs of HTCondor on this host. ``config`` is its main file where that is not the usual one."""

    def __init__(self, config=None, timeout=30.0):
        self.timeout = timeout
        # a value that the caller has in its environment is none of the daemons'
        self.env = {key: value for key, value in os.environ.items() if not key.upper().startswith("_CONDOR_")}
        self.env.update(LC_ALL="C.UTF-8", PATH=PATHS + ":" + os.environ.get("PATH", ""))
        if config:
            self.env["CONDOR_CONFIG"] = config
        self.main = self.env.get("CONDOR_CONFIG") or MAIN

    def installed(self):
        return bool(shutil.which("condor_config_val", path=self.env["PATH"]))

    def run(self, words, main=None):
        """(exit status, output, errors). Raises Refused where the program is not there or does not end in time."""
        program = shutil.which(words[0], path=self.env["PATH"])
        if not program:
            raise Refused("there is no program %s on this host; install HTCondor here" % words[0])
        env = dict(self.env, CONDOR_CONFIG=main) if main else self.env
        try:
            done = subprocess.run(
                [program] + words[1:],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                cwd="/",
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Refused("%s: did not end within %g s" % (words[0], self.timeout))
        except OSError as error:
            raise Refused("%s: %s" % (program, error.strerror))
        out, err = (part.decode("utf-8", "surrogateescape") for part in (done.stdout, done.stderr))
        return done.returncode, out, err

    def ask(self, words, main=None):
        """What condor_config_val says. Raises Refused, in its words, where the configuration cannot be read."""
        code, out, err = self.run(["condor_config_val"] + words, main)
        said = " ".join(line.strip() for line in err.splitlines() if not line.startswith("Not defined:")).strip()
        # it ends so for a knob without a value too, and may warn of other things beside it
        if code and said and ("error" in said.lower() or not out.strip()):
            raise Refused(said)
        return out

    def sources(self, main=None):
        """(main file, other files in their order)."""
        return _condor_config.sources(self.ask(["-config"], main))

    def layout(self):
        """(main file, folders of more files, why the configuration cannot be read) as they are now."""
        try:
            main = self.sources()[0] or self.main
            return main, _condor_config.folders(self.ask(["-raw", "LOCAL_CONFIG_DIR"]).strip()), ""
        except Refused as error:
            # broken, perhaps by the very file that is to be put right
            said = re.findall(r"^\s*LOCAL_CONFIG_DIR\s*=(.*)", _place.read(self.main) or "", re.M | re.I)
            return self.main, _condor_config.folders(said[-1]) if said else [FOLDER], str(error)

    def knobs(self, names, main=None):
        """{name in lower case: {"name", "raw", "file", "line", "value"}}, without knobs that have no value anywhere."""
        if not names:
            return {}
        found = _condor_config.parse_verbose(self.ask(["-verbose", "-raw"] + list(names), main))
        values = self.values(names, main)
        for key, one in found.items():
            one["value"] = values.get(key, one["raw"])
        return found

    def values(self, names, main=None):
        """{name in lower case: value with everything put in}."""
        pattern = "^(%s)$" % "|".join(re.escape(name) for name in names)
        return _condor_config.parse_dump(self.ask(["-dump", "-expanded", pattern], main))

    def startup(self, main=None):
        """{name in lower case: value} of the knobs that daemons read only when they start."""
        every = _condor_config.parse_dump(self.ask(["-dump", "-expanded"], main))
        return {name: value for name, value in every.items() if _condor_config.reader(name)}

    # --- a configuration that is not live

    @contextlib.contextmanager
    def trial(self, path, text, beside=()):
        """The whole configuration with this text in the place of a file, None for no file: a Trial.

        Nothing live is touched: a folder of links stands in for the one of the file. ``beside`` are names of files
        that would come to lie beside it. Raises Refused where the folder is none of the configuration's.
        """
        main, known, _why = self.layout()
        folder, name = os.path.split(path)
        real = os.path.realpath(folder)
        if real not in [os.path.realpath(one) for one in known]:
            words = "%s: HTCondor does not read files there; LOCAL_CONFIG_DIR is %s"
            raise Refused(words % (path, ", ".join(known) or "not set"))
        base = tempfile.mkdtemp(prefix="sciops.condor.")
        try:
            made = os.path.join(base, "config.d")
            os.mkdir(made, 0o700)
            for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
                if entry != name:
                    os.symlink(os.path.join(folder, entry), os.path.join(made, entry))
            for entry in beside:
                _place.write(os.path.join(made, entry), "# empty\n", 0o600)
            if text is not None:
                _place.write(os.path.join(made, name), text, 0o600)
            listed = ",".join(made if os.path.realpath(one) == real else one for one in known)
            head = "CONFIG_ROOT = %s\ninclude : %s\nLOCAL_CONFIG_DIR = %s\n" % (os.path.dirname(main), main, listed)
            _place.write(os.path.join(base, "condor_config"), head, 0o600)
            yield Trial(self, base, made, folder)
        finally:
            shutil.rmtree(base, ignore_errors=True)

    # --- the daemons

    def reconfig(self):
        """Have the daemons read their configuration. Raises Refused where they do not."""
        self._tell(["condor_reconfig"])

    def restart(self, daemon):
        """Have a daemon of the master start again, with ``master`` all of them; jobs end as in a shutdown."""
        self._tell(["condor_restart"] + (["-daemon", daemon] if daemon != "master" else []))

    def _tell(self, words):
        code, out, err = self.run(words)
        if code:
            said = " ".join((err + " " + out).split())
            raise Refused("%s: %s" % (words[0], said or "ended with status %d" % code))


class Trial:
    """A configuration that only condor_config_val reads; what it says of its files is said of the live ones."""

    def __init__(self, condor, base, made, folder):
        self.condor, self.main, self._made, self._folder = condor, os.path.join(base, "condor_config"), made, folder

    def _ask(self, method, *args):
        try:
            return method(*args, main=self.main)
        except Refused as error:
            raise Refused(str(error).replace(self._made, self._folder))

    def files(self):
        return [one.replace(self._made, self._folder) for one in self._ask(self.condor.sources)[1]]

    def knobs(self, names):
        found = self._ask(self.condor.knobs, names)
        for one in found.values():
            for key in ("file", "value", "raw"):
                one[key] = one[key].replace(self._made, self._folder)
        return found

    def startup(self):
        return self._ask(self.condor.startup)


# --- processes of the daemons


def daemons(proc="/proc"):
    """{program: seconds since boot when the youngest of that name began} of masters here and what they started."""
    seen = {}
    for word in os.listdir(proc):
        if word.isdigit():
            try:
                with open(os.path.join(proc, word, "stat"), "rb") as handle:
                    text = handle.read().decode("utf-8", "replace")
            except OSError:
                continue
            name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            if name.startswith("condor_") and rest[0] != "Z":
                seen[int(word)] = (name, int(rest[1]), int(rest[19]) / float(_probe.TICK))
    masters = {pid for pid, (name, _parent, _at) in seen.items() if name == "condor_master"}
    found = {}
    for pid, (name, parent, at) in seen.items():
        if pid in masters or parent in masters:
            found[name] = max(at, found.get(name, 0))
    return found


def names(daemons_asked, running):
    """Names of processes of daemons (``startd``), with ``master`` of all that it started, of those that run."""
    if "master" in daemons_asked:
        return [one for one in running if one != "condor_master"]
    # the kernel keeps 15 letters of a name
    return [one for one in (("condor_" + name)[:15] for name in daemons_asked) if one in running]


def restarted(running, daemon, at):
    """Whether a daemon, with ``master`` all of them, began after ``at`` or does not run at all."""
    return all(running[name] > at for name in names([daemon], running))


def unreadable(mode, uid, gid, name="condor"):
    """The name of the daemons' user, where it cannot read a file of this mode, owner and group; empty where it can.

    HTCondor refuses a reconfig with such a file. Without that user, or not as root, they are those of the caller.
    """
    if os.geteuid() != 0:
        return ""
    try:
        who = pwd.getpwnam(name)
    except KeyError:
        return ""
    uid, gid = (0 if uid == -1 else uid), (0 if gid == -1 else gid)
    if who.pw_uid == uid:
        bit = stat.S_IRUSR
    elif gid in os.getgrouplist(name, who.pw_gid):
        bit = stat.S_IRGRP
    else:
        bit = stat.S_IROTH
    return "" if mode & bit else name


class Due:
    """What the daemons have not read yet: whether a reconfig is due, and values they began with, by knob."""

    def __init__(self, path, folder=None):
        if folder is None:
            user = os.environ.get("XDG_RUNTIME_DIR")
            folder = DUE if os.geteuid() == 0 else user and os.path.join(user, "sciops.sites")
        self.path = folder and os.path.join(folder, "condor%s.json" % path.replace("/", "-"))
        self.reconfig, self.at, self.began = False, 0.0, {}
        try:
            kept = json.loads((self.path and _place.read(self.path)) or "{}")
            self.reconfig, self.at = bool(kept.get("reconfig")), float(kept.get("at", 0))
            self.began = {str(key): str(value) for key, value in dict(kept.get("began", {})).items()}
        except (ValueError, TypeError, AttributeError):
            # of somebody else, or of no use: what is not known to be done is due
            self.reconfig = True

    def needed(self, now, running):
        """{knob: daemon} of those that daemons which run still have another value of. Forgets the others."""
        found = {}
        for name, value in list(self.began.items()):
            who = _condor_config.reader(name)
            if who and now.get(name.lower(), "") != value and not restarted(running, who, self.at):
                found[name] = who
            else:
                del self.began[name]
        return found

    def add(self, before, after):
        """Note the values that daemons have of knobs which become different."""
        for name in _condor_config.restarts(before, after):
            self.began.setdefault(name, before.get(name.lower(), ""))
        self.at = _probe.uptime()

    def keep(self):
        if self.path is None:
            return
        if self.reconfig or self.began:
            _place.folder(os.path.dirname(self.path), 0o755)
            text = json.dumps({"reconfig": self.reconfig, "at": self.at, "began": self.began}, sort_keys=True)
            _place.write(self.path, text + "\n", 0o600)
        else:
            _place.drop(self.path)


# --- programs that HTCondor starts


def program_fault(path, owners=(0,), base="/"):
    """Why a program must not be started by daemons of root, empty where it may.

    It and every folder and link on the way to it must be of root, and nobody else may write there. Folders above
    ``base`` are not looked at.
    """
    if not path.startswith("/"):
        return "%r is no absolute path" % path
    todo, walked, links = [part for part in path.split("/") if part], "/", 0
    above = base.split("/")
    above = ["/".join(above[:i]) for i in range(2, len(above) + 1)]
    fault = _loose(base, owners)
    while todo and not fault:
        part = todo.pop(0)
        if part == ".":
            continue
        if part == "..":
            walked = os.path.dirname(walked)
            continue
        step = os.path.join(walked, part)
        try:
            seen = os.lstat(step)
        except OSError as error:
            return "%s: %s" % (step, error.strerror)
        if stat.S_ISLNK(seen.st_mode):
            links += 1
            if links > LINKS:
                return "%s: too many links" % path
            if seen.st_uid not in owners:
                return "%s: is a link of user %d, not of root" % (step, seen.st_uid)
            target = os.readlink(step)
            todo = [one for one in target.split("/") if one] + todo
            walked = "/" if target.startswith("/") else walked
            continue
        if step not in above:
            fault = _loose(step, owners)
        walked = step
    if fault:
        return fault
    seen = os.stat(walked)
    if not stat.S_ISREG(seen.st_mode):
        return "%s: is no file" % walked
    if not seen.st_mode & stat.S_IXOTH:
        return "%s: mode %04o: those who run jobs may not execute it; chmod 0755" % (walked, stat.S_IMODE(seen.st_mode))
    return ""


def _loose(path, owners):
    seen = os.lstat(path)
    mode = stat.S_IMODE(seen.st_mode)
    if seen.st_uid not in owners:
        return "%s: belongs to user %d, not to root; who owns it decides what HTCondor runs" % (path, seen.st_uid)
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and seen.st_gid != 0):
        return "%s: mode %04o: others may write there; chmod go-w" % (path, mode)
    return ""
