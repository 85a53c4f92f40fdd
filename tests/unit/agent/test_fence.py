# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fence: two controllers, late requests, reboots, and what is left of the state folder."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time

import pytest

from .conftest import fill
from .test_start import one


def fence(number: int, holder: str) -> dict:
    return {"number": number, "holder": holder}


def test_j18_a_fence_only_grows(host) -> None:
    """J18: the target checks the number; each case is (number, holder, superseded, what was there before)."""
    cases = [
        (5, "a", False, None),
        (5, "a", False, (5, "a")),
        (5, "b", True, (5, "a")),
        (4, "a", True, (5, "a")),
        (6, "b", False, (5, "a")),
        (6, "a", True, (6, "b")),
        (7, "a", False, (6, "b")),
    ]
    for number, holder, superseded, before in cases:
        seen = host.ask(fence=fence(number, holder))
        assert seen["superseded"] is superseded, (number, holder)
        old = seen["fence"]
        assert (old and (old["number"], old["holder"])) == before
        assert old is None or 0 <= old["age"] < 60
        assert "instances" in seen


def test_an_apply_needs_the_fence_of_its_own_observation(host) -> None:
    boot = host.ask(fence=fence(5, "a"))["boot_id"]
    more = {"actions": [host.action("sleep", "60")], "expect": {"boot_id": boot}}
    cases = {
        "superseded by number 5 of a": [fence(4, "a"), fence(5, "b"), fence(1, "x")],
        "this host was not observed with the fence of this request": [fence(6, "a"), None],
    }
    for words, fences in cases.items():
        for wrong in fences:
            reply = host.ask("apply", fence=wrong, **more)
            assert one(reply)["outcome"] == "refused"
            assert one(reply)["message"] == words
            assert reply["superseded"] is words.startswith("superseded")
            assert reply["fence"]["number"] == 5
    assert host.marked() == []
    assert one(host.ask("apply", fence=fence(5, "a"), **more))["outcome"] == "started"


def test_an_apply_before_any_observation_is_refused(host) -> None:
    boot = host.ask(fence=None)["boot_id"]
    reply = host.ask("apply", actions=[host.action("sleep", "60")], expect={"boot_id": boot})
    assert one(reply)["outcome"] == "refused"


def test_a_host_that_was_rebooted_since_is_left_alone(host) -> None:
    host.ask()
    reply = host.ask("apply", actions=[host.action("sleep", "60")], expect={"boot_id": "of-before"})
    assert one(reply) | {"outcome": "refused", "message": "the host was rebooted since it was observed"} == one(reply)
    assert reply["answered"] and reply["instances"] == []


def test_a_late_apply_of_an_old_controller_does_nothing(host) -> None:
    """The old one hangs between its look and its actions, a new one looks: what the old one sends then is refused."""
    boot = host.ask(fence=fence(10, "old"))["boot_id"]
    host.ask(fence=fence(11, "new"))
    late = host.ask("apply", fence=fence(10, "old"), actions=[host.action("sleep", "60")], expect={"boot_id": boot})
    assert late["superseded"] is True
    assert host.marked() == []


def test_a_new_controller_waits_for_an_apply_that_is_at_work(host) -> None:
    """It must not plan from what it sees in the middle of the other's starts."""
    boot = host.ask()["boot_id"]
    actions = [host.action("sleep", "60", slot=i, settle=0.5) for i in range(1, 8)]
    replies: list = []
    work = threading.Thread(target=lambda: replies.append(host.ask("apply", actions=actions, expect={"boot_id": boot})))
    work.start()
    time.sleep(0.8)
    seen = host.ask(fence=fence(50, "new"))
    work.join()
    assert [r["outcome"] for r in replies[0]["results"]] == ["started"] * 7
    assert len(seen["instances"]) == 7


def test_a_lock_that_is_held_too_long_is_no_answer(host) -> None:
    host.ask()
    with (host.folder / "lock").open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        seen = host.ask(timeout=1)
        assert seen["answered"] is False
        assert "another request is at work on this host" in seen["reason"]
        assert host.ask(fence=None)["answered"], "a status read waits for nobody"


def test_two_controllers_at_once_never_start_twice(host) -> None:
    """Each observes and applies as fast as it can, with growing numbers; the slots stay single."""
    boot = host.ask(fence=None)["boot_id"]

    def run(holder: str, first: int) -> None:
        for i in range(4):
            mark = fence(first + 10 * i, holder)
            seen = host.ask(fence=mark)
            if not seen["superseded"] and not any(r["slot"] == 1 for r in seen["instances"]):
                action = host.action("sleep", "60", token=f"{holder}-{i}", settle=0.1)
                host.ask("apply", fence=mark, actions=[action], expect={"boot_id": boot})

    both = [threading.Thread(target=run, args=pair) for pair in (("a", 5), ("b", 6))]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(host.marked()) == 1


@pytest.mark.parametrize("text", ["", "{", '{"number": 5, "holder"', "null\0"])
def test_a_fence_that_cannot_be_read_stops_everything(host, text: str) -> None:
    host.ask()
    path = host.folder / "fence.json"
    path.write_text(text)
    seen = host.ask(fence=fence(99, "b"))
    assert seen["answered"] is False
    assert seen["kind"] == "refused"
    assert str(path) in seen["reason"]
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("key", "value"), [("site", "../x"), ("host", "a/b"), ("deployment", ""), ("host", "a b"), ("site", ".x")]
)
def test_names_that_would_leave_the_state_folder_are_refused(host, key: str, value: str) -> None:
    seen = host.ask(**{key: value})
    assert seen["answered"] is False
    assert seen["reason"].startswith(f"{key}: ")
    token = one(host.apply(host.action("sleep", "60", token="../../x")))
    assert token["outcome"] == "refused"


def test_a_home_that_cannot_be_written_can_be_observed_and_not_changed(host) -> None:
    state = host.home / "state"
    state.write_text("a file where a folder should be")
    seen = host.ask()
    assert seen["answered"]
    assert "nothing can be changed on this host: its state folder" in seen["problems"][0]
    reply = host.ask("apply", actions=[host.action("sleep", "60")], expect={"boot_id": seen["boot_id"]})
    assert one(reply)["outcome"] == "refused"
    assert "the state folder cannot be used" in one(reply)["message"]


def test_a_full_disk_can_still_be_fenced(host) -> None:
    """The fence has its blocks from the first time on: what fills a disk can be stopped."""
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    disk = host.home / "state"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        host.ask(fence=fence(5, "a"))
        fill(disk / "filler")
        seen = host.ask(fence=fence(6, "b"))
        assert seen["problems"] == []
        assert host.ask(fence=fence(6, "a"))["superseded"] is True
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
