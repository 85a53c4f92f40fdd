# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the example inventory of JAWS makes to be run: shims, units, the starter and the job of a Slurm-kept service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from unit.deploy.jaws_inventory import ROOT, Inventory

SHELLCHECK = Path(sys.executable).parent / "shellcheck"


@pytest.fixture(scope="module")
def jaws():
    return Inventory(ROOT / "inventories/jaws")


@pytest.fixture
def stub(tmp_path):
    """Put a program into a folder that comes first in PATH; what it is told, it notes in `<name>.told`."""
    folder = tmp_path / "stubs"
    folder.mkdir()

    def write(name: str, body: str = "", at: Path | None = None) -> Path:
        path = (at or folder) / name
        note = f"printf '%s\\n' \"$@\" >> {tmp_path}/{name}.told"
        path.write_text(f"#!/bin/bash\n{note}\nenv > {tmp_path}/{name}.env\n{body}\n")
        path.chmod(0o755)
        return path

    write.folder = folder
    return write


def put(files, tmp_path, name):
    """One rendered script as a file."""
    path = tmp_path / name
    path.write_text(next(one["content"] for dest, one in files.items() if dest.endswith(f"/{name}")))
    path.chmod(0o700)
    return path


def run(script, stub, **environment):
    """Run a script with the stubs first in PATH, without what a login shell of this machine would add to it."""
    env = {"PATH": f"{stub.folder}:/usr/bin:/bin", "HOME": str(stub.folder), **environment}
    words = ["bash", str(script)]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)


def told(tmp_path, name):
    """The words that a stub was given, of all its calls; None where it was never called."""
    path = tmp_path / f"{name}.told"
    return path.read_text().splitlines() if path.exists() else None


# --- all scripts and units


@pytest.mark.parametrize(
    ("target", "caller"),
    [
        ("jgi-prod", {}),
        ("jgi-prod", {"GENERATION": "v2.0", "PERFORMANCE_METRICS_DIR": "/data/metrics"}),
        ("assembly-prod", {}),
        ("dori-prod", {"INSTALL_METHOD": "apptainer-instance", "APPTAINER_PATH": "/opt/my tools/apptainer"}),
        ("perlmutter-prod", {"INSTALL_DIR": "/opt/it's $HOME; here/jaws"}),
    ],
)
def test_scripts_are_sound(jaws, tmp_path, target, caller):
    scripts = []
    for dest, one in jaws.files(target, caller).items():
        if "/bin/" in dest:
            assert one["validate"] == "bash"
            assert one["content"].startswith("#!/bin/bash")
            path = tmp_path / dest.rpartition("/")[2]
            path.write_text(one["content"])
            assert subprocess.run(["bash", "-n", str(path)], capture_output=True, check=False).stderr == b""
            scripts.append(str(path))
    assert len(scripts) >= 6
    if SHELLCHECK.exists():
        # SC2016: a path with a $ in it is meant
        done = subprocess.run([str(SHELLCHECK), "-e", "SC2016", *scripts], capture_output=True, text=True, check=False)
        assert done.stdout == ""


@pytest.mark.parametrize("method", ["apptainer-run", "apptainer-instance"])
def test_units_are_of_users_and_of_one_host(jaws, tmp_path, method):
    files = jaws.files("dori-prod", {"INSTALL_METHOD": method})
    units = {dest: one for dest, one in files.items() if dest.endswith(".service")}
    assert sorted(units) == [
        f"/home/jaws/.config/systemd/user/{name}-prod.service"
        for name in ("message-consumer", "rpc-server", "run-daemon", "transfer-daemon")
    ]
    text = units["/home/jaws/.config/systemd/user/rpc-server-prod.service"]["content"]
    assert text.endswith("[Install]\nWantedBy=default.target\n")
    lines = text.splitlines()
    assert "ConditionFileIsExecutable=/opt/jaws/dori-prod/bin/rpc-server" in lines
    assert {line for line in lines if line.startswith("ConditionHost=")} == {
        "ConditionHost=|login1.dori.example.org",
        "ConditionHost=|login1",
    }
    assert "Restart=always" in lines
    assert "ExecStart=/bin/bash /opt/jaws/dori-prod/bin/rpc-server" in lines
    instance = {
        "Type=forking",
        "PIDFile=/opt/jaws/dori-prod/log/jaws-rpc-server-prod.pid",
        "ExecStop=apptainer instance stop jaws-rpc-server-prod",
    }
    assert (instance <= set(lines)) == (method == "apptainer-instance")
    assert ("Type=simple" in lines) == (method == "apptainer-run")
    if shutil.which("systemd-analyze"):
        # the program of ExecStop is looked for on this machine, so it is one that is here
        program = shutil.which("true")
        for dest, one in units.items():
            (tmp_path / dest.rpartition("/")[2]).write_text(one["content"].replace("=apptainer ", f"={program} "))
        env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_LOG_LEVEL": "warning"}
        words = ["systemd-analyze", "--user", "--man=no", "verify", *map(str, tmp_path.glob("*.service"))]
        done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
        assert (done.returncode, done.stderr) == (0, "")


# --- shims


SERVICES = {
    "rpc-server": "site-rpc.log",
    "run-daemon": "site-run-daemon.log",
    "transfer-daemon": "site-transfer-daemon.log",
    "message-consumer": "message-consumer.log",
    "perf-metrics-daemon": "site-perf-metrics-daemon.log",
    "task-log": "site-tasks.log",
}


@pytest.mark.parametrize("service", SERVICES)
def test_the_shim_of_an_environment(jaws, tmp_path, stub, service):
    first = {"GENERATION": "v2.0", "PERFORMANCE_METRICS_DIR": "/data/metrics"}
    caller = first if service in ("perf-metrics-daemon", "task-log") else {}
    venv = tmp_path / "an environment"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/activate").write_text('PATH="$VENV/bin:$PATH"\n')
    stub("jaws-site", at=venv / "bin")
    files = jaws.files("jgi-prod", {"VENV_DIR": str(venv), **caller})
    assert files[f"/opt/jaws/jgi-prod/bin/{service}"]["content"].startswith("#!/bin/bash -l\n")
    done = run(put(files, tmp_path, service), stub, VENV=str(venv))
    assert done.returncode == 0, done.stderr
    assert told(tmp_path, "jaws-site") == [
        *("--log", f"/opt/jaws/jgi-prod/log/{SERVICES[service]}"),
        *("--config", "/opt/jaws/jgi-prod/config/jaws-site.conf"),
        *("--log-level", "INFO", service),
    ]
    env = told_env(tmp_path, "jaws-site")
    assert (env["LC_ALL"], env["LANG"], env["PYTHONIOENCODING"]) == ("en_US.UTF-8", "en_US.UTF-8", "utf-8")


def told_env(tmp_path, name):
    """The environment that a stub had."""
    return dict(line.split("=", 1) for line in (tmp_path / f"{name}.env").read_text().splitlines() if "=" in line)


@pytest.mark.parametrize("method", ["apptainer-run", "apptainer-instance"])
def test_the_shim_of_an_image(jaws, tmp_path, stub, method):
    program = stub("apptainer")
    files = jaws.files("dori-prod", {"INSTALL_METHOD": method, "APPTAINER_PATH": str(program)})
    assert run(put(files, tmp_path, "run-daemon"), stub).returncode == 0
    base = "/opt/jaws/dori-prod"
    instance = method == "apptainer-instance"
    assert told(tmp_path, "apptainer") == [
        *(["instance", "start"] if instance else ["run"]),
        "--cleanenv",
        f"--env-file={base}/config/site.env",
        "--no-home",
        *("--mount", f"src={base}/config/jaws-site.conf,dst=/etc/config/site/jaws-site.conf,ro"),
        *("--mount", f"src={base}/log,dst=/var/log/site"),
        *(["--pid-file", f"{base}/log/jaws-run-daemon-prod.pid"] if instance else []),
        f"{base}/bin/site-2.8.sif",
        *(["jaws-run-daemon-prod"] if instance else []),
        *("--log", "/var/log/site/run-daemon.log", "--log-level", "INFO", "run-daemon"),
    ]


def test_supervisorctl_reads_the_configuration_of_its_deployment(jaws, tmp_path, stub):
    for name in ("supervisord", "supervisorctl"):
        stub(name)
        files = jaws.files("assembly-dev", {"SUPERVISOR_BIN": str(stub.folder)})
        path = put(files, tmp_path, name)
        subprocess.run([str(path), "status", "a b"], env={"PATH": "/usr/bin:/bin"}, timeout=60, check=True)
        assert told(tmp_path, name) == ["-c", "/opt/jaws/assembly-dev/config/supervisor.conf", "status", "a b"]


# --- the starter


def reservation(name, hours, words="Nodes=login[01-04]"):
    """A line of `scontrol show res -o` of a reservation that begins so many hours from now."""
    begin, end = (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 3600 * h)) for h in (hours, hours + 4)
    )
    return f"ReservationName={name} StartTime={begin} EndTime={end} Duration=04:00:00 {words} Flags=MAINT"


@pytest.fixture
def starter(jaws, tmp_path, stub):
    """Run starter.sh with these jobs and reservations; (its result, the words of sbatch)."""

    def start(jobs="", reservations=(), name="starter.sh", broken=()):
        stub("squeue", "exit 1" if "squeue" in broken else f"printf '%s' {jobs!r}")
        (tmp_path / "reservations").write_text("".join(f"{line}\n" for line in reservations))
        stub("scontrol", "exit 1" if "scontrol" in broken else f"cat {tmp_path}/reservations")
        stub("sbatch", "echo Submitted batch job 7")
        script = put(jaws.files("perlmutter-prod"), tmp_path, name)
        return run(script, stub, SLURM_JOB_ID="12", SLURM_TIMELIMIT="5"), told(tmp_path, "sbatch")

    return start


OPTIONS = [
    "--job-name=jaws_perlmutter_prod",
    "--dependency=singleton",
    "--time=90-00:00:00",
    "--output=/opt/jaws/perlmutter-prod/log/site-slurm/jaws-site-slurm-%j.out",
    "--error=/opt/jaws/perlmutter-prod/log/site-slurm/jaws-site-slurm-%j.err",
    "--cpus-per-task=16",
]
LAST = ["--qos", "workflow", "-C", "cron", "/opt/jaws/perlmutter-prod/bin/jaws-site-cronjob"]


def test_no_job_is_submitted_once_and_without_the_environment_of_this_one(starter, tmp_path):
    done, words = starter()
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submitted batch job 7\n", "")
    assert words == OPTIONS + LAST
    assert not [name for name in told_env(tmp_path, "sbatch") if name.startswith("SLURM_")]
    assert "--name=jaws_perlmutter_prod" in told(tmp_path, "squeue")


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CONFIGURING"])
def test_a_job_that_is_there_is_left(starter, state):
    done, words = starter(jobs=f"4711 {state}")
    assert (done.returncode, words) == (0, None)
    assert f"4711 {state}" in done.stdout


def test_the_next_reservation_counts_not_the_first_that_is_listed(starter):
    listed = [
        reservation("far", 100),
        reservation("under way", -1),
        reservation("other", 1, "Nodes=gpu[1-9]"),
        reservation("near", 10, "Nodes=nid001 Features=workflow"),
        reservation("over", -30),
    ]
    _done, words = starter(reservations=listed)
    assert words == [*OPTIONS, "--time-min=480", *LAST]


def test_a_reservation_that_is_too_near_is_told(starter):
    done, words = starter(reservations=[reservation("near", 1)])
    assert words == OPTIONS + LAST
    assert "jaws_perlmutter_prod waits until it is over" in done.stdout


def test_a_reservation_after_the_end_of_the_job_does_not_matter(starter):
    assert starter(reservations=[reservation("next year", 24 * 200)])[1] == OPTIONS + LAST


def test_a_reservation_without_a_time_is_told_and_not_counted(starter):
    done, words = starter(reservations=["ReservationName=odd StartTime=Unknown Nodes=login01", reservation("near", 10)])
    assert words == [*OPTIONS, "--time-min=480", *LAST]
    assert "StartTime=Unknown" in done.stderr


@pytest.mark.parametrize("program", ["squeue", "scontrol"])
def test_nothing_is_submitted_where_nobody_knows(starter, program):
    done, words = starter(broken=[program])
    assert (done.returncode, words) == (1, None)
    assert f"{program} does not answer" in done.stderr


def test_the_runner_is_kept_in_the_same_way(starter, tmp_path, jaws, stub):
    _done, words = starter(name="gitlab-runner-starter.sh")
    assert words[0] == "--job-name=jaws_perlmutter_gitlab_runner"
    assert words[-1] == "/opt/jaws/perlmutter-prod/bin/jaws-perlmutter-gitlab-runner"
    program = stub("gitlab-runner")
    stub("module")
    files = jaws.files("perlmutter-prod", {"GITLAB_RUNNER": str(program)})
    assert run(put(files, tmp_path, "jaws-perlmutter-gitlab-runner"), stub).returncode == 0
    assert told(tmp_path, "gitlab-runner") == ["run", "-c", "/opt/gitlab-runner/config.toml"]
    assert told(tmp_path, "module") == ["load", "python"]


# --- the job


@pytest.fixture
def job(jaws, tmp_path, stub):
    """Run jaws-site-cronjob on a node with these addresses; nsupdate ends with this status."""

    def start(addresses="10.1.2.3 fd00::3 192.168.0.9", status=0):
        stub("hostname", f"echo {addresses}")
        stub("nsupdate", f"cat > {tmp_path}/lines; exit {status}")
        stub("sleep")
        stub("supervisord")
        caller = {"BIN_DIR": str(stub.folder), "TSIGPATH": "/home/jaws/my keys/jaws.key"}
        return run(put(jaws.files("perlmutter-prod", caller), tmp_path, "jaws-site-cronjob"), stub)

    return start


def test_the_name_is_given_to_this_node_before_anything_starts(job, tmp_path):
    done = job()
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "lines").read_text() == (
        "server ns1.perlmutter.example.org\n"
        "zone services.perlmutter.example.org\n"
        "update del perlmutter-prod.services.perlmutter.example.org A\n"
        "update add perlmutter-prod.services.perlmutter.example.org 30 A 10.1.2.3\n"
        "send\n"
    )
    assert told(tmp_path, "nsupdate") == ["-k", "/home/jaws/my keys/jaws.key"]
    assert told(tmp_path, "sleep") == ["30"]
    assert told(tmp_path, "supervisord") == ["--nodaemon"]


def test_nothing_starts_without_the_name(job, tmp_path):
    done = job(status=2)
    assert done.returncode == 1
    assert "perlmutter-prod.services.perlmutter.example.org was not given the address" in done.stderr
    assert told(tmp_path, "supervisord") is None


def test_nothing_starts_on_a_node_without_an_address(job, tmp_path):
    done = job(addresses="fd00::3")
    assert done.returncode == 1
    assert "no IPv4 address" in done.stderr
    assert told(tmp_path, "nsupdate") is told(tmp_path, "supervisord") is None
