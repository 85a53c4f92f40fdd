#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ci_matrix
short_description: Make the deploy jobs of continuous integration from the inventory
version_added: 0.1.0
author:
  - sciops.sites contributors (@sciops)
description:
  - Makes one job for each site and deployment of a system in the inventory, by rules, and writes them in the dialect
    of a CI server.
  - A new site adds its jobs and changes no other.
  - All targets of the inventory count, whatever the limit of the play is.
  - Works on the controller. No host is contacted.
attributes:
  action:
    support: full
    description: Runs as an action plugin, on the controller, once for the whole play.
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns the text of the file before and after.
  idempotent:
    support: full
    description: The same options and the same inventory change nothing the second time.
  platform:
    support: full
    platforms: posix
    description: Platforms of the controller. No host is contacted.
options:
  dest:
    description: The file to write. It is replaced as a whole. Without it nothing is written.
    type: path
  dialect:
    description:
      - V(gitlab) is a file for C(include) in C(.gitlab-ci.yml), whose jobs are of the stage C(deploy).
      - V(github) is a workflow, for a file in C(.github/workflows).
    type: str
    choices: [gitlab, github]
    default: gitlab
  system:
    description: The system to make jobs for. It must be given where the inventory has several.
    type: str
  rules:
    description:
      - The first rule that fits a target makes its job. A target that no rule fits is a fault.
      - The default deploys dev from the tag C(dev), staging from branches C(release/*), where a failure is allowed but
        not with the launch method C(scrontab), and prod from these branches on request.
    type: list
    elements: dict
    suboptions:
      deployment:
        description: Fits this deployment only.
        type: str
      site:
        description: Fits this site only.
        type: str
      install:
        description: Fits this install method only.
        type: str
      launch:
        description: Fits this launch method only.
        type: str
      tag:
        description: The tag that the job is for. A C(*) at the end stands for any characters.
        type: str
      branch:
        description: The branch that the job is for. A C(*) at the end stands for any characters.
        type: str
      when:
        description: V(manual) jobs wait until somebody asks for them.
        type: str
        choices: [automatic, manual]
        default: automatic
      allow_failure:
        description: A failure of the job is shown and does not fail the others.
        type: bool
        default: false
  command:
    description:
      - What a job runs. Its environment has C(SCIOPS_SITES_SITE), C(SCIOPS_SITES_DEPLOYMENT) and C(SCIOPS_SITES_LIMIT),
        the hosts of the target in the form of C(--limit).
    type: str
    default: ansible-playbook sciops.sites.deploy -i inventory --limit "$SCIOPS_SITES_LIMIT"
  install_variable:
    description: The variable of the system that names the install method, for rules that ask for it.
    type: str
    default: INSTALL_METHOD
  launch_variable:
    description: The variable of the system that names the launch method, for rules that ask for it.
    type: str
    default: LAUNCH_METHOD
seealso:
  - plugin: sciops.sites.system
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Write the jobs
  hosts: localhost
  gather_facts: false
  tasks:
    - name: For GitLab CI
      sciops.sites.ci_matrix:
        dest: ci/deploy.yml
        command: ansible-playbook sciops.sites.deploy -i inventories/jaws --limit "$SCIOPS_SITES_LIMIT"

    - name: For GitHub Actions, everything on request
      sciops.sites.ci_matrix:
        dest: .github/workflows/deploy.yml
        dialect: github
        rules:
          - {branch: main, when: manual}
"""

RETURN = r"""
jobs:
  description: The jobs, in no dialect.
  returned: always
  type: list
  elements: dict
  sample:
    - name: deploy-acme-dev
      system: jaws
      site: acme
      deployment: dev
      hosts: [acme-dev]
      when: automatic
      allow_failure: false
      ref: {tag: dev}
text:
  description: The jobs in O(dialect).
  returned: always
  type: str
"""
