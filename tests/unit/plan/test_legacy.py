# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""jadetools states: the legacy mode against an oracle written from the description alone, and the strict mode."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _legacy, _replay


def _type(name: str, count: int, hot: bool, on: bool = True) -> dict[str, Any]:
    return {"name": name, "count": count, "hot": hot, "on": on, "submitter": name, "key": f"work-{name}"}


J2 = {
    "config": {
        "hotlimit": 1,
        "available": ["a", "b", "c"],
        "pipes": [
            {
                "pipe": "p",
                "types": [_type("x", 2, True), _type("y", 1, True), _type("z", 2, False), _type("w", 1, False, False)],
            }
        ],
    },
    "hosts": {"a": {"lines": ["work-x"]}, "b": {"getmex_rc": 255}, "c": {"ping": "lost"}},
}


def test_j02_legacy_starts_are_b_x_b_y_a_z_b_z() -> None:
    assert _legacy.plan(J2) == {"launches": [["b", "x"], ["b", "y"], ["a", "z"], ["b", "z"]]}


def test_j02_strict_starts_only_z_only_on_a() -> None:
    made = _legacy.strict(J2)
    assert {tuple(one) for one in made["launches"]} == {("a", "z")}
    assert made["unplaced"] == {"p/x": "a: hot limit, b: unknown, c: down", "p/y": "a: hot limit, b: unknown, c: down"}
    assert made["plan"]["components"]["p/w"]["why"] == "off: never started"


def test_j02_the_real_configuration_fills_the_first_hosts(interface_json: Path) -> None:
    config = json.loads(interface_json.read_text(encoding="utf-8"))
    launches = _legacy.plan({"config": config, "hosts": {}})["launches"]
    hosts = [host.split(".")[0] for host, _submitter in launches]
    assert len(launches) == 19
    assert {host: hosts.count(host) for host in hosts} == {"n-20": 14, "n-40": 4, "n-43": 1}
    hot = {one["submitter"] for pipe in config["pipes"] for one in pipe["types"] if one["hot"]}
    assert sum(1 for host, submitter in launches if host.startswith("n-20") and submitter in hot) == 8


def test_j02_the_real_configuration_keeps_the_limit_in_strict_mode(interface_json: Path) -> None:
    config = json.loads(interface_json.read_text(encoding="utf-8"))
    made = _legacy.strict({"config": config, "hosts": {}})
    assert len(made["launches"]) == 19
    assert all(one["load"] <= 2 for one in made["plan"]["hosts"].values())
    assert made["unplaced"] == {}


def oracle(state: dict[str, Any]) -> list[list[str]]:
    """The five steps of the old coordinator, written in another way: a table of rows that is walked down."""
    config = state["config"]

    def told(host: str) -> dict[str, Any]:
        return state["hosts"].get(host, {})

    rows = [(pipe["pipe"] + "_" + one["name"], one) for pipe in config["pipes"] for one in pipe["types"]]
    alive = []
    for host in config["available"]:
        if host not in alive and told(host).get("ping", "ok") not in ("lost", "unreachable"):
            alive.append(host)
    pairs = [
        (host, name, one["hot"])
        for host in alive
        if told(host).get("getmex_rc", 0) == 0
        for line in told(host).get("lines", [])
        for name, one in rows
        if line.find(one["key"]) >= 0
    ]
    total = {name: [pair[1] for pair in pairs].count(name) for name, _one in rows}
    heat = {host: len([pair for pair in pairs if pair[0] == host and pair[2]]) for host in alive}
    starts = []
    for name, one in rows:
        hosts = [host for host in alive if not one["hot"] or heat[host] < config["hotlimit"]] if one["on"] else []
        while hosts and total[name] < one["count"]:
            host = hosts.pop(0)
            starts.append([host, one["submitter"]])
            if told(host).get("launch_rc", {}).get(one["submitter"], 0) == 0:
                total[name] += 1
    return starts


def _state(chance: random.Random) -> dict[str, Any]:
    """Duplicate hosts, keys inside keys, shared counters, failing starts."""
    names, keys = ["x", "y", "z"], ["work", "work-x", "work-xy", "k"]
    types = [
        {
            "name": chance.choice(names),
            "count": chance.randrange(4),
            "hot": chance.random() < 0.5,
            "on": chance.random() < 0.8,
            "submitter": f"s{at}",
            "key": chance.choice(keys),
        }
        for at in range(chance.randrange(1, 7))
    ]
    cut = chance.randrange(len(types) + 1)
    pool = ["a", "b", "c", "d"]
    hosts = {}
    for host in pool:
        if chance.random() < 0.8:
            hosts[host] = {
                "ping": chance.choice(["ok", "ok", "ok", "lost", "unreachable"]),
                "getmex_rc": chance.choice([0, 0, 0, 255]),
                "lines": [f"j 1 {chance.choice([*keys, 'other'])}" for _at in range(chance.randrange(4))],
                "launch_rc": {f"s{at}": chance.choice([0, 0, 1]) for at in range(len(types))},
            }
    return {
        "config": {
            "hotlimit": chance.randrange(4),
            "available": [chance.choice(pool) for _at in range(chance.randrange(6))],
            "pipes": [{"pipe": "p", "types": types[:cut]}, {"pipe": chance.choice("pq"), "types": types[cut:]}],
        },
        "hosts": hosts,
    }


@given(st.integers(0, 2**32).map(random.Random))
def test_j02_legacy_equals_the_oracle(chance: random.Random) -> None:
    state = _state(chance)
    assert _legacy.plan(state)["launches"] == oracle(state)


@given(st.integers(0, 2**32).map(random.Random))
def test_j02_strict_never_breaks_the_hot_limit(chance: random.Random) -> None:
    state = _state(chance)
    made = _legacy.strict(state)
    hot = {one["submitter"]: one["hot"] for pipe in state["config"]["pipes"] for one in pipe["types"]}
    declared = _legacy.to_declaration(state["config"])
    seen = _legacy.to_observations(state, declared)
    for host in declared["hosts"]:
        starts = [submitter for at, submitter in made["launches"] if at == host]
        assert not starts or seen[host]["answered"]
        if any(hot[one] for one in starts):
            assert made["plan"]["hosts"][host]["load"] <= state["config"]["hotlimit"]


def test_j04_legacy_counts_the_wrapper_and_its_script_strict_counts_one() -> None:
    lines = ["bash /home/jadelta/pipe0-deleter", "bash /home/jadelta/LTA/lta/bin/pipe0-deleter.sh"]
    assert _legacy.count_legacy(lines, "pipe0-delete") == 2
    assert _legacy.count_strict(lines, "pipe0-delete") == 1


@pytest.mark.parametrize(
    ("line", "key", "count"),
    [
        ("vim InterfaceLTA.py", "InterfaceLTA", 0),
        ("tail -f pipe0-bundler.run.x.log", "pipe0-bundler", 0),
        ("grep AutoFiles", "AutoFiles", 0),
        ("python AutoFiles2.py", "AutoFiles", 0),
        ("python AutoFiles.py", "AutoFiles", 1),
        ("python3.9 -u /home/j/InterfaceLTA.py now", "InterfaceLTA", 1),
        ("jadelta 7 0.0 0.1 1 1 ? S 10:00 0:00 bash /x/pipe0-bundler.sh 5", "pipe0-bundler", 1),
        ("jadelta 7 0.0 0.1 1 1 ? S 10:00 0:00 vim /x/pipe0-bundler.sh", "pipe0-bundler", 0),
        ("", "x", 0),
        ("bash", "bash", 0),
    ],
)
def test_j04_strict_counts_programs_not_words(line: str, key: str, count: int) -> None:
    assert _legacy.count_strict([line], key) == count


def test_replay_gives_one_plan_for_each_line() -> None:
    line = json.dumps(J2)
    made = list(_replay.replay([line, "\n", line], "states.jsonl", "legacy"))
    assert made == [_legacy.plan(J2)] * 2
    assert list(_replay.replay([line], "states.jsonl", "strict")) == [_legacy.strict(J2)]


@pytest.mark.parametrize(
    ("line", "mode", "words"),
    [
        ("{", "plan", "states.jsonl:2: is not JSON"),
        ("[]", "plan", "states.jsonl:2: []: must be a mapping"),
        ("{}", "plan", "states.jsonl:2: declaration: none"),
        (
            '{"declaration": {}, "observations": {}, "now": "x"}',
            "plan",
            "states.jsonl:2: now: 'x': must be a whole number or",
        ),
        ('{"declaration": {}, "now": 1}', "plan", "states.jsonl:2: observations: None: must be a mapping"),
        (
            '{"declaration": {}, "observations": {}, "now": 1, "memory": {"version": 9}}',
            "plan",
            "states.jsonl:2: memory: version: 9",
        ),
        ("{}", "legacy", "states.jsonl:2: config: None: must be a mapping"),
        ('{"config": {"pipes": []}}', "strict", "states.jsonl:2: is not a whole state for mode strict"),
    ],
)
def test_replay_names_file_line_and_place_of_what_is_wrong(line: str, mode: str, words: str) -> None:
    with pytest.raises(_replay.ReplayError) as caught:
        list(_replay.replay(["", line], "states.jsonl", mode))
    assert str(caught.value).startswith(words)
