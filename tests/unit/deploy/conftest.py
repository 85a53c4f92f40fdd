# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helpers of the tests of systems."""

from __future__ import annotations

import textwrap

import pytest

from ansible_collections.sciops.sites.plugins.plugin_utils import _source, _system, _variables

HEAD = """\
plugin: sciops.sites.system
deployments: [dev, staging, prod]
version: "2.8"
root: "/opt/{{ site }}-{{ deployment }}"
"""
SITE = "hosts: {login1.acme.example.org: {}}\n"


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """A home without files of whoever runs the tests: preludes run in login shells, which would read those."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def built():
    """A system from the texts of its files; HEAD is put before the text of the system file."""

    def build(text: str, layers=None, sites=None, decrypt=None):
        def parsed(words, file, layer, empty=""):
            return _source.parse(textwrap.dedent(words), f"/systems/{file}", layer, decrypt, empty)

        return _system.build(
            parsed(HEAD + textwrap.dedent(text), "small.system.yml", "system"),
            {name: parsed(words, f"layers/{name}.yml", "deployment") for name, words in (layers or {}).items()},
            {
                name: parsed(words, f"sites/{name}.yml", "site", "is empty")
                for name, words in ({"acme": SITE} if sites is None else sites).items()
            },
        )

    return build


@pytest.fixture
def resolved(built):
    """The target acme-dev of such a system, and the problems as text, those that are only warnings left out."""

    def resolve(text: str, site: str = "", environment=None, caller=None, deployment: str = "dev", **more):
        system = built(text, sites={"acme": SITE + textwrap.dedent(site)}, **more)
        assert system.problems == [], [str(problem) for problem in system.problems]
        name = f"acme-{deployment}"
        target, problems = _variables.resolve(system, "acme", deployment, name, environment or {}, caller or {})
        return target, [str(problem) for problem in problems if problem.fatal]

    return resolve
