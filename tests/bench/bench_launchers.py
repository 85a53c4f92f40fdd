# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures what launchers cost on real hosts, against bare calls to the same managers. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / ".collections")]

from bed.fleet import Fleet  # noqa: E402
from conformance.launchers import SOURCES, Host, Kind  # noqa: E402

from ansible_collections.sciops.sites.plugins.plugin_utils import _wire  # noqa: E402

LAUNCHERS = ("process", "supervisord", "systemd")
SLEEP = "765432"
PROPERTIES = "Id,ActiveState,SubState,Result,MainPID,NRestarts,ExecMainStatus,LoadState,Job"

# runs on a host: one program, its input and output passed on, and what it took there
DRIVER = r"""
import resource, subprocess, sys, time
data, pipe = sys.stdin.buffer.read(), subprocess.PIPE
begun = time.monotonic()
child = subprocess.Popen(sys.argv[1:], stdin=pipe, stdout=pipe)
said = child.communicate(data)[0]
took, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
sys.stdout.buffer.write(said + b"\n@took %.6f %.6f\n" % (took, used.ru_utime + used.ru_stime))
sys.exit(child.returncode)
"""

# runs on a host: bare XML-RPC with what Python has for it; prints the seconds of the calls alone
CALLS = r"""
import http.client, os, socket, sys, time, xmlrpc.client
verb, home = sys.argv[1:3]
class Line(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(home + "/supervisor.sock")
class Way(xmlrpc.client.Transport):
    def make_connection(self, host):
        return Line("localhost")
far, own = xmlrpc.client.ServerProxy("http://localhost", transport=Way()).supervisor, home + "/conf.d/zz.conf"
begun = time.monotonic()
if verb == "info":
    far.getAllProcessInfo()
elif verb == "start":
    with open(own, "w") as file:
        file.write("[program:floor]\ncommand=/bin/sleep 765431\nstdout_logfile=NONE\nstderr_logfile=NONE\n")
    far.reloadConfig()
    far.addProcessGroup("floor")
else:
    os.unlink(own)
    far.reloadConfig()
    far.stopProcess("floor")
    far.removeProcessGroup("floor")
print(time.monotonic() - begun)
"""
UNIT = "[Service]\nExecStart=/bin/sleep 765431\nStandardOutput=null\n"


class Timed(dict[str, float]):
    """One run: seconds on the clock (`wall`), of the processor (`cpu`), and of the calls in it (`calls`)."""


class Seat(Host):
    """One host of the bench with one launcher."""

    def __init__(self, fleet: Fleet, name: str, launcher: str) -> None:
        super().__init__(fleet, name, Kind(launcher, user="root"), launcher)
        self.slots = 0
        self.told = self.ask()
        if launcher == "systemd":
            self.root(f"printf %s {shlex.quote(UNIT)} > /etc/systemd/system/floor@.service; systemctl daemon-reload")

    # --- one program on the host

    def timed(self, *argv: str, data: bytes = b"") -> tuple[bytes, Timed]:
        """Run a program on the host, timed there; its output without what the driver adds."""
        line = shlex.join(["/usr/bin/python3", "-ISc", DRIVER, *argv])
        ssh = ["ssh", "-F", self.fleet.ssh_config, "-o", "BatchMode=yes", "-o", "ControlMaster=auto"]
        ssh += ["-o", f"ControlPath={self.fleet.folder}/cm-%r-%h", "-o", "ControlPersist=60", f"root@{self.name}", line]
        done = subprocess.run(ssh, input=data, capture_output=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(f"{argv[:4]}: {done.stderr[-2000:].decode()} {done.stdout[-500:].decode()}")
        said, _mark, took = done.stdout.rpartition(b"\n@took ")
        wall, cpu = map(float, took.split())
        return said, Timed(wall=wall, cpu=cpu)

    def request(self, mode: str, **more: Any) -> dict[str, Any]:
        """A request as the controller makes it."""
        found: dict[str, Any] = {"v": 1, "nonce": secrets.token_hex(8), "mode": mode, "site": self.site}
        found |= {"deployment": self.deployment, "host": self.name, "components": {"p/c": {}}, "timeout": 240}
        found |= {"fence": {"number": self.number, "holder": "test"}}
        if self.label != "process":
            found["launchers"] = {self.label: self.kind.settings}
        return found | more

    def agent(self, mode: str, **more: Any) -> tuple[dict[str, Any], Timed]:
        """Run one request by the agent as a program of the host, without ssh in the time."""
        request = self.request(mode, **more)
        argv = shlex.split(_wire.command("/usr/bin/python3"))
        said, timed = self.timed(*argv, data=_wire.payload(request, SOURCES))
        return _wire.parse(said, request["nonce"]), timed

    # --- what is measured

    def change(self, *actions: dict[str, Any]) -> Timed:
        """One apply whose actions must all be done."""
        expect = {"boot_id": self.told["boot_id"]}
        self.told, timed = self.agent("apply", actions=list(actions), expect=expect)
        wrong = [one for one in self.told["results"] if one["outcome"] not in ("started", "stopped")]
        if wrong:
            raise RuntimeError(f"{self.label}: {len(wrong)} of {len(actions)}: {wrong[0]}")
        return timed

    def one(self, slot: int) -> dict[str, Any]:
        token = f"1-{secrets.token_hex(4)}"
        return self.action("/bin/sleep", SLEEP, slot=slot, settle=0, grace=10, token=token, options={"startsecs": 0})

    def grow(self, count: int) -> None:
        """Have so many instances."""
        while self.slots < count:
            upto = min(self.slots + 50, count)
            self.change(*(self.one(slot) for slot in range(self.slots + 1, upto + 1)))
            self.slots = upto

    def more(self) -> Timed:
        """One instance more than there are."""
        return self.change(self.one(self.slots + 1))

    def fewer(self) -> Timed:
        """The last one stops."""
        keys = ("component", "slot", "token", "pid", "start")
        row = next(row for row in self.told["instances"] if row["slot"] == self.slots + 1)
        stop = {"kind": "stop", "reason": "", "grace": 10} | {key: row[key] for key in keys}
        if self.label != "process":
            stop["launcher"] = self.label
        return self.change(stop)

    def look(self) -> Timed:
        """An observation by the agent, all instances in it."""
        seen, timed = self.agent("observe")
        if len(seen["instances"]) != self.slots or seen["problems"]:
            raise RuntimeError(f"{self.label}: sees {len(seen['instances'])} of {self.slots}: {seen['problems'][:3]}")
        return timed

    def look_from_here(self) -> Timed:
        """The same from the controller, over a shared connection."""
        begun = time.monotonic()
        self.ask("observe", components={"p/c": {}})
        return Timed(wall=time.monotonic() - begun)

    def empty(self) -> Timed:
        """A request without work: the interpreter starts, the program is loaded, and it answers."""
        return self.agent("describe", actions=[])[1]

    def bare(self, verb: str) -> Timed:
        """What must be asked of the manager for this, and nothing else."""
        if self.label == "supervisord":
            said, timed = self.timed("/usr/bin/python3", "-ISc", CALLS, verb, self.state + "/supervisord")
            return Timed(timed, calls=float(said))
        if verb == "info":
            (unit,) = {row["unit"].partition("@")[0] for row in self.told["instances"]}
            names = [f"{unit}@{slot}.service" for slot in range(1, self.slots + 1)]
            timed = self.timed("/usr/bin/systemctl", "show", "--property=" + PROPERTIES, "--", *names)[1]
        else:
            timed = self.timed("/usr/bin/systemctl", verb, "floor@1.service")[1]
        return Timed(timed, calls=timed["wall"])

    def bare_reload(self) -> Timed:
        """What systemd must be asked beside this where each instance has a unit file of its own."""
        timed = self.timed("/usr/bin/systemctl", "daemon-reload")[1]
        return Timed(timed, calls=timed["wall"])

    def sleepers(self) -> set[int]:
        """The pids of the instances, and of the manager, as seen from outside the host."""
        ours = (f"sleep {SLEEP}", "supervisord")
        return {one.pid for one in self.fleet.ps(self.name) if any(word in one.args for word in ours)}


def touched(seat: Seat) -> list[int]:
    """How many processes of instances begin and end, seen from outside, with one start and then with one stop."""
    before = seat.sleepers()
    seat.more()
    between = seat.sleepers()
    seat.fewer()
    after = seat.sleepers()
    return [len(between - before), len(before - between), len(after - between), len(between - after)]


def interleave(ways: dict[str, Callable[[], Timed]], rounds: int) -> dict[str, dict[str, float]]:
    """Medians of all ways, run in turn, so that a busy moment of the machine hits all of them alike."""
    runs: dict[str, list[Timed]] = {name: [] for name in ways}
    for _try in range(rounds):
        for name, way in ways.items():
            runs[name].append(way())
    found = {}
    for name, seen in runs.items():
        found[name] = {key: round(statistics.median(one[key] for one in seen), 4) for key in seen[0]}
        found[name] |= {f"least {key}": round(min(one[key] for one in seen), 4) for key in seen[0]}
    return found


def measure(seats: dict[str, Seat], rounds: int) -> dict[str, Any]:
    """Measure all hosts at the count that they have."""
    ways: dict[str, Callable[[], Timed]] = {}
    for label, seat in seats.items():
        # what is started is stopped again in the same round, so that every round begins alike
        for verb, own in (("start", seat.more), ("stop", seat.fewer)):
            if label != "process":
                ways[f"{label}: bare {verb}"] = lambda seat=seat, verb=verb: seat.bare(verb)
            ways[f"{label}: {verb}"] = own
        if label != "process":
            ways[f"{label}: bare info"] = lambda seat=seat: seat.bare("info")
        ways[f"{label}: empty"] = seat.empty
        ways[f"{label}: observe"] = seat.look
        ways[f"{label}: observe, from the controller"] = seat.look_from_here
    found: dict[str, Any] = {"ways": interleave(ways, rounds), "touched": {n: touched(s) for n, s in seats.items()}}
    if "systemd" in seats:
        # last: for a while after it systemd is slow with everything
        found["ways"] |= interleave({"systemd: bare reload": seats["systemd"].bare_reload}, 3)
    found["load"] = round(os.getloadavg()[0], 1)
    return found


def ratios(ways: dict[str, dict[str, float]], label: str) -> dict[str, list[float]]:
    """What is wanted: at most 2 for a start and a stop, below 3 for an observation. Of medians, and of least values.

    Whole: the process of the agent against that of the bare calls. Inside: without what an empty request takes, against
    the calls alone. With its look: an apply answers with a look at the whole host, so also against both bare calls.
    """
    found: dict[str, list[float]] = {}
    for least in ("", "least "):
        empty, info = ways[f"{label}: empty"][least + "wall"], ways[f"{label}: bare info"][least + "wall"]
        for name, bare in (("start", "start"), ("stop", "stop"), ("observe", "info")):
            ours, floor = ways[f"{label}: {name}"][least + "wall"], ways[f"{label}: bare {bare}"]
            one = {"whole": ours / floor[least + "wall"], "inside": (ours - empty) / floor[least + "calls"]}
            if name != "observe":
                one["with its look"] = ours / (floor[least + "wall"] + info)
            for key, value in one.items():
                found.setdefault(f"{name}, {key}", []).append(round(value, 2))
    return found


def sizes() -> dict[str, dict[str, int]]:
    """Bytes that a host is sent by launcher, with one action where the request has any."""
    found: dict[str, dict[str, int]] = {}
    for name in ("process", *_wire.LAUNCHERS, "supervisord + systemd"):
        base: dict[str, Any] = {"v": 1, "nonce": "0" * 16, "site": "bed", "deployment": "test", "host": "h1"}
        base |= {"fence": {"number": 7, "holder": "controller"}, "components": {"p/c": {}}, "timeout": 15}
        if name != "process":
            base["launchers"] = {one: {} for one in name.split(" + ")}
        more = {"observe": {}, "apply": {"actions": [], "expect": {"boot_id": "0" * 36}}}
        found[name] = {m: len(_wire.payload({**base, "mode": m, **more[m]}, SOURCES)) for m in more}
    return found


def markdown(results: dict[int, dict[str, Any]], sent: dict[str, dict[str, int]], machine: str) -> str:
    """Show the results as the tables of docs/performance.md."""
    counts = list(results)
    rule = "|---|" + "---|" * len(counts)
    head = "| median (least), ms on the host | " + " | ".join(f"{n} instances" for n in counts) + " |"
    lines = [machine, "", head, rule]
    for name in results[counts[0]]["ways"]:
        cells = []
        for count in counts:
            if name not in results[count]["ways"]:
                cells.append("-")
                continue
            way = results[count]["ways"][name]
            calls = f", calls {way['calls'] * 1e3:.1f}" if "calls" in way and way["calls"] != way["wall"] else ""
            cells.append(f"{way['wall'] * 1e3:.0f} ({way['least wall'] * 1e3:.0f}){calls}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| ratio of medians (of least values) | " + " | ".join(f"{n} instances" for n in counts) + " |", rule]
    for label in LAUNCHERS[1:]:
        for key in results[counts[0]]["ratios"][label]:
            pairs = [results[n]["ratios"].get(label, {}).get(key) for n in counts]
            cells = [f"{pair[0]:.2f} ({pair[1]:.2f})" if pair else "-" for pair in pairs]
            lines.append(f"| {label}: {key} | " + " | ".join(cells) + " |")
    lines += ["", "| bytes sent to a host | observe | apply |", "|---|---|---|"]
    lines += [f"| {name} | {one['observe']} | {one['apply']} |" for name, one in sent.items()]
    lines += ["", "Processes that began and ended with one start, then with one stop (wanted: 1, 0, 0, 1):"]
    lines += [f"- {n} instances: " + ", ".join(f"{k} {v}" for k, v in results[n]["touched"].items()) for n in counts]
    lines += [f"- {n} instances not reached: {words}" for n in counts for words in results[n]["short"].values()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure the counts asked for, write JSON and Markdown below build/bench, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 500], help="instances on each host, rising")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved runs of each way")
    options = parser.parse_args()
    results: dict[int, dict[str, Any]] = {}
    with Fleet(len(LAUNCHERS), "systemd") as fleet:
        names = zip(fleet.names, LAUNCHERS, strict=True)
        seats = {launcher: Seat(fleet, name, launcher) for name, launcher in names}
        for count in options.counts:
            short = {}
            for label, seat in list(seats.items()):
                try:
                    seat.grow(count)
                except RuntimeError as error:
                    # how many it can have is a result too
                    short[label] = str(error)
                    del seats[label]
            results[count] = measure(seats, options.rounds) | {"short": short}
            results[count]["ratios"] = {one: ratios(results[count]["ways"], one) for one in seats if one != "process"}
            print(json.dumps(results[count]["ratios"]), file=sys.stderr, flush=True)
    loads = ", ".join(f"{one['load']:.1f} at {count}" for count, one in results.items())
    machine = f"{os.cpu_count()} cores for controller and hosts, load {loads}, {options.rounds} rounds."
    out = ROOT / "build" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    sent = sizes()
    document = {"machine": machine, "results": results, "sent": sent}
    (out / "launchers.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    text = markdown(results, sent, machine)
    (out / "launchers.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
