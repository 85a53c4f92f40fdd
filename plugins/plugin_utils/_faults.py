# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of declared data: what they are, how they are worded, and the check of data against a JSON schema."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "", "__slots__": ()})()

_UNITS_TIME = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_UNITS_SIZE = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4, "P": 1000**5}
_UNITS_SIZE.update({f"{unit}i": 1024 ** (power + 1) for power, unit in enumerate("KMGTP")})
_TIME = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?((?:[KMGTP]i?)?)B?")
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$(?!\n)"
NAME_RIGHT = "must be 1 to 63 letters, digits, '_', '-' or '.', beginning with a letter or digit"
# site and deployment name one folder together, `site.deployment`: a dot would let two of them share one
SITE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$(?!\n)"
SITE_RIGHT = "must be 1 to 63 letters, digits, '_' or '-', beginning with a letter or digit"


def named(word: Any, pattern: str = NAME_PATTERN) -> bool:
    """True for what may name a pipe, a component or a limit; with SITE_PATTERN, a site or a deployment."""
    return isinstance(word, str) and re.match(pattern, word) is not None


@dataclass(frozen=True)
class Fault:
    """One fault at one place: `path` leads to the value (MISSING where there is none), `message` says what is right."""

    path: Path
    value: Any
    message: str
    line: int = 0
    suggestion: str = ""


@dataclass(frozen=True)
class Problem:
    """A fault as a person reads it. `fatal` faults refuse the whole site, others put one component aside."""

    file: str
    line: int
    path: str
    value: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.path, self.value, self.message) if part)


def dotted(path: Path) -> str:
    """The path as people write it: `pipes[0].types[2].count`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def shown(value: Any) -> str:
    """The value on one line, at most 60 characters; nothing for MISSING."""
    if value is MISSING:
        return ""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def did_you_mean(word: str, known: Mapping[str, Any] | list[str] | tuple[str, ...] | set[str]) -> str:
    """The one known word nearest to `word`, or an empty string."""
    lowered = {str(name).lower(): str(name) for name in sorted(known)}
    near = difflib.get_close_matches(str(word).lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[near[0]] if near else ""


def hint(word: str, known: Mapping[str, Any] | list[str] | tuple[str, ...] | set[str]) -> str:
    """The end of a message about an unknown word: its neighbour, or the words that are known."""
    near = did_you_mean(word, known)
    if near:
        return f'did you mean "{near}"?'
    names = sorted(str(name) for name in known)
    if not names:
        return "none is defined"
    return "known here: {}".format(", ".join(names[:20] + (["..."] if len(names) > 20 else [])))


def seconds(value: float | str) -> float:
    """A duration in seconds from a number of seconds or words such as `10m`; ValueError for other words."""
    return _with_unit(value, _TIME, _UNITS_TIME)


def octets(value: float | str) -> int:
    """A size in bytes from a number or words such as `2GiB` (1024) or `2GB` (1000); ValueError for other words."""
    return int(_with_unit(value, _SIZE, _UNITS_SIZE))


def _with_unit(value: float | str, pattern: re.Pattern[str], units: Mapping[str, float]) -> float:
    if not isinstance(value, str):
        return value
    found = pattern.fullmatch(value.strip())
    if not found:
        raise ValueError(value)
    number = float(found.group(1)) * units[found.group(2)]
    return int(number) if number == int(number) else number


def _library() -> Any:
    """Return jsonschema. It is large, so that who checks nothing does not load it; and documentation needs none."""
    try:
        import jsonschema
    except ImportError as exc:
        raise RuntimeError(
            "the Python library jsonschema (4.18 or newer) is missing; install it for the Python that runs Ansible"
        ) from exc
    return jsonschema


def _bounded(kind: str, read: Any, example: str) -> Any:
    def keyword(validator: Any, bounds: list[float], instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, bool) or not isinstance(instance, (int, float, str)):
            return  # "type" speaks
        try:
            number = read(instance)
        except ValueError:
            yield _library().ValidationError(f"must be {kind}: a number, or words such as {example}")
            return
        if not bounds[0] <= number <= bounds[1]:
            yield _library().ValidationError(
                "must be from {} to {} {}".format(*(plain_number(b) for b in bounds), kind.rsplit(maxsplit=1)[-1])
            )

    return keyword


def _regex(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, str):
        try:
            re.compile(instance)
        except (re.error, OverflowError, RecursionError) as exc:
            yield _library().ValidationError(f"must be a regular expression of Python: {exc}")


def plain_number(number: float) -> str:
    """A bound as people write it."""
    return str(int(number)) if number == int(number) else str(number)


_TYPE_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "object": "a mapping",
    "array": "a list",
    "boolean": "true or false",
    "null": "null",
}


def _worded(error: Any) -> str:
    """What is right at the place of `error`."""
    right = error.schema.get("x-right") if isinstance(error.schema, dict) else None
    if right:
        return str(right)
    keyword, wanted = error.validator, error.validator_value
    if keyword == "type":
        kinds = [wanted] if isinstance(wanted, str) else list(wanted)
        return "must be {}".format(" or ".join(_TYPE_WORDS[kind] for kind in kinds))
    if keyword == "enum":
        words = [str(word) for word in wanted]
        near = did_you_mean(str(error.instance), words)
        return "must be {}{}".format(" or ".join(words), f', did you mean "{near}"?' if near else "")
    messages = {
        "minimum": f"must be {wanted} or more",
        "maximum": f"must be {wanted} or less",
        "minLength": "must not be empty",
        "minItems": "must not be empty",
        "maxLength": f"must not be longer than {wanted} characters",
        "maxItems": f"must not have more than {wanted} entries",
        "uniqueItems": "must not hold the same entry twice",
    }
    return messages.get(keyword, str(error.message))


def _expand(error: Any) -> Iterator[Fault]:
    """The faults of one error of the validator: one per unknown or missing key."""
    path: Path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        for key in error.instance:
            if key not in known:
                yield Fault(
                    (*path, key), MISSING, f"unknown key, {hint(key, known)}", suggestion=did_you_mean(key, known)
                )
    elif error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                yield Fault((*path, key), MISSING, "is missing")
    elif "propertyNames" in error.absolute_schema_path:
        yield Fault((*path, error.instance), MISSING, _worded(error))
    elif error.validator in ("minProperties", "maxProperties"):
        yield Fault(path, error.instance, _worded(error))
    else:
        yield Fault(path, error.instance, _worded(error))


def check(schema: Mapping[str, Any], data: Any) -> list[Fault]:
    """All faults of `data` against `schema`, ordered by place.

    A missing key that an unknown one was meant to be is named once. The keywords `x-duration`, `x-size` (bounds) and
    `x-regex` are this collection's own; `x-right` words the fault. Raises RuntimeError where jsonschema is missing.
    """
    library = _library()
    make_validator: Any = library.validators.extend
    validator = make_validator(
        library.Draft202012Validator,
        {
            "x-duration": _bounded("a duration in seconds", seconds, "90s, 10m, 2h, 1d"),
            "x-size": _bounded("a size in bytes", octets, "500MB, 2GiB"),
            "x-regex": _regex,
        },
    )(schema)
    faults: dict[tuple[Path, str], Fault] = {}
    for error in validator.iter_errors(data):
        for fault in _expand(error):
            faults.setdefault((fault.path, fault.message), fault)
    meant = {(*fault.path[:-1], fault.suggestion) for fault in faults.values() if fault.suggestion}
    kept = [fault for fault in faults.values() if not (fault.message == "is missing" and fault.path in meant)]
    return sorted(kept, key=lambda fault: [f"{part:09d}" if isinstance(part, int) else part for part in fault.path])


def not_finite(value: Any) -> bool:
    """True for numbers no bound can catch: not-a-number and the infinities."""
    return isinstance(value, float) and not math.isfinite(value)
