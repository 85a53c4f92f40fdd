# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a plan's actions are spread over execs, and what their answers mean. Pure. PRIVATE to the collection."""

from __future__ import annotations

import typing as t

from ansible_collections.sciops.sites.plugins.plugin_utils import _wire
from ansible_collections.sciops.sites.plugins.plugin_utils._fleet import fits_class
from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import MANAGER_TIMEOUT, PROCESS, launcher_for

Json = dict[str, t.Any]

#: What an apply may take on a host beyond the host's limit, the settle times and the graces, in seconds.
APPLY_MARGIN = 5.0
#: Outcomes of an action that mean that a host was changed.
ACTED = ("started", "stopped", "rotated", "renewed")


def request_for(declaration: Json, host: str, mode: str, *, known: t.Iterable[str] = (), **more: t.Any) -> Json:
    """Return what the agent on a host is asked; see "The wire" in docs/architecture.md.

    `known` are the launchers of instances that are remembered there: they are asked too, declared or not.
    """
    watched = {
        name: {key: component[key] for key in ("match", "user", "health") if component.get(key)}
        for name, component in declaration["components"].items()
        if component.get("match") or component.get("health")
    }
    request = {"mode": mode, "site": declaration["site"], "deployment": declaration["deployment"], "host": host}
    request = {**request, "components": watched, **more}
    # what a record on a host names and this version does not have stays possible, since nobody can ask about it
    names = {*launchers_on(declaration, host), *(set(known) & set(_wire.LAUNCHERS))} - {PROCESS}
    if names:
        settings = declaration.get("launchers") or {}
        request["launchers"] = {name: settings.get(name, {}) for name in sorted(names)}
    return request


def launchers_on(declaration: Json, host: str) -> set[str]:
    """Return the launchers that components which are on may use on a host."""
    spec = declaration["hosts"].get(host) or {}
    classes = frozenset(spec.get("classes") or ())
    here = [
        component
        for component in declaration["components"].values()
        if component.get("state") == "on" and fits_class(component, classes)
    ]
    # images are apptainer's affair, whoever has the program run in one
    boxes = {"apptainer" for component in here if component.get("container")}
    return {launcher_for(component, spec) for component in here} | boxes


def converged(plan: Json, planned: bool = False, report_undeclared: bool = False) -> bool:
    """Whether every component surely has what it should; with `planned`, would have after the plan's actions.

    With `report_undeclared`, instances that nobody declares are no lack: the policy only reports them. A component that
    was reverted is one: what is declared does not run.
    """
    for component in plan["components"].values():
        if component["state"] == "set_aside" or (component["state"] == "undeclared" and report_undeclared):
            continue  # what is set aside counts below
        if component.get("reverted"):
            return False
        low, high = component["wanted"] if component["state"] == "on" else (0, 0)
        count = component["after"] if planned else component["certain"]
        if component["possible"] != component["certain"] or not low <= count <= high:
            return False
    return not plan["set_aside"]


def waves(actions: t.Sequence[Json]) -> list[list[Json]]:
    """Split actions into waves of 1, 2, 4, ... hosts with starts each; hosts with stops only are all in the first.

    Each host is in one wave, so each changed host costs one exec; a command that cannot run fails on the hosts of a
    small wave and is not tried on the rest (Kubernetes' job and replica set controllers start slowly for the same
    reason).
    """
    starting: dict[str, None] = {}
    for action in actions:
        if action["kind"] == "start":
            starting.setdefault(action["host"])
    wave_of: dict[str, int] = {}
    wave, room = 0, 1
    for host in starting:
        if room == 0:
            wave, room = wave + 1, 2 ** (wave + 1)
        wave_of[host] = wave
        room -= 1
    result: list[list[Json]] = [[] for _index in range(wave + 1)]
    for action in actions:
        result[wave_of.get(action["host"], 0)].append(action)
    return [one for one in result if one]


def replacements(actions: t.Sequence[Json], rolled: t.Collection[str]) -> list[Json]:
    """Return what follows from a saved plan once it is carried out: starts in the place of what it stopped to update.

    `rolled` are the components of which it stopped something so. All else is for a plan that nobody reviewed yet.
    """
    return [one for one in actions if one["kind"] == "start" and one["component"] in rolled]


def apply_time(requests: t.Sequence[Json], launchers: t.Mapping[str, Json] | None = None) -> float:
    """Return how many seconds a host may take beyond its limit: graces side by side, settle times in batches.

    `launchers` are the settings of managers, by name; one that has something to do gets its timeout on top.
    """
    grace = max([float(one.get("grace") or 0) for one in requests if one["kind"] == "stop"] or [0.0])
    starts: dict[str, list[float]] = {}
    for one in requests:
        if one["kind"] == "start":
            starts.setdefault(one["component"], []).append(float(one.get("settle") or 0))
    settle = max([max(settles) * len(settles).bit_length() for settles in starts.values()] or [0.0])
    used = {str(one["launcher"]) for one in requests if one.get("launcher") not in (None, PROCESS)}
    patience = [float((launchers or {}).get(name, {}).get("timeout", MANAGER_TIMEOUT)) for name in used]
    return APPLY_MARGIN + grace + settle + max(patience, default=0.0)


def join_results(actions: t.Sequence[Json], observed: Json) -> list[Json]:
    """Give each action what became of it. Where the host did not answer, a start or stop may have happened: unknown."""
    if "results" in observed:
        return [{**action, **result} for action, result in zip(actions, observed["results"], strict=True)]
    outcome = "refused" if observed.get("kind") == "refused" else "unknown"
    return [{**action, "outcome": outcome, "message": observed["reason"]} for action in actions]


def skip_words(action: Json, failed: set[str]) -> str:
    """Say why an action of the plan was not sent."""
    if action["component"] in failed and action["kind"] == "start":
        return "not tried: an earlier start of this component in this pass failed"
    return "not tried: the pass limit was over"


def went_wrong(result: Json) -> bool:
    """Whether a person should hear of a result; of a batch that ended early its first failure says all."""
    if result["outcome"] == "refused":
        return not str(result.get("message", "")).startswith("not tried")
    return result["outcome"] in ("failed", "unknown", "unstoppable")
