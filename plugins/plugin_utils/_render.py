# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates of a component: commands cut into words, the names they use, and the request that starts one instance."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import (
    CONTAINER_DEFAULTS,
    OPTION_DEFAULTS,
    PROCESS,
    launcher_for,
)

NAMES = ("slot", "host", "short_host", "site", "deployment", "pipe", "component", "instance", "site_dir", "vars")
LOG_NAMES = (*NAMES, "epoch")
#: What would begin a line of its own in a file of a manager, or end it.
SEVERAL_LINES = re.compile(r"[\n\r\0]")

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,
)
_ENVIRONMENT.globals.clear()


class RenderError(Exception):
    """A template has no value for this instance; the message names component, place, template and reason."""


@dataclass(frozen=True)
class Used:
    """What templates use: names, and the variables below `vars` (`all_vars`: `vars` as a whole)."""

    names: frozenset[str]
    variables: frozenset[str]
    all_vars: bool


_NOTHING = Used(frozenset(), frozenset(), False)


@functools.lru_cache(maxsize=4096)
def used(template: str) -> Used:
    """The names a template uses; ValueError with the reason where it is no template."""
    if "{" not in template:
        return _NOTHING
    try:
        parsed = _ENVIRONMENT.parse(template)
        _ENVIRONMENT.compile(template)
    except TemplateError as exc:
        raise ValueError(str(exc)) from exc
    variables = set()
    known_accesses = 0
    for node in parsed.find_all((nodes.Getattr, nodes.Getitem)):
        if not isinstance(node, (nodes.Getattr, nodes.Getitem)):
            continue
        if not (isinstance(node.node, nodes.Name) and node.node.name == "vars"):
            continue
        if isinstance(node, nodes.Getattr):
            variables.add(node.attr)
            known_accesses += 1
        elif isinstance(node.arg, nodes.Const):
            variables.add(str(node.arg.value))
            known_accesses += 1
    accesses = sum(1 for name in parsed.find_all(nodes.Name) if name.name == "vars")
    return Used(frozenset(meta.find_undeclared_variables(parsed)), frozenset(variables), accesses > known_accesses)


def split_command(text: str) -> list[str]:
    """The words of a command line, split as a shell does, a template being one letter; ValueError with the reason."""
    pieces: list[str] = []
    kept: list[str] = []
    depth = 0
    try:
        for _line, kind, value in _ENVIRONMENT.lex(text):
            if kind.endswith("_begin"):
                depth += 1
                kept.append("")
                pieces.append(f"\ue000{len(kept) - 1}\ue001")
            if depth:
                kept[-1] += value
            else:
                pieces.append(value)
            if kind.endswith("_end"):
                depth -= 1
    except TemplateError as exc:
        raise ValueError(str(exc)) from exc
    words = shlex.split("".join(pieces))
    for number, template in enumerate(kept):
        words = [word.replace(f"\ue000{number}\ue001", template) for word in words]
    return words


def templates(component: Mapping[str, Any]) -> Iterable[tuple[tuple[str | int, ...], str]]:
    """(place, template) of every template of a compiled component; `epoch` is known in `log.path` only."""
    for index, word in enumerate(component["command"]):
        yield ("command", index), word
    for name, value in component["environment"].items():
        yield ("environment", name), value
    if component["cwd"]:
        yield ("cwd",), component["cwd"]
    if component["log"]["path"]:
        yield ("log", "path"), component["log"]["path"]


def variables(component: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the site variables that templates of the component use, with their values, by name."""
    names: set[str] = set()
    for _place, template in templates(component):
        uses = used(template)
        names |= set(known) if uses.all_vars else uses.variables
    return {name: known[name] for name in sorted(names) if name in known}


def config_hash(component: Mapping[str, Any]) -> str:
    """12 hex digits over all that changes what runs: templates, secret references, account, draw, site variables used.

    Variables of single hosts are left out: the hash is one for the whole fleet. Options of launchers and a container
    count as far as they are not the defaults, so a new key of a later release changes no hash; where an image was
    pulled from does not count beside its digest, nor how many old ones are kept.
    """
    parts = {key: component[key] for key in ("command", "environment", "secrets", "cwd", "user", "draw", "vars")}
    parts["log"] = component["log"]["path"]
    options = {name: _changed(one, OPTION_DEFAULTS[name]) for name, one in (component.get("options") or {}).items()}
    if any(options.values()):
        parts["options"] = {name: one for name, one in options.items() if one}
    if component.get("container"):
        left_out = ("keep", "source") if component["container"]["digest"] else ("keep",)
        container = _changed(component["container"], CONTAINER_DEFAULTS)
        parts["container"] = {key: value for key, value in container.items() if key not in left_out}
    return hashlib.sha256(_canonical(parts)).hexdigest()[:12]


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def draw(of: list[Any], how: str, slot: int, key: tuple[Any, ...]) -> Any:
    """One of the allowed values: by slot in turn, or at random as `key` decides (the same key gives the same value)."""
    if how == "round_robin":
        return of[(slot - 1) % len(of)]
    return of[int.from_bytes(hashlib.sha256(_canonical(list(key))).digest(), "big") % len(of)]


def controller_secrets(component: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, "controller_env" or "controller_file", where) of the secrets whose values the controller must fetch."""
    return [
        (name, kind, where)
        for name, reference in component["secrets"].items()
        for kind, where in reference.items()
        if kind != "file"
    ]


@functools.lru_cache(maxsize=4096)
def _compiled(template: str) -> Template:
    return _ENVIRONMENT.from_string(template)


def start_request(
    declaration: Mapping[str, Any],
    component: str,
    host: str,
    slot: int,
    token: str,
    epoch: int,
    seed: int | str,
    secrets: Mapping[str, str],
) -> dict[str, Any]:
    """What the agent on `host` is asked in order to start one instance.

    `component` is `pipe/name`, `epoch` the unix time for log names, `secrets` the values of `controller_secrets` by
    name. A `log.path` of null stays null: the agent picks one. Raises RenderError where a template has no value or a
    secret is missing.
    """
    declared = declaration["components"][component]
    launcher = launcher_for(declared, declaration["hosts"][host])
    values = {
        "slot": slot,
        "host": host,
        "short_host": host.split(".", 1)[0],
        "site": declaration["site"],
        "deployment": declaration["deployment"],
        "pipe": declared["pipe"],
        "component": declared["name"],
        "instance": f"{declared['pipe']}-{declared['name']}.{slot}",
        "site_dir": str(PurePath(declaration["file"]).parent),
        # those of the component are the same, except where an earlier version of it is started again
        "vars": {**declaration["vars"], **declared.get("vars", {}), **declaration["hosts"][host]["vars"]},
    }
    for name, rule in declared["draw"].items():
        values[name] = draw(rule["of"], rule["how"], slot, (seed, component, token, name))

    def render(place: str, template: str, more: Mapping[str, Any]) -> str:
        try:
            text = _compiled(template).render({**values, **more}) if "{" in template else template
        except Exception as exc:  # any expression of the template may fail in its own way
            raise RenderError(f"{component}: {place}: {template}: {exc} (slot {slot}, {host})") from exc
        if "\0" in text:
            raise RenderError(f"{component}: {place}: {template}: gives a NUL character (slot {slot}, {host})")
        if launcher != PROCESS and place in ("cwd", "log.path") and SEVERAL_LINES.search(text):
            raise RenderError(f"{component}: {place}: {template}: gives more than one line (slot {slot}, {host})")
        return text

    argv = [render(f"command[{index}]", word, {}) for index, word in enumerate(declared["command"])]
    if not argv or not argv[0]:
        raise RenderError(f"{component}: command: gives no program (slot {slot}, {host})")
    references = {}
    for name, reference in declared["secrets"].items():
        if "file" in reference:
            references[name] = {"file": reference["file"]}
        elif name in secrets:
            references[name] = {"value": secrets[name]}
        else:
            where = next(iter(reference.values()))
            raise RenderError(f"{component}: secrets.{name}: {where}: has no value on the controller")
    log = declared["log"]
    return {
        "kind": "start",
        "component": component,
        "slot": slot,
        "token": token,
        "hash": declared["hash"],
        "argv": argv,
        "environment": {
            name: render(f"environment.{name}", value, {}) for name, value in declared["environment"].items()
        },
        "secrets": references,
        "cwd": render("cwd", declared["cwd"], {}) if declared["cwd"] else None,
        "user": declared["user"],
        "log": {
            "path": render("log.path", log["path"], {"epoch": epoch}) if log["path"] else None,
            "max_bytes": log["max_bytes"],
            "keep": log["keep"],
        },
        "settle": declared["settle"],
        "grace": declared["grace"],
        **_launch(declaration, declared, launcher),
    }


def _launch(declaration: Mapping[str, Any], declared: Mapping[str, Any], launcher: str) -> dict[str, Any]:
    """Return what the launcher is told beyond the process; what is empty is left out, requests are small."""
    container = declared.get("container")
    if container:
        container = {**container, "method": container["method"] or ("instance" if launcher == "apptainer" else "run")}
    more = {
        "launcher": "" if launcher == PROCESS else launcher,
        "manager": (declaration.get("launchers") or {}).get(launcher),
        "options": (declared.get("options") or {}).get(launcher),
        "container": container,
        "singleton": bool(declared.get("singleton")),
    }
    return {key: value for key, value in more.items() if value}


def other_request(action: Mapping[str, Any], component: Mapping[str, Any]) -> dict[str, Any]:
    """What the agent is asked in order to stop an instance, to rotate its log, or to queue its successor.

    `component` is the compiled one, or empty where the declaration has it no more.
    """
    request = {key: action.get(key) for key in ("kind", "component", "slot", "token", "pid", "start")}
    if action.get("launcher") not in (None, PROCESS):
        request["launcher"] = action["launcher"]
    if action["kind"] == "rotate":
        request.update(
            {"log": action["log"], "keep": component.get("log", {}).get("keep", 5), "user": component.get("user")}
        )
    elif action["kind"] == "stop":
        request["grace"] = component.get("grace", 10)
    return request
