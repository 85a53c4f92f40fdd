# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person in a directory (LDAP): how to ask for one, and what the answer says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: an address as people have them; no blank, no control character and no second @, since it goes into the head of a mail
_ADDRESS = re.compile(r"[^\W_][\w.!#$%&'*+/=?^`{|}~-]*@[^\W_][\w-]*(\.[\w-]+)+|_[\w.+-]*@[^\W_][\w-]*(\.[\w-]+)+")
#: what RFC 4515 wants escaped, and everything that is no plain character
_SPECIAL = re.compile(rb"[^A-Za-z0-9@._+-]")
USER = "{user}"


@dataclass(frozen=True)
class Person:
    """What is known of a person; None is undefined."""

    email: str | None
    entitlements: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()


def escape(text: str) -> str:
    """A value for a filter, whatever it holds: bytes that are not plain stand as backslash and two hex digits."""
    return _SPECIAL.sub(lambda found: b"\\%02x" % found.group()[0], text.encode()).decode("ascii")


def query(template: str, user: str) -> str:
    """The filter that finds a user. Raises ValueError for a template without `{user}`, and for an empty name."""
    if USER not in template:
        raise ValueError(f"filter: {template}: must hold {USER}, the name that is looked for")
    if not user:
        raise ValueError("a user without a name cannot be looked for")
    return template.replace(USER, escape(user))


def in_clear(servers: Sequence[str], start_tls: bool) -> list[str]:
    """Servers to which a password would go in clear text: all that are not known to be encrypted or of this host.

    An address without a scheme is one, for it is asked as with ldap://.
    """
    safe = ("ldaps://", "ldapi://")
    return [] if start_tls else [one for one in servers if not one.strip().lower().startswith(safe)]


def address(text: str) -> bool:
    """True for what can be the address of a person."""
    return len(text) <= 254 and _ADDRESS.fullmatch(text) is not None


def _texts(value: Any) -> list[str]:
    """The values of an attribute as texts; a directory gives one or many, as text or bytes."""
    many = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
    found = []
    for one in many:
        try:
            found.append(one.decode() if isinstance(one, bytes) else str(one))
        except UnicodeDecodeError:
            continue
    return found


def person(entry: Mapping[str, Any], gecos: str, mail: str, entitlement: str) -> Person:
    """What an entry says: the first address among the comma-separated parts of `gecos`, else `mail`, else nothing.

    Names of attributes count without regard to case. An entitlement with a comma cannot be in a job's list, whose
    separator it is: it is left out, with a warning.
    """
    known = {name.lower(): value for name, value in entry.items()}
    parts = [part.strip() for text in _texts(known.get(gecos.lower())) for part in text.split(",")]
    found = [one for one in [*parts, *_texts(known.get(mail.lower()))] if address(one)]
    listed = _texts(known.get(entitlement.lower()))
    good: Sequence[str] = sorted({one for one in listed if one and "," not in one and one.isprintable()})
    warnings = [f"the entitlement {one!r} is left out: a job cannot carry it" for one in listed if one not in good]
    return Person(found[0] if found else None, tuple(good) or None, tuple(warnings))
