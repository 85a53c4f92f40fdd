# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How a process of ours becomes the program that was asked for, started by us or by a manager.

Note that this module util is **PRIVATE** to the collection.

A manager (supervisord, systemd, Slurm) runs this file with the path of a spec: the manager's own files hold that path
and nothing else, so what is secret is in one file of mode 0600, and no argument needs the manager's quoting. What still
lives is never started a second time, whoever asks: who asks waits for its end. It is loaded for each start, so what
only containers need is imported where it is used. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import errno
import fcntl
import json
import os
import signal
import time

from ansible_collections.sciops.sites.plugins.module_utils import _logs, _probe

# what ends with this must not be tried again by the manager
BUSY = 75
# what is copied of a log at once, in so many parts at most, and how much of it stays in its file
PART, MOST_PARTS, EMPTIED = 65536, 64, 1 << 20


class Failed(Exception):
    """An action was not done; ``outcome`` is ``failed`` or ``refused``, the text says why."""

    def __init__(self, text, outcome="failed"):
        Exception.__init__(self, text)
        self.outcome = outcome


def said(error):
    """What an OSError says, in the way people write it."""
    return "%s: %s" % (error.filename, error.strerror) if error.filename and error.strerror else str(error)


def environment(action, who):
    """(the whole environment of a new process, the secret values in it)."""
    env = {"HOME": who.pw_dir, "USER": who.pw_name, "LOGNAME": who.pw_name, "SHELL": who.pw_shell, "LANG": "C.UTF-8"}
    env["PATH"] = ("" if who.pw_uid else "/usr/local/sbin:/usr/sbin:/sbin:") + "/usr/local/bin:/usr/bin:/bin"
    own = {k: str(v) for k, v in (action.get("environment") or {}).items()}
    hidden = []
    for name, secret in (action.get("secrets") or {}).items():
        if "file" in secret:
            try:
                value = _probe.read(secret["file"]).decode("utf-8", "surrogateescape").rstrip("\r\n")
            except OSError as error:
                raise Failed("secret %s: %s" % (name, said(error)))
        else:
            value = str(secret["value"])
        own[name] = value
        hidden.append(value)
    for name, value in own.items():
        if "\0" in name + value or "=" in name or not name:
            raise Failed("%r cannot be in an environment" % name)
    if action.get("inside"):
        import shlex

        # for a container, whose tool has an environment of its own
        env["INSIDE"] = "".join("%s=%s\n" % (name, shlex.quote(own[name])) for name in sorted(own))
    else:
        env.update(own)
    return env, hidden


def inside(argv, env):
    """What a container is to have in its environment as a file that has no name and that nobody else can open."""
    import tempfile

    text = env.pop("INSIDE").encode("utf-8", "surrogateescape")
    with tempfile.TemporaryFile() as spare:
        handle = os.dup(spare.fileno())
    os.write(handle, text)
    os.set_inheritable(handle, True)
    env["APPTAINERENV_SCIOPS_SITES"] = env["SCIOPS_SITES"]
    return ["/proc/self/fd/%d" % handle if word == "{ENV}" else word for word in argv]


def turn(action, who, env, words, log, keep=(), ready=None, told=None, session=True):
    """Make this very process the program. Never returns.

    ``words`` are those of the marker but for the pid, ``log`` is open for writing, ``keep`` are handles that stay open
    until exec. ``ready`` is called last before exec; ``told`` gets what hindered it, in words.
    """
    at = "start"
    try:
        if session:
            os.setsid()
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                try:
                    signal.signal(number, signal.SIG_DFL)
                except (OSError, ValueError):
                    pass
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(0o022)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in keep:
                try:
                    os.close(int(name))
                except OSError:
                    pass
        if os.geteuid() == 0:
            at = "user %s" % who.pw_name
            os.initgroups(who.pw_name, who.pw_gid)
            os.setgid(who.pw_gid)
            os.setuid(who.pw_uid)
        at = "cwd"
        os.chdir(_logs.home(action.get("cwd") or "~", who))
        env["SCIOPS_SITES"] = " ".join(words + [str(os.getpid())])
        at = "command"
        argv = [str(word) for word in action["argv"]]
        argv = inside(argv, env) if "INSIDE" in env else argv
        if ready:
            ready()
        if action.get("instance"):
            for handle in keep:
                os.close(handle)
            keeper(argv, env, action)
        execute(argv, env)
    except BaseException as error:
        error = error if isinstance(error, OSError) else OSError(str(error))
        try:
            told("%s: %s" % (at, said(error)))
        finally:
            os._exit(127)


def execute(words, env):
    """Replace this process; a script without an interpreter line is given to sh, as every shell does."""
    if not words:
        raise OSError(errno.ENOENT, "there is no command")
    found = [words[0]] if "/" in words[0] else [d + "/" + words[0] for d in env["PATH"].split(":") if d]
    trouble = None
    for path in found:
        try:
            os.execve(path, words, env)  # noqa: S606
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve("/bin/sh", ["/bin/sh", path] + words[1:], env)  # noqa: S606
            error.filename = words[0]
            if trouble is None or error.errno == errno.EACCES:
                trouble = error
    raise trouble


def children(pid):
    """The pids of a process's children; of one that is gone, none."""
    try:
        return [int(word) for word in _probe.read("/proc/%d/task/%d/children" % (pid, pid)).split()]
    except FileNotFoundError:
        return [p.pid for p in _probe.scan().values() if p.ppid == pid]
    except OSError:
        return []


def pour(copied):
    """Copy what came to files since the last time to standard output; ``copied``: handle -> where that ended.

    A file is emptied when it has become big and all of it is copied. Where the log has no room it waits in the file.
    """
    for handle in copied:
        for _part in range(MOST_PARTS):
            try:
                part = os.pread(handle, PART, copied[handle])
                copied[handle] += os.write(1, part) if part else 0
                size = os.fstat(handle).st_size
                if not part and size == copied[handle] > EMPTIED:
                    os.ftruncate(handle, 0)
                    size = 0
            except OSError:
                break
            if size < copied[handle]:
                copied[handle] = 0
            if not part:
                break


def keeper(argv, env, action):
    """Start an instance of apptainer, be there as long as its program is, and end it. Never returns.

    apptainer leaves an instance behind whose program has ended, and nobody would see the difference from outside.
    """
    import subprocess
    import tempfile

    wish = []
    signal.signal(signal.SIGTERM, lambda *_: wish.append(1))
    tool, name, null = argv[0], action["instance"], {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    place = "%s/.apptainer/instances/%%s/%s/%s/%s" % (env["HOME"], os.uname()[1], env["USER"], name)
    names = [action["pid_file"] + ".up", place % "logs" + ".out", place % "logs" + ".err"]

    def end():
        if os.path.isdir(place % "app"):
            subprocess.call([tool, "instance", "stop", "--force", name], env=env, **null)
        for path in names:
            if os.path.lexists(path):
                os.unlink(path)

    end()
    for path in names:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    root, copied = os.open("/", os.O_RDONLY), {}
    try:
        for path in names[1:]:
            # apptainer writes to two files and follows no link: both become names of the log. With src_dir_fd the link
            # behind /proc is followed
            os.link("/proc/self/fd/1", path, src_dir_fd=root)
    except OSError:
        # the log is on another file system than the home: apptainer keeps its files, and this copies what comes
        for path in names[1:]:
            if os.path.lexists(path):
                os.unlink(path)
            copied[os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)] = 0
    os.close(root)
    with tempfile.TemporaryFile() as words:
        # it repeats what the program wrote at first, which is in the log already
        code = subprocess.call(argv, env=env, close_fds=False, stdout=words, stderr=words)
        pour(copied)
        if code:
            words.seek(0)
            os.write(2, words.read()[-4096:])
            os._exit(code if code > 0 else 1)
    first, sent = int(_probe.read(action["pid_file"])), False
    # who waits for the start to settle begins here
    os.close(os.open(names[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644))
    while True:
        below = children(first)
        pour(copied)
        if not below:
            break
        if wish and not sent and action.get("launcher") != "apptainer":
            # a manager that tells the keeper only; who stops instances by themselves has told all of them already
            table = _probe.scan()
            for p in _probe.family(table, [table[pid] for pid in below if pid in table]):
                os.kill(p.pid, signal.SIGTERM)
            sent = True
        time.sleep(0.2)
    end()
    os._exit(0 if wish else 1)


def fresh(action):
    """Whether an instance that is being started has not yet run for its settle time; nothing else has a keeper."""
    try:
        age = time.time() - os.stat(action["pid_file"] + ".up").st_mtime if action.get("instance") else None
    except OSError:
        return True
    return age is not None and age < float(action.get("settle", 2))


def alive(spec, folder):
    """The live processes of the start that a spec belongs to, this one aside."""
    ident = dict(zip(("site", "deployment", "host"), spec["ident"]))
    sets = _probe.owned(_probe.scan(), ident, _probe.records(folder, []), _probe.boot_id())
    return [p for p in sets.get(spec["token"], []) if p.pid != os.getpid()]


def main(path):
    """Run by a manager: become what the spec at ``path`` says, unless that lives already. Never returns."""

    def told(text, code=1):
        try:
            os.write(2, ("sciops.sites: %s: %s\n" % (os.path.basename(path), text)).encode("utf-8", "replace"))
        finally:
            os._exit(code)

    try:
        os.umask(0o077)
        spec = json.loads(_probe.read(path).decode())
        folder = spec["folder"]
        while True:
            # freed by exec
            lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # what was asked for while this waited
            spec = json.loads(_probe.read(path).decode())
            if spec.get("only_boot") not in (None, _probe.boot_id()):
                told("it may run once only, and may have gone elsewhere since this host was booted", BUSY)
            others = alive(spec, folder)
            if not others:
                break
            # left by a manager that is gone: it goes on, and this takes its place when it ends
            os.close(lock)
            time.sleep(1)
        who = _logs.account(spec.get("user"))
        env, _hidden = environment(spec, who)
        known = _probe.records(folder, [])
        used = {known[t].get("log") for t in known}
        log = _logs.begin(spec["log_path"], spec.get("log") or {}, folder, who, used)
        os.dup2(log, 2)
        record = {"pid": os.getpid(), "start": _probe.look(os.getpid()).start, "boot_id": _probe.boot_id()}
        record.update(log=spec["log_path"], launcher=spec["launcher"], unit=spec["unit"])
        record.update((k, spec[k]) for k in ("component", "slot", "hash", "token"))
        record.update(zip(("site", "deployment", "host"), spec["ident"]))
        _probe.write_file("%s/instances/%s.json" % (folder, spec["token"]), json.dumps(record))
    except Exception as error:
        told(said(error) if isinstance(error, (OSError, Failed)) else "%s: %s" % (type(error).__name__, error))
    words = spec["ident"] + [spec["component"], str(spec["slot"]), spec["hash"], spec["token"]]
    turn(spec, who, env, words, log, told=lambda text: told(text, 127), session=False)
