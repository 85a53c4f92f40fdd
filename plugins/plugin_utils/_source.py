# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML files of declared data: read with the line of every place, duplicate keys refused."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import yaml

from ansible_collections.sciops.sites.plugins.plugin_utils._faults import (
    MISSING,
    SITE_PATTERN,
    SITE_RIGHT,
    Fault,
    Path,
    named,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._layers import Document, layer_files

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_COLLECTIONS = {_TAG + "map", _TAG + "seq", "!unsafe"}
_EMPTY = "is empty; a site file begins with `plugin: sciops.sites.site`"
_ENCRYPTED = "is encrypted; read it through the inventory plugin with a vault password"
_MOST_NODES = 2_000_000  # what aliases of aliases may grow to

Decrypt = Callable[[str], str]
Read = Callable[[str], str]


class SourceError(Exception):
    """A file cannot be used at all; the message names it."""


class Vaulted(str):
    """A value that was encrypted in its file: text for who uses it, `cipher` for who hands it on encrypted."""

    cipher: str = ""


def read_text(path: str, encrypted: str = _ENCRYPTED) -> str:
    """The text of a file; SourceError where it cannot be read, or is encrypted (then with the words `encrypted`)."""
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except OSError as exc:
        raise SourceError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise SourceError(f"{path}: is not UTF-8 text: byte {exc.start} ({exc.reason})") from exc
    if text.startswith("$ANSIBLE_VAULT"):
        raise SourceError(f"{path}: {encrypted}")
    return text


def parse(text: str, file: str, layer: str, decrypt: Decrypt | None = None, empty: str = _EMPTY) -> Document:
    """A document from its text. Whatever is wrong with it stands in `faults`; `data` holds what could be read.

    `empty` is the fault of a file that says nothing; where it is empty itself, a file may say nothing.
    """
    reader = _Reader(decrypt)
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
        said = [part for part in (getattr(exc, "context", None), getattr(exc, "problem", None)) if part]
        words = ", ".join(said) or str(exc).splitlines()[0]
        column = f" (column {mark.column + 1})" if mark else ""
        fault = Fault((), MISSING, f"is not valid YAML: {words}{column}", line=mark.line + 1 if mark else 0)
        return Document(layer, file, {}, {}, (fault,))
    except RecursionError:
        return Document(layer, file, {}, {}, (Fault((), MISSING, "is not usable YAML: nested too deeply"),))
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"):
        return Document(layer, file, {}, {}, (Fault((), MISSING, empty),) if empty else ())
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        return Document(layer, file, {}, {}, (Fault((), MISSING, "must be a mapping of keys and values", line=line),))
    data = reader.value(node, ())
    return Document(layer, file, data, reader.lines, tuple(reader.faults), frozenset(reader.secret))


class _Reader:
    """Walks the nodes of one document."""

    def __init__(self, decrypt: Decrypt | None) -> None:
        self.lines: dict[Path, int] = {}
        self.faults: list[Fault] = []
        self.secret: set[Path] = set()
        self._decrypt = decrypt
        self._open: set[int] = set()
        self._nodes = 0
        self._constructor: Any = yaml.SafeLoader("")

    def value(self, node: Any, path: Path) -> Any:
        self._nodes += 1
        self.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._open or self._nodes > _MOST_NODES:
            self._fault(path, node, "an alias must not hold itself, nor grow without end")
            return None
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            self._fault(path, node, f"the tag {node.tag} is not known here")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _fault(self, path: Path, node: Any, message: str, value: Any = MISSING) -> None:
        self.faults.append(Fault(path, value, message, line=node.start_mark.line + 1))

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    found = self.value(source, path)
                    for key, value in found.items() if isinstance(found, dict) else ():
                        merged.setdefault(key, value)
                continue
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                words = "a key must be a word" if not isinstance(key, str) else f'the key {key} must be quoted: "{key}"'
                self._fault(path, key_node, words)
                continue
            place = (*path, key)
            if key in data:
                self._fault(place, key_node, f"is declared twice, the first time in line {self.lines[place]}")
                continue
            self.lines[place] = key_node.start_mark.line + 1
            data[key] = self.value(value_node, place)
        return {**merged, **data}

    def _scalar(self, node: Any, path: Path) -> Any:
        if node.tag in ("!vault", "!vault-encrypted"):
            return self._vaulted(node, path)
        if node.tag in ("!unsafe", _TAG + "timestamp", _TAG + "str"):
            return str(node.value)
        if node.tag not in {_TAG + kind for kind in ("null", "bool", "int", "float")}:
            self._fault(path, node, f"the tag {node.tag} is not known here", node.value)
            return None
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, IndexError, yaml.YAMLError):
            self._fault(path, node, "is not a value of YAML; quote it", node.value)
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self._fault(path, node, "must be a finite number", node.value)
            return None
        return value

    def _vaulted(self, node: Any, path: Path) -> str | None:
        self.secret.add(path)
        if self._decrypt is None:
            self._fault(path, node, "is encrypted, and there is no vault password here")
            return None
        try:
            value = Vaulted(self._decrypt(node.value))
        except Exception as exc:  # whatever the vault says, said at this place
            self._fault(path, node, f"cannot be decrypted: {exc}")
            return None
        value.cipher = str(node.value)
        return value


def load_documents(path: str, read: Read = read_text, decrypt: Decrypt | None = None) -> list[Document]:
    """The layers of a site file, lowest first, the site file last.

    `site` and `deployment` are taken from the path where the file has none. `read` gives the text of a file
    (decrypted), `decrypt` that of one `!vault` value. Raises SourceError where the site file or a layer that exists
    cannot be read.
    """
    path = str(FilePath(os.path.abspath(path)))  # noqa: PTH100  (no resolving: links keep the folder they lie in)
    text = read(path)
    site_document = parse(text, path, "site and deployment", decrypt)
    data, faults = dict(site_document.data), list(site_document.faults)
    names = {}
    stem = FilePath(path).name.rsplit(".", 1)[0].removesuffix(".site")
    for key, found in (("site", stem), ("deployment", FilePath(path).parent.name)):
        if key not in data and data:
            data[key] = found
            if not named(found, SITE_PATTERN):
                faults.append(Fault((key,), found, f"is not given, and the name in the path {SITE_RIGHT}", line=1))
        names[key] = data.get(key)
    document = Document(site_document.layer, path, data, site_document.lines, tuple(faults), site_document.secret)
    if not all(named(name, SITE_PATTERN) for name in names.values()):
        return [document]
    layers = []
    for layer, file in layer_files(path, str(names["site"]), str(names["deployment"])):
        if os.path.lexists(file):
            layers.append(parse(read(file), file, layer, decrypt, empty=""))  # a layer may have nothing to say
    return [*layers, document]
