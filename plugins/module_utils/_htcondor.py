# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launcher ``htcondor``: a service that runs as a job of a schedd; this host is where jobs are submitted.

Note that this module util is **PRIVATE** to the collection.

Each slot is one job, whose attribute SciopsSites has the words of its marker: one condor_q tells what there is, also
where a record or the reply of condor_submit was lost. Neither the ad nor a command line holds a secret: the job runs
the spec, a file of mode 0600 below the state folder, which therefore has to be on a file system that execute nodes see
too. What HTCondor says is read by _condorq. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import re
import shlex
import time

from ansible_collections.sciops.sites.plugins.module_utils import (
    _condorctl,
    _condorq,
    _condorrm,
    _jobqueue,
    _logs,
    _managed,
    _marks,
    _queued,
)
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

# whose jobs HTCondor does not run
ROOT = 0
CAPABILITIES = {"restarts": False, "placement": "engine", "logout": True, "reboot": True}

# Where a job has a walltime a process beside it, no child of it, ends it then: a node that is cut off keeps to the time
# too, and a successor can count on that.
WATCH = """import signal, time
def watch(pid, start, seconds, grace):
    ends, sent = time.monotonic() + seconds, False
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    while True:
        time.sleep(max(0.05, min(1, ends - time.monotonic())))
        p = probe.look(pid)
        if p is None or p.start != start:
            os._exit(0)
        if time.monotonic() >= ends:
            os.kill(pid, signal.SIGKILL if sent else signal.SIGTERM)
            sent, ends = True, time.monotonic() + grace
"""
BEGIN = """    env = dict(((k, v) for k, v in os.environ.items() if k.startswith("_CONDOR_")), **env)
    seconds = (spec.get("options") or {}).get("time")
    if seconds:
        pid, start = os.getpid(), probe.look(os.getpid()).start
        first = os.fork()
        if not first:
            if not os.fork():
                watch(pid, start, seconds, spec.get("grace", 10))
            os._exit(0)
        os.waitpid(first, 0)
"""
# the log is opened here and not by HTCondor, which cuts it whenever it begins a job
LOG = """( : >>%(log)s ) 2>/dev/null || exit %(code)d
exec >>%(log)s 2>&1
"""


def program():
    """The text that the job script runs."""
    return _jobqueue.program("htcondor", WATCH, BEGIN)


def script(path, log):
    """The job script: opens the log and runs what is beside the spec; its argument is the token."""
    return _jobqueue.script(path, '"$1"', LOG % {"log": shlex.quote(log), "code": _condorq.NO_LOG})


def script_path(path):
    return path[: -len(".json")] + ".sh"


class Jobs(_jobqueue.Queue):
    """What the parts in _queued and _dequeue need of HTCondor."""

    name = "htcondor"

    def client(self, settings, ends):
        return _condorctl.Condor(settings, ends)

    def scene(self, client, request, records, users):
        return _condorctl.Scene(client, request, records, users)

    def state(self, group, now):
        return _condorq.state(group, int(now))

    def shown(self, client, group, record, now):
        now, first, options = int(now), group["jobs"][0], record.get("options") or {}
        seen = {"launcher": self.name, "state": _condorq.state(group, now), "unit": first["unit"], "job": first["id"]}
        seen["health"] = _condorq.health(group, now)
        # a schedd that was started again has new shadows for what runs on; a restart has a match
        again = max((first["matched"] or 0) - 1, 0 if first["waits"] else (first["finished"] or 0))
        if again > 0:
            seen["restarts"] = again
        renewal = _condorq.renewal(group, options, now)
        return dict(seen, renew=renewal) if renewal else seen

    def who(self, action):
        if _logs.account(action.get("user")).pw_uid == ROOT:
            raise Failed("user root: HTCondor runs no job of root; say which user", "refused")
        return _jobqueue.Queue.who(self, action)

    def faults(self, options):
        return _condorq.faults(options)

    def fits(self, spec, path):
        if not re.match(r"[A-Za-z0-9_./@:+,=-]+\Z", path):
            raise Failed("%s: a path with other letters cannot be given to HTCondor" % path, "refused")

    def files(self, spec, path):
        return {_jobqueue.runner(path): program(), script_path(path): script(path, spec["log_path"])}

    def description(self, work, record, after=0):
        """The submit description of one more job for a record."""
        words = [script_path(record["spec"]), record["token"]]
        mark = _marks.mark(work.ident(), record)
        more = (record.get("grace", 10), record.get("options") or {}, record.get("singleton"), after)
        return _condorq.description(record["unit"], mark, words, *more)

    def submit(self, work, client, record, who, after=0):
        record["asked"] = int(time.time())
        words = ["condor_submit", "-terse"] + client.at() + ["-"]
        return self.hand_over(work, client, record, who, words, self.description(work, record, after)), ""

    def read(self, out, err):
        return (_condorq.submitted(out),) + _condorq.refusal(err or out)

    def broken(self, client, work, index, group):
        first = group["jobs"][0]
        if first["word"] != "HELD":
            return ""
        client.tell(_condorrm.REMOVE, group["jobs"])
        return "was held: %s" % (first["hold"] or "nobody said why")

    def waits(self, work, client, index, alive):
        one = alive[0]
        if len(alive) > 1:
            _jobqueue.Queue.waits(self, work, client, index, alive)
        elif one["word"] == "IDLE" and (one["after"] or 0) > int(time.time()):
            doubt = self.before(work, client, one, work.actions[index]["token"])
            if doubt:
                work.end(index, "already", "job %d waits: %s" % (one["id"], doubt), pid=one["id"])
                return
            trouble = client.tell(["condor_qedit", "SciopsSitesAfter", "0"], alive)
            words = trouble or "job %d may begin: the one before it is over" % one["id"]
            work.end(index, "failed" if trouble else "renewed", words, pid=one["id"])
        else:
            work.end(index, "already", "job %d waits to run" % one["id"], pid=one["id"])

    def before(self, work, client, one, token):
        """Why the job before a successor may still run, although it has left the queue; empty where it is over."""
        record = work.look()[1].get(token) or {}
        numbers = [number for number in record.get("jobs") or [] if number != one["id"]][-1:]
        if not numbers:
            return "nothing is recorded of the job before it"
        past = client.history([one["mark"]], len(record["jobs"]), {one["user"]}) or []
        skew = _condorq.SLACK if client.settings.get("schedd") else 0
        found, words = _condorq.absence(dict(record, jobs=numbers), past, client.since(), int(time.time()), skew)
        return "" if found == "over" else words

    def again(self, work, client, index, record, one):
        """HTCondor knows no job that waits for another.

        So the successor has the time in its requirements at which the other was surely ended by its node; where that
        one is over earlier, the next renewal lets the successor begin.
        """
        options = record.get("options") or {}
        end = _condorq.ends(one, options)
        if end is None:
            work.end(index, "refused", "job %d does not say since when it runs, or has no walltime" % one["id"])
            return
        margin = options.get("margin", _condorq.DEFAULTS["margin"])
        after = int(end + -(-record.get("grace", 10) // 1) + margin)
        _jobqueue.Queue.again(Later(one, after), work, client, index, record, one)


class Later(Jobs):
    """The same queue; what is submitted begins later, when another job has had its time."""

    def __init__(self, one, after):
        self.one, self.after = one, after

    def submit(self, work, client, record, who):
        job, _note = Jobs.submit(self, work, client, record, who, self.after)
        return job, "it begins when job %d has had its time" % self.one["id"]


QUEUE = Jobs()


def prerequisites(settings, folder):
    """What this host lacks, in words. That execute nodes see the folder too cannot be known from here."""
    missing = _condorctl.missing()
    return [_condorctl.MISSING % ", ".join(missing)] if missing else []


def observe(ask):
    """All jobs of the site, deployment and host, in one condor_q; see docs/launchers.md."""
    return _queued.observe(QUEUE, ask)


def start(work, indices):
    _queued.start(QUEUE, work, indices)


def stop(work, indices):
    _condorrm.Stop(QUEUE, work, indices).run()


def rotate(work, indices):
    _queued.rotate(QUEUE, work, indices)


def describe(work, indices):
    """What starts would write, and what condor_submit is given: path -> {"before", "after"}, without secrets."""
    told = {}
    for index in indices:
        action = work.actions[index]
        spec, path, _who = QUEUE.plan(work, action)
        record = dict(spec, spec=path, singleton=action.get("singleton"), **{"token": "TOKEN"})
        told[path] = {"before": None, "after": _managed.shown(spec)}
        told[script_path(path)] = {"before": None, "after": script(path, spec["log_path"])}
        name = "submit description of %s, standard input of condor_submit" % spec["unit"]
        told[name] = {"before": None, "after": QUEUE.description(work, record)}
    return told


def renew(work, indices):
    """Queue a successor for each job whose time is nearly over; it begins when the other has had its time."""
    _queued.renew(QUEUE, work, indices)
