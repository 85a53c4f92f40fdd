# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launch methods of a deployment on real hosts: supervisord, systemd, Slurm's scrontab, each driven there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from bed.fleet import Fleet, slurm_pool, until

pytestmark = pytest.mark.hosts

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "plugins" / "module_utils"
PACKAGE = "ansible_collections/sciops/sites/plugins/module_utils"
# ssh gives it: method, settings, services, then calls as [name, arguments..]; it prints what each of them returned
PROGRAM = """
import json, sys
sys.path.insert(0, sys.path[0] + "/lib")
from ansible_collections.sciops.sites.plugins.module_utils import _launches
method, settings, services, calls = json.loads(sys.stdin.read())
launch, said = _launches.METHODS[method].Launch(settings, services), []
for call in calls:
    try:
        said.append(getattr(launch, call[0])(*call[1:]))
    except _launches.Failure as error:
        said.append({"failed": str(error)})
print(json.dumps(said))
"""


class Host:
    """One host of a fleet that has the drivers, and a user of it."""

    def __init__(self, fleet: Fleet, user: str = "deploy") -> None:
        self.fleet, self.user = fleet, user
        packed = BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for path in sorted(SOURCES.glob("_*.py")):
                tar.add(path, f"lib/{PACKAGE}/{path.name}")
        self._pipe("tar -xzf -", packed.getvalue())
        self.put("drive.py", PROGRAM)

    def _pipe(self, command: str, data: bytes) -> str:
        argv = ["ssh", "-F", self.fleet.ssh_config, "-o", "BatchMode=yes", f"{self.user}@h1", command]
        done = subprocess.run(argv, input=data, capture_output=True, timeout=180, check=False)
        assert not done.returncode, done.stderr.decode()
        return done.stdout.decode()

    def ssh(self, text: str, check: bool = True) -> str:
        return self.fleet.ssh("h1", text, user=self.user, check=check)

    def put(self, path: str, text: str, mode: str = "0644") -> None:
        quoted = shlex.quote(path)
        self._pipe(f"umask 077; mkdir -p $(dirname {quoted}); cat > {quoted}; chmod {mode} {quoted}", text.encode())

    def drive(self, method: str, settings: dict, services: list[dict], *calls: list) -> list[Any]:
        data = json.dumps([method, settings, services, calls]).encode()
        return list(json.loads(self._pipe("python3 drive.py", data)))


@pytest.fixture(scope="module")
def host(fleet: Callable[..., Fleet]) -> Host:
    return Host(fleet(1, kind="systemd"))


# --- supervisord

HOME = "/home/deploy/acme-dev"
CONFIG = f"{HOME}/config/supervisor.conf"
FOREIGN = "[program:pool-manager]\ncommand=/bin/sleep 2000\nautostart=false\n; a note\n"
SERVER = f"""[inet_http_server]
port = 127.0.0.1:%d
username = jaws
password = %s
[supervisord]
logfile = {HOME}/log/supervisor.log
pidfile = {HOME}/supervisor/jaws-pidfile
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = {HOME}/config/supervisor.*.conf
"""
FOUR = ("runs", "transfers", "rpc-server", "message-consumer")


class Supervisor:
    """A deployment under supervisord."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.settings = {"config": CONFIG, "program": f"{HOME}/bin/supervisord", "timeout": 30}
        host.ssh(f"mkdir -p {HOME}/log {HOME}/supervisor")
        # as a site has it: a script of its own before the program
        host.put(f"{HOME}/bin/supervisord", '#!/bin/bash\nexec /usr/local/bin/supervisord "$@"\n', "0755")

    def server(self, port: int = 64101, password: str = "a%%b c") -> None:
        self.host.put(CONFIG, SERVER % (port, password), "0600")

    def site(self, *names: str, **seconds: int) -> None:
        parts = [f"[program:{n}]\ncommand=/bin/sleep {seconds.get(n, 1000)}\nstartsecs=1\n" for n in names]
        self.host.put(f"{HOME}/config/supervisor.site.conf", "\n".join(parts), "0600")

    def __call__(self, names: tuple[str, ...], *calls: list) -> list[Any]:
        return self.host.drive("supervisord", self.settings, [{"name": name} for name in names], *calls)

    def up(self, *names: str) -> dict[str, int]:
        """Pids of services that all run."""
        last: dict = {}

        def look() -> bool:
            last.update(self(names, ["states"])[0])
            return {one["state"] for one in last.values()} == {"running"}

        until(look)
        return {name: last[name]["pid"] for name in names}

    def sleeping(self, seconds: int = 1000) -> list[int]:
        return [p.pid for p in self.host.fleet.ps("h1") if p.args == f"/bin/sleep {seconds}"]


@pytest.fixture(scope="module")
def supervisor(host: Host) -> Supervisor:
    return Supervisor(host)


def test_w7_supervisord_from_nothing_a_fifth_program_and_a_foreign_one(supervisor: Supervisor) -> None:
    host = supervisor.host
    nothing, stopped, missing = supervisor(FOUR, ["states"], ["stop", list(FOUR), 10], ["missing"])
    assert {one["state"] for one in nothing.values()} == {"stopped"} and stopped is None and missing == []
    assert "is not there, so no supervisord" in supervisor(FOUR, ["start", list(FOUR), 30])[0]["failed"]
    supervisor.site(*FOUR)
    foreign = f"{HOME}/config/supervisor.x.conf"
    host.put(foreign, FOREIGN)
    # W5, W7: everybody could control it
    supervisor.server(password="")
    (refused,) = supervisor(FOUR, ["start", list(FOUR), 30])
    assert "empty password" in refused["failed"]
    supervisor.server()
    assert supervisor(FOUR, ["load", list(FOUR), []], ["start", list(FOUR), 30]) == [None, None]
    four = supervisor.up(*FOUR)
    assert len(set(four.values())) == 4
    daemon = [p for p in host.fleet.ps("h1") if f"-c {CONFIG}" in p.args]
    assert len(daemon) == 1 and "a%b" not in daemon[0].args
    assert host.ssh(f"stat -c %a {HOME}/log/supervisor.log") == "600"

    ctl = "supervisorctl -s http://127.0.0.1:64101 -u jaws -p 'a%b c' "
    host.ssh(ctl + "start pool-manager")
    theirs = supervisor.sleeping(2000)
    # it changes behind supervisord's back, and stays as it is
    host.put(foreign, FOREIGN.replace("2000", "3000") + "[program:new]\ncommand=/bin/sleep 4000\n")
    stamp = host.ssh(f"stat -c '%i %Y %Z' {foreign}; md5sum {foreign}")
    five = (*FOUR, "perf-metrics")
    supervisor.site(*five)
    load = [["load", ["perf-metrics"], []], ["start", ["perf-metrics"], 30]]
    assert supervisor(five, *load, *load) == [None] * 4
    now = supervisor.up(*five)
    assert {name: now[name] for name in FOUR} == four
    assert host.ssh(f"stat -c '%i %Y %Z' {foreign}; md5sum {foreign}") == stamp
    assert supervisor.sleeping(2000) == theirs and theirs and not supervisor.sleeping(4000)

    # W6: one is stopped, changed and started, one goes; what runs is what the file says
    assert supervisor(five, ["stop", ["runs", "perf-metrics"], 20]) == [None]
    supervisor.site(*FOUR, runs=1001)
    assert supervisor(five, ["load", ["runs"], ["perf-metrics"]], ["start", ["runs"], 30]) == [None, None]
    after = supervisor.up(*FOUR)
    assert supervisor.sleeping(1001) == [after.pop("runs")] and after.items() <= four.items()
    gone = supervisor(five, ["states"])[0]["perf-metrics"]
    assert (gone["state"], gone["why"]) == ("stopped", "supervisord does not know it yet")
    bad = supervisor(("nosuch",), ["start", ["nosuch"], 10], ["load", ["nosuch"], []])
    assert all("does not have nosuch" in one["failed"] for one in bad)
    host.put(f"{HOME}/config/supervisor.y.conf", "[program:z]\n")
    assert "supervisord refuses its files" in supervisor(FOUR, ["load", ["runs"], []])[0]["failed"]
    host.ssh(f"rm {HOME}/config/supervisor.y.conf")


def test_w15_a_dead_supervisord_is_started_and_nothing_runs_twice(supervisor: Supervisor) -> None:
    host = supervisor.host
    pids = supervisor.up(*FOUR)
    daemon = next(p.pid for p in host.fleet.ps("h1") if f"-c {CONFIG}" in p.args)
    # one that does not answer is no stopped one
    host.ssh(f"kill -STOP {daemon}")
    supervisor.settings["timeout"] = 2
    hung, refused = supervisor(FOUR, ["states"], ["start", list(FOUR), 5])
    supervisor.settings["timeout"] = 30
    host.ssh(f"kill -CONT {daemon}")
    assert {one["state"] for one in hung.values()} == {"unknown"} and "nobody knows" in refused["failed"]
    host.ssh(f"kill -9 {daemon}")
    seen = supervisor(FOUR, ["states"])[0]
    assert {name: (one["state"], one["pid"]) for name, one in seen.items()} == {n: ("failed", pids[n]) for n in FOUR}
    assert supervisor(FOUR, ["start", list(FOUR), 30]) == [None]
    fresh = supervisor.up(*FOUR)
    assert not set(fresh.values()) & set(pids.values())
    assert sorted([*supervisor.sleeping(), *supervisor.sleeping(1001)]) == sorted(fresh.values())
    # the second time changes nothing
    assert supervisor(FOUR, ["start", list(FOUR), 30]) == [None] and supervisor.up(*FOUR) == fresh
    # what a dead one left is stopped too
    host.ssh(f"pkill -9 -f '[-]c {CONFIG}'")
    assert supervisor(FOUR, ["stop", list(FOUR), 20]) == [None]
    assert not supervisor.sleeping() and not supervisor.sleeping(1001)
    assert supervisor(FOUR, ["start", list(FOUR), 30]) == [None]
    supervisor.up(*FOUR)


def test_a_changed_file_of_supervisord_itself(supervisor: Supervisor) -> None:
    host = supervisor.host
    old = next(p.pid for p in host.fleet.ps("h1") if f"-c {CONFIG}" in p.args)
    ctl = "supervisorctl -s http://127.0.0.1:%d -u jaws -p %s "
    # it answers where the file says
    said = supervisor(FOUR, ["manager", list(FOUR)])[0]
    assert said == "supervisord was restarted, and with it new"
    first = next(p.pid for p in host.fleet.ps("h1") if f"-c {CONFIG}" in p.args)
    host.ssh(ctl % (64101, "'a%b c'") + "start pool-manager")
    assert first != old
    # it does not any more: no second one beside it
    supervisor.server(64102, "other")
    seen, refused = supervisor(FOUR, ["states"], ["start", list(FOUR), 20])
    assert {one["state"] for one in seen.values()} == {"unknown"} and f"pid {first} is" in seen["runs"]["why"]
    assert "nobody knows" in refused["failed"]
    supervisor.server(64102, "")
    assert "empty password" in supervisor(FOUR, ["manager", list(FOUR)])[0]["failed"]
    supervisor.server(64102, "other")
    assert "could not be asked" in supervisor(FOUR, ["manager", list(FOUR)], ["start", list(FOUR), 30])[0]
    supervisor.up(*FOUR)
    assert len([p for p in host.fleet.ps("h1") if f"-c {CONFIG}" in p.args]) == 1
    assert len(supervisor.sleeping()) == 3
    # what is to stay down does, whatever its autostart says; what others have in it runs again
    theirs = supervisor.sleeping(4000)
    said, states = supervisor(FOUR, ["manager", []], ["states"])
    assert said == "supervisord was restarted, and with it new", said
    assert {one["state"] for one in states.values()} == {"stopped"} and not supervisor.sleeping()
    assert len(supervisor.sleeping(4000)) == len(theirs) and supervisor.sleeping(4000) != theirs
    assert supervisor(FOUR, ["start", list(FOUR), 30]) == [None]
    supervisor.up(*FOUR)
    host.ssh(f"pkill -TERM -f '[-]c {CONFIG}'")


def test_a_program_that_does_not_run_is_told(supervisor: Supervisor) -> None:
    host = supervisor.host
    until(lambda: not [p for p in host.fleet.ps("h1") if f"-c {CONFIG}" in p.args])
    text = "[program:bad]\ncommand=/bin/sh -c 'exit 3'\nstartretries=1\n"
    # deaf to TERM, and what it starts is not of its group
    text += "[program:deaf]\ncommand=/bin/sh -c 'setsid sleep 5000 & trap \"\" TERM; sleep 5001; sleep 5002'\n"
    host.put(f"{HOME}/config/supervisor.site.conf", text + "stopwaitsecs=1\n")
    names = ("bad", "deaf")
    assert supervisor(names, ["start", list(names), 30]) == [None]
    until(lambda: supervisor(names, ["states"])[0]["bad"]["state"] == "failed")
    assert supervisor(names, ["states"])[0]["bad"]["why"].startswith("FATAL: Exited too quickly")
    supervisor.up("deaf")
    assert supervisor(names, ["stop", list(names), 3]) == [None]
    assert not [p for p in host.fleet.ps("h1") if re.search("sleep 500[012]", p.args)]
    host.ssh(f"pkill -TERM -f '[-]c {CONFIG}'")


# --- systemd

UNITS = "/home/{}/.config/systemd/user"
UNIT = "[Service]\nExecStart=/bin/sleep {}\nRestart=always\n[Install]\nWantedBy=default.target\n"


def test_w8_units_of_a_user_in_a_folder_that_was_not_there(host: Host) -> None:
    folder = UNITS.format("deploy")
    assert host.ssh("ls ~/.config 2>&1", check=False).startswith("ls: cannot access")
    services = [{"name": name, "unit": f"{name}-dev.service"} for name in ("runs", "rpc-server")]
    names = [one["name"] for one in services]
    settings = {"scope": "user", "linger": True, "timeout": 20}

    def drive(*calls: list) -> list[Any]:
        return host.drive("systemd", settings, services, *calls)

    def up() -> dict[str, int]:
        until(lambda: {one["state"] for one in drive(["states"])[0].values()} == {"running"})
        return {name: one["pid"] for name, one in drive(["states"])[0].items()}

    before, stopped, missing, refused = drive(["states"], ["stop", names, 10], ["missing"], ["load", names, []])
    assert {one["state"] for one in before.values()} == {"stopped"} and stopped is None and missing == []
    assert "runs-dev.service is not-found" in refused["failed"]
    for number, one in enumerate(services):
        host.put(f"{folder}/{one['unit']}", UNIT.format(6000 + number))
    assert drive(["load", names, []], ["start", names, 20]) == [None, None]
    pids = up()
    assert host.ssh(f"cd {folder}/default.target.wants && ls") == "rpc-server-dev.service\nruns-dev.service"
    assert host.ssh("loginctl show-user deploy -p Linger") == "Linger=yes"
    # alive after the last login; the test's own looks are logins
    until(lambda: not any(re.match(r"sshd(-session)?: deploy", p.args) for p in host.fleet.ps("h1")))
    time.sleep(5)
    assert {p.pid for p in host.fleet.ps("h1")} >= set(pids.values())
    # the second time changes nothing
    count = "systemctl --user show -p UnitsLoadTimestampMonotonic"
    loads = host.ssh(count)
    assert drive(["load", names, []], ["start", names, 20]) == [None, None] and up() == pids
    assert host.ssh(count) == loads

    # one changes, one goes
    host.ssh("systemctl --user disable runs-dev.service")
    host.put(f"{folder}/runs-dev.service", UNIT.format(6002))
    assert set(drive(["states"])[0]["runs"]) >= {"drift"} and "drift" not in drive(["states"])[0]["rpc-server"]
    assert drive(["stop", names, 20]) == [None]
    host.ssh(f"rm {folder}/rpc-server-dev.service")
    assert drive(["load", ["runs"], ["rpc-server"]], ["start", ["runs"], 20]) == [None, None]
    until(lambda: drive(["states"])[0]["runs"]["state"] == "running")
    seen = drive(["states"])[0]
    assert "drift" not in seen["runs"] and seen["rpc-server"]["state"] == "stopped"
    assert "no such unit" in seen["rpc-server"]["why"]
    assert host.ssh(f"cd {folder}/default.target.wants && ls") == "runs-dev.service"
    assert [p.args for p in host.fleet.ps("h1") if "sleep 600" in p.args] == ["/bin/sleep 6002"]

    # what fails is told with its end, what systemd cannot read is refused
    host.put(f"{folder}/runs-dev.service", UNIT.format(6003).replace("=/bin/sleep 6003", "=/bin/sh -c 'exit 3'"))
    assert drive(["stop", ["runs"], 20], ["load", ["runs"], []], ["start", ["runs"], 20]) == [None] * 3
    until(lambda: drive(["states"])[0]["runs"]["state"] == "failed")
    assert "status 3" in drive(["states"])[0]["runs"]["why"]
    host.put(f"{folder}/runs-dev.service", "[Service]\nRestart=always\n")
    assert "bad-setting" in drive(["stop", ["runs"], 20], ["load", ["runs"], []])[1]["failed"]
    assert drive(["stop", ["runs"], 20], ["stop", ["runs"], 20]) == [None, None]
    assert not [p for p in host.fleet.ps("h1") if "sleep 600" in p.args]


def test_linger_is_asked_for(host: Host) -> None:
    """A user without linger: told, who has to turn it on, before anything is stopped."""
    other = Host(host.fleet, "jadelta")
    (said,) = other.drive("systemd", {"linger": True}, [{"name": "runs"}], ["prepare"])
    assert "linger of jadelta is off" in said["failed"] and "loginctl enable-linger jadelta" in said["failed"]


# --- Slurm's scrontab

MINE = "# mine\\r\\nA=b\\n#SCRON -t 5\\n0 3 * * * /bin/true mine\\n\\n# the end\\n"
JOB = "jaws_acme_dev"
STARTER = f"""#!/bin/bash
echo starter >> $HOME/starter.log
[ -z "$(squeue --me -h -n {JOB} -t PD,R -o %i)" ] || exit 0
exec sbatch --job-name={JOB} --output=/dev/null $(cat $HOME/options) --wrap 'exec sleep 7000'
"""


@pytest.fixture(scope="module")
def login(bed: Path) -> Iterator[Host]:
    with Fleet(1, "systemd", "slurm24") as pool:
        # short, since a younger slurmctld proves nothing; but a busy machine must not lose its node, and requeue jobs
        slurm_pool(pool, SlurmdTimeout=10)
        yield Host(pool)


def test_w9_the_job_that_a_scrontab_keeps(login: Host) -> None:
    settings = {"name": JOB, "starter": "/home/deploy/bin/starter.sh", "block": "jaws-acme-dev", "timeout": 20}
    settings |= {"cancels": [f"{JOB}_htcondor_worker_small"], "stop": ["sh", "-c", "echo calm >> $HOME/calm.log"]}
    # in the far future, so that only what is driven here starts it
    settings["entry"] = {"minute": "0", "hour": "0", "day": "1", "month": "1", "options": ["--time=5"]}
    services = [{"name": "jaws-site"}]

    def drive(*calls: list) -> list[Any]:
        return login.drive("scrontab", settings, services, *calls)

    def state() -> dict:
        return dict(drive(["states"])[0]["jaws-site"])

    def runs() -> int:
        return int(login.ssh("wc -l < ~/starter.log 2>/dev/null || echo 0"))

    start, stop = ["start", ["jaws-site"], 60], ["stop", ["jaws-site"], 60]
    login.ssh(f"printf '{MINE}' | scrontab -; : > ~/options")
    before = login.ssh("scrontab -l | od -c")
    others = "scrontab -l | sed '/^# BEGIN/,/^# END/d' | od -c"
    # a slurmctld that has just come up may have forgotten it
    until(lambda: state()["state"] == "stopped")
    assert "cannot be executed" in drive(start)[0]["failed"]
    login.put("/home/deploy/bin/starter.sh", STARTER, "0755")

    # no job: the starter runs once; a job: not again
    assert drive(["missing"], start) == [[], None] and runs() == 1
    until(lambda: state()["state"] == "running")
    assert drive(start) == [None] and runs() == 1
    assert login.ssh(others) == before
    mark = "# BEGIN sciops.sites jaws-acme-dev"
    assert mark in login.ssh("scrontab -l") and "/home/deploy/bin/starter.sh" in login.ssh("scrontab -l")

    # what a plain scancel leaves behind is drift, and a load puts it right without a word to the job
    job = state()["why"].split()[1]
    login.ssh(f"scancel --cron $(squeue --me -h -n {JOB}_starter -o %i)")
    until(lambda: "#DISABLED: " in login.ssh("scrontab -l"))
    assert "scancel" in state()["drift"]
    assert drive(["load", ["jaws-site"], []]) == [None]
    assert "#DISABLED" not in login.ssh("scrontab -l") and "drift" not in state()
    assert state()["why"].split()[1] == job and login.ssh(others) == before

    # a stop: running, pending and workers
    worker = "sbatch --parsable --output=/dev/null --job-name={} {} --wrap 'exec sleep 7001'"
    login.ssh(worker.format(f"{JOB}_htcondor_worker_small", "") + "; " + worker.format(JOB, "--dependency=singleton"))
    kept = login.ssh(worker.format("somebody-else", ""))
    assert drive(stop) == [None]
    assert login.ssh("squeue --me -h -n somebody-else -o %i") == kept
    assert login.ssh(f"squeue --me -h -o %j | grep {JOB}", check=False) == ""
    assert login.ssh("cat ~/calm.log") == "calm"
    assert login.ssh("scrontab -l | od -c") == before
    assert state()["state"] == "stopped"
    # nothing is put back while it is stopped
    assert drive(["load", ["jaws-site"], []], stop) == [None, None] and login.ssh("scrontab -l | od -c") == before

    # a job that waits counts, and only needs a scancel
    login.ssh("echo --begin=now+1hour > ~/options")
    assert drive(start) == [None] and runs() == 2
    waits = state()
    assert waits["state"] == "waiting" and "BeginTime" in waits["why"]
    assert drive(start) == [None] and runs() == 2
    assert drive(stop) == [None]
    assert state()["state"] == "stopped" and login.ssh("cat ~/calm.log") == "calm"

    # a stop command that fails is told, and keeps nothing from ending
    login.ssh(": > ~/options")
    assert drive(start) == [None] and runs() == 3
    until(lambda: state()["state"] == "running")
    settings["stop"] = ["sh", "-c", "echo sorry >&2; exit 3"]
    (said,) = drive(stop)
    assert said.startswith("launch.scrontab.stop: ended with status 3 in job") and "sorry" in said
    assert state()["state"] == "stopped"

    # a controller that does not answer, or has just come up, proves nothing
    login.fleet.ssh("h1", "systemctl stop slurmctld")
    assert state()["state"] == "unknown" and "nobody knows" in drive(start)[0]["failed"]
    assert runs() == 3
    login.fleet.ssh("h1", "systemctl start slurmctld")
    until(lambda: "scancel" in login.ssh("squeue -h >/dev/null && echo scancel", check=False))
    assert state()["state"] in ("unknown", "stopped")
    login.put("/home/deploy/bin/starter.sh", "#!/bin/sh\necho so sad >&2; exit 3\n", "0755")
    until(lambda: state()["state"] == "stopped")
    assert "ended with status 3: so sad" in drive(start)[0]["failed"]
