# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What Slurm says, read; and what it is to be told, in words. Pure: no I/O, no clock.

Note that this module util is **PRIVATE** to the collection.

Read are squeue's JSON as 22.05 writes it and as later versions do, and the lines of scontrol, which are the same in all
of them. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import json
import re
import time

from ansible_collections.sciops.sites.plugins.module_utils import _marks
from ansible_collections.sciops.sites.plugins.module_utils._marks import Garbled

# A closed table of squeue's words for a state: one word in 22.05, later a base state and flags. A job with one word of
# ALIVE has its place in the queue or on a node; one with words of OVER only has none. Any other word is not known.
ALIVE = frozenset(
    "PENDING RUNNING SUSPENDED CONFIGURING COMPLETING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD "
    "RESIZING SIGNALING STAGE_OUT STOPPED POWER_UP_NODE EXPEDITING".split()
)
OVER = frozenset(
    "COMPLETED FAILED CANCELLED TIMEOUT NODE_FAIL BOOT_FAIL DEADLINE OUT_OF_MEMORY PREEMPTED REVOKED LAUNCH_FAILED "
    "RECONFIG_FAIL".split()
)
WAITING = frozenset("PENDING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD".split())
# why a job waits that nobody but a person can end
HELD = frozenset(
    "JobHeldUser JobHeldAdmin JobHoldMaxRequeue JobArrayTaskLimitHeld ReservationDeleted DependencyNeverSatisfied "
    "launch_failed_requeued_held job_requeued_in_held_state".split()
)
UNFIT = frozenset(
    "AccountNotAllowed BadConstraints InvalidAccount InvalidQOS PartitionDown PartitionInactive PartitionNodeLimit "
    "PartitionTimeLimit QOSNotAllowed".split()
)
# the keys of mark and unit in a job, see _marks.sort_out
KEYS = ("comment", "name")
# how a number says that there is none
NO_NUMBER = 0xFFFFFFFE
OPTIONS = (
    "partition account qos constraint reservation cpus memory time handover reservation_words reservation_margin "
    "cancels arguments"
).split()
# options of sbatch that make up the identity of a job, or where it goes; the rest is free
TAKEN = (
    "--array --chdir --clusters --comment --dependency --error --export --export-file --help --hold --job-name "
    "--open-mode --output --parsable --quiet --requeue --no-requeue --test-only --uid --gid --usage --version --wait "
    "--wrap -a -D -M -d -e -h -H -J -o -Q -V -W"
).split()
MARGIN = 7200
# what of a reservation says what it is for
SPOKEN = ("ReservationName", "Flags")
# the number of a signal that Slurm gives where it could not even begin
SETUP = 53
# a slurmctld that was started may have forgotten jobs that live until all nodes have told it of theirs
SLACK = 10


# --- what squeue says


def number(value):
    """A number as 22.05 writes it (plain) or as later versions do; None where it is none, or without end."""
    if isinstance(value, dict):
        if not value.get("set", True) or value.get("infinite"):
            return None
        value = value.get("number")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value >= NO_NUMBER:
        return None
    return int(value)


def ended(code):
    """(exit status, signal) of a job's exit code: a wait status in 22.05, later a mapping."""
    if isinstance(code, dict) and "number" not in code:
        signal = code.get("signal") or {}
        signal = signal.get("id", signal.get("signal_id")) if isinstance(signal, dict) else signal
        return number(code.get("return_code")) or 0, number(signal) or 0
    raw = number(code) or 0
    return raw >> 8, raw & 127


def verdict(words):
    """Whether a job with these state words is ``alive``, ``over``, or ``unknown``."""
    if any(word in ALIVE for word in words):
        return "alive"
    return "over" if words and all(word in OVER for word in words) else "unknown"


def job(raw):
    """What is needed of one job of squeue's JSON. Raises Garbled where it has no id, name or state."""
    try:
        words = raw["job_state"]
        words = [words] if isinstance(words, str) else list(words)
        one = {"id": number(raw["job_id"]), "name": raw["name"], "words": words}
        if one["id"] is None or not all(isinstance(word, str) for word in words + [one["name"]]):
            raise TypeError("a type that is not known")
    except (LookupError, TypeError, AttributeError) as error:
        raise Garbled("squeue: a job that is not understood: %s" % (repr(error)[:200]))
    one["verdict"] = verdict(words)
    # while it completes a job has a base state that is over, and still a place
    flags = [word for word in words if word in ALIVE]
    one["word"] = (flags or words or ["without a state"])[-1]
    one["waits"] = one["word"] in WAITING
    for key, name in (("submit", "submit_time"), ("start", "start_time"), ("end", "end_time"), ("limit", "time_limit")):
        one[key] = number(raw.get(name))
    for key, name in (("user", "user_name"), ("comment", "comment"), ("reason", "state_reason"), ("nodes", "nodes")):
        one[key] = raw.get(name) if isinstance(raw.get(name), str) else ""
    # nobody has looked at it yet
    one["reason"] = "" if one["reason"] == "None" else one["reason"]
    one["held"] = raw.get("hold") is True
    one["exit"], one["signal"] = ended(raw.get("exit_code"))
    return one


def of_others(raw, users):
    """Whether a job surely belongs to none of these users; what is odd in it is then no matter of ours."""
    name = raw.get("user_name") if isinstance(raw, dict) else None
    return isinstance(name, str) and name not in users


def queue(text, users=None):
    """(jobs, version) of the output of `squeue --json`. Raises Garbled where it is none or tells of an error.

    ``users`` are the names that count, since 22.05 writes the jobs of all; None for all.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Garbled("squeue: no JSON: %s" % (text.strip()[:100] or error))
    if not isinstance(document, dict) or not isinstance(document.get("jobs"), list):
        raise Garbled("squeue: an answer without jobs: %s" % text.strip()[:100])
    for error in document.get("errors") or []:
        # 22.05 ends with status 0 and an empty list where no slurmctld answers
        words = error if isinstance(error, dict) else {}
        said = [words.get(key) for key in ("description", "error") if words.get(key)]
        raise Garbled("squeue: %s" % (": ".join(str(word) for word in said) or error))
    jobs = [job(raw) for raw in document["jobs"] if users is None or not of_others(raw, users)]
    meta = document.get("meta") or {}
    version = (meta.get("slurm") or meta.get("Slurm") or {}).get("version") or {}
    try:
        version = (int(version.get("major")), int(version.get("minor")))
    except (TypeError, ValueError):
        version = (0, 0)
    return jobs, version


# --- in words


def how_it_ended(one):
    """How a job ended, in words."""
    if one["signal"]:
        words = "ended by signal %d" % one["signal"]
        if one["signal"] == SETUP:
            words = "Slurm could not set it up on %s; often its log cannot be written there"
            words %= one["nodes"] or "a node"
        return "%s, %s" % (one["word"], words)
    return "%s, ended with status %d" % (one["word"], one["exit"]) if one["exit"] else one["word"]


def state(group, waits_for=""):
    """The state of a group in words that begin with Slurm's."""
    one = group["jobs"][0]
    if one["waits"]:
        words = "%s: %s" % (one["word"], one["reason"]) if one["reason"] else one["word"]
        return "%s; it %s" % (words, waits_for) if waits_for else words
    return "%s on %s" % (one["word"], one["nodes"]) if one["nodes"] else one["word"]


def health(group):
    """What is wrong with a group that is alive; empty where nothing is."""
    one = group["jobs"][0]
    reason = one["reason"].split(",")[0].strip().replace(" ", "_")
    if one["held"] or (one["waits"] and reason in HELD):
        return "held in the queue: %s" % (one["reason"] or "by hand")
    if one["waits"] and reason in UNFIT:
        return "cannot run as it was asked for: %s" % one["reason"]
    if one["word"] in ("SUSPENDED", "STOPPED"):
        return "suspended by Slurm or an operator"
    return ""


def renewal(group, handover, now):
    """Why a group needs a successor now, in words; empty where it does not."""
    alive = _marks.living(group)
    first = group["jobs"][0]
    if not handover or len(alive) != 1 or first["word"] != "RUNNING" or first["limit"] is None or not first["end"]:
        return ""
    left = first["end"] - now
    return "its time is over in %d s, and no job waits to take over" % max(0, left) if left < handover else ""


# --- reservations


def moment(text):
    """Seconds since 1970 of a time as scontrol writes it, local time or seconds; None where it is none."""
    if text.isdigit():
        return int(text)
    try:
        return int(time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")))
    except (ValueError, OverflowError):
        return None


def fields(line):
    """The words KEY=VALUE of a line of `scontrol -o`."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def words_of(said, words, keys=SPOKEN):
    """The words that the values of these keys of a reservation have; "" is in each of them.

    Not in the whole line: it has the users, accounts and partitions that may use the reservation too.
    """
    return [word for word in words if any(word in said.get(key, "") for key in keys)]


def reservations(text, words, keys=SPOKEN):
    """[(start, end, name)] of what `scontrol show res -o` says, of reservations that have one of the words; by start.

    A word is looked for in the values of these keys.
    """
    found = []
    for line in text.splitlines():
        said = fields(line)
        if line.startswith("ReservationName=") and words_of(said, words, keys):
            start, end = moment(said.get("StartTime", "")), moment(said.get("EndTime", ""))
            if start is not None:
                found.append((start, end if end is not None else start, said["ReservationName"]))
    return sorted(found)


def before(found, now, margin=MARGIN, limit=None):
    """(minutes for --time-min, or None; what a job that does not fit waits for, in words).

    ``found`` are reservations, ``limit`` the walltime in seconds, None for what the partition gives: then nothing is
    cut, since Slurm refuses a least time beyond that. The next reservation counts, not the first one that is listed.
    """
    under_way = [name for start, end, name in found if start <= now < end]
    waits = "waits for the end of reservation %s" % under_way[0] if under_way else ""
    ahead = [(start, name) for start, _end, name in found if start > now]
    if not ahead:
        return None, waits
    start, name = ahead[0]
    if limit and limit <= start - now:
        return None, waits
    minutes = int(round((start - now - margin) / 60.0))
    if minutes <= 0:
        return None, waits or "waits for the end of reservation %s" % name
    if not limit or minutes * 60 >= limit:
        return None, waits
    return minutes, waits


# --- what sbatch is told


def faults(options):
    """What is wrong with the options of a component, in words."""
    found = ["options.slurm.%s: is no option of Slurm here" % key for key in sorted(options) if key not in OPTIONS]
    for word in options.get("arguments") or []:
        name = str(word).split("=", 1)[0]
        taken = [t for t in TAKEN if name == t or (len(t) == 2 and name[:2] == t)]
        if not re.match(r"--?[A-Za-z]", name) or "\n" in str(word):
            text = "options.slurm.arguments: %r: must be one option of sbatch in one word, like --gres=gpu:1"
            found.append(text % word)
        elif taken:
            found.append("options.slurm.arguments: %r: %s is set by the launcher" % (word, taken[0]))
    return found


def pattern(path):
    """A path as sbatch takes it for a log, whose % and \\ mean something there."""
    return path.replace("%", "%%")


def submit_words(unit, text, log, options, minutes, version):
    """The command line of sbatch. The job script comes on its standard input.

    Not requeued: who counts the jobs starts what is missing, and a job that comes back by itself would be one it did
    not count. Singleton: whatever goes wrong above, Slurm runs one job of a name at a time.
    """
    words = ["sbatch", "--parsable", "--job-name=" + unit, "--comment=" + text]
    words += ["--dependency=singleton", "--no-requeue"]
    # NIL is of 23.02; before it, everything that is not ALL makes a login shell of the user on the node, and the
    # environment that sbatch is run with is a clean one anyway
    words.append("--export=NIL" if version >= (23, 2) else "--export=ALL")
    words += ["--open-mode=append", "--output=" + pattern(log), "--chdir=/", "--nodes=1", "--ntasks=1"]
    for key in ("partition", "account", "qos", "constraint", "reservation"):
        if options.get(key):
            words.append("--%s=%s" % (key, options[key]))
    if options.get("cpus"):
        words.append("--cpus-per-task=%d" % options["cpus"])
    if options.get("memory"):
        words.append("--mem=%dM" % -(-int(options["memory"]) // 1048576))
    if options.get("time"):
        words.append("--time=%d" % -(-int(options["time"]) // 60))
    if minutes:
        words.append("--time-min=%d" % minutes)
    return words + [str(word) for word in options.get("arguments") or []]


def submitted(text):
    """The number of the job in the output of `sbatch --parsable`, None where it has none."""
    for line in reversed(text.splitlines()):
        found = re.match(r"(\d+)(;|$)", line.strip())
        if found:
            return int(found.group(1))
    return None


def refusal(text):
    """(what sbatch said, in one line; whether the job is surely not submitted)."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = " ".join(re.sub(r"^sbatch: (error: |fatal: )?", "", line) for line in lines[-3:])
    lost = re.search(r"timed out|Zero Bytes|[Cc]ommunication|Unexpected message|[Rr]eceive", text)
    return said[:300] or "no words", not lost


# --- what a slurmctld may have forgotten


def controller(text):
    """What `scontrol show config` says that is needed here, None for what it does not say."""
    found = dict.fromkeys(("as_of", "boot", "slurmd_timeout", "accounting"))
    for line in text.splitlines():
        key, _equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if line.startswith("Configuration data as of "):
            found["as_of"] = moment(line.rsplit(" ", 1)[-1])
        elif key == "BOOT_TIME":
            found["boot"] = moment(value)
        elif key == "SlurmdTimeout" and value.split(" ")[0].isdigit():
            found["slurmd_timeout"] = int(value.split(" ")[0])
        elif key == "AccountingStorageType":
            found["accounting"] = value == "accounting_storage/slurmdbd"
    return found


def forgetful(said, nodes):
    """Why a slurmctld may not know of a job that lives, in words; empty where it would know.

    ``said`` is of controller(), ``nodes`` the states of `sinfo -a -h -o %T`.
    """
    if None in (said["as_of"], said["boot"], said["slurmd_timeout"]):
        return "scontrol show config does not say when slurmctld was started"
    age, needed = said["as_of"] - said["boot"], said["slurmd_timeout"] + SLACK
    if age < needed:
        return "slurmctld was started %d s ago, and knows all jobs only after %d s" % (max(0, age), needed)
    states = [line.strip() for line in nodes.splitlines() if line.strip()]
    if not states:
        return "sinfo tells of no node"
    if any(word.lower().startswith("unk") for word in states):
        return "not all nodes have told slurmctld of their jobs"
    return ""


def accounted(text, units):
    """Numbers of jobs, of `sacct -X -n -P -o JobIDRaw,State,JobName`, that are over, with their state.

    ``units`` are the names by number: another job of that number says nothing.
    """
    found = {}
    for line in text.splitlines():
        number_, state_, name = (line.split("|") + ["", ""])[:3]
        word = state_.split(" ")[0]
        if number_.isdigit() and word in OVER and units.get(int(number_)) == name:
            found[int(number_)] = word
    return found
