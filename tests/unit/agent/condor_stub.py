# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTCondor of one file: the programs of its client, over a queue that a test writes and reads.

Run under the name of the program it stands for, beside `state.json` (what there is and how to behave) and `calls.jsonl`
(how it was called). It runs no job, and evaluates no expression but the numbers of jobs.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

HERE = Path(sys.argv[0]).resolve().parent


def condor_q(state, words):
    if state["jobs"]:
        print(json.dumps(state["jobs"]))


def condor_history(state, words):
    if state.get("no_history"):
        sys.exit("Error: no history file is defined")
    print(json.dumps([ad for ad in reversed(state["past"]) if f'"{ad["SciopsSites"]}"' in " ".join(words)]))


def condor_submit(state, words):
    if state.get("refuse"):
        sys.exit("ERROR: " + state["refuse"])
    told = dict(line.split(" = ", 1) for line in TEXT.splitlines() if " = " in line)
    state["last"] += 1
    now = int(time.time())
    ad = {"ClusterId": state["last"], "ProcId": 0, "JobStatus": 2, "Owner": state["user"], "QDate": now}
    ad |= {"JobBatchName": told["batch_name"], "JobLeaseDuration": int(told["job_lease_duration"])}
    ad |= {"SciopsSites": told["MY.SciopsSites"].strip('"'), "SciopsSitesAfter": int(told["MY.SciopsSitesAfter"])}
    ad |= {"RemoteHost": "slot1_1@n1", "JobCurrentStartDate": now, "JobCurrentStartExecutingDate": now}
    if ad["SciopsSitesAfter"] > now:
        ad |= {"JobStatus": 1, "RemoteHost": None}
    ad |= state.get("more", {})
    state["past" if ad["JobStatus"] == 4 else "jobs"].append(ad)
    save(state)
    if state.get("lose"):
        time.sleep(60)
    print(f"{state['last']}.0 - {state['last']}.0")


def numbers(words):
    return {int(one) for one in re.findall(r"ClusterId == (\d+)", " ".join(words))}


def condor_rm(state, words):
    for ad in [ad for ad in state["jobs"] if ad["ClusterId"] in numbers(words)]:
        ad |= {"JobStatus": 3, "RemoveReason": "via condor_rm"}
        if not state.get("stubborn"):
            state["jobs"].remove(ad)
            state["past"].append(ad | {"RemoteHost": None})
    save(state)


def condor_qedit(state, words):
    for ad in state["jobs"]:
        if ad["ClusterId"] in numbers(words):
            ad[words[-2]] = int(words[-1])
    save(state)


def condor_config_val(state, words):
    print(HERE / "schedd_address")


def save(state):
    (HERE / "state.json").write_text(json.dumps(state))


NAME, WORDS = Path(sys.argv[0]).name, sys.argv[1:]
TEXT = sys.stdin.read() if NAME == "condor_submit" else ""
STATE = json.loads((HERE / "state.json").read_text())
with (HERE / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps([NAME, WORDS, dict(os.environ), TEXT]) + "\n")
if STATE.get("hang"):
    time.sleep(60)
if STATE.get("down"):
    sys.exit("-- Failed to fetch ads from: <10.0.0.1:9618> : h1")
if "noise" in STATE and STATE["noise"] is not None:
    print(STATE["noise"])
    sys.exit()
globals()[NAME](STATE, WORDS)
