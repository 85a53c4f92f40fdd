# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slurm's queue: what counts, what is refused, what is submitted."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sciops.sites.plugins.plugin_utils import _slurm

TYPES = [
    _slurm.Type("pipe0-nersc-deleter", 2, {"total": 1}),
    _slurm.Type("pipe0-nersc-verifier", 10, {"hsi": 1, "total": 1}),
    _slurm.Type("pipe0-nersc-mover", 10, {"hsi": 1, "total": 1}),
    _slurm.Type("pipe0-site-move-verifier", 10, {"total": 1}),
]
LIMITS = {"hsi": 10, "total": 15}


def _jobs(state: Any, **counts: int) -> dict[str, Any]:
    jobs = []
    for name, count in counts.items():
        for _index in range(count):
            jobs.append(
                {
                    "job_id": 1000 + len(jobs),
                    "name": {"smv": "pipe0-site-move-verifier"}.get(name, f"pipe0-nersc-{name}") + ".sh",
                    "job_state": state,
                    "account": "m1",
                    "user_name": "jadelta",
                }
            )
    return {"jobs": jobs, "errors": []}


def _submit(document: Any) -> tuple[list[str], str]:
    names, error, _plan = _slurm.submissions(document, "jadelta", "m1", TYPES, LIMITS)
    return names, error


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", ["PENDING"], ["RUNNING"], ["RUNNING", "COMPLETING"]])
def test_j20_hsi_full_leaves_one_submission(state: Any) -> None:
    queue = _jobs(state, deleter=2, verifier=6, mover=4, smv=1)
    assert _submit(queue) == (["pipe0-site-move-verifier"], "")


@pytest.mark.parametrize("state", ["COMPLETED", ["CANCELLED"], ["COMPLETING"]])
def test_j20_an_empty_queue_gives_one_of_each_downstream_first(state: Any) -> None:
    four = [one.name for one in TYPES]
    assert _submit({"jobs": []}) == (four, "")
    assert _submit(_jobs(state, deleter=2, verifier=6)) == (four, "")


def test_j20_total_full_ends_the_run() -> None:
    assert _submit(_jobs("RUNNING", verifier=5, smv=10)) == ([], "")
    assert _submit(_jobs("RUNNING", verifier=4, smv=10)) == (["pipe0-nersc-deleter"], "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"job_state": "DREAMING"}, "job 1000: job_state: 'DREAMING': is not a known word"),
        ({"job_state": ["RUNNING", "DREAMING"]}, "job 1000: job_state: 'DREAMING': is not a known word"),
        ({"job_state": 3}, "job 1000: job_state: 3: must be a word or a list of words"),
        ({"job_state": []}, "job 1000: job_state: []: must be a word or a list of words"),
        ({"account": None}, "job 1000: account: None: must be a text"),
        ({"job_id": "7"}, "job '7': job_id: must be a number"),
    ],
)
def test_j20_an_unknown_word_or_type_submits_nothing_and_is_named(change: dict[str, Any], words: str) -> None:
    queue = _jobs("RUNNING", deleter=1)
    queue["jobs"][0].update(change)
    assert _submit(queue) == ([], words)


@pytest.mark.parametrize("document", [None, [], {}, {"jobs": None}, {"jobs": ["x"]}, {"jobs": [], "errors": ["down"]}])
def test_j20_an_answer_that_is_no_queue_submits_nothing(document: Any) -> None:
    names, error = _submit(document)
    assert names == []
    assert error


def test_other_users_accounts_and_names_do_not_count_and_nothing_is_ever_cancelled() -> None:
    queue = _jobs("RUNNING", deleter=4)
    queue["jobs"][0]["user_name"] = "eve"
    queue["jobs"][1]["account"] = "m2"
    queue["jobs"][2]["name"] = "other.sh"
    assert "pipe0-nersc-deleter" in _submit(queue)[0]
    _names, _error, plan = _slurm.submissions(_jobs("RUNNING", deleter=9), "jadelta", "m1", TYPES, LIMITS)
    assert {one["kind"] for one in plan["actions"]} == {"start"}
