# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Interactive jobs in a real pool: looked for, submitted, waited for, removed, and attached to.

Note that this module util is **PRIVATE** to the collection.

What decides is in _session and _session_life; here is what talks to schedds, files and processes. Python 3.6 and the
standard library, no f-strings (see _probe).
"""

import os
import re
import subprocess
import time

from ansible_collections.sciops.sites.plugins.module_utils import _condor, _session, _session_life
from ansible_collections.sciops.sites.plugins.module_utils._condor import Refused, Silent

REASON = "removed by sciops.sites.condor_session"
LATE = "did not start in time, removed by sciops.sites.condor_session"
#: of what a slot is asked
SLOT = ["Name", "SlotType", "DynamicSlot", "Cpus", "Memory", "TotalSlotCpus", "TotalSlotMemory"]
#: seconds after which an attached client that lives is believed to go on
SETTLE = 3.0


class Place:
    """A schedd: how it is named to a client (None is the local one), and the address by which jobs are reached."""

    def __init__(self, schedd, name, address):
        self.schedd, self.name, self.address = schedd, name, address


def place(client, schedd=None):
    """The schedd that is meant: the named one, else the local one, else the first of the collector.

    A collector that does not answer leaves only what was said. One that was just started does not know all schedds yet,
    so whether there is a local one is for this host to say: a session in another's queue would be a second one.
    """
    try:
        known = client.schedds()
    except Silent:
        known = []
    if schedd:
        same = [one for one in known if str(one.get("Name", "")).lower() == schedd.lower()]
        return Place(schedd, schedd, same[0].get("MyAddress") if same else None)
    host = str(client.config(["FULL_HOSTNAME"])["FULL_HOSTNAME"] or "").lower()
    local = [one for one in known if str(one.get("Machine", "")).lower() == host]
    local.sort(key=lambda one: (str(one.get("Name", "")).lower() != host, str(one.get("Name"))))
    if local:
        return Place(None, local[0].get("Name"), local[0].get("MyAddress"))
    mine = client.config(["DAEMON_LIST", "SCHEDD_NAME", "SCHEDD_ADDRESS_FILE"])
    if "SCHEDD" in re.split(r"[\s,]+", str(mine["DAEMON_LIST"] or "").upper()):
        name = mine["SCHEDD_NAME"] or host
        return Place(None, name if name == host or "@" in name else name + "@" + host, address_of(mine))
    if known:
        return Place(known[0].get("Name"), known[0].get("Name"), known[0].get("MyAddress"))
    return Place(None, None, None)


def address_of(config):
    """The address that the schedd of this host wrote into its file, None where it did not (yet)."""
    line = _session_life.read(config["SCHEDD_ADDRESS_FILE"] or "").split("\n")[0].strip()
    return line if line.startswith("<") and line.endswith(">") else None


def first(client, constraint):
    """The jobs of a constraint, the oldest first."""
    return client.query(constraint, list(_session_life.PROJECTION))


def looker(client, constraint):
    """The function that `_session_life.wait` looks with: the queue, then the history."""

    def look():
        found = first(client, constraint) or client.history(constraint, list(_session_life.PROJECTION), 1)
        return found[0] if found else None

    return look


def refuse_too_large(client, cpu, memory):
    """Raise Refused where no slot can ever hold this; returns a warning where that cannot be known."""
    try:
        slots = client.status("startd", None, SLOT)
    except Silent as error:
        return "it is not known whether a slot can hold it: %s" % error
    words = _session.too_large(slots, cpu, memory)
    if words:
        raise Refused(words)
    return "" if _session.largest(slots) else "the collector knows no slot, so nothing may ever start"


def submit(client, attributes, home, user, key):
    """The cluster of the one job with this key. After a lost reply it is looked for and not submitted again.

    Where two submit the same key at once, the older job stays, and the other is removed before it starts.
    """
    mine = _session_life.keyed(user, key)
    commands, more = _session.description(attributes, home)
    cluster = lost = None
    try:
        cluster = client.submit(commands, None, more)[0]
    except Silent as error:
        lost = error
    try:
        there = first(client, mine)
    except Silent as error:
        if cluster is not None:
            return cluster
        words = "%s; it is not known whether the job was submitted (%s): run again with the same key, which finds it"
        raise Silent(words % (lost, error))
    if cluster is None and not there:
        raise lost
    clusters = sorted(one["ClusterId"] for one in there)
    if cluster is None or not clusters or clusters[0] >= cluster:
        return cluster if cluster is not None else clusters[0]
    client.act("remove", _session_life.numbered(user, cluster), "another session has the key %s" % key)
    return clusters[0]


def remove_waiting(client, user, cluster):
    """Remove a job, but only while it waits: one that starts at this moment stays."""
    waits = _condor.both(_session_life.numbered(user, cluster), _condor.equal("JobStatus", _session_life.IDLE))
    return client.act("remove", waits, LATE)["success"]


def wait(client, user, cluster, given):
    """(state, reason, seconds, ad) of a job; see `_session_life.wait`. Removes it at the limit where that is asked."""
    look = looker(client, _session_life.numbered(user, cluster))
    found = _session_life.wait(look, time.monotonic, time.sleep, given["interval"], given["limit"])
    if found[0] != "timeout" or not given["remove_at_limit"]:
        return found
    if remove_waiting(client, user, cluster):
        return ("timeout", found[1] + "; it was removed") + found[2:]
    again = look()
    state, reason = _session_life.verdict(again) if again else ("waiting", "")
    return (state, reason, found[2], again) if state != "waiting" else found


def outputs(ad):
    """(path of the output, path of the errors) of a job, None where they cannot be told."""
    return _session_life.path(ad, "Out"), _session_life.path(ad, "Err")


def texts_of(paths):
    """What the outputs hold now."""
    return [_session_life.read(one) for one in paths if one]


# --- attaching


def blank_host(program=_session_life.XPRA):
    """True where the xpra of this host needs a blank for no host, see `_session_life.attach`."""
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    found = re.search(r"\bv?([0-9]+)\.[0-9]", done.stdout.decode("utf-8", "replace"))
    return bool(found) and int(found.group(1)) >= 3


def processes(proc="/proc"):
    """[(pid, words)] of the processes of this user."""
    found = []
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        folder = os.path.join(proc, name)
        try:
            if os.stat(folder).st_uid != os.geteuid():
                continue
            with open(os.path.join(folder, "cmdline"), "rb") as file:
                words = file.read().decode("utf-8", "surrogateescape").split("\0")[:-1]
        except OSError:
            continue
        found.append((int(name), words))
    return found


def attach(words, log):
    """(pid, whether it was started now) of the client of a session, which outlives this process. Raises Refused."""
    there = _session_life.attached(words, processes())
    if there:
        return there[0], False
    env = dict(os.environ, SSH_AUTH_SOCK="")
    try:
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env, cwd="/", start_new_session=True
            )
    except OSError as error:
        raise Refused("attach: %s: %s" % (words[0], error))
    ends = time.monotonic() + SETTLE
    while time.monotonic() < ends:
        if child.poll() is not None:
            said = " ".join(_session_life.read(log).split())[-600:]
            raise Refused("attach: the client ended with status %d: %s" % (child.returncode, said or "it said nothing"))
        time.sleep(0.1)
    return child.pid, True
