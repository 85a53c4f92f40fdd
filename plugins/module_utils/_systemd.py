# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launcher ``systemd``: a template unit for each component, one instance of it for each slot.

Note that this module util is **PRIVATE** to the collection.

Root has units of the system, everybody else those of the own user manager. Instances are enabled by links in the wants
folder of the target, as `systemctl enable` makes them, so that nothing is reloaded for a count. Python 3.6 and the
standard library, no f-strings (see _probe).
"""

import os
import time

from ansible_collections.sciops.sites.plugins.module_utils import (
    _logs,
    _managed,
    _manager,
    _probe,
    _process,
    _shim,
    _systemctl,
)
from ansible_collections.sciops.sites.plugins.module_utils._manager import Down, Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

PROPERTIES = ["ActiveState", "SubState", "Result", "MainPID", "NRestarts", "ExecMainStatus", "LoadState", "Job"]
# what systemd is going to do by itself; any other word than these and OVER says nothing, and that is not absence
OVER = ("inactive", "failed")


class Manager(_manager.Manager):
    """systemd of this host, or of this user."""

    name = "systemd"
    CAPABILITIES = {"restarts": True, "placement": "host", "logout": True, "reboot": True}

    def __init__(self, settings, folder):
        _manager.Manager.__init__(self, settings, folder)
        self.scope = self.where(settings)["scope"]
        self.tool = _systemctl.Systemd(self.scope, float(settings.get("timeout") or 10))
        self.ended, self.kept = [], set()

    @classmethod
    def where(cls, settings):
        scope = settings.get("scope") or "auto"
        return {"scope": ("user" if os.geteuid() else "system") if scope == "auto" else scope}

    def ask(self, what, *args):
        """One method of the tool, its ways to fail as those of a manager."""
        try:
            return getattr(self.tool, what)(*args)
        except _systemctl.Down as error:
            raise Down("systemd: %s" % error)
        except _systemctl.Silent as error:
            raise Silent("systemd: %s" % error)
        except _systemctl.Failed as error:
            raise Failed("systemd: %s" % error)

    def prerequisites(self):
        if self.scope == "system" and os.geteuid() != 0:
            return ["systemd: scope system needs root; become root on this host, or say scope: user"]
        missing = self.ask("prerequisites")
        if missing and self.to_linger():
            words = "linger of user %s is off; the next start turns it on, as launchers.systemd.linger says"
            missing = [words % self.tool.user]
        return ["systemd: %s" % words for words in missing]

    def to_linger(self):
        """Whether a start is to turn linger on; the manager of a user comes with it."""
        if self.scope != "user" or not self.settings.get("linger") or not os.path.isdir(_systemctl.BOOTED):
            return False
        return not self.ask("linger")

    def prepare(self):
        if not self.to_linger():
            return
        try:
            self.ask("enable_linger")
        except (Down, Silent, Failed) as error:
            raise Failed("%s; nothing was started" % error, "refused")
        # logind has been told; the manager itself takes a moment
        ends = time.monotonic() + _managed.PATIENCE
        while self.ask("prerequisites") and time.monotonic() < ends:
            time.sleep(_managed.ASK)

    def states(self, units):
        names = {unit + ".service": unit for unit in units}
        found = {}
        for name, seen in self.ask("show", sorted(names), PROPERTIES).items():
            if name not in names or seen.get("LoadState") == "not-found":
                continue
            active, sub, result = seen.get("ActiveState"), seen.get("SubState"), seen.get("Result")
            restarts, status = int(seen.get("NRestarts") or 0), int(seen.get("ExecMainStatus") or 0)
            parts = [] if result in (None, "", "success") else [result]
            if status and active != "active":
                parts.append("ended with status %d" % status)
            if restarts:
                parts.append("restarted %d times" % restarts if restarts > 1 else "restarted once")
            waits = seen.get("Job") not in (None, "", "0")
            if active in OVER and waits:
                parts.append("its turn has not come")
            state = {"state": "%s (%s)" % (active, sub), "message": ", ".join(parts), "restarts": restarts}
            state.update(alive=active not in OVER or waits, failing=active == "failed" or sub == "auto-restart")
            state["exit"] = status or None
            found[names[name]] = dict(state, pid=int(seen.get("MainPID") or 0) or None)
        return found

    # --- files

    def files(self, specs_of):
        found, bases = {}, {}
        for name in sorted(os.listdir(self.place)) if os.path.isdir(self.place) else []:
            if name.endswith(".json"):
                bases[name.partition("@")[0]] = (name[: -len(".json")], None)
        # a template is of all slots: what was declared last counts, however many still run as it was before
        for unit, spec in sorted(specs_of.items(), key=lambda pair: (pair[1].get("turn", 0), pair[0])):
            bases[unit.partition("@")[0]] = (unit, spec)
        for unit, spec in bases.values():
            found.update(self.of_unit(unit, spec))
        return found

    def fits(self, unit, spec):
        self.of_unit(unit, spec)

    def of_unit(self, unit, spec):
        """Template and drop-in that a unit needs, or what is to go with the last one."""
        base = "%s/%s" % (self.tool.folder, unit.partition("@")[0] + "@.service")
        texts = {base: None, base + ".d/sciops.conf": None}
        if not spec:
            return texts
        own = spec.get("options") or {}
        after = [("Description", "%s of %s.%s" % tuple([spec["component"]] + spec["ident"][:2]))]
        if self.scope == "system":
            after += [("Wants", "network-online.target"), ("After", "network-online.target")]
        after += [("StartLimitIntervalSec", int(own.get("start_limit_interval", 60)))]
        after += [("StartLimitBurst", own.get("start_limit_burst", 5))]
        words = self.words("%s/%s@%%i.json" % (self.place, unit.partition("@")[0]))
        service = [("Type", "simple"), ("ExecStart", " ".join(words)), ("Restart", own.get("restart", "on-failure"))]
        service += [("RestartSec", own.get("restart_sec", 1)), ("RestartPreventExitStatus", _shim.BUSY)]
        # a keeper ends its instance by itself; TERM to what mounts the image would end it in the middle
        how = "mixed" if spec.get("instance") else "control-group"
        service += [("KillMode", how), ("StandardOutput", "null"), ("StandardError", "journal")]
        service += [("TimeoutStopSec", int(spec.get("grace") or 0) + _process.KILL_WAIT)]
        parts = [("Unit", after), ("Service", service), ("Install", [("WantedBy", self.tool.target)])]
        texts[base] = "# written by sciops.sites\n" + _systemctl.unit_text(parts, raw=True)
        if own.get("drop_in"):
            more = [(name, sorted(keys.items())) for name, keys in sorted(own["drop_in"].items())]
            try:
                text = _systemctl.unit_text(more, raw=True)
            except ValueError as error:
                raise Failed("%s: options.systemd.drop_in: %s" % (spec["component"], error), "refused")
            texts[base + ".d/sciops.conf"] = "# written by sciops.sites\n" + text
        return texts

    def words(self, spec_path):
        plain = _manager.Manager.words(self, spec_path.replace("%i", "0"))
        return plain[:-1] + [spec_path]

    def write(self, wanted):
        changed = _manager.Manager.write(self, wanted)
        for unit, spec in sorted(wanted.items()):
            link = self.link(unit)
            enabled = (spec.get("options") or {}).get("enable", True) and not spec.get("only_boot")
            if enabled and not os.path.islink(link):
                _logs.make_folder(os.path.dirname(link))
                os.symlink("../%s@.service" % unit.partition("@")[0], link)
            elif not enabled and os.path.islink(link):
                os.unlink(link)
        if changed:
            self.ask("run", "daemon-reload")
        return changed

    def link(self, unit):
        return "%s/%s.wants/%s.service" % (self.tool.folder, self.tool.target, unit)

    # --- what it is told

    def begin(self, units):
        names = [unit + ".service" for unit in units]
        # a start limit that was reached before must not refuse this one
        failed = [
            name for unit, name in zip(units, names) if self.seen.get(unit, {}).get("state", "").startswith("failed")
        ]
        if failed:
            self.ask("run", "reset-failed", *failed)
        self.ask("run", "start", "--no-block", *names)

    def end(self, units):
        for unit in units:
            if os.path.islink(self.link(unit)):
                os.unlink(self.link(unit))
        self.ended = ["%s.service" % unit for unit in units]
        known = self.specs()
        self.kept = {known[unit]["token"] for unit in units if known.get(unit, {}).get("instance")}
        self.ask("run", "stop", "--no-block", *self.ended)

    def signals(self, p):
        """Whether a process gets its TERM from systemd: all of the unit's control group; or from the unit's keeper."""
        if p.mark and p.mark[6] in self.kept:
            return True
        try:
            group = _probe.read("/proc/%d/cgroup" % p.pid).decode("utf-8", "replace")
        except OSError:
            return False
        return any(line.rstrip().endswith("/" + name) for line in group.splitlines() for name in self.ended)

    def forget(self, units):
        try:
            self.ask("run", "reset-failed", *["%s.service" % unit for unit in units])
        except (Down, Failed):
            # which says that it has forgotten them already
            pass


CAPABILITIES = Manager.CAPABILITIES
start, stop, rotate, describe, observe, prerequisites = _managed.contract(Manager)
