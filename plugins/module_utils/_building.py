# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What every install method works with: a log, a private folder, and commands that end in time.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import collections
import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from urllib.parse import unquote, urlsplit

from ansible_collections.sciops.sites.plugins.module_utils import _logs

# user:password@ in an address; it would be in argv, or shown with the options of a task
CREDENTIALS = re.compile(r"://[^/\s@]*@")
# what the caller's environment would change about a build
FOREIGN = re.compile(r"(PIP|PYTHON|VIRTUAL_ENV)")


class Failure(Exception):
    """A build was not made; the text says why. ``facts``: the path of its ``log`` and ``log_tail``, its last lines."""

    def __init__(self, text, **facts):
        Exception.__init__(self, text)
        self.facts = facts


def under(prelude, words):
    """The words of a command that runs after the lines of shell in ``prelude``, in a login shell, where there are any.

    ``module load`` is a function that a login shell has, and that a plain one has not.
    """
    if not (prelude or "").strip():
        return list(words)
    script = prelude + '\nrc=$?; [ "$rc" -eq 0 ] || exit "$rc"\nexec "$@"'
    return ["bash", "-lc", script, "bash"] + list(words)


def environment(**more):
    """The environment of a command: the own one without what would change a build."""
    env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    return dict(env, LC_ALL="C.UTF-8", **more)


def masked(text, hidden):
    """A text with the values in ``hidden`` blotted out, and the passwords of those that are addresses."""
    passwords = [urlsplit(value).password for value in hidden if value and CREDENTIALS.search(value)]
    values = hidden + passwords + [unquote(password or "") for password in passwords]
    for value in sorted(filter(None, values), key=len, reverse=True):
        text = text.replace(value, "****")
    return text


class Work:
    """One build that is being made.

    ``log``: path of its log, which this begins anew. ``private``: a folder of mode 0700 that is gone afterwards.
    ``lock``: file descriptor that commands keep open, so that one that outlives its caller keeps the next run out.
    ``ends``: when all must be done (monotonic). ``hidden``: values that no log shows.
    """

    def __init__(self, log, private, lock, ends, hidden):
        self.log, self.private, self.lock, self.ends, self.hidden = log, private, lock, ends, hidden
        self.last = collections.deque(maxlen=20)
        os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))

    def failure(self, text):
        return Failure("%s (log: %s)" % (masked(text, self.hidden), self.log), log=self.log, log_tail=list(self.last))

    def run(self, what, argv, given=None, env=None):
        """Run a command to its end; raises Failure unless that is status 0.

        ``what`` is how a message names it, ``given`` is written to its standard input, ``env`` adds to its environment.
        """
        self.last.clear()
        late = []
        stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
        try:
            child = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(**(env or {})),
                cwd="/",
                start_new_session=True,
                pass_fds=[self.lock],
            )
        except OSError as error:
            raise self.failure("%s: %s: %s" % (what, argv[0], error.strerror))

        def end():
            late.append(True)
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)

        timer = threading.Timer(max(0, self.ends - time.monotonic()), end)
        timer.start()
        try:
            self._drain(child, given)
            child.wait()
        except OSError as error:
            raise self.failure("%s: %s: %s" % (what, self.log, error.strerror))
        finally:
            timer.cancel()
            if child.poll() is None:
                end()
                child.wait()
            child.stdout.close()
        if late:
            raise self.failure("%s: did not end within the timeout, and was ended" % what)
        if child.returncode:
            said = "; ".join(line for line in list(self.last)[-3:] if line.strip()) or "it said nothing"
            raise self.failure("%s: exit status %d: %s" % (what, child.returncode, said))

    def _drain(self, child, given):
        """What the command says goes through here into the log, so that no secret ever stands there."""
        if given is not None:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(given.encode("utf-8", "surrogateescape"))
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
        with open(self.log, "a", encoding="utf-8", errors="replace") as log:
            for raw in child.stdout:
                line = masked(raw.decode("utf-8", "replace"), self.hidden)
                self.last.append(line.rstrip()[: _logs.WIDEST])
                log.write(line)
                log.flush()
