# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of a component: which one proved itself, which one was rejected, and which one a pass works with. Pure.

A version is the hash of a component's configuration and its launchers. The memory keeps of each component

    proven    {component: {"hash", "launcher", "spec"}}        the last one of which an instance lived healthily for its
                                                               healthy_after; spec is what starts it again
    rejected  {component: {"hash", "launcher", "why", "at"}}   a new one that failed while there was a proven one

`launcher` is a mapping as _launcher.normal gives it. A rejected version stays rejected while it is declared, until a
person says `retry_update`; any other declaration ends it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import launcher_for, normal, version

Json = dict[str, Any]

#: What a version is made of. All else (count, classes, priority, limits, gates, match ...) stays as declared.
OF_A_VERSION = (
    "command",
    "environment",
    "secrets",
    "cwd",
    "user",
    "log",
    "draw",
    "vars",
    "launcher",
    "options",
    "container",
    "hash",
    "settle",
    "healthy_after",
)


def effective(declaration: Json, memory: Json) -> Json:
    """Return the declaration that a pass works with: proven versions in the place of rejected ones.

    A component for which that was done has `reverted`: {"hash", "to", "why", "words"}. Neither argument is changed.
    """
    components = declaration.get("components") or {}
    proven = memory.get("proven") or {}
    changed: Json = {}
    for name, bad in (memory.get("rejected") or {}).items():
        spec, good = components.get(name), proven.get(name)
        if spec is None or good is None or spec.get("state") != "on" or not reverts(spec):
            continue
        if version(spec) != version(bad) or version(good) == version(bad):
            continue
        reverted = {"hash": bad["hash"], "to": good["hash"], "why": bad["why"], "words": _words(good, bad)}
        changed[name] = {**spec, **good["spec"], "reverted": reverted}
    return {**declaration, "components": {**components, **changed}} if changed else declaration


def reverts(spec: Json) -> bool:
    """Whether the component goes back to its proven version when a new one fails."""
    return bool((spec.get("update") or {}).get("revert", True))


def _words(good: Json, bad: Json) -> str:
    if good["hash"] != bad["hash"]:
        return f"reverted to {good['hash']}: {bad['hash']} failed: {bad['why']}"
    here, there = (" or ".join(sorted(set(one["launcher"].values()))) for one in (good, bad))
    return f"reverted to launcher {here}: {there} failed: {bad['why']}"


def is_new(memory: Json, declaration: Json, name: str, host: str, instance: Json) -> bool:
    """Whether an instance on a host says something of the declared version that the proven one does not answer for.

    `instance` has `hash` and, where it is not process, `launcher`. Where nothing is proven yet everything is new.
    """
    spec = (declaration.get("components") or {}).get(name) or {}
    where = (declaration.get("hosts") or {}).get(host)
    mine = (instance.get("hash"), launcher_for(instance, None))
    if not mine[0] or mine != (spec.get("hash"), launcher_for(spec, where)):
        return False
    good = memory["proven"].get(name)
    return good is None or mine != (good["hash"], launcher_for(good, where))


def prove(memory: Json, declaration: Json, name: str, host: str, instance: Json) -> None:
    """Take note, in this memory, of an instance that lived healthily for its healthy_after."""
    spec = (declaration.get("components") or {}).get(name)
    if spec is None or not is_new(memory, declaration, name, host, instance):
        return
    bad = memory["rejected"].get(name)
    if bad is None or version(bad) != version(spec):
        # what failed on one host is not proven by another one, only by a person's word
        _keep(memory, name, spec)


def _keep(memory: Json, name: str, spec: Json) -> None:
    if spec.get("vaulted"):
        # no copy is kept of what was encrypted in its file; so this component has nothing to go back to
        memory["proven"].pop(name, None)
        return
    kept = {key: spec[key] for key in OF_A_VERSION if key in spec}
    memory["proven"][name] = {"hash": spec["hash"], "launcher": normal(spec.get("launcher")), "spec": kept}


def may_reject(memory: Json, declaration: Json, name: str) -> bool:
    """Whether there is a version to go back to from the declared one, and the component may."""
    spec, good = (declaration.get("components") or {}).get(name), memory["proven"].get(name)
    return spec is not None and good is not None and reverts(spec) and version(good) != version(spec)


def reject(memory: Json, declaration: Json, name: str, why: str, now: float) -> bool:
    """Reject, in this memory, the version of a component that failed; return whether there is one to go back to."""
    if not may_reject(memory, declaration, name):
        return False
    spec = declaration["components"][name]
    memory["rejected"][name] = {"hash": spec["hash"], "launcher": normal(spec.get("launcher")), "why": why, "at": now}
    return True


def retry(memory: Json, names: Iterable[str]) -> Json:
    """Return the memory after a person said that rejected versions of these components are to be tried again."""
    again = {name for name in names if name in (memory.get("rejected") or {})}
    if not again:
        return memory
    parts = {
        key: {name: one for name, one in (memory.get(key) or {}).items() if name not in again}
        for key in ("rejected", "failures")
    }
    return {**memory, **parts}


def restart(memory: Json, names: Iterable[str], now: float) -> Json:
    """Return the memory after a person said that what runs of these components now is to be replaced.

    It is remembered until the last one is, over as many passes as that takes; saying it again meanwhile is nothing new.
    """
    asked = dict.fromkeys(names, now)
    return {**memory, "restarts": {**asked, **(memory.get("restarts") or {})}} if asked else memory


def tidy(memory: Json, declaration: Json) -> None:
    """Drop, in this memory, versions of components that are gone, and rejections of what is declared no more.

    `declaration` may be the effective one.
    """
    components = declaration.get("components") or {}
    aside = declaration.get("set_aside") or {}
    for name in list(memory["proven"]):
        spec = components.get(name)
        if (spec is None and name not in aside) or (spec is not None and spec.get("state") == "absent"):
            del memory["proven"][name]
        elif spec is not None and version(spec) == version(memory["proven"][name]) and "reverted" not in spec:
            # what is not in the hash may have changed
            _keep(memory, name, spec)
    for name, bad in list(memory["rejected"].items()):
        spec = components.get(name)
        still = spec is not None and reverts(spec) and ("reverted" in spec or version(spec) == version(bad))
        if not (still or name in aside) or name not in memory["proven"]:
            del memory["rejected"][name]
    before = {
        (one["component"], at)
        for known in memory["hosts"].values()
        for one in known["instances"]
        for at in [memory["restarts"].get(one["component"])]
        if at is not None and one["owned"] and one["since"] < at
    }
    on = {name for name, spec in components.items() if spec.get("state") == "on"} | set(aside)
    memory["restarts"] = {name: at for name, at in memory["restarts"].items() if name in on and (name, at) in before}
    for name, entry in list(memory["failures"].items()):
        if entry.get("rejected") and name not in memory["rejected"]:
            del memory["failures"][name]
