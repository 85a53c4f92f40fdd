# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory plugin: one YAML file per site."""

from __future__ import annotations

DOCUMENTATION = r"""
name: site
short_description: Hosts, pipelines and limits of one site, from one YAML file
version_added: 0.1.0
author: sciops.sites contributors (@sciops)
description:
  - Reads a site file, a YAML file whose name ends with C(.site.yml) or C(.site.yaml). It declares the hosts of a site,
    the pipelines whose components run there, how many instances of each, and the limits they keep.
  - Below the site file lie layers, in the folder C(layers) beside the folder of the site file, each optional. From the
    lowest to the highest these are the collection's defaults, C(layers/all.yml), C(layers/DEPLOYMENT.yml),
    C(layers/SITE.site.yml) and the site file. Later layers win, mappings merge, lists are replaced. The lookup
    P(sciops.sites.origin#lookup) tells where a value comes from.
  - Everything is checked before any host is contacted. A fault within one component puts that component aside, with a
    warning; any other fault refuses the file and all faults are listed.
  - The groups are C(sites), C(site_SITE), C(deployment_DEPLOYMENT), C(pipe_PIPE), C(component_PIPE_NAME) (hosts whose
    classes let it run there) and C(class_CLASS), with characters that Ansible does not allow replaced by C(_).
  - The group C(site_SITE) has the variable C(sciops_sites_site), the whole declaration, which is not templated. Each
    host has the variable C(sciops_sites_host).
  - The keys of a component, a host, a policy and a gate are described in C(docs/declare.md) of the collection.
notes:
  - Values encrypted with Ansible Vault work, and so do encrypted files. Connection variables stay encrypted in the
    inventory. Other encrypted values are decrypted into the declaration; use C(secrets) of a component for secrets.
  - With O(cache=true) the declaration and the live groups are cached. The cache is not used when a file has changed,
    and not at all when something in the files is encrypted.
requirements:
  - jsonschema >= 4.18 (on the controller)
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [sciops.sites.site]
  site:
    description: Name of the site. By default the name of the file without its ending.
    type: str
  deployment:
    description: Name of the deployment, for example C(prod). By default the name of the folder of the file.
    type: str
  description:
    description: What the site is, for people.
    type: str
  hosts:
    description:
      - The hosts in order. Keys are host names or ranges such as C(c9-[1:12].example.org), values are mappings with
        C(hot_limit), C(memory), C(max_instances), C(max_load), C(classes), C(state) (V(on) or V(drain)) and C(vars).
      - Variables in C(vars) that begin with C(ansible_) become variables of the host.
    type: dict
  host_defaults:
    description: What each host has that does not say otherwise.
    type: dict
  connection:
    description: Connection variables (C(ansible_*)) of all hosts of the site.
    type: dict
  policy:
    description: Budgets, guards and time limits of a pass.
    type: dict
  shared_limits:
    description: Named limits that components share over all hosts, for example C(tape_sessions=10).
    type: dict
  launchers:
    description:
      - Settings of the managers on hosts, for V(supervisord), V(systemd), V(apptainer) and V(slurm); see
        C(docs/declare.md).
    type: dict
  gates:
    description: Readings from outside that decide whether anything may be started.
    type: dict
  holds:
    description: Holds of the site, a host, a pipe or a component, with owner, reason and expiry.
    type: list
    elements: dict
  vars:
    description: Variables for templates, there C(vars.NAME).
    type: dict
  defaults:
    description: What each component has that does not say otherwise.
    type: dict
  pipes:
    description: The pipelines, each with C(description) and C(components).
    type: dict
  legacy:
    description: What an imported configuration held that has no meaning here.
    type: dict
  observe:
    description:
      - Observe the hosts while the inventory is read, and add the groups C(reachable), C(unknown), C(hot) (the hot
        limit is reached) and C(running_PIPE_NAME).
      - Hosts that did not answer are in C(unknown) only.
    type: bool
    default: false
"""

EXAMPLES = r"""
# inventories/prod/wipac.site.yml
plugin: sciops.sites.site
site: wipac
hosts:
  c9-[1:12].icecube.example: {hot_limit: 2, classes: [c9]}
connection:
  ansible_user: jadelta
shared_limits: {tape_sessions: 10}
pipes:
  pipe0:
    description: Copy files from Madison to NERSC
    components:
      bundler: {count: 5, hot: true, command: /home/jadelta/pipe0bundler}
      gridftp: {count: 3, hot: true, command: "/home/jadelta/gridftp {{ slot }}", uses: {tape_sessions: 1}}
      unpacker: {count: 1, state: "off", command: /home/jadelta/unpacker}
# live groups, and groups made from variables
observe: true
groups:
  draining: sciops_sites_host.state == 'drain'
keyed_groups:
  - key: sciops_sites_host.hot_limit
    prefix: hot_limit
"""

import hashlib
import json
import sys

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.sciops.sites.plugins.plugin_utils import _groups, _sitefile
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError, Vaulted

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19 all strings were templates

    def trust_as_template(value):
        return value


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "sciops.sites.site"

    def verify_file(self, path):
        # by name alone, so that a file that is missing or unreadable is told as such
        return path.endswith(_sitefile.SUFFIXES)

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        try:
            self._parse(loader, path, cache)
        except AnsibleParserError as exc:
            # Ansible goes on to its next plugin, and some of those read an empty file as an empty inventory: the
            # modules of this collection look here before they touch anything
            broken = dict(inventory.groups["all"].get_vars().get("sciops_sites_broken") or {})
            broken[path] = str(exc.message)
            inventory.set_variable("all", "sciops_sites_broken", _verbatim(broken))
            raise

    def _parse(self, loader, path, cache):
        try:
            site = _sitefile.read(path, loader)
        except (SourceError, RuntimeError) as exc:
            raise AnsibleParserError(f"the site file cannot be used, nothing was read from it:\n  {exc}") from None
        found = None
        if any(problem.fatal for problem in site.problems):
            self._compiled(site)
        self._read_config_data(path)
        keep = self.get_option("cache") and not _sitefile.confidential(site)
        key, digest = self.get_cache_key(path), _digest(site)
        if keep and cache:
            found = self._cache.get(key)
            found = found if found and found["digest"] == digest else None
        if found is None:
            found = {"digest": digest, "live": None, **self._compiled(site)}
        for problem in found["problems"]:
            self.display.warning(f"component set aside: {problem}")
        declaration = found["declaration"]
        self._alone(path, declaration)
        self._populate(found)
        if self.get_option("observe"):
            if found["live"] is None:
                found["live"] = self._observed(declaration)
            for name, hosts in found["live"].items():
                self._group(name, hosts)
        self._construct(declaration)
        if keep:
            self._cache[key] = found

    @staticmethod
    def _compiled(site):
        declaration, problems = site.compile()
        if declaration is None:
            lines = "".join(f"\n  {problem}" for problem in problems)
            raise AnsibleParserError(f"the site file cannot be used, nothing was read from it:{lines}")
        connection, host_vars = site.connection()
        return {
            # through JSON, so that nothing of how the files were read is left in it
            "declaration": json.loads(json.dumps(declaration)),
            "problems": [str(problem) for problem in problems],
            "connection": connection,
            "host_vars": host_vars,
        }

    def _alone(self, path, declaration):
        """Refuse a host that another site file has, before anything of this file is added."""
        faults = []
        for name in declaration["hosts"]:
            known = self.inventory.get_host(name) if name in self.inventory.hosts else None
            other = known.get_vars().get("sciops_sites_host") if known else None
            if other and other["file"] != declaration["file"]:
                faults.append(
                    f"\n  {path}: hosts.{name}: the host is in two sites: {declaration['site']} ({path}) and "
                    f"{other['site']} ({other['file']}); a host belongs to one site file"
                )
        if faults:
            raise AnsibleParserError(f"the site file cannot be used, nothing was read from it:{''.join(faults)}")

    # --- into the inventory

    def _group(self, name, hosts, parents=()):
        group = self.inventory.add_group(self._sanitize_group_name(name))
        for host in hosts:
            self.inventory.add_child(group, host)
        for parent in parents:
            self.inventory.add_child(self.inventory.add_group(self._sanitize_group_name(parent)), group)
        return group

    def _variables(self, given):
        """Connection variables as Ansible itself would have read them: templates work, vaulted ones stay vaulted."""
        if isinstance(given, dict):
            return {key: self._variables(value) for key, value in given.items()}
        if isinstance(given, list):
            return [self._variables(value) for value in given]
        if isinstance(given, Vaulted):
            return _sitefile.vault_value(self.loader, given.cipher)
        return trust_as_template(given) if isinstance(given, str) else given

    def _populate(self, found):
        declaration = found["declaration"]
        for name, host in declaration["hosts"].items():
            self.inventory.add_host(name)
            small = {key: host[key] for key in ("order", "hot_limit", "classes", "state")}
            small.update({key: declaration[key] for key in ("site", "deployment", "file")})
            self.inventory.set_variable(name, "sciops_sites_host", _verbatim(small))
            for key, value in self._variables(found["host_vars"].get(name, {})).items():
                self.inventory.set_variable(name, key, value)
        parents = ("sites", f"deployment_{declaration['deployment']}")
        group = self._group(f"site_{declaration['site']}", declaration["hosts"], parents)
        # commands hold templates of this collection, which Ansible must not render
        self.inventory.set_variable(group, "sciops_sites_site", _verbatim(declaration))
        for key, value in self._variables(found["connection"]).items():
            self.inventory.set_variable(group, key, value)
        for name, hosts in _groups.declared_groups(declaration).items():
            self._group(name, hosts)

    def _hostvars(self, name):
        host = self.inventory.get_host(name)
        variables = {}
        for group in sorted(host.get_groups(), key=lambda group: group.depth):
            variables.update(group.get_vars())
        variables.update(host.get_vars())
        return variables

    def _construct(self, declaration):
        strict = self.get_option("strict")
        wanted = [self.get_option(name) for name in ("compose", "groups", "keyed_groups")]
        if not any(wanted):
            return
        for name in declaration["hosts"]:
            self._set_composite_vars(wanted[0], self._hostvars(name), name, strict=strict)
            variables = self._hostvars(name)
            self._add_host_to_composed_groups(wanted[1], variables, name, strict=strict)
            self._add_host_to_keyed_groups(wanted[2], variables, name, strict=strict)

    def _observed(self, declaration):
        """Live groups of the hosts as they are now."""
        from ansible_collections.sciops.sites.plugins.plugin_utils import _runtime

        site = declaration["site"]
        # those of Ansible's own variables that connection variables commonly name; there is no play yet to give them
        magic = {"ansible_playbook_python": sys.executable}
        hostvars = {
            name: {**magic, "inventory_hostname": name, **self._hostvars(name)} for name in declaration["hosts"]
        }
        observations = _runtime.observe_sites({site: declaration}, hostvars, self.loader)
        return _groups.live_groups(declaration, observations[site])


def _verbatim(value):
    """The value so that Ansible never renders it. Strings without templates are left alone: exports stay readable."""
    if isinstance(value, dict):
        return {key: _verbatim(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_verbatim(item) for item in value]
    if not isinstance(value, str):
        return value
    # "#jinja2:" at its begin lets a string choose its own template marks
    return wrap_var(value) if "{" in value or value.startswith("#jinja2") else trust_as_template(value)


def _digest(site):
    """What a cached declaration depends on."""
    text = json.dumps([[d.layer, d.file, d.data, sorted(d.lines.values())] for d in site.documents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
