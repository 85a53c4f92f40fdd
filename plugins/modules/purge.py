#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: purge
short_description: Remove old inputs and executions that nothing refers to
version_added: 0.1.0
description:
  - Removes the entries that lie exactly O(depth) levels below a folder, such as C(inputs/USER/RUN), where nothing in
    them was changed for O(older_than), nothing refers to them, and their run is over. Everything else stays.
  - The age of an entry is that of the youngest change time (C(ctime)) of itself and of everything in it. A modification
    time is not asked, because a transfer copies it from the source, so that a fresh input would look old.
  - What is not known is kept. A list of references that cannot be had stops the task before anything is removed.
  - An entry goes whole or not at all. It is renamed, looked at once more, and only then removed; what was changed
    meanwhile gets its name back.
  - No symlink is followed, and no other file system is entered, not even one that is mounted from the same device.
author:
  - sciops.sites contributors (@sciops)
requirements:
  - Linux with C(/proc)
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return what would be removed, with sizes, without modifying anything.
  diff_mode:
    support: none
    description: RV(removed) says what goes.
  idempotent:
    support: full
    description: A second run finds nothing to remove, unless something has become old enough meanwhile.
  platform:
    support: full
    platforms: linux
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  path:
    description:
      - Folder whose entries are removed, an absolute path written without C(//), C(.) and C(..).
      - Refused are an empty path, one with fewer than O(minimum_components) components, the folders of the operating
        system, a home or what holds one, a symlink, a path through a symlink of another account than root and the one
        that runs this, a folder on which a file system is mounted, and one that belongs to another account than
        O(owner).
    type: str
    required: true
  depth:
    description: How many levels below the folder the entries lie. V(2) is C(inputs/USER/RUN).
    type: int
    default: 1
  older_than:
    description:
      - How long nothing in an entry may have been changed, with a unit, such as V(14d), V(36h) or V(2w).
      - The host's clock is asked.
    type: str
    required: true
  owner:
    description: Account that the folder belongs to. Without it, the account that the task runs as.
    type: str
  minimum_components:
    description: How many components the path must have at least, V(2) or more.
    type: int
    default: 3
  keep:
    description:
      - What is in use. An absolute path, a path below the folder (with a C(/)), or a name; each may be a pattern with
        C(*), C(?) and C([..]), where C(*) also stands for slashes.
      - An entry stays where it, a folder that it lies in, or anything in it is named.
    type: list
    elements: str
    default: []
  keep_file:
    description:
      - File on the host with more of them, one in each line. Empty lines and those that begin with C(#) do not count.
      - Where it is missing or has no byte at all, nothing is removed.
    type: path
  keep_command:
    description:
      - Command on the host, in words, that writes more of them to its standard output, as in O(keep_file).
      - Where it fails, does not end in time, or writes only to its standard error, nothing is removed.
    type: list
    elements: str
  runs:
    description:
      - States of runs, by the name of an entry, its path below the folder, or a pattern of one of these.
      - With this or O(runs_command), only entries go whose state is known and one of O(purge_states).
      - One that is given and empty keeps everything.
    type: dict
  runs_command:
    description:
      - Command on the host, in words, that writes more of them as a JSON object, C({"ID":"STATE"}).
      - Where it fails, does not end in time, or writes something else, nothing is removed.
    type: list
    elements: str
  purge_states:
    description: States in which a run does not need its entries any more. Case does not matter.
    type: list
    elements: str
    default: [done, failed, cancelled]
  max_entries:
    description: Most entries that one task removes.
    type: int
  max_bytes:
    description: Most bytes that one task removes, with a unit, such as V(5TB) or V(500GiB).
    type: str
  time_limit:
    description: Time, with a unit, after which no further entry is begun with.
    type: str
  command_timeout:
    description: How long a command may take, with a unit.
    type: str
    default: 60s
  report:
    description: File on the host that gets the result as JSON. Not written in check mode.
    type: path
notes:
  - Where one of several names of a file (hard links) is removed, the file gets a new change time. The entry of another
    name below the same folder is still as old as before for the task that does it; for later tasks, and below other
    folders, it is young again.
  - A run that is killed leaves the entry it was at under its name with C(.purge-) before it. A later run removes it by
    the same rules.
"""

EXAMPLES = r"""
- name: Show which inputs would be removed
  sciops.sites.purge:
    path: /scratch/jaws/acme-dev/inputs
    depth: 2
    older_than: 14d
  check_mode: true
  register: old_inputs

- name: Remove inputs that no dataset refers to, 5 TB at a time
  sciops.sites.purge:
    path: /scratch/jaws/acme-dev/inputs
    depth: 2
    older_than: 14d
    keep_command: [/opt/jaws/acme-dev/bin/list-inputs-in-use]
    max_bytes: 5TB

- name: Remove the executions of runs that are over
  sciops.sites.purge:
    path: /scratch/jaws/acme-dev/cromwell-executions
    depth: 2
    older_than: 14d
    runs_command: [/opt/jaws/acme-dev/bin/list-runs, --json]
    purge_states: [done, failed, cancelled]
"""

RETURN = r"""
removed:
  description: The entries that were removed, in check mode those that would be.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Path below the folder. Bytes that cannot be shown are written as C(\x..).
      type: str
      sample: alice/6d2cba09
    bytes:
      description: Size of its files. One with several names in the entry counts once.
      type: int
      sample: 1048576
    allocated:
      description: Bytes on disk, with those of folders.
      type: int
      sample: 1056768
    objects:
      description: Number of files, folders and others.
      type: int
      sample: 12
    age:
      description: Seconds since something in it was changed last.
      type: int
      sample: 1296000
kept:
  description: The entries that stay.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Path below the folder. It may be that of a folder of entries which cannot be looked into.
      type: str
      sample: alice/71f0a2bb
    why:
      description: >-
        C(young), C(referenced), C(state) (not over or not known), C(touched) (while the task ran), C(mount), C(limit),
        C(unreadable), C(denied) or C(failed) (only a part of it could be removed, or it could not be renamed).
      type: str
      sample: referenced
    detail:
      description: The same in words, with what in it is the cause.
      type: str
      sample: "alice/71f0a2bb: is in use, says keep"
bytes:
  description: Sum of the sizes of what was removed.
  returned: success
  type: int
  sample: 1048576
allocated:
  description: Sum of the bytes on disk of what was removed.
  returned: success
  type: int
  sample: 1056768
problems:
  description: What could not be looked into or removed. The task fails where an entry could be removed only in part.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _purge


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "depth": {"type": "int", "default": 1},
            "older_than": {"type": "str", "required": True},
            "owner": {"type": "str"},
            "minimum_components": {"type": "int", "default": 3},
            "keep": {"type": "list", "elements": "str", "default": []},
            "keep_file": {"type": "path"},
            "keep_command": {"type": "list", "elements": "str"},
            "runs": {"type": "dict"},
            "runs_command": {"type": "list", "elements": "str"},
            "purge_states": {"type": "list", "elements": "str", "default": ["done", "failed", "cancelled"]},
            "max_entries": {"type": "int"},
            "max_bytes": {"type": "str"},
            "time_limit": {"type": "str"},
            "command_timeout": {"type": "str", "default": "60s"},
            "report": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        result = _purge.purge(module.params, module.check_mode)
    except _purge.Refused as refused:
        module.fail_json(msg="nothing was removed: %s" % refused)
    told = {key: result[key] for key in ("removed", "kept", "bytes", "allocated", "problems")}
    failed = [one["detail"] for one in result["kept"] if one["why"] == "failed"]
    # half of an entry that failed may be gone
    told["changed"] = bool(result["removed"] or failed)
    if failed:
        module.fail_json(msg="not everything could be removed: %s" % "; ".join(failed), **told)
    for problem in result["problems"]:
        module.warn(problem)
    module.exit_json(**told)


if __name__ == "__main__":
    main()
