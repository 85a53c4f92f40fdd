# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates as files below a folder of the controller."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError, read_text
from ansible_collections.sciops.sites.plugins.plugin_utils._templates import Templates

#: left by editors and version control
IGNORED = ("~", ".swp", ".orig", ".rej")


def of_folder(folder: str) -> Templates:
    """The templates whose paths count from this folder."""
    base = Path(folder)

    def read(path: str) -> str:
        try:
            return read_text(str(base / path))
        except SourceError as error:
            raise ValueError(str(error)) from error

    def tree(path: str) -> Sequence[str] | None:
        start = base / path
        if start.is_file():
            return None
        if not start.is_dir():
            raise ValueError(f"{start}: there is no such file or folder")
        found = []
        for place, folders, files in os.walk(start):
            folders[:] = [name for name in folders if name != ".git"]
            below = Path(place).relative_to(start)
            found += [str(below / name) for name in files if not name.endswith(IGNORED) and name != ".gitkeep"]
        return sorted(found)

    return Templates(read, tree)
