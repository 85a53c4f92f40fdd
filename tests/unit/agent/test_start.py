# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts: what the process gets, when it counts as started, and what is left when something goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _probe
from ansible_collections.sciops.sites.plugins.plugin_utils import _wire

from .conftest import SOURCES, fill


def one(reply: dict) -> dict:
    assert reply["answered"], reply
    assert len(reply["results"]) == 1
    return reply["results"][0]


def dead(pid: int) -> bool:
    return _probe.look(pid) is None


def records(host) -> list[str]:
    return sorted(path.name for path in (host.folder / "instances").iterdir())


def test_j11_start_form(host, wait) -> None:
    """J11: command line, working directory, environment, log name; the connection ends while the process lives on."""
    work = host.home / "work"
    work.mkdir(mode=0o777)
    os.chown(work, host.uid, -1)
    log = host.home / "logs" / "bundler.run.h1.1700000000.log"
    text = '#!/bin/bash\nenv; umask; pwd; echo "args:$#:$1:$2"; trap -p; cat <&0; sleep 60 & wait\n'
    action = host.action(host.script("wrapper", text), "two words", "$HOME;x", cwd=str(work), settle=0.5)
    action["environment"] = {"LTA_MODE": "a b", "N": 5}
    action["log"]["path"] = str(log)
    began = time.monotonic()
    result = one(host.apply(action))
    assert time.monotonic() - began < 5
    assert result["outcome"] == "started", result
    pid = result["pid"]
    said = log.read_text()
    proc = Path(f"/proc/{pid}")
    assert proc.joinpath("cmdline").read_bytes().split(b"\0")[2:4] == [b"two words", b"$HOME;x"]
    assert proc.joinpath("cwd").readlink() == work
    assert proc.joinpath("fd/0").readlink() == Path("/dev/null")
    assert {proc.joinpath(f"fd/{n}").readlink() for n in (1, 2)} == {log}
    # 255 is bash's own script; nothing of the agent is left open, so the connection can end
    assert {p.name for p in proc.joinpath("fd").iterdir()} <= {"0", "1", "2", "255"}
    names = dict(line.split("=", 1) for line in said.split("0022\n")[0].splitlines())
    assert names["LTA_MODE"] == "a b"
    assert names["N"] == "5"
    assert names["SCIOPS_SITES"].split(" ") == [
        host.site, "test", "h1", "p/c", "1", "0123456789ab", result["token"], str(pid)
    ]  # fmt: skip
    clean = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LTA_MODE", "N", "SCIOPS_SITES"}
    assert set(names) - {"_", "SHLVL", "PWD", "OLDPWD"} == clean
    assert f"0022\n{work}\nargs:2:two words:$HOME;x\n" in said
    plain = one(host.apply(host.action("sleep", "60", slot=2)))["pid"]
    status = Path(f"/proc/{plain}/status").read_text()
    masks = {kind: int(re.search(rf"{kind}:\s*([0-9a-f]+)\n", status)[1], 16) for kind in ("SigIgn", "SigBlk")}
    # the C library keeps 32 and 33 for its threads and lets nobody change them: what a parent did stays (signal(7))
    reserved = 1 << 31 | 1 << 32
    assert not masks["SigIgn"] & ~reserved, status
    assert not masks["SigBlk"] & ~reserved, status
    assert os.getsid(pid) == pid == os.getpgid(pid)
    assert log.stat().st_mode & 0o777 == 0o640
    assert log.parent.stat().st_mode & 0o777 == 0o750
    record = json.loads((host.folder / "instances" / f"{result['token']}.json").read_text())
    assert (record["pid"], record["start"], record["log"]) == (
        pid,
        next(i["start"] for i in host.ask()["instances"] if i["pid"] == pid),
        str(log),
    )
    assert host.folder.stat().st_mode & 0o777 == 0o700


def test_j12_the_rendered_value_is_in_the_argument_list(host) -> None:
    """J12: what was drawn for this instance reaches the process."""
    result = one(host.apply(host.action("sh", "-c", "sleep 60; :", "node", "7")))
    assert Path(f"/proc/{result['pid']}/cmdline").read_bytes().split(b"\0")[-2] == b"7"


def test_a_start_counts_only_when_it_lives_after_its_settle_time(host) -> None:
    late = host.action("sh", "-c", "sleep 0.4; echo too bad; exit 7", settle=1)
    result = one(host.apply(late))
    assert (result["outcome"], result["message"], result["exit"]) == ("failed", "ended with status 7", 7)
    assert result["log_tail"] == ["too bad"]
    assert records(host) == []
    assert host.marked() == []


def test_what_ends_at_once(host) -> None:
    cases = {
        "true": ("ended at once with status 0", 0),
        "kill -9 $$": ("ended by signal 9", -9),
        "exit 255": ("ended with status 255", 255),
    }
    for i, (text, (message, code)) in enumerate(cases.items()):
        result = one(host.apply(host.action("sh", "-c", text, component=f"p/{i}")))
        assert (result["outcome"], result["message"], result["exit"]) == ("failed", message, code)


def test_the_last_20_lines_are_those_of_this_start(host) -> None:
    fail = host.action("sh", "-c", "echo first; exit 1")
    host.apply(fail)
    many = host.action("sh", "-c", "seq 1 100; printf 'no end of line'; exit 1")
    tail = one(host.apply(many))["log_tail"]
    assert tail == [*(str(n) for n in range(82, 101)), "no end of line"]
    none = host.action("sh", "-c", "exit 1")
    assert one(host.apply(none))["log_tail"] == []


def test_a_submitter_that_ends_is_started_by_what_it_leaves(host) -> None:
    """The old submitters start a wrapper in the background and end: the wrapper becomes the leader."""
    wrapper = host.script("wrapper", "#!/bin/sh\nsleep 60\n:\n")
    result = one(host.apply(host.action(host.script("boost", f"#!/bin/sh\n{wrapper} &\n"), settle=0.5)))
    assert result["outcome"] == "started", result
    row = host.ask()["instances"][0]
    assert (row["leader"], row["processes"], row["pid"]) == (False, 2, result["pid"])
    assert one(host.apply(host.stop(row)))["outcome"] == "stopped"
    assert host.marked() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"argv": ["/no/such"]}, "command: /no/such: No such file or directory"),
        ({"argv": ["no-such"]}, "command: no-such: No such file or directory"),
        ({"argv": ["/etc/passwd"]}, "command: /etc/passwd: Permission denied"),
        ({"argv": []}, "there is no command"),
        ({"cwd": "/no/where"}, "cwd: /no/where: No such file or directory"),
        ({"user": "no-such-user"}, "no-such-user: this host knows no user"),
        ({"secrets": {"T": {"file": "/no/token"}}}, "secret T: /no/token: No such file or directory"),
        ({"log": {"path": "/proc/x.log", "max_bytes": 1, "keep": 1}}, "/proc/x.log: "),
        ({"environment": {"A=B": "x"}}, "'A=B' cannot be in an environment"),
    ],
)
def test_what_cannot_start_says_why_and_leaves_nothing(host, change: dict, words: str) -> None:
    action = host.action("sleep", "60") | change
    result = one(host.apply(action))
    assert result["outcome"] == "failed"
    assert words in result["message"]
    assert result["pid"] is None
    assert records(host) == []
    assert host.marked() == []


def test_another_user_is_refused_where_that_cannot_be(host) -> None:
    result = one(host.apply(host.action("sleep", "60", user="root")))
    assert result["outcome"] == "refused"
    assert "user root is wanted, and this host is reached as" in result["message"]


def test_a_script_without_interpreter_line_runs_as_in_a_shell(host) -> None:
    result = one(host.apply(host.action(host.script("plain", "echo $1 >&2; sleep 60\n"), "hello")))
    assert result["outcome"] == "started", result
    assert (host.folder / "log" / "p-c.1.log").read_text() == "hello\n"
    empty = one(host.apply(host.action(host.script("empty", ""), component="p/e")))
    assert (empty["outcome"], empty["message"]) == ("failed", "ended at once with status 0")


def test_one_slot_is_started_once(host) -> None:
    first = host.apply(host.action("sleep", "60"), host.action("sleep", "60"), host.action("sleep", "60", slot=2))
    assert [r["outcome"] for r in first["results"]] == ["started", "already", "started"]
    again = one(host.apply(host.action("sleep", "60")))
    assert again["outcome"] == "already"
    assert again["pid"] == first["results"][0]["pid"]
    assert len(host.marked()) == 2


def test_a_token_starts_once_even_after_its_process_has_ended(host, wait) -> None:
    """A request that is repeated because its reply was lost does not start again what has ended since."""
    action = host.action("sleep", "60")
    result = one(host.apply(action))
    os.kill(result["pid"], signal.SIGKILL)
    wait(lambda: dead(result["pid"]))
    again = one(host.apply(action))
    assert again["outcome"] == "failed"
    assert "has ended" in again["message"]
    assert host.marked() == []


def test_starts_go_in_batches_and_a_failure_ends_its_component_only(host) -> None:
    """1, 2, 4: the fifth fails, so the sixth and seventh of its batch are tried and the eighth is not."""
    marks = host.home / "n"
    marks.mkdir()
    os.chown(marks, host.uid, -1)
    text = f"touch {marks}/$1; [ $1 != 5 ] || exit 1; sleep 60"
    flock = [host.action("sh", "-c", text, "x", str(i), component="p/b", slot=i) for i in range(1, 10)]
    other = [host.action("sleep", "60", component="p/o", slot=i) for i in range(1, 8)]
    began = time.monotonic()
    results = host.apply(*(a for pair in zip(flock, [*other, *other[:2]], strict=True) for a in pair))["results"]
    spent = time.monotonic() - began
    bad = {r["slot"]: r for r in results if r["component"] == "p/b"}
    assert [bad[i]["outcome"] for i in range(1, 10)] == ["started"] * 4 + ["failed"] + ["started"] * 2 + ["refused"] * 2
    assert bad[8]["message"] == "not tried: an earlier start of this batch failed"
    assert sorted(p.name for p in marks.iterdir()) == [str(i) for i in range(1, 8)]
    assert all(r["outcome"] == "started" for r in results if r["component"] == "p/o" and r["slot"] > 2)
    born = {r["slot"]: r["start"] for r in host.ask()["instances"] if r["component"] == "p/b"}
    gap = 0.3 * _probe.TICK
    assert born[2] - born[1] >= gap and born[4] - born[3] >= gap and born[3] - born[2] < gap
    # three batches of 0.3 s for both components together, not one after the other
    assert spent < 6


def test_100_starts_in_flight(host) -> None:
    actions = [host.action("sleep", "60", component=f"p/{i % 20}", slot=i, settle=0.2) for i in range(100)]
    reply = host.apply(*actions, timeout=30)
    assert [r["outcome"] for r in reply["results"]] == ["started"] * 100
    assert len(reply["instances"]) == 100
    assert sorted(host.marked()) == sorted(r["pid"] for r in reply["instances"])
    stops = host.apply(*(host.stop(r) for r in reply["instances"]), timeout=30)
    assert {r["outcome"] for r in stops["results"]} == {"stopped"}
    assert host.marked() == []


def test_secrets_reach_the_process_and_nothing_else(host) -> None:
    path = host.home / "service-token"
    path.write_text("s3cr3t-from-file\n")
    secret = {"A": {"file": str(path)}, "B": {"value": "s3cr3t-by-value\nsecond-line"}}
    text = 'echo "has $A and $B"; echo "$A"; exit 1'
    request = host.action("sh", "-c", text, secrets=secret)
    reply = host.apply(request)
    assert one(reply)["log_tail"] == ["has **** and ****", "****"]
    assert "s3cr3t" not in json.dumps(reply)
    live = host.apply(host.action("sh", "-c", "sleep 60; :", secrets=secret))
    assert "s3cr3t" not in json.dumps(live)
    pid = one(live)["pid"]
    assert b"A=s3cr3t-from-file\0" in Path(f"/proc/{pid}/environ").read_bytes()
    assert b"s3cr3t" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    for file in (host.folder / "instances").iterdir():
        assert "s3cr3t" not in file.read_text()


def test_logs_rotate_at_a_start_and_old_ones_go(host, wait) -> None:
    log = host.folder / "log" / "p-c.1.log"
    for i in range(4):
        result = one(host.apply(host.action("sh", "-c", f"printf '%0600d\\n' {i}; exec sleep 60")))
        os.kill(result["pid"], signal.SIGKILL)
        wait(lambda pid=result["pid"]: dead(pid))
    # 601 bytes each and a limit of 1000: the second start appends, the third finds 1202 bytes
    assert sorted(p.name for p in log.parent.iterdir()) == ["p-c.1.log", "p-c.1.log.1"]
    assert log.stat().st_size == 1202
    folder = host.home / "logs"
    spec = {"max_bytes": 1000, "keep": 2}
    stay = folder / "smr.run.h1.1699999990.log"
    live = host.action("sleep", "60", slot=9, log=spec | {"path": str(stay)})
    host.apply(live)
    for i in range(5):
        (folder / f"smr.run.h1.170000000{i}.log").write_text("x")
    others = ["smr.run.h2.1700000000.log", "smr.run.h1.note.log", "delret.run.h1.1700000000.log"]
    for name in others:
        (folder / name).write_text("x")
    host.apply(host.action("sleep", "60", slot=2, log=spec | {"path": f"{folder}/smr.run.h1.1700000100.log"}))
    kept = [stay.name, *others] + [f"smr.run.h1.{n}.log" for n in (1700000003, 1700000004, 1700000100)]
    assert sorted(p.name for p in folder.iterdir()) == sorted(kept)


def test_a_log_that_is_no_file_is_refused(host) -> None:
    os.mkfifo(host.home / "pipe")
    os.chown(host.home / "pipe", host.uid, -1)
    began = time.monotonic()
    result = one(host.apply(host.action("sleep", "60", log={"path": str(host.home / "pipe")})))
    assert result["outcome"] == "failed"
    assert time.monotonic() - began < 5
    assert one(host.apply(host.action("sleep", "60", log={"path": "/dev/null"})))["outcome"] == "started"


@pytest.mark.parametrize("where", ["state", "log"])
def test_a_full_disk_refuses_a_start(host, where: str) -> None:
    """A real file system without a free block: nothing is started, and the message says so."""
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    disk = host.home / ("state" if where == "state" else "logs")
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        log = {"path": str(disk / "a.log"), "max_bytes": 1000, "keep": 2}
        live = host.apply(host.action("sleep", "60", slot=7))["instances"][0]
        fill(disk / "filler")
        result = one(host.apply(host.action("sleep", "60", log=log)))
        assert result["outcome"] == "refused", result
        assert "No space left on device" in result["message"]
        assert host.marked() == [live["pid"]]
        # what fills the disk can still be stopped
        assert one(host.apply(host.stop(live)))["outcome"] == "stopped"
        (disk / "filler").unlink()
        assert one(host.apply(host.action("sleep", "60", log=log)))["outcome"] == "started"
    finally:
        host.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_an_agent_that_is_killed_leaves_nothing_half_started(host, number: int) -> None:
    """At many moments: whatever lives has a record and the marker, and the next pass sees exactly that."""
    boot = host.ask()["boot_id"]
    for i in range(8):
        host.number += 1
        host.ask()
        actions = [host.action("sleep", "60", component=f"k/{i}-{n}", slot=1, settle=0.2) for n in range(12)]
        request = host.request("apply", actions=actions, expect={"boot_id": boot})
        pipe = subprocess.PIPE
        child = host.popen(["/usr/bin/python3", "-ISc", _wire.BOOTSTRAP], stdin=pipe, stdout=pipe, stderr=pipe)
        child.stdin.write(_wire.payload(request, SOURCES))
        child.stdin.flush()
        time.sleep(0.05 + 0.025 * i)
        child.send_signal(number)
        child.communicate()
        time.sleep(0.05)
        seen = host.ask()
        alive = host.marked()
        assert sorted(r["pid"] for r in seen["instances"]) == alive
        for pid in alive:
            assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0060\0"
        # no process of the agent waits on: all of the session it had is gone
        assert not [p for p in _probe.scan().values() if p.uid == host.uid and p.ppid == child.pid]


def test_a_start_that_hangs_on_its_disk_gives_up_in_time(host) -> None:
    """A secret that is a pipe nobody writes to: the request ends in its time, nothing was started."""
    os.mkfifo(host.home / "stuck")
    os.chown(host.home / "stuck", host.uid, -1)
    good = host.action("sleep", "60", component="p/a")
    stuck = host.action("sleep", "60", component="p/b", secrets={"T": {"file": str(host.home / "stuck")}})
    rest = host.action("sleep", "60", component="p/d")
    began = time.monotonic()
    reply = host.apply(good, stuck, rest, timeout=2)
    assert time.monotonic() - began < 6
    assert [r["outcome"] for r in reply["results"]] == ["unknown", "refused", "refused"]
    assert reply["answered"]
    assert [r["component"] for r in reply["instances"]] == ["p/a"]


def test_root_starts_as_the_declared_user(host) -> None:
    """As root, in a mount namespace of its own so that the machine's /var/lib stays as it is."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    mine = 'mount -t tmpfs tmpfs /var/lib && exec "$@"'
    host.uid = 0
    if subprocess.run(["unshare", "--mount", "sh", "-c", mine, "sh", "true"], check=False).returncode:
        pytest.skip("mount namespaces cannot be made here")
    keeper = host.popen(["unshare", "--mount", "sh", "-c", mine, "sh", "sleep", "60"])
    time.sleep(0.5)
    host.prefix = ["nsenter", f"--mount=/proc/{keeper.pid}/ns/mnt"]
    text = "id -un; id -Gn; echo $HOME $USER; sleep 60"
    action = host.action("sh", "-c", text, user="daemon", cwd=None)
    action["log"] = {"path": str(host.home / "open" / "x.log"), "max_bytes": 1000, "keep": 2}
    result = one(host.apply(action))
    assert result["outcome"] == "failed"
    assert "Permission denied" in result["message"], "the log's folder is made with the user's rights"
    (host.home / "open").mkdir()
    os.chown(host.home, 1, 1)
    os.chown(host.home / "open", 1, 1)
    result = one(host.apply(action))
    assert result["outcome"] == "started", result
    assert (host.home / "open" / "x.log").read_text() == "daemon\ndaemon\n/usr/sbin daemon\n"
    assert (host.home / "open" / "x.log").stat().st_uid == 1
    status = Path(f"/proc/{result['pid']}/status").read_text()
    assert re.search(r"^Uid:\t1\t1\t1\t1$", status, re.M)
    assert re.search(r"^Gid:\t1\t1\t1\t1$", status, re.M)
    inner = host.action("sh", "-c", "id -un; sleep 60", user="daemon", slot=2, log={"path": None})
    assert one(host.apply(inner))["outcome"] == "started"
    rows = host.ask()["instances"]
    assert [r["owned"] for r in rows] == [True, True]
    assert next(r["log"] for r in rows if r["slot"] == 2).startswith("/var/lib/sciops.sites/")
    assert {r["outcome"] for r in host.apply(*(host.stop(r) for r in rows))["results"]} == {"stopped"}
