# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures a pass that has nothing to do over real sshd hosts, against the floor and other ways. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests"))

from bed.fleet import Fleet  # noqa: E402
from bed.play import Player  # noqa: E402

COMPONENTS = 20
WIDTH = 32


def site(hosts: int, kinds: int = COMPONENTS) -> dict[str, Any]:
    """Twenty components, each with one instance on every host, and each also counted by `match`."""
    components = {
        f"c{i:02d}": {
            "count": hosts,
            "max_per_host": 1,
            "command": ["sleep", str(900000 + i)],
            "match": [["sleep", str(900000 + i)]],
            "settle": 0.2,
        }
        for i in range(kinds)
    }
    policy = {"start_budget": 100000, "pass_timeout": 900, "host_timeout": 120, "fanout": 64}
    return {"policy": policy, "pipes": {"bench": {"components": components}}}


class Measure:
    """One size of fleet and the ways to ask it; a way is a method that gives seconds and peak memory."""

    def __init__(self, fleet: Fleet, folder: Path, spec: dict[str, Any] | None = None) -> None:
        self.fleet = fleet
        self.player = Player(folder / "controller")
        self.inventory = fleet.site_file(folder, spec or site(len(fleet.hosts)))
        self.command = folder / "command"
        self.payload = folder / "payload"
        self.sockets = Path(tempfile.mkdtemp(prefix="fl"))
        self._write_payload()

    def _write_payload(self) -> None:
        """Write what a pass sends to one host, byte for byte but for nonce, host name and fence."""
        sys.path.insert(0, str(ROOT / ".collections"))
        from ansible_collections.sciops.sites.plugins.plugin_utils import _runtime, _wire

        watched = {
            f"bench/{name}": {"match": c["match"]} for name, c in site(1)["pipes"]["bench"]["components"].items()
        }
        request = {
            "v": 1, "nonce": "0123456789abcdef", "mode": "observe", "site": "bed", "deployment": "test", "host": "h1",
            "fence": None, "timeout": 15, "components": watched,
        }  # fmt: skip
        self.payload.write_bytes(_wire.payload(request, _runtime.host_sources(_wire.modules(request))))
        self.command.write_text(_wire.command("/usr/bin/python3"), encoding="utf-8")

    def converge(self) -> None:
        """Start everything, and see that a further pass has nothing to do; RuntimeError where it does not get there."""
        for _try in range(5):
            result = self.player("sciops.sites.reconcile", self.inventory, timeout=1800)
            if result.outcome == "unchanged":
                return
        raise RuntimeError(
            f"the fleet does not converge: {result.outcome}\n{result.stdout[-3000:]}\n{result.stderr[-2000:]}"
        )

    def _timed(self, argv: list[str], env: dict[str, str] | None = None) -> tuple[float, int]:
        begun = time.monotonic()
        with tempfile.TemporaryFile() as out:
            child = subprocess.Popen(argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            _pid, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - begun
            if child.returncode:
                out.seek(0)
                raise RuntimeError(f"{argv[:4]} ended with {child.returncode}: {out.read()[-2000:].decode()}")
        return seconds, usage.ru_maxrss * 1024

    def _play(self, *args: str) -> tuple[float, int]:
        program = str(Path(sys.executable).parent / "ansible-playbook")
        return self._timed([program, "-i", str(self.inventory), *args], self.player.environment())

    def run_pass(self) -> tuple[float, int]:
        """One pass with nothing to do."""
        return self._play("sciops.sites.reconcile")

    def run_noop(self) -> tuple[float, int]:
        """Ansible's own start and end on the same inventory, asking nobody."""
        return self._play(str(HERE / "peer.yml"), "--tags", "noop")

    def run_module(self) -> tuple[float, int]:
        """The same question by a plain module task, forks 50, pipelining."""
        return self._play(str(HERE / "peer.yml"), "--tags", "module", "--forks", "50")

    def _floor(self, sockets: str, width: int) -> tuple[float, int]:
        head = [
            str(HERE / "floor.sh"),
            self.fleet.ssh_config,
            sockets,
            str(width),
            str(self.payload),
            str(self.command),
        ]
        return self._timed([*head, *self.fleet.names])

    def run_floor(self) -> tuple[float, int]:
        """The same payload by xargs and ssh, over shared connections."""
        return self._floor(str(self.sockets), WIDTH)

    def run_floor_cold(self) -> tuple[float, int]:
        """The same payload by xargs and ssh, each with a connection of its own."""
        return self._floor("none", WIDTH)

    def run_serial(self) -> tuple[float, int]:
        """The same payload, one ssh after the other, each with a connection of its own."""
        return self._floor("none", 1)

    def run_pass_cold(self) -> tuple[float, int]:
        """One pass with nothing to do and no connection from before."""
        self.forget()
        return self.run_pass()

    def forget(self) -> None:
        """End the shared connections of the passes, as a controller without them starts."""
        self._exit_masters(Path(self.player._sockets))

    @staticmethod
    def _exit_masters(folder: Path) -> None:
        for socket in list(folder.iterdir()):
            argv = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "none"]
            subprocess.run(argv, capture_output=True, timeout=20, check=False)

    def close(self) -> None:
        """End all shared connections."""
        self.player.close()
        self._exit_masters(self.sockets)
        self.sockets.rmdir()


def interleave(ways: dict[str, Callable[[], tuple[float, int]]], rounds: int) -> dict[str, dict[str, Any]]:
    """Run all ways in turn, several times, so that a busy moment of the machine hits all of them alike."""
    seen: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
    for _try in range(rounds):
        for name, way in ways.items():
            seen[name].append(way())
    return {
        name: {
            "min": round(min(s for s, _rss in runs), 3),
            "median": round(statistics.median(s for s, _rss in runs), 3),
            "runs": [round(s, 3) for s, _rss in runs],
            "peak_rss": max(m for _seconds, m in runs),
        }
        for name, runs in seen.items()
    }


def bench(hosts: int, rounds: int) -> dict[str, Any]:
    """Measure one size of fleet; medians decide the ratios."""
    with tempfile.TemporaryDirectory() as folder, Fleet(hosts) as fleet:
        measure = Measure(fleet, Path(folder))
        try:
            measure.converge()
            measure.run_floor()
            # after a cold pass the connections are there again, so that the next round's pass is a warm one
            ways = interleave(
                {
                    "noop": measure.run_noop,
                    "floor": measure.run_floor,
                    "pass": measure.run_pass,
                    "floor_cold": measure.run_floor_cold,
                    "pass_cold": measure.run_pass_cold,
                },
                rounds,
            )
            ways.update(interleave({"module": measure.run_module}, max(2, rounds // 2)))
            ways.update(interleave({"serial": measure.run_serial}, 2))
            sent = measure.payload.stat().st_size
        finally:
            measure.close()
    mid = {name: way["median"] for name, way in ways.items()}
    ratios = {
        # wanted: at most 1.3, Ansible's own start taken off
        "warm, (pass - start) / floor": (mid["pass"] - mid["noop"]) / mid["floor"],
        "cold, (pass - start) / floor": (mid["pass_cold"] - mid["noop"]) / mid["floor_cold"],
        # wanted: at least 8, whole run against whole run
        "module task / pass": mid["module"] / mid["pass"],
        "module task / pass, without start": (mid["module"] - mid["noop"]) / max(mid["pass"] - mid["noop"], 0.001),
        "serial ssh / (pass - start)": mid["serial"] / max(mid["pass_cold"] - mid["noop"], 0.001),
    }
    rounded = {name: round(value, 2) for name, value in ratios.items()}
    return {"hosts": hosts, "instances": hosts * COMPONENTS, "sent": sent, "ways": ways, "ratios": rounded}


def crowd(hosts: int, each: int) -> dict[str, Any]:
    """Measure one converged pass over `hosts * each` logical hosts, `each` of them on every real one, five instances.

    What it is for is the memory of the controller: the machine has no room for a thousand real hosts.
    """
    with tempfile.TemporaryDirectory() as folder, Fleet(hosts) as fleet:
        logical = {
            f"{name}-{at}": {"vars": {"ansible_host": host.address}}
            for name, host in fleet.hosts.items()
            for at in range(each)
        }
        spec = {**site(len(logical), 5), "hosts": logical}
        for component in spec["pipes"]["bench"]["components"].values():
            del component["match"]
        measure = Measure(fleet, Path(folder), spec)
        try:
            measure.converge()
            runs = [measure.run_pass() for _try in range(3)]
        finally:
            measure.close()
    return {
        "hosts": len(logical),
        "instances": 5 * len(logical),
        "seconds": round(statistics.median(seconds for seconds, _rss in runs), 2),
        "peak_rss": max(rss for _seconds, rss in runs),
    }


def markdown(results: list[dict[str, Any]], machine: str) -> str:
    """Show the results as the tables of docs/performance.md."""
    names = {
        "noop": "Ansible's own start (a play that asks nobody)",
        "floor": f"floor, warm: xargs -P{WIDTH} ssh, same payload",
        "pass": "pass, warm",
        "module": "module task, warm: process_info, forks 50, pipelining",
        "floor_cold": f"floor, cold: xargs -P{WIDTH} ssh",
        "pass_cold": "pass, cold",
        "serial": "one ssh after the other, cold",
    }
    head = "| median (least) of interleaved runs, s | " + " | ".join(f"{r['hosts']} hosts" for r in results) + " |"
    rule = "|---|" + "---|" * len(results)
    lines = [machine, "", head, rule]
    for key, name in names.items():
        cells = (f"{r['ways'][key]['median']:.2f} ({r['ways'][key]['min']:.2f})" for r in results)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| ratio of medians | " + " | ".join(f"{r['hosts']} hosts" for r in results) + " |", rule]
    for key in results[0]["ratios"]:
        lines.append(f"| {key} | " + " | ".join(f"{r['ratios'][key]:.2f}" for r in results) + " |")
    lines.append("| bytes sent to a host | " + " | ".join(str(r["sent"]) for r in results) + " |")
    cells = (f"{r['ways']['pass']['peak_rss'] / 2**20:.0f}" for r in results)
    lines.append("| peak memory of a process of the controller in a pass, MiB | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure the sizes asked for, write JSON and Markdown below build/bench, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 50, 100], help="sizes of the fleet")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved runs of each way")
    parser.add_argument("--crowd", action="store_true", help="measure only a pass over 1,000 logical hosts")
    options = parser.parse_args()
    if options.crowd:
        print(json.dumps(crowd(100, 10)))
        return 0
    cores = os.cpu_count()
    results = []
    for hosts in options.hosts:
        results.append(bench(hosts, options.rounds))
        print(json.dumps(results[-1]["ratios"]), file=sys.stderr, flush=True)
    version = subprocess.run(
        [sys.executable, "-c", "import ansible.release as r; print(r.__version__)"],
        text=True,
        capture_output=True,
        check=True,
    ).stdout.strip()
    machine = (
        f"{cores} cores for controller and all hosts, load {os.getloadavg()[2]:.1f} over 15 minutes, "
        f"ansible-core {version}, Python {platform.python_version()}, {COMPONENTS} components, one of each a host."
    )
    out = ROOT / "build" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    (out / "pass.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1), encoding="utf-8")
    text = markdown(results, machine)
    (out / "pass.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
