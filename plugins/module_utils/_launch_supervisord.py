# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launch method `supervisord`: programs of a supervisord whose configuration is part of the deployment.

Note that this module util is **PRIVATE** to the collection.

A service is a program, a group of its own, or `group:program`. Only groups of our services are ever told anything;
what others have in the same supervisord stays as it runs. Python 3.6 and the standard library, no f-strings (see
_probe).
"""

import contextlib
import json
import os
import re
import shutil
import time

from ansible_collections.sciops.sites.plugins.module_utils import (
    _launch,
    _place,
    _probe,
    _process,
    _supervise,
    _supervisor,
)
from ansible_collections.sciops.sites.plugins.module_utils._launch import Failure, state

WORDS = {"RUNNING": "running", "STOPPING": "running", "STARTING": "starting", "BACKOFF": "starting"}
WORDS.update(STOPPED="stopped", FATAL="failed", EXITED="stopped")
OVER = ("STOPPED", "EXITED", "FATAL")
# the worst of several processes speaks for a group
RANK = ("unknown", "failed", "stopped", "starting", "running")
TROUBLE = (_supervisor.Down, _supervisor.Silent, _supervisor.Denied, _supervisor.Fault)
# nothing to do for these, they are as they should be
FINE = (_supervisor.BAD_NAME, _supervisor.NOT_RUNNING, _supervisor.ALREADY_STARTED, _supervisor.ALREADY_ADDED)
TIMEOUT = 60.0


def split(unit):
    """(group, program), the program None where all of the group is meant."""
    group, colon, program = unit.partition(":")
    return group, program if colon else None


def sections_of(dest, text):
    """Sections of an INI text. Raises Failure."""
    try:
        return _supervisor.parse(text, dest)
    except ValueError as error:
        raise Failure(str(error))


def check_server(dest, sections):
    """Raises Failure where everybody could control this supervisord, or where it would not leave the terminal."""
    for title, options in sections.items():
        if title.partition(":")[0] == "inet_http_server" and not (options.get("username") and options.get("password")):
            words = "%s: [%s] has no username or an empty password, so every process that reaches the port controls it"
            raise Failure(words % (dest, title))
    if sections.get("supervisord", {}).get("nodaemon", "false").strip().lower() in ("true", "yes", "on", "1"):
        raise Failure("%s: [supervisord] nodaemon is true; launch method supervisord needs false" % dest)


def definitions(settings, services, files):
    """Sections of each service as canonical text. A group is one: what changes one program of it changes all."""
    found = {}
    for dest in sorted(files):
        if not re.search(r"^\[(program|group|supervisord|inet_http_server)[:\]]", files[dest], re.M):
            continue
        sections = sections_of(dest, files[dest])
        check_server(dest, sections)
        for title, options in sections.items():
            if title.partition(":")[0] in ("program", "group"):
                if title in found:
                    raise Failure("%s: [%s] is in %s too" % (dest, title, found[title][0]))
                found[title] = (dest, options)
    members = {
        title[6:]: [word.strip() for word in options.get("programs", "").split(",")]
        for title, (_dest, options) in found.items()
        if title.startswith("group:")
    }
    texts = {}
    for one in services:
        unit = one.get("unit") or one["name"]
        group, program = split(unit)
        programs = members.get(group, [group])
        other = [name for name, words in members.items() if program is None and group in words and name != group]
        if other:
            raise Failure(
                "service %s: program %s is in group %s: say unit %s:%s"
                % (one["name"], group, other[0], other[0], group)
            )
        if program not in [None] + programs:
            raise Failure("service %s: group %s has no program %s" % (one["name"], group, program))
        lost = [name for name in programs if "program:" + name not in found]
        if lost:
            raise Failure("service %s: no file of the release has a section [program:%s]" % (one["name"], lost[0]))
        titles = ["program:" + name for name in programs] + ["group:" + group] * (group in members)
        texts[one["name"]] = json.dumps({title: found[title][1] for title in titles}, sort_keys=True, indent=1)
    return texts


class Launch(_launch.Launch):
    """See docs/deploy-launch.md for the settings."""

    def __init__(self, settings, services):
        _launch.Launch.__init__(self, settings, services)
        self.config = settings["config"]
        self.program = settings.get("program") or "supervisord"
        self.timeout = float(settings.get("timeout") or TIMEOUT)

    def missing(self):
        # one with a path may come with the release
        if "/" in self.program or shutil.which(self.program, path=_supervise.PATHS):
            return []
        return ["no program %s on this host; install supervisor, or name it in launch.supervisord" % self.program]

    # --- what is there

    def server(self):
        """The supervisord of the configuration, None where there is none yet. Raises Failure."""
        if not os.path.exists(self.config):
            return None
        try:
            return _supervise.Server(self.config, min(self.timeout, 10))
        except _supervise.Failure as error:
            raise Failure(str(error))

    def live(self):
        """All processes of supervisord, None where it does not run. Raises Failure where nobody knows."""
        server = self.server()
        try:
            rows = server.live() if server else None
        except _supervise.Failure as error:
            raise Failure(str(error))
        daemons = self.daemons() if rows is None else []
        if daemons:
            words = (
                "pid %d is the supervisord of %s and is not to be reached as that says: is it just starting, or was "
            )
            words += "it started with another address or password? End it (kill %d), or wait"
            raise Failure(words % (daemons[0].pid, self.config, daemons[0].pid))
        return rows

    def daemons(self):
        """Processes that are a supervisord with our configuration, whether it answers or not."""
        return [p for p in map(_probe.look, _supervisor.daemons(self.config)) if p]

    def rows(self, infos, name):
        """What supervisord says of the processes of a service."""
        group, program = split(self.unit(name))
        return [one for one in infos if one["group"] == group and program in (None, one["name"])]

    def left(self, table, names):
        """Processes of services that no supervisord has any more: its mark is on them, and their parent is gone."""
        server = self.server()
        address = server.found["address"] if server else None
        wanted = [split(self.unit(name)) for name in names]

        def marked(p):
            said = environment(p)
            url, group = said.get("SUPERVISOR_SERVER_URL"), said.get("SUPERVISOR_GROUP_NAME")
            program = said.get("SUPERVISOR_PROCESS_NAME")
            return same_server(url, address) and ((group, None) in wanted or (group, program) in wanted)

        # a deployment that one of them runs is not one of them
        above = [os.getpid()] + _probe.ancestors(table, table.get(os.getpid()))
        free = [p for p in table.values() if os.geteuid() in (0, p.uid) and p.state != "K" and p.pid not in above]
        mine = [(p, table.get(p.ppid)) for p in free if marked(p)]
        return [p for p, parent in mine if parent is None or parent.pid == 1 or parent.name == "systemd"]

    def states(self):
        try:
            infos = self.live()
        except Failure as error:
            return {name: state("unknown", str(error)) for name in self.services}
        if infos is not None:
            return {name: self.one(self.rows(infos, name)) for name in self.services}
        table, found = _probe.scan(), {}
        for name in self.services:
            left = self.left(table, [name])
            found[name] = state("stopped", "supervisord does not run")
            if left:
                words = "supervisord is dead, and pid %d that it had started lives on; a start ends it first"
                found[name] = state("failed", words % left[0].pid, left[0].pid)
        return found

    def one(self, rows):
        """The state of a service of these processes."""
        if not rows:
            return state("stopped", "supervisord does not know it yet")
        found = []
        for info in rows:
            word = WORDS.get(info["statename"], "unknown")
            why = info.get("spawnerr") or ("" if word == "running" else info.get("description") or "")
            if info["statename"] == "EXITED":
                word = "failed" if info.get("exitstatus") else "stopped"
                why = "ended with status %s" % info.get("exitstatus")
            why = "" if info["statename"] == "RUNNING" else "%s%s" % (info["statename"], ": " + why if why else "")
            found.append(state(word, why, info.get("pid")))
        return min(found, key=lambda one: RANK.index(one["state"]))

    # --- what it is told

    def told(self, calls, what):
        """Several calls of one round trip. Raises Failure for the first that was refused and is not as it should be."""
        if not calls:
            return []
        server = self.server()
        try:
            answers = server.rpc.many(calls)
        except TROUBLE as error:
            raise Failure(str(server.trouble(error)))
        for call, said in zip(calls, answers):
            if isinstance(said, _supervisor.Fault) and said.code not in FINE:
                raise Failure("supervisord does not %s %s: %s" % (what, " ".join(map(str, call[1:2])), said.text))
        return answers

    def stop(self, names, seconds):
        self.sure(names)

        def up():
            infos = self.live() or []
            left = [one for name in names for one in self.rows(infos, name) if one["statename"] not in OVER]
            words = ["%s:%s" % (one["group"], one["name"]) for one in left if one["statename"] != "STOPPING"]
            self.told([("stopProcess", word, False) for word in words], "stop")
            return left

        left = _launch.wait(up, seconds)
        if not left:
            # one that had just ended may have been started again by itself
            time.sleep(_launch.POLL)
            left = _launch.wait(up, seconds)
        if left:
            words = ", ".join("%s (pid %s) is %s" % (one["name"], one["pid"], one["statename"]) for one in left)
            raise Failure("%s %d s after its stop" % (words, seconds))
        _launch.end(lambda table: self.left(table, names), seconds)

    def load(self, names, gone):
        ours = {split(self.unit(name))[0] for name in names}
        former = {split(self.unit(name))[0] for name in gone}
        if not names and self.server() is None:
            # its configuration went with the release; what is still in it has nothing to be read from
            return
        infos = self.live()
        if infos is None:
            return
        changed, removed = self.reread(ours)
        known = {one["group"] for one in infos}
        over = [group for group in sorted(known & (ours | former)) if group in changed or group in removed]
        self.told([("removeProcessGroup", group) for group in over], "forget")

    def reread(self, groups):
        """Have it read its files: (groups that changed, that are gone). Raises Failure where it lacks one of these."""
        server = self.server()
        try:
            _added, changed, removed = server.rpc.reread()
            there = {row["group"] for row in server.rpc.call("getAllConfigInfo")}
        except _supervisor.Fault as fault:
            raise Failure("supervisord refuses its files: %s" % fault)
        except TROUBLE as error:
            raise Failure(str(server.trouble(error)))
        lost = sorted(set(groups) - there)
        if lost:
            words = "%s: the supervisord that runs does not have %s after it read its files; does [include] name them?"
            raise Failure(words % (self.config, ", ".join(lost)))
        return changed, removed

    def start(self, names, seconds):
        self.sure(names)
        infos = self.live()
        if infos is None:
            _launch.end(lambda table: self.left(table, self.services), seconds)
            self.launch()
            infos = self.live() or []
        down = [name for name in names if all(one["statename"] in OVER for one in self.rows(infos, name))]
        _launch.end(lambda table: self.left(table, down), seconds)
        fresh = sorted({split(self.unit(name))[0] for name in down} - {one["group"] for one in infos})
        if fresh:
            self.reread(fresh)
            self.told([("addProcessGroup", group) for group in fresh], "add")
            infos = self.live() or []
        rows = [one for name in down for one in self.rows(infos, name) if one["statename"] in OVER]
        self.told([("startProcess", "%s:%s" % (one["group"], one["name"]), False) for one in rows], "start")

    def launch(self):
        """Start supervisord itself. Raises Failure."""
        self.check()
        try:
            self.server().launch(self.program)
        except _supervise.Failure as error:
            raise Failure(str(error))

    def check(self):
        """Raises Failure where no supervisord may be started with the configuration as it is."""
        text = _place.read(self.config)
        if text is None:
            raise Failure("%s: is not there, so no supervisord can be started" % self.config)
        check_server(self.config, sections_of(self.config, text))

    def manager(self, names):
        """Restart supervisord, for which all its programs end; those of others are started again. Says which.

        Only `names` of ours are to run then. Where that is nothing at all, it ends and comes back with the next start.
        """
        others, daemons = None, self.daemons()
        with contextlib.suppress(Failure):
            infos = self.live()
            if infos is None:
                return ""
            ours = {split(self.unit(name))[0] for name in self.services}
            others = [one for one in infos if one["group"] not in ours and one["statename"] == "RUNNING"]
            others = sorted("%s:%s" % (one["group"], one["name"]) for one in others)
            daemons = self.who() or daemons
        self.check()
        self.quit(daemons)
        if others == [] and not names:
            return "supervisord has ended; it reads its changed file when it starts with its services"
        self.launch()
        self.told([("startProcess", name, False) for name in others or []], "start")
        rest = [name for name in self.services if name not in names]
        if rest:
            # those that it starts by itself, although they are to stay down
            self.stop(rest, max(self.services[name].get("timeout") or self.timeout for name in rest))
        what = ", ".join(name.partition(":")[2] for name in others or [])
        what = "what others had in it, which could not be asked for" if others is None else what
        return "supervisord was restarted, and with it %s" % (what or "nothing of others")

    def retire(self, dests):
        """End the supervisord whose configuration is one of these files, which go; what runs in it keeps it."""
        if os.path.normpath(self.config) not in dests:
            return ""
        infos = self.live()
        if infos is None:
            return ""
        left = sorted("%s:%s" % (one["group"], one["name"]) for one in infos if one["statename"] not in OVER)
        if left:
            words = "supervisord goes on although its %s goes, for what runs in it: %s; end it when that has ended"
            return words % (self.config, ", ".join(left))
        self.quit(self.who() or self.daemons())
        return ""

    def who(self):
        """The supervisord that answers, which may have been started with another word for the same file."""
        (pid,) = self.told([("getPID",)], "tell of")
        return [p for p in [_probe.look(pid)] if p]

    def quit(self, daemons):
        """End these supervisords, and with them their programs. Raises Failure where one stays."""
        if not daemons:
            raise Failure("%s: its supervisord does not say who it is, and so cannot be ended" % self.config)
        starts = {p.pid: p.start for p in daemons}
        for p in daemons:
            _process.send(p, 15)

        def alive():
            return [p for p in map(_probe.look, starts) if p and p.start == starts[p.pid]]

        seconds = self.timeout + max([0] + [one.get("timeout") or 0 for one in self.services.values()])
        if _launch.wait(alive, seconds):
            raise Failure("supervisord (pid %d) was told to end and still runs after %d s" % (daemons[0].pid, seconds))


def environment(p):
    """The environment that a process was started with, empty where it is hidden or gone."""
    try:
        words = _probe.read("/proc/%d/environ" % p.pid).decode("utf-8", "replace").split("\0")
    except OSError:
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)


def same_server(url, address):
    """Whether the address that a program was told of its supervisord is this one; of a host the port counts."""
    if not url or not address:
        return False
    if url.startswith("unix://") or address.startswith("unix://"):
        return url == address
    return url.rpartition(":")[2].strip("/") == address.rpartition(":")[2].strip("/")
