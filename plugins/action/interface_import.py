# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.interface_import`: reads, checks, converts and writes one file."""

from __future__ import annotations

import json
import os
import tempfile
import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.modules.interface_import import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _jadetools, _sitefile
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import options_of
from ansible_collections.sciops.sites.plugins.plugin_utils._declaration import Site
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError, parse, read_text

Json = dict[str, t.Any]


class ActionModule(ActionBase):
    """Contacts no host."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Convert the file, write it where it differs."""
        result = super().run(tmp, task_vars)
        params = options_of(self, DOCUMENTATION)
        try:
            text, config = (_exported if params["direction"] == "export" else _imported)(params)
            findings = _jadetools.findings(config, _lines(params["processes"]), _scripts(params["submitters"]))
            before = read_text(params["dest"]) if params["dest"] and os.path.lexists(params["dest"]) else ""
            changed = bool(params["dest"]) and before != text
            if changed and not self._task.check_mode:
                _write(Path(params["dest"]), text)
        except (SourceError, ValueError, RuntimeError) as error:
            raise AnsibleActionFail(str(error)) from None
        result.update(changed=changed, findings=findings, counts=_counts(config), dest=params["dest"])
        if params["dest"]:
            header = {"before_header": params["dest"], "after_header": params["dest"]}
            result["diff"] = {"before": before, "after": text, **header}
        return result


def _imported(params: Json) -> tuple[str, Json]:
    config, problems = _jadetools.parse_interface(read_text(params["src"]), params["src"])
    if config is None:
        raise ValueError("the configuration cannot be imported:" + "".join(f"\n  {problem}" for problem in problems))
    site = params["site"]
    if params["dest"] and not params["dest"].endswith(_sitefile.SUFFIXES):
        raise ValueError(f"dest: {params['dest']}: the name of a site file ends with {' or '.join(_sitefile.SUFFIXES)}")
    if not site:
        site = Path(params["dest"]).name.rsplit(".site.", 1)[0] if params["dest"] else "imported"
    document = _jadetools.import_interface(config, site, params["deployment"], params["home"], params["log_dir"])
    text = _jadetools.to_yaml(document)
    # what a person would be told when the file is used is told now
    checked = Site([parse(text, params["dest"] or params["src"], "site and deployment")], _sitefile.expand)
    fatal = [problem for problem in checked.compile()[1] if problem.fatal]
    if fatal:
        raise ValueError("the site file would not be usable:" + "".join(f"\n  {problem}" for problem in fatal))
    return text, config


def _exported(params: Json) -> tuple[str, Json]:
    document = parse(read_text(params["src"]), params["src"], "site and deployment")
    if document.faults:
        first = document.faults[0]
        raise ValueError(f"{params['src']}:{first.line}: {first.message}")
    try:
        config = _jadetools.export_interface(document.data)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{params['src']}: is not a site file that can be exported: {error}") from error
    except ValueError as error:
        raise ValueError(f"{params['src']}: {error}") from error
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n", config


def _lines(path: str | None) -> list[str] | None:
    return read_text(path).splitlines() if path else None


def _scripts(folder: str | None) -> dict[str, str] | None:
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise ValueError(f"submitters: {folder}: is not a folder")
    return {
        path.name: path.read_text(encoding="utf-8", errors="replace")
        for path in Path(folder).iterdir()
        if path.is_file()
    }


def _counts(config: Json) -> dict[str, int]:
    kinds = [kind for pipe in config["pipes"] for kind in pipe["types"]]
    running = [kind for kind in kinds if kind["on"]]
    return {
        "hosts": len(dict.fromkeys(config["available"])),
        "pipes": len(config["pipes"]),
        "components": len(kinds),
        "on": len(running),
        "wanted": sum(kind["count"] for kind in running),
        "hot": sum(kind["hot"] for kind in running),
    }


def _write(dest: Path, text: str) -> None:
    """Replace the file as a whole, keeping the mode it had. ValueError where that cannot be done."""
    try:
        mode = dest.stat().st_mode & 0o7777 if dest.exists() else 0o666 & ~_umask()
        handle, temporary = tempfile.mkstemp(dir=dest.parent, prefix=f".{dest.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(dest)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ValueError(f"dest: {dest}: cannot be written: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
