# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of continuous integration: one for each site and deployment, first as a plain list, then in a dialect. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._jadetools import to_yaml

Json = dict[str, Any]

#: The first rule that fits a target makes its job.
RULES: list[Json] = [
    {"deployment": "dev", "tag": "dev"},
    {"deployment": "staging", "launch": "scrontab", "branch": "release/*"},
    {"deployment": "staging", "branch": "release/*", "allow_failure": True},
    {"deployment": "prod", "branch": "release/*", "when": "manual"},
]

_CONDITIONS = ("deployment", "site", "install", "launch")
_REF = re.compile(r"[A-Za-z0-9._/-]+\*?|\*")
_HEADER = "# Made by sciops.sites.ci_matrix from the inventory; not to be edited.\n"


@dataclass(frozen=True)
class Target:
    """One target of the inventory. `install` and `launch` are None where nobody told."""

    host: str
    system: str
    site: str
    deployment: str
    install: str | None
    launch: str | None


def jobs(targets: Iterable[Target], rules: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Return the jobs, by site, and in the order of the rules within a site.

    A job is {"name", "system", "site", "deployment", "hosts", "when": "automatic" | "manual", "allow_failure",
    "ref": {"tag": name} | {"branch": pattern}}. A `*` at the end of a pattern stands for any characters.
    Raises ValueError with all faults.
    """
    faults = [fault for index, rule in enumerate(rules) for fault in _faults(index, rule)]
    found: dict[str, Json] = {}
    order: dict[str, int] = {}
    for one in sorted(targets, key=lambda one: (one.site, one.deployment, one.host)) if not faults else ():
        try:
            index = next((index for index, rule in enumerate(rules) if _fits(one, rule)), None)
        except ValueError as error:
            faults.append(str(error))
            continue
        if index is None:
            faults.append(f"{one.host}: no rule fits deployment {one.deployment}; add one to rules")
            continue
        rule = rules[index]
        name = f"deploy-{one.site}-{one.deployment}"
        job: Json = {
            "name": name,
            "system": one.system,
            "site": one.site,
            "deployment": one.deployment,
            "hosts": [],
            "when": rule.get("when") or "automatic",
            "allow_failure": bool(rule.get("allow_failure")),
            "ref": {kind: rule[kind] for kind in ("tag", "branch") if rule.get(kind)},
        }
        known = found.setdefault(name, job)
        if {**known, "hosts": []} != job:
            faults.append(f"{one.host}: {name} would be two different jobs, the other for {known['hosts'][0]}")
        known["hosts"].append(one.host)
        order[name] = index
    if faults:
        raise ValueError("the jobs cannot be made:" + "".join(f"\n  {fault}" for fault in faults))
    return sorted(found.values(), key=lambda job: (job["site"], order[job["name"]], job["name"]))


def _faults(index: int, rule: Mapping[str, Any]) -> list[str]:
    refs = [kind for kind in ("tag", "branch") if rule.get(kind)]
    if len(refs) != 1:
        return [f"rules[{index}]: must have one of tag and branch"]
    if not _REF.fullmatch(rule[refs[0]]):
        right = "must be letters, digits, '.', '_', '/' and '-', with a * at the end if at all"
        return [f"rules[{index}].{refs[0]}: {rule[refs[0]]}: {right}"]
    return []


def _fits(one: Target, rule: Mapping[str, Any]) -> bool:
    """Return True where each condition of the rule holds. ValueError where one cannot be answered."""
    for key in _CONDITIONS:
        if rule.get(key):
            value = getattr(one, key)
            if value is None:
                raise ValueError(f"{one.host}: a rule asks for its {key} method, which is in none of its variables")
            if value != rule[key]:
                return False
    return True


def gitlab(found: Sequence[Json], command: str) -> str:
    """Return a file for `include` in a configuration of GitLab CI."""
    document: Json = {".sciops-sites-deploy": {"stage": "deploy", "script": [command]}}
    for job in found:
        rule = {
            "if": _gitlab_if(*next(iter(job["ref"].items()))),
            "when": "manual" if job["when"] == "manual" else "on_success",
            # without it a job that nobody asks for would hold up the pipeline
            "allow_failure": job["allow_failure"] or job["when"] == "manual",
        }
        document[job["name"]] = {
            "extends": ".sciops-sites-deploy",
            "variables": _variables(job),
            "environment": {"name": f"{job['site']}/{job['deployment']}"},
            # never two deploys to one target at a time
            "resource_group": job["name"],
            "rules": [rule],
        }
    return _HEADER + to_yaml(document)


def _gitlab_if(kind: str, pattern: str) -> str:
    variable = "$CI_COMMIT_TAG" if kind == "tag" else "$CI_COMMIT_BRANCH"
    if not pattern.endswith("*"):
        return f'{variable} == "{pattern}"'
    return f"{variable} =~ /^{re.escape(pattern[:-1]).replace('/', chr(92) + '/')}/"


def github(found: Sequence[Json], command: str) -> str:
    """Return a workflow of GitHub Actions. A job on request is started by hand, with the name of the job as input."""
    push: dict[str, list[str]] = {}
    for job in found:
        for kind, pattern in job["ref"].items():
            # a single * ends at a slash there
            wide = f"{pattern}*" if pattern.endswith("*") else pattern
            names = push.setdefault("tags" if kind == "tag" else "branches", [])
            names += [] if job["when"] == "manual" or wide in names else [wide]
    document: Json = {
        "name": "deploy",
        "on": {
            "push": {kind: sorted(names) for kind, names in push.items() if names},
            "workflow_dispatch": {"inputs": {"job": {"description": "Name of the job to run", "required": True}}},
        },
        "permissions": {"contents": "read"},
        "jobs": {},
    }
    for job in found:
        here = _github_ref(*next(iter(job["ref"].items())))
        asked = f"github.event_name == 'workflow_dispatch' && inputs.job == '{job['name']}'"
        condition = asked if job["when"] == "manual" else f"(github.event_name == 'push' || {asked})"
        document["jobs"][job["name"]] = {
            "if": f"{condition} && {here}",
            "runs-on": "self-hosted",
            "environment": f"{job['site']}-{job['deployment']}",
            "concurrency": {"group": job["name"], "cancel-in-progress": False},
            "continue-on-error": job["allow_failure"],
            "env": _variables(job),
            "steps": [{"uses": "actions/checkout@v4"}, {"run": command}],
        }
    return _HEADER + to_yaml(document)


def _github_ref(kind: str, pattern: str) -> str:
    full = f"refs/{'tags' if kind == 'tag' else 'heads'}/{pattern}"
    return f"startsWith(github.ref, '{full[:-1]}')" if full.endswith("*") else f"github.ref == '{full}'"


def _variables(job: Json) -> Json:
    return {
        "SCIOPS_SITES_SITE": job["site"],
        "SCIOPS_SITES_DEPLOYMENT": job["deployment"],
        "SCIOPS_SITES_LIMIT": ",".join(job["hosts"]),
    }


#: A dialect is a function of the jobs and of the command that deploys what $SCIOPS_SITES_LIMIT names.
DIALECTS: dict[str, Callable[[Sequence[Json], str], str]] = {"gitlab": gitlab, "github": github}
