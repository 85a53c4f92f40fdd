# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole passes of a controller: what is predicted is done, what is done stays, what changed is replaced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.play import Player
from conformance.launchers import Host, unique

RECONCILE = "playbooks/reconcile.yml"


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Player]:
    player = Player(tmp_path / "controller")
    yield player
    player.close()


@pytest.fixture
def declared(host: Host, tmp_path: Path) -> Callable[..., Path]:
    """Writes the inventory of a site with these components on this host, and returns it."""

    def write(**components: dict[str, Any]) -> Path:
        common = {"launcher": host.kind.launcher, "settle": host.kind.sure / 2, "grace": 3, "healthy_after": 0}
        common["container"] = host.kind.container
        spec: dict[str, Any] = {
            "connection": {"ansible_user": host.user},
            "policy": {"cliff_floor": 100, "host_timeout": 30},
            "defaults": common,
            "launchers": {host.kind.launcher: host.kind.settings} if host.kind.settings else {},
            "pipes": {"p": {"components": components}},
        }
        return host.fleet.site_file(tmp_path, spec, site=host.site)

    return write


@pytest.fixture
def host(host: Host) -> Iterator[Host]:
    """The site and deployment of the passes are what the host cleans up."""
    host.deployment = "test"
    yield host
    host.number = 1 << 30


def test_second_pass(host: Host, play: Player, declared: Callable[..., Path]) -> None:
    """Check mode changes nothing and tells exactly what a pass does; a second pass changes nothing."""
    what = unique()
    inventory = declared(
        c={"count": 2, "command": f"/bin/sleep {what}"}, d={"count": 1, "command": f"/bin/sleep {what}"}
    )
    check = play(RECONCILE, inventory, "--check", "--diff")
    assert check.outcome == "changed", check.stdout
    assert (f'"{what}"' in check.stdout) == (host.kind.launcher not in ("process", "apptainer")), check.stdout
    assert host.pids(what) == []
    first = play(RECONCILE, inventory)
    assert (first.rc, first.outcome) == (0, "changed"), first.stdout
    told = [(one["kind"], one["component"], one["slot"]) for one in check.site(host.site)["planned"]]
    done = [(one["kind"], one["component"], one["slot"]) for one in first.site(host.site)["results"]]
    assert sorted(told) == sorted(done) and len(done) == 3
    pids = host.until(lambda: (found := host.pids(f"sleep {what}")) and len(found) == 3 and found)
    second = play(RECONCILE, inventory)
    assert (second.rc, second.outcome, second.recap("changed")) == (0, "unchanged", 0), second.stdout
    assert host.pids(f"sleep {what}") == pids


def test_changed_command(host: Host, play: Player, declared: Callable[..., Path]) -> None:
    """A changed command replaces exactly the instances of the old one, one after the other, and nothing else."""
    old, new, other = unique(), unique(), unique()
    rest = {"count": 1, "command": f"/bin/sleep {other}"}
    first = play(RECONCILE, declared(c={"count": 2, "command": f"/bin/sleep {old}"}, d=rest))
    assert first.outcome == "changed", first.stdout
    untouched = host.until(lambda: host.pids(f"sleep {other}"))
    host.until(lambda: len(host.pids(f"sleep {old}")) == 2)
    inventory = declared(c={"count": 2, "command": f"/bin/sleep {new}"}, d=rest)
    second = play(RECONCILE, inventory)
    ends = time.monotonic() + 60
    while second.outcome != "unchanged" and time.monotonic() < ends:
        # a job that waits in the queue is not available, and then the next pass goes on
        second = play(RECONCILE, inventory)
    assert second.outcome == "unchanged", second.stdout
    host.until(lambda: len(host.pids(f"sleep {new}")) == 2)
    assert host.pids(f"sleep {old}") == [] and host.pids(f"sleep {other}") == untouched
