# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""A queue of jobs as a launcher sees it: its programs, what is known of its jobs, and what it is given.

Note that this module util is **PRIVATE** to the collection.

A launcher gives a Client, a Scene and a Queue of its own; what is done with them is in _queued and _dequeue. Python 3.6
and the standard library, no f-strings (see _probe).
"""

import json
import os
import pwd
import shlex
import shutil
import subprocess
import time

from ansible_collections.sciops.sites.plugins.module_utils import _logs, _managed, _manager, _marks, _probe
from ansible_collections.sciops.sites.plugins.module_utils._manager import Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

PATHS = "/usr/local/bin:/usr/bin:/bin"
TIMEOUT = 10.0
# how long a submission that was not heard to its end may still come to something
LATE = 120


# --- programs


def paths(first=None):
    """Where programs are looked for: in these folders, then where the caller has them."""
    return (first or PATHS) + ":" + os.environ.get("PATH", "")


def become(who):
    os.initgroups(who.pw_name, who.pw_gid)
    os.setgid(who.pw_gid)
    os.setuid(who.pw_uid)


class Client:
    """The programs of a queue on this host, each with a limit of time; ``ends`` is when the request ends."""

    # whose programs they are, and who answers them
    name, server = "", ""

    def __init__(self, settings, ends):
        self.settings, self.ends = settings, ends
        self.timeout = float(settings.get("timeout") or TIMEOUT)

    def paths(self):
        return paths()

    def check(self, program):
        """Raises Failed where this program cannot be run."""
        raise NotImplementedError

    def environment(self, program):
        """What a program has of an environment beyond the plain one, or in its place."""
        raise NotImplementedError

    def run(self, words, stdin="", who=None, limit=None):
        """(exit status, output, errors). Raises Silent where there was no end in time, Failed without the program."""
        limit = min(limit or self.timeout, self.ends - time.monotonic())
        if limit < 0.1:
            raise Silent("%s: no time was left for %s" % (self.name, words[0]))
        self.check(words[0])
        program = shutil.which(words[0], path=self.paths())
        env = {"PATH": self.paths(), "LANG": "C.UTF-8", "HOME": who.pw_dir if who else os.path.expanduser("~")}
        env.update(self.environment(words[0]))
        pipe, own = subprocess.PIPE, who is None or who.pw_uid == os.geteuid()
        try:
            child = subprocess.Popen(
                [program] + words[1:],
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=env,
                cwd="/",
                start_new_session=True,
                preexec_fn=None if own else lambda: become(who),  # noqa: PLW1509 - there are no threads
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Failed("%s: %s: %s" % (self.name, program, error))
        try:
            out, err = child.communicate(stdin.encode(), limit)
        except subprocess.TimeoutExpired:
            text = "%s: %s had no answer from %s within %.0f s"
            raise Silent(text % (self.name, words[0], self.server, limit))
        finally:
            if child.poll() is None:
                _probe.end_group(child.pid)
                child.communicate()
        return child.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def ask(self, words):
        """The output of a program that only tells. Raises Silent where it does not."""
        code, out, err = self.run(words)
        if code:
            raise Silent("%s: %s: %s" % (self.name, words[0], " ".join(err.split())[-200:] or "status %d" % code))
        return out


# --- what is known


def exists(name):
    """Whether this host knows a user; queues fail for one that it does not."""
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def users_of(request, records, actions=()):
    """The names of those whose jobs may be ours: the login; where that is root, all that are known of."""
    names = {_probe.login()}
    if os.geteuid() == 0:
        names |= {one.get("user") for one in list(records.values()) + list(actions)}
        names |= {one.get("user") for one in (request.get("components") or {}).values()}
    return {name for name in names if name and (name == _probe.login() or exists(name))}


class Scene:
    """What is known of the jobs of a site, deployment and host at one moment.

    ``groups`` is token -> component, slot, hash, token, verdict (``alive``, ``over``, ``unknown``) and ``jobs``, the
    leading one first; ``over`` is token -> how it ended, ``doubt`` token -> why nothing is known, ``last`` token -> its
    last job where that is over.
    """

    # the keys of mark and unit in a job
    KEYS = ("mark", "unit")

    def __init__(self, client, request, records, users):
        self.records, self.groups, self.over, self.doubt, self.last = records, {}, {}, {}, {}
        self.ident = [request[key] for key in ("site", "deployment", "host")]
        self.groups, lost = _marks.sort_out(client.queue(users), self.ident, records, self.KEYS)
        for token, group in self.groups.items():
            first = group["jobs"][0]
            if group["verdict"] == "over":
                self.over[token] = "job %d: %s" % (first["id"], self.how_it_ended(first))
                self.last[token] = first
            elif group["verdict"] == "unknown":
                self.doubt[token] = self.strange(group["jobs"])
        for token in lost:
            self.over.pop(token, None)
        if lost:
            self.explain(client, lost, users)

    def how_it_ended(self, one):
        """How a job that is over ended, in words."""
        raise NotImplementedError

    def strange(self, jobs):
        """What is not known of the state of jobs, in words."""
        raise NotImplementedError

    def explain(self, client, lost, users):
        """What became of jobs that are recorded and not in the queue: for each of these tokens over or doubt."""
        raise NotImplementedError

    def unheard(self, token, program):
        """Whether a submission was not heard to its end and may still come to something: it is in doubt then."""
        record = self.records[token]
        age = abs(time.time() - (record.get("asked") or 0))
        if record.get("jobs") or age >= LATE:
            return False
        self.doubt[token] = "%s was not heard to its end %d s ago" % (program, age)
        return True

    def alive(self, token):
        """The jobs of a token that have a place in the queue or on a node, or may have."""
        return _marks.living(self.groups[token]) if token in self.groups else []

    def slots(self):
        """(component, slot) -> group of what is alive."""
        return {(g["component"], g["slot"]): g for g in self.groups.values() if g["verdict"] == "alive"}


# --- what it is given

# What the job script runs on the node after the parts of _managed.program(): no record and no lock, which would be of
# the node; that there is one job at a time is the queue's.
NODE = (
    """import json, os
shim, logs, probe = mod._shim, mod._logs, mod._probe
def told(text, code=1):
    try:
        os.write(2, ("sciops.sites: %s\\n" % text).encode("utf-8", "replace"))
    finally:
        os._exit(code)
""",
    """try:
    spec = json.loads(probe.read(sys.argv[1]).decode())
    if spec["token"] != sys.argv[2]:
        told("%s is of another start by now" % sys.argv[1], shim.BUSY)
    who = logs.account(spec.get("user"))
    env, _hidden = shim.environment(spec, who)
""",
    """    log = os.dup(1)
except Exception as error:
    told(shim.said(error) if isinstance(error, (OSError, shim.Failed)) else "%s: %s" % (type(error).__name__, error))
words = spec["ident"] + [spec["component"], str(spec["slot"]), spec["hash"], spec["token"]]
shim.turn(spec, who, env, words, log, told=lambda text: told(text, 127), session=False)
""",
)
SCRIPT = """for python in /usr/bin/python3 /usr/libexec/platform-python python3 /usr/local/bin/python3; do
  if command -v "$python" >/dev/null 2>&1; then exec "$python" -ISB %s; fi
done
echo "sciops.sites: there is no python3 on this node" >&2
exit 127
"""


def program(name, functions, lines):
    """The text that the job script runs, see NODE; with functions and lines of the launcher's own."""
    head, call, _rest = _managed.program().rpartition("part.main(")
    if not call:
        raise Failed("%s: the program for nodes cannot be made" % name)
    return head + NODE[0] + functions + NODE[1] + lines + NODE[2]


def runner(path):
    """Where the program is that runs a spec."""
    return os.path.dirname(path) + "/shim.py"


def script(path, token, before=""):
    """The job script: a plain call of what is beside the spec. ``token`` is a word of the shell."""
    words = [shlex.quote(word) for word in (runner(path), path)] + [token]
    return "#!/bin/sh\n" + before + SCRIPT % " ".join(words)


class Specs(_manager.Manager):
    """The specs of a launcher of jobs."""

    def __init__(self, name, settings, folder):
        self.name = name
        _manager.Manager.__init__(self, settings, folder)


def base(work, who):
    """Where spec and default log of a user's jobs are: what is root's own no job of others can read."""
    if who.pw_uid == os.geteuid():
        return work.folder
    return "%s/.local/state/sciops.sites/%s.%s/%s" % ((who.pw_dir,) + tuple(work.ident()))


class Queue:
    """What _queued and _dequeue need of a launcher; the first part it has to say, the rest it may say otherwise."""

    name = ""
    # what is said of a submission whose job was not seen in the time of the request
    submission = "it was submitted"
    # whether what is wrong with an instance is a problem of the pass too
    alarms = True

    def client(self, settings, ends):
        """The programs, with their limits of time."""
        raise NotImplementedError

    def scene(self, client, request, records, users):
        """The Scene now. Raises Silent where nothing is known, Failed without the programs."""
        raise NotImplementedError

    def shown(self, client, group, record, now):
        """What the queue says of a group, for its row."""
        raise NotImplementedError

    def state(self, group, now):
        """The state of a group, in words."""
        raise NotImplementedError

    def faults(self, options):
        """What is wrong with the options of a component, in words."""
        raise NotImplementedError

    def files(self, spec, path):
        """What is beside a spec for the job to run: path -> text."""
        raise NotImplementedError

    def submit(self, work, client, record, who):
        """Submit one more job for a record: (its number, a note).

        Raises Failed, and then there is none; Silent where there may be one.
        """
        raise NotImplementedError

    def read(self, out, err):
        """(number of the job or None, what was said, whether there is surely none) of a submission."""
        raise NotImplementedError

    def broken(self, client, work, index, group):
        """What makes a start fail that has a job in the queue, in words; it is taken out of it then."""
        return ""

    def ending(self, group):
        """Whether a group that has a place in the queue is about to leave it."""
        return False

    def who(self, action):
        """Who runs an action. Raises Failed where that cannot be."""
        who = _logs.account(action.get("user"))
        if who.pw_uid != os.geteuid() and os.geteuid() != 0:
            text = "user %s is wanted, and this host is reached as %s, who cannot become another"
            raise Failed(text % (who.pw_name, _probe.login()), "refused")
        return who

    def fits(self, spec, path):
        """Raises Failed where the queue takes no such path."""

    def waits(self, work, client, index, alive):
        """The result of a renewal where a job waits already."""
        work.end(index, "already", "job %d waits to take over" % alive[-1]["id"], pid=alive[-1]["id"])

    def plan(self, work, action):
        """(spec, its path, who runs it) of an action. Raises Failed."""
        who = self.who(action)
        wrong = self.faults(action.get("options") or {})
        if wrong:
            raise Failed("; ".join(wrong), "refused")
        specs = Specs(self.name, action.get("manager", work.settings(self.name)), base(work, who))
        spec = specs.spec(action, work.request)
        path = specs.spec_path(spec["unit"])
        self.fits(spec, path)
        return spec, path, who

    def write(self, spec, path, who):
        """Put the spec, and what runs it, where jobs of this user read it."""
        with _logs.rights_of(who):
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            for one, text in sorted(self.files(spec, path).items()):
                _manager.keep(one, text)
            _probe.write_file(path, json.dumps(spec))

    def hand_over(self, work, client, record, who, words, text):
        """Run what submits a job, with this standard input; the record has ``asked``. The number of the job."""
        _probe.write_file(work.record(record["token"]), json.dumps(record))
        code, out, err = client.run(words, text, who)
        job, why, sure = self.read(out, err)
        if code or job is None:
            if not sure or not code:
                raise Silent("%s: %s: %s" % (self.name, words[0], why))
            raise Failed("%s: %s" % (words[0], why))
        record["jobs"] = record["jobs"] + [job]
        if not record["pid"]:
            record.update(pid=job, start=int(record["asked"]))
        try:
            _probe.write_file(work.record(record["token"]), json.dumps(record))
        except OSError:
            # the disk is full: the job is known by its mark
            pass
        return job

    def again(self, work, client, index, record, one):
        """Submit the job that takes over from one that runs; that is the result of a renewal."""
        try:
            job, note = self.submit(work, client, record, _logs.account(record.get("user")))
            words = "job %d is queued%s" % (job, "; " + note if note else "")
            work.end(index, "renewed", words, pid=job, token=record["token"])
        except Silent as error:
            work.end(index, "unknown", str(error))
        except (Failed, OSError) as error:
            _managed.fail(work, index, error)
