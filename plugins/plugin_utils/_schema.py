# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site file or a layer may hold (JSON schema 2020-12 as data), and the collection defaults."""

from __future__ import annotations

from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._faults import (
    NAME_PATTERN,
    NAME_RIGHT,
    SITE_PATTERN,
    SITE_RIGHT,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import LAUNCHERS

DAY = 86400
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)"


def _whole(low: int, high: int, null: bool = False) -> dict[str, Any]:
    return {"type": ["integer", "null"] if null else "integer", "minimum": low, "maximum": high}


def _number(low: float, high: float, null: bool = False) -> dict[str, Any]:
    return {"type": ["number", "null"] if null else "number", "minimum": low, "maximum": high}


def _duration(low: float, high: float) -> dict[str, Any]:
    return {"type": ["number", "string"], "x-duration": [low, high]}


def _size(high: int = 2**50, null: bool = False) -> dict[str, Any]:
    return {"type": ["number", "string", "null"] if null else ["number", "string"], "x-size": [0, high]}


def _text(null: bool = False, right: str = "", **more: Any) -> dict[str, Any]:
    return {"type": ["string", "null"] if null else "string", "maxLength": 10000, **_worded(right), **more}


def _worded(right: str) -> dict[str, Any]:
    return {"x-right": right} if right else {}


def _closed(properties: dict[str, Any], right: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **_worded(right), **more}


def _keyed(value: dict[str, Any], pattern: str = NAME_PATTERN, right: str = NAME_RIGHT) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value, "propertyNames": {"pattern": pattern, "x-right": right}}


def _one_of(*words: Any, right: str = "") -> dict[str, Any]:
    return {"enum": list(words), **_worded(right)}


_WORDS = {
    "type": ["string", "array"],
    "minLength": 1,
    "maxLength": 10000,
    "minItems": 1,
    "maxItems": 1000,
    "items": {"type": ["string", "number"], "maxLength": 10000},
}
_NAMES = {"type": "array", "items": _text(pattern=NAME_PATTERN, right=NAME_RIGHT), "uniqueItems": True}
_VARIABLES = (VARIABLE_PATTERN, "must be a variable name: letters, digits and '_', not beginning with a digit")
_ANSIBLE_VARS = _keyed({}, r"^ansible_[a-z0-9_]+$(?!\n)", "must be a connection variable of Ansible (ansible_*)")
_SECRET = _closed(
    {"file": _text(minLength=1), "controller_env": _text(minLength=1), "controller_file": _text(minLength=1)},
    minProperties=1,
    maxProperties=1,
    right="must be one of {file: path on the host}, {controller_env: NAME}, {controller_file: path}",
)
# what may end up in a file of a manager, where a line of its own would be a setting of its own
_LINE: dict[str, Any] = {
    "pattern": r"^[^\n\r\x00]*$(?!\n)",
    "x-right": "must be text on one line, without a NUL character",
}
_LINES = {"type": "array", "maxItems": 1000, "items": _text(**_LINE, minLength=1)}
# whether they fit together is looked at when all layers are one: a layer may hold a part
_LAUNCHER = {
    "type": ["string", "object"],
    "if": {"type": "string"},
    "then": _one_of(*LAUNCHERS),
    "additionalProperties": _one_of(*LAUNCHERS),
    "propertyNames": {"pattern": NAME_PATTERN, "x-right": NAME_RIGHT},
}
_JOB_TEXT = _text(null=True, **_LINE, minLength=1)
_OPTIONS = _closed(
    {
        "supervisord": _closed(
            {
                "autorestart": _one_of("unexpected", "always", "never"),
                "startretries": _whole(0, 1000),
                "startsecs": _duration(0, 600),
                "priority": _whole(0, 100000, null=True),
            }
        ),
        "systemd": _closed(
            {
                # YAML 1.1 reads the bare word no as false
                "restart": _one_of("always", "on-failure", "no", False, right="must be always, on-failure or no"),
                "restart_sec": _duration(0, DAY),
                "start_limit_burst": _whole(0, 100000),
                "start_limit_interval": _duration(0, DAY),
                "enable": {"type": "boolean"},
                "drop_in": _keyed(
                    _keyed(
                        {"type": ["string", "number"], "maxLength": 10000, **_LINE},
                        r"^[A-Za-z][A-Za-z0-9-]*$(?!\n)",
                        "must be the name of a setting: letters, digits and '-'",
                    ),
                    r"^[A-Za-z][A-Za-z0-9-]*$(?!\n)",
                    "must be the name of a section: letters, digits and '-'",
                ),
            }
        ),
        "slurm": _closed(
            {
                **dict.fromkeys(("partition", "account", "qos", "constraint", "reservation"), _JOB_TEXT),
                "cpus": _whole(1, 100000),
                "memory": _size(null=True),
                "time": {"type": ["number", "string", "null"], "x-duration": [60, 366 * DAY]},
                "handover": _duration(0, 30 * DAY),
                "reservation_words": _LINES,
                "cancels": _NAMES,
                "reservation_margin": _duration(0, 30 * DAY),
                "arguments": _LINES,
            }
        ),
        "htcondor": _closed(
            {
                **dict.fromkeys(("requirements", "rank", "accounting_group", "filesystem_domain"), _JOB_TEXT),
                "cpus": _whole(1, 100000),
                "gpus": _whole(0, 100000),
                "memory": _size(null=True),
                "disk": _size(null=True),
                "time": {"type": ["number", "string", "null"], "x-duration": [1, 366 * DAY]},
                "handover": _duration(0, 30 * DAY),
                "margin": _duration(1, DAY),
                "requeue": {"type": "boolean"},
                "hold_limit": {"type": ["number", "string", "null"], "x-duration": [1, 366 * DAY]},
                # condor_submit takes none that is shorter
                "lease": _duration(20, 30 * DAY),
                "submit": _keyed(
                    {"type": ["string", "number", "boolean"], "maxLength": 10000, **_LINE},
                    r"^(\+|MY\.)?[A-Za-z_][A-Za-z0-9_]*$(?!\n)",
                    "must be one command of a submit description: letters, digits and _, "
                    "with + or MY. before it for an attribute",
                ),
            }
        ),
    }
)
_CONTAINER = {
    **_closed(
        {
            "image": _text(**_LINE, minLength=1),
            "source": _text(null=True, **_LINE, minLength=1),
            "digest": _text(
                null=True, pattern=r"^sha256:[0-9a-f]{64}$(?!\n)", right="must be sha256: and 64 hex digits (0-9, a-f)"
            ),
            "keep": _whole(0, 1000),
            "binds": _LINES,
            "options": _LINES,
            "method": {"enum": ["run", "exec", "instance", None], "x-right": "must be run, exec or instance"},
        }
    ),
    "type": ["object", "null"],
}
COMPONENT_PROPERTIES: dict[str, Any] = {
    "description": _text(),
    # YAML 1.1 reads the bare words on and off as true and false
    "state": _one_of("on", "off", "absent", True, False, right="must be on, off or absent"),
    "count": {
        "type": ["integer", "object"],
        "minimum": 0,
        "maximum": 100000,
        "additionalProperties": False,
        "properties": {"min": _whole(0, 100000), "max": _whole(0, 100000)},
    },
    "hot": {"type": "boolean"},
    "load": _number(0, 100000, null=True),
    "memory": _size(),
    "uses": _keyed(_number(0, 100000)),
    "max_per_host": _whole(1, 100000, null=True),
    "classes": _NAMES,
    "avoid": _NAMES,
    "priority": _whole(-1000000, 1000000),
    "singleton": {"type": "boolean"},
    "launcher": _LAUNCHER,
    "options": _OPTIONS,
    "container": _CONTAINER,
    "update": _closed({"max_unavailable": _whole(1, 100000), "revert": {"type": "boolean"}}),
    "command": _WORDS,
    "environment": _keyed({"type": ["string", "number"]}, *_VARIABLES),
    "secrets": _keyed(_SECRET, *_VARIABLES),
    "cwd": _text(null=True),
    "user": _text(null=True, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*\$?$(?!\n)", right="must be the name of an account"),
    "log": _closed({"path": _text(null=True, minLength=1), "max_bytes": _size(), "keep": _whole(0, 1000)}),
    "grace": _duration(0, DAY),
    "settle": _duration(0, 600),
    "healthy_after": _duration(0, DAY),
    "match": {
        "type": "array",
        "maxItems": 100,
        "items": {"type": "array", "minItems": 1, "maxItems": 100, "items": {**_text(minLength=1), "x-regex": True}},
    },
    "adopt": {"type": "boolean"},
    "health": _closed(
        {
            "log_age": _duration(1, 366 * DAY),
            "port": _whole(1, 65535),
            "command": _WORDS,
            "timeout": _duration(0.1, 600),
        }
    ),
    "gates": _NAMES,
    "draw": _keyed(
        _closed(
            {
                "of": {"type": "array", "minItems": 1, "items": {"type": ["string", "number"]}},
                "how": _one_of("random", "round_robin"),
            }
        ),
        *_VARIABLES,
    ),
    "legacy": {"type": "object"},
}
HOST_PROPERTIES: dict[str, Any] = {
    "hot_limit": _number(0, 100000, null=True),
    "memory": _size(null=True),
    "max_instances": _whole(0, 100000, null=True),
    "max_load": _number(0, 100000, null=True),
    "classes": _NAMES,
    "state": _one_of("on", "drain", True, right="must be on or drain"),
    "vars": _keyed({}, *_VARIABLES),
}
POLICY_PROPERTIES: dict[str, Any] = {
    "quorum": _number(0, 1),
    "start_budget": _whole(0, 100000),
    "stop_budget": _whole(0, 100000),
    "stop_guard": _number(0, 1),
    "cliff": _number(0, 1),
    "cliff_floor": _whole(0, 100000),
    "lost_after": _duration(0, 366 * DAY),
    "placement": _one_of("spread", "pack"),
    "host_timeout": _duration(0.1, 3600),
    "pass_timeout": _duration(1, DAY),
    "fanout": _whole(1, 4096),
    "backoff_min": _duration(0, DAY),
    "backoff_max": _duration(0, 30 * DAY),
    "undeclared": _one_of("stop", "report"),
}
LAUNCHERS_PROPERTIES: dict[str, Any] = {
    "supervisord": _closed(
        {
            "config": _text(null=True, **_LINE, minLength=1),
            "program": _text(**_LINE, minLength=1),
            "include": _text(null=True, **_LINE, minLength=1),
            "start": {"type": "boolean"},
            "timeout": _duration(0.1, 600),
        }
    ),
    "systemd": _closed(
        {
            "scope": _one_of("auto", "system", "user"),
            "linger": {"type": "boolean"},
            "timeout": _duration(0.1, 600),
        }
    ),
    "apptainer": _closed({"program": _text(**_LINE, minLength=1)}),
    "slurm": _closed({"timeout": _duration(0.1, 600)}),
    "htcondor": _closed(
        {
            **dict.fromkeys(("schedd", "pool", "config"), _JOB_TEXT),
            "timeout": _duration(0.1, 600),
        }
    ),
}
# options of inventory plugins in general; Ansible checks what is in them
INVENTORY_PROPERTIES: dict[str, Any] = {
    "cache": {"type": "boolean"},
    "cache_plugin": _text(),
    "cache_timeout": _whole(0, 2**31),
    "cache_connection": _text(),
    "cache_prefix": _text(),
    "strict": {"type": "boolean"},
    "compose": {"type": "object"},
    "groups": {"type": "object"},
    "keyed_groups": {"type": "array"},
    "use_extra_vars": {"type": "boolean"},
    "leading_separator": {"type": "boolean"},
    "observe": {"type": "boolean"},
}
SITE_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A site file, or a layer, of sciops.sites",
    **_closed(
        {
            "plugin": _one_of("sciops.sites.site"),
            "site": _text(pattern=SITE_PATTERN, right=SITE_RIGHT),
            "deployment": _text(pattern=SITE_PATTERN, right=SITE_RIGHT),
            "description": _text(),
            "connection": _ANSIBLE_VARS,
            "policy": _closed(POLICY_PROPERTIES),
            "launchers": _closed(LAUNCHERS_PROPERTIES),
            "host_defaults": _closed(HOST_PROPERTIES),
            "hosts": {
                "type": "object",
                "additionalProperties": {**_closed(HOST_PROPERTIES), "type": ["object", "null"]},
            },
            "shared_limits": _keyed(_number(0, 1000000)),
            "gates": _keyed(
                _closed(
                    {
                        "command": _WORDS,
                        "url": _text(pattern="^https?://", right="must be an http or https address"),
                        "file": _text(minLength=1),
                        "fraction": _number(0, 1, null=True),
                        "max_age": _duration(1, 366 * DAY),
                    }
                )
            ),
            "holds": {
                "type": "array",
                "maxItems": 1000,
                "items": _closed(
                    {
                        "scope": _text(
                            pattern=r"^(site|(host|pipe|component):\S+)$(?!\n)",
                            right="must be site, host:NAME, pipe:NAME or component:PIPE/NAME",
                        ),
                        "mode": _one_of("hold", "drain"),
                        "owner": _text(),
                        "reason": _text(),
                        "until": {"type": ["number", "string", "null"], "minimum": 0, "maximum": 253402300799},
                    },
                    required=["scope", "mode"],
                ),
            },
            "vars": _keyed({}, *_VARIABLES),
            "defaults": _closed(COMPONENT_PROPERTIES),
            "pipes": _keyed(
                {
                    **_closed(
                        {
                            "description": _text(),
                            "legacy": {"type": "object"},
                            "components": _keyed({**_closed(COMPONENT_PROPERTIES), "type": ["object", "null"]}),
                        }
                    ),
                    "type": ["object", "null"],
                }
            ),
            "legacy": {"type": "object"},
            **INVENTORY_PROPERTIES,
        }
    ),
}

# the lowest layer, in the same form as any other
DEFAULTS: dict[str, Any] = {
    "description": "",
    "policy": {
        "quorum": 0.5,
        "start_budget": 100,
        "stop_budget": 10,
        "stop_guard": 0.5,
        "cliff": 0.5,
        "cliff_floor": 6,
        "lost_after": 3600,
        "placement": "spread",
        "host_timeout": 15,
        "pass_timeout": 240,
        "fanout": 64,
        "backoff_min": 10,
        "backoff_max": 3600,
        "undeclared": "stop",
    },
    "launchers": {
        "supervisord": {"config": None, "program": "supervisord", "include": None, "start": True, "timeout": 5},
        "systemd": {"scope": "auto", "linger": False, "timeout": 10},
        "apptainer": {"program": "apptainer"},
        "slurm": {"timeout": 10},
        "htcondor": {"schedd": None, "pool": None, "config": None, "timeout": 10},
    },
    "host_defaults": {
        "hot_limit": None,
        "memory": None,
        "max_instances": None,
        "max_load": None,
        "classes": [],
        "state": "on",
    },
    "defaults": {
        "description": "",
        "state": "on",
        "count": 1,
        "hot": False,
        "load": None,
        "memory": 0,
        "max_per_host": None,
        "classes": [],
        "avoid": [],
        "priority": 0,
        "singleton": False,
        "launcher": "process",
        "container": None,
        "update": {"max_unavailable": 1, "revert": True},
        "cwd": None,
        "user": None,
        "log": {"path": None, "max_bytes": 104857600, "keep": 5},
        "grace": 10,
        "settle": 2,
        "healthy_after": 60,
        "match": [],
        "adopt": True,
        "gates": [],
    },
}
# without a fraction a gate is open when its command succeeds, its address answers or its file exists
GATE_DEFAULTS: dict[str, Any] = {"fraction": None, "max_age": 86400}
HEALTH_DEFAULTS: dict[str, Any] = {"timeout": 5}


def published(schema: dict[str, Any] = SITE_SCHEMA) -> dict[str, Any]:
    """A schema without this collection's own keywords, for editors and other tools."""

    def clean(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: clean(value) for key, value in node.items() if not str(key).startswith("x-")}
        return [clean(item) for item in node] if isinstance(node, list) else node

    cleaned: dict[str, Any] = clean(schema)
    return cleaned
