# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the host of a pool, for test_condor_jobs: does the same by both ways of the client, and compares it."""

import json
import subprocess
import sys
import time

from ansible_collections.sciops.sites.plugins.module_utils import _classad, _condor

words = json.loads(sys.argv[1])
ways = [_condor.connect(way, timeout=30) for way in ("bindings", "commands")]


def same(ask):
    one, two = [ask(way) for way in ways]
    assert one == two and json.dumps(one) == json.dumps(two), (one, two)
    return one


key = "k'\"\\"
items = [
    {"arguments": [str(i), word], "environment": {"W": word}, "v": i, "attributes": {"Word": word, "N": i / 2}}
    for i, word in enumerate(words)
] + [{"v": "last"}]
description = {
    "executable": "/bin/sleep",
    "arguments": ["plain"] + words,
    "environment": {"X": "\n'\"", "Y": "z"},
    "hold": True,
    "MY.V": '"x$(v)x"',
}
typed = {
    "Key": key,
    "L": [1, 2.5, "x\\", None, True, {"a": "b\n"}],
    "Big": -(2**63),
    "R": 1e300,
    "Nan": float("nan"),
    "E": _classad.Expression('RequestMemory > 3 && "a\\b\\"" =!= undefined || { 1,"e" }[0] == 1'),
}
clusters = []
for way in ways:
    cluster, jobs = way.submit(description, items, typed)
    clusters.append(cluster)
    assert jobs == len(items)
    found = same(lambda any, cluster=cluster: any.query(_condor.equal("ClusterId", cluster)))
    assert [ad["ProcId"] for ad in found] == list(range(jobs))
    for ad, word, item in zip(found, words, items, strict=False):
        assert ad["Word"] == word and ad["N"] == item["v"] / 2, ad
        assert _classad.split_arguments(ad["Arguments"]) == item["arguments"]
        assert _classad.split_environment(ad["Environment"]) == {"X": "\n'\"", "Y": "z", "W": word}
        assert ad["V"] == f"x{item['v']}x"
    last = found[-1]
    assert "Word" not in last or last["Word"] is None
    assert _classad.split_arguments(last["Arguments"]) == description["arguments"]
    assert last["L"] == typed["L"] and last["Big"] == typed["Big"] and last["R"] == 1e300, last
    assert isinstance(last["E"], _classad.Expression) and isinstance(last["Nan"], _classad.Expression)
    # an expression that came from an ad goes into another as it is
    assert way.edit(_condor.equal("ClusterId", cluster), "E2", last["E"]) == jobs
    mine = _condor.equal("ClusterId", cluster)
    assert same(lambda any, mine=mine: any.query(mine, ["E2"], 1)) == [{"E2": last["E"]}]
    assert way.edit(_condor.equal("ClusterId", cluster), "Word", words[3]) == jobs
    assert len(same(lambda any: any.query(_condor.equal("Word", words[3]), ["ProcId"]))) >= jobs
    assert way.edit("ClusterId == 99999", "Word", 1) == 0
both = _condor.equal("Key", key)
assert len(same(lambda any: any.query(both, ["clusterid", "Nix"], 3))) == 3
assert same(lambda any: any.query("false")) == [] and same(lambda any: any.history("false")) == []
one, two = [_condor.both(both, f"ClusterId == {cluster}") for cluster in clusters]
assert ways[0].act("release", one, "now") == ways[1].act("release", two, "now")
assert ways[0].act("hold", one, 'why "not"\n\\a \u00e9\\') == ways[1].act("hold", two, 'why "not"\n\\a \u00e9\\')
again = ways[0].act("hold", one, "again")
assert again == ways[1].act("hold", two, "again") and again["already_done"] == len(items) and again["success"] == 0
assert {ad["HoldReason"].partition(" (")[0] for ad in same(lambda any: any.query(both, ["HoldReason"]))} == {
    "why 'not' \\a \u00e9"
}
assert ways[0].act("remove", one, "enough") == ways[1].act("remove", two, "enough")
assert not any(ways[1].act("remove", one, "enough")[name] for name in ("success", "error"))
past = same(lambda any: any.history(both))
assert len(past) == 2 * len(items) and {ad["RemoveReason"].partition(" (")[0] for ad in past} == {"enough"}
assert len(same(lambda any: any.schedds())) == 1
assert same(lambda any: any.config(["NUM_CPUS", "NO_SUCH_KNOB"])) == {"NUM_CPUS": "8", "NO_SUCH_KNOB": None}
# a string that is no UTF-8 is another user's right, and makes nobody blind
text = b'executable=/bin/true\nhold=true\nMY.C="\xff\xe9z"\nMY.S="/Expr(x)/"\nMY.D=RequestMemory > 1\nqueue\n'
subprocess.run(["condor_submit", "-terse", "-"], input=text, check=True, stdout=subprocess.DEVNULL)
assert same(lambda any: any.query("C =!= undefined", ["C", "S", "D"])) == [
    {"C": "\udcff\udce9z", "S": "/Expr(x)/", "D": "RequestMemory > 1"}
]
# each daemon tells the collector of itself, but not at once; of a submitter there is word as long as it has jobs
for kind in ("startd", "schedd", "master", "collector", "negotiator", "submitter", "any"):
    ends = time.monotonic() + 60
    while not ways[0].status(kind, None, ["Name"]) and time.monotonic() < ends:
        time.sleep(0.5)
    assert same(lambda any, kind=kind: any.status(kind, None, ["Name", "MyType"])), kind


def refused(ask, kind):
    for way in ways:
        try:
            answer = ask(way)
        except kind:
            continue
        raise AssertionError(answer)


refused(lambda way: way.submit({"executable": "/bin/true", "MY.X": "a b"}), _condor.Refused)
refused(lambda way: way.submit({"arguments": "x"}), _condor.Refused)
refused(lambda way: way.submit({"executable": "/bin/true", "arguments": ["\r"]}), _condor.Refused)
refused(lambda way: way.submit({"executable": "/bin/true", "arguments": "x\nqueue 5"}), _condor.Refused)
refused(lambda way: way.edit("true", "Owner", "root"), _condor.Refused)
refused(lambda way: way.query("a b"), _condor.CondorError)
refused(lambda way: way.act("hold", "a b"), _condor.CondorError)
refused(lambda way: _condor.connect(way.way, schedd="nobody@nowhere").query(), _condor.Silent)
refused(lambda way: _condor.connect(way.way, pool="127.0.0.1:9").status(), _condor.Silent)
print("same")
