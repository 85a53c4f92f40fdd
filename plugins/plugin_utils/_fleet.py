# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a fleet at one moment: who answered, what runs there for certain, and what may run elsewhere.

Counts are intervals. `certain` instances are on hosts that answered; `possible` ones add what was last seen on hosts
that did not answer, starts whose reply was lost, and what another controller may have started meanwhile. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import PROCESS, is_up, launcher_for

DEFAULT_HEALTHY_AFTER = 60.0
DEFAULT_LOST_AFTER = 3600.0
# What an instance of a component that nobody declares costs, when it was never declared within memory:
# unknown is never zero, so it is taken for one hot process.
UNKNOWN_LOAD = 1.0


@dataclass(slots=True)
class Running:
    """One instance on a host that answered; `age` is in seconds, `flaw` says what is wrong with it ("" is healthy).

    `stale` says in what it differs from what is declared ("" where it does not), `state` and `unit` are the words of
    its manager, `renew` the launcher's reason for queueing its successor now.
    """

    component: str
    host: str
    slot: int | None
    token: str | None
    pid: int
    start: int
    owned: bool
    age: float
    flaw: str
    stale: str
    leader: bool
    log: str | None
    log_size: float | None
    launcher: str = PROCESS
    state: str = ""
    unit: str = ""
    renew: str = ""

    def available(self, healthy_after: float) -> bool:
        """Whether it runs at this moment, nothing is wrong with it, and it has done so for `healthy_after` seconds."""
        return not self.flaw and is_up(self.state) and self.age >= healthy_after


@dataclass(slots=True)
class Maybe:
    """Instances that may run where a host or a manager cannot say; `why` ends "2 possibly running on c9-1 (..)"."""

    host: str
    count: int
    slots: tuple[int, ...]
    why: str


@dataclass(slots=True)
class Host:
    """One host as the planner sees it; loads and sizes include what a plan adds (placement changes them)."""

    name: str
    order: int
    declared: bool
    answered: bool
    kind: str
    why: str
    held: str
    drained: str
    classes: frozenset[str]
    hot_limit: float | None
    memory: float | None
    max_instances: int | None
    max_load: float | None
    cores: float
    seen: bool
    ranked: tuple[str, ...] = ()
    silent: dict[str, str] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)
    load: float = 0.0
    used: float = 0.0
    count: int = 0
    busy: float | None = None
    per_component: dict[str, int] = field(default_factory=dict)
    #: What the host could not read, and what managers on it say of what they gave up.
    problems: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether something may be started here: it answered and nobody holds or drains it."""
        return self.answered and self.declared and not self.held and not self.drained


def reading(observation: Any) -> tuple[bool, str, str]:
    """Judge one observation.

    Returns (answered, kind, why). Whatever does not look like an observation did not answer: unknown is never zero.
    """
    if observation is None:
        return False, "skipped", "was not asked"
    if not isinstance(observation, dict):
        return False, "garbled", "answer is not an observation"
    if observation.get("superseded"):
        holder = (observation.get("fence") or {}).get("holder", "another controller")
        return False, "superseded", f"a later pass of {holder} has been here"
    if observation.get("answered") is not True:
        return False, str(observation.get("kind") or "unreachable"), str(observation.get("reason") or "no answer")
    instances = observation.get("instances")
    if not isinstance(instances, list) or not all(_is_instance(one) for one in instances):
        return False, "garbled", "the list of instances does not parse"
    possible = observation.get("possible") or []
    if not isinstance(possible, list) or not all(_is_possible(one) for one in possible):
        return False, "garbled", "the list of what may run does not parse"
    silent = observation.get("silent") or {}
    if not isinstance(silent, dict) or not all(isinstance(why, str) for why in silent.values()):
        return False, "garbled", "the list of managers that do not answer does not parse"
    over = observation.get("over") or {}
    if not isinstance(over, dict) or not all(isinstance(how, str) for how in over.values()):
        return False, "garbled", "the list of what is over does not parse"
    return True, "", ""


def _is_text(one: dict[str, Any], *keys: str) -> bool:
    return all(one.get(key) is None or isinstance(one[key], str) for key in keys)


def _is_possible(one: Any) -> bool:
    """Whether this names one instance; without a token nobody could tell two of them, or know one again."""
    return (
        isinstance(one, dict)
        and isinstance(one.get("component"), str)
        and isinstance(one.get("token"), str)
        and (one.get("slot") is None or isinstance(one["slot"], int))
        and _is_text(one, "launcher", "why")
    )


def _is_instance(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("component"), str)
        and isinstance(one.get("pid"), int)
        and isinstance(one.get("age"), (int, float))
        and (one.get("slot") is None or isinstance(one["slot"], int))
        and _is_text(one, "launcher", "state", "unit", "renew", "hash", "token")
    )


def fits_class(spec: dict[str, Any], classes: frozenset[str]) -> bool:
    """Whether a host of these classes may run the component: one of the wanted classes, none of the avoided."""
    wanted = spec.get("classes") or ()
    return (not wanted or any(one in classes for one in wanted)) and not any(
        one in classes for one in spec.get("avoid") or ()
    )


def signature(spec: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the key under which components with the same eligible hosts share what was computed."""
    return tuple(sorted(spec.get("classes") or ())), tuple(sorted(spec.get("avoid") or ()))


class Holds:
    """Who holds or drains what. A hold beats a drain; every text says by whom and why."""

    def __init__(self, declaration: dict[str, Any], memory: dict[str, Any], options: dict[str, Any]) -> None:
        self.halted = ""
        self.site_drain = ""
        self.held: dict[str, str] = {}
        self.drained: dict[str, str] = {}
        unix_time = options.get("unix_time")
        holds = options.get("holds")
        if holds is None:
            holds = [*(declaration.get("holds") or ()), *(memory.get("holds") or ())]
        for hold in sorted(holds, key=lambda one: (str(one.get("scope")), str(one.get("mode")), str(one.get("owner")))):
            until = hold.get("until")
            if until is not None and unix_time is not None and until <= unix_time:
                continue
            self._add(str(hold.get("scope")), str(hold.get("mode")), hold)

    def _add(self, scope: str, mode: str, hold: dict[str, Any]) -> None:
        verb = {"hold": "held", "drain": "drained", "halt": "halted"}.get(mode, "held")
        text = f"{verb} by {hold.get('owner') or 'nobody named'}"
        if hold.get("reason"):
            text += f": {hold['reason']}"
        if scope == "site":
            if mode == "drain":
                self.site_drain = self.site_drain or text
            else:
                self.halted = self.halted or text
        else:
            where = self.drained if mode == "drain" else self.held
            where.setdefault(scope, text)

    def of_component(self, name: str) -> tuple[str, str]:
        """Return (held, drained) texts that concern the component, its pipe or the whole site."""
        pipe = f"pipe:{name.split('/', 1)[0]}"
        own = f"component:{name}"
        held = self.held.get(own) or self.held.get(pipe) or ""
        return held, self.drained.get(own) or self.drained.get(pipe) or self.site_drain


class Fleet:
    """The whole picture that a plan is made from; reading order of the inputs does not matter."""

    def __init__(
        self,
        declaration: dict[str, Any],
        observations: dict[str, Any],
        memory: dict[str, Any],
        now: float,
        options: dict[str, Any],
    ) -> None:
        self.now = now
        self.components: dict[str, dict[str, Any]] = declaration.get("components") or {}
        self.set_aside: dict[str, str] = declaration.get("set_aside") or {}
        self.policy: dict[str, Any] = declaration.get("policy") or {}
        self.memory = memory
        self.holds = Holds(declaration, memory, options)
        self.limit = None if options.get("limit") is None else frozenset(options["limit"])
        self.assumed_lost = frozenset(options.get("assume_lost") or ())
        self.lost_after = float(self.policy.get("lost_after", DEFAULT_LOST_AFTER))
        self.hosts: dict[str, Host] = {}
        self.certain: dict[str, list[Running]] = {}
        self.maybe: dict[str, list[Maybe]] = {}
        self.notes: list[str] = []
        self._told: set[tuple[Any, ...]] = set()
        self.established_elsewhere = 0
        self._eligible: dict[Any, list[Host]] = {}
        self._hosts(declaration.get("hosts") or {}, observations)
        self._remembered()
        self._pending()
        self._foreign()

    # -- hosts ------------------------------------------------------------------------------------------------

    def _hosts(self, declared: dict[str, Any], observations: dict[str, Any]) -> None:
        remembered = self.memory["hosts"]
        names = set(declared) | set(observations) | set(remembered)
        in_doubt = {one["host"] for one in self.memory["pending"]}
        for name in sorted(names, key=lambda one: (declared.get(one, {}).get("order", len(declared)), one)):
            spec = declared.get(name)
            observation = observations.get(name) or {}
            answered, kind, why = reading(observations.get(name))
            if self.limit is not None and name not in self.limit:
                answered, kind, why = False, "skipped", "outside --limit"
            elif answered and name in in_doubt:
                # the observation is older than the start whose reply was lost: what runs now is not known
                answered, kind, why = False, "unknown", "the reply to a start was lost"
            host = self._host(name, spec, observation if answered else {}, (answered, kind, why))
            if spec is None and answered and not host.held:
                host.drained = host.drained or "no longer declared"
            self.hosts[name] = host
            if answered:
                self._instances(host, observation)
                self._possible(host, observation)

    def _host(
        self, name: str, spec: dict[str, Any] | None, seen: dict[str, Any], judged: tuple[bool, str, str]
    ) -> Host:
        given = spec or {}
        answered, kind, why = judged
        total = (seen.get("memory") or {}).get("total")
        loadavg = seen.get("loadavg") or ()
        drained = self.holds.drained.get(f"host:{name}", "")
        if not drained and given.get("state") == "drain":
            drained = "drained by its declaration"
        return Host(
            name=name,
            order=int(given.get("order", 1 << 30)),
            declared=spec is not None,
            answered=answered,
            kind=kind,
            why=why,
            held=self.holds.held.get(f"host:{name}", "") or (seen.get("frozen") or "" if answered else ""),
            drained=drained,
            classes=frozenset(given.get("classes") or ()),
            hot_limit=given.get("hot_limit"),
            memory=given.get("memory") if given.get("memory") is not None else total,
            max_instances=given.get("max_instances"),
            max_load=given.get("max_load"),
            cores=float(seen.get("cores") or 1),
            seen=name in self.memory["hosts"],
            ranked=tuple(given.get("classes") or ()),
            silent=dict(seen.get("silent") or {}),
            busy=float(loadavg[0]) if loadavg else None,
            problems=tuple(str(words) for words in seen.get("problems") or ()),
        )

    def _instances(self, host: Host, observation: dict[str, Any]) -> None:
        for raw in observation["instances"]:
            name = raw["component"]
            if self._is_told(observation.get("boot_id"), raw):
                continue
            owned = bool(raw.get("owned", True))
            one = Running(
                component=name,
                host=host.name,
                slot=raw.get("slot"),
                token=raw.get("token"),
                pid=raw["pid"],
                start=int(raw.get("start") or 0),
                owned=owned,
                age=float(raw["age"]),
                flaw=str(raw.get("health") or ""),
                stale=self._stale(host, raw) if owned else "",
                leader=bool(raw.get("leader", True)),
                log=raw.get("log"),
                log_size=raw.get("log_size"),
                launcher=raw.get("launcher") or PROCESS,
                state=raw.get("state") or "",
                unit=raw.get("unit") or "",
                renew=raw.get("renew") or "",
            )
            host.running.append(one)
            self.certain.setdefault(name, []).append(one)
            cost = self._occupy(host, name)
            if host.busy is not None and one.age < DEFAULT_HEALTHY_AFTER:
                # the load average of one minute does not yet hold what started within that minute
                host.busy += cost["load"]

    def _occupy(self, host: Host, name: str) -> dict[str, Any]:
        """Count one instance of a component among what its host bears; return its cost."""
        cost = self.cost(name)
        host.load += cost["load"]
        host.used += cost["memory"]
        host.count += 1
        host.per_component[name] = host.per_component.get(name, 0) + 1
        return cost

    def _stale(self, host: Host, raw: dict[str, Any]) -> str:
        """Say in what an instance of ours differs from its declaration; "" where it does not."""
        spec = self.components.get(raw["component"])
        if spec is None:
            return ""
        if raw.get("hash") and spec.get("hash") and raw["hash"] != spec["hash"]:
            return f"runs configuration {raw['hash']}, {spec['hash']} is declared"
        asked = self.memory["restarts"].get(raw["component"])
        if asked is not None and self.now - raw["age"] < asked:
            return "a restart was asked for"
        had, wanted = raw.get("launcher") or PROCESS, self.launcher_for(spec, host)
        return f"runs under {had}, {wanted} is declared" if host.declared and had != wanted else ""

    def _possible(self, host: Host, observation: dict[str, Any]) -> None:
        """Take in what may run on a host that answered: its manager does not, or says what nobody understands."""
        remembered = (self.memory["hosts"].get(host.name) or {}).get("instances", ())
        known = {one["token"]: one for one in remembered if one.get("token")}
        told = {one.token for one in host.running if one.token}
        for raw in observation.get("possible") or ():
            if raw["token"] in told:
                continue
            told.add(raw["token"])
            name, had = raw["component"], known.get(raw["token"]) or {}
            # what bears on the host does so whether or not it is given up elsewhere
            self._occupy(host, name)
            self.established_elsewhere += bool(had.get("established"))
            if not self._is_gone(name, host.name, self.now - had.get("doubt", self.now)):
                why = raw.get("why") or f"{raw.get('launcher') or 'its manager'} does not answer"
                slots = (raw["slot"],) if raw.get("slot") else ()
                self.maybe.setdefault(name, []).append(Maybe(host.name, 1, slots, why))

    def _is_told(self, boot_id: str | None, one: dict[str, Any]) -> bool:
        """Whether a process without our marker, which names no host, was seen by another logical host of its machine.

        If not, it is noted as seen.
        """
        if one.get("owned", True) or not boot_id:
            return False
        process = (boot_id, one["pid"], one.get("start"), one["component"])
        told = process in self._told
        self._told.add(process)
        return told

    def cost(self, name: str) -> dict[str, Any]:
        """Return {"load", "memory", "uses"} of one instance, from the declaration, else as last declared."""
        spec = self.components.get(name) or self.memory["costs"].get(name)
        if spec is None:
            return {"load": UNKNOWN_LOAD, "memory": 0.0, "uses": {}}
        return {
            "load": float(spec.get("load") or 0.0),
            "memory": float(spec.get("memory") or 0.0),
            "uses": spec.get("uses") or {},
        }

    # -- what may run where nobody answered -----------------------------------------------------------------------

    def _is_gone(self, name: str, host: str, age: float) -> bool:
        """Whether a last known instance is given up: by age, but a singleton only by a person's word."""
        if host in self.assumed_lost:
            return True
        if (self.components.get(name) or {}).get("singleton"):
            return False
        return age > self.lost_after

    def _remembered(self) -> None:
        for host in self.hosts.values():
            known = self.memory["hosts"].get(host.name)
            if host.answered or known is None:
                continue
            age = self.now - known["seen"]
            groups: dict[str, list[int]] = {}
            for one in known["instances"]:
                if self._is_told(known["boot_id"], one):
                    continue
                self.established_elsewhere += bool(one.get("established"))
                if not self._is_gone(one["component"], host.name, age):
                    groups.setdefault(one["component"], []).append(one.get("slot") or 0)
            for name, slots in groups.items():
                numbers = tuple(slot for slot in slots if slot)
                self.maybe.setdefault(name, []).append(Maybe(host.name, len(slots), numbers, host.why))
            if groups and not host.declared:
                total = sum(len(slots) for slots in groups.values())
                self.notes.append(
                    f"{host.name} is no longer declared and had {total} instances when last seen; "
                    "declare it with state: drain until they are stopped"
                )

    def _pending(self) -> None:
        for one in self.memory["pending"]:
            host = one["host"]
            known = self.memory["hosts"].get(host) or {}
            if any(had.get("token") == one["token"] for had in known.get("instances", ())):
                continue
            if not self._is_gone(one["component"], host, self.now - one["at"]):
                slots = (one["slot"],) if one.get("slot") else ()
                self.maybe.setdefault(one["component"], []).append(
                    Maybe(host, 1, slots, "the reply to its start was lost")
                )

    def _foreign(self) -> None:
        foreign = self.memory.get("foreign") or {}
        since = foreign.get("since") or {}
        silent = [
            self.hosts[name]
            for name in sorted(foreign.get("hosts") or ())
            if name in self.hosts and not self.hosts[name].answered
        ]
        if not silent:
            return
        why = f"{foreign.get('holder', 'another controller')} may have started it there"
        for name, spec in self.components.items():
            for host in silent:
                if not fits_class(spec, host.classes):
                    continue
                if not self._is_gone(name, host.name, self.now - since.get(host.name, self.now)):
                    full = int(spec["count"]["max"])
                    self.maybe.setdefault(name, []).append(Maybe(host.name, full, (), why))

    # -- questions -----------------------------------------------------------------------------------------------

    def eligible(self, spec: dict[str, Any]) -> list[Host]:
        """Declared hosts whose classes allow the component, answered or not, by name."""
        key = signature(spec)
        found = self._eligible.get(key)
        if found is None:
            found = [host for host in self.hosts.values() if host.declared and fits_class(spec, host.classes)]
            found.sort(key=lambda host: host.name)
            self._eligible[key] = found
        return found

    def launcher_for(self, spec: dict[str, Any], host: Host) -> str:
        """Return the launcher of a component on a host."""
        return launcher_for(spec, {"classes": host.ranked})

    def silence(self, spec: dict[str, Any], host: Host) -> str:
        """Say that the manager by which the component would be started on a host does not answer; "" where it does."""
        launcher = self.launcher_for(spec, host) if host.silent else ""
        return f"{launcher} does not answer: {host.silent[launcher]}" if launcher in host.silent else ""

    def failure(self, name: str) -> dict[str, Any] | None:
        """Return what failed lately of the component as it is declared now; a rejected version holds nothing up."""
        entry: dict[str, Any] | None = self.memory["failures"].get(name)
        return None if entry is None or entry.get("rejected") else entry

    def beyond(self, name: str) -> int:
        """Return how many instances may run beyond the certain ones."""
        return sum(one.count for one in self.maybe.get(name, ()))

    def never_answered(self, spec: dict[str, Any]) -> list[str]:
        """Eligible hosts that do not answer and never did, and that nobody gave up: a singleton may be there."""
        return [
            host.name
            for host in self.eligible(spec)
            if not host.answered and not host.seen and host.name not in self.assumed_lost
        ]

    def healthy_after(self, name: str) -> float:
        """Seconds after which an instance of the component counts as established."""
        return float((self.components.get(name) or {}).get("healthy_after", DEFAULT_HEALTHY_AFTER))
