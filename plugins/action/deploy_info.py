# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.deploy_info`."""

from __future__ import annotations

from typing import Any

from ansible_collections.sciops.sites.plugins.action import deploy
from ansible_collections.sciops.sites.plugins.modules.deploy_info import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _deploying
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import Problem

Json = dict[str, Any]


class ActionModule(deploy.ActionModule):
    """One question to the host of a target."""

    documentation = DOCUMENTATION

    def _work(self, target: Json, problems: list[Problem], params: Json) -> Json:
        return self._step("release_info", root=_deploying.root_of(target, problems))

    def _told(self, host: str, result: Json) -> str:
        return _deploying.seen(host, result)
