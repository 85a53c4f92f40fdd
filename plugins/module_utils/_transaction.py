# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What a host remembers of the releases of one target, one change at a time, and the worker that carries a change out.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import errno
import fcntl
import json
import os
import shutil
import signal
import time
import traceback

from ansible_collections.sciops.sites.plugins.module_utils import _place

#: seconds after which a release that was staged and never tried is left over
STAGING = 3600
EMPTY = {"version": 1, "activations": [], "stopped": None, "rejected": {}}


class Trouble(Exception):
    """A change cannot be made, or was not made; the text says why, `facts` go into the result."""

    def __init__(self, text, **facts):
        super(Trouble, self).__init__(text)
        self.facts = facts


class Busy(Trouble):
    """Another change of this target is under way."""


class Store:
    """The folder `.sciops` below the root of a target."""

    def __init__(self, root):
        if not os.path.isabs(root) or os.path.normpath(root) == "/":
            raise Trouble("root: %r: must be an absolute path, and not /" % root)
        self.root = os.path.normpath(root)
        self.folder = os.path.join(self.root, ".sciops")
        self.handle = None

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def lock(self):
        """Take the lock of the target for this process and what it forks; Busy where another has it."""
        if not os.path.isdir(self.root):
            raise Trouble("%s: is not there; the folders of a target are made before its releases" % self.root)
        _place.folder(self.folder, 0o700)
        handle = os.open(self.path("lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise Busy("%s: another change is under way%s; run again when it is over" % (self.root, self.doing()))
        self.handle = handle

    def unlock(self):
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None

    def busy(self):
        """Whether a change is under way right now."""
        try:
            handle = os.open(self.path("lock"), os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except OSError:
            return True
        finally:
            os.close(handle)

    def doing(self):
        journal = self.journal()
        return " (%(what)s, process %(pid)d, step %(phase)s)" % journal if journal else ""

    # --- what is remembered

    def _load(self, default, *parts):
        text = _place.read(self.path(*parts))
        if text is None:
            return default
        try:
            found = json.loads(text)
        except ValueError as error:
            raise Trouble("%s: is not the JSON that was written there: %s" % (self.path(*parts), error))
        if not isinstance(found, dict):
            raise Trouble("%s: is not the JSON that was written there" % self.path(*parts))
        return found

    def _save(self, data, *parts):
        _place.write(self.path(*parts), json.dumps(data, sort_keys=True, indent=1) + "\n", 0o600, lasting=True)

    def state(self):
        return self._load(json.loads(json.dumps(EMPTY)), "state.json")

    def remember(self, state):
        self._save(state, "state.json")

    def journal(self):
        """The change that is under way, or that was cut off where nobody has the lock; None without one."""
        return self._load(None, "journal.json")

    def note(self, journal):
        if journal is None:
            _place.drop(self.path("journal.json"))
            shutil.rmtree(self.path("undo"), ignore_errors=True)
        else:
            self._save(journal, "journal.json")

    def manifest(self, ident):
        """The manifest of a release that this host has, None without one."""
        return self._load(None, "releases", ident, "manifest.json") if ident else None

    def keep(self, manifest):
        _place.folder(self.path("releases", manifest["id"]), 0o700)
        self._save(manifest, "releases", manifest["id"], "manifest.json")

    def current(self):
        """The manifest of the release that is live, None before the first one."""
        activations = self.state()["activations"]
        if not activations:
            return None
        found = self.manifest(activations[-1])
        if found is None:
            raise Trouble("%s: the live release %s has no manifest" % (self.folder, activations[-1]))
        return found

    def staged(self, manifest, index):
        """The path of the text of a file of a release."""
        return self.path("releases", manifest["id"], "files", str(index))

    def forget(self, keep):
        """Remember only the last `keep` releases that were live, and remove what there is of others."""
        state = self.state()
        order = [ident for at, ident in enumerate(state["activations"]) if ident not in state["activations"][at + 1 :]]
        state["activations"] = order[-max(keep, 1) :]
        state["rejected"] = dict(list(state["rejected"].items())[-20:])
        self.remember(state)
        for name in os.listdir(self.path("releases")):
            # one without a manifest may just be being staged
            fresh = not self.manifest(name) and os.stat(self.path("releases", name)).st_mtime > time.time() - STAGING
            if name not in state["activations"] and not fresh:
                shutil.rmtree(self.path("releases", name), ignore_errors=True)

    def kept(self):
        """The manifests of all releases that this host still has."""
        names = os.listdir(self.path("releases")) if os.path.isdir(self.path("releases")) else []
        return [one for one in (self.manifest(name) for name in sorted(names)) if one]


def detached(store, work):
    """What `work()` returns, a dict, carried out by a process of a session of its own.

    It holds the lock of the store until it ends, whatever becomes of the caller: a connection that breaks, or a
    controller that is killed, does not end a change half-way. Trouble where the worker itself was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.setsid()
            if os.fork() == 0:
                _serve(store, writing, work)
        finally:
            os._exit(0)
    os.close(writing)
    store.unlock()
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    if not said:
        ends = time.monotonic() + 5
        while store.busy() and time.monotonic() < ends:  # its lock goes with its last breath
            time.sleep(0.01)
        words = "the process that carried out the change was killed; run again: what it left is put right first"
        raise Trouble("%s: %s" % (store.root, words))
    return json.loads(said.decode("utf-8"))


def _serve(store, writing, work):
    """Do the work and send what it returned; nobody may be left to read it."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.chdir("/")
    try:
        result = work()
    except Exception:  # the caller must learn of any end
        result = {"failed": True, "msg": "unforeseen: %s" % traceback.format_exc()}
    # before the caller can know, who may begin the next change at once
    store.unlock()
    data = json.dumps(result).encode("utf-8")
    try:
        while data:
            data = data[os.write(writing, data) :]
    except OSError:
        pass  # the caller is gone; the journal and the state say what was done
