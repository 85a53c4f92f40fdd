# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module purge and the role purge on a real host: W16, with systemd timers and with cron."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bed.fleet import Fleet
from bed.play import Player, Result

pytestmark = pytest.mark.hosts

Role = Callable[..., Result]
ROOT = "/scratch/jaws/acme-dev"
HOME, LOGS = "/usr/local/lib/sciops.sites/acme-dev-purge", "/var/log/sciops.sites/acme-dev-purge"
#: files that say they are old, as a transfer leaves them; their change times nobody can set
MAKE = f"""
rm -rf {ROOT}; mkdir -p {ROOT}/inputs/alice {ROOT}/cromwell-executions/wf
for one in 1 2 live; do
  mkdir {ROOT}/inputs/alice/$one {ROOT}/cromwell-executions/wf/$one
  head -c 5000 /dev/zero > {ROOT}/inputs/alice/$one/reads.fq
  touch -d '40 days ago' {ROOT}/inputs/alice/$one/reads.fq
done
ln -s / {ROOT}/inputs/alice/way-out
chown -R jadelta: {ROOT}
"""
VALUES = {
    "purge_name": "acme-dev-purge",
    "purge_user": "jadelta",
    "purge_deployment": "dev",
    "purge_inputs": f"{ROOT}/inputs",
    "purge_executions": f"{ROOT}/cromwell-executions",
}
NOW = {
    "purge_older_than": "0s",
    "purge_options": {"runs_command": ["echo", '{"1": "done", "2": "failed", "live": "running"}']},
}


@pytest.fixture(scope="module")
def host(bed: Path) -> Iterator[Fleet]:
    with Fleet(1, kind="systemd") as one:
        yield one


@pytest.fixture
def role(host: Fleet, play: Player, tmp_path: Path) -> Role:
    """Run the role on h1 with these values."""

    def run(*words: str, login: str = "root", rc: int = 0, **values: object) -> Result:
        task = {"name": "Purge", "include_role": {"name": "sciops.sites.purge"}}
        book = tmp_path / "role.yml"
        book.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [task]}]))
        given = VALUES | {"ansible_user": login} | values
        done = play(str(book), host.inventory, "-e", json.dumps(given), *words)
        assert done.rc == rc, done.stdout + done.stderr
        return done

    return run


def below(host: Fleet, folder: str) -> list[str]:
    return host.ssh("h1", f"cd {ROOT}/{folder} && find . -mindepth 2 -maxdepth 2 | sort").split()


def everything(host: Fleet) -> str:
    """All that the role could leave but the folders that schedules share, as text."""
    places = "/etc/systemd /etc/cron.d /usr/local/lib /var/log/sciops.sites /home/deploy/.local /home/deploy/.config"
    found = f"find {places} ! -type d -o -name '*purge*' 2>/dev/null | sort"
    return host.ssh("h1", f"{found}; crontab -l -u deploy 2>/dev/null || true")


def test_w16_timers(host: Fleet, role: Role) -> None:
    clean = everything(host)
    host.ssh("h1", MAKE)
    assert role("--check").recap("changed") > 0 and everything(host) == clean
    role()
    assert role().recap("changed") == 0
    shown = host.ssh("h1", "systemctl cat acme-dev-purge-inputs.timer acme-dev-purge-executions.timer")
    assert re.findall("OnCalendar=(.*)", shown) == ["Sun *-*-* 02:00:00", "Sun *-*-* 05:00:00"]
    assert "acme-dev-purge-inputs.timer" in host.ssh("h1", "systemctl list-timers")

    # it runs without any Ansible; nothing here is 14 days old, whatever its files say of themselves
    host.ssh("h1", "systemctl start acme-dev-purge-inputs.service")
    report = json.loads(host.ssh("h1", f"cat {LOGS}/inputs.json"))
    assert report["removed"] == [] and {one["why"] for one in report["kept"]} == {"young"}
    assert len(below(host, "inputs")) == 4

    # one entry less, other settings: the entry that is not declared any more goes
    role(**NOW, purge_executions="", purge_days={"dev": "*"})
    assert "acme-dev-purge-executions" not in everything(host)
    assert "OnCalendar=*-*-* 02:00:00" in host.ssh("h1", "systemctl cat acme-dev-purge-inputs.timer")
    told = host.ssh("h1", f"runuser -u jadelta -- {HOME}/run-purge {HOME}/inputs.json --check")
    assert "would remove 2 entries" in told and len(below(host, "inputs")) == 4
    host.ssh("h1", "systemctl start acme-dev-purge-inputs.service")
    assert below(host, "inputs") == ["./alice/live", "./alice/way-out"]
    log = host.ssh("h1", "journalctl -u acme-dev-purge-inputs.service --no-pager -o cat")
    assert "removed alice/1 (5000 bytes" in log and f"removed 2 entries of {ROOT}/inputs: 10000 bytes" in log

    # a folder that does not exist is a failed unit, not a purge of nothing
    host.ssh("h1", f"rm -r {ROOT}/inputs; systemctl start acme-dev-purge-inputs.service || true")
    assert host.ssh("h1", "systemctl is-failed acme-dev-purge-inputs.service") == "failed"
    log = host.ssh("h1", "journalctl -u acme-dev-purge-inputs.service --no-pager -o cat")
    assert f"{ROOT}/inputs: No such file" in log

    host.ssh("h1", "touch /etc/systemd/system/acme-dev-purge-theirs.timer")
    role(purge_state="absent", purge_remove_logs=True)
    host.ssh("h1", "rm /etc/systemd/system/acme-dev-purge-theirs.timer; systemctl reset-failed")
    assert everything(host) == clean


@pytest.mark.parametrize("scope", ["system", "user"])
def test_w16_cron(host: Fleet, role: Role, scope: str) -> None:
    login, home, logs = "root", HOME, LOGS
    values: dict[str, object] = {"purge_kind": "cron", "purge_scope": scope, **NOW}
    host.ssh("h1", MAKE)
    if scope == "user":
        login, home = "deploy", HOME.replace("/usr/local", "/home/deploy/.local")
        logs = "/home/deploy/.local/state/sciops.sites/log/acme-dev-purge"
        values |= {"purge_user": ""}
        host.ssh("h1", f"chown -R deploy: {ROOT}; echo '0 0 1 1 * /bin/true # mine' | crontab -u deploy -")
    clean = everything(host)
    role(login=login, **values)
    tab = host.ssh("h1", "cat /etc/cron.d/acme-dev-purge" if scope == "system" else "crontab -l -u deploy")
    lines = [line for line in tab.splitlines() if "run-purge" in line]
    assert [line.split()[:5] for line in lines] == [["0", hour, "*", "*", "Sun"] for hour in ("2", "5")]
    user = "jadelta" if scope == "system" else "deploy"
    job = lines[0].split(" ", 6 if scope == "system" else 5)[-1]
    assert host.ssh("h1", ["runuser", "-u", user, "--", "sh", "-c", job]) == ""
    assert below(host, "inputs") == ["./alice/live", "./alice/way-out"]
    assert f"removed 2 entries of {ROOT}/inputs" in host.ssh("h1", f"cat {logs}/inputs.log")
    # what does not go well is in the log and in cron's mail
    host.ssh("h1", f"rm -r {ROOT}/inputs")
    said = host.ssh("h1", ["runuser", "-u", user, "--", "sh", "-c", job])
    assert "No such file" in said and "No such file" in host.ssh("h1", f"cat {logs}/inputs.log")
    assert f"{home}/inputs.json" in said
    if scope == "user":
        assert role(login=login, **values).recap("changed") == 0
    role(login=login, **values, purge_state="absent", purge_remove_logs=True)
    assert everything(host) == clean
    if scope == "user":
        assert role(login=login, **values, purge_state="absent", purge_remove_logs=True).recap("changed") == 0
        host.ssh("h1", "crontab -r -u deploy")


def test_w16_settings_that_cannot_be_meant_are_refused_at_once(host: Fleet, role: Role) -> None:
    cases: list[tuple[dict, str]] = [
        ({"purge_inputs": "", "purge_executions": ""}, "nothing to do"),
        ({"purge_deployment": "test"}, "a day such as Sun"),
        # as $SCRATCH/inputs is where SCRATCH is empty
        ({"purge_inputs": "/inputs"}, "components at least"),
        ({"purge_options": {"max_byte": "1TB"}}, "no such option"),
    ]
    for values, words in cases:
        assert words in " ".join(role(**values, rc=2).stdout.split())
    assert "acme-dev-purge" not in host.ssh("h1", f"ls /etc/systemd/system; ls {HOME} | grep inputs || true")
    host.ssh("h1", f"rm -r {HOME} {LOGS}")


def test_w16_module(host: Fleet, play: Player, tmp_path: Path) -> None:
    """A dry run lists with sizes and tells what the run then does; a second one removes nothing."""
    host.ssh("h1", MAKE + f"echo '{ROOT}/inputs/alice/live/reads.fq' > /tmp/in-use")
    options = {"path": f"{ROOT}/inputs", "depth": 2, "older_than": "0s", "owner": "jadelta"}
    options |= {"keep_file": "/tmp/in-use", "keep": ["way-*"]}
    steps = [
        (options, True),
        (options, False),
        (options, False),
        (options | {"path": ""}, False),
        (options | {"path": "/"}, False),
    ]
    tasks: list[dict] = []
    for number, (given, check) in enumerate(steps):
        step = {"sciops.sites.purge": given, "check_mode": check, "ignore_errors": True, "register": f"r{number}"}
        tasks.append({"name": "T", **step})
    text = "{{ [" + ", ".join(f"r{number}" for number in range(len(steps))) + "] | to_json }}"
    tasks.append({"name": "T", "copy": {"content": text, "dest": "/tmp/results.json", "mode": "0600"}})
    book = tmp_path / "module.yml"
    book.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": tasks}]))
    done = play(str(book), host.inventory)
    assert done.rc == 0, done.stdout + done.stderr
    checked, removed, again, empty, whole = json.loads(host.ssh("h1", "cat /tmp/results.json"))
    assert checked["changed"] and [one["path"] for one in checked["removed"]] == ["alice/1", "alice/2"]
    keys = ("removed", "kept", "bytes", "allocated", "problems", "changed")
    ages = [[one.pop("age") for one in result["removed"]] for result in (checked, removed)]
    assert len(ages[0]) == len(ages[1]) == 2
    assert {key: checked[key] for key in keys} == {key: removed[key] for key in keys}
    assert removed["bytes"] == 10000 and removed["allocated"] >= 10000
    assert {one["path"]: one["why"] for one in removed["kept"]} == {
        "alice/live": "referenced",
        "alice/way-out": "referenced",
    }
    assert (
        not again["changed"] and again["removed"] == [] and below(host, "inputs") == ["./alice/live", "./alice/way-out"]
    )
    assert "nothing was removed" in empty["msg"] and "it is empty" in empty["msg"] and "components" in whole["msg"]
