# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of instances when sessions, managers, requests and hosts end; the same for every launcher."""

from __future__ import annotations

import shlex
import signal
import time
from dataclasses import replace

import pytest
from conformance.launchers import Host, unique


def test_logout(host: Host) -> None:
    """It lives on after the session that started it, and after every session of its user."""
    what = unique()
    host.start("/bin/sleep", what)
    pids = host.pids(f"sleep {what}")
    host.root("pkill -f 'ssh[d]: [a-z]' || true")
    time.sleep(5)
    assert host.pids(f"sleep {what}") == pids


def test_request_killed(host: Host) -> None:
    """kill -9 of the request in the middle of a start: what it began is known afterwards, and never doubled."""
    what = unique()
    boot = host.ask()["boot_id"]
    _request, child = host.begin("apply", actions=[host.action("/bin/sleep", what, settle=8)], expect={"boot_id": boot})
    host.until(lambda: host.pids(f"sleep {what}"))
    host.root("pkill -9 -f 'python3 -IS[c]' || true")
    child.communicate(timeout=30)
    (row,) = host.rows()
    assert row["slot"] == 1
    (again,) = host.apply(host.action("/bin/sleep", what))
    assert again["outcome"] == "already", str(again)
    assert len(host.pids(f"sleep {what}")) == 1


@pytest.mark.needs("manager")
def test_manager_killed(host: Host) -> None:
    """kill -9 of the manager: nothing is doubled, and the next start has it at work again."""
    what, more = unique(), unique()
    host.start("/bin/sleep", what)
    pids = host.pids(f"sleep {what}")
    host.root(host.kind.saved)
    for pid in host.manager():
        host.root(f"kill -9 {pid} || :")
    time.sleep(1)
    seen = host.ask()
    if host.kind.survives:
        assert host.pids(f"sleep {what}") == pids
        assert len(seen["instances"]) == 1
    if host.kind.revive:
        (result,) = host.apply(host.action("/bin/sleep", more, slot=2))
        assert result["outcome"] == "refused", str(result)
        host.root(host.kind.revive)
    (result,) = host.apply(host.action("/bin/sleep", more, slot=2))
    assert result["outcome"] == "started", str(result)
    host.until(lambda: len(host.pids(f"sleep {what}")) == 1)
    time.sleep(2)
    assert len(host.pids(f"sleep {what}")) == 1 and len(host.pids(f"sleep {more}")) == 1
    results = host.stop(*host.rows())
    assert {one["outcome"] for one in results} == {"stopped"}, str(results)
    time.sleep(1)
    assert host.pids(what) == [] and host.pids(more) == []


@pytest.mark.needs("manager")
def test_manager_hangs(host: Host) -> None:
    """A manager that hangs: in time the host tells so, nothing is started through it, and nothing counts as gone."""
    what = unique()
    host.start("/bin/sleep", what)
    for pid in host.manager():
        host.root(f"kill -STOP {pid}")
    try:
        began = time.monotonic()
        seen = host.ask()
        assert time.monotonic() - began < 30
        assert host.kind.launcher in seen.get("silent", {}), seen
        assert len(seen["instances"]) + len(seen.get("possible", [])) == 1
        (result,) = host.apply(host.action("/bin/sleep", unique(), slot=2))
        assert result["outcome"] in ("refused", "failed"), str(result)
    finally:
        for pid in host.manager():
            host.root(f"kill -CONT {pid}")
    host.until(lambda: not host.ask().get("silent"), 30)
    assert len(host.pids(f"sleep {what}")) == 1 and len(host.rows()) == 1


@pytest.mark.needs("boots")
def test_reboot(host: Host) -> None:
    """A power cut of the host: it comes back where its manager does that; else it is gone, and can be started."""
    what = unique()
    host.start("/bin/sleep", what)
    host.fleet.kill(host.name)
    host.fleet.boot(host.name)
    if host.kind.reboots:
        host.until(lambda: len(host.pids(f"sleep {what}")) == 1, 30)
        (row,) = host.rows()
        assert row["health"] == ""
    else:
        assert host.rows() == [] or host.kind.restarts
        host.number += 1
        (result,) = host.apply(host.action("/bin/sleep", what))
        assert result["outcome"] in ("started", "already"), str(result)
    time.sleep(1)
    assert len(host.pids(f"sleep {what}")) == 1


@pytest.mark.needs("boots")
def test_singleton_after_reboot(host: Host) -> None:
    """A singleton does not come back by itself after a power cut: it may have gone elsewhere."""
    what = unique()
    host.start("/bin/sleep", what, singleton=True)
    host.fleet.kill(host.name)
    host.fleet.boot(host.name)
    time.sleep(2)
    assert host.pids(f"sleep {what}") == [] and host.rows() == []
    (result,) = host.apply(host.action("/bin/sleep", what, singleton=True))
    assert result["outcome"] == "started", str(result)
    assert len(host.pids(f"sleep {what}")) == 1


def test_other_user(host: Host) -> None:
    """Root runs it as the user it names; who is not root is refused another user."""
    what = unique()
    (result,) = host.apply(host.action("/bin/sleep", what, user="jadelta"))
    if host.user in ("root", "jadelta"):
        assert result["outcome"] == "started", str(result)
        assert {one.user for one in host.fleet.ps(host.name) if f"sleep {what}" in one.args} == {"jadelta"}
    else:
        assert result["outcome"] == "refused" and "jadelta" in result["message"], str(result)


@pytest.mark.needs("files")
def test_describe(host: Host) -> None:
    """What a start would write is what it writes, and telling it writes nothing."""
    action = host.action("/bin/sleep", unique(), environment={"A": "b"}, secrets={"KEY": {"value": "hidden"}})
    look = f"find {host.home} /etc /var/lib -name '*sciops-*' 2>/dev/null | sort || true"
    before = host.root(look)
    told = host.ask("describe", actions=[action])
    assert told["answered"], told
    files = told["files"]
    assert files and "hidden" not in str(files)
    assert before == host.root(look)
    (result,) = host.apply(action)
    assert result["outcome"] == "started", str(result)
    for path, texts in files.items():
        if path.startswith("/") and not path.endswith(".json"):
            assert host.root(f"cat {shlex.quote(path)}").strip() == texts["after"].strip()


def test_signal_numbers(host: Host) -> None:
    """No signal is ignored or blocked in the program but by itself."""
    what = unique()
    host.start("/bin/sleep", what)
    (pid,) = host.pids(f"sleep {what}")
    status = dict(line.split(":\t") for line in host.root(f"cat /proc/{pid}/status").splitlines() if "Sig" in line)
    assert int(status["SigIgn"], 16) & (1 << (signal.SIGTERM - 1) | 1 << (signal.SIGHUP - 1)) == 0, status
    assert int(status["SigBlk"], 16) == 0, status


SCOPE = "d=/etc/systemd/system s=--system; [ $(id -u) = 0 ] || d=~/.config/systemd/user s=--user; "
# what somebody else has with the same manager, as shell: making it (its program sleeps $1), and looking at it
FOREIGN = {
    "process": ("(setsid sleep $1 >/dev/null 2>&1 &)", ":"),
    "supervisord": (
        "mkdir -p others/conf.d && cd others && printf '[unix_http_server]\\nfile = %s/sock\\n[supervisord]\\n"
        "logfile = %s/log\\npidfile = %s/pid\\n[rpcinterface:supervisor]\\nsupervisor.rpcinterface_factory = "
        "supervisor.rpcinterface:make_main_rpcinterface\\n[include]\\nfiles = conf.d/*.conf\\n' $PWD $PWD $PWD "
        "> sv.conf && printf '[program:theirs]\\ncommand = sleep %s\\n' $1 > conf.d/theirs.conf && "
        # changed since, and not yet read: it is not ours to have it read
        "supervisord -c $PWD/sv.conf && sleep 1 && echo 'priority = 3' >> conf.d/theirs.conf",
        "cat others/sv.conf others/conf.d/theirs.conf; stat -c '%Y %i' others/conf.d/theirs.conf",
    ),
    "systemd": (
        SCOPE
        + "mkdir -p $d && printf '[Service]\\nExecStart=/bin/sleep %s\\n[Install]\\nWantedBy=default.target\\n' $1 "
        "> $d/sciops-theirs@.service && systemctl $s daemon-reload && systemctl $s --now enable sciops-theirs@1 2>&1; "
        # a failed one is evidence for who looks after it
        "printf '[Service]\\nExecStart=/bin/false\\n' > $d/sciops-broken.service; "
        "systemctl $s start sciops-broken; sleep 0.5",
        SCOPE + "cat $d/sciops-theirs@.service; stat -c '%Y %i' $d/sciops-theirs@.service; "
        "systemctl $s show sciops-theirs@1.service sciops-broken.service -p MainPID,ActiveState,UnitFileState",
    ),
    "apptainer": (
        "apptainer -s instance start /opt/images/two.sif theirs sleep $1 2>&1",
        "apptainer instance list 2>/dev/null | grep theirs | tr -s ' '",
    ),
    "htcondor": (
        "printf 'executable = /bin/sleep\\narguments = %s\\ntransfer_executable = false\\nshould_transfer_files = NO\\n"
        # the name of a unit of ours, and a mark of another site
        'batch_name = sciops-theirs@1\\nMY.SciopsSites = "sciops.sites s d h p/c 1 0123456789ab 1-a"\\nqueue\\n\' $1 | '
        "condor_submit -terse -",
        "condor_q -af ClusterId JobStatus JobBatchName SciopsSites -constraint 'JobBatchName == \"sciops-theirs@1\"'",
    ),
    "slurm": ('sbatch -J sciops-theirs --wrap "sleep $1" -o /dev/null', "squeue -h -n sciops-theirs -o '%i %T %k'"),
}


def test_foreign(host: Host) -> None:
    """What others have with the same manager is untouched: files byte for byte, processes by their pids."""
    make, look = FOREIGN[host.kind.launcher]
    theirs, ours = unique(), unique()
    host.sh(make.replace("$1", theirs))
    host.until(lambda: host.pids(f"sleep {theirs}"))
    pids, seen = host.pids(f"sleep {theirs}"), host.sh(look)
    kind = host.kind
    if kind.launcher == "supervisord":
        # the supervisord of somebody else, with our programs in a file of ours
        host.kind = replace(kind, settings={"config": f"{host.home}/others/sv.conf", "timeout": 3})
    try:
        host.apply(*[host.action("/bin/sleep", ours, slot=n) for n in (1, 2)])
        during = host.sh(look)
        rows = host.rows()
        assert len(rows) == 2
        (result,) = host.stop(rows[0])
        assert result["outcome"] == "stopped", str(result)
        assert len(host.pids(f"sleep {ours}")) == 1
        # its command is the same as ours: it is not counted and not stopped
        host.stop(*host.rows())
        assert host.pids(f"sleep {theirs}") == pids
        assert during == seen
        assert host.sh(look) == seen
    finally:
        host.kind = kind
        host.root(
            "pkill -f 'supervisord -c.*other[s]' || :; systemctl disable -q --now sciops-theirs@1 2>/dev/null || :"
        )
        host.root(f"pkill -f 'sleep {theirs[:-1]}[{theirs[-1]}]' || :")
