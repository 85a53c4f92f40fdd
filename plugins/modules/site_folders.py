#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site_folders
short_description: Keep folders with owner, group, mode and ACLs, never narrower than before or after
version_added: 0.1.0
description:
  - Makes folders and keeps their owner, group, mode and ACLs.
  - A change never takes a right away for a moment. Whoever may enter, list or write a folder before and after it may do
    so while it goes on. Mode and access ACL are set by one system call.
  - Where a file system has no ACLs, the mode alone is set, and a warning says so.
author:
  - sciops.sites contributors (@sciops)
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns owner, group, mode and ACL of each folder before and after.
  idempotent:
    support: full
    description: Folders that are as declared are not changed.
  platform:
    support: full
    platforms: linux
    description: Platforms of the host. It needs Python 3.8 or later, and no programs for ACLs.
options:
  folders:
    description: The folders, those above others first.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - An absolute path. Folders above it that are missing are made, mode 0755.
          - One that begins with C(s3://), or with any other scheme, is no folder. It is left out, and named in
            RV(skipped).
        type: str
        required: true
      mode:
        description: Mode, an octal number in quotes.
        type: str
        default: "0750"
      owner:
        description: Owner, name or number. Without it, the owner stays.
        type: str
      group:
        description: Group, name or number. Without it, the group stays.
        type: str
      acl:
        description:
          - Entries as setfacl takes them, such as V(d:g:jaws:rwx), V(g:guests:rx), V(o::rwx). With C(d:) in front they
            are of the default ACL, which new files and folders below get.
          - They are all there is beside the mode. Others that are there are taken away, with an empty list all.
            An entry without a name takes the place of that part of the mode.
          - Without it, ACLs that are there stay as they are.
        type: list
        elements: str
      recursive:
        description:
          - Give the group and the default ACL to all files and folders below too, as if they had been made with them.
            No right is taken away from anybody, and owners stay.
          - Links, files with more than one name and other file systems are left out.
        type: bool
        default: false
seealso:
  - module: sciops.sites.site_config
"""

EXAMPLES = r"""
- name: Folders for the inputs of a site
  sciops.sites.site_folders:
    folders:
      - path: /scratch/jaws/acme-dev
        mode: "0775"
        group: jaws
        acl: [d:g:jaws:rwx, d:g:users:rwx]
      - path: /scratch/jaws/acme-dev/inputs
        mode: "0775"
        group: jaws
        acl: [d:g:jaws:rwx, d:g:users:rwx]

- name: Repair what is below them
  sciops.sites.site_folders:
    folders:
      - path: /scratch/jaws/acme-dev/inputs
        mode: "0775"
        group: jaws
        acl: [d:g:jaws:rwx, d:g:users:rwx]
        recursive: true
"""

RETURN = r"""
folders:
  description: The folders that were changed.
  returned: success
  type: list
  elements: str
  sample: [/scratch/jaws/acme-dev]
repaired:
  description: What was changed below folders with O(folders[].recursive).
  returned: success
  type: list
  elements: str
  sample: []
skipped:
  description: Paths that are no folders of a host.
  returned: success
  type: list
  elements: str
  sample: ["s3://jaws-site-dev"]
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _files, _folders, _place


def main() -> None:
    of_a_folder = {
        "path": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0750"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "acl": {"type": "list", "elements": "str"},
        "recursive": {"type": "bool", "default": False},
    }
    module = AnsibleModule(
        argument_spec={"folders": {"type": "list", "elements": "dict", "required": True, "options": of_a_folder}},
        supports_check_mode=True,
    )
    folders = [one for one in module.params["folders"] if "://" not in one["path"]]
    skipped = [one["path"] for one in module.params["folders"] if "://" in one["path"]]
    faults = [words for words in map(fault, folders) if words]
    if faults:
        module.fail_json(msg="site_folders: nothing was changed: " + "; ".join(faults))
    found, diff, repaired = [], [], []
    for one in folders:
        try:
            done = _folders.keep(one, module.check_mode)
        except (_files.Failure, _place.Misplaced) as error:
            module.fail_json(msg="site_folders: %s" % error, changed=bool(found), folders=found)
        for text in done["warnings"]:
            module.warn(text)
        repaired += done["repaired"]
        if done["changed"]:
            found.append(one["path"])
        if done["before"] != done["after"]:
            texts = {key: "".join(line + "\n" for line in done[key]) for key in ("before", "after")}
            diff.append(dict(texts, before_header=one["path"], after_header=one["path"]))
    module.exit_json(changed=bool(found), folders=found, repaired=repaired, skipped=skipped, diff=diff)


def fault(folder: dict) -> str:
    """What is wrong with a declared folder, known before anything is touched; empty where nothing is."""
    path = folder["path"]
    if not path.startswith("/") or os.path.normpath(path) != path or path == "/":
        return "%s: must be an absolute path without . and .. and a final slash, and not /" % (path or "path")
    if not re.match(r"0?[0-7]{3,4}\Z", folder["mode"]):
        return "%s: mode: %s: must be an octal number such as 0750" % (path, folder["mode"])
    try:
        _folders.entries_of(folder["acl"] or [])
        _files.ids(dict(folder, dest=path))
    except (ValueError, _files.Failure) as error:
        return str(error) if path in str(error) else "%s: %s" % (path, error)
    return ""


if __name__ == "__main__":
    main()
