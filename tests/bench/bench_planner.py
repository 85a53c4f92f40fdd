# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time of one plan for fleets of doubling size, as JSON on standard output.

    PYTHONPATH=.collections python3 tests/bench/bench_planner.py [largest number of hosts]

A size is hosts, components and instances growing together (1,000 hosts, 200 components, 10,000 instances at the default
end). Three situations: `steady` (all runs, the plan is empty), `fill` (an empty fleet, one plan without a budget) and
`short` (the fleet is full and each component misses some: every reason has to be told).
"""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from faults.simulator import component, declaration  # noqa: E402

from ansible_collections.sciops.sites.plugins.plugin_utils import _memory, _planner  # noqa: E402

NOW = 100000.0


def fleet(hosts: int, situation: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return (declaration, observations, memory) of a fleet; ten instances a host, a fifth as many components."""
    names = [f"h{at:05}" for at in range(hosts)]
    kinds, running = max(1, hosts // 5), hosts * 10
    each = running // kinds
    wanted = each + 5 if situation == "short" else each
    parts = {
        f"p{at % 7}/c{at}": component(
            at, wanted, load=0.5 * (at % 4), priority=at % 3, uses={"tape": 1} if at % 9 == 0 else {}
        )
        for at in range(kinds)
    }
    limit = 0.75 * 10 if situation == "short" else 40
    declared = declaration(
        {name: {"hot_limit": limit, "max_instances": 10 if situation == "short" else 40} for name in names},
        parts,
        {"tape": 10 * running},
        start_budget=10 * running,
    )
    seen: dict[str, Any] = {
        name: {
            "answered": True,
            "boot_id": name,
            "loadavg": [1.0, 1, 1],
            "cores": 8,
            "memory": {"total": 1 << 36},
            "instances": [],
        }
        for name in names
    }
    if situation != "fill":
        for at in range(running):
            name = f"p{at % kinds % 7}/c{at % kinds}"
            seen[names[at % hosts]]["instances"].append(
                {"component": name, "slot": at // kinds + 1, "token": f"{at:x}", "hash": "0123456789ab", "owned": True,
                 "pid": at + 2, "start": at, "age": 9000.0, "leader": True, "log": None, "log_size": None, "health": ""}
            )  # fmt: skip
    return declared, seen, _memory.learn(None, declared, seen, NOW)


def measure(hosts: int, situation: str, repeat: int = 3) -> dict[str, Any]:
    """Plan `repeat` times and return the shortest wall-clock and CPU time in seconds."""
    declared, seen, memory = fleet(hosts, situation)
    walls, cpus, plan = [], [], {}
    for _index in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        plan = _planner.plan(declared, seen, memory, NOW)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {
        "situation": situation,
        "hosts": hosts,
        "components": len(declared["components"]),
        "instances": sum(len(one["instances"]) for one in seen.values()),
        "actions": len(plan["actions"]),
        "verdict": plan["verdict"],
        "wall": round(min(walls), 4),
        "cpu": round(min(cpus), 4),
    }


def main() -> None:
    """Measure sizes up to the largest and print the JSON."""
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    sizes = [size for size in (largest // 8, largest // 4, largest // 2, largest) if size]
    rows = [measure(size, situation) for situation in ("steady", "fill", "short") for size in sizes]
    found = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "runs": rows,
    }
    json.dump(found, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
