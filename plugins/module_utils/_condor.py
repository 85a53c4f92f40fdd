# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""A client of HTCondor: one interface, by its Python bindings (htcondor2) or by its commands, with the same results.

Note that this module util is **PRIVATE** to the collection.

`connect()` gives a client. Ads come back as dicts of plain JSON values; an expression is a _classad.Expression, which
is a str. Constraints are made with `equal` and `both` of _condor_cli, so that no value is ever pasted into one. Every
call ends within its timeout, and either returns what is true or raises: `Silent` where nobody answered, so that
nothing is known, `Refused` for a clear no. No secret belongs into a job: everybody may read its ad.
"""

from __future__ import absolute_import, annotations, division, print_function

import importlib.util
import os
import shutil
import subprocess
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.sciops.sites.plugins.module_utils import _classad, _condor_cli, _condor_worker

# what users of a client need beside it
CondorError, Refused, Silent = _condor_cli.CondorError, _condor_cli.Refused, _condor_cli.Silent
both, equal = _condor_cli.both, _condor_cli.equal
#: seconds that one call may take
TIMEOUT = 60.0
WAYS = ("auto", "bindings", "commands")
#: options that the modules for HTCondor share; their documentation is the fragment `condor`
ARGUMENTS = {
    "way": {"type": "str", "choices": list(WAYS), "default": "auto"},
    "pool": {"type": "str"},
    "schedd": {"type": "str"},
    "config": {"type": "path"},
    "timeout": {"type": "float", "default": TIMEOUT},
}  # type: Dict[str, Dict[str, Any]]
PATHS = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def connect(
    way: str = "auto",
    pool: Optional[str] = None,
    schedd: Optional[str] = None,
    config: Optional[str] = None,
    timeout: float = TIMEOUT,
) -> Client:
    """Return a client for a schedd (the local one where none is named) and a pool's collector.

    `auto` is the bindings where this Python has htcondor2, and the commands elsewhere. `config` is a file to be used
    instead of HTCondor's own configuration. Raises Refused where the way is not there.
    """
    there = importlib.util.find_spec("htcondor2") is not None
    if way == "bindings" and not there:
        raise Refused("this Python has no htcondor2: install HTCondor's Python bindings, or use the way commands")
    if way not in WAYS:
        raise Refused("way: %s: must be one of %s" % (way, ", ".join(WAYS)))
    kind = Bindings if there and way != "commands" else Commands
    return kind(pool, schedd, config, timeout)


def local_schedd(client: Any) -> str:
    """Return the name of the schedd of this host in small letters, empty where it is not known.

    Commands look up the host of a schedd that is named, and find none where a host knows itself by a loopback address
    only, as Debian sets it up. So the own schedd is asked without its name, see `connect`.
    """
    if client.pool or client.schedd:
        return ""
    try:
        mine = client.config(["FULL_HOSTNAME", "SCHEDD_NAME", "SCHEDD_HOST"])
    except CondorError:
        return ""
    host = (mine["FULL_HOSTNAME"] or "").lower()
    name = (mine["SCHEDD_NAME"] or host).lower()
    # with SCHEDD_HOST, who names none gets that one
    if not host or mine["SCHEDD_HOST"]:
        return ""
    return name if name == host or "@" in name else name + "@" + host


class Client:
    """What both ways have in common; see `connect`."""

    way = ""

    def __init__(self, pool: Optional[str], schedd: Optional[str], config: Optional[str], timeout: float) -> None:
        self.pool, self.schedd, self.config_file, self.timeout = pool, schedd, config, float(timeout)
        # where a job without initialdir is
        self.home = os.path.expanduser("~") if os.path.isdir(os.path.expanduser("~")) else "/"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End what this client started on this host."""

    # --- for both: the ads in an order that does not depend on the way

    def query(
        self, constraint: Optional[str] = None, projection: Optional[List[str]] = None, limit: Optional[int] = None
    ) -> List[Dict[str, Any]]:
        """Return ads of jobs in the queue, of all users, by their numbers."""
        found = self._ads("condor_q", constraint, projection, ["ClusterId", "ProcId"], limit)
        return _only(sorted(found, key=lambda ad: (ad.get("ClusterId", 0), ad.get("ProcId", 0))), projection)

    def history(
        self, constraint: Optional[str] = None, projection: Optional[List[str]] = None, limit: Optional[int] = None
    ) -> List[Dict[str, Any]]:
        """Return ads of jobs that left the queue, the last first. It may take long where the history is."""
        return self._ads("condor_history", constraint, projection, [], limit)

    def status(
        self, kind: str = "startd", constraint: Optional[str] = None, projection: Optional[List[str]] = None
    ) -> List[Dict[str, Any]]:
        """Return ads of the collector of one kind (keys of _condor_cli.KINDS; startd are slots), by their names."""
        if kind not in _condor_cli.KINDS:
            raise Refused("kind: %s: must be one of %s" % (kind, ", ".join(sorted(_condor_cli.KINDS))))
        found = self._ads(kind, constraint, projection, ["MyType", "Name"], None)
        return _only(sorted(found, key=lambda ad: (str(ad.get("MyType")), str(ad.get("Name")))), projection)

    def schedds(self) -> List[Dict[str, Any]]:
        """Return Name, Machine, MyAddress and CondorVersion of all schedds of the pool."""
        return self.status("schedd", None, ["Name", "Machine", "MyAddress", "CondorVersion"])

    def submit(
        self,
        description: Dict[str, Any],
        items: Optional[List[Dict[str, Any]]] = None,
        attributes: Optional[Dict[str, Any]] = None,
        count: int = 1,
    ) -> Tuple[int, int]:
        """Submit one job, `count` of them, or one for each item, all or none; returns their cluster and their number.

        See _condor_cli.description_text and table for what a description, items and attributes are. After Silent the
        jobs may be there: look for an attribute that only they have before submitting again.
        """
        try:
            if items is not None and not items:
                raise ValueError("items: is empty")
            text = _condor_cli.description_text(description, attributes)
            head, rows = ("", None) if items is None else _condor_cli.table(description, items)
        except (ValueError, TypeError) as error:
            raise Refused(str(error))
        return self._submit(text + head, rows, count, self.home)

    def submit_dag(self, path: str, attributes: Optional[Dict[str, Any]] = None) -> Tuple[int, int]:
        """Submit a file of DAGMan; returns the cluster of its DAGMan and 1. DAGMan's own files go beside it."""
        try:
            more = _condor_cli.description_text({}, attributes)
        except (ValueError, TypeError) as error:
            raise Refused(str(error))
        if not os.path.isfile(path):
            raise Refused("dag: %s: there is no such file on this host" % path)
        self._dag(path)
        with open(path + ".condor.sub", encoding="utf-8", errors="surrogateescape") as handle:
            lines = [one for one in handle if one.split()[:1] != ["queue"]]
        return self._submit("".join(lines) + "\n" + more, None, 1, os.path.dirname(os.path.abspath(path)))

    def preview(
        self,
        description: Dict[str, Any],
        items: Optional[List[Dict[str, Any]]] = None,
        attributes: Optional[Dict[str, Any]] = None,
    ) -> Optional[Dict[str, Any]]:
        """Return the ad that the first job would have; None where condor_submit is not there to tell.

        Raises Refused for what condor_submit finds wrong with it. Nothing is submitted, and no schedd is asked.
        """
        try:
            text = _condor_cli.submit_text(description, items[:1] if items else None, attributes)
        except (ValueError, TypeError) as error:
            raise Refused(str(error))
        if not shutil.which("condor_submit", path=self.environment()["PATH"]):
            return None
        code, out, err = self.run(["condor_submit", "-terse", "-dry-run", "/dev/stdout", "-"], text, self.home)
        if code:
            raise Refused("condor_submit: %s" % (_condor_cli.said(err) or _condor_cli.said(out)))
        return dict(_classad.parse(out))

    def act(self, action: str, constraint: str, reason: Optional[str] = None) -> Dict[str, int]:
        """Hold, release, remove or vacate jobs of this constraint; returns how many had which result.

        The keys are those of _condor_cli.RESULTS. No such job is no error: all of them are 0. Of the reason, double
        quotes become single ones: HTCondor would drop it.
        """
        if action not in _condor_cli.ACTIONS:
            raise Refused("action: %s: must be one of %s" % (action, ", ".join(sorted(_condor_cli.ACTIONS))))
        return self._act(action, constraint, _condor_cli.reason(reason) if reason else None)

    def edit(self, constraint: str, attribute: str, value: Any) -> int:
        """Give an attribute of jobs a value (an Expression is one); returns how many jobs there were. All or none."""
        try:
            name, text = _classad.name(attribute), _classad.literal(value)
        except (ValueError, TypeError) as error:
            raise Refused("%s: %s" % (attribute, error))
        try:
            return self._edit(constraint, name, text)
        except CondorError as error:
            # where no job is, a schedd says only that nothing was set; one that answers to this did say no before
            if not self.query(constraint, ["ClusterId"], 1):
                return 0
            raise Refused(str(error))

    def config(self, names: List[str]) -> Dict[str, Optional[str]]:
        """Return settings of this host's configuration as text, None for one that is not defined."""
        found = {}  # type: Dict[str, Optional[str]]
        for name in names:
            code, out, err = self.run(["condor_config_val", name])
            if code and "not defined" not in (err + out).lower():
                raise Refused("condor_config_val %s: %s" % (name, _condor_cli.said(err + out)))
            found[name] = None if code else out.rstrip("\n")
        return found

    # --- commands, which every way has

    def environment(self) -> Dict[str, str]:
        """Return the environment of HTCondor's code."""
        env = dict(os.environ, LANG="C.UTF-8", LC_ALL="C.UTF-8")
        env["PATH"] = PATHS + ":" + os.environ.get("PATH", "")
        if self.config_file:
            env["CONDOR_CONFIG"] = self.config_file
        return env

    def run(self, words: List[str], text: str = "", cwd: str = "/") -> Tuple[int, str, str]:
        """Run a command of HTCondor: its status, output and errors. Raises Silent for none within the timeout."""
        env = self.environment()
        program = shutil.which(words[0], path=env["PATH"])
        if not program:
            raise Refused("there is no program %s on this host: install HTCondor there" % words[0])
        try:
            done = subprocess.run(
                [program] + words[1:],
                input=text.encode("utf-8", "surrogateescape"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                cwd=cwd,
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Silent("%s: had no answer within %g s" % (words[0], self.timeout))
        except (OSError, ValueError) as error:
            raise Refused("%s: %s" % (program, error))
        out, err = (part.decode("utf-8", "surrogateescape") for part in (done.stdout, done.stderr))
        return done.returncode, out, err

    def _ads(
        self, what: str, constraint: Optional[str], projection: Optional[List[str]], more: List[str], limit: Any
    ) -> List[Dict[str, Any]]:
        raise NotImplementedError

    def _submit(self, text: str, rows: Optional[List[Dict[str, str]]], count: int, cwd: str) -> Tuple[int, int]:
        raise NotImplementedError

    def _dag(self, path: str) -> None:
        raise NotImplementedError

    def _act(self, action: str, constraint: str, reason: Optional[str]) -> Dict[str, int]:
        raise NotImplementedError

    def _edit(self, constraint: str, name: str, text: str) -> int:
        raise NotImplementedError


def _only(found: List[Dict[str, Any]], projection: Optional[List[str]]) -> List[Dict[str, Any]]:
    """Take out what was asked for only to sort by it."""
    if not projection:
        return found
    return [{name: value for name, value in ad.items() if name in projection} for ad in found]


def _names(projection: Optional[List[str]], more: List[str]) -> Optional[List[str]]:
    """Return the projection with what is needed to sort by."""
    if not projection:
        return None
    try:
        asked = [_classad.name(one) for one in projection]
    except ValueError as error:
        raise Refused("projection: %s" % error)
    low = {one.lower() for one in asked}
    return asked + [one for one in more if one.lower() not in low]


class Commands(Client):
    """By condor_q and its like, never through a shell."""

    way = "commands"

    def _checked(self, words: List[str], text: str = "", cwd: str = "/", unknown: type = Silent) -> str:
        code, out, err = self.run(words, text, cwd)
        if code:
            raise self._error(words[0], code, out, err, unknown)
        return out

    @staticmethod
    def _error(program: str, code: int, out: str, err: str, unknown: type = Silent) -> Exception:
        words = _condor_cli.said(err) or _condor_cli.said(out) or "ended with status %d" % code
        return _condor_cli.judge(err + out, unknown)("%s: %s" % (program, words))

    def _ads(
        self, what: str, constraint: Optional[str], projection: Optional[List[str]], more: List[str], limit: Any
    ) -> List[Dict[str, Any]]:
        names = _names(projection, more)
        if what in _condor_cli.KINDS:
            words = ["condor_status"] + _condor_cli.KINDS[what] + ["-json"] + _condor_cli.where(self.pool, None)
            words += ["-constraint", constraint] if constraint else []
            words += ["-attributes", ",".join(names)] if names else []
        else:
            words = _condor_cli.read_words(what, constraint, names, limit)
            words += _condor_cli.where(self.pool if self.schedd else None, self.schedd)
        return _condor_cli.ads(self._checked(words), names)

    def _submit(self, text: str, rows: Optional[List[Dict[str, str]]], count: int, cwd: str) -> Tuple[int, int]:
        text += _condor_cli.queue(rows, count)
        words = ["condor_submit", "-terse", "-single-cluster"] + _condor_cli.where(self.pool, self.schedd) + ["-"]
        return _condor_cli.submitted(self._checked(words, text, cwd, Refused))

    def _dag(self, path: str) -> None:
        words = ["condor_submit_dag", "-no_submit", "-update_submit", path]
        self._checked(words, "", os.path.dirname(os.path.abspath(path)), Refused)

    def _act(self, action: str, constraint: str, reason: Optional[str]) -> Dict[str, int]:
        words = [_condor_cli.ACTIONS[action], "-long", "-constraint", constraint]
        words += ["-reason", reason] if reason and action != "vacate" else []
        code, out, err = self.run(words + _condor_cli.where(self.pool, self.schedd))
        if code and "ActionResult" not in out:
            raise self._error(words[0], code, out, err)
        return _condor_cli.totals(out)

    def _edit(self, constraint: str, name: str, text: str) -> int:
        words = ["condor_qedit"] + _condor_cli.where(self.pool, self.schedd) + ["-constraint", constraint, name, text]
        return _condor_cli.edited(self._checked(words))


class Bindings(Client):
    """By htcondor2, in a process of its own: it may wait for an answer without end, and what does is ended."""

    way = "bindings"

    def __init__(self, pool: Optional[str], schedd: Optional[str], config: Optional[str], timeout: float) -> None:
        Client.__init__(self, pool, schedd, config, timeout)
        self._worker = _condor_worker.Worker(self.environment(), {"pool": pool, "schedd": schedd})

    def close(self) -> None:
        self._worker.close()

    def _ask(self, name: str, *args: Any) -> Any:
        return self._worker.ask(name, args, self.timeout)

    def _ads(
        self, what: str, constraint: Optional[str], projection: Optional[List[str]], more: List[str], limit: Any
    ) -> List[Dict[str, Any]]:
        names = _names(projection, more)
        return _condor_cli.ads(self._ask("ads", what, constraint or "true", names, limit), names)

    def _submit(self, text: str, rows: Optional[List[Dict[str, str]]], count: int, cwd: str) -> Tuple[int, int]:
        cluster, jobs = self._ask("submit", text, rows, count, cwd)
        return cluster, jobs

    def _dag(self, path: str) -> None:
        self._ask("dag", os.path.abspath(path))

    def _act(self, action: str, constraint: str, reason: Optional[str]) -> Dict[str, int]:
        return dict(zip(_condor_cli.RESULTS, self._ask("act", action, constraint, reason)))

    def _edit(self, constraint: str, name: str, text: str) -> int:
        return self._ask("edit", constraint, name, text)
