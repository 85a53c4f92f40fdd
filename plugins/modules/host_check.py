#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_check
short_description: Ask whether a host has and reaches what a deployment needs
version_added: 0.1.0
description:
  - Asks all questions at one time, and fails with all that is wrong and what to do about it. Nothing is changed on the
    host, not even to see whether a folder can be written.
author:
  - sciops.sites contributors (@sciops)
attributes:
  check_mode:
    support: full
    description: Nothing is changed in any mode.
  diff_mode:
    support: N/A
    description: Nothing is changed.
  idempotent:
    support: full
    description: Nothing is changed.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  checks:
    description: Questions. Each has one of the keys below that asks something.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description:
          - An address (C(http), C(https)) that must answer with a status below 400. Certificates are verified, and the
            proxies of the host's environment are used. A user and password in it are sent, and never shown.
        type: str
      port:
        description: A TCP port that must take connections.
        type: int
      address:
        description: The host of O(checks[].port), by default V(127.0.0.1).
        type: str
      command:
        description: The words of a command that must end with status 0. No shell runs.
        type: list
        elements: str
      program:
        description: A program that must be there, a name or a path.
        type: str
      version:
        description: What O(checks[].program) C(--version) must say, such as V(>=1.1) or V(>=1.1,<2).
        type: str
      free:
        description: A size, such as V(2GiB), that must be free on the file system of O(checks[].path).
        type: str
      path:
        description: A folder that need not be there yet, for O(checks[].free).
        type: str
      writable:
        description: A folder that the user of the connection must be able to write, or to make where it is missing.
        type: str
      log:
        description: The file of O(checks[].log_age).
        type: str
      log_age:
        description: Seconds within which O(checks[].log) must have been written.
        type: float
      timeout:
        description: Seconds for this question, by default V(5).
        type: float
  install:
    description: The install method and its settings, as a target has them, but no secrets. What it needs is looked for.
    type: dict
    default: {}
  launch:
    description: The launch method and its settings, as a target has them. What it needs is looked for.
    type: dict
    default: {}
  services:
    description: The services of the target.
    type: list
    elements: dict
    default: []
seealso:
  - module: sciops.sites.release_build
  - module: sciops.sites.release_switch
"""

EXAMPLES = r"""
- name: See whether a release can be installed here
  sciops.sites.host_check:
    checks:
      - {url: "https://central.example.org/api/v2/status", timeout: 10}
      - {port: 5672, address: rmq.example.org}
      - {program: apptainer, version: ">=1.2"}
      - {free: 2GiB, path: /opt/jaws/acme-prod}
      - {writable: /opt/jaws}
    install:
      method: venv
      venv: {path: /opt/jaws/acme-prod/site, python: python3, prelude: module load python/3.11}
"""

RETURN = r"""
checks:
  description: Every question in its order, then what the install and launch methods say.
  returned: always but where the input is wrong
  type: list
  elements: dict
  contains:
    check:
      description: What was asked.
      type: str
    ok:
      description: Whether it is well.
      type: bool
    why:
      description: What is not, and what to do about it.
      type: str
  sample:
    - {check: "port rmq.example.org:5672", ok: false,
       why: Connection refused; look at the service, the network and firewalls}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _checks, _installs, _launches

CHECK = {
    "url": {"type": "str"},
    "port": {"type": "int"},
    "address": {"type": "str"},
    "command": {"type": "list", "elements": "str"},
    "program": {"type": "str"},
    "version": {"type": "str"},
    "free": {"type": "str"},
    "path": {"type": "str"},
    "writable": {"type": "str"},
    "log": {"type": "str"},
    "log_age": {"type": "float"},
    "timeout": {"type": "float"},
}


def lacks(params) -> list:
    """What the install and launch methods miss on this host: (the method, words)."""
    found = []
    install, launch = params["install"], params["launch"]
    method = install.get("method", "none")
    if method != "none":
        found += [("install " + method, why) for why in _installs.missing(method, install.get(method) or {})]
    if launch.get("method", "none") != "none":
        try:
            for one in _launches.launches(launch, params["services"]):
                found += [("launch", why) for why in one.missing()]
        except _launches.Failure as error:
            found.append(("launch", str(error)))
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "checks": {"type": "list", "elements": "dict", "default": [], "options": CHECK},
            "install": {"type": "dict", "default": {}},
            "launch": {"type": "dict", "default": {}},
            "services": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    checks = module.params["checks"]
    for check in checks:
        module.no_log_values.update(_checks.hidden(check))
    faults = ["checks[%d]: %s" % (i, _checks.fault(one)) for i, one in enumerate(checks) if _checks.fault(one)]
    if faults:
        module.fail_json(msg="; ".join(faults))
    told = [{"check": _checks.title(c), "ok": not why, "why": why} for c, why in zip(checks, _checks.ask_all(checks))]
    told += [{"check": name, "ok": False, "why": why} for name, why in lacks(module.params)]
    wrong = ["%s: %s" % (one["check"], one["why"]) for one in told if not one["ok"]]
    if wrong:
        number = "one thing is" if len(wrong) == 1 else "%d things are" % len(wrong)
        module.fail_json(msg="%s not as needed, and nothing was touched: %s" % (number, "; ".join(wrong)), checks=told)
    module.exit_json(changed=False, checks=told)


if __name__ == "__main__":
    main()
