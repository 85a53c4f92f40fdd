#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: condor_session
short_description: Interactive applications as HTCondor jobs, to which a desktop attaches
version_added: 0.1.0
description:
  - Chooses an application of a catalogue, submits it as a job, waits until it runs, and tells by which command a
    desktop shows its windows. The session outlives the desktop, and somebody can attach to it again.
  - The catalogue is a file on the controller. All that is wrong with it is told at once, and nothing is submitted.
  - It runs on a submit host, as the user whose session it is. Say who with the connection or with C(become_user).
  - A session has a key. Where a job of this user with the key is in the queue, none is submitted, also after a reply
    of HTCondor was lost.
  - Everybody can read the ad of a job. Only variables of an allow-list are in it, and none that looks like a secret.
author:
  - sciops.sites contributors (@sciops)
extends_documentation_fragment:
  - sciops.sites.condor
attributes:
  action:
    support: full
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the
      controller.
  check_mode:
    support: full
    description: >-
      Shows the ad that would be submitted, and submits, waits for, removes and starts nothing. With O(attach=run), a
      session that runs is changed where a client would be started, or where its display is not known yet.
  diff_mode:
    support: full
    description: Shows the ad of a job that is submitted, and the numbers of those that are removed.
  idempotent:
    support: full
    description: A session that is in the queue stays as it is.
  platform:
    support: full
    platforms: posix
    description: Platforms of the submit host. It needs Python 3.8 or later.
options:
  state:
    description:
      - With V(present), the session is in the queue afterwards, and runs where O(wait=true).
      - With V(absent), it is not.
    type: str
    choices: [present, absent]
    default: present
  catalogue:
    description: The catalogue, a file on the controller.
    type: path
    default: /etc/rceapp.yml
  app:
    description: Name of the application. Needed with O(state=present).
    type: str
  version:
    description: Its version. Without it, the default of the catalogue.
    type: str
  memory:
    description: Memory in GB, a whole number without a unit. Without it, that of the catalogue.
    type: int
  cpu:
    description: Number of processors. Without it, that of the catalogue.
    type: int
  key:
    description: Name of the session among those of this user. Without it, application and version, C(shell_1).
    type: str
  job:
    description: Number of the job to be removed, instead of a key. Only with O(state=absent).
    type: int
  xpra:
    description: Whether the job's windows are shown by xpra. Without, nobody can attach to it.
    type: bool
    default: true
  group:
    description: The accounting group, to which the name of the user is added.
    type: str
    default: group_interactive
  root:
    description: Where the folders of jobs are, on all hosts. Without it, C(.HMDC/jobs/interactive) of the home.
    type: str
  email:
    description: Where warnings about the job go. Without it, undefined. See P(sciops.sites.directory_person#lookup).
    type: str
  entitlements:
    description: Entitlements of the user, which decide which machines start the job. Without any, undefined.
    type: list
    elements: str
  environment:
    description:
      - Variables of the job with their values, which arrive unchanged, whatever they hold.
      - A variable that looks like a secret is refused. Put the secret into a file and give its path, in a variable
        whose name ends in C(_FILE) or C(_PATH). Names that begin with C(DBUS) or C(GNOME) are left out.
    type: dict
    default: {}
  environment_from:
    description:
      - Names of variables, also with C(*) and C(?), that are taken from the environment of the task on the submit host.
        Nothing else of it goes into the job.
    type: list
    elements: str
    default: [HOME, LANG, LANGUAGE, LC_*, LOGNAME, PATH, SHELL, TZ, USER]
  secret_names:
    description: Names of variables that look like secrets, also with C(*) and C(?). Letters of both cases are the same.
    type: list
    elements: str
    default: ["*PASSW*", "*PASSPHRASE*", "*SECRET*", "*TOKEN*", "*CREDENTIAL*", "*COOKIE*", "*KEY*", "*_PW", PW]
  not_secret:
    description: Names of variables that only look as if they held a secret, such as V(KEYBOARD).
    type: list
    elements: str
    default: []
  wait:
    description: Wait until the job runs, and fail with the reason where it does not.
    type: bool
    default: true
  interval:
    description: Seconds between two looks at the job.
    type: float
    default: 5
  limit:
    description: Seconds after which a job that has not started is given up, and again for its display.
    type: float
    default: 90
  remove_at_limit:
    description: Remove a job that is given up while it waits. Otherwise it stays in the queue, and may start later.
    type: bool
    default: false
  attach:
    description:
      - What is done for a desktop once an xpra session runs. V(command) tells by which command it attaches. V(run) also
        starts that on the submit host, with the C(DISPLAY) of the task, unless it runs there already.
    type: str
    choices: [none, command, run]
    default: command
  display_patterns:
    description:
      - Regular expressions by which the outputs of the job name its display, each with one group. The first that is
        found on any line counts. One that is none, or has no group, is refused before anything is asked or submitted.
    type: list
    elements: str
    default:
      - 'Xdummy: :(\d+)$'
      - 'Xvfb: :(\d+)$'
      - 'Xorg: :(\d+)$'
      - created unix domain socket '[^']*-(\d+)'
  blank_host:
    description:
      - xpra 3 and later need a blank in C(ssh:_:7) where the underscore is, earlier ones nothing. Without it, the xpra
        of the submit host decides.
    type: bool
  payload:
    description: Set by the controller side of this task, which reads the catalogue. Not for people.
    type: str
seealso:
  - module: sciops.sites.condor_session_info
  - plugin: sciops.sites.directory_person
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: A shell on the cluster
  hosts: submit
  gather_facts: false
  tasks:
    - name: Start it, or find the one that runs
      sciops.sites.condor_session:
        catalogue: files/rceapp.yml
        app: shell
        memory: 4
      register: session

    - name: How to get its windows
      ansible.builtin.debug:
        msg: "{{ session.attach.shell }}"

- name: With a secret that only the job reads
  hosts: submit
  gather_facts: false
  tasks:
    - name: Give the path of a file
      sciops.sites.condor_session:
        catalogue: files/rceapp.yml
        app: stata
        environment:
          DB_PASSWORD_FILE: /home/ann/.db-password

- name: End it
  hosts: submit
  gather_facts: false
  tasks:
    - name: Remove the job
      sciops.sites.condor_session:
        state: absent
        key: shell_1
"""

RETURN = r"""
outcome:
  description: >-
    What became of the job. V(started), V(submitted) where it was not waited for, V(planned) in check mode, V(removed),
    V(absent). Where the task fails, V(held), V(removed), V(completed), V(timeout) or V(no_display).
  returned: always
  type: str
  sample: started
reason:
  description: Why it did not start, in HTCondor's words where it has some.
  returned: with O(state=present)
  type: str
  sample: ""
key:
  description: Key of the session.
  returned: always
  type: str
  sample: shell_1
job:
  description: Number of the job, null in check mode where none was there.
  returned: with O(state=present)
  type: int
  sample: 110
jobs:
  description: Numbers of the jobs that were removed.
  returned: with O(state=absent)
  type: list
  elements: int
  sample: [110]
schedd:
  description: Name of the schedd that has the job.
  returned: always
  type: str
  sample: submit.example.org
ad:
  description: The ad that was submitted, or would be, a line for each attribute.
  returned: where a job was submitted or would be
  type: str
folder:
  description: Folder of the job.
  returned: with O(state=present), where there is a job
  type: str
  sample: /home/ann/.HMDC/jobs/interactive/shell_1_110_202610051791180000
out:
  description: Its standard output.
  returned: with O(state=present), where there is a job
  type: str
err:
  description: Its standard error.
  returned: with O(state=present), where there is a job
  type: str
waited:
  description: Seconds for which the start was waited for.
  returned: where it was waited for
  type: float
  sample: 10.2
display:
  description: Number of the display of an xpra session.
  returned: where it was looked for; in check mode with O(attach=run), null where no output names it yet
  type: int
  sample: 7
attach:
  description: How a desktop attaches.
  returned: where the display was found and the schedd's address is known
  type: dict
  contains:
    words:
      description: The words of the command. C($TEMP) is for the job's shell, not for that of the desktop.
      type: list
      elements: str
      sample:
        - /usr/bin/xpra
        - attach
        - --socket-dir=$TEMP
        - "--ssh=/usr/bin/condor_ssh_to_job -name '<192.0.2.1:9618>' 110"
        - ssh::7
    shell:
      description: The same for a shell, to be copied.
      type: str
    pid:
      description: The process of the client, with O(attach=run). In check mode only where one is there.
      type: int
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _condor, _session, _session_life, _session_run


def main() -> None:
    texts = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec=dict(
            _condor.ARGUMENTS,
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            catalogue={"type": "path", "default": "/etc/rceapp.yml"},
            app={"type": "str"},
            version={"type": "str"},
            memory={"type": "int"},
            cpu={"type": "int"},
            key={"type": "str", "no_log": False},
            job={"type": "int"},
            xpra={"type": "bool", "default": True},
            group={"type": "str", "default": _session.GROUP},
            root={"type": "str"},
            email={"type": "str"},
            entitlements=texts,
            environment={"type": "dict", "default": {}},
            environment_from=dict(texts, default=list(_session.ALLOWED)),
            secret_names=dict(texts, default=list(_session.SECRETS), no_log=False),
            not_secret=dict(texts, default=[], no_log=False),
            wait={"type": "bool", "default": True},
            interval={"type": "float", "default": 5},
            limit={"type": "float", "default": 90},
            remove_at_limit={"type": "bool", "default": False},
            attach={"type": "str", "choices": ["none", "command", "run"], "default": "command"},
            display_patterns=dict(texts, default=list(_session_life.DISPLAY)),
            blank_host={"type": "bool"},
            payload={"type": "str"},
        ),
        supports_check_mode=True,
    )
    if not module.params["payload"]:
        module.fail_json(msg="condor_session: payload: is missing; run this as a task, whose controller side sets it")
    # here and not on the controller: it is this Python that searches with them
    faults = _session_life.pattern_faults(module.params["display_patterns"])
    if faults:
        words = "condor_session: nothing was asked or submitted: %s" % "; ".join(faults)
        module.fail_json(msg=words, outcome="refused")
    run = _session_run.Run(module)
    try:
        run.work()
    except (_session.Refused, _condor.Refused) as error:
        module.fail_json(msg="condor_session: %s" % error, **dict(run.result, outcome="refused"))
    except _condor.Silent as error:
        words = "condor_session: HTCondor does not answer, so nothing is known: %s" % error
        module.fail_json(msg=words, **dict(run.result, outcome="unknown"))
    module.exit_json(**run.result)


if __name__ == "__main__":
    main()
