# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of one target: layers, templates, types, secrets, and where each value comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _expressions, _layers, _sections
from ansible_collections.sciops.sites.plugins.plugin_utils._expressions import NoValue
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import (
    MISSING,
    Path,
    Problem,
    dotted,
    hint,
    shown,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._layers import Document, Leaf
from ansible_collections.sciops.sites.plugins.plugin_utils._system import (
    RESERVED,
    ROOT,
    Place,
    System,
    Variable,
    problem,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._types import convert, empty

Json = dict[str, Any]

#: Keys of the system file that are resolved as variables are: templates know them too.
_KEYS = {
    # what is installed names folders and images
    "version": Variable("version", "", mandatory=True, pattern=r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"),
    "root": Variable("root", "", type="path", mandatory=True),
}
_VERSION_WORDS = "must be 1 to 64 letters, digits, '.', '_', '+' or '-', beginning with a letter or digit"


def resolve(
    system: System,
    site: str,
    deployment: str,
    host: str,
    environment: Mapping[str, str],
    caller: Mapping[str, Any],
) -> tuple[Json, list[Problem]]:
    """The target at a site, of a deployment, on a host (its name in the inventory, or its address), and what is wrong.

    `environment` are the variables of the caller's environment, `caller` the values of the caller's own layer. A fatal
    problem refuses the target; it holds what could be made. Raises KeyError where there is no such target. The shape
    of a target is in docs/architecture-deploy.md.
    """
    place = system.place(site, deployment, host)
    resolver = Resolver(system, place, environment, caller)
    sections = _sections.render(resolver)
    values = {name: resolver.values[name] for name in system.variables if name in resolver.values}
    secrets = sorted(resolver.secrets & set(system.variables))
    target = {
        "system": system.name,
        "site": place.site,
        "deployment": place.deployment,
        "host": place.name,
        "address": place.address,
        "machine": place.machine,
        "file": system.file,
        "folder": system.folder,
        "version": resolver.values.get("version", ""),
        "root": resolver.values.get("root", ""),
        "values": values,
        "secrets": secrets,
        "faulty": {name: resolver.failed[name] for name in system.variables if name in resolver.failed},
        "absent": resolver.why,
        "origins": {
            name: _origin(leaf, name in secrets) for name, leaf in resolver.leaves.items() if name in system.variables
        },
        **sections,
        "unique": _unique(resolver, values),
        "keep": system.keep,
    }
    return target, resolver.problems


def _unique(resolver: Resolver, values: Json) -> Json:
    found = {
        kind: {name: values[name] for name in names if name in values and name not in resolver.secrets}
        for kind, names in resolver.system.unique.items()
    }
    root = resolver.values.get("root")
    if root and root not in found["path"].values():
        found["path"]["root"] = root
    return found


def _origin(leaf: Leaf, secret: bool) -> Json:
    template = not secret and not _verbatim(leaf) and isinstance(leaf.value, str) and "{" in leaf.value
    return {
        "layer": leaf.layer,
        "file": leaf.file,
        "line": leaf.line,
        "template": leaf.value if template else None,
        "shadows": [
            {"layer": low.layer, "file": low.file, "line": low.line, "value": None if secret else low.value}
            for low in leaf.shadows
        ],
    }


def _verbatim(leaf: Leaf) -> bool:
    """True for values that are no templates: they come from outside, or out of Ansible Vault."""
    return leaf.secret or leaf.layer in ("environment", "caller")


def layered(
    system: System, place: Place, environment: Mapping[str, str], caller: Mapping[str, Any]
) -> tuple[dict[str, Leaf], dict[tuple[str, str], Path]]:
    """What was given to each variable, and where in its file: (leaf by name, place by layer and name).

    The order here is the order of precedence, lowest first.
    """
    site = system.sites[place.site]
    declared = system.document.data["variables"]
    defaults = {name: ("variables", name, "default") for name, one in declared.items() if one and "default" in one}
    layers: dict[str, dict[str, Leaf]] = {
        "environment": {
            name: Leaf(environment[one.environment], "environment", one.environment, 0)
            for name, one in system.variables.items()
            if one.environment in environment
        }
    }
    paths: dict[tuple[str, str], Path] = {}

    def add(layer: str, document: Document | None, places: Mapping[str, Path]) -> None:
        layers[layer] = {}
        for name, path in places.items():
            leaf = _layers.tree(document, path) if document else None
            if isinstance(leaf, Leaf):
                layers[layer][name] = Leaf(leaf.value, layer, leaf.file, leaf.line, leaf.secret)
                paths[layer, name] = path

    def below(document: Document | None, path: Path) -> dict[str, Path]:
        data: Any = document.data if document else {}
        for part in path:
            data = (data or {}).get(part)
        return {name: (*path, name) for name in data or {}}

    keys: dict[str, Path] = {name: (name,) for name in _KEYS if name in system.document.data}
    add("system", system.document, {**defaults, **keys})
    layers["system"].setdefault("root", Leaf(ROOT, "system", system.file, 0))
    deployment = system.layers.get(place.deployment)
    add("deployment", deployment, below(deployment, ()))
    add("site", site, below(site, ("vars",)))
    add("site and deployment", site, below(site, ("deployments", place.deployment)))
    add("host", site, below(site, ("hosts", place.address, "vars")))
    layers["caller"] = {name: Leaf(value, "caller", "", 0) for name, value in caller.items()}
    stacked: Any = _layers.stack([dict(layer) for layer in layers.values()])
    return stacked, paths


class Resolver:
    """The values of one target, all of them when it is made. What is wrong stands in `problems`.

    In the end a variable is in `values`, or in `failed` (why is told, there or at its cause), or it has no value, and
    `why` says why not where something was to give it one.
    """

    def __init__(self, system: System, place: Place, environment: Mapping[str, str], caller: Mapping[str, Any]) -> None:
        self.system = system
        self.place = place
        self.problems: list[Problem] = []
        self.secrets: set[str] = set()
        self.failed: dict[str, str] = {}
        self.why: dict[str, str] = {}
        self.values: Json = {
            "system": system.name,
            "site": place.site,
            "deployment": place.deployment,
            "host": place.name,
            "address": place.address,
            "machine": place.machine,
        }
        self.leaves, self._paths = layered(system, place, environment, caller)
        self._variables = {**system.variables, **_KEYS}
        self._done: set[str] = set(self.values)
        self._open: list[str] = []
        for name in sorted(set(self.leaves) - set(self._variables)):
            self._tell(name, f"no such variable, {hint(name, system.variables)}")
        for name in self._variables:
            self._resolve(name)
        for name in sorted(self.secrets.intersection(_KEYS)):
            self._tell(name, "is made from a secret, and everybody can see the names of folders")

    # --- for templates

    def evaluate(self, text: str, expression: bool = False) -> Any:
        """The value of a template over all variables. NoValue says why there is none; without words, that was told."""
        try:
            names = _expressions.names(text, expression)
        except ValueError as exc:
            raise NoValue(str(exc)) from exc
        for name in sorted(names):
            if name not in self._variables and name not in RESERVED:
                words = hint(name, [*self.system.variables, *RESERVED])
                raise NoValue(f"uses {name}, which is no variable, {words}")
            self._resolve(name)
        if names & self.failed.keys():
            raise NoValue("")
        try:
            return _expressions.evaluate(text, self.values, expression, hush=self.secret(text, expression))
        except NoValue as exc:
            because = [f" ({name} {self.why[name]})" for name in exc.names if name in self.why]
            raise NoValue("".join([str(exc), *because]), exc.names) from exc

    def secret(self, text: str, expression: bool = False) -> bool:
        """True where a template uses a secret."""
        try:
            return bool(self.secrets & _expressions.names(text, expression))
        except ValueError:  # no template at all, which is told where it is rendered
            return False

    # --- values

    def _resolve(self, name: str) -> None:
        if name in self._done:
            return
        variable, leaf = self._variables[name], self.leaves.get(name)
        if name in self._open:
            circle = [*self._open[self._open.index(name) :], name]
            self._tell(name, f"its value needs itself: {' -> '.join(circle)}")
            return
        self._open.append(name)
        if variable.secret or (leaf and any(one.secret for one in (leaf, *leaf.shadows))):
            self.secrets.add(name)
        value = MISSING if leaf is None or leaf.value is None else self._made(variable, leaf)
        self._open.pop()
        self._done.add(name)
        if name in self.failed:
            return
        if value is MISSING:
            if variable.mandatory:
                self._tell(name, f"is mandatory and has no value; {self._remedy(variable)}")
            return
        wrong = self._wrong(variable, value)
        if wrong:
            self._tell(name, wrong, value)
        else:
            self.values[name] = value
            self._in_clear(variable, leaf)

    def _made(self, variable: Variable, leaf: Leaf) -> Any:
        """The value as its type has it. MISSING where there is none: `failed` or `why` knows more then."""
        value = leaf.value
        try:
            if not _verbatim(leaf):
                several = isinstance(value, list)
                made = [self._rendered(variable, one) for one in (value if several else [value])]
                value = made if several else made[0]
            return MISSING if value is None else convert(variable.type, value, variable.url_ok)
        except NoValue as exc:
            if not str(exc):
                self.failed.setdefault(variable.name, "needs a value that is missing or wrong")
            elif exc.names and not variable.mandatory:
                self.why[variable.name] = str(exc)  # who needs it is told
            else:
                self._tell(variable.name, str(exc), leaf.value)
        except ValueError as exc:
            self._tell(variable.name, str(exc), value)
        return MISSING

    def _rendered(self, variable: Variable, value: Any) -> Any:
        if not isinstance(value, str) or "{" not in value:
            return value
        try:
            made = self.evaluate(value)
        finally:  # a value that cannot be made hides what it is made from, too
            if self.secret(value):
                self.secrets.add(variable.name)
        if variable.type == "str" and isinstance(made, (bool, int, float)):
            return str(made).lower() if isinstance(made, bool) else str(made)
        return made

    def _wrong(self, variable: Variable, value: Any) -> str:
        """What is wrong with a value of the right type; nothing where it is right."""
        if empty(value):
            if variable.name in self.secrets:
                return f"is a secret and empty; {self._remedy(variable)}, or take it away"
            return f"is mandatory and empty; {self._remedy(variable)}" if variable.mandatory else ""
        items = value if isinstance(value, list) else [value]
        if variable.choices is not None and any(item not in variable.choices for item in items):
            return f"must be {' or '.join(str(one) for one in variable.choices)}"
        if variable.pattern is not None and any(not re.fullmatch(variable.pattern, str(item)) for item in items):
            return _VERSION_WORDS if variable.name in _KEYS else f"must match {variable.pattern}"
        return ""

    def _in_clear(self, variable: Variable, leaf: Leaf | None) -> None:
        """Warn of a secret that can be read in a file."""
        if variable.secret and leaf and not _verbatim(leaf) and "{" not in str(leaf.value):
            path = dotted(self._paths[leaf.layer, variable.name])
            words = "is a secret in clear text; encrypt it with `ansible-vault encrypt_string`"
            self.problems.append(Problem(leaf.file, leaf.line, path, "", words, fatal=False))

    # --- faults

    def _remedy(self, variable: Variable) -> str:
        if variable.name in _KEYS:
            return "see what its template uses"
        if variable.name in self.secrets:
            return f"set {variable.environment} in the environment, or encrypt it in sites/{self.place.site}.yml"
        return f"give it one in sites/{self.place.site}.yml, or set {variable.environment} in the environment"

    def _tell(self, name: str, message: str, value: Any = MISSING) -> None:
        """A fault of a variable, at the value that it has, else where it is declared."""
        self.failed[name] = message
        leaf = self.leaves.get(name)
        if leaf is None:
            self.problems.append(problem(self.system.document, ("variables", name), message))
            return
        hidden = name in self.secrets or leaf.secret or value is MISSING
        path = dotted(self._paths.get((leaf.layer, name), (name,)))
        if leaf.layer == "environment":
            file, path = "environment", leaf.file
        else:
            file = leaf.file or "sciops_sites_vars"
        self.problems.append(Problem(file, leaf.line, path, "" if hidden else shown(value), message))


# --- what is worth a look although nothing is wrong


def report(system: System, targets: Sequence[Json], used: Iterable[str]) -> Json:
    """Unused, shadowed and undefined variables. `used` are the names that the templates of files use.

    unused:    declared, and used by no template and no other variable; nor need they be unique.
    shadowed:  given, and hidden in each of `hosts` by the layer `by`; a default that gets another value is not one.
    undefined: used by a template of a file, and without a value in `hosts`; a template may ask whether there is one.
    """
    known = {*used, *_used_within(system)}
    wanted = [name for name in system.variables if name in set(used)]
    without = {name: [target["host"] for target in targets if name not in target["values"]] for name in wanted}
    return {
        "unused": [
            {"name": name, "file": system.file, "line": system.document.line(("variables", name))}
            for name in system.variables
            if name not in known
        ],
        "shadowed": _shadowed(targets),
        "undefined": [{"name": name, "hosts": hosts} for name, hosts in without.items() if hosts],
    }


def _used_within(system: System) -> set[str]:
    """The names that the system file and templates of values use."""
    texts = list(system.texts())
    texts += [(text, False) for text in system.values()]
    found = {name for names in system.unique.values() for name in names}
    for text, expression in texts:
        try:
            found |= _expressions.names(text, expression)
        except ValueError:
            continue  # told where it is resolved
    return found


def _shadowed(targets: Sequence[Json]) -> list[Json]:
    rows: dict[tuple[Any, ...], Json] = {}
    for target in targets:
        for name, origin in target["origins"].items():
            value = target["values"].get(name)
            for low in origin["shadows"]:
                equal = name not in target["secrets"] and low["value"] == value
                if low["layer"] == "system" and not equal:
                    continue
                key = (name, low["layer"], low["file"], low["line"], origin["layer"], origin["file"], origin["line"])
                by = {part: origin[part] for part in ("layer", "file", "line")}
                place = {part: low[part] for part in ("layer", "file", "line")}
                row = rows.setdefault(key, {"name": name, **place, "by": by, "equal": equal, "hosts": []})
                row["hosts"].append(target["host"])
    return [rows[key] for key in sorted(rows)]
