# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts for HTCondor together: a session of a catalogue under the hooks of the role, from task to clean-up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bed.condor import condor_pool
from bed.fleet import Fleet, until
from bed.play import Player
from bed.sessions import runner

pytestmark = pytest.mark.hosts


def test_a_session_under_the_hooks(fleet: Callable[..., Fleet], play: Player, tmp_path: Path) -> None:
    with fleet(1, "systemd", "cluster") as pool:
        condor_pool(pool)
        program = (
            "mkdir -p /opt/apps; printf '#!/bin/sh\\nexec /bin/sleep 1000\\n' > /opt/apps/sleep; chmod 755 /opt/apps/*"
        )
        pool.ssh("h1", program)
        role = {"name": "Hooks", "include_role": {"name": "sciops.sites.condor_hooks"}}
        book = tmp_path / "role.yml"
        book.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [role]}]))
        done = play(str(book), pool.inventory, "-e", '{"condor_hooks_preempt_after": 1000000}')
        assert done.rc == 0, done.stdout + done.stderr

        run = runner(pool, play, tmp_path)
        task = {"catalogue": "rceapp.yml", "app": "calc", "memory": 3, "interval": 0.5, "xpra": True}
        (there,) = run({"sciops.sites.condor_session": task}, user="deploy")
        assert there["outcome"] == "started" and there["changed"], pool.ssh(
            "h1", f"cat {there.get('err')}", check=False
        )
        folder = there["out"].rpartition("/")[0]
        assert pool.ssh("h1", f"stat -c '%a %U' {folder}") == "700 deploy"

        # the way into the job that a client takes, and the program behind it, under the limits of the slot
        info = re.sub(r"--tray-icon=\S+ ", "", there["attach"]["shell"]).replace(" attach ", " info ")
        assert "server.pid=" in pool.ssh("h1", info, user="deploy")
        inside = f"condor_ssh_to_job {there['job']} 'ulimit -v; id -un'"
        assert pool.ssh("h1", inside, user="deploy").split() == [str(3 * 1024 * 1024), "deploy"]
        limits = pool.ssh("h1", "cat /proc/$(pgrep -u deploy -nf 'sleep 1000')/limits")
        assert re.search(rf"Max address space +{3 << 30} ", limits), limits

        again, gone = run(
            {"sciops.sites.condor_session": task},
            {"sciops.sites.condor_session": task | {"state": "absent"}},
            user="deploy",
        )
        assert not again["changed"] and again["job"] == there["job"] and gone["changed"]
        until(lambda: not pool.ssh("h1", f"condor_q -allusers {there['job']} -af ClusterId"))
        assert pool.ssh("h1", f"test ! -e {folder} && ls /home/deploy/.HMDC/jobs/logs/*/out.txt")
        assert not [one for one in pool.ps("h1") if "sleep 1000" in one.args or "xpra" in one.args]
