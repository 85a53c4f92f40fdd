# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interface.json of jadetools: checked, imported, exported, and what in it cannot work."""

from __future__ import annotations

import copy
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _declaration, _jadetools, _source

KIND = {"name": "x", "count": 1, "submitter": "xboost", "hot": False, "key": "pipe0-x", "on": True}
SMALL = {"hotlimit": 2, "available": ["a", "b"], "pipes": [{"pipe": "pipe0", "types": [KIND]}]}


def parsed(data):
    config, problems = _jadetools.parse_interface(json.dumps(data), "Interface.json")
    return config, [str(problem) for problem in problems]


def compiled(document):
    text = _jadetools.to_yaml(document)
    return _declaration.compile_site([_source.parse(text, "/sites/prod/wipac.site.yml", "site")])


@pytest.fixture(scope="module")
def real(interface_json):
    config, problems = _jadetools.parse_interface(interface_json.read_text(), "Interface.json")
    assert problems == []
    return config


def test_j01_import_of_the_real_file(real):
    """J1: 16 hosts in order, pipes of 6, 4 and 7, 17 components, 14 on, 19 wanted, 8 of the on ones hot."""
    declaration, problems = compiled(_jadetools.import_interface(real, "wipac"))
    assert problems == []
    assert list(declaration["hosts"]) == real["available"]
    assert len(declaration["hosts"]) == 16
    assert {host["hot_limit"] for host in declaration["hosts"].values()} == {2}
    components = list(declaration["components"].values())
    assert [sum(one["pipe"] == pipe for one in components) for pipe in ("pipe0", "pipe1", "pipe2")] == [6, 4, 7]
    on = [one for one in components if one["state"] == "on"]
    assert (len(components), len(on), sum(one["count"]["max"] for one in on), sum(one["load"] == 1 for one in on)) == (
        17, 14, 19, 8,
    )  # fmt: skip
    assert declaration["components"]["pipe0/bundler"]["command"] == ["/home/jadelta/bundlerboost"]
    assert all(one["adopt"] for one in components)


def test_j01_export_equals_the_input(real):
    """J1: export equals the input, `description` included."""
    document = _jadetools.import_interface(real, "wipac")
    again = _source.parse(_jadetools.to_yaml(document), "x", "x").data
    assert again == document
    assert _jadetools.export_interface(again) == real


def test_j01_three_faults_each_with_its_path(real):
    """J1: a wrong type, a missing key and an unknown key are three faults, the last with its neighbour."""
    bad = copy.deepcopy(real)
    bad["pipes"][0]["types"][2]["count"] = "two"
    del bad["pipes"][1]["types"][0]["key"]
    bad["hotlimt"] = bad.pop("hotlimit")
    config, problems = parsed(bad)
    assert config is None
    assert sorted(problems) == [
        'Interface.json: hotlimt: unknown key, did you mean "hotlimit"?',
        'Interface.json: pipes[0].types[2].count: "two": must be a whole number',
        "Interface.json: pipes[1].types[0].key: is missing",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Interface.json: is empty"),
        ("{", "Interface.json:1: is not valid JSON: Expecting property name enclosed in double quotes (column 2)"),
        ('{"hotlimit": NaN}', "Interface.json: is not valid JSON: NaN is not a number of JSON"),
        ("[]", "Interface.json: []: must be a mapping"),
    ],
)
def test_what_is_no_configuration(text, message):
    config, problems = _jadetools.parse_interface(text, "Interface.json")
    assert config is None
    assert [str(problem) for problem in problems] == [message]


def test_a_key_given_twice():
    text = json.dumps(SMALL)[:-1] + ', "hotlimit": 3}'
    assert [str(p) for p in _jadetools.parse_interface(text, "I")[1]] == [
        "I: hotlimit: the key is given twice in one object"
    ]


@pytest.mark.parametrize(
    ("place", "value"), [("count", -1), ("count", 100001), ("count", True), ("on", "yes"), ("key", "")]
)
def test_values_out_of_bounds(place, value):
    config, problems = parsed({**SMALL, "pipes": [{"pipe": "p", "types": [{**KIND, place: value}]}]})
    assert config is None
    (problem,) = problems
    assert problem.startswith(f"Interface.json: pipes[0].types[0].{place}: {json.dumps(value)}: must ")


WORDS = st.text("ab -./Z1", min_size=1, max_size=6)
CONFIGS = st.fixed_dictionaries(
    {
        "hotlimit": st.integers(0, 5),
        "available": st.lists(st.sampled_from(["a", "b", "c.example"]), min_size=1, max_size=4),
        "pipes": st.lists(
            st.fixed_dictionaries(
                {
                    "pipe": WORDS,
                    "types": st.lists(
                        st.fixed_dictionaries(
                            {
                                "name": WORDS, "count": st.integers(0, 9), "submitter": st.text("ab ;$'", max_size=4),
                                "hot": st.booleans(), "key": WORDS, "on": st.booleans(),
                            }
                        ),
                        max_size=4,
                    ),
                },
                optional={"description": st.text(max_size=10)},
            ),
            max_size=3,
        ),
    },
    optional={"debuglevel": st.integers(0, 2), "debugmode": st.booleans()},
)  # fmt: skip


@given(CONFIGS)
def test_round_trip_of_any_configuration(config):
    """Same pipes twice, same names twice, odd names: the export is the input, through the text of the site file."""
    document = _jadetools.import_interface(config, "lab")
    text = _jadetools.to_yaml(document)
    read = _source.parse(text, "lab.site.yml", "site")
    assert read.faults == ()
    assert _jadetools.export_interface(read.data) == config
    declaration, problems = _declaration.compile_site([read])
    assert declaration is not None, problems
    wished = sum(kind["on"] for pipe in config["pipes"] for kind in pipe["types"] if kind["submitter"].strip())
    assert sum(one["state"] == "on" for one in declaration["components"].values()) == wished


def test_findings_of_the_real_file(real):
    """The four components that were never seen, the six that counted double, the empty submitter."""
    found = _jadetools.findings(real)
    never = [line.split(":")[1].strip() for line in found if "is never seen" in line]
    twice = [line.split(":")[1].strip() for line in found if "matches twice" in line]
    assert never == ["pipe1-site-move-verifier", "pipe1-deleter-return", "pipe1-unpacker", "pipe2-deletemadison"]
    assert twice == [
        "pipe0-delete", "pipe0-rate-limiter", "pipe2-deleter", "pipe2-rate-limiter", "pipe2-site-move-verifier",
        "pipe2-desy-verifier",
    ]  # fmt: skip
    assert [line for line in found if "empty file" in line] == [
        "pipes[2].types[6].submitter: delmad2boost: is an empty file; a start succeeds and nothing runs"
    ]
    assert len(found) == 11


def test_findings_from_process_lines_and_submitters():
    kinds = [
        {**KIND, "name": "a", "key": "work-a", "submitter": "aboost"},
        {**KIND, "name": "b", "key": "work", "submitter": ""},
        {**KIND, "name": "a", "key": "gone", "submitter": "emptyboost"},
        {**KIND, "name": "d", "key": "work-a", "submitter": "missingboost; rm"},
    ]
    config = {**SMALL, "available": ["h", "h"], "pipes": [{"pipe": "p", "types": kinds}]}
    lines = ["u 1 bash /home/u/work-a", "u 2 vim work-a.py", "u 3 bash /x/work.sh"]
    assert _jadetools.findings(config, lines, {"aboost": "#!/bin/sh\nx &\n", "emptyboost": "\n"}) == [
        "pipes[0].types[0].key: work-a: is in 2 lines of the process list, 1 of them a script of that name",
        "pipes[0].types[0].key: work-a: is also the key of p_d; one process counts for both",
        "pipes[0].types[1].submitter: is empty; nothing can be started",
        "pipes[0].types[1].key: work: is in 3 lines of the process list, 2 of them a script of that name",
        "pipes[0].types[1].key: work: lies inside the key work-a of p_a; one process counts for both",
        "pipes[0].types[1].key: work: lies inside the key work-a of p_d; one process counts for both",
        "pipes[0].types[2]: the counter p_a is also that of pipes[0].types[0]; each counts for both",
        "pipes[0].types[2].submitter: emptyboost: is an empty file; a start succeeds and nothing runs",
        "pipes[0].types[2].key: gone: is in no line of the process list; it was never seen, and started again in every pass",  # noqa: E501
        "pipes[0].types[3].submitter: missingboost; rm: holds characters that a shell would have read; it is run as one word",  # noqa: E501
        "pipes[0].types[3].key: work-a: is in 2 lines of the process list, 1 of them a script of that name",
        "available: h: is listed twice; it is kept once, at its first place",
    ]


@pytest.mark.parametrize(
    ("key", "argv", "seen"),
    [
        ("pipe0-delete", ["bash", "/home/jadelta/pipe0-deleter"], True),
        ("pipe0-delete", ["bash", "/home/jadelta/LTA/lta/bin/pipe0-deleter.sh"], True),
        ("AutoFiles", ["python3.9", "AutoFiles.py"], True),
        ("AutoFiles", ["python", "AutoFiles2.py"], False),
        ("AutoFiles", ["grep", "AutoFiles"], False),
        ("InterfaceLTA", ["vim", "InterfaceLTA.py"], False),
        ("pipe0-bundler", ["tail", "pipe0-bundler.run.x.log"], False),
        ("pipe0-bundler", ["bash", "pipe0-bundler.run.x.log"], False),
        ("a.b", ["sh", "axb"], False),
    ],
)
def test_j04_anchored_patterns_of_imported_keys(key, argv, seen):
    """J4: editors, tail, grep and programs of other names are not counted."""
    patterns = _jadetools.match_of(key)[0]
    words = [word.rsplit("/", 1)[-1] for word in argv]
    assert all(re.fullmatch(pattern, word) for pattern, word in zip(patterns, words, strict=True)) is seen


def test_a_range_and_a_component_of_our_own_have_no_form_there():
    document = _jadetools.import_interface(SMALL, "lab")
    changed = copy.deepcopy(document)
    changed["pipes"]["pipe0"]["components"]["x"]["count"] = {"min": 1, "max": 2}
    with pytest.raises(
        ValueError, match=r"^pipes.pipe0.components.x.count: .*: a range has no form in Interface.json$"
    ):
        _jadetools.export_interface(changed)
    document["pipes"]["pipe0"]["components"]["y"] = {"command": "/y"}
    with pytest.raises(ValueError, match=r"^pipes.pipe0.components.y.legacy: must have submitter and key$"):
        _jadetools.export_interface(document)
