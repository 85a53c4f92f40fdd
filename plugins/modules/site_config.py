#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site_config
short_description: Render whole trees of templates onto a host, checked before they go live
version_added: 0.1.0
description:
  - Renders templates on the controller and puts all files onto the host in one step. Without O(src) and O(trees) they
    are those of the host's target, as the inventory plugin P(sciops.sites.system#inventory) knows it.
  - Every undefined variable of every template is an error that names template, line and variable. Nothing is sent then.
  - On the host, every changed file is checked before the first one is replaced. Then each is replaced whole, with
    owner, group and mode set before it has any content. A file that is there as declared is not touched.
  - A file whose template uses a secret is a secret file. Its mode must give nothing to others, and neither differences
    nor messages show what is secret in it.
author:
  - sciops.sites contributors (@sciops)
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: >-
      Returns the lines before and after, secrets masked. A line of a secret file that is not in the new one is not
      shown, since it may hold an older secret.
  idempotent:
    support: full
    description: Files that are as declared are not written.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  src:
    description:
      - A template, a file, or a folder of them, on the controller. Relative paths count from the playbook's folder.
      - In a folder, names are kept, also those of folders below it. They are templates too. C(.j2) at the end of a name
        is dropped. What does not end in it is copied as it is.
    type: path
  dest:
    description: The file on the host, or with a folder as O(src) the folder. Absolute. Required with O(src).
    type: str
  variables:
    description:
      - What templates know. Nothing else is known to them, no facts and no variables of the inventory.
      - For a target, values of the highest layer, in place of C(sciops_sites_vars).
    type: dict
    default: {}
  secrets:
    description: Names of O(variables) whose values are secret.
    type: list
    elements: str
    default: []
  mode:
    description: Mode of the files, an octal number in quotes.
    type: str
    default: "0600"
  owner:
    description: Owner of the files and of folders that are made for them. Without it, who writes them.
    type: str
  group:
    description: Group of the files and of folders that are made for them. Without it, the one that the host gives them.
    type: str
  validate:
    description:
      - How a file is checked. V(ini), V(supervisor), V(systemd), V(bash), V(json), V(yaml), V(none), or a list, the
        words of a command in which C({file}) is replaced by the path of a copy with the same name.
      - Without it, the name decides. C(.conf) and C(.ini) are V(ini), C(.sh) and scripts of a shell V(bash),
        C(.service), C(.timer) and C(.socket) V(systemd), C(.json), C(.yml) and C(.yaml) what they say.
    type: raw
  secret:
    description: The files are secret, whatever variables they use.
    type: bool
    default: false
  trees:
    description:
      - Several trees at once, each with its own values of the options above. What one does not have is taken from
        there, and O(variables) and O(secrets) are joined.
      - All of them go onto the host in one step.
    type: list
    elements: dict
    suboptions:
      src:
        description: See O(src).
        type: path
        required: true
      dest:
        description: See O(dest).
        type: str
        required: true
      variables:
        description: See O(variables).
        type: dict
        default: {}
      secrets:
        description: See O(secrets).
        type: list
        elements: str
        default: []
      mode:
        description: See O(mode).
        type: str
      owner:
        description: See O(owner).
        type: str
      group:
        description: See O(group).
        type: str
      validate:
        description: See O(validate).
        type: raw
      secret:
        description: See O(secret).
        type: bool
  backup:
    description: Keep what is replaced beside it, as C(NAME.TIME~), with its owner and mode.
    type: bool
    default: false
  stage:
    description:
      - Identity of a release. The files do not go live. They are checked and kept below O(root) for
        M(sciops.sites.release_switch), mode 0600.
    type: str
  root:
    description: The folder of the target, with O(stage). Absolute.
    type: str
  payload:
    description: Set by the controller side of this task, which renders. Not for people.
    type: str
"""

EXAMPLES = r"""
- name: Put the configuration of a target in its place, without a new release
  hosts: system_jaws
  gather_facts: false
  tasks:
    - name: Render all files of the target
      sciops.sites.site_config:

- name: Render a tree of templates without any system file
  hosts: web
  gather_facts: false
  tasks:
    - name: Configure the service
      sciops.sites.site_config:
        src: templates/service
        dest: /etc/service
        group: service
        mode: "0640"
        variables:
          port: 8080
          password: "{{ service_password }}"
        secrets: [password]
        backup: true
"""

RETURN = r"""
files:
  description: All files, as a release's manifest has them.
  returned: success
  type: list
  elements: dict
  sample:
    - {dest: /opt/jaws/acme-dev/config/jaws-site.conf, mode: "0600", owner: null, group: jaws, digest: 01ab,
       restarts: all, secret: true, validate: ini}
written:
  description: Why each file was written, by its path.
  returned: success
  type: dict
  sample: {/opt/jaws/acme-dev/config/jaws-site.conf: content}
"""

import os
import stat

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _files, _place, _release

MASK = "********"


def main() -> None:
    of_a_tree = {
        "mode": {"type": "str"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "validate": {"type": "raw"},
        "secret": {"type": "bool"},
        "variables": {"type": "dict", "default": {}},
        "secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
    }
    named = {"src": {"type": "path", "required": True}, "dest": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            **of_a_tree,
            "src": {"type": "path"},
            "dest": {"type": "str"},
            "mode": {"type": "str", "default": "0600"},
            "secret": {"type": "bool", "default": False, "no_log": False},
            "trees": {"type": "list", "elements": "dict", "options": {**of_a_tree, **named}},
            "backup": {"type": "bool", "default": False},
            "stage": {"type": "str"},
            "root": {"type": "str"},
            "payload": {"type": "str", "no_log": True},
        },
        required_by={"stage": ["root"]},
        supports_check_mode=True,
    )
    try:
        result = work(module, _files.unpack(module.params["payload"] or ""))
    except (_files.Failure, _place.Misplaced) as error:
        module.fail_json(msg="site_config: nothing was changed: %s" % error)
    except ValueError as error:
        module.fail_json(msg="site_config: payload: %s" % error)
    module.exit_json(**result)


def work(module: AnsibleModule, sent: dict) -> dict:
    """Bring the files to what was rendered; returns the result of the task. Failure: before anything is written."""
    stage, root = module.params["stage"], module.params["root"]
    entries = [dict(_release.entry(one), text=one["content"], shown=one.get("shown")) for one in sent["files"]]
    live = dict(_files.drift(entries))
    targets, why = entries, live
    if stage:
        folder = os.path.join(root, ".sciops", "releases", stage, "files")
        private = {"mode": "0600", "owner": None, "group": None}
        targets = [dict(one, dest=os.path.join(folder, str(n)), **private) for n, one in enumerate(entries)]
        why = dict(_files.drift(targets))
    faults, coming = [], [one["dest"] for one in entries]
    for one, target in zip(entries, targets):
        if target["dest"] in why:
            try:
                _files.refuse(one)
                said = _files.validate(one, one["text"], coming)
                if said:
                    module.warn(said)
            except _files.Failure as error:
                faults.append(str(error))
    if faults:
        raise _files.Failure("; ".join(faults))
    diff = []
    if module._diff:
        diff = [difference(one, sent["secrets"]) for one in entries if one["dest"] in live]
    if not module.check_mode:
        if stage and why:
            for part in ("", "releases", os.path.join("releases", stage), os.path.join("releases", stage, "files")):
                _place.folder(os.path.join(root, ".sciops", part).rstrip("/"), 0o700)
        _files.put(targets, module.params["backup"] and not stage)
    return {
        "changed": bool(why),
        "files": [{key: one[key] for key in _release.OF_A_FILE} for one in entries],
        "written": {} if stage else why,
        "diff": diff,
    }


def difference(entry: dict, secrets: list) -> dict:
    """What a file is and what it becomes, as `--diff` shows it."""
    dest, new = entry["dest"], entry["text"].split("\n")
    head = "%s (%s)"
    seen, old = "not there", []
    if os.path.lexists(dest):
        seen = "mode %04o" % stat.S_IMODE(os.lstat(dest).st_mode)
        old = (_place.read(dest) or "").split("\n") if os.path.isfile(dest) and not os.path.islink(dest) else []
    if entry["secret"]:
        shown = (entry["shown"] or "").split("\n")
        if entry["shown"] is None or len(shown) != len(new):
            old, new = (["%d lines, which hold secrets" % len(lines)] if lines else [] for lines in (old, new))
        else:
            # what is not in the new text may be an older secret
            masked = dict(zip(new, shown))
            old, new = [masked.get(line, MASK) for line in old], shown
    else:
        old, new = ([hidden(line, secrets) for line in lines] for lines in (old, new))
    return {
        "before_header": head % (dest, seen),
        "after_header": head % (dest, "mode %s" % entry["mode"]),
        "before": "\n".join(old),
        "after": "\n".join(new),
    }


def hidden(line: str, secrets: list) -> str:
    """A line without the secrets of the target, which a file that is none may have held before."""
    for value in secrets:
        line = line.replace(value, MASK).replace(value.replace("%", "%%"), MASK)
    return line


if __name__ == "__main__":
    main()
