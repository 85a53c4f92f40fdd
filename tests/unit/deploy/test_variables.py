# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of variables: precedence, templates, types, secrets, and what is told of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _checks
from ansible_collections.sciops.sites.plugins.plugin_utils import (
    _source,
    _system,
    _systemfile,
    _types,
    _variables,
)

SMALL = Path(__file__).parent / "system_small" / "small.system.yml"
NEEDED = {"SMALL_DB_PW": "hush", "SMALL_SITE_VERSION": "2.8"}


# --- precedence


@pytest.fixture(scope="module")
def small():
    return _systemfile.read(str(SMALL), DataLoader())


@pytest.mark.parametrize(("deployment", "site_says", "expected"), [
    ("prod", True, 9), ("prod", False, 16), ("dev", False, 5),
])  # fmt: skip
def test_default_deployment_and_site(small, deployment, site_says, expected):
    if not site_says:
        small = _systemfile.read(str(SMALL), DataLoader())
        small.sites["acme"].data["vars"].pop("RPC_SERVER_NUM_THREADS")
    target, problems = _variables.resolve(small, "acme", deployment, f"acme-{deployment}", NEEDED, {})
    assert problems == []
    assert target["values"]["RPC_SERVER_NUM_THREADS"] == expected


def test_the_environment_counts_only_where_no_file_says_anything(small):
    environment = {**NEEDED, "SMALL_LOG_LEVEL": "DEBUG"}
    target, problems = _variables.resolve(small, "acme", "prod", "acme-prod", environment, {})
    assert (problems, target["values"]["LOG_LEVEL"], target["version"]) == ([], "INFO", "2.8")
    assert target["origins"]["SITE_VERSION"]["layer"] == "environment"
    assert target["origins"]["SITE_VERSION"]["file"] == "SMALL_SITE_VERSION"
    assert target["origins"]["LOG_LEVEL"]["shadows"] == [
        {"layer": "environment", "file": "SMALL_LOG_LEVEL", "line": 0, "value": "DEBUG"}
    ]


NAMES = st.sampled_from("ABCD")
GIVEN = st.dictionaries(NAMES, st.text("xyz", min_size=1, max_size=3) | st.none())
LAYERS = ("environment", "system", "deployment", "site", "site and deployment", "host", "caller")


def layered_system(given):
    """A system whose variables A to D have these values in these layers."""
    defaults = {name: {"default": given["system"][name]} if name in given["system"] else None for name in "ABCD"}
    head = {"plugin": "sciops.sites.system", "deployments": ["dev"], "version": "1", "root": "/opt/a"}
    files = {
        "s.system.yml": {**head, "variables": defaults},
        "layers/dev.yml": given["deployment"],
        "sites/acme.yml": {
            "vars": given["site"],
            "deployments": {"dev": given["site and deployment"]},
            "hosts": {"h1": {"vars": given["host"]}},
        },
    }
    documents = [_source.parse(json.dumps(data, indent=1), name, name) for name, data in files.items()]
    return _system.build(documents[0], {"dev": documents[1]}, {"acme": documents[2]})


@given(st.fixed_dictionaries(dict.fromkeys(LAYERS, GIVEN)))
def test_precedence_is_that_of_a_plain_model(given):
    environment = {name: value for name, value in given["environment"].items() if value is not None}
    system = layered_system(given)
    assert system.problems == []
    target, problems = _variables.resolve(system, "acme", "dev", "acme-dev", environment, given["caller"])
    model, layers = {}, {}
    for layer in LAYERS:
        for name, value in (environment if layer == "environment" else given[layer]).items():
            model[name] = value
            layers.setdefault(name, []).insert(0, layer)
    assert problems == []
    assert target["values"] == {name: value for name, value in model.items() if value is not None}
    found = {
        name: [origin["layer"], *(low["layer"] for low in origin["shadows"])]
        for name, origin in target["origins"].items()
    }
    assert found == layers
    again = _variables.resolve(layered_system(given), "acme", "dev", "acme-dev", environment, given["caller"])
    assert again == (target, problems)


def test_the_line_of_each_value(resolved):
    target, _problems = resolved(
        "variables:\n  A: {default: '1'}\n", "vars:\n  A: '2'\n\ndeployments:\n  dev:\n    A: '3'\n"
    )
    origin = target["origins"]["A"]
    assert (origin["layer"], origin["file"], origin["line"]) == ("site and deployment", "/systems/sites/acme.yml", 7)
    assert [(low["layer"], low["line"], low["value"]) for low in origin["shadows"]] == [
        ("site", 3, "2"), ("system", 6, "1"),
    ]  # fmt: skip


# --- templates


def test_templates_over_other_variables_keep_the_type_of_one_expression(resolved):
    target, problems = resolved("""\
        variables:
          DIR: {type: path, default: "{{ BASE }}/{{ site }}-{{ deployment }}"}
          BASE: {type: path, default: /opt/}
          PORT: {type: port, default: "{{ 64101 + OFFSET }}"}
          OFFSET: {type: int, default: 2}
          WORD: {default: "{{ PORT }}"}
          NAMES: {type: list, default: ["{{ site }}", b]}
          LITERAL: {default: "{{ '{{' }} %s $HOME"}
          WHERE: {default: "{{ system }} {{ host }} {{ address }} {{ machine }} {{ version }} {{ root }}"}
        """)
    assert problems == []
    assert target["values"] == {
        "DIR": "/opt/acme-dev", "BASE": "/opt", "PORT": 64103, "OFFSET": 2, "WORD": "64103", "NAMES": ["acme", "b"],
        "LITERAL": "{{ %s $HOME",
        "WHERE": "small acme-dev login1.acme.example.org login1.acme.example.org 2.8 /opt/acme-dev",
    }  # fmt: skip


def test_outer_values_are_no_templates(resolved):
    target, problems = resolved(
        "variables: {A: , B: , C: }",
        "vars:\n  C: !vault |\n    $ANSIBLE_VAULT\n",
        environment={"A": "{{ 1 }}"},
        caller={"B": "{% x"},
        decrypt=lambda cipher: "{{ 3 }}",
    )
    assert problems == []
    assert target["values"] == {"A": "{{ 1 }}", "B": "{% x", "C": "{{ 3 }}"}
    assert target["secrets"] == ["C"]


def test_cycles_are_refused_once_and_named(resolved):
    _target, problems = resolved(
        "variables: {A: {default: '{{ B }}'}, B: {default: '{{ C }}x'}, C: {default: '{{ A }}'}, "
        "D: {default: '{{ A }}'}}"
    )
    assert problems == [
        "/systems/small.system.yml:5: variables.A.default: its value needs itself: A -> B -> C -> A"
    ]  # fmt: skip


def test_an_optional_value_may_be_missing_until_something_needs_it(resolved):
    text = "variables: {ZONE: , NAME: {default: '{{ site }}.{{ ZONE }}'}, X: {default: '{{ NAME if 0 else 1 }}'}}\n"
    target, problems = resolved(text)
    assert (problems, target["values"]) == ([], {"X": "1"})
    assert target["absent"] == {"NAME": "uses ZONE, which has no value"}
    _target, problems = resolved(text + "folders: [{path: '/opt/{{ NAME }}'}]")
    assert problems == [
        "/systems/small.system.yml:6: folders[0].path: \"/opt/{{ NAME }}\": uses NAME, which has no value "
        "(NAME uses ZONE, which has no value)"
    ]  # fmt: skip


def test_the_sandbox_holds(resolved):
    _target, problems = resolved("variables: {A: {default: \"{{ ''.__class__.__mro__ }}\"}}")
    assert "unsafe" in problems[0]


# --- faults, all at once


def test_all_that_is_missing_or_wrong_is_told_at_once(resolved):
    _target, problems = resolved(
        """\
        variables:
          DB_PW: {secret: true, mandatory: true}
          GROUP: {mandatory: true}
          RMQ_HOST: {mandatory: true}
          DIR: {type: path, default: "/{{ GROUP }}"}
          PORT: {type: port}
          EP: {type: uuid}
          PERMS: {type: mode}
          LEVEL: {choices: [DEBUG, INFO]}
          BAD: {default: "{{ GRUOP }}"}
          WORSE: {default: "{{ GROUP"}
        folders: [{path: "{{ DIR }}"}]
        """,
        "vars: {GRUOP: x, PORT: 70000, EP: abc, RMQ_HOST: ' ', PERMS: 0750}\n",
        environment={"LEVEL": "LOUD"},
    )
    assert problems == [
        "/systems/sites/acme.yml:2: vars.GRUOP: no such variable, did you mean \"GROUP\"?",
        "/systems/small.system.yml:6: variables.DB_PW: is mandatory and has no value; set DB_PW in the environment, or "
        "encrypt it in sites/acme.yml",
        "/systems/small.system.yml:7: variables.GROUP: is mandatory and has no value; give it one in sites/acme.yml, "
        "or set GROUP in the environment",
        '/systems/sites/acme.yml:2: vars.RMQ_HOST: " ": is mandatory and empty; give it one in sites/acme.yml, or set '
        "RMQ_HOST in the environment",
        "/systems/sites/acme.yml:2: vars.PORT: 70000: must be a port: a whole number from 1 to 65535",
        '/systems/sites/acme.yml:2: vars.EP: "abc": must be a UUID: 8-4-4-4-12 hex digits',
        "/systems/sites/acme.yml:2: vars.PERMS: 488: must be an octal mode in quotes, such as '0750'",
        'environment: LEVEL: "LOUD": must be DEBUG or INFO',
        "/systems/small.system.yml:14: variables.BAD.default: \"{{ GRUOP }}\": uses GRUOP, which is no variable, did "
        'you mean "GROUP"?',
        "/systems/small.system.yml:15: variables.WORSE.default: \"{{ GROUP\": is not a template: unexpected end of "
        "template, expected 'end of print statement'.",
    ]  # fmt: skip


def test_what_is_missing_is_named_for_the_spec(small):
    small = _systemfile.read(str(SMALL), DataLoader())
    for name in ("GROUP", "RMQ_HOST"):
        small.sites["acme"].data["vars"].pop(name)
    _target, problems = _variables.resolve(
        small, "acme", "dev", "acme-dev", {"SMALL_SITE_VERSION": "2.8", "SMALL_GROUP": ""}, {}
    )
    assert [(problem.path, problem.message.split(";")[0]) for problem in problems] == [
        ("SMALL_GROUP", "is mandatory and empty"),
        ("variables.RMQ_HOST", "is mandatory and has no value"),
        ("variables.DB_PW", "is mandatory and has no value"),
    ]


@pytest.mark.parametrize(("version", "told"), [
    ("{{ X }}", "version: \"{{ X }}\": uses X, which is no variable"),
    ("{{ NONE }}", "version: \"{{ NONE }}\": uses NONE, which has no value"),
    ("../2.8", "version: \"../2.8\": must be 1 to 64 letters, digits"),
    ("{{ PW }}", "version: is made from a secret"),
    ("{{ version }}", "its value needs itself: version -> version"),
])  # fmt: skip
def test_the_version_names_folders(built, version, told):
    system = built("variables: {NONE: , PW: {secret: true}}\n")
    system.document.data["version"] = version
    _target, problems = _variables.resolve(system, "acme", "dev", "acme-dev", {"PW": "hush"}, {})
    assert told in str(problems[0])
    assert "hush" not in str(problems)


# --- types


@pytest.mark.parametrize(("kind", "given", "expected"), [
    ("str", "a b", "a b"), ("str", "", ""),
    ("int", "5", 5), ("int", -5, -5),
    ("number", "1.5", 1.5), ("number", 2, 2),
    ("bool", "yes", True), ("bool", 0, False), ("bool", False, False),
    ("port", "64101", 64101),
    ("path", "/opt/jaws/", "/opt/jaws"), ("path", "/", "/"), ("path", "//a//b/.", "/a/b"),
    ("folder", "/data", "/data/"), ("folder", "/data//", "/data/"), ("folder", "/", "/"), ("folder", "", ""),
    ("duration", "2h", 7200), ("duration", 90, 90), ("duration", "90", 90),
    ("size", "2GiB", 2 * 1024**3), ("size", "5", 5),
    ("uuid", "12345678-1234-1234-1234-123456789abc", "12345678-1234-1234-1234-123456789abc"),
    ("mode", "0750", "0750"),
    ("host", "rmq.lbl.gov", "rmq.lbl.gov"), ("host", "::1", "::1"),
    ("url", "http://a", "http://a"),
    ("list", "a, b", ["a", "b"]), ("list", ["a", 1], ["a", 1]),
])  # fmt: skip
def test_types(kind, given, expected):
    found = _types.convert(kind, given)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(("kind", "given", "right"), [
    ("str", 2.8, "text; put it into quotes"), ("str", "\0", "NUL"),
    ("int", "", "whole number"), ("int", True, "whole number"), ("int", 1.5, "whole number"),
    ("number", "nan", "a number"), ("bool", "maybe", "true or false"),
    ("port", 0, "from 1 to 65535"), ("port", "ssh", "from 1 to 65535"),
    ("path", "a", "absolute"), ("path", "/a/../b", "without '..'"), ("path", "/a\nb", "one line"),
    ("path", "s3://bucket", "absolute"),
    ("duration", "-1", "duration"), ("size", "much", "size"), ("size", True, "size"),
    ("uuid", "12", "UUID"), ("mode", "999", "octal"), ("mode", 750, "octal"),
    ("host", "a b", "name or the address"), ("url", "a.org", "scheme"), ("list", {"a": 1}, "must be a list"),
])  # fmt: skip
def test_what_a_type_refuses(kind, given, right):
    with pytest.raises(ValueError, match=right):
        _types.convert(kind, given)


def test_object_stores_where_they_are_allowed():
    assert _types.convert("path", "s3://bucket/a/", url_ok=True) == "s3://bucket/a"
    assert _types.convert("folder", "s3://bucket/a", url_ok=True) == "s3://bucket/a/"
    with pytest.raises(ValueError, match=r"'\.\.'"):
        _types.convert("path", "s3://bucket/../a", url_ok=True)


@given(st.text())
def test_a_folder_ends_in_one_slash_and_a_path_in_none(words):
    for kind in ("path", "folder"):
        try:
            found = _types.convert(kind, "/" + words)
        except ValueError:
            continue
        assert found.startswith("/") and "//" not in found and ".." not in found.split("/")
        assert found == "/" or found.endswith("/") == (kind == "folder")
        assert _types.convert(kind, found) == found


# --- secrets


SECRETS = """\
variables:
  PW: {secret: true, environment: PW_HERE}
  USER: {default: jaws}
  DSN: {default: "db://{{ USER }}:{{ PW }}@h"}
  TWICE: {default: "{{ DSN }}{{ USER }}"}
  NUMBER: {type: int, default: "{{ PW | int('x') + 1 }}"}
  OPEN: {default: "{{ USER }}"}
install: {method: apptainer, apptainer: {image: /opt/a.sif, username: "{{ USER }}", password: "{{ PW }}"}}
"""


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=6).filter(str.strip), st.booleans())
def test_no_secret_in_anything_that_is_shown(secret, vaulted):
    text = "plugin: sciops.sites.system\ndeployments: [dev]\nversion: '1'\nroot: /opt/a\n" + SECRETS
    site = "hosts: {h1: {}}\n" + ("vars:\n  PW: !vault |\n    $ANSIBLE_VAULT\n" if vaulted else "")
    secret = f"\u2603{secret}"  # of which nothing else here has a part
    system = _system.build(
        _source.parse(text, "s.system.yml", "system"),
        {},
        {"acme": _source.parse(site, "acme.yml", "site", lambda cipher: secret)},
    )
    assert system.problems == []
    environment = {"PW_HERE": secret + "2" if vaulted else secret}
    target, problems = _variables.resolve(system, "acme", "dev", "acme-dev", environment, {})
    assert target["values"]["DSN"] == f"db://jaws:{secret}@h"
    assert target["secrets"] == ["DSN", "NUMBER", "PW", "TWICE"]
    assert target["install"]["password"] == secret
    shown = {name: value for name, value in target["values"].items() if name not in target["secrets"]}
    assert shown == {"USER": "jaws", "OPEN": "jaws"}
    told = json.dumps([shown, target["origins"], target["faulty"], [str(problem) for problem in problems]])
    assert "\\u2603" not in told
    report = _variables.report(system, [target], [])
    assert "\\u2603" not in json.dumps(report)
    assert [problem.path for problem in problems] == ["variables.NUMBER.default"]


def test_secrets_stand_where_nobody_sees_them(resolved):
    _target, problems = resolved(
        """\
        variables: {PW: {secret: true}}
        folders: [{path: "/opt/{{ PW }}"}]
        services: [{name: a, health: {command: [curl, "-u{{ PW }}"]}}]
        checks: [{command: ["true", "{{ PW }}"], when: "PW"}]
        """,
        environment={"PW": "hunter2"},
    )
    assert [problem.split(": ")[1] for problem in problems] == [
        "folders[0].path",
        "services[0].health.command[1]",
        "checks[0].when",
        "checks[0].command[1]",
    ]
    assert "hunter2" not in str(problems)


def test_a_secret_is_never_empty_and_not_in_clear(built, resolved):
    _target, problems = resolved("variables: {PW: {secret: true}}", environment={"PW": ""})
    assert problems == ["environment: PW: is a secret and empty; set PW in the environment, or encrypt it in "
                        "sites/acme.yml, or take it away"]  # fmt: skip
    system = built("variables: {PW: {secret: true, default: hunter2}}")
    _target, problems = _variables.resolve(system, "acme", "dev", "acme-dev", {}, {})
    assert [(problem.fatal, problem.value) for problem in problems] == [(False, "")]
    assert "clear text" in problems[0].message


# --- sections


def test_sections_are_rendered_with_their_defaults(resolved):
    target, problems = resolved(
        """\
        variables:
          GROUP: {default: jaws}
          ACL: {type: bool, default: true}
          USERS: {default: ""}
          PYTHON: {default: python3}
          UNSET:
        folders:
          - {path: "{{ root }}/", group: "{{ GROUP }}"}
          - {path: /scratch, owner: "{{ USERS }}", mode: "2775", when: ACL,
             acl: ["{{ 'd:g:' ~ USERS if USERS else 'd:o::rx' }}", ""]}
          - {path: /bare, acl: []}
          - {path: "{{ UNSET }}", when: UNSET is defined}
        files:
          - {src: "templates/{{ x }}", dest: "{{ root }}/config", restarts: [a]}
        install:
          method: venv
          venv: {path: "{{ root }}/site", python: "{{ PYTHON }}", options: []}
          apptainer: {image: "{{ UNSET }}"}
        services:
          - {name: a, settle: 1m, after: [b, c], health: {command: "{{ ['true', PYTHON] }}", port: "{{ 80 + 1 }}"}}
          - {name: b, unit: "b-{{ deployment }}.service"}
          - {name: c, when: not ACL}
        checks:
          - {free: 2GiB, path: "{{ root }}"}
          - {writable: "{{ root }}/"}
          - {log: "{{ root }}/a.log", log_age: 10m}
        """
    )
    assert problems == []
    plain = {"owner": None, "group": None}
    assert target["folders"] == [
        {"path": "/opt/acme-dev", "mode": "0750", **plain, "group": "jaws", "acl": None},  # what is there stays
        {"path": "/scratch", "mode": "2775", **plain, "acl": ["d:o::rx"]},
        {"path": "/bare", "mode": "0750", **plain, "acl": []},  # what is there goes
    ]
    assert target["files"] == [
        {"src": "templates/{{ x }}", "dest": "/opt/acme-dev/config", "mode": "0600", **plain, "validate": None,
         "restarts": ["a"], "secret": False}
    ]  # fmt: skip
    assert target["install"] == {"method": "venv", "path": "/opt/acme-dev/site", "python": "python3", "options": []}
    assert target["launch"] == {"method": "none"}
    common = {"unit": None, "launch": None, "settle": 3, "timeout": 60, "health": None, "after": [], "apart": False}
    assert target["services"] == [
        {**common, "name": "a", "settle": 60, "after": ["b"], "health": {"command": ["true", "python3"], "port": 81}},
        {**common, "name": "b", "unit": "b-dev.service"},
    ]
    assert target["checks"] == [
        {"free": 2 * 1024**3, "path": "/opt/acme-dev", "timeout": 5},
        {"writable": "/opt/acme-dev", "timeout": 5},
        {"log": "/opt/acme-dev/a.log", "log_age": 600, "timeout": 5},
    ]
    assert [_checks.fault(check) for check in target["checks"]] == ["", "", ""]
    json.dumps(target)  # plain data


@pytest.mark.parametrize(("text", "told"), [
    ("folders: [{path: 's3://bucket/a'}]", 'folders[0].path: "s3://bucket/a": must be an absolute path'),
    ("folders: [{path: '/a', mode: '{{ 750 }}'}]", "must be an octal mode in quotes"),
    ("folders: [{path: '/a', when: 'x is'}]", "folders[0].when: \"x is\": is not a template"),
    ("install: {method: vnev, venv: {}}", 'has no settings in `install`, did you mean "venv"?'),
    ("services: [{name: a, after: [b]}]", 'services[0].after: "b": no such service'),
    ("services: [{name: a, after: [b]}, {name: b, after: [a]}]", "services: wait for each other: a, b"),
    ("files: [{src: t, dest: /a, restarts: rcp}]\nservices: [{name: rpc}]", 'no such service, did you mean "rpc"?'),
    ("services: [{name: a, health: {command: '{{ site }}'}}]", "must give a list of words"),
    ("checks: [{port: '{{ 0 }}'}]", "must be a port"),
])  # fmt: skip
def test_faults_of_sections(resolved, text, told):
    _target, problems = resolved("variables: {}\n" + text)
    assert len(problems) == 1
    assert told in problems[0]


# --- the report


def test_unused_shadowed_and_undefined(built):
    system = built(
        """\
        variables:
          A: {default: same}
          B: {default: low}
          UNUSED: {default: "{{ B }}"}
          FILE:
          PORT: {type: port, default: 1}
          WHEN: {type: bool, default: true}
        unique: {port: [PORT]}
        folders: [{path: /a, when: WHEN}]
        """,
        layers={"dev": "A: same\nB: high\n"},
    )
    target, problems = _variables.resolve(system, "acme", "dev", "acme-dev", {"A": "other"}, {})
    assert problems == []
    report = _variables.report(system, [target], {"A", "FILE", "site"})
    assert [row["name"] for row in report["unused"]] == ["UNUSED"]
    assert report["undefined"] == [{"name": "FILE", "hosts": ["acme-dev"]}]
    assert [(row["name"], row["layer"], row["by"]["layer"], row["equal"]) for row in report["shadowed"]] == [
        ("A", "environment", "deployment", False),
        ("A", "system", "deployment", True),
    ]
