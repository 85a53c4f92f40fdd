# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of interactive applications: what is refused in which words (R1), what who chooses gets (R4)."""

from __future__ import annotations

import json
import textwrap

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _catalogue, _schema, _source
from ansible_collections.sciops.sites.plugins.plugin_utils._catalogue import Refused

FILE = "/etc/rceapp.yml"
CALC = """\
calc:
  global: {cpu: 1, memory: 2048, args: [-q]}
  '1': {command: /opt/calc1, memory: 4096}
  '2': {default: true, command: /opt/calc2, args: [-a, -b]}
"""


def built(text: str) -> _catalogue.Catalogue:
    document = _source.parse(textwrap.dedent(text), FILE, "catalogue", None, _catalogue.EMPTY)
    return _catalogue.build(document)


def said(text: str) -> list[str]:
    found = built(text)
    assert not (found.problems and found.applications), "nothing of a faulty file is used"
    return [str(one) for one in found.problems]


def test_r1_versions_override_what_is_global() -> None:
    catalogue = built(CALC)
    assert catalogue.problems == ()
    two, one = (_catalogue.choose(catalogue, "calc", version) for version in (None, "1"))
    assert (two.version.name, two.memory, two.cpu, two.version.args) == ("2", 2048, 1, ("-a", "-b"))
    assert (one.version.command, one.memory, one.cpu, one.version.args) == ("/opt/calc1", 4096, 1, ("-q",))
    assert one.plain() == {
        "application": "calc",
        "version": "1",
        "command": "/opt/calc1",
        "args": ["-q"],
        "icon": "",
        "cpu": 1,
        "memory": 4096,
    }


GLOBAL = "global: {cpu: 1, memory: 2048}"
ONE = "'1': {default: true, command: /opt/calc}"
FAULTS = {
    "no global": (f"calc: {{{ONE}}}", "1: calc.global: is missing"),
    "no global.memory": (f"calc: {{global: {{cpu: 1}}, {ONE}}}", "1: calc.global.memory: is missing"),
    "no global.cpu": (f"calc: {{global: {{memory: 1}}, {ONE}}}", "1: calc.global.cpu: is missing"),
    "memory lots": (
        f"calc:\n  global: {{cpu: 1, memory: lots}}\n  {ONE}",
        '2: calc.global.memory: "lots": must be a whole number',
    ),
    "no default": (
        f"calc: {{{GLOBAL}, '1': {{command: /opt/calc}}}}",
        "1: calc: no version is the default: give one of them `default: true`",
    ),
    "two defaults": (
        f"calc:\n  {GLOBAL}\n  {ONE}\n  '2': {{default: true, command: /opt/b}}",
        '4: calc.2.default: true: is a second default beside version "1"; keep one',
    ),
    "default as text": (
        f"calc:\n  {GLOBAL}\n  '1':\n    command: /opt/calc\n    default: 'yes'",
        '5: calc.1.default: "yes": must be true or false, without quotes',
    ),
    "object": (
        f"calc:\n  {GLOBAL}\n  '1':\n    default: true\n    command: !!python/object/apply:os.system [id]",
        "5: calc.1.command: the tag tag:yaml.org,2002:python/object/apply:os.system is not known here",
    ),
    "object as a whole": (
        "calc: !!python/object:os.stat_result {global: 1}",
        "1: calc: the tag tag:yaml.org,2002:python/object:os.stat_result is not known here",
    ),
    "name": (
        f"calc: {{{GLOBAL}, '1': {{default: true, command: /opt/calc, args: [!!python/name:os.system '']}}}}",
        '1: calc.1.args[0]: "": the tag tag:yaml.org,2002:python/name:os.system is not known here',
    ),
    "missing command": (f"calc: {{{GLOBAL}, '1': {{default: true}}}}", "1: calc.1.command: is missing"),
    "relative command": (
        f"calc: {{{GLOBAL}, '1': {{default: true, command: calc}}}}",
        '1: calc.1.command: "calc": must be an absolute path, of one line',
    ),
    "negative": (f"calc: {{global: {{cpu: -1, memory: 1}}, {ONE}}}", "1: calc.global.cpu: -1: must be 1 or more"),
    "truth": (f"calc: {{global: {{cpu: true, memory: 1}}, {ONE}}}", "1: calc.global.cpu: true: must be a whole number"),
    "unknown key": (
        f"calc: {{{GLOBAL}, '2.3': {{default: true, command: /opt/calc, memroy: 5}}}}",
        '1: calc."2.3".memroy: unknown key, did you mean "memory"?',
    ),
    "misspelt needed key": (
        f"calc: {{{GLOBAL}, '1': {{default: true, comand: /opt/calc}}}}",
        '1: calc.1.comand: unknown key, did you mean "command"?',
    ),
    "number as version": (f"calc: {{{GLOBAL}, {ONE}, 2: {{command: /a}}}}", '1: calc: the key 2 must be quoted: "2"'),
    "no version": (f"calc: {{{GLOBAL}}}", "1: calc: has no version"),
    "above the limit": (
        "calc: {global: {cpu: 1, memory: 1, max_cpu: 4}, '1': {default: true, command: /a, cpu: 8}}",
        "1: calc.1.cpu: 8: is above max_cpu 4",
    ),
    "no mapping": ("calc: [1]", "1: calc: [1]: must be a mapping of `global` and of versions"),
    "odd name": (f"../calc: {{{GLOBAL}, {ONE}}}", f'1: "../calc": {_catalogue.APPLICATION_RIGHT}'),
    "twice": (f"calc: {{{GLOBAL}, {ONE}}}\ncalc: {{}}", "2: calc: is declared twice, the first time in line 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_r1_refused_with_file_application_and_key(name: str) -> None:
    text, words = FAULTS[name]
    assert said(text) == [f"{FILE}:{words}"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", f"{FILE}: {_catalogue.EMPTY}"),
        ("- a", f"{FILE}:1: must be a mapping of keys and values"),
        ("calc: [", f"{FILE}:2: is not valid YAML: "),
    ],
)
def test_a_file_that_is_none(text: str, words: str) -> None:
    (one,) = said(text)
    assert one.startswith(words) or one.startswith(words.replace(":2:", ":1:"))


def test_r1_all_faults_at_once() -> None:
    found = said(
        """\
        a: {global: {cpu: -1, memory: lots}, '1': {default: "yes"}}
        b: {global: {cpu: 1}, '1': {command: x, default: true}, '2': {command: /x, default: true, icn: /i}}
        """
    )
    assert [one.split(": ")[1] for one in found] == [
        "a.1.command",
        "a.1.default",
        "a.global.cpu",
        "a.global.memory",
        "b.1.command",
        "b.2.default",
        "b.2.icn",
        "b.global.memory",
    ]


def test_the_published_schema_is_that_of_the_code(root) -> None:
    path = root / "docs" / "schema" / "condor-catalogue.schema.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(_schema.published(_catalogue.SCHEMA)))


def test_the_example_is_right(root) -> None:
    path = root / "docs" / "examples" / "rceapp.yml"
    document = _source.parse(path.read_text(), str(path), "catalogue", None, _catalogue.EMPTY)
    catalogue = _catalogue.build(document)
    assert [str(one) for one in catalogue.problems] == [] and "shell" in catalogue.applications


def test_list_as_the_old_tools_print_it() -> None:
    text = "".join(f"{name}: {{{GLOBAL}, {ONE}, '2': {{command: /b}}}}\n" for name in ("stata", "Matlab", "R"))
    assert _catalogue.table(built(text)) == (
        "** denotes default\nApplication  Version(s)\nMatlab       1 **, 2\nR            1 **, 2\nstata        1 **, 2"
    )


FIXED = f"calc: {{global: {{cpu: 2, memory: 2048, supports_cpu_adjustable: false, max_memory: 8192}}, {ONE}}}"


def test_r4_sizes() -> None:
    catalogue = built(FIXED)
    four = _catalogue.choose(catalogue, "calc", memory=4)
    assert (four.memory, four.warnings) == (4096, ())
    kept = _catalogue.choose(catalogue, "calc", cpu=8)
    assert (kept.cpu, kept.warnings) == (
        2,
        ("calc does not let its cpu be adjusted: 8 was asked for, 2 of the catalogue is used",),
    )
    # who asks for what it is anyway needs no warning
    assert _catalogue.choose(catalogue, "calc", cpu=2).warnings == ()
    with pytest.raises(Refused, match="memory: 9216 MB is more than calc may have: max_memory is 8192 MB"):
        _catalogue.choose(catalogue, "calc", memory=9)


@pytest.mark.parametrize("value", ["4GB", "4.5", 4.5, "-1", 0, "", " ", True, "4e3", None, [4], "٤"])
def test_r4_a_size_is_a_whole_number(value: object) -> None:
    with pytest.raises(Refused, match=r"^memory: .*: must be a whole number of GB, without a unit, such as 4$"):
        _catalogue.whole("memory", value, "GB")


@pytest.mark.parametrize(("value", "number"), [(4, 4), ("4", 4), (" 16 ", 16)])
def test_r4_sizes_that_are_right(value: object, number: int) -> None:
    assert _catalogue.whole("memory", value, "GB") == number


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (("clac",), f'{FILE}: clac: no such application, did you mean "calc"?'),
        (("calc", "3"), f"{FILE}: calc: no version 3, known here: 1, 2"),
    ],
)
def test_what_the_catalogue_does_not_have(wanted: tuple[str, ...], words: str) -> None:
    with pytest.raises(Refused) as refused:
        _catalogue.choose(built(CALC), *wanted)
    assert str(refused.value) == words


_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-5, 5000), st.text("ab/ .", max_size=4), st.floats())
_KEYS = st.sampled_from(["global", "1", "2", "cpu", "memory", "default", "command", "args", "icon", "x y", ""])
_TREES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(st.sampled_from(["calc", "b", "", "a/b"]), _TREES, max_size=3))
def test_any_yaml_is_a_catalogue_or_has_faults(tree: dict) -> None:
    found = built(yaml.safe_dump(tree))
    assert bool(found.problems) != bool(found.applications)
    for app in found.applications.values():
        choice = _catalogue.choose(found, app.name)
        assert choice.cpu >= 1 and choice.memory >= 1 and choice.version.command.startswith("/")
