# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How actions are spread over execs, and what lost and refused answers mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils._apply import (
    apply_time,
    converged,
    join_results,
    request_for,
    waves,
)

actions = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["start", "stop", "rotate"]),
            "host": st.sampled_from([f"h{i}" for i in range(20)]),
            "component": st.sampled_from(["p/a", "p/b"]),
        }
    ),
    max_size=60,
)


@given(actions)
def test_every_action_once_and_every_host_in_one_wave(plan):
    split = waves(plan)
    assert sorted(map(str, plan)) == sorted(str(one) for wave in split for one in wave)
    hosts = [{one["host"] for one in wave} for wave in split]
    assert sum(len(one) for one in hosts) == len(set().union(*hosts)) if hosts else not plan


@given(actions)
def test_starts_begin_slowly_one_two_four(plan):
    starting = [{one["host"] for one in wave if one["kind"] == "start"} for wave in waves(plan)]
    for index, hosts in enumerate(starting):
        assert len(hosts) <= 2**index


@given(actions)
def test_order_on_a_host_is_kept(plan):
    for host in {one["host"] for one in plan}:
        assert [one for one in plan if one["host"] == host] == [
            one for wave in waves(plan) for one in wave if one["host"] == host
        ]


def test_lost_reply_is_unknown_never_failed():
    start = {"kind": "start", "host": "h", "component": "p/a", "token": "1-0"}
    (result,) = join_results([start], {"answered": False, "kind": "timeout", "reason": "no answer within 9 s"})
    assert result["outcome"] == "unknown" and result["message"] == "no answer within 9 s"


def test_refusal_before_anything_was_done_is_not_unknown():
    start = {"kind": "start", "host": "h", "component": "p/a", "token": "1-0"}
    (result,) = join_results([start], {"answered": False, "kind": "refused", "reason": "the request is not understood"})
    assert result["outcome"] == "refused"


def test_results_stand_although_the_look_after_them_failed():
    start = {"kind": "start", "host": "h", "component": "p/a"}
    seen = {"answered": False, "kind": "timeout", "reason": "late", "results": [{"outcome": "started", "pid": 7}]}
    assert join_results([start], seen)[0]["outcome"] == "started"


def test_an_answer_with_too_few_results_is_a_fault_not_a_guess():
    with pytest.raises(ValueError, match="shorter"):
        join_results([{"kind": "stop", "host": "h"}], {"answered": True, "results": []})


def test_time_for_an_apply_covers_graces_and_settles():
    requests = [{"kind": "stop", "grace": 30}, {"kind": "stop", "grace": 5}]
    requests += [{"kind": "start", "component": "p/a", "settle": 2}] * 7
    # batches of 1, 2 and 4
    assert apply_time(requests) >= 30 + 3 * 2


@pytest.mark.parametrize(
    ("component", "good"),
    [
        ({"state": "on", "wanted": [2, 4], "certain": 2, "possible": 2}, True),
        ({"state": "on", "wanted": [2, 4], "certain": 1, "possible": 2}, False),
        ({"state": "on", "wanted": [2, 4], "certain": 5, "possible": 5}, False),
        ({"state": "off", "wanted": [2, 4], "certain": 0, "possible": 0}, True),
        ({"state": "off", "wanted": [2, 4], "certain": 1, "possible": 1}, False),
        ({"state": "on", "wanted": [0, 0], "certain": 0, "possible": 1}, False),
    ],
)
def test_converged_means_surely_so(component, good):
    assert converged({"components": {"p/a": {**component, "after": 9}}, "set_aside": {}}) is good


def test_a_component_put_aside_is_not_converged():
    assert not converged({"components": {}, "set_aside": {"p/a": "f.yml:1: broken"}})


def test_instances_that_nobody_declares_and_policy_keeps_are_no_lack():
    kept = {"state": "undeclared", "wanted": [0, 0], "certain": 2, "possible": 2, "after": 2}
    plan = {"components": {"p/old": kept}, "set_aside": {}}
    assert converged(plan, report_undeclared=True)
    assert not converged(plan), "a policy that stops them has not done so yet"


def test_a_launcher_that_this_version_does_not_have_is_not_asked() -> None:
    declaration = {"site": "s", "deployment": "d", "components": {}, "hosts": {"h": {}}}
    request = request_for(declaration, "h", "observe", known=["slurm", "of-tomorrow"])
    assert list(request["launchers"]) == ["slurm"]
