# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interface.json of jadetools: checked, turned into a site file and back, and what in it cannot work."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from ansible_collections.sciops.sites.plugins.plugin_utils._faults import (
    MISSING,
    Fault,
    Problem,
    check,
    dotted,
    named,
    shown,
)

_TYPE = {
    "name": {"type": "string", "minLength": 1},
    "count": {"type": "integer", "minimum": 0, "maximum": 100000},
    "submitter": {"type": "string"},
    "hot": {"type": "boolean"},
    "key": {"type": "string", "minLength": 1},
    "on": {"type": "boolean"},
}
_PIPE = {
    "pipe": {"type": "string", "minLength": 1},
    "description": {"type": "string"},
    "types": {
        "type": "array",
        "items": {"type": "object", "properties": _TYPE, "required": list(_TYPE), "additionalProperties": False},
    },
}
INTERFACE_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "hotlimit": {"type": "integer", "minimum": 0, "maximum": 100000},
        "debuglevel": {"type": "integer"},
        "debugmode": {"type": "boolean"},
        "available": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "string",
                "pattern": r"^[A-Za-z0-9_][A-Za-z0-9_.:-]*$(?!\n)",
                "x-right": "must be the name of a host",
            },
        },
        "pipes": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": _PIPE,
                "required": ["pipe", "types"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["hotlimit", "available", "pipes"],
    "additionalProperties": False,
}

# What the submitters of the deployed jadetools bring into the process table: names of the wrapper and of what it runs.
# An empty list is an empty file.
KNOWN_SUBMITTERS: dict[str, tuple[str, ...]] = {
    "bundlerboost": ("pipe0bundler", "pipe0-bundler.sh"),
    "checkboost": ("onecheck", "check", "InterfaceLTA.py"),
    "delboost": ("pipe0-deleter", "pipe0-deleter.sh"),
    "gridftpboost": ("pipe0gridftp", "pipe0-gridftp-replicator.sh"),
    "ratelimitboost": ("pipe0-rate-limiter", "pipe0-rate-limiter.sh"),
    "delmadboost": ("onedelete", "maddelete", "AutoFiles.py"),
    "smrboost": ("sm-verifier-return", "smr"),
    "delretboost": ("deleter-return", "delret"),
    "unpackboost": ("unpacker",),
    "gridftp1boost": ("pipe1gridftp", "pipe1-gridftp-replicator.sh"),
    "bundler2boost": ("pipe2bundler", "pipe2-bundler.sh"),
    "deleter2boost": ("pipe2-deleter", "pipe2-deleter.sh"),
    "gridftp2boost": ("pipe2gridftp", "pipe2-gridftp-replicator.sh"),
    "ratelimit2boost": ("pipe2-rate-limiter", "pipe2-rate-limiter.sh"),
    "sitemovever2boost": ("pipe2-site-move-verifier", "pipe2-site-move-verifier.sh"),
    "desyverify2boost": ("pipe2-desy-verifier", "pipe2-desy-verifier.sh"),
    "delmad2boost": (),
}
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_INTERPRETERS = r"(?:ba|da|k|z)?sh|python[0-9.]*|perl"


def parse_interface(text: str, file: str) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The configuration in an Interface.json, or None and every fault with its path (`pipes[0].types[2].count`)."""
    twice: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [key for key, _value in items]
        twice.extend(sorted({key for key in names if names.count(key) > 1}))
        return dict(items)

    def never(word: str) -> Any:
        raise ValueError(f"{word} is not a number of JSON")

    if not text.strip():
        return None, [Problem(file, 0, "", "", "is empty")]
    try:
        data = json.loads(text, object_pairs_hook=pairs, parse_constant=never)
    except json.JSONDecodeError as exc:
        return None, [Problem(file, exc.lineno, "", "", f"is not valid JSON: {exc.msg} (column {exc.colno})")]
    except (ValueError, RecursionError) as exc:
        return None, [Problem(file, 0, "", "", f"is not valid JSON: {exc}")]
    faults = [Fault((key,), MISSING, "the key is given twice in one object") for key in twice]
    faults += check(INTERFACE_SCHEMA, data)
    problems = [Problem(file, 0, dotted(fault.path), shown(fault.value), fault.message) for fault in faults]
    return (None, problems) if problems else (data, [])


def match_of(key: str) -> list[list[str]]:
    """The anchored `match` for what `key` was meant to find: an interpreter that runs a script named like the key.

    The name may be longer by lowercase letters and hyphens, and have an ending: `pipe0-delete` finds pipe0-deleter.sh,
    `AutoFiles` does not find AutoFiles2.py.
    """
    return [[_INTERPRETERS, re.escape(key).replace(r"\-", "-") + r"[a-z-]*(?:\.[a-z0-9]+)?"]]


def import_interface(
    config: Mapping[str, Any],
    site: str,
    deployment: str | None = None,
    home: str = "/home/jadelta",
    log_dir: str | None = None,
) -> dict[str, Any]:
    """The site document that wishes what the configuration wishes. `legacy` keeps what an export needs.

    `home` is the account's home, where the submitters lie; with `log_dir` logs are named as jadetools named them.
    """
    document: dict[str, Any] = {"plugin": "sciops.sites.site", "site": site}
    if deployment:
        document["deployment"] = deployment
    hosts = list(dict.fromkeys(config["available"]))
    document["hosts"] = {host: {"hot_limit": config["hotlimit"]} for host in hosts}
    if log_dir:
        name = "{{ pipe }}-{{ component }}.{{ slot }}.run.{{ short_host }}.{{ epoch }}.log"
        document["defaults"] = {"log": {"path": f"{log_dir.rstrip('/')}/{name}"}}
    pipes: dict[str, Any] = {}
    for pipe in config["pipes"]:
        components: dict[str, Any] = {}
        for kind in pipe["types"]:
            name = _free(kind["name"], components)
            components[name] = _component(kind, name, home)
        name = _free(pipe["pipe"], pipes)
        entry: dict[str, Any] = {}
        if "description" in pipe:
            entry["description"] = pipe["description"]
        if name != pipe["pipe"]:
            entry["legacy"] = {"pipe": pipe["pipe"]}
        pipes[name] = {**entry, "components": components}
    document["pipes"] = pipes
    document["legacy"] = {key: config[key] for key in ("hotlimit", "debuglevel", "debugmode") if key in config}
    if hosts != config["available"]:
        document["legacy"]["available"] = list(config["available"])
    return document


def _component(kind: Mapping[str, Any], name: str, home: str) -> dict[str, Any]:
    component: dict[str, Any] = {"count": kind["count"]}
    if kind["hot"]:
        component["hot"] = True
    component["state"] = "on" if kind["on"] else "off"
    submitter = kind["submitter"].strip()
    if submitter:
        component["command"] = [f"{home.rstrip('/')}/{submitter}"]
    component["match"] = match_of(kind["key"])
    component["adopt"] = True
    component["legacy"] = {"submitter": kind["submitter"], "key": kind["key"]}
    if name != kind["name"]:
        component["legacy"]["name"] = kind["name"]
    return component


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """A name that a site file takes and that nothing has yet."""
    good = name if named(name) else ("x" + re.sub(r"[^A-Za-z0-9_.-]", "-", name))[:60]
    number = 2
    found = good
    while found in taken:
        found = f"{good[:58]}-{number}"
        number += 1
    return found


def export_interface(document: Mapping[str, Any]) -> dict[str, Any]:
    """The Interface.json that an imported site document (changed or not) stands for; ValueError where there is none."""
    legacy = document.get("legacy") or {}
    hosts = document.get("hosts") or {}
    limits = {(host or {}).get("hot_limit") for host in hosts.values()} or {legacy.get("hotlimit")}
    if len(limits) != 1 or not isinstance(next(iter(limits)), int):
        raise ValueError("hosts: hot_limit: must be the same whole number for all hosts to be one hotlimit")
    config: dict[str, Any] = {"hotlimit": next(iter(limits))}
    config.update({key: legacy[key] for key in ("debuglevel", "debugmode") if key in legacy})
    before = legacy.get("available", [])
    config["available"] = list(before) if list(dict.fromkeys(before)) == list(hosts) else list(hosts)
    config["pipes"] = []
    for pipe, entry in (document.get("pipes") or {}).items():
        exported: dict[str, Any] = {"pipe": (entry.get("legacy") or {}).get("pipe", pipe)}
        if "description" in entry:
            exported["description"] = entry["description"]
        exported["types"] = []
        for name, component in (entry.get("components") or {}).items():
            place = f"pipes.{pipe}.components.{name}"
            kept = component.get("legacy") or {}
            if "key" not in kept or "submitter" not in kept:
                raise ValueError(f"{place}.legacy: must have submitter and key")
            count = component.get("count", 1)
            if not isinstance(count, int):
                raise ValueError(f"{place}.count: {count}: a range has no form in Interface.json")
            exported["types"].append(
                {
                    "name": kept.get("name", name),
                    "count": count,
                    "submitter": kept["submitter"],
                    "hot": bool(component.get("hot", False)),
                    "key": kept["key"],
                    "on": component.get("state", "on") in ("on", True),
                }
            )
        config["pipes"].append(exported)
    return config


def to_yaml(document: Mapping[str, Any]) -> str:
    """The document as YAML text, keys in their order."""
    return str(
        yaml.dump(dict(document), Dumper=_DUMPER, sort_keys=False, width=118, allow_unicode=True, explicit_start=True)
    )


def findings(
    config: Mapping[str, Any], processes: Iterable[str] | None = None, submitters: Mapping[str, str] | None = None
) -> list[str]:
    """What in the configuration cannot work, each in one sentence.

    `processes` are lines of a process list taken while everything ran, `submitters` the texts of the submitter scripts
    by name. Without them, what the submitters of the deployed jadetools show is known by their names.
    """
    kinds = [
        (f"pipes[{i}].types[{j}]", f"{pipe['pipe']}_{kind['name']}", kind)
        for i, pipe in enumerate(config["pipes"])
        for j, kind in enumerate(pipe["types"])
    ]
    lines = list(processes) if processes is not None else None
    said: list[str] = []
    counters: dict[str, str] = {}
    for place, counter, kind in kinds:
        if counter in counters:
            said.append(f"{place}: the counter {counter} is also that of {counters[counter]}; each counts for both")
        counters.setdefault(counter, place)
        said += [f"{place}.submitter: {text}" for text in _submitter_findings(kind, submitters)]
        said += [f"{place}.key: {kind['key']}: {text}" for text in _key_findings(kind, lines, submitters)]
        for other_place, other_counter, other in kinds:
            if (
                other_place != place
                and kind["key"] in other["key"]
                and (kind["key"] != other["key"] or other_place > place)
            ):
                same = "is also the key of" if kind["key"] == other["key"] else f"lies inside the key {other['key']} of"
                said.append(f"{place}.key: {kind['key']}: {same} {other_counter}; one process counts for both")
    repeated = [host for host in dict.fromkeys(config["available"]) if config["available"].count(host) > 1]
    return said + [f"available: {host}: is listed twice; it is kept once, at its first place" for host in repeated]


def _submitter_findings(kind: Mapping[str, Any], submitters: Mapping[str, str] | None) -> list[str]:
    name = kind["submitter"]
    if not name.strip():
        return ["is empty; nothing can be started"]
    if re.search(r"[^A-Za-z0-9_./+-]", name):
        return [f"{name}: holds characters that a shell would have read; it is run as one word"]
    if submitters is not None and name not in submitters:
        return [f"{name}: there is no such file; every start fails"]
    empty = not submitters[name].strip() if submitters is not None else KNOWN_SUBMITTERS.get(name) == ()
    return [f"{name}: is an empty file; a start succeeds and nothing runs"] if empty else []


def _key_findings(kind: Mapping[str, Any], lines: list[str] | None, submitters: Mapping[str, str] | None) -> list[str]:
    key = kind["key"]
    said = ["has spaces; match it by hand"] if re.search(r"\s", key) else []
    if lines is not None:
        seen = sum(key in line for line in lines)
        strict = sum(_matches(key, line) for line in lines)
        if not seen and kind["on"]:
            said.append("is in no line of the process list; it was never seen, and started again in every pass")
        elif seen > strict:
            said.append(f"is in {seen} lines of the process list, {strict} of them a script of that name")
    elif kind["submitter"] in KNOWN_SUBMITTERS and (submitters is None or kind["submitter"] in submitters):
        shows = KNOWN_SUBMITTERS[kind["submitter"]]
        seen = sum(key in name for name in shows)
        if not seen:
            runs = f"{kind['submitter']} runs {', '.join(shows)}" if shows else f"{kind['submitter']} runs nothing"
            said.append(f"is never seen, {runs}; it was started again in every pass")
        elif seen > 1:
            said.append(f"matches twice, {kind['submitter']} runs {', '.join(shows)}; one instance counted as {seen}")
    return said


def _matches(key: str, line: str) -> bool:
    """True where the line holds an interpreter followed by the script that `match_of` finds."""
    ((interpreter, script),) = match_of(key)
    words = [word.rsplit("/", 1)[-1] for word in line.split()]
    return any(
        re.fullmatch(interpreter, first) and re.fullmatch(script, second) for first, second in itertools.pairwise(words)
    )
