# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a job has been idle, and when its owner is told. Pure: a sample and the state in, the new state out."""

IDLE, BUSY, UNKNOWN, HELD = "idle", "busy", "unknown", "held"
#: a state that knows nothing
NONE = {"job": "", "boot": "", "clock": None, "value": 0.0, "warned": False, "reminded": False, "cpu": None}


def load(found, job):
    """A state as it was kept, or a new one where it is none or another job's."""
    if not isinstance(found, dict) or found.get("job") != job:
        return dict(NONE, job=job)
    state = dict(NONE)
    state.update((key, found[key]) for key in NONE if key in found)
    for key in ("clock", "value", "cpu"):
        value = state[key]
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15
        if not good and not (value is None and key != "value"):
            return dict(NONE, job=job)
    if not isinstance(state["boot"], str) or any(not isinstance(state[key], bool) for key in ("warned", "reminded")):
        return dict(NONE, job=job)
    return state


def step(state, what, clock, boot, max_gap):
    """The state after a sample.

    The clock never goes back within a boot. Time since the last sample counts where the job is idle now, the last
    sample was in the same boot, and no sample between was missed (a gap of at most `max_gap` seconds). Where it is
    unknown whether the job was idle, or the job could not run, that time is not counted and what was stays.
    """
    new = dict(state, clock=clock, boot=boot)
    if what == BUSY:
        new["value"] = 0.0
    elif what == IDLE and state["clock"] is not None and state["boot"] == boot:
        gap = clock - state["clock"]
        if 0 <= gap <= max_gap:
            new["value"] = state["value"] + gap
    return new


def judge(ad_value, cpus, used, state, clock, boot, threshold):
    """Whether the job is idle: what JobCpuIsIdle says, else the CPUs that it used, else how its CPU time has grown.

    `used` is the job's CPU time in seconds, or None. Returns IDLE, BUSY or UNKNOWN.
    """
    if isinstance(ad_value, bool):
        return IDLE if ad_value else BUSY
    if cpus is not None:
        return IDLE if cpus < threshold else BUSY
    if used is not None and state["cpu"] is not None and state["clock"] is not None and state["boot"] == boot:
        gap = clock - state["clock"]
        if gap > 0 and used >= state["cpu"]:
            return IDLE if (used - state["cpu"]) / gap < threshold else BUSY
    return UNKNOWN


def rearm(state, trigger):
    """Below the trigger, the next time that it is reached is told again."""
    if trigger is None or state["value"] < trigger:
        return dict(state, warned=False, reminded=False)
    return state


def due(state, trigger, preempt_after=None, remind_before=0):
    """Which mail is due: "warned", "reminded" or None. A reminder comes once, before the job may be preempted."""
    if trigger is None or state["value"] < trigger:
        return None
    if not state["warned"]:
        return "warned"
    if preempt_after is not None and not state["reminded"]:
        at = preempt_after - remind_before
        if at > trigger and state["value"] >= at:
            return "reminded"
    return None
