# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory plugin: the machines of an HTCondor pool, as its collector knows them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: condor
short_description: The machines of an HTCondor pool, from its collector
version_added: 0.1.0
author: sciops.sites contributors (@sciops)
description:
  - Reads a YAML file whose name ends with C(condor.yml) or C(condor.yaml), and asks the collector of a pool for its
    slots and daemons. Each machine is one host, whatever the number of its slots.
  - Partitionable, dynamic and static slots are folded, so that what is used and what is free is counted once. What the
    collector does not say is null, never zero.
  - A collector that does not answer is an error, and so is one that knows of no slot at all, since it may have just
    started. There is never an empty inventory by mistake.
  - The groups are C(condor) with all hosts; C(condor_startd), C(condor_schedd) and so on by O(daemons); by slots
    C(condor_state_STATE), C(condor_entitlement_NAME), C(condor_free), C(condor_full), C(condor_unknown),
    C(condor_draining) and C(condor_offline); and C(condor_ATTRIBUTE_VALUE) by O(group_by). Characters that Ansible does
    not allow are replaced by C(_).
  - Each host has variables that begin with C(condor_). Those are C(condor_machine), C(condor_address),
    C(condor_version) and C(condor_daemons), and with slots C(condor_cpus), C(condor_memory) in MB, C(condor_disk) in
    KB and C(condor_gpus), each with C(total), C(used) and C(free); C(condor_slots), a list with C(name), C(type),
    C(state), C(activity), C(cpus), C(memory), C(disk), C(gpus), C(owner) and C(job); C(condor_states), the number of
    slots in each state; C(condor_owners), whose jobs run there; C(condor_entitlements), C(condor_attributes),
    C(condor_draining), C(condor_offline), C(condor_load), C(condor_arch) and C(condor_opsys).
  - Machines whose names can be no hosts, or are names of the controller such as C(localhost), are left out with a
    warning.
notes:
  - None of the values is ever rendered as a template.
  - The collector is asked by HTCondor's Python bindings (C(htcondor2)) where the Python of Ansible has them, else by
    C(condor_status). Neither is needed on the controller with O(command).
requirements:
  - htcondor2, from HTCondor or PyPI C(htcondor), or C(condor_status) (on the controller), or O(command)
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [sciops.sites.condor]
  pool:
    description: The collector, a host with or without a port. Without it, the one of HTCondor's configuration.
    type: str
    env:
      - name: SCIOPS_SITES_CONDOR_POOL
  config:
    description: HTCondor's configuration file to be used, where it is not the usual one. Not with O(command).
    type: path
  way:
    description:
      - How the collector is asked. V(bindings) is C(htcondor2) in the Python of Ansible, V(commands) is
        C(condor_status), V(auto) is the first of them that is there.
    type: str
    choices: [auto, bindings, commands]
    default: auto
  command:
    description:
      - Words before C(condor_status), such as V([ssh, submit.example.org]). The way is V(commands) then.
      - Where the first of them is C(ssh), the words of C(condor_status) are quoted for the shell there. C(ssh) needs to
        come in without a question.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that one question may take.
    type: float
    default: 30
  constraint:
    description: Only slots of which this expression of HTCondor is true.
    type: str
  daemons:
    description: Machines of which daemons are hosts. The slots are those of V(startd).
    type: list
    elements: str
    choices: [startd, schedd, negotiator, collector, master]
    default: [startd]
  short_names:
    description: Name hosts by the first part of the machine's name. It must be unique in the pool.
    type: bool
    default: false
  entitlements:
    description:
      - The attribute of slots that holds entitlements, a list or words between commas and blanks. Empty for none.
    type: str
    default: Entitlements
  attributes:
    description: More attributes of slots, for C(condor_attributes). Expressions are text.
    type: list
    elements: str
    default: []
  group_by:
    description: Attributes of slots that make groups of their values.
    type: list
    elements: str
    default: []
  allow_empty:
    description: Take it for true where the collector knows of no slot and no daemon.
    type: bool
    default: false
"""

EXAMPLES = r"""
# inventories/pool/condor.yml
plugin: sciops.sites.condor
pool: cm.example.org
attributes: [HMDCIdleJobs, FileSystemDomain]
group_by: [OpSysAndVer]
compose:
  ansible_host: condor_address
groups:
  large: (condor_memory.free or 0) >= 64 * 1024
keyed_groups:
  - key: condor_owners
    prefix: runs_jobs_of

# through a submit host, with nothing of HTCondor on the controller
# command: [ssh, -oBatchMode=yes, submit.example.org]
"""

import json
import re
import shlex
import shutil

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.sciops.sites.plugins.inventory import site
from ansible_collections.sciops.sites.plugins.module_utils import _classad, _condor
from ansible_collections.sciops.sites.plugins.plugin_utils import _pool

SUFFIXES = ("condor.yml", "condor.yaml")
#: options on which it depends what the collector is asked
ASKED = ("pool", "config", "way", "command", "constraint", "daemons", "entitlements", "attributes", "group_by")


class Through(_condor.Commands):
    """condor_status behind other words, on another host for example."""

    def __init__(self, command, pool, timeout):
        super().__init__(pool, None, None, timeout)
        self.command = list(command)

    def run(self, words, text="", cwd="/"):
        remote = self.command[0].rsplit("/", 1)[-1] == "ssh"
        quoted = [shlex.quote(word) for word in words] if remote else list(words)
        if not shutil.which(self.command[0], path=self.environment()["PATH"]):
            raise _condor.Refused(f"there is no program {self.command[0]} on the controller")
        return super().run([*self.command, *quoted], text, cwd)


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "sciops.sites.condor"

    def verify_file(self, path):
        # by name alone, so that a file that is missing or unreadable is told as such
        return path.endswith(SUFFIXES)

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._path = path
        try:
            self._read_config_data(path)
            self._check()
            self._enter(self._found(cache))
        except AnsibleParserError as exc:
            # Ansible goes on to its next plugin: see the plugin for site files
            broken = dict(inventory.groups["all"].get_vars().get("sciops_sites_broken") or {})
            broken[path] = str(exc.message)
            inventory.set_variable("all", "sciops_sites_broken", site._verbatim(broken))
            raise

    def _fault(self, option, words):
        return AnsibleParserError(f"{self._path}: {option}: {words}; nothing was read from the pool")

    def _check(self):
        for option in ("attributes", "group_by"):
            for name in self.get_option(option):
                if not _classad.NAME.match(name):
                    raise self._fault(option, f"{name!r} is no name of an attribute: letters, digits and _ only")
        name = self.get_option("entitlements")
        if name and not _classad.NAME.match(name):
            raise self._fault("entitlements", f"{name!r} is no name of an attribute: letters, digits and _ only")
        if not self.get_option("daemons"):
            raise self._fault("daemons", "is empty; name at least one kind, such as startd")
        if self.get_option("command") and self.get_option("config"):
            raise self._fault("config", "is a file of this host, and command asks from elsewhere; use one of them")
        if self.get_option("command") and self.get_option("way") == "bindings":
            raise self._fault("way", "bindings do not go through command; leave one of them out")

    def _found(self, cache):
        """The machines, from the cache where they are kept there for the same question."""
        keep = self.get_option("cache")
        question = json.dumps([self.get_option(name) for name in (*ASKED, "short_names", "allow_empty")])
        key = self.get_cache_key(self._path)
        if keep and cache:
            try:
                found = self._cache[key]
            except KeyError:
                found = None
            if found and found["question"] == question:
                return found
        found = {"question": question, **self._asked()}
        if keep:
            self._cache[key] = found
        return found

    def _client(self):
        command = self.get_option("command")
        pool, timeout = self.get_option("pool"), self.get_option("timeout")
        if command:
            return Through(command, pool, timeout)
        return _condor.connect(self.get_option("way"), pool, None, self.get_option("config"), timeout)

    def _asked(self):
        """What the collector says now."""
        wanted, constraint = self.get_option("daemons"), self.get_option("constraint")
        more = [*self.get_option("attributes"), *self.get_option("group_by")]
        entitlements = self.get_option("entitlements")
        projection = list(dict.fromkeys([*_pool.SLOT_ATTRIBUTES, *more, *([entitlements] if entitlements else [])]))
        slots, daemons = [], {}
        option = "command" if self.get_option("command") else "way"
        try:
            with self._client() as client:
                if "startd" in wanted:
                    slots = client.status("startd", constraint, projection)
                for kind in wanted:
                    if kind != "startd":
                        daemons[kind] = client.status(kind, None, list(_pool.DAEMON_ATTRIBUTES))
        except _condor.Silent as error:
            asked = "command" if self.get_option("command") else "pool"
            raise self._fault(asked, f"the collector {self._named()} gave no answer: {error}") from None
        except _condor.CondorError as error:
            if constraint and re.search("constraint|parse|expression", str(error), re.I):
                option = "constraint"
            raise self._fault(option, f"the collector {self._named()} was not asked: {error}") from None
        machines, left_out = _pool.fold(
            slots, daemons, entitlements, list(dict.fromkeys(more)), self.get_option("short_names")
        )
        if not machines and not self.get_option("allow_empty"):
            words = f"the collector {self._named()} knows of no {' or '.join(wanted)}"
            words += f" with {constraint}" if constraint and "startd" in wanted else ", and may have just started"
            raise self._fault("allow_empty", f"{words}; say allow_empty: true where that is well")
        # through JSON, so that nothing of how it was asked is left in it
        return json.loads(json.dumps({"machines": machines, "left_out": left_out}))

    def _named(self):
        return self.get_option("pool") or "of HTCondor's configuration"

    def _enter(self, found):
        machines = found["machines"]
        for words in found["left_out"]:
            self.display.warning(f"{self._path}: {words}")
        for name, one in machines.items():
            self.inventory.add_host(name)
            for key, value in one.items():
                self.inventory.set_variable(name, f"condor_{key}", site._verbatim(value))
        for group, hosts in _pool.groups(machines, self.get_option("group_by")).items():
            made = self.inventory.add_group(self._sanitize_group_name(group))
            for name in hosts:
                self.inventory.add_child(made, name)
        strict = self.get_option("strict")
        for name in machines:
            variables = self.inventory.get_host(name).get_vars()
            self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
            variables = self.inventory.get_host(name).get_vars()
            self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)
