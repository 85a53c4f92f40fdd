# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How all schedds of a pool are asked: the own one without its name, by which it may not be found."""

from __future__ import annotations

import os
import pwd
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _condor
from ansible_collections.sciops.sites.plugins.modules import condor_job_info, condor_pool_info, condor_session_info

HOST = "H1.example.org"
PLACE = {"way": "auto", "pool": None, "schedd": None, "config": None, "timeout": 5.0}


class Client:
    """A client on the host H1, where no schedd is found by a name of this host."""

    way = "memory"

    def __init__(self, pool: str | None = None, schedd: str | None = None, **config: str | None) -> None:
        self.pool, self.schedd, self.settings = pool, schedd, {"FULL_HOSTNAME": HOST, **config}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def config(self, names: list[str]) -> dict:
        if self.settings.get("broken"):
            raise _condor.Refused("there is no program condor_config_val on this host")
        return {name: self.settings.get(name) for name in names}

    def schedds(self) -> list[dict]:
        return [{"Name": name, "MyAddress": f"<{name}>"} for name in ("h2.example.org", HOST)]

    def status(self, *_asked: object) -> list[dict]:
        return []

    def query(self, constraint: str, projection: list, limit: int | None = None) -> list[dict]:
        if self.schedd and self.schedd.lower().endswith(HOST.lower()):
            raise _condor.Silent(f"condor_q: no such host {self.schedd}")
        number = 2 if self.schedd else 1
        return [
            {
                "ClusterId": number,
                "ProcId": 0,
                "JobStatus": 2,
                "Owner": pwd.getpwuid(os.geteuid()).pw_name,
                "HMDCInteractive": True,
                "HMDCUseXpra": True,
            }
        ]


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (Client(), "h1.example.org"),
        (Client(SCHEDD_NAME="Jobs"), "jobs@h1.example.org"),
        (Client(SCHEDD_NAME="jobs@here"), "jobs@here"),
        # of another pool, and one that was named: who is meant is asked by its name
        (Client(pool="other"), ""),
        (Client(schedd="h1.example.org"), ""),
        # who names none there gets another host's
        (Client(SCHEDD_HOST="h2.example.org"), ""),
        (Client(FULL_HOSTNAME=None), ""),
        (Client(broken="yes"), ""),
    ],
)
def test_the_own_schedd(client: Client, name: str) -> None:
    assert _condor.local_schedd(client) == name


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The schedds that clients were made for, in their order."""
    found: list[str | None] = []

    def connect(
        way: str = "", pool: str | None = None, schedd: str | None = None, config: str = "", timeout: float = 1
    ) -> Client:
        found.append(schedd)
        return Client(pool, schedd)

    monkeypatch.setattr(_condor, "connect", connect)
    return found


def test_jobs_of_all_schedds(asked: list) -> None:
    # a schedd that is named has no effect
    for schedd in (None, HOST):
        given: dict[str, Any] = dict(
            PLACE, schedd=schedd, key=None, owner=None, constraint=None, projection=[], limit=None
        )
        done = condor_job_info.work(dict(given, history=False, all_schedds=True, partial=False))
        assert [(one["ClusterId"], one["schedd"]) for one in done["jobs"]] == [(2, "h2.example.org"), (1, HOST)]
        assert done["schedds"] == ["h2.example.org", HOST] and done["silent"] == []
    assert asked == [None, "h2.example.org", None] * 2


def test_sessions_of_all_schedds(asked: list) -> None:
    given = dict(PLACE, display_patterns=[r"(\d+)"], blank_host=False)
    done = condor_session_info.listed(SimpleNamespace(params=given, warn=pytest.fail), {})
    assert [(one["job"], one["schedd"]) for one in done["sessions"]] == [(1, HOST), (2, "h2.example.org")]
    assert done["silent"] == [] and asked == [None, None, "h2.example.org"]


def test_who_uses_all_schedds(asked: list) -> None:
    given = dict(PLACE, show=["used"], running="true", entitlements=[], entitlement_rules=[], constraint="true")
    done = condor_pool_info.look(given)
    assert done["schedds"] == ["h2.example.org", HOST] and done["complete"]
    assert asked == [None, "h2.example.org", None]
