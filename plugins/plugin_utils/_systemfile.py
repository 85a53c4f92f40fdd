# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System files with their layers and sites, read with Ansible's vault."""

from __future__ import annotations

import os
import typing as t
from collections.abc import Callable, Mapping
from pathlib import Path

from ansible_collections.sciops.sites.plugins.plugin_utils import _system, _variables
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import Problem
from ansible_collections.sciops.sites.plugins.plugin_utils._layers import Document
from ansible_collections.sciops.sites.plugins.plugin_utils._sitefile import vault_value
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError, parse, read_text
from ansible_collections.sciops.sites.plugins.plugin_utils._templatefiles import IGNORED

Json = dict[str, t.Any]

SUFFIXES = (".system.yml", ".system.yaml")
_YAML = (".yml", ".yaml")
_EMPTY = f"is empty; a system file begins with `plugin: {_system.PLUGIN}`"
_ENCRYPTED = "is encrypted as a whole; encrypt single values of it (`ansible-vault encrypt_string`)"
_EMPTY_SITE = "is empty; a site has at least `hosts`"


def belongs(path: str) -> bool:
    """True for a system file, and for what lies in the folders beside one: that is read through it."""
    if path.endswith(SUFFIXES):
        return True
    above = list(Path(os.path.abspath(path)).parents)[1:]  # noqa: PTH100  (no resolving: links keep their folder)
    return any(file.name.endswith(SUFFIXES) for folder in above for file in folder.glob("*.system.*"))


def read(path: str, loader: t.Any) -> _system.System:
    """The system of a file. `loader` is Ansible's DataLoader, which has the vault passwords.

    Raises SourceError with all faults where the form of a file is wrong, RuntimeError where jsonschema is missing.
    """
    path = os.path.abspath(path)  # noqa: PTH100

    def decrypt(cipher: str) -> str:
        return str(vault_value(loader, cipher))

    def document(file: str, layer: str, empty: str) -> Document:
        return parse(read_text(file, _ENCRYPTED), file, layer, decrypt, empty)

    folder = Path(path).parent
    system = _system.build(
        document(path, "system", _EMPTY),
        {name: document(file, "deployment", "") for name, file in _files(folder / "layers").items()},
        {name: document(file, "site", _EMPTY_SITE) for name, file in _files(folder / "sites").items()},
    )
    if system.problems:
        raise SourceError("\n  ".join(str(problem) for problem in system.problems))
    return system


def _files(folder: Path) -> dict[str, str]:
    """The YAML files of a folder by name without ending."""
    found: dict[str, str] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix in _YAML and not file.name.startswith("."):
            if file.stem in found:
                raise SourceError(f"{file}: {found[file.stem]} has the same name; keep one of them")
            found[file.stem] = str(file)
    return found


def target(
    file: str,
    site: str,
    deployment: str,
    host: str,
    loader: t.Any,
    environment: Mapping[str, str],
    caller: Mapping[str, t.Any],
) -> tuple[Json, list[Problem]]:
    """The resolved target and what is wrong with it, see `_variables.resolve`.

    Raises SourceError where the files cannot be used, KeyError where there is no such target.
    """
    return _variables.resolve(read(file, loader), site, deployment, host, environment, caller)


def reader(folder: Path) -> tuple[Callable[[str], str], Callable[[str], list[str] | None]]:
    """What `_templates.Templates` reads with: the text of a file, and the names below a folder (None for a file).

    Paths count from `folder`, the one of the system file, and stay in it. Both functions raise ValueError.
    """

    def inside(path: str) -> Path:
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError("must be a path in the folder of the system file, without '..'")
        if not (folder / path).exists():
            raise ValueError(f"there is no such file or folder in {folder}")
        return folder / path

    def text(path: str) -> str:
        file = inside(path)
        try:
            return read_text(str(file), "is encrypted; keep secrets in variables")
        except SourceError as exc:
            raise ValueError(str(exc).removeprefix(f"{file}: ")) from exc

    def names(path: str) -> list[str] | None:
        found = inside(path)
        if found.is_file():
            return None
        files = [file for file in found.rglob("*") if file.is_file() and not file.name.endswith(IGNORED)]
        return sorted(str(file.relative_to(found)) for file in files if file.name != ".gitkeep")

    return text, names
