# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup plugin: e-mail and entitlements of people in a directory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: directory_person
short_description: E-mail and entitlements of people, from a directory (LDAP)
version_added: 0.1.0
author: sciops.sites contributors (@sciops)
description:
  - Asks a directory for users by name, and returns the address to which warnings about their jobs go, and their
    entitlements.
  - The address is the first one among the comma-separated parts of C(gecos), else that in C(mail).
  - A directory that does not answer, a user that it does not have, and an attribute that is not there are no failure.
    The value is null then, and a warning says why. What depends on it goes on without.
requirements:
  - ldap3 >= 2.9 (on the controller)
options:
  _terms:
    description: Names of users.
    type: list
    elements: str
    required: true
  servers:
    description:
      - Addresses of the directory's servers, such as V(ldaps://ldap.example.org). The first that answers is used.
      - One without C(ldaps://), C(ldapi://) or C(ldap://) is asked as with C(ldap://), unencrypted.
    type: list
    elements: str
    required: true
  base:
    description: Where the search begins, such as V(ou=people,dc=example,dc=org).
    type: str
    required: true
  filter:
    description: Which entry is that of a user. C({user}) stands for the name, escaped as a filter needs it.
    type: str
    default: (uid={user})
  gecos:
    description: The attribute with comma-separated parts, of which one may be an address.
    type: str
    default: gecos
  mail:
    description: The attribute with an address that counts where the other has none.
    type: str
    default: mail
  entitlement:
    description: The attribute with entitlements.
    type: str
    default: eduPersonEntitlement
  timeout:
    description: Seconds that a server may take to connect, and again to answer.
    type: float
    default: 5
  start_tls:
    description: Encrypt a connection to V(ldap://) before anything is asked.
    type: bool
    default: false
  validate_certs:
    description: Refuse a server whose certificate is not trusted or is for another name.
    type: bool
    default: true
  ca_file:
    description: Certificates that are trusted, a file. Without it those of the system.
    type: path
  bind_dn:
    description: Whom to log in as. Without it, the directory is asked anonymously.
    type: str
  bind_password:
    description: >-
      Password of O(bind_dn). It needs O(start_tls=true), or V(ldaps://) or V(ldapi://) at the beginning of all
      O(servers); an address without either is refused.
    type: str
seealso:
  - module: sciops.sites.condor_session
"""

EXAMPLES = r"""
- name: Submit a session whose owner gets mail about it
  hosts: submit
  gather_facts: false
  vars:
    person: >-
      {{ lookup('sciops.sites.directory_person', 'ann', servers=['ldaps://ldap.example.org'],
                base='ou=people,dc=example,dc=org') }}
  tasks:
    - name: A shell
      sciops.sites.condor_session:
        catalogue: rceapp.yml
        app: shell
        email: "{{ person.email }}"
        entitlements: "{{ person.entitlements }}"
"""

RETURN = r"""
_raw:
  description: One entry for each user.
  type: list
  elements: dict
  contains:
    user:
      description: The name that was asked for.
      type: str
    email:
      description: The address, null where none is known.
      type: str
    entitlements:
      description: The entitlements, sorted, null where none are known.
      type: list
      elements: str
    found:
      description: Whether the directory has this user. Null where no server answered.
      type: bool
"""

import math
import ssl

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display

from ansible_collections.sciops.sites.plugins.plugin_utils import _directory

display = Display()


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        given = self.get_options()
        users = [str(term) for term in self._flatten(terms)]
        try:
            asked = [(user, _directory.query(given["filter"], user)) for user in users]
        except ValueError as exc:
            raise AnsibleLookupError(f"directory_person: {exc}") from None
        # the library takes no blanks off, and would ask " ldaps://.." without encryption
        given = {**given, "servers": [one.strip() for one in given["servers"]]}
        clear = _directory.in_clear(given["servers"], given["start_tls"])
        if given["bind_password"] and clear:
            raise AnsibleLookupError(
                f"directory_person: bind_password: would go to {clear[0]} unencrypted; "
                "begin each of servers with ldaps:// or ldapi://, or set start_tls"
            )
        directory = Directory(given)
        try:
            return [self._person(directory, given, user, text) for user, text in asked]
        finally:
            directory.close()

    def _person(self, directory, given, user, text):
        unknown = {"user": user, "email": None, "entitlements": None}
        try:
            entries = directory.search(text)
        except Silent as exc:
            display.warning(f"directory_person: {user}: e-mail and entitlements stay undefined: {exc}")
            return {**unknown, "found": None}
        if len(entries) != 1:
            words = f"more than one entry matches {text}" if entries else f"no entry matches {text}"
            display.warning(f"directory_person: {user}: e-mail and entitlements stay undefined: {words}")
            return {**unknown, "found": bool(entries)}
        found = _directory.person(entries[0], given["gecos"], given["mail"], given["entitlement"])
        for words in found.warnings:
            display.warning(f"directory_person: {user}: {words}")
        entitlements = None if found.entitlements is None else list(found.entitlements)
        return {"user": user, "email": found.email, "entitlements": entitlements, "found": True}


class Silent(Exception):
    """No server of the directory answered; the text says why."""


class Directory:
    """The first server that answers, one connection for all users."""

    def __init__(self, given):
        self._given = given
        # the library takes whole ones only, where it waits for an answer
        self._seconds = max(1, math.ceil(given["timeout"]))
        self._link = None
        self._failed = None

    def close(self):
        if self._link is not None:
            self._link.unbind()

    def search(self, text):
        """The entries that match, two at most, each a mapping of attributes. Raises Silent."""
        ldap3 = _library()
        given = self._given
        names = [given[name] for name in ("gecos", "mail", "entitlement")]
        if self._link is None:
            self._link = self._connect(ldap3)
        try:
            self._link.search(given["base"], text, attributes=names, size_limit=2, time_limit=self._seconds)
        except ldap3.core.exceptions.LDAPSizeLimitExceededResult:
            return [{}, {}]
        except ldap3.core.exceptions.LDAPNoSuchObjectResult:
            return []
        except ldap3.core.exceptions.LDAPException as exc:
            raise Silent(f"{self._link.server.host}: {exc}") from exc
        answer = self._link.response or []
        return [dict(one["attributes"]) for one in answer if one.get("type") == "searchResEntry"]

    def _connect(self, ldap3):
        if self._failed:
            raise Silent(self._failed)
        given, said = self._given, []
        for address in given["servers"]:
            try:
                return self._bind(ldap3, address)
            except (ldap3.core.exceptions.LDAPException, OSError, ValueError) as exc:
                said.append(f"{address}: {str(exc) or type(exc).__name__}")
        # who does not answer about one user is not asked about the next
        self._failed = "; ".join(said) or "servers: is empty"
        raise Silent(self._failed)

    def _bind(self, ldap3, address):
        given = self._given
        validate = ssl.CERT_REQUIRED if given["validate_certs"] else ssl.CERT_NONE
        tls = ldap3.Tls(validate=validate, ca_certs_file=given["ca_file"])
        server = ldap3.Server(address, tls=tls, get_info=ldap3.NONE, connect_timeout=given["timeout"])
        return ldap3.Connection(
            server,
            user=given["bind_dn"],
            password=given["bind_password"],
            # a password goes to the servers that are named, and to none that one of them names
            auto_referrals=not given["bind_password"],
            auto_bind=ldap3.AUTO_BIND_TLS_BEFORE_BIND if given["start_tls"] else ldap3.AUTO_BIND_NO_TLS,
            receive_timeout=self._seconds,
            read_only=True,
            raise_exceptions=True,
            check_names=False,
        )


def _library():
    try:
        import ldap3
        import ldap3.core.exceptions
    except ImportError as exc:
        raise AnsibleLookupError(
            "directory_person: the Python library ldap3 (2.9 or newer) is missing; install it for the Python that runs "
            "Ansible"
        ) from exc
    return ldap3
