# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real HTCondor pool made of hosts of a fleet."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor

from bed.fleet import BedError, Fleet

CONFIG = """\
CONDOR_HOST = {manager}
UID_DOMAIN = bed
# all hosts have their files for themselves
FILESYSTEM_DOMAIN = $(FULL_HOSTNAME)
TRUST_DOMAIN = bed
use SECURITY:recommended_v9_0
# as many processors as a test says, not as the machine has
NUM_CPUS = {cpus}
MEMORY = {memory}
RUNBENCHMARKS = 0
# no mount namespaces of HTCondor's own inside hosts
MOUNT_UNDER_SCRATCH =
# a test waits for seconds, not for minutes
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
STARTER_UPDATE_INTERVAL = 5
MASTER_UPDATE_INTERVAL = 5
STARTER_INITIAL_UPDATE_INTERVAL = 2
UPDATE_INTERVAL = 5
POLLING_INTERVAL = 2
JOB_START_DELAY = 0
KILLING_TIMEOUT = 10
"""

# the signing key is the pool's trust: every host has it and a token made of it
START = r"""
systemctl stop condor 2>/dev/null || :
rm -f /etc/condor/config.d/* /etc/condor/passwords.d/* /etc/condor/tokens.d/*
install -d -m 755 /etc/condor/config.d
install -d -m 700 /etc/condor/passwords.d /etc/condor/tokens.d
printf %s "$1" > /etc/condor/config.d/10-pool
umask 077
printf %s "$2" > /etc/condor/passwords.d/POOL
condor_token_create -identity condor@bed -key POOL > /etc/condor/tokens.d/condor@bed
umask 022
rm -f /etc/systemd/system/condor.service
systemctl daemon-reload
systemctl enable --quiet condor
systemctl start condor
condor_version | sed -n 's/^.CondorVersion: \([0-9.]*\).*/\1/p'
"""


def condor_pool(
    fleet: Fleet, *hosts: str, cpus: int = 8, memory: int = 4000, config: str = "", timeout: float = 180
) -> str:
    """Make hosts of a systemd fleet (recipe slurm24 or cluster) one HTCondor pool; returns its version.

    The first host is central manager and schedd, the others run jobs; a single host does all of it. `memory` is in MB;
    `config` is added on every host (/etc/condor/config.d/10-pool). The daemons come back when a host boots again.
    """
    names = hosts or tuple(fleet.names)
    manager, nodes = names[0], names[1:] or names[:1]
    key = secrets.token_hex(32)

    def start(name: str) -> str:
        text = CONFIG.format(manager=manager, cpus=cpus, memory=memory)
        text += "use ROLE: CentralManager\nuse ROLE: Submit\n" if name == manager else ""
        text += "use ROLE: Execute\n" if name in nodes else ""
        return fleet.run(name, "sh", "-euc", START, "sh", text + config + "\n", key, timeout=timeout)

    with ThreadPoolExecutor(len(names)) as pool:
        said = list(pool.map(start, names))
    ends = time.monotonic() + timeout
    while True:
        seen = fleet.run(manager, "sh", "-c", "condor_status -af Machine 2>&1 || :").split()
        queue = fleet.run(manager, "sh", "-c", "condor_q -allusers -totals 2>&1 || :")
        if {one.split(".")[0] for one in seen} == set(nodes) and "Total for all users" in queue:
            return said[0].split()[-1]
        if time.monotonic() > ends:
            logs = fleet.run(manager, "sh", "-c", "tail -n 8 /var/log/condor/*Log")
            raise BedError(f"HTCondor does not come up on {', '.join(names)}: {seen} {queue}\n{logs}")
        time.sleep(0.2)
