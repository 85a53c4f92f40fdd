# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup plugin: where declared values come from."""

from __future__ import annotations

DOCUMENTATION = r"""
name: origin
short_description: Where the values of a site file come from
version_added: 0.1.0
author: sciops.sites contributors (@sciops)
description:
  - Reads a site file with its layers as P(sciops.sites.site#inventory) does, and tells for each value which layer, file
    and line it comes from, and which values of lower layers it hides.
  - Components show what they take from C(defaults), hosts what they take from C(host_defaults). Values that are
    encrypted with Ansible Vault are not shown.
options:
  _terms:
    description:
      - Dotted paths such as C(policy.quorum) or C(pipes.pipe0.components.bundler). A path of a mapping stands for all
        values below it. Host ranges are expanded, so a host is named by its own name.
    type: list
    elements: str
    required: true
  site_file:
    description: The site file.
    type: path
    required: true
seealso:
  - plugin: sciops.sites.site
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Where does the grace of the bundlers come from
  ansible.builtin.debug:
    msg: "{{ lookup('sciops.sites.origin', 'pipes.pipe0.components.bundler.grace', site_file='prod/wipac.site.yml') }}"
"""

RETURN = r"""
_raw:
  description: One entry for each value.
  type: list
  elements: dict
  contains:
    path:
      description: The dotted path of the value.
      type: str
    value:
      description: The value that holds.
      type: raw
    layer:
      description: The layer that it comes from.
      type: str
    file:
      description: The file that it comes from.
      type: str
    line:
      description: The line in that file, 0 for the defaults of the collection.
      type: int
    shadows:
      description: The values that it hides, nearest first, each with value, layer, file and line.
      type: list
      elements: dict
"""

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.sciops.sites.plugins.plugin_utils import _sitefile
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        path = self._loader.path_dwim(self.get_option("site_file"))
        try:
            site = _sitefile.read(path, self._loader)
        except (SourceError, RuntimeError) as exc:
            raise AnsibleLookupError(f"the site file cannot be used:\n  {exc}") from None
        site.compile()
        fatal = [problem for problem in site.problems if problem.fatal]
        if fatal:
            lines = "".join(f"\n  {problem}" for problem in fatal)
            raise AnsibleLookupError(f"the site file cannot be used:{lines}")
        rows, unknown = site.explain([str(term) for term in self._flatten(terms)])
        if unknown:
            raise AnsibleLookupError(f"{path}: nothing is declared at {', '.join(unknown)}")
        return rows
