# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the starts of a plan would write into the files of managers, for diff mode. PRIVATE to the collection.

The hosts tell it, with the code that writes the files; nothing is written for it. Secrets are asterisks in it.
"""

from __future__ import annotations

import typing as t

from ansible_collections.sciops.sites.plugins.plugin_utils import _render
from ansible_collections.sciops.sites.plugins.plugin_utils._apply import request_for
from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import PROCESS, launcher_for

Json = dict[str, t.Any]
HIDDEN = "********"


def questions(declaration: Json, plan: Json, epoch: int, seed: int) -> dict[str, Json]:
    """Return what each host is asked that has starts through a manager in the plan. Pure."""
    actions: dict[str, list[Json]] = {}
    for action in plan["actions"]:
        if action["kind"] != "start":
            continue
        component = declaration["components"][action["component"]]
        if launcher_for(component, declaration["hosts"][action["host"]]) == PROCESS:
            continue
        secrets = {name: HIDDEN for name, reference in component["secrets"].items() if "file" not in reference}
        try:
            request = _render.start_request(
                declaration, action["component"], action["host"], action["slot"], "planned", epoch, seed, secrets
            )
        except _render.RenderError:
            continue  # the start itself says what is wrong with it
        actions.setdefault(action["host"], []).append(request)
    return {
        host: request_for(declaration, host, "describe", fence=None, actions=requests)
        for host, requests in actions.items()
    }


def differences(answers: t.Mapping[str, Json]) -> list[Json]:
    """Return Ansible's differences for the files that hosts told of, those that change only. Pure."""
    found = []
    for host in sorted(answers):
        for path, texts in sorted((answers[host].get("files") or {}).items()):
            if texts["before"] != texts["after"]:
                name = f"{host}:{path}"
                found.append(
                    {
                        "before_header": name,
                        "after_header": name,
                        "before": texts["before"] or "",
                        "after": texts["after"] or "",
                    }
                )
    return found
