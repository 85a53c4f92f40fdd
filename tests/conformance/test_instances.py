# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting, stopping and seeing instances: the same for every launcher, on the real thing."""

from __future__ import annotations

import json
import shlex
import time

from conformance.launchers import Host, unique

ODD = [
    "a b",
    "",
    "'",
    '"',
    "50%",
    "%s %(here)s %i",
    "$HOME ${HOME} $$",
    "`id`",
    "é ü 雪",
    "back\\slash",
    "; # &|<>*?",
    "-x",
]


def test_start(host: Host) -> None:
    """A start runs the program once, with its marker, and tells its pid."""
    what = unique()
    row = host.start("/bin/sleep", what)
    assert (row["slot"], row["hash"], row["owned"], row["health"]) == (1, "0123456789ab", True, "")
    assert row.get("launcher", "process") == host.kind.launcher
    assert len(host.pids(f"sleep {what}")) == 1
    if row["processes"]:
        assert row["pid"] in [one.pid for one in host.fleet.ps(host.name)]
    marks = host.root(f"cat /proc/{host.pids(f'sleep {what}')[0]}/environ | tr '\\0' '\\n' | grep ^SCIOPS_SITES=")
    assert marks.split("=", 1)[1].split(" ")[:6] == [host.site, "bed", host.name, "p/c", "1", "0123456789ab"]


def test_start_again(host: Host) -> None:
    """A second start of a slot that runs is already done, and nothing is doubled."""
    what = unique()
    host.start("/bin/sleep", what)
    (again,) = host.apply(host.action("/bin/sleep", what))
    assert again["outcome"] == "already", str(again)
    assert len(host.pids(f"sleep {what}")) == 1


def test_two_requests_at_once(host: Host) -> None:
    """Two requests at once for the same slot start one instance."""
    what = unique()
    boot = host.ask()["boot_id"]
    children = [
        host.begin("apply", actions=[host.action("/bin/sleep", what)], expect={"boot_id": boot}) for _two in range(2)
    ]
    for _request, child in children:
        child.communicate(timeout=60)
    assert len(host.rows()) == 1
    host.until(lambda: host.pids(f"sleep {what}"))
    assert len(host.pids(f"sleep {what}")) == 1


def test_stop(host: Host) -> None:
    """A stop ends it, and nothing of it is left with the manager."""
    what = unique()
    row = host.start("/bin/sleep", what)
    (result,) = host.stop(row)
    assert result["outcome"] == "stopped", str(result)
    assert host.rows() == [] and host.pids(what) == []
    assert host.root(f"cd {shlex.quote(host.state)} && find instances managed -name '*.json' 2>/dev/null || true") == ""
    assert host.seen["problems"] == []


def test_stop_what_is_gone(host: Host) -> None:
    """A stop of what is not there any more says so."""
    row = host.start("/bin/sleep", unique())
    host.stop(row)
    (again,) = host.stop(row)
    assert again["outcome"] == "gone", str(again)


def test_stop_and_start_again(host: Host) -> None:
    """A slot that was stopped can be started again."""
    what = unique()
    row = host.start("/bin/sleep", what)
    host.stop(row)
    new = host.start("/bin/sleep", what)
    assert new["token"] != row["token"]
    assert len(host.pids(f"sleep {what}")) == 1


def test_two_four_three(host: Host) -> None:
    """2 to 4 to 3 instances: those that stay keep their pids."""
    what = unique()
    host.apply(*[host.action("/bin/sleep", what, slot=n) for n in (1, 2)])
    two = {row["slot"]: row["pid"] for row in host.rows()}
    results = host.apply(*[host.action("/bin/sleep", what, slot=n) for n in (3, 4)])
    assert [one["outcome"] for one in results] == ["started", "started"], str(results)
    four = {row["slot"]: row["pid"] for row in host.rows()}
    assert set(four) == {1, 2, 3, 4} and two.items() <= four.items()
    pids = set(host.pids(f"sleep {what}"))
    host.stop(next(row for row in host.rows() if row["slot"] == 4))
    three = {row["slot"]: row["pid"] for row in host.rows()}
    assert set(three) == {1, 2, 3} and three.items() <= four.items()
    assert set(host.pids(f"sleep {what}")) < pids and len(host.pids(f"sleep {what}")) == 3


def test_fails_at_once(host: Host) -> None:
    """A program that fails at once is a failed start with the end of its log, and nothing stays behind."""
    path = host.file("fails", "#!/bin/sh\necho some words of its own\nexit 3\n")
    (result,) = host.apply(host.action(path, settle=host.kind.sure))
    assert result["outcome"] == "failed", str(result)
    assert "some words of its own" in result["log_tail"]
    assert host.rows() == [] and host.seen["problems"] == []
    time.sleep(2)
    assert host.pids(path) == [] and host.rows() == []


def test_ends_at_once(host: Host) -> None:
    """A program that ends at once with status 0 is no instance either."""
    (result,) = host.apply(host.action("/bin/true", settle=host.kind.sure))
    assert result["outcome"] == "failed", str(result)
    assert host.rows() == []


def test_no_such_program(host: Host) -> None:
    """A program that is not there is a failed start that names it."""
    (result,) = host.apply(host.action("/no/such/program", settle=host.kind.sure))
    assert result["outcome"] == "failed", str(result)
    assert "/no/such/program" in json.dumps(result)
    assert host.rows() == []


def test_failure_ends_the_batch(host: Host) -> None:
    """A failed start ends those of its component that were to follow, and nothing else."""
    what = unique()
    bad = [host.action("/bin/false", slot=n, settle=host.kind.sure) for n in (1, 2, 3)]
    good = host.action("/bin/sleep", what, component="p/good")
    results = host.apply(*bad, good)
    assert [one["outcome"] for one in results] == ["failed", "refused", "refused", "started"], str(results)
    assert [row["component"] for row in host.ask()["instances"]] == ["p/good"]


def test_start_that_hangs(host: Host) -> None:
    """A start that hangs ends with its request's time, and is not lost sight of."""
    host.sh("rm -f hangs; mkfifo hangs")
    began = time.monotonic()
    action = host.action("/bin/sleep", unique(), secrets={"KEY": {"file": f"{host.home}/hangs"}})
    boot = host.ask()["boot_id"]
    told = host.ask("apply", actions=[action], expect={"boot_id": boot}, timeout=4)
    assert time.monotonic() - began < 15
    assert told["results"][0]["outcome"] in ("refused", "failed", "unknown"), told
    assert host.rows() == []


def test_children(host: Host) -> None:
    """Children belong to the instance: they are counted with it and end with it."""
    what = unique()
    path = host.file(
        "forks", f"#!/bin/sh\nsleep {what} &\n(sleep {what} &)\nsetsid sleep {what} &\nwait\nsleep {what}\n"
    )
    row = host.start(path)
    host.until(lambda: len(host.pids(f"sleep {what}")) == 3)
    if row["processes"]:
        assert host.rows()[0]["processes"] == 4 + host.kind.keeper
    (result,) = host.stop(row)
    assert result["outcome"] == "stopped", str(result)
    host.until(lambda: host.pids(what) == [], 5)


def test_ignores_term(host: Host) -> None:
    """What ignores TERM is killed after its grace."""
    what = unique()
    path = host.file("stubborn", f"#!/bin/sh\ntrap '' TERM\nwhile :; do sleep {what} & wait; done\n")
    row = host.start(path)
    began = time.monotonic()
    (result,) = host.stop(row, grace=1)
    assert result["outcome"] == "stopped", str(result)
    assert 0.9 < time.monotonic() - began < 20
    assert host.rows() == [] and host.pids(what) == []


def test_gentle_end(host: Host) -> None:
    """A program that tidies up at TERM is given the time for it, and told once."""
    path = host.file(
        "tidy",
        "#!/bin/sh\nexec 2>&1\ntrap 'echo term; sleep 0.7; echo tidied; exit 0' TERM\nwhile :; do sleep 0.1; done\n",
    )
    row = host.start(path)
    (result,) = host.stop(row)
    assert result["outcome"] == "stopped", str(result)
    lines = host.log(row).splitlines()
    assert [line for line in lines if line in ("term", "tidied")] == ["term", "tidied"]


def test_killed(host: Host) -> None:
    """An instance that is killed comes back where its manager restarts, and is gone where nobody does; never two."""
    what = unique()
    row = host.start("/bin/sleep", what)
    host.root(f"kill -9 {host.pids(f'sleep {what}')[0]}")
    if host.kind.restarts:
        host.until(lambda: len(host.pids(f"sleep {what}")) == 1)
        (again,) = host.rows()
        assert again["token"] == row["token"] and (again["pid"] != row["pid"] or not row["processes"])
    else:
        host.until(lambda: host.rows() == [])
        assert host.start("/bin/sleep", what)
    assert len(host.pids(f"sleep {what}")) == 1


def test_others_stop(host: Host) -> None:
    """A stop of one instance touches no other, not even with the same command."""
    what = unique()
    host.apply(host.action("/bin/sleep", what), host.action("/bin/sleep", what, component="p/other"))
    before = host.rows("p/other")
    host.stop(*host.rows())
    assert [row["pid"] for row in host.rows("p/other")] == [row["pid"] for row in before]
    assert host.rows() == []


def test_arguments(host: Host) -> None:
    """Spaces, quotes, %, $, backslashes and unicode in arguments reach the program as they are."""
    path = host.file(
        "args", "#!/usr/bin/python3\nimport sys, time\nprint(ascii(sys.argv[1:]), flush=True)\ntime.sleep(60)\n"
    )
    row = host.start(path, *ODD)
    assert host.log(row) == ascii(ODD)


def test_environment(host: Host) -> None:
    """The same in the environment; and nothing is in it that was not declared, but what every login has."""
    path = host.file(
        "env",
        "#!/usr/bin/python3\nimport os, time\nprint(ascii(sorted(os.environ.items())), flush=True)\ntime.sleep(60)\n",
    )
    odd = {f"V{n}": value for n, value in enumerate([*ODD, "two\nlines"])}
    row = host.start(path, environment=odd)
    got = dict(eval(host.log(row)))
    assert {name: got.get(name) for name in odd} == odd
    more = {name for name in got if not name.startswith(("SLURM", "_CONDOR", "APPTAINER", "SINGULARITY"))} - set(odd)
    assert more <= {
        "SCIOPS_SITES",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "PATH",
        "LC_CTYPE",
        "PWD",
        "SHLVL",
        "_",
    } | {"LD_LIBRARY_PATH", "PS1", "PROMPT_COMMAND"}, more


def test_secrets(host: Host) -> None:
    """A secret reaches the program and nobody else: no argument, no readable file, no word of the manager."""
    value = f"s3cret {unique()} %$'\"x"
    path = host.file("holds", '#!/bin/sh\necho "got=$KEY"\nexec sleep 60\n')
    row = host.start(path, secrets={"KEY": {"value": value}})
    assert host.log(row) == f"got={value}"
    assert value not in host.root("cat /proc/*/cmdline | tr '\\0' ' '")
    part = value.split()[1]
    found = host.root(
        f"grep -rlF -D skip --exclude-dir=proc -- {part} /etc /run /var/lib /home /root /tmp 2>/dev/null || true"
    ).split()
    for name in found:
        assert host.root(f"stat -c %a {shlex.quote(name)}") in ("600", "640", "400"), name
        assert not name.startswith("/etc"), name
    assert part not in json.dumps([host.seen, host.last])


def test_secret_in_log(host: Host) -> None:
    """A failed start shows the end of its log without the secret."""
    value = f"s3cret-{unique()}"
    path = host.file("tells", '#!/bin/sh\necho "my key is $KEY"\nexit 1\n')
    (result,) = host.apply(host.action(path, secrets={"KEY": {"value": value}}, settle=host.kind.sure))
    assert result["outcome"] == "failed", str(result)
    assert "my key is ****" in result["log_tail"] and value not in json.dumps(result)


def test_folder_and_log(host: Host) -> None:
    """It runs in its folder and appends to its log, with the modes of a file of its user."""
    host.sh("mkdir -p work; rm -rf logs")
    path = host.file("where", "#!/bin/sh\npwd\necho error >&2\numask\nexec sleep 60\n")
    row = host.start(
        path, cwd=f"{host.home}/work", log={"path": f"{host.home}/logs/c.log", "max_bytes": 1000, "keep": 1}
    )
    assert row["log"] == f"{host.home}/logs/c.log"
    assert host.log(row).split() == [f"{host.home}/work", "error", "0022"]
    assert host.root(f"stat -c '%U %a' {row['log']}") == f"{host.user} 640"


def test_log_rotates(host: Host) -> None:
    """Its log is rotated while it is written to, and no line is torn."""
    path = host.file("writes", "#!/bin/sh\ni=0\nwhile :; do i=$((i+1)); echo line $i; sleep 0.02; done\n")
    row = host.start(path)
    rotate = {"kind": "rotate", "component": "p/c", "token": row["token"], "log": row["log"], "keep": 2, "reason": ""}
    if host.kind.launcher != "process":
        rotate["launcher"] = host.kind.launcher
    (result,) = host.apply(rotate)
    assert result["outcome"] == "rotated", str(result)
    time.sleep(0.5)
    host.stop(host.rows()[0])
    lines = host.root(f"cat {row['log']}.1 {row['log']}").splitlines()
    lines = [line for line in lines if "error: ***" not in line]
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == sorted(numbers) and all(line == f"line {n}" for line, n in zip(lines, numbers, strict=True))


def test_a_lot_of_output(host: Host) -> None:
    """1 GB to the log: the instance lives, the host answers, and the log can be cut."""
    path = host.file("loud", "#!/bin/sh\nhead -c 1G /dev/zero\necho\necho done\nexec sleep 60\n")
    action = host.action(path, log={"path": f"{host.home}/loud.log", "max_bytes": 1 << 40, "keep": 0})
    (result,) = host.apply(action)
    assert result["outcome"] == "started", str(result)
    host.until(lambda: (host.rows()[0]["log_size"] or 0) > 1 << 30, 60)
    row = host.rows()[0]
    rotate = {"kind": "rotate", "component": "p/c", "token": row["token"], "log": row["log"], "keep": 0, "reason": ""}
    (result,) = host.apply(rotate | ({} if host.kind.launcher == "process" else {"launcher": host.kind.launcher}))
    assert result["outcome"] == "rotated", str(result)
    assert host.rows()[0]["log_size"] < 1 << 20
    host.sh("rm loud.log")


def test_full_disk(host: Host) -> None:
    """On a full disk a start is refused in words and leaves nothing; what runs can still be stopped."""
    what = unique()
    row = host.start("/bin/sleep", what)
    folder = shlex.quote(host.state)
    host.root(
        f"mkdir -p /mnt/small && mount -t tmpfs -o size=2m,mode=700 small /mnt/small && "
        f"cp -a {folder}/. /mnt/small/ && "
        f"chown --reference={folder} /mnt/small && mount --bind /mnt/small {folder} && "
        f"(cat /dev/zero > {folder}/fill 2>/dev/null || true)"
    )
    try:
        (result,) = host.apply(host.action("/bin/sleep", what, slot=2))
        assert result["outcome"] in ("refused", "failed"), str(result)
        assert "space" in result["message"].lower(), str(result)
        assert len(host.pids(f"sleep {what}")) == 1
        (result,) = host.stop(row)
        assert result["outcome"] == "stopped", str(result)
        assert host.pids(what) == []
    finally:
        host.root(f"umount {folder} && umount /mnt/small")
        host.clean()
        host.root(f"rm -rf {folder}/instances/*.json")
