# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests: fleets of real hosts, and controllers that run playbooks against them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bed.fleet import BED_DIR, Fleet, why_not
from bed.fleet import bed as run_bed
from bed.play import Player


@pytest.fixture(scope="session")
def bed() -> Iterator[Path]:
    """The bed's folder, its root file system built. Without hosts: skipped with the reason, failed in CI."""
    reason = why_not()
    if reason:
        if os.environ.get("CI"):
            pytest.fail(f"no hosts here, and CI never skips: {reason}", pytrace=False)
        pytest.skip(reason)
    run_bed("down", "orphans")
    run_bed("build", timeout=900)
    yield BED_DIR


@pytest.fixture(scope="session")
def fleet(bed: Path) -> Iterator[Callable[..., Fleet]]:
    """Factory of fleets: `fleet(16)`, `fleet(2, kind="systemd", recipe="slurm24")`: fresh hosts each time.

    They are ended with the session.

    A test that needs many hosts for itself ends them early: `with fleet(16) as f: ...`.
    """
    made: list[Fleet] = []

    def make(count: int, kind: str = "light", recipe: str = "base") -> Fleet:
        made.append(Fleet(count, kind, recipe))
        return made[-1]

    yield make
    for one in made:
        one.down()


@pytest.fixture
def hosts(bed: Path) -> Iterator[Fleet]:
    """Three fresh light hosts for one test."""
    with Fleet(3) as three:
        yield three


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Player]:
    """One controller with its own state: `play("playbooks/reconcile.yml", inventory, "--check")` gives a Result."""
    player = Player(tmp_path / "controller")
    yield player
    player.close()


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Callable[[str], Player]]:
    """Factory of more controllers, each with its own state: `controller("second")`."""
    made: list[Player] = []

    def make(name: str) -> Player:
        made.append(Player(tmp_path / name))
        return made[-1]

    yield make
    for player in made:
        player.close()
