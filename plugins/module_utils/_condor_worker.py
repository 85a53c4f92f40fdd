# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""HTCondor's Python bindings in a process of their own.

Note that this module util is **PRIVATE** to the collection.

What the bindings wait for is waited for outside of Python, where no signal ends it, and a fault in them ends the whole
process. So they live in a child, which is asked through a pipe and ended where its answer does not come.
"""

from __future__ import absolute_import, annotations, division, print_function

import json
import os
import select
import signal
import time
from typing import Any, Dict, List, Optional

from ansible_collections.sciops.sites.plugins.module_utils import _classad, _condor_cli


class Worker:
    """A child that has the bindings; it begins with the first question."""

    def __init__(self, env: Dict[str, str], place: Dict[str, Optional[str]]) -> None:
        self.env, self.place = env, place
        self.pid = 0
        self.to = self.back = -1

    def _start(self) -> None:
        (theirs, self.to), (self.back, ours) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(theirs)
            os.close(ours)
            os.set_blocking(self.to, False)
            return
        # the child: it ends where it cannot go on, and never comes back into the code that asked
        try:
            os.close(self.to)
            os.close(self.back)
            # what the bindings print is no part of a module's result
            null = os.open(os.devnull, os.O_RDWR)
            for handle in (0, 1, 2):
                os.dup2(null, handle)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(self.env)
            os.chdir("/")
            serve(theirs, ours, self.place)
        finally:
            os._exit(1)

    def ask(self, name: str, args: Any, timeout: float) -> Any:
        """Return the answer. Raises Silent for none in time, else what the child says."""
        if not self.pid:
            self._start()
        ends = time.monotonic() + timeout
        data = memoryview(json.dumps([name, args]).encode("utf-8") + b"\n")
        said = []  # type: List[bytes]
        try:
            while not said or not said[-1].endswith(b"\n"):
                left = ends - time.monotonic()
                can_read, can_write, _none = select.select([self.back], [self.to] if data else [], [], max(left, 0))
                if can_read:
                    said.append(os.read(self.back, 1 << 20))
                    if not said[-1]:
                        raise _condor_cli.Silent("the bindings of HTCondor ended without an answer (%s)" % name)
                elif can_write:
                    data = data[os.write(self.to, data[: 1 << 16]) :]
                elif left <= 0:
                    raise _condor_cli.Silent("HTCondor (%s): had no answer within %g s" % (name, timeout))
        except BaseException as error:
            # a late answer would be taken for that of the next question
            self.close()
            if isinstance(error, OSError):
                raise _condor_cli.Silent("the bindings of HTCondor ended without an answer (%s)" % name)
            raise
        good, answer = json.loads(b"".join(said).decode("utf-8", "surrogatepass"))
        if good:
            return answer
        # what is wrong with a description is found before a schedd is asked
        unknown = _condor_cli.Refused if name in ("submit", "dag") else _condor_cli.Silent
        raise _condor_cli.judge(answer, unknown)("HTCondor (%s): %s" % (name, _condor_cli.said(answer)))

    def close(self) -> None:
        """End the child."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.to)
            os.close(self.back)
            self.pid = 0

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # pylint: disable=broad-except
            return


def serve(asked: int, answered: int, place: Dict[str, Optional[str]]) -> None:
    """Answer questions, a line of JSON each, until there are no more."""
    import htcondor2  # pylint: disable=import-error

    told = Calls(htcondor2, place)
    with os.fdopen(asked, "rb") as questions, os.fdopen(answered, "wb") as answers:
        for line in questions:
            name, args = json.loads(line.decode("utf-8"))
            try:
                answer = [True, getattr(told, name)(*args)]
            except Exception as error:  # pylint: disable=broad-except
                answer = [False, str(error) or type(error).__name__]
            answers.write(json.dumps(answer).encode("utf-8") + b"\n")
            answers.flush()


def one(ad: Any) -> str:
    """Return an ad as HTCondor's JSON, also where a string of it is no UTF-8: anybody may submit such a job."""
    try:
        return ad.printJson()
    except UnicodeDecodeError:
        pass
    parts = []
    for name in ad:
        text = str(ad.lookup(name))
        if text.startswith('"'):
            try:
                value = json.dumps(_classad.unquote_new(text))
            except ValueError:
                value = '"\\/Expr(%s)\\/"' % json.dumps(text)[1:-1]
        elif text.lower() in ("true", "false", "undefined") or text[:1] in "+-.0123456789":
            known = _classad.value(text)
            value = json.dumps(known)
            if isinstance(known, _classad.Expression):
                value = '"\\/Expr(%s)\\/"' % json.dumps(text)[1:-1]
        else:
            value = '"\\/Expr(%s)\\/"' % json.dumps(text)[1:-1]
        parts.append("%s: %s" % (json.dumps(name), value))
    return "{%s}" % ", ".join(parts)


class Calls:
    """The questions, with values that JSON knows."""

    def __init__(self, htcondor2: Any, place: Dict[str, Optional[str]]) -> None:
        self.api, self.pool = htcondor2, place["pool"]
        self.name = place["schedd"]
        self._schedd = None  # type: Any

    def collector(self) -> Any:
        return self.api.Collector(self.pool) if self.pool else self.api.Collector()

    def schedd(self) -> Any:
        """The schedd that is meant. Raises for one that the collector does not know."""
        if self._schedd is None:
            if not self.name:
                self._schedd = self.api.Schedd()
            else:
                ad = self.collector().locate(self.api.DaemonType.Schedd, self.name)
                if ad is None:
                    raise RuntimeError("the collector has no record of schedd %s" % self.name)
                self._schedd = self.api.Schedd(ad)
        return self._schedd

    def ads(self, what: str, constraint: str, names: Optional[List[str]], limit: Optional[int]) -> str:
        """Ads as the text that condor_q -json and its like print."""
        most = -1 if limit is None else limit
        if what == "condor_q":
            found = self.schedd().query(constraint, names or [], limit=most)
        elif what == "condor_history":
            found = self.schedd().history(constraint, names or [], most)
        else:
            kind = getattr(self.api.AdType, what.capitalize())
            found = self.collector().query(kind, constraint, names)
        return "[%s]" % ",".join(one(ad) for ad in found)

    def submit(self, text: str, rows: Optional[List[Dict[str, str]]], count: int, cwd: str) -> List[int]:
        os.chdir(cwd)
        if rows is None:
            done = self.schedd().submit(self.api.Submit(text), count=count)
        else:
            done = self.schedd().submit(self.api.Submit(text), itemdata=iter(rows))
        return [done.cluster(), done.num_procs()]

    def dag(self, path: str) -> None:
        """Write the submit description of a DAG beside it."""
        os.chdir(os.path.dirname(path))
        self.api.Submit.from_dag(path, {"UpdateSubmit": True})

    def act(self, action: str, constraint: str, reason: Optional[str]) -> List[int]:
        # a reason as text alone gets lost in htcondor2 of 23.9 and 25.14
        why = (reason, 0) if reason else None
        done = self.schedd().act(getattr(self.api.JobAction, action.capitalize()), constraint, why)
        kinds = ("Error", "Success", "NotFound", "BadStatus", "AlreadyDone", "PermissionDenied")
        return [int(done["Total" + one]) for one in kinds]

    def edit(self, constraint: str, name: str, text: str) -> int:
        return int(self.schedd().edit(constraint, name, text))
