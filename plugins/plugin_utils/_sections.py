# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sections of a system file for one target: folders, files, install, launch, services and checks, rendered."""

from __future__ import annotations

from typing import Any, Protocol

from ansible_collections.sciops.sites.plugins.plugin_utils._expressions import NoValue
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import MISSING, Path, Problem, hint
from ansible_collections.sciops.sites.plugins.plugin_utils._system import System, problem
from ansible_collections.sciops.sites.plugins.plugin_utils._types import convert

Json = dict[str, Any]

_OWNED: Json = {"owner": None, "group": None}
_DEFAULTS: dict[str, Json] = {
    "folders": {"mode": "0750", **_OWNED, "acl": None},  # none: what is there stays; an empty list takes it away
    "files": {"mode": "0600", **_OWNED, "validate": None, "restarts": "all", "secret": False},
    "services": {"unit": None, "launch": None, "settle": 3, "timeout": 60, "health": None, "after": [], "apart": False},
    "checks": {"timeout": 5},
}
#: Types of what is not simply text, by the place in an entry.
_TYPES: dict[str, dict[Path, str]] = {
    "folders": {("path",): "path", ("mode",): "mode", ("acl",): "list"},
    "files": {("dest",): "path", ("mode",): "mode", ("secret",): "bool"},
    "services": {
        ("settle",): "duration",
        ("timeout",): "duration",
        ("after",): "list",
        ("health", "port"): "port",
        ("health", "url"): "url",
        ("health", "log"): "path",
        ("health", "log_age"): "duration",
        ("health", "timeout"): "duration",
    },
    "checks": {
        ("url",): "url",
        ("port",): "port",
        ("free",): "size",
        ("path",): "path",
        ("writable",): "path",
        ("log",): "path",
        ("log_age",): "duration",
        ("timeout",): "duration",
    },
}
#: Settings of `install` in which a secret may stand: those that the methods have in SECRETS, which nobody sees.
_CONFIDENTIAL = ("password", "index_url")
_CONFIDENTIAL_WORDS = (
    "uses a secret; secrets may stand in files, and in `password` and `index_url` of an install method"
)
_RESTARTS = ("all", "none", "manager")


def _confidential(path: Path) -> bool:
    """Whether a place is a secret of an install method, which goes to the host apart from the settings."""
    return len(path) == 3 and path[0] == "install" and path[2] in _CONFIDENTIAL


class Values(Protocol):
    """What a section needs of the resolver of a target."""

    system: System
    problems: list[Problem]

    def evaluate(self, text: str, expression: bool = False) -> Any:
        """The value of a template; NoValue where there is none."""

    def secret(self, text: str, expression: bool = False) -> bool:
        """True where a template uses a secret."""


def render(values: Values) -> Json:
    """All sections of a target; what could not be rendered is left out, and told in the problems of `values`."""
    sections = _Sections(values)
    found: Json = {name: sections.entries(name) for name in ("folders", "files")}
    found.update({name: sections.method(name) for name in ("install", "launch")})
    found.update({name: sections.entries(name) for name in ("services", "checks")})
    sections.services(found)
    return found


class _Sections:
    def __init__(self, values: Values) -> None:
        self._values = values
        self._document = values.system.document
        self._data = values.system.document.data
        self._whole = True  # nothing of the present entry is missing

    def entries(self, section: str) -> list[Json]:
        """The entries of a section whose `when` holds."""
        found = []
        for index, declared in enumerate(self._data.get(section) or []):
            path: Path = (section, index)
            self._whole = True
            when = declared.get("when", True)
            if not (self._text((*path, "when"), when, expression=True) if isinstance(when, str) else when):
                continue
            entry = {key: self._value((*path, key), value) for key, value in declared.items() if key != "when"}
            entry = {**_DEFAULTS[section], **entry}
            if self._whole:
                self._shape(section, path, entry)
            if self._whole:
                found.append(entry)
        return found

    def method(self, section: str) -> Json:
        """The method of `install` or `launch` with its settings; `none` where there is nothing to do."""
        declared = self._data.get(section) or {"method": "none"}
        self._whole = True
        method = self._text((section, "method"), declared["method"])
        known = [*(key for key in declared if key != "method"), "none"]
        if self._whole and method not in known:
            self._fault((section, "method"), f"has no settings in `{section}`, {hint(str(method), known)}", method)
        if not self._whole or method == "none":
            return {"method": "none"}
        return {"method": method, **(self._value((section, method), declared[method]) or {})}

    def services(self, found: Json) -> None:
        """Whether services are named rightly, and in an order that can be kept; `after` keeps those that are here."""
        declared = [one["name"] for one in self._data.get("services") or []]
        here = {one["name"]: one for one in found["services"]}
        for index, one in enumerate(self._data.get("services") or []):
            entry = here.get(one["name"])
            if entry:
                self._names(("services", index, "after"), entry["after"], declared)
                entry["after"] = [name for name in entry["after"] if name in here]
        for entry in found["files"]:
            if entry["restarts"] not in _RESTARTS:
                if isinstance(entry["restarts"], str):
                    entry["restarts"] = [entry["restarts"]]
                self._names(("files",), entry["restarts"], declared)
        done: set[str] = set()
        while True:
            free = [name for name, one in here.items() if name not in done and done.issuperset(one["after"])]
            if not free:
                break
            done.update(free)
        if done != set(here):
            self._fault(("services",), "wait for each other: {}".format(", ".join(sorted(set(here) - done))))

    def _names(self, path: Path, wanted: list[str], known: list[str]) -> None:
        for name in wanted:
            if name not in known:
                self._fault(path, f"no such service, {hint(name, known)}", name)

    # --- values

    def _value(self, path: Path, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._value((*path, key), item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value((*path, index), item) for index, item in enumerate(value)]
        # a source is the name of what lies beside the system file, for all targets the same
        return self._text(path, value) if isinstance(value, str) and path[-1] != "src" else value

    def _text(self, path: Path, text: str, expression: bool = False) -> Any:
        try:
            value = self._values.evaluate(text, expression)
            if self._values.secret(text, expression) and not _confidential(path):
                self._fault(path, _CONFIDENTIAL_WORDS, text)
            return value
        except NoValue as exc:
            self._whole = False
            if str(exc):
                self._fault(path, str(exc), text)
            return MISSING

    def _shape(self, section: str, path: Path, entry: Json) -> None:
        """Give the values of an entry their types."""
        for owner in _OWNED.keys() & entry.keys():
            entry[owner] = entry[owner] or None  # an empty one is none
        for place, kind in _TYPES[section].items():
            inside: Any = entry
            for part in place[:-1]:
                inside = inside.get(part) or {}
            key = place[-1]
            if inside.get(key) is None:
                continue
            try:
                typed = convert(kind, inside[key])
                if typed == "":
                    raise ValueError("must not be empty")
                inside[key] = typed
            except ValueError as exc:
                self._fault((*path, *place), str(exc), inside[key])
        for inside in (entry, entry.get("health") or {}):
            if "command" not in inside:
                continue
            if isinstance(inside["command"], list):
                inside["command"] = [str(word) for word in inside["command"]]
            else:
                self._fault((*path, "command"), "must give a list of words", inside["command"])
        if entry.get("acl"):
            entry["acl"] = [item for item in entry["acl"] if item]

    def _fault(self, path: Path, message: str, value: Any = MISSING) -> None:
        self._whole = False
        told = problem(self._document, path, message, value)
        if told not in self._values.problems:
            self._values.problems.append(told)
