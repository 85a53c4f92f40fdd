# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of system files, layers and site files, and whether they fit together."""

from __future__ import annotations

import json

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.sciops.sites.plugins.module_utils import _checks, _installs
from ansible_collections.sciops.sites.plugins.plugin_utils import (
    _deploying,
    _schema,
    _sections,
    _source,
    _system,
    _systemfile,
)

SITE = "hosts: {h1.example.org: {}}\n"


def faults(system):
    return [str(problem).removeprefix("/systems/") for problem in system.problems]


def test_places_have_names_and_machines(built):
    system = built(
        "variables: {}",
        sites={
            "beta": "hosts: {login1.b.org: {machine: b}, login2.b.org: {machine: b}}\ndeployments: {prod: }",
            "acme": SITE + "deployments: {prod: {}, dev: {}}",
        },
    )
    assert faults(system) == []
    assert [(place.name, place.address, place.machine) for place in system.places] == [
        ("acme-dev", "h1.example.org", "h1.example.org"),
        ("acme-prod", "h1.example.org", "h1.example.org"),
        ("beta-prod-login1", "login1.b.org", "b"),
        ("beta-prod-login2", "login2.b.org", "b"),
    ]
    assert system.place("beta", "prod", "login2.b.org") == system.place("beta", "prod", "beta-prod-login2")
    with pytest.raises(KeyError, match="no target of dev at beta"):
        system.place("beta", "dev", "login1.b.org")


def test_all_faults_of_all_files_at_once(built):
    system = built(
        """\
        variables:
          A: {type: prot}
          B: {mandatry: true}
        services: [{name: a, settel: 3}]
        """,
        layers={"dev": "A: {x: 1}\n"},
        sites={"acme": "hots: {h1: {}}\nvars: {A: 1}\n", "beta": "hosts: {h1: {machines: m}}\n"},
    )
    assert faults(system) == [
        "small.system.yml:8: services[0].settel: unknown key, did you mean \"settle\"?",
        'small.system.yml:6: variables.A.type: "prot": must be str or int or number or bool or port or path or '
        'folder or duration or size or uuid or mode or host or url or list, did you mean "port"?',
        'small.system.yml:7: variables.B.mandatry: unknown key, did you mean "mandatory"?',
        'layers/dev.yml:1: A: {"x": 1}: must be text, a number, true, false or a list of these',
        'sites/acme.yml:1: hots: unknown key, did you mean "hosts"?',
        'sites/beta.yml:1: hosts.h1.machines: unknown key, did you mean "machine"?',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "layers", "sites", "told"),
    [
        ("variables: {site: {}}", {}, {}, "variables.site: this name is taken"),
        ("variables: {A: }\nunique: {port: [AA]}", {}, {}, 'unique.port[0]: "AA": no such variable, did you mean "A"?'),
        ("variables: {A: {secret: true}}\nunique: {port: [A]}", {}, {}, "a secret cannot be compared openly"),
        ("variables: {}", {"pord": ""}, {}, 'layers/pord.yml: no deployment of the system is called pord, did you'),
        ("variables: {}", {}, {"a": SITE + "deployments: {stagin: }"}, 'deployments.stagin: no such deployment, did'),
        ("variables: {}", {}, {"a b": SITE}, '"a b": the name of a site is that of its file'),
        ("variables: {}", {}, {"a": ""}, "sites/a.yml: is empty"),
        ("variables: {}", {}, {"a": "hosts: {}"}, "must be a mapping of at least one host"),
        ("variables: {}", {}, {"a": SITE + "connection: {GROUP: x}"}, "must be a connection variable of Ansible"),
        ("variables: {}", {}, {"a": "hosts: {l.a.org: , l.b.org: }"}, "two targets would be called a-dev-l"),
        ("variables: {}\nservices: [{name: a}, {name: a}]", {}, {}, "two services have this name"),
        ("variables: {}\nchecks: [{port: 1, url: 'http://x'}]", {}, {}, "must have one of url, port, command, program"),
        ("variables: {}\nchecks: [{log: /a.log}]", {}, {}, "command, program, free, writable and log_age"),
        ("variables: {}\nfolders: [{path: /a, mode: 0750}]", {}, {}, "must be an octal mode in quotes"),
        ("variables: {}\nkeep: 0", {}, {}, "keep: 0: must be 1 or more"),
        ("variables: {}\ndeployments: [dev]", {}, {}, "is declared twice"),
    ],
)  # fmt: skip
def test_what_does_not_fit(built, text, layers, sites, told):
    found = faults(built(text, layers=layers, sites=sites or {"acme": SITE}))
    assert any(told in fault for fault in found), found


def test_checks_are_those_that_the_host_knows(built):
    assert set(_system.CHECKS) == set(_checks.KINDS)
    several = "checks: [{writable: /a}, {log: /a.log, log_age: 10m}, {port: 1}]"
    assert faults(built(f"variables: {{}}\n{several}", sites={"acme": SITE})) == []


def test_secrets_of_an_install_method_go_apart_from_its_settings(resolved):
    """What an install method takes as a secret may be one; all else of it is logged, so it may not."""
    assert set(_sections._CONFIDENTIAL) == {name for one in _installs.METHODS.values() for name in one.SECRETS}
    address = "https://ci:{{ PW }}@pypi.example.org/simple"
    methods = {"venv": ("path", "index_url", address), "apptainer": ("image", "password", "{{ PW }}")}
    for method, (place, name, text) in methods.items():
        said = f"install: {{method: {method}, {method}: {{{place}: /opt/a, {name}: '{text}'}}}}"
        target, problems = resolved(f"variables: {{PW: {{secret: true}}}}\n{said}", environment={"PW": "hunter2"})
        value = text.replace("{{ PW }}", "hunter2")
        assert problems == [] and target["install"][name] == value
        options = _deploying.build_options(target, None)
        assert options["secrets"] == {name: value} and options["settings"] == {place: "/opt/a"}
        assert "hunter2" not in json.dumps(_deploying.check_options(target))
        assert _installs.fit(method, options["settings"], options["secrets"])[name] == value
    for text in (
        "install: {method: apptainer, apptainer: {image: /opt/a.sif, username: '{{ PW }}', password: '{{ PW }}'}}",
        "install: {method: venv, venv: {options: {index_url: '{{ PW }}'}}}",
        "launch: {method: process, process: {password: '{{ PW }}'}}",
    ):
        _target, problems = resolved(f"variables: {{PW: {{secret: true}}}}\n{text}", environment={"PW": "hunter2"})
        assert len(problems) == 1 and "`password` and `index_url` of an install method" in problems[0]


def test_an_encrypted_value_is_not_shown_in_a_fault(built):
    system = built(
        "variables: {A: }",
        sites={"acme": SITE + "vars: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  61\n"},
        decrypt=lambda cipher: "hunter2",
    )
    assert faults(system) == ["sites/acme.yml:2: vars: (not shown): must be a mapping or null"]


def test_reading_folders(tmp_path):
    (tmp_path / "layers").mkdir()
    (tmp_path / "sites").mkdir()
    file = tmp_path / "small.system.yml"
    file.write_text("plugin: sciops.sites.system\ndeployments: [dev]\nversion: '1'\nroot: /opt/a\nvariables: {A: }\n")
    (tmp_path / "layers" / "dev.yml").write_text("# nothing yet\n")
    (tmp_path / "sites" / "acme.yml").write_text(SITE)
    (tmp_path / "sites" / "acme.yml.orig").write_text("{")
    system = _systemfile.read(str(file), DataLoader())
    assert (system.name, list(system.sites), list(system.layers)) == ("small", ["acme"], ["dev"])
    (tmp_path / "sites" / "acme.yaml").write_text(SITE)
    with pytest.raises(_source.SourceError, match="has the same name"):
        _systemfile.read(str(file), DataLoader())
    (tmp_path / "sites" / "acme.yaml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6161\n")
    (tmp_path / "sites" / "acme.yml").unlink()
    with pytest.raises(_source.SourceError, match="encrypt single values"):
        _systemfile.read(str(file), DataLoader())


def test_the_reader_of_templates_stays_in_the_folder(tmp_path):
    (tmp_path / "t" / "sub").mkdir(parents=True)
    (tmp_path / "t" / "sub" / "b.j2").write_text("B")
    (tmp_path / "t" / "a").write_text("A")
    for left in ("a~", ".a.swp", ".gitkeep"):  # by editors and version control
        (tmp_path / "t" / left).write_text("old")
    text, names = _systemfile.reader(tmp_path)
    assert names("t") == ["a", "sub/b.j2"]
    assert names("t/a") is None
    assert text("t/sub/b.j2") == "B"
    for path in ("../x", "/etc/passwd", "t/../../x"):
        with pytest.raises(ValueError, match="in the folder of the system file"):
            text(path)
    with pytest.raises(ValueError, match="there is no such file"):
        names("u")


@pytest.mark.parametrize("name", ["system", "layer", "site"])
def test_the_published_schemas_are_those_of_the_code(root, name):
    schema = getattr(_system, f"{name.upper()}_SCHEMA")
    path = root / "docs" / "schema" / ("system.schema.json" if name == "system" else f"system-{name}.schema.json")
    assert json.loads(path.read_text()) == json.loads(json.dumps(_schema.published(schema)))
