# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launch method `systemd`: units of a user or of the system whose files are part of the deployment.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import glob
import os

from ansible_collections.sciops.sites.plugins.module_utils import _instances, _launch, _place, _systemctl
from ansible_collections.sciops.sites.plugins.module_utils._launch import Failure, state

PROPERTIES = list(_instances.PROPERTIES) + ["ConditionResult"]
TROUBLE = (_systemctl.Down, _systemctl.Silent, _systemctl.Failed)
WORDS = {"active": "running", "reloading": "running", "deactivating": "running", "activating": "starting"}
WORDS.update(inactive="stopped", failed="failed")


def unit_of(service):
    """The name of the unit of a service, with its ending."""
    unit = service.get("unit") or service["name"]
    return unit if "." in unit else unit + ".service"


def definitions(settings, services, files):
    """Unit file and drop-ins of each service, without comments. Raises Failure where the release lacks one."""
    texts = {}
    for one in services:
        unit = unit_of(one)
        base, at, rest = unit.partition("@")
        names = [unit] + ([base + "@." + rest.rpartition(".")[2]] if at else [])
        folders = [name + ".d" for name in names]
        mine = [dest for dest in sorted(files) if os.path.basename(dest) in names]
        if not mine:
            raise Failure("service %s: no file of the release is named %s" % (one["name"], " or ".join(names)))
        mine += [dest for dest in sorted(files) if os.path.basename(os.path.dirname(dest)) in folders]
        lines = []
        for dest in mine:
            own = [line.strip() for line in files[dest].splitlines()]
            own = [line for line in own if line and line[0] not in "#;"]
            wanted = [word for line in own if line.startswith("WantedBy=") for word in line[9:].split()]
            if settings.get("scope", "user") == "user" and "multi-user.target" in wanted:
                words = "%s: WantedBy=multi-user.target: users have no such target, the unit would not start at boot; "
                raise Failure(words % dest + "say default.target")
            lines += ["# " + os.path.basename(dest)] + own
        texts[one["name"]] = "\n".join(lines)
    return texts


class Launch(_launch.Launch):
    """See docs/deploy-launch.md for the settings."""

    def __init__(self, settings, services):
        _launch.Launch.__init__(self, settings, services)
        self.timeout = float(settings.get("timeout") or 10)
        self.systemd = _systemctl.Systemd(settings.get("scope") or "user", self.timeout)
        self.linger = settings.get("linger", True)

    def unit(self, name):
        return unit_of(self.service(name))

    def missing(self):
        if self.systemd.scope == "user" and (self.linger or self.systemd.linger()):
            # what else a user lacks comes with linger, which prepare() turns on
            return [] if os.path.isdir(_systemctl.BOOTED) else self.systemd.prerequisites()[:1]
        return [words for words in self.systemd.prerequisites() if not words.startswith("linger ")]

    def ask(self, what, *args):
        """One method of the client. Raises Failure."""
        try:
            return getattr(self.systemd, what)(*args)
        except TROUBLE as error:
            raise Failure("systemd: %s" % error)

    def states(self):
        units = {name: self.unit(name) for name in self.services}
        try:
            seen = self.systemd.show(sorted(set(units.values())), PROPERTIES) if units else {}
        except _systemctl.Down as error:
            return {name: state("stopped", str(error)) for name in units}
        except (_systemctl.Silent, _systemctl.Failed) as error:
            return {name: state("unknown", str(error)) for name in units}
        return {name: self.one(seen[unit]) for name, unit in units.items()}

    def one(self, seen):
        """The state of a unit of these properties, with `drift` where a load would put something right."""
        word, why = WORDS.get(seen.get("ActiveState"), "unknown"), ""
        again = seen.get("SubState") == "auto-restart"
        if word in ("failed", "unknown") or again:
            why = "%s (%s): %s" % (seen.get("ActiveState"), seen.get("SubState"), _instances.ending(seen))
        elif seen.get("LoadState") != "loaded":
            why = "systemd has no such unit (%s)" % seen.get("LoadState")
        elif word == "stopped" and seen.get("ConditionResult") == "no":
            why = "a condition of the unit is not met, see systemctl status %s" % seen["Id"]
        elif word in ("running", "starting") and seen.get("ActiveState") != "active":
            why = seen["ActiveState"]
        found = state(word, why, int(seen.get("MainPID") or 0), int(seen.get("NRestarts") or 0))
        if seen.get("LoadState") == "loaded":
            if seen.get("NeedDaemonReload") == "yes":
                found["drift"] = "systemd has not read its unit file since it changed"
            elif seen.get("UnitFileState") == "disabled" and word in ("running", "starting"):
                found["drift"] = "it is not enabled, so it does not start at boot"
        return found

    def seen(self, units):
        """Properties of units; none without a manager, since nothing of it runs then. Raises Failure."""
        try:
            return self.systemd.show(units, PROPERTIES) if units else {}
        except _systemctl.Down:
            return {}
        except TROUBLE as error:
            raise Failure("systemd: %s" % error)

    def stop(self, names, seconds):
        self.sure(names)
        units = [self.unit(name) for name in names]
        seen = self.seen(units)
        if not seen:
            return
        up = [unit for unit, one in seen.items() if one["ActiveState"] not in _instances.OVER]
        if up:
            said = self.ask("job", "stop", up, seconds)
            seen = self.ask("show", units, PROPERTIES)
            left = [unit for unit in up if seen[unit]["ActiveState"] not in _instances.OVER]
            if left:
                raise Failure("%s: still running after a stop: %s" % (", ".join(left), said))
        self.forgive(seen)

    def forgive(self, seen):
        """Have systemd forget that units have failed, and how often."""
        failed = [unit for unit, one in seen.items() if one["ActiveState"] == "failed"]
        if failed:
            self.ask("run", "reset-failed", *failed)

    def load(self, names, gone):
        self.prepare()
        units, former = [self.unit(name) for name in names], [self.unit(name) for name in gone]
        if former:
            self.stop(gone, self.timeout)
        for unit in former:
            for kind in ("wants", "requires"):
                for link in glob.glob("%s/*.%s/%s" % (glob.escape(self.systemd.folder), kind, glob.escape(unit))):
                    _place.drop(link)
        every = units + former
        seen = self.ask("show", every, PROPERTIES) if every else {}
        # one that is gone from the disk and still known counts as changed too
        if any(one["NeedDaemonReload"] == "yes" for one in seen.values()) or [
            unit for unit in units if seen[unit]["LoadState"] != "loaded"
        ]:
            self.ask("run", "daemon-reload")
            seen = self.ask("show", every, PROPERTIES)
        wrong = ["%s is %s" % (unit, seen[unit]["LoadState"]) for unit in units if seen[unit]["LoadState"] != "loaded"]
        if wrong:
            raise Failure("systemd does not take what is in %s: %s" % (self.systemd.folder, "; ".join(wrong)))
        # what does not run comes back with the host once it is started
        self.enable({unit: seen[unit] for unit in units if seen[unit]["ActiveState"] not in _instances.OVER})

    def enable(self, seen):
        """Have units of these properties start with the host, those that can and do not yet."""
        off = [unit for unit, one in seen.items() if one["UnitFileState"] == "disabled"]
        if off:
            self.ask("run", "enable", *off)

    def rest(self, names):
        """What was stopped for a while stays down when the host is booted meanwhile."""
        seen = self.seen([self.unit(name) for name in names])
        on = [unit for unit, one in seen.items() if one.get("UnitFileState") == "enabled"]
        if on:
            self.ask("run", "disable", *on)

    def prepare(self):
        """See that the user's manager outlives logins, where the settings say so. Raises Failure."""
        if self.systemd.scope == "user" and self.linger and not self.systemd.linger():
            self.ask("enable_linger")
            socket = self.systemd.runtime + "/systemd/private"
            if _launch.wait(lambda: not os.path.exists(socket), self.timeout):
                raise Failure("linger is on, and %s is not there after %g s" % (socket, self.timeout))

    def start(self, names, seconds):
        self.sure(names)
        if not names:
            return
        self.prepare()
        units = [self.unit(name) for name in names]
        seen = self.ask("show", units, PROPERTIES)
        self.forgive(seen)
        self.enable(seen)
        # what comes of it is for who looks; what is refused at once is told here
        self.ask("run", "start", "--no-block", *units)
