# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small sample pipeline: make files, bundle them, copy and check the bundles, delete what is done.

Each stage is one long-running process; several copies of a stage may work in one spool folder, since a file is taken by
renaming it. Needs Python 3.7 and nothing else.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import sys
import tarfile
import time
from pathlib import Path

FOLDERS = ("made", "bundled", "copied", "work")
MOST_WAITING = 50  # the maker rests above this, so that a spool never grows without end


def main():
    """Run one stage until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=sorted(STAGES))
    parser.add_argument("--spool", type=Path, default=os.environ.get("SPOOL"), help="folder, by default $SPOOL")
    parser.add_argument("--every", type=float, default=5, help="seconds between two looks at the spool")
    parser.add_argument("--files", type=int, default=5, help="files in a bundle")
    parser.add_argument("--older-than", type=float, default=60, help="seconds after which copied bundles are deleted")
    parser.add_argument("--node", default="", help="transfer node, for the log only")
    options = parser.parse_args()
    if not options.spool:
        parser.error("--spool: there is no $SPOOL either")
    name = os.environ.get("INSTANCE") or f"{options.stage}.{os.getpid()}"
    for folder in FOLDERS:
        (options.spool / folder).mkdir(parents=True, exist_ok=True)
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    say(name, f"begins in {options.spool}" + (f" with node {options.node}" if options.node else ""))
    while not stop:
        try:
            STAGES[options.stage](options, name)
        except OSError as exc:  # another copy was faster, or the disk is full: the next look will tell
            say(name, str(exc))
        until = time.monotonic() + options.every
        while not stop and time.monotonic() < until:
            time.sleep(min(0.2, options.every))
    say(name, "ends")


def say(name, text):
    """One line of log."""
    print(time.strftime("%Y-%m-%dT%H:%M:%S"), name, text, flush=True)


def waiting(options, folder, ending):
    """Files in a folder of the spool, oldest first by name."""
    return sorted(path for path in (options.spool / folder).iterdir() if path.name.endswith(ending))


def take(options, path, name):
    """The file now that it is ours alone; None where another copy has it."""
    ours = options.spool / "work" / f"{name}.{path.name}"
    try:
        path.rename(ours)
    except FileNotFoundError:
        return None
    return ours


def digest(path):
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def beside(path, ending):
    """The path with `ending` after its name."""
    return path.with_name(path.name + ending)


def place(data, path):
    """Write a file that is whole or not there."""
    beside(path, ".part").write_bytes(data)
    beside(path, ".part").rename(path)


def make(options, name):
    """A file of random bytes."""
    if len(waiting(options, "made", ".dat")) < MOST_WAITING:
        path = options.spool / "made" / f"{time.time_ns()}-{name}.dat"
        place(bytes(random.getrandbits(8) for _byte in range(4096)), path)
        say(name, f"made {path.name}")


def bundle(options, name):
    """A tar file of several files."""
    found = waiting(options, "made", ".dat")
    if len(found) < options.files:
        return
    taken = [path for path in (take(options, path, name) for path in found[: options.files]) if path]
    if not taken:
        return
    target = options.spool / "bundled" / f"{time.time_ns()}-{name}.tar"
    with tarfile.open(beside(target, ".part"), "w") as archive:
        for path in taken:
            archive.add(path, path.name)
    beside(target, ".part").rename(target)
    for path in taken:
        path.unlink()
    say(name, f"bundled {len(taken)} files into {target.name}")


def copy(options, name):
    """One bundle copied and compared, its checksum beside it."""
    for found in waiting(options, "bundled", ".tar")[:1]:
        path = take(options, found, name)
        if path:
            target = options.spool / "copied" / found.name
            shutil.copyfile(path, beside(target, ".part"))
            if digest(path) != digest(beside(target, ".part")):
                raise OSError(f"{found.name}: the copy differs")
            place(digest(path).encode(), beside(target, ".sha256"))
            beside(target, ".part").rename(target)
            path.unlink()
            say(name, f"copied {found.name}")


def verify(options, name):
    """One copied bundle read again and compared with its checksum."""
    found = waiting(options, "copied", ".tar")
    for path in random.sample(found, min(1, len(found))):
        good = beside(path, ".sha256").read_text() == digest(path)
        say(name, f"{path.name} is {'good' if good else 'BROKEN'}")


def unpack(options, name):
    """The newest copied bundle listed."""
    for path in waiting(options, "copied", ".tar")[-1:]:
        with tarfile.open(path) as archive:
            say(name, f"{path.name} holds {len(archive.getnames())} files")


def delete(options, name):
    """Bundles that were copied long enough ago, with their checksums."""
    for path in waiting(options, "copied", ".tar"):
        if time.time() - path.stat().st_mtime > options.older_than:
            path.unlink()
            beside(path, ".sha256").unlink()
            say(name, f"deleted {path.name}")


STAGES = {"make": make, "bundle": bundle, "copy": copy, "verify": verify, "unpack": unpack, "delete": delete}

if __name__ == "__main__":
    sys.exit(main())
