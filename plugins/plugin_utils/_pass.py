# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One pass: observe, plan, apply, verify, remember. PRIVATE to the collection.

Everything that decides is in `_planner` and `_memory`, which are pure; everything that touches the world comes in as a
parameter: the fleet (hosts), the stores (the controller's disk and clocks), the gates. Order matters here and nowhere
else:

- the kill switch is read before anything, the lock is taken before anything is read that a pass changes;
- the pass number is on disk before the first host hears it, so no two passes of one controller ever share one;
- what is about to be done is on disk before a host is told, so a lost reply or a killed controller leaves a start that
  counts as possibly running, never one that nobody knows of.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import secrets
import socket
import time
import typing as t

from ansible_collections.sciops.sites.plugins.plugin_utils import (
    _describe,
    _holds,
    _memory,
    _planner,
    _render,
    _updates,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._apply import (
    ACTED,
    apply_time,
    converged,
    join_results,
    replacements,
    request_for,
    skip_words,
    waves,
    went_wrong,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._files import StoreError
from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import PROCESS, launcher_for
from ansible_collections.sciops.sites.plugins.plugin_utils._options import Options
from ansible_collections.sciops.sites.plugins.plugin_utils._store import OUTCOMES, Busy, Store, login

Json = dict[str, t.Any]

#: Rounds of plan and apply in one pass: a failed start goes on to the next host, a stopped singleton starts elsewhere.
#: A pass with an update goes on beyond them while each of its rounds makes progress: what was stopped starts again.
ROUNDS = 4
PROGRESS = ("started", "stopped", "gone", "failed")


class Fleet(t.Protocol):
    """The hosts, as a pass sees them."""

    def ask(self, requests: t.Mapping[str, t.Any], width: int, limit: float) -> dict[str, Json]:
        """Send each host its request side by side, return an observation for every one of them."""


class Request(t.NamedTuple):
    """One request for one host, with its wall-clock limit in seconds."""

    request: Json
    timeout: float


class Refused(Exception):
    """The pass must not act; C(outcome) is a word of OUTCOMES."""

    def __init__(self, outcome: str, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


class Again(Exception):
    """The hosts must be asked once more, with the number that the pass has now."""


class SitePass:
    """One pass over one site and deployment."""

    def __init__(
        self,
        declaration: Json,
        store: Store,
        options: Options,
        gates: t.Callable[[Json], Json],
        secret: t.Callable[[Json], str],
        wall: t.Callable[[], float] = time.time,
    ) -> None:
        #: What is declared, and what the pass works with: proven versions in the place of rejected ones.
        self.declared = declaration
        self.declaration = declaration
        self.store = store
        self.options = options.of(declaration["components"])
        self._gates = gates
        self._secret = secret
        self._wall = wall
        self._exit = contextlib.ExitStack()
        self.site: str = declaration["site"]
        self.policy: Json = declaration["policy"]
        self.memory: Json = {}
        self.number = 0
        self.holder = ""
        #: Whether this controller has no memory of an earlier pass.
        self.fresh = False
        self.observations: dict[str, Json] = {}
        self.first_plan: Json | None = None
        self.plan: Json | None = None
        self.results: list[Json] = []
        #: In diff mode, the files of managers that the first plan's starts change.
        self.files: list[Json] = []
        self.spent = {"starts": 0, "stops": 0}
        self.failed_here: list[list[str]] = []
        self.gates: Json = {}
        self.halt: Json | None = None
        self.holds: list[Json] = []

    # -- begin -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Read the kill switch, take the lock, fix the number of this pass. Raises Refused."""
        self.halt = self.store.halted()
        if not self.options.check and self.halt is None:
            try:
                self._exit.enter_context(self.store.lock(f"pass of {self.site}"))
            except Busy as busy:
                raise Refused("busy", str(busy)) from busy
            self.store.reserve()
        self.memory = _updates.retry(self.store.load_memory(), self.options.retry_update)
        self.memory = _updates.restart(self.memory, self.options.restart, self.store.now())
        self.declaration = _updates.effective(self.declared, self.memory)
        self.memory.setdefault("controller", secrets.token_hex(4))
        self.fresh = "number" not in self.memory
        recorded = self.store.load_holds()
        self.holds = _holds.effective([*self.declaration["holds"], *recorded], self._wall())
        self.holder = f"{login()}@{socket.gethostname()}/{self.memory['controller']}"
        self.number = int(self.memory.get("number") or 0) + 1
        if not self.options.check and self.halt is None:
            self.memory["number"] = self.number
            self.store.save_memory(self.memory)

    def end(self) -> None:
        """Give the lock back."""
        self._exit.close()

    # -- observe -----------------------------------------------------------------------------------------------------

    def requests(self) -> dict[str, Request]:
        """Return what every host is asked, none where the pass is halted."""
        if self.halt is not None:
            return {}
        fence = None if self.options.check else {"number": self.number, "holder": self.holder}
        timeout = float(self.policy["host_timeout"])
        return {
            host: Request(
                request_for(self.declaration, host, "observe", known=_memory.launchers(self.memory, host), fence=fence),
                timeout,
            )
            for host in self.declaration["hosts"]
            if self.options.limit is None or host in self.options.limit
        }

    def take(self, observations: t.Mapping[str, Json], again: bool = False) -> None:
        """Take what the hosts said. Raises Refused when another pass with a higher number may be at work.

        Where that pass must be over by now, or this controller knows nothing of numbers yet, raises Again, once: with a
        higher number the hosts refuse whatever the other one may still do, so nothing is done twice.
        """
        for host in self.declaration["hosts"]:
            if host in observations:
                self.observations[host] = observations[host]
            else:
                why = "halted" if self.halt is not None else "outside --limit"
                self.observations[host] = {"answered": False, "kind": "skipped", "reason": why}
        fences = {host: seen["fence"] for host, seen in self.observations.items() if seen.get("superseded")}
        if fences:
            highest = max(int(fence["number"]) for fence in fences.values())
            number, self.number = self.number, highest + 1
            self.memory["number"] = self.number
            self._save()
            host = sorted(fences)[0]
            other = fences[host]
            young = min(float(fence["age"]) for fence in fences.values()) < float(self.policy["pass_timeout"])
            if not again and (self.fresh or not young):
                raise Again
            words = f"{host}: pass {other['number']} by {other['holder']} came {other['age']:.0f} s ago"
            raise Refused("busy", f"{words}; this is pass {number}, the next one has number {self.number + 1}")
        self.memory = _memory.learn(self.memory, self.declaration, self.observations, self.store.now(), self.holder)
        self.declaration = _updates.effective(self.declared, self.memory)

    # -- plan ------------------------------------------------------------------------------------------------------

    def think(self) -> Json:
        """Plan from what is known now."""
        if self.first_plan is None and self.halt is None:
            self.gates = self._gates(self.declaration)
        options = {
            **self.options.for_planner(),
            "gates": self.gates,
            "holds": self.holds,
            "halt": self.halt,
        }
        spent = {**self.spent, "failed_here": self.failed_here}
        self.plan = _planner.plan(self.declaration, self.observations, self.memory, self.store.now(), spent, options)
        self.plan["number"] = self.number
        if self.first_plan is None:
            self.first_plan = copy.deepcopy(self.plan)
            if self.options.saved_plan is not None:
                self._use_saved(self.options.saved_plan)
        return self.plan

    def _use_saved(self, saved: Json) -> None:
        """Take the actions of a saved plan, if everything it was based on still is so. Raises Refused."""
        plan, first_plan = self._plans()
        changes = _planner.basis_changes(saved["basis"], plan["basis"])
        if changes:
            raise Refused("error", "the saved plan does not hold any more: " + "; ".join(changes) + ". Make a new one")
        plan["actions"] = copy.deepcopy(saved["actions"])
        first_plan["actions"] = copy.deepcopy(saved["actions"])

    def _plans(self) -> tuple[Json, Json]:
        """Return the plan as it is now, and the first one."""
        if self.plan is None or self.first_plan is None:
            raise RuntimeError("this pass has no plan yet: think() comes first")
        return self.plan, self.first_plan

    def describe(self, fleet: Fleet) -> None:
        """In diff mode, have the hosts tell what the starts of the plan write."""
        plan, _first = self._plans()
        if self.options.diff and plan["verdict"] == "ok":
            asked = _describe.questions(self.declaration, plan, int(self._wall()), self.options.seed)
            timeout = float(self.policy["host_timeout"])
            requests = {host: Request(request, timeout) for host, request in asked.items()}
            if requests:
                told = fleet.ask(requests, int(self.policy["fanout"]), float(self.policy["pass_timeout"]))
                self.files = _describe.differences(told)

    # -- apply -----------------------------------------------------------------------------------------------------

    def apply(self, fleet: Fleet) -> None:
        """Carry out the plan in rounds; each round plans anew from what the hosts said after the round before."""
        deadline = time.monotonic() + float(self.policy["pass_timeout"])
        saved, progress = self.options.saved_plan is not None, False
        rolled: set[str] = set()
        for number in itertools.count(1):
            plan = self.plan if self.plan is not None else self.think()
            actions = replacements(plan["actions"], rolled) if saved and number > 1 else plan["actions"]
            if plan["verdict"] != "ok" or not actions or time.monotonic() >= deadline:
                break
            rolled |= {one["component"] for one in actions if one.get("roll")}
            if number > ROUNDS and not (rolled and progress):
                break
            done = self._round(fleet, actions, deadline)
            self.plan = None
            if all(one["outcome"] in ("unknown", "refused") for one in done):
                break
            # what starts or stops takes from the budgets, so there is an end to rounds that make progress
            progress = any(one["kind"] in ("start", "stop") and one["outcome"] in PROGRESS for one in done)
        if self.plan is None:
            self.think()

    def _round(self, fleet: Fleet, actions: list[Json], deadline: float) -> list[Json]:
        done: list[Json] = []
        failed: set[str] = set()
        for wave in waves(actions):
            todo: list[Json] = []
            skipped: list[Json] = []
            for action in wave:
                stays = action["kind"] != "start" or action["component"] not in failed
                (todo if stays and time.monotonic() < deadline else skipped).append(action)
            done += [{**one, "outcome": "refused", "message": skip_words(one, failed)} for one in skipped]
            results = self._wave(fleet, todo, deadline) if todo else []
            failed |= {one["component"] for one in results if one["kind"] == "start" and one["outcome"] != "started"}
            done += results
        self.results += done
        return done

    def _wave(self, fleet: Fleet, actions: list[Json], deadline: float) -> list[Json]:
        """Send one wave of actions, each host its own in one exec, and take in what they answer."""
        numbered = [self._with_token(action) for action in actions]
        ready, results = self._render(numbered)
        self.memory = _memory.intend(self.memory, [action for action, _request in ready], self.store.now())
        self._save()
        by_host: dict[str, list[tuple[Json, Json]]] = {}
        for action, request in ready:
            by_host.setdefault(action["host"], []).append((action, request))
        requests = {}
        for host, pairs in by_host.items():
            request = request_for(
                self.declaration,
                host,
                "apply",
                known=_memory.launchers(self.memory, host),
                fence={"number": self.number, "holder": self.holder},
                expect={"boot_id": self.observations[host]["boot_id"]},
                actions=[request for _action, request in pairs],
            )
            extra = apply_time(request["actions"], request.get("launchers"))
            requests[host] = Request(request, float(self.policy["host_timeout"]) + extra)
        observed = fleet.ask(requests, int(self.policy["fanout"]), max(1.0, deadline - time.monotonic()))
        for host, pairs in by_host.items():
            results += join_results([action for action, _request in pairs], observed[host])
        self.observations.update({host: {**seen, "results": []} for host, seen in observed.items()})
        for one in results:
            if one["kind"] in ("start", "stop") and one["outcome"] != "refused":
                self.spent["starts" if one["kind"] == "start" else "stops"] += 1
            if one["kind"] == "start" and one["outcome"] == "failed":
                self.failed_here.append([one["component"], one["host"]])
        before = set(self.memory.get("rejected") or {})
        self.memory = _memory.conclude(
            self.memory,
            self.declaration,
            results,
            {host: self.observations[host] for host in observed},
            self.store.now(),
        )
        self.declaration = _updates.effective(self.declared, self.memory)
        # where a new version failed, the proven one is welcome
        rejected = set(self.memory["rejected"]) - before
        self.failed_here = [one for one in self.failed_here if one[0] not in rejected]
        self._save()
        return results

    def _with_token(self, action: Json) -> Json:
        if action["kind"] != "start":
            return dict(action)
        self._tokens = getattr(self, "_tokens", -1) + 1
        component = self.declaration["components"][action["component"]]
        launcher = launcher_for(component, self.declaration["hosts"][action["host"]])
        more = {} if launcher == PROCESS else {"launcher": launcher}
        # two controllers may use the same number on different hosts, never the same token
        token = f"{self.number:x}-{self._tokens:x}-{self.memory['controller']}"
        return {**action, "token": token, "hash": component.get("hash"), **more}

    def _render(self, actions: list[Json]) -> tuple[list[tuple[Json, Json]], list[Json]]:
        """Return the actions with their requests, and a failed result for each that cannot even be asked for."""
        ready: list[tuple[Json, Json]] = []
        failed: list[Json] = []
        for action in actions:
            if action["kind"] != "start":
                component = self.declaration["components"].get(action["component"]) or {}
                ready.append((action, _render.other_request(action, component)))
                continue
            component = self.declaration["components"][action["component"]]
            try:
                values = {
                    name: self._secret(reference)
                    for name, reference in component.get("secrets", {}).items()
                    if "file" not in reference
                }
                request = _render.start_request(
                    self.declaration,
                    action["component"],
                    action["host"],
                    action["slot"],
                    action["token"],
                    int(self._wall()),
                    self.options.seed,
                    values,
                )
            except Exception as exc:  # a template or a secret of one component must not end the pass for the others
                failed.append({**action, "outcome": "failed", "message": str(exc), "exit": None, "log_tail": []})
            else:
                ready.append((action, request))
        return ready, failed

    # -- finish ------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        if not self.options.check and self.halt is None:
            self.store.save_memory(self.memory)

    def finish(self) -> Json:
        """Remember and report; return the report."""
        plan, _first = self._plans()
        outcome = self.outcome()
        if not self.options.check and self.halt is None:
            self.memory = _memory.note_good(self.memory, plan, self.store.now())
            self._save()
        report = self._report(outcome, plan["why"])
        if not self.options.check:
            self.store.write_report(report)
            self.store.append_history(self._history(report))
        return report

    def refused(self, refusal: Refused) -> Json:
        """Report a pass that did not act."""
        report = self._report(refusal.outcome, str(refusal))
        if not self.options.check and refusal.outcome != "busy":
            # a busy pass leaves the report of the one that is at work alone
            self.store.write_report(report)
            self.store.append_history(self._history(report))
        return report

    def broken(self, why: str) -> Json:
        """Report a pass whose state folder cannot be used; nothing more is written there."""
        return self._report("error", why)

    def outcome(self) -> str:
        """Return the word of OUTCOMES for what this pass came to."""
        plan, first_plan = self._plans()
        if self.halt is not None:
            return "halted"
        verdict = plan["verdict"] if plan["verdict"] != "ok" else first_plan["verdict"]
        if verdict != "ok":
            return str(verdict)
        acted = plan["actions"] if self.options.check else [one for one in self.results if one["outcome"] in ACTED]
        pending = [] if self.options.check else plan["actions"]
        if pending or not converged(plan, self.options.check, self.policy["undeclared"] == "report"):
            return "not_converged"
        return "changed" if acted else "unchanged"

    def changed(self) -> bool:
        """Whether a host was changed, or would be in check mode."""
        if self.options.check:
            return bool(self.plan and self.plan["verdict"] == "ok" and self.plan["actions"])
        return any(one["outcome"] in ACTED for one in self.results)

    def _report(self, outcome: str, why: str) -> Json:
        return {
            "site": self.site,
            "deployment": self.declaration["deployment"],
            "outcome": outcome,
            "exit_code": OUTCOMES[outcome],
            "changed": self.changed(),
            "check": self.options.check,
            "why": why,
            "at": self._wall(),
            "number": self.number,
            "holder": self.holder,
            "by": self.options.by,
            "authorised": self.options.authorised(),
            "plan": self.plan,
            "planned": (self.first_plan or {}).get("actions", []),
            "results": self.results,
            "failures": [one for one in self.results if went_wrong(one)],
        }

    def _history(self, report: Json) -> Json:
        keys = ("at", "number", "holder", "by", "authorised", "outcome", "why", "changed", "planned", "results")
        counts = {
            name: {key: one[key] for key in ("wanted", "certain", "possible")}
            for name, one in (self.plan or {}).get("components", {}).items()
        }
        return {**{key: report[key] for key in keys}, "components": counts}


def _take(one: SitePass, fleet: Fleet, observations: t.Mapping[str, Json]) -> None:
    try:
        one.take(observations)
    except Again:
        policy = one.policy
        one.take(fleet.ask(one.requests(), int(policy["fanout"]), float(policy["pass_timeout"])), again=True)


def run(passes: t.Sequence[SitePass], fleet: Fleet) -> dict[str, Json]:
    """Run passes over several sites, observing all their hosts side by side; return a report for each site, by name.

    One site's refusal does not concern the others.
    """
    reports: dict[str, Json] = {}

    def guarded(one: SitePass, step: t.Callable[[], t.Any]) -> None:
        if one.site in reports:
            return
        try:
            step()
        except Refused as refusal:
            reports[one.site] = one.refused(refusal)
        except StoreError as error:
            reports[one.site] = one.broken(str(error))

    try:
        requests: dict[str, Request] = {}
        for one in passes:
            guarded(one, one.begin)
        alive = [one for one in passes if one.site not in reports]
        for one in alive:
            requests.update(one.requests())
        width = max([int(one.policy["fanout"]) for one in alive] or [1])
        limit = max([float(one.policy["pass_timeout"]) for one in alive] or [1.0])
        observations = fleet.ask(requests, width, limit)
        for one in alive:
            guarded(one, lambda one=one: _take(one, fleet, observations))  # type: ignore[misc]
            guarded(one, one.think)
            guarded(one, lambda one=one: one.describe(fleet))  # type: ignore[misc]
            if not one.options.check:
                guarded(one, lambda one=one: one.apply(fleet))  # type: ignore[misc]
            guarded(one, lambda one=one: reports.update({one.site: one.finish()}))  # type: ignore[misc]
    finally:
        for one in passes:
            one.end()
    return reports
