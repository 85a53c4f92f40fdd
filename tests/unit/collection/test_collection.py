# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a whole is in order: what it lists exists, what it ships needs nothing else, pure stays pure."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "plugins"
#: docs/architecture.md: the ring that does nothing but compute
PURE = (
    "_schema _layers _declaration _render _launcher _planner _placement _rolling _guards _memory _updates _report "
    "_status _jadetools _wire _system _variables _sections _expressions _types _collisions _templates _quoting "
    "_exports _exports_write _exports_legacy _matrix _deploying _pool".split()
)
#: modules whose import means I/O, a clock, randomness, or Ansible (pathlib has pure paths, random can be seeded)
IMPURE = set(
    "os io subprocess socket time secrets shutil tempfile threading datetime ansible uuid fcntl signal".split()
)


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def shipped(*suffixes: str) -> list[Path]:
    folders = ("meta", "plugins", "roles", "playbooks")
    return [p for f in folders for p in sorted((ROOT / f).rglob("*")) if p.is_file() and p.suffix in suffixes]


def test_action_group_names_every_module() -> None:
    modules = sorted(p.stem for p in (PLUGINS / "modules").glob("[!_]*.py"))
    assert read("meta/runtime.yml")["action_groups"]["sites"] == modules


def test_every_action_has_a_module_file_with_its_documentation() -> None:
    for action in (PLUGINS / "action").glob("[!_]*.py"):
        text = (PLUGINS / "modules" / action.name).read_text(encoding="utf-8")
        assert re.search(r"^DOCUMENTATION = ", text, re.M), action.name


def test_versions_agree() -> None:
    galaxy = read("galaxy.yml")
    assert read("meta/runtime.yml")["requires_ansible"] == ">=2.16.0"
    assert galaxy["namespace"] == "sciops" and galaxy["name"] == "sites"
    assert galaxy["version"].startswith("0.1.")


def test_execution_environment_needs_what_the_controller_needs() -> None:
    def names(text: str) -> set[str]:
        return {re.split(r"[<>=!~;\s]", line, maxsplit=1)[0] for line in text.splitlines() if line and line[0] != "#"}

    listed = names((ROOT / "meta/ee-requirements.txt").read_text())
    pinned = names((ROOT / "requirements.txt").read_text())
    assert listed == pinned - {"ansible-core"}


def test_shipped_files_name_nothing_outside_of_what_is_shipped() -> None:
    for path in shipped(".py", ".yml", ".j2", ".sh"):
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(ROOT)
        assert f"{ROOT}/" not in text, f"{where} names a path of one machine"
        for line in text.splitlines():
            code = line.split("#", 1)[0]
            assert not re.search(
                r"(import_playbook|include_vars|vars_files|src|file):\s*(\.\./)+(tests|inventories|molecule|docs)/",
                code,
            ), f"{where} reads outside of what is shipped: {line.strip()}"


@pytest.mark.parametrize("name", PURE)
def test_pure_files_import_nothing_that_acts(name: str) -> None:
    path = PLUGINS / "plugin_utils" / f"{name}.py"
    if not path.exists():
        pytest.fail(f"{name}.py of the pure ring does not exist")
    seen: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            seen |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            seen.add((node.module or "").split(".")[0])
    assert not seen & IMPURE


def test_no_file_is_over_500_lines_and_each_has_its_header() -> None:
    # not walked into: build holds the file systems of test hosts, which come and go
    left_out = {".venv", ".collections", ".git", "build", "output"}
    files = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in left_out]
        files += [Path(folder) / name for name in names if name.endswith(".py")]
    assert files
    for path in files:
        lines = path.read_text(encoding="utf-8").splitlines()
        where = path.relative_to(ROOT)
        assert len(lines) <= 500, f"{where}: {len(lines)} lines"
        if lines:
            assert any("SPDX-License-Identifier" in line for line in lines[:12]), f"{where} has no license header"


def test_host_side_has_the_permissive_license() -> None:
    for path in (PLUGINS / "module_utils").glob("*.py"):
        assert "SPDX-License-Identifier: BSD-2-Clause" in path.read_text(encoding="utf-8"), path.name


def test_every_make_target_is_explained() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.M)
    assert phony
    explained = set(re.findall(r"^([a-z]+):.*## .+$", text, re.M))
    assert explained == set(phony.group(1).split())
    assert {"reconcile", "stop", "test", "lint", "conformance", "bench", "clean"} <= explained
