# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded fleet states, planned again: one state a line in, one plan a line out. Pure.

So a policy, a limit or a whole new declaration can be tried on history before it meets a host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _legacy, _memory, _planner

MODES = ("plan", "legacy", "strict")


class ReplayError(ValueError):
    """A line that cannot be planned; the text names file, line, place and what to do."""


def replay(
    lines: Iterable[str], source: str, mode: str = "plan", declaration: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a plan for each line that is not blank.

    `declaration` replaces that of every line. A line without a `memory` goes on with what the lines before it taught.
    Raises ReplayError for the first line that is not a state.
    """
    memory: dict[str, Any] | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{source}:{number}"
        try:
            state = json.loads(line)
        except ValueError as error:
            raise ReplayError(f"{place}: is not JSON: {error}; each line must be one whole fleet state") from error
        if not isinstance(state, dict):
            raise ReplayError(f"{place}: {line.strip()[:40]}: must be a mapping")
        try:
            if mode == "plan":
                made, memory = _planned(state, place, declaration, memory)
                yield made
            else:
                _require(state, place, "config", dict)
                yield _legacy.plan(state) if mode == "legacy" else _legacy.strict(state)
        except ReplayError:
            raise
        except _memory.UnknownMemoryError as error:
            raise ReplayError(f"{place}: {error}") from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            words = f"{type(error).__name__}: {error}"
            raise ReplayError(f"{place}: is not a whole state for mode {mode}: {words}") from error


def _require(state: dict[str, Any], place: str, key: str, *types: type) -> Any:
    value = state.get(key)
    if isinstance(value, bool) or not isinstance(value, types):
        right = " or ".join(
            {"dict": "a mapping", "float": "a number", "int": "a whole number"}[one.__name__] for one in types
        )
        raise ReplayError(f"{place}: {key}: {value!r}: must be {right}")
    return value


def _planned(
    state: dict[str, Any], place: str, declaration: dict[str, Any] | None, before: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    if declaration is None:
        if state.get("declaration") is None:
            raise ReplayError(f"{place}: declaration: none: give one in the line, or name a site of the inventory")
        declaration = _require(state, place, "declaration", dict)
    observations = _require(state, place, "observations", dict)
    now = float(_require(state, place, "now", int, float))
    memory = state.get("memory")
    if memory is None:
        memory = _memory.learn(before, declaration, observations, now)
    made = _planner.plan(declaration, observations, memory, now, state.get("spent"), state.get("options"))
    return made, _memory.note_good(memory, made, now)
