# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What HTCondor says of the jobs of a launcher, read; and what it is to be told, in words. Pure: no I/O, no clock.

Note that this module util is **PRIVATE** to the collection.

Read is the JSON of condor_q and condor_history, as 23.9 and 25.14 write it. Python 3.6 and the standard library, no
f-strings (see _probe).
"""

import json
import re

from ansible_collections.sciops.sites.plugins.module_utils import _classad, _marks
from ansible_collections.sciops.sites.plugins.module_utils._marks import Garbled

# A closed table of the numbers of JobStatus. Removed is a job that somebody wants to have removed: it is in the queue
# until its process is gone. Completed is one whose process has ended, also where something keeps it in the queue.
WORDS = {
    1: "IDLE",
    2: "RUNNING",
    3: "REMOVED",
    4: "COMPLETED",
    5: "HELD",
    6: "TRANSFERRING_OUTPUT",
    7: "SUSPENDED",
}
ALIVE = frozenset("IDLE RUNNING REMOVED HELD TRANSFERRING_OUTPUT SUSPENDED".split())
WAITING = frozenset("IDLE HELD".split())
# key -> attribute; the projection of every query
TEXTS = (
    ("user", "Owner"),
    ("unit", "JobBatchName"),
    ("mark", "SciopsSites"),
    ("node", "RemoteHost"),
    ("hold", "HoldReason"),
    ("remove", "RemoveReason"),
    ("rejected", "LastRejMatchReason"),
)
NUMBERS = (
    ("submit", "QDate"),
    ("entered", "EnteredCurrentStatus"),
    ("start", "JobCurrentStartDate"),
    ("executing", "JobCurrentStartExecutingDate"),
    ("begun", "NumShadowStarts"),
    ("matched", "NumJobMatches"),
    ("finished", "NumJobStarts"),
    ("exit", "ExitCode"),
    ("signal", "ExitSignal"),
    ("lost", "JobCurrentReconnectAttempt"),
    ("before", "LastJobStatus"),
    ("lease", "JobLeaseDuration"),
    ("after", "SciopsSitesAfter"),
)
ATTRIBUTES = ["ClusterId", "ProcId", "JobStatus", "ExitBySignal", "NumVacatesByReason"]
ATTRIBUTES += [attribute for _key, attribute in TEXTS + NUMBERS]
OPTIONS = (
    "requirements rank accounting_group filesystem_domain cpus memory disk gpus time handover margin requeue "
    "hold_limit lease submit"
).split()
# commands of a submit description that make up who a job is, how it runs, or when it is over; the rest is free
TAKEN = (
    "accounting_group allowed_execute_duration allowed_job_duration append_files arguments args batch_name "
    "copy_to_spool cron_hour cron_minute deferral_time env environment error executable filesystemdomain "
    "getenv hold initialdir input job_batch_name job_lease_duration job_max_vacate_time jobbatchname jobleaseduration "
    "jobmaxvacatetime keep_claim_idle kill_sig leave_in_queue leavejobinqueue log max_retries "
    "maxjobretirementtime noop_job notification notify_user on_exit_hold on_exit_remove onexithold onexitremove output "
    "owner periodic_hold periodic_release periodic_remove periodic_vacate periodichold periodicrelease periodicremove "
    "queue rank remote_initialdir request_cpus request_disk request_gpus request_memory requestcpus requestdisk "
    "requestgpus requestmemory requirements retry_until should_transfer_files shouldtransferfiles stream_error "
    "stream_output success_exit_code transfer_executable transfer_input_files transfer_output_files transferexecutable "
    "universe jobuniverse when_to_transfer_output user"
).split()
DEFAULTS = {"margin": 30, "lease": 1200, "requeue": True}
# A crash loop: begun so often, and again after less than so many seconds on the whole
LOOP, SHORT = 3, 600
# clocks of two hosts, and the time between a look and the word about it
SLACK = 30
# what the job script ends with where it cannot open the log
NO_LOG = 73
# what our own rules remove, by the state it was in, see removal()
RULED = {
    "IDLE": "it was taken off its node and is not to run twice",
    "RUNNING": "its time is over, and its node did not end it",
    "HELD": "it was on hold for longer than hold_limit",
}


# --- what condor_q and condor_history say


def number(value):
    """A whole number of an ad, None where it is none (undefined, or an expression)."""
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else int(value)


def verdict(word):
    """Whether a job in the queue with this word is ``alive``, ``over``, or ``unknown``."""
    return "alive" if word in ALIVE else "over" if word == "COMPLETED" else "unknown"


def job(raw):
    """What is needed of one ad. Raises Garbled where it has no id or no state."""
    try:
        one = {"id": number(raw["ClusterId"]), "proc": number(raw.get("ProcId")) or 0}
        status = number(raw["JobStatus"])
        if one["id"] is None or status is None:
            raise TypeError("a type that is not known")
    except (LookupError, TypeError, AttributeError) as error:
        raise Garbled("a job that is not understood: %s" % (repr(error)[:200]))
    one["word"] = WORDS.get(status, "JobStatus %d" % status)
    one["verdict"], one["waits"] = verdict(one["word"]), one["word"] in WAITING
    for key, attribute in TEXTS:
        value = raw.get(attribute)
        # an expression is written as /Expr(..)/
        one[key] = " ".join(value.split()) if isinstance(value, str) and not value.startswith("/Expr(") else ""
    for key, attribute in NUMBERS:
        one[key] = number(raw.get(attribute))
    one["signal"] = one["signal"] if raw.get("ExitBySignal") is True else None
    vacated = raw.get("NumVacatesByReason")
    one["vacated"] = sorted(str(key) for key in vacated) if isinstance(vacated, dict) else []
    return one


def jobs(text, users=None):
    """All jobs of an answer of `condor_q -json` or `condor_history -json`. Raises Garbled where it is none.

    ``users`` are the names that count, None for all. Where there is no job, condor_q writes nothing at all.
    """
    try:
        ads = json.loads(text) if text.strip() else []
    except ValueError as error:
        raise Garbled("no JSON: %s" % (text.strip()[:100] or error))
    if not isinstance(ads, list):
        raise Garbled("an answer that is no list of jobs: %s" % text.strip()[:100])
    found = [job(raw) for raw in ads]
    return [one for one in found if users is None or one["user"] in users]


# --- which jobs are asked for


def any_of(attribute, values):
    """An expression that is true where an attribute is one of these texts."""
    words = ["%s == %s" % (attribute, _classad.quote(value)) for value in sorted(values)]
    return "(%s)" % (" || ".join(words) or "false")


def ours(users):
    """The constraint of the query: what carries a mark, or the name of a unit where somebody took the mark away."""
    mark = '(SciopsSites isnt undefined || regexp("^sciops-.*@[0-9]+$", JobBatchName))'
    return "%s && %s" % (any_of("Owner", users), mark)


def exactly(ones):
    """The constraint for these very jobs: numbers begin again with 1 where a schedd lost its queue."""
    return " || ".join(
        "(ClusterId == %d && ProcId == %d && QDate == %d)" % (one["id"], one["proc"], one["submit"] or 0)
        for one in ones
    )


# --- what is not in the queue any more


def absence(record, past, since, now, skew=0):
    """(verdict, words) of a record whose jobs are not in the queue: ``over``, or ``doubt`` and why.

    ``past`` are the jobs that the history has of its token, ``since`` is when the schedd was started, None where that
    is not known, ``skew`` by how much its clock may be another. A queue is on a disk, so a schedd that was started
    again knows its jobs; but a disk may have been lost, and then nodes run on what nobody knows of until the lease of
    the job is over.
    """
    lease = (record.get("options") or {}).get("lease") or DEFAULTS["lease"]
    by_id = {one["id"]: one for one in past}
    numbers = record.get("jobs") or [one["id"] for one in past][-1:]
    if numbers and all(one in by_id for one in numbers):
        last = by_id[numbers[-1]]
        # -forcex: out of the queue, and its node was not heard. A node that is cut off keeps it until its lease is over
        until = (last["entered"] or now) + (last["lease"] or lease) + SLACK
        if last["node"] and last["word"] == "REMOVED" and now < until:
            words = "job %d was forced out of the queue while it ran on %s, where its lease ends in %d s at the latest"
            return "doubt", words % (last["id"], last["node"], until - now)
        # the process beside the program ended it then, whatever the program made of that
        limit = (record.get("options") or {}).get("time")
        late = limit and last["word"] == "COMPLETED" and last["executing"] and last["entered"]
        early = "its time is over: " if late and last["entered"] >= last["executing"] + limit else ""
        return "over", "job %d: %s%s" % (last["id"], early, how_it_ended(last))
    if since is None:
        return "doubt", "its job is not in the queue, and nothing says since when the schedd knows its jobs"
    if since < (record.get("asked") or 0) - skew or now - since > lease + SLACK:
        return "over", "its job is not in the queue any more"
    words = (
        "its job is neither in the queue nor in the history, and the schedd was started %d s ago: that proves nothing"
    )
    return "doubt", words % max(0, now - since) + " until the job's lease is over, %d s after the start" % (
        lease + SLACK
    )


def same_place(one, two):
    """Whether two settings name the same schedd; where they name it in other words, it is taken for another."""
    return all((one or {}).get(key) == (two or {}).get(key) for key in ("schedd", "pool", "config"))


def elsewhere(record):
    """Why nothing is known of a record whose jobs were given to another schedd than the one that is asked."""
    place = record.get("manager") or {}
    words = " ".join("%s %s" % (key, place[key]) for key in ("schedd", "pool", "config") if place.get(key))
    text = "its job was given to %s, which the settings name no more: name it again and stop it there"
    return text % (words or "the schedd of this host")


# --- in words


def how_it_ended(one):
    """How a job that is not in the queue any more ended, in words."""
    if one["word"] == "REMOVED":
        ruled = "PeriodicRemove" in one["remove"] and "System" not in one["remove"]
        words = RULED.get(WORDS.get(one["before"])) if ruled else None
        return "removed: %s" % (words or one["remove"] or "nobody said why")
    if one["signal"]:
        return "ended by signal %d" % one["signal"]
    words = "%s, ended with status %d" % (one["word"], one["exit"]) if one["exit"] else one["word"]
    hint = {
        NO_LOG: "its log cannot be written on its node",
        2: "often its node does not see the state folder",
        127: "often its node does not see what it runs",
    }
    return "%s: %s" % (words, hint[one["exit"]]) if one["exit"] in hint else words


def state(group, now):
    """The state of a group in words, the first of which is the word for its JobStatus."""
    one = group["jobs"][0]
    if one["word"] == "HELD":
        return "HELD: %s" % (one["hold"] or "nobody said why")
    if one["word"] == "IDLE":
        if one["after"] and one["after"] > now:
            return "IDLE: it begins when the job before it is over, in %d s at the latest" % (one["after"] - now)
        return "IDLE: %s" % one["rejected"] if one["rejected"] else "IDLE"
    return "%s on %s" % (one["word"], one["node"]) if one["node"] else one["word"]


def loop(one, now):
    """What says that a job is begun over and over, in words; empty where it is not.

    A job counts from its submission, so that one that was moved now and then in a month is none.
    """
    age = now - (one["submit"] or now)
    if (one["begun"] or 0) < LOOP or age >= one["begun"] * SHORT:
        return ""
    words = "a crash loop: HTCondor began it %d times in %d s" % (one["begun"], max(0, age))
    return words + (" (%s)" % ", ".join(one["vacated"]) if one["vacated"] else "")


def health(group, now):
    """What is wrong with a group that is alive; empty where nothing is."""
    one = group["jobs"][0]
    if one["word"] == "HELD":
        return "held in the queue: %s" % (one["hold"] or "nobody said why")
    if one["word"] == "SUSPENDED":
        return "suspended by HTCondor or an operator"
    if one["word"] in ("RUNNING", "REMOVED") and one["lost"]:
        return "its node does not answer; HTCondor asks it until the lease of %d s is over" % (one["lease"] or 0)
    return loop(one, now)


def ends(one, options):
    """When a job that runs has had its time, None where that is not known."""
    if one["word"] != "RUNNING" or not options.get("time") or not one["executing"]:
        return None
    return one["executing"] + options["time"]


def renewal(group, options, now):
    """Why something has to be done about the successor of a group, in words; empty where nothing has."""
    alive = _marks.living(group)
    first = group["jobs"][0]
    if not options.get("handover") or len(alive) != 1:
        return ""
    if first["word"] == "IDLE" and first["after"] and first["after"] > now:
        return "the job before it is over, and it may begin"
    end = ends(first, options)
    if end is None or end - now >= options["handover"]:
        return ""
    return "its time is over in %d s, and no job waits to take over" % max(0, end - now)


# --- what condor_submit is told


def faults(options):
    """What is wrong with the options of a component, in words."""
    found = [
        "options.htcondor.%s: is no option of HTCondor here" % key for key in sorted(options) if key not in OPTIONS
    ]
    for name, value in sorted((options.get("submit") or {}).items()):
        plain = re.sub(r"^(\+|my\.)", "", name.lower())
        if not re.match(r"[a-z_][a-z0-9_]*\Z", plain) or "\n" in str(value):
            text = "options.htcondor.submit.%s: must be one command of a submit description, in one line"
            found.append(text % name)
        elif plain in TAKEN or plain.startswith("sciopssites"):
            found.append("options.htcondor.submit.%s: is set by the launcher" % name)
    return found


def once(options, singleton):
    """Whether HTCondor must not begin a job again that it took off its node: who counts begins it anew then.

    A successor waits for a time that is counted from the one start of the job before it.
    """
    return bool(singleton or options.get("handover") or not options.get("requeue", True))


def removal(options, singleton):
    """When a job is to leave the queue by itself, as an expression; one rule for each state, see RULED."""
    rules = []
    if once(options, singleton):
        rules.append("JobStatus == 1 && (NumShadowStarts ?: 0) > 0")
    if options.get("time"):
        # the node ends it by itself; this is for one that does not hear
        late = "JobStatus == 2 && time() - (JobCurrentStartExecutingDate ?: time()) > %d"
        rules.append(late % (options["time"] + 300))
    if options.get("hold_limit"):
        rules.append("JobStatus == 5 && time() - EnteredCurrentStatus > %d" % options["hold_limit"])
    return " || ".join("(%s)" % rule for rule in rules) or "false"


def description(unit, mark, words, grace, options, singleton=False, after=0):
    """The submit description of one job, as text; ``words`` are the arguments of /bin/sh.

    One process a job, and all that would start, hold or keep it by itself is off. Output goes nowhere: the job script
    appends to the log itself, since HTCondor cuts its files whenever it begins a job.
    """
    need = ["(%s)" % options["requirements"]] if options.get("requirements") else []
    if once(options, singleton):
        need.append("((MY.NumShadowStarts ?: 0) == 0)")
    if options.get("handover"):
        need.append("(time() >= MY.SciopsSitesAfter)")
    lines = [
        ("universe", "vanilla"),
        ("batch_name", unit),
        ("executable", "/bin/sh"),
        ("transfer_executable", "false"),
        ("arguments", _classad.submit_quoted(_classad.join_arguments(words))),
        ("initialdir", "/"),
        ("input", "/dev/null"),
        ("output", "/dev/null"),
        ("error", "/dev/null"),
        ("should_transfer_files", "NO"),
        ("getenv", "false"),
        ("notification", "never"),
        ("leave_in_queue", "false"),
        ("on_exit_remove", "true"),
        ("on_exit_hold", "false"),
        ("periodic_hold", "false"),
        ("periodic_release", "false"),
        ("periodic_remove", removal(options, singleton)),
        ("job_max_vacate_time", "%d" % -(-grace // 1)),
        ("job_lease_duration", "%d" % (options.get("lease") or DEFAULTS["lease"])),
        ("requirements", " && ".join(need)),
        ("rank", options.get("rank")),
        ("accounting_group", options.get("accounting_group")),
        ("request_cpus", "%d" % (options.get("cpus") or 1)),
    ]
    for key, unit_ in (("memory", 1 << 20), ("disk", 1 << 10)):
        if options.get(key):
            lines.append(("request_" + key, "%d" % -(-int(options[key]) // unit_)))
    if options.get("gpus"):
        lines.append(("request_gpus", "%d" % options["gpus"]))
    if options.get("filesystem_domain"):
        lines.append(("MY.FileSystemDomain", _classad.quote(options["filesystem_domain"])))
    lines += [("MY.SciopsSites", _classad.quote(mark)), ("MY.SciopsSitesAfter", "%d" % after)]
    lines += sorted((name, str(value)) for name, value in (options.get("submit") or {}).items())
    return "".join("%s = %s\n" % pair for pair in lines if pair[1]) + "queue 1\n"


def submitted(text):
    """The number of the job in the output of `condor_submit -terse`, None where it has none."""
    for line in reversed(text.splitlines()):
        found = re.match(r"(\d+)\.\d+ - (\d+)\.\d+$", line.strip())
        if found:
            return int(found.group(1))
    return None


def refusal(text):
    """(what condor_submit said, in one line; whether the job is surely not submitted)."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = " ".join(re.sub(r"^(ERROR: |Submitting job\(s\)\.*)", "", line) for line in lines[-3:]).strip()
    lost = re.search(r"timed out|SECMAN|[Cc]ommit|[Cc]onnection|[Cc]ommunication", text)
    sure = not lost or re.search(r"[Ff]ailed to connect to|requirement|[Ff]ailed to create", text)
    return said[:300] or "no words", bool(sure)
