# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helpers of the tests of declared data."""

from __future__ import annotations

import textwrap

import pytest

from ansible_collections.sciops.sites.plugins.plugin_utils import _declaration, _sitefile, _source

SMALL = """\
plugin: sciops.sites.site
site: lab
deployment: test
hosts:
  lab-[1:3]: {hot_limit: 2, classes: [big]}
shared_limits: {tape: 2}
vars: {spool: /spool}
pipes:
  p:
    components:
      a:
        command: /bin/a {{ slot }}
"""


@pytest.fixture
def compiled():
    """Compile the text of a site file, with layers given as name=text, lowest first."""

    def compile_text(text: str, **layers: str):
        documents = [_source.parse(textwrap.dedent(low), f"{name}.yml", name) for name, low in layers.items()]
        documents.append(_source.parse(textwrap.dedent(text), "/sites/test/lab.site.yml", "site"))
        return _declaration.compile_site(documents, _sitefile.expand)

    return compile_text


@pytest.fixture
def component(compiled):
    """Compile SMALL with more lines in its component, and give the component and the problems as text."""

    def with_lines(*lines: str):
        declaration, problems = compiled(SMALL + "".join(f"        {line}\n" for line in lines))
        assert declaration is not None, [str(problem) for problem in problems]
        return declaration["components"].get("p/a"), [str(problem) for problem in problems]

    return with_lines
