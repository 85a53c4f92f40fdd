# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions about batch jobs: what is submitted, retried, given up and swept."""

from __future__ import annotations

from typing import Any

import classad2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _classad as ca
from ansible_collections.sciops.sites.plugins.module_utils import _condor, _condor_batch
from ansible_collections.sciops.sites.plugins.module_utils import _condor_jobs as cj

RULE = {"reason": None, "codes": [34], "memory_factor": 2.0, "memory_step": None, "memory_limit": None, "attempts": 3}
JOBS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30)), unique=True, max_size=40).map(
    lambda pairs: [{"ClusterId": c, "ProcId": p} for c, p in pairs]
)


def options(**more: Any) -> dict:
    return {"state": "present", "key": "k", "description": {"executable": "x"}, "count": 1} | more


def held(**more: Any) -> dict:
    return {
        "ClusterId": 1,
        "ProcId": 0,
        "JobStatus": 5,
        "HoldReasonCode": 34,
        "HoldReason": "memory usage exceeded",
        "NumHolds": 1,
        "RequestMemory": 100,
    } | more


# --- options


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"key": None}, "key: is needed with state present"),
        ({"key": None, "state": "held"}, "key: is needed with state held"),
        ({"key": "a b"}, "key: 'a b': must be letters"),
        ({"key": "k\n"}, "key: 'k\\n': must be letters"),
        ({"description": None}, "description: one of description and dag is needed"),
        ({"dag": "x"}, "dag: cannot be together with description"),
        ({"items": []}, "items: is empty"),
        ({"items": [{}], "table": {}}, "table: cannot be together with items"),
        ({"items": [{}], "count": 2}, "items: cannot be together with count"),
        ({"description": None, "dag": "x", "items": [{}]}, "items: cannot be together with dag"),
        ({"count": 0}, "count: 0: must be 1 to 1000000"),
        ({"constraint": "true"}, "constraint: cannot be together with key"),
        ({"state": "swept", "key": None}, "keys: is empty, and would make every job an orphan"),
        ({"state": "swept", "key": None, "prefix": "-"}, "prefix: '-': must be the beginning of keys"),
        ({"retry": [RULE | {"codes": None}]}, "retry[0].reason: one of reason and codes is needed"),
        ({"retry": [RULE | {"reason": "("}]}, "retry[0].reason: '(' is no regular expression"),
        ({"retry": [RULE | {"memory_factor": 1.0}]}, "retry[0].memory_factor: 1.0: must be over 1"),
        ({"retry": [RULE | {"memory_step": 0}]}, "retry[0].memory_step: 0: must be 1 MB or more"),
        ({"retry": [RULE, RULE | {"attempts": 0}]}, "retry[1].attempts: 0: must be 1 to 100"),
    ],
)
def test_faults_name_the_option(more: dict, text: str) -> None:
    found = cj.faults(options(**more))
    assert len(found) == 1 and found[0].startswith(text), found


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"items": [{"a": 1}]},
        {"description": None, "dag": "x"},
        {"state": "held", "description": None},
        {"state": "removed", "key": None, "constraint": "true"},
        {"state": "swept", "key": None, "prefix": "a/"},
        {"state": "swept", "key": None, "keys": ["a"]},
        {"retry": [RULE]},
    ],
)
def test_good_options_have_no_faults(more: dict) -> None:
    assert cj.faults(options(**more)) == []


def test_a_table_is_read_as_queue_from_reads_it() -> None:
    text = "\n# none\n 1, x y  z \n2\tb c\n3,,q\n4\x1f a, b\x1fc d\n"
    assert cj.rows(["n", "a", "b"], "1,x y, z\n") == [{"n": "1", "a": "x", "b": "y, z"}]
    assert cj.rows(["n", "a"], text.replace("4\x1f a, b\x1fc d\n", "4\x1f a, b\n")) == [
        {"n": "1", "a": "x y  z"},
        {"n": "2", "a": "b c"},
        {"n": "3", "a": ",q"},
        {"n": "4", "a": "a, b"},
    ]
    assert cj.rows(["a"], "x y, z\n") == [{"a": "x y, z"}]
    with pytest.raises(ValueError, match="table: line 2: has 1 cells, and must have 2"):
        cj.rows(["a", "b"], "1 2\n3\n")


# --- items


def test_items_have_keys() -> None:
    assert list(cj.keyed([{"a": 1}, {"key": "x"}, {"key": 7}])) == ["0", "x", "7"]
    with pytest.raises(ValueError, match=r"items\[1\]\.key: 0 is the key of another item"):
        cj.keyed([{}, {"key": 0}])
    assert cj.marked({"key": "x", "v": 1, "attributes": {"A": 2}}, "x") == {
        "v": 1,
        "attributes": {"A": 2, "SciopsItem": "x"},
    }


@given(st.lists(st.text("abc", min_size=1, max_size=2), unique=True), st.lists(st.text("abc", min_size=1, max_size=2)))
def test_each_item_is_submitted_once(wanted: list[str], there: list[str]) -> None:
    jobs = [{"SciopsItem": name} for name in there]
    lacks = cj.missing(wanted, jobs)
    assert set(lacks) == set(wanted) - set(there) and len(lacks) == len(set(lacks))
    assert cj.missing(wanted, jobs + [{"SciopsItem": name} for name in lacks]) == []


def test_only_jobs_of_items_that_went_are_pruned() -> None:
    jobs = [{"SciopsItem": "a"}, {"SciopsItem": "b"}, {}, {"SciopsItem": "c", "JobStatus": 3}]
    assert cj.gone(["a"], jobs) == [{"SciopsItem": "b"}]


def test_another_declaration_has_another_mark() -> None:
    one = cj.digest({"a": 1, "b": 2}, None)
    assert one == cj.digest({"b": 2, "a": 1}, None) != cj.digest({"a": 1, "b": 3}, None) and len(one) == 16


# --- which jobs


@given(JOBS, st.integers(0, 5), st.integers(0, 31))
def test_a_constraint_names_exactly_its_jobs(jobs: list[dict], cluster: int, proc: int) -> None:
    ad = {"ClusterId": cluster, "ProcId": proc, "Is": ca.Expression(cj.ids(jobs))}
    found = classad2.parseOne(ca.show(ad), classad2.ParserType.Old).eval("Is")
    assert found is ({"ClusterId": cluster, "ProcId": proc} in jobs)


@given(JOBS)
def test_spans_name_each_job_once(jobs: list[dict]) -> None:
    found = []
    for span in cj.spans(jobs):
        low, _dash, high = span.partition("-")
        cluster, first = map(int, low.split("."))
        last = int((high or low).split(".")[1])
        found += [{"ClusterId": cluster, "ProcId": proc} for proc in range(first, last + 1)]
    assert sorted(found, key=str) == sorted(jobs, key=str)


def test_10000_jobs_are_a_short_text() -> None:
    jobs = [{"ClusterId": 7, "ProcId": n} for n in range(10000)]
    assert cj.spans(jobs) == ["7.0-7.9999"] and len(cj.ids(jobs)) < 100
    every_other = cj.ids(jobs[::2][: _condor_batch.CHUNK])
    # a word of a command has 128 KiB
    assert len(every_other) < 100000


@given(
    st.fixed_dictionaries(
        {"JobStatus": st.integers(1, 7)}, optional={"SciopsKey": st.sampled_from(["a/1", "a/2", "b", ""])}
    ),
    st.lists(st.sampled_from(["a/1", "b"]), max_size=2),
    st.sampled_from([None, "a/", "b"]),
)
def test_only_jobs_with_a_key_are_orphans(job: dict, keys: list[str], prefix: str | None) -> None:
    job = {"ClusterId": 1, "ProcId": 0, "Owner": "ann", **job}
    ad = {**job, "Is": ca.Expression(cj.ours("ann", prefix))}
    asked = classad2.parseOne(ca.show(ad), classad2.ParserType.Old).eval("Is")
    key = job.get("SciopsKey")
    assert asked is (key is not None and key.startswith(prefix or "") and job["JobStatus"] not in (3, 4))
    assert bool(cj.orphans([job], keys, prefix)) is (
        key is not None and key not in keys and key.startswith(prefix or "")
    )


def test_states_are_all_counted() -> None:
    found = cj.counts([{"JobStatus": 1}, {"JobStatus": 5}, {"JobStatus": 5}, {}, {"JobStatus": 99}])
    assert found["idle"] == 1 and found["held"] == 2 and found["unknown"] == 2 and found["running"] == 0
    assert sum(found.values()) == 5 and len(found) == 8


# --- retries


@pytest.mark.parametrize(
    ("rule", "met"),
    [
        ({"codes": [34]}, True),
        ({"codes": [26]}, False),
        ({"reason": "memory"}, True),
        ({"reason": "^usage"}, False),
        ({"codes": [34], "reason": "disk"}, False),
        ({"codes": [3, 34], "reason": "exceeded$"}, True),
    ],
)
def test_rules(rule: dict, met: bool) -> None:
    assert (cj.rule_for(held(), [rule]) is rule) is met


@pytest.mark.parametrize(
    ("now", "had", "rule", "memory"),
    [
        (100, None, {"memory_factor": 2.0}, 200),
        (100, None, {"memory_step": 50}, 150),
        (100, None, {"memory_factor": 1.1, "memory_step": 50}, 150),
        (100, None, {"memory_factor": 2.0, "memory_limit": 150}, 150),
        (1, None, {"memory_factor": 1.1}, 2),
        (ca.Expression("ImageSize"), 256, {"memory_factor": 2.0}, 512),
        (100, 256, {"memory_factor": 2.0}, 200),
        (100, None, {}, None),
    ],
)
def test_memory_is_raised(now: Any, had: Any, rule: dict, memory: int | None) -> None:
    assert cj.memory_after(now, had, rule) == (memory, "")


@pytest.mark.parametrize(
    ("now", "had", "why"),
    [
        (300, None, "had 300 MB, and the limit is 300 MB"),
        (ca.Expression("x"), None, "by an expression"),
        (True, None, "by an"),
    ],
)
def test_memory_that_cannot_be_raised(now: Any, had: Any, why: str) -> None:
    memory, said = cj.memory_after(now, had, {"memory_factor": 2.0, "memory_limit": 300})
    assert memory is None and why in said


@given(st.integers(1, 10**7), st.floats(1.001, 100), st.integers(1, 10**6))
def test_each_attempt_has_more(now: int, factor: float, step: int) -> None:
    raised, why = cj.memory_after(now, None, {"memory_factor": factor, "memory_step": step})
    assert not why and raised > now


@given(st.integers(1, 5), st.integers(1, 9))
def test_a_job_has_its_attempts_and_no_more(attempts: int, holds: int) -> None:
    """Each hold is answered once, whatever is done twice, until the attempts are over."""
    job, answered = held(), 0
    rule = RULE | {"attempts": attempts}
    for hold in range(1, holds + 1):
        job = job | {"NumHolds": hold}
        groups, given_up = cj.retries([job], [rule])
        if answered == attempts:
            assert not groups and given_up[0]["why"] == f"{attempts} attempts were made"
            continue
        [(value, jobs)] = groups
        assert jobs == [job] and value["attempts"] == answered + 1 and value["memory"] == job["RequestMemory"] * 2
        # the run ends after the first edit: the next one does the rest, and counts nothing twice
        half = job | {"SciopsRetry": value}
        assert cj.retries([half], [rule]) == ([(value, [half])], [])
        half["RequestMemory"] = value["memory"]
        assert cj.retries([half], [rule])[0][0][0] == value
        job, answered = half, answered + 1


def test_jobs_with_the_same_answer_are_one_group() -> None:
    jobs = [held(ProcId=n, RequestMemory=100 * (1 + n % 2)) for n in range(6)]
    jobs.append(held(ProcId=9, JobStatus=1))
    jobs.append(held(ProcId=10, HoldReasonCode=1))
    groups, given_up = cj.retries(jobs, [RULE])
    assert [(value["memory"], len(some)) for value, some in groups] == [(200, 3), (400, 3)] and not given_up


# --- with a client


class Schedd(_condor.Client):
    """A schedd in memory, for what a real one does not do on demand."""

    way = "memory"

    def __init__(self) -> None:
        _condor.Client.__init__(self, None, None, None, 1)
        self.jobs: list[dict] = []
        self.asked: list[str] = []
        self.past: list[dict] = []
        self.lose, self.other = False, 0
        #: of how many items or jobs the other run at the same moment knows
        self.others: int | None = None

    def query(self, constraint=None, projection=None, limit=None) -> list[dict]:  # type: ignore[no-untyped-def]
        self.asked.append("query")
        found = []
        for job in self.jobs:
            ad = {**job, "Is": ca.Expression(constraint or "true")}
            if classad2.parseOne(ca.show(ad), classad2.ParserType.Old).eval("Is") is True:
                found.append(dict(job))
        return found

    def history(self, constraint=None, projection=None, limit=None) -> list[dict]:  # type: ignore[no-untyped-def]
        self.asked.append("history")
        return [dict(job) for job in self.past]

    def submit(self, description, items=None, attributes=None, count=1):  # type: ignore[no-untyped-def]
        self.asked.append("submit")
        if self.other:
            some = count if self.others is None else self.others
            self.add(self.other, items and items[:some], attributes, some)
        cluster = 10
        self.add(cluster, items, attributes, count)
        if self.lose:
            raise _condor.Silent("nobody answered")
        return cluster, len(items) if items is not None else count

    def add(self, cluster: int, items: list | None, attributes: dict, count: int) -> None:
        each = [one["attributes"] for one in items] if items is not None else [{}] * count
        for n, own in enumerate(each):
            self.jobs.append({"ClusterId": cluster, "ProcId": n, "JobStatus": 1, "Owner": "ann", **attributes, **own})

    def act(self, action, constraint, reason=None):  # type: ignore[no-untyped-def]
        self.asked.append(action)
        done = self.query(constraint)
        if action == "remove":
            self.jobs = [job for job in self.jobs if job not in done]
            self.past += [{**job, "JobStatus": 3, "RemoveReason": f"{reason} (by user ann)"} for job in done]
        return {"success": len(done)}

    def preview(self, description, items=None, attributes=None) -> dict:  # type: ignore[no-untyped-def]
        return {"SciopsKey": attributes["SciopsKey"]}


def run(schedd: Schedd, check: bool = False, **more: Any) -> dict:
    given = options(owner="ann", history=True, prune=False, retry=None, **more)
    return _condor_batch.Batch(schedd, given, check).run()


def test_queue_is_looked_at_before_history_and_history_before_submit() -> None:
    schedd = Schedd()
    assert run(schedd, items=[{}, {}])["submitted"] == 2
    assert schedd.asked[:3] == ["query", "history", "submit"]
    schedd.asked.clear()
    assert not run(schedd, items=[{}, {}])["changed"] and "submit" not in schedd.asked and "history" not in schedd.asked


def test_a_lost_answer_is_looked_for() -> None:
    schedd = Schedd()
    schedd.lose = True
    assert run(schedd, items=[{}, {}])["submitted"] == 2 and len(schedd.jobs) == 2
    # jobs that were not taken are unknown, and not submitted blindly again
    never = Schedd()
    never.lose, never.add = True, lambda *args: None  # type: ignore[method-assign]
    with pytest.raises(_condor.Silent, match="nobody answered"):
        run(never, count=3)
    assert never.asked.count("submit") == 1


def test_two_runs_at_the_same_moment_leave_one_set() -> None:
    schedd = Schedd()
    schedd.other = 9
    done = run(schedd, items=[{}, {}])
    assert {job["ClusterId"] for job in schedd.jobs} == {9} and done["submitted"] == 0 and done["cluster"] == 9
    first = Schedd()
    first.other = 11
    assert run(first, items=[{}, {}])["submitted"] == 2 and {job["ClusterId"] for job in first.jobs} == {10, 11}


def test_of_two_runs_with_different_lists_only_what_both_have_is_taken_back() -> None:
    schedd = Schedd()
    schedd.other, schedd.others = 9, 2
    items = [{"key": name} for name in "abc"]
    done = run(schedd, items=items)
    assert sorted((job["ClusterId"], job["SciopsItem"]) for job in schedd.jobs) == [(9, "a"), (9, "b"), (10, "c")]
    assert (done["submitted"], done["cluster"]) == (1, 10)
    # whether there is another run, then what both have; the removal of this schedd asks once itself
    assert schedd.asked == ["query", "history", "submit", "query", "query", "remove", "query", "query"]
    # what was taken back is in the history, and each item has been all the same
    schedd.asked.clear()
    assert not run(schedd, items=items)["changed"] and "submit" not in schedd.asked


def test_of_two_runs_with_different_counts_as_many_stay_as_are_wanted() -> None:
    schedd = Schedd()
    schedd.other, schedd.others = 9, 2
    done = run(schedd, count=3)
    assert sorted((job["ClusterId"], job["ProcId"]) for job in schedd.jobs) == [(9, 0), (9, 1), (10, 0)]
    assert (done["submitted"], done["cluster"]) == (1, 10)
    # the two that were taken back are in the history, and are none of five
    schedd.other = 0
    assert run(schedd, count=5)["submitted"] == 2


def test_an_item_that_was_only_taken_back_is_not_there() -> None:
    gone = {"ClusterId": 2, "ProcId": 0, "JobStatus": 3, "SciopsItem": "a"}
    twin = {**gone, "RemoveReason": "sciops.sites: cluster 1 is the same (by user ann)"}
    assert cj.missing(["a"], [twin]) == ["a"] and cj.missing(["a"], [gone]) == []
    assert cj.missing(["a"], [{**gone, "RemoveReason": "sciops.sites: removed (by user ann)"}]) == []
    # three at once: what the middle one takes back is no reason for the last to do the same
    last = {"ClusterId": 3, "ProcId": 0, "JobStatus": 1, "SciopsItem": "a"}
    assert cj.twins([twin, last], 3, set()) == ([], None)
    assert cj.twins([{**gone, "ClusterId": 1}, twin, last], 3, set()) == ([last], 1)
    assert cj.twins([{**gone, "ClusterId": 1}, last], 3, {1}) == ([], None)


def test_check_mode_asks_and_changes_nothing() -> None:
    schedd = Schedd()
    done = run(schedd, check=True, items=[{}, {}])
    assert done["changed"] and done["submitted"] == 2 and done["ad"] == {"SciopsKey": "k"}
    assert set(schedd.asked) == {"query", "history"} and schedd.jobs == []


def test_a_key_of_somebody_else_is_not_taken() -> None:
    schedd = Schedd()
    schedd.jobs = [{"ClusterId": 1, "ProcId": 0, "JobStatus": 1, "Owner": "bob", "SciopsKey": "k"}]
    given = options(owner=None, history=True)
    with pytest.raises(_condor.Refused, match="jobs of bob have it"):
        _condor_batch.Batch(schedd, given, False).run()
    assert "submit" not in schedd.asked


def test_a_key_that_two_users_have_is_kept_apart_by_the_owner() -> None:
    schedd = Schedd()
    schedd.jobs = [
        {"ClusterId": 1, "ProcId": 0, "JobStatus": 5, "Owner": "bob", "SciopsKey": "k", "HoldReasonCode": 34}
    ]
    done = run(schedd, count=2) | {}
    # bob's cluster is the lower one, and no twin of ours; his held job is not ours to retry
    assert done["submitted"] == 2 and len(schedd.jobs) == 3 and done["states"]["held"] == 0
