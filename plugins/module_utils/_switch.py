# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""A switch from one release to another: stop, switch, start, verify; on any failure back to what was.

Note that this module util is **PRIVATE** to the collection.

Only modules use it: Python 3.8 as these, and the standard library.
"""

import contextlib
import os
import time

from ansible_collections.sciops.sites.plugins.module_utils import (
    _checks,
    _files,
    _installs,
    _launches,
    _place,
    _probe,
    _switching,
    _transaction,
)

#: what a step may end with; everything else is a fault of this collection
FAILURES = (_transaction.Trouble, _launches.Failure, _installs.Failure, _files.Failure, _place.Misplaced, OSError)


#: for a stop or a start of a service that declares no timeout
SECONDS = 60


class Services:
    """The services of a release, each under its launch method. None is a release without any."""

    def __init__(self, manifest):
        self.declared = manifest["services"] if manifest else []
        self.by_name = {one["name"]: one for one in self.declared}
        self.managers, self.own = _switching.managers(manifest)
        self.launches = _launches.launches(manifest["launch"], self.declared) if manifest else []

    def place(self, name):
        """The launch method of a service and its settings."""
        for launch in self.launches:
            if name in launch.services:
                return type(launch), launch.settings
        return None

    def seconds(self, names):
        """How long these may take to stop or to start."""
        return max([self.by_name[name].get("timeout") or SECONDS for name in names])

    def _each(self, names):
        for launch in self.launches:
            mine = [name for name in names if name in launch.services]
            if mine:
                yield launch, mine

    def states(self, names=None):
        """States of these services, by default of all."""
        names = list(self.by_name if names is None else names)
        found = {}
        for launch, _mine in self._each(names):
            found.update(launch.states())
        return {name: found[name] for name in names if name in found}

    def prepare(self):
        for launch in self.launches:
            launch.prepare()

    def stop(self, names):
        """Stop these, those that depend on others first; what is to be told of it, in words."""
        said = []
        for wave in reversed(_switching.waves(self.declared)):
            for launch, mine in self._each([name for name in wave if name in names]):
                said.append(launch.stop(mine, self.seconds(mine)))
        return [words for words in said if words]

    def load(self, names, gone):
        """Let managers read what these are and forget those that are gone, all of them services of this release."""
        for launch in self.launches:
            mine, former = ([name for name in some if name in launch.services] for some in (names, gone))
            if mine or former:
                launch.load(mine, former)

    def start(self, names):
        """Start these, each after those that it depends on are up."""
        left = [[name for name in wave if name in names] for wave in _switching.waves(self.declared)]
        left = [wave for wave in left if wave]
        for index, wave in enumerate(left):
            for launch, mine in self._each(wave):
                launch.start(mine, self.seconds(mine))
            if index + 1 < len(left):
                self.verify(wave)

    def rest(self, names):
        """What was stopped is to stay down until somebody starts it, whatever becomes of the host."""
        for launch, mine in self._each(names):
            launch.rest(mine)

    def manage(self, up):
        """Have the deployment's manager read a changed file of its own, and run only `up`; what happened, in words.

        One that a service has for itself is none of it: what runs there goes on.
        """
        mine = [name for name in self.by_name if self.managers[name] == self.own]
        said = [launch.manager([n for n in names if n in up]) for launch, names in self._each(mine)]
        return [words for words in said if words]

    def retire(self, dests):
        """End managers whose own files go, where nothing runs in them any more; what is to be told of it, in words."""
        gone = {os.path.normpath(dest) for dest in dests}
        return [words for words in [launch.retire(gone) for launch in self.launches] if words]

    def verify(self, names):
        """Wait until these are up and healthy; what is said of those that wait in a queue. Trouble with the reasons."""
        services = [self.by_name[name] for name in names]
        since, sick, begun = {}, {}, time.monotonic()
        while True:
            seen, now = self.states(), time.monotonic()
            for one in services:
                state = seen.get(one["name"]) or {}
                process = (state.get("pid"), state.get("restarts"))
                if state.get("state") != "running":
                    since.pop(one["name"], None)
                elif since.get(one["name"], (0, None))[1] != process:
                    since[one["name"]] = (now, process)
                if state.get("state") == "running":
                    sick[one["name"]] = ailment(one)
            pending, failed = _switching.judge(services, seen, since, now, sick)
            late = {
                name: "%s, %d s after it was asked to start" % (why, now - begun)
                for name, why in pending.items()
                # time to come up, and then time to show that it stays up
                if now - begun > self.seconds([name]) + _switching.settle(self.by_name[name])
            }
            if failed or late:
                wrong = dict(late, **failed)
                said = "; ".join("%s: %s" % (name, wrong[name]) for name in names if name in wrong)
                raise _transaction.Trouble(said, services=seen)
            if not pending:
                return ["%s: %s" % (n, seen[n]["why"] or "waits") for n in names if seen[n]["state"] == "waiting"]
            time.sleep(0.2)


def ailment(service):
    """What the health check of a service says against it, empty where nothing."""
    health = service.get("health") or {}
    for kind in ("command", "url", "port", "log_age"):
        if health.get(kind) is not None:
            check = {key: health[key] for key in (kind, "timeout") + _checks.KINDS[kind] if key in health}
            why = _checks.ask(check)
            if why:
                return "%s: %s" % (_checks.title(check), why)
    return ""


class Switch:
    """One switch of a target from `old` (None before the first) to `new`, with its journal and its way back."""

    def __init__(self, store, old, new, todo, journal=None):
        self.store, self.old, self.new, self.todo = store, old, new, todo
        self.before, self.after = Services(old), Services(new)
        # the journal of an older version has neither
        self.theirs, self.alone = todo.get("theirs", []), todo.get("alone", [])
        self.journal = journal
        self.steps, self.down, self.notes = [], None, []

    # --- forward

    def run(self, state):
        """Carry it out; `state` becomes what is remembered. Facts for the result; Trouble where it was undone."""
        up = [name for name, one in self.before.states().items() if one["state"] in _switching.UP]
        self.journal = {"what": "switch", "id": self.new["id"], "from": self.old and self.old["id"], "todo": self.todo}
        self.journal.update(pid=os.getpid(), up=up, at=time.time(), phase="prepare", state=state)
        self.journal["link"] = self._link_now()
        self.journal["boot"] = _probe.boot_id()
        self.journal["found"] = [one["dest"] for _index, one in self._entries() if os.path.lexists(one["dest"])]
        self.store.note(self.journal)
        try:
            self.step("prepare", self._prepare)
            if self.todo["stop"] + self.theirs:
                self.down = time.monotonic()
            self.step("stop", self._stop)
            self.step("switch", self._switch)
            self.step("start", self._start)
            said = self.step("verify", self._verify)
            downtime = None if self.down is None else round(time.monotonic() - self.down, 3)
            self._phase("keep")
            self.store.remember(state)
        except FAILURES as error:
            self._undo_after(error)
        self.spare()
        self.clean()
        return {"steps": self.steps, "downtime": downtime, "notes": self.notes + said}

    def step(self, name, work):
        begun, clock = time.time(), time.monotonic()
        entry = {"step": name, "began": round(begun, 3), "seconds": 0.0, "outcome": "failed", "detail": ""}
        self.steps.append(entry)
        try:
            self._phase(name)
            result = work()
            entry["outcome"] = "done"
            return result
        except FAILURES as error:
            entry["detail"] = str(error)
            raise
        finally:
            entry["seconds"] = round(time.monotonic() - clock, 3)

    def _phase(self, name):
        self.journal["phase"] = name
        self.store.note(self.journal)

    def _entries(self):
        return [(index, self.new["files"][index]) for index in self.todo["put"]]

    def _aside(self, dest, kind):
        """A name beside a file, which no pattern of others takes."""
        return os.path.join(os.path.dirname(dest), ".sciops.%s.%s" % (os.path.basename(dest), kind))

    def _prepare(self):
        """Everything that may fail for want of space or rights, beside what is live."""
        for index, entry in self._entries():
            text = _place.read(self.store.staged(self.new, index))
            if text is None or _files.digest(text) != entry["digest"]:
                raise _transaction.Trouble("%s: is not there as it was staged" % self.store.staged(self.new, index))
            _files.refuse(entry)
            beside = dict(entry, dest=self._aside(entry["dest"], "new"))
            _files.put([dict(beside, text=text)])
        self.after.prepare()

    def _stop(self):
        self.notes += self.before.stop(self.todo["stop"])
        self.notes += self.after.stop(self.theirs)
        self.notes += self.before.retire(self.todo["drop"])

    def _switch(self):
        for _index, entry in self._entries():
            self._save(entry["dest"])
            os.rename(self._aside(entry["dest"], "new"), entry["dest"])
        for dest in self.todo["drop"]:
            with contextlib.suppress(FileNotFoundError):
                os.rename(dest, self._aside(dest, "old"))
        if self.todo["link"]:
            build = self.new["build"] or {}
            self._point(build.get("link"), build.get("target"))
            former = (self.old or {}).get("build") or {}
            if former.get("link") and former["link"] != build.get("link"):
                _place.drop(former["link"])

    def _save(self, dest):
        """The old file under a second name. Needs no space, so that the way back does not either."""
        aside = self._aside(dest, "old")
        _place.drop(aside)
        try:
            os.link(dest, aside)
        except FileNotFoundError:
            pass
        except OSError:  # a file system without hard links
            os.rename(dest, aside)

    def _link_now(self):
        """{path: where it points, or None} of the links that the switch concerns."""
        paths = {((one or {}).get("build") or {}).get("link") for one in (self.old, self.new)} - {None}
        return {path: os.readlink(path) if os.path.islink(path) else None for path in paths}

    def _point(self, link, target):
        """Let a link point at a target, at once. A folder or file of that name steps aside."""
        if link is None:
            return
        aside = self._aside(link, "new")
        _place.drop(aside)
        os.symlink(target, aside)
        if os.path.lexists(link) and not os.path.islink(link):
            os.rename(link, self._aside(link, "old"))
        os.rename(aside, link)

    def _left(self, here, there):
        """Services of `here` that `there` has not, or has elsewhere: their manager is to forget them."""
        return [name for name in here.by_name if here.place(name) != there.place(name)]

    def _start(self):
        if self.todo["manager"]:
            self.notes += self.after.manage(self.todo["start"] + self.todo["kept"] + self.alone)
        self.before.load([], self._left(self.before, self.after))
        self.after.load(self.todo["load"], [])
        self.after.start(self.todo["start"])

    def _verify(self):
        return self.after.verify(self.todo["start"])

    # --- back

    def _undo_after(self, error):
        failed = self.steps[-1]["step"] if self.steps else "prepare"
        if self.steps and self.steps[-1]["outcome"] == "done":
            failed = "keep"
        facts = {"steps": self.steps, "failed_step": failed}
        facts.update(getattr(error, "facts", {}))
        try:
            lost = self.undo(failed)
        except FAILURES as second:
            words = "step %s failed: %s. Going back to %s failed too: %s. Run again: it is tried once more."
            facts["outcome"] = "broken"
            old = self.old["id"] if self.old else "nothing"
            raise _transaction.Trouble(words % (failed, error, old, second), **facts)
        facts["outcome"] = "rolled_back"
        if self.down is not None and not lost:
            facts["downtime"] = round(time.monotonic() - self.down, 3)
        words = "step %s failed: %s. %s"
        rest = "Release %s is live as before." % self.old["id"] if self.old else "Nothing is live, as before."
        if lost:
            rest = (
                self.back_to(lost) + ". Files and links are as before: put that right, deploy another version, or stop"
            )
            rest = rest[:1].upper() + rest[1:] + "."
        raise _transaction.Trouble(words % (failed, error, rest), **facts)

    def back_to(self, lost):
        """Where the way back has led to, in words; `lost` says why services did not come up, empty where all did."""
        words = "back to %s" % (self.old["id"] if self.old else "nothing")
        whose = ", whose services do not come up: %s" if self.old else ", and what ran before does not come up: %s"
        return words + whose % lost if lost else words

    def undo(self, phase):
        """Go back from anywhere; may itself be cut off and begun again. Why services did not come up, in words.

        That they did not is told and no more. With the journal kept for it nothing but this way back would ever be
        tried again, neither a release that would help nor a stop.
        """
        # begun again, it goes on back, also from a release that was as good as kept
        self.journal["cut_off"] = "verify" if phase == "keep" else phase
        with contextlib.suppress(_place.Misplaced):  # a full disk must not keep it from going back
            self._phase("undo")
        begun = time.monotonic()
        entry = {"step": "undo", "began": round(time.time(), 3), "seconds": 0.0, "outcome": "failed", "detail": ""}
        self.steps.append(entry)
        try:
            self._back(phase)
            entry["detail"] = lost = self._revive()
            entry["outcome"] = "done"
        except FAILURES as error:
            entry["detail"] = str(error)
            raise
        finally:
            entry["seconds"] = round(time.monotonic() - begun, 3)
        self.clean()
        return lost

    def _back(self, phase):
        """Files, links and managers as they were, and nothing runs of the new release."""
        if phase in ("prepare", "stop"):
            return
        touched = set(self.todo["load"] + self.todo["start"])
        # nothing of the new release was started before, unless the host was booted with its files in place
        if phase != "switch" or self.journal.get("boot") != _probe.boot_id():
            self.after.stop([name for name in self.after.by_name if name in touched])
        found = {one["dest"] for one in (self.old or {}).get("files", [])} | set(self.journal["found"])
        self.notes += self.after.retire([one["dest"] for one in self.new["files"] if one["dest"] not in found])
        self._restore()
        if self.todo["manager"]:
            self.before.manage(self.journal["up"])
        gone = self._left(self.before, self.after)
        # what others had in a manager stays there
        fresh = [name for name in self._left(self.after, self.before) if name not in self.theirs + self.alone]
        self.after.load([], fresh)
        self.before.load([name for name in self.before.by_name if name in touched or name in gone], [])

    def _revive(self):
        """Start what ran before; why some of it does not come up, in words."""
        lost = []
        # nobody knows whether the health check of the new release holds for what others had started
        theirs = [dict(one, health=None) for one in self.new["services"] if one["name"] in self.theirs]
        theirs = Services(dict(self.new, services=theirs))
        for services, up in ((self.before, self.journal["up"]), (theirs, self.theirs)):
            try:
                states = services.states([name for name in up if name in services.by_name])
                down = [name for name in states if states[name]["state"] not in _switching.UP]
                if services is theirs:  # their managers have read what is now gone
                    services.load(down, [])
                services.start(down)
                services.verify(down)
            except FAILURES as error:
                lost.append(str(error))
        return "; ".join(lost)

    def _restore(self):
        for _index, entry in self._entries():
            aside = self._aside(entry["dest"], "old")
            if os.path.lexists(aside):
                os.rename(aside, entry["dest"])
            elif entry["dest"] not in self.journal["found"]:
                _place.drop(entry["dest"])
        for dest in self.todo["drop"]:
            if os.path.lexists(self._aside(dest, "old")):
                os.rename(self._aside(dest, "old"), dest)
        for link, target in self.journal["link"].items():
            aside = self._aside(link, "old")
            if target is not None:
                self._point(link, target)
            elif os.path.lexists(aside):
                _place.drop(link)
                os.rename(aside, link)
            elif os.path.islink(link):
                _place.drop(link)

    def spare(self):
        """Keep what was found in the place of the link, under a name that says so."""
        for link, target in self.journal["link"].items():
            aside, kept = self._aside(link, "old"), "%s.before-%d" % (link, self.journal["at"])
            if target is None and os.path.lexists(aside):
                os.rename(aside, kept)
                self.notes.append("what was at %s is now %s" % (link, kept))

    def clean(self):
        """Drop what was kept for the way back, and the journal."""
        for _index, entry in self._entries():
            for kind in ("new", "old"):
                _place.drop(self._aside(entry["dest"], kind))
        for dest in self.todo["drop"]:
            _place.drop(self._aside(dest, "old"))
        self.store.note(None)


def recover(store):
    """Put right what a change that was cut off has left; what was done about it, None where nothing was left."""
    journal = store.journal()
    if journal is None:
        return None
    if journal["what"] != "switch":  # start, stop, restart: the next one looks at what runs
        store.note(None)
        return None
    new = store.manifest(journal["id"])
    old = store.manifest(journal["from"])
    switch = Switch(store, old, new, journal["todo"], journal)
    phase = journal.get("cut_off") or journal["phase"]
    # where a way back had begun and could not say so, files are no longer as the new release has them
    if phase == "keep" and not dict(_files.drift(new["files"])):
        store.remember(journal["state"])
        switch.spare()
        switch.clean()
        return "the switch to %s had been cut off after it was verified: kept" % journal["id"]
    lost = switch.undo(phase)
    words = "the switch to %s had been cut off in step %s: %s"
    return words % (journal["id"], phase, switch.back_to(lost))
