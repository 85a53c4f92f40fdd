# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hooks as the role installs them, for tests without HTCondor."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "roles" / "condor_hooks" / "files"
CLASSAD = ROOT / "plugins" / "module_utils" / "_classad.py"
TEMPLATE = ROOT / "roles" / "condor_hooks" / "templates" / "hook.j2"
ADS = Path(__file__).parent / "ads"
HOOKS = ("prepare", "wrapper", "update", "publish", "exit")


def module(name: str) -> ModuleType:
    """A file of the hooks, imported as they import each other: by its bare name."""
    for folder in (str(CLASSAD.parent), str(FILES)):
        if folder not in sys.path:
            sys.path.append(folder)
    return importlib.import_module(name)


def settings(**given: Any) -> dict[str, Any]:
    """Settings with all defaults."""
    return dict(module("_common").check_settings(given))


class Home:
    """A folder with the hooks and their settings, and runs of them as processes."""

    def __init__(self, folder: Path, **given: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for file in [*FILES.glob("*.py"), CLASSAD]:
            shutil.copy(file, folder)
        text = TEMPLATE.read_text().replace("{{ '#!' }}{{ condor_hooks_python }}", f"#!{sys.executable}")
        for name in HOOKS:
            program = folder / name
            program.write_text(text.replace("{{ item }}", name).replace("{{ ansible_managed }}", "managed"))
            program.chmod(0o755)
        self.configure(**given)

    def configure(self, **given: Any) -> None:
        (self.folder / "settings.json").write_text(json.dumps(given))

    def run(
        self, hook: str, *words: str | bytes, ad: str | bytes = b"", env: dict[str, str] | None = None, **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a hook with an ad on its standard input."""
        data = ad.encode("utf-8", "surrogateescape") if isinstance(ad, str) else ad
        argv: list[str | bytes] = [str(self.folder / hook), *words]
        return subprocess.run(
            argv, input=data, capture_output=True, env={**os.environ, **(env or {})}, timeout=60, check=False, **more
        )


def recorded(name: str, *lines: str, without: tuple[str, ...] = ()) -> str:
    """A recorded ad with other lines at its end (a later line wins), and without some attributes."""
    text = (ADS / name).read_text()
    kept = [line for line in text.splitlines() if line.partition(" =")[0] not in without]
    return "\n".join([*kept, *lines]) + "\n"
