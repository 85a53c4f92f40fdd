# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What two targets both claim, and free ports."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _collisions

DEPLOYMENTS = ("dev", "staging", "prod")


def target(host, machine="m1", deployment="dev", **unique):
    site = host.split("-", maxsplit=1)[0]
    names = {name for kind in unique.values() for name in kind}
    return {
        "system": "s", "site": site, "deployment": deployment, "host": host, "machine": machine, "unique": unique,
        "origins": {name: {"file": f"sites/{site}.yml", "line": 7} for name in names},
    }  # fmt: skip


def block(site, supervisor, cromwell, machine="m1"):
    """Targets of a site with three ports of each kind."""
    return [
        target(
            f"{site}-{deployment}",
            machine,
            deployment,
            port={"SUPERVISOR_PORT": supervisor + number, "CROMWELL_PORT": cromwell + number},
        )
        for number, deployment in enumerate(DEPLOYMENTS)
    ]


def pairs(targets):
    return [(clash.kind, *clash.owners, clash.one.variable) for clash in _collisions.clashes(targets)]


def test_three_sites_on_one_machine():
    targets = block("alpha", 64101, 50101) + block("beta", 64104, 50104) + block("gamma", 64101, 50104)
    expected = [("port", f"alpha-{one}", f"gamma-{one}", "SUPERVISOR_PORT") for one in DEPLOYMENTS]
    expected += [("port", f"beta-{one}", f"gamma-{one}", "CROMWELL_PORT") for one in DEPLOYMENTS]
    assert sorted(pairs(targets)) == sorted(expected)
    assert str(_collisions.clashes(targets)[-1]) == (
        "on m1: port 64103 is claimed by alpha-prod SUPERVISOR_PORT (sites/alpha.yml:7) and by "
        "gamma-prod SUPERVISOR_PORT (sites/gamma.yml:7)"
    )  # fmt: skip


def test_another_machine_has_its_own_ports_and_paths():
    claims = {"port": {"P": 1}, "path": {"D": "/opt/a"}, "unit": {"U": "a.service"}}
    assert pairs([target("a-dev", "m1", **claims), target("b-dev", "m2", **claims)]) == []
    found = pairs([target("a-dev", "m1", **claims), target("b-dev", "m1", **claims)])
    assert [kind for kind, *_rest in found] == ["path", "port", "unit"]


def test_names_in_dns_are_compared_everywhere():
    one = target("a-dev", "m1", dns={"N": "Site.example.org."})
    other = target("b-dev", "m2", dns={"N": "site.example.org"})
    assert pairs([one, other]) == [("dns", "a-dev", "b-dev", "N")]
    assert "on " not in str(_collisions.clashes([one, other])[0])
    empty = [target("a-dev", dns={"N": ""}), target("b-dev", dns={"N": ""})]
    assert pairs(empty) == []


def test_the_hosts_of_one_deployment_share_its_name_but_no_port_of_one_machine():
    claims = {"port": {"P": 1}, "dns": {"N": "a.example.org"}}
    assert pairs([target("a-dev-h1", "h1", **claims), target("a-dev-h2", "h2", **claims)]) == []
    assert pairs([target("a-dev-h1", "m1", **claims), target("a-dev-h2", "m1", **claims)]) == [
        ("port", "a-dev-h1", "a-dev-h2", "P")
    ]


def test_a_target_may_not_give_one_port_twice():
    found = _collisions.clashes([target("a-dev", port={"A": 1, "B": 1}, path={"C": "/a", "D": "/a/b"})])
    assert [str(clash) for clash in found] == [
        "on m1: port 1 is claimed by a-dev A (sites/a.yml:7) and by a-dev B (sites/a.yml:7)"
    ]


def test_a_path_inside_that_of_another():
    outer = target("a-dev", path={"SCRATCH_DIR": "/scratch/"})
    inner = target("b-dev", path={"INSTALL_DIR": "/scratch/jaws/b"})
    beside = target("c-dev", path={"INSTALL_DIR": "/scratch2"})
    (clash,) = _collisions.clashes([inner, outer, beside])
    assert str(clash) == (
        "on m1: path /scratch/jaws/b of b-dev INSTALL_DIR (sites/b.yml:7) lies inside /scratch of a-dev SCRATCH_DIR "
        "(sites/a.yml:7)"
    )
    assert clash.as_dict()["owners"] == [
        {"host": "a-dev", "variable": "SCRATCH_DIR", "value": "/scratch"},
        {"host": "b-dev", "variable": "INSTALL_DIR", "value": "/scratch/jaws/b"},
    ]


def test_object_stores_belong_to_no_machine():
    one = target("a-dev", "m1", path={"D": "s3://bucket/a"})
    assert pairs([one, target("b-dev", "m2", path={"D": "s3://bucket/a/b"})]) == [("path", "a-dev", "b-dev", "D")]
    assert pairs([one, target("b-dev", "m2", path={"D": "s3://bucket/ab"})]) == []
    assert pairs([one, target("b-dev", "m2", path={"D": "/bucket/a"})]) == []


PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(st.tuples(st.sampled_from(["m1", "m2"]), PATHS, st.integers(1, 4)), max_size=8))
def test_every_pair_that_clashes_and_no_other(claims):
    targets = [
        target(f"s{number}-dev", machine, path={"D": path}, port={"P": port})
        for number, (machine, path, port) in enumerate(claims)
    ]
    expected = set()
    for one, other in itertools.combinations(targets, 2):
        if one["machine"] == other["machine"]:
            owners = frozenset([one["host"], other["host"]])
            first, second = (f"{item['unique']['path']['D']}/" for item in (one, other))
            if first.startswith(second) or second.startswith(first):
                expected.add(("path", owners))
            if one["unique"]["port"] == other["unique"]["port"]:
                expected.add(("port", owners))
    found = [(clash.kind, frozenset(clash.owners)) for clash in _collisions.clashes(targets)]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_ports_for_a_new_site():
    usual = {
        "dev": {"SUPERVISOR_PORT": 64101, "CROMWELL_PORT": 50101},
        "staging": {"SUPERVISOR_PORT": 64102, "CROMWELL_PORT": 50102},
        "prod": {"SUPERVISOR_PORT": 64103, "CROMWELL_PORT": 50103},
    }
    alpha, beta = block("alpha", 64101, 50101), block("beta", 64104, 50104)
    assert _collisions.propose(beta + alpha, "another") == usual
    moved = {deployment: {name: port + 3 for name, port in ports.items()} for deployment, ports in usual.items()}
    assert _collisions.propose(alpha, "m1") == moved
    assert _collisions.propose(alpha + beta, "m1")["dev"] == {"SUPERVISOR_PORT": 64107, "CROMWELL_PORT": 50107}
    assert _collisions.propose([], "m1") == {}
    assert _collisions.propose([target("a-dev", port={"P": 65535})], "m1") == {}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=5))
def test_a_proposed_block_clashes_with_nothing(blocks):
    targets = [
        one
        for number, (supervisor, cromwell) in enumerate(blocks)
        for one in block(f"s{number}", 64101 + 3 * supervisor, 50101 + 3 * cromwell)
    ]
    before = _collisions.clashes(targets)
    new = [
        target(f"new-{deployment}", "m1", deployment, port=ports)
        for deployment, ports in _collisions.propose(targets, "m1").items()
    ]
    assert bool(new) == bool(targets)
    assert len(_collisions.clashes(targets + new)) == len(before)
