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


def known(folder):
    """What is known of images: path -> {"key", "digest"}."""
    try:
        return json.loads(_probe.read(folder + "/images.json").decode())
    except (OSError, ValueError):
        return {}


def state_of(here):
    """What of a file's properties is another one when its content is."""
    return [here.st_ino, here.st_size, here.st_mtime_ns]


def remember(folder, path, key, digest):
    """Write down the digest of an image; the one that was fetched for it is gone."""
    every = known(folder)
    every.pop(path + ".fetched", None)
    every[path] = {"key": key, "digest": digest}
    _probe.write_file(folder + "/images.json", json.dumps(every))


def digest_of(work, path, who, lock=None):
    """The sha256 of a file; computed once for each state of it.

    That may take longer than a request: it then goes on by itself, with ``lock`` kept locked, and a later request finds
    the result. Raises Failed until then.
    """
    with _logs.rights_of(who):
        image = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        key = state_of(os.fstat(image))
        found = known(work.folder).get(path, {})
        if found.get("key") == key:
            return found["digest"]
        os.makedirs(work.folder + "/images", 0o700, exist_ok=True)
        note = "%s/images/%s" % (work.folder, hashlib.sha256(os.fsencode(path)).hexdigest()[:16])
        # whoever computes it has this open, locked, as standard output
        handle = os.open(note, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            digest = "sha256:" + computed(work, path, who, lock, (image, json.dumps(key) + "\n", note, handle))
        finally:
            os.close(handle)
    finally:
        os.close(image)
    remember(work.folder, path, key, digest)
    os.unlink(note)
    return digest


def computed(work, path, who, lock, files):
    """The digits that are in a note behind its head, put there first where they are not. Raises Failed."""
    image, head, note, handle = files

    def result():
        text = _probe.read(note).decode("utf-8", "replace")
        found = re.match("[0-9a-f]{64}(?= )", text[len(head) :]) if text.startswith(head) else None
        return found and found.group()

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failed("image %s is being checked" % path, "refused")
    if not result():
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, head.encode())
        keep = [] if lock is None else [lock]
        child = call(who, ["sha256sum"], stdin=image, stdout=handle, pass_fds=keep, wait=False)
        # others are to be started in this request too
        until = time.monotonic() + (work.ends - time.monotonic()) / 2
        while child.poll() is None:
            if time.monotonic() > until:
                raise Failed("image %s is being checked, pid %d" % (path, child.pid), "refused")
            time.sleep(0.02)
    if not result():
        raise Failed("image %s: cannot be read to its end" % path)
    return result()


def wanted(work, box, image, who):
    """Why an image is to be fetched, in words; empty where what is there is what is declared."""
    if not os.path.exists(image):
        return "it is not there"
    if box.get("digest"):
        there = digest_of(work, image, who)
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
        why = wanted(work, box, image, who)
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
            raise Failed("image %s is being fetched or checked: %s" % (image, why), "refused")
        if not os.path.exists(fetched) or _probe.read(source).decode() != box["source"]:
            fetch(work, box, who, settings, image, lock)
        digest = digest_of(work, fetched, who, lock) if box.get("digest") else None
        with _logs.rights_of(who):
            if digest != box.get("digest"):
                os.unlink(fetched)
                raise Failed(
                    "image %s: %s is %s, %s is declared" % (image, box["source"], digest[:19], box["digest"][:19])
                )
            switch(box, image, fetched, source)
            key = state_of(os.stat(image))
        if digest:
            # by its name from now on, so that it is not computed again
            remember(work.folder, image, key, digest)
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
