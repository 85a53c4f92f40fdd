# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What changes from one release to another: which files, which services stop, start and stay. Nothing but compute.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import hashlib
import json

from ansible_collections.sciops.sites.plugins.module_utils import _launch, _release

UP = ("running", "starting", "waiting")
_FILE = ("digest", "mode", "owner", "group")


def digest(*parts):
    """A word for these parts: equal parts, equal words."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8")).hexdigest()[:12]


def concerns(entry, service):
    """Whether a service is restarted for a file."""
    restarts = entry["restarts"]
    return service["name"] in restarts if isinstance(restarts, list) else restarts == "all" and not service.get("apart")


def prints(services, definitions, build, files):
    """({service: print}, print of the manager): what a running service depends on, in a word.

    `definitions` {service: what its manager would run}, `files` the entries of a manifest. A service goes on with its
    process as long as its print stays the same. One that is `apart` depends neither on what is installed nor on files
    for all: a runner of jobs, for example, that may be running this very deployment.
    """
    found = {}
    for one in services:
        read = sorted((f["dest"], f["digest"]) for f in files if concerns(f, one))
        installed = None if one.get("apart") or not build else [build["id"], build["target"]]
        found[one["name"]] = digest(definitions.get(one["name"], ""), one.get("launch"), installed, read)
    return found, digest(sorted((f["dest"], f["digest"]) for f in files if f["restarts"] == "manager"))


def manifest(version, build, files, launch, services, definitions):
    """What a host is told of a release, see docs/architecture-deploy.md; `files` are entries without texts."""
    found, manager = prints(services, definitions, build, files)
    return {
        "id": _release.release_id(version, build, files, launch, services),
        "version": version,
        "build": build,
        "files": files,
        "launch": launch,
        "services": services,
        "prints": found,
        "manager": manager,
    }


def waves(services):
    """Names of services, together those that may start together: each comes after those of its `after` that are there.

    ValueError where some wait for each other.

    >>> waves([{"name": "cromwell", "after": ["jtm"]}, {"name": "jtm"}, {"name": "rpc"}])
    [['jtm', 'rpc'], ['cromwell']]
    """
    known = {one["name"] for one in services}
    left = [(one["name"], [name for name in one.get("after") or () if name in known]) for one in services]
    found, done = [], set()
    while left:
        ready = [name for name, after in left if done.issuperset(after)]
        if not ready:
            raise ValueError("services that wait for each other: %s" % ", ".join(name for name, _after in left))
        found.append(ready)
        done.update(ready)
        left = [one for one in left if one[0] not in done]
    return found


def ordered(services):
    """Names of services in the order in which they start."""
    return [name for wave in waves(services) for name in wave]


def managers(manifest):
    """({service: (launch method, its settings)} of a release, those of the deployment, which not every one shares)."""
    if manifest is None:
        return {}, None
    launch = manifest["launch"]
    found = {
        one["name"]: (method, settings)
        for method, settings, some in _launch.groups(launch, manifest["services"])
        for one in some
    }
    return found, (launch.get("method"), launch.get(launch.get("method")) or {})


def plan(old, new, states, drift, touched, edited=False):
    """How the host gets from release `old` (None before the first) to `new`.

    `states` {name: word} are those of the services as they are, also of those that only `new` has: others may have
    started what now becomes ours. `drift` {dest: why} are the files of `new` that are not as `new` has them although
    `old` has them so, `touched` the names of services that may have read a file with other content,
    `edited` whether the manager may have.

    Returns {"stop", "start", "load", "gone", "kept": names in order, "theirs": names in order of services of `new`
    that run and are of no release, to be stopped with the rest, "alone": those that go on as they run, "put": indices
    of files, "drop": paths, "link": bool, "manager": bool}.
    """
    after = [one["name"] for one in new["services"]]
    (before, former), (here, own) = managers(old), managers(new)
    manager = bool(old) and _same_manager(former, own) and (edited or old["manager"] != new["manager"])
    # a service under a manager of its own has nothing to do with settings and files of the deployment's
    changed = [
        name
        for name in after
        if name in before
        and (
            before[name] != here[name]
            or old["prints"].get(name) != new["prints"].get(name)
            or name in touched
            or (manager and here[name] == own)
        )
    ]
    gone = [name for name in ordered(old["services"]) if name not in after] if old else []
    fresh = [name for name in after if name not in before]
    # a start does nothing to what runs, which would then be taken for what this release has started
    running = [one for one in new["services"] if one["name"] in fresh and states.get(one["name"]) in UP]
    alone = [one["name"] for one in running if one.get("apart") or here[one["name"]][0] == "process"]
    theirs = [one["name"] for one in running if one["name"] not in alone]
    fresh = [name for name in fresh if name not in alone]
    # a service that should run and does not is started again; what keeps its process is left alone
    idle = [n for n in after if n not in changed and n not in fresh and states.get(n, "unknown") not in UP]
    stop = [name for name in changed if states.get(name) != "stopped"]
    stop += [name for name in gone if states.get(name) != "stopped"]
    start = ordered(new["services"])
    backwards = list(reversed(ordered(old["services"]))) if old else []
    there = {one["dest"]: one for one in old["files"]} if old else {}
    put = [
        index
        for index, one in enumerate(new["files"])
        if one["dest"] in drift or any(one[key] != there.get(one["dest"], {}).get(key) for key in _FILE)
    ]
    wanted = {one["dest"] for one in new["files"]}
    return {
        "stop": [name for name in backwards if name in stop],
        "start": [name for name in start if name in changed or name in fresh or name in idle],
        "load": [name for name in start if name in changed or name in fresh],
        "gone": gone,
        "kept": [name for name in start if name not in changed and name not in fresh and name not in idle],
        "theirs": [name for name in reversed(start) if name in theirs],
        "alone": [name for name in start if name in alone],
        "put": put,
        "drop": sorted(dest for dest in there if dest not in wanted),
        "link": _link(old) != _link(new),
        "manager": manager,
    }


def _same_manager(former, own):
    """Whether two (method, settings) mean one manager: with other words about it, a timeout say, it is still that."""
    return (former[0], former[1].get("config")) == (own[0], own[1].get("config"))


def _link(manifest):
    build = manifest["build"] if manifest else None
    return (build["link"], build["target"]) if build and build.get("link") else None


def empty(todo):
    """Whether there is nothing to do."""
    return not any(todo[key] for key in ("stop", "start", "load", "gone", "put", "drop", "link", "manager"))


def barred(todo, states):
    """Services whose state nobody knows and that would have to be stopped or started."""
    return [name for name in todo["stop"] + todo["start"] if states.get(name) == "unknown"]


def settle(service):
    """How long a service must be up without a break to count as up, in seconds."""
    return service.get("settle", 3)


def judge(services, seen, since, now, sick):
    """(those that do not count as up yet: {name: why}, those that have failed: {name: why}).

    `seen` are states as a launch method gives them, `since` {name: (when, pid)} from when on each is seen up without
    another process, `sick` {name: what its health check says}. A job that waits in a queue counts as up.
    """
    pending, failed = {}, {}
    for one in services:
        name = one["name"]
        state = seen.get(name) or {"state": "unknown", "why": "is not known"}
        if state["state"] == "failed":
            failed[name] = state["why"] or "failed"
        elif state["state"] == "waiting":
            continue
        elif state["state"] != "running":
            pending[name] = "%s%s" % (state["state"], ": " + state["why"] if state["why"] else "")
        elif now - since[name][0] < settle(one):
            pending[name] = "up for less than %g s" % settle(one)
        elif sick.get(name):
            pending[name] = sick[name]
    return pending, failed
