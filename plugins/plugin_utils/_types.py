# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of variables: what a text, a number or a list becomes, and what it must be."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._faults import octets, seconds

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")
_LINE = re.compile(r"[^\x00-\x1f\x7f]*")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text; put it into quotes")
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be a whole number")


def _number(value: Any) -> float:
    try:
        number = value if isinstance(value, (int, float)) else float(_text(value))
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError("must be a number")
    return int(number) if number == int(number) else number


def _truth(value: Any) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE + _FALSE:
        return word in _TRUE
    raise ValueError("must be true or false")


def _port(value: Any) -> int:
    try:
        number = _whole(value)
    except ValueError:
        number = 0
    if not 1 <= number <= 65535:
        raise ValueError("must be a port: a whole number from 1 to 65535")
    return number


def _path(value: Any) -> str:
    text = _text(value)
    if not text.startswith("/") or ".." in text.split("/") or not _LINE.fullmatch(text):
        raise ValueError("must be an absolute path on one line, without '..'")
    return posixpath.normpath("/" + text.lstrip("/"))


def _object_store(text: str) -> str:
    if ".." in text.split("/"):
        raise ValueError("must not hold '..'")
    return text.rstrip("/")


def _unit(read: Callable[[Any], float], words: str) -> Callable[[Any], float]:
    def convert(value: Any) -> float:
        try:
            if isinstance(value, bool):
                raise ValueError(value)
            number = read(value.strip() if isinstance(value, str) else value)
        except (ValueError, TypeError):
            try:
                number = _number(value)  # a number that came as text
            except ValueError:
                raise ValueError(words) from None
        if number < 0:
            raise ValueError(words)
        return number

    return convert


def _matching(pattern: re.Pattern[str], words: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(words)
        return value

    return convert


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    if not isinstance(value, (list, tuple)) or any(isinstance(item, (dict, list, tuple)) for item in value):
        raise ValueError("must be a list of texts and numbers, or words with commas between them")
    return list(value)


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _whole,
    "number": _number,
    "bool": _truth,
    "port": _port,
    "path": _path,
    "folder": lambda value: _path(value).rstrip("/") + "/",
    "duration": _unit(seconds, "must be a duration: a number of seconds, or words such as 90s, 10m, 2h, 1d"),
    "size": _unit(octets, "must be a size: a number of bytes, or words such as 500MB, 2GiB"),
    "uuid": _matching(_UUID, "must be a UUID: 8-4-4-4-12 hex digits"),
    "mode": _matching(re.compile(r"[0-7]{3,4}"), "must be an octal mode in quotes, such as '0750'"),
    "host": _matching(_HOST, "must be the name or the address of a host"),
    "url": _matching(_SCHEME, "must be an address with its scheme, such as https://example.org"),
    "list": _list,
}
TYPES = tuple(_CONVERT)
#: Of these types an empty text is a value, where the variable is not mandatory.
MAY_BE_EMPTY = ("str", "path", "folder", "uuid", "mode", "host", "url")


def empty(value: Any) -> bool:
    """True for a text of blanks alone and for an empty list."""
    return value == [] or (isinstance(value, str) and not value.strip())


def convert(kind: str, value: Any, url_ok: bool = False) -> Any:
    """The value as its type has it; ValueError says what is right.

    `url_ok` lets addresses such as `s3://bucket/folder` through where a path or a folder is wanted.

    >>> convert("folder", "/data"), convert("bool", "no"), convert("duration", "2h")
    ('/data/', False, 7200)
    """
    if kind in MAY_BE_EMPTY and isinstance(value, str) and empty(value):
        return value
    if url_ok and kind in ("path", "folder") and isinstance(value, str) and _SCHEME.fullmatch(value):
        return _object_store(value) + ("/" if kind == "folder" else "")
    return _CONVERT[kind](value)
