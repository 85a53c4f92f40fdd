# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What became of an interactive job, how it is waited for, and how somebody attaches to it. Pure, but for `read`.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import re
import shlex
import time

from ansible_collections.sciops.sites.plugins.module_utils import _classad
from ansible_collections.sciops.sites.plugins.module_utils._condor_cli import Silent, both, equal

IDLE, RUNNING, REMOVED, COMPLETED, HELD, ENDING, SUSPENDED = range(1, 8)
#: what is asked of a job
PROJECTION = (
    "ClusterId",
    "ProcId",
    "JobStatus",
    "Owner",
    "HMDCInteractive",
    "HMDCUseXpra",
    "HMDCApplicationName",
    "HMDCApplicationVersion",
    "RequestCpus",
    "RequestMemory",
    "LocalJobDir",
    "Out",
    "Err",
    "HoldReason",
    "HoldReasonCode",
    "RemoveReason",
    "CompletionDate",
    "ExitCode",
    "ExitBySignal",
    "ExitSignal",
    "QDate",
    "SciopsSitesKey",
)
#: how xpra and its X server say which display they made; the first is that of the old system
DISPLAY = (r"Xdummy: :(\d+)$", r"Xvfb: :(\d+)$", r"Xorg: :(\d+)$", r"created unix domain socket '[^']*-(\d+)'")
XPRA, SSH = "/usr/bin/xpra", "/usr/bin/condor_ssh_to_job"
HEAD = ("Job Id", "Application", "Version", "Requested Cpus", "Requested Memory")
#: seconds that are no more worth a sleep
TICK = 0.001
#: more of an output than this is not read
MOST = 4 * 1024 * 1024


# --- whose and which


def own(user):
    """The constraint for the running sessions of a user, as the old tools have it."""
    same = [equal(name, value) for name, value in (("HMDCInteractive", True), ("HMDCUseXpra", True))]
    return both(equal("Owner", user), *(same + [equal("JobStatus", RUNNING)]))


def is_own(ad, user):
    """True for a running session of this user: what a schedd answers is looked at again."""
    return (
        ad.get("Owner") == user
        and ad.get("HMDCInteractive") is True
        and ad.get("HMDCUseXpra") is True
        and ad.get("JobStatus") == RUNNING
    )


def keyed(user, key):
    """The constraint for the jobs of a user with this key that have not ended."""
    over = ["JobStatus =!= %d" % one for one in (REMOVED, COMPLETED, ENDING)]
    return both(equal("Owner", user), equal("SciopsSitesKey", key), *over)


def numbered(user, cluster):
    """The constraint for one job of a user."""
    return both(equal("Owner", user), equal("ClusterId", cluster))


def table(rows):
    """Sessions as a table of text, with the columns of the old tools; rows are lists of words."""
    lines = [HEAD] + [tuple("-" if one is None else str(one) for one in row) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in lines)


# --- what became of it


def verdict(ad):
    """(state, reason) of a job's ad from the queue or the history: waiting, started, held, removed or completed."""
    status = ad.get("JobStatus")
    if status in (RUNNING, SUSPENDED):
        return "started", ""
    if status == HELD:
        return "held", str(ad.get("HoldReason") or "no reason is given")
    if status == REMOVED:
        return "removed", str(ad.get("RemoveReason") or "no reason is given")
    if status in (COMPLETED, ENDING):
        return "completed", _ended(ad)
    return "waiting", "" if status == IDLE else "its status is %s" % status


def _ended(ad):
    when, how = ad.get("CompletionDate"), ""
    if ad.get("ExitBySignal") is True:
        how = " by signal %s" % ad.get("ExitSignal", "?")
    elif ad.get("ExitCode") is not None:
        how = " with exit status %s" % ad["ExitCode"]
    if not isinstance(when, int) or isinstance(when, bool) or when <= 0:
        return "it has ended%s" % how
    return "it ended at %s UTC%s" % (time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(when)), how)


def wait(look, now, sleep, interval, limit):
    """(state, reason, seconds waited, ad): looks until the job has started or cannot any more, or the limit is reached.

    ``look()`` gives the ad of the job from the queue, else from the history, None where neither has it; it raises
    Silent where the schedd does not answer. A job that nobody knows anything about is waited for like an idle one. The
    last look is at the limit; state ``timeout`` says what was seen then.
    """
    begun = now()
    ad = None
    while True:
        try:
            found = look()
            ad = found or ad
            state, reason = verdict(found) if found else ("waiting", "neither queue nor history has it")
        except Silent as error:
            state, reason = "waiting", "the schedd does not answer: %s" % error
        passed = now() - begun
        if state != "waiting":
            return state, reason, passed, ad
        if passed > limit - TICK:
            return "timeout", "not started within %g s%s" % (limit, ": " + reason if reason else ""), passed, ad
        sleep(min(interval, limit - passed))


# --- its output


_PART = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([A-Za-z_][A-Za-z0-9_]*))\s*(,|\Z)', re.DOTALL)


def path(ad, name):
    """The path that an attribute of a job evaluates to: a string, or ``strcat`` of strings and numbers of the ad.

    None where it is another expression, or no absolute path.
    """
    value = ad.get(name)
    if not isinstance(value, str):
        return None
    inner = re.match(r"\s*strcat\((.*)\)\s*\Z", value, re.DOTALL)
    text = value
    if inner:
        text, at, rest = "", 0, inner.group(1)
        while at < len(rest):
            part = _PART.match(rest, at)
            if not part:
                return None
            literal, other = part.group(1), part.group(2)
            known = ad.get(other) if other else literal.replace('\\"', '"')
            if known is None or isinstance(known, (bool, _classad.Expression)):
                return None
            text, at = text + str(known), part.end()
    return text if text.startswith("/") and "\n" not in text else None


def pattern_faults(patterns):
    """What is wrong with patterns for `display`: texts that begin with the option and the number of the pattern."""
    found = []
    for i, pattern in enumerate(patterns):
        try:
            groups = re.compile(pattern, re.MULTILINE).groups
        except (re.error, OverflowError, RecursionError) as error:
            found.append("display_patterns[%d]: %r is no regular expression: %s" % (i, pattern, error))
            continue
        if not groups:
            words = "display_patterns[%d]: %r has no group; put the number of the display in parentheses"
            found.append(words % (i, pattern))
    return found


def display(texts, patterns=DISPLAY):
    """The number of the display that one of these outputs names, on any line; None where none does yet.

    A pattern counts for all texts before the next one is tried. They have no `pattern_faults`.
    """
    for pattern in patterns:
        found = re.compile(pattern, re.MULTILINE)
        for text in texts:
            match = found.search(text.replace("\r\n", "\n"))
            # a group that took no part has no text
            if match and re.match(r"[0-9]{1,9}\Z", match.group(1) or ""):
                return int(match.group(1))
    return None


def read(name):
    """The beginning of an output, empty where it is not there (yet)."""
    try:
        with open(name, "rb") as file:
            return file.read(MOST).decode("utf-8", "replace")
    except OSError:
        return ""


# --- attaching


def attach(schedd, cluster, number, icon=None, blank=False):
    """The words of the command that shows a session on this desktop. ``$TEMP`` is the job's: its shell replaces it.

    xpra 3 and later put 127.0.0.1 where the name of the host is empty, which the job would take for a command; a
    ``blank`` name stays one, and is none there.
    """
    if "'" in schedd or "\n" in schedd:
        raise ValueError("%r: is no address of a schedd" % schedd)
    words = [XPRA, "attach", "--socket-dir=$TEMP"]
    if icon:
        words.append("--tray-icon=%s" % icon)
    return words + ["--ssh=%s -name '%s' %d" % (SSH, schedd, cluster), "ssh:%s:%d" % (" " if blank else "", number)]


def shell(words):
    """The same for a shell, with no key agent of the desktop in between."""
    return "SSH_AUTH_SOCK= " + " ".join(_quoted(one) for one in words)


def _quoted(word):
    # what has single quotes is easier to read between double ones, where nothing in it means something there
    return '"%s"' % word if "'" in word and not re.search(r'[$`"\\!]', word) else shlex.quote(word)


def attached(words, processes):
    """The pids whose command line is this one, or this one run by an interpreter; ``processes`` are (pid, words)."""
    count = len(words)
    return sorted(pid for pid, argv in processes if argv[-count:] == words and len(argv) <= count + 3)


def find_display(look, texts, now, sleep, interval, limit, patterns=DISPLAY):
    """(state, reason, number) of a session that runs: its display, or why there will be none.

    ``texts()`` gives its outputs, ``look()`` its ad as for `wait`. State ``no_display`` is the limit.
    """
    begun = now()
    while True:
        number = display(texts(), patterns)
        if number is not None:
            return "started", "", number
        try:
            found = look()
            state, reason = verdict(found) if found else ("started", "")
        except Silent:
            state, reason = "started", ""
        if state not in ("started", "waiting"):
            return state, reason, None
        passed = now() - begun
        if passed > limit - TICK:
            return "no_display", "its output names no display within %g s" % limit, None
        sleep(min(interval, limit - passed))
