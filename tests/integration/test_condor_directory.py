# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""E-mail and entitlements of users from a real slapd (R15), and the playbook that gives them to a job."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed.fleet import Fleet, until
from bed.play import Player
from bed.sessions import Run, clear, queue, runner, session_pool

pytestmark = pytest.mark.hosts

SECRET = "hunter2-and-more"


@pytest.fixture(scope="module")
def pool(bed: Path) -> Iterator[Fleet]:
    with Fleet(1, "systemd", "cluster") as one:
        session_pool(one)
        yield one


@pytest.fixture
def run(pool: Fleet, play: Player, tmp_path: Path) -> Iterator[Run]:
    yield runner(pool, play, tmp_path)
    clear(pool)


LDAP = r"""
rm -rf /srv/ldap && mkdir -p /srv/ldap/db && cd /srv/ldap
cat > eduperson.schema <<'X'
attributetype ( 1.3.6.1.4.1.5923.1.1.1.7 NAME 'eduPersonEntitlement'
  EQUALITY caseExactMatch SYNTAX '1.3.6.1.4.1.1466.115.121.1.15' )
objectclass ( 1.3.6.1.4.1.5923.1.1.2 NAME 'eduPerson' AUXILIARY MAY ( eduPersonEntitlement ) )
X
cat > slapd.conf <<'X'
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
include /srv/ldap/eduperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile /srv/ldap/pid
TLSCertificateFile /srv/ldap/cert.pem
TLSCertificateKeyFile /srv/ldap/key.pem
database mdb
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw admin
directory /srv/ldap/db
X
person() {
  printf 'dn: uid=%s,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n' "$1"
  printf 'objectClass: eduPerson\ncn: %s\nsn: %s\nuid: %s\n' "$1" "$1" "$1"
  printf 'uidNumber: 1\ngidNumber: 1\nhomeDirectory: /h\n'
}
{
  printf 'dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n\n'
  printf 'dn: ou=people,dc=example,dc=org\nobjectClass: organizationalUnit\nou: people\n\n'
  person ann
  printf 'gecos: Ann Lee,room 5,ann@example.org\nmail: other@example.org\n'
  printf 'eduPersonEntitlement: kennedy\neduPersonEntitlement: admin\n\n'
  person bob
  printf 'gecos: Bob Ray,room 6\nmail: other@example.org\n\n'
  person carl
  printf 'gecos: Carl\neduPersonEntitlement: a,b\n\n'
} > people.ldif
cp "$1" cert.pem; cp "$2" key.pem
/usr/sbin/slapadd -q -f slapd.conf -l people.ldif
systemd-run --quiet --unit directory /usr/sbin/slapd -d 0 -f /srv/ldap/slapd.conf -h 'ldap:/// ldaps:///'
"""


@pytest.fixture(scope="module")
def directory(pool: Fleet, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A slapd on h1; returns what a lookup needs, with the certificate that the server has."""
    address = pool.hosts["h1"].address
    ca = tmp_path_factory.mktemp("ca") / "cert.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ldap -keyout /root/key.pem -out /root/cert.pem"
    pool.ssh("h1", f"{make} -addext subjectAltName=IP:{address}")
    ca.write_text(pool.ssh("h1", "cat /root/cert.pem") + "\n")
    pool.run("h1", "sh", "-euc", LDAP, "sh", "/root/cert.pem", "/root/key.pem")
    until(lambda: "uid=ann" in pool.ssh("h1", "ldapsearch -x -b dc=example,dc=org uid=ann dn", check=False))
    return {"address": address, "base": "ou=people,dc=example,dc=org", "ca": str(ca)}


def test_r15_people_of_a_directory(pool: Fleet, directory: dict, run: Run) -> None:
    def ask(*users: str, **options: object) -> dict:
        given = {"servers": [f"ldap://{directory['address']}"], "base": directory["base"]} | options
        text = "{{ query('sciops.sites.directory_person', *users, **given) }}"
        return {"debug": {"msg": text}, "vars": {"users": list(users), "given": given}}

    tls = {"servers": [f"ldaps://{directory['address']}"], "timeout": 10}
    admin = {"bind_dn": "cn=admin,dc=example,dc=org", "bind_password": "admin"}
    closed = f"ldap://{directory['address']}:1"
    known, down, second, trusted, doubted, started, clear, wrong, other, odd = run(
        ask("ann", "bob", "carl", "nobody", "*", "ann)(uid=*"),
        ask("ann", "bob", servers=[closed], timeout=3),
        ask("ann", servers=[closed, f"ldap://{directory['address']}"]),
        ask("ann", **tls, ca_file=directory["ca"], **admin),
        ask("ann", **tls),
        ask("ann", start_tls=True, ca_file=directory["ca"]),
        ask("ann", **admin),
        ask("ann", **tls, ca_file=directory["ca"], **admin | {"bind_password": SECRET}),
        ask("ann", gecos="cn", filter="(&(objectClass=posixAccount)(cn={user}))"),
        ask("ann", filter="(uid=ann)"),
    )
    ann = {"user": "ann", "email": "ann@example.org", "entitlements": ["admin", "kennedy"], "found": True}
    nobody = {"email": None, "entitlements": None}
    assert known["msg"] == [
        ann,
        {"user": "bob", "email": "other@example.org", "entitlements": None, "found": True},
        {"user": "carl", **nobody, "found": True},
        {"user": "nobody", **nobody, "found": False},
        {"user": "*", **nobody, "found": False},
        {"user": "ann)(uid=*", **nobody, "found": False},
    ]
    for silent, users in ((down, ["ann", "bob"]), (doubted, ["ann"]), (wrong, ["ann"])):
        assert silent["msg"] == [{"user": one, **nobody, "found": None} for one in users]
    assert "ann: e-mail and entitlements stay undefined" in " ".join(known["shown"].split())
    assert SECRET not in known["shown"]
    assert second["msg"] == trusted["msg"] == started["msg"] == [ann]
    assert other["msg"] == [ann | {"email": "other@example.org"}]
    assert clear["failed"] and "unencrypted" in clear["msg"] and odd["failed"] and "{user}" in odd["msg"]


def test_r15_the_playbook_goes_on_without_a_directory(
    pool: Fleet, directory: dict, play: Player, run: Run, tmp_path: Path
) -> None:
    def book(*words: str, **options: object) -> str:
        given = {
            "target": "h1",
            "ansible_user": "ann",
            "sciops_sites_catalogue": str(tmp_path / "rceapp.yml"),
        } | options
        done = play("sciops.sites.session", pool.inventory, "-e", json.dumps(given), *words)
        assert done.rc == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    people = {"servers": [f"ldap://{directory['address']}"], "base": directory["base"]}
    app = {"sciops_sites_app": "calc", "sciops_sites_interval": 1}
    dry = book("--check", "--diff", **app, sciops_sites_directory=people)
    assert '+Email = "ann@example.org"' in dry and queue(pool) == []
    first, again = (book(**app, sciops_sites_directory=people) for _time in range(2))
    assert "changed=1" in first and "changed=0" in again
    assert "SSH_AUTH_SOCK= /usr/bin/xpra attach" in first and "SSH_AUTH_SOCK= /usr/bin/xpra attach" in again
    (ad,) = queue(pool)
    assert (ad["Email"], ad["NotifyUser"], ad["Entitlements"]) == (
        "ann@example.org",
        "ann@example.org",
        "admin,kennedy",
    )
    listed = book()
    assert "calc         1, 2 **" in listed and "changed=0" in listed
    assert re.search(rf"\b{ad['ClusterId']} +calc +2 +1 +256\b", listed)
    assert "changed=1" in book(**app, sciops_sites_state="absent")
    until(lambda: not queue(pool))

    nowhere = people | {"servers": ["ldap://127.0.0.1:1"], "timeout": 2}
    without = book(**app, sciops_sites_directory=nowhere, sciops_sites_attach="none")
    assert "changed=1" in without and "stay undefined" in " ".join(without.split())
    (ad,) = queue(pool)
    assert ad["HMDCApplicationName"] == "calc" and ad.get("Email") is None and ad.get("Entitlements") is None
