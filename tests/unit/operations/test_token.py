# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens, J18: one owner at a time, whatever the interleaving."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _token
from ansible_collections.sciops.sites.plugins.module_utils._token import Token, TokenError

ROUNDS = 1000
FORK = multiprocessing.get_context("fork")


def asks(folder: str, owner: str, barrier, queue) -> None:
    token = Token("check", folder)
    for number in range(ROUNDS):
        barrier.wait(60)
        won, seen = token.acquire(owner, 60)
        # the loser tries to free what it does not have, while the winner has it
        refused = None if won else not token.release(owner)[0]
        barrier.wait(60)
        still = token.read()["owner"] == owner if won else None
        queue.put((number, owner, won, seen["owner"], seen["number"], refused, still))
        if won:
            assert token.release(owner)[0]


def test_j18_of_two_that_ask_at_once_one_gets_it_1000_times(tmp_path: Path) -> None:
    barrier, queue = FORK.Barrier(2), FORK.Queue()
    runners = [FORK.Process(target=asks, args=(str(tmp_path), owner, barrier, queue)) for owner in ("ana", "ben")]
    for one in runners:
        one.start()
    heard = [queue.get(timeout=60) for _index in range(2 * ROUNDS)]
    for one in runners:
        one.join(60)
        assert one.exitcode == 0
    numbers = []
    for number in range(ROUNDS):
        asked = [one for one in heard if one[0] == number]
        won = [one for one in asked if one[2]]
        lost = [one for one in asked if not one[2]]
        assert (len(won), len(lost)) == (1, 1)
        assert {one[3] for one in asked} == {won[0][1]}
        assert lost[0][5] is True
        assert won[0][6] is True
        numbers.append(won[0][4])
    assert numbers == list(range(1, ROUNDS + 1))
    assert Token("check", str(tmp_path)).read()["owner"] is None


def test_j18_threads_in_the_critical_part_are_one_at_a_time(tmp_path: Path) -> None:
    inside, worst, turns = [0], [0], []

    def work(owner: str) -> None:
        token = Token("t", str(tmp_path))
        for _round in range(40):
            while not token.acquire(owner)[0]:
                time.sleep(0.0005)
            inside[0] += 1
            worst[0] = max(worst[0], inside[0])
            turns.append(token.read()["number"])
            inside[0] -= 1
            assert token.release(owner)[0]

    threads = [threading.Thread(target=work, args=(f"o{index}",)) for index in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert worst[0] == 1
    assert turns == sorted(set(turns))
    assert len(turns) == 120


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = {"boot_id": "a", "boottime": 100.0, "wall": 1e9}
    monkeypatch.setattr(_token, "clocks", lambda: dict(clock))
    made = Token("check", str(tmp_path / "tokens"))
    made.clock = clock  # type: ignore[attr-defined]
    return made


def test_j18_release_by_another_is_refused(token) -> None:
    assert token.acquire("ana", 60)[0]
    done, seen = token.release("ben")
    assert not done
    assert seen["owner"] == "ana"
    assert token.read()["owner"] == "ana"
    assert token.release("ana")[0]
    assert token.release("ana")[0]
    assert token.release("ben")[0]


def test_j18_who_asks_sees_owner_and_age(token) -> None:
    token.acquire("ana", 60)
    token.clock["boottime"] += 12.5
    won, seen = token.acquire("ben", 60)
    assert not won
    assert (seen["owner"], seen["age"], seen["expires_in"], seen["number"]) == ("ana", 12.5, 47.5, 1)


def test_j18_stale_one_expires_and_the_number_grows(token) -> None:
    token.acquire("ana", 60)
    token.clock["boottime"] += 59.9
    assert not token.acquire("ben", 60)[0]
    token.clock["boottime"] += 0.2
    assert _token.view(token.read(), _token.clocks())["expired"]
    won, seen = token.acquire("ben", 60)
    assert won
    assert seen["number"] == 2
    assert not token.acquire("ana", 60)[0]
    assert not token.release("ana")[0]


def test_who_has_it_keeps_number_and_age_and_gets_more_time(token) -> None:
    token.acquire("ana", 60)
    token.clock["boottime"] += 50
    won, seen = token.acquire("ana", 60)
    assert won
    assert (seen["number"], seen["age"], seen["expires_in"]) == (1, 50, 60)
    token.clock["boottime"] += 61
    assert token.acquire("ana", 60)[1]["number"] == 2  # it was free in between


def test_clock_jump_expires_nothing(token) -> None:
    token.acquire("ana", 60)
    token.clock["wall"] += 1e8
    assert not token.acquire("ben", 60)[0]
    token.clock["wall"] -= 2e8
    assert not token.acquire("ben", 60)[0]
    token.clock.update(boot_id="b", boottime=1.0, wall=1e9 + 61)
    assert token.acquire("ben", 60)[0]


def test_without_ttl_it_never_expires(token) -> None:
    token.acquire("ana")
    token.clock["boottime"] += 1e9
    assert not token.acquire("ben")[0]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"name": "other"}', '{"name": "check", "owner": null, "ttl": null}']
)
def test_damaged_file_is_never_a_free_token(token, text: str) -> None:
    token.acquire("ana")
    Path(token.file).write_text(text)
    with pytest.raises(TokenError, match=r"check\.json"):
        token.acquire("ben")
    assert Path(token.file).read_text() == text


def test_every_truncation_is_an_error(token) -> None:
    token.acquire("ana", 5)
    whole = Path(token.file).read_text()
    assert json.loads(whole)["owner"] == "ana"
    for length in range(len(whole)):
        Path(token.file).write_text(whole[:length])
        with pytest.raises(TokenError):
            token.read()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "-x", "x" * 101, "x\n"])
def test_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TokenError, match="name"):
        Token(name, str(tmp_path))


def test_files_are_private(tmp_path: Path) -> None:
    made = Token("check", str(tmp_path / "tokens"))
    made.acquire("ana")
    assert Path(made.folder).stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in Path(made.folder).iterdir()} == {0o600}
