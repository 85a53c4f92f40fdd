# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds: what people took out of the loop's hands, for how long and why. Pure.

    {"scope": "site" | "host:c9-1" | "pipe:pipe0" | "component:pipe0/bundler", "mode": "hold" | "drain" | "halt",
     "owner": "ana", "reason": "tape library is down", "until": unix seconds | None, "since": unix seconds}

hold: nothing is started and nothing is stopped there. drain: nothing is started, what runs is ended.
halt (scope site only): the kill switch, a pass does nothing at all; it has no expiry.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import Any

MODES = ("hold", "drain", "halt")
_STRENGTH = {mode: index for index, mode in enumerate(MODES)}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw]\s*)+", re.ASCII)
_LONGEST = 10 * 365 * 86400


def parse_scope(text: str) -> tuple[str, str]:
    """Split a scope into its kind and name: ("site", ""), ("host", "c9-1"). Raises ValueError with what is right."""
    kind, colon, name = text.partition(":")
    if kind == "site" and not colon:
        return "site", ""
    whole = kind in ("host", "pipe", "component") and name and name == name.strip()
    if not whole or (kind == "component") != ("/" in name):
        raise ValueError(f"scope: {text!r}: must be site, host:NAME, pipe:NAME or component:PIPE/NAME")
    return kind, name


def parse_until(text: Any, now: float) -> float | None:
    """Return the unix time at which a hold ends. None or "" mean that it has no end.

    Understood: a duration from `now` ("90s", "2h", "1d 12h"), an ISO time ("2026-03-01T08:00:00Z"; without a zone it
    is UTC), a unix time. Raises ValueError for anything else, and for what is over already or more than ten years away.
    """
    if text is None or text == "":
        return None
    until = _moment(text, now)
    if not now < until <= now + _LONGEST:
        when = "over already" if until <= now else "more than ten years away"
        raise ValueError(f"until: {text!r}: is {when}")
    return until


def _moment(text: Any, now: float) -> float:
    words = str(text).strip()
    if _DURATION.fullmatch(words):
        return now + sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhdw])", words))
    try:
        # A small bare number is refused: seconds, hours or a date? Nobody should have to guess.
        if re.fullmatch(r"\d{10,}(\.\d*)?", words):
            return float(words)
        if not words.isdigit():
            moment = datetime.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", words))
            return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()
    except ValueError:
        pass
    raise ValueError(f"until: {text!r}: must be a duration with unit (90m, 2h, 1d), an ISO time or a unix time")


def make(scope: str, mode: str, *, owner: str, reason: str, until: float | None, since: float) -> dict[str, Any]:
    """Return a hold. Raises ValueError where scope and mode do not go together or a word is missing."""
    kind, _name = parse_scope(scope)
    if mode not in MODES:
        raise ValueError(f"mode: {mode!r}: must be one of {', '.join(MODES)}")
    if mode == "halt" and kind != "site":
        raise ValueError(f"mode: halt stops the whole site; for {scope} use hold or drain")
    if mode == "halt" and until is not None:
        raise ValueError("until: the kill switch has no expiry, a person lifts it; use hold for a time")
    if not owner.strip() or not reason.strip():
        raise ValueError(f"{'reason' if owner.strip() else 'owner'}: is empty; who comes next wants to know")
    return {"scope": scope, "mode": mode, "owner": owner, "reason": reason, "until": until, "since": since}


def effective(holds: Iterable[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
    """Return the holds in force at unix time `now`, in the order given."""
    return [dict(hold) for hold in holds if not _over(hold, now)]


def expired(holds: Iterable[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
    """Return the holds that are over at unix time `now`: ignored, but worth a line to whoever set them."""
    return [dict(hold) for hold in holds if _over(hold, now)]


def _over(hold: Mapping[str, Any], now: float) -> bool:
    until = hold.get("until")
    return until is not None and float(until) <= now


def governing(
    active: Iterable[Mapping[str, Any]], host: str | None = None, component: str | None = None
) -> dict[str, Any] | None:
    """Return the strongest hold that covers this host, this component ("pipe/name"), or the whole site; None if none.

    Drain is stronger than hold, halt than both; of equal ones the first.
    """
    names = {("site", "")}
    if host is not None:
        names.add(("host", host))
    if component is not None:
        names |= {("component", component), ("pipe", component.partition("/")[0])}
    found: Mapping[str, Any] | None = None
    for hold in active:
        covers = parse_scope(str(hold["scope"])) in names
        if covers and (found is None or _STRENGTH[hold["mode"]] > _STRENGTH[found["mode"]]):
            found = hold
    return None if found is None else dict(found)


def present(holds: Iterable[Mapping[str, Any]], wanted: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """Return the list with `wanted` in it, and whether that differs. There is one hold for each scope and mode.

    A hold that says the same already keeps its `since`.
    """
    result, same = [], False
    for hold in holds:
        if (hold["scope"], hold["mode"]) != (wanted["scope"], wanted["mode"]):
            result.append(dict(hold))
        elif all(hold.get(key) == wanted.get(key) for key in ("owner", "reason", "until")):
            result.append(dict(hold))
            same = True
    return (result, False) if same else ([*result, dict(wanted)], True)


def absent(
    holds: Iterable[Mapping[str, Any]], scope: str, mode: str | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what stays and what goes when the holds of a scope (of one mode, or of any) are taken away."""
    stay: list[dict[str, Any]] = []
    gone: list[dict[str, Any]] = []
    for hold in holds:
        (gone if hold["scope"] == scope and mode in (None, hold["mode"]) else stay).append(dict(hold))
    return stay, gone


def describe(hold: Mapping[str, Any]) -> str:
    """Say a hold in one line: "drain of host:c9-1 by ana until 2026-03-01T08:00:00Z: disk is replaced"."""
    until = hold.get("until")
    end = ""
    if until is not None:
        moment = datetime.datetime.fromtimestamp(float(until), tz=datetime.timezone.utc)
        end = f" until {moment.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    return f"{hold['mode']} of {hold['scope']} by {hold.get('owner') or '?'}{end}: {hold.get('reason') or '?'}"
