# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller sides of the session modules share: the options of a task, and its catalogue."""

from __future__ import annotations

import json
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.module_utils import _condor
from ansible_collections.sciops.sites.plugins.plugin_utils import _catalogue
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import argument_spec
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError, parse, read_text

Json = dict[str, t.Any]

# a path of these is one of the host: `~` and variables in it are the host's, so the module expands it
_SHARED = {
    name: {**one, "type": "str" if one["type"] == "path" else one["type"]} for name, one in _condor.ARGUMENTS.items()
}
_ENCRYPTED = "is encrypted; a catalogue holds no secrets"


def options_of(action: ActionBase, documentation: str) -> Json:
    """Return the validated options of a task, those of the fragment for HTCondor too, in plain types."""
    spec = {**_SHARED, **argument_spec(documentation)}
    plain: Json = json.loads(json.dumps(action.validate_argument_spec(argument_spec=spec)[1]))
    return plain


def catalogue(action: ActionBase, path: str) -> _catalogue.Catalogue:
    """Return the catalogue of a file on the controller. Fails with all that is wrong with it."""
    found = action._loader.path_dwim(path)
    try:
        catalogue = _catalogue.build(parse(read_text(found, _ENCRYPTED), found, "catalogue", None, _catalogue.EMPTY))
    except (SourceError, RuntimeError) as error:
        raise AnsibleActionFail(f"the catalogue cannot be used: {error}") from error
    if catalogue.problems:
        lines = "".join(f"\n  {one}" for one in catalogue.problems)
        raise AnsibleActionFail(f"the catalogue cannot be used, and nothing was submitted:{lines}")
    return catalogue
