# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""One request on one host: fence, observe or apply, answer.

Note that this module util is **PRIVATE** to the collection.

The only thing that outlives the request is the state folder, and there only the fence is written here. Python 3.6
and the standard library, no f-strings (see _probe).
"""

import binascii
import fcntl
import json
import os
import re
import signal
import sys
import time
import zlib

from ansible_collections.sciops.sites.plugins.module_utils import _probe

LINE = 3000
# how long the last look after an apply may take when the time of the request is used up
LAST_LOOK = 5


class Late(Exception):
    """The time limit of the request was reached."""


def state_folder(request):
    """The folder of this site, deployment and host in the state of the user this runs as."""
    for key in ("site", "deployment", "host"):
        if not re.fullmatch(r"[^\s/\0]+", request[key]) or request[key].startswith("."):
            raise _probe.Refused("%s: %r cannot be the name of a folder" % (key, request[key]))
    if os.geteuid() == 0:
        base = "/var/lib"
    else:
        base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return "%s/sciops.sites/%s.%s/%s" % (base, request["site"], request["deployment"], request["host"])


def take_lock(folder, ends):
    """The lock of the state folder, made where missing; waits for who holds it. Closing the handle frees it."""
    for sub in ("/instances", "/log"):
        os.makedirs(folder + sub, 0o700, exist_ok=True)
    handle = os.open(folder + "/lock", os.O_RDWR | os.O_CREAT, 0o600)
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() > ends:
                os.close(handle)
                raise _probe.Refused("another request is at work on this host: %s/lock is held" % folder)
            time.sleep(0.03)


def stored_fence(folder):
    """The fence of the last controller that was here, or None."""
    path = folder + "/fence.json"
    try:
        return json.loads(_probe.read(path).decode())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _probe.Refused("%s: %s; remove it when no other controller serves this host" % (path, error))


def shown(fence):
    """A stored fence as the observation shows it; the age in seconds, after a reboot the least it can be."""
    if not fence:
        return None
    now = _probe.uptime()
    age = now - fence["uptime"] if fence["boot_id"] == _probe.boot_id() else now
    return {"number": fence["number"], "holder": fence["holder"], "age": round(max(0.0, age), 1)}


def newer(fence, old):
    """Whether a fence may act where ``old`` was the last: a higher number, or the very same."""
    return not old or fence["number"] > old["number"] or all(fence[k] == old[k] for k in ("number", "holder"))


def witness(request, held=False):
    """Who asks the managers of a request; None where it has none. Their files travel with such requests only.

    ``held`` says that fence and lock are those of the request: what is over may be tidied up.
    """
    if not request.get("launchers"):
        return None
    from ansible_collections.sciops.sites.plugins.module_utils import _manager

    return lambda *scene: _manager.witness(*scene, held=held)


def observe(request, folder, ends, groups):
    """Take the fence where the request has one, and look."""
    fence, old, trouble, lock, late = request.get("fence"), None, [], None, False
    try:
        if fence:
            try:
                lock = take_lock(folder, ends - 0.5)
                old = stored_fence(folder)
                late = not newer(fence, old)
                if not late:
                    keep = dict(fence, uptime=_probe.uptime(), boot_id=_probe.boot_id())
                    _probe.write_file(folder + "/fence.json", json.dumps(keep), 512)
            except OSError as error:
                trouble.append("nothing can be changed on this host: its state folder: %s" % error)
        else:
            old = stored_fence(folder)
        held = lock is not None and not late and not trouble
        seen = _probe.observe(request, folder, ends, groups, witness(request, held))
    finally:
        if lock is not None:
            os.close(lock)
    seen["problems"] += trouble
    if trouble:
        seen["frozen"] = trouble[0]
    seen.update(fence=shown(old), superseded=late)
    return seen


def apply(request, folder, ends, groups):
    """Do the actions where fence and boot are as the controller saw them, and look again."""
    from ansible_collections.sciops.sites.plugins.module_utils import _work

    fence, why, old, lock, results = request.get("fence"), "", None, None, None
    try:
        try:
            lock = take_lock(folder, ends - 0.5)
            old = stored_fence(folder)
        except OSError as error:
            why = "the state folder cannot be used: %s" % error
        late = bool(fence and old and not newer(fence, old))
        if late:
            why = "superseded by number %s of %s" % (old["number"], old["holder"])
        elif not why and (not fence or not old or any(fence[k] != old[k] for k in ("number", "holder"))):
            why = "this host was not observed with the fence of this request"
        elif not why and request["expect"]["boot_id"] != _probe.boot_id():
            why = "the host was rebooted since it was observed"
        work = _work.Work(request, folder, ends)
        if why:
            work.close("refused", why)
        else:
            try:
                work.run()
            except Late:
                work.close("refused", "no time was left for it")
            except Exception as error:  # what was done before stays known
                work.close("unknown", "the request broke: %s: %s" % (type(error).__name__, error))
        results = work.results
        limit(LAST_LOOK)
        try:
            ends = time.monotonic() + LAST_LOOK - 1
            seen = _probe.observe(request, folder, ends, groups, witness(request))
        except (Late, _probe.Refused, OSError) as error:
            seen = {"answered": False, "kind": "timeout", "reason": "the look after the actions failed: %s" % error}
    finally:
        if lock is not None:
            os.close(lock)
    seen.update(fence=shown(old), superseded=late, results=results)
    return seen


def describe(request, folder, ends, groups):
    """What the starts of a request would write, path -> {"before", "after"}; nothing is written."""
    from ansible_collections.sciops.sites.plugins.module_utils import _work

    work, lots, files = _work.Work(request, folder, ends), {}, {}
    for index, action in enumerate(work.actions):
        lots.setdefault(action.get("launcher", "process"), []).append(index)
    try:
        for name, indices in sorted(lots.items()):
            files.update(_work.launcher(name).describe(work, indices))
    except _work.Failed as error:
        raise _probe.Refused(str(error))
    return {"answered": True, "files": files}


def limit(seconds):
    """Raise Late in this program after so many seconds."""

    def ring(*_):
        raise Late("the time limit of %s s was reached on the host" % seconds)

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.1, seconds))


def handle(request):
    """The reply to a request; whatever goes wrong becomes an answer that says what."""
    groups, seconds = set(), float(request.get("timeout") or 15)
    os.umask(0o077)
    limit(seconds)
    ends, said = time.monotonic() + seconds - min(0.5, seconds / 10), None
    try:
        if request.get("v") != 1:
            raise _probe.Refused("version %s of a request is not known" % request.get("v"))
        work = {"observe": observe, "apply": apply, "describe": describe}[request["mode"]]
        said = work(request, state_folder(request), ends, groups)
    except Late as error:
        said = {"answered": False, "kind": "timeout", "reason": str(error)}
    except _probe.Refused as error:
        said = {"answered": False, "kind": "refused", "reason": str(error)}
    except Exception as error:
        # whatever it is, the controller must hear of it, and must not take it for an empty host
        line = sys.exc_info()[2]
        while line.tb_next:
            line = line.tb_next
        where = "%s line %s" % (line.tb_frame.f_code.co_name, line.tb_lineno)
        said = {"answered": False, "kind": "refused", "reason": "%s: %s (%s)" % (type(error).__name__, error, where)}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for pid in groups:
            _probe.end_group(pid)
    return said


def frame(reply, nonce):
    """The lines that carry a reply, as bytes."""
    data = zlib.compress(json.dumps(reply).encode(), 9)
    text = binascii.b2a_base64(data).decode().strip()
    parts = [text[i : i + LINE] for i in range(0, len(text), LINE)]
    form = "\n@sciops %s %%d/%d %08x %%s\n" % (nonce, len(parts), zlib.crc32(data) & 0xFFFFFFFF)
    return "".join(form % (i + 1, part) for i, part in enumerate(parts)).encode()


def main(raw):
    """Answer one compressed request on standard output."""
    request = json.loads(zlib.decompress(raw).decode())
    data = frame(handle(request), request["nonce"])
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        # nobody listens any more; what was done stays done
        os._exit(1)
