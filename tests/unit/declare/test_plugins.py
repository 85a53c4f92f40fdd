# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugins as Ansible runs them: inventory, lookup, import, with the ansible-core that is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
IMPORT = "sciops.sites.import_interface"


@pytest.fixture
def run(root, tmp_path):
    """Run a command of ansible-core in the checkout; (status, output)."""

    def command(name: str, *arguments: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(BIN / name), *arguments],
            cwd=root,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout

    return command


@pytest.fixture
def listed(run):
    """The inventory as JSON."""

    def of(source: Path, **environment: str):
        status, output = run("ansible-inventory", "-i", str(source), "--list", "--export", **environment)
        assert status == 0, output
        return json.loads(output[output.index("{\n") :])

    return of


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "test"
    folder.mkdir()
    return folder / "lab.site.yml"


def plain(value):
    """Take away the mark that Ansible puts on strings it must not render."""
    if isinstance(value, dict):
        if set(value) == {"__ansible_unsafe"}:
            return value["__ansible_unsafe"]
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def test_demo_inventory(root, listed):
    found = listed(root / "inventories" / "demo")
    assert found["site_demo"]["hosts"] == ["demo-1", "demo-2", "demo-3"]
    assert found["component_pipe0_copier"]["hosts"] == ["demo-1", "demo-2"]
    assert {"sites", "deployment_demo", "pipe_pipe0", "pipe_pipe1", "class_transfer"} <= set(found)
    declaration = plain(found["site_demo"]["vars"]["sciops_sites_site"])
    assert declaration["set_aside"] == {}
    on = [one for one in declaration["components"].values() if one["state"] == "on"]
    assert sum(one["count"]["max"] for one in on) == 12
    assert "{{ site_dir }}/../pipeline/stage.py" in declaration["components"]["pipe0/maker"]["command"]
    assert found["site_demo"]["vars"]["ansible_connection"] == "local"


def test_prod_inventory_keeps_the_order_of_ranges(root, listed):
    found = listed(root / "inventories" / "prod")
    assert found["class_c9"]["hosts"] == [f"c9-{number}.icecube.example" for number in range(1, 13)]
    assert len(found["site_wipac"]["hosts"]) == 16


def test_commands_arrive_verbatim_in_a_play(site, run, tmp_path):
    site.write_text(
        "plugin: sciops.sites.site\nhosts: {h1: {vars: {ansible_host: '127.0.0.{{ 1 + 1 }}'}}}\n"
        "connection: {ansible_connection: local}\n"
        "pipes: {p: {components: {a: {command: ['/bin/a', '{{ slot }}', '{% if slot %}x{% endif %}']}}}}\n"
    )
    play = tmp_path / "play.yml"
    play.write_text(
        "- hosts: h1\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.assert:\n        that:\n"
        "          - words[1] | length == 10\n          - words[2] | length == 25\n          - ansible_host == '127.0.0.2'\n"  # noqa: E501
        "      vars:\n        words: \"{{ sciops_sites_site.components['p/a'].command }}\"\n"
    )
    status, output = run("ansible-playbook", "-i", str(site), str(play))
    assert status == 0, output


def test_constructed_groups_and_variables(site, listed):
    site.write_text(
        "plugin: sciops.sites.site\nhosts: {h1: {hot_limit: 2}, h2: {state: drain}}\nstrict: true\n"
        "groups: {draining: sciops_sites_host.state == 'drain'}\n"
        "keyed_groups: [{key: sciops_sites_host.site, prefix: of}]\n"
        "compose: {limit: 'sciops_sites_host.hot_limit | default(0, true)'}\n"
    )
    found = listed(site)
    assert found["draining"]["hosts"] == ["h2"]
    assert found["of_lab"]["hosts"] == ["h1", "h2"]
    assert found["_meta"]["hostvars"]["h1"]["limit"] == 2


def test_the_cache_is_used_until_a_file_changes(site, listed, tmp_path):
    cache = tmp_path / "cache"
    text = (
        "plugin: sciops.sites.site\nhosts: {h1: {}}\ncache: true\n"
        f"cache_plugin: ansible.builtin.jsonfile\ncache_connection: {cache}\n"
    )
    site.write_text(text)
    assert listed(site)["site_lab"]["hosts"] == ["h1"]
    (kept,) = cache.iterdir()
    # ansible-core 2.19 keeps the data as JSON in a string of JSON
    text_kept, found = re.subn(r'(\\?"description\\?": \\?")(\\?")', r"\1from the cache\2", kept.read_text(), count=1)
    assert found == 1
    kept.write_text(text_kept)
    assert listed(site)["site_lab"]["vars"]["sciops_sites_site"]["description"] == "from the cache"
    site.write_text(text.replace("h1: {}", "h1: {}, h2: {}"))
    found = listed(site)
    assert found["site_lab"]["hosts"] == ["h1", "h2"]
    assert found["site_lab"]["vars"]["sciops_sites_site"]["description"] == ""


def test_vaulted_values_and_files(site, run, listed, tmp_path):
    password = tmp_path / "password"
    password.write_text("secret\n")
    environment = {"ANSIBLE_VAULT_PASSWORD_FILE": str(password)}
    status, vaulted = run("ansible-vault", "encrypt_string", "hush 1", "--encrypt-vault-id", "default", **environment)
    assert status == 0, vaulted
    lines = [line.strip() for line in vaulted.splitlines()]
    kept = [line for line in lines if line.startswith("$ANSIBLE_VAULT") or re.fullmatch("[0-9a-f]{4,}", line)]
    cipher = "!vault |\n" + "".join(f"      {line}\n" for line in kept)
    site.write_text(
        "plugin: sciops.sites.site\nhosts: {h1: {}}\n"
        f"connection:\n  ansible_become_password: {cipher}"
        f"vars:\n  word: {cipher}"
        "cache: true\ncache_plugin: ansible.builtin.jsonfile\n" + f"cache_connection: {tmp_path / 'cache'}\n"
    )
    found = listed(site, **environment)["site_lab"]["vars"]
    assert found["ansible_become_password"] != "hush 1"
    assert "hush" not in json.dumps(found["ansible_become_password"])
    assert plain(found["sciops_sites_site"])["vars"] == {"word": "hush 1"}
    # what is encrypted is never copied into a cache
    assert not list((tmp_path / "cache").glob("*"))

    site.write_text("plugin: sciops.sites.site\nhosts: {h1: {}}\nvars: {word: x}\n")
    status, output = run("ansible-vault", "encrypt", str(site), **environment)
    assert status == 0, output
    assert plain(listed(site, **environment)["site_lab"]["vars"]["sciops_sites_site"])["vars"] == {"word": "x"}


def test_a_bad_file_ends_the_run_with_its_message(site, run):
    site.write_text("plugin: sciops.sites.site\nhosts: {h1: {hotlimit: 2}}\n")
    status, output = run("ansible-inventory", "-i", str(site), "--list")
    assert status != 0
    assert f'{site}:2: hosts.h1.hotlimit: unknown key, did you mean "hot_limit"?' in output


def test_explain_prints_the_origin(root, run):
    file = "inventories/prod/wipac.site.yml"
    status, output = run(
        "ansible-playbook", "playbooks/explain.yml", "-e", f"sciops_sites_file={root / file}",
        "-e", "sciops_sites_path=pipes.pipe0.components.bundler.grace",
    )  # fmt: skip
    assert status == 0, output
    assert "layer: deployment prod" in output
    assert f"file: {root}/inventories/layers/prod.yml" in output


def test_j01_import_is_idempotent_and_check_mode_writes_nothing(interface_json, run, tmp_path):
    """J1: the module imports, says the counts, and changes nothing the second time."""
    (tmp_path / "prod").mkdir()
    dest = tmp_path / "prod" / "wipac.site.yml"
    arguments = ("ansible-playbook", "playbooks/import_interface.yml", "-e", f"sciops_sites_src={interface_json}",
                 "-e", f"sciops_sites_dest={dest}")  # fmt: skip
    status, output = run(*arguments, "--check", "--diff")
    assert (status, dest.exists()) == (0, False), output
    assert "+site: wipac" in output
    status, output = run(*arguments)
    assert status == 0 and "changed=1" in output, output
    assert "components: 17" in output
    status, output = run(*arguments)
    assert status == 0 and "changed=0" in output, output
    back = tmp_path / "Interface.json"
    status, output = run(
        "ansible-playbook", "playbooks/import_interface.yml", "-e", f"sciops_sites_src={dest}",
        "-e", f"sciops_sites_dest={back}", "-e", "sciops_sites_direction=export",
    )  # fmt: skip
    assert status == 0, output
    assert json.loads(back.read_text()) == json.loads(interface_json.read_text())


def test_j01_a_faulty_interface_is_refused_and_nothing_written(run, tmp_path):
    """J1: all faults are listed, nothing is written."""
    source = tmp_path / "Interface.json"
    source.write_text('{"hotlimt": 2, "available": ["a"], "pipes": [{"pipe": "p", "types": [{"name": "x"}]}]}')
    dest = tmp_path / "x.site.yml"
    status, output = run("ansible-playbook", "playbooks/import_interface.yml", "-e", f"sciops_sites_src={source}",
                         "-e", f"sciops_sites_dest={dest}")  # fmt: skip
    assert status == 2
    assert not dest.exists()
    assert 'hotlimt: unknown key, did you mean "hotlimit"?' in output
    assert "pipes[0].types[0].key: is missing" in output


def test_live_groups_when_asked(site, listed):
    """One host that answers and one whose port nobody listens on: the latter is unknown and in no other live group."""
    site.write_text(
        "plugin: sciops.sites.site\nobserve: true\n"
        "hosts: {o1: {}, o2: {vars: {ansible_connection: ssh, ansible_host: 127.0.0.9, ansible_port: 9}}}\n"
        "connection: {ansible_connection: local, ansible_python_interpreter: '{{ ansible_playbook_python }}'}\n"
        "pipes: {p: {components: {x: {command: /bin/true}}}}\n"
    )
    found = listed(site)
    assert found["reachable"]["hosts"] == ["o1"]
    assert found["unknown"]["hosts"] == ["o2"]
    assert "hot" not in found or "hosts" not in found["hot"]
    assert not [name for name in found if name.startswith("running_")]
