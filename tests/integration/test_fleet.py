# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole jadetools fleet, 16 hosts and 17 components, imported from its Interface.json, run by its submitters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from bed.fleet import Fleet
from bed.play import Player

pytestmark = pytest.mark.hosts

RECONCILE = "playbooks/reconcile.yml"


def own_interface() -> dict[str, Any]:
    """An Interface.json of our own: the same form and size as the real one, other names."""
    layout = {
        "in": ("fetch", "unpack", "check", "store", "clean", "limit"),
        "out": ("pack", "send", "verify", "trim"),
        "copy": ("pack", "send", "verify", "trim", "limit", "audit", "sweep"),
    }
    pipes = []
    for pipe, names in layout.items():
        types = [
            {
                "name": name,
                "count": 1 + (at % 3 == 0),
                "submitter": f"{pipe}{name}boost",
                "hot": at % 2 == 0,
                "key": f"{pipe}-{name}-worker",
                "on": (pipe, name) not in {("in", "limit"), ("out", "trim"), ("copy", "audit")},
            }
            for at, name in enumerate(names)
        ]
        pipes.append({"pipe": pipe, "description": f"The pipe {pipe}", "types": types})
    hosts = [f"w{number}.lab.example" for number in range(1, 17)]
    return {"hotlimit": 2, "debuglevel": 0, "debugmode": False, "available": hosts, "pipes": pipes}


@pytest.fixture(params=["own", "real"])
def interface(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "own":
        return own_interface()
    path: Path = request.getfixturevalue("interface_json")
    return dict(json.loads(path.read_text()))


def components(interface: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{pipe['pipe']}/{one['name']}": one for pipe in interface["pipes"] for one in pipe["types"]}


def install_submitters(fleet: Fleet, interface: dict[str, Any]) -> None:
    """What jadetools has on each host: a submitter that starts a wrapper in the background and ends."""
    lines = ["cd /home/jadelta; mkdir -p log bin"]
    for one in components(interface).values():
        submitter = f"#!/bin/bash\nnnn=$(date +%s)\n/home/jadelta/{one['key']} >& log/{one['key']}.$nnn.log &\n"
        wrapper = f"#!/bin/bash\ncd /home/jadelta\nbash /home/jadelta/bin/{one['key']}.sh\n"
        script = "#!/bin/bash\necho working\nsleep 30001\n"
        for name, text in ((one["submitter"], submitter), (one["key"], wrapper), (f"bin/{one['key']}.sh", script)):
            lines.append(f"cat > {name} <<'EOF'\n{text}EOF\nchmod 755 {name}")
    lines.append("chown -R jadelta: /home/jadelta")
    for host in fleet.names:
        fleet.run(host, "sh", "-c", "\n".join(lines))


def copies(fleet: Fleet, interface: dict[str, Any]) -> dict[str, Counter[str]]:
    """Copies of each component by host, counted as wrapper processes seen from outside."""
    found: dict[str, Counter[str]] = {name: Counter() for name in components(interface)}
    for host in fleet.names:
        commands = Counter(process.args for process in fleet.ps(host) if process.user == "jadelta")
        for name, one in components(interface).items():
            count = commands[f"/bin/bash /home/jadelta/{one['key']}"]
            if count:
                found[name][host] = count
    return found


def test_an_imported_fleet_converges_in_one_pass_and_stays(
    fleet: Callable[..., Fleet], play: Player, tmp_path: Path, interface: dict[str, Any]
) -> None:
    source, target = tmp_path / "Interface.json", tmp_path / "imported" / "lta.site.yml"
    target.parent.mkdir()
    source.write_text(json.dumps(interface))
    imported = play(
        "playbooks/import_interface.yml",
        "localhost,",
        *("-e", f"sciops_sites_src={source} sciops_sites_dest={target} sciops_sites_site_name=lta"),
    )
    assert imported.rc == 0, imported.stdout + imported.stderr

    with fleet(16) as hosts:
        install_submitters(hosts, interface)
        document = yaml.safe_load(target.read_text())
        addresses = [host.address for host in hosts.hosts.values()]
        assert list(document["hosts"]) == interface["available"]
        for (name, entry), address in zip(document["hosts"].items(), addresses, strict=True):
            document["hosts"][name] = {**(entry or {}), "vars": {"ansible_host": address}}
        document["connection"] = {"ansible_user": "jadelta"}
        document.setdefault("defaults", {}).update({"settle": 0.5, "grace": 2})
        inventory = hosts.site_file(tmp_path, document)

        # two of them were started the old way, by hand: they are taken over, not started again
        old = next(one for one in components(interface).values() if one["on"] and one["count"] == 2)
        for host in hosts.names[:2]:
            hosts.ssh(host, f"cd && ./{old['submitter']}", user="jadelta")

        first = play(RECONCILE, inventory)
        assert first.outcome == "changed", first.stdout + first.stderr
        changed = {one["host"] for one in first.site("lta")["results"]}
        assert first.report["execs"] == 16 + len(changed), "J15: one connection a host, one more for each that changes"
        after = copies(hosts, interface)
        wanted = {name: one["count"] if one["on"] else 0 for name, one in components(interface).items()}
        assert {name: sum(where.values()) for name, where in after.items()} == wanted
        started = [one for one in first.site("lta")["results"] if one["kind"] == "start"]
        assert len(started) == sum(wanted.values()) - 2
        heat: Counter[str] = Counter()
        for name, one in components(interface).items():
            if one["hot"]:
                heat.update(after[name])
        assert max(heat.values()) <= interface["hotlimit"]

        second = play(RECONCILE, inventory)
        assert (second.rc, second.outcome, second.recap("changed")) == (0, "unchanged", 0), second.stdout
        assert second.report["execs"] == 16
        assert copies(hosts, interface) == after

        # one too many, started the old way: one is ended, with its whole tree
        hosts.ssh(hosts.names[5], f"cd && ./{old['submitter']}", user="jadelta")
        third = play(RECONCILE, inventory)
        assert third.outcome == "changed", third.stdout
        assert {name: sum(where.values()) for name, where in copies(hosts, interface).items()} == wanted
        sleepers = sum(process.args == "sleep 30001" for host in hosts.names for process in hosts.ps(host))
        assert sleepers == sum(wanted.values()), "no child of a stopped instance is left"
