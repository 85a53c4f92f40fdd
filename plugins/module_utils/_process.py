# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launcher ``process``: plain processes of the host, started detached, stopped as a whole tree.

Note that this module util is **PRIVATE** to the collection.

``start(work, indices)``, ``stop(work, indices)`` and ``rotate(work, indices)`` do the actions of a Work at these
indices and fill its results; how instances are seen is _probe's. Python 3.6 and the standard library, no f-strings (see
_probe).
"""

import errno
import json
import os
import re
import signal
import time

from ansible_collections.sciops.sites.plugins.module_utils import _logs, _probe, _shim
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed, said
from ansible_collections.sciops.sites.plugins.module_utils._work import Pause

# how long after KILL a process may still be there before it is called unstoppable
KILL_WAIT = 5
FULL = (errno.ENOSPC, errno.EDQUOT)


# --- start


class Flight:
    """A start that is being watched."""

    def __init__(self, index, pid, watch, until):
        self.index, self.pid, self.until = index, pid, until
        self.log, self.offset, self.hidden = watch
        self.status, self.missed = None, 0


def start(work, indices):
    """Start in batches, see Work.batches."""
    _table, known, sets = work.scene()
    # logs that a living instance writes to
    work.logs = {known[t].get("log") for t in known}
    live = work.live(known, sets)

    def begin(batch):
        return [flight for flight in (launch(work, i, live) for i in batch) if flight]

    def settle(flights):
        done, seen = [], None
        for flight in flights:
            if flight.status is None:
                pid, status = os.waitpid(flight.pid, os.WNOHANG)
                flight.status = status if pid else None
            if flight.status is None and time.monotonic() < flight.until:
                continue
            if flight.status is not None and seen is None:
                seen = work.look()[2]
            if settled(work, flight, seen):
                done.append(flight)
        return done

    work.batches(indices, begin, settle)


def settled(work, flight, sets):
    """Whether it is known what became of a start, which is then its result. Two looks must find nothing of the dead."""
    one = work.results[flight.index]
    starting = flight.status is None and _shim.fresh(work.actions[flight.index])
    # there is a keeper first, and then its program
    if starting and time.monotonic() < flight.until + KILL_WAIT:
        return False
    members = sets.get(one["token"]) if flight.status is not None else None
    if flight.status is None or members:
        flight.missed = 0
        if time.monotonic() < flight.until:
            return False
        if members:
            one["pid"] = _probe.leader(members, None)[0].pid
        work.end(flight.index, "started", "pid %d lives %s" % (one["pid"], "after its settle time"))
    else:
        flight.missed += 1
        if flight.missed < 2:
            return False
        if os.WIFSIGNALED(flight.status):
            code, words = -os.WTERMSIG(flight.status), "ended by signal %d" % os.WTERMSIG(flight.status)
        else:
            code = os.WEXITSTATUS(flight.status)
            words = "ended with status %d" % code if code else "ended at once with status 0"
        work.drop(one["token"])
        tail = _logs.tail(flight.log, flight.offset, flight.hidden)
        work.end(flight.index, "failed", words, exit=code, log_tail=tail)
    one.pop("begun", None)
    return True


def launch(work, index, live):
    """Begin one start: a Flight to watch, or None where its result is known already."""
    action = work.actions[index]
    key = (action["component"], action["slot"])
    try:
        if not work.may_start(index, live):
            return None
        flight = fork(work, index)
        live[key] = (action["token"], flight.pid)
        return flight
    except Failed as error:
        work.end(index, error.outcome, str(error))
    except OSError as error:
        work.end(index, "refused" if error.errno in FULL else "failed", "%s; nothing was started" % said(error))
    return None


def fork(work, index):
    """Make the process, write its record, let it go. Raises Failed or OSError, and then nothing runs."""
    action = work.actions[index]
    who = _logs.account(action.get("user"))
    if who.pw_uid != os.geteuid() and os.geteuid() != 0:
        text = "user %s is wanted, and this host is reached as %s, who cannot become another"
        raise Failed(text % (who.pw_name, _probe.login()), "refused")
    env, hidden = _shim.environment(action, who)
    path = _logs.place(action, work.folder, who)
    log = _logs.begin(path, action.get("log") or {}, work.folder, who, work.logs)
    work.logs.add(path)
    pipes = []
    try:
        offset = os.fstat(log).st_size
        pipes += os.pipe()
        pipes += os.pipe()
        words = work.ident() + [action["component"], str(action["slot"]), action["hash"], action["token"]]
        # until the word is given it must be known whether it was: the alarm waits
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        pid = os.fork()
        if not pid:
            go, told = pipes[0], pipes[3]
            _shim.turn(action, who, env, words, log, (go, told), lambda: wait(go), lambda text: tell(told, text))
        release(work, index, pid, pipes, path)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        confirm(work, index, pid, pipes[2])
        return Flight(index, pid, (path, offset, hidden), time.monotonic() + action.get("settle", 2))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        for handle in pipes + [log]:
            if handle is not None:
                os.close(handle)


def release(work, index, pid, pipes, path):
    """In the parent: the record first, then the word to go. ``pipes``: go (read, write), error (read, write)."""
    action, one = work.actions[index], work.results[index]
    shut(pipes, 0)
    shut(pipes, 3)
    try:
        record = {"pid": pid, "start": _probe.look(pid).start, "boot_id": work.boot, "log": path}
        record.update((k, action[k]) for k in ("component", "slot", "hash", "token"))
        record.update((k, work.request[k]) for k in ("site", "deployment", "host"))
        if action.get("launcher", "process") != "process":
            record["launcher"] = action["launcher"]
        _probe.write_file(work.record(action["token"]), json.dumps(record))
    except BaseException:
        # an end of file where it waits for the word makes the child end before exec
        shut(pipes, 1)
        os.waitpid(pid, 0)
        work.drop(action["token"])
        raise
    one.update(pid=pid, begun="started, and the time of the request ended before it had settled")
    try:
        os.write(pipes[1], b"g")
    except BrokenPipeError:
        # it has ended already, and left on the other pipe why
        pass
    shut(pipes, 1)


def confirm(work, index, pid, handle):
    """Wait for exec. Raises Failed with what it says where it is not done."""
    one, said = work.results[index], b""
    while True:
        part = os.read(handle, 4096)
        if not part:
            break
        said += part
    if said:
        os.waitpid(pid, 0)
        work.drop(one["token"])
        one.pop("begun")
        one["pid"] = None
        raise Failed(said.decode("utf-8", "replace"))


def shut(pipes, at):
    os.close(pipes[at])
    pipes[at] = None


def wait(go):
    """In the new process: wait for the word; without it, end."""
    if os.read(go, 1) != b"g":
        os._exit(0)


def tell(handle, text):
    os.write(handle, text.encode("utf-8", "replace")[:500])


# --- stop


class Target:
    """Something that is being stopped; ``met`` are all (pid, start) that were seen to belong to it."""

    def __init__(self, index, grace):
        self.index, self.grace, self.met, self.term, self.kill, self.told = index, grace, {}, None, None, ""


def members(work, target, table, sets):
    """What is alive of a target: its set, all that descends from it, and whatever was seen to belong to it before."""
    action = work.actions[target.index]
    if action.get("token"):
        roots = list(sets.get(action["token"], []))
    else:
        p = table.get(action["pid"])
        roots = [p] if p and p.start == action["start"] else []
    roots += [p for p in table.values() if target.met.get(p.pid) == p.start and p not in roots]
    # neither init nor what this program itself hangs on: their families are everything there is
    above = [1, os.getpid()] + _probe.ancestors(table, table.get(os.getpid()))
    if any(p.pid in above for p in roots):
        raise Failed("this request came in through it: it cannot be stopped by itself", "refused")
    found = _probe.family(table, roots)
    target.met.update((p.pid, p.start) for p in found)
    return found


def send(p, number):
    """Signal one process if it is still the one that was looked at; returns what hindered it, in words."""
    try:
        handle = os.pidfd_open(p.pid) if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal") else None
        try:
            now = _probe.look(p.pid)
            if now and now.start == p.start and p.pid > 1:
                if handle is None:
                    os.kill(p.pid, number)
                else:
                    signal.pidfd_send_signal(handle, number)
        finally:
            if handle is not None:
                os.close(handle)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EINVAL):
            return "pid %d (uid %d): %s" % (p.pid, p.uid, error.strerror)
    return ""


def stop(work, indices, spared=None, tokens=()):
    """Stop all targets side by side: TERM to the whole tree, grace, KILL, and look whether it is gone.

    Of targets with these ``tokens`` a manager was told to stop; ``spared`` says of one that TERM comes from there.
    """
    targets = [Target(i, float(work.actions[i].get("grace", 10))) for i in indices]
    pause = Pause()
    while targets:
        table, _known, sets = work.look()
        for target in list(targets):
            action, now = work.actions[target.index], time.monotonic()
            one, alive = work.results[target.index], []
            outcome = words = None
            try:
                alive = members(work, target, table, sets)
            except Failed as error:
                outcome, words = error.outcome, str(error)
            if outcome:
                pass
            elif not alive and target.term is None and action.get("token") in tokens:
                outcome, words = "stopped", "ended at once"
            elif not alive and target.term is None:
                outcome, words = "gone", "it was not there any more"
            elif not alive:
                how = "killed %.1f s after TERM" if target.kill else "ended %.1f s after TERM"
                outcome, words = "stopped", how % (now - target.term)
            elif target.term is None:
                target.term = now
                one["begun"] = "TERM was sent, and the time of the request ended before it was gone"
                served = spared if action.get("token") in tokens else None
                for p in alive:
                    if served and served(p):
                        continue
                    # a stopped process sees TERM only once it goes on
                    target.told = send(p, signal.SIGTERM) or target.told
                    send(p, signal.SIGCONT)
            elif target.kill and now - target.kill > KILL_WAIT:
                left = ", ".join("pid %d (%s, state %s)" % (p.pid, p.name, p.state) for p in alive)
                outcome, words = "unstoppable", "still there %d s after KILL: %s. %s" % (KILL_WAIT, left, target.told)
            elif now - target.term >= target.grace:
                target.kill = target.kill or now
                for p in alive:
                    target.told = send(p, signal.SIGKILL) or target.told
            if outcome:
                targets.remove(target)
                one.pop("begun", None)
                if action.get("token") and outcome in ("gone", "stopped"):
                    work.drop(action["token"])
                work.end(target.index, outcome, words.strip())
        if targets:
            if time.monotonic() > work.ends:
                return
            pause()


# --- rotate


def rotate(work, indices):
    """Copy the logs of instances aside and cut them, while they are written to."""
    _table, known, sets = work.look()
    for i in indices:
        action = work.actions[i]
        token, path = action.get("token"), action.get("log")
        path = path.get("path") if isinstance(path, dict) else path
        try:
            if token not in sets:
                work.end(i, "gone", "it was not there any more")
                continue
            if token not in known or known[token].get("log") != path:
                raise Failed("%s is not the log of token %s" % (path, token), "refused")
            held = [p for p in sets[token] if appends(p.pid, path) is False]
            if held:
                raise Failed("pid %d does not append to %s: cutting it would tear it" % (held[0].pid, path), "refused")
            # our own folder is root's; elsewhere with the rights of who runs, so that a link leads nowhere else
            uids = set() if path.startswith(work.folder + "/") else {uid_of(p.pid) for p in sets[token]} - {0}
            who = _logs.person(min(uids)) if uids and not os.geteuid() else _logs.account(None)
            work.end(i, "rotated", _logs.cut(path, int(action.get("keep", 5)), who), log=path)
        except Failed as error:
            work.end(i, error.outcome, str(error))
        except OSError as error:
            work.end(i, "refused", said(error))


def uid_of(pid):
    """The real user of a process, 0 where it is gone. Its /proc may be root's, where it hides its core."""
    try:
        return int(re.search(rb"^Uid:\s+(\d+)", _probe.read("/proc/%d/status" % pid), re.M).group(1))
    except (OSError, AttributeError):
        return 0


def appends(pid, path):
    """Whether a process writes to the end of a file; None where it has it not open or hides that."""
    try:
        want = os.stat(path)
        for name in os.listdir("/proc/%d/fd" % pid):
            there = os.stat("/proc/%d/fd/%s" % (pid, name))
            if (there.st_dev, there.st_ino) == (want.st_dev, want.st_ino):
                flags = re.search(rb"flags:\s*([0-7]+)", _probe.read("/proc/%d/fdinfo/%s" % (pid, name)))
                if int(flags.group(1), 8) & (os.O_WRONLY | os.O_RDWR):
                    return bool(int(flags.group(1), 8) & os.O_APPEND)
    except OSError:
        pass
    return None


# --- the rest of the contract

CAPABILITIES = {"restarts": False, "placement": "host", "logout": True, "reboot": False}


def describe(work, indices):
    """It writes no file that could be told beforehand."""
    return {}


def observe(ask):
    """All that there is of it is in /proc, which was looked at already."""
    return {}


def prerequisites(settings, folder):
    return []
