# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared instances of a systemd template: what is written, and that a change of their number touches nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _instances
from ansible_collections.sciops.sites.plugins.module_utils._programs import Unfit

STATES = st.sampled_from(["active", "inactive", "failed", "activating", "deactivating", "reloading"])
NAMES = [str(i) for i in range(1, 7)]


def params(**more: Any) -> dict[str, Any]:
    keys = (
        "description user working_directory restart_sec start_limit_interval start_limit_burst kill_signal timeout_stop"
    )
    base = dict.fromkeys(keys.split())
    base |= {"name": "mover", "environment": {}, "environment_file": [], "after": [], "type": "simple"}
    return base | {"restart": "on-failure", "prune": True, "enabled": True, "on_change": "restart"} | more


def seen(**states: str) -> dict[str, dict[str, str]]:
    return {name.lstrip("_"): {"ActiveState": state} for name, state in states.items()}


@given(st.integers(0, 6), st.integers(0, 6))
def test_a_count_names_no_survivor(old: int, new: int) -> None:
    before = _instances.instances(old, None)
    wanted = _instances.instances(new, None)
    plan = _instances.plan(wanted, {n: {"ActiveState": "active"} for n in before}, set(before), [], False, params())
    survivors = NAMES[: min(old, new)]
    assert plan["kept"] == survivors
    assert plan["stopped"] == plan["disabled"] == NAMES[new:old]
    assert plan["started"] == plan["enabled"] == NAMES[old:new]
    assert plan["restarted"] == []


@given(
    st.lists(st.sampled_from(NAMES), unique=True),
    st.dictionaries(st.sampled_from(NAMES), STATES),
    st.sets(st.sampled_from(NAMES)),
    st.sets(st.sampled_from(NAMES)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["restart", "none"]),
)
def test_every_instance_has_one_fate(wanted, states, linked, pending, changed, prune, enabled, on_change) -> None:
    options = params(prune=prune, enabled=enabled, on_change=on_change)
    now = {name: {"ActiveState": state} for name, state in states.items()}
    plan = _instances.plan(wanted, now, linked, sorted(pending), changed, options)
    fates = plan["started"] + plan["restarted"] + plan["kept"]
    assert sorted(fates) == sorted(wanted)
    for key in ("stopped", "disabled", "enabled"):
        assert len(set(plan[key])) == len(plan[key])
    assert not set(plan["stopped"]) & set(wanted)
    if not prune:
        assert plan["stopped"] == []
    for name in plan["kept"]:
        assert on_change == "none" or not (changed or name in pending)
    assert not set(plan["enabled"]) & (linked | set(plan["disabled"]))
    # nothing is left to do once it was done
    done = {name: {"ActiveState": "active"} for name in wanted}
    links = (linked - set(plan["disabled"])) | set(plan["enabled"])
    again = _instances.plan(wanted, done, links, [], False, options)
    assert not any(again[key] for key in again if key != "kept")


def test_one_that_failed_and_is_no_more_declared_is_forgotten() -> None:
    plan = _instances.plan(
        ["1"], seen(_1="active", _2="failed", _3="inactive"), set(), [], False, params(enabled=False)
    )
    assert plan["stopped"] == ["2"] and plan["kept"] == ["1"]


def test_the_template_has_what_was_declared_and_nothing_is_expanded_but_the_instance() -> None:
    text = _instances.template(
        params(
            user="jadelta",
            environment={"A": "100% $HOME {instance}", "N": 7, "B": True},
            environment_file=["-/etc/x {instance}%"],
            after=["network.target", "a.service"],
            restart_sec=5.0,
            start_limit_interval=0.5,
            start_limit_burst=3,
            description="100% {instance}",
        ),
        ["/bin/{instance}", "--slot={instance}", "%i $x"],
        "multi-user.target",
        "/s/mover.1",
    )
    assert text.startswith(_instances.MARK)
    assert text[len(_instances.MARK) :] == (
        "[Unit]\nDescription=100%% %i\nAfter=network.target a.service\nStartLimitIntervalSec=0.5\nStartLimitBurst=3\n\n"
        "[Service]\nType=simple\nUser=jadelta\n"
        'Environment="A=100%% $HOME %i"\nEnvironment=B=true\nEnvironment=N=7\n'
        "EnvironmentFile=-/etc/x %i%%\nEnvironmentFile=/s/mover.1\n"
        'ExecStart="/bin/%i" "--slot=%i" "%%i $$x"\nRestart=on-failure\nRestartSec=5\n\n'
        "[Install]\nWantedBy=multi-user.target\n"
    )


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"environment": {"1A": "x"}}, "no name of an environment variable"),
        ({"environment": {"A": "\x01"}}, "control characters"),
        ({"environment": {"A": None}}, "must be text or a number"),
        ({"working_directory": "/a\nb"}, "line break"),
        ({"description": "end\\"}, "backslash"),
    ],
)
def test_what_no_unit_can_hold_is_refused(given_: dict, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        _instances.template(params(**given_), ["/bin/x"], "default.target", None)


def test_instances_by_count_and_by_name() -> None:
    assert _instances.instances(3, None) == ["1", "2", "3"]
    assert _instances.instances(None, ["a", "b:1", "a"]) == ["a", "b:1"]
    for count, names, words in [
        (-1, None, "must be 0"),
        (None, ["a b"], "use letters"),
        (None, ["a/b"], "use letters"),
    ]:
        with pytest.raises(Unfit, match=words):
            _instances.instances(count, names)


@given(st.text(st.sampled_from("ab\"'\\`$\n\t#=; %"), max_size=12))
def test_systemd_reads_secrets_back(value: str) -> None:
    # in double quotes of an environment file a backslash stands before what it makes plain, and nothing else counts
    text = _instances.secret_text({"A": value})
    found = re.fullmatch(r'A="((?:[^"\\`$]|\\["\\`$])*)"\n', text)
    assert found
    assert re.sub(r"\\(.)", r"\1", found.group(1)) == value


def test_a_secret_that_systemd_would_drop_is_refused_without_its_value() -> None:
    with pytest.raises(Unfit, match="secrets: A: ") as raised:
        _instances.secret_text({"A": "hidden\x01"})
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        ({"ActiveState": "active", "MainPID": "7"}, ""),
        ({"ActiveState": "active", "MainPID": "8"}, "it ended and was started again"),
        ({"ActiveState": "active", "MainPID": "8", "Type": "forking"}, ""),
        ({"ActiveState": "active", "MainPID": "7", "NRestarts": "1"}, "it ended and was started again"),
        ({"ActiveState": "activating", "SubState": "start"}, None),
        ({"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}, "activating (auto-restart)"),
        ({"ActiveState": "failed", "ExecMainCode": "1", "ExecMainStatus": "3"}, "exit status 3"),
        ({"ActiveState": "failed", "ExecMainCode": "2", "ExecMainStatus": "9"}, "signal 9"),
        ({"ActiveState": "failed", "NRestarts": "5"}, "gave it up after 5 restarts"),
        ({"ActiveState": "failed", "Result": "start-limit-hit"}, "start limit hit"),
        ({"ActiveState": "inactive", "SubState": "dead", "Result": "success"}, "result success"),
    ],
)
def test_what_is_wrong_in_words(one: dict[str, str], words: str | None) -> None:
    said = _instances.trouble(one, "7", True)
    if words:
        assert said and words in said
    else:
        assert said == words
