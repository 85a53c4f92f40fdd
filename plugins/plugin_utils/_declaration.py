# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site's layers become one declaration: everything checked, everything filled in, faulty components set aside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _component, _layers
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import (
    MISSING,
    Fault,
    Path,
    Problem,
    check,
    dotted,
    hint,
    octets,
    seconds,
    shown,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._layers import Document, Leaf, Tree
from ansible_collections.sciops.sites.plugins.plugin_utils._schema import DEFAULTS, GATE_DEFAULTS, SITE_SCHEMA
from ansible_collections.sciops.sites.plugins.plugin_utils._when import unix_time

Expand = Callable[[str], list[str]]

DEFAULTS_DOCUMENT = Document("collection", "the collection's defaults", DEFAULTS)
_DURATIONS = ("lost_after", "host_timeout", "pass_timeout", "backoff_min", "backoff_max")


def compile_site(
    documents: Sequence[Document], expand: Expand | None = None
) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The declaration of a site and all that is wrong with it.

    `documents` are the layers, lowest first, the site file last; `expand` turns a host range into host names
    (ValueError with the reason). A fault within one component sets that component aside; any other fault refuses the
    site: the declaration is then None, and the problems still name every fault.
    """
    return Site(documents, expand).compile()


def explain(
    documents: Sequence[Document], paths: Sequence[str], expand: Expand | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The effective value at each dotted path (or of everything below it) with its origin, and the paths nothing is at.

    Each row: path, value, layer, file, line, shadows (the same of each value it hides, nearest first). Values of
    vaulted places are not shown. Components show what they take from `defaults`, hosts from `host_defaults`.
    """
    return Site(documents, expand).explain(paths)


def _row(leaf: Leaf) -> dict[str, Any]:
    value = "(vaulted)" if leaf.secret else leaf.value
    return {"value": value, "layer": leaf.layer, "file": leaf.file, "line": leaf.line}


def _no_ranges(pattern: str) -> list[str]:
    if "[" in pattern:
        raise ValueError("host ranges cannot be read here")
    return [pattern]


def component_of(path: Path) -> tuple[str, str] | None:
    """(pipe, component) that a path lies in."""
    if len(path) >= 4 and path[0] == "pipes" and path[2] == "components":
        return str(path[1]), str(path[3])
    return None


class Site:
    """One compilation: the documents, what is wrong, and what was set aside."""

    def __init__(self, documents: Sequence[Document], expand: Expand | None = None) -> None:
        self.problems: list[Problem] = []
        self.encrypted = False  # set by who read the files, where one of them was encrypted as a whole
        self.aside: dict[str, list[str]] = {}
        self._expand = expand or _no_ranges
        self.top = documents[-1]
        self.documents = [self._checked(document) for document in documents]
        self.tree = _layers.stack([_layers.tree(document) for document in (DEFAULTS_DOCUMENT, *self.documents)])

    # --- faults

    def _report(self, file: str, line: int, fault: Fault, secret: bool = False) -> None:
        inside = component_of(fault.path)
        value = "(vaulted)" if secret and fault.value is not MISSING else shown(fault.value)
        problem = Problem(file, line, dotted(fault.path), value, fault.message, fatal=inside is None)
        if problem in self.problems:
            return
        self.problems.append(problem)
        if inside:
            self.aside.setdefault("/".join(inside), []).append(str(problem))

    def fault(self, path: Path, message: str, value: Any = MISSING) -> None:
        """A fault of the merged declaration, told at the place that gave the value."""
        inside = component_of(path)
        spots = [path]
        if inside and len(path) > 4:
            spots.append(("defaults", *path[4:]))  # the value may come from the defaults of components
        elif path[:1] == ("hosts",) and len(path) > 2:
            spots.append(("host_defaults", *path[2:]))
        for spot in [*spots, *(path[:length] for length in range(len(path) - 1, 0, -1))]:
            for document in reversed(self.documents):
                if spot in document.lines:
                    secret = any(place[: len(spot)] == spot for place in document.secret)
                    self._report(document.file, document.lines[spot], Fault(path, value, message), secret)
                    return
        self._report(self.top.file, 0, Fault(path, value, message))

    def _checked(self, document: Document) -> Document:
        """The document with its faults reported and what is faulty cut out."""
        faults = list(document.faults)
        if document is self.top and "plugin" not in document.data and document.data:
            faults.append(
                Fault(("plugin",), MISSING, "is missing; a site file begins with `plugin: sciops.sites.site`")
            )
        if document.data:
            told = {fault.path for fault in faults}
            faults += [fault for fault in check(SITE_SCHEMA, document.data) if fault.path not in told]
        data = copy.deepcopy(document.data)
        lines = dict(document.lines)
        hosts, host_faults = self._hosts_of(document, lines)
        for fault in faults + host_faults:
            secret = any(place[: len(fault.path)] == fault.path for place in document.secret)
            self._report(document.file, fault.line or document.line(fault.path), fault, secret)
        for fault in faults:
            _cut(data, fault.path)
        if isinstance(data.get("hosts"), dict):
            data["hosts"] = {
                name: data["hosts"][pattern] for name, pattern in hosts.items() if pattern in data["hosts"]
            }
        return Document(document.layer, document.file, data, lines, (), document.secret)

    def _hosts_of(self, document: Document, lines: dict[Path, int]) -> tuple[dict[str, str], list[Fault]]:
        """Host name -> the pattern that declared it, in order; each name gets the lines of its pattern."""
        names: dict[str, str] = {}
        faults = []
        declared = document.data.get("hosts")
        for pattern in declared if isinstance(declared, Mapping) else ():
            place: Path = ("hosts", pattern)
            try:
                found = self._expand(pattern)
            except ValueError as exc:
                faults.append(Fault(place, MISSING, f"is not a host or a range of hosts: {exc}"))
                continue
            for name in found:
                if not _component.HOST_NAME.fullmatch(name):
                    faults.append(Fault(place, name, "a host name holds letters, digits, '.', '-', '_' and ':' only"))
                elif name in names:
                    first = document.line(("hosts", names[name]))
                    faults.append(Fault(place, name, f"the host is declared twice, the first time in line {first}"))
                else:
                    names[name] = pattern
        for name, pattern in names.items():
            if name != pattern:
                for path, line in document.lines.items():
                    if path[:2] == ("hosts", pattern):
                        lines[("hosts", name, *path[2:])] = line
        return names, faults

    # --- the parts

    def effective(self) -> dict[str, Any]:
        """The merged tree with defaults laid under every host and component."""
        tree: Any = dict(self.tree) if isinstance(self.tree, dict) else {}
        for key, defaults in (("hosts", "host_defaults"),):
            under = tree.get(defaults, {})
            tree[key] = {name: _layers.merge(under, _mapping(item)) for name, item in _items(tree.get(key))}
        pipes = {}
        for pipe, item in _items(tree.get("pipes")):
            pipe_tree = dict(_mapping(item))
            pipe_tree["components"] = {
                name: _layers.merge(tree.get("defaults", {}), _mapping(entry))
                for name, entry in _items(pipe_tree.get("components"))
            }
            pipes[pipe] = pipe_tree
        tree["pipes"] = pipes
        return dict(tree)

    def compile(self) -> tuple[dict[str, Any] | None, list[Problem]]:
        """See compile_site()."""
        data = _layers.plain(self.effective())
        declaration: dict[str, Any] = {
            "site": data.get("site", ""),
            "deployment": data.get("deployment", ""),
            "file": self.top.file,
            "description": data["description"],
            "policy": self._policy(data["policy"]),
            "launchers": {
                name: {key: seconds(value) if key == "timeout" else value for key, value in settings.items()}
                for name, settings in data["launchers"].items()
            },
            "hosts": self._hosts(data["hosts"]),
            "shared_limits": data.get("shared_limits") or {},
            "gates": self._gates(data.get("gates") or {}),
            "holds": [],
            "vars": data.get("vars") or {},
            "components": {},
        }
        if not declaration["hosts"] and not self.problems:
            self.fault(("hosts",), "no host is declared")
        self._components(declaration, data["pipes"])
        declaration["holds"] = self._holds(data.get("holds") or [], declaration, data["pipes"])
        self.problems.sort(key=lambda problem: (problem.file, problem.line, problem.path))
        if any(problem.fatal for problem in self.problems):
            return None, self.problems
        declaration["set_aside"] = {name: "; ".join(found) for name, found in self.aside.items()}
        return declaration, self.problems

    def explain(self, paths: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
        """See explain()."""
        everything = [(dotted(path), leaf) for path, leaf in _layers.leaves(self.effective())]
        rows, unknown = [], []
        for wanted in paths:
            below = (wanted + ".", wanted + "[")
            found = [item for item in everything if item[0] == wanted or item[0].startswith(below)]
            rows += [
                {"path": path, **_row(leaf), "shadows": [_row(hidden) for hidden in leaf.shadows]}
                for path, leaf in found
            ]
            if not found:
                unknown.append(wanted)
        return rows, unknown

    def connection(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Ansible's connection variables: those of all hosts of the site, and those of each host."""
        data = _layers.plain(self.effective())
        return data.get("connection") or {}, {
            name: {key: value for key, value in (host.get("vars") or {}).items() if key.startswith("ansible_")}
            for name, host in data["hosts"].items()
        }

    def _policy(self, policy: dict[str, Any]) -> dict[str, Any]:
        policy = {key: seconds(value) if key in _DURATIONS else value for key, value in policy.items()}
        for low, high in (("backoff_min", "backoff_max"), ("host_timeout", "pass_timeout")):
            if policy[low] > policy[high]:
                self.fault(("policy", low), f"must not be more than {high}, which is {policy[high]}", policy[low])
        return policy

    def _hosts(self, hosts: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {
                "order": order,
                "hot_limit": host["hot_limit"],
                "memory": None if host["memory"] is None else octets(host["memory"]),
                "max_instances": host["max_instances"],
                "max_load": host["max_load"],
                "classes": host["classes"],
                "state": "on" if host["state"] is True else host["state"],
                "vars": {
                    key: value for key, value in (host.get("vars") or {}).items() if not key.startswith("ansible_")
                },
            }
            for order, (name, host) in enumerate(hosts.items())
        }

    def _gates(self, gates: dict[str, Any]) -> dict[str, Any]:
        compiled = {}
        for name, given in gates.items():
            sources = [key for key in ("command", "url", "file") if key in given]
            if len(sources) != 1:
                self.fault(("gates", name), "must have one of command, url and file", sources)
                continue
            gate = {**GATE_DEFAULTS, **given}
            gate["max_age"] = seconds(gate["max_age"])
            if "command" in gate:
                try:
                    gate["command"] = _component.words(gate["command"])
                except ValueError as exc:
                    self.fault(("gates", name, "command"), f"cannot be split into words: {exc}", gate["command"])
                    continue
            compiled[name] = gate
        return compiled

    def _holds(
        self, holds: list[dict[str, Any]], declaration: dict[str, Any], pipes: dict[str, Any]
    ) -> list[dict[str, Any]]:
        names = [f"{pipe}/{name}" for pipe, entry in pipes.items() for name in entry["components"]]
        known = {"host": list(declaration["hosts"]), "pipe": list(pipes), "component": [*names, *self.aside]}
        compiled = []
        for index, hold in enumerate(holds):
            kind, _colon, name = hold["scope"].partition(":")
            if name and name not in known[kind]:
                self.fault(("holds", index, "scope"), f"no such {kind}, {hint(name, known[kind])}", hold["scope"])
            until = hold.get("until")
            try:
                until = unix_time(until)
            except ValueError:
                self.fault(
                    ("holds", index, "until"), "must be a time such as 2026-12-01T08:00:00Z, or unix time", until
                )
            compiled.append(
                {
                    "scope": hold["scope"],
                    "mode": hold["mode"],
                    "owner": hold.get("owner", ""),
                    "reason": hold.get("reason", ""),
                    "until": until,
                }
            )
        return compiled

    def _secret_places(self) -> tuple[set[str], set[str]]:
        """Names of the components, and of the site variables, in which a value was encrypted in its file."""
        components, variables = set(), set()
        for path, leaf in _layers.leaves(self.effective()):
            inside = component_of(path) if leaf.secret else None
            if inside:
                components.add("/".join(inside))
            elif leaf.secret and path[0] == "vars" and len(path) > 1:
                variables.add(str(path[1]))
        return components, variables

    def _components(self, declaration: dict[str, Any], pipes: dict[str, Any]) -> None:
        order = 0
        secret, secret_variables = self._secret_places()
        for pipe, entry in pipes.items():
            for name, component in entry["components"].items():
                if f"{pipe}/{name}" in self.aside:
                    continue
                compiled, faults = _component.compile_component(pipe, name, order, component, declaration)
                for fault in faults:
                    self.fault(("pipes", pipe, "components", name, *fault.path), fault.message, fault.value)
                if not faults:
                    full = f"{pipe}/{name}"
                    compiled["vaulted"] = (
                        self.encrypted or full in secret or bool(secret_variables & {*compiled["vars"]})
                    )
                    declaration["components"][full] = compiled
                order += 1


def _mapping(node: Tree) -> dict[str, Any]:
    return node if isinstance(node, dict) else {}


def _items(node: Any) -> list[tuple[str, Any]]:
    return list(node.items()) if isinstance(node, dict) else []


def _cut(data: Any, path: Path) -> None:
    """Take the faulty thing out of `data`: a component as a whole, a list as a whole, else the one key."""
    if component_of(path):
        path = path[:4]
    whole = next((index for index, part in enumerate(path) if isinstance(part, int)), len(path))
    path = path[:whole]
    for part in path[:-1]:
        if not isinstance(data, dict) or part not in data:
            return
        data = data[part]
    if isinstance(data, dict):
        if path:
            data.pop(path[-1], None)
        else:
            data.clear()
