# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launcher ``apptainer``: instances of an image as plain processes; and images for every launcher with a container.

Note that this module util is **PRIVATE** to the collection.

What runs in a container has the marker too, so it is seen, counted and stopped as any process is. Its environment is
given in a file without a name. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import time

from ansible_collections.sciops.sites.plugins.module_utils import _logs, _manager, _probe, _process
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed, said

CAPABILITIES = {"restarts": False, "placement": "host", "logout": True, "reboot": False}
# what is left of a request's time for everything but waiting for an image
RESERVE = 3


def program(settings):
    """The path of apptainer. Raises Failed."""
    found = shutil.which(settings.get("program") or "apptainer", path=_manager.PATHS)
    if not found:
        text = "apptainer: no program %s on this host; install apptainer, or say where it is with program"
        raise Failed(text % (settings.get("program") or "apptainer"), "refused")
    return found


def prerequisites(settings, folder):
    try:
        program(settings)
    except Failed as error:
        return [str(error)]
    return []


# --- the command line


def instance_name(unit):
    """The name of an instance; apptainer takes letters, digits, ``-`` and ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", unit)


def wrapped(action, unit, who, launcher, settings):
    """What a spec or an action is to have so that its program runs in its container."""
    box = action["container"]
    method = box.get("method") or ("instance" if launcher == "apptainer" else "run")
    if method == "instance" and launcher not in ("apptainer", "systemd"):
        raise Failed("%s needs a container.method of run or exec: an instance leaves it" % launcher, "refused")
    words, more = [program(settings), "--quiet"], {}
    words += ["instance", "start"] if method == "instance" else [method]
    # no-eval: else a $ in the environment would be a variable of the container's shell
    words += ["--cleanenv", "--no-eval", "--env-file", "{ENV}"]
    if method == "instance":
        more["instance"] = instance_name(unit)
        more["pid_file"] = pid_file(who, unit)
        words += ["--pid-file", more["pid_file"]]
    for bind in box.get("binds") or []:
        words += ["--bind", bind]
    words += list(box.get("options") or []) + [_logs.home(box["image"], who)]
    words += [more["instance"]] if method == "instance" else []
    return dict(more, argv=words + list(action["argv"]), inside=True)


def pid_file(who, unit):
    """Where apptainer writes the pid of an instance: its user must be able to."""
    return "%s/.apptainer/sciops/%s.pid" % (who.pw_dir, unit)


# --- images


def sha256(path):
    seen = hashlib.sha256()
    with open(path, "rb") as handle:
        for part in iter(lambda: handle.read(1 << 20), b""):
            seen.update(part)
    return "sha256:" + seen.hexdigest()


def digest_of(path, folder):
    """The sha256 of a file; computed once for each state of it."""
    here = os.stat(path)
    key = [here.st_ino, here.st_size, here.st_mtime_ns]
    store = folder + "/images.json"
    try:
        known = json.loads(_probe.read(store).decode())
    except (OSError, ValueError):
        known = {}
    if known.get(path, {}).get("key") != key:
        known[path] = {"key": key, "digest": sha256(path)}
        _probe.write_file(store, json.dumps(known))
    return known[path]["digest"]


def wanted(box, image, folder):
    """Why an image is to be fetched, in words; empty where what is there is what is declared."""
    if not os.path.exists(image):
        return "it is not there"
    if box.get("digest"):
        there = digest_of(image, folder)
        return "" if there == box["digest"] else "it is %s, %s is declared" % (there[:19], box["digest"][:19])
    if box.get("source"):
        try:
            there = _probe.read(image + ".source").decode().strip()
        except OSError:
            there = "elsewhere"
        return "" if there == box["source"] else "it came from %s" % there
    return ""


def provide(work, box, who, settings):
    """Have the image of a container in its place. Raises Failed, and then the old one is where it was.

    Fetching may take longer than a request: it then goes on by itself, and a later request finds what it brought.
    """
    image = _logs.home(box["image"], who)
    try:
        why = wanted(box, image, work.folder)
    except OSError as error:
        raise Failed("image %s: %s" % (image, said(error)))
    if not why:
        return
    if not box.get("source"):
        raise Failed("image %s: %s, and there is no source to fetch it from" % (image, why))
    with _logs.rights_of(who), _logs.umask(0o022):
        try:
            _logs.make_folder(os.path.dirname(image))
            lock = os.open(image + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Failed("image %s: %s" % (image, said(error)))
    try:
        fetched, source = image + ".fetched", image + ".fetching"
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed("image %s is being fetched: %s" % (image, why), "refused")
        if not os.path.exists(fetched) or _probe.read(source).decode() != box["source"]:
            fetch(work, box, who, settings, image, lock)
        with _logs.rights_of(who):
            bad = sha256(fetched) if box.get("digest") else None
            if bad != box.get("digest"):
                os.unlink(fetched)
                raise Failed(
                    "image %s: %s is %s, %s is declared" % (image, box["source"], bad[:19], box["digest"][:19])
                )
            switch(box, image, fetched, source)
    finally:
        os.close(lock)


def call(who, argv, wait=True, **more):
    """Run a command as a user, with an environment of its own, for at most ten seconds; or give the process."""

    def become():
        os.umask(0o022)
        if os.geteuid() == 0:
            os.initgroups(who.pw_name, who.pw_gid)
            os.setgid(who.pw_gid)
            os.setuid(who.pw_uid)

    env = {"PATH": _manager.PATHS, "HOME": who.pw_dir, "USER": who.pw_name, "LOGNAME": who.pw_name, "LANG": "C.UTF-8"}
    for name in ("stdin", "stdout", "stderr"):
        more.setdefault(name, subprocess.DEVNULL)
    # no threads are here that preexec_fn could hurt
    child = subprocess.Popen(argv, env=env, cwd="/", start_new_session=True, preexec_fn=become, **more)  # noqa: PLW1509
    return child.wait(10) if wait else child


def fetch(work, box, who, settings, image, lock):
    """Fetch what the source names beside the image. The lock goes along, so that nobody else fetches meanwhile."""
    part, fetched = image + ".part", image + ".fetched"
    if re.match(r"[a-z][a-z0-9+.-]*://", box["source"]):
        get = [program(settings), "pull", "--force", part, box["source"]]
    else:
        get = ["cp", "--", _logs.home(box["source"], who), part]
    get = " ".join(shlex.quote(word) for word in get)
    text = "rm -f {0}; {1} && mv -f {2} {0}".format(shlex.quote(fetched), get, shlex.quote(part))
    with _logs.rights_of(who):
        with open(image + ".fetching", "w") as note:
            note.write(box["source"])
        log = os.open(image + ".fetch.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        child = call(who, ["/bin/sh", "-c", text], stdout=log, stderr=log, pass_fds=[lock], wait=False)
    finally:
        os.close(log)
    while child.poll() is None:
        if time.monotonic() > work.ends - RESERVE:
            raise Failed("image %s is being fetched from %s, pid %d" % (image, box["source"], child.pid), "refused")
        time.sleep(0.05)
    if child.returncode:
        words = _logs.tail(image + ".fetch.log", 0, [])
        raise Failed("image %s: %s: %s" % (image, box["source"], words[-1] if words else "could not be fetched"))


def switch(box, image, fetched, source):
    """Put a fetched image in its place by one rename; of the old ones so many are kept."""
    if os.path.exists(image):
        os.link(image, "%s.%d" % (image, time.time()))
    os.rename(fetched, image)
    os.rename(source, image + ".source")
    folder, name = os.path.split(image)
    old = [other for other in os.listdir(folder) if re.fullmatch(re.escape(name) + r"\.\d{9,11}", other)]
    for other in sorted(old, reverse=True)[max(0, int(box.get("keep", 3)) - 1) :]:
        os.unlink(folder + "/" + other)


# --- the contract


def start(work, indices):
    """Images first, then as processes are."""
    ready = []
    for i in indices:
        action = work.actions[i]
        settings = action.get("manager") or work.settings("apptainer")
        try:
            who = _logs.account(action.get("user"))
            provide(work, action["container"], who, settings)
            ident = [work.request[k] for k in ("site", "deployment", "host")]
            unit = "%s@%d" % (_manager.unit_name(ident, action["component"]), action["slot"])
            more = wrapped(action, unit, who, "apptainer", settings)
            work.actions[i] = dict(action, **more)
            ready.append(i)
        except Failed as error:
            work.end(i, error.outcome, str(error))
        except OSError as error:
            work.end(i, "failed", "%s; nothing was started" % said(error))
    if ready:
        _process.start(work, ready)


def observe(ask):
    return {"problems": prerequisites(ask["settings"], ask["folder"])}


def stop(work, indices):
    """Stop as processes are, and have apptainer forget what was killed."""
    _process.stop(work, indices)
    for i in indices:
        action = work.actions[i]
        if work.results[i]["outcome"] not in ("stopped", "gone"):
            continue
        who = _logs.account(action.get("user"))
        ident = [work.request[k] for k in ("site", "deployment", "host")]
        name = instance_name("%s@%d" % (_manager.unit_name(ident, action["component"]), action["slot"]))
        forget(name, who, work.settings("apptainer"))


def forget(name, who, settings):
    """End what is left of an instance: its monitor and its file systems live on when its program is killed."""
    place = "%s/.apptainer/instances/app/%s/%s/%s" % (who.pw_dir, os.uname()[1], who.pw_name, name)
    if os.path.isdir(place):
        try:
            call(who, [program(settings), "instance", "stop", "--force", name])
        except (Failed, OSError, subprocess.SubprocessError):
            # the next start of this slot does it again
            pass


rotate, describe = _process.rotate, _process.describe
