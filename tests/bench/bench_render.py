# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures what site_config costs for 30 targets of 14 files on one host, against a plain loop and one connection."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from bed.fleet import Fleet  # noqa: E402
from bed.play import Player  # noqa: E402

TARGETS = 30
SECTIONS = ("DB", "RMQ", "GLOBUS", "SITE", "CROMWELL", "AWS")
SERVICES = ("rpc-server", "run-daemon", "transfer-daemon", "message-consumer")

# the floor: the least that a person would write, with the same templates; quoting is left out
FLOOR = r"""
import io, json, subprocess, sys, tarfile
from pathlib import Path
import jinja2
folder, spec, ssh = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), json.loads(sys.argv[3])
env = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined)
env.filters.update({"ini_value": str, "shell_word": str, "env_file_value": str})
names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.j2"))
data = io.BytesIO()
with tarfile.open(fileobj=data, mode="w:gz") as tar:
    for tree in spec:
        for name in names:
            text = env.get_template(name).render(tree["variables"]).encode()
            one = tarfile.TarInfo(tree["dest"].lstrip("/") + "/" + name[:-3])
            one.size, one.mode = len(text), 0o600
            tar.addfile(one, io.BytesIO(text))
subprocess.run([*ssh, "tar -C / -xzf -" + CHECKS], input=data.getvalue(), check=True)
"""
CHECKS = "; for f in /opt/bench/*/*/bin/*; do bash -n $f; done"


def templates(folder: Path) -> None:
    """Fourteen templates of the sizes that real ones have."""
    ini = "".join(
        f"[{name}]\n" + "".join(f"key_{n} = {{{{ V{n} | ini_value }}}}\n" for n in range(9)) for name in SECTIONS
    )
    env = "".join(f"ENV__{n}={{{{ V{n} | env_file_value }}}}\n" for n in range(9))
    shim = "#!/bin/bash\nexport LC_ALL=C.UTF-8\n{% if V1 %}\nexport X={{ V1 | shell_word }}\n{% endif %}\n"
    shim += "exec {{ V2 | shell_word }} --log {{ V3 | shell_word }} --config {{ V4 | shell_word }}\n"
    files = {f"config/{name}.conf.j2": ini for name in ("jaws-site", "supervisor", "supervisor.site")}
    files |= {"config/site.env.j2": env}
    files |= {f"bin/{name}.j2": shim for name in SERVICES}
    files |= {f"bin/{name}.j2": shim for name in ("supervisord", "supervisorctl", "starter.sh")}
    files |= {f"bin/{name}.j2": shim for name in ("cronjob", "runner", "setup_perms")}
    assert len(files) == 14
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


class Bench:
    """One host, and the ways to put the same files there."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet, self.folder, self.round = fleet, folder, 0
        self.player = Player(folder / "controller")
        templates(folder / "templates")
        fleet.ssh("h1", "mkdir -p /opt/bench")

    def spec(self, way: str) -> list[dict]:
        values = {f"V{n}": f"value {n} of round {self.round} 100% $HOME" for n in range(9)}
        return [
            {"src": str(self.folder / "templates"), "dest": f"/opt/bench/{way}/t{n}", "variables": {**values, "V0": n}}
            for n in range(TARGETS)
        ]

    def floor(self, checks: str = "", connect: bool = True) -> float:
        spec, script = self.folder / "spec.json", self.folder / "floor.py"
        spec.write_text(json.dumps(self.spec("floor")))
        script.write_text(FLOOR.replace("+ CHECKS", f"+ {checks!r}"))
        ssh = ["ssh", "-F", self.fleet.ssh_config, "-o", "BatchMode=yes", "root@h1"] if connect else ["true"]
        begun = time.monotonic()
        subprocess.run([sys.executable, script, self.folder / "templates", spec, json.dumps(ssh)], check=True)
        return time.monotonic() - begun

    def play(self, task: dict | None) -> float:
        book = self.folder / "book.yml"
        task = task or {"ansible.builtin.debug": {"msg": ""}}
        book.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [{"name": "T", **task}]}]))
        # each run makes one connection, as the floor does
        begun = time.monotonic()
        done = self.player(str(book), self.fleet.inventory, env={"ANSIBLE_SSH_ARGS": "-o ControlMaster=no"})
        took = time.monotonic() - begun
        if done.rc:
            raise RuntimeError(done.stdout + done.stderr)
        return took

    def ours(self, validate: str | None) -> float:
        return self.play({"sciops.sites.site_config": {"trees": self.spec("ours"), "validate": validate}})


def main() -> int:
    """Run all ways in turn, write JSON and Markdown below build/bench, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved runs of each way")
    options = parser.parse_args()
    with Fleet(1) as fleet, tempfile.TemporaryDirectory() as folder:
        bench = Bench(fleet, Path(folder))
        ways: dict[str, Callable[[], float]] = {
            "start": lambda: bench.play(None),
            "ping": lambda: bench.play({"ansible.builtin.ping": {}}),
            "loop": lambda: bench.floor(connect=False),
            "floor": bench.floor,
            "site_config": lambda: bench.ours("none"),
            "again": lambda: bench.ours("none"),
            "floor, checked": lambda: bench.floor(CHECKS),
            "site_config, checked": lambda: bench.ours(None),
        }
        runs: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(options.rounds + 1):
            for name, way in ways.items():
                # "again" has nothing to do, all others have new content
                bench.round += name != "again"
                took = way()
                if number:
                    runs[name].append(took)
        bench.player.close()
    median = {name: statistics.median(seen) for name, seen in runs.items()}
    load = os.getloadavg()[0]
    lines = [f"{os.cpu_count()} cores for controller and host, load {load:.1f}, {options.rounds} rounds.", ""]
    head = ("median (least), s", "less start, against its floor", "against loop and ping")
    lines += [f"| {TARGETS} x 14 files on one host | {' | '.join(head)} |", "|---|---|---|---|"]
    for name, seen in runs.items():
        ratios = ["-", "-"]
        if "site_config" in name or name == "again":
            floor = median["floor, checked" if "checked" in name else "floor"]
            ratios[0] = f"{(median[name] - median['start']) / floor:.2f}"
            # the checks are what the floor takes longer for
            ratios[1] = f"{median[name] / (median['loop'] + median['ping'] + floor - median['floor']):.2f}"
        lines.append(f"| {name} | {median[name]:.2f} ({min(seen):.2f}) | {' | '.join(ratios)} |")
    out = ROOT / "build" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    (out / "render.json").write_text(json.dumps({"runs": runs, "load": load}, indent=1), encoding="utf-8")
    (out / "render.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
