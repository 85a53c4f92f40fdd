# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A system and its sites: what their files may hold, and whether the files fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._faults import (
    MISSING,
    NAME_PATTERN,
    NAME_RIGHT,
    SITE_PATTERN,
    SITE_RIGHT,
    Fault,
    Path,
    Problem,
    check,
    dotted,
    hint,
    named,
    shown,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._layers import Document
from ansible_collections.sciops.sites.plugins.plugin_utils._schema import (
    _ANSIBLE_VARS,
    _VARIABLES,
    INVENTORY_PROPERTIES,
    VARIABLE_PATTERN,
    _closed,
    _keyed,
    _one_of,
    _text,
    _whole,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._types import TYPES

PLUGIN = "sciops.sites.system"
#: What templates know beside the variables.
RESERVED = ("system", "site", "deployment", "host", "address", "machine", "version", "root")
#: Kinds of values that must differ between the targets of one machine (dns: between all targets).
KINDS = ("port", "path", "unit", "dns")
#: What is asked of a host, one in each check, as the host has them in _checks.KINDS.
CHECKS = ("url", "port", "command", "program", "free", "writable", "log_age")
KEEP = 3
ROOT = "{{ INSTALL_DIR }}"

_SCALARS = ["string", "number", "boolean", "null"]
_VALUE = {
    "type": [*_SCALARS, "array"],
    "items": {"type": _SCALARS[:3]},
    "x-right": "must be text, a number, true, false or a list of these",
}
_VALUES = _keyed(_VALUE, *_VARIABLES)
_NUMBER = {"type": ["number", "string"]}
_FLAG = {"type": ["boolean", "string"]}
_WORDS = {"type": ["array", "string"], "items": {"type": "string"}}
_COMMAND = {
    "type": ["array", "string"],
    "minItems": 1,
    "items": {"type": ["string", "number"]},
    "x-right": "must be a list of words, or a template that gives one",
}
_MODE = _text(right="must be an octal mode in quotes, such as '0750'")
_OWNER = {"owner": _text(null=True), "group": _text(null=True), "mode": _MODE, "when": _FLAG}
_SETTINGS: dict[str, Any] = {"type": ["object", "null"]}
_METHOD = {
    "type": "object",
    "properties": {"method": _text(minLength=1)},
    "required": ["method"],
    "additionalProperties": _SETTINGS,
}
_SECTIONS: dict[str, Any] = {
    "version": _text(minLength=1, right="must be text; put it into quotes"),
    "root": _text(minLength=1),
    "folders": {
        "type": "array",
        "items": _closed({"path": _text(minLength=1), **_OWNER, "acl": _WORDS}, required=["path"]),
    },
    "files": {
        "type": "array",
        "items": _closed(
            {
                "src": _text(minLength=1),
                "dest": _text(minLength=1),
                **_OWNER,
                "validate": {"type": ["string", "array", "null"], "items": _text()},
                "restarts": _WORDS,
                "secret": _FLAG,
            },
            required=["src", "dest"],
        ),
    },
    "install": _METHOD,
    "launch": _METHOD,
    "services": {
        "type": "array",
        "items": _closed(
            {
                "name": _text(pattern=NAME_PATTERN, right=NAME_RIGHT),
                "description": _text(),
                "unit": _text(null=True),
                "launch": _SETTINGS,
                "settle": _NUMBER,
                "timeout": _NUMBER,
                "health": {
                    **_closed(
                        {
                            "command": _COMMAND,
                            "url": _text(),
                            "port": _NUMBER,
                            "address": _text(),
                            "log": _text(),
                            "log_age": _NUMBER,
                            "timeout": _NUMBER,
                        }
                    ),
                    "type": ["object", "null"],
                },
                "after": _WORDS,
                "apart": {"type": "boolean"},
                "when": _FLAG,
            },
            required=["name"],
        ),
    },
    "checks": {
        "type": "array",
        "items": _closed(
            {
                "url": _text(),
                "port": _NUMBER,
                "address": _text(),
                "command": _COMMAND,
                "program": _text(),
                "version": _text(right="must be text such as '>=1.1'; put it into quotes"),
                "free": _NUMBER,
                "path": _text(),
                "writable": _text(),
                "log": _text(),
                "log_age": _NUMBER,
                "timeout": _NUMBER,
                "when": _FLAG,
            }
        ),
    },
}
_VARIABLE = {
    **_closed(
        {
            "type": _one_of(*TYPES),
            "default": _VALUE,
            "description": _text(),
            "secret": {"type": "boolean"},
            "mandatory": {"type": "boolean"},
            "environment": _text(pattern=VARIABLE_PATTERN, right=_VARIABLES[1]),
            "choices": {"type": "array", "minItems": 1, "items": {"type": _SCALARS[:3]}},
            "pattern": {**_text(), "x-regex": True},
            "url_ok": {"type": "boolean"},
        }
    ),
    "type": ["object", "null"],
}
_DEPLOYMENTS = {
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": _text(pattern=SITE_PATTERN, right=SITE_RIGHT),
}
_DRAFT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
_INVENTORY = ("strict", "compose", "groups", "keyed_groups", "use_extra_vars", "leading_separator")
SYSTEM_SCHEMA: dict[str, Any] = {
    **_DRAFT,
    "title": "A system file of sciops.sites",
    **_closed(
        {
            "plugin": _one_of(PLUGIN),
            "system": _text(pattern=SITE_PATTERN, right=SITE_RIGHT),
            "description": _text(),
            "prefix": _text(pattern=r"^[A-Za-z0-9_]*$(?!\n)", right="must be letters, digits and '_'"),
            "deployments": _DEPLOYMENTS,
            "keep": _whole(1, 1000),
            "variables": _keyed(_VARIABLE, *_VARIABLES),
            "unique": _closed(
                {kind: {"type": "array", "items": _text(minLength=1), "uniqueItems": True} for kind in KINDS}
            ),
            **_SECTIONS,
            **{name: INVENTORY_PROPERTIES[name] for name in _INVENTORY},
        },
        required=["plugin", "deployments", "version", "variables"],
    ),
}
LAYER_SCHEMA: dict[str, Any] = {**_DRAFT, "title": "A layer of a system: values of variables", **_VALUES}
SITE_SCHEMA: dict[str, Any] = {
    **_DRAFT,
    "title": "A site of a system of sciops.sites",
    **_closed(
        {
            "description": _text(),
            "hosts": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    **_closed({"machine": _text(minLength=1), "vars": {**_VALUES, "type": ["object", "null"]}}),
                    "type": ["object", "null"],
                },
                "propertyNames": {
                    "pattern": r"^[A-Za-z0-9_][A-Za-z0-9_.:-]*$(?!\n)",
                    "x-right": "must be the name of a host: letters, digits, '.', '-', '_' and ':'",
                },
                "x-right": "must be a mapping of at least one host",
            },
            "connection": _ANSIBLE_VARS,
            "vars": {**_VALUES, "type": ["object", "null"]},
            "deployments": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {**_VALUES, "type": ["object", "null"]},
            },
        },
        required=["hosts"],
    ),
}


@dataclass(frozen=True)
class Variable:
    """What a system says of one variable. `environment` is the name in the caller's environment."""

    name: str
    environment: str
    type: str = "str"
    secret: bool = False
    mandatory: bool = False
    choices: tuple[Any, ...] | None = None
    pattern: str | None = None
    url_ok: bool = False
    description: str = ""


@dataclass(frozen=True)
class Place:
    """Where a target is: `name` is that of the inventory, `machine` what shares ports and paths."""

    site: str
    deployment: str
    name: str
    address: str
    machine: str


@dataclass
class System:
    """A system with its layers and sites, as they were read, and what is wrong with their form."""

    document: Document
    layers: dict[str, Document]
    sites: dict[str, Document]
    problems: list[Problem]

    def __post_init__(self) -> None:
        data = self.document.data
        self.file = self.document.file
        self.folder = str(PurePath(self.file).parent)
        self.name: str = data.get("system") or PurePath(self.file).name.rsplit(".", 2)[0]
        self.prefix: str = data.get("prefix", "")
        self.deployments: list[str] = data.get("deployments") or []
        self.keep: int = data.get("keep", KEEP)
        self.variables: dict[str, Variable] = {}
        self.unique: dict[str, list[str]] = {}
        self.places: list[Place] = []

    def place(self, site: str, deployment: str, host: str) -> Place:
        """The place of a target; `host` is its name in the inventory, or its address. Raises KeyError."""
        for place in self.places:
            if (place.site, place.deployment) == (site, deployment) and host in (place.name, place.address):
                return place
        raise KeyError(f"{self.file}: there is no target of {deployment} at {site} on {host}")

    def texts(self) -> Iterator[tuple[str, bool]]:
        """(text, whether it is an expression) of everything in the sections that is rendered."""
        for name in _SECTIONS:
            yield from _texts(self.document.data.get(name), (name,))

    def values(self) -> Iterator[str]:
        """Every text that a file gives to a variable."""
        values: list[Any] = [one.get("default") for one in self.document.data["variables"].values() if one]
        values += [list(layer.data.values()) for layer in self.layers.values()]
        for site in self.sites.values():
            scopes = [site.data.get("vars"), *(site.data.get("deployments") or {}).values()]
            scopes += [(host or {}).get("vars") for host in site.data["hosts"].values()]
            values += [list((scope or {}).values()) for scope in scopes]
        for text, _expression in _texts(values, ("values",)):
            yield text


def _texts(value: Any, path: Path) -> Iterator[tuple[str, bool]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, str) and path[-1] != "src":
        yield value, path[-1] == "when"


def problem(document: Document, path: Path, message: str, value: Any = MISSING, secret: bool = False) -> Problem:
    """A fault of a document as a person reads it; a secret value is not shown."""
    words = "" if secret else shown(value)
    return Problem(document.file, document.line(path), dotted(path), words, message)


def build(document: Document, layers: Mapping[str, Document], sites: Mapping[str, Document]) -> System:
    """The system of a file, of its layers by deployment, and of its sites by name.

    All that is wrong with the form of the files stands in `problems`; nothing else of the system is of use then.
    Whether the values of variables are right is looked at when a target is resolved.
    """
    system = System(document, dict(layers), dict(sites), [])
    schemas = [(document, SYSTEM_SCHEMA)]
    schemas += [(one, LAYER_SCHEMA) for one in layers.values()]
    schemas += [(one, SITE_SCHEMA) for one in sites.values()]
    for one, schema in schemas:
        system.problems += _form(one, schema)
    if not system.problems:
        _variables(system)
        _fit(system)
    if not system.problems:
        _places(system)
    return system


def _form(document: Document, schema: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the form of one file."""
    faults = list(document.faults)
    if not any(fault.path == () for fault in faults):  # nothing was read then
        told = {fault.path for fault in faults}
        faults += [fault for fault in check(schema, document.data) if fault.path not in told]
    return [
        Problem(
            document.file,
            fault.line or document.line(fault.path),
            dotted(fault.path),
            "(not shown)" if _confidential(document, fault) else shown(fault.value),
            fault.message,
        )
        for fault in faults
    ]


def _confidential(document: Document, fault: Fault) -> bool:
    """True where a fault would show what is encrypted in the file."""
    below = any(place[: len(fault.path)] == fault.path for place in document.secret)
    return fault.value is not MISSING and below


def _variables(system: System) -> None:
    for name, given in system.document.data["variables"].items():
        declared = dict(given or {})
        declared.pop("default", None)
        choices = declared.pop("choices", None)
        system.variables[name] = Variable(
            **{
                "name": name,
                "environment": system.prefix + name,
                **declared,
                "choices": None if choices is None else tuple(choices),
            }
        )
        if name in RESERVED:
            words = f"this name is taken: templates know {', '.join(RESERVED)} beside the variables"
            system.problems.append(problem(system.document, ("variables", name), words))
    for kind in KINDS:
        given = (system.document.data.get("unique") or {}).get(kind) or []
        system.unique[kind] = list(given)
        for index, name in enumerate(given):
            place: Path = ("unique", kind, index)
            if name not in system.variables:
                words = f"no such variable, {hint(name, system.variables)}"
                system.problems.append(problem(system.document, place, words, name))
            elif system.variables[name].secret:
                system.problems.append(problem(system.document, place, "a secret cannot be compared openly", name))


def _fit(system: System) -> None:
    """What a schema cannot say."""
    told, document = system.problems, system.document
    if not named(system.name, SITE_PATTERN):
        told.append(problem(document, ("system",), f"is not given, and the name of the file {SITE_RIGHT}", system.name))
    for deployment, layer in system.layers.items():
        if deployment not in system.deployments:
            words = f"no deployment of the system is called {deployment}, {hint(deployment, system.deployments)}"
            told.append(problem(layer, (), words))
    for site, one in system.sites.items():
        if not named(site, SITE_PATTERN):
            told.append(problem(one, (), f"the name of a site is that of its file, which {SITE_RIGHT}", site))
        for deployment in one.data.get("deployments") or {}:
            if deployment not in system.deployments:
                words = f"no such deployment, {hint(deployment, system.deployments)}"
                told.append(problem(one, ("deployments", deployment), words))
    services = [service["name"] for service in document.data.get("services") or []]
    for index, service in enumerate(document.data.get("services") or []):
        if service["name"] in services[:index]:
            told.append(problem(document, ("services", index, "name"), "two services have this name", service["name"]))
    for index, one_check in enumerate(document.data.get("checks") or []):
        kinds = [kind for kind in CHECKS if kind in one_check]
        if len(kinds) != 1:
            words = f"must have one of {', '.join(CHECKS[:-1])} and {CHECKS[-1]}"
            told.append(problem(document, ("checks", index), words, kinds))


def _places(system: System) -> None:
    """The targets, in the order of deployments within sites."""
    names: dict[str, str] = {}
    for site in sorted(system.sites):
        data = system.sites[site].data
        wanted = data.get("deployments") or system.deployments
        for deployment in (one for one in system.deployments if one in wanted):
            for address, host in data["hosts"].items():
                name = f"{site}-{deployment}"
                if len(data["hosts"]) > 1:
                    name += "-" + address.split(".", 1)[0]
                if name in names:
                    words = f"two targets would be called {name}, the other one is at {names[name]}"
                    system.problems.append(problem(system.sites[site], ("hosts", address), words))
                names[name] = f"{system.sites[site].file}: hosts.{address}"
                machine = (host or {}).get("machine") or address
                system.places.append(Place(site, deployment, name, address, machine))
