# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures 10,000 jobs in one call: submitted, read and removed, against condor_submit, condor_q and condor_rm."""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from bed.condor import condor_pool  # noqa: E402
from bed.fleet import Fleet  # noqa: E402

# nothing is matched meanwhile, and no job starts: the schedd is what is measured. The history does not grow from round
# to round, for condor_job reads it
CONFIG = """\
NEGOTIATOR_INTERVAL = 3600
NEGOTIATOR_MIN_INTERVAL = 3600
SCHEDD_INTERVAL = 300
MAX_JOBS_PER_OWNER = 10000000
MAX_HISTORY_LOG = 2000000
MAX_HISTORY_ROTATIONS = 1
"""

# runs on the host; each way is timed there from its first word to its last
PROGRAM = r"""
import json, subprocess, sys, time
sys.path.insert(0, "/tmp/bench")
import importlib
count, rounds = int(sys.argv[1]), int(sys.argv[2])
from ansible_collections.sciops.sites.plugins.module_utils import _condor, _condor_batch
DESCRIPTION = {"executable": "/bin/sleep", "arguments": "600", "request_memory": 128}
TEXT = "executable = /bin/sleep\narguments = 600\nrequest_memory = 128\nqueue %d\n" % count
HEAD = "executable = /bin/sleep\narguments = $(a)\nrequest_memory = 128\nMY.N = $(n)\n"
TABLE = HEAD + "queue a, n from (\n%s)\n" % "".join("%d %d\n" % (n, n) for n in range(count))
items = [{"attributes": {"N": n}, "arguments": [str(n)]} for n in range(count)]
PROJECTION = ["ClusterId", "ProcId", "JobStatus"]

def tool(words, text=""):
    done = subprocess.run(words, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    if done.returncode:
        raise SystemExit(done.stderr + done.stdout)
    return done.stdout

def params(way, **more):
    return dict({"state": "present", "owner": None, "count": 1, "history": True, "prune": False}, **more)

def module(way, **more):
    with _condor.connect(way, timeout=300) as client:
        return _condor_batch.Batch(client, params(way, **more), False).run()

def clean():
    subprocess.run(["condor_rm", "-all"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while json.loads(tool(["condor_q", "-allusers", "-json", "-attributes", "ClusterId", "-limit", "1"]) or "[]"):
        time.sleep(0.2)

seen = {}
def timed(name, act):
    begun = time.monotonic()
    answer = act()
    seen.setdefault(name, []).append(time.monotonic() - begun)
    return answer

number = 0
for turn in range(rounds + 1):
    if turn == 1:
        seen.clear()
    timed("condor_submit", lambda: tool(["condor_submit", "-terse", "-"], TEXT))
    assert timed("condor_q", lambda: len(json.loads(tool(
        ["condor_q", "-allusers", "-json", "-attributes", ",".join(PROJECTION)])))) == count
    timed("condor_rm", lambda: tool(["condor_rm", "-all"]))
    clean()
    timed("condor_submit from", lambda: tool(["condor_submit", "-terse", "-"], TABLE))
    clean()
    for way in ("bindings", "commands"):
        number += 1
        key = "bench-%d" % number
        mine = _condor.equal("SciopsKey", key)
        with _condor.connect(way, timeout=300) as client:
            done = timed("submit, " + way, lambda: client.submit(DESCRIPTION, None, {"SciopsKey": key}, count))
            assert done[1] == count
            assert timed("query, " + way, lambda: len(client.query(mine, PROJECTION))) == count
            assert timed("remove, " + way, lambda: client.act("remove", mine, "bench"))["success"] == count
        clean()
        number += 1
        key = "bench-%d" % number
        done = timed("condor_job, count, " + way, lambda: module(way, key=key, description=DESCRIPTION, count=count))
        assert done["submitted"] == count
        again = timed("condor_job, again, " + way, lambda: module(way, key=key, description=DESCRIPTION, count=count))
        assert not again["changed"]
        done = timed("condor_job, removed, " + way, lambda: module(way, key=key, state="removed"))
        assert done["acted"][0]["count"] == count
        clean()
        number += 1
        key = "bench-%d" % number
        done = timed("condor_job, items, " + way, lambda: module(way, key=key, description=DESCRIPTION, items=items))
        assert done["submitted"] == count
        clean()
print(json.dumps(seen))
"""

AGAINST = (
    ("submit", "condor_submit"),
    ("condor_job, count", "condor_submit"),
    ("condor_job, items", "condor_submit from"),
    ("condor_job, again", "condor_q"),
    ("query", "condor_q"),
    ("remove", "condor_rm"),
    ("condor_job, removed", "condor_rm"),
)


def measure(fleet: Fleet, count: int, rounds: int) -> dict[str, list[float]]:
    """Run all ways in turn on the host; the seconds of each."""
    data, folder = io.BytesIO(), "bench/ansible_collections/sciops/sites/plugins/module_utils"
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in sorted((ROOT / "plugins" / "module_utils").glob("_c*.py")):
            tar.add(path, f"{folder}/{path.name}")
    ssh = ["ssh", "-F", fleet.ssh_config, "-o", "BatchMode=yes", "deploy@h1"]
    subprocess.run([*ssh, "tar -C /tmp -xf -"], input=data.getvalue(), check=True)
    words = [*ssh, f"python3 - {count} {rounds}"]
    done = subprocess.run(words, input=PROGRAM, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr + done.stdout)
    return json.loads(done.stdout)


def main() -> int:
    """Measure on a pool of one host, write JSON and Markdown below build/bench, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved runs of each way")
    parser.add_argument("--jobs", type=int, default=10000)
    parser.add_argument("--recipe", default="cluster", help="cluster (25.14) or slurm24 (23.9)")
    options = parser.parse_args()
    with Fleet(1, "systemd", options.recipe) as fleet:
        version = condor_pool(fleet, config=CONFIG)
        runs = measure(fleet, options.jobs, options.rounds)
    median = {name: statistics.median(seen) for name, seen in runs.items()}
    load = os.getloadavg()[0]
    lines = [f"HTCondor {version}, {os.cpu_count()} cores, load {load:.1f}, {options.rounds} rounds.", ""]
    lines += [f"| {options.jobs} jobs on one schedd | median (least), s | rate against | |", "|---|---|---|---|"]
    for name, seen in runs.items():
        against = next((theirs for ours, theirs in AGAINST if name.rpartition(", ")[0] == ours), "")
        ratio = f"{median[against] / median[name]:.2f} ({min(runs[against]) / min(seen):.2f})" if against else ""
        lines.append(f"| {name} | {median[name]:.2f} ({min(seen):.2f}) | {against} | {ratio} |")
    out = ROOT / "build" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    (out / "condor.json").write_text(json.dumps({"runs": runs, "load": load}, indent=1), encoding="utf-8")
    (out / "condor.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
