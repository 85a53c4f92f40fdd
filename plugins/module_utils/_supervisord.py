# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launcher ``supervisord``: one program, a group of its own, for each instance.

Note that this module util is **PRIVATE** to the collection.

supervisord restarts a whole group when its numprocs changes; with a group for each instance a count changes without a
word to the survivors. The server is one that we start (settings without ``config``) or one that is there, whose
[include] takes our one file. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import hashlib
import os
import resource
import shutil
import subprocess
import time

from ansible_collections.sciops.sites.plugins.module_utils import _managed, _manager, _process, _shim, _supervisor
from ansible_collections.sciops.sites.plugins.module_utils._manager import Down, Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

# faults that say that there is nothing to do
NOTHING_TO_DO = (_supervisor.BAD_NAME, _supervisor.NOT_RUNNING, _supervisor.ALREADY_ADDED)
# so many are asked for by name, more all together
FEW = 20
MOST_FILES = 16384
EXIT_CODES = {"unexpected": "0,%d" % _shim.BUSY, "always": str(_shim.BUSY), "never": str(_shim.BUSY)}


def files_allowed():
    """Run in a supervisord of ours before it is one: how many files it may open, since each program takes several.

    Not by its own minfds: so many handles are closed one by one at the start of every program.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Manager(_manager.Manager):
    """The supervisord of one site, deployment and host, or one of the host's."""

    name = "supervisord"
    starts = True
    CAPABILITIES = {"restarts": True, "placement": "host", "logout": True, "reboot": False}

    def __init__(self, settings, folder):
        _manager.Manager.__init__(self, settings, folder)
        self.timeout = float(settings.get("timeout") or 5)
        self.config = settings.get("config")
        self.home = folder + "/supervisord"
        self.key = hashlib.sha256(folder.encode()).hexdigest()[:8]
        self.ended = set()

    # --- where it is

    @classmethod
    def where(cls, settings):
        # a supervisord of ours reads its own file, whatever include says
        return {key: settings.get(key) for key in ("config", "include")} if settings.get("config") else {}

    def server(self):
        """What the configuration says: address, user name and password, includes. Raises Failed where it is unfit."""
        if not self.config:
            return {"address": "unix://" + self.socket(), "username": None, "password": None}
        try:
            found = _supervisor.read_config(self.config)
        except ValueError as error:
            raise Failed(str(error), "refused")
        if not found["address"]:
            raise Failed("%s: this supervisord listens nowhere; give it a [unix_http_server]" % self.config, "refused")
        return found

    def server_file(self):
        return self.config or self.home + "/supervisord.conf"

    def socket(self):
        """The socket of our own server; in the home folder where the state folder's path is too long for one."""
        path = self.home + "/supervisor.sock"
        if len(os.fsencode(path)) > _supervisor.OWN_SOCKET_PATH:
            path = os.path.expanduser("~/.sciops.sites/%s.sock" % self.key)
        return path

    def include(self):
        """The one file of ours that the server reads."""
        if not self.config:
            return self.home + "/conf.d/sciops.conf"
        if self.settings.get("include"):
            return self.settings["include"]
        for pattern in self.server()["includes"]:
            folder, name = os.path.split(pattern)
            if name.count("*") == 1 and not set("*?[") & set(folder + name.replace("*", "")):
                return "%s/%s" % (folder, name.replace("*", "sciops-" + self.key))
        raise Failed("%s: has no [include] that takes a file of ours; set include" % self.config, "refused")

    def rpc(self):
        try:
            found = self.server()
            return _supervisor.Supervisor(found["address"], self.timeout, found["username"], found["password"])
        except (Failed, ValueError) as error:
            raise Silent("supervisord: %s" % error)

    def ask(self, what, *args):
        """One method of the client, its ways to fail as those of a manager."""
        try:
            return getattr(self.rpc(), what)(*args)
        except _supervisor.Gone as error:
            words = _supervisor.lost(self.server_file(), self.server()["address"])
            if words:
                raise Silent("supervisord: %s" % words)
            raise Down("supervisord: %s" % error)
        except _supervisor.Down as error:
            raise Down("supervisord: %s" % error)
        except (_supervisor.Silent, _supervisor.Denied) as error:
            raise Silent("supervisord: %s" % error)
        except _supervisor.Fault as error:
            raise Failed("supervisord: %s" % error.text)

    def program(self):
        return shutil.which(self.settings.get("program") or "supervisord", path=_manager.PATHS)

    def prerequisites(self):
        missing = []
        if self.config:
            try:
                self.include()
            except Failed as error:
                missing.append("supervisord: %s" % error)
        if not self.program():
            try:
                self.ask("state")
            except Down:
                words = "supervisord: no program %s on this host; install supervisor, or say where it is with program"
                missing.append(words % (self.settings.get("program") or "supervisord"))
            except (Silent, Failed):
                pass
        return missing

    # --- what it has

    def infos(self, units):
        """What it says of its processes, group -> info; of these units at least."""
        if len(units) > FEW:
            return {one["group"]: one for one in self.ask("processes")}
        found = {}
        for unit, said in zip(units, self.ask("many", [("getProcessInfo", "%s:%s" % (unit, unit)) for unit in units])):
            if isinstance(said, _supervisor.Fault):
                if said.code != _supervisor.BAD_NAME:
                    raise Failed("supervisord: %s: %s" % (unit, said.text))
            elif isinstance(said, dict) and "pid" in said:
                found[unit] = said
            else:
                raise Silent("supervisord: %s: answered something else than a process" % unit)
        return found

    def states(self, units):
        infos, known = self.infos(units), self.specs()
        found = {}
        for unit in units:
            info = infos.get(unit)
            if info is None:
                continue
            word, code = str(info.get("statename")), info.get("exitstatus")
            again = word == "EXITED" and self.restarts(known.get(unit), code)
            message = info.get("spawnerr") or ("" if word == "RUNNING" else info.get("description") or "")
            if word == "EXITED":
                message = "ended with status %s%s" % (code, ", is started again" if again else "")
            # a word that nobody knows says nothing, and that is not absence
            over = word in ("STOPPED", "STOPPING", "FATAL") or (word == "EXITED" and not again)
            failing = word in ("BACKOFF", "FATAL") or word == "EXITED"
            found[unit] = {"state": word, "alive": not over, "failing": failing, "message": message}
            found[unit].update(pid=info.get("pid"), exit=code if word == "EXITED" else None)
        return found

    def restarts(self, spec, code):
        if spec is None:
            return False
        how = (spec.get("options") or {}).get("autorestart", "unexpected")
        return how != "never" and str(code) not in EXIT_CODES[how].split(",")

    def files(self, specs_of):
        try:
            parts = ["; written by sciops.sites for what is below %s\n" % self.folder]
            for unit, spec in sorted(specs_of.items()):
                parts.append(_supervisor.section("program", unit, self.options(unit, spec)))
            found = {self.include(): "\n".join(parts) if specs_of else None}
            if specs_of and not self.config:
                who = "root" if os.geteuid() == 0 else None
                ident = "sciops.sites." + self.key
                text = _supervisor.server_config(self.home, self.socket(), who, ident)
                found[self.server_file()] = text
            return found
        except ValueError as error:
            raise Failed(str(error), "refused")

    def options(self, unit, spec):
        own = spec.get("options") or {}
        how = own.get("autorestart", "unexpected")
        return [
            ("command", self.words(self.spec_path(unit))),
            ("directory", "/"),
            # a singleton may have gone elsewhere when somebody starts this supervisord again
            ("autostart", not spec.get("only_boot")),
            ("autorestart", False if how == "never" else "unexpected"),
            ("exitcodes", EXIT_CODES[how]),
            ("startsecs", int(own.get("startsecs", 1))),
            ("startretries", int(own.get("startretries", 3))),
            ("priority", own.get("priority")),
            ("stopsignal", "TERM"),
            ("stopasgroup", True),
            ("killasgroup", True),
            # who stops it waits and kills as long as it can; where it cannot, this does
            ("stopwaitsecs", int(spec.get("grace") or 0) + _process.KILL_WAIT),
            # one pipe less for each; the shim writes to the log by itself
            ("redirect_stderr", True),
            ("stdout_logfile", "NONE"),
        ]

    # --- what it is told

    def launch(self):
        """Start the server that does not run; what it is to have is in its files. Raises Failed."""
        if self.settings.get("start") is False:
            raise Failed("supervisord does not run, and the site says that it is not ours to start", "refused")
        program, config = self.program(), self.server_file()
        if not program:
            raise Failed("; ".join(self.prerequisites()) or "supervisord: no such program", "refused")
        words = _supervisor.occupied(config, self.server()["address"])
        if words:
            raise Failed("supervisord: %s" % words, "refused")
        if not self.config:
            os.makedirs(os.path.dirname(self.socket()), 0o700, exist_ok=True)
        env = {"PATH": _manager.PATHS, "HOME": os.path.expanduser("~"), "LANG": "C.UTF-8"}
        null = subprocess.DEVNULL
        try:
            done = subprocess.run(
                [program, "-c", config],
                stdin=null,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=env,
                cwd="/",
                start_new_session=True,
                preexec_fn=files_allowed,  # noqa: PLW1509 - there are no threads
                timeout=_managed.PATIENCE,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Failed("%s -c %s: %s" % (program, config, error))
        ends = time.monotonic() + _managed.PATIENCE
        while time.monotonic() < ends:
            try:
                if self.ask("state") == "RUNNING":
                    return
            except (Down, Silent):
                pass
            time.sleep(0.05)
        said = done.stdout.decode("utf-8", "replace").strip().splitlines()
        raise Failed("%s -c %s: status %d: %s" % (program, config, done.returncode, said[-1] if said else "no words"))

    def begin(self, units):
        try:
            have = self.infos(units)
        except Down:
            self.launch()
            self.run_singletons(self.specs())
            return
        old = [unit for unit in units if unit in have]
        if old:
            self.clear(old)
        self.ask("reread")
        for unit, said in zip(units, self.ask("many", [("addProcessGroup", unit) for unit in units])):
            if isinstance(said, _supervisor.Fault):
                raise Failed("supervisord: %s: %s" % (unit, said.text))
        known = self.specs()
        self.run_singletons({unit: known[unit] for unit in units if unit in known})

    def run_singletons(self, specs_of):
        """Start those that it does not start by itself."""
        units = sorted(unit for unit, spec in specs_of.items() if spec.get("only_boot"))
        for unit, said in zip(units, self.ask("many", [("startProcess", unit, False) for unit in units])):
            if isinstance(said, _supervisor.Fault) and said.code != _supervisor.ALREADY_STARTED:
                raise Failed("supervisord: %s: %s" % (unit, said.text))

    def end(self, units):
        have = self.infos(units)
        found = [unit for unit in units if unit in have]
        self.ended = {have[unit]["pid"] for unit in found if have[unit]["pid"]}
        for unit, said in zip(found, self.ask("many", [("stopProcess", unit, False) for unit in found])):
            if isinstance(said, _supervisor.Fault) and said.code not in NOTHING_TO_DO:
                raise Failed("supervisord: %s: %s" % (unit, said.text))

    def signals(self, p):
        """Whether a process gets its TERM from supervisord: all of the group that it made."""
        try:
            return os.getpgid(p.pid) in self.ended
        except OSError:
            return False

    def clear(self, units):
        """Have it know nothing of units that are over."""
        ends, todo, told = time.monotonic() + _managed.PATIENCE, list(units), False
        while todo:
            left = []
            for unit, said in zip(todo, self.ask("many", [("removeProcessGroup", unit) for unit in todo])):
                if isinstance(said, _supervisor.Fault) and said.code not in NOTHING_TO_DO:
                    if said.code != _supervisor.STILL_RUNNING or time.monotonic() > ends:
                        raise Failed("supervisord: %s: %s" % (unit, said.text))
                    left.append(unit)
            todo = left
            if todo and not told:
                self.end(todo)
                told = True
            time.sleep(0.05 if todo else 0)

    def forget(self, units):
        try:
            self.clear(units)
            if not self.config and not _manager.specs(self.folder, self.name):
                self.ask("call", "shutdown")
        except Down:
            pass


CAPABILITIES = Manager.CAPABILITIES
start, stop, rotate, describe, observe, prerequisites = _managed.contract(Manager)
