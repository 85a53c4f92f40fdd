#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: interface_import
short_description: Turn an Interface.json of jadetools into a site file, and back
version_added: 0.1.0
author:
  - sciops.sites contributors (@sciops)
description:
  - Reads the configuration of the old coordinator and writes a site file for P(sciops.sites.site#inventory) that wishes
    the same, on the same hosts in the same order.
  - The whole file is checked first. All faults are listed with their path, and nothing is written.
  - Returns a list of what in the configuration cannot work, such as keys that were never seen or that count twice.
  - Works on the controller. No host is contacted.
attributes:
  action:
    support: full
    description: Runs as an action plugin, on the controller.
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns the text of the file before and after.
  idempotent:
    support: full
    description: The same options change nothing the second time.
  platform:
    support: full
    platforms: posix
    description: Platforms of the controller. No host is contacted.
options:
  src:
    description: The file to read, an Interface.json, or a site file with O(direction=export).
    type: path
    required: true
  dest:
    description:
      - The file to write. It is replaced as a whole.
      - For a site file the name must end with C(.site.yml) or C(.site.yaml).
      - Without it nothing is written, and O(src) is only checked.
    type: path
  direction:
    description: With V(export) a site file that was imported becomes an Interface.json again.
    type: str
    choices: [import, export]
    default: import
  site:
    description: Name of the site. By default the name of O(dest) without its ending, or V(imported).
    type: str
  deployment:
    description: Name of the deployment. By default it is not written, and the folder of the site file names it.
    type: str
  home:
    description: The folder on the hosts in which the submitters lie.
    type: str
    default: /home/jadelta
  log_dir:
    description: A folder on the hosts for logs that are named as before, with pipe, component, host and time.
    type: str
  processes:
    description:
      - A file with lines of process lists, taken on all hosts while everything ran.
      - Keys are then judged by what was seen, and not by what is known of the submitters of the deployed jadetools.
    type: path
  submitters:
    description: A folder on the controller with copies of the submitters, to find missing and empty ones.
    type: path
seealso:
  - plugin: sciops.sites.site
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Import the old configuration
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Write the site file
      sciops.sites.interface_import:
        src: Interface.json
        dest: inventories/prod/wipac.site.yml
      register: imported

    - name: Show what cannot work
      ansible.builtin.debug:
        var: imported.findings
"""

RETURN = r"""
findings:
  description: What in the configuration cannot work, each in one sentence with its path.
  returned: always
  type: list
  elements: str
  sample:
    - "pipes[2].types[6].submitter: delmad2boost: is an empty file; a start succeeds and nothing runs"
counts:
  description: What the configuration declares.
  returned: always
  type: dict
  sample: {"hosts": 16, "pipes": 3, "components": 17, "on": 14, "wanted": 19, "hot": 8}
dest:
  description: The file that was written, if any.
  returned: always
  type: str
  sample: inventories/prod/wipac.site.yml
"""
