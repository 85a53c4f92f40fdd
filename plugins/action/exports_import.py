# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.exports_import`: reads and converts all files, then writes those that differ."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.modules.exports_import import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _exports, _exports_legacy, _exports_write
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import options_of, write_text
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import SITE_PATTERN, SITE_RIGHT, Problem, named
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError, read_text

Json = dict[str, t.Any]

_DEFAULTS = ("default.sh", "defaults.sh")


class ActionModule(ActionBase):
    """Contacts no host."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Convert the files, write what differs."""
        result = super().run(tmp, task_vars)
        params = options_of(self, DOCUMENTATION)
        try:
            imported = (_folder if Path(params["src"]).is_dir() else _flat)(params)
            changes = _changes(params, imported) if params["dest"] else []
        except (SourceError, ValueError) as error:
            raise AnsibleActionFail(str(error)) from None
        for path, _before, after in [] if self._task.check_mode else changes:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise AnsibleActionFail(f"dest: {path.parent}: cannot be made: {error.strerror}") from None
            write_text(str(path), after)
        result.update(
            changed=bool(changes),
            findings=imported.findings + _foreign(params, imported),
            needed=imported.needed,
            files=[str(path) for path, _before, _after in changes],
            counts=imported.counts(),
            diff=[
                {"before_header": str(path), "after_header": str(path), "before": before, "after": after}
                for path, before, after in changes
            ],
        )
        return result


def _folder(params: Json) -> _exports_write.Imported:
    """Return what the three kinds of files say."""
    folder = Path(params["src"])
    defaults = [name for name in _DEFAULTS if (folder / name).exists()]
    if len(defaults) != 1:
        words = "both are there; keep one" if defaults else "neither is there; src is the folder that holds it"
        raise ValueError(f"src: {folder}: {' and '.join(_DEFAULTS)}: {words}")
    sources = _exports.Sources(
        _read(folder, defaults[0]),
        *({_name(path): _read(folder, path) for path in _scripts(folder, kind)} for kind in ("deployments", "sites")),
    )
    _refuse([problem for file in sources.files() for problem in file.problems])
    return _exports_write.convert(_exports.layers(sources), _system(params), *_naming(params))


def _flat(params: Json) -> _exports_write.Imported:
    """Return what a file of the older form says."""
    name = Path(params["src"]).name
    text = _text(Path(params["src"]))
    form = _exports_legacy.read_ci if name.endswith((".yml", ".yaml")) else _exports_legacy.read_exports
    flat = form(text, name)
    _refuse(flat.problems)
    imported, problems = _exports_legacy.convert(flat, name, params["deployments"], *_naming(params))
    _refuse(problems)
    return imported


def _naming(params: Json) -> tuple[str, list[str], str]:
    return params["prefix"], params["environment"], params["version"]


def _system(params: Json) -> str:
    system = params["system"] or (Path(params["dest"]).resolve().name if params["dest"] else "imported")
    if not named(system, SITE_PATTERN):
        raise ValueError(f"system: {system}: {SITE_RIGHT}")
    return str(system)


def _scripts(folder: Path, kind: str) -> list[str]:
    """Return the paths of the files of a kind, counted from the folder."""
    names = sorted(path.name for path in (folder / kind).glob("*.sh"))
    if not names:
        raise ValueError(f"src: {folder / kind}: there is no file *.sh")
    found: dict[str, str] = {}
    for name in names:
        word = _name(name)
        if not named(word, SITE_PATTERN):
            raise ValueError(f"{folder / kind / name}: the name without .sh {SITE_RIGHT}")
        if word in found:
            raise ValueError(f"{folder / kind / name}: in lower case the same name as {found[word]}; keep one of them")
        found[word] = name
    return [f"{kind}/{name}" for name in names]


def _name(path: str) -> str:
    """Return the name of a site or deployment, in lower case as the old scripts had it."""
    return Path(path).stem.lower()


def _read(folder: Path, name: str) -> _exports.ExportFile:
    return _exports.parse(_text(folder / name), name)


def _text(path: Path) -> str:
    """Return the text of a file with its line ends as they are, which the shell would see. Raises SourceError."""
    read_text(str(path))
    return path.read_bytes().decode()


def _refuse(problems: t.Sequence[Problem]) -> None:
    if problems:
        raise ValueError("the files cannot be imported:" + "".join(f"\n  {problem}" for problem in problems))


def _changes(params: Json, imported: _exports_write.Imported) -> list[tuple[Path, str, str]]:
    """Return (path, text before, text after) of what differs. ValueError where an edited file would be lost."""
    changes, edited = [], []
    for name, document in imported.documents.items():
        path = Path(params["dest"]) / name
        before = read_text(str(path)) if path.exists() else ""
        after = _exports_write.render(document)
        if _part(name) in params["parts"] and before != after:
            changes.append((path, before, after))
            if before and _exports_write.edited(before) and not params["force"]:
                edited.append(str(path))
    if edited:
        raise ValueError(
            f"nothing was written, because these were edited, or written by somebody else: {', '.join(edited)}; "
            "leave them out with parts, or replace them with force"
        )
    return changes


def _part(name: str) -> str:
    """Return which part a file belongs to."""
    folder = Path(name).parent.name
    return folder if folder in ("layers", "sites") else "system"


def _foreign(params: Json, imported: _exports_write.Imported) -> list[str]:
    """Return a sentence for each site and layer in dest that is not in the files."""
    if not params["dest"]:
        return []
    folders = dict.fromkeys(Path(name).parent for name in imported.documents if _part(name) != "system")
    found = [path for folder in folders for path in sorted((Path(params["dest"]) / folder).glob("*.yml"))]
    known = {Path(params["dest"]) / name for name in imported.documents}
    return [
        f"{path.relative_to(params['dest'])}: is not in the imported files, and stays"
        for path in found
        if path not in known
    ]
