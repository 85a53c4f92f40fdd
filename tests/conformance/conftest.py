# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each launcher on a real host of its own, and a record of what was shown, for the table in the docs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.fleet import Fleet, why_not
from bed.fleet import bed as run_bed
from conformance.launchers import KINDS, Host

RECORD = Path(__file__).resolve().parents[2] / "build" / "conformance"


@pytest.fixture(scope="session")
def machine() -> None:
    """The machine holds hosts. Without: skipped with the reason, failed in CI."""
    reason = why_not()
    if reason:
        if os.environ.get("CI"):
            pytest.fail(f"no hosts here, and CI never skips: {reason}", pytrace=False)
        pytest.skip(reason)
    run_bed("down", "orphans")


def pytest_addoption(parser: pytest.Parser) -> None:
    """--launcher: only this one, so that each can have a process of its own."""
    parser.addoption("--launcher", choices=list(KINDS), help="the one launcher to hold to the contract")


@pytest.fixture(scope="session", params=list(KINDS))
def place(request: pytest.FixtureRequest, machine: None) -> Iterator[Host]:
    """A host for one launcher, alone on it."""
    kind = KINDS[request.param]
    run_bed("build", kind.recipe, timeout=900)
    with Fleet(1, "systemd", kind.recipe) as fleet:
        kind.prepare(fleet, "h1")
        yield Host(fleet, "h1", kind, request.param)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases about what a launcher does not have: no manager to kill, no file to tell beforehand."""
    lacking = []
    for item in items:
        if hasattr(item, "callspec") and "place" in item.callspec.params:
            label = item.callspec.params["place"]
            kind, only = KINDS[label], config.getoption("--launcher")
            has = {"manager": bool(kind.manager), "files": kind.launcher not in ("process", "apptainer")}
            has["boots"] = kind.boots
            if only not in (None, label) or not all(has[mark.args[0]] for mark in item.iter_markers("needs")):
                lacking.append(item)
    items[:] = [item for item in items if item not in lacking]
    config.hook.pytest_deselected(items=lacking)


@pytest.fixture
def host(place: Host) -> Iterator[Host]:
    """That host for one case, with a site of its own; what the case leaves is ended."""
    place.fresh()
    yield place
    place.clean()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Note what each case showed for each launcher."""
    report = yield
    if report.when == "call" and hasattr(item, "callspec") and "place" in item.callspec.params:
        words = (item.function.__doc__ or item.name).strip().splitlines()[0].rstrip(".")
        row = {"case": words, "launcher": item.callspec.params["place"], "outcome": report.outcome}
        row["line"] = item.reportinfo()[1]
        row["file"] = item.path.name
        RECORD.mkdir(parents=True, exist_ok=True)
        name = f"{item.name}.json".replace("/", "-").replace(" ", "-")
        (RECORD / name).write_text(json.dumps(row))
    return report
