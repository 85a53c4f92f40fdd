# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dns_record with a real BIND and a TSIG key (W10), and maintenance_info with a real Slurm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bed.fleet import Fleet, slurm_pool, until
from bed.play import Player

pytestmark = pytest.mark.hosts

Run = Callable[..., list[dict]]
NAME = "jaws-acme-dev.svc.example.org"
#: a server of one zone, keys that it knows and does not know, and nsupdate with a witness before it
START = r"""
mkdir -p /srv/dns /opt/witness && cd /srv/dns
tsig-keygen -a hmac-sha256 jaws > key; tsig-keygen -a hmac-sha256 jaws > wrong
cat > zone <<X
\$TTL 300
@ IN SOA ns1 root 1 3600 600 86400 60
@ IN NS ns1
ns1 IN A 127.0.0.1
alias IN CNAME ns1
X
cat > conf <<X
include "/srv/dns/key";
options { directory "/srv/dns"; listen-on port 53 { any; }; listen-on-v6 { none; }; recursion no; pid-file none; };
controls { };
zone "svc.example.org" { type master; file "/srv/dns/zone"; allow-update { key jaws; }; };
X
chown -R bind: . && chmod 600 key wrong
cat > /opt/witness/nsupdate <<'X'
#!/bin/sh
echo "$*" > /srv/dns/arguments
tee /srv/dns/input | /usr/bin/nsupdate "$@"
X
chmod 755 /opt/witness/nsupdate
systemd-run --quiet --unit dns /usr/sbin/named -c /srv/dns/conf -u bind -f
"""


@pytest.fixture(scope="module")
def server(bed: Path) -> Iterator[Fleet]:
    with Fleet(1, kind="systemd") as one:
        one.ssh("h1", START)
        until(lambda: dig(one, "ns1.svc.example.org") == "127.0.0.1")
        yield one


@pytest.fixture
def run(play: Player, tmp_path: Path) -> Callable[[Fleet], Run]:
    """Tasks on h1 in one play, failed ones too; returns what each of them returned, and all that was shown."""

    def on(host: Fleet) -> Run:
        def tasks(*steps: dict) -> list[dict]:
            done = [{"name": "T", "register": f"r{i}", "ignore_errors": True, **step} for i, step in enumerate(steps)]
            text = "{{ [" + ", ".join(f"r{i}" for i in range(len(steps))) + "] | to_json }}"
            done.append({"name": "T", "copy": {"content": text, "dest": "/tmp/results.json", "mode": "0600"}})
            path = {"PATH": "/opt/witness:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
            book = tmp_path / "book.yml"
            book.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "environment": path, "tasks": done}]))
            shown = play(str(book), host.inventory, "--diff", "-vv")
            assert shown.rc == 0, shown.stdout + shown.stderr
            return [{**one, "shown": shown.stdout} for one in json.loads(host.ssh("h1", "cat /tmp/results.json"))]

        return tasks

    return on


def dig(host: Fleet, name: str, kind: str = "A") -> str:
    return host.ssh("h1", f"dig +short +time=2 @127.0.0.1 {name} {kind}", check=False)


def record(check: bool = False, **options: object) -> dict:
    given = {"server": "127.0.0.1", "zone": "svc.example.org", "name": NAME, "key_file": "/srv/dns/key"} | options
    return {"sciops.sites.dns_record": given, "check_mode": check}


def test_w10_the_record_of_a_floating_service(server: Fleet, run: Callable[[Fleet], Run]) -> None:
    first, second = {"address": "10.0.0.11"}, {"address": "10.0.0.12"}
    checked, done, again, moved, slower = run(server)(
        record(True, **first), record(**first), record(True, **first), record(**second), record(True, **second, ttl=60)
    )
    five = [
        "server 127.0.0.1",
        "zone svc.example.org",
        f"update del {NAME} A",
        f"update add {NAME} 30 A 10.0.0.11",
        "send",
    ]
    for one in (checked, done):
        assert one["changed"] and one["sent"] == five and one["before"] == []
        assert one["diff"] == {"before": "", "after": f"{NAME} 30 A 10.0.0.11\n"}
    assert not again["changed"] and again["sent"] == [] and again["before"] == [{"address": "10.0.0.11", "ttl": 30}]
    assert moved["changed"] and moved["diff"]["before"] == f"{NAME} 30 A 10.0.0.11\n" and slower["changed"]
    assert dig(server, NAME) == "10.0.0.12"
    # what nsupdate really got, and nothing of the key anywhere
    seen = server.ssh("h1", "cat /srv/dns/arguments /srv/dns/input")
    assert seen.splitlines() == ["-k /srv/dns/key", *five[:3], five[3].replace(".11", ".12"), "send"]
    secret = server.ssh("h1", "sed -n 's/.*secret \"\\(.*\\)\".*/\\1/p' /srv/dns/key")
    assert len(secret) > 20 and secret not in done["shown"] and secret not in json.dumps([checked, done, moved])

    server.ssh("h1", "rm /srv/dns/input")
    six = {"type": "AAAA", "address": "2001:DB8:0:0::1"}
    same, with_six, same_six, gone, absent = run(server)(
        record(**second), record(**six), record(**six), record(state="absent"), record(state="absent")
    )
    assert [one["changed"] for one in (same, with_six, same_six, gone, absent)] == [False, True, False, True, False]
    assert gone["sent"] == [*five[:3], "send"] and gone["diff"]["after"] == ""
    assert dig(server, NAME) == "" and dig(server, NAME, "AAAA") == "2001:db8::1"


def test_w10_a_failure_fails_and_changes_nothing(server: Fleet, run: Callable[[Fleet], Run]) -> None:
    fine, address = record(address="10.0.0.13"), {"address": "10.0.0.14"}
    first, wrong, other, none, lost, alias, unnamed = run(server)(
        fine,
        record(**address, key_file="/srv/dns/wrong"),
        record(**address, zone="other.example.org", name="x.other.example.org"),
        record(**address, key_file="/srv/dns/none"),
        record(**address, server="127.0.0.9", timeout=1),
        record(**address, name="alias.svc.example.org"),
        record(),
    )
    assert not first.get("failed"), first
    # REFUSED or BADSIG, in nsupdate's own words
    assert wrong["failed"] and "nsupdate: " in wrong["msg"] and "BADSIG" in wrong["msg"], wrong["msg"]
    assert other["failed"] and "REFUSED" in other["msg"]
    assert none["failed"] and "/srv/dns/none: No such file" in none["msg"]
    assert lost["failed"] and "127.0.0.9" in lost["msg"]
    assert alias["failed"] and "CNAME" in alias["msg"]
    assert unnamed["failed"] and "address" in unnamed["msg"]
    assert dig(server, NAME) == "10.0.0.13"
    server.ssh("h1", "systemctl stop dns")
    try:
        (down,) = run(server)(record(**address, timeout=2))
        assert down["failed"] and "127.0.0.1" in down["msg"] and not down.get("changed")
    finally:
        server.ssh("h1", "systemd-run --quiet --unit dns2 /usr/sbin/named -c /srv/dns/conf -u bind -f")


def test_windows_of_maintenance(bed: Path, run: Callable[[Fleet], Run]) -> None:
    make = (
        "scontrol create reservation ReservationName={} StartTime=now{} Duration=60 Users=root Nodes=ALL{} >/dev/null; "
    )
    with Fleet(1, kind="systemd", recipe="slurm24") as pool:
        slurm_pool(pool)
        ask = {"sciops.sites.maintenance_info": {"words": ["login", "MAINT"]}}
        (none,) = run(pool)(ask)
        assert none["windows"] == [] and not none["in_window"] and none["next"] is None and none["minutes_to"] is None
        text = make.format("login_10h", "+10hours", "") + make.format("other", "+20hours", "")
        pool.ssh("h1", text + make.format("outage", "", " Flags=MAINT"))
        (seen,) = run(pool)(ask)
        assert [(one["name"], one["words"]) for one in seen["windows"]] == [
            ("outage", ["MAINT"]),
            ("login_10h", ["login"]),
        ]
        assert seen["in_window"] and "MAINT" in seen["current"][0]["flags"] and seen["current"][0]["nodes"] == "h1"
        assert seen["next"]["name"] == "login_10h" and 540 < seen["minutes_to"] <= 600
        assert seen["next"]["end"] - seen["next"]["start"] == 3600 and not seen["changed"]
        pool.ssh("h1", "systemctl stop slurmctld")
        (silent,) = run(pool)({"sciops.sites.maintenance_info": {"timeout": 20}})
        assert silent["failed"] and "slurm" in silent["msg"] and "windows" not in silent
