# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory, lookup and check of systems as Ansible runs them, with the ansible-core that is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.sciops.sites.plugins.action.deploy import ActionModule as Deploy

BIN = Path(sys.executable).parent
SMALL = Path(__file__).parent / "system_small"
EXPLAIN = "sciops.sites.explain"
SECRET = "hunter2-of-the-database"
NEEDED = {"SMALL_DB_PW": SECRET, "SMALL_SITE_VERSION": "2.8"}
CHECK = """\
- hosts: systems
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - sciops.sites.system_check:
        vars: "{{ sciops_sites_vars | default(omit) }}"
      run_once: true
    - ansible.builtin.file: {path: "{{ touched }}", state: touch}
"""


@pytest.fixture
def run(root, tmp_path):
    """Run a command of ansible-core in the checkout; (status, output)."""

    def command(name: str, *arguments: str, **environment: str) -> tuple[int, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SMALL_")}
        done = subprocess.run(
            [str(BIN / name), *arguments],
            cwd=root,
            env={
                **clean,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout

    return command


@pytest.fixture
def small(tmp_path):
    """A copy of the small system, to be changed; every connection to a host of it would leave a mark."""
    folder = tmp_path / "small"
    shutil.copytree(SMALL, folder)
    change(
        folder / "sites" / "acme.yml",
        connection={"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
    )
    return folder


@pytest.fixture
def check(run, small, tmp_path):
    """Run the check over the small system, then a task on the hosts; (status, output, whether a host was touched)."""

    def go(*arguments: str, **environment: str) -> tuple[int, str, bool]:
        play, touched = tmp_path / "check.yml", tmp_path / "touched"
        play.write_text(CHECK)
        touched.unlink(missing_ok=True)
        extra = ("-e", f"touched={touched}", "-v", "--diff")
        status, output = run("ansible-playbook", "-i", str(small), str(play), *extra, *arguments, **environment)
        assert SECRET not in output
        return status, output, touched.exists()

    return go


def change(file: Path, **more):
    """Put values into a YAML file."""
    data = yaml.safe_load(file.read_text())
    for key, value in more.items():
        data[key] = {**data.get(key, {}), **value}
    file.write_text(yaml.safe_dump(data))


def block(folder: Path, site: str, supervisor: int, cromwell: int, **host):
    """Add a site with three ports of each kind, on the machine of acme."""
    ports = {
        name: {"SUPERVISOR_PORT": supervisor + number, "CROMWELL_PORT": cromwell + number}
        for number, name in enumerate(("dev", "staging", "prod"))
    }
    data = yaml.safe_load((folder / "sites" / "acme.yml").read_text())
    machine = {"machine": "login1.acme.example.org", **host}
    data.update(deployments=ports, hosts={f"{site}.example.org": machine})
    (folder / "sites" / f"{site}.yml").write_text(yaml.safe_dump(data))


def listed(run, source, **environment):
    status, output = run("ansible-inventory", "-i", str(source), "--list", **environment)
    assert status == 0, output
    return json.loads(output[output.index("{\n") :]), output


def result(output):
    """The result of the check, out of the output of a play."""
    found = re.search(r"^(?:ok|fatal): \[[^]]+\](?:: FAILED!)? => ", output, re.M)
    assert found, output
    return json.JSONDecoder().raw_decode(output, found.end())[0]


# --- the inventory


@pytest.mark.parametrize("source", ["", "small.system.yml"])
def test_the_inventory_of_a_folder_and_of_a_file(run, source):
    found, output = listed(run, SMALL / source, **NEEDED)
    assert SECRET not in output
    assert found["systems"]["children"] == ["system_small"]
    for group in ("system_small", "site_acme", "machine_login1_acme_example_org"):
        assert sorted(found[group]["hosts"]) == ["acme-dev", "acme-prod", "acme-staging"]
    assert found["deployment_dev"]["hosts"] == ["acme-dev"]
    variables = found["_meta"]["hostvars"]["acme-prod"]
    assert variables["ansible_host"] == "login1.acme.example.org"
    assert variables["ansible_user"] == "jaws"
    assert variables["sciops_sites_target"] == {
        "system": "small", "site": "acme", "deployment": "prod", "host": "acme-prod",
        "machine": "login1.acme.example.org", "file": str(SMALL / "small.system.yml"),
    }  # fmt: skip
    values = variables["sciops_sites_values"]
    assert (values["RPC_SERVER_NUM_THREADS"], values["INSTALL_DIR"]) == (9, "/opt/jaws/acme-prod")
    assert values["SITE_VERSION"] == "2.8"
    assert not {"DB_PW", "DSN", "SITE_DNS_NAME"} & set(values)


def test_several_hosts_own_values_and_constructed_groups(run, small):
    hosts = {"l1.acme.example.org": {"vars": {"LOG_LEVEL": "INFO"}}, "l2.acme.example.org": {"machine": "m2"}}
    (small / "sites" / "beta.yml").write_text(
        yaml.safe_dump({"hosts": hosts, "deployments": {"dev": None}, "vars": {"GROUP": "{{ site ~ '{{ x }}' }}"}})
    )
    with (small / "small.system.yml").open("a") as file:
        file.write(
            "groups: {debugging: sciops_sites_values.LOG_LEVEL == 'DEBUG'}\n"
            "keyed_groups: [{key: sciops_sites_target.machine, prefix: at}]\n"
        )
    found, _output = listed(run, small)
    assert found["debugging"]["hosts"] == ["acme-dev", "beta-dev-l2"]
    assert found["at_m2"]["hosts"] == ["beta-dev-l2"]
    values = found["_meta"]["hostvars"]["beta-dev-l1"]["sciops_sites_values"]
    assert values["LOG_LEVEL"] == "INFO"
    assert "RMQ_HOST" not in values
    assert "beta{{ x }}" in json.dumps(values["GROUP"])


def test_a_file_of_the_wrong_form_refuses_everything(run, small):
    (small / "sites" / "beta.yml").write_text("hots: {h1: {}}\n")
    (small / "layers" / "pord.yml").write_text("A: {x: 1}\n")
    status, output = run("ansible-inventory", "-i", str(small), "--list")
    assert status != 0
    assert 'beta.yml:1: hots: unknown key, did you mean "hosts"?' in output
    assert "layers/pord.yml:1: A" in output
    assert "acme-dev" not in output


def test_two_systems_with_one_name_for_a_target(run, small, tmp_path):
    shutil.copytree(small, tmp_path / "other")
    status, output = run("ansible-inventory", "-i", str(small), "-i", str(tmp_path / "other"), "--list")
    assert status != 0
    assert "another file of this inventory has hosts of these names: acme-dev" in output


# --- the check


def test_all_is_well(check):
    status, output, touched = check("-l", "acme-dev", SMALL_LOG_LEVEL="INFO", **NEEDED)
    assert (status, touched) == (0, True), output
    found = result(output)
    assert found["targets"] == {
        "acme-dev": {
            "system": "small", "site": "acme", "deployment": "dev", "machine": "login1.acme.example.org",
            "version": "2.8", "root": "/opt/jaws/acme-dev", "install": "none", "launch": "none",
            "services": ["rpc-server"], "files": 1,
        }
    }  # fmt: skip
    assert [row["name"] for row in found["unused"]] == ["DOCS_URL"]
    assert [(row["name"], row["file"]) for row in found["shadowed"]] == [("LOG_LEVEL", "SMALL_LOG_LEVEL")]
    assert found["free_ports"]["login1.acme.example.org"]["dev"] == {"SUPERVISOR_PORT": 64104, "CROMWELL_PORT": 50104}
    assert "variables that nothing uses: DOCS_URL" in output
    assert "ignored because a higher layer gives a value: SMALL_LOG_LEVEL" in output


def test_what_is_missing_is_told_at_once_and_nothing_is_touched(check, small):
    site = yaml.safe_load((small / "sites" / "acme.yml").read_text())
    for name in ("GROUP", "RMQ_HOST"):
        del site["vars"][name]
    site["vars"]["RPC_SERVER_NUM_THREADS"] = "many"
    (small / "sites" / "acme.yml").write_text(yaml.safe_dump(site))
    (small / "templates" / "config" / "more.j2").write_text("one\n{{ RMQ_PROT }} {{ RMQ_HOST }}\n")
    status, output, touched = check(SMALL_SITE_VERSION="2.8")
    assert (status != 0, touched) == (True, False)
    faults = [re.sub(r"^/\S+/small/", "", fault) for fault in result(output)["faults"]]
    everywhere = " (acme-dev, acme-staging, acme-prod)"
    assert [fault.split("; ")[0] for fault in faults if "mandatory" in fault] == [
        "small.system.yml:16: variables.GROUP: is mandatory and has no value",
        "small.system.yml:17: variables.RMQ_HOST: is mandatory and has no value",
        "small.system.yml:19: variables.DB_PW: is mandatory and has no value",
    ]
    others = [fault for fault in faults if "mandatory" not in fault]
    assert others[0].endswith(f'vars.RPC_SERVER_NUM_THREADS: "many": must be a whole number{everywhere}')
    assert "more.j2:2: RMQ_PROT: is undefined" in others[1]
    assert len(others) == 2
    assert all(fault.endswith(everywhere) for fault in faults)


@pytest.mark.parametrize(("environment", "told"), [
    ({"SMALL_DB_PW": ""}, "SMALL_DB_PW: is a secret and empty"),
    ({"SMALL_SITE_VERSION": ""}, "SMALL_SITE_VERSION: \\\"\\\": is mandatory and empty"),
])  # fmt: skip
def test_empty_is_refused(check, environment, told):
    status, output, touched = check(**{**NEEDED, **environment})
    assert (status != 0, touched) == (True, False)
    assert told in output


def test_the_layer_of_the_caller(check):
    given = json.dumps({"sciops_sites_vars": {"SITE_VERSION": "3.0", "LOG_LEVEL": "LOUD"}})
    status, output, touched = check("-e", given, "-l", "acme-dev", **NEEDED)
    assert (status != 0, touched) == (True, False)
    assert result(output)["faults"] == ['sciops_sites_vars: LOG_LEVEL: "LOUD": must be DEBUG or INFO (acme-dev)']
    assert result(output)["targets"]["acme-dev"]["version"] == "3.0"


def test_collisions_with_targets_that_the_limit_leaves_out(check, small):
    block(small, "beta", 64104, 50104)
    block(small, "gamma", 64101, 50104)
    status, output, touched = check("-l", "gamma-dev", **NEEDED)
    assert (status != 0, touched) == (True, False)
    clashes = result(output)["clashes"]
    assert [(clash["kind"], [owner["host"] for owner in clash["owners"]]) for clash in clashes] == [
        ("port", ["beta-dev", "gamma-dev"]),
        ("port", ["acme-dev", "gamma-dev"]),
    ]
    assert "free on login1.acme.example.org: dev SUPERVISOR_PORT 64107, CROMWELL_PORT 50107; staging" in output
    status, output, touched = check("-l", "acme-prod:beta-prod", **NEEDED)
    assert status != 0
    assert len(result(output)["clashes"]) == 2
    (small / "sites" / "gamma.yml").unlink()
    assert check(**NEEDED)[0] == 0


def test_without_a_target_the_check_says_so(run, tmp_path, root):
    play = tmp_path / "check.yml"
    play.write_text(CHECK.replace("hosts: systems", "hosts: all"))
    status, output = run(
        "ansible-playbook", "-i", str(root / "inventories" / "demo"), str(play), "-e", "touched=/nowhere"
    )
    assert status != 0
    assert "none of the hosts of this play is a target of a system" in output


def test_a_vaulted_value_is_used_and_not_shown(check, run, small, tmp_path):
    password = tmp_path / "password"
    password.write_text("secret\n")
    environment = {"ANSIBLE_VAULT_PASSWORD_FILE": str(password), "SMALL_SITE_VERSION": "2.8"}
    status, vaulted = run("ansible-vault", "encrypt_string", SECRET, "--encrypt-vault-id", "default", **environment)
    assert status == 0, vaulted
    lines = [line.strip() for line in vaulted.splitlines()]
    kept = [line for line in lines if line.startswith("$ANSIBLE_VAULT") or re.fullmatch("[0-9a-f]{4,}", line)]
    cipher = "!vault |\n" + "".join(f"    {line}\n" for line in kept)
    with (small / "layers" / "dev.yml").open("a") as file:
        file.write(f"DB_PW: {cipher}")
    status, output, touched = check("-l", "acme-dev", **environment)
    assert (status, touched) == (0, True), output
    _found, output = listed(run, small, **environment)
    assert SECRET not in output
    status, output = run("ansible-inventory", "-i", str(small), "--list")
    assert status != 0
    assert "dev.yml" in output


# --- where values come from


def test_explain_for_each_target(run, small):
    status, output = run(
        "ansible-playbook", "-i", str(small), EXPLAIN, "-e", "name=LOG_LEVEL", "-l", "acme-dev:acme-prod",
        SMALL_LOG_LEVEL="DEBUG",
    )  # fmt: skip
    assert status == 0, output
    rows = {
        host: json.loads(body)["msg"][0]
        for host, body in re.findall(r"^ok: \[([^]]+)\] => (\{.*?^\})", output, re.M | re.S)
    }
    assert set(rows) == {"acme-dev", "acme-prod"}
    environment = {"layer": "environment", "file": "SMALL_LOG_LEVEL", "line": 0, "value": "DEBUG"}
    system = {"layer": "system", "file": str(small / "small.system.yml"), "line": 14, "value": "INFO"}
    assert rows["acme-dev"] == {
        "name": "LOG_LEVEL", "value": "DEBUG", "secret": False, "layer": "deployment", "template": None, "why": "",
        "file": str(small / "layers" / "dev.yml"), "line": 5, "shadows": [system, environment],
    }  # fmt: skip
    assert (rows["acme-prod"]["layer"], rows["acme-prod"]["shadows"]) == ("system", [environment])


def test_explain_all_variables_without_secrets(run, small):
    status, output = run("ansible-playbook", "-i", str(small), EXPLAIN, "-e", "name=", "-l", "acme-dev", **NEEDED)
    assert status == 0, output
    assert SECRET not in output
    rows = {row["name"]: row for row in json.loads(re.search(r"^ok: .*? => (\{.*?^\})", output, re.M | re.S)[1])["msg"]}
    assert len(rows) == 15
    assert (rows["DSN"]["secret"], rows["DSN"]["value"]) == (True, None)
    assert rows["SITE_DNS_NAME"]["why"] == "uses DNS_ZONE, which has no value"
    assert rows["INSTALL_DIR"]["template"] == "{{ INSTALL_BASEDIR }}/{{ site }}-{{ deployment }}"


def test_explain_names_its_neighbour(run, small):
    status, output = run("ansible-playbook", "-i", str(small), EXPLAIN, "-e", "name=LOG_LEVLE")
    assert status != 0
    assert 'LOG_LEVLE: no such variable, did you mean "LOG_LEVEL"?' in output


def test_explain_of_site_files_is_what_it_was(run, root):
    arguments = (
        "-e",
        f"sciops_sites_file={root}/inventories/prod/wipac.site.yml",
        "-e",
        "sciops_sites_path=policy.quorum",
    )
    status, output = run("ansible-playbook", EXPLAIN, *arguments)
    assert status == 0, output
    assert '"path": "policy.quorum"' in output
    status, output = run("ansible-playbook", EXPLAIN)
    assert status != 0
    assert "name the site file with -e sciops_sites_file" in output


def test_the_lookup_for_another_target(run, small, tmp_path):
    play = tmp_path / "play.yml"
    play.write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - ansible.builtin.assert:\n        that:\n"
        "          - lookup('sciops.sites.variable', 'LOG_LEVEL', host='acme-dev').value == 'DEBUG'\n"
        "          - lookup('sciops.sites.variable', 'LOG_LEVEL', host='acme-prod').value == 'DEBUG'\n"
        "          - lookup('sciops.sites.variable', 'LOG_LEVEL', host='acme-prod').layer == 'caller'\n"
        "          - lookup('sciops.sites.variable', 'GROUP', target=other).layer == 'site'\n"
        "      vars:\n        sciops_sites_vars: {LOG_LEVEL: DEBUG}\n"
        "        other: \"{{ hostvars['acme-dev'].sciops_sites_target }}\"\n"
    )
    status, output = run("ansible-playbook", "-i", str(small), str(play))
    assert status == 0, output


@pytest.mark.parametrize("state", ["previous", "started", "stopped", "restarted"])
def test_a_change_without_a_deployment_keeps_as_many_releases_as_declared(monkeypatch, state):
    """Going back removes old releases and builds too: not more of them than a deployment would."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(Deploy, "_step", lambda self, module, **options: asked.update(options, module=module) or {})
    given = {"services": [], "retry": False, "by": "ann", "reason": "ticket 4711"}
    action = Deploy.__new__(Deploy)
    action._work({"host": "acme-dev", "root": "/opt/a", "keep": 7}, [], {"state": state, **given})
    assert asked == {"module": "release_switch", "root": "/opt/a", "state": state, "keep": 7, **given}
