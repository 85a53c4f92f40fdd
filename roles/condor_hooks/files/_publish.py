# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes how long the jobs of this machine have been idle. Two steps:

`publish`, as root from a timer, reads the folders of the jobs (which belong to their owners) and writes one file;
`publish --print`, which the startd runs as its own account, prints that file as attributes of the machine and of its
slots. What comes from a job's folder is a number or is dropped. Nothing of it is ever a name, a path or a program.
"""

import errno
import os
import re
import stat
import sys
import time

import _common as common

#: of a job's ad, which its owner may replace; no kernel starts a program with an environment as large as this
AD_LIMIT = 8 << 20
#: of the value of an attribute that is needed here
VALUE_LIMIT = 300
_FOLDER = re.compile(r"dir_([0-9]{1,10})\Z")
_VALUE = re.compile(rb"([0-9]{1,12})\n?\Z")
_GLOBAL = re.compile(r"[A-Za-z0-9._@:-]{1,200}#[0-9]{1,12}\.[0-9]{1,12}#[0-9]{1,12}\Z")
_SLOT = re.compile(r"slot[0-9]{1,6}(?:_[0-9]{1,6})?\Z")
_ENTRY = r"[0-9]+\.[0-9]+,[0-9]+"
_KEYED = r"[A-Za-z0-9._@:-]+#" + _ENTRY
#: every line that the file may have
LINES = [
    re.compile(one)
    for one in (
        r'HMDCIdleJobs = "(?:{0}(?: {0})*)?"\Z'.format(_ENTRY),
        r'HMDCIdleJobsBySchedd = "(?:{0}(?: {0})*)?"\Z'.format(_KEYED),
        r"HMDCIdleTime = [0-9]+\Z",
        r'HMDCIdleJob = "[A-Za-z0-9._@:-]+#[0-9]+\.[0-9]+#[0-9]+"\Z',
        r'SlotMergeConstraint = regexp\("\^slot[0-9]+(?:_[0-9]+)?@", Name\)\Z',
        r"-(?: slot[0-9]+(?:_[0-9]+)?)?\Z",
    )
]


class Entry(object):
    """What one job's folder says: cluster and proc, seconds, the job's global name and its slot where known."""

    def __init__(self, cluster, proc, seconds, name=None, slot=None):
        self.cluster, self.proc, self.seconds, self.name, self.slot = cluster, proc, seconds, name, slot


def seconds_of(data):
    """The seconds that a file holds, None where it holds anything else. Pure."""
    match = _VALUE.match(data)
    return int(match.group(1)) if match else None


def render(entries):
    """The text of the data file. Pure. Where two folders claim one job, the lower number holds: nobody gains."""
    plain, keyed, slots = {}, {}, []
    for one in entries:
        number = (one.cluster, one.proc)
        plain[number] = min(one.seconds, plain.get(number, one.seconds))
        if one.name and _GLOBAL.match(one.name):
            schedd, job, _stamp = one.name.split("#")
            key = (schedd, one.cluster, one.proc)
            if job == "%d.%d" % number:
                keyed[key] = min(one.seconds, keyed.get(key, one.seconds))
                if one.slot and _SLOT.match(one.slot):
                    slots.append(one)
    lines = [
        'HMDCIdleJobs = "%s"' % " ".join("%d.%d,%d" % (key + (plain[key],)) for key in sorted(plain)),
        'HMDCIdleJobsBySchedd = "%s"' % " ".join("%s#%d.%d,%d" % (key + (keyed[key],)) for key in sorted(keyed)),
        "-",
    ]
    seen = set()
    for one in sorted(slots, key=lambda one: [int(word) for word in re.findall("[0-9]+", one.slot)]):
        if one.slot not in seen:
            seen.add(one.slot)
            lines.append('SlotMergeConstraint = regexp("^%s@", Name)' % one.slot)
            lines.append("HMDCIdleTime = %d" % one.seconds)
            lines.append('HMDCIdleJob = "%s"' % one.name)
            lines.append("- %s" % one.slot)
    return "\n".join(lines) + "\n"


def slot_of(pid, proc="/proc"):
    """The slot that a starter serves, by its own command line, which the job's owner cannot write. None: unknown."""
    try:
        with open("%s/%d/cmdline" % (proc, pid), "rb") as file:
            words = file.read(65536).decode("ascii", "replace").split("\0")
    except OSError:
        return None
    if os.path.basename(words[0]) != "condor_starter":
        return None
    for before, word in zip(words, words[1:]):
        if before == "-a" and _SLOT.match(word):
            return word
    return None


def pick(data, names):
    """These attributes of the bytes of a job's ad, as HTCondor writes them: `Name = value`, the last line of a name.

    The owner may have put anything there, and this runs as root for all jobs of the machine: so nothing is taken apart
    but lines of a bounded length, and what the rest holds costs little time. Raises ValueError for a longer one. Pure.
    """
    data, lines = b"\n" + data, []
    for name in names:
        at = data.rfind(("\n%s = " % name).encode("ascii"))
        if at >= 0:
            longest = at + len(name) + 4 + VALUE_LIMIT
            end = data.find(b"\n", at + 1, longest + 1)
            if end < 0 and len(data) > longest:
                raise ValueError("the job ad's %s has more than %d bytes" % (name, VALUE_LIMIT))
            lines.append(data[at + 1 : end if end >= 0 else longest])
    return common.pick(b"\n".join(lines).decode("utf-8", "replace"), names)


def look(execute, proc="/proc"):
    """The entries of all folders of jobs below EXECUTE. One that says nothing certain loses only its own."""
    found = []
    top = os.open(execute, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        trusted = {0, os.fstat(top).st_uid}
        for name in sorted(os.listdir(top)):
            match = _FOLDER.match(name)
            if match:
                try:
                    found.append(_entry(top, name, int(match.group(1)), trusted, proc))
                except (OSError, ValueError) as exc:
                    common.say("%s/%s is left out: %s" % (execute, name, exc))
    finally:
        os.close(top)
    return found


def _entry(top, name, pid, trusted, proc):
    folder = common.open_folder(name, top)
    try:
        # HTCondor 24 and later have the job's files one level deeper
        try:
            deeper = common.open_folder("scratch", folder)
        except FileNotFoundError:
            pass
        else:
            os.close(folder)
            folder = deeper
        owner = os.fstat(folder).st_uid
        data = common.read_file(folder, ".job.ad", AD_LIMIT, trusted | {owner})
        ad = pick(data, ("ClusterId", "ProcId", "GlobalJobId"))
        numbers = [ad.get("ClusterId"), ad.get("ProcId")]
        if any(isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < 10**12 for one in numbers):
            raise ValueError("the job ad says no ClusterId and ProcId")
        try:
            seconds = seconds_of(common.read_file(folder, ".idletime", 64, {owner}))
        except FileNotFoundError:
            seconds = 0
        if seconds is None:
            raise ValueError(".idletime is no number of seconds")
        return Entry(numbers[0], numbers[1], seconds, common.text_of(ad, "GlobalJobId"), slot_of(pid, proc))
    finally:
        os.close(folder)


def check(text):
    """The text, where each of its lines is one that this program writes. Raises ValueError."""
    for line in text.splitlines():
        if not any(one.match(line) for one in LINES):
            raise ValueError("%s is no line of this file" % common.plain(line, 100))
    return text


def publish(settings, proc="/proc"):
    """Look into all folders and put the data file in its place. Returns its text. Raises OSError."""
    entries = []
    for execute in settings["execute"]:
        entries += look(execute, proc)
    text = check(render(entries))
    folder = open_own_folder(os.path.dirname(settings["data"]))
    try:
        common.write_file(folder, os.path.basename(settings["data"]), text.encode("ascii"), 0o644)
    finally:
        os.close(folder)
    return text


def open_own_folder(path):
    """A descriptor of a folder that only this account and root write to. Raises OSError."""
    fd = common.open_folder(path)
    found = os.fstat(fd)
    if found.st_uid not in (0, os.getuid()) or stat.S_IMODE(found.st_mode) & 0o022:
        os.close(fd)
        raise OSError(errno.EPERM, "others may write here", path)
    return fd


def shown(settings, now):
    """What the startd gets: the file, or that nothing is known where it is missing, old or not whole."""
    path = settings["data"]
    try:
        folder = open_own_folder(os.path.dirname(path))
        try:
            name = os.path.basename(path)
            age = now - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
            if age > settings["data_max_age"]:
                raise ValueError("nobody has written it for %d seconds" % age)
            return check(common.read_file(folder, name, 16 << 20, {0, os.getuid()}).decode("ascii"))
        finally:
            os.close(folder)
    except (OSError, ValueError) as exc:
        common.say("idle times are unknown: %s: %s" % (path, exc))
        return "HMDCIdleJobs = undefined\nHMDCIdleJobsBySchedd = undefined\n-\n"


def main(settings_file=None):
    """publish, publish --print, or publish --settings FILE, which only looks whether a file of settings can be used."""
    words = sys.argv[1:]
    try:
        if words[:1] == ["--settings"] and len(words) == 2:
            common.load_settings(words[1])
            return 0
        settings = common.load_settings(settings_file)
        if words == ["--print"]:
            sys.stdout.write(shown(settings, time.time()))
            return 0
        if words:
            raise ValueError("takes --print, --settings FILE or nothing, not %s" % " ".join(words))
        common.bounded(lambda: publish(settings), settings["time_limit"])
    except (OSError, ValueError, common.Refused) as exc:
        common.say("publish: %s" % exc)
        return 1
    return 0
