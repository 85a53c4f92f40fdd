# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One component of a declaration: filled in, and checked against the rest of its site."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _render
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import MISSING, Fault, hint, octets, seconds
from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import (
    CONTAINER_DEFAULTS,
    DEFAULT,
    OPTION_DEFAULTS,
    PROCESS,
    normal,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._schema import HEALTH_DEFAULTS

HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")


def words(command: str | list[Any]) -> list[str]:
    """The words of a command given as text or as a list; ValueError with the reason."""
    return _render.split_command(command) if isinstance(command, str) else [str(word) for word in command]


def compile_component(
    pipe: str, name: str, order: int, given: Mapping[str, Any], declaration: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Fault]]:
    """The component as a declaration holds it, and its faults (paths count from the component).

    `given` fits the schema and has the defaults under it; `declaration` has the hosts, shared limits, gates and vars.
    """
    faults: list[Fault] = []
    state = {True: "on", False: "off"}.get(given["state"], given["state"])
    launcher = normal(given["launcher"])
    component: dict[str, Any] = {
        "pipe": pipe,
        "name": name,
        "order": order,
        "description": given["description"],
        "state": state,
        "count": _count(given["count"], faults),
        "load": float(given["load"] if given["load"] is not None else given["hot"]),
        "memory": octets(given["memory"]),
        "uses": given.get("uses") or {},
        "max_per_host": given["max_per_host"],
        "classes": given["classes"],
        "avoid": given["avoid"],
        "priority": given["priority"],
        "singleton": given["singleton"],
        "launcher": launcher,
        "options": _options(given.get("options") or {}, launcher, faults),
        "container": _container(given["container"], launcher, faults),
        "update": given["update"],
        "command": _words(given.get("command"), ("command",), faults),
        "environment": {key: str(value) for key, value in (given.get("environment") or {}).items()},
        "secrets": given.get("secrets") or {},
        "cwd": given["cwd"],
        "user": given["user"],
        "log": {**given["log"], "max_bytes": octets(given["log"]["max_bytes"])},
        "grace": seconds(given["grace"]),
        "settle": seconds(given["settle"]),
        "healthy_after": seconds(given["healthy_after"]),
        "match": given["match"],
        "adopt": given["adopt"],
        "health": _health(given.get("health") or {}, faults),
        "gates": given["gates"],
        "draw": {
            key: {"of": rule.get("of", []), "how": rule.get("how", "random")}
            for key, rule in (given.get("draw") or {}).items()
        },
        "legacy": given.get("legacy") or {},
        "vars": {},
        "vaulted": False,
    }
    if state == "on" and "command" not in given:
        faults.append(Fault(("command",), MISSING, "is missing; what shall run?"))
    if component["singleton"] and component["count"]["max"] > 1:
        faults.append(Fault(("count",), given["count"], "a singleton has a count of 1 or 0"))
    _references(component, declaration, faults)
    _one_line(component, faults)
    _templates(component, declaration, faults)
    if not faults:
        component["vars"] = _render.variables(component, declaration["vars"])
        component["hash"] = _render.config_hash(component)
    return component, faults


def _count(count: Any, faults: list[Fault]) -> dict[str, int]:
    if not isinstance(count, Mapping):
        return {"min": int(count), "max": int(count)}
    if set(count) != {"min", "max"}:
        faults.append(Fault(("count",), dict(count), "a range has both min and max"))
        return {"min": 0, "max": 0}
    if count["min"] > count["max"]:
        faults.append(Fault(("count",), dict(count), "min must not be more than max"))
    return {"min": int(count["min"]), "max": int(count["max"])}


def _words(command: Any, path: tuple[str, ...], faults: list[Fault]) -> list[str]:
    try:
        found = words(command) if command is not None else []
    except ValueError as exc:
        faults.append(Fault(path, command, f"cannot be split into words: {exc}"))
        return []
    if command is not None and not (found and found[0]):
        faults.append(Fault(path, command, "names no program"))
    if any("\0" in word for word in found):
        faults.append(Fault(path, command, "must not hold a NUL character"))
    return found


def _health(health: Mapping[str, Any], faults: list[Fault]) -> dict[str, Any]:
    if not set(health) - {"timeout"}:
        return {}
    compiled = {**HEALTH_DEFAULTS, **health}
    for key in ("log_age", "timeout"):
        if key in compiled:
            compiled[key] = seconds(compiled[key])
    if "command" in compiled:
        compiled["command"] = _words(compiled["command"], ("health", "command"), faults)
        if any("{{" in word or "{%" in word for word in compiled["command"]):
            faults.append(Fault(("health", "command"), health["command"], "is the same for all instances, no template"))
    return compiled


_DURATIONS = (
    *("startsecs", "restart_sec", "start_limit_interval", "time", "handover", "reservation_margin"),
    *("margin", "hold_limit", "lease"),
)


def _options(given: Mapping[str, Any], launcher: Mapping[str, str], faults: list[Fault]) -> dict[str, Any]:
    """The options of the launchers that the component names, filled in; those of others say nothing here."""
    compiled: dict[str, Any] = {}
    for name in sorted(set(launcher.values()) & set(OPTION_DEFAULTS)):
        options = {**OPTION_DEFAULTS[name], **given.get(name, {})}
        for key in _DURATIONS:
            if options.get(key) is not None:
                options[key] = seconds(options[key])
        for key in ("memory", "disk"):
            if options.get(key) is not None:
                options[key] = octets(options[key])
        if options.get("restart") is False:
            options["restart"] = "no"
        if "drop_in" in options:
            options["drop_in"] = {
                section: {key: str(value) for key, value in settings.items()}
                for section, settings in options["drop_in"].items()
            }
        compiled[name] = options
    for name in ("slurm", "htcondor"):
        handover = (compiled.get(name) or {}).get("handover")
        if handover:
            place, limit = ("options", name, "handover"), compiled[name]["time"]
            if limit is None:
                text = f"needs a walltime to count back from; say options.{name}.time"
                faults.append(Fault(place, handover, text))
            elif handover >= limit:
                faults.append(Fault(place, handover, f"must be less than the walltime (time), which is {limit}"))
    slurm = compiled.get("slurm") or {}
    if slurm.get("reservation_words") and slurm["time"] is None:
        text = "need a walltime that may be cut before a reservation; say options.slurm.time"
        faults.append(Fault(("options", "slurm", "reservation_words"), slurm["reservation_words"], text))
    return compiled


def _container(
    given: Mapping[str, Any] | None, launcher: Mapping[str, str], faults: list[Fault]
) -> dict[str, Any] | None:
    words = set(launcher.values())
    if given is None:
        if "apptainer" in words:
            faults.append(Fault(("container",), MISSING, "is missing; launcher apptainer needs {image: path of a SIF}"))
        return None
    container = {**CONTAINER_DEFAULTS, **given}
    if "image" not in given:
        faults.append(Fault(("container", "image"), MISSING, "is missing; the path of a SIF on the host"))
    if PROCESS in words:
        faults.append(
            Fault(
                ("container",),
                MISSING,
                "cannot be used with launcher process; use apptainer, systemd, supervisord, slurm or htcondor, "
                "or no container",
            )
        )
    if container["method"] == "instance" and not words <= {"apptainer", "systemd"}:
        right = "leaves its launcher; use run or exec except under apptainer and systemd"
        faults.append(Fault(("container", "method"), "instance", right))
    for key in ("image", "source", "binds", "options"):
        value = container.get(key) or []
        texts: list[str] = [value] if isinstance(value, str) else value
        for text in texts:
            if "{{" in text or "{%" in text:
                faults.append(Fault(("container", key), text, "is the same for all instances, no template"))
    return container


def _references(component: Mapping[str, Any], declaration: Mapping[str, Any], faults: list[Fault]) -> None:
    """Names that must be defined elsewhere in the site."""
    for limit in component["uses"]:
        if limit not in declaration["shared_limits"]:
            known = declaration["shared_limits"]
            faults.append(Fault(("uses", limit), MISSING, f"no such limit in shared_limits, {hint(limit, known)}"))
    for index, gate in enumerate(component["gates"]):
        if gate not in declaration["gates"]:
            faults.append(Fault(("gates", index), gate, f"no such gate in gates, {hint(gate, declaration['gates'])}"))
    classes = {name for host in declaration["hosts"].values() for name in host["classes"]}
    for index, name in enumerate(component["classes"]):
        if name not in classes:
            faults.append(Fault(("classes", index), name, f"no host has this class, {hint(name, classes)}"))
    if DEFAULT not in component["launcher"]:
        right = "is missing; the launcher of hosts of which no class is named here"
        faults.append(Fault(("launcher", DEFAULT), MISSING, right))
    for name in component["launcher"]:
        if name != DEFAULT and name not in classes:
            faults.append(Fault(("launcher", name), MISSING, f"no host has this class, {hint(name, classes)}"))
    if "SCIOPS_SITES" in {*component["environment"], *component["secrets"]}:
        faults.append(
            Fault(("environment", "SCIOPS_SITES"), MISSING, "is the marker of instances, it cannot be declared")
        )
    for name in component["secrets"]:
        if name in component["environment"]:
            faults.append(Fault(("secrets", name), MISSING, "is declared in environment too"))


def _one_line(component: Mapping[str, Any], faults: list[Fault]) -> None:
    """What managers are told in their own files must stay on its line there."""
    if set(component["launcher"].values()) == {PROCESS}:
        return
    for place, text in ((("cwd",), component["cwd"]), (("log", "path"), component["log"]["path"])):
        if text and _render.SEVERAL_LINES.search(text):
            faults.append(Fault(place, text, "must be text on one line, without a NUL character"))


def _templates(component: Mapping[str, Any], declaration: Mapping[str, Any], faults: list[Fault]) -> None:
    """Templates that cannot be read, and names in them that nothing defines."""
    for name, rule in component["draw"].items():
        if name in _render.LOG_NAMES:
            faults.append(Fault(("draw", name), MISSING, "is the name of something else in templates"))
        if not rule["of"]:
            faults.append(Fault(("draw", name, "of"), MISSING, "is missing; the values to draw from"))
    variables = set(declaration["vars"]).union(*(host["vars"] for host in declaration["hosts"].values()))
    for place, template in _render.templates(component):
        try:
            used = _render.used(template)
        except ValueError as exc:
            faults.append(Fault(place, template, f"is not a template: {exc}"))
            continue
        known = {*(_render.LOG_NAMES if place == ("log", "path") else _render.NAMES), *component["draw"]}
        for name in sorted(used.names - known):
            faults.append(Fault(place, template, f"undefined variable {name}, {hint(name, known)}"))
        for name in sorted(used.variables - variables):
            faults.append(Fault(place, template, f"undefined variable vars.{name}, {hint(name, variables)}"))
