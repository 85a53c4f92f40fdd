# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site_config and site_folders on a real host, with the programs that read what was rendered."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bed.fleet import Fleet
from bed.fleet import bed as run_bed
from bed.play import Player

pytestmark = pytest.mark.hosts

Run = Callable[..., list[dict]]
PASSWORD = 'a%b$HOME "c d"'
IN_CREATE = 0x100
AWKWARD = [PASSWORD, "", "100%", "%n %%", "${HOME} $(id) `id`", "it's", "both'\"", "back\\slash\\", "a ; b # c"]
AWKWARD += ["two\nlines", "\ttab ", "grüße ☃", "$$", "-n"]
SHOW = """import json, os, sys
with open(sys.argv[1], "w") as file:
    json.dump([sys.argv[2:], dict(os.environ)], file)
"""
TREE = {
    "config/jaws-site.conf.j2": "[DB]\nuser = jaws\npassword = {{ PW | ini_value }}\n",
    "config/site.env.j2": 'ENV_OVERRIDE_PREFIX="ENV__"\nENV__DB_password={{ PW | env_file_value }}\n',
    "config/supervisor.conf.j2": "[inet_http_server]\nport = 127.0.0.1:64101\nusername = jaws\n"
    "password = {{ PW | supervisor_value }}\n[supervisord]\npidfile = /run/it.pid\nlogfile = /run/it.log\n"
    "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
    "[program:show]\n"
    "command = {{ ['/usr/bin/python3', '/opt/it/show.py', '/run/supervised', PW] | supervisor_value('program') }}\n"
    "environment = {{ {'PW': PW + '!'} | supervisor_value('program') }}\nstartsecs = 0\nautorestart = false\n",
    "config/unit.env.j2": "{% for v in V %}F{{ loop.index0 }}={{ v | systemd_value('file') }}\n{% endfor %}",
    "bin/{{ shim }}.j2": "#!/bin/bash\nset -a\n. /opt/it/config/site.env\n"
    "exec /usr/bin/python3 /opt/it/show.py /run/shim\n",
}
UNIT = """[Service]
Type=oneshot
RemainAfterExit=yes
{% for v in V %}
Environment=E{{ loop.index0 }}={{ v | systemd_value }}
{% endfor %}
EnvironmentFile=/opt/it/config/unit.env
ExecStart=/usr/bin/python3 /opt/it/show.py /run/unit{% for v in V %} {{ v | systemd_value("exec") }}{% endfor %}

"""


@pytest.fixture(scope="module")
def host(fleet: Callable[..., Fleet]) -> Fleet:
    one = fleet(1, kind="systemd")
    one.ssh("h1", "groupadd jaws; groupadd guests; usermod -aG guests deploy; umask 022; mkdir -p /opt/it /scratch")
    one.ssh("h1", ["sh", "-c", 'printf %s "$1" > /opt/it/show.py', "sh", SHOW])
    return one


@pytest.fixture
def run(host: Fleet, play: Player, tmp_path: Path) -> Run:
    """Tasks on h1, one after the other in one play, failed ones too; returns what each of them returned."""

    def tasks(*steps: dict) -> list[dict]:
        book, out = tmp_path / "book.yml", tmp_path / "out.json"
        done = [{"name": "T", "register": f"r{i}", "ignore_errors": True, **step} for i, step in enumerate(steps)]
        text = "{{ [" + ", ".join(f"r{i}" for i in range(len(steps))) + "] | to_json }}"
        write = {"copy": {"content": text, "dest": str(out)}, "delegate_to": "localhost", "connection": "local"}
        book.write_text(
            json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [*done, {**write, "diff": False}]}])
        )
        shown = play(str(book), host.inventory, "--diff", "-vv", "-e", f"ansible_playbook_python={sys.executable}")
        assert out.exists(), shown.stdout + shown.stderr
        results = json.loads(out.read_text())
        out.unlink()
        return [{**one, "shown": shown.stdout + shown.stderr} for one in results]

    return tasks


def lay(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(folder)


def config(check: bool = False, **args: object) -> dict:
    return {"sciops.sites.site_config": args, "check_mode": check}


def folders(*given: dict, check: bool = False) -> dict:
    return {"sciops.sites.site_folders": {"folders": list(given)}, "check_mode": check}


def good(result: dict, changed: bool) -> dict:
    assert not result.get("failed"), result.get("msg")
    assert result["changed"] is changed, result
    return result


def bad(result: dict, *words: str) -> dict:
    assert result.get("failed") and not result.get("changed"), result
    assert not [word for word in words if word not in result["msg"]], result["msg"]
    return result


def root_of(host: Fleet) -> Path:
    """The file system of the host, as this machine sees it."""
    (line,) = run_bed("list", host.number).splitlines()
    return Path(f"/proc/{line.split()[-1]}/root")


class Watch:
    """Looks without a pause, while something runs, at modes of files in folders and at words of processes."""

    def __init__(self, folders: list[Path], needle: str) -> None:
        self.folders, self.needle = folders, needle.encode()
        self.seen: dict[str, set[int]] = {}
        self.made: set[str] = set()
        self.argv: list[bytes] = []
        self.looks = [0, 0]
        self.over = threading.Event()
        libc = ctypes.CDLL(None)
        self.events = libc.inotify_init1(os.O_NONBLOCK)
        for folder in folders:
            assert libc.inotify_add_watch(self.events, os.fsencode(folder), IN_CREATE) >= 0
        self.threads = [threading.Thread(target=one) for one in (self.files, self.processes)]

    def files(self) -> None:
        while not self.over.is_set():
            self.looks[0] += 1
            for folder in self.folders:
                for name in os.listdir(folder):
                    with contextlib.suppress(OSError):
                        mode = stat.S_IMODE((folder / name).lstat().st_mode)
                        self.seen.setdefault(name, set()).add(mode)
            with contextlib.suppress(BlockingIOError):
                data = os.read(self.events, 65536)
                while data:
                    size = struct.unpack_from("iIII", data)[3]
                    self.made.add(data[16 : 16 + size].rstrip(b"\0").decode())
                    data = data[16 + size :]

    def processes(self) -> None:
        while not self.over.is_set():
            self.looks[1] += 1
            for pid in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if self.needle in words:
                        self.argv.append(words)

    def __enter__(self) -> Watch:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()
        os.close(self.events)


def trees(tmp_path: Path, password: str) -> dict:
    return {
        "trees": [
            {"src": lay(tmp_path / "tree", TREE), "dest": "/opt/it", "mode": "0700"},
            {"src": lay(tmp_path / "unit", {"show.service.j2": UNIT}), "dest": "/etc/systemd/system", "mode": "0644"},
        ],
        "variables": {"PW": password, "V": AWKWARD, "shim": "run"},
        "secrets": ["PW"],
    }


@pytest.fixture
def rendered(host: Fleet, run: Run, tmp_path: Path) -> Iterator[dict]:
    """All of it on the host; what the task said."""
    host.ssh("h1", "rm -rf /opt/it/config /opt/it/bin")
    yield good(run(config(**trees(tmp_path, PASSWORD)))[0], True)


def test_w5_the_password_reaches_every_reader_unchanged(host: Fleet, rendered: dict) -> None:
    read = "import configparser as c\np = c.ConfigParser()\np.read('/opt/it/config/jaws-site.conf')\n"
    read += "print(p['DB']['password'])"
    assert host.ssh("h1", ["python3", "-c", read]) == PASSWORD
    for shell in ("bash", "dash"):
        script = '. /opt/it/config/site.env; printf %s "$ENV__DB_password"'
        assert host.ssh("h1", [shell, "-c", script]) == PASSWORD
    host.ssh("h1", "/opt/it/bin/run")
    assert json.loads(host.ssh("h1", "cat /run/shim"))[1]["ENV__DB_password"] == PASSWORD

    host.ssh("h1", "supervisord -c /opt/it/config/supervisor.conf")
    try:
        wanted = base64.b64encode(f"jaws:{PASSWORD}".encode()).decode()
        ask = "import urllib.request as u\n"
        ask += "r = u.Request('http://127.0.0.1:64101/', headers={'Authorization': 'Basic %s'})\n"
        ask += "try:\n    print(u.urlopen(r).status)\nexcept u.HTTPError as e:\n    print(e.code)"
        assert host.ssh("h1", ["python3", "-c", ask % wanted]) == "200"
        assert host.ssh("h1", ["python3", "-c", ask % base64.b64encode(b"jaws:other").decode()]) == "401"
        host.ssh("h1", "until [ -s /run/supervised ]; do sleep 0.1; done")
        words, variables = json.loads(host.ssh("h1", "cat /run/supervised"))
        assert words == [PASSWORD] and variables["PW"] == PASSWORD + "!"
    finally:
        host.ssh("h1", "kill $(cat /run/it.pid)")

    host.ssh("h1", "systemctl daemon-reload; systemctl restart show")
    words, variables = json.loads(host.ssh("h1", "cat /run/unit"))
    assert words == AWKWARD
    for letter in "EF":
        assert [variables[f"{letter}{n}"] for n in range(len(AWKWARD))] == AWKWARD


def test_w5_nobody_sees_a_secret_at_any_moment(host: Fleet, run: Run, rendered: dict, tmp_path: Path) -> None:
    host.ssh("h1", "journalctl --rotate -q; journalctl --vacuum-time=1s -q")
    given = [{**trees(tmp_path, f"hush{n}hush {PASSWORD}"), "backup": n == 2} for n in range(3)]
    for one in given:
        one["trees"][0]["mode"] = "0600"
    with Watch([root_of(host) / "opt/it" / name for name in ("bin", "config")], "hush") as watch:
        seen = run(config(check=True, **given[0]), *(config(**one) for one in given), config(**given[2]))
    assert all(seen[0][key] == seen[1][key] for key in ("diff", "written", "files"))
    for one in seen[:4]:
        good(one, True)
    assert good(seen[4], False)["diff"] == []
    assert min(watch.looks) > 20 and not watch.argv
    assert len([name for name in watch.made if name.startswith(".sciops.")]) >= 9, watch.made
    assert not {name: modes for name, modes in watch.seen.items() if any(mode & 0o077 for mode in modes)}
    for text in (json.dumps(seen), host.ssh("h1", "journalctl -q --no-pager; true")):
        found = text.find("hush")
        assert found < 0, text[found - 300 : found + 100]
    diff = json.dumps(seen[1]["diff"])
    assert "password = ********" in diff and "user = jaws" in diff and "ENV__DB_password='********'" in diff
    kept = host.ssh("h1", "stat -c %a /opt/it/config/*~").split()
    assert len(kept) == 3 and set(kept) == {"600"}


def test_one_fault_and_nothing_is_sent_or_written(host: Fleet, run: Run, tmp_path: Path) -> None:
    host.ssh("h1", "rm -rf /opt/no; mkdir /opt/no; echo old > /opt/no/good.conf")
    missing = lay(tmp_path / "missing", {"a.j2": "{{ KNOWN }}\n{{ KNOWM }}", "b/c.j2": "\n\n{{ OTHER }}"})
    broken = {"good.conf": "[S]\na = 1\n", "run.sh": "if\n", "x.service": "[Service]\nExecStart=no\n", "z.ini": "a\n"}
    later = {"a.service": "[Service]\nExecStart=/opt/no/later\nNoSuchKey=1\n", "later": "#!/bin/sh\n"}
    undefined, nowhere, refused, fine, wide = run(
        config(src=missing, dest="/opt/no", variables={"KNOWN": 1}),
        config(),
        config(src=lay(tmp_path / "broken", broken), dest="/opt/no"),
        config(src=lay(tmp_path / "later", later), dest="/opt/no", mode="0755", check=True),
        config(src=missing, dest="/opt/no", mode="0644", secret=True, variables={"KNOWM": 1, "KNOWN": 1, "OTHER": 1}),
    )
    bad(undefined, f'{missing}/a.j2:2: KNOWM: is undefined, did you mean "KNOWN"?', f"{missing}/b/c.j2:3: OTHER")
    bad(nowhere, "this host has no target")
    bad(refused, "/opt/no/run.sh", "(bash): run.sh: line 2", "/opt/no/x.service", "(systemd)", "/opt/no/z.ini", "(ini)")
    bad(wide, "mode: 0644: lets others at what is declared secret")
    # a program that comes with the unit is not there yet
    good(fine, True)
    assert host.ssh("h1", "ls -A /opt/no; cat /opt/no/good.conf") == "good.conf\nold"


def test_a_full_disk_loses_nothing(host: Fleet, run: Run, tmp_path: Path) -> None:
    host.ssh("h1", "mkdir -p /mnt/small; mount -t tmpfs -o size=64k small /mnt/small; echo old > /mnt/small/a")
    files = {"a": "new\n", "b": "x" * 50000, "c": "y" * 50000}
    (full,) = run(config(src=lay(tmp_path / "big", files), dest="/mnt/small"))
    bad(full, "No space left on device")
    assert host.ssh("h1", "ls -A /mnt/small; cat /mnt/small/a") == "a\nold"


def test_a_release_is_staged_and_does_not_go_live(host: Fleet, run: Run, tmp_path: Path) -> None:
    tree = {**trees(tmp_path, PASSWORD), "stage": "2.8-0123456789ab", "root": "/opt/staged"}
    host.ssh("h1", "rm -rf /opt/it/config /opt/it/bin; mkdir -p /opt/staged")
    checked, first, again = run(config(check=True, **tree), config(**tree), config(**tree))
    good(checked, True)
    assert good(first, True)["files"] == good(again, False)["files"] == checked["files"]
    below = "/opt/staged/.sciops/releases/2.8-0123456789ab/files"
    names = [str(n) for n in range(len(first["files"]))]
    assert host.ssh("h1", f"cd {below}; stat -c '%n %a' * | sort -V").splitlines() == [f"{name} 600" for name in names]
    sums = dict(line.split()[::-1] for line in host.ssh("h1", f"cd {below}; sha256sum *").splitlines())
    assert [one["digest"] for one in first["files"]] == [sums[name] for name in names]
    assert host.ssh("h1", "stat -c %a /opt/staged/.sciops; ls /opt/it") == "700\nshow.py"
    assert set(first["files"][0]) == set("dest mode owner group digest restarts secret validate".split())


# --- folders

BASE = "user::rwx\ngroup::rwx\nother::r-x"


def spec(users: bool, setfacl: bool, perms: str = "0775") -> list[dict]:
    """The three folders as the rules for JAWS want them."""
    inputs = ["d:g:jaws:rwx", *(["d:g:guests:rwx"] if users else ["d:o::rwx", "o::rwx"])]
    executions = ["d:g:jaws:rwx", "d:g:guests:rx" if users else "d:o::rx"]
    given = (("", perms, inputs), ("/inputs", perms, inputs), ("/cromwell-executions", "0775", executions))
    return [
        {"path": f"/scratch/acme-dev{name}", "mode": mode, "group": "jaws", "acl": acl if setfacl else []}
        for name, mode, acl in given
    ]


def acl(*default: str, other: str = "r-x") -> str:
    first = f"user::rwx\ngroup::rwx\nother::{other}"
    return first + "".join(f"\ndefault:{line}" for line in default)


INPUTS = acl("user::rwx", "group::rwx", "group:jaws:rwx", "group:guests:rwx", "mask::rwx", "other::r-x")
RUNS = acl("user::rwx", "group::rwx", "group:jaws:rwx", "group:guests:r-x", "mask::rwx", "other::r-x")
OPEN = acl("user::rwx", "group::rwx", "group:jaws:rwx", "mask::rwx", "other::rwx", other="rwx")
OPEN_RUNS = acl("user::rwx", "group::rwx", "group:jaws:rwx", "mask::rwx", "other::r-x")
WANTED = {(True, True): [INPUTS, INPUTS, RUNS], (False, True): [OPEN, OPEN, OPEN_RUNS], (True, False): [acl()] * 3}
WANTED[False, False] = WANTED[True, False]


def getfacl(host: Fleet, path: str) -> str:
    return sorted_acl(host.ssh("h1", ["getfacl", "-cpE", path]))


def command(*words: str) -> dict:
    return {"ansible.builtin.command": {"argv": list(words)}}


def sorted_acl(text: str) -> str:
    return "\n".join(sorted(text.split(), key=lambda line: ("default" in line, "ugmo".index(line.split(":")[-3][0]))))


def test_w6_acls_are_those_of_the_rules_and_nobody_loses_anything_meanwhile(host: Fleet, run: Run) -> None:
    host.ssh("h1", "rm -rf /scratch/acme-dev /tmp/stop; mkdir -p -m 775 /scratch/acme-dev/inputs")
    listing = "import os\nseen = bad = 0\nwhile not os.path.exists('/tmp/stop'):\n    try:\n"
    listing += (
        "        os.listdir('/scratch/acme-dev/inputs')\n        seen += 1\n    except OSError:\n        bad += 1\n"
    )
    listing += "print(seen, bad)"
    cases = [(users, setfacl, perms) for users, setfacl in WANTED for perms in ("0775", "2775")]
    paths = [one["path"] for one in spec(True, True)]
    steps = []
    for case in cases:
        declared = spec(*case)
        steps += [
            folders(*declared, check=True),
            folders(*declared),
            folders(*declared),
            command("getfacl", "-cpE", *paths),
        ]
        steps += [command("stat", "-c", "%a %G", *paths)]
    # from one group to another: who lists as one of the group before, and as anybody after, never stops
    old = {"path": "/scratch/acme-dev/inputs", "mode": "0750", "group": "guests", "acl": []}
    turns = [folders(one) for one in (old, spec(True, False)[1]) * 4]
    with ThreadPoolExecutor(1) as pool:
        lister = pool.submit(host.ssh, "h1", ["python3", "-c", listing], user="deploy", timeout=300)
        try:
            seen = run(*steps, *turns)
        finally:
            host.ssh("h1", "touch /tmp/stop")
        count, failures = map(int, lister.result().split())
    assert count > 100 and failures == 0
    for n, (users, setfacl, perms) in enumerate(cases):
        checked, first, again, acls, modes = seen[5 * n : 5 * n + 5]
        assert good(checked, True)["diff"] == good(first, True)["diff"]
        assert good(again, False)["diff"] == []
        assert [sorted_acl(text) for text in acls["stdout"].split("\n\n")] == WANTED[users, setfacl]
        wide = "777" if setfacl and not users else "775"
        special = perms[0] if perms[0] != "0" else ""
        assert modes["stdout"].splitlines() == [f"{special}{wide} jaws"] * 2 + ["775 jaws"]
    assert [one["changed"] for one in seen[-8:]] == [True] * 8


def test_repair_gives_group_and_acl_to_what_is_below(host: Fleet, run: Run) -> None:
    host.ssh("h1", "rm -rf /scratch/rep; umask 077; mkdir -p /scratch/rep/a/b")
    script = "umask 077; cd /scratch/rep/a; echo x > f; cp f run; chmod 700 run"
    host.ssh("h1", script + "; ln -s /etc/shadow link; ln f /scratch/rep/second; echo y > b/g; mkfifo pipe")
    one = {"path": "/scratch/rep", "mode": "0775", "group": "jaws", "acl": ["d:g:guests:rx"], "recursive": True}
    checked, first, again = run(folders(one, check=True), folders(one), folders(one))
    assert good(checked, True)["repaired"] == good(first, True)["repaired"]
    assert set(first["repaired"]) == {f"/scratch/rep/{name}" for name in ("a", "a/b", "a/run", "a/b/g")}
    assert len(first["warnings"]) == 2 and "has 2 names" in first["warnings"][0]
    good(again, False)
    assert "group:guests:r--" in getfacl(host, "/scratch/rep/a/b/g")
    assert "group:guests:r-x" in getfacl(host, "/scratch/rep/a/run")
    assert "default:group:guests:r-x" in getfacl(host, "/scratch/rep/a/b")
    assert (
        host.ssh("h1", "stat -c '%a %G' /etc/shadow /scratch/rep/a/f; stat -c %G /scratch/rep/a/run")
        == "640 shadow\n600 root\njaws"
    )


def test_object_stores_are_no_folders_and_bad_words_change_nothing(host: Fleet, run: Run) -> None:
    away, wrong = run(
        folders({"path": "s3://bucket-dev", "mode": "0775"}),
        folders({"path": "/scratch/new"}, {"path": "/scratch/../x"}, {"path": "/y", "acl": ["q:r"], "group": "none"}),
    )
    assert good(away, False)["skipped"] == ["s3://bucket-dev"]
    bad(wrong, "/scratch/../x: must be an absolute path", "/y: acl: q:r: must be like")
    assert host.ssh("h1", "ls -d s3* /scratch/new 2>&1 || :").count("No such file") == 2


def test_apptainer_reads_its_env_file_as_it_was_meant(
    fleet: Callable[..., Fleet], play: Player, tmp_path: Path
) -> None:
    lines = "{%% for v in V %%}V{{ loop.index0 }}={{ v | env_file_value%s }}\n{%% endfor %%}"
    src = lay(tmp_path / "env", {"site.env.j2": lines % "('apptainer')", "plain.env.j2": lines % ""})
    task = {"name": "T", "sciops.sites.site_config": {"src": src, "dest": "/opt/env", "variables": {"V": AWKWARD}}}
    book = tmp_path / "book.yml"
    book.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [task]}]))
    with fleet(1, kind="systemd", recipe="cluster") as one:
        one.image("h1", "/opt/it.sif", "one")
        shown = play(str(book), one.inventory)
        assert shown.rc == 0, shown.stdout
        names = " ".join(f'"$V{n}"' for n in range(len(AWKWARD)))
        for options in (["--env-file=/opt/env/site.env"], ["--no-eval", "--env-file=/opt/env/plain.env"]):
            call = ["apptainer", "run", "--cleanenv", *options, "/opt/it.sif", "sh", "-c"]
            assert one.ssh("h1", [*call, f"printf '%s|' {names}"]) == "|".join(AWKWARD) + "|"
