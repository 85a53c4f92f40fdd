# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The older generation: one flat file of <deployment>_NAME, <SITE>_NAME and CENTRAL_NAME, as three systems. Pure.

A site had two supervisords, for the services of the site and for their backend, and all sites had one central one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _exports, _exports_write, _source
from ansible_collections.sciops.sites.plugins.plugin_utils._exports import SECRET, Layers, Reference, Value, join
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import Problem

Json = dict[str, Any]

CENTRAL = "central"
_CENTRAL_PORTS = {"dev": 64121, "staging": 64122, "prod": 64123}
_SITE = re.compile(r"(.+?)_INSTALL_BASEDIR")
_NOT_A_SITE = "_CLIENT_INSTALL_BASEDIR"
_REFERENCE = re.compile(r"\$\$|\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_VALUE_RIGHT = "must be text or a number, or a mapping with `value`"


@dataclass(frozen=True)
class _Program:
    """A program of a supervisord. `after` are programs that must run first; times are seconds."""

    name: str
    priority: int = 999
    startsecs: int = 3
    stopwaitsecs: int = 10
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Kind:
    """One of the supervisords: the variable with its port, its folder below INSTALL_BASEDIR, its programs."""

    port: str
    ports: tuple[str, ...]
    folder: str
    conf: str
    programs: tuple[_Program, ...]


_KINDS = {
    "site": _Kind(
        "SUPERVISOR_PORT",
        ("JAWS_SUPERVISOR_PORT",),
        "jaws-{{ deployment }}",
        "supervisord-jaws",
        (_Program("jaws-site-daemon"), _Program("jaws-site-jtm-rpc"), _Program("jaws-site-central-rpc")),
    ),
    "backend": _Kind(
        "JTM_SUPERVISOR_PORT",
        ("JTM_SUPERVISOR_PORT", "CROMWELL_PORT"),
        "jaws-supervisord-{{ deployment }}",
        "supervisord-jtm",
        (
            _Program("jaws-jtm", priority=1),
            _Program("jaws-cromwell", priority=9, startsecs=10, stopwaitsecs=120, after=("jaws-jtm",)),
        ),
    ),
    CENTRAL: _Kind(
        "SUPERVISOR_PORT",
        ("JAWS_SUPERVISOR_PORT", "JAWS_AUTH_PORT", "JAWS_REST_PORT"),
        "jaws-{{ deployment }}",
        "supervisord-jaws",
        (_Program("auth"), _Program("rest"), _Program("rpc")),
    ),
}

_SERVER = """\
[inet_http_server]
port = {{ (SUPERVISOR_HOST ~ ':' ~ %(port)s) | sciops.sites.supervisor_value }}
username = jaws
password = {{ SUPERVISORD_PW | sciops.sites.supervisor_value }}

[supervisord]
logfile = {{ (LOGS_DIR ~ '/%(conf)s.log') | sciops.sites.supervisor_value('supervisord') }}
pidfile = {{ (SUPERVISOR_DIR ~ '/%(conf)s.pid') | sciops.sites.supervisor_value('supervisord') }}
childlogdir = {{ LOGS_DIR | sciops.sites.supervisor_value('supervisord') }}
nodaemon = false

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = http://localhost:{{ %(port)s }}
username = jaws
password = {{ SUPERVISORD_PW | sciops.sites.supervisor_value }}

[include]
files = {{ (SUPERVISOR_DIR ~ '/%(conf)s.d/*.conf') | sciops.sites.supervisor_value }}
"""
_PROGRAM = """\
[program:%(name)s]
command = {{ [SHIMS_DIR ~ '/%(name)s'] | sciops.sites.supervisor_value('program') }}
priority = %(priority)d
startsecs = %(startsecs)d
stopwaitsecs = %(stopwaitsecs)d
stopasgroup = true
"""


@dataclass
class Flat:
    """The variables of a flat file, what they refer to that it does not set, and what cannot be read."""

    values: dict[str, Value] = field(default_factory=dict)
    unset: dict[str, list[str]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_exports(text: str, file: str) -> Flat:
    """Read a flat file of export lines."""
    parsed = _exports.parse(text, file)
    flat = Flat(findings=parsed.findings(), problems=list(parsed.problems))
    flat.values = _exports.run(parsed, {}, flat.unset)
    return flat


def read_ci(text: str, file: str) -> Flat:
    """Read `variables` of a configuration of GitLab CI.

    As there, `$NAME` is replaced by the value of NAME, wherever in the file that is set; `$$` is a dollar sign.
    """
    document = _source.parse(text, file, "variables", None, "is empty")
    flat = Flat()
    # what other parts of the file hold, such as tags of GitLab, is not read
    flat.problems = [
        Problem(file, fault.line, ".".join(map(str, fault.path)), "", fault.message)
        for fault in document.faults
        if fault.path[:1] in ((), ("variables",))
    ]
    given = document.data.get("variables")
    if not isinstance(given, dict):
        flat.problems.append(Problem(file, 0, "variables", "", "is missing; it must be a mapping of names and values"))
        given = {}
    texts: dict[str, Value] = {}
    for name, value in given.items():
        raw = value.get("value") if isinstance(value, dict) else value
        line = document.line(("variables", name))
        if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
            flat.problems.append(Problem(file, line, f"variables.{name}", "", _VALUE_RIGHT))
            continue
        literal = isinstance(value, dict) and value.get("expand") is False
        texts[name] = join([str(raw)]) if literal else _references(str(raw))
        if texts[name] and SECRET.fullmatch(name):
            flat.findings.append(f"{file}:{line}: {name}: {_exports.IN_CLEAR}")
    for name, parts in texts.items():
        line = document.line(("variables", name))
        try:
            flat.values[name] = _expanded(name, texts, ())
        except ValueError as error:
            flat.problems.append(Problem(file, line, f"variables.{name}", "", str(error)))
        for part in parts:
            if isinstance(part, Reference) and part.name not in texts:
                flat.unset.setdefault(part.name, []).append(f"{file}:{line}")
    return flat


def _references(text: str) -> Value:
    parts: list[str | Reference] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        name = found.group(1) or found.group(2)
        parts += [text[end : found.start()], Reference(name) if name else "$"]
        end = found.end()
    return join([*parts, text[end:]])


def _expanded(name: str, texts: Mapping[str, Value], above: tuple[str, ...]) -> Value:
    if name in above:
        raise ValueError(f"its value needs itself: {' -> '.join([*above, name])}")
    if SECRET.fullmatch(name) or name not in texts:
        return (Reference(name),)
    parts: list[str | Reference] = []
    for part in texts[name]:
        parts.extend(_expanded(part.name, texts, (*above, name)) if isinstance(part, Reference) else (part,))
    return join(parts)


def convert(
    flat: Flat, file: str, deployments: Sequence[str], prefix: str, environment: Sequence[str], version: str
) -> tuple[_exports_write.Imported, list[Problem]]:
    """Return three systems, each in a folder of its own, and what is missing.

    As in the old scripts, a name that one deployment or one site has is missing at each that does not have it.
    """
    by_deployment, by_site, others = _grouped(flat.values, deployments)
    central = by_site.pop(CENTRAL, {})
    problems = _missing(file, by_deployment, str) + _missing(file, by_site, str.upper)
    if not by_site:
        problems.append(Problem(file, 0, "", "", "has no site: no name ends with _INSTALL_BASEDIR"))
    result = _exports_write.Imported({}, list(flat.findings), {})
    result.findings.extend(
        f"{file}: {name}: is of no deployment and no site, and was not taken over" for name in others
    )
    if problems:
        return result, problems
    for kind in _KINDS if central else ("site", "backend"):
        values: dict[tuple[str, str], dict[str, Value]] = {("", ""): {}}
        values.update({("", deployment): own for deployment, own in by_deployment.items()})
        if kind == CENTRAL:
            values[CENTRAL, ""] = central
        else:
            # two systems at one site: their targets need names of their own
            values.update({(site if kind == "site" else f"{site}-{kind}", ""): own for site, own in by_site.items()})
        unset = {
            part.name: flat.unset.get(part.name, [file])
            for layer in values.values()
            for name, value in layer.items()
            for part in value
            if isinstance(part, Reference) and not SECRET.fullmatch(name)
        }
        layers = Layers(values=values, ports=list(_KINDS[kind].ports), unset=unset)
        imported = _exports_write.convert(layers, kind, prefix, environment, version)
        _complete(kind, imported.documents, version)
        result.documents.update({f"{kind}/{name}": document for name, document in imported.documents.items()})
        result.findings.extend(f"{kind}/{said}" for said in imported.findings)
        result.needed.update(imported.needed)
    return result, problems


def _missing(file: str, groups: Mapping[str, Mapping[str, Value]], written: Callable[[str], str]) -> list[Problem]:
    """Return a problem for each name that some of the groups have and others have not."""
    names = dict.fromkeys(name for group in groups.values() for name in group)
    return [
        Problem(file, 0, f"{written(group)}_{name}", "", "is missing")
        for group, own in groups.items()
        for name in names
        if name not in own
    ]


def _complete(kind: str, documents: dict[str, Any], version: str) -> None:
    """Add to an imported system what runs there: folders, the two files of its supervisord, services."""
    one = _KINDS[kind]
    document = documents[f"{kind}.system.yml"]
    document["system"] = f"jaws-{kind}"
    variables: dict[str, Json] = document["variables"]
    for name in (one.port, "INSTALL_BASEDIR", version):
        variables.setdefault(name, {})["mandatory"] = True
    base = "{{ INSTALL_BASEDIR }}/jaws-{{ deployment }}"
    added: dict[str, Json] = {
        "INSTALL_DIR": {"type": "path", "default": "{{ INSTALL_BASEDIR }}/" + one.folder},
        "SHIMS_DIR": {"type": "path", "default": f"{base}/shims"},
        "LOGS_DIR": {"type": "path", "default": f"{base}/logs"},
        "CONFIG_DIR": {"type": "path", "default": f"{base}/configs"},
        "SUPERVISOR_DIR": {"type": "path", "default": "{{ INSTALL_BASEDIR }}/jaws-supervisord-{{ deployment }}"},
        "SUPERVISORD_PW": {"secret": True, "mandatory": True},
    }
    variables.update(added)
    variables.setdefault("SUPERVISOR_HOST", {}).setdefault("default", "127.0.0.1")
    if kind == CENTRAL:
        for deployment, own in documents[f"sites/{CENTRAL}.yml"]["deployments"].items():
            own.update({one.port: _CENTRAL_PORTS[deployment]} if deployment in _CENTRAL_PORTS else {})
    conf = f"{{{{ SUPERVISOR_DIR }}}}/{one.conf}"
    folders = ["{{ CONFIG_DIR }}", "{{ SHIMS_DIR }}", "{{ LOGS_DIR }}", "{{ SUPERVISOR_DIR }}", f"{conf}.d"]
    document["folders"] = [{"path": path, "mode": "0750"} for path in folders]
    common = {"mode": "0600", "validate": "supervisor"}
    document["files"] = [
        {"src": "templates/server.conf.j2", "dest": f"{conf}.conf", **common, "restarts": "manager", "secret": True},
        # what this says is compared program by program
        {"src": "templates/programs.conf.j2", "dest": f"{conf}.d/programs.conf", **common, "restarts": "none"},
    ]
    document["launch"] = {
        "method": "supervisord",
        "supervisord": {"config": f"{conf}.conf", "program": "{{ SUPERVISOR_DIR }}/bin/supervisord", "timeout": 60},
    }
    document["services"] = [
        {
            "name": program.name,
            "settle": program.startsecs,
            "timeout": program.stopwaitsecs + 10,
            **({"after": list(program.after)} if program.after else {}),
        }
        for program in one.programs
    ]
    documents["templates/server.conf.j2"] = _SERVER % {"port": one.port, "conf": one.conf}
    documents["templates/programs.conf.j2"] = "\n".join(_PROGRAM % vars(program) for program in one.programs)


def _grouped(
    values: Mapping[str, Value], deployments: Sequence[str]
) -> tuple[dict[str, dict[str, Value]], dict[str, dict[str, Value]], list[str]]:
    """Return the values by deployment and by site (in lower case), and the names that are of neither."""
    words = {deployment.lower(): deployment for deployment in deployments}
    sites = [found.group(1) for name in values if (found := _SITE.fullmatch(name)) and not name.endswith(_NOT_A_SITE)]
    sites = [site for site in [*sites, CENTRAL.upper()] if site.lower() not in words]
    by_deployment: dict[str, dict[str, Value]] = {deployment: {} for deployment in deployments}
    by_site: dict[str, dict[str, Value]] = {}
    others = []
    for name, value in values.items():
        first, _underscore, rest = name.partition("_")
        owners = [site for site in sites if name.startswith(f"{site}_")]
        if first.lower() in words and rest:
            by_deployment[words[first.lower()]][rest] = value
        elif owners:
            owner = max(owners, key=len)
            by_site.setdefault(owner.lower(), {})[name[len(owner) + 1 :]] = value
        else:
            others.append(name)
    return by_deployment, by_site, others
