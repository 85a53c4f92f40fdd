# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role condor_hooks on a real pool: a job's whole life, and what the hooks must not let happen (R7 to R12, R14)."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from bed.condor import condor_pool
from bed.fleet import Fleet, until
from bed.play import Player, Result

pytestmark = pytest.mark.hosts

HOME = "/usr/local/libexec/sciops.sites/condor"
CONFIG = "/etc/condor/config.d/60-sciops-sites-hooks"
DATA = "/var/lib/sciops.sites/condor/idle.ad"
ROOT = "/home/deploy/.HMDC/jobs/interactive"
VALUES: dict[str, Any] = {
    # seconds instead of minutes and days
    "condor_hooks_update_interval": 4,
    "condor_hooks_publish_interval": 1,
    "condor_hooks_cron_period": 1,
    "condor_hooks_idle_trigger": 3,
    "condor_hooks_idle_cpus": 0.2,
    "condor_hooks_preempt_after": 100000,
    "condor_hooks_preempt": True,
    "condor_hooks_mail_from": "pool@example.org",
    # a session server that needs no display: it says what it got and runs the command by the wrapper's own hand
    "condor_hooks_session_command": ["/bin/sh", "-c", "echo session for {app} in {scratch}; eval {child}"],
}
#: an environment of so many times 100 kB, made on the host
GROW = """
grep -q @BIG job.sub && python3 -c "
import re
grown = lambda found: ' '.join('V%d=%s' % (n, 'x' * 100000) for n in range(int(found.group(1))))
text = re.sub('@BIG([0-9]+)@', grown, open('job.sub').read())
open('job.sub', 'w').write(text)"
"""
#: what does not depend on the version is shown on the newest only
newest = pytest.mark.parametrize("pool", ["cluster"], indirect=True)


class Sink:
    """Mails as they arrive."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        message = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(message, EmailMessage)
        self.mails.append(message)
        return "250 OK"


class Pool:
    """A pool of one host with the role, its jobs and its mails."""

    def __init__(self, fleet: Fleet, player: Player, folder: Path) -> None:
        self.fleet, self.player, self.folder = fleet, player, folder
        self.sink = Sink()
        address = fleet.hosts["h1"].address
        gateway = address.rsplit(".", 2)[0] + ".0.1"
        with socket.socket() as free:
            free.bind((gateway, 0))
            port = free.getsockname()[1]
        self.smtp = Controller(self.sink, hostname=gateway, port=port, ready_timeout=30)
        self.smtp.start()
        self.values = VALUES | {"condor_hooks_smtp_host": gateway, "condor_hooks_smtp_port": port}
        self.book = folder / "role.yml"
        task = {"name": "Hooks", "include_role": {"name": "sciops.sites.condor_hooks"}}
        self.book.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [task]}]))

    def role(self, *words: str, rc: int = 0, **values: object) -> Result:
        given = self.values | {"ansible_user": "root"} | values
        done = self.player(str(self.book), self.fleet.inventory, "-e", json.dumps(given), *words)
        assert done.rc == rc, done.stdout + done.stderr
        return done

    def ssh(self, command: str, user: str = "root", check: bool = True) -> str:
        return self.fleet.ssh("h1", command, user=user, check=check)

    def submit(self, command: str, *lines: str, ours: bool = True, **attributes: str) -> int:
        """Submit `sh -c command` as deploy; attributes are expressions."""
        ads = {}
        if ours:
            ads = {
                "HMDCNewSubmit": "true",
                "HMDCInteractive": "true",
                "HMDCApplicationName": '"shell"',
                "HMDCApplicationVersion": '"2.31.3"',
                "LocalJobDir": f'strcat("{ROOT}","/","shell_2.31.3","_",ClusterId,"_","202601011796000000")',
                "Email": '"ann@example.org"',
            }
        text = [
            "executable = /bin/sh",
            "transfer_executable = false",
            "should_transfer_files = no",
            "request_memory = 512",
            "log = jobs.log",
            *lines,
            *(f"MY.{name} = {value}" for name, value in (ads | attributes).items()),
        ]
        if not any(line.startswith("arguments") for line in lines):
            quoted = command.replace("'", "''").replace('"', '""')
            text.append(f"arguments = \"-c '{quoted}'\"")
        description = "\n".join([*text, "queue", ""])
        script = f"cat > job.sub <<'END_OF_JOB'\n{description}END_OF_JOB\n{GROW}\ncondor_submit -terse job.sub"
        return int(self.ssh(script, "deploy").split(".")[0])

    def ad(self, job: int, *names: str) -> list[str]:
        """Attributes of a job in the queue, else in the history."""
        words = " ".join(names)
        for tool in ("condor_q -all", "condor_history -limit 1"):
            said = self.ssh(f"{tool} {job} -af:t {words}", check=False)
            if said:
                return said.split("\t")
        return []

    def status(self, job: int) -> str:
        return (self.ad(job, "JobStatus") or [""])[0]

    def wait(self, job: int, status: str) -> None:
        until(
            lambda: self.status(job) == status, why=lambda: f"{self.ad(job, 'JobStatus', 'HoldReason')} {self.logs()}"
        )

    def logs(self) -> str:
        return self.ssh("tail -n 40 /var/log/condor/StarterLog.slot1_*", check=False)

    def remove(self, *jobs: int) -> None:
        self.ssh(f"condor_rm {' '.join(map(str, jobs))}", check=False)
        for job in jobs:
            until(lambda job=job: not self.ssh(f"condor_q -all {job} -af ClusterId"), why=lambda job=job: self.why(job))

    def why(self, job: int) -> str:
        """What is known of a job that does not do what it should."""
        hooks = self.ssh("ps -ef | grep -E 'condor_starter|sciops' | grep -v grep", check=False)
        return f"{self.ad(job, 'JobStatus', 'HoldReason', 'RemoveReason')}\n{hooks}\n{self.logs()}"


@pytest.fixture(scope="module", params=["cluster", "slurm24"])
def pool(request: pytest.FixtureRequest, bed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """The newest HTCondor, and the one before."""
    folder = tmp_path_factory.mktemp("hooks")
    with Fleet(1, "systemd", request.param) as fleet:
        condor_pool(fleet, "h1")
        made = Pool(fleet, Player(folder / "controller"), folder)
        if request.param == "cluster":
            before = everything(made)
            checked = made.role("--check")
            assert checked.recap("changed") > 5 and everything(made) == before
        made.role()
        yield made
        made.smtp.stop()
        made.player.close()


def everything(pool: Pool) -> str:
    """All that the role could leave, and what HTCondor says of its knobs."""
    places = "/usr/local/libexec /var/lib/sciops.sites /etc/condor /etc/systemd /etc/cron.d"
    knobs = "condor_config_val -dump HOOK JOB_WRAPPER STARTD_CRON IDLE PIPE_BUFFER PREEMPT"
    return pool.ssh(
        f"find {places} ! -type d -printf '%p %m %u %s\\n' 2>/dev/null | sort; {knobs} | grep -v '^#'", check=False
    )


@newest
def test_r14_role(pool: Pool) -> None:
    """Knobs as declared; a second run and a check change nothing."""
    assert pool.role().recap("changed") == 0
    names = (
        "STARTER_JOB_HOOK_KEYWORD HMDC_HOOK_PREPARE_JOB HMDC_HOOK_UPDATE_JOB_INFO HMDC_HOOK_JOB_EXIT USER_JOB_WRAPPER"
    )
    values = pool.ssh(
        f"condor_config_val {names} IDLE_WARNING_TRIGGER STARTD_CRON_IDLEJOBS_PERIOD STARTD_CRON_JOBLIST"
    ).split("\n")
    assert values[:5] == ["HMDC", *(f"{HOME}/{name}" for name in ("prepare", "update", "exit", "wrapper"))]
    assert values[5:7] == ["3", "1s"] and "idlejobs" in values[7]
    modes = pool.ssh(f"stat -c '%U %G %a' {HOME} {HOME}/* {DATA} | sort -u")
    assert modes.split("\n") == ["root root 644", "root root 755"]


LIFE = """
echo "as $(ulimit -S -v) $(ulimit -H -v) data $(ulimit -S -d)"
grep Cpus_allowed_list /proc/self/status
grep -E 'Max (address|data|resident)' /proc/self/limits
sleep 300
"""


def test_life(pool: Pool) -> None:
    """R7, R8, R10, R11, R12: from the folder that is made to the one that is removed."""
    pool.sink.mails.clear()
    out = f'strcat("{ROOT}","/","shell_2.31.3","_",ClusterId,"_","202601011796000000","/out.txt")'
    job = pool.submit(LIFE.strip().replace("\n", "; "), HMDCUseXpra="true", Out=out)
    folder = f"{ROOT}/shell_2.31.3_{job}_202601011796000000"
    pool.wait(job, "2")
    # R7: made by the hook, for its owner alone
    assert until(lambda: pool.ssh(f"stat -c '%a %U' {folder}", check=False)) == "700 deploy"
    # R8: seen from inside the job, in the log that its session wrote
    said = until(
        lambda: pool.ssh(f"cat {folder}/shell.out.txt", check=False),
        why=lambda: str(pool.ssh(f"cat {folder}/*", check=False)),
    )
    memory = 512 * 1048576
    assert f"as {memory // 1024} {memory // 1024} data {memory // 1024}" in said
    assert re.search(r"Cpus_allowed_list:\s+[0-9]+$", said, re.MULTILINE)
    assert re.search(rf"Max address space +{memory} +{memory + 1} +bytes", said)
    assert re.search(rf"Max data size +{memory} +{memory + 1} +bytes", said)
    assert re.search(rf"Max resident set +{memory} +{memory + 1} +bytes", said)
    assert "session for shell in /var/lib/condor/execute/dir_" in pool.ssh(f"cat {folder}/out.txt")
    # R11: within a period in the collector, of the machine and of the slot
    published = until(
        lambda: idle_of(pool, job) > 0 and pool.ssh("condor_status -af HMDCIdleJobs | sort -u"), why=pool.logs
    )
    assert re.search(rf"\b{job}\.0,[0-9]+\b", published)
    slot = pool.ssh(
        "condor_status -af:j HMDCIdleTime HMDCIdleJob GlobalJobId -constraint 'HMDCIdleTime > 0'", check=False
    )
    words = slot.split()
    assert words[-2] == words[-1] and f"#{job}.0#" in words[-1]
    assert re.search(rf"\bh1#{job}\.0,[0-9]+", pool.ssh("condor_status -af HMDCIdleJobsBySchedd"))
    # R10: one mail, at the trigger
    until(lambda: pool.sink.mails, why=pool.logs)
    held = idle_of(pool, job)
    until(lambda: idle_of(pool, job) > held + 8)
    assert len(pool.sink.mails) == 1
    mail = pool.sink.mails[0]
    assert (
        mail["Subject"] == f"Warning: Job {job}: shell 2.31.3 has been idle for 0 days"
        and mail["To"] == "ann@example.org"
    )
    assert "Attach all jobs" in mail.get_content()
    # a reconfig in the middle of it: the job goes on
    started = pool.ad(job, "NumShadowStarts", "JobCurrentStartDate")
    pool.role(condor_hooks_remind_before=21601, condor_hooks_knobs={"SCIOPS_TEST": "1"})
    assert pool.status(job) == "2" and pool.ad(job, "NumShadowStarts", "JobCurrentStartDate") == started
    # what the slots say of it, and what the policy does when it has been idle for days
    assert "true" in pool.ssh("condor_status -af JobCpuIsIdle").split()
    until(lambda: age(pool, 200000) and idle_of(pool, job) > 199999 and len(pool.sink.mails) == 2, why=pool.logs)
    assert pool.sink.mails[1]["Subject"].endswith("has been idle for 2 days")
    # nobody has been idle for days who runs for a minute: that would be of a run before this one, and ends nothing
    held = idle_of(pool, job)
    until(lambda: idle_of(pool, job) > held + 8)
    assert pool.ad(job, "NumShadowStarts", "JobCurrentStartDate") == started and len(pool.sink.mails) == 2
    ran = "condor_status -af JobStart -constraint 'HMDCIdleTime > 199999 && HMDCIdleJob == GlobalJobId'"
    assert abs(int(pool.ssh(ran)) - int(started[1])) < 20
    pool.role(condor_hooks_preempt_after=60)
    until(lambda: age(pool, 61) and int(pool.ad(job, "NumShadowStarts")[0]) > 1, 180, why=pool.logs)
    # the next run has a minute as well
    pool.role()
    assert 'invoked with reason: "evict"' in pool.ssh("cat /var/log/condor/StarterLog.slot1_*")
    # more come of the next run only, which begins anew
    assert all(mail["Subject"].endswith("has been idle for 0 days") for mail in pool.sink.mails[2:])
    # R12: the folder goes, the logs stay
    until(lambda: pool.ssh(f"cat {folder}/shell.out.txt", check=False), why=pool.logs)
    pool.remove(job)
    until(lambda: not pool.ssh(f"ls -d {folder}", check=False), why=pool.logs)
    logs = f"/home/deploy/.HMDC/jobs/logs/shell_2.31.3_{job}_202601011796000000"
    # of the run that was evicted, and of the one after it
    names = ["out.1.txt", "out.txt", "shell.out.1.txt", "shell.out.txt"]
    assert pool.ssh(f"LC_ALL=C ls {logs}").split() == names


AGE = """
import glob, json
for pattern in ("dir_*/.idle-state", "dir_*/scratch/.idle-state"):
    for path in glob.glob("/var/lib/condor/execute/" + pattern):
        state = json.load(open(path))
        state["value"] = @SECONDS
        open(path, "w").write(json.dumps(state))
"""


def age(pool: Pool, seconds: float) -> bool:
    """Have all jobs been idle for so long."""
    text = AGE.replace("@SECONDS", f"{seconds:.1f}")
    pool.ssh(f"python3 - <<'END'\n{text}END", check=False)
    return True


def idle_of(pool: Pool, job: int) -> int:
    """Seconds that the collector says of a job, -1 where it says none."""
    found = re.search(rf"\b{job}\.0,([0-9]+)", pool.ssh("condor_status -af HMDCIdleJobs"))
    return int(found.group(1)) if found else -1


def test_r7_held_with_a_reason_and_neighbours(pool: Pool) -> None:
    """A file in the way, a folder that is a link out: held, in words. Jobs of others never notice the hooks."""
    pool.ssh(f"mkdir -p {ROOT}; echo mine > {ROOT}/file; ln -sfn / {ROOT}/link", "deploy")
    in_the_way = pool.submit("true", LocalJobDir=f'"{ROOT}/file"')
    link = pool.submit("true", LocalJobDir=f'"{ROOT}/link/x"')
    outside = pool.submit("true", LocalJobDir=f'"{ROOT}/../../../.ssh"')
    ours = pool.submit("true", "output = ours.out", HMDCUseXpra="false")
    words = """arguments = "'a b' '' ""q"" $(id) ''one'''' "
output = words.out"""
    plain = pool.submit("", "executable = /usr/bin/printf", words.replace("$(id)", "`id`"), ours=False)
    held = dict.fromkeys((in_the_way, link, outside), "")
    for job in held:
        pool.wait(job, "5")
        code, sub, reason = pool.ad(job, "HoldReasonCode", "HoldReasonSubCode", "HoldReason")
        assert (code, sub) == ("19", "190") and "PREPARE_JOB (prepare) failed (reported status 190): " in reason
        held[job] = reason.partition("190): ")[2]
    assert held[in_the_way] == f"{ROOT}/file is in the way: it is no folder. Move it away, then release the job"
    assert "not below" in held[link] and ".. in it" in held[outside]
    for job in (ours, plain):
        pool.wait(job, "4")
    # the reason gone, the job runs
    pool.ssh(f"rm {ROOT}/file; condor_release {in_the_way}", "deploy")
    pool.wait(in_the_way, "4")
    pool.remove(link, outside)


def banner(pool: Pool, job: int) -> str:
    """What the sshd says that condor_ssh_to_job starts, and the limits that it has."""
    connect = f"condor_ssh_to_job -ssh \"sh -c 'sleep 12 | %x'\" {job} < /dev/null > banner 2>&1 &"
    look = "for p in $(pgrep -u deploy sshd); do grep 'Max address' /proc/$p/limits; done"
    wait = "for i in 1 2 3 4 5 6 7 8 9 10; do grep -q SSH-2 banner && break; sleep 1; done"
    said = pool.ssh(f"{connect}\n{wait}\n{look}\ncat banner\nwait", "deploy", check=False)
    return said if "SSH-2" in said else ""


@newest
def test_r8_words_environment_and_ssh(pool: Pool) -> None:
    """Arguments with quotes and line breaks, 10 MB of environment, and condor_ssh_to_job through the wrapper."""
    script = "import json,os,sys; json.dump([sys.argv[1:], os.environ.get('NAME')], sys.stdout)"
    words = ["-c", script, "a b", '"', "it's", "$(id) `id`", "\\", "", "é"]
    quoted = (
        " ".join("'" + word.replace("'", "''") + "'" for word in words)
        .replace('"', '""')
        .replace("$(id)", "$(DOLLAR)(id)")
    )
    job = pool.submit(
        "",
        "executable = /usr/bin/python3",
        f'arguments = "{quoted}"',
        "DOLLAR = $",
        'environment = "NAME=\'it\'\'s  a ""b"" \\\'"',
        "output = words.json",
        HMDCUseXpra="false",
    )
    # no kernel starts a program with 10 MB, and HTCondor itself refuses it; what it takes, the hooks take
    with pytest.raises(AssertionError, match="Failed to commit job submission"):
        pool.submit("echo runs", 'environment = "@BIG100@"', HMDCUseXpra="false")
    big = pool.submit("env | grep -c ^V", "output = big.out", 'environment = "@BIG10@"', HMDCUseXpra="false")
    shell = pool.submit("sleep 600", HMDCUseXpra="false")
    pool.wait(job, "4")
    got, name = json.loads(pool.ssh("cat words.json", "deploy"))
    assert [*words[:2], *got] == words and name == 'it\'s  a "b" \\'
    pool.wait(shell, "2")
    # a pipe in place of the ssh client: the job's sshd itself, under its limits; a whole login is in test_condor_whole
    said = until(lambda: banner(pool, shell), why=pool.logs)
    assert "SSH-2.0-OpenSSH" in said and re.search(rf"Max address space +{512 * 1048576} ", said)
    pool.remove(shell)
    pool.wait(big, "4")
    assert pool.ssh("cat big.out", "deploy") == "10"


@newest
def test_r11_what_a_job_writes_is_not_executed(pool: Pool) -> None:
    """A job that puts shell text, a link and another job's number into its folder; only its own entry is missing."""
    good = pool.submit("sleep 600", HMDCUseXpra="false")
    text = "1; touch /tmp/pwned; \\`touch /tmp/pwned\\`"
    loop = f'while :; do rm -f .idletime; echo "{text}" > .idletime; sleep 0.2; done'
    evil = pool.submit(f'cd "$_CONDOR_SCRATCH_DIR"; {loop}', HMDCUseXpra="false")
    for job in (good, evil):
        pool.wait(job, "2")
    until(lambda: idle_of(pool, good) > 0, why=pool.logs)
    until(
        lambda: (
            idle_of(pool, evil) == -1
            and "is left out" in pool.ssh("journalctl -u sciops-sites-condor-idle -o cat", check=False)
        )
    )
    assert pool.ssh("ls /tmp/pwned", check=False) == ""
    pool.remove(good, evil)
    until(lambda: idle_of(pool, good) == -1)


@newest
def test_r8_xpra(pool: Pool) -> None:
    """The session server of the spec, as it is installed unless somebody says otherwise."""
    change = f"p='{HOME}/settings.json'; s=json.load(open(p)); s.pop('session_command'); json.dump(s, open(p,'w'))"
    pool.ssh(f'python3 -c "import json; {change}"')
    job = pool.submit(
        "",
        """arguments = "-c 'echo display $DISPLAY words $0 $1' 'a b' '""' " """.strip(),
        "request_memory = 3000",
        "environment = PATH=/usr/bin:/bin",
        "output = xpra.out",
        "error = xpra.err",
        HMDCUseXpra="true",
    )
    pool.wait(job, "4")
    log = f"/home/deploy/.HMDC/jobs/logs/shell_2.31.3_{job}_202601011796000000/shell.out.txt"
    said = until(lambda: pool.ssh(f"cat {log}", check=False), why=lambda: pool.ssh("cat ~deploy/xpra.err", check=False))
    assert re.fullmatch(r'display :[0-9]+ words a b "', said), said
    assert "xpra is ready" in pool.ssh("cat xpra.err", "deploy")


@newest
def test_cron_and_a_job_that_never_starts(pool: Pool) -> None:
    """cron instead of the timer, once a minute; a schedd with the role removes interactive jobs that match nothing."""
    data = f"stat -c %Y {DATA}"
    values = {
        "condor_hooks_publish": "cron",
        "condor_hooks_publish_interval": 60,
        "condor_hooks_parts": ["execute", "schedd"],
        "condor_hooks_remove_after": 5,
        "condor_hooks_knobs": {"PERIODIC_EXPR_INTERVAL": "2"},
    }
    pool.role(**values)
    active = "systemctl is-active sciops-sites-condor-idle.timer"
    assert pool.ssh(active, check=False) == "inactive"
    said = pool.ssh("ls /etc/systemd/system; cat /etc/cron.d/*")
    assert "sciops-sites-condor-idle." not in said
    assert f"*/1 * * * * root {HOME}/publish" in said
    again = pool.role(**values)
    assert again.recap("changed") == 0
    written = pool.ssh(data)
    ours = pool.submit("true", "requirements = false")
    others = pool.submit("true", "requirements = false", ours=False)
    pool.wait(ours, "3")
    assert "SYSTEM_PERIODIC_REMOVE" in pool.ad(ours, "RemoveReason")[0] and pool.status(others) == "1"
    pool.remove(others)
    until(lambda: pool.ssh(data) != written, 150)
    pool.role()
    assert "sciops" not in pool.ssh("ls /etc/cron.d")
    assert pool.ssh(active) == "active"


@newest
def test_absent(pool: Pool) -> None:
    """All of it goes; but not before the last job that HTCondor could not end without it."""
    before = everything(pool)
    checked = pool.role("--check", condor_hooks_state="absent")
    assert checked.recap("changed") > 2 and everything(pool) == before
    job = pool.submit("sleep 600", ours=False)
    pool.wait(job, "2")
    said = pool.role(condor_hooks_state="absent")
    assert "jobs that began with the hooks still run" in said.stdout, said.stdout
    assert pool.status(job) == "2" and "HMDC" not in (left := everything(pool)) and f"{HOME}/exit" in left
    done = pool.submit("true", ours=False)
    pool.wait(done, "4")
    pool.remove(job)
    until(lambda: not pool.ssh("pgrep -x condor_starter", check=False))
    pool.role(condor_hooks_state="absent")
    left = everything(pool)
    assert "sciops" not in left and "HMDC" not in left
    assert pool.ssh("ls -d /usr/local/libexec/sciops.sites /var/lib/sciops.sites", check=False) == ""
