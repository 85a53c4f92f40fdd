# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imported variables as a system file, layers and site files. Pure.

The shell puts the value of `$NAME` in when it reads the line; our values are put together when all layers are known. So
nothing that a file sets is written as a reference: what is left of references is what the caller must give.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._exports import SECRET, Layers, Reference, Value
from ansible_collections.sciops.sites.plugins.plugin_utils._jadetools import to_yaml
from ansible_collections.sciops.sites.plugins.plugin_utils._system import PLUGIN, RESERVED

Json = dict[str, Any]

# what a template cannot have as the name of a variable
_WORDS = frozenset([*RESERVED, *"and or not if else in is true false none True False None".split()])
_PORT_NAME = re.compile(r"(?:.*_)?PORT(?:_.*)?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_PATH_NAME = re.compile(r".*(?:DIR|PATH|FOLDER)")
_PATH = re.compile(r"(?:/[^/:\s\x00-\x1f\x7f]+)+")
_FOLDER = re.compile(r"(?:/[^/:\s\x00-\x1f\x7f]+)+/")
_STORE = re.compile(r"[a-z][a-z0-9]*://[^/\s]+(?:/[^/\s]+)*")
_OPENS = re.compile(r"\{(?=[{%#])")
_OPENS_BEFORE_REFERENCE = re.compile(r"\{(?=[{%#]|\Z)")
_HEADER = re.compile(r"# [^\n]*\n# sha256:([0-9a-f]{64})\n")


@dataclass(frozen=True)
class Imported:
    """Documents (text where it is no YAML) by their path, what a person should know, and what is still asked.

    That is variables that the caller must give, with the places that ask for them.
    """

    documents: dict[str, Any]
    findings: list[str]
    needed: dict[str, list[str]]

    def counts(self) -> dict[str, int]:
        """Return how many variables, deployments and sites there are."""
        systems = [one for name, one in self.documents.items() if name.endswith(".system.yml")]
        return {
            "variables": len({name for one in systems for name in one["variables"]}),
            "deployments": len({name for one in systems for name in one["deployments"]}),
            "sites": sum(PurePath(name).parent.name == "sites" for name in self.documents),
        }


def convert(layers: Layers, system: str, prefix: str, environment: Sequence[str], version: str) -> Imported:
    """Return our form of the layers.

    `prefix` is dropped from names. `environment` are names that the caller's environment gives where no file does.
    `version` is our name of the variable that says what is installed. ValueError where a name cannot be one of ours.
    """
    given = [name for layer in layers.values.values() for name in layer]
    names = our_names(list(dict.fromkeys([*given, *environment, *layers.unset])), prefix)
    secrets = {name for name in names if SECRET.fullmatch(name)}
    variables: dict[str, Json] = {}
    for name in dict.fromkeys([*given, *environment]):
        values = [layer[name] for layer in layers.values.values() if name in layer]
        variables[names[name]] = {"secret": True} if name in secrets else guess(names[name], values)
        if prefix + names[name] != name:
            variables[names[name]]["environment"] = name

    # A name that no file sets keeps its name. One that some file sets means, where it was not set yet, what it was
    # before any file was read: another variable.
    refers = dict(names)
    needed: dict[str, list[str]] = {}
    for name, places in layers.unset.items():
        if name in layers.assigned and name not in secrets:
            refers[name] = f"CALLER_{names[name]}"
        elif names[name] in variables:
            continue  # a secret, or told to be in the caller's environment
        if refers[name] in variables:
            words = f"another variable is called {refers[name]}; rename one of them"
            raise ValueError(f"{name}: asked for in {places[0]}: {words}")
        variables[refers[name]] = {"description": f"Asked for in {', '.join(places)}"}
        if name in secrets:
            variables[refers[name]]["secret"] = True
        needed[refers[name]] = places
    variables.setdefault(version, {})

    def layer(site: str, deployment: str) -> Json:
        found: Json = {}
        for name, value in layers.values.get((site, deployment), {}).items():
            if name not in secrets:
                text = template(value, refers)
                found[names[name]] = int(text) if variables[names[name]].get("type") == "port" else text
        return found

    for our, value in layer("", "").items():
        variables[our]["default"] = value
    findings = list(layers.findings)
    if "INSTALL_BASEDIR" in variables:  # where the old scripts put a target
        root = {"type": "path", "default": "{{ INSTALL_BASEDIR }}/{{ site }}-{{ deployment }}"}
        variables.setdefault("INSTALL_DIR", root)
    elif "INSTALL_DIR" not in variables:
        findings.append(f"{system}.system.yml: root: is not in the files; say which folder is that of one target")
    deployments = [deployment for site, deployment in layers.values if deployment and not site]
    unique = {
        "port": [names[name] for name in layers.ports if name in given],
        "dns": [our for our, entry in variables.items() if our.endswith("DNS_NAME") and "secret" not in entry],
    }
    documents: dict[str, Any] = {
        f"{system}.system.yml": {
            "plugin": PLUGIN,
            "system": system,
            "prefix": prefix,
            "deployments": deployments,
            "version": f"{{{{ {version} }}}}",
            "variables": variables,
            "unique": {kind: of_kind for kind, of_kind in unique.items() if of_kind},
        }
    }
    for deployment in deployments:
        documents[f"layers/{deployment}.yml"] = layer("", deployment)
    for site in dict.fromkeys(site for site, _deployment in layers.values if site):
        findings.append(f"sites/{site}.yml: hosts: no file names the host of the site; {site} stands there, change it")
        documents[f"sites/{site}.yml"] = {
            "hosts": {site: {}},
            "vars": layer(site, ""),
            "deployments": {name: layer(site, name) for name in deployments},
        }
    return Imported(documents, findings, needed)


def our_names(names: Sequence[str], prefix: str) -> dict[str, str]:
    """Return our name of each: without the prefix, where that leaves a name that nothing else has.

    ValueError for a name that templates cannot use.
    """
    ours = {}
    for name in names:
        short = name.removeprefix(prefix)
        good = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", short) and short not in _WORDS and short not in names
        ours[name] = short if good else name
        if ours[name] in _WORDS:
            raise ValueError(f"{name}: is a word of templates and cannot be a variable; rename it in the files")
    return ours


def guess(name: str, values: Sequence[Value]) -> Json:
    """Return the type of a variable by its name and by all values that the files give it; nothing where in doubt.

    A type that is named here takes each of the values as it is.

    >>> guess("DB_PORT", [("3306",)]), guess("DB_PORT", [("none",)])
    ({'type': 'port'}, {})
    """
    texts = ["".join(part if isinstance(part, str) else "/x" for part in value) for value in values]
    plain = all(isinstance(part, str) for value in values for part in value)
    # a folder that the caller gives may begin a path; what else it may be nobody knows
    leading = all(isinstance(part, str) for value in values for part in value[1:]) and not any(
        isinstance(value[0], Reference) and not "".join(map(str, value[1:])).startswith("/")
        for value in values
        if len(value) > 1
    )
    some = [text for text in texts if text]
    if _PORT_NAME.fullmatch(name) and plain and some == texts and all(_is_port(text) for text in texts) and texts:
        return {"type": "port"}
    if some and plain and all(_UUID.fullmatch(text) for text in some):
        return {"type": "uuid"}
    if some and leading and _PATH_NAME.fullmatch(name) and not any(".." in text.split("/") for text in some):
        stores = [text for text in some if _STORE.fullmatch(text)]
        paths = [text for text in some if text not in stores]
        for kind, form in (("path", _PATH), ("folder", _FOLDER)):
            if paths and all(form.fullmatch(text) and "/./" not in f"{text}/" for text in paths):
                if not stores:
                    return {"type": kind}
                return {"type": kind, "url_ok": True} if kind == "path" else {}
    return {}


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and int(text) <= 65535


def template(value: Value, names: Mapping[str, str]) -> str:
    """Return the template whose result is the value: what would be read as a template in it is kept literal.

    >>> template(("{{ x }} in ", Reference("HOME")), {"HOME": "HOME"})
    "{{ '{' }}{ x }} in {{ HOME }}"
    """
    text = ""
    for at, part in enumerate(value):
        if isinstance(part, Reference):
            text += f"{{{{ {names[part.name]} }}}}"
        else:
            opens = _OPENS_BEFORE_REFERENCE if at + 1 < len(value) else _OPENS
            text += opens.sub("{{ '{' }}", part)
    return text


def render(document: Json | str) -> str:
    """Return the text of a file, with a header by which edited() knows it again."""
    body = document if isinstance(document, str) else to_yaml(document)
    digest = hashlib.sha256(body.encode()).hexdigest()
    words = "Imported by sciops.sites.exports_import; once this file is edited, an import keeps it."
    return f"# {words}\n# sha256:{digest}\n{body}"


def edited(text: str) -> bool:
    """Return True for the text of a file that is not as render() wrote it."""
    found = _HEADER.match(text)
    return found is None or hashlib.sha256(text[found.end() :].encode()).hexdigest() != found.group(1)
