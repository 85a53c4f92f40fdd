# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent sees: real processes, started here, seen over the wire."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _probe

NAP = "import time; time.sleep(60)"


def count(seen: dict, component: str) -> int:
    assert seen["answered"], seen
    return sum(1 for one in seen["instances"] if one["component"] == component)


def state(pid: int) -> str:
    """The kernel's letter for the state of a process."""
    with open(f"/proc/{pid}/stat") as handle:
        return handle.read().rpartition(")")[2].split()[0]


def look(host, match: list, name: str = "p/m", **spec) -> dict:
    return host.ask(components={name: {"match": match, "user": None} | spec})


def test_host_facts_are_those_of_the_kernel(host) -> None:
    seen = host.ask()
    with open("/proc/sys/kernel/random/boot_id") as handle:
        assert seen["boot_id"] == handle.read().strip()
    assert seen["uid"] == host.uid
    assert seen["cores"] == os.cpu_count()
    assert abs(seen["uptime"] - _probe.uptime()) < 5
    assert 0 < seen["memory"]["available"] <= seen["memory"]["total"]
    assert len(seen["loadavg"]) == 3
    assert re.fullmatch(r"3\.\d+\.\d+", seen["python"])


def test_j04_strict_counting(host, wait) -> None:
    """J4: the submitter's shell and the component's script are two lines, and one instance."""
    os.makedirs(host.home / "LTA/lta/bin")
    script = host.script("LTA/lta/bin/pipe0-deleter.sh", "sleep 60\n")
    outer = host.script("pipe0-deleter", f"bash {script}\n:\n")
    host.popen(["bash", outer])
    rule = [["bash", r"pipe0-deleter\.sh"]]
    seen = wait(lambda: [r for r in look(host, rule)["instances"] if r["processes"] == 2])
    assert len(seen) == 1
    assert seen[0]["owned"] is False
    assert seen[0]["slot"] is None and seen[0]["token"] is None
    # the shell above it is not one; where a rule fits both, only the topmost counts
    both = look(host, [["bash", r"pipe0-deleter(\.sh)?"]])
    assert count(both, "p/m") == 1


def test_j04_editors_tails_and_greps_never_count(host, wait) -> None:
    """J4: 0 for vim InterfaceLTA.py, tail -f of the log and grep AutoFiles; AutoFiles2.py is not AutoFiles.py."""
    for name in ("vim", "less", "emacs"):
        host.popen(["bash", "-c", "exec -a $0 bash -c 'sleep 60; :' $1", name, str(host.home / "InterfaceLTA.py")])
    (host.home / "pipe0-bundler.run.x.log").write_text("")
    (host.home / "AutoFiles.py").write_text("")
    host.popen(["tail", "-f", "pipe0-bundler.run.x.log"])
    host.popen(["grep", "AutoFiles.py", "-"], stdin=subprocess.PIPE)
    host.popen(["/usr/bin/python3", host.script("AutoFiles2.py", NAP)])
    rules = {
        "p/check": [["python3?", r"InterfaceLTA\.py"]],
        "p/bundler": [["bash", r"pipe0-bundler\.sh"], ["python3", r"pipe0-bundler.*"]],
        "p/delmad": [["python3?", r"AutoFiles\.py"]],
    }
    ask = {name: {"match": rule, "user": None} for name, rule in rules.items()}
    wait(lambda: count(look(host, [["tail", "-f", r"pipe0-bundler\..*"]]), "p/m"))
    wait(lambda: count(look(host, [["python3", r"AutoFiles2\.py"]]), "p/m"))
    assert host.ask(components=ask)["instances"] == []
    real = host.popen(["/usr/bin/python3", host.script("AutoFiles.py", NAP)])
    rows = wait(lambda: host.ask(components=ask)["instances"])
    assert [(r["component"], r["pid"]) for r in rows] == [("p/delmad", real.pid)]


def test_a_pattern_with_a_slash_is_for_the_whole_word(host, wait) -> None:
    host.popen(["/bin/sleep", "61.5"])
    wait(lambda: count(look(host, [["sleep", r"61\.5"]]), "p/m"))
    assert count(look(host, [[r"/bin/sleep", r"61\.5"]]), "p/m") == 1
    assert count(look(host, [[r".*/bin/sleep"]]), "p/m") == 1
    assert count(look(host, [[r"bin/sleep"]]), "p/m") == 0
    assert count(look(host, [["slee"]]), "p/m") == 0
    assert count(look(host, [["sleep", "61.5", "more"]]), "p/m") == 0


def test_another_users_copy_never_counts(host, wait) -> None:
    if os.geteuid():
        pytest.skip("only root can start a process of another user")
    other = subprocess.Popen(["sleep", "62.5"], user=1, group=1, extra_groups=[], start_new_session=True)
    host.spawned.append(other)
    mine = host.popen(["sleep", "62.5"])
    rows = wait(lambda: look(host, [["sleep", r"62\.5"]])["instances"])
    assert [r["pid"] for r in rows] == [mine.pid]
    rows = look(host, [["sleep", r"62\.5"]], user="daemon")["instances"]
    assert [r["pid"] for r in rows] == [other.pid]
    seen = look(host, [["sleep", r"62\.5"]], user="no-such-user")
    assert seen["instances"] == []
    assert seen["problems"] == ["p/m: this host knows no user no-such-user"]


def test_what_a_site_started_never_counts_as_a_match(host, wait) -> None:
    """Neither on its own logical host nor on another that shares the machine, nor where the environment was cleared."""
    script = host.script("w.sh", "env -i sleep 63.5\n:\n")
    host.apply(host.action("sleep", "63.5"), host.action("bash", script, slot=2))
    rule = {"p/c": {"match": [["sleep", r"63\.5"]], "user": None}}
    rows = host.ask(components=rule)["instances"]
    assert sorted((r["slot"], r["owned"]) for r in rows) == [(1, True), (2, True)]
    host.name = "h2"
    assert host.ask(components=rule)["instances"] == []


def test_instances_are_those_of_one_site_deployment_and_host(host) -> None:
    host.apply(host.action("sleep", "60"))
    assert count(host.ask(), "p/c") == 1
    for change in ({"host": "h2"}, {"site": host.site + "x"}, {"deployment": "prod"}):
        assert host.ask(**change)["instances"] == []


def test_a_program_that_overwrites_its_environment_is_still_known(host) -> None:
    """The record is the second proof; here the kernel itself says where the environment is, and it says nowhere."""
    code = (
        "import ctypes,re,time\n"
        "f=open('/proc/self/stat').read().rpartition(')')[2].split()\n"
        "lo,hi=int(f[47]),int(f[48])\n"
        "ctypes.memset(lo, 0, hi-lo)\n"
        "print('wiped', flush=True); time.sleep(60)\n"
    )
    done = host.apply(host.action("/usr/bin/python3", host.script("wipe.py", code), settle=1))
    pid = done["results"][0]["pid"]
    with open(f"/proc/{pid}/environ", "rb") as handle:
        assert b"SCIOPS" not in handle.read()
    row = host.ask()["instances"][0]
    assert (row["pid"], row["leader"], row["owned"], row["component"], row["slot"]) == (pid, True, True, "p/c", 1)
    stopped = host.apply(host.stop(row))
    assert stopped["results"][0]["outcome"] == "stopped"
    assert _probe.look(pid) is None


def test_a_record_of_another_boot_or_start_proves_nothing(host) -> None:
    host.apply(host.action("sleep", "60"))
    row = host.ask()["instances"][0]
    path = host.folder / "instances" / f"{row['token']}.json"
    good = path.read_text()
    other = host.popen(["sleep", "60"])
    for old, new in ((f'"pid": {row["pid"]}', f'"pid": {other.pid}'), (host.ask()["boot_id"], "another-boot")):
        assert old in good
        path.write_text(good.replace(old, new))
        assert [r["pid"] for r in host.ask()["instances"]] == [row["pid"]]


def test_without_its_record_an_instance_is_still_known(host) -> None:
    host.apply(host.action("sleep", "60"))
    row = host.ask()["instances"][0]
    (host.folder / "instances" / f"{row['token']}.json").unlink()
    again = host.ask()["instances"][0]
    same = ("pid", "start", "token", "slot", "hash", "leader", "log")
    assert {k: again[k] for k in same} == {k: row[k] for k in same}


def test_a_broken_record_is_a_problem_and_not_an_instance(host) -> None:
    host.apply(host.action("sleep", "60"))
    for name, text in {"a": "", "b": "{", "c": "[]", "d": "{}", "e": '"x"'}.items():
        (host.folder / "instances" / f"{name}.json").write_text(text)
    seen = host.ask()
    assert count(seen, "p/c") == 1
    assert len(seen["problems"]) == 5
    assert all("not a readable record of a start" in text for text in seen["problems"])


def test_a_zombie_is_not_alive(host, wait) -> None:
    """The leader ends and nobody reaps it: what is left of it is no instance."""
    keeper = host.popen(["sleep", "64.5"])
    wait(lambda: count(look(host, [["sleep", r"64\.5"]]), "p/m"))
    keeper.kill()
    wait(lambda: state(keeper.pid) == "Z")
    assert count(look(host, [["sleep", r"64\.5"]]), "p/m") == 0
    assert _probe.look(keeper.pid) is None


def test_a_program_whose_first_thread_ended_lives(host, wait) -> None:
    code = "import ctypes,threading,time\nthreading.Thread(target=time.sleep,args=(60,)).start()\n"
    code += "ctypes.CDLL(None).pthread_exit(0)\n"
    done = host.apply(host.action("/usr/bin/python3", host.script("t.py", code), settle=1))
    pid = done["results"][0]["pid"]
    assert state(pid) == "Z"
    assert done["results"][0]["outcome"] == "started"
    assert [r["pid"] for r in host.ask()["instances"]] == [pid]


def test_cpu_memory_age_and_size_of_a_set(host) -> None:
    # CPU time, not the clock's: a busy machine gives less of it
    burn = "import time\nwhile time.process_time() < 0.4: pass\n"
    script = host.script("two.sh", f"python3 {host.script('burn.py', burn)}\necho done\nsleep 60 &\nsleep 60\n")
    done = host.apply(host.action("bash", script, settle=3))
    row = done["instances"][0]
    assert row["processes"] == 3
    assert 0.3 < row["cpu"] < 5, "what ended children used counts"
    assert row["rss"] > 1 << 20
    assert 1 < row["age"] < 10
    assert row["log_size"] == len("done\n")


def test_the_age_does_not_follow_the_clock(host) -> None:
    """The age is uptime less start, so a clock that jumps, here for a whole process, changes nothing."""
    p = host.popen(["sleep", "65.5"])
    time.sleep(0.3)
    row = look(host, [["sleep", r"65\.5"]])["instances"][0]
    with open(f"/proc/{p.pid}/stat") as handle:
        start = int(handle.read().rpartition(")")[2].split()[19])
    assert row["start"] == start
    assert abs(row["age"] - (_probe.uptime() - start / _probe.TICK)) < 2


@pytest.mark.parametrize(
    ("text", "value"), [("[", "unterminated"), ("(?P<", "missing group name"), ("*", "nothing to")]
)
def test_a_bad_pattern_is_no_zero(host, text: str, value: str) -> None:
    seen = look(host, [[text]])
    assert seen["answered"] is False
    assert seen["kind"] == "refused"
    assert "p/m: match" in seen["reason"]
    assert value in seen["reason"]


def test_health_in_words(host, wait) -> None:
    """Log age, port and command, each judged on its own; what is healthy says nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = host.apply(*(host.action("sh", "-c", "echo x; sleep 60", component=f"p/c{i}") for i in range(8)))
        logs = {r["component"]: r["log"] for r in done["instances"]}
        time.sleep(1.2)
        os.utime(logs["p/c0"], (time.time() - 500, time.time() - 500))
        spec = {
            "p/c0": {"log_age": 1},
            "p/c1": {"log_age": 100},
            "p/c2": {"port": closed},
            "p/c3": {"port": port},
            "p/c4": {"command": ["sh", "-c", "echo not well; exit 3"], "timeout": 5},
            "p/c5": {"command": ["sh", "-c", "test -d /proc/$SITES_PID && test $SITES_SLOT = 1"], "timeout": 5},
            "p/c6": {"command": ["sh", "-c", "sleep 77.5; :"], "timeout": 0.5},
            "p/c7": {"command": ["no-such-program"]},
        }
        seen = host.ask(components={name: {"match": [], "user": None, "health": one} for name, one in spec.items()})
    said = {r["component"]: r["health"] for r in seen["instances"]}
    assert re.fullmatch(r"log written \d+ s ago, limit 1 s", said.pop("p/c0"))
    assert "No such file" in said.pop("p/c7")
    assert said == {
        "p/c1": "",
        "p/c2": f"port {closed}: Connection refused",
        "p/c3": "",
        "p/c4": "health command: status 3: not well",
        "p/c5": "",
        "p/c6": "health command: no end within its time limit",
    }
    # the group of what hung is gone, the child of the shell too
    assert count(look(host, [["sleep", r"77\.5"]]), "p/m") == 0


def test_health_commands_run_side_by_side_within_the_time_of_the_request(host) -> None:
    host.apply(*(host.action("sleep", "60", component=f"p/c{i}", settle=0.1) for i in range(6)))
    spec = {f"p/c{i}": {"health": {"command": ["sleep", "30"], "timeout": 20}} for i in range(6)}
    began = time.monotonic()
    seen = host.ask(components=spec, timeout=3)
    assert time.monotonic() - began < 4.5
    assert len(seen["instances"]) == 6
    assert all(r["health"] for r in seen["instances"])
    assert count(look(host, [["sleep", "30"]]), "p/m") == 0


def test_a_look_that_takes_too_long_is_no_empty_host(host) -> None:
    """A pattern that never ends: the answer is "timeout", and not a host without instances."""
    host.popen(["bash", "-c", "sleep 66.5; :", "a" * 60])
    rule = {"p/m": {"match": [["bash", "-c", ".*", "(a|aa|aaa)*b"]], "user": None}}
    seen = host.ask(components=rule, timeout=1)
    assert seen["answered"] is False
    assert seen["kind"] == "timeout"
    assert "instances" not in seen


def test_a_status_read_leaves_nothing_behind(host) -> None:
    seen = host.ask(fence=None)
    assert seen["fence"] is None and seen["superseded"] is False
    assert not host.folder.exists()


@pytest.mark.parametrize("python", ["3.6", "3.7", "3.8", "3.9", "3.12", "3.13"])
def test_the_probe_runs_on_other_pythons(host, python: str) -> None:
    """Real interpreters where this machine has them."""
    found = subprocess.run(
        ["sh", "-c", f"ls -d ~/.pyenv/versions/{python}.*/bin/python{python} /usr/bin/python{python} 2>/dev/null"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not found:
        pytest.skip(f"no Python {python} on this machine")
    host.uid = os.geteuid()
    seen = host.ask(interpreter=found[0], fence=None)
    assert seen["answered"], seen
    assert seen["python"].startswith(python + ".")


def test_a_vanishing_process_is_skipped_and_not_a_problem(host) -> None:
    storm = "import os\nwhile True:\n p=os.fork()\n if not p: os._exit(0)\n os.waitpid(p,0)\n"
    host.popen(["/usr/bin/python3", "-c", storm])
    for _try in range(5):
        seen = host.ask()
        assert seen["answered"] and seen["problems"] == []


def test_an_instance_is_never_missed_while_it_execs(host) -> None:
    """A program that replaces itself without end has an empty environment at moments; it is there all the same."""
    loop = host.script("loop.sh", '#!/bin/sh\nexec "$0"\n')
    submit = host.script("submit.sh", f"#!/bin/sh\n{loop} &\n")
    done = host.apply(host.action(submit, settle=0.5))
    assert done["results"][0]["outcome"] == "started"
    for _try in range(15):
        seen = host.ask()
        assert count(seen, "p/c") == 1
        assert seen["instances"][0]["leader"] is False
