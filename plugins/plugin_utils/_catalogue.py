# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of interactive applications (`rceapp.yml`): what it may hold, and what who chooses gets. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._faults import (
    MISSING,
    Fault,
    Path,
    Problem,
    check,
    hint,
    not_finite,
    shown,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._layers import Document
from ansible_collections.sciops.sites.plugins.plugin_utils._schema import _closed, _keyed, _text, _whole

EMPTY = "is empty; a catalogue has an application at least"
#: they become part of a folder's name and of a log's, so no '/' and nothing that a shell or a log reads otherwise
APPLICATION_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_.+() -]{0,61}[A-Za-z0-9_.+)-])?$(?!\n)"
APPLICATION_RIGHT = (
    "must be 1 to 63 letters, digits, blanks, '_', '-', '.', '+' or brackets, beginning with a letter or digit"
)
_PATH: dict[str, Any] = {"pattern": r"^/[^\x00-\x1f]*$(?!\n)", "right": "must be an absolute path, of one line"}
_SIZES = {"cpu": _whole(1, 100_000), "memory": _whole(1, 2**31), "max_cpu": _whole(1, 100_000)}
_SIZES["max_memory"] = _SIZES["memory"]
_COMMON: dict[str, Any] = {
    **{name: _SIZES[name] for name in ("cpu", "memory")},
    "icon": _text(**_PATH),
    "args": {
        "type": "array",
        "maxItems": 1000,
        "items": {"type": ["string", "number"], "maxLength": 10000, "x-right": "must be text or a number"},
        "x-right": "must be a list of words",
    },
}
_GLOBAL = _closed(
    {
        **_COMMON,
        "supports_memory_adjustable": {"type": "boolean"},
        "supports_cpu_adjustable": {"type": "boolean"},
        "supports_cli_mode": {"type": "boolean"},
        "max_cpu": _SIZES["max_cpu"],
        "max_memory": _SIZES["max_memory"],
    },
    required=["cpu", "memory"],
)
_VERSION = _closed(
    {
        "default": {"type": "boolean", "x-right": "must be true or false, without quotes"},
        "command": _text(**_PATH),
        "command_nogui": _text(),
        **_COMMON,
    },
    required=["command"],
)
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A catalogue of interactive applications (rceapp.yml)",
    **_keyed(
        {
            "type": "object",
            "properties": {"global": _GLOBAL},
            "additionalProperties": _VERSION,
            "required": ["global"],
            "propertyNames": {"pattern": APPLICATION_PATTERN, "x-right": APPLICATION_RIGHT},
            "x-right": "must be a mapping of `global` and of versions",
        },
        APPLICATION_PATTERN,
        APPLICATION_RIGHT,
    ),
    "minProperties": 1,
}
_WHOLE = re.compile(r"[0-9]{1,9}")


class Refused(ValueError):
    """What a person asked for cannot be had; the message says what was asked for, and what there is."""


@dataclass(frozen=True)
class Version:
    """One version of an application: `global` and its own keys put together. Memory in MB."""

    name: str
    command: str
    cpu: int
    memory: int
    args: tuple[str, ...] = ()
    icon: str = ""


@dataclass(frozen=True)
class Application:
    """An application with its versions; `default` is the name of one of them."""

    name: str
    default: str
    versions: dict[str, Version]
    adjustable: Mapping[str, bool]
    limits: Mapping[str, int]


@dataclass(frozen=True)
class Catalogue:
    """What a file declares. With problems there are no applications: nothing of such a file is used."""

    file: str
    applications: dict[str, Application]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Choice:
    """One version with the sizes that were asked for, as far as they may be; `warnings` say what was not heeded."""

    application: str
    version: Version
    cpu: int
    memory: int
    warnings: tuple[str, ...] = field(default=())

    def plain(self) -> dict[str, Any]:
        """As it travels to the host."""
        return {
            "application": self.application,
            "version": self.version.name,
            "command": self.version.command,
            "args": list(self.version.args),
            "icon": self.version.icon,
            "cpu": self.cpu,
            "memory": self.memory,
        }


def place(path: Path) -> str:
    """The path as people write it; a version that has dots stands in quotes: `calc."2.31.3".default`."""
    text = ""
    for part in path:
        word = f'"{part}"' if isinstance(part, str) and not re.fullmatch(r"[A-Za-z0-9_-]+", part) else str(part)
        text += f"[{part}]" if isinstance(part, int) else f".{word}" if text else word
    return text


def build(document: Document) -> Catalogue:
    """The catalogue of a document that was read, or all that is wrong with it.

    Raises RuntimeError where jsonschema is missing.
    """
    faults = list(document.faults)
    if document.data or not faults:
        known = {fault.path for fault in faults}
        faults += [one for one in _form(document.data) if one.path not in known]
    if faults:
        problems = [
            Problem(document.file, one.line or document.line(one.path), place(one.path), shown(one.value), one.message)
            for one in faults
        ]
        return Catalogue(document.file, {}, tuple(sorted(set(problems), key=lambda one: (one.line, str(one)))))
    return Catalogue(document.file, {name: _application(name, one) for name, one in document.data.items()})


def _form(data: dict[str, Any]) -> Iterator[Fault]:
    """Every fault of the data: those of the schema, then those of applications as a whole."""
    yield from check(SCHEMA, data)
    for name, app in data.items():
        if not isinstance(app, dict):
            continue
        versions = {key: one for key, one in app.items() if key != "global"}
        if not versions:
            yield Fault((name,), MISSING, "has no version")
            continue
        chosen = [key for key, one in versions.items() if isinstance(one, dict) and one.get("default") is True]
        odd = [
            key
            for key, one in versions.items()
            if isinstance(one, dict) and not isinstance(one.get("default", False), bool)
        ]
        if not chosen and not odd:
            yield Fault((name,), MISSING, "no version is the default: give one of them `default: true`")
        for key in chosen[1:]:
            yield Fault((name, key, "default"), True, f'is a second default beside version "{chosen[0]}"; keep one')
        for part, one in app.items():
            for size in ("cpu", "memory"):
                yield from _limit(name, part, one, size, app.get("global"))


def _limit(name: str, part: str, one: Any, size: str, common: Any) -> Iterator[Fault]:
    """The fault of a size that is above the limit of its application."""
    most = common.get(f"max_{size}") if isinstance(common, dict) else None
    value = one.get(size) if isinstance(one, dict) else None
    if isinstance(most, int) and isinstance(value, int) and value > most and not isinstance(value, bool):
        yield Fault((name, part, size), value, f"is above max_{size} {most}")


def _application(name: str, app: dict[str, Any]) -> Application:
    common = app["global"]
    versions = {key: _version(key, {**common, **one}) for key, one in app.items() if key != "global"}
    return Application(
        name,
        next(key for key, one in app.items() if key != "global" and one.get("default") is True),
        versions,
        {size: common.get(f"supports_{size}_adjustable", True) for size in ("cpu", "memory")},
        {size: common[f"max_{size}"] for size in ("cpu", "memory") if f"max_{size}" in common},
    )


def _version(name: str, merged: dict[str, Any]) -> Version:
    args = tuple(str(one) for one in merged.get("args", []))
    return Version(name, merged["command"], int(merged["cpu"]), int(merged["memory"]), args, merged.get("icon", ""))


def whole(option: str, value: Any, unit: str = "") -> int:
    """A size that a person gave, a whole number above 0. Raises Refused for other words, `4GB` too."""
    number = value
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1 or not_finite(value):
        words = f" of {unit}, without a unit" if unit else ""
        raise Refused(f"{option}: {shown(value)}: must be a whole number{words}, such as 4")
    return number


def choose(
    catalogue: Catalogue,
    application: str,
    version: str | None = None,
    memory: int | None = None,
    cpu: int | None = None,
) -> Choice:
    """What a person gets who asks for this; `memory` is in GB (the catalogue counts MB).

    A size that the application does not let anybody adjust is that of the catalogue, and a warning says so. Raises
    Refused for an unknown application or version, and above a limit.
    """
    app = catalogue.applications.get(application)
    if app is None:
        words = hint(application, list(catalogue.applications))
        raise Refused(f"{catalogue.file}: {application}: no such application, {words}")
    found = app.versions.get(app.default if version is None else version)
    if found is None:
        raise Refused(
            f"{catalogue.file}: {application}: no version {version}, {hint(str(version), list(app.versions))}"
        )
    sizes = {"cpu": found.cpu, "memory": found.memory}
    warnings = []
    asked = {"cpu": cpu, "memory": None if memory is None else memory * 1024}
    for size, number in asked.items():
        if number is None or number == sizes[size]:
            continue
        unit = " MB" if size == "memory" else ""
        if not app.adjustable[size]:
            warnings.append(
                f"{application} does not let its {size} be adjusted: {number}{unit} was asked for, "
                f"{sizes[size]}{unit} of the catalogue is used"
            )
        elif number > app.limits.get(size, number):
            raise Refused(
                f"{size}: {number}{unit} is more than {application} may have: max_{size} is {app.limits[size]}{unit}"
            )
        else:
            sizes[size] = number
    return Choice(application, found, sizes["cpu"], sizes["memory"], tuple(warnings))


def rows(catalogue: Catalogue) -> list[dict[str, Any]]:
    """The applications, sorted without regard to case, each with its versions in their order."""
    found = []
    for name in sorted(catalogue.applications, key=lambda one: (one.lower(), one)):
        app = catalogue.applications[name]
        versions = [
            {
                "version": one.name,
                "default": one.name == app.default,
                "command": one.command,
                "args": list(one.args),
                "icon": one.icon,
                "cpu": one.cpu,
                "memory": one.memory,
            }
            for one in app.versions.values()
        ]
        found.append(
            {
                "application": name,
                "default": app.default,
                "versions": versions,
                "adjustable": dict(app.adjustable),
                "limits": dict(app.limits),
            }
        )
    return found


def table(catalogue: Catalogue) -> str:
    """The applications as `-l` lists them; the default version ends in ` **`."""
    lines = [("Application", "Version(s)")]
    for row in rows(catalogue):
        words = [one["version"] + (" **" if one["default"] else "") for one in row["versions"]]
        lines.append((row["application"], ", ".join(words)))
    width = max(len(name) for name, _versions in lines)
    return "\n".join(["** denotes default", *(f"{name:<{width}}  {versions}" for name, versions in lines)])
