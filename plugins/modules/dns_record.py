#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dns_record
short_description: Point the name of a floating service to a host, by nsupdate
version_added: 0.1.0
description:
  - Asks the server of the zone for the record, and replaces it with C(nsupdate -k KEY) where it is another one. The
    server is then asked once more.
  - All records of the type that the name has are replaced by the one, in one update.
  - A server that does not answer, is not one of the zone, or refuses the update fails the task.
author:
  - sciops.sites contributors (@sciops)
requirements:
  - C(nsupdate) on the host, which is in the packages C(bind9-dnsutils) and C(bind-utils)
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status prediction. The server is asked all the same.
  diff_mode:
    support: full
    description: Returns the records before and after.
  idempotent:
    support: full
    description: A record that is as wanted, with its time to live, is not sent again.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  server:
    description: Primary server of the zone, a name or an address. It is asked and updated on port 53.
    type: str
    required: true
  zone:
    description: The zone.
    type: str
    required: true
  name:
    description: Full name of the record.
    type: str
    required: true
  type:
    description: Type of the record.
    type: str
    choices: [A, AAAA]
    default: A
  address:
    description: The address that it is to have. Required with O(state=present).
    type: str
  ttl:
    description: Its time to live in seconds.
    type: int
    default: 30
  key_file:
    description: File on the host with the TSIG key, as C(tsig-keygen) writes it. Only C(nsupdate) reads it.
    type: path
    required: true
  state:
    description: With V(absent), the name has no record of this type.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds that a question or the update may take.
    type: float
    default: 20
"""

EXAMPLES = r"""
- name: Point the service to the host that it is about to start on
  sciops.sites.dns_record:
    server: ns1.example.org
    zone: svc.example.org
    name: jaws-acme-dev.svc.example.org
    address: "{{ ansible_host }}"
    key_file: "{{ TSIGPATH }}"

- name: Take the name away
  sciops.sites.dns_record:
    server: ns1.example.org
    zone: svc.example.org
    name: jaws-acme-dev.svc.example.org
    key_file: "{{ TSIGPATH }}"
    state: absent
"""

RETURN = r"""
before:
  description: The records that the server had.
  returned: success
  type: list
  elements: dict
  sample: [{address: 10.0.0.11, ttl: 30}]
after:
  description: The records that it has now, in check mode those that it would have.
  returned: success
  type: list
  elements: dict
  sample: [{address: 10.0.0.12, ttl: 30}]
sent:
  description: The lines that nsupdate got, in check mode those that it would get. Empty where nothing had to change.
  returned: success
  type: list
  elements: str
  sample:
    - server ns1.example.org
    - zone svc.example.org
    - update del jaws-acme-dev.svc.example.org A
    - update add jaws-acme-dev.svc.example.org 30 A 10.0.0.12
    - send
"""

import os
import socket

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _nsupdate


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "server": {"type": "str", "required": True},
            "zone": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "choices": ["A", "AAAA"], "default": "A"},
            "address": {"type": "str"},
            "ttl": {"type": "int", "default": 30},
            "key_file": {"type": "path", "required": True, "no_log": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "timeout": {"type": "float", "default": 20},
        },
        required_if=[("state", "present", ["address"])],
        supports_check_mode=True,
    )
    program = module.get_bin_path("nsupdate", required=True)
    try:
        module.exit_json(**converge(module, program))
    except _nsupdate.Failure as failure:
        module.fail_json(msg=str(failure))


def converge(module: AnsibleModule, program: str) -> dict:
    """Bring the record about and return the result. Raises Failure."""
    options = module.params
    server, zone, name, kind = (options[key] for key in ("server", "zone", "name", "type"))
    address = options["address"] if options["state"] == "present" else None
    _nsupdate.check(server, zone, name, kind, address)
    if not 0 <= options["ttl"] < 2**31:
        raise _nsupdate.Failure("ttl: %d: must be from 0 to %d" % (options["ttl"], 2**31 - 1))
    check_key(module, options["key_file"])
    wanted = []
    if address is not None:
        # as the server writes it, which may shorten an address of IPv6
        family = _nsupdate.TYPES[kind][1]
        wanted = [(socket.inet_ntop(family, socket.inet_pton(family, address)), options["ttl"])]
    before = _nsupdate.ask(server, name, kind, options["timeout"])
    changed = before != wanted
    text = _nsupdate.lines(server, zone, name, kind, address, options["ttl"]) if changed else ""
    if changed and not module.check_mode:
        _nsupdate.update(program, options["key_file"], text, options["timeout"])
        after = _nsupdate.ask(server, name, kind, options["timeout"])
        if after != wanted:
            said = shown(name, kind, after) or "nothing"
            raise _nsupdate.Failure("server: %s: took the update, and has %s" % (server, said.replace("\n", "; ")))
    diff = {"before": shown(name, kind, before), "after": shown(name, kind, wanted)}
    told = {"changed": changed, "diff": diff, "sent": text.splitlines()}
    return {**told, "before": as_dicts(before), "after": as_dicts(wanted)}


def check_key(module: AnsibleModule, path: str) -> None:
    """Refuse a key that is not there, and tell of one that others can read."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise _nsupdate.Failure("key_file: %s: %s" % (path, error.strerror)) from error
    if not os.access(path, os.R_OK):
        raise _nsupdate.Failure("key_file: %s: this account may not read it" % path)
    if mode & 0o007:
        module.warn("key_file: %s: every account of the host may use it; its mode should be 0600" % path)


def shown(name: str, kind: str, records: list) -> str:
    """Records as lines of a zone file."""
    return "".join("%s %d %s %s\n" % (name, ttl, kind, address) for address, ttl in records)


def as_dicts(records: list) -> list:
    return [{"address": address, "ttl": ttl} for address, ttl in records]


if __name__ == "__main__":
    main()
