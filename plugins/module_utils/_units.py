# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Brings a systemd to what declared instances of a template say (see _instances, which decides).

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import contextlib
import glob
import json
import os
import pwd
import re
import shutil
import time
import traceback

from ansible_collections.sciops.sites.plugins.module_utils import _instances, _place, _programs, _secrets, _systemctl

PATHS = os.pathsep.join(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
POLL = 0.2
# stands for an instance that nobody has: what systemd says of it is where the template of a name is
NOBODY = "sciops-nobody"
TROUBLE = (_systemctl.Down, _systemctl.Silent, _systemctl.Failed)


class Failure(Exception):
    """It is not as declared; `facts` are keys of the result."""

    def __init__(self, text, **facts):
        Exception.__init__(self, text)
        self.facts = facts


def failure(error):
    """A failure of a call as one of the task."""
    running = {_systemctl.Down: False, _systemctl.Silent: None}.get(type(error), True)
    words = "systemd hangs, what runs is unknown: %s" if running is None else "%s"
    return Failure(words % error, running=running)


def become(name):
    """Go on as another user, as its login would."""
    user = pwd.getpwnam(name)
    os.chdir("/")
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    for key in [key for key in os.environ if key.startswith("XDG_")] + ["DBUS_SESSION_BUS_ADDRESS"]:
        os.environ.pop(key, None)
    os.environ.update(HOME=user.pw_dir, USER=name, LOGNAME=name)


def as_user(name, work, result):
    """What `work(result)` returns, done by another user in a process of its own.

    The code of a module is root's, so that a process which had become somebody else could load no more of it.
    """
    back, out = os.pipe()
    child = os.fork()
    if not child:
        os.close(back)
        try:
            try:
                become(name)
                answer = {"facts": work(result)}
            except Failure as error:
                answer = {"failure": str(error), "facts": error.facts}
            except (_programs.Unfit, _place.Misplaced) as error:
                answer = {"unfit": str(error)}
            with os.fdopen(out, "w") as file:
                json.dump(dict(answer, result=result), file)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(out)
    with os.fdopen(back) as file:
        text = file.read()
    os.waitpid(child, 0)
    if not text:
        raise Failure("what was to be done as %s ended without a word" % name)
    answer = json.loads(text)
    result.update(answer["result"])
    if "failure" in answer:
        raise Failure(answer["failure"], **answer["facts"])
    if "unfit" in answer:
        raise _programs.Unfit(answer["unfit"])
    return answer["facts"]


def whose(scope, owner):
    """The user whose manager is meant. Raises Unfit where this user may not act for it."""
    me = _systemctl.Systemd("system").user
    if owner in (None, me):
        return me
    if scope != "user":
        raise _programs.Unfit("owner: is for scope user; the system's manager has none")
    if os.geteuid() != 0:
        raise _programs.Unfit("owner: %s: only root acts for another user, this is %s" % (owner, me))
    try:
        return pwd.getpwnam(owner).pw_name
    except KeyError:
        raise _programs.Unfit("owner: user %s is not known on this host" % owner)


def manager(params, check, result):
    """Whose manager is meant, and whether there is one. Linger is looked at and turned on here."""
    scope, timeout, name = params["scope"], params["timeout"], whose(params["scope"], params["owner"])
    system = _systemctl.Systemd("system", timeout)
    result.update(running=True, linger=None, linger_enabled=False)
    if scope == "system":
        missing = system.prerequisites()
        if missing:
            raise Failure("; ".join(missing), running=os.path.isdir(_systemctl.BOOTED))
        return name, True
    present, socket = params["state"] == "present", "/run/user/%d/systemd/private" % pwd.getpwnam(name).pw_uid
    if not os.path.isdir(_systemctl.BOOTED):
        raise Failure("; ".join(system.prerequisites()), running=False)
    result["linger"] = system.linger(name)
    if not result["linger"] and present:
        if params["linger"] is None:
            raise Failure(
                "linger of user %s is off, so its units would end with its last login and not start at boot; nothing "
                "was changed; set linger to true, or to false to have it so" % name
            )
        if params["linger"]:
            result.update(linger=True, linger_enabled=True)
            if not check:
                system.enable_linger(name)
                result["changed"] = True
                ends = time.monotonic() + timeout
                while not os.path.exists(socket) and time.monotonic() < ends:
                    time.sleep(POLL)
    there = os.path.exists(socket)
    if not there and not (check and result["linger_enabled"]):
        raise Failure(
            "user %s has no systemd manager, so nothing can be started: it has no login and does not linger; "
            "set linger to true" % name,
            running=False,
        )
    return name, there


def links_of(folder, name):
    """Instances of a template that are enabled, each with where its links point: those in the folders of targets."""
    found = {}
    for kind in ("wants", "requires"):
        for path in glob.glob("%s/*.%s/%s@*.service" % (glob.escape(folder), kind, glob.escape(name))):
            instance = os.path.basename(path).partition("@")[2][: -len(".service")]
            if instance:
                found.setdefault(instance, set()).add(os.path.realpath(path))
    return found


class Files:
    """The files of a template below the folder of a manager."""

    def __init__(self, systemd, params):
        self.systemd, self.params = systemd, params
        self.template = "%s/%s@.service" % (systemd.folder, params["name"])
        self.drop_in = self.template + ".d/50-sciops.conf"
        self.pending = "%s/.%s@.service.sciops" % (systemd.folder, params["name"])
        self.mode = 0o755 if systemd.scope == "system" else 0o700
        self.old = {path: _place.read(path) for path in (self.template, self.drop_in)}
        for path, text in self.old.items():
            if text is not None and not text.startswith(_instances.MARK) and not params["force"]:
                raise _programs.Unfit(
                    "%s: was not written by this module and is left alone; move it away, or set force" % path
                )
        given = _programs.variables_of("secrets", params["secrets"] or {})
        wanted = {params["name"]: {"secrets": given, "user": None}} if given else {}
        folder = self.template + ".secrets"
        self.secrets = _secrets.Secrets(folder, wanted, os.geteuid(), _instances.secret_text)
        self.new = dict.fromkeys(self.old)

    def want(self):
        """What they are to be. Raises Unfit."""
        argv = _programs.command_of("command", self.params["command"])
        if "/" not in argv[0]:
            found = shutil.which(argv[0], path=PATHS)
            if not found:
                raise _programs.Unfit("command: no program %s on this host; give its path" % argv[0])
            argv[0] = found
        secret = self.secrets.files.get(self.params["name"])
        self.new[self.template] = _instances.template(self.params, argv, self.systemd.target, secret)
        text = self.params["drop_in"]
        if text:
            self.new[self.drop_in] = _instances.MARK + text.rstrip("\n") + "\n"

    def changed(self):
        return [path for path in self.new if self.new[path] != self.old[path]]

    def put(self, texts):
        for path in self.changed():
            if texts[path] is None:
                _place.drop(path)
            else:
                _place.folder(os.path.dirname(path), self.mode)
                _place.write(path, texts[path], 0o644)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self.drop_in))

    def linked(self):
        """Instances that are enabled."""
        return set(links_of(self.systemd.folder, self.params["name"]))

    def ours(self, one):
        """Whether properties are those of an instance of our template, or of one whose unit file is gone."""
        return bool(self.params["force"]) or one.get("FragmentPath") in ("", None, self.template)

    def others(self, seen, linked):
        """Instances of this name that somebody else defines: by a unit of their own, or by another template."""
        found = {name for name, one in seen.items() if not self.ours(one)}
        if self.params["force"]:
            return found
        links, mine = links_of(self.systemd.folder, self.params["name"]), {os.path.realpath(self.template)}
        vague = [name for name in linked if not seen.get(name, {}).get("FragmentPath")]
        return found | {name for name in vague if links.get(name, mine) != mine}

    def note(self, names):
        """Write down what is not yet restarted, so that the next run does it where this one is cut off."""
        if names:
            _place.write(self.pending, "".join(name + "\n" for name in names), 0o600)
        else:
            _place.drop(self.pending)


class Change:
    """A plan of _instances, carried out."""

    def __init__(self, systemd, params, todo, files):
        self.systemd, self.params, self.todo, self.files = systemd, params, todo, files

    def unit(self, name):
        return "%s@%s.service" % (self.params["name"], name)

    def stop(self):
        names = self.todo["stopped"]
        if names:
            said = self.systemd.job("stop", [self.unit(n) for n in names], self.params["timeout"])
            seen = self.systemd.show([self.unit(n) for n in names], _instances.PROPERTIES)
            left = [unit for unit, one in seen.items() if one["ActiveState"] not in _instances.OVER]
            if left:
                raise Failure("%s: still running after a stop: %s" % (", ".join(left), said))
            self.forgive(seen)
        if self.todo["disabled"]:
            self.systemd.run("disable", *[self.unit(n) for n in self.todo["disabled"]])

    def forgive(self, seen):
        """Have systemd forget that units have failed."""
        failed = [unit for unit, one in seen.items() if one["ActiveState"] == "failed"]
        if failed:
            self.systemd.run("reset-failed", *failed)

    def start(self, kept):
        """Restart and start, and see that all run. `kept` has the properties of what was not touched."""
        again, size = self.todo["restarted"], self.params["serial"] or max(len(self.todo["restarted"]), 1)
        batches = [again[i : i + size] for i in range(0, len(again), size)] or [[]]
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            fresh = batch + (self.todo["started"] if last else [])
            said = []
            if batch:
                said.append(self.systemd.job("restart", [self.unit(n) for n in batch], self.params["timeout"]))
                self.files.note(again[(number + 1) * size :])
            if last and self.todo["started"]:
                units = [self.unit(n) for n in self.todo["started"]]
                # one that hit its start limit is tried again, as often as the limit allows
                self.forgive(self.systemd.show(units, ["ActiveState"]))
                said.append(self.systemd.job("start", units, self.params["timeout"]))
            coming = [n for n, one in kept.items() if one.get("ActiveState") != "active"] if last else []
            self.watch(fresh, coming, "; ".join(word for word in said if word))

    def watch(self, fresh, coming, said):
        """See that instances run, those that are `fresh` for as long as it takes to settle. Raises Failure."""
        begun, first, names = time.monotonic(), {}, fresh + coming
        while names:
            seen = self.systemd.show([self.unit(n) for n in names], _instances.PROPERTIES)
            bad, waiting = [], []
            for name in names:
                one = seen[self.unit(name)]
                words = _instances.trouble(one, first.get(name), name in fresh)
                if words:
                    bad.append((self.unit(name), one, words))
                elif words is None:
                    waiting.append((self.unit(name), one, "%s (%s)" % (one["ActiveState"], one["SubState"])))
                else:
                    first.setdefault(name, one["MainPID"])
            past = time.monotonic() - begun
            # what ends early is watched on too: whether systemd gives it up is worth the time
            if (bad or not waiting) and (not fresh or past >= self.params["settle"]):
                break
            if past > self.params["timeout"] + self.params["settle"]:
                bad = waiting
                break
            time.sleep(POLL)
        else:
            return
        if bad:
            failed = [dict(_instances.row(u, one, None), log_tail=self.systemd.log_tail(u)) for u, one, _words in bad]
            text = "systemd runs, and instances do not: " + "; ".join("%s is %s" % (u, w) for u, _one, w in bad)
            raise Failure(text + ("; " + said if said else ""), units_failed=failed)


def converge(params, check, result):
    """Make the instances as declared and return the keys of the result.

    ``result`` gets `changed` as soon as something has changed, so that a failure tells the truth too.
    """
    absent = params["state"] == "absent"
    wanted = [] if absent else _instances.instances(params["count"], params["instances"])
    if absent:
        params = dict(params, prune=True, secrets={})
    if params["scope"] == "user" and params["user"]:
        raise _programs.Unfit("user: units of a user's manager run as that user; leave it out, or use scope system")
    try:
        name, there = manager(params, check, result)
    except TROUBLE as error:
        raise failure(error)

    def work(result):
        systemd = _systemctl.Systemd(params["scope"], params["timeout"])
        try:
            return _converge(systemd, there, params, wanted, check, result)
        except TROUBLE as error:
            raise failure(error)

    me = _systemctl.Systemd("system").user
    return work(result) if name == me else as_user(name, work, result)


def look(systemd, there, params, wanted, linked):
    """Properties of the instances that are declared, enabled or loaded, by name; of NOBODY those of the template."""
    if not there:
        return {}
    names = list(wanted) + sorted(linked - set(wanted)) + [NOBODY]
    units = ["%s@%s.service" % (params["name"], name) for name in names]
    found = systemd.find(["%s@*.service" % params["name"]] + units, _instances.PROPERTIES)
    return {unit.partition("@")[2][: -len(".service")]: one for unit, one in found.items()}


def _converge(systemd, there, params, wanted, check, result):
    files = Files(systemd, params)
    if params["state"] == "present":
        files.want()
    linked = files.linked()
    seen = look(systemd, there, params, wanted, linked)
    for name, one in seen.items():
        if name in list(wanted) + [NOBODY] and not files.ours(one):
            words = "%s: has a unit file of its own or of somebody else; choose another name, or set force"
            raise _programs.Unfit(words % one["FragmentPath"])
    # what is not declared is stopped where it is of our template only
    others = files.others(seen, linked - set(wanted)) - set(wanted)
    seen = {name: one for name, one in seen.items() if name not in others and (name != NOBODY or name in wanted)}
    linked = linked - others
    pending = (_place.read(files.pending) or "").split()
    changed = files.changed()
    todo = _instances.plan(wanted, seen, linked, pending, bool(changed), params)
    stale = any(one.get("NeedDaemonReload") == "yes" for name, one in seen.items() if name in wanted)
    secrets = files.secrets
    facts = dict(todo, reloaded=bool(changed or stale), files=changed, unit=files.template)
    facts.update({key: result[key] for key in ("running", "linger", "linger_enabled")})
    work = any(todo[key] for key in todo if key != "kept") or secrets.new or secrets.wrong or secrets.old
    facts["changed"] = bool(work or changed or stale or result["linger_enabled"])
    facts["diff"] = [
        {
            "before": shown(files.old[path]),
            "after": files.new[path] or "",
            "before_header": path,
            "after_header": path,
        }
        for path in changed
    ]
    if not check:
        kept = {name: seen[name] for name in todo["kept"]}
        if facts["changed"]:
            apply(systemd, params, todo, files, kept, stale, result)
        elif kept:
            Change(systemd, params, todo, files).watch([], sorted(n for n in kept if not up(kept[n])), "")
        linked = files.linked()
        seen = look(systemd, True, params, wanted, set())
    rows = [(name, seen[name]) for name in wanted if name in seen]
    facts["units"] = [_instances.row("%s@%s.service" % (params["name"], n), one, n in linked) for n, one in rows]
    return facts


def up(one):
    return one.get("ActiveState") == "active"


def shown(text):
    """The old text for a diff; what others wrote may hold their secrets."""
    if text is not None and not text.startswith(_instances.MARK):
        return "a file of somebody else\n"
    return text or ""


def apply(systemd, params, todo, files, kept, stale, result):
    """Write the files, and start and stop what is to be."""
    change = Change(systemd, params, todo, files)
    names = [change.unit(name) for name in todo["kept"] + todo["restarted"] + todo["started"]]
    before = result["changed"]
    result["changed"] = True
    if todo["restarted"]:
        _place.folder(systemd.folder, files.mode)
        files.note(todo["restarted"])
    gone = params["state"] == "absent"
    if gone:
        # an instance is stopped as long as its definition says how
        change.stop()
    files.secrets.write()
    files.put(files.new)
    if files.changed() or stale:
        systemd.run("daemon-reload")
        loaded = systemd.show(names, ["LoadState", "FragmentPath"]) if names else {}
        wrong = ["%s is %s" % (unit, one["LoadState"]) for unit, one in loaded.items() if one["LoadState"] != "loaded"]
        if wrong:
            files.put(files.old)
            files.note([])
            files.secrets.undo()
            systemd.run("daemon-reload")
            result["changed"] = before
            raise Failure("systemd refuses %s, so it was taken back: %s" % (files.template, "; ".join(wrong)))
    if not gone:
        change.stop()
    if todo["enabled"]:
        systemd.run("enable", *[change.unit(name) for name in todo["enabled"]])
    if gone:
        left = systemd.find(["%s@*.service" % params["name"]], ["ActiveState", "FragmentPath"])
        change.forgive({unit: one for unit, one in left.items() if files.ours(one)})
    else:
        change.start(kept)
    files.note([])
    files.secrets.sweep(files.secrets.old)


def states(params):
    """The states of units and of instances of templates: the keys of the result of a task that only looks."""
    name, me = whose(params["scope"], params["owner"]), _systemctl.Systemd("system").user
    linger = _systemctl.Systemd("system").linger(name) if params["scope"] == "user" else None

    def work(_result):
        return _states(params, linger)

    return work({}) if name == me else as_user(name, work, {})


def _states(params, linger):
    found = {"running": False, "linger": linger, "units": [], "by_state": {}}
    systemd = _systemctl.Systemd(params["scope"], params["timeout"])
    words, linked = [], set()
    for one in params["names"]:
        if not re.match(r"[A-Za-z0-9_.:@-]{1,200}\Z", one):
            raise _programs.Unfit("names: %r: use letters, digits and _ . : @ -" % one)
        if "." in one and not one.endswith("@.service"):
            words.append(one)
            continue
        base = one.partition("@")[0]
        links = {"%s@%s.service" % (base, instance) for instance in links_of(systemd.folder, base)}
        linked |= links
        words += ["%s@*.service" % base] + sorted(links)
    try:
        seen = systemd.find(words, _instances.PROPERTIES) if words else {}
    except _systemctl.Down:
        return found
    except TROUBLE as error:
        raise failure(error)
    found["running"] = True
    for unit in sorted(seen, key=natural):
        enabled = unit in linked or seen[unit].get("UnitFileState", "").startswith("enabled")
        found["units"].append(_instances.row(unit, seen[unit], enabled))
        state = found["units"][-1]["state"]
        found["by_state"][state] = found["by_state"].get(state, 0) + 1
    return found


def natural(name):
    """A key that puts mover@10 after mover@9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
