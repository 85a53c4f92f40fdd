# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules condor_job and condor_job_info and their client on real pools, by bindings and by commands."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from bed.condor import condor_pool
from bed.fleet import Fleet, until

pytestmark = pytest.mark.hosts

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {"23.9": "slurm24", "25.14": "cluster"}
WAYS = ("bindings", "commands")
#: what must arrive as it is; a carriage return is what no ad can hold
WORDS = [
    "a b",
    '"',
    "it's",
    "two\nlines\n",
    "é😀",
    "back\\",
    "\\n\\",
    "",
    "$(HOME) $$(X) $ $$",
    "%n",
    "\t",
    "a,b",
    " x ",
]
TELL = "import json,os,sys; json.dump([sys.argv[2:], dict(os.environ)], open(sys.argv[1], 'w'))"


class Pool:
    """The one host of a pool, and a user of it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def ssh(self, text: str, user: str = "deploy", check: bool = True) -> str:
        return self.fleet.ssh("h1", text, user=user, check=check)

    def queue(self, attributes: str = "ProcId", constraint: str = "true") -> list[str]:
        return self.ssh(f"condor_q -allusers -constraint '{constraint}' -af {attributes}").splitlines()

    def python(self, script: str, *args: str) -> str:
        """Run a script with the collection's module_utils on the host, as a module would import them."""
        words = " ".join(["PYTHONPATH=/tmp/ours python3", "-", *args])
        argv = ["ssh", "-F", self.fleet.ssh_config, "-o", "BatchMode=yes", "deploy@h1", words]
        done = subprocess.run(argv, input=script, text=True, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ship(self) -> None:
        data, folder = io.BytesIO(), "ours/ansible_collections/sciops/sites/plugins/module_utils"
        with tarfile.open(fileobj=data, mode="w") as tar:
            for path in sorted((ROOT / "plugins" / "module_utils").glob("_c*.py")):
                tar.add(path, f"{folder}/{path.name}")
        argv = ["ssh", "-F", self.fleet.ssh_config, "-o", "BatchMode=yes", "root@h1", "tar -C /tmp -xf -"]
        subprocess.run(argv, input=data.getvalue(), check=True, timeout=60)


#: DAGMan looks and submits at once. A schedd that is named by a host alone is looked for in the domain name system
QUICK = """
SCHEDD_NAME = jobs@$(FULL_HOSTNAME)
DAGMAN_USER_LOG_SCAN_INTERVAL = 1
DAGMAN_SUBMIT_DELAY = 0
"""
POOLS: dict[str, Pool] = {}


@pytest.fixture(scope="module", autouse=True)
def pools(bed: Path) -> Iterator[None]:
    yield
    for pool in POOLS.values():
        pool.fleet.down()
    POOLS.clear()


def versions(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pool", names or tuple(RECIPES), indirect=True)


@pytest.fixture
def pool(request: pytest.FixtureRequest, bed: Path) -> Pool:
    """The host of a version, made once, with an empty queue."""
    version = request.param
    if version not in POOLS:
        POOLS[version] = Pool(Fleet(1, "systemd", RECIPES[version]))
        assert condor_pool(POOLS[version].fleet, config=QUICK).startswith(version)
        POOLS[version].ship()
    POOLS[version].ssh("condor_rm -all; condor_rm -all -forcex", user="root", check=False)
    return POOLS[version]


class Results(list[dict]):
    """The result of each task, and all that was printed (a diff is only there)."""

    said = ""


def play(pool: Pool, tmp_path: Path, *tasks: dict, options: tuple[str, ...] = (), user: str = "deploy") -> Results:
    """Run tasks as a playbook would; the result of each."""
    head = {"hosts": "h1", "gather_facts": False, "vars": {"ansible_user": user}}
    listed = [{"name": "T", "ignore_errors": True, **one} for one in tasks]
    (tmp_path / "play.yml").write_text(json.dumps([head | {"tasks": listed}]))
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", pool.fleet.inventory, *options, "-v"]
    env = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    argv.append(str(tmp_path / "play.yml"))
    done = subprocess.run(argv, env=env, capture_output=True, text=True, cwd=ROOT, timeout=150, check=False)
    found = Results(
        json.JSONDecoder().raw_decode(done.stdout, match.end())[0] | {"failed": match.group(1) == "fatal"}
        for match in re.finditer(r"^(ok|changed|fatal): \[h1\](?:: FAILED!)? => ", done.stdout, re.M)
    )
    found.said = done.stdout + done.stderr
    assert len(found) == len(tasks), done.stdout + done.stderr
    return found


def job(**options: Any) -> dict:
    return {"sciops.sites.condor_job": {"key": "k"} | options}


SLEEP = {"executable": "/bin/sleep", "arguments": ["600"], "hold": True}


@versions()
def test_both_ways_do_and_tell_the_same(pool: Pool) -> None:
    script = Path(__file__).with_name("condor_same.py").read_text()
    assert pool.python(script, shlex.quote(json.dumps(WORDS))).endswith("same\n")


@versions("25.14")
def test_a_schedd_that_stops_is_unknown_within_the_timeout(pool: Pool) -> None:
    script = r"""
from ansible_collections.sciops.sites.plugins.module_utils import _condor
import time
for way in ("bindings", "commands"):
    client = _condor.connect(way, timeout=1)
    for ask in (client.query, lambda: client.submit({"executable": "/bin/true"}), lambda: client.act("hold", "true")):
        begun = time.monotonic()
        try:
            print("ANSWER", ask())
        except _condor.Silent as error:
            print("silent" if time.monotonic() - begun < 20 else "late")
    client.close()
"""
    pid = pool.ssh("pgrep -x condor_schedd", user="root")
    pool.ssh(f"kill -STOP {pid}", user="root")
    try:
        assert pool.python(script).split() == ["silent"] * 6
    finally:
        pool.ssh(f"kill -CONT {pid}", user="root")
    until(lambda: pool.ssh("condor_q -totals", check=False))


@versions()
def test_words_arrive_in_a_running_job_as_they_are(pool: Pool, tmp_path: Path) -> None:
    tasks = []
    for way in WAYS:
        environment = {f"W{i}": word for i, word in enumerate(WORDS)}
        items = [
            {"key": f"{i}", "arguments": ["-c", TELL, f"/tmp/{way}-{i}", word], "environment": {"ONE": word}}
            for i, word in enumerate(WORDS)
        ]
        description = {
            "executable": "/usr/bin/python3",
            "transfer_executable": False,
            "should_transfer_files": "NO",
            "environment": environment,
        }
        tasks.append(job(key=f"words-{way}", way=way, description=description, items=items))
    pool.ssh("rm -f /tmp/bindings-* /tmp/commands-*", user="root")
    for done in play(pool, tmp_path, *tasks):
        assert done["changed"] and done["submitted"] == len(WORDS), done
    until(lambda: not pool.queue(constraint="JobStatus =!= 5") or pool.queue(constraint="JobStatus == 5"))
    assert pool.queue("HoldReason") == []
    for way in WAYS:
        found = pool.ssh(f"for i in $(seq 0 {len(WORDS) - 1}); do cat /tmp/{way}-$i; echo; done").split("\n")
        for i, word in enumerate(WORDS):
            argv, environment = json.loads(found[i])
            assert argv == [word], (way, i)
            assert environment["ONE"] == word and {f"W{n}": environment[f"W{n}"] for n in range(len(WORDS))} == {
                f"W{n}": other for n, other in enumerate(WORDS)
            }


@versions("25.14")
def test_jobs_are_submitted_once(pool: Pool, tmp_path: Path) -> None:
    before = pool.queue()
    many = {"description": SLEEP, "items": [{"key": "a"}, {"key": "b"}]}
    checked = play(pool, tmp_path, *(job(way=way, **many) for way in WAYS), options=("--check", "--diff"))
    for one in checked:
        assert one["changed"] and one["submitted"] == 2 and one["cluster"] is None, one
        assert one["ad"]["SciopsKey"] == "k" and one["ad"]["SciopsItem"] == "a" and one["ad"]["Arguments"] == "600"
    assert checked.said.count("+executable = /bin/sleep\n") == checked.said.count("+jobs: 2\n") == 2
    assert pool.queue() == before == []
    first, again, grown, fewer = results = play(
        pool,
        tmp_path,
        job(way="bindings", **many),
        job(way="commands", **many),
        job(way="commands", description=SLEEP, items=[{"key": "c"}, {"key": "a"}, {"key": "d"}]),
        job(way="bindings", description=SLEEP | {"priority": 5}, items=[{"key": "c"}], prune=True),
    )
    assert first["submitted"] == 2 and first["changed"] and not again["changed"] and again["submitted"] == 0, again
    assert grown["submitted"] == 2 and len(grown["held"]) == 4 and not grown["differs"], grown
    assert fewer["submitted"] == 0 and fewer["changed"] and fewer["differs"], fewer
    assert [(row["state"], row["count"]) for row in fewer["acted"]] == [("held", 3)]
    assert results.said.count("submitted with another description") == 1
    assert pool.queue("SciopsItem") == ["c"]
    # what ended is in the history, and was submitted all the same; another user's key is not taken
    ended, other = (
        play(pool, tmp_path, job(way="commands", description=SLEEP, items=[{"key": name} for name in "abcd"])),
        play(pool, tmp_path, job(description=SLEEP), user="jadelta"),
    )
    assert not ended[0]["changed"] and ended[0]["states"]["removed"] == 3, ended
    assert other[0]["failed"] and "jobs of deploy have it" in other[0]["msg"], other
    assert pool.queue("SciopsItem") == ["c"]


LOST = """#!/bin/sh
# the schedd takes the jobs, and the answer gets lost
/usr/bin/condor_submit "$@" >/dev/null 2>&1
touch /tmp/lost
%s
"""


@versions("23.9")
@pytest.mark.parametrize("fault", ["echo 'ERROR: Failed to connect to queue manager' >&2; exit 1", "exec sleep 60"])
def test_a_lost_answer_submits_nothing_twice(pool: Pool, tmp_path: Path, fault: str) -> None:
    pool.ssh("rm -f /tmp/lost", user="root")
    pool.fleet.run("h1", "sh", "-c", 'printf %s "$1" > /usr/local/bin/condor_submit', "sh", LOST % fault)
    pool.ssh("chmod 755 /usr/local/bin/condor_submit", user="root")
    task = job(
        key=f"lost-{fault.partition(' ')[0]}",
        way="commands",
        timeout=4,
        description=SLEEP,
        items=[{"v": n} for n in range(3)],
    )
    try:
        lost, again = play(pool, tmp_path, task, task)
    finally:
        pool.ssh("rm /usr/local/bin/condor_submit", user="root")
    assert pool.ssh("ls /tmp/lost") and lost["changed"] and lost["submitted"] == 3, lost
    assert not again["changed"] and pool.queue("SciopsItem") == ["0", "1", "2"], again


@versions("25.14")
def test_held_jobs_are_retried_and_given_up(pool: Pool, tmp_path: Path) -> None:
    # a job that ends is held, and each attempt is a real run
    description = {
        "executable": "/bin/true",
        "request_memory": 100,
        "on_exit_hold": "true",
        "on_exit_hold_reason": '"memory usage exceeded request_memory"',
    }
    rules = [{"codes": [3], "reason": "^memory usage", "memory_factor": 2, "memory_limit": 300, "attempts": 3}]
    task = job(key="retried", way="bindings", description=description, count=2, retry=rules)
    other = job(key="retried", way="commands", description=description, count=2, retry=rules)

    def all_held() -> bool:
        return pool.queue("JobStatus") == ["5", "5"]

    assert play(pool, tmp_path, task)[0]["submitted"] == 2
    until(all_held)
    seen = []
    for number, one in enumerate([task, other, task]):
        if number == 0:
            check = play(pool, tmp_path, one, options=("--check", "--diff"))
            assert check[0]["changed"] and len(check[0]["retried"]) == 2 and ", RequestMemory 200\n" in check.said
            assert pool.queue("SciopsRetry") == ["undefined"] * 2 and all_held()
        done = play(pool, tmp_path, one)[0]
        seen.append([(row["attempt"], row["memory"]) for row in done["retried"]])
        until(lambda number=number: all_held() and pool.queue("NumHolds") == [str(number + 2)] * 2)
        if number == 1:
            # the limit is reached: what had as much and was held again is given up
            break
    assert seen == [[(1, 200)] * 2, [(2, 300)] * 2], seen
    over = play(pool, tmp_path, other, job(key="retried", description=description, count=2))
    assert not over[0]["changed"] and over[0]["retried"] == [] and len(over[0]["given_up"]) == 2, over
    assert "limit is 300 MB" in over[0]["given_up"][0]["why"] and pool.queue("RequestMemory") == ["300", "300"]
    # by number of attempts, without memory; no rule, no retry
    plain = [{"reason": "nothing like it", "attempts": 9}, {"reason": "exceeded", "attempts": 2}]
    last = play(pool, tmp_path, job(key="retried", description=description, count=2, retry=plain))[0]
    assert not last["changed"] and [row["why"] for row in last["given_up"]] == ["2 attempts were made"] * 2, last


@versions("23.9")
def test_orphans_are_named_then_swept(pool: Pool, tmp_path: Path) -> None:
    pool.ssh("printf 'executable=/bin/sleep\\nhold=true\\nqueue 2\\n' | condor_submit -terse -")
    made = [job(key=key, description=SLEEP, count=2) for key in ("n/1", "n/2", "m/1")]
    sweep = {"state": "swept", "keys": ["n/2"], "prefix": "n/"}
    play(pool, tmp_path, *made)
    check = play(
        pool, tmp_path, *({"sciops.sites.condor_job": sweep | {"way": w}} for w in WAYS), options=("--check", "--diff")
    )
    for one in check:
        assert one["changed"] and [(row["key"], row["count"]) for row in one["acted"]] == [("n/1", 2)], one
    assert check.said.count(" (n/1): removed\n") == 2
    assert len(pool.queue(constraint="JobStatus == 5")) == 8
    done, again = play(pool, tmp_path, *({"sciops.sites.condor_job": sweep | {"way": w}} for w in WAYS))
    assert done["changed"] and not again["changed"], again
    assert sorted(pool.queue("SciopsKey")) == ["m/1"] * 2 + ["n/2"] * 2 + ["undefined"] * 2
    bare = play(pool, tmp_path, {"sciops.sites.condor_job": {"state": "swept", "keys": []}})[0]
    assert bare["failed"] and "keys: is empty" in bare["msg"] and len(pool.queue()) == 6


@versions("25.14")
def test_what_cannot_be_done_is_told_for_each_job(pool: Pool, tmp_path: Path) -> None:
    play(pool, tmp_path, job(key="x/mine", description=SLEEP))
    play(pool, tmp_path, job(key="x/yours", description=SLEEP, count=2), user="jadelta")
    which = {"key": None, "constraint": "SciopsKey =!= undefined", "owner": "*"}
    for way in WAYS:
        released, mine = play(
            pool,
            tmp_path,
            job(state="released", way=way, **which),
            job(state="held", way=way, key="x/mine"),
        )
        assert released["failed"] and "2 of" in released["msg"], released
        assert sorted((row["key"], row["state"]) for row in released["not_done"]) == [("x/yours", "held")] * 2, released
        assert [row["key"] for row in released["acted"]] == ["x/mine"], released
        assert mine["changed"] and mine["states"]["held"] == 1, mine


DAG = "JOB a a.sub\nJOB b a.sub\nPARENT a CHILD b\n"


@versions()
def test_a_dag_is_one_job_with_the_key(pool: Pool, tmp_path: Path) -> None:
    pool.ssh(
        "mkdir -p bindings commands; printf 'executable=/bin/true\\nqueue\\n' | tee bindings/a.sub > commands/a.sub"
    )
    pool.ssh(f"printf '{DAG}' | tee bindings/x.dag > commands/x.dag")
    tasks = [job(key=f"dag-{way}", way=way, dag=f"~/{way}/x.dag") for way in WAYS]
    for check in play(pool, tmp_path, *tasks, options=("--check",)):
        assert check["changed"] and check["submitted"] == 1
    assert pool.queue() == [] and pool.ssh("ls bindings commands | grep -c dag") == "2"
    for done, again in zip(
        *[iter(play(pool, tmp_path, *(one for task in tasks for one in (task, task))))] * 2, strict=True
    ):
        assert done["submitted"] == 1 and done["cluster"] and not again["changed"] and again["submitted"] == 0, again
    until(lambda: not pool.queue(), 120)
    assert pool.ssh("cat */x.dag.dagman.out").count("EXITING WITH STATUS 0") == 2
    past = pool.ssh("condor_history -constraint 'SciopsKey =!= undefined && Cmd =!= \"/bin/sleep\"' -af SciopsKey")
    assert {"dag-bindings", "dag-commands"} <= set(past.split())
    assert [one["changed"] for one in play(pool, tmp_path, *tasks)] == [False, False]


@versions("25.14")
def test_2000_jobs_are_one_call_each(pool: Pool, tmp_path: Path) -> None:
    count = 2000
    for way in WAYS:
        items = [{"arguments": [str(n)], "attributes": {"N": n}} for n in range(count)]
        submitted, info, removed, gone = play(
            pool,
            tmp_path,
            job(key=f"many-{way}", way=way, description={"executable": "/bin/sleep", "hold": True}, items=items),
            {"sciops.sites.condor_job_info": {"key": f"many-{way}", "way": way, "projection": ["ProcId", "N"]}},
            job(key=f"many-{way}", way=way, state="removed"),
            {"sciops.sites.condor_job_info": {"key": f"many-{way}", "way": way, "history": True}},
        )
        assert submitted["submitted"] == count and info["total"] == count and info["states"]["held"] == count
        assert [(one["ProcId"], one["N"]) for one in info["jobs"]] == [(n, n) for n in range(count)]
        cluster = submitted["cluster"]
        assert removed["acted"][0]["jobs"] == [f"{cluster}.0-{cluster}.{count - 1}"], removed["acted"]
        assert gone["total"] == gone["states"]["removed"] == count and all(one["past"] for one in gone["jobs"])
    assert pool.queue() == []


@versions("23.9")
def test_info_names_schedds_that_do_not_answer(pool: Pool, tmp_path: Path) -> None:
    play(
        pool,
        tmp_path,
        job(key="table", description=SLEEP, table={"variables": ["a", "b"], "text": "# no\n1, x y\n2 z\n"}),
    )
    ask = {"key": "table", "all_schedds": True}
    one, two = play(pool, tmp_path, *({"sciops.sites.condor_job_info": ask | {"way": way}} for way in WAYS))
    assert not one["failed"] and not two["failed"], (one, two)
    assert (
        one["jobs"] == two["jobs"]
        and one["schedds"] == ["jobs@h1"]
        and one["total"] == 2
        and (one["way"], two["way"]) == WAYS
    )
    assert [job["SciopsItem"] for job in one["jobs"]] == ["0", "1"] and one["jobs"][0]["schedd"] == "jobs@h1"
    pid = pool.ssh("pgrep -x condor_schedd", user="root")
    pool.ssh(f"kill -STOP {pid}", user="root")
    try:
        ask |= {"timeout": 3}
        results = play(
            pool,
            tmp_path,
            *(
                {"sciops.sites.condor_job_info": ask | {"way": way, "partial": p}}
                for way in WAYS
                for p in (False, True)
            ),
        )
    finally:
        pool.ssh(f"kill -CONT {pid}", user="root")
    for strict, partial in (results[:2], results[2:]):
        assert strict["failed"] and "no answer" in strict["msg"], strict
        assert partial["schedds"] == [] and [row["schedd"] for row in partial["silent"]] == ["jobs@h1"], partial
    until(lambda: pool.ssh("condor_q -totals", check=False))


@versions("25.14")
def test_the_examples_run(pool: Pool, tmp_path: Path) -> None:
    tasks = []
    for name in ("condor_job", "condor_job_info"):
        text = (ROOT / "plugins" / "modules" / f"{name}.py").read_text()
        [play_of] = yaml.safe_load(re.search(r'(?s)^EXAMPLES = r"""\n(.*?)"""', text, re.M).group(1))
        tasks += play_of["tasks"]
    done = play(pool, tmp_path, *tasks)
    assert not any(one["failed"] for one in done), done
    first, retried, held, swept, align, said, _memory = done
    assert first["submitted"] == 2 and not retried["changed"] and held["changed"] and swept["changed"]
    assert [row["count"] for row in swept["acted"]] == [2] and align["total"] == align["states"]["removed"] == 2
    assert said["msg"] == "0 of 2 are done, 0 are held"
