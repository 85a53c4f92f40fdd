# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What condor_session does with its options: brings one session to what is declared, or says what that would be.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import json
import os
import pwd
import time

from ansible_collections.sciops.sites.plugins.module_utils import _condor, _session, _session_life, _session_work


class Run:
    """One run of the module, and what it knows so far."""

    def __init__(self, module):
        self.module = module
        self.given = module.params
        sent = json.loads(self.given["payload"])
        self.choice, self.key = sent["choice"], sent["key"]
        me = pwd.getpwuid(os.geteuid())
        self.user, self.home = me.pw_name, me.pw_dir
        self.result = {"changed": False, "key": self.key, "schedd": None}

    def client(self, schedd):
        given = self.given
        return _condor.connect(given["way"], given["pool"], schedd, given["config"], given["timeout"])

    def work(self):
        with self.client(self.given["schedd"]) as client:
            place = _session_work.place(client, self.given["schedd"])
            self.result["schedd"] = place.name
            if place.schedd == self.given["schedd"]:
                self.at(client, place)
                return
        with self.client(place.schedd) as client:
            self.at(client, place)

    def at(self, client, place):
        if self.given["state"] == "absent":
            self.absent(client)
        else:
            self.present(client, place)

    def absent(self, client):
        job = self.given["job"]
        mine = _session_life.keyed(self.user, self.key)
        if job is not None:
            sessions = _condor.equal("HMDCInteractive", True)
            mine = _condor.both(_session_life.numbered(self.user, job), sessions, "JobStatus =!= 3", "JobStatus =!= 4")
        found = sorted(one["ClusterId"] for one in client.query(mine, ["ClusterId"]))
        self.result.update(changed=bool(found), jobs=found, outcome="removed" if found else "absent")
        names = "".join("job %d\n" % one for one in found)
        self.result["diff"] = {"before": names, "after": "", "before_header": self.key, "after_header": self.key}
        if not found or self.module.check_mode:
            return
        done = client.act("remove", mine, _session_work.REASON)
        left = client.query(mine, ["ClusterId"])
        if left:
            raise _condor.Refused("jobs %s are still there: %s" % (", ".join(str(o["ClusterId"]) for o in left), done))

    def present(self, client, place):
        there = _session_work.first(client, _session_life.keyed(self.user, self.key))
        if there:
            cluster = there[0]["ClusterId"]
            self.differs(there[0])
            self.result.update(job=cluster, diff={"before": "", "after": ""})
        else:
            cluster = self.submit(client)
            if cluster is None:
                return
        self.result.update(job=cluster, outcome="submitted", reason="")
        if self.module.check_mode:
            self.result["outcome"], self.result["reason"] = _session_life.verdict(there[0])
            self.foresee(place, there[0], self.told(there[0]))
            return
        self.follow(client, place, cluster)

    def submit(self, client):
        given, choice = self.given, self.choice
        environment, warnings = _session.variables(
            os.environ,
            given["environment_from"],
            {name: str(value) for name, value in given["environment"].items()},
            given["secret_names"],
            given["not_secret"],
        )
        warnings.append(_session_work.refuse_too_large(client, choice["cpu"], choice["memory"]))
        for words in filter(None, warnings):
            self.module.warn("condor_session: %s" % words)
        facts = {name: given[name] for name in ("email", "entitlements", "xpra", "group", "root")}
        facts["domain"] = client.config(["FILESYSTEM_DOMAIN"])["FILESYSTEM_DOMAIN"]
        ad = _session.ad(choice, self.user, self.home, time.time(), environment, self.key, facts)
        text = _session.shown(ad)
        self.result.update(changed=True, ad=text, outcome="planned", reason="", job=None)
        self.result["diff"] = {"before": "", "after": text, "before_header": self.key, "after_header": self.key}
        if self.module.check_mode:
            return None
        return _session_work.submit(client, ad, self.home, self.user, self.key)

    def differs(self, job):
        """Warn where the session that is there is not of the size that was asked for; it stays."""
        for name, word in (("RequestCpus", "cpu"), ("RequestMemory", "memory")):
            if job.get(name) != self.choice[word]:
                words = "condor_session: job %d has %s %s and not %s; it stays, remove it first to get another"
                self.module.warn(words % (job["ClusterId"], name, job.get(name), self.choice[word]))

    def told(self, ad):
        out, err = _session_work.outputs(ad)
        self.result.update(folder=_session_life.path(ad, "LocalJobDir"), out=out, err=err)
        return [out, err]

    def follow(self, client, place, cluster):
        """Wait for the start and for the display, as far as that is asked for."""
        given = self.given
        if not given["wait"]:
            found = _session_work.first(client, _session_life.numbered(self.user, cluster))
            if found:
                self.told(found[0])
            return
        state, reason, passed, ad = _session_work.wait(client, self.user, cluster, given)
        self.result.update(outcome=state, reason=reason, waited=round(passed, 1))
        paths = self.told(ad) if ad else []
        if state != "started":
            self.fail(cluster, "did not start: %s: %s" % (state, reason))
        if not self.attaches(ad):
            return
        state, reason, number = _session_life.find_display(
            _session_work.looker(client, _session_life.numbered(self.user, cluster)),
            lambda: _session_work.texts_of(paths),
            time.monotonic,
            time.sleep,
            min(given["interval"], 1.0),
            given["limit"],
            given["display_patterns"],
        )
        self.result.update(outcome=state, reason=reason, display=number)
        if state not in ("started", "no_display"):
            # HTCondor says that a job runs from the moment on when its hooks do
            self.fail(cluster, "did not start: %s: %s" % (state, reason))
        if number is None:
            where = " and ".join(one for one in paths if one)
            self.fail(cluster, "runs without a display: %s; see %s" % (reason, where))
        self.attach(place, cluster, number)

    def attaches(self, ad):
        """Return whether a desktop attaches to this job, or is told how to."""
        return self.given["xpra"] and self.given["attach"] != "none" and ad.get("HMDCUseXpra") is True

    def foresee(self, place, ad, paths):
        """Say in check mode whether a client would be started for a session that runs. Nothing is waited for."""
        given = self.given
        runs = self.result["outcome"] == "started" and given["wait"]
        if not runs or given["attach"] != "run" or not self.attaches(ad):
            return
        number = _session_life.display(_session_work.texts_of(paths), given["display_patterns"])
        self.result["display"] = number
        if number is None:
            # one would be started as soon as the display is known
            self.result["changed"] = bool(place.address)
            return
        words = self.command(place, ad["ClusterId"], number)
        if words:
            there = _session_life.attached(words, _session_work.processes())
            self.result["changed"] = not there
            self.result["attach"].update({"pid": there[0]} if there else {})

    def command(self, place, cluster, number):
        """Return the words of the command that attaches, put into the result too; None where they are not known."""
        if not place.address:
            self.module.warn("condor_session: the address of the schedd is not known, so there is no command to attach")
            return None
        blank = self.given["blank_host"]
        if blank is None:
            blank = _session_work.blank_host()
        words = _session_life.attach(place.address, cluster, number, self.choice["icon"], blank)
        self.result["attach"] = {"words": words, "shell": _session_life.shell(words)}
        return words

    def attach(self, place, cluster, number):
        words = self.command(place, cluster, number)
        if words and self.given["attach"] == "run":
            log = os.path.join(self.result["folder"] or self.home, "attach.txt")
            pid, started = _session_work.attach(words, log)
            self.result["attach"]["pid"] = pid
            self.result["changed"] = self.result["changed"] or started

    def fail(self, cluster, words):
        self.module.fail_json(msg="condor_session: job %d %s" % (cluster, words), **self.result)
