#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_switch
short_description: Put a staged release of a system live, or go back to the one before
version_added: 0.1.0
description:
  - Stops the services that the release concerns, puts its files in place, points the link of its installation at it,
    starts the services and waits until they are healthy. Services that nothing of the release concerns keep their
    process.
  - On any failure everything goes back as it was, the services of the old release run again, and the task fails. The
    release is remembered as rejected, and is not tried again without O(retry=true).
  - The change is one transaction of the host. A worker of its own session carries it out under a lock and a journal, so
    neither a lost connection nor a killed controller ends it half-way. What a killed worker or a power cut leaves is
    put right by the next run, before anything else.
  - M(sciops.sites.deploy) calls this module with what it has built and staged.
author:
  - sciops.sites contributors (@sciops)
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns which files, links and services change. What is in the files is not shown here.
  idempotent:
    support: full
    description: A release that is live, with its files as they were put and its services running, is not changed.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  root:
    description: The folder of the target. What is remembered of its releases is in C(.sciops) below it.
    type: path
    required: true
  state:
    description:
      - With V(active), O(manifest) is put live.
      - With V(previous), the release that was live before this one is, and this one is remembered as rejected.
      - With V(started), services that should run and do not are started, and the word of V(stopped) is taken back.
      - With V(stopped), they are stopped, and stay so until V(started) says otherwise; a release that is put live
        meanwhile is not started.
      - With V(restarted), they are stopped and started; of all services, this takes back the word of V(stopped) too.
    type: str
    choices: [active, previous, started, stopped, restarted]
    default: active
  manifest:
    description: What the release is, as M(sciops.sites.deploy) makes it. Needed with O(state=active).
    type: dict
  services:
    description: Only these services, with O(state=started), V(stopped) or V(restarted). By default all.
    type: list
    elements: str
    default: []
  keep:
    description: How many releases stay on the host.
    type: int
    default: 3
  retry:
    description: Try a release again that had been rejected.
    type: bool
    default: false
  by:
    description: Who asks, for the record.
    type: str
    default: ""
  reason:
    description: Why, for the record.
    type: str
    default: ""
notes:
  - Where C(KillUserProcesses=yes) is set for the login, the worker ends with the connection; the next run puts that
    right.
seealso:
  - module: sciops.sites.deploy
  - module: sciops.sites.release_info
"""

EXAMPLES = r"""
- name: Go back to the release before
  sciops.sites.release_switch:
    root: /opt/jaws/acme-prod
    state: previous
    reason: ticket 4711

- name: Start what is down after a maintenance day
  sciops.sites.release_switch:
    root: /opt/jaws/acme-prod
    state: started
"""

RETURN = r"""
release:
  description: The release that is live after the task. Null where there is none.
  returned: success
  type: str
  sample: 2.8.1-0f3a55d21c9e
previous:
  description: The release that was live before the task.
  returned: success
  type: str
  sample: 2.8.0-77ab03c1d2e4
outcome:
  description: What became of it. V(broken) says that going back failed too. Where only services of the old
      release do not come up, it is V(rolled_back), and the message says so.
  returned: always but where the input is wrong
  type: str
  sample: activated
steps:
  description: The steps in their order, each with C(step), C(began) (unix time), C(seconds), C(outcome) and C(detail).
  returned: when something was done
  type: list
  elements: dict
  sample: [{step: stop, began: 1764072000.25, seconds: 0.31, outcome: done, detail: ""}]
failed_step:
  description: The step that failed.
  returned: failure of a step
  type: str
  sample: verify
downtime:
  description: Seconds from the first stop until all services were healthy again. Null where nothing was stopped.
  returned: when something was done
  type: float
  sample: 1.84
recovered:
  description: What a change that had been cut off had left, and what was done about it. Null where nothing was left.
  returned: success
  type: str
  sample: "the switch to 2.8.1-0f3a55d21c9e had been cut off in step stop: back to 2.8.0-77ab03c1d2e4"
stopped:
  description: Services that were stopped, or would be.
  returned: success
  type: list
  elements: str
  sample: [rpc-server]
started:
  description: Services that were started, or would be.
  returned: success
  type: list
  elements: str
  sample: [rpc-server]
kept:
  description: Services that nothing was done to.
  returned: success
  type: list
  elements: str
  sample: [run-daemon]
drift:
  description: Files that were not as the live release has them, each with what was wrong.
  returned: success
  type: dict
  sample: {/opt/jaws/acme-prod/config/jaws-site.conf: content}
services_seen:
  description: The services after the task, in check mode as they are, each with C(state), C(why), C(pid), C(restarts).
  returned: success
  type: dict
  sample: {rpc-server: {state: running, why: "", pid: 4711, restarts: 0}}
notes:
  description: What else is to be said, such as a job that waits in its queue.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _change, _switch


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": ["active", "previous", "started", "stopped", "restarted"],
                "default": "active",
            },
            "manifest": {"type": "dict"},
            "services": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "int", "default": 3},
            "retry": {"type": "bool", "default": False},
            "by": {"type": "str", "default": ""},
            "reason": {"type": "str", "default": ""},
        },
        required_if=[("state", "active", ["manifest"])],
        supports_check_mode=True,
    )
    try:
        result = _change.carry_out(module.params, module.check_mode)
    except _switch.FAILURES as error:
        module.fail_json(msg=str(error), **dict({"changed": False}, **getattr(error, "facts", {})))
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
