# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper of an instance of apptainer, with a program that does as apptainer does with its two log files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _shim

# the monitor, and the program below it
TOOL = r"""#!/bin/sh
logs="$HOME/.apptainer/instances/logs/$(uname -n)/$USER/x"
case "$2" in stop) exit ;; esac
[ -e "$logs.out" ] && [ -e "$logs.err" ] || exit 9
sh -c 'echo $$ > "$HOME/pid"; sh -c "$WORK"; :' >>"$logs.out" 2>>"$logs.err" &
sleep 0.3
exit "$CODE"
"""


def kept(home: Path, work: str, code: int = 0) -> tuple[int, str]:
    """The status of a keeper and what is in its log."""
    tool = home / "apptainer"
    tool.write_text(TOOL)
    tool.chmod(0o755)
    env = {"HOME": str(home), "USER": "me", "PATH": os.environ["PATH"], "WORK": work, "CODE": str(code)}
    child = os.fork()
    if not child:
        try:
            log = os.open(home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            action = {"instance": "x", "pid_file": str(home / "pid"), "launcher": "apptainer"}
            _shim.keeper([str(tool), "instance", "start", "x"], env, action)
        except BaseException as error:  # what this process says is all that is left of it
            os.write(1, repr(error).encode())
        finally:
            os._exit(99)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, (home / "log").read_text()


@pytest.mark.parametrize("linked", [True, False])
def test_all_that_an_instance_writes_is_in_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    if not linked:

        def refuse(*_args: object, **_more: object) -> None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), "/proc/self/fd/1")

        monkeypatch.setattr(_shim.os, "link", refuse)
    work = "echo one; sleep 0.5; echo two >&2; head -c 3000000 /dev/zero | tr '\\0' x; sleep 0.5; echo; echo three"
    status, log = kept(tmp_path, work)
    assert status == 1 and set(log.replace("x", "").split()) == {"one", "two", "three"}, log[:200]
    assert log.count("x") == 3000000
    assert not list((tmp_path / ".apptainer").rglob("x.*"))
    # one that does not come up
    _status, log = kept(tmp_path, "echo why it failed >&2", 3)
    assert _status == 3 and "why it failed" in log


def test_what_is_copied_of_a_log_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shim, "EMPTIED", 10)
    said: list[bytes] = []
    full = [OSError(errno.ENOSPC, "full")]

    def write(_handle: int, part: bytes) -> int:
        if full:
            raise full.pop()
        said.append(part[:7])
        return len(part[:7])

    monkeypatch.setattr(_shim.os, "write", write)
    path = tmp_path / "x.out"
    with path.open("ab", buffering=0) as program, path.open("r+b") as file:
        copied = {file.fileno(): 0}
        program.write(b"0123456789abc")
        # a full disk loses nothing
        _shim.pour(copied)
        assert said == [] and path.stat().st_size == 13
        _shim.pour(copied)
        assert b"".join(said) == b"0123456789abc" and path.stat().st_size == 0
        program.write(b"def")
        _shim.pour(copied)
        assert b"".join(said) == b"0123456789abcdef" and path.stat().st_size == 3
