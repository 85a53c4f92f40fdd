# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launch method `process`: plain processes of this user, such as a gitlab-runner that is started once and stays.

Note that this module util is **PRIVATE** to the collection.

A process is known by its whole command line, so one that somebody else started by hand counts too, and an editor that
has its file open does not. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import fcntl
import json
import os
import pwd
import re
import shlex

from ansible_collections.sciops.sites.plugins.module_utils import _launch, _probe
from ansible_collections.sciops.sites.plugins.module_utils._launch import Failure, state

INTERPRETERS = re.compile(r"((ba|da|k|z)?sh|python[\d.]*|perl|ruby|node|Rscript)\Z")
PATHS = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def option(settings, service, key):
    """What a service says, else what its launch settings say."""
    return service.get(key) if service.get(key) is not None else settings.get(key)


def command_of(settings, service):
    """The words of a service's command. Raises Failure."""
    command = option(settings, service, "command")
    if not isinstance(command, list) or not command:
        raise Failure("service %s: launch method process needs command, a list of words" % service["name"])
    return [str(word) for word in command]


def log_of(settings, service):
    """The file that a service's output is appended to. Raises Failure."""
    log = option(settings, service, "log")
    if not log:
        raise Failure("service %s: launch method process needs log, a file for its output" % service["name"])
    return log


def definitions(settings, services, files):
    """Command, prelude and log of each service. Raises Failure."""
    found = {}
    for one in services:
        said = {"command": command_of(settings, one), "log": log_of(settings, one)}
        said["prelude"] = option(settings, one, "prelude") or ""
        found[one["name"]] = json.dumps(said, sort_keys=True)
    return found


def shell(prelude, command):
    """The words that are run: a login shell, so that `module` is there, which becomes the command."""
    return ["bash", "-lc", (prelude + "\n" if prelude else "") + 'exec "$@"', "bash"] + command


def interpreter(path):
    """The words that a script's first line puts before its own path; empty for a program, None where it is gone."""
    try:
        with open(path, "rb") as handle:
            line = handle.readline(256)
    except FileNotFoundError:
        return None
    except OSError:
        return []
    if not line.startswith(b"#!"):
        return []
    words = line[2:].decode("utf-8", "replace").strip().split(None, 1)
    if words and os.path.basename(words[0]) == "env":
        # env is gone once the program runs
        words = [word for word in shlex.split(" ".join(words[1:])) if word not in ("-S", "-i") and "=" not in word]
    return words


def same(one, other):
    """Whether two words name the same program: as they are, or by the last part where one has no path."""
    if "/" in one and "/" in other:
        return one == other
    return os.path.basename(one) == os.path.basename(other)


def runs(words, command, before):
    """Whether a command line is that of a command, `before` which an interpreter may stand.

    Of a script that is gone any interpreter may be: what it had started before goes on.
    """
    head, tail = words[: -len(command)], words[-len(command) :]
    if len(tail) < len(command) or not same(tail[0], command[0]) or tail[1:] != command[1:]:
        return False
    if before is None and head:
        return len(head) < 3 and INTERPRETERS.match(os.path.basename(head[0])) is not None
    return not head or (len(head) == len(before) and same(head[0], before[0]) and head[1:] == before[1:])


class Launch(_launch.Launch):
    """See docs/architecture-deploy.md. A service has command, log and prelude, or its settings have."""

    def processes(self, table, name):
        """(what runs of a service, what is about to become it): the topmost processes of this user."""
        one = self.service(name)
        command = command_of(self.settings, one)
        start, before = shell(option(self.settings, one, "prelude") or "", command), interpreter(command[0])
        up, coming = {}, {}
        for p in table.values():
            if p.uid == os.geteuid() and p.state != "K" and p.pid != os.getpid():
                words = _probe.argv(p.pid)
                if words == start:
                    coming[p.pid] = p
                elif runs(words, command, before):
                    up[p.pid] = p
        return [[p for p in some.values() if p.ppid not in some] for some in (up, coming)]

    def there(self, name):
        """Whether a look finds something of a service; one can miss what is just within exec."""
        return any(self.processes(_probe.scan(), name))

    def states(self):
        table, found = _probe.scan(), {}
        for name in self.services:
            up, coming = self.processes(table, name)
            pids = [p.pid for p in sorted(up, key=lambda p: p.start)]
            if len(pids) > 1:
                found[name] = state("running", "runs %d times: pids %s" % (len(pids), pids), pids[0])
            elif pids:
                found[name] = state("running", "", pids[0])
            elif coming:
                found[name] = state("starting", "its prelude runs", coming[0].pid)
            else:
                found[name] = state("stopped", "no process of this user has its command line")
        return found

    def stop(self, names, seconds):
        def find(table):
            return [p for name in names for some in self.processes(table, name) for p in some]

        _launch.end(find, seconds)

    def start(self, names, seconds):
        for name in names:
            one = self.service(name)
            path = log_of(self.settings, one)
            try:
                log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                # of its own, so that what is started does not hold it
                lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise Failure("service %s: %s: %s" % (name, path, error.strerror))
            try:
                # two that start it at once: the second sees what the first has started
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.there(name) and not self.there(name):
                    detach(shell(option(self.settings, one, "prelude") or "", command_of(self.settings, one)), log)
                    # it is seen before the next one may look; what ends at once is not
                    _launch.wait(lambda name=name: not self.there(name), 1)
            except OSError as error:
                raise Failure("service %s: cannot be started: %s" % (name, error))
            finally:
                os.close(log)
                os.close(lock)


def detach(words, log):
    """Run words in a session of their own, as a login of this user would; returns once they run. Raises OSError."""
    who = pwd.getpwuid(os.geteuid())
    env = {"PATH": PATHS, "LANG": "C.UTF-8", "HOME": who.pw_dir, "USER": who.pw_name, "LOGNAME": who.pw_name}
    env["SHELL"] = who.pw_shell or "/bin/sh"
    back, out = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(back)
            os.setsid()
            if os.fork():
                os._exit(0)
            os.umask(0o022)
            os.chdir(who.pw_dir if os.path.isdir(who.pw_dir) else "/")
            null = os.open(os.devnull, os.O_RDONLY)
            for old, new in ((null, 0), (log, 1), (log, 2)):
                os.dup2(old, new)
            # `out` closes itself when the program runs
            os.execvpe(words[0], words, env)  # noqa: S606
        except OSError as error:
            os.write(out, ("%s: %s" % (words[0], error.strerror)).encode())
        finally:
            os._exit(1)
    os.close(out)
    os.waitpid(child, 0)
    with os.fdopen(back, "rb") as handle:
        said = handle.read().decode("utf-8", "replace")
    if said:
        raise OSError(said)
