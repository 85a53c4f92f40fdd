#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: condor_config
short_description: Keep one file of HTCondor's configuration, tried before it goes live
version_added: 0.1.0
description:
  - Renders knobs into one file of a C(config.d) folder of HTCondor, and has the daemons read it where it changed.
  - Before the file goes live, C(condor_config_val) reads the whole configuration with it, beside the live one. What it
    refuses is told in its words, and nothing is touched. So is a knob that a later file says again, and a file that
    HTCondor would not read at all.
  - Afterwards each knob is asked for once more, of the live configuration, whether or not something was written.
  - A reconfig restarts no daemon and ends no job. Knobs that daemons read only when they start are told in
    RV(restart_needed) until the daemons have started anew, and are acted on where O(restart=needed).
  - Programs that HTCondor is to start (hooks, job wrappers, cron of daemons) must be root's, may be executed by those
    who run jobs, and neither they nor a folder or link above them may be written by others.
author:
  - sciops.sites contributors (@sciops)
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns the file before and after. Values of knobs whose names look secret are masked.
  idempotent:
    support: full
    description: A file that is as declared is not written, and daemons that have read it are not told again.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later and HTCondor's C(condor_config_val).
options:
  name:
    description:
      - Name of the file, in the last folder that C(LOCAL_CONFIG_DIR) names, or in V(/etc/condor/config.d). Files are
        read in the order of their names, and later ones win.
      - By default V(60-sciops-sites).
    type: str
  path:
    description: The file, absolute, instead of O(name). Its folder must be one of C(LOCAL_CONFIG_DIR).
    type: str
  state:
    description:
      - With V(present), the file is there afterwards and holds O(use), O(knobs) and O(lines).
      - With V(absent), it is not, and the daemons are told. The rest of the configuration must stand without it.
    type: str
    choices: [present, absent]
    default: present
  knobs:
    description:
      - Values by name. Text is taken as it is, with macros such as C($(LIBEXEC)). Booleans become C(true) and C(false),
        lists are joined by commas.
      - A null leaves the knob out of the file. An empty text writes C(NAME =), which takes away a value that an earlier
        file or HTCondor itself gave.
      - Text of several lines is written as such, without blanks at the begin and end of its lines. Empty lines, lines
        that begin with C(#) and a backslash at the end of a line are refused, since HTCondor would not take them as
        they are.
    type: dict
    default: {}
  use:
    description: Templates of HTCondor, such as V(ROLE:Execute). They come first, so O(knobs) win over what they say.
    type: list
    elements: str
    default: []
  lines:
    description: Lines that are put at the end of the file as they are, for conditions and includes.
    type: list
    elements: str
    default: []
  owner:
    description: Owner of the file. Without it, root where the task runs as root.
    type: str
  group:
    description: Group of the file. Without it, root where the task runs as root.
    type: str
  mode:
    description: Mode of the file, an octal number in quotes.
    type: str
    default: "0644"
  backup:
    description: Keep what is replaced or removed beside it, as C(NAME.TIME~), which HTCondor does not read.
    type: bool
    default: false
  check_programs:
    description:
      - Look at the programs that O(knobs) name, those of C(*_HOOK_*), C(*JOB_WRAPPER) and C(*_CRON_*_EXECUTABLE).
      - In check mode a program that is not there yet is a warning.
    type: bool
    default: true
  reconfig:
    description:
      - Have the daemons read their configuration where the file changed, or where a reconfig that was due did not
        happen.
    type: bool
    default: true
  restart:
    description:
      - With V(needed), daemons that have to start anew for a knob of RV(restart_needed) are restarted. Jobs of a
        restarted execute node end.
    type: str
    choices: [never, needed]
    default: never
  config:
    description: HTCondor's main configuration file, where it is neither the usual one nor named by C(CONDOR_CONFIG).
    type: path
  timeout:
    description: Seconds that one program of HTCondor may take.
    type: float
    default: 30
notes:
  - HTCondor keeps its own secrets in files of their own. A knob whose name ends in words such as C(PASSWORD), C(SECRET)
    or C(TOKEN) is refused in a file that everybody may read.
  - Most pools have a file that all users can read, since C(condor_q) and others read it. With another O(mode) see that
    they still work.
seealso:
  - module: sciops.sites.condor_pool_info
  - name: Configuration of HTCondor
    description: What HTCondor itself says of its files and of knobs that need a restart.
    link: https://htcondor.readthedocs.io/en/latest/admin-manual/introduction-to-configuration.html
"""

EXAMPLES = r"""
- name: Policy of an execute node
  hosts: condor_execute
  become: true
  gather_facts: false
  tasks:
    - name: Run the hooks of jobs
      sciops.sites.condor_config:
        knobs:
          STARTER_JOB_HOOK_KEYWORD: HMDC
          HMDC_HOOK_PREPARE_JOB: /usr/local/libexec/sciops.sites/condor/prepare
          USER_JOB_WRAPPER: /usr/local/libexec/sciops.sites/condor/wrapper
          STARTD_CRON_JOBLIST: $(STARTD_CRON_JOBLIST) idlejobs

    - name: Partitionable slots, and the startd may be restarted for it
      sciops.sites.condor_config:
        name: 50-slots
        use: [FEATURE:PartitionableSlot]
        knobs:
          NUM_CPUS: 16
        restart: needed

    - name: Take the first one away again
      sciops.sites.condor_config:
        state: absent
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/condor/config.d/60-sciops-sites
knobs:
  description: What C(condor_config_val) says of each knob after the task, in check mode what it would say.
  returned: success
  type: dict
  contains:
    NAME:
      description: One knob.
      type: dict
      contains:
        value:
          description: The value with all macros put in.
          type: str
        raw:
          description: The value as the file has it.
          type: str
        file:
          description: The file that says it.
          type: str
        line:
          description: Where its statement ends there, null where no file says it.
          type: int
  sample:
    STARTER_JOB_HOOK_KEYWORD: {value: HMDC, raw: HMDC, file: /etc/condor/config.d/60-sciops-sites, line: 2}
before:
  description: The same of the knobs that had a value before the task. Empty where the configuration could not be read.
  returned: success
  type: dict
  sample: {}
programs:
  description: Knobs whose programs were looked at and may be run, with their paths.
  returned: success
  type: dict
  sample: {USER_JOB_WRAPPER: /usr/local/libexec/sciops.sites/condor/wrapper}
programs_missing:
  description: Knobs whose programs have to be there before the file goes live. In check mode only, else it is an error.
  returned: success
  type: dict
  sample: {}
running:
  description: Whether a master of HTCondor runs on this host. Where none does, the file is read at its next start.
  returned: success
  type: bool
  sample: true
reconfigured:
  description: Whether the daemons were told to read their configuration, in check mode whether they would be.
  returned: success
  type: bool
  sample: true
restart_needed:
  description: Knobs that running daemons have another value of until they start anew.
  returned: success
  type: list
  elements: str
  sample: [NUM_CPUS]
restarted:
  description: Daemons that were restarted, V(master) for all of them.
  returned: success
  type: list
  elements: str
  sample: []
"""

import contextlib
import os
import stat
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _condor_config, _condor_tools, _files, _place

DEFAULT = "60-sciops-sites"


class Module(AnsibleModule):
    def _log_invocation(self) -> None:
        """Ansible writes all options into the log of the host before anything is looked at; a knob may be secret."""
        self.log("Invoked for %s" % (self.params["path"] or self.params["name"] or DEFAULT))


def main() -> None:
    module = Module(
        argument_spec={
            "name": {"type": "str"},
            "path": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "knobs": {"type": "dict", "default": {}},
            "use": {"type": "list", "elements": "str", "default": []},
            "lines": {"type": "list", "elements": "str", "default": []},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "str", "default": "0644"},
            "backup": {"type": "bool", "default": False},
            "check_programs": {"type": "bool", "default": True},
            "reconfig": {"type": "bool", "default": True},
            "restart": {"type": "str", "choices": ["never", "needed"], "default": "never"},
            "config": {"type": "path"},
            "timeout": {"type": "float", "default": 30},
        },
        mutually_exclusive=[("name", "path")],
        supports_check_mode=True,
    )
    given = module.params
    secrets = [str(value) for name, value in given["knobs"].items() if value and _condor_config.looks_secret(str(name))]
    module.no_log_values.update(secrets)
    faults = _condor_config.option_faults(given)
    if faults:
        module.fail_json(msg="; ".join("condor_config: " + words for words in faults))
    try:
        result = Work(module).run()
    except (_condor_config.Refused, _files.Failure, _place.Misplaced) as error:
        module.fail_json(msg="condor_config: nothing was changed: %s" % error)
    module.exit_json(**result)


class Work:
    """One run of the task."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.given = module, module.params
        self.condor = _condor_tools.Condor(self.given["config"], self.given["timeout"])
        self.present = self.given["state"] == "present"
        self.wanted = _condor_config.rendered(self.given["knobs"]) if self.present else {}
        self.text = (
            _condor_config.render(self.given["knobs"], self.given["use"], self.given["lines"]) if self.present else None
        )

    def run(self) -> dict:
        """Bring the file to what is declared; returns the result of the task."""
        _main, folders, broken = self.condor.layout()
        self.path = self.given["path"] or os.path.join(
            (folders or [_condor_tools.FOLDER])[-1], self.given["name"] or DEFAULT
        )
        old = _place.read(self.path) if os.path.isfile(self.path) else None
        if not self.present and old is None and not self.condor.installed():
            return self._nothing()
        names = list(self.wanted)
        before = {} if broken else self.condor.knobs(names)
        was = None if broken else self.condor.startup()
        entry = self._entry()
        differs = bool(_files.drift([entry])) if entry else old is not None
        kept = self.path + time.strftime(".%Y-%m-%d@%H:%M:%S~")
        with self.condor.trial(self.path, self.text, [os.path.basename(kept)] if self.given["backup"] else []) as trial:
            found, now = self._tried(trial, names, kept)
        programs, missing = self._programs(found)
        if entry and differs:
            _files.refuse(entry)
            barred = _condor_tools.unreadable(int(entry["mode"], 8), *_files.ids(entry))
            if barred:
                words = "%s: its daemons run as %s, who could not read it then; give it group %s and mode 0640"
                raise _condor_config.Refused(words % (self.path, barred, barred))
        running = self.running = _condor_tools.daemons()
        due = _condor_tools.Due(self.path)
        if differs and was is not None and running:
            due.add(was, now)
        needed = due.needed(now, running)
        # who starts later reads it anyway
        due.reconfig = bool(running) and (due.reconfig or differs)
        reconfig = due.reconfig and self.given["reconfig"]
        restart = sorted(set(needed.values())) if self.given["restart"] == "needed" else []
        if "master" in restart:
            restart = ["master"]
        result = {
            "changed": differs or reconfig or bool(restart),
            "path": self.path,
            "before": self._shown(before),
            "knobs": self._shown(found),
            "programs": programs,
            "programs_missing": missing,
            "running": bool(running),
            "reconfigured": reconfig,
            "restart_needed": sorted(needed),
            "restarted": restart,
            "diff": self._diff(old),
        }
        if self.module.check_mode:
            return result
        due.keep()
        if differs:
            self._write(entry, kept)
        try:
            self._live(result, due, now)
        except (_condor_config.Refused, _place.Misplaced) as error:
            words = "condor_config: %s %s, but %s" % (self.path, self._did(differs), error)
            self.module.fail_json(**dict(result, msg=words))
        return result

    def _nothing(self) -> dict:
        """The result where there is neither a file to take away nor an HTCondor to be asked."""
        empty = {key: {} for key in ("before", "knobs", "programs", "programs_missing")}
        flags = {"changed": False, "running": False, "reconfigured": False, "restart_needed": [], "restarted": []}
        return dict(empty, path=self.path, diff=self._diff(None), **flags)

    def _did(self, differs: bool) -> str:
        if not differs:
            return "is as declared"
        return "was written" if self.present else "was removed"

    def _entry(self):
        if not self.present:
            return None
        root = "root" if os.geteuid() == 0 else None
        return {
            "dest": self.path,
            "text": self.text,
            "digest": _files.digest(self.text),
            "mode": self.given["mode"],
            "owner": self.given["owner"] or root,
            "group": self.given["group"] or root,
        }

    def _tried(self, trial, names: list, kept: str):
        """(knobs, values that daemons read when they start) with the file as it will be. Refused: it will not do."""
        files = trial.files()
        if self.present and self.path not in files:
            words = "%s: HTCondor does not read a file of this name; look at LOCAL_CONFIG_DIR_EXCLUDE_REGEXP"
            raise _condor_config.Refused(words % self.path)
        if kept in files:
            words = "%s: HTCondor would read the backup too; look at LOCAL_CONFIG_DIR_EXCLUDE_REGEXP, or use no backup"
            raise _condor_config.Refused(words % kept)
        found = trial.knobs(names)
        wrong = _condor_config.unlike(self.wanted, found, self.path)
        if wrong:
            raise _condor_config.Refused("; ".join(wrong))
        return found, trial.startup()

    def _programs(self, found: dict):
        """(knobs with programs that may be run, those with programs that are missing), with their paths."""
        good, missing, wrong = {}, {}, []
        if not (self.present and self.given["check_programs"]):
            return good, missing
        for name in _condor_config.programs(self.wanted):
            path = found[name.lower()]["value"]
            if not path:
                continue
            fault = _condor_tools.program_fault(path)
            if not fault:
                good[name] = path
            elif self.module.check_mode and fault.startswith("/") and fault.endswith(": No such file or directory"):
                missing[name] = path
                self.module.warn("%s: %s; it has to be there before the file goes live" % (name, fault))
            else:
                wrong.append("%s: %s" % (name, fault))
        if wrong:
            raise _condor_config.Refused("; ".join(wrong))
        return good, missing

    def _write(self, entry, kept: str) -> None:
        if entry:
            folder = os.path.dirname(self.path)
            if not os.path.isdir(folder):
                _place.folder(folder, 0o755)
            if self.given["backup"] and os.path.exists(self.path):
                self._keep(kept)
            _files.put([entry])
        else:
            if self.given["backup"]:
                self._keep(kept)
            _place.drop(self.path)

    def _keep(self, kept: str) -> None:
        seen = os.lstat(self.path)
        _place.write(kept, _place.read(self.path), stat.S_IMODE(seen.st_mode), (seen.st_uid, seen.st_gid))

    def _live(self, result: dict, due, now: dict) -> None:
        """Look at what is live now, and tell the daemons. Refused: something of it did not go well."""
        reconfig, restart = result["reconfigured"], result["restarted"]
        result.update(reconfigured=False, restarted=[])
        found = self.condor.knobs(list(self.wanted))
        wrong = _condor_config.unlike(self.wanted, found, self.path)
        if wrong:
            raise _condor_config.Refused("; ".join(wrong))
        result["knobs"] = self._shown(found)
        if reconfig:
            self.condor.reconfig()
            due.reconfig, result["reconfigured"] = False, True
        for daemon in restart:
            self.condor.restart(daemon)
            result["restarted"].append(daemon)
        if restart:
            self._await(_condor_tools.names(restart, self.running), due.at)
            result["restart_needed"] = sorted(due.needed(now, _condor_tools.daemons()))
        due.keep()

    def _await(self, names: list, at: float) -> None:
        """Wait until daemons that were asked to start anew have done so; the master lets some seconds pass before."""
        ends = time.monotonic() + self.given["timeout"]
        while True:
            running = _condor_tools.daemons()
            late = [name for name in names if running.get(name, 0) <= at]
            if not late:
                return
            if time.monotonic() > ends:
                raise _condor_config.Refused("%s did not start again" % ", ".join(sorted(late)))
            time.sleep(0.2)

    def _shown(self, found: dict) -> dict:
        shown = {}
        for one in found.values():
            words = {key: one[key] for key in ("value", "raw", "file", "line")}
            if _condor_config.looks_secret(one["name"]):
                words.update(value=_condor_config.MASK, raw=_condor_config.MASK)
            shown[self._spelt(one["name"])] = words
        return shown

    def _spelt(self, name: str) -> str:
        """The name as the task has it; HTCondor may spell it otherwise."""
        return {one.lower(): one for one in self.wanted}.get(name.lower(), name)

    def _diff(self, old) -> dict:
        seen = "not there"
        with contextlib.suppress(OSError):
            seen = "mode %04o" % stat.S_IMODE(os.lstat(self.path).st_mode)
        return {
            "before_header": "%s (%s)" % (self.path, seen),
            "after_header": "%s (%s)" % (self.path, "mode %s" % self.given["mode"] if self.present else "not there"),
            "before": _condor_config.masked(old or ""),
            "after": _condor_config.masked(self.text or ""),
        }


if __name__ == "__main__":
    main()
