# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What all launchers have in common that hand an instance to a manager of the host: start, stop, describe.

Note that this module util is **PRIVATE** to the collection.

What a manager is to its launcher is in _manager. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import inspect
import json
import os
import time

from ansible_collections.sciops.sites.plugins.module_utils import _logs, _probe, _process, _shim, _work
from ansible_collections.sciops.sites.plugins.module_utils._manager import Down, Silent, keep, observe, specs
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed, said

# the parts of the program that a manager runs, in the order in which they are loaded
PARTS = (_probe, _logs, _shim)
PACKAGE = __name__.rpartition(".")[0]
# between two questions to a manager, in seconds
ASK = 0.2
# how long a manager may take to begin or to forget
PATIENCE = 10
# how often /proc is looked at before something counts as gone
LOOKS = 5


def program():
    """The text of the program that a manager runs: the parts as they are here, made importable, and called."""
    texts = []
    for part in PARTS:
        text = getattr(part, "SOURCE", None) or inspect.getsource(part)
        texts.append((part.__name__.rpartition(".")[2], text))
    lines = ["import sys, types", "name = ''", "for word in %r.split('.'):" % PACKAGE]
    lines += [" name = name + '.' + word if name else word", " mod = sys.modules[name] = types.ModuleType(name)"]
    lines += [" mod.__path__ = []", "for word, text in %s:" % ascii(texts)]
    lines += [" part = sys.modules[name + '.' + word] = types.ModuleType(name + '.' + word)"]
    lines += [" setattr(mod, word, part)", " exec(compile(text, word, 'exec'), part.__dict__)"]
    return "\n".join(lines + ["part.main(sys.argv[1])", ""])


class Flight:
    """A start that is being watched."""

    def __init__(self, index, unit, begun, settle):
        self.index, self.unit, self.settle, self.until = index, unit, settle, begun + settle
        self.asked, self.pid, self.lead, self.spec = begun, None, None, None
        self.log, self.offset, self.hidden = None, 0, []


def check(manager):
    """Raises Failed where something is missing that a start needs."""
    manager.prepare()
    missing = manager.prerequisites()
    if missing:
        raise Failed("; ".join(missing), "refused")


def turn(old):
    """The number of a spec that is about to be written: higher than that of all that are there."""
    return 1 + max([spec.get("turn", 0) for spec in old.values()] or [0])


def start(manager, work, indices):
    """Start instances through a manager in batches, see Work.batches; what does not come up is taken away again."""
    _table, known, sets = work.scene()
    live, old = work.live(known, sets), manager.specs()
    work.logs = {known[t].get("log") for t in known}
    check(manager)
    try:
        os.makedirs(manager.place, 0o700, exist_ok=True)
        keep(manager.folder + "/managed/shim.py", program())
    except OSError as error:
        raise Failed("%s; nothing was started" % said(error), "refused")

    def begin(batch):
        flights, fresh = [], {}
        for i in batch:
            action = work.actions[i]
            try:
                if not work.may_start(i, live):
                    continue
                who = _logs.account(action.get("user"))
                if action.get("container"):
                    box = _work.launcher("apptainer")
                    box.provide(work, action["container"], who, work.settings("apptainer"))
                spec = dict(manager.spec(action, work.request), turn=turn(old))
                # one that is written stands in the way of all that is written later
                manager.fits(spec["unit"], spec)
                if who.pw_uid != os.geteuid() and os.geteuid() != 0:
                    text = "user %s is wanted, and this host is reached as %s, who cannot become another"
                    raise Failed(text % (who.pw_name, _probe.login()), "refused")
                flight = Flight(i, spec["unit"], time.monotonic(), float(action.get("settle", 2)))
                flight.hidden = _shim.environment(action, who)[1]
                flight.spec = spec
                flight.log = spec["log_path"]
                os.close(_logs.begin(flight.log, spec.get("log") or {}, manager.folder, who, work.logs))
                flight.offset = os.stat(flight.log).st_size
                fresh[spec["unit"]] = spec
                flights.append(flight)
            except (Failed, OSError) as error:
                fail(work, i, error)
        if not fresh:
            return []
        try:
            # who does not answer is told nothing
            states = manager.ready(sorted(fresh))
            if manager.down:
                bury(manager, work, old, fresh)
        except (Failed, Silent, OSError) as error:
            for flight in flights:
                work.end(flight.index, "refused", said(error) if isinstance(error, OSError) else str(error))
            return []
        for flight in [f for f in flights if f.unit in old and states.get(f.unit, {}).get("alive")]:
            words = "%s has it already: %s" % (manager.name, states[flight.unit]["state"])
            work.end(flight.index, "already", words, token=old[flight.unit]["token"])
            flights.remove(flight)
            fresh.pop(flight.unit)
        if not fresh:
            return []
        try:
            for unit, spec in fresh.items():
                _probe.write_file(manager.spec_path(unit), json.dumps(spec))
            old.update(fresh)
            for flight in flights:
                work.results[flight.index]["begun"] = "%s was told, and the time of the request ended" % manager.name
            manager.write(old)
            manager.begin(sorted(fresh))
        except (Failed, Down, Silent, OSError) as error:
            for flight in flights:
                undo(manager, work, flight, old, error)
            return []
        return flights

    def settle(flights):
        now, done = time.monotonic(), []
        # the shim writes the record before there is anything to see
        new = any(f.pid is None and os.path.exists(work.record(work.actions[f.index]["token"])) for f in flights)
        if not new and not any((f.pid and now >= f.until) or now - f.asked >= ASK for f in flights):
            return []
        _table, known, sets = work.look()
        open_, states, trouble = [], {}, None
        for flight in flights:
            token = work.actions[flight.index]["token"]
            flight.lead = _probe.leader(sets[token], known.get(token))[0].pid if sets.get(token) else None
            if flight.lead and not flight.pid:
                # from here on it has to live: how long the manager took to start it proves nothing
                flight.pid, flight.until = flight.lead, now + flight.settle
            if (now >= flight.until or flight.lead is None) and now - flight.asked >= ASK:
                flight.asked = now
                open_.append(flight)
        if open_:
            try:
                states = manager.states([f.unit for f in open_])
            except (Down, Silent) as error:
                trouble = error
        for flight in flights:
            state = states.get(flight.unit) or {"state": "unknown to it", "alive": False}
            again = flight.lead not in (None, flight.pid) or state.get("failing")
            # of an instance of apptainer there is a keeper first, and then its program
            few = _shim.fresh(flight.spec) and now < flight.until + PATIENCE
            if flight.lead and not again:
                if now >= flight.until and not few:
                    work.results[flight.index].pop("begun", None)
                    words = "pid %d lives after its settle time" % flight.lead
                    work.end(flight.index, "started", words, pid=flight.lead)
                    done.append(flight)
            elif again or flight in open_:
                patient = trouble or (state["alive"] and not again)
                if not patient or now >= flight.until + PATIENCE:
                    undo(manager, work, flight, old, trouble, state)
                    done.append(flight)
        return done

    work.batches(indices, begin, settle)


def bury(manager, work, old, fresh):
    """Forget what ended together with a manager that is about to be started: it would start that again.

    Whoever counts has seen that it is gone, and may have put it elsewhere meanwhile. What lives is adopted.
    """
    dead = [unit for unit in old if unit not in fresh]
    for _look in range(LOOKS):
        # one look can miss a process that forks and ends, or execs, while it goes on
        sets = work.look()[2]
        dead = [unit for unit in dead if not sets.get(old[unit]["token"])]
        if not dead:
            break
        time.sleep(0.03)
    if dead:
        drop(manager, work, dead, old)


def fail(work, index, error):
    """The result of a start that was not even begun."""
    if isinstance(error, Failed):
        work.end(index, error.outcome, str(error))
    else:
        full = getattr(error, "errno", None) in _process.FULL
        work.end(index, "refused" if full else "failed", "%s; nothing was started" % said(error))


def undo(manager, work, flight, old, error, state=None):
    """Take a start away again that did not come up; its result says why, in the manager's words and the log's."""
    words = said(error) if isinstance(error, OSError) else str(error or "")
    if state:
        parts = [state["state"], state.get("message")]
        words = ": ".join(str(part) for part in parts if part) + ("; " + words if words else "")
    try:
        remove(manager, work, [flight.unit], old)
    except (Failed, Down, Silent, OSError) as trouble:
        # what may still live is not called failed: that would be started again
        words += "; and it could not be taken away again: %s" % trouble
        work.results[flight.index].pop("begun", None)
        work.end(flight.index, "unknown", words)
        return
    work.results[flight.index].pop("begun", None)
    outcome = error.outcome if isinstance(error, Failed) else "failed"
    tail = _logs.tail(flight.log, flight.offset, flight.hidden)
    work.end(flight.index, outcome, words, exit=(state or {}).get("exit"), log_tail=tail)


def remove(manager, work, units, old):
    """Have the manager end units, kill what lives of them, and remove what is kept of them once nothing does."""
    try:
        manager.end(units)
    except Down:
        # who does not run starts nothing again
        pass
    tokens = {old[unit]["token"] for unit in units if unit in old}
    begun, pause = time.monotonic(), _work.Pause()
    while time.monotonic() - begun < PATIENCE:
        sets = work.look()[2]
        alive = [p for token in tokens for p in sets.get(token, [])]
        if not alive:
            break
        for p in alive:
            _process.send(p, 9)
        pause()
    else:
        raise Failed("pid %d lives %d s after KILL" % (alive[0].pid, PATIENCE))
    drop(manager, work, units, old)


def drop(manager, work, units, old):
    """Remove spec, record and the manager's files of units that are over."""
    try:
        manager.write({unit: spec for unit, spec in old.items() if unit not in units})
    except Down:
        # the files are as they should be, and who does not run has not read the old ones
        pass
    over = [old.pop(unit) for unit in units if unit in old]
    for unit in units:
        for path in (manager.spec_path(unit), manager.spec_path(unit) + ".lock"):
            if os.path.exists(path):
                os.unlink(path)
    for spec in over:
        work.drop(spec["token"])
    manager.forget(units)
    for spec in over:
        # where no component that is on has a container its code is not here; then the next keeper tidies up
        if spec.get("instance") and "apptainer" in (work.request.get("launchers") or {}):
            box = _work.launcher("apptainer")
            box.forget(spec["instance"], _logs.account(spec.get("user")), work.settings("apptainer"))


def stop(manager, work, indices):
    """Stop instances: the manager signals what it started, the rest of each tree is signalled here, and all is gone."""
    old = manager.specs()
    units = {spec["token"]: unit for unit, spec in old.items()}
    ours = [i for i in indices if work.actions[i].get("token") in units]
    names = [units[work.actions[i]["token"]] for i in ours]
    served = True
    if ours:
        try:
            manager.end(names)
        except Down:
            served = False
        except (Silent, Failed) as error:
            raise Failed("%s; what it would start again is not stopped" % error, "refused")
    told = {work.actions[i]["token"] for i in ours} if served else set()
    _process.stop(work, indices, manager.signals if told else None, told)
    over = [units[work.actions[i]["token"]] for i in ours if work.results[i]["outcome"] in ("gone", "stopped")]
    if over:
        try:
            drop(manager, work, over, old)
        except (Down, Silent, Failed, OSError) as error:
            for i in ours:
                if work.results[i]["outcome"] in ("gone", "stopped"):
                    work.results[i]["message"] += "; %s keeps its name: %s" % (manager.name, error)


def shown(spec):
    """A spec for people: its secrets are asterisks, and what names one start is left out."""
    plain = {key: value for key, value in spec.items() if key not in ("token", "only_boot", "turn")}
    plain["secrets"] = dict.fromkeys(spec.get("secrets") or {}, "********")
    return json.dumps(plain, indent=1, sort_keys=True) + "\n"


def describe(manager, work, indices):
    """What starts would write: path -> {"before", "after"}, texts or None, without secrets."""
    old = manager.specs()
    new = {}
    for i in indices:
        spec = dict(manager.spec(work.actions[i], work.request), turn=turn(old))
        new[spec["unit"]] = spec
    told = {}
    for path, text in manager.files(dict(old, **new)).items():
        try:
            before = _probe.read(path).decode("utf-8", "replace")
        except OSError:
            before = None
        if before is not None or text is not None:
            told[path] = {"before": before, "after": text}
    for unit, spec in new.items():
        told[manager.spec_path(unit)] = {"before": shown(old[unit]) if unit in old else None, "after": shown(spec)}
    return told


def contract(make):
    """The functions of docs/launchers.md for a class of managers, in the order in which they are named there."""

    def parts(work, indices):
        """(manager, its indices): what runs is told to who has it, also where the site names another one by now."""
        every, found = specs(work.folder, make.name), {}
        owners = {spec["token"]: spec.get("manager", {}) for spec in every.values()}
        for i in indices:
            action = work.actions[i]
            settings = action.get("manager", work.settings(make.name))
            owner = owners.get(action.get("token"), settings)
            if make.where(owner) != make.where(settings):
                settings = owner
            found.setdefault(json.dumps(make.where(settings), sort_keys=True), (settings, []))[1].append(i)
        return [(make(settings, work.folder), mine) for settings, mine in found.values()]

    def each(function):
        def run(work, indices):
            for manager, mine in parts(work, indices):
                try:
                    function(manager, work, mine)
                except (Down, Silent) as error:
                    for i in mine:
                        if work.results[i]["outcome"] is None:
                            work.end(i, "refused", str(error))

        return run

    def looked(ask):
        settings = [ask["settings"]]
        for spec in specs(ask["folder"], make.name).values():
            if make.where(spec.get("manager", {})) not in [make.where(one) for one in settings]:
                settings.append(spec.get("manager", {}))
        said = {"rows": [], "states": {}, "possible": [], "problems": []}
        for one in settings:
            seen = observe(make(one, ask["folder"]), ask)
            said["states"].update(seen["states"])
            for key in ("rows", "possible", "problems"):
                said[key] += seen[key]
            if seen.get("silent"):
                said["silent"] = seen["silent"]
        return said

    def told(work, indices):
        files = {}
        for manager, mine in parts(work, indices):
            files.update(describe(manager, work, mine))
        return files

    def missing(settings, folder):
        return make(settings, folder).prerequisites()

    return each(start), each(stop), _process.rotate, told, looked, missing
