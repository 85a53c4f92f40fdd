# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The install method ``apptainer``: an image of one digest.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import os
import re
import shutil

from ansible_collections.sciops.sites.plugins.module_utils import _apptainer, _building
from ansible_collections.sciops.sites.plugins.module_utils._building import Failure
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

SETTINGS = {"image": str, "source": str, "digest": str, "program": str, "username": str, "smoke": list}
SECRETS = ("password",)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
REGISTRY = re.compile(r"(docker|oras)://[^/]+")


def _program(settings):
    try:
        return _apptainer.program(settings)
    except Failed as error:
        raise Failure(str(error))


def missing(settings):
    """What the host lacks, in words."""
    try:
        _program(settings)
    except Failure as error:
        return [str(error)]
    return []


def identify(settings, version):
    """What would be built: the image of this digest, or what a source with a digest in it gives."""
    source = settings.get("source") or ""
    if not source:
        raise Failure("apptainer.source: says where the image is fetched from; give a path or an address")
    if _building.CREDENTIALS.search(source):
        raise Failure("apptainer.source: an address with a password would be seen by others; use username and password")
    found = DIGEST.fullmatch(settings.get("digest") or "") or (
        re.search(r"@(sha256:[0-9a-f]{64})\Z", source) if not settings.get("digest") else None
    )
    if not found:
        words = "apptainer.digest: %r: must be sha256: and 64 digits, as `sha256sum` of the image file says it"
        raise Failure(words % settings.get("digest"))
    if settings.get("password") and not settings.get("username"):
        raise Failure("apptainer.username: is missing, and there is a password; give both or none")
    if not settings.get("image", "").startswith("/"):
        raise Failure("apptainer.image: %r: must be the absolute path of the link to the image" % settings.get("image"))
    digest = found.group(found.lastindex or 0)
    name = "apptainer-%s.sif" % digest[7:19]
    return {"method": "apptainer", "id": digest, "link": settings["image"], "name": name}


def make(settings, target, work):
    """Fetch the image beside where it belongs, and put it there when it is the one."""
    source, part = settings["source"], work.private + "/image.sif"
    if settings.get("digest") and os.path.exists(target) and _apptainer.sha256(target) == settings["digest"]:
        return
    path = source[len("file://") :] if source.startswith("file://") else source
    if path.startswith("/"):
        try:
            shutil.copyfile(path, part)
        except OSError as error:
            raise work.failure("apptainer.source: %s: %s" % (error.filename or path, error.strerror))
    else:
        _pull(settings, source, part, work)
    there = _apptainer.sha256(part)
    if settings.get("digest") and there != settings["digest"]:
        words = "apptainer.digest: %s is %s, %s is declared; nothing was installed"
        raise work.failure(words % (source, there, settings["digest"]))
    if settings.get("smoke"):
        work.run("apptainer.smoke", [_program(settings), "exec", part] + list(settings["smoke"]))
    os.rename(part, target)


def _pull(settings, source, part, work):
    # the image is kept, so a second copy in a cache is only waste
    program, pull = _program(settings), ["pull", "--disable-cache", part, source]
    registry = REGISTRY.match(source)
    if not (settings.get("password") and registry):
        work.run("apptainer pull", [program] + pull)
        return
    # logins of the user stay as they are: this one is in a folder of its own, and gone with it
    own = {"APPTAINER_CONFIGDIR": work.private + "/login"}
    os.mkdir(own["APPTAINER_CONFIGDIR"], 0o700)
    login = [program, "registry", "login", "--username", settings["username"], "--password-stdin", registry.group()]
    try:
        work.run("apptainer registry login", login, given=settings["password"], env=own)
        work.run("apptainer pull", [program] + pull, env=own)
    finally:
        shutil.rmtree(own["APPTAINER_CONFIGDIR"])


def look(target):
    """Size and time of an image's file, which another content would change; None where there is none."""
    try:
        there = os.stat(target)
    except OSError:
        return None
    return [there.st_size, there.st_mtime_ns]
