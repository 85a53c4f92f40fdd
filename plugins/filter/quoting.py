# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that write a value as a format wants it; each is documented in the file of its name."""

from __future__ import annotations

import functools
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.sciops.sites.plugins.plugin_utils import _quoting


def _told(name: str, function: t.Callable[..., str]) -> t.Callable[..., str]:
    @functools.wraps(function)
    def run(*args: t.Any, **kwargs: t.Any) -> str:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise AnsibleFilterError(f"{name}: {error}") from error

    return run


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., str]]:
        """Return each filter by its name."""
        return {name: _told(name, function) for name, function in _quoting.FILTERS.items()}
