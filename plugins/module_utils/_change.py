# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""One change of a target, as a person asked for it: what it means here and now, and its way through the worker.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import os
import time

from ansible_collections.sciops.sites.plugins.module_utils import (
    _files,
    _installs,
    _probe,
    _switch,
    _switching,
    _transaction,
)


def carry_out(params, check):
    """The result of the module for these options."""
    store = _transaction.Store(params["root"])
    if check:
        if store.busy():
            raise _transaction.Busy("%s: a change is under way%s" % (store.root, store.doing()))
        return _asked(store, params, True)
    store.lock()

    def work():
        try:
            return _asked(store, params, False)
        except _switch.FAILURES as error:
            return dict({"failed": True, "changed": True, "msg": str(error)}, **getattr(error, "facts", {}))

    return _transaction.detached(store, work)


def _asked(store, params, check):
    recovered = None
    if check and store.journal():
        recovered = "a change had been cut off; a run puts that right first"
    elif not check:
        recovered = _switch.recover(store)
    work = _activate if params["state"] in ("active", "previous") else _services
    result = work(store, params, check)
    result.update(recovered=recovered, changed=result["changed"] or recovered is not None)
    return result


def _result(store, state, services, **facts):
    live = state["activations"][-1] if state["activations"] else None
    result = {
        "changed": False,
        "release": live,
        "previous": live,
        "outcome": "unchanged",
        "steps": [],
        "downtime": None,
    }
    result.update(stopped=[], started=[], kept=[], drift={}, notes=[], services_seen=services)
    result.update(facts)
    return result


# --- releases


def _activate(store, params, check):
    state, old = store.state(), store.current()
    new = params["manifest"] if params["state"] == "active" else _previous(store, state)
    _allowed(state, new, old, params)
    states = _switch.Services(old).states()
    states.update(_up_already(new, states))
    drift = _drift(old, new)
    touched, manager = _touched(new, drift, states)
    words = {name: one["state"] for name, one in states.items()}
    todo = _switching.plan(old, new, words, drift, touched, manager)
    if new["build"] and not todo["link"]:
        astray = _build_drift(new["build"])
        todo["link"] = bool(astray)
        drift.update(astray)
    astray = {name: one["drift"] for name, one in states.items() if one.get("drift") and name in todo["kept"]}
    todo["load"] += astray
    drift.update(astray)
    result = _result(store, state, states, drift=drift, previous=old and old["id"])
    result["notes"] += _strangers(todo)
    if state["stopped"]:
        # somebody has started these since; what is stopped for the switch must not stay down for it
        halted = [name for name in todo["stop"] + todo["theirs"] if words.get(name) in _switching.UP]
        todo["start"] = [name for name in todo["start"] if name in halted]
        said = "its services were stopped by %s%s; playbooks/start.yml starts them"
        stopped = state["stopped"]
        result["notes"].append(said % (stopped["by"] or "somebody", stopped["reason"] and ": " + stopped["reason"]))
    same = old is not None and old["id"] == new["id"]
    result.update(stopped=todo["stop"] + todo["theirs"], started=todo["start"], kept=todo["kept"])
    result["diff"] = _diff(old, new, todo)
    if same and _switching.empty(todo):
        return result
    barred = _switching.barred(todo, words)
    if barred:
        said = "; ".join("%s: %s" % (name, states[name]["why"]) for name in barred)
        raise _transaction.Trouble("nobody knows whether these run, so nothing was touched: %s" % said)
    result.update(changed=True, release=new["id"], outcome="activated")
    if check:
        return result
    becomes = _remembered(state, old, new, params)
    if not same:
        store.keep(dict(new, at=time.time()))
    try:
        facts = _switch.Switch(store, old, new, todo).run(becomes)
    except _switch.FAILURES as error:
        if not same and getattr(error, "facts", {}).get("failed_step") in ("start", "verify"):
            state["rejected"][new["id"]] = str(error)
            store.remember(state)
        raise
    result["notes"] += facts.pop("notes") + _sweep(store, params["keep"])
    result.update(facts)
    result["services_seen"] = _switch.Services(new).states()
    return result


def _up_already(new, states):
    """States of services that run although no release has had them so far.

    One that is unknown is left to the start, which looks again: its manager may be one that only the files of this
    release make known, such as the supervisord that an earlier try has left without its configuration.
    """
    after = _switch.Services(new)
    found = after.states([name for name in after.by_name if name not in states])
    return {name: one for name, one in found.items() if one["state"] in _switching.UP}


def _strangers(todo):
    """What becomes of services that ran before any release had them, in words."""
    said = (
        ("ran before they were of a release, so they are stopped and started anew: %s", todo["theirs"]),
        ("ran before they were of a release and go on as they are, to be restarted by hand: %s", todo["alone"]),
    )
    return [words % ", ".join(names) for words, names in said if names]


def _previous(store, state):
    before = [ident for ident in state["activations"] if ident != (state["activations"] or [None])[-1]]
    found = store.manifest(before[-1]) if before else None
    if found is None:
        raise _transaction.Trouble("%s: there is no release before this one to go back to" % store.root)
    if found["build"] and not os.path.exists(found["build"]["target"]):
        raise _transaction.Trouble("release %s: %s is gone" % (found["id"], found["build"]["target"]))
    return found


def _allowed(state, new, old, params):
    why = state["rejected"].get(new["id"])
    if why and params["state"] == "active" and not params["retry"] and not (old and old["id"] == new["id"]):
        words = "release %s was taken back here: %s. Deploy another version, or say retry to try this one again."
        raise _transaction.Trouble(words % (new["id"], why))
    _switching.waves(new["services"])


def _remembered(state, old, new, params):
    after = {key: dict(value) if isinstance(value, dict) else value for key, value in state.items()}
    after["rejected"].pop(new["id"], None)
    activations = list(state["activations"])
    if params["state"] == "previous":
        after["rejected"][old["id"]] = params["reason"] or "taken back by %s" % (params["by"] or "somebody")
        activations = [ident for ident in activations if ident != old["id"]]
    if activations[-1:] != [new["id"]]:
        activations.append(new["id"])
    after["activations"] = activations
    return after


def _drift(old, new):
    """{dest: why} of the files that stay the same from one release to the other and are not as they should be."""
    same = {one["dest"]: one for one in old["files"]} if old else {}
    kept = [
        one
        for one in new["files"]
        if all(one[key] == same.get(one["dest"], {}).get(key) for key in ("digest", "mode", "owner", "group"))
    ]
    return dict(_files.drift(kept))


def _touched(new, drift, states):
    """(services that began after a file that concerns them was changed by somebody, whether one of a manager was)."""
    touched, manager = set(), False
    for entry in new["files"]:
        if not drift.get(entry["dest"], "").startswith("content"):
            continue
        if entry["restarts"] == "manager":
            manager = True
            continue
        edited = os.stat(entry["dest"]).st_ctime
        for one in new["services"]:
            # one with definitions: who began since may be what they said for a while
            named = _switching.concerns(entry, one) or (entry["restarts"] == "none" and not one.get("apart"))
            if named and _began(states.get(one["name"], {}).get("pid")) > edited:
                touched.add(one["name"])
    return touched, manager


def _began(pid):
    """When a process began, unix time; infinity where it is not one of this host."""
    process = _probe.look(pid) if pid else None
    if process is None:
        return float("inf")
    return time.time() - _probe.uptime() + process.start / float(os.sysconf("SC_CLK_TCK"))


def _diff(old, new, todo):
    """What changes, as before and after; never what is in a file."""

    def lines(manifest, names):
        if manifest is None:
            return ""
        found = ["release %s" % manifest["id"]]
        if manifest["build"] and manifest["build"].get("link"):
            found.append("%s -> %s" % (manifest["build"]["link"], manifest["build"]["target"]))
        there = {one["dest"]: one for one in manifest["files"]}
        found += ["%s %s %s" % (there[n]["mode"], there[n]["digest"][:12], n) for n in names if n in there]
        return "".join(line + "\n" for line in found)

    names = sorted({new["files"][index]["dest"] for index in todo["put"]} | set(todo["drop"]))
    before = lines(old, names)
    after = lines(new, names) + "".join("restart %s\n" % name for name in todo["start"])
    return {"before_header": "release", "after_header": "release", "before": before, "after": after}


def _sweep(store, keep):
    """Remove releases and builds that nothing needs any more; what could not be removed, in words."""
    store.forget(keep)
    try:
        _installs.prune(store.root, keep, _installs.used(store.root))
    except _switch.FAILURES as error:
        return ["old builds could not be removed: %s" % error]
    return []


def inform(root):
    """What is live at a target, what runs of it, and what is not as it was put."""
    store = _transaction.Store(root)
    state, live, journal = store.state(), store.current(), store.journal()
    busy = store.busy()
    found = {"release": live and live["id"], "version": live and live["version"], "busy": busy}
    found.update(stopped=state["stopped"], rejected=state["rejected"], activations=state["activations"])
    found["cut_off"] = journal["phase"] if journal and not busy else None
    found["services"] = _switch.Services(live).states() if live else {}
    drift = dict(_files.drift(live["files"])) if live else {}
    if live and live["build"]:
        drift.update(_build_drift(live["build"]))
    drift.update((name, one["drift"]) for name, one in found["services"].items() if one.get("drift"))
    touched, _manager = _touched(live, drift, found["services"]) if live else (set(), False)
    found.update(drift=drift, doubtful=sorted(touched))
    return found


def _build_drift(build):
    link, target = build.get("link"), build["target"]
    if not os.path.exists(target):
        return {target: "missing"}
    if link and (not os.path.islink(link) or os.readlink(link) != target):
        return {link: "does not point at %s" % target}
    return {}


# --- services of the live release


def _services(store, params, check):
    state, live = store.state(), store.current()
    if live is None:
        raise _transaction.Trouble("%s: nothing is deployed here yet" % store.root)
    services = _switch.Services(live)
    unknown = [name for name in params["services"] if name not in services.by_name]
    if unknown:
        known = ", ".join(services.by_name)
        raise _transaction.Trouble("services: %s: not among those deployed here: %s" % (", ".join(unknown), known))
    names = [name for name in _switching.ordered(live["services"]) if name in (params["services"] or services.by_name)]
    states = services.states()
    up = [name for name in names if states[name]["state"] in _switching.UP]
    stop = [] if params["state"] == "started" else [name for name in names if states[name]["state"] != "stopped"]
    start = {"started": [name for name in names if name not in up], "stopped": [], "restarted": names}[params["state"]]
    barred = [name for name in stop + start if states[name]["state"] == "unknown"]
    if barred:
        said = "; ".join("%s: %s" % (name, states[name]["why"]) for name in barred)
        raise _transaction.Trouble("nobody knows whether these run, so nothing was touched: %s" % said)
    result = _result(
        store, state, states, stopped=stop, started=start, kept=[n for n in names if n not in stop + start]
    )
    intent = _intent(state, params)
    result["changed"] = bool(stop or start) or intent != state["stopped"]
    if not result["changed"] or check:
        return result
    began = time.monotonic()
    store.note({"what": params["state"], "pid": os.getpid(), "phase": params["state"], "at": time.time()})
    try:
        store.remember(dict(state, stopped=intent))
        if stop:
            result["notes"] += services.stop(stop)
        if params["state"] == "stopped":
            services.rest(names)
        if start:
            services.load(start, [])
            services.start(start)
            result["notes"] += services.verify(start)
            result["downtime"] = round(time.monotonic() - began, 3)
    finally:
        store.note(None)
    result["outcome"] = params["state"]
    result["services_seen"] = services.states()
    return result


def _intent(state, params):
    """What is remembered of a stop: only one of everything is an intent that a deployment respects.

    It ends with what starts everything, a restart too: else the next deployment would take down what runs.
    """
    if params["services"]:
        return state["stopped"]
    if params["state"] in ("started", "restarted"):
        return None
    return state["stopped"] or {"by": params["by"], "at": time.time(), "reason": params["reason"]}
