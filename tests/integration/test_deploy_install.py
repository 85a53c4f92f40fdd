# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_build and host_check on a real host: images of a registry that wants a password, environments, no space."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bed.fleet import Fleet
from bed.play import Player
from bed.wheels import wheel
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytestmark = pytest.mark.hosts
Run = Callable[..., list[dict]]
NAME = "registry.example.org"
SOURCE = f"oras://{NAME}:5443/jaws/site"
PASSWORD = 'p%w$HOME "q"'
LOGIN = '{"auths": {"other.example.org": {"auth": "b3RoZXI6bG9naW4="}}}'
ROOT = "/opt/jaws/acme-dev"


@pytest.fixture(scope="module")
def host(fleet: Callable[..., Fleet]) -> Fleet:
    return fleet(1, recipe="cluster")


@pytest.fixture
def run(host: Fleet, play: Player, tmp_path: Path) -> Run:
    """Tasks on h1, one after the other in one play, failed ones too; returns what each of them returned."""

    def tasks(*steps: dict) -> list[dict]:
        book, out = tmp_path / "book.yml", tmp_path / "out.json"
        done = [{"name": "T", "register": f"r{i}", "ignore_errors": True, **step} for i, step in enumerate(steps)]
        text = "{{ [" + ", ".join(f"r{i}" for i in range(len(steps))) + "] | to_json }}"
        write = {"copy": {"content": text, "dest": str(out)}, "delegate_to": "localhost", "connection": "local"}
        book.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [*done, write]}]))
        shown = play(str(book), host.inventory, "--diff", "-vvv", "-e", f"ansible_playbook_python={sys.executable}")
        assert out.exists(), shown.stdout + shown.stderr
        results = json.loads(out.read_text())
        out.unlink()
        return [{**one, "shown": shown.stdout + shown.stderr + json.dumps(results)} for one in results]

    return tasks


def put(host: Fleet, folder: str, *files: Path) -> None:
    host.ssh("h1", ["mkdir", "-p", folder])
    argv = ["scp", "-q", "-F", host.ssh_config, *map(str, files), f"root@h1:{folder}/"]
    subprocess.run(argv, check=True, timeout=60)


def build(method: str, user: str = "root", check: bool = False, root: str = ROOT, **args: object) -> dict:
    options = {"root": root, "version": "2.8", "method": method, **args}
    return {"sciops.sites.release_build": options, "check_mode": check, "vars": {"ansible_user": user}}


def good(result: dict, changed: bool) -> dict:
    assert not result.get("failed"), result["msg"]
    assert result["changed"] is changed, result
    return result["build"]


def bad(result: dict, *words: str) -> str:
    assert result.get("failed") and not result["changed"], result
    assert not [word for word in words if word not in result["msg"]], result["msg"]
    return result["msg"]


# --- apptainer


def certificate(folder: Path) -> None:
    """Write the key and the certificate of the registry, which signs itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.OID_COMMON_NAME, NAME)])
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


@pytest.fixture(scope="module")
def image(host: Fleet, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry on the host that has one image; its digest."""
    folder = tmp_path_factory.mktemp("registry")
    certificate(folder)
    (folder / "password").write_text(PASSWORD)
    program = Path(__file__).parents[1] / "bed" / "registry.py"
    put(host, "/srv/registry", program, *(folder / name for name in ("cert.pem", "key.pem", "password")))
    put(host, "/root/.apptainer", *[folder / "password"])
    digest = host.image("h1", "/srv/registry/image.sif", "registered")
    host.ssh(
        "h1",
        "rm /root/.apptainer/password; printf %s '" + LOGIN + "' > /root/.apptainer/config.json; cd /srv/registry; "
        f"cat cert.pem >> /etc/ssl/certs/ca-certificates.crt; echo 127.0.0.1 {NAME} >> /etc/hosts; "
        "PYTHONUTF8=1 setsid python3 registry.py /srv/registry password image.sif /opt/jaws >out 2>&1 </dev/null &",
    )
    ends = time.monotonic() + 60
    while not host.ssh("h1", "ls /srv/registry/ready 2>/dev/null || :"):
        assert time.monotonic() < ends, host.ssh("h1", "cat /srv/registry/out")
        time.sleep(0.1)
    return "sha256:" + digest


def settings(digest: str | None, **more: object) -> dict:
    base = {
        "image": f"{ROOT}/bin/site-2.8.sif",
        "source": f"{SOURCE}:apptainer-2.8",
        "digest": digest,
        "username": "ci",
    }
    return {"settings": {**base, **more}, "secrets": {"password": PASSWORD}}


def test_w13_an_image_is_pulled_once_and_its_password_is_nowhere(host: Fleet, run: Run, image: str) -> None:
    wanted = settings(image, smoke=["cat", "/etc/tag"])
    checked, first = run(build("apptainer", check=True, **wanted), build("apptainer", **wanted))
    made = good(first, True)
    assert good(checked, True) == made and checked["diff"] == first["diff"]
    target = f"{ROOT}/builds/apptainer-{image[7:19]}.sif"
    assert made == {"method": "apptainer", "id": image, "link": f"{ROOT}/bin/site-2.8.sif", "target": target}
    assert first["diff"]["after"] == f"apptainer-{image[7:19]}\n" and first["diff"]["before"] == ""
    assert host.ssh("h1", f"sha256sum {target}").split()[0] == image[7:]
    asked = host.ssh("h1", "cat /srv/registry/requests")
    assert "/v2/jaws/site/manifests/apptainer-2.8" in asked

    # the registry would have seen it: a command line with the password is one leak
    look = "import pathlib, registry, sys; print(len(registry.leaks(sys.argv[1], pathlib.Path('/no/such/folder'))))"
    assert host.ssh("h1", ["env", "PYTHONPATH=/srv/registry", "PYTHONUTF8=1", "python3", "-c", look, PASSWORD]) != "0"
    # the password: no command line and no file of others at any request, no log, no output, nothing left
    assert host.ssh("h1", "cat /srv/registry/leaks") == ""
    log = host.ssh("h1", f"stat -c %a {first['log']}; cat {first['log']}")
    assert log.startswith("600") and "Token stored in" in log
    assert "p%w" not in log + first["shown"]
    assert host.ssh("h1", f"find {ROOT} -name '.private*'; grep -rlF 'p%w' {ROOT} || :") == ""

    # the digest is there: nothing is asked of the registry, not even a login; nor where only the file's time is new
    again, checked = run(build("apptainer", **wanted), build("apptainer", check=True, **wanted))
    assert good(again, False) == good(checked, False) == made and again["diff"]["before"] == again["diff"]["after"]
    host.ssh("h1", f"touch -d yesterday {target}")
    good(run(build("apptainer", **wanted))[0], True)
    assert host.ssh("h1", "cat /srv/registry/requests") == asked
    # the login of the user is as it was
    assert host.ssh("h1", "cat /root/.apptainer/config.json; ls /root/.apptainer").startswith(LOGIN)


def test_w13_an_image_that_is_not_the_one_is_refused(host: Fleet, run: Run, image: str) -> None:
    host.ssh("h1", f"mkdir -p {ROOT}/builds; ls -A {ROOT}/builds > /srv/before")
    wrong = "sha256:" + "0" * 64
    other, barred, gone, none, half, unreachable = run(
        build("apptainer", **settings(wrong)),
        build("apptainer", **{**settings(wrong), "secrets": {"password": "n0t it"}}),
        build("apptainer", **settings(wrong, source="/no/such/image.sif")),
        build("apptainer", **settings(None)),
        build("apptainer", **{**settings(wrong), "settings": {"source": SOURCE, "digest": wrong, "image": "/i"}}),
        build("apptainer", **settings(wrong, source="oras://127.0.0.1:1/jaws/site:1")),
    )
    bad(other, f"{SOURCE}:apptainer-2.8 is {image}, {wrong} is declared; nothing was installed")
    assert "n0t it" not in bad(barred, "apptainer pull: exit status") + barred["shown"]
    bad(gone, "apptainer.source: /no/such/image.sif: No such file or directory")
    bad(none, "apptainer.digest: None: must be sha256: and 64 digits")
    bad(half, "apptainer.username: is missing")
    bad(unreachable, "connection refused")
    left = host.ssh("h1", f"ls -A {ROOT}/builds | grep -v -e '{wrong[7:19]}.log' -e '^.lock$'; :")
    assert left == host.ssh("h1", "grep -v '^.lock$' /srv/before; :")
    assert host.ssh("h1", "cat /srv/registry/leaks") == ""


def test_an_image_from_a_file_or_by_the_digest_of_its_manifest(host: Fleet, run: Run, image: str) -> None:
    """Another target of the same host, and a source that names what it is."""
    manifest = host.ssh("h1", "cat /srv/registry/manifest")
    by_file, by_manifest, again = run(
        build("apptainer", root="/opt/jaws/b", **settings(image, source="file:///srv/registry/image.sif")),
        build("apptainer", root="/opt/jaws/b", **settings(None, source=f"{SOURCE}@{manifest}")),
        build("apptainer", root="/opt/jaws/b", **settings(None, source=f"{SOURCE}@{manifest}")),
    )
    targets = [good(one, changed) for one, changed in ((by_file, True), (by_manifest, True), (again, False))]
    assert [one["id"] for one in targets] == [image, manifest, manifest]
    sums = host.ssh("h1", "sha256sum " + " ".join(one["target"] for one in targets)).splitlines()
    assert {line.split()[0] for line in sums} == {image[7:]}


# --- venv


PROFILE = 'echo welcome; module() { [ "$*" = "load python" ] && export PATH="/opt/modules/python/bin:$PATH"; }\n'


def test_w12_an_environment_by_a_module_of_the_site(host: Fleet, run: Run, tmp_path: Path) -> None:
    line = wheel(tmp_path, "acme", "2.8")
    two = wheel(tmp_path, "acme", "2.9")
    (tmp_path / "modules.sh").write_text(PROFILE)
    put(host, "/srv/wheels", *tmp_path.glob("*.whl"))
    put(host, "/etc/profile.d", tmp_path / "modules.sh")
    host.ssh("h1", "mkdir -p /opt/modules/python/bin; ln -sf /usr/bin/python3 /opt/modules/python/bin/sitepython")
    root = "/home/jadelta/acme-prod"
    base = {"path": f"{root}/site", "python": "sitepython", "prelude": "module load python", "smoke": ["acme"]}
    base["options"] = ["--no-index", "--find-links", "/srv/wheels"]

    def venv(requirements: str, check: bool = False, **more: object) -> dict:
        return build("venv", "jadelta", check, root, settings={**base, "requirements": requirements, **more})

    checked, first, again, second, broken, lost = run(
        venv(line, check=True),
        venv(line),
        venv(line),
        venv(two),
        venv("acme==3.0"),
        venv(line, prelude="module load pyton"),
    )
    made = good(first, True)
    assert good(checked, True) == made == good(again, False) and made["target"] == f"{root}/builds/venv-{made['id']}"
    other = good(second, True)
    names = sorted(f"venv-{one['id']}" for one in (made, other))
    assert second["diff"]["after"] == "".join(f"{name}\n" for name in names)
    bad(broken, "pip install: exit status 1", "acme==3.0", "(log: ")
    bad(lost, "venv.python: sitepython after 'module load pyton' does not run")
    # both run, nothing points at them yet, and nothing else is left
    for one, version in ((made, "2.8"), (other, "2.9")):
        assert host.ssh("h1", one["target"] + "/bin/acme", user="jadelta") == f"acme {version}"
    assert host.ssh("h1", f"ls -A {root}") == "builds"
    found = host.ssh("h1", f"ls -A {root}/builds | grep -v -e log$ -e json$").split()
    assert sorted(found) == sorted([".lock", *names])


def test_a_full_disk_ends_a_build_and_leaves_nothing(host: Fleet, run: Run, tmp_path: Path) -> None:
    line, root = wheel(tmp_path, "acme", "1.0"), "/opt/jaws/full"
    put(host, "/srv/wheels", *tmp_path.glob("*.whl"))
    host.ssh("h1", f"mkdir -p {root}; mount -t tmpfs -o size=4m none {root}")
    options = ["--no-index", "--find-links", "/srv/wheels"]
    given = {"path": f"{root}/site", "requirements": line, "options": options}
    (failed,) = run(build("venv", root=root, settings=given))
    assert "No space left on device" in bad(failed, "venv.python: ") + host.ssh("h1", f"cat {failed['log']}")
    assert host.ssh("h1", f"ls -A {root}/builds | grep -v log$") == ".lock"
    host.ssh("h1", f"mount -o remount,size=100m {root}")
    good(run(build("venv", root=root, settings=given))[0], True)


# --- host_check


def ask(check: bool = False, **args: object) -> dict:
    return {"sciops.sites.host_check": args, "vars": {"ansible_user": "jadelta"}, "check_mode": check}


def test_host_check_tells_all_that_is_wrong_at_once(host: Fleet, run: Run) -> None:
    url = "http://ci:s3cret@127.0.0.1:1/status"
    checks = [
        {"url": url},
        {"port": 1},
        {"port": 22, "address": "127.0.0.1"},
        {"program": "apptainer", "version": ">=1.1"},
        {"program": "apptainer", "version": ">=99"},
        {"free": "1MiB", "path": "/home/jadelta/acme"},
        {"writable": "/home/jadelta/acme"},
        {"writable": "/opt/jaws/new"},
        {"command": ["false"]},
    ]
    install = {"method": "venv", "venv": {"path": "/s", "python": "python9", "colour": 1}}
    image = {"method": "apptainer", "apptainer": {"image": "/i", "source": "/s", "program": "/opt/no/apptainer"}}
    services = [{"name": "rpc-server"}]
    launch = {"method": "supervisord", "supervisord": {"config": "/s.conf", "program": "no-supervisord"}}
    told, other, fine, wrong = run(
        ask(checks=checks, install=install),
        ask(True, install=image, launch=launch, services=services),
        ask(checks=[check for i, check in enumerate(checks) if i in (2, 3, 5, 6)], install={"method": "none"}),
        ask(checks=[{"port": 1}, {"free": "much", "path": "/"}, {}]),
    )
    words = (
        "6 things are not as needed",
        "url http://ci:****@127.0.0.1:1/status: Connection refused",
        "port 127.0.0.1:1: ",
    )
    bad(told, *words, "needed is >=99", "may not write in /opt", "exit status 1", "venv.colour: no such setting")
    assert [one["ok"] for one in told["checks"]] == [i in (2, 3, 5, 6) for i in range(len(checks))] + [False]
    assert "s3cret" not in told["shown"].replace(json.dumps(url), "")
    bad(other, "apptainer: no program /opt/no/apptainer", "no program no-supervisord")
    assert not fine.get("failed") and fine["changed"] is False and all(one["ok"] for one in fine["checks"])
    assert "checks[1]: free: 'much'" in wrong["msg"] and "checks[2]: must have one of" in wrong["msg"]
    assert host.ssh("h1", "ls -d /home/jadelta/acme /opt/jaws/new 2>/dev/null || :") == ""
