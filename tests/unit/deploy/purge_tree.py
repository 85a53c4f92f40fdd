# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder with entries that a purge removes, and what it must leave alone, on a real file system."""

from __future__ import annotations

import os
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.sciops.sites.plugins.module_utils import _purge

WEEK = 7 * 86400


def tick() -> None:
    """Let the clock of the file system go on: it is as coarse as the kernel's ticks."""
    time.sleep(0.012)


class Tree:
    """A root two levels below a folder of our own, with something beside it that must never change."""

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="purge"))
        self.root = self.top / "acme-dev" / "inputs"
        self.root.mkdir(parents=True)
        self.outside = self.top / "outside"
        (self.outside / "folder").mkdir(parents=True)
        (self.outside / "folder" / "file").write_text("kept")
        (self.outside / "linked").write_text("kept too")
        self.since = 0.0

    def put(self, name: str, text: str = "x" * 100) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def old(self) -> None:
        """From here on everything that is there is old."""
        tick()
        self.since = time.time()
        tick()

    def purge(self, check: bool = False, **options: t.Any) -> dict:
        given = {"path": str(self.root), "depth": 2, "older_than": "1w"} | options
        return _purge.purge(given, check, now=self.since + WEEK)

    def names(self) -> set[str]:
        above = [path for path in self.root.iterdir() if path.is_dir() and not path.is_symlink()]
        return {str(path.relative_to(self.root)) for one in above for path in one.iterdir()}

    def beside(self) -> dict[str, tuple]:
        """All that is not an entry, without what another name of a file makes of its change time."""
        found = {}
        for folder, _folders, files in os.walk(self.top):
            for name in [".", *files]:
                path = Path(folder, name)
                if len(path.relative_to(self.root).parts if path.is_relative_to(self.root) else ()) < 2:
                    seen = path.lstat()
                    mine = path == self.root or (path.parent == self.root and path.is_dir())
                    found[str(path)] = (seen.st_ino, seen.st_mode, 0 if mine else seen.st_mtime_ns)
        return found


def why(result: dict) -> dict[str, str]:
    return {one["path"]: one["why"] for one in result["kept"]}


def gone(result: dict) -> list[str]:
    return [one["path"] for one in result["removed"]]
