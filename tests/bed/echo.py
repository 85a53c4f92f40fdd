# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small system on hosts of a fleet: a service that says over HTTP which version it is, and a worker beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import yaml

from bed.fleet import SSH_ARGS, Fleet
from bed.play import ROOT, Player, Result
from bed.wheels import wheel

DEPLOY = "playbooks/deploy.yml"
SECRET = 'a%b$HOME "c d"'
PORTS = {"acme": 8301, "beta": 8302}
HOSTS = {"acme": "h1", "beta": "h2"}
LAUNCH = {"acme": "supervisord", "beta": "systemd"}

SERVE = """
import configparser, http.server, signal, sys, time
def serve():
    conf = configparser.ConfigParser()
    conf.read(sys.argv[1])
    here = conf["echo"]
    signal.signal(signal.SIGTERM, lambda *told: (time.sleep(here.getfloat("slow")), sys.exit(0)))
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = "VERSION|%s|%s" % (here["greeting"], here["password"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())
        def log_message(self, *words):
            pass
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    http.server.ThreadingHTTPServer(("127.0.0.1", int(here["port"])), Answer).serve_forever()
if __name__ == "__main__":
    serve()
"""
BROKEN = dict.fromkeys("36", "raise SystemExit('no database')\n")


class Echo:
    """The system, its two sites on two hosts, and a controller."""

    def __init__(self, fleet: Fleet, folder: Path, play: Player, sites: tuple[str, ...] = ("acme", "beta")) -> None:
        self.fleet, self.folder, self.play = fleet, folder / "echo", play
        shutil.copytree(ROOT / "tests/integration/system_echo", self.folder)
        wheels = folder / "wheels"
        wheels.mkdir()
        (self.folder / "files").mkdir()
        for version in "123456":
            code = BROKEN.get(version, SERVE.replace("VERSION", version))
            needed = wheel(wheels, "sciecho", version, code=code)
            if version == "4":  # a lock that its wheel does not fit
                needed = needed[:-5] + "0000\n"
            (self.folder / "files" / f"requirements-{version}.lock").write_text(needed)
        (self.folder / "sites").mkdir()
        for site in sites:
            connection = {
                "ansible_user": "deploy",
                "ansible_ssh_private_key_file": fleet.key,
                "ansible_ssh_common_args": SSH_ARGS,
                "ansible_python_interpreter": "/usr/bin/python3",
            }
            hosts = {fleet.hosts[HOSTS[site]].address: {}}
            told = {"hosts": hosts, "connection": connection, "deployments": {"dev": {"PORT": PORTS[site]}}}
            told["vars"] = {"LAUNCH": LAUNCH[site]}
            (self.folder / "sites" / f"{site}.yml").write_text(yaml.safe_dump(told))
            tar = subprocess.run(["tar", "-C", str(folder), "-c", "wheels"], capture_output=True, check=True).stdout
            argv = ["ssh", "-F", fleet.ssh_config, f"deploy@{HOSTS[site]}", "tar -x"]
            subprocess.run(argv, input=tar, check=True, timeout=60)

    def arguments(self, site: str, version: str, **variables: Any) -> tuple[list[str], dict[str, str]]:
        said = {"sciops_sites_vars": {"VERSION": version, **variables}}
        limit = [] if site == "all" else ["-l", f"site_{site}"]
        return [*limit, "-e", json.dumps(said)], {"ECHO_PASSWORD": SECRET}

    def deploy(self, site: str, version: str, *more: str, **variables: Any) -> Result:
        args, env = self.arguments(site, version, **variables)
        return self.play(DEPLOY, self.folder, *args, *more, env=env)

    def do(self, playbook: str, site: str, *more: str) -> Result:
        return self.play(f"playbooks/{playbook}.yml", self.folder, "-l", f"site_{site}", *more)

    def run(self, site: str, command: str) -> str:
        return self.fleet.ssh(HOSTS[site], command, user="deploy")

    def root(self, site: str) -> str:
        return f"/home/deploy/echo/{site}-dev"

    def answer(self, site: str) -> str:
        """What the service says; empty where it does not."""
        return self.run(site, f"python3 -c '{GET}' {PORTS[site]} 2>/dev/null || :")

    def pids(self, site: str) -> dict[str, int]:
        root = self.root(site)
        wanted = {f"{root}/site/bin/python -m sciecho": "echo", f"/bin/sh {root}/bin/worker": "worker"}
        found = {}
        for one in self.fleet.ps(HOSTS[site]):
            for text, name in wanted.items():
                if one.args.startswith(text):
                    assert name not in found, f"{name} runs twice at {site}"
                    found[name] = one.pid
        return found

    @staticmethod
    def kill_tree(process: subprocess.Popen[str]) -> None:
        """Kill a run of ansible-playbook, its workers too, which have sessions of their own."""
        tree = [process.pid]
        for pid in tree:
            told = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
            tree += [int(word) for word in told.split()]
        for pid in tree:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.communicate(timeout=30)

    def journal(self, site: str) -> str:
        """The step that the host is at, empty where no change is under way."""
        said = self.run(site, f"cat {self.root(site)}/.sciops/journal.json 2>/dev/null || :")
        return str(json.loads(said)["phase"]) if said else ""

    def worker(self, site: str) -> int:
        """The process that carries the change out which is under way."""
        return int(json.loads(self.run(site, f"cat {self.root(site)}/.sciops/journal.json"))["pid"])


GET = 'import sys, urllib.request as u; print(u.urlopen("http://127.0.0.1:" + sys.argv[1], timeout=5).read().decode())'
