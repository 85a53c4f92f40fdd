# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""An interactive job as HTCondor knows it: variables, ad, submit description, and which slot can hold it. Pure.

Note that this module util is **PRIVATE** to the collection.

What travels in an ad is public: everybody who may ask the pool reads it. Python 3.6 and the standard library, no
f-strings (see _probe).
"""

import collections
import fnmatch
import re
import time

from ansible_collections.sciops.sites.plugins.module_utils import _classad, _condor_cli

KEY = "SciopsSitesKey"
CLUSTER = "ClusterId"
GROUP = "group_interactive"
#: names of variables that never travel, whoever asks
NEVER = ("DBUS*", "GNOME*")
#: what of the caller's environment travels where nothing else is said
ALLOWED = ("HOME", "LANG", "LANGUAGE", "LC_*", "LOGNAME", "PATH", "SHELL", "TZ", "USER")
#: names of variables that look as if a secret were in them
SECRETS = ("*PASSW*", "*PASSPHRASE*", "*SECRET*", "*TOKEN*", "*CREDENTIAL*", "*COOKIE*", "*KEY*", "*_PW", "PW")
#: values that are one, whatever the name: a private key, a password in a URL
_SECRET_VALUE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)
_PLAIN_WORD = re.compile(r"[A-Za-z0-9@%+=:,./_-]+\Z")
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
#: attributes that HTCondor makes of the commands of a description; the others are given as they are
_MADE = (
    "AcctGroup",
    "AcctGroupUser",
    "AccountingGroup",
    "Cmd",
    "RequestCpus",
    "RequestMemory",
    "FileSystemDomain",
    "JobLeaseDuration",
    "JobNotification",
    "ShouldTransferFiles",
    "TransferExecutable",
    "TransferIn",
)


class Refused(Exception):
    """What was asked for is not submitted; the text says what is wrong, and never what a secret is."""


# --- variables


def _matches(name, patterns):
    return any(fnmatch.fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)


def looks_secret(name, value, patterns=SECRETS, known=()):
    """True where a variable looks like a secret. The path of a file that has one is none: ``DB_PASSWORD_FILE=/..``."""
    if name in known:
        return False
    if _SECRET_VALUE.search(value):
        return True
    path = name.upper().endswith(("_FILE", "_PATH")) and value.startswith("/") and "\n" not in value
    return _matches(name, patterns) and not path


def variables(environ, allowed, given, patterns=SECRETS, known=()):
    """The variables of a job, and warnings: those of ``environ`` that are allowed, then those that are given.

    Nothing that looks like a secret is among them: of ``environ`` it is left out, one that is given is refused. Raises
    Refused.
    """
    faults = []
    for name, value in sorted(given.items()):
        if not _VARIABLE.match(name):
            faults.append("environment: %r: is no name of a variable" % name)
        elif "\0" in value:
            faults.append("environment: %s: a variable holds no NUL" % name)
        elif looks_secret(name, value, patterns, known):
            faults.append(
                "environment: %s: looks like a secret, and everybody can read the ad of a job; put it into a file and "
                "give its path as %s_FILE, or name it in not_secret where it is none" % (name, name)
            )
    if faults:
        raise Refused("; ".join(faults))
    found, warnings = collections.OrderedDict(), []
    for name in sorted(environ):
        if not _VARIABLE.match(name) or not _matches(name, allowed) or _matches(name, NEVER) or name in given:
            continue
        if looks_secret(name, environ[name], patterns, known):
            warnings.append("environment: %s of the submit host looks like a secret and is left out" % name)
        else:
            found[name] = environ[name]
    for name, value in sorted(given.items()):
        if _matches(name, NEVER):
            warnings.append("environment: %s is left out: it means something on the submit host only" % name)
        else:
            found[name] = value
    return collections.OrderedDict(sorted(found.items())), warnings


# --- the ad


def _strcat(*parts):
    return _classad.Expression("strcat(%s)" % ",".join(one if one == CLUSTER else _classad.quote(one) for one in parts))


def stamp(seconds):
    """Date and time of a submission, UTC, as names of job folders have it: ``<YYYYMMDD><epoch>``."""
    return time.strftime("%Y%m%d", time.gmtime(seconds)) + str(int(seconds))


def ad(choice, user, home, seconds, environment, key, facts):
    """The attributes of a job with their values, in their order; None is undefined.

    :arg choice: application, version, command, args, cpu and memory (MB)
    :arg facts: email, entitlements (a list), domain (FILESYSTEM_DOMAIN), xpra, group, root
    Raises Refused where a value cannot be in an ad.
    """
    root = facts.get("root") or home.rstrip("/") + "/.HMDC/jobs/interactive"
    folder = (root, "/", "%s_%s" % (choice["application"], choice["version"]), "_", CLUSTER, "_", stamp(seconds))
    group, entitlements = facts.get("group") or GROUP, facts.get("entitlements")
    if not _GROUP.match(group):
        raise Refused("group: %r: must be letters, digits, _ . and -" % group)
    try:
        folders = [_strcat(*(folder + more)) for more in ((), ("/out.txt",), ("/err.txt",))]
        words = _classad.join_arguments(choice["args"])
        found = [
            ("AcctGroup", group),
            ("AcctGroupUser", user),
            ("AccountingGroup", "%s.%s" % (group, user)),
            ("HMDCNewSubmit", True),
            ("HMDCInteractive", True),
            ("HMDCUseXpra", bool(facts.get("xpra", True))),
            ("HMDCApplicationName", choice["application"]),
            ("HMDCApplicationVersion", choice["version"]),
            ("LocalJobDir", folders[0]),
            ("Out", folders[1]),
            ("Err", folders[2]),
            ("Cmd", choice["command"]),
            # the old form of arguments knows no quotes, so that words which need some take the new one
            ("Args", words or False) if plain(choice["args"]) else ("Arguments", words),
            ("RequestCpus", choice["cpu"]),
            ("RequestMemory", choice["memory"]),
            ("Environment", _classad.join_environment(environment)),
            ("Entitlements", ",".join(entitlements) if entitlements else None),
            ("Email", facts.get("email")),
            ("NotifyUser", facts.get("email")),
            ("FileSystemDomain", facts.get("domain")),
            ("JobLeaseDuration", 1200),
            ("JobNotification", 1),
            ("ShouldTransferFiles", "NO"),
            ("TransferExecutable", False),
            ("TransferIn", False),
            ("DebugPrepareJobHook", True),
            (KEY, key),
        ]
        for _name, value in found:
            _classad.literal(value)
    except (ValueError, TypeError) as error:
        raise Refused(str(error))
    return collections.OrderedDict(found)


def plain(words):
    """True for arguments that need no quotes, none at all too."""
    return all(_PLAIN_WORD.match(one) for one in words)


def shown(attributes):
    """An ad as a person reads it, a line for each attribute."""
    return "".join("%s = %s\n" % (name, _classad.literal(value)) for name, value in attributes.items())


def description(attributes, home):
    """(submit commands, attributes beside them) that make a job with this ad."""
    commands = collections.OrderedDict(
        [
            ("universe", "vanilla"),
            ("executable", _condor_cli.escape(attributes["Cmd"])),
            ("initialdir", _condor_cli.escape(home)),
            ("transfer_executable", False),
            ("transfer_input", False),
            ("should_transfer_files", "NO"),
            ("notification", "always"),
            ("job_lease_duration", attributes["JobLeaseDuration"]),
            ("accounting_group", attributes["AcctGroup"]),
            ("accounting_group_user", attributes["AcctGroupUser"]),
            ("request_cpus", attributes["RequestCpus"]),
            ("request_memory", attributes["RequestMemory"]),
        ]
    )
    more = collections.OrderedDict((name, value) for name, value in attributes.items() if name not in _MADE)
    if more.get("Args"):
        commands["arguments"] = more.pop("Args")
    return commands, more


# --- the slots


def _number(slot, *names):
    for name in names:
        value = slot.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
    return None


def largest(slots):
    """(cpus, memory in MB, name) of every slot that jobs may get, the largest first. Parts of a slot are none."""
    found = []
    for slot in slots:
        if slot.get("DynamicSlot") is True or str(slot.get("SlotType", "")).lower() == "dynamic":
            continue
        cpus, memory = _number(slot, "TotalSlotCpus", "Cpus"), _number(slot, "TotalSlotMemory", "Memory")
        if cpus is not None and memory is not None:
            found.append((cpus, memory, str(slot.get("Name", ""))))
    return sorted(found, key=lambda one: (-one[1], -one[0], one[2]))


def too_large(slots, cpu, memory):
    """Why no slot of the pool can ever hold a job of this size; empty where one can, or where no slot is known."""
    known = largest(slots)
    if not known or any(cpu <= one[0] and memory <= one[1] for one in known):
        return ""
    words = "no slot of the pool has %d cpus and %d MB together; the largest is %s with %d cpus and %d MB"
    most = known[0]
    text = words % (cpu, memory, most[2], most[0], most[1])
    wide = min(known, key=lambda one: (-one[0], -one[1], one[2]))
    if wide[0] > most[0]:
        text += ", the one with most cpus %s with %d cpus and %d MB" % (wide[2], wide[0], wide[1])
    return text
