# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What declared instances of a systemd template come to: its files, and what is started, stopped and left alone.

Note that this module util is **PRIVATE** to the collection.

Nothing here acts. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import re
from collections import OrderedDict

from ansible_collections.sciops.sites.plugins.module_utils import _programs, _systemctl
from ansible_collections.sciops.sites.plugins.module_utils._programs import Unfit

MARK = "# Written by sciops.sites. What is changed here by hand is overwritten.\n"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")
INSTANCE = re.compile(r"[A-Za-z0-9_.:-]{1,100}\Z")
# stands in a value for the name of the instance, and becomes %i
PLACE = "{instance}"
PROPERTIES = (
    "Id LoadState ActiveState SubState UnitFileState FragmentPath NeedDaemonReload Result MainPID ExecMainCode "
    "ExecMainStatus NRestarts Type"
).split()
# what ends by itself or never began; all other states mean that there is something to stop
OVER = ("inactive", "failed")


def instances(count, names):
    """Names of the instances that are declared. Raises Unfit."""
    if names is None:
        if not 0 <= (count or 0) <= 10000:
            raise Unfit("count: %s: must be 0 to 10000" % count)
        return [str(number) for number in range(1, (count or 0) + 1)]
    for name in names:
        if not INSTANCE.match(name):
            raise Unfit("instances: %r: use letters, digits and _ . : -" % name)
    return list(OrderedDict.fromkeys(names))


def _filled(value):
    """A value of a unit file in which the place of the instance's name is taken."""
    if isinstance(value, _systemctl.Raw):
        return _systemctl.Raw(value.replace(PLACE, "%i"))
    if isinstance(value, str):
        return _systemctl.Raw(value.replace("%", "%%").replace(PLACE, "%i"))
    return value


def _seconds(value):
    return int(value) if value is not None and value == int(value) else value


def template(params, argv, target, secret_file):
    """The text of the template unit. `argv` are the words with a path as the program. Raises Unfit."""
    variables = _programs.variables_of("environment", params["environment"])
    files = list(params["environment_file"]) + ([secret_file] if secret_file else [])
    unit = [("Description", params["description"] or "%s %s" % (params["name"], PLACE))]
    unit += [("After", " ".join(params["after"]) or None)]
    unit += [
        ("StartLimitIntervalSec", _seconds(params["start_limit_interval"])),
        ("StartLimitBurst", params["start_limit_burst"]),
    ]
    service = [("Type", params["type"]), ("User", params["user"]), ("WorkingDirectory", params["working_directory"])]
    try:
        service += [("Environment", _systemctl.environment_word(*pair)) for pair in variables.items()]
        service += [("EnvironmentFile", path) for path in files]
        service += [("ExecStart", _systemctl.exec_words(argv))]
        service += [("Restart", params["restart"]), ("RestartSec", _seconds(params["restart_sec"]))]
        service += [("KillSignal", params["kill_signal"]), ("TimeoutStopSec", _seconds(params["timeout_stop"]))]
        sections = [("Unit", unit), ("Service", service), ("Install", [("WantedBy", target)])]
        filled = [(title, [(key, _filled(value)) for key, value in pairs]) for title, pairs in sections]
        return MARK + _systemctl.unit_text(filled)
    except ValueError as error:
        raise Unfit(str(error))


def secret_text(secrets):
    """An EnvironmentFile. systemd reads back exactly these values, line breaks included."""
    lines = []
    for name, value in secrets.items():
        if re.search(r"[\x01-\x08\x0b-\x1f\x7f]", value) or _systemctl.INVALID.search(value):
            raise Unfit("secrets: %s: systemd refuses control characters in the environment" % name)
        lines.append('%s="%s"\n' % (name, re.sub(r'(["\\$`])', r"\\\1", value)))
    return "".join(lines)


def plan(wanted, seen, linked, pending, changed, params):
    """What is done to the manager, each a list of names of instances. A kept instance is not touched by any word.

    `seen` has the properties of instances by name, `linked` the enabled ones, `pending` those that an earlier run did
    not come to restart; `changed`: the definition is another one.
    """
    up = [name for name, one in seen.items() if one.get("ActiveState", "inactive") not in OVER]
    extra = [name for name in list(seen) + sorted(linked) if name not in wanted] if params["prune"] else []
    extra = list(OrderedDict.fromkeys(extra))
    again = [name for name in wanted if name in up and (changed or name in pending)]
    if params["on_change"] != "restart":
        again = []
    start = [name for name in wanted if name not in up]
    return {
        # stopping one that has failed makes systemd forget it
        "stopped": [name for name in extra if seen.get(name, {}).get("ActiveState", "inactive") != "inactive"],
        "disabled": [name for name in extra if name in linked]
        + [name for name in wanted if name in linked and not params["enabled"]],
        "enabled": [name for name in wanted if name not in linked and params["enabled"]],
        "restarted": again,
        "started": start,
        "kept": [name for name in wanted if name in up and name not in again],
    }


def row(unit, one, linked):
    """What a module says of one instance or unit."""
    status, code = one.get("ExecMainStatus", "0"), one.get("ExecMainCode", "0")
    ended = code not in ("0", "")
    return {
        "name": unit,
        "instance": unit.partition("@")[2].rpartition(".")[0] if "@" in unit else None,
        "state": one.get("ActiveState") or "inactive",
        "sub_state": one.get("SubState") or "dead",
        "load_state": one.get("LoadState") or "",
        "enabled": linked,
        "pid": int(one.get("MainPID") or 0) or None,
        "restarts": int(one.get("NRestarts") or 0),
        "result": one.get("Result") or "",
        # 1: it ended by itself with a status; else a signal ended it
        "exit_status": int(status) if ended and code == "1" else None,
        "signal": int(status) if ended and code != "1" else None,
    }


def trouble(one, first, fresh):
    """What is wrong with an instance that is to run, in words; empty where nothing is, None while it comes up.

    `first` is its process when it was first seen up, None before that; `fresh`: it was started just now.
    """
    state, sub, result = one.get("ActiveState"), one.get("SubState"), one.get("Result")
    if state == "active":
        other = first and one.get("Type") != "forking" and one.get("MainPID") != first
        if other or (fresh and one.get("NRestarts", "0") not in ("0", "")):
            return "it ended and was started again: " + ending(one)
        return ""
    again = one.get("NRestarts", "0")
    if result == "start-limit-hit" or (state == "failed" and again not in ("0", "")):
        return "failed: start limit hit, systemd gave it up after %s restarts: %s" % (again, ending(one))
    if sub == "auto-restart" or state in OVER:
        return "%s (%s): %s" % (state, sub, ending(one))
    return None


def ending(one):
    """How an instance ended, in words."""
    seen = row("", one, False)
    if seen["exit_status"] is not None:
        return "result %s, exit status %d" % (seen["result"], seen["exit_status"])
    if seen["signal"] is not None:
        return "result %s, signal %d" % (seen["result"], seen["signal"])
    return "result %s" % seen["result"]
