# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What runs on this host: its processes, the instances among them, and how they are.

Note that this module util is **PRIVATE** to the collection.

Everything comes from one pass over /proc. It travels to each host with each observation: it stays small, within
Python 3.6 and the standard library, and free of f-strings, which newer controllers write back in a form that old hosts
cannot read.
"""

import errno
import json
import os
import pwd
import re
import stat
import time

TICK = float(os.sysconf("SC_CLK_TCK"))
PAGE = os.sysconf("SC_PAGE_SIZE")
MARK = b"SCIOPS_SITES="
GONE = (errno.ENOENT, errno.ESRCH)
# programs that let nobody look into them, of every login and of each job in a schedd; what they start is looked at by
# itself
CLOSED = ("sshd", "sshd-session", "(sd-pam)", "systemd", "ssh-agent", "gpg-agent", "condor_shadow", "condor_starter")
# what each record of a start must have
FIELDS = ("token", "component", "slot", "hash", "pid", "start", "boot_id")


class Refused(Exception):
    """The request cannot be answered truthfully on this host; the text says why."""


class Proc:
    """One live process. ``ticks`` and ``start`` are in clock ticks (start since boot), ``rss`` in bytes."""

    __slots__ = ("gone_ticks", "mark", "name", "pid", "ppid", "rss", "start", "state", "ticks", "uid")


def read(path):
    """The whole content of a file as bytes."""
    with open(path, "rb") as handle:
        return handle.read()


def write_file(path, text, fill=0):
    """Replace a file by one with this text, at once and for good.

    On a full disk a file that has ``fill`` bytes is overwritten in place: a full host can still be told to stop.
    """
    data, spare = text.encode().ljust(fill), path + ".tmp"
    try:
        handle = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            left = data
            while left:  # a disk that is nearly full takes a part, and says so with the next one
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(spare, path)
        handle = os.open(os.path.dirname(path), os.O_RDONLY)
    except OSError as error:
        if os.path.exists(spare):
            os.unlink(spare)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not fill or len(data) != fill:
            raise
        try:
            handle = os.open(path, os.O_WRONLY)
        except FileNotFoundError:
            raise error
        if os.fstat(handle).st_size != fill:
            os.close(handle)
            raise
        os.pwrite(handle, data, 0)
    os.fsync(handle)
    os.close(handle)


def look(pid):
    """The live process with this pid, or None where it is gone, a zombie, or hidden from this user."""
    try:
        raw = read("/proc/%d/stat" % pid)
        uid = os.stat("/proc/%d" % pid).st_uid
    except OSError:
        return None
    head, _paren, tail = raw.rpartition(b")")
    word = tail.split()
    # a zombie with threads is a program whose first thread ended: it lives
    if len(word) < 22 or (word[0] in b"ZXx" and int(word[17]) < 2):
        return None
    p = Proc()
    p.pid, p.uid, p.ppid, p.start, p.mark = pid, uid, int(word[1]), int(word[19]), None
    # a thread of the kernel has no environment and is nobody's instance
    p.state = "K" if int(word[6]) & 0x200000 else word[0].decode()
    p.ticks, p.gone_ticks, p.rss = int(word[11]) + int(word[12]), int(word[13]) + int(word[14]), int(word[21]) * PAGE
    p.name = head.partition(b"(")[2].decode("utf-8", "replace")
    return p


def mark_of(raw):
    """The eight words of the marker in an environment, or None. A marker that does not parse is none."""
    at = (b"\0" + raw).find(b"\0" + MARK)
    if at < 0:
        return None
    words = raw[at + len(MARK) :].split(b"\0", 1)[0].decode("utf-8", "replace").split(" ")
    return words if len(words) == 8 and words[4].isdigit() and words[7].isdigit() else None


def scan(problems=None):
    """All live processes, pid -> Proc, with the marker of those whose environment this user may read."""
    me, own, table, again = os.geteuid(), os.getpid(), {}, []

    def note(p, last=False):
        """Whether it is known what the environment says."""
        try:
            # of a zombie with threads only the threads still have it
            way = "task/%s/" % os.listdir("/proc/%d/task" % p.pid)[-1] if p.state in "ZXx" else ""
            raw = read("/proc/%d/%senviron" % (p.pid, way))
            p.mark = mark_of(raw)
            return raw
        except OSError as error:
            if error.errno in GONE:
                table.pop(p.pid, None)
            elif last and p.uid == me and problems is not None and p.name not in CLOSED:
                problems.append("pid %d (%s): its environment cannot be read: %s" % (p.pid, p.name, error.strerror))
            return error.errno in GONE

    for name in os.listdir("/proc"):
        p = look(int(name)) if name.isdigit() else None
        if p:
            table[p.pid] = p
            if p.state != "K" and p.pid != own and me in (0, p.uid) and not note(p):
                again.append(p)
    if again:
        # within exec the environment is empty for a moment, at the end of a process unreadable: no instance may be
        # missed for the one, and the other is no problem
        time.sleep(0.02)
        for p in again:
            now = look(p.pid)
            if now and now.start == p.start:
                note(p, True)
            else:
                table.pop(p.pid, None)
    return table


def argv(pid):
    """The words of a process's command line; empty where it is gone or has none."""
    try:
        return read("/proc/%d/cmdline" % pid).decode("utf-8", "replace").rstrip("\0").split("\0")
    except OSError:
        return []


def uptime():
    """Seconds since boot."""
    return float(read("/proc/uptime").split()[0])


def boot_id():
    """The kernel's name of this boot."""
    return read("/proc/sys/kernel/random/boot_id").decode().strip()


def login():
    """The name of the user this runs as; the number where it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def facts():
    """What the host says of itself. Memory in bytes, uptime in seconds."""
    memory = {}
    for line in read("/proc/meminfo").decode().splitlines():
        key, _colon, rest = line.partition(":")
        memory[key] = int(rest.split()[0]) * 1024
    spare = memory.get("MemAvailable", memory["MemFree"] + memory.get("Cached", 0))
    return {
        "answered": True,
        "boot_id": boot_id(),
        "uptime": uptime(),
        "user": login(),
        "uid": os.geteuid(),
        "python": "%d.%d.%d" % tuple(__import__("sys").version_info[:3]),
        "cores": os.cpu_count(),
        "memory": {"total": memory["MemTotal"], "available": spare},
        "loadavg": [float(x) for x in read("/proc/loadavg").split()[:3]],
    }


def ancestors(table, p):
    """The pids above a process, nearest first."""
    seen = []
    while p and p.ppid > 0 and p.ppid not in seen:
        seen.append(p.ppid)
        p = table.get(p.ppid)
    return seen


def family(table, roots):
    """The given processes and all that descend from them, except what carries the marker of another start."""
    below, found, todo = {}, {}, list(roots)
    for p in table.values():
        below.setdefault(p.ppid, []).append(p)
    tokens = {p.mark[6] for p in todo if p.mark}
    while todo:
        p = todo.pop()
        if p.pid not in found:
            found[p.pid] = p
            todo += [c for c in below.get(p.pid, []) if not c.mark or c.mark[6] in tokens]
    return sorted(found.values(), key=lambda p: (p.start, p.pid))


def records(folder, problems):
    """The records of starts in this host's state folder: token -> record."""
    found, folder = {}, folder + "/instances"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".json"):
            try:
                record = json.loads(read(folder + "/" + name).decode())
                found[[record[k] for k in FIELDS][0]] = record
            except (OSError, ValueError, LookupError, TypeError) as error:
                problems.append("%s/%s: not a readable record of a start: %s" % (folder, name, error))
    return found


def owned(table, request, known, boot):
    """Live processes by token: those with the marker of this site, deployment and host, and those a record names."""
    ident, sets = [request["site"], request["deployment"], request["host"]], {}
    for pid in sorted(table):
        p = table[pid]
        if p.mark and p.mark[:3] == ident:
            sets.setdefault(p.mark[6], []).append(p)
    for token, record in known.items():
        p = table.get(record.get("pid"))
        if p and p.start == record.get("start") and record.get("boot_id") == boot and p not in sets.get(token, []):
            sets.setdefault(token, []).append(p)
    return sets


def leader(members, record):
    """(leading process, whether it is the one that was started): else the oldest whose parent is not of the set."""
    pids = [p.pid for p in members]
    for p in members:
        if (p.mark and p.mark[7] == str(p.pid)) or (record and (p.pid, p.start) == (record["pid"], record["start"])):
            return p, True
    return min([p for p in members if p.ppid not in pids] or members, key=lambda p: (p.start, p.pid)), False


def output(pid):
    """The regular file that a process writes its output to, or None."""
    try:
        path = os.readlink("/proc/%d/fd/1" % pid)
        return path if stat.S_ISREG(os.stat(path).st_mode) else None
    except OSError:
        return None


def row(component, lead, members, now, log, **more):
    """One instance as the observation shows it."""
    try:
        size = os.stat(log).st_size if log else None
    except OSError:
        size = None
    cpu = sum(p.ticks + p.gone_ticks for p in members) / TICK
    more.update(component=component, pid=lead.pid, start=lead.start, age=round(max(0.0, now - lead.start / TICK), 2))
    more.update(cpu=round(cpu, 2), rss=sum(p.rss for p in members), processes=len(members), health="")
    more.update(log=log, log_size=size)
    return more


def fits(words, alternatives):
    """Whether the first words of a command line are what one alternative describes, each word as a whole."""
    for patterns in alternatives:
        if len(words) >= len(patterns) and all(
            re.fullmatch(x, w if "/" in x else w.rsplit("/", 1)[-1]) for x, w in zip(patterns, words)
        ):
            return True
    return False


def matched(table, specs, ours, problems):
    """Processes that others started, (component, process) of the topmost ones that each ``match`` describes."""
    hits, words, taken = [], {}, {}
    # whatever a marked process started is its own business, also where it cleared the environment
    free = [p for p in table.values() if p.state != "K" and not p.mark and p.pid not in ours and p.pid != os.getpid()]
    free = [p for p in free if not any(a in ours or (a in table and table[a].mark) for a in ancestors(table, p))]
    for name, spec in specs.items():
        if not spec.get("match"):
            continue
        try:
            uid = pwd.getpwnam(spec["user"]).pw_uid if spec.get("user") else os.geteuid()
        except KeyError:
            problems.append("%s: this host knows no user %s" % (name, spec["user"]))
            continue
        found = {}
        for p in free:
            if p.uid == uid:
                if p.pid not in words:
                    words[p.pid] = argv(p.pid)
                try:
                    if fits(words[p.pid], spec["match"]):
                        found[p.pid] = p
                except re.error as error:
                    raise Refused("%s: match: %s: %s" % (name, spec["match"], error))
        for pid in sorted(found):
            if not any(a in found for a in ancestors(table, found[pid])):
                if pid in taken:
                    problems.append("pid %d matches both %s and %s" % (pid, taken[pid], name))
                taken[pid] = name
                hits.append((name, found[pid]))
    return hits


def ill(row, spec, ends):
    """What log age and port say against an instance, in words; empty where they say nothing."""
    limit = spec.get("log_age")
    if limit and row["age"] > limit:
        try:
            quiet = time.time() - os.stat(row["log"] or "").st_mtime
            if quiet > limit:
                return "log written %d s ago, limit %d s" % (quiet, limit)
        except OSError:
            return "no log to look at: %s" % row["log"]
    if spec.get("port"):
        import socket

        try:
            wait = max(0.05, min(spec.get("timeout") or 5, ends - time.monotonic()))
            socket.create_connection(("127.0.0.1", int(spec["port"])), wait).close()
        except OSError as error:
            return "port %s: %s" % (spec["port"], error.strerror or error)
    return ""


def end_group(pid):
    """Kill a process group that this program started."""
    try:
        os.killpg(pid, 9)
    except OSError:
        pass


def run_checks(jobs, ends, groups):
    """Run health commands side by side, jobs of (row, spec, account), each in a group that is killed when late."""
    import subprocess

    waiting, flying = list(jobs), []

    def become(who):
        def switch():
            os.initgroups(who.pw_name, who.pw_gid)
            os.setgid(who.pw_gid)
            os.setuid(who.pw_uid)

        return switch if who and os.geteuid() == 0 else None

    try:
        while waiting or flying:
            while waiting and len(flying) < 16:
                row, spec, who = waiting.pop(0)
                env = dict(os.environ, SITES_PID=str(row["pid"]), SITES_SLOT=str(row["slot"] or ""))
                late = min(ends, time.monotonic() + (spec.get("timeout") or 5))
                try:
                    child = subprocess.Popen(
                        spec["command"],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        env=env,
                        cwd="/",
                        start_new_session=True,
                        preexec_fn=become(who),  # noqa: PLW1509 - there are no threads
                    )
                except (OSError, ValueError, subprocess.SubprocessError) as error:
                    row["health"] = "health command: %s" % error
                    continue
                groups.add(child.pid)
                os.set_blocking(child.stdout.fileno(), False)
                flying.append([row, child, late, b""])
            for job in list(flying):
                row, child, late, said = job
                code, over = child.poll(), time.monotonic() > late
                job[3] = (said + (child.stdout.read() or b""))[-200:]
                if code is None and not over:
                    continue
                end_group(child.pid)
                groups.discard(child.pid)
                child.wait()
                child.stdout.close()
                flying.remove(job)
                if code is None:
                    row["health"] = "health command: no end within its time limit"
                elif code:
                    text = job[3].decode("utf-8", "replace").strip().splitlines()
                    row["health"] = "health command: status %d%s" % (code, ": " + text[-1] if text else "")
            time.sleep(0.01 if flying else 0)
    finally:
        for job in flying:
            end_group(job[1].pid)


def observe(request, folder, ends, groups, witness=None):
    """The observation of this host: what the request's site, deployment and host own here, and what else matches.

    ``folder`` is the state folder, ``ends`` the monotonic time by which it must be over; the process groups that it
    starts are in ``groups`` while they run. ``witness`` asks managers for what /proc does not say. Raises Refused where
    an honest answer is not possible.
    """
    problems, specs = [], request.get("components") or {}
    seen = facts()
    known, table = records(folder, problems), scan(problems)
    sets = owned(table, request, known, seen["boot_id"])
    for _look in range(5):
        if all(t in sets or known[t].get("boot_id") != seen["boot_id"] for t in known):
            break
        # one look can miss a process that forks and ends, or execs, while it goes on: nobody is gone before several
        time.sleep(0.03)
        del problems[:]
        known, table = records(folder, problems), scan(problems)
        sets = owned(table, request, known, seen["boot_id"])
    now, rows = uptime(), []
    for token in sorted(sets):
        record, members = known.get(token), sets[token]
        lead, first = leader(members, record)
        mark = next((p.mark for p in members if p.mark), None)
        name, slot, digest = mark[3:6] if mark else (record["component"], record["slot"], record["hash"])
        log = record.get("log") if record else output(lead.pid)
        more = {"slot": int(slot), "token": token, "hash": digest, "owned": True, "leader": first}
        if record and record.get("launcher"):
            more["launcher"] = record["launcher"]
        rows.append(row(name, lead, members, now, log, **more))
    ours = {p.pid for members in sets.values() for p in members}
    for name, p in matched(table, specs, ours, problems):
        more = {"slot": None, "token": None, "hash": None, "owned": False, "leader": True}
        rows.append(row(name, p, family(table, [p]), now, output(p.pid), **more))
    if witness:
        seen.update(witness(request, folder, ends, (known, sets, rows, problems, seen["boot_id"])))
    for token, one in sorted(known.items()):
        # a job elsewhere, of a queue that this request does not ask about
        if token not in sets and not one.get("boot_id") and one.get("launcher") not in (request.get("launchers") or {}):
            seen.setdefault("possible", []).append({k: one.get(k) for k in ("component", "slot", "launcher")})
            seen["possible"][-1].update(token=token, why="%s was not asked" % one.get("launcher"))
    jobs = []
    for one in rows:
        spec = (specs.get(one["component"]) or {}).get("health")
        if spec and not one["health"] and one["processes"]:
            one["health"] = ill(one, spec, ends)
            if spec.get("command") and not one["health"]:
                try:
                    user = specs[one["component"]].get("user")
                    jobs.append((one, spec, pwd.getpwnam(user) if user else None))
                except KeyError:
                    one["health"] = "health command: this host knows no user %s" % user
    if jobs:
        run_checks(jobs, ends, groups)
    seen.update(uptime=now, instances=rows, problems=problems)
    return seen
