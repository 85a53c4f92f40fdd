# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import and CI matrix as Ansible runs them, with the playbooks, on this controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

DEFAULT = "export JAWS_LOG_LEVEL=INFO\nexport JAWS_RPC_SERVER_NUM_THREADS=5\nexport JAWS_DB_PW=hush-hush\n"
LAYERS = {"dev": "export JAWS_LOG_LEVEL=DEBUG\n", "staging": "", "prod": "export JAWS_RPC_SERVER_NUM_THREADS=16\n"}
SITE = """\
export JAWS_INSTALL_BASEDIR=/opt/jaws
export JAWS_SCRATCH_BASEDIR=$HOME/scratch
export JAWS_GROUP=jaws
export JAWS_GROUP=jaws2
export JAWS_SUPERVISOR_PORT_DEV=64101
export JAWS_SUPERVISOR_PORT_STAGING=64102
export JAWS_SUPERVISOR_PORT_PROD=64103
"""


@pytest.fixture
def run(root, tmp_path):
    """Run a command of ansible-core in the checkout; (status, output)."""

    def command(name: str, *arguments: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(Path(sys.executable).parent / name), *arguments],
            cwd=root,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        return done.returncode, done.stdout

    return command


@pytest.fixture
def configs(tmp_path):
    """A folder of export files with the site acme."""
    folder = tmp_path / "configs"
    (folder / "deployments").mkdir(parents=True)
    (folder / "sites").mkdir()
    (folder / "default.sh").write_text(DEFAULT)
    for name, text in LAYERS.items():
        (folder / "deployments" / f"{name}.sh").write_text(text)
    (folder / "sites" / "acme.sh").write_text(SITE)
    return folder


@pytest.fixture
def play(run, configs, tmp_path):
    """Run the import into tmp_path/jaws."""

    def imported(*arguments: str, src: Path = configs, **variables):
        given = {"sciops_sites_src": str(src), "sciops_sites_dest": str(tmp_path / "jaws"), **variables}
        return run("ansible-playbook", "playbooks/import_exports.yml", "-e", json.dumps(given), *arguments)

    return imported


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_w01_import_runs_and_the_inventory_has_its_values(play, run, tmp_path, configs):
    """W1: check mode writes nothing and shows all; the second run changes nothing; the inventory plugin reads it."""
    dest = tmp_path / "jaws"
    status, output = play("--check", "--diff")
    assert status == 0 and "changed=1" in output and not dest.exists(), output
    assert "+  LOG_LEVEL:" in output and "+LOG_LEVEL: DEBUG" in output and "hush" not in output
    status, output = play(sciops_sites_environment=["JAWS_SITE_VERSION"])
    assert status == 0 and "changed=1" in output and "hush" not in output, output
    assert "sites/acme.sh:4: JAWS_GROUP: is set again, after line 3; the last counts" in output
    assert "default.sh:3: JAWS_DB_PW: is a secret; its value was not taken over" in output
    assert set(files(dest)) == {
        "jaws.system.yml", "layers/dev.yml", "layers/staging.yml", "layers/prod.yml", "sites/acme.yml",
    }  # fmt: skip
    before = files(dest)
    status, output = play("--diff", sciops_sites_environment=["JAWS_SITE_VERSION"])
    assert status == 0 and "changed=0" in output, output

    outside = {"JAWS_LOG_LEVEL": "CRITICAL", "JAWS_SITE_VERSION": "2.8", "JAWS_HOME": "/home/jaws"}
    status, output = run("ansible-inventory", "-i", str(dest), "--host", "acme-prod", **outside)
    assert status == 0, output
    values = json.loads(output[output.index("{\n") :])["sciops_sites_values"]
    plain = {key: value.get("__ansible_unsafe") if isinstance(value, dict) else value for key, value in values.items()}
    assert (plain["LOG_LEVEL"], plain["RPC_SERVER_NUM_THREADS"], plain["SITE_VERSION"]) == ("INFO", "16", "2.8")
    assert (plain["SUPERVISOR_PORT"], plain["GROUP"]) == (64103, "jaws2")
    assert (plain["SCRATCH_BASEDIR"], plain["INSTALL_DIR"]) == ("/home/jaws/scratch", "/opt/jaws/acme-prod")

    # a new site is one new file, and a file that is gone is told
    (configs / "sites" / "bolt.sh").write_text(SITE.replace("641", "642"))
    status, output = play("--diff", sciops_sites_environment=["JAWS_SITE_VERSION"], sciops_sites_parts=["sites"])
    assert status == 0 and "changed=1" in output, output
    after = files(dest)
    assert after.pop("sites/bolt.yml") and after == before
    (configs / "sites" / "bolt.sh").unlink()
    status, output = play(sciops_sites_environment=["JAWS_SITE_VERSION"])
    assert "sites/bolt.yml: is not in the imported files, and stays" in output


def test_an_edited_file_is_never_lost(play, tmp_path, configs):
    dest = tmp_path / "jaws"
    assert play()[0] == 0
    site = dest / "sites" / "acme.yml"
    site.write_text(site.read_text().replace("acme: {}", "login1.acme.example.org: {}"))
    (configs / "default.sh").write_text(DEFAULT.replace("THREADS=5", "THREADS=6"))
    before = files(dest)
    for mode in ([], ["--check"]):
        status, output = play(*mode)
        assert status == 2 and "nothing was written, because these were edited" in output, output
        assert str(site) in output and files(dest) == before
    status, output = play(sciops_sites_parts=["system", "layers"])
    assert status == 0 and "changed=1" in output, output
    assert site.read_text() == before["sites/acme.yml"] and files(dest) != before
    status, output = play("--diff", sciops_sites_force=True)
    assert status == 0 and "-  login1.acme.example.org: {}" in output, output
    assert "login1" not in site.read_text()


def test_all_faults_are_listed_and_nothing_is_written(play, tmp_path, configs):
    (configs / "sites" / "acme.sh").write_text("if true; then\r\nexport A=$(hush)\nfi\n")
    (configs / "deployments" / "dev.sh").write_text("export B=hush more\n")
    status, output = play()
    assert status == 2 and not (tmp_path / "jaws").exists()
    for place in (
        "deployments/dev.sh:1: B: has a second word",
        "sites/acme.sh:1: ends in",
        "sites/acme.sh:2: A: $( runs",
    ):
        assert place in output
    assert "sites/acme.sh:3: fi: only lines" in output and "hush" not in output
    (configs / "default.sh").unlink()
    status, output = play()
    assert status == 2 and "default.sh and defaults.sh: neither is there" in output


def test_w17_the_older_form(play, tmp_path):
    """W17: a flat file becomes three systems; the second run changes nothing."""
    flat = tmp_path / ".gitlab-ci.yml"
    variables = {f"{name}_LOG_LEVEL": "INFO" for name in LAYERS}
    variables.update({f"{name}_JAWS_SUPERVISOR_PORT": 64101 + at for at, name in enumerate(LAYERS)})
    variables.update({"CORI_INSTALL_BASEDIR": "/opt/jaws", "CENTRAL_INSTALL_BASEDIR": "/opt/central"})
    flat.write_text(yaml.safe_dump({"variables": variables, "job": {"script": ["true"]}}))
    status, output = play(src=flat)
    assert status == 0 and "changed=1" in output, output
    assert {"site/site.system.yml", "backend/sites/cori-backend.yml", "central/templates/programs.conf.j2"} <= set(
        files(tmp_path / "jaws")
    )
    status, output = play(src=flat)
    assert status == 0 and "changed=0" in output, output


# --- CI matrix


def inventory(folder: Path, sites: dict[str, str]) -> Path:
    """An inventory as the inventory plugin makes it, written by hand."""
    hosts = {
        f"{site}-{deployment}": {
            "sciops_sites_target": {"system": "jaws", "site": site, "deployment": deployment, "host": "h", "file": "f"},
            "sciops_sites_values": {"LAUNCH_METHOD": launch, "INSTALL_METHOD": "venv"},
        }
        for site, launch in sites.items()
        for deployment in LAYERS
    }
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump({"systems": {"hosts": hosts}}))
    return path


def test_w18_the_matrix_of_an_inventory(run, tmp_path):
    """W18: 24 jobs; check mode writes nothing; a new site adds three jobs, and no line is taken away."""
    dest = tmp_path / "deploy.yml"
    sites = {f"site{number}": "supervisord" for number in range(1, 8)} | {"slurm": "scrontab"}

    def play(*arguments: str, **variables: str):
        path = str(inventory(tmp_path, sites))
        given = json.dumps({"sciops_sites_dest": str(dest), **variables})
        return run("ansible-playbook", "playbooks/ci_matrix.yml", "-i", path, "-e", given, *arguments)

    status, output = play("--check", "--diff")
    assert status == 0 and "changed=1" in output and not dest.exists(), output
    assert "+deploy-site1-dev:" in output
    assert play()[0] == 0
    before = dest.read_text()
    document = yaml.safe_load(before)
    assert len([name for name in document if name.startswith("deploy-")]) == 24
    assert document["deploy-slurm-staging"]["rules"][0]["allow_failure"] is False
    status, output = play()
    assert status == 0 and "changed=0" in output, output
    sites["new"] = "systemd"
    status, output = play("--diff")
    assert status == 0 and "changed=1" in output, output
    lines = [line for line in dest.read_text().splitlines() if line not in before.splitlines()]
    assert all("new" in line for line in lines) and sum(line.startswith("deploy-new-") for line in lines) == 3
    assert not [line for line in output.splitlines() if line.startswith("-") and not line.startswith("---")]
    status, output = play(sciops_sites_dialect="github", sciops_sites_dest=str(tmp_path / "workflow.yml"))
    assert status == 0 and len(yaml.safe_load((tmp_path / "workflow.yml").read_text())["jobs"]) == 27, output


def test_w18_the_matrix_of_the_inventory_plugin(run, play, configs, tmp_path):
    """W18: the imported inventory itself: three jobs for a site; rules without a method where no variable has one."""
    (configs / "sites" / "bolt.sh").write_text(SITE)
    assert play()[0] == 0
    rules = [{"deployment": "dev", "tag": "dev"}, {"branch": "main", "when": "manual"}]
    arguments = ("playbooks/ci_matrix.yml", "-i", str(tmp_path / "jaws"))
    status, output = run("ansible-playbook", *arguments, "-e", json.dumps({"sciops_sites_rules": rules}))
    assert status == 0 and output.count("- deploy-") == 6, output
    status, output = run("ansible-playbook", *arguments)
    assert status == 2 and "acme-staging: a rule asks for its launch method" in output
    status, output = run("ansible-playbook", "playbooks/ci_matrix.yml", "-i", "localhost,")
    assert status == 2 and "no system in this inventory" in output
