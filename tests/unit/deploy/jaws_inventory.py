# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example inventory of JAWS, resolved and rendered as a deploy does it, with more sites where a test wants them."""

from __future__ import annotations

import shutil
from pathlib import Path

from ansible.parsing.dataloader import DataLoader

from ansible_collections.sciops.sites.plugins.plugin_utils import _systemfile, _variables
from ansible_collections.sciops.sites.plugins.plugin_utils._templates import Templates

ROOT = Path(__file__).resolve().parents[3]
#: a value that breaks who does not quote
ODD = """a%b$HOME "c d" 'e' \\f`g`#;h"""
SECRETS = (
    "JAWS_DB_PW",
    "JAWS_RMQ_PW",
    "JAWS_SUPERVISORD_PW",
    "JAWS_GLOBUS_CLIENT_SECRET",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "CI_REGISTRY_PASSWORD",
)
ENVIRONMENT = {
    **{name: f"{name.lower()} {ODD}" for name in SECRETS},
    "JAWS_SITE_VERSION": "2.8",
    "JAWS_IMAGE_DIGEST": "sha256:" + "0123456789abcdef" * 4,
    "CI_REGISTRY": "registry.example.org",
    "CI_REGISTRY_USER": "ci",
}
ACME = """\
hosts: {login1.acme.example.org: {}}
vars:
  LAUNCH_METHOD: supervisord
  INSTALL_METHOD: venv
  INSTALL_BASEDIR: /opt/jaws
  SCRATCH_BASEDIR: /scratch/jaws
  REF_DATA_DIR: /data/refdata
  GROUP: jaws
  USERS_GROUP: users
  ACCESS_GROUP: jaws-users
  GLOBUS_EP: 11111111-2222-4333-8444-555555555555
  GLOBUS_HOST_PATH: /globus//
  MAX_RAM_GB: 512
  MAX_CPU: 64
  MAX_TIME: "24:00:00"
"""


class Inventory:
    """The system of a folder, and its targets."""

    def __init__(self, folder: Path, name: str = "jaws") -> None:
        self.system = _systemfile.read(str(folder / f"{name}.system.yml"), DataLoader())
        self.templates = Templates(*_systemfile.reader(folder))

    def resolve(self, target: str, caller=None, environment=None):
        """(target, its fatal problems as text). `environment` None is all that the example needs."""
        place = next(place for place in self.system.places if place.name == target)
        found, problems = _variables.resolve(
            self.system,
            place.site,
            place.deployment,
            place.name,
            ENVIRONMENT if environment is None else environment,
            caller or {},
        )
        return found, [str(problem) for problem in problems if problem.fatal]

    def target(self, target: str, caller=None):
        """A target that has nothing wrong."""
        found, problems = self.resolve(target, caller)
        assert problems == []
        return found

    def files(self, target: str, caller=None):
        """The files of a target, by the path that each has on its host."""
        return {one["dest"]: one for one in self.templates.render(self.target(target, caller))}


def copied(tmp_path: Path, **sites: str) -> Inventory:
    """A copy of the example with more sites, name -> text of the file."""
    folder = tmp_path / "jaws"
    if not folder.exists():
        shutil.copytree(ROOT / "inventories/jaws", folder)
    for name, text in sites.items():
        (folder / f"sites/{name}.yml").write_text(text)
    return Inventory(folder)
