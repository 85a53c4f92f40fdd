# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an entry of a directory says of a person (R15), and that no name of a user gets out of its place in a filter."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _directory


def person(**entry: object) -> _directory.Person:
    return _directory.person(entry, "gecos", "mail", "eduPersonEntitlement")


def test_r15_gecos_else_mail_else_nothing() -> None:
    assert person(gecos="Ann Lee,room 5,ann@example.org", mail=["other@example.org"]).email == "ann@example.org"
    assert person(gecos="Ann Lee,room 5", mail=["other@example.org"]).email == "other@example.org"
    assert person(GECOS=[b"Ann, ann@example.org "], Mail=[]).email == "ann@example.org"
    assert person(gecos=[], mail="nothing").email is None and person().email is None
    assert person(gecos=[b"\xff@example.org"]).email is None


@pytest.mark.parametrize(
    "text",
    ["ann@example.org", "ann.lee+job@a-b.example.org", "o'neil@x.org", "müller@exämple.org", "_x@example.org", "1@2.3"],
)
def test_r15_any_valid_address(text: str) -> None:
    assert _directory.address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "@example.org",
        "ann@",
        "ann@host",
        "a b@example.org",
        "a@b@example.org",
        "ann@example.org\nBcc: all@example.org",
        "ann@example.org\n",
        "-f@example.org",
        '"x"@example.org',
        "a" * 250 + "@b.org",
    ],
)
def test_r15_what_is_no_address(text: str) -> None:
    assert not _directory.address(text)


def test_entitlements() -> None:
    found = person(eduPersonEntitlement=["kennedy", b"admin", "kennedy", "a,b", "two\nlines", ""])
    assert found.entitlements == ("admin", "kennedy")
    assert [one.split(" is left out")[0] for one in found.warnings] == [
        "the entitlement 'a,b'",
        "the entitlement 'two\\nlines'",
        "the entitlement ''",
    ]
    assert person(eduPersonEntitlement=[]).entitlements is None


def test_filter() -> None:
    assert _directory.query("(uid={user})", "ann.lee@x") == "(uid=ann.lee@x)"
    assert _directory.query("(uid={user})", "*)(uid=*") == "(uid=\\2a\\29\\28uid\\3d\\2a)"
    assert _directory.query("(|(uid={user})(cn={user}))", "ö\0") == "(|(uid=\\c3\\b6\\00)(cn=\\c3\\b6\\00))"
    for template, user in (("(uid=ann)", "ann"), ("(uid={user})", "")):
        with pytest.raises(ValueError):
            _directory.query(template, user)


@given(st.text(min_size=1))
def test_a_name_stays_in_its_place(user: str) -> None:
    try:
        found = _directory.query("(uid={user})", user)
    except UnicodeEncodeError:
        return
    inner = found[len("(uid=") : -1]
    assert re.fullmatch(r"(?:[A-Za-z0-9@._+-]|\\[0-9a-f]{2})+", inner)
    raw = re.sub(rb"\\([0-9a-f]{2})", lambda one: bytes([int(one[1], 16)]), inner.encode())
    assert raw.decode() == user


# --- the password


@pytest.mark.parametrize(
    "server", ["ldap.example.org", "ldap.example.org:636", "LDAP://ldap.example.org", " ldap://x", "ldapsx://x", ""]
)
def test_a_password_goes_to_no_server_in_clear_text(server: str) -> None:
    assert _directory.in_clear(["ldaps://a", server], False) == [server]
    assert _directory.in_clear([server], True) == []
    given = {"servers": ["ldaps://a", server], "base": "dc=x", "bind_dn": "cn=me", "bind_password": "Sesam.1"}
    with pytest.raises(AnsibleLookupError, match="bind_password: would go to") as error:
        lookup_loader.get("sciops.sites.directory_person").run(["ann"], {}, **given)
    assert "Sesam" not in str(error.value)


def test_a_password_goes_over_tls_or_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["LDAPS://a", " ldaps://b", "ldapi:///run/slapd"]
    assert _directory.in_clear(asked, False) == []
    given = {"servers": asked, "base": "dc=x", "bind_dn": "cn=me", "bind_password": "Sesam.1"}
    plugin = lookup_loader.get("sciops.sites.directory_person")
    module = sys.modules[type(plugin).__module__]
    seen = []

    def search(self: Any, text: str) -> list:
        seen.extend(self._given["servers"])
        return []

    monkeypatch.setattr(module.Directory, "search", search)
    assert plugin.run(["ann"], {}, **given)[0]["found"] is False
    # as the library needs them: it would take " ldaps://b" for a name, and ask it without encryption
    assert seen == ["LDAPS://a", "ldaps://b", "ldapi:///run/slapd"]
