# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Slurm of one file: the programs of its client, over a queue that a test writes and reads.

Run under the name of the program it stands for, beside `state.json` (what there is and how to behave) and `calls.jsonl`
(how it was called). It runs no job.
"""

import json
import os
import sys
import time
from pathlib import Path

HERE = Path(sys.argv[0]).resolve().parent


def number(value):
    return {"set": True, "infinite": False, "number": value}


def squeue(state, words):
    jobs = []
    for job in state["jobs"]:
        code = {"return_code": number(job.get("exit", 0)), "signal": {"id": number(job.get("signal", 0))}}
        keys = {"job_id": job["id"], "name": job["name"], "user_name": job["user"], "comment": job["comment"]}
        keys |= {"job_state": job["state"], "state_reason": job.get("reason", "None"), "exit_code": code}
        keys |= {"nodes": "" if "PENDING" in job["state"] else "n1", "hold": False}
        for name in ("submit_time", "start_time", "end_time", "time_limit"):
            keys[name] = number(job.get(name, 0))
        jobs.append(keys)
    version = {"major": "26", "minor": "05", "micro": "5"}
    print(json.dumps({"jobs": jobs, "meta": {"slurm": {"version": version}}, "errors": []}))


def sbatch(state, words):
    named = dict(word[2:].split("=", 1) for word in words if "=" in word)
    if state.get("refuse"):
        sys.exit("sbatch: error: " + state["refuse"])
    state["last"] += 1
    now = int(time.time())
    job = {"id": state["last"], "name": named["job-name"], "user": state["user"], "comment": named["comment"]}
    job |= {"state": state.get("begin", ["RUNNING"]), "submit_time": now, "start_time": now, "reason": "Priority"}
    job |= {"time_limit": int(named.get("time", 60)), "end_time": now + 60 * int(named.get("time", 60))}
    if any(other["name"] == job["name"] and "RUNNING" in other["state"] for other in state["jobs"]):
        job |= {"state": ["PENDING"], "reason": "Dependency"}
    job |= state.get("more", {})
    state["jobs"].append(job)
    save(state)
    if state.get("lose"):
        time.sleep(60)
    print(state["last"])


def scancel(state, words):
    term, numbers = "--signal=TERM" in words, [int(word) for word in words if word.isdigit()]
    for job in state["jobs"]:
        if job["id"] in numbers and not state.get("stubborn") and not (term and state.get("deaf")):
            job["state"] = ["CANCELLED"]
    save(state)


def scontrol(state, words):
    if words[:2] == ["show", "res"]:
        for name, start in state.get("reservations", []):
            print(f"ReservationName={name} StartTime={start} EndTime={start + 3600} Users=root State=INACTIVE")
    else:
        now = int(time.time())
        print(f"Configuration data as of {now}\nBOOT_TIME               = {now - state['age']}")
        print("SlurmdTimeout           = 300 sec\nAccountingStorageType   = accounting_storage/slurmdbd")


def sinfo(state, words):
    print("\n".join(state["nodes"]))


def sacct(state, words):
    for line in state.get("accounted", []):
        print(line)


def save(state):
    (HERE / "state.json.new").write_text(json.dumps(state))
    (HERE / "state.json.new").rename(HERE / "state.json")


if __name__ == "__main__":
    name, given = Path(sys.argv[0]).name, sys.argv[1:]
    now = json.loads((HERE / "state.json").read_text())
    stdin = sys.stdin.read() if name == "sbatch" else ""
    with (HERE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps([name, given, dict(os.environ), stdin]) + "\n")
    if now.get("hang"):
        time.sleep(60)
    if now.get("down"):
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    if now.get("noise") and name == "squeue":
        print(now["noise"])
        sys.exit(0)
    globals()[name](now, given)
