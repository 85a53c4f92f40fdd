# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data for AWX: every name referred to exists, nothing runs beside itself, schedules are of a vetted form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docs" / "examples" / "awx"
BUILT_IN_TYPES = {"Machine", "Source Control", "Vault"}
# AWX has crashed on other ones, and local time zones shift twice a year
VETTED = re.compile(r"DTSTART:\d{8}T\d{6}Z RRULE:FREQ=(MINUTELY|HOURLY|DAILY|WEEKLY);INTERVAL=[1-9]\d?")
REFERENCES = {
    ("controller_projects", "default_environment"): "controller_execution_environments",
    ("controller_inventory_sources", "inventory"): "controller_inventories",
    ("controller_inventory_sources", "source_project"): "controller_projects",
    ("controller_inventory_sources", "execution_environment"): "controller_execution_environments",
    ("controller_templates", "inventory"): "controller_inventories",
    ("controller_templates", "project"): "controller_projects",
    ("controller_templates", "execution_environment"): "controller_execution_environments",
    ("controller_templates", "credentials"): "controller_credentials",
    ("controller_schedules", "unified_job_template"): "controller_templates",
}


def load() -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for path in sorted(FOLDER.glob("*.yml")):
        for name, objects in yaml.safe_load(path.read_text()).items():
            assert name not in found, f"{path}: {name} is there twice"
            found[name] = objects
    return found


def faults(data: dict[str, list[dict]]) -> list[str]:
    """Return what is wrong with a set of lists, in words."""
    names = {kind: {one["name"] for one in objects} for kind, objects in data.items()}
    wrong = []
    for (kind, key), target in REFERENCES.items():
        for one in data[kind]:
            values = one.get(key)
            for value in values if isinstance(values, list) else [values]:
                if value not in names[target]:
                    wrong.append(f"{kind} {one['name']}: {key}: {value!r} is not in {target}")
    for one in data["controller_credentials"]:
        if one["credential_type"] not in names["controller_credential_types"] | BUILT_IN_TYPES:
            wrong.append(f"{one['name']}: credential_type: {one['credential_type']!r}")
    for one in data["controller_templates"]:
        if one.get("allow_simultaneous") is not False:
            wrong.append(f"{one['name']}: allow_simultaneous is not false")
    for one in data["controller_schedules"]:
        if not VETTED.fullmatch(one["rrule"]):
            wrong.append(f"{one['name']}: rrule: {one['rrule']!r}")
        if one.get("extra_data"):
            wrong.append(f"{one['name']}: extra_data is lost when a schedule is edited")
    return wrong


def test_the_data_is_whole() -> None:
    assert faults(load()) == []


def test_there_is_a_pass_a_check_only_one_and_a_schedule_of_each() -> None:
    data = load()
    kinds = {one["name"]: one["job_type"] for one in data["controller_templates"]}
    assert sorted(kinds.values()) == ["check", "run"]
    assert {one["unified_job_template"] for one in data["controller_schedules"]} == set(kinds)


def test_playbooks_exist() -> None:
    for one in load()["controller_templates"]:
        assert (ROOT / one["playbook"]).is_file()


def test_injectors_use_declared_fields_and_files_only() -> None:
    for one in load()["controller_credential_types"]:
        fields = {field["id"] for field in one["inputs"]["fields"]}
        files = {name.partition(".")[2] for name in one["injectors"]["file"]}
        for text in [*one["injectors"]["file"].values(), *one["injectors"]["env"].values()]:
            for used in re.findall(r"\{\{\s*([\w.]+)\s*\}\}", text):
                assert used in fields or used.removeprefix("tower.filename.") in files
        assert "SCIOPS_SITES_STATE_DIR" in one["injectors"]["env"]


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("controller_templates", "inventory", "nowhere"),
        ("controller_templates", "credentials", ["nobody"]),
        ("controller_templates", "allow_simultaneous", True),
        ("controller_schedules", "unified_job_template", "nothing"),
        ("controller_schedules", "rrule", "DTSTART;TZID=Europe/Berlin:20260101T000000 RRULE:FREQ=MINUTELY;INTERVAL=5"),
        ("controller_schedules", "rrule", "DTSTART:20260101T000000Z RRULE:FREQ=SECONDLY;INTERVAL=5"),
        ("controller_credentials", "credential_type", "none"),
    ],
)
def test_a_fault_is_seen(kind: str, key: str, value: object) -> None:
    data = load()
    data[kind][0][key] = value
    assert len(faults(data)) == 1
