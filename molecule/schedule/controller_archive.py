# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack what a host needs to be a controller: the running ansible-core and this collection, as one archive.

    python controller_archive.py ARCHIVE

It unpacks to site/ (for PYTHONPATH) and collections/. The host needs the same minor version of Python, since the
packages are those of the interpreter that runs this.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("galaxy.yml", "meta", "playbooks", "plugins", "roles")


def needed(name: str, found: dict[str, importlib.metadata.Distribution]) -> None:
    """Add a distribution and what it requires to `found`."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in found:
        return
    try:
        found[key] = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return  # a requirement of another platform or Python
    for requirement in found[key].requires or []:
        if "extra ==" not in requirement:
            needed(re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0], found)


def pack(archive: Path) -> None:
    """Write the archive."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for name in ("ansible-core", "jsonschema"):
        needed(name, found)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for distribution in found.values():
            for file in distribution.files or []:
                path = Path(str(distribution.locate_file(file)))
                skip = ".." in file.parts or "__pycache__" in file.parts or "_data" in file.parts[1:2]
                if not skip and path.is_file():
                    tar.add(path, f"site/{file}")
        for name in SHIPPED:
            tar.add(
                ROOT / name,
                f"collections/ansible_collections/sciops/sites/{name}",
                filter=lambda info: None if "__pycache__" in info.name else info,
            )


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
