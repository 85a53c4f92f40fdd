# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launch method systemd asks of a manager that is there, that is down, and that does not answer."""

from __future__ import annotations

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _launch, _launch_systemd, _systemctl


class Systemd:
    """A manager with one unit that is enabled and does not run, or one that fails as told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.ran = error, []  # type: ignore[var-annotated]

    def show(self, units: list[str], _properties: list[str]) -> dict[str, dict[str, str]]:
        if self.error:
            raise self.error
        state = {"ActiveState": "inactive", "UnitFileState": "enabled", "LoadState": "loaded"}
        return {unit: {"Id": unit, **state} for unit in units}

    def run(self, *words: str) -> None:
        self.ran.append(words)


@pytest.mark.parametrize(
    ("error", "ran"),
    [(None, [("disable", "rpc.service")]), (_systemctl.Down("no manager"), [])],
)
def test_what_is_to_stay_down_does_not_come_back_with_the_host(error: Exception | None, ran: list) -> None:
    launch = _launch_systemd.Launch({"scope": "user"}, [{"name": "rpc"}])
    launch.systemd = Systemd(error)
    launch.stop(["rpc"], 1)
    launch.rest(["rpc"])
    assert launch.systemd.ran == ran


def test_a_manager_that_does_not_answer_is_no_manager_that_is_down() -> None:
    launch = _launch_systemd.Launch({"scope": "user"}, [{"name": "rpc"}])
    launch.systemd = Systemd(_systemctl.Silent("no answer"))
    for ask in (lambda: launch.stop(["rpc"], 1), lambda: launch.rest(["rpc"])):
        with pytest.raises(_launch.Failure, match="no answer"):
            ask()
