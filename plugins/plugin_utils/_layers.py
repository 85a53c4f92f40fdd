# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of declared data: later ones win, and the origin of every value stays known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._faults import Fault, Path


@dataclass(frozen=True)
class Document:
    """One layer as it was read: its data, the line of each place in it, and the faults found while reading."""

    layer: str
    file: str
    data: dict[str, Any]
    lines: Mapping[Path, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    secret: frozenset[Path] = frozenset()

    def line(self, path: Path) -> int:
        """The line of `path`, else of the nearest place above it; 0 where nothing is known."""
        for length in range(len(path), -1, -1):
            found = self.lines.get(path[:length])
            if found:
                return found
        return 0


@dataclass(frozen=True)
class Leaf:
    """A value (anything but a mapping), where it was declared, and what it hides, nearest first."""

    value: Any
    layer: str
    file: str
    line: int
    secret: bool = False
    shadows: tuple[Leaf, ...] = ()


Tree = Leaf | dict[str, Any]


def layer_files(site_file: str, site: str, deployment: str) -> list[tuple[str, str]]:
    """(layer, file) of the layers below the site file, lowest first: in `layers`, beside the site file's folder.

    >>> layer_files("inventories/prod/wipac.site.yml", "wipac", "prod")[0]
    ('all', 'inventories/layers/all.yml')
    """
    folder = PurePath(site_file).parent.parent / "layers"
    names = (
        ("all", "all.yml"),
        (f"deployment {deployment}", f"{deployment}.yml"),
        (f"site {site}", f"{site}.site.yml"),
    )
    return [(layer, str(folder / name)) for layer, name in names]


def tree(document: Document, path: Path = ()) -> Tree:
    """The data of a document as mappings of leaves."""

    def grow(value: Any, path: Path) -> Tree:
        if isinstance(value, Mapping):
            return {str(key): grow(item, (*path, key)) for key, item in value.items()}
        secret = any(place[: len(path)] == path for place in document.secret)
        return Leaf(value, document.layer, document.file, document.line(path), secret)

    node: Any = document.data
    for part in path:
        node = node[part]
    return grow(node, path)


def merge(low: Tree, high: Tree) -> Tree:
    """`high` over `low`: mappings merge key by key, all else is replaced.

    An empty mapping, or null over a mapping, says nothing. The keys of `high` come first, in its order.
    """
    if isinstance(high, dict):
        if isinstance(low, dict):
            merged = {key: merge(low[key], value) if key in low else value for key, value in high.items()}
            merged.update((key, value) for key, value in low.items() if key not in merged)
            return merged
        return _hide(high, low) if high else low
    if isinstance(low, dict):
        if high.value is None:
            return low
        return replace(high, shadows=(*high.shadows, *(leaf for _path, leaf in leaves(low))))
    return replace(high, shadows=(*high.shadows, replace(low, shadows=()), *low.shadows))


def _hide(high: dict[str, Any], low: Leaf) -> dict[str, Any]:
    """The leaves of `high`, each knowing that it hides `low`."""
    hidden = (replace(low, shadows=()), *low.shadows)
    return {
        key: _hide(value, low) if isinstance(value, dict) else replace(value, shadows=(*value.shadows, *hidden))
        for key, value in high.items()
    }


def stack(trees: Sequence[Tree]) -> Tree:
    """All trees merged, lowest first."""
    merged: Tree = {}
    for item in trees:
        merged = merge(merged, item)
    return merged


def plain(node: Tree) -> Any:
    """The values alone."""
    return {key: plain(value) for key, value in node.items()} if isinstance(node, dict) else node.value


def leaves(node: Tree, path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """(path, leaf) of every value below `node`, in order."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, node


def at(node: Tree, path: Path) -> Tree | None:
    """What lies at `path`, None where nothing does; entries of a list have the origin of the list."""
    for part in path:
        if isinstance(node, Leaf):
            return node
        if part not in node:
            return None
        node = node[str(part)]
    return node
