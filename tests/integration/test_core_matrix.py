# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must work on every supported ansible-core: the connection API is internal to it, so each one is tried for real.

Runs with the ansible-core of the Python that runs it; tests/tools/matrix.sh runs it once for each.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bed.echo import SECRET, Echo
from bed.fleet import Fleet
from bed.play import ROOT, Player
from unit.condor.hooks_home import module

pytestmark = pytest.mark.hosts

SITE = {
    "policy": {"host_timeout": 8},
    "defaults": {"settle": 0.3},
    "hosts": {
        "h1": {},
        "h2": {"vars": {"ansible_user": "deploy", "ansible_become": "{{ inventory_hostname == 'h2' }}"}},
        "here": {"vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}},
        "dead": {"vars": {"ansible_host": "127.0.0.1", "ansible_port": 1}},
    },
    "pipes": {
        "p": {"components": {"a": {"command": "sleep 4{{ slot }}00{{ vars.tail }}", "count": 3, "max_per_host": 1}}}
    },
    "vars": {"tail": 7},
}


@pytest.fixture(scope="module")
def two(fleet: Callable[..., Fleet]) -> Fleet:
    return fleet(2)


@pytest.fixture
def inventory(two: Fleet, tmp_path: Path) -> Iterator[Path]:
    # the host "here" is this machine, which outlives the test: a fence of an earlier run would be another controller's
    left = Path("/var/lib/sciops.sites/bed.test")
    shutil.rmtree(left, ignore_errors=True)
    yield two.site_file(tmp_path, SITE)
    shutil.rmtree(left, ignore_errors=True)


def test_a_pass_over_ssh_become_and_local(two: Fleet, inventory: Path, play: Player) -> None:
    checked = play("playbooks/reconcile.yml", inventory, "--check", "--diff")
    assert checked.rc == 0 and len(checked.site()["planned"]) == 3, checked.stdout + checked.stderr
    first = play("playbooks/reconcile.yml", inventory)
    try:
        assert first.outcome == "changed", first.stdout + first.stderr
        hosts = first.site()["plan"]["hosts"]
        assert {name for name, one in hosts.items() if one["state"] == "answered"} == {"h1", "h2", "here"}
        assert hosts["dead"]["state"] == "unknown" and "refused" in hosts["dead"]["why"]
        users = {host: p.user for host in two.names for p in two.ps(host) if p.args.startswith("sleep 4")}
        assert users == {"h1": "root", "h2": "root"}
        second = play("playbooks/reconcile.yml", inventory)
        assert (second.outcome, second.recap("changed"), second.report["execs"]) == ("unchanged", 0, 4), second.stdout
    finally:
        stopped = play("playbooks/stop.yml", inventory, "-e", "sciops_sites_names=bed")
    assert stopped.recap("changed") == 1 and not any(p.args.startswith("sleep 4") for p in two.ps("h1")), stopped.stdout


def test_commands_arrive_verbatim_through_an_export(inventory: Path, play: Player) -> None:
    program = str(Path(sys.executable).parent / "ansible-inventory")
    done = subprocess.run(
        [program, "-i", str(inventory), "--list", "--export"],
        cwd=ROOT,
        env=play.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    exported = json.loads(done.stdout)
    text = json.dumps(exported["site_bed"]["vars"]["sciops_sites_site"]["components"]["p/a"]["command"])
    assert "4{{ slot }}00{{ vars.tail }}" in text


def test_modules_and_live_groups(inventory: Path, two: Fleet, play: Player) -> None:
    bin_dir = Path(sys.executable).parent
    adhoc = [str(bin_dir / "ansible"), "h1:h2", "-i", str(inventory), "-m", "sciops.sites.process_info"]
    done = subprocess.run(adhoc, cwd=ROOT, env=play.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" | SUCCESS") == 2
    (site,) = inventory.glob("*.site.yml")
    site.write_text("observe: true\n" + site.read_text())
    listed = subprocess.run(
        [str(bin_dir / "ansible-inventory"), "-i", str(inventory), "--list"],
        cwd=ROOT,
        env=play.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    groups = json.loads(listed.stdout)
    assert sorted(groups["reachable"]["hosts"]) == ["h1", "h2", "here"] and groups["unknown"]["hosts"] == ["dead"]


def test_password_of_become_and_extra_ssh_arguments(two: Fleet, tmp_path: Path, play: Player) -> None:
    """A sudo that asks for a password gets it on its own channel, never in argv."""
    two.run("h2", "sh", "-c", "echo deploy:Sesam.1 | chpasswd; sed -i 's/NOPASSWD://' /etc/sudoers.d/deploy")
    try:
        entry = {"ansible_user": "deploy", "ansible_become": True, "ansible_become_password": "Sesam.1"}
        spec = {**SITE, "hosts": {"h2": {"vars": {**entry, "ansible_ssh_extra_args": "-o Compression=yes"}}}}
        spec["pipes"] = {"p": {"components": {"b": {"command": "sleep 40999", "count": 1}}}}
        inventory = two.site_file(tmp_path, spec)
        result = play("playbooks/reconcile.yml", inventory)
        assert result.outcome == "changed", result.stdout + result.stderr
        assert [p.user for p in two.ps("h2") if p.args == "sleep 40999"] == ["root"]
        assert "Sesam" not in result.stdout + json.dumps(result.report)
    finally:
        two.run("h2", "sh", "-c", "echo 'deploy ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/deploy")


def test_a_system_is_deployed_and_goes_back(two: Fleet, play: Player, tmp_path: Path) -> None:
    echo = Echo(two, tmp_path, play, ("acme",))
    for version in ("1", "2"):
        done = echo.deploy("acme", version, "--diff")
        assert done.rc == 0, done.stdout + done.stderr
        assert echo.answer("acme") == f"{version}|hello|{SECRET}"
    assert echo.deploy("acme", "2").recap("changed") == 0
    assert echo.do("rollback", "acme").rc == 0
    assert echo.answer("acme") == f"1|hello|{SECRET}"


#: the role's own values with what a site sets, written by what writes settings.json
HOOKS = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: sciops.sites.condor_hooks
        tasks_from: check
        public: true
    - ansible.builtin.copy:
        content: "{{ __condor_hooks_settings | combine({'execute': ['/x']}) | to_nice_json }}\\n"
        dest: "{{ folder }}/settings.json"
        mode: "0600"
    - ansible.builtin.copy:
        content: "{{ __condor_hooks_execute_knobs | combine(__condor_hooks_schedd_knobs) | to_nice_json }}\\n"
        dest: "{{ folder }}/knobs.json"
        mode: "0600"
"""


@pytest.mark.parametrize(
    "given", [{}, {"idle_trigger": 0, "preempt_after": "0", "mail_text": 'It\'s "idle",\n$owner\n'}]
)
def test_settings_of_the_hooks_of_condor(tmp_path: Path, play: Player, given: dict[str, object]) -> None:
    """A template that gives a number or null is text before 2.19, and settings.json must have it as what it is."""
    (tmp_path / "hooks.yml").write_text(HOOKS)
    values = {"folder": str(tmp_path), "ansible_python_interpreter": sys.executable, "ansible_connection": "local"}
    values |= {f"condor_hooks_{name}": value for name, value in given.items()}
    done = play(str(tmp_path / "hooks.yml"), "localhost,", "-e", json.dumps(values))
    assert done.rc == 0, done.stdout + done.stderr
    settings = json.loads((tmp_path / "settings.json").read_text())
    common = module("_common")
    known = {name: value for name, value in common.DEFAULTS.items() if name != "sshd"}
    # these are what the role says otherwise than the hooks do
    known |= {"execute": ["/x"], "print_limit": 1048336, "data_max_age": 600}
    known |= {"idle_trigger": 172800, "preempt_after": 259200}
    known |= {"idle_trigger": None, "preempt_after": None, "mail_text": given["mail_text"]} if given else {}
    assert settings == known and common.check_settings(settings)
    knobs = json.loads((tmp_path / "knobs.json").read_text())
    assert ("IDLE_WARNING_TRIGGER" in knobs) == (not given) and "PREEMPT" not in knobs
