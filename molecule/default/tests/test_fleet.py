# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet of this scenario, seen from outside with pytest-testinfra."""

from __future__ import annotations

import pytest
from testinfra import get_host

#: what the site file declares: seconds of sleep tell the components apart
WANTED = {"9001": 3, "9002": 2, "9003": 1, "9004": 0}
#: one line a process: pid, session, user, what standard output is, arguments
LOOK = r"""for p in $(pgrep -x sleep); do
  echo "$p $(ps -o sid=,user= -p $p | tr -s ' ') $(readlink /proc/$p/fd/1) $(tr '\0' ' ' < /proc/$p/cmdline)"
done"""


@pytest.fixture(scope="module")
def seen(request) -> dict[str, list[dict[str, str]]]:
    """Processes by host. One look at each host: a connection each time testinfra asks would cost seconds."""
    found: dict[str, list[dict[str, str]]] = {}
    for name in ("h1", "h2"):
        # no shared connection: nothing is left behind on the controller
        host = get_host(f"ssh://{name}?controlpersist=0", ssh_config=request.config.getoption("--ssh-config"))
        rows = [line.split() for line in host.check_output(LOOK).splitlines()]
        found[name] = [dict(zip(("pid", "sid", "user", "stdout", "comm", "seconds"), row, strict=True)) for row in rows]
    return found


def test_counts_over_the_fleet(seen) -> None:
    everywhere = [row["seconds"] for rows in seen.values() for row in rows]
    assert {seconds: everywhere.count(seconds) for seconds in WANTED} == WANTED


def test_hot_limit_holds(seen) -> None:
    for host, rows in seen.items():
        assert len([row for row in rows if row["seconds"] == "9001"]) <= 2, host


def test_processes_run_as_their_user(seen) -> None:
    users = {(row["seconds"], row["user"]) for rows in seen.values() for row in rows}
    assert users == {("9001", "root"), ("9002", "jadelta"), ("9003", "root")}


def test_processes_lead_their_own_session_and_write_a_log(seen) -> None:
    rows = [row for rows in seen.values() for row in rows]
    assert rows
    for row in rows:
        assert row["sid"] == row["pid"], row
        assert row["stdout"].endswith(".log"), row
