# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: one clear message with file, place and value each, and nothing of the file is used."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader

HEAD = "plugin: sciops.sites.site\nsite: lab\nhosts: {h1: {}}\n"
ONE = HEAD + "pipes:\n  p:\n    components:\n      a:\n        command: /bin/a\n"


def read(path, inventory=None):
    """Parse one source with the real plugin; return the inventory and the warnings."""
    plugin = inventory_loader.get("sciops.sites.site")
    warnings = []
    plugin.display.warning = lambda msg="", *_, **__: warnings.append(msg)
    inventory = inventory or InventoryData()
    try:
        assert plugin.verify_file(str(path))
        plugin.parse(inventory, DataLoader(), str(path), cache=False)
    finally:
        del plugin.display.warning
    return inventory, warnings


def refused(path, inventory=None) -> list[str]:
    """The lines of the refusal; nothing must have been added."""
    inventory = inventory or InventoryData()
    before = set(inventory.hosts)
    with pytest.raises(AnsibleParserError) as caught:
        read(path, inventory)
    assert set(inventory.hosts) == before
    lines = str(caught.value.message).splitlines()
    assert lines[0] == "the site file cannot be used, nothing was read from it:"
    return [line.strip() for line in lines[1:]]


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "test"
    folder.mkdir()
    return folder / "lab.site.yml"


def test_missing_file(site):
    assert refused(site) == [f"{site}: cannot be read: there is no such file"]


def test_unreadable_file(site):
    site.mkdir()
    (message,) = refused(site)
    assert message.startswith(f"{site}: cannot be read: ")


def test_not_utf8(site):
    site.write_bytes(b"plugin: \xff\xfe")
    (message,) = refused(site)
    assert message.startswith(f"{site}: is not UTF-8 text: ")


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null\n"])
def test_empty_file(site, text):
    site.write_text(text)
    assert refused(site) == [f"{site}: is empty; a site file begins with `plugin: sciops.sites.site`"]


def test_yaml_error(site):
    site.write_text(HEAD + "pipes: [\n")
    (message,) = refused(site)
    assert message.startswith(f"{site}:5: is not valid YAML: ")
    assert "(column 1)" in message


def test_not_a_mapping(site):
    site.write_text("- a\n- b\n")
    assert refused(site) == [f"{site}:1: must be a mapping of keys and values"]


def test_unknown_key(site):
    site.write_text(HEAD + "polcy: {}\n")
    assert refused(site) == [f'{site}:4: polcy: unknown key, did you mean "policy"?']


def test_unknown_key_of_a_host(site):
    site.write_text("plugin: sciops.sites.site\nsite: lab\nhosts:\n  h1:\n    hotlimt: 2\n")
    assert refused(site) == [f'{site}:5: hosts.h1.hotlimt: unknown key, did you mean "hot_limit"?']


def test_unknown_key_with_no_neighbour_lists_the_known(site):
    site.write_text(HEAD + "pipes: {p: {zzz: 1}}\n")
    assert refused(site) == [f"{site}:4: pipes.p.zzz: unknown key, known here: components, description, legacy"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("policy: {start_budget: -1}", "policy.start_budget: -1: must be 0 or more"),
        ("policy: {start_budget: 100001}", "policy.start_budget: 100001: must be 100000 or less"),
        ("policy: {quorum: 2}", "policy.quorum: 2: must be 1 or less"),
        ("policy: {quorum: .nan}", 'policy.quorum: ".nan": must be a finite number'),
        ("policy: {quorum: true}", "policy.quorum: true: must be a number"),
        ("policy: {lost_after: 1y}", 'policy.lost_after: "1y": must be a duration in seconds: a number, or words such as 90s, 10m, 2h, 1d'),  # noqa: E501
        ("policy: {lost_after: 9999d}", 'policy.lost_after: "9999d": must be from 0 to 31622400 seconds'),
        ("policy: {placement: spred}", 'policy.placement: "spred": must be spread or pack, did you mean "spread"?'),
        ("policy: {backoff_min: 2h}", "policy.backoff_min: 7200: must not be more than backoff_max, which is 3600"),
        ("shared_limits: {tape: -1}", "shared_limits.tape: -1: must be 0 or more"),
        ("shared_limits: {tape: ten}", 'shared_limits.tape: "ten": must be a number'),
        ("gates: {quota: {fraction: 0.5}}", "gates.quota: []: must have one of command, url and file"),
        ("holds: [{scope: 'host:h2', mode: hold}]", 'holds[0].scope: "host:h2": no such host, known here: h1'),
        ("holds: [{scope: site, mode: hold, until: soon}]",
         'holds[0].until: "soon": must be a time such as 2026-12-01T08:00:00Z, or unix time'),
        ("site: lab", "site: is declared twice, the first time in line 2"),
        ("connection: {user: me}", "connection.user: must be a connection variable of Ansible (ansible_*)"),
        ("deployment: v1.2", "deployment: \"v1.2\": must be 1 to 63 letters, digits, '_' or '-', beginning with a letter or digit"),  # noqa: E501
        ("pipes: {'a b': {}}", "pipes.a b: must be 1 to 63 letters, digits, '_', '-' or '.', beginning with a letter or digit"),  # noqa: E501
        ("on: 1", "the key on must be quoted: \"on\""),
        ("vars: {x: !thing 1}", 'vars.x: "1": the tag !thing is not known here'),
    ],
)  # fmt: skip
def test_faults_of_the_site_refuse_it(site, line, message):
    site.write_text(HEAD + line + "\n")
    assert refused(site) == [f"{site}:4: {message}"]


def test_all_faults_are_listed_each_on_its_line(site):
    site.write_text(ONE + "        count: -1\npolicy: {quorum: 2}\nvars: 1\n")
    assert refused(site) == [
        f"{site}:9: pipes.p.components.a.count: -1: must be 0 or more",
        f"{site}:10: policy.quorum: 2: must be 1 or less",
        f"{site}:11: vars: 1: must be a mapping",
    ]


def test_no_plugin_key(site):
    site.write_text("site: lab\nhosts: {h1: {}}\n")
    (message,) = refused(site)
    assert message == f"{site}:1: plugin: is missing; a site file begins with `plugin: sciops.sites.site`"


def test_no_hosts(site):
    site.write_text("plugin: sciops.sites.site\nsite: lab\n")
    assert refused(site) == [f"{site}: hosts: no host is declared"]


def test_duplicate_host_through_ranges(site):
    site.write_text("plugin: sciops.sites.site\nsite: lab\nhosts:\n  h[1:3]: {}\n  h2: {}\n")
    assert refused(site) == [f'{site}:5: hosts.h2: "h2": the host is declared twice, the first time in line 4']


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("h[1:", "a range is written [first:last] or [first:last:step]"),
        ("h[3:1]", "the range is empty"),
        ("h[1:999999999]", "more than 100000 hosts"),
        ("h[a]", "host range must be begin:end or begin:end:step"),
    ],
)
def test_bad_ranges(site, pattern, reason):
    site.write_text(f'plugin: sciops.sites.site\nsite: lab\nhosts:\n  "{pattern}": {{}}\n')
    assert refused(site)[0] == f"{site}:4: hosts.{pattern}: is not a host or a range of hosts: {reason}"


def test_host_in_two_sites_names_both_files(site):
    other = site.with_name("other.site.yml")
    site.write_text(HEAD)
    other.write_text(HEAD.replace("lab", "other"))
    inventory, _warnings = read(site)
    (message,) = refused(other, inventory)
    assert message == (
        f"{other}: hosts.h1: the host is in two sites: other ({other}) and lab ({site}); a host belongs to one site file"  # noqa: E501
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("count: -1", ":9: pipes.p.components.a.count: -1: must be 0 or more"),
        ("count: 100001", ":9: pipes.p.components.a.count: 100001: must be 100000 or less"),
        ("count: two", ':9: pipes.p.components.a.count: "two": must be a whole number or a mapping'),
        ("count: {min: 3, max: 2}", ':9: pipes.p.components.a.count: {"min": 3, "max": 2}: min must not be more than max'),  # noqa: E501
        ("comand: /bin/b", ":9: pipes.p.components.a.comand: unknown key, did you mean \"command\"?"),
        ("cwd: '{{ slto }}'", ':9: pipes.p.components.a.cwd: "{{ slto }}": undefined variable slto, did you mean "slot"?'),  # noqa: E501
        ("cwd: '{{ epoch }}'", ':9: pipes.p.components.a.cwd: "{{ epoch }}": undefined variable epoch, known here: component'),  # noqa: E501
        ("cwd: '{{ vars.spol }}'", ':9: pipes.p.components.a.cwd: "{{ vars.spol }}": undefined variable vars.spol, none is defined'),  # noqa: E501
        ("cwd: '{{ slot'", ':9: pipes.p.components.a.cwd: "{{ slot": is not a template: '),
        ("uses: {tape: 1}", ":9: pipes.p.components.a.uses.tape: no such limit in shared_limits, none is defined"),
        ("gates: [quota]", ':9: pipes.p.components.a.gates[0]: "quota": no such gate in gates, none is defined'),
        ("classes: [big]", ':9: pipes.p.components.a.classes[0]: "big": no host has this class, none is defined'),
        ("match: [['(']]", ':9: pipes.p.components.a.match[0][0]: "(": must be a regular expression of Python: '),
        ("secrets: {T: {value: x}}", ":9: pipes.p.components.a.secrets.T.value: unknown key, known here: controller_env"),  # noqa: E501
        ("secrets: {T: {}}", ":9: pipes.p.components.a.secrets.T: {}: must be one of {file: path on the host}, "),
        ("singleton: true\n        count: 2", ":10: pipes.p.components.a.count: 2: a singleton has a count of 1 or 0"),
        ("log: {max_bytes: 1XB}", ':9: pipes.p.components.a.log.max_bytes: "1XB": must be a size in bytes: a number, or words'),  # noqa: E501
        ("user: 'a b'", ':9: pipes.p.components.a.user: "a b": must be the name of an account'),
        ("environment: {SCIOPS_SITES: x}", ":9: pipes.p.components.a.environment.SCIOPS_SITES: is the marker of instances"),  # noqa: E501
        ("environment: {X: true}", ":9: pipes.p.components.a.environment.X: true: must be text or a number"),
    ],
)  # fmt: skip
def test_a_bad_component_is_set_aside_and_the_rest_goes_on(site, lines, message):
    site.write_text(f"{ONE}        {lines}\n      b: {{command: /bin/b}}\n")
    inventory, warnings = read(site)
    declaration = inventory.groups["site_lab"].get_vars()["sciops_sites_site"]
    assert list(declaration["components"]) == ["p/b"]
    assert list(declaration["set_aside"]) == ["p/a"]
    assert declaration["set_aside"]["p/a"].startswith(f"{site}{message}")
    assert [warning for warning in warnings if f"component set aside: {site}{message}" in warning]


def test_a_command_that_cannot_be_split(site):
    site.write_text(HEAD + 'pipes: {p: {components: {a: {command: "/bin/a \'b"}}}}\n')
    declaration = read(site)[0].groups["site_lab"].get_vars()["sciops_sites_site"]
    assert declaration["set_aside"]["p/a"] == (
        f'{site}:4: pipes.p.components.a.command: "/bin/a \'b": cannot be split into words: No closing quotation'
    )


def test_duplicate_component(site):
    site.write_text(ONE + "      a:\n        command: /bin/other\n")
    declaration = read(site)[0].groups["site_lab"].get_vars()["sciops_sites_site"]
    assert declaration["components"] == {}
    assert (
        declaration["set_aside"]["p/a"]
        == f"{site}:9: pipes.p.components.a: is declared twice, the first time in line 7"
    )


def test_a_limit_nobody_defines_names_its_neighbour(site):
    site.write_text(ONE + "        uses: {tape_session: 1}\nshared_limits: {tape_sessions: 10}\n")
    declaration = read(site)[0].groups["site_lab"].get_vars()["sciops_sites_site"]
    assert declaration["set_aside"]["p/a"].endswith('no such limit in shared_limits, did you mean "tape_sessions"?')


def test_aliases_that_never_end(site):
    site.write_text(HEAD + "vars:\n  x: &x\n    y: *x\n")
    assert refused(site)[0] == f"{site}:5: vars.x.y: an alias must not hold itself, nor grow without end"
