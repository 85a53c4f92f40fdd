# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UPDATE_JOB_INFO: counts how long a job has been idle, and writes to its owner when that is long.

It asks nobody: whether the job is idle is in the ad that HTCondor gives to the hook. The count is in the job's scratch
folder, `.idletime` for the publisher and `.idle-state` for the next run. Counting comes first; a mail that fails
changes nothing of it and is tried again at the next run.
"""

import email.message
import email.utils
import fcntl
import json
import os
import re
import smtplib
import string
import sys
import time

import _common as common
import _idle as idle

STATE, VALUE = ".idle-state", ".idletime"
NEEDED = (
    "HMDCInteractive",
    "HMDCUseXpra",
    "HMDCApplicationName",
    "HMDCApplicationVersion",
    "ClusterId",
    "ProcId",
    "GlobalJobId",
    "Owner",
    "JobStatus",
    "JobState",
    "JobCpuIsIdle",
    "CpusUsage",
    "RemoteUserCpu",
    "RemoteSysCpu",
    "Email",
    "NotifyUser",
)
TEXT = """\
Your job $cluster ($app $version) has not used a processor for $days days ($hours hours).

From $preempt_days days on, a job that is idle can be ended to make room for others. Work in it that is not saved
is lost then. Using the job starts the count anew: choose "Attach all jobs" in the menu, and go on with your work or
save it and end the program.
"""
_ADDRESS = re.compile(r"[^\s@<>(),;:\"\[\]\\]+@[^\s@<>(),;:\"\[\]\\]+\Z")


def clock():
    """(seconds, boot): a clock that nobody can set, with the boot that it counts from."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    # 7 is CLOCK_BOOTTIME, which Python 3.6 has no name for: it goes on while the machine sleeps
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", 7)), boot


def sample(ad, state, now, boot, threshold):
    """What this run sees of the job."""
    if ad.get("JobStatus") in (5, 7) or str(ad.get("JobState")).lower() == "suspended":
        return idle.HELD
    return idle.judge(ad.get("JobCpuIsIdle"), common.number_of(ad, "CpusUsage"), _used(ad), state, now, boot, threshold)


def _used(ad):
    """CPU time of the job. HTCondor says 0 of both for as long as it does not know."""
    times = [common.number_of(ad, name) for name in ("RemoteUserCpu", "RemoteSysCpu")]
    return None if None in times or not any(times) else sum(times)


def recipient(ad):
    """The address to write to, None where the ad has none."""
    for name in ("Email", "NotifyUser"):
        text = common.text_of(ad, name)
        if text and _ADDRESS.match(text.strip()):
            return text.strip()
    return None


def message(ad, value, settings):
    """The mail to the owner. Raises Refused where there is no address."""
    to = recipient(ad)
    if to is None:
        raise common.Refused("no address in Email or NotifyUser of the ad; the owner has to be told by hand")
    words = {
        "cluster": ad.get("ClusterId"),
        "proc": ad.get("ProcId"),
        "app": common.text_of(ad, "HMDCApplicationName") or "program",
        "version": common.text_of(ad, "HMDCApplicationVersion") or "",
        "owner": common.text_of(ad, "Owner") or "",
        "days": int(value // 86400),
        "hours": int(value // 3600),
        "preempt_days": "%g" % round((settings["preempt_after"] or 259200) / 86400.0, 2),
    }
    words = {key: common.plain(word, 200) for key, word in words.items()}
    mail = email.message.EmailMessage()
    mail["Subject"] = common.plain(string.Template(settings["mail_subject"]).safe_substitute(words), 300)
    mail["From"] = settings["mail_from"]
    mail["To"] = to
    mail["Date"] = email.utils.formatdate()
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(string.Template(settings["mail_text"] or TEXT).safe_substitute(words))
    return mail


def send(mail, settings):
    """Hand a mail over. Raises OSError (smtplib's errors among them)."""
    with smtplib.SMTP(settings["smtp_host"], int(settings["smtp_port"]), timeout=settings["smtp_timeout"]) as server:
        server.send_message(mail)


def run(ad, folder, settings, now, boot, sending=send):
    """One sample of a job whose scratch folder is open. Returns the state that was kept, None where none was."""
    if ad.get("HMDCInteractive") is not True:
        return None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        common.say("another run of this hook is still at work, so this one counts nothing")
        return None
    job = str(common.text_of(ad, "GlobalJobId") or "%s.%s" % (ad.get("ClusterId"), ad.get("ProcId")))
    state = idle.load(_kept(folder), job)
    what = sample(ad, state, now, boot, settings["idle_cpus"])
    first = state["clock"] is None
    state = idle.step(state, what, now, boot, 2 * settings["update_interval"])
    state["cpu"] = _used(ad)
    state = idle.rearm(state, settings["idle_trigger"])
    # before the mail: whatever becomes of that, the time has been counted
    _keep(folder, state, what != idle.UNKNOWN or not first)
    kind = idle.due(state, settings["idle_trigger"], settings["preempt_after"], settings["remind_before"])
    if kind and ad.get("HMDCUseXpra") is True:
        try:
            sending(message(ad, state["value"], settings), settings)
        except (common.Refused, OSError, ValueError) as exc:
            common.say("the owner was not told that job %s is idle, this is tried again: %s" % (job, exc))
        else:
            state = dict(state, **{kind: True})
            _keep(folder, state, False)
    return state


def _kept(folder):
    try:
        return json.loads(common.read_file(folder, STATE, 65536).decode("utf-8"))
    except (OSError, ValueError):
        return None


def _keep(folder, state, value):
    common.write_file(folder, STATE, json.dumps(state, sort_keys=True).encode("utf-8"))
    if value:
        common.write_file(folder, VALUE, b"%d\n" % int(state["value"]))


def main(settings_file=None):
    """Count; always 0, since HTCondor ignores it and the job goes on."""
    try:
        text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        settings = common.load_settings(settings_file)
        ad = common.pick(text, NEEDED)
        if ad.get("HMDCInteractive") is True:
            scratch = os.environ.get("_CONDOR_SCRATCH_DIR") or os.environ.get("TEMP") or "."
            now, boot = clock()
            folder = common.open_folder(scratch)
            common.bounded(lambda: run(ad, folder, settings, now, boot) and None, settings["time_limit"])
    except Exception as exc:
        common.say("idle time was not counted: %s: %s" % (type(exc).__name__, exc))
    return 0
