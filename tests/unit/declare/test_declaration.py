# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled declaration: shape, defaults, words for sizes and durations, references."""

from __future__ import annotations

import json

import pytest

from ansible_collections.sciops.sites.plugins.plugin_utils import _groups, _schema


def test_shape_and_defaults(compiled):
    declaration, problems = compiled("""\
        plugin: sciops.sites.site
        site: lab
        hosts: {"lab-[1:2]": {memory: 2GiB}}
        pipes: {p: {components: {a: {command: /bin/a}}}}
        """)
    assert problems == []
    assert declaration["policy"] == {
        "quorum": 0.5, "start_budget": 100, "stop_budget": 10, "stop_guard": 0.5, "cliff": 0.5, "cliff_floor": 6,
        "lost_after": 3600, "placement": "spread", "host_timeout": 15, "pass_timeout": 240, "fanout": 64,
        "backoff_min": 10, "backoff_max": 3600, "undeclared": "stop",
    }  # fmt: skip
    assert declaration["hosts"]["lab-2"] == {
        "order": 1, "hot_limit": None, "memory": 2**31, "max_instances": None, "max_load": None, "classes": [],
        "state": "on", "vars": {},
    }  # fmt: skip
    component = declaration["components"]["p/a"]
    assert len(component.pop("hash")) == 12
    assert component == {
        "pipe": "p", "name": "a", "order": 0, "description": "", "state": "on", "count": {"min": 1, "max": 1},
        "load": 0.0, "memory": 0, "uses": {}, "max_per_host": None, "classes": [], "avoid": [], "priority": 0,
        "singleton": False, "launcher": {"default": "process"}, "options": {}, "container": None,
        "update": {"max_unavailable": 1, "revert": True}, "command": ["/bin/a"], "environment": {}, "secrets": {},
        "cwd": None, "user": None, "log": {"path": None, "max_bytes": 104857600, "keep": 5}, "grace": 10, "settle": 2,
        "healthy_after": 60, "match": [], "adopt": True, "health": {}, "gates": [], "draw": {}, "legacy": {},
        "vars": {}, "vaulted": False,
    }  # fmt: skip
    assert {"site", "deployment", "file", "description", "policy", "hosts", "shared_limits", "gates", "holds", "vars",
            "launchers", "components", "set_aside"} == set(declaration)  # fmt: skip
    assert json.loads(json.dumps(declaration)) == declaration


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("count: {min: 2, max: 5}", "count", {"min": 2, "max": 5}),
        ("count: 0", "count", {"min": 0, "max": 0}),
        ("hot: true", "load", 1.0),
        ("load: 2.5", "load", 2.5),
        ("memory: 500MB", "memory", 500_000_000),
        ("memory: 1.5GiB", "memory", 1_610_612_736),
        ("grace: 10m", "grace", 600),
        ("settle: 500ms", "settle", 0.5),
        ("state: off", "state", "off"),
        ("state: 'off'", "state", "off"),
        ("state: on", "state", "on"),
        ("state: absent", "state", "absent"),
        ("environment: {N: 3, S: '{{ slot }}'}", "environment", {"N": "3", "S": "{{ slot }}"}),
        ("health: {log_age: 1h, port: 80, command: 'curl -f x'}", "health",
         {"log_age": 3600, "port": 80, "command": ["curl", "-f", "x"], "timeout": 5}),
        ("draw: {node: {of: [5, 6]}}", "draw", {"node": {"of": [5, 6], "how": "random"}}),
        ("secrets: {T: {controller_env: TOKEN}}", "secrets", {"T": {"controller_env": "TOKEN"}}),
        ("uses: {tape: 1}", "uses", {"tape": 1}),
    ],
)  # fmt: skip
def test_what_is_written_becomes(component, line, key, value):
    found, problems = component(line)
    assert problems == []
    assert found[key] == value


def test_absent_and_off_need_no_command_and_on_does(compiled):
    declaration, problems = compiled("""\
        plugin: sciops.sites.site
        hosts: {h: {}}
        pipes: {p: {components: {gone: {state: absent}, idle: {state: "off"}, runs: {}}}}
        """)
    assert list(declaration["components"]) == ["p/gone", "p/idle"]
    assert [str(problem) for problem in problems] == [
        "/sites/test/lab.site.yml:3: pipes.p.components.runs.command: is missing; what shall run?"
    ]


def test_a_fault_in_the_defaults_is_told_where_it_stands(compiled):
    declaration, problems = compiled(
        "plugin: sciops.sites.site\nhosts: {h: {}}\npipes: {p: {components: {a: {command: /bin/a}}}}\n",
        all="defaults:\n  cwd: '{{ nothing }}'\n",
    )
    assert list(declaration["set_aside"]) == ["p/a"]
    assert str(problems[0]).startswith(
        'all.yml:2: pipes.p.components.a.cwd: "{{ nothing }}": undefined variable nothing'
    )


def test_a_bad_component_of_a_low_layer_is_set_aside_as_a_whole(compiled):
    declaration, _problems = compiled(
        "plugin: sciops.sites.site\nhosts: {h: {}}\npipes: {p: {components: {a: {command: /bin/a}}}}\n",
        all="pipes: {p: {components: {a: {count: -1}}}}\n",
    )
    assert declaration["components"] == {}
    assert declaration["set_aside"] == {"p/a": "all.yml:1: pipes.p.components.a.count: -1: must be 0 or more"}


def test_orders_are_those_of_the_file(compiled):
    declaration, _problems = compiled("""\
        plugin: sciops.sites.site
        hosts: {z: {}, a: {}, m: {}}
        pipes:
          q: {components: {y: {command: /y}, b: {command: /b}}}
          a: {components: {x: {command: /x}}}
        """)
    assert list(declaration["hosts"]) == ["z", "a", "m"]
    assert [(name, one["order"]) for name, one in declaration["components"].items()] == [
        ("q/y", 0), ("q/b", 1), ("a/x", 2),
    ]  # fmt: skip


def test_an_empty_declaration_compiles(compiled):
    declaration, problems = compiled("plugin: sciops.sites.site\nhosts: {h: {}}\n")
    assert (declaration["components"], problems) == ({}, [])


def test_holds_and_gates(compiled):
    declaration, _problems = compiled("""\
        plugin: sciops.sites.site
        hosts: {h: {}}
        gates: {quota: {command: 'quota --json', fraction: 0.85, max_age: 1d}, up: {url: 'https://x.example/up'}}
        holds:
          - {scope: 'host:h', mode: drain, owner: ana, reason: disk, until: 2026-12-01T08:00:00Z}
          - {scope: site, mode: hold}
        """)
    assert declaration["gates"] == {
        "quota": {"command": ["quota", "--json"], "fraction": 0.85, "max_age": 86400},
        "up": {"url": "https://x.example/up", "fraction": None, "max_age": 86400},
    }
    assert declaration["holds"] == [
        {"scope": "host:h", "mode": "drain", "owner": "ana", "reason": "disk", "until": 1796112000.0},
        {"scope": "site", "mode": "hold", "owner": "", "reason": "", "until": None},
    ]


def test_groups_by_pipe_component_and_class(compiled):
    declaration, _problems = compiled("""\
        plugin: sciops.sites.site
        hosts: {h1: {classes: [a]}, h2: {classes: [b]}, h3: {}}
        pipes: {p: {components: {x: {command: /x, classes: [a]}, y: {command: /y, avoid: [b]}}}}
        """)
    assert _groups.declared_groups(declaration) == {
        "component_p_x": ["h1"], "component_p_y": ["h1", "h3"], "pipe_p": ["h1", "h3"], "class_a": ["h1"],
        "class_b": ["h2"],
    }  # fmt: skip


def test_live_groups_keep_unknown_hosts_out_of_all_others(compiled):
    declaration, _problems = compiled("""\
        plugin: sciops.sites.site
        hosts: {h1: {hot_limit: 1}, h2: {hot_limit: 1}, h3: {}, h4: {}}
        pipes: {p: {components: {x: {command: /x, hot: true}}}}
        """)
    one = {"component": "p/x"}
    observations = {
        "h1": {"answered": True, "instances": [one, one]},
        "h2": {"answered": True, "instances": []},
        "h3": {"answered": False, "instances": [one]},
    }
    assert _groups.live_groups(declaration, observations) == {
        "reachable": ["h1", "h2"], "unknown": ["h3", "h4"], "hot": ["h1"], "running_p_x": ["h1"],
    }  # fmt: skip


def test_the_published_schema_is_that_of_the_code(root):
    path = root / "docs" / "schema" / "site.schema.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(_schema.published()))
