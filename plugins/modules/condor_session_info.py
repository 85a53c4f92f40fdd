#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: condor_session_info
short_description: Own interactive sessions of an HTCondor pool, and the applications of a catalogue
version_added: 0.1.0
description:
  - Lists the running xpra sessions of this user on all schedds of the pool, with the command by which a desktop
    attaches to each. Jobs of others, held jobs and those without xpra are none.
  - Lists the applications of a catalogue, and with O(check_commands=true) the commands of it that this host cannot run.
  - It changes nothing. See M(sciops.sites.condor_session).
author:
  - sciops.sites contributors (@sciops)
extends_documentation_fragment:
  - sciops.sites.condor
attributes:
  action:
    support: full
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the
      controller.
  check_mode:
    support: full
    description: This module does not modify anything.
  diff_mode:
    support: N/A
    description: This module does not modify anything.
  idempotent:
    support: full
    description: This module does not modify anything.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  catalogue:
    description: A catalogue, a file on the controller. Sessions get their icons from it.
    type: path
  sessions:
    description: Ask the schedds. Without, only the catalogue is looked at.
    type: bool
    default: true
  check_commands:
    description: Look on this host, an execute node for example, for the commands of the catalogue.
    type: bool
    default: false
  display_patterns:
    description: As in M(sciops.sites.condor_session).
    type: list
    elements: str
    default:
      - 'Xdummy: :(\d+)$'
      - 'Xvfb: :(\d+)$'
      - 'Xorg: :(\d+)$'
      - created unix domain socket '[^']*-(\d+)'
  blank_host:
    description: As in M(sciops.sites.condor_session).
    type: bool
  payload:
    description: Set by the controller side of this task, which reads the catalogue. Not for people.
    type: str
seealso:
  - module: sciops.sites.condor_session
"""

EXAMPLES = r"""
- name: Own sessions
  hosts: submit
  gather_facts: false
  tasks:
    - name: Ask all schedds
      sciops.sites.condor_session_info:
        catalogue: files/rceapp.yml
      register: mine

    - name: Show them
      ansible.builtin.debug:
        msg: "{{ mine.table.splitlines() }}"

- name: Programs that the catalogue promises
  hosts: execute_nodes
  gather_facts: false
  tasks:
    - name: Look for them
      sciops.sites.condor_session_info:
        catalogue: files/rceapp.yml
        sessions: false
        check_commands: true
      register: programs
      failed_when: programs.missing | length > 0
"""

RETURN = r"""
sessions:
  description: Own running xpra sessions, by schedd and number.
  returned: with O(sessions=true)
  type: list
  elements: dict
  contains:
    job:
      description: Number of the job.
      type: int
      sample: 110
    schedd:
      description: Name of the schedd.
      type: str
    key:
      description: Key of the session, null where it was submitted by other tools.
      type: str
    application:
      description: Name of the application.
      type: str
    version:
      description: Its version.
      type: str
    cpu:
      description: Processors that were asked for.
      type: int
    memory:
      description: Memory that was asked for, in MB.
      type: int
    folder:
      description: Folder of the job.
      type: str
    display:
      description: Number of its display, null where its output names none that can be read here.
      type: int
    attach:
      description: The command by which a desktop attaches, as C(words) and for a C(shell). Null without a display.
      type: dict
table:
  description: The same as text.
  returned: with O(sessions=true)
  type: str
silent:
  description: Schedds that did not answer. Whether they have sessions is not known.
  returned: with O(sessions=true)
  type: list
  elements: str
applications:
  description: Applications of the catalogue with their versions, sorted without regard to case.
  returned: with O(catalogue)
  type: list
  elements: dict
applications_table:
  description: The same as text. The default version ends in C( **).
  returned: with O(catalogue)
  type: str
missing:
  description: Commands of the catalogue that are no program which this user may run on this host.
  returned: with O(check_commands=true)
  type: list
  elements: dict
  sample: [{application: stata, version: "17", command: /opt/stata17/xstata-mp}]
"""

import json
import os
import pwd

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _condor, _session_life, _session_work


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            _condor.ARGUMENTS,
            catalogue={"type": "path"},
            sessions={"type": "bool", "default": True},
            check_commands={"type": "bool", "default": False},
            display_patterns={"type": "list", "elements": "str", "default": list(_session_life.DISPLAY)},
            blank_host={"type": "bool"},
            payload={"type": "str"},
        ),
        supports_check_mode=True,
    )
    given = module.params
    faults = _session_life.pattern_faults(given["display_patterns"])
    if faults:
        module.fail_json(msg="condor_session_info: %s" % "; ".join(faults))
    known = json.loads(given["payload"] or "[]")
    result = {"changed": False}
    if given["check_commands"]:
        result["missing"] = [one for one in versions(known) if not runs(one["command"])]
    if given["sessions"]:
        try:
            result.update(
                listed(module, {(one["application"], one["version"]): one["icon"] for one in versions(known)})
            )
        except _condor.CondorError as error:
            module.fail_json(msg="condor_session_info: %s" % error)
    module.exit_json(**result)


def versions(known: list) -> list:
    """Return all versions of all applications, each with its command and icon."""
    names = ("version", "command", "icon")
    return [
        dict({name: one[name] for name in names}, application=app["application"])
        for app in known
        for one in app["versions"]
    ]


def runs(command: str) -> bool:
    return os.path.isfile(command) and os.access(command, os.X_OK)


def listed(module: AnsibleModule, icons: dict) -> dict:
    """Return the sessions of this user on all schedds, or on the one that is named."""
    given, user = module.params, pwd.getpwuid(os.geteuid()).pw_name
    with connect(given, given["schedd"]) as client:
        places = [(one.get("Name"), one.get("MyAddress")) for one in client.schedds()]
        local = _condor.local_schedd(client)
    if given["schedd"]:
        places = [one for one in places if str(one[0]).lower() == given["schedd"].lower()] or [(given["schedd"], None)]
    found, silent, blank = [], [], given["blank_host"]
    for name, address in sorted(places, key=str):
        try:
            with connect(given, None if str(name).lower() == local else name) as client:
                ads = client.query(_session_life.own(user), list(_session_life.PROJECTION))
        except _condor.Silent as error:
            silent.append(name)
            module.warn("condor_session_info: %s: what it has is not known: %s" % (name, error))
            continue
        for ad in ads:
            if _session_life.is_own(ad, user):
                if blank is None:
                    blank = _session_work.blank_host()
                found.append(session(ad, name, address, icons, given["display_patterns"], blank))
    rows = [[one["job"], one["application"], one["version"], one["cpu"], one["memory"]] for one in found]
    return {"sessions": found, "table": _session_life.table(rows), "silent": silent}


def connect(given: dict, schedd: str | None) -> _condor.Client:
    return _condor.connect(given["way"], given["pool"], schedd, given["config"], given["timeout"])


def session(ad: dict, schedd: str, address: str | None, icons: dict, patterns: list, blank: bool) -> dict:
    """Return what is told of one session."""
    app, version = ad.get("HMDCApplicationName"), ad.get("HMDCApplicationVersion")
    display = _session_life.display(_session_work.texts_of(_session_work.outputs(ad)), patterns)
    attach = None
    if display is not None and address:
        words = _session_life.attach(address, ad["ClusterId"], display, icons.get((app, version)), blank)
        attach = {"words": words, "shell": _session_life.shell(words)}
    return {
        "job": ad["ClusterId"],
        "schedd": schedd,
        "key": ad.get("SciopsSitesKey"),
        "application": app,
        "version": version,
        "cpu": ad.get("RequestCpus"),
        "memory": ad.get("RequestMemory"),
        "folder": _session_life.path(ad, "LocalJobDir"),
        "display": display,
        "attach": attach,
    }


if __name__ == "__main__":
    main()
