# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What a declared set of supervisord programs comes to: the file, and what is started, stopped and left alone.

Note that this module util is **PRIVATE** to the collection.

Nothing here acts. supervisord restarts a whole group where its numprocs changes, so each copy is a program, and thereby
a group, of its own. The file names in a comment what is not yet done to the running supervisord, so that a run that was
cut off is brought to its end by the next. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import fnmatch
import os
import re
import shlex
from collections import OrderedDict

from ansible_collections.sciops.sites.plugins.module_utils import _supervisor

MARK = "; Written by sciops.sites for the set %s. What is changed here by hand is overwritten.\n"
PENDING = "; not yet done: "
# keys of a program that go into its section as they are
PLAIN = (
    "umask priority startsecs startretries exitcodes stopsignal stopwaitsecs stopasgroup killasgroup redirect_stderr "
    "stdout_logfile_maxbytes stdout_logfile_backups stderr_logfile_maxbytes stderr_logfile_backups"
).split()
LOGS = ("stdout_logfile", "stderr_logfile")
AUTORESTART = {"always": True, "never": False, "unexpected": "unexpected"}
# reads the secrets, then becomes the program: one pid all along
SHIM = ["/bin/sh", "-c", '. "$0" && exec "$@"']


class Unfit(ValueError):
    """What was declared cannot be done; the text says what and why."""


def include_file(includes, name, config):
    """The path of the file of a set, such that one of supervisord's include patterns takes it."""
    for pattern in includes:
        folder, base = os.path.split(pattern)
        path = os.path.join(folder, base.replace("*", "sciops." + name, 1))
        if "*" in base and not re.search(r"[*?\[]", path) and fnmatch.fnmatchcase(path, pattern):
            return os.path.normpath(path)
    raise Unfit(
        "%s: no pattern of its [include] takes a new file (it has: %s); give it one such as files = conf.d/*.conf and "
        "restart supervisord" % (config, " ".join(includes) or "none")
    )


def text_of(where, value):
    """A word or value that somebody declared, as text. Raises Unfit."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise Unfit("%s: must be text or a number" % where)
    if "\0" in value:
        raise Unfit("%s: has a NUL, which no program can be given" % where)
    return value


def command_of(where, command):
    """A command that somebody declared, as words. Raises Unfit."""
    if isinstance(command, str):
        try:
            command = shlex.split(command)
        except ValueError as error:
            raise Unfit("%s: cannot be split into words: %s" % (where, error))
    if not isinstance(command, list) or not command:
        raise Unfit("%s: must be a list of words, or text that splits into words" % where)
    return [text_of(where, word) for word in command]


def variables_of(where, variables):
    """Variables that somebody declared, in the order of their names. Raises Unfit."""
    for name in variables:
        if not isinstance(name, str) or not _supervisor.VARIABLE.match(name):
            raise Unfit("%s: %r is no name of an environment variable" % (where, name))
    return OrderedDict((name, text_of("%s.%s" % (where, name), variables[name])) for name in sorted(variables))


def definitions(programs):
    """The processes of a list of programs, name -> definition. Raises Unfit."""
    found = OrderedDict()
    for program in programs:
        name, count = program["name"], program.get("count")
        where = "program %s" % name
        if not _supervisor.NAME.match(name):
            raise Unfit("%s: a name has letters, digits and _ . @ + = - only" % where)
        if count is not None and not 0 <= count <= 10000:
            raise Unfit("%s: count: %s: must be 0 to 10000" % (where, count))
        one = {
            "command": command_of(where + ": command", program["command"]),
            "environment": variables_of(where + ": environment", program.get("environment") or {}),
            "secrets": variables_of(where + ": secrets", program.get("secrets") or {}),
        }
        for key in PLAIN + ["autostart", "autorestart", "user", "directory"] + list(LOGS):
            one[key] = program.get(key)
        for key in LOGS if count and count > 1 else ():
            path = one[key] or "AUTO"
            one_file = path.upper() not in ("AUTO", "NONE", "OFF", "SYSLOG") and not path.startswith("/dev/")
            if one_file and "{instance}" not in path:
                raise Unfit("%s: %s: all %s copies would write to it; put {instance} into it" % (where, key, count))
        for index in [None] if count is None else range(1, count + 1):
            title = name if index is None else "%s-%s" % (name, index)
            if title in found:
                raise Unfit("program %s: is declared twice" % title)
            found[title] = one if index is None else _copy(one, str(index))
    return found


def _copy(one, index):
    def fill(value):
        return value.replace("{instance}", index) if isinstance(value, str) else value

    copy = dict(one, command=[fill(word) for word in one["command"]], directory=fill(one["directory"]))
    for key in ("environment", "secrets"):
        copy[key] = OrderedDict((name, fill(value)) for name, value in one[key].items())
    for key in LOGS:
        copy[key] = fill(one[key])
    return copy


def secret_text(secrets):
    """The file that a shell reads before it becomes the program. Every value means itself, line breaks included."""
    return "".join("export %s='%s'\n" % (name, value.replace("'", "'\\''")) for name, value in secrets.items())


def document(name, wanted, files, pending=()):
    """The text of the file of a set. `files` has the paths of the secrets, process -> path."""
    parts = [MARK % name + (PENDING + " ".join(sorted(pending)) + "\n" if pending else "")]
    for title, one in wanted.items():
        command = one["command"]
        if one["secrets"]:
            command = SHIM + [files[title]] + command
        options = [("command", command), ("environment", one["environment"] or None)]
        options += [("directory", one["directory"]), ("user", one["user"])]
        if one["autostart"] is not None:
            options.append(("autostart", one["autostart"]))
        if one["autorestart"] is not None:
            options.append(("autorestart", AUTORESTART[one["autorestart"]]))
        options += [(key, one[key]) for key in PLAIN + list(LOGS)]
        try:
            parts.append(_supervisor.section("program", title, options))
        except ValueError as error:
            hint = "; give it under secrets, which can hold any value" if "environment: " in str(error) else ""
            raise Unfit("%s%s" % (error, hint))
    return "\n".join(parts)


def read_document(name, text, path, force=False):
    """(sections of programs, names that are not yet done) of a file of ours. Raises Unfit where it is not ours."""
    if text is None:
        return OrderedDict(), set()
    if not force and not text.startswith(MARK % name):
        raise Unfit("%s: was not written for the set %s and is left alone; move it away, or set force" % (path, name))
    pending = set()
    for line in text.splitlines()[1:2]:
        if line.startswith(PENDING):
            pending = set(line[len(PENDING) :].split())
    try:
        sections = _supervisor.parse(text, path)
    except ValueError:
        # somebody edited it into no INI file at all: nothing in it says what runs
        return OrderedDict(), pending
    return OrderedDict((t[8:], o) for t, o in sections.items() if t.startswith("program:")), pending


def verdict(info, one):
    """What a state comes to: `up`, `done`, `wait` (it changes by itself) or `failed`."""
    state, again = info["statename"], one["autorestart"] or "unexpected"
    if state == "RUNNING":
        return "up"
    if state in ("STARTING", "BACKOFF"):
        return "wait"
    if state == "EXITED":
        good = info.get("exitstatus") in (one["exitcodes"] if one["exitcodes"] is not None else [0])
        if again == "always" or (again == "unexpected" and not good):
            return "wait"
        return "done" if good else "failed"
    return "failed"


def plan(before, pending, after, live, wanted):
    """What is done to the running supervisord, each a list of names.

    `before` and `after` are sections of the file, `pending` what an earlier run did not come to, `live` what
    supervisord has (group -> process), `wanted` the definitions. `taken`: names that somebody else's program has. A
    kept program is not touched by any word.
    """
    ours = set(before) | set(pending)
    found = {"taken": [name for name in after if name in live and name not in ours]}
    found["removed"] = [name for name in list(before) + sorted(pending) if name not in after and name in live]
    found["removed"] = list(OrderedDict.fromkeys(found["removed"]))
    found["added"] = [name for name in after if name not in live]
    found["restarted"] = [
        name for name in after if name in live and name in ours and (name in pending or before.get(name) != after[name])
    ]
    left = [name for name in after if name in live and name in ours and name not in found["restarted"]]
    found["started"] = [
        name
        for name in left
        if wanted[name]["autostart"] is not False and verdict(live[name], wanted[name]) == "failed"
    ]
    found["kept"] = [name for name in left if name not in found["started"]]
    return found


def row(info):
    """What a module says of one process."""
    up = info.get("statename") in ("RUNNING", "STARTING", "STOPPING")
    return {
        "name": info["name"],
        "group": info["group"],
        "state": info.get("statename"),
        "pid": info.get("pid") or None,
        "uptime": max(info.get("now", 0) - info.get("start", 0), 0) if up else None,
        "exit_status": info.get("exitstatus") if info.get("statename") in ("EXITED", "BACKOFF", "FATAL") else None,
        "spawnerr": info.get("spawnerr") or "",
        "stdout_logfile": info.get("stdout_logfile") or None,
        "stderr_logfile": info.get("stderr_logfile") or None,
    }


def words_of(name, info):
    """What is wrong with a process, in words."""
    if info is None:
        return "%s is not known to supervisord any more" % name
    text = info.get("spawnerr") or ("" if info["statename"] == "RUNNING" else info.get("description") or "")
    if info["statename"] == "EXITED":
        text = "ended with status %s" % info.get("exitstatus")
    return "%s is %s%s" % (name, info["statename"], ": " + text if text else "")
