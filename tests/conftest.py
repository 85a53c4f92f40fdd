# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: the collection's import path through Ansible's own loader, profiles, real reference data."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# In a checkout .collections/ansible_collections/sciops/sites is a link to its root. A copy without the link (as
# ansible-test wants) lies at <somewhere>/ansible_collections/sciops/sites itself.
_LINKED = ROOT / ".collections"
COLLECTIONS = _LINKED if _LINKED.exists() else ROOT.parents[2]

os.environ.setdefault("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))


def _install_loader() -> None:
    """Import ansible_collections.* as Ansible does, so that tests and plugins never hold two copies of one module."""
    from ansible.utils.collection_loader import _collection_finder as finder

    if any(isinstance(entry, finder._AnsibleCollectionFinder) for entry in sys.meta_path):
        return
    finder._AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()


_install_loader()


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples the property tests generate: HYPOTHESIS_PROFILE=default|nightly."""
    try:
        from hypothesis import HealthCheck, settings
    except ImportError:
        return
    common = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
    # a gate judges a change, so chance has no part in it: the same examples for the same test; `nightly` searches
    settings.register_profile("sciops", max_examples=300, derandomize=bool(os.environ.get("CI")), **common)
    settings.register_profile("nightly", max_examples=10000, **common)
    chosen = os.environ.get("HYPOTHESIS_PROFILE", "sciops")
    settings.load_profile("sciops" if chosen == "default" else chosen)


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def interface_json() -> Path:
    """Path of the real Interface.json of the jadetools deployment, which lies beside the checkout, not in it."""
    path = ROOT.parent / "shared" / "data" / "Interface.json"
    if not path.exists():
        pytest.skip(f"the real Interface.json is not beside this checkout ({path})")
    return path
