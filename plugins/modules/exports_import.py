#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: exports_import
short_description: Turn shell files of exported variables into a system file, layers and site files
version_added: 0.1.0
author:
  - sciops.sites contributors (@sciops)
description:
  - Reads C(default.sh), C(deployments/*.sh) and C(sites/*.sh), whose lines are C(export NAME=value), and writes the
    files of P(sciops.sites.system#inventory) that give each site and deployment the values that sourcing them in this
    order gives.
  - Reads also the older form, one flat file of C(<deployment>_NAME), C(<SITE>_NAME) and C(CENTRAL_NAME), from
    C(variables) of a C(.gitlab-ci.yml) or from export lines.
  - All is read first. Lines that are not of this form are listed with file and line, and nothing is written.
  - A file that was edited since it was written is not replaced, and nothing else is written then, unless O(force) says
    so.
  - Values of secrets are never taken over.
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
    description: Returns the text of each file before and after.
  idempotent:
    support: full
    description: The same options change nothing the second time.
  platform:
    support: full
    platforms: posix
    description: Platforms of the controller. No host is contacted.
options:
  src:
    description:
      - The folder that holds C(default.sh) (or C(defaults.sh)), C(deployments) and C(sites).
      - A file is read as the older form. Where its name ends with C(.yml) or C(.yaml), it is a configuration of GitLab
        CI.
    type: path
    required: true
  dest:
    description:
      - The folder to write to. It is made where it is missing; what else lies in it stays.
      - The older form is three systems, in the folders C(site), C(backend) and C(central) there.
      - Without it nothing is written, and O(src) is only checked.
    type: path
  system:
    description:
      - Name of the system. By default the name of the folder O(dest), or V(imported).
      - The three systems of the older form are C(jaws-site), C(jaws-backend) and C(jaws-central).
    type: str
  prefix:
    description: What is dropped from the names of variables that begin with it.
    type: str
    default: JAWS_
  environment:
    description: Names, with their prefix, of variables that no file sets and the environment of the caller gives.
    type: list
    elements: str
    default: []
  version:
    description: The variable that says what is installed, without the prefix.
    type: str
    default: SITE_VERSION
  deployments:
    description: What the names of the older form begin with where they hold for one deployment.
    type: list
    elements: str
    default: [dev, staging, prod]
  parts:
    description:
      - What to write. The system file is where a person goes on writing, so that a later import leaves it out.
    type: list
    elements: str
    choices: [system, layers, sites]
    default: [system, layers, sites]
  force:
    description: Replace files also where they were edited.
    type: bool
    default: false
seealso:
  - plugin: sciops.sites.system
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Import the shell files of JAWS
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Write the system file, layers and sites
      sciops.sites.exports_import:
        src: jaws-site/configs
        dest: inventories/jaws
        environment: [JAWS_SITE_VERSION, JAWS_DB_PW, JAWS_RMQ_PW, JAWS_SUPERVISORD_PW]
      register: imported

    - name: Show what a person must look at
      ansible.builtin.debug:
        msg: "{{ imported.findings }}"
"""

RETURN = r"""
findings:
  description: What a person should know, each in one sentence with its place, such as names that come twice.
  returned: always
  type: list
  elements: str
  sample:
    - "sites/acme.sh:13: JAWS_GROUP: is set again, after line 6; the last counts"
needed:
  description: Variables that no file sets and that the caller must give, with the places that ask for them.
  returned: always
  type: dict
  sample: {"HOME": ["sites/acme.sh:9"]}
files:
  description: The files that were written, or would be.
  returned: always
  type: list
  elements: str
  sample: ["inventories/jaws/sites/acme.yml"]
counts:
  description: What was found.
  returned: always
  type: dict
  sample: {"variables": 58, "deployments": 3, "sites": 7}
"""
