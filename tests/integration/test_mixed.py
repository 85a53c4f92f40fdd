# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example of a mixed fleet, as it is in inventories/mixed, on real hosts: every launcher in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from bed.condor import condor_pool
from bed.fleet import Fleet, slurm_pool
from bed.play import ROOT, Player

pytestmark = pytest.mark.hosts
RECONCILE = "playbooks/reconcile.yml"
PROGRAMS = ("mover", "catalog", "verifier", "engine", "gateway", "service", "worker")


@pytest.fixture(scope="module")
def seven(fleet: Callable[..., Fleet]) -> Iterator[Fleet]:
    with fleet(7, "systemd", "cluster") as made:
        slurm_pool(made, "h6")
        condor_pool(made, "h7")
        for host in made.names:
            text = "mkdir -p /opt/pipeline; cd /opt/pipeline; " + "; ".join(
                f"printf '#!/bin/sh\\nwhile :; do sleep 1; done\\n' > {name}; chmod 755 {name}" for name in PROGRAMS
            )
            made.run(host, "sh", "-c", f"{text}; cp /opt/images/one.sif /opt/images/engine.sif")
        made.run("h3", "sh", "-c", "echo secret > /home/deploy/.db_password; chown deploy /home/deploy/.db_password")
        yield made


def test_the_mixed_example(seven: Fleet, play: Player, tmp_path: Path) -> None:
    text = (ROOT / "inventories/mixed/mixed.site.yml").read_text()
    # what the example has of a real fleet: an account with a home, and its hosts
    spec = yaml.safe_load(text.replace("/home/pipeline", "/home/deploy"))
    spec["connection"] = {"ansible_user": "deploy"}
    classes = ["login", "login", "vm", "shared", "box", "submit", "access"]
    spec["hosts"] = {f"h{n}": {"classes": [name]} for n, name in enumerate(classes, 1)}
    spec["defaults"] |= {"settle": 1}
    inventory = seven.site_file(tmp_path, spec)
    result = play(RECONCILE, inventory)
    assert (result.rc, result.outcome) == (0, "changed"), result.stdout
    again = play(RECONCILE, inventory)
    assert (again.rc, again.outcome, again.recap("changed")) == (0, "unchanged", 0), again.stdout
    where = {name: one["where"] for name, one in again.site("mixed")["plan"]["components"].items()}
    assert where == {
        "transfer/mover": {"h1": 1, "h2": 1, "h3": 1, "h4": 1},
        "transfer/catalog": {"h3": 1},
        "transfer/verifier": {"h4": 3},
        "workflows/engine": {"h5": 2},
        "workflows/gateway": {"h5": 1},
        "workflows/service": {"h6": 1},
        "workflows/worker": {"h7": 2},
    }
    assert "sciops-transfer-catalog" in seven.ssh("h3", "systemctl --user list-units 'sciops-*'", user="deploy")
    limits = seven.ssh("h3", "systemctl --user show 'sciops-transfer-catalog*' -p LimitNOFILE", user="deploy")
    assert limits == "LimitNOFILE=65536"
    assert len([one for one in seven.ps("h4") if "supervisord -c" in one.args]) == 1
    assert seven.ssh("h5", "apptainer instance list 2>/dev/null", user="deploy").count("engine.sif") == 3
    assert "sciops-workflows" in seven.ssh("h6", "squeue -h -o %j", user="deploy")
    assert seven.ssh("h7", "condor_q -af JobBatchName", user="deploy").count("sciops-workflows-worker") == 2
    stopped = play("playbooks/stop.yml", inventory, "-e", "sciops_sites_names=mixed")
    assert stopped.rc == 0, stopped.stdout
    assert not [one for host in seven.names for one in seven.ps(host) if "/opt/pipeline/" in one.args]
