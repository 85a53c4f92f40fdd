# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""USER_JOB_WRAPPER: sets the limits of a job, puts a session server around it where it wants one, and becomes the job.

Arguments and variables go on byte by byte. A job that is none of ours is executed at once, as if nobody had been here.
"""

import os
import re
import resource
import shlex
import signal
import sys

import _common as common

#: words of the job's command, one after the other, ended by NUL each, in the job's scratch folder
COMMAND_FILE = ".session-command"
CHILD = b"--session-child"
AD_LIMIT = 64 << 20
NEEDED = ("HMDCNewSubmit", "HMDCUseXpra", "HMDCApplicationName", "LocalJobDir", "ClusterId", "ProcId", "Owner")


def memory_limits(megabytes):
    """(soft, hard) in bytes of a slot's Memory."""
    return megabytes * 1048576, megabytes * 1048576 + 1


def choose_cpus(allowed, count, slot):
    """Which processors a slot of so many may use. Slots of the same size with different numbers get different ones."""
    allowed = sorted(allowed)
    if count >= len(allowed) or count < 1:
        return allowed
    start = (max(slot, 1) - 1) * count % len(allowed)
    return sorted((allowed + allowed)[start : start + count])


def slot_number(name):
    """The number of a slot: 3 of slot3@host and of slot1_3@host. None where it does not tell the slot from all others.

    Each partitionable slot counts those that it parts into by itself: slot1_1 and slot2_1 are on one machine.
    """
    match = re.match(r"slot(?:1_)?([0-9]+)(?:@|\Z)", name or "")
    return int(match.group(1)) if match else None


def set_limits(machine, settings):
    """Set what the machine ad says; returns what could not be set, a line each."""
    failed = []
    memory, cpus = common.number_of(machine, "Memory"), common.number_of(machine, "Cpus")
    if settings["memory_limits"]:
        if memory is None or memory < 1:
            failed.append("memory limits: the machine ad says no Memory")
        else:
            for name in ("RSS", "DATA", "AS"):
                failed += _limit(name, *memory_limits(int(memory)))
    if settings["cpu_affinity"]:
        if cpus is None or cpus < 1:
            failed.append("processors: the machine ad says no Cpus")
        else:
            failed += _pin(common.text_of(machine, "Name"), int(cpus))
    return failed


def _pin(name, cpus):
    number = slot_number(name)
    if number is None:
        words = "processors: of the name of the slot (%s) it is not known which are its own"
        words += "; have HTCondor choose them (ASSIGN_CPU_AFFINITY), and set condor_hooks_cpu_affinity: false"
        return [words % common.plain(name or "none", 100)]
    try:
        os.sched_setaffinity(0, choose_cpus(os.sched_getaffinity(0), cpus, number))
    except (OSError, ValueError) as exc:
        return ["processors: %s" % exc]
    return []


def _limit(name, soft, hard):
    kind = getattr(resource, "RLIMIT_" + name)
    now = resource.getrlimit(kind)[1]
    if now != resource.RLIM_INFINITY and now < hard:
        # a stricter one holds already
        soft, hard = min(soft, now), now
    try:
        resource.setrlimit(kind, (soft, hard))
    except (OSError, ValueError) as exc:
        return ["RLIMIT_%s %d: %s" % (name, soft, exc)]
    return []


def fill_command(template, words, values):
    """The command of a session server. A word `{command}` stands for all words of the job's command.

    In other words, names in braces are put in; what is no name of `values` stays as it is.
    """
    found = []
    for part in template:
        if part == "{command}":
            found += words
        else:
            found.append(re.sub(r"\{([a-z]+)\}", lambda m: values.get(m.group(1), m.group(0)), part).encode())
    return found


def read_ad(path, names):
    """The attributes of a file that HTCondor wrote. Raises OSError."""
    folder, name = os.path.split(path)
    within = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return common.pick(common.read_file(within, name, AD_LIMIT).decode("utf-8", "surrogateescape"), names)
    finally:
        os.close(within)


def plan(words, job, environment, settings, program):
    """What is executed for a job of ours: its command, or a session server around it (what that needs is written)."""
    if words[0] in [os.fsencode(one) for one in settings["sshd"]] or job.get("HMDCUseXpra") is not True:
        return words
    scratch = environment.get(b"_CONDOR_SCRATCH_DIR") or environment.get(b"TEMP") or b"."
    folder = common.open_folder(scratch)
    try:
        common.write_file(folder, COMMAND_FILE, b"".join(word + b"\0" for word in words))
    finally:
        os.close(folder)
    where = os.fsdecode(scratch)
    values = {
        "scratch": where,
        "folder": common.text_of(job, "LocalJobDir") or where,
        "app": app_name(job),
        "cluster": str(job.get("ClusterId")),
        "proc": str(job.get("ProcId")),
        "child": " ".join(shlex.quote(one) for one in (program, CHILD.decode(), where)),
    }
    return fill_command(settings["session_command"], words, values)


def app_name(job):
    """The application's name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", common.text_of(job, "HMDCApplicationName") or "job").lstrip(".") or "job"


def session_child(scratch, environment, settings):
    """The job's command, inside a session: its words are those that were put aside; what it says goes into its log."""
    folder = common.open_folder(scratch)
    words = common.read_file(folder, COMMAND_FILE, AD_LIMIT).split(b"\0")[:-1]
    os.close(folder)
    try:
        job = read_ad(_ad_path(environment, b"_CONDOR_JOB_AD", b".job.ad"), NEEDED)
        place = common.text_of(job, "LocalJobDir")
        if place and settings["session_log"]:
            root, names = common.split_below(settings["job_roots"], place)
            within = common.make_below(root, names)
            name = settings["session_log"].replace("{app}", app_name(job)).replace("/", "_")
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            log = os.open(name, flags, 0o600, dir_fd=within)
            os.dup2(log, 1)
            os.dup2(log, 2)
    except (OSError, common.Refused) as exc:
        common.say("the job has no log of its own: %s" % exc)
    return words


def _ad_path(environment, variable, name):
    scratch = environment.get(b"_CONDOR_SCRATCH_DIR") or environment.get(b"TEMP") or b"."
    return os.fsdecode(environment.get(variable) or os.path.join(scratch, name))


def first_environment():
    """The variables as this process got them; Python itself may have added some."""
    try:
        with open("/proc/self/environ", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    return dict(word.split(b"=", 1) for word in words if b"=" in word and not word.startswith(b"="))


def give_up(text, environment):
    """End without the job, and say why. HTCondor ends the job with status 1; it does not hold it."""
    text = "the job wrapper: %s" % common.plain(text)
    common.say(text)
    path = environment.get(b"_CONDOR_WRAPPER_ERROR_FILE")
    if path:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
            os.write(fd, (text + "\n").encode("utf-8", "replace"))
            os.close(fd)
        except OSError:
            pass
    return 1


def execute(words, environment):
    """Become this command. Returns only where that fails. Raises OSError."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    # Python ignores these two, and what is ignored stays so in the job
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    sys.stderr.flush()
    if b"/" in words[0]:
        os.execve(words[0], words, environment)  # noqa: S606
    else:
        os.execvpe(words[0], words, environment)  # noqa: S606


def prepare(words, environment, program, settings_file=None):
    """What to execute. Raises Refused where the job must not run."""
    if words[0] == CHILD and len(words) == 2:
        return session_child(words[1], environment, common.load_settings(settings_file))
    try:
        job = read_ad(_ad_path(environment, b"_CONDOR_JOB_AD", b".job.ad"), NEEDED)
    except OSError as exc:
        common.say("the job ad cannot be read, so no limits are set: %s" % exc)
        return words
    if job.get("HMDCNewSubmit") is not True:
        return words
    try:
        settings = common.load_settings(settings_file)
    except (OSError, ValueError) as exc:
        raise common.Refused("the settings of this machine cannot be used: %s" % exc)
    try:
        names = ("Memory", "Cpus", "Name")
        failed = set_limits(read_ad(_ad_path(environment, b"_CONDOR_MACHINE_AD", b".machine.ad"), names), settings)
    except OSError as exc:
        failed = ["the machine ad cannot be read: %s" % exc]
    if failed and settings["limits_required"]:
        raise common.Refused("a limit cannot be set: " + "; ".join(failed))
    for one in failed:
        common.say("a limit is not set, only what HTCondor itself does holds: %s" % one)
    try:
        return plan(words, job, environment, settings, program)
    except OSError as exc:
        raise common.Refused("no session can be started: %s" % exc)


def _too_late(_number, _frame):
    raise common.Refused("the ads could not be read in time")


def main(settings_file=None, program=None):
    """Become the job; a return is a failure."""
    words = [os.fsencode(one) for one in sys.argv[1:]]
    environment = first_environment()
    if not words:
        return give_up("no command was given", environment)
    try:
        signal.signal(signal.SIGALRM, _too_late)
        signal.setitimer(signal.ITIMER_REAL, 30)
        words = prepare(words, environment, program or os.path.abspath(sys.argv[0]), settings_file)
        execute(words, environment)
    except common.Refused as exc:
        return give_up(str(exc), environment)
    except (OSError, ValueError) as exc:
        return give_up("%s cannot be executed: %s" % (os.fsdecode(words[0]) if words else "nothing", exc), environment)
    return 1
