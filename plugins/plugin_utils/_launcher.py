# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which launcher an instance runs under, and what is known of launchers above their contract. Pure.

Nothing here knows what a launcher does: docs/launchers.md does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PROCESS = "process"
LAUNCHERS = (PROCESS, "supervisord", "systemd", "apptainer", "slurm", "htcondor")
#: The key of a launcher mapping for hosts of which it names no class.
DEFAULT = "default"
#: How long a manager may take for an answer where its settings do not say, in seconds.
MANAGER_TIMEOUT = 5.0
# of the launchers that have options; laid under those of a component for the launchers that it names
OPTION_DEFAULTS: dict[str, dict[str, Any]] = {
    "supervisord": {"autorestart": "unexpected", "startretries": 3, "startsecs": 1, "priority": None},
    "systemd": {
        "restart": "on-failure",
        "restart_sec": 1,
        "start_limit_burst": 5,
        # wider than systemd's own 10 s: else what fails after three seconds is restarted for ever
        "start_limit_interval": 60,
        "enable": True,
        "drop_in": {},
    },
    "slurm": {
        "partition": None,
        "account": None,
        "qos": None,
        "constraint": None,
        "reservation": None,
        "cpus": 1,
        "memory": None,
        "time": None,
        "handover": 0,
        "reservation_words": [],
        "cancels": [],
        "reservation_margin": 7200,
        "arguments": [],
    },
    "htcondor": {
        "requirements": None,
        "rank": None,
        "accounting_group": None,
        "filesystem_domain": None,
        "cpus": 1,
        "gpus": 0,
        "memory": None,
        "disk": None,
        "time": None,
        "handover": 0,
        "margin": 30,
        "requeue": True,
        "hold_limit": None,
        "lease": 1200,
        "submit": {},
    },
}
# without a method, launcher apptainer makes an instance, all others run the image
CONTAINER_DEFAULTS: dict[str, Any] = {
    "source": None,
    "digest": None,
    "keep": 3,
    "binds": [],
    "options": [],
    "method": None,
}
# Words of a manager for what it has and what does not run at this moment: queued, between two tries, stopped by it, or
# over and not yet tidied up (a job keeps its place while it completes, and while its files are taken away).
# A word that is not here says nothing against an instance; what is wrong with one stands in its `health`.
_NOT_UP = frozenset(
    "pending configuring power_up_node requeued requeue_hold requeue_fed resv_del_hold special_exit expediting "
    "suspended stopped completing stage_out "
    "starting backoff exited fatal stopping activating auto-restart deactivating failed inactive "
    "idle held removed transferring_output".split()
)


# How a manager's words begin of what it was told to end: its time was over, somebody removed it, something more
# important wanted its place. Not of what failed, was lost with its node (HTCondor: "it was taken off its node ..") or
# ended by itself.
_ENDED = re.compile(r"job \d+: (TIMEOUT|DEADLINE|PREEMPTED|CANCELLED|REVOKED|its time is over|removed: (?!it was ))")


def normal(given: Any) -> dict[str, str]:
    """Return what a component says of its launcher, a word or a mapping host class -> word, as a mapping."""
    return dict(given) if isinstance(given, Mapping) else {DEFAULT: str(given or PROCESS)}


def launcher_for(component: Mapping[str, Any], host_spec: Mapping[str, Any] | None) -> str:
    """Return the launcher of a component on a host: that of the first class of the host that the component names."""
    given = component.get("launcher")
    if not isinstance(given, Mapping):
        return str(given or PROCESS)
    for one in (host_spec or {}).get("classes") or ():
        if one != DEFAULT and one in given:
            return str(given[one])
    return str(given.get(DEFAULT) or PROCESS)


def is_up(state: Any) -> bool:
    """Whether an instance in this state of its manager (any case, "" for none) runs at this moment."""
    words = str(state or "").lower().split()
    return not words or words[0].strip(":;,") not in _NOT_UP


def was_ended(how: Any) -> bool:
    """Whether an instance of which its manager says this ("" or None: nothing) was ended by what was asked of it."""
    return _ENDED.match(str(how or "")) is not None


def version(component: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """Return what tells two versions of a component apart: the hash of its configuration and its launchers."""
    return component.get("hash"), normal(component.get("launcher"))
