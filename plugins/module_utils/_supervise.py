# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Brings a supervisord to what a set of programs says (see _programs, which decides).

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import time

from ansible_collections.sciops.sites.plugins.module_utils import _place, _programs, _secrets, _supervisor

PATHS = os.pathsep.join(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
DISTRIBUTION = ("/etc/supervisor/supervisord.conf", "/etc/supervisord.conf")
# seconds until a supervisord that was just started listens
PATIENCE = 15
POLL = 0.1


class Failure(Exception):
    """It is not as declared; `facts` are keys of the result."""

    def __init__(self, text, **facts):
        Exception.__init__(self, text)
        self.facts = facts


def own_config():
    """Where the configuration of a supervisord of ours is."""
    if os.geteuid() == 0:
        return "/var/lib/sciops.supervisord/supervisord.conf"
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "sciops.sites", "supervisord", "supervisord.conf")


def default_config():
    """The distribution's for root where there is one, else ours."""
    found = [path for path in DISTRIBUTION if os.geteuid() == 0 and os.path.exists(path)]
    return found[0] if found else own_config()


class Server:
    """The supervisord of one configuration file, which may not be there yet."""

    def __init__(self, config, timeout):
        self.config, self.timeout = os.path.abspath(config), timeout
        self.there = os.path.exists(self.config)
        self.home = os.path.dirname(self.config)
        if self.there:
            try:
                self.found = _supervisor.read_config(self.config)
            except ValueError as error:
                raise Failure(str(error))
        else:
            self.found = {"address": "unix://" + self.home + "/supervisor.sock", "username": None, "password": None}
            self.found["includes"] = [self.home + "/conf.d/*.conf"]
        if not self.found["address"]:
            raise Failure(
                "%s: this supervisord listens nowhere; give it a [unix_http_server] and restart it" % self.config
            )
        try:
            words = [self.found[key] for key in ("username", "password")]
            self.rpc = _supervisor.Supervisor(self.found["address"], timeout, *words)
        except ValueError as error:
            raise Failure("%s: %s" % (self.config, error))

    def live(self):
        """All processes, or None where no supervisord runs. One that hangs is a Failure: what it has is unknown."""
        try:
            return self.rpc.processes()
        except _supervisor.Gone:
            self.alone(_supervisor.lost)
            return None
        except _supervisor.Down:
            return None
        except (_supervisor.Silent, _supervisor.Denied, _supervisor.Fault) as error:
            raise self.trouble(error)

    def alone(self, look):
        """Raises Failure where a supervisord of this configuration lives that nobody can talk to."""
        words = look(self.config, self.found["address"])
        if words:
            raise Failure("%s. What runs is unknown" % words, running=None)

    def trouble(self, error):
        """A failure of a call as one of the task."""
        if isinstance(error, _supervisor.Down):
            return Failure("supervisord ended while it was told what to do: %s" % error, running=False)
        if isinstance(error, _supervisor.Silent):
            return Failure("supervisord hangs, what runs is unknown: %s" % error, running=None)
        if isinstance(error, _supervisor.Denied):
            return Failure("supervisord lets nobody in: %s" % error, running=True)
        return Failure("supervisord refuses: %s" % error, running=True)

    def uid(self):
        """Who it runs as, and so must be able to read its files."""
        with contextlib.suppress(_supervisor.Down, _supervisor.Silent, _supervisor.Denied, _supervisor.Fault, OSError):
            return os.stat("/proc/%d" % self.rpc.call("getPID")).st_uid
        name = None
        with contextlib.suppress(_place.Misplaced, ValueError):
            text = _place.read(self.config) or ""
            name = _supervisor.parse(text, self.config).get("supervisord", {}).get("user")
        with contextlib.suppress(KeyError):
            if name and os.geteuid() == 0:
                return pwd.getpwnam(name).pw_uid
        return os.geteuid()

    def launch(self, program):
        """Start it. The configuration is written where there is none."""
        path = shutil.which(program, path=PATHS)
        if not path:
            raise Failure("no program %s on this host; install supervisor, or say where it is" % program, running=False)
        self.alone(_supervisor.occupied)
        if not self.there:
            # passable, so that the users of programs come to their secrets; nothing in it can be listed or read
            _place.folder(self.home + "/conf.d", 0o711)
            try:
                text = _supervisor.server_config(self.home, user="root" if os.geteuid() == 0 else None)
            except ValueError as error:
                raise Failure(str(error))
            _place.write(self.config, text, 0o600)
            self.there = True
        env = {"PATH": PATHS, "HOME": os.path.expanduser("~"), "LANG": "C.UTF-8"}
        # its socket and its log are nobody else's, not for a moment; it sets a umask of its own for what it runs
        before = os.umask(0o077)
        try:
            done = subprocess.run(
                [path, "-c", self.config],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=env,
                cwd="/",
                start_new_session=True,
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Failure("%s -c %s: %s" % (path, self.config, error), running=False)
        finally:
            os.umask(before)
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends and not done.returncode:
            with contextlib.suppress(_supervisor.Down, _supervisor.Silent, _supervisor.Fault):
                if self.rpc.state() == "RUNNING":
                    return
            time.sleep(POLL)
        said = done.stdout.decode("utf-8", "replace").strip().splitlines()
        words = said[-1] if said else "it does not listen after %d s" % PATIENCE
        raise Failure("%s -c %s: status %d: %s" % (path, self.config, done.returncode, words), running=False)

    def foreign(self, own):
        """Programs that other files of this configuration declare, name -> file, where they can be read."""
        found = {}
        for path in [self.config] + [p for pattern in self.found["includes"] for p in sorted(glob.glob(pattern))]:
            if os.path.realpath(path) == os.path.realpath(own):
                continue
            with contextlib.suppress(ValueError, _place.Misplaced):
                for title in _supervisor.parse(_place.read(path) or "", path):
                    kind, _colon, name = title.partition(":")
                    if kind in ("program", "fcgi-program", "eventlistener", "group"):
                        found[name.strip()] = path
        return found


class Change:
    """What is done to a running supervisord: a plan of _programs, carried out.

    `grace` are the seconds that a stop may take; `note(names)` writes down what is not yet done.
    """

    def __init__(self, server, todo, wanted, timeout, grace, note):
        self.server, self.rpc, self.todo, self.wanted = server, server.rpc, todo, wanted
        self.timeout, self.grace, self.note = timeout, grace, note

    def run(self, start, serial):
        """Carry it out. Raises Failure."""
        self._told(lambda: self._run(start, serial))

    def wait(self, said=None):
        """Wait until all that is to run does. Raises Failure."""
        names = [name for name, one in self.wanted.items() if one["autostart"] is not False]
        self._told(lambda: self.settle(names, said))

    def _told(self, what):
        try:
            what()
        except (_supervisor.Down, _supervisor.Silent, _supervisor.Denied, _supervisor.Fault) as error:
            raise self.server.trouble(error)

    def _run(self, start, serial):
        left = [name for key in ("removed", "restarted", "added") for name in self.todo[key]]
        self.clear(self.todo["removed"])
        again = self.todo["restarted"]
        size = serial or max(len(again), 1)
        for batch in [again[i : i + size] for i in range(0, len(again), size)]:
            self.clear(batch)
            self.add(batch)
            left = [name for name in left if name not in batch and name not in self.todo["removed"]]
            if start and serial:
                # a definition that does not run leaves the rest of the copies as they were
                self.note(left)
                self.settle(batch)
        self.add(self.todo["added"])
        self.note(())
        if start:
            self.wait(self.start(self.todo["started"]))

    def many(self, method, names, *more):
        """Results of one method for each name."""
        return list(zip(names, self.rpc.many([(method, name) + more for name in names])))

    def clear(self, names):
        """Stop groups and have supervisord forget them."""
        fine = (_supervisor.BAD_NAME, _supervisor.NOT_RUNNING)
        # stopProcessGroup is answered in a later round of supervisord's loop, a second for each group
        for _name, said in self.many("stopProcess", names, False):
            if isinstance(said, _supervisor.Fault) and said.code not in fine:
                raise said
        ends, left = time.monotonic() + self.grace, names
        while left:
            todo, left = left, []
            for name, said in self.many("removeProcessGroup", todo):
                if isinstance(said, _supervisor.Fault) and said.code == _supervisor.STILL_RUNNING:
                    left.append(name)
                elif isinstance(said, _supervisor.Fault) and said.code not in fine:
                    raise said
            if left and time.monotonic() > ends:
                raise Failure("%s: still running %d s after its stop" % (", ".join(left), self.grace), running=True)
            time.sleep(POLL if left else 0)

    def add(self, names):
        """Have supervisord know groups; it starts what has autostart."""
        for _name, said in self.many("addProcessGroup", names):
            if isinstance(said, _supervisor.Fault) and said.code != _supervisor.ALREADY_ADDED:
                raise said

    def start(self, names):
        """Start what is known and does not run; returns what supervisord said of those that it could not, by name."""
        said = {}
        for name, result in self.many("startProcess", names, False):
            if isinstance(result, _supervisor.Fault) and result.code != _supervisor.ALREADY_STARTED:
                said[name] = result.text
        return said

    def settle(self, names, said=None):
        """Wait until these run or have done their work. Raises Failure with the words of what does not."""
        ends = time.monotonic() + self.timeout
        while True:
            infos = {info["group"]: info for info in self.rpc.processes() if info["group"] in names}
            bad, waiting = [], []
            for name in names:
                known = infos.get(name)
                state = "failed" if known is None else _programs.verdict(known, self.wanted[name])
                if state == "failed":
                    bad.append(name)
                elif state == "wait":
                    waiting.append(name)
            if not waiting or time.monotonic() > ends:
                break
            time.sleep(POLL)
        if not bad and not waiting:
            return
        failed, words = [], []
        for name in bad + waiting:
            known = infos.get(name)
            words.append(_programs.words_of(name, known) + ("" if name in bad else " after %g s" % self.timeout))
            if name in (said or {}):
                words[-1] += ", " + said[name]
            failed.append(dict(_programs.row(known) if known else {"name": name}, log_tail=log_tail(known)))
        raise Failure("supervisord runs, and programs of this set do not: " + "; ".join(words), programs_failed=failed)


def log_tail(info, size=2000):
    """The last lines that a process wrote, as far as they are in a file that can be read."""
    for key in ("stderr_logfile", "stdout_logfile"):
        with contextlib.suppress(OSError, TypeError), open((info or {}).get(key), "rb") as handle:
            handle.seek(max(os.fstat(handle.fileno()).st_size - size, 0))
            lines = handle.read(size).decode("utf-8", "replace").splitlines()
            if lines:
                return lines[-10:]
    return []


def converge(params, check, result):
    """Make a set as declared and return the keys of the result.

    ``result`` gets `changed` as soon as something has changed, so that a failure tells the truth too.
    """
    name, absent = params["name"], params["state"] == "absent"
    wanted = _programs.definitions([] if absent else params["programs"])
    server = Server(params["config"] or default_config(), min(max(params["timeout"], 1), 10))
    launch = params["start_supervisord"] and not absent
    if not server.there and not launch and not absent:
        raise Failure(
            "%s: no such file, so there is no supervisord to give programs to; name its config, or let one be made "
            "with start_supervisord" % server.config,
            running=False,
        )
    path = _programs.include_file(server.found["includes"], name, server.config)
    text = _place.read(path)
    before, pending = _programs.read_document(name, text, path, params["force"])
    taken = server.foreign(path)
    for title in wanted:
        if title in taken:
            raise _programs.Unfit("program %s: %s has one of this name" % (title, taken[title]))
    live = server.live()
    result["running"] = live is not None
    running, launch = live is not None, launch and live is None
    if not running and not launch and not absent and params["start"]:
        raise Failure(
            "no supervisord runs, so nothing was changed: %s: nobody listens there; start it, or set start_supervisord"
            % server.found["address"],
            running=False,
        )
    uid = server.uid()
    if os.geteuid() not in (0, uid) and uid != 0:
        raise Failure("supervisord runs as user id %d, which could not read the file: run as it or as root" % uid)
    secrets = _secrets.Secrets(os.path.splitext(path)[0] + ".secrets", wanted, uid)
    final = _programs.document(name, wanted, secrets.files) if wanted else None
    after = _programs.read_document(name, final, path)[0]
    owner = _secrets.owner(None, uid) if os.geteuid() == 0 else None
    same = final == text and (final is None or _place.fits(path, 0o600, owner))

    if launch and not check:
        server.launch(params["supervisord"])
        result.update(changed=True, running=True)
        live = server.live()
    elif live is None:
        # a supervisord that starts now starts what its files have
        live = [{"name": n, "group": n, "statename": "RUNNING"} for n in before] if launch else []
    known = {info["group"]: info for info in live}
    todo = _programs.plan(before, pending, after, known, wanted)
    if todo["taken"]:
        words = "program %s: supervisord has one of this name that is not of the set %s; rename it"
        raise _programs.Unfit(words % (", ".join(todo["taken"]), name))
    if not params["start"]:
        todo["kept"], todo["started"] = todo["kept"] + todo["started"], []
    work = any(todo[key] for key in ("added", "removed", "restarted", "started"))
    facts = {key: todo[key] for key in ("added", "removed", "restarted", "started", "kept")}
    facts.update(file=path, running=running, supervisord_started=launch)
    facts["changed"] = bool(launch or work or not same or secrets.new or secrets.wrong or secrets.old)
    facts["diff"] = {"before": shown(text, name), "after": final or "", "before_header": path, "after_header": path}
    if check:
        facts["processes"] = [_programs.row(info) for info in live if info["group"] in set(before) | set(after)]
        if not running:
            facts["processes"] = []
        return facts
    if facts["changed"]:
        loaded = running or launch
        apply(server, params, wanted, todo, secrets, path, (text, owner), loaded, result)
        if loaded:
            facts["running"] = True
    if facts["running"]:
        if params["start"] and not facts["changed"]:
            Change(server, todo, wanted, params["timeout"], 0, None).wait()
        facts["processes"] = [_programs.row(info) for info in server.live() or [] if info["group"] in after]
    else:
        facts["processes"] = []
    return facts


def shown(text, name):
    """The old text for a diff; what others wrote may hold their secrets."""
    if text is not None and not text.startswith(_programs.MARK % name):
        return "a file of somebody else\n"
    return text or ""


def apply(server, params, wanted, todo, secrets, path, texts, loaded, result):
    """Write the files and change the running supervisord."""
    (text, owner), name = texts, params["name"]

    def note(pending):
        body = _programs.document(name, wanted, secrets.files, pending)
        if pending or wanted:
            _place.write(path, body, 0o600, owner)
        else:
            _place.drop(path)

    if wanted:
        _place.folder(os.path.dirname(path), 0o755)
    result["changed"] = True
    secrets.write()
    pending = [one for key in ("removed", "restarted", "added") for one in todo[key]]
    try:
        if loaded:
            note(pending)
            reread(server, path, wanted, todo)
        else:
            note(())
    except (Failure, _place.Misplaced):
        # no supervisord is left with a file that it cannot read
        if text is None:
            _place.drop(path)
        else:
            _place.write(path, text, 0o600, owner)
        secrets.undo()
        result["changed"] = False
        if loaded:
            with contextlib.suppress(_supervisor.Down, _supervisor.Silent, _supervisor.Fault):
                server.rpc.reread()
        raise
    if loaded:
        waits = [one["stopwaitsecs"] or 10 for one in wanted.values()]
        grace = max(waits + [10]) + params["timeout"]
        Change(server, todo, wanted, params["timeout"], grace, note).run(params["start"], params["serial"])
    secrets.sweep(secrets.old)


def reread(server, path, wanted, todo):
    """Let supervisord read its files, and see that it takes ours. Raises Failure, and nothing has changed then."""
    try:
        _added, changed, _removed = server.rpc.reread()
        rows = server.rpc.call("getAllConfigInfo")
    except _supervisor.Fault as fault:
        raise Failure("supervisord refuses its files, so ours was taken back: %s" % fault, running=True)
    except (_supervisor.Down, _supervisor.Silent, _supervisor.Denied) as error:
        raise server.trouble(error)
    lost = [name for name in wanted if name not in {row["group"] for row in rows}]
    if lost:
        raise Failure(
            "%s: supervisord does not read it, or has these programs in another group: %s; was it started with %s?"
            % (path, ", ".join(lost), server.config),
            running=True,
        )
    # its own word for it: what it runs is not what the file says, whoever changed it
    for name in [name for name in todo["kept"] + todo["started"] if name in changed]:
        todo["restarted"].append(name)
        for key in ("kept", "started"):
            todo[key][:] = [one for one in todo[key] if one != name]
