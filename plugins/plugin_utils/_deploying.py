# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host of a target is asked for, and what became of it, in words. Nothing but compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.sciops.sites.plugins.module_utils import (
    _installs,
    _launches,
    _release,
    _switching,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import Problem

Json = dict[str, Any]


class Unusable(Exception):
    """A target cannot be used; the message has every fault."""


def usable(host: str, problems: Sequence[Problem]) -> None:
    """Raise where something is wrong, with every fault."""
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise Unusable(f"{host}: nothing was touched:{lines}")


def root_of(target: Json, problems: Sequence[Problem]) -> str:
    """The folder of a target. What is missing of the rest is needed to deploy, not to start or to go back."""
    if not target.get("root"):
        usable(target["host"], [problem for problem in problems if problem.fatal])
        raise Unusable(f"{target['file']}: root: is not declared")
    return str(target["root"])


def nested(section: Mapping[str, Any]) -> Json:
    """`install` or `launch` of a target with the settings of its method under the method's name."""
    method = section["method"]
    settings = {key: value for key, value in section.items() if key != "method"}
    return {"method": method} if method == "none" else {"method": method, method: settings}


def install(target: Json) -> tuple[Json, Json]:
    """(`install` of a target without secrets, the secrets of its method)."""
    found = nested(target["install"])
    method = found["method"]
    if method not in _installs.METHODS:
        return found, {}
    secret = _installs.METHODS[method].SECRETS
    hidden = {key: value for key, value in found[method].items() if key in secret}
    found[method] = {key: value for key, value in found[method].items() if key not in secret}
    return found, hidden


def check_options(target: Json) -> Json:
    """The options of host_check."""
    parts = {key: target[key] for key in ("checks", "services")}
    return {**parts, "install": install(target)[0], "launch": nested(target["launch"])}


def build_options(target: Json, requirements: str | None) -> Json:
    """The options of release_build; `requirements` is the text of the file that the settings name."""
    found, secrets = install(target)
    settings = found[found["method"]]
    if requirements is not None:
        settings["requirements"] = requirements
    place = {"root": target["root"], "version": target["version"]}
    return {**place, "method": found["method"], "settings": settings, "secrets": secrets}


def manifest(target: Json, build: Json | None, files: Sequence[Json]) -> Json:
    """What the host is to make live: the release with the prints of its services."""
    entries = [_release.entry(one) for one in files]
    texts = {one["dest"]: one["content"] for one in files}
    launch, services = nested(target["launch"]), target["services"]
    try:
        definitions = _launches.definitions(launch, services, texts)
    except _launches.Failure as error:
        raise Unusable(f"{target['host']}: nothing was touched: {error}") from error
    made: Json = _switching.manifest(target["version"], build, entries, launch, services, definitions)
    return made


def told(host: str, result: Mapping[str, Any], check: bool) -> str:
    """One line of what became of a target, for people."""
    if result.get("failed"):
        return f"{host}: FAILED in step {result.get('failed_step', '?')}: {result.get('msg')}"
    if "release" not in result:
        return f"{host}: checked, {result['files']} files render"
    live, before = result.get("release") or "nothing", result.get("previous")
    words = [f"{host}: {live} {'would be' if check and result['changed'] else 'is'} live"]
    if before and before != live:
        words.append(f"before {before}")
    for key, word in (("drift", "put right"), ("stopped", "stopped"), ("started", "started"), ("kept", "kept")):
        if result.get(key):
            words.append(f"{word} {', '.join(result[key])}")
    if result.get("downtime") is not None:
        words.append(f"down for {result['downtime']:.2f} s")
    words += filter(None, [result.get("recovered"), *result.get("notes", [])])
    return "; ".join(words if result["changed"] or result.get("notes") else [words[0], "unchanged"])


def seen(host: str, result: Mapping[str, Any]) -> str:
    """One line of what is live at a target, for people."""
    if result.get("failed"):
        return f"{host}: UNKNOWN: {result.get('msg')}"
    if not result["release"]:
        return f"{host}: nothing is deployed"
    words = [f"{host}: {result['release']}"]
    for name, one in result["services"].items():
        words.append(f"{name} {one['state']}" + (f" ({one['why']})" if one["why"] else ""))
    words += [f"{path}: {why}" for path, why in result["drift"].items()]
    words += [f"{name} may run an old configuration" for name in result["doubtful"]]
    if result["stopped"]:
        words.append("stopped by {by}: {reason}".format(**result["stopped"]))
    if result["busy"]:
        words.append("a change is under way")
    if result["cut_off"]:
        words.append(f"a change was cut off in step {result['cut_off']}")
    return "; ".join(words)
