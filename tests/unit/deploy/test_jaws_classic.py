# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The older generation of JAWS as a system: a central supervisord, and two at each site."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.deploy.jaws_inventory import Inventory

from ansible_collections.sciops.sites.plugins.module_utils import _supervisor, _switching
from ansible_collections.sciops.sites.plugins.plugin_utils import _collisions, _deploying

PORTS = {"central": 64121, "jgi": 64101, "jgi-backend": 64111}
PROGRAMS = {
    "central": ["jaws-auth", "jaws-rest", "jaws-rpc"],
    "jgi": ["jaws-site-daemon", "jaws-site-jtm-rpc", "jaws-site-central-rpc"],
    "jgi-backend": ["jaws-jtm", "jaws-cromwell"],
}


@pytest.fixture(scope="module")
def classic():
    return Inventory(Path(__file__).parent / "classic", "classic")


def sections(files):
    """Every section of the files of a target."""
    return {
        name: dict(options)
        for dest, one in files.items()
        for name, options in _supervisor.parse(one["content"], dest).items()
    }


@pytest.mark.parametrize("deployment", ["dev", "staging", "prod"])
@pytest.mark.parametrize("site", PORTS)
def test_ports_and_programs(classic, site, deployment):
    name = f"{site}-{deployment}"
    found = sections(classic.files(name))
    port = PORTS[site] + ["dev", "staging", "prod"].index(deployment)
    assert found["inet_http_server"]["port"] == f"127.0.0.1:{port}"
    assert found[f"group:jaws-{deployment}"]["programs"].split(",") == PROGRAMS[site]
    assert [key for key in found if key.startswith("program:")] == [f"program:{one}" for one in PROGRAMS[site]]
    # names are said once for the launcher and once for supervisord; this is what fails where they differ
    release = _deploying.manifest(classic.target(name), None, list(classic.files(name).values()))
    assert len(release["prints"]) == len(PROGRAMS[site])


def test_the_two_of_a_site_are_beside_each_other(classic):
    assert _collisions.clashes([classic.target(place.name) for place in classic.system.places]) == []
    files = [classic.files(f"{site}-dev") for site in ("jgi", "jgi-backend")]
    assert [sorted(some) for some in files] == [
        ["/opt/jaws/jaws-dev/configs/jaws.conf", "/opt/jaws/jaws-supervisord-dev/supervisord-jaws.conf"],
        ["/opt/jtm/jaws-dev/configs/jtm.conf", "/opt/jtm/jaws-supervisord-dev/supervisord-jtm.conf"],
    ]


def test_cromwell_starts_after_jtm_and_has_two_minutes_to_stop(classic):
    found = sections(classic.files("jgi-backend-prod"))
    assert int(found["program:jaws-jtm"]["priority"]) < int(found["program:jaws-cromwell"]["priority"])
    assert found["program:jaws-cromwell"]["startsecs"] == "10"
    assert found["program:jaws-cromwell"]["stopwaitsecs"] == "120"
    services = classic.target("jgi-backend-prod")["services"]
    assert _switching.waves(services) == [["jtm"], ["cromwell"]]
    assert {one["name"]: one["timeout"] for one in services}["cromwell"] > 120
