# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory plugin: one system, its deployments, and one file for each of its sites."""

from __future__ import annotations

DOCUMENTATION = r"""
name: system
short_description: The targets of a system, from its system file with layers and sites
version_added: 0.1.0
author: sciops.sites contributors (@sciops)
description:
  - Reads a system file, a YAML file whose name ends with C(.system.yml) or C(.system.yaml), with the files
    C(layers/DEPLOYMENT.yml) and C(sites/SITE.yml) beside it. Each deployment at each site, on each host of the site, is
    one target, a host of the inventory.
  - The name of a target is C(SITE-DEPLOYMENT), or C(SITE-DEPLOYMENT-HOST) with the short name of the host where a site
    has several hosts. The connection variables are those of the site file, C(ansible_host) is the host.
  - The groups are C(systems), C(system_SYSTEM), C(site_SITE), C(deployment_DEPLOYMENT) and C(machine_MACHINE), with
    characters that Ansible does not allow replaced by C(_).
  - Each target has the variables C(sciops_sites_target), a mapping with C(system), C(site), C(deployment), C(host),
    C(machine) and C(file), and C(sciops_sites_values), the values of the variables. Secrets are never in there, nor is
    what is made from them.
  - A fault in the form of a file refuses all, and every fault is listed. Values that are missing or wrong are left out
    here; M(sciops.sites.system_check) tells of them.
  - Files in folders beside a system file are accepted and add nothing, so that C(-i) may name the folder.
  - The keys of a system file and of a site file are described in C(docs/deploy-variables.md) of the collection.
notes:
  - Single values may be encrypted with Ansible Vault, a file as a whole may not.
requirements:
  - jsonschema >= 4.18 (on the controller)
extends_documentation_fragment:
  - ansible.builtin.constructed
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [sciops.sites.system]
  system:
    description: Name of the system. By default the name of the file without its ending.
    type: str
  description:
    description: What the system is, for people.
    type: str
  prefix:
    description: What the names of variables begin with in the environment of the caller.
    type: str
  deployments:
    description: The deployments that a site may have.
    type: list
    elements: str
    required: true
  version:
    description: What is installed, a template.
    type: str
    required: true
  root:
    description: Folder of a target on its host, of no other target, a template. By default C({{ INSTALL_DIR }}).
    type: str
  keep:
    description: Releases that are kept on a host.
    type: int
    default: 3
  variables:
    description: Every variable there is, with its type, default and what else must hold.
    type: dict
    required: true
  unique:
    description: Names of variables whose values must differ between targets, as C(port), C(path), C(unit) and C(dns).
    type: dict
  folders:
    description: Folders that a target has, with mode, owner, group and ACL.
    type: list
    elements: dict
  files:
    description: Files that are made from templates, single ones and whole trees.
    type: list
    elements: dict
  install:
    description: How the program is installed.
    type: dict
  launch:
    description: What starts and stops the services.
    type: dict
  services:
    description: The services of a target.
    type: list
    elements: dict
  checks:
    description: What must hold on a host before anything is touched.
    type: list
    elements: dict
"""

EXAMPLES = r"""
# inventories/jaws/jaws.system.yml
plugin: sciops.sites.system
prefix: JAWS_
deployments: [dev, prod]
version: "{{ SITE_VERSION }}"
variables:
  SITE_VERSION: {mandatory: true}
  LOG_LEVEL: {choices: [DEBUG, INFO], default: INFO}
  DB_PW: {secret: true, mandatory: true}
  INSTALL_DIR: {type: path, default: "/opt/jaws/{{ site }}-{{ deployment }}"}
  SUPERVISOR_PORT: {type: port, mandatory: true}
unique: {port: [SUPERVISOR_PORT]}
files:
  - {src: templates/config, dest: "{{ INSTALL_DIR }}/config"}

# inventories/jaws/layers/dev.yml
# LOG_LEVEL: DEBUG

# inventories/jaws/sites/acme.yml
# hosts: {login1.acme.example.org: {}}
# connection: {ansible_user: jaws}
# deployments: {dev: {SUPERVISOR_PORT: 64101}, prod: {SUPERVISOR_PORT: 64103}}
"""

import os

from ansible.errors import AnsibleParserError

from ansible_collections.sciops.sites.plugins.inventory import site
from ansible_collections.sciops.sites.plugins.plugin_utils import _systemfile, _variables
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError


class InventoryModule(site.InventoryModule):
    """Enters hosts, groups and constructed variables in the same way as the plugin for site files does."""

    NAME = "sciops.sites.system"

    def verify_file(self, path):
        return _systemfile.belongs(path)

    def _parse(self, loader, path, cache):
        if not path.endswith(_systemfile.SUFFIXES):
            return  # read through its system file
        try:
            system = _systemfile.read(path, loader)
        except (SourceError, RuntimeError) as exc:
            raise AnsibleParserError(f"the system cannot be used, nothing was read from it:\n  {exc}") from None
        self._read_config_data(path)
        self._refuse_taken(system)
        self.inventory.add_group("systems")
        self._group(f"system_{system.name}", [], ["systems"])
        for place in system.places:
            self._add(system, place)
        self._construct({"hosts": [place.name for place in system.places]})

    def _refuse_taken(self, system):
        """Refuse a name that something else in the inventory has, before anything of this system is added."""
        taken = [place.name for place in system.places if place.name in self.inventory.hosts]
        if taken:
            raise AnsibleParserError(
                f"{system.file}: nothing was read from it: another file of this inventory has hosts of these names: "
                f"{', '.join(taken)}"
            )

    def _add(self, system, place):
        target, _told_by_system_check = _variables.resolve(
            system, place.site, place.deployment, place.name, os.environ, {}
        )
        self.inventory.add_host(place.name)
        shown = {key: target[key] for key in ("system", "site", "deployment", "host", "machine", "file")}
        values = {name: value for name, value in target["values"].items() if name not in target["secrets"]}
        connection = {"ansible_host": place.address, **(system.sites[place.site].data.get("connection") or {})}
        variables = {
            "sciops_sites_target": site._verbatim(shown),
            "sciops_sites_values": site._verbatim(values),
            **self._variables(connection),
        }
        for name, value in variables.items():
            self.inventory.set_variable(place.name, name, value)
        self._group(f"system_{system.name}", [place.name])
        for kind in ("site", "deployment", "machine"):
            self._group(f"{kind}_{getattr(place, kind)}", [place.name])
