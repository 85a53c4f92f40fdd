# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The install method ``venv``: a virtual environment of locked requirements.

Note that this module util is **PRIVATE** to the collection.

Scripts of an environment hold its path, so it is made where it stays. Python 3.6 and the standard library, no f-strings
(see _probe).
"""

import hashlib
import json
import os
import re
import shutil
import subprocess

from ansible_collections.sciops.sites.plugins.module_utils import _building, _place
from ansible_collections.sciops.sites.plugins.module_utils._building import Failure

SETTINGS = {"path": str, "python": str, "prelude": str, "requirements": str, "options": list, "smoke": list}
SETTINGS["unlocked"] = bool
SECRETS = ("index_url",)
# what a build depends on; a newer patch release of Python in the same place runs the same environments
ASK = """import importlib.util as u, json, os, platform, sys
need = [name for name in ("venv", "ensurepip") if u.find_spec(name) is None]
here = os.path.realpath(sys.executable)
told = {"python": here, "version": "%d.%d" % sys.version_info[:2], "machine": platform.machine(), "need": need}
print(json.dumps(told))
"""
PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?\s*(===?\s*[^\s;,*]+|@\s*\S+)\s*(;.*)?\Z")


def _entries(text):
    """The logical lines of a requirements file: comments gone, lines that end in a backslash put together."""
    text = re.sub(r"\\\n", " ", text.replace("\r\n", "\n"))
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def lock_of(text, unlocked=False):
    """How far requirements are locked: ``hashes``, ``versions``, or ``none`` where that is allowed. Raises Failure."""
    hashes = []
    for line in _entries(text):
        if line.startswith("-"):
            if re.match(r"-(r|c|e|-requirement|-constraint|-editable)\b", line):
                raise Failure("venv.requirements: %r: write out what it names, other files are not sent along" % line)
            continue
        hashes.append("--hash=" in line)
        loose = not PINNED.match(re.split(r"\s--", line)[0]) or ("@" in line.split(";")[0] and not hashes[-1])
        if loose and not unlocked:
            words = "venv.requirements: %r is not locked: write name==version, best with --hash, or set venv.unlocked"
            raise Failure(words % line[:80])
    if not hashes:
        raise Failure("venv.requirements: nothing is required; give the text of a requirements file")
    if all(hashes):
        return "hashes"
    if any(hashes):
        raise Failure("venv.requirements: some lines have --hash and some have none; give all of them one")
    return "none" if unlocked else "versions"


def _python(settings):
    """What the Python of the settings says of itself. Raises Failure."""
    name = settings.get("python") or "python3"
    argv = _building.under(settings.get("prelude"), [name, "-I", "-c", ASK])
    with_prelude = " after %r" % settings["prelude"] if settings.get("prelude") else ""
    try:
        done = subprocess.run(
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_building.environment(),
            cwd="/",
            timeout=120,
        )
        # a login shell may say more before
        told = (
            json.loads(done.stdout.decode("utf-8", "replace").strip().rpartition("\n")[2])
            if not done.returncode
            else None
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise Failure("venv.python: %s%s does not run: %s" % (name, with_prelude, error))
    if told is None:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        words = "venv.python: %s%s does not run: exit status %d: %s"
        raise Failure(words % (name, with_prelude, done.returncode, said[-1]))
    if told["need"]:
        words = "venv.python: %s has no module %s; install it (on Debian: python3-venv), or name another Python"
        raise Failure(words % (told["python"], " and ".join(told["need"])))
    return told


def _links(options):
    """The local folders that pip is to find packages in."""
    text = " ".join(str(word) for word in options).replace("--find-links=", "-f ").replace("--find-links", "-f").split()
    return [text[i + 1] for i, word in enumerate(text[:-1]) if word == "-f" and text[i + 1].startswith("/")]


def missing(settings):
    """What the host lacks, in words."""
    words = []
    if settings.get("prelude") and not shutil.which("bash"):
        words.append("venv.prelude: no program bash on this host; install it")
    else:
        try:
            _python(settings)
        except Failure as error:
            words.append(str(error))
    for path in _links(settings.get("options") or []):
        if not os.path.exists(path):
            words.append("venv.options: --find-links %s: not there on this host" % path)
    return words


def identify(settings, version):
    """What would be built; the version counts only where the requirements do not say what it is."""
    text, options = settings.get("requirements") or "", [str(word) for word in settings.get("options") or []]
    for name, value in (("requirements", text), ("options", " ".join(options))):
        if _building.CREDENTIALS.search(value):
            raise Failure("venv.%s: an address with a password would be seen by others; use index_url" % name)
    if not settings.get("path", "").startswith("/"):
        raise Failure("venv.path: %r: must be the absolute path of the link to the environment" % settings.get("path"))
    lock = lock_of(text, settings.get("unlocked"))
    told = _python(settings)
    words = [told["python"], told["version"], told["machine"], settings.get("prelude") or "", options, _entries(text)]
    words.append(version if lock == "none" else None)
    ident = hashlib.sha256(json.dumps(words).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return {"method": "venv", "id": ident, "link": settings["path"], "name": "venv-" + ident}


def make(settings, target, work):
    """Make the environment: pip takes what is locked and nothing else, and finds that all of it fits together."""
    text, prelude = settings["requirements"], settings.get("prelude")
    listed = work.private + "/requirements.txt"
    _place.write(listed, text, 0o600)
    name = settings.get("python") or "python3"
    work.run("venv.python", _building.under(prelude, [name, "-I", "-m", "venv", "--clear", target]))
    # -I: nothing that an environment variable or a user's own folder adds counts as installed
    pip = [target + "/bin/python", "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    how = {"hashes": ["--require-hashes"], "versions": ["--no-deps"], "none": []}
    words = pip + ["install"] + how[lock_of(text, settings.get("unlocked"))]
    words += [str(word) for word in settings.get("options") or []] + ["-r", listed]
    if settings.get("index_url"):
        config = work.private + "/pip.conf"
        _place.write(config, "[global]\nindex-url = %s\n" % settings["index_url"], 0o600)
        # after the prelude, which may set it too
        words = ["env", "PIP_CONFIG_FILE=" + config] + words
    work.run("pip install", _building.under(prelude, words))
    work.run("pip check", _building.under(prelude, pip + ["check"]))
    if settings.get("smoke"):
        own = "%s/bin/%s" % (target, settings["smoke"][0])
        words = [own if os.path.exists(own) else settings["smoke"][0]] + settings["smoke"][1:]
        work.run("venv.smoke", _building.under(prelude, words))


def look(target):
    """The Python that an environment leads to; None where it leads nowhere."""
    path = target + "/bin/python"
    return os.path.realpath(path) if os.access(path, os.X_OK) else None
