# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the purge refuses and keeps: roots, mounts, lists of what is in use, limits, rights (W16)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from unit.deploy.purge_tree import WEEK, Tree, gone, tick, why

from ansible_collections.sciops.sites.plugins.module_utils import _purge, _purge_walk
from ansible_collections.sciops.sites.plugins.module_utils._purge import Refused
from ansible_collections.sciops.sites.plugins.modules import purge as module

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tree() -> Iterator[Tree]:
    one = Tree()
    yield one
    shutil.rmtree(one.top)


# --- roots that are refused


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "it is empty"),
        ("/", "3 components"),
        ("//", "3 components"),
        ("//scratch/acme-dev/inputs", "without //"),
        ("/home", "components"),
        ("/scratch/inputs", "3 components"),
        ("scratch/acme-dev/inputs", "absolute"),
        ("/scratch/acme-dev/../../etc", "without //"),
        ("/scratch/./acme-dev/inputs", "without //"),
        ("/usr/share/doc/x", "operating system"),
        ("/scratch/acme-dev/no-such", "No such file"),
    ],
)
def test_w16_roots_that_no_deployment_has(path: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        _purge.purge({"path": path, "older_than": "0"})


def test_w16_unset_scratch_is_refused(tmp_path: Path) -> None:
    """As a shell would make it of $SCRATCH/inputs and $SCRATCH."""
    for path in ("/inputs", ""):
        with pytest.raises(Refused):
            _purge.purge({"path": path, "older_than": "14d", "minimum_components": 2})
    with pytest.raises(Refused, match="minimum_components"):
        _purge.purge({"path": "/inputs", "older_than": "14d", "minimum_components": 1})


def test_w16_homes_symlinks_files_and_folders_of_others(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.put("u/1/file")
    tree.old()
    (tree.top / "link").symlink_to("/")
    (tree.top / "way").symlink_to(tree.top / "acme-dev")
    (tree.top / "file").touch()
    for path, words in (
        (tree.top / "link", "is a symlink"),
        (tree.top / "link" / "usr" / "share" / "doc", "operating system"),
        (tree.top / "file", "Not a directory"),
    ):
        with pytest.raises(Refused, match=words):
            tree.purge(path=str(path))
    # a symlink on the way is one thing, whose it is another
    assert tree.purge(True, path=str(tree.top / "way" / "inputs"))["removed"]
    me = os.geteuid()
    with pytest.raises(Refused, match="belongs to account"):
        tree.purge(owner=str(me + 1))
    with pytest.raises(Refused, match="no such account"):
        tree.purge(owner="no-such-account")
    home = t.cast(t.Any, type("Entry", (), {"pw_dir": str(tree.root / "me")}))
    monkeypatch.setattr(_purge_walk.pwd, "getpwuid", lambda _uid: home)
    with pytest.raises(Refused, match="holds the home"):
        tree.purge()
    assert tree.names() == {"u/1"}


def test_w16_symlinks_of_other_accounts(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.top / "way").symlink_to(tree.top / "acme-dev")
    if os.geteuid():
        pytest.skip("only root can give a symlink away")
    os.lchown(tree.top / "way", 12345, 12345)
    with pytest.raises(Refused, match="belongs to another account"):
        tree.purge(path=str(tree.top / "way" / "inputs"))


MOUNTS = """
import json, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.sciops.sites.plugins.module_utils import _purge
top = sys.argv[2]
def mount(*words):
    subprocess.run(["mount", *words], check=True)
mount("-t", "tmpfs", "none", top + "/acme-dev/inputs/u/1/deep/tmpfs")
open(top + "/acme-dev/inputs/u/1/deep/tmpfs/file", "w").close()
mount("--bind", top + "/outside", top + "/acme-dev/inputs/u/2/bound")
mount("--bind", top + "/outside", top + "/acme-dev/inputs/w")
mount("--bind", top + "/outside/linked", top + "/acme-dev/inputs/u/4/file")
time.sleep(0.05)
since = time.time()
def purge(path):
    try:
        return _purge.purge(dict(path=path, depth=2, older_than="1w"), now=since + 7 * 86400)
    except _purge.Refused as refused:
        return str(refused)
said = [purge(top + "/acme-dev/inputs")]
mount("--bind", top + "/acme-dev", top + "/acme-dev")
said.append(purge(top + "/acme-dev"))
print(json.dumps(said))
"""


def test_w16_mounts_are_neither_roots_nor_entered(tree: Tree) -> None:
    """A mount of its own device, and two of the same one, that no device number tells apart."""
    for name in ("u/1/deep/tmpfs/x", "u/2/bound/x", "u/3/file", "u/4/file", "w/x"):
        tree.put(name)
    tree.old()
    before = tree.beside()
    words = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    words += [sys.executable, "-I", "-S", "-c", MOUNTS, str(ROOT / ".collections"), str(tree.top)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result, refused = json.loads(done.stdout)
    assert gone(result) == ["u/3"]
    # a file that is mounted cannot be removed by anybody: the kernel says so
    assert why(result) == {"u/1": "mount", "u/2": "mount", "u/4": "failed", "w": "mount"}
    assert "a file system is mounted there" in refused
    assert tree.beside() == before


# --- lists of what is in use


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep_file": "/no/such/list"}, "keep_file.*No such file"),
        ({"keep_command": ["no-such-program"]}, "keep_command: no-such-program"),
        ({"keep_command": ["sh", "-c", "echo u/1; echo database is away >&2; exit 3"]}, "status 3: database is away"),
        ({"keep_command": ["sh", "-c", "echo cannot connect >&2"]}, "listed nothing, and complained: cannot"),
        ({"keep_command": ["sleep", "60"], "command_timeout": "0.2s"}, "did not end within"),
        ({"keep": ["u/../v"]}, "without .."),
        ({"runs_command": ["echo", "u/1 done"]}, "no JSON"),
        ({"runs_command": ["echo", '["u/1"]']}, "JSON object"),
        ({"runs_command": ["echo", '{"u/1": null}']}, "a state is a word"),
        ({"runs_command": ["false"]}, "status 1"),
        ({"older_than": "14 fortnights"}, "older_than: 14 fortnights"),
        ({"older_than": None}, "older_than: is missing"),
        ({"depth": 0}, "depth"),
        ({"max_bytes": "much"}, "max_bytes: much"),
        ({"keeps": []}, "no such option"),
        ({"keep": "u/1"}, "keep: 'u/1': must be of type list"),
        ({"keep_file": ""}, "keep_file"),
        ({"keep_command": []}, "keep_command: has no words"),
        ({"runs_command": []}, "runs_command: has no words"),
    ],
)
def test_without_a_list_nothing_goes(tree: Tree, options: dict, words: str) -> None:
    tree.put("u/1/file")
    tree.old()
    with pytest.raises(Refused, match=words):
        tree.purge(**options)
    assert tree.names() == {"u/1"}


def test_an_empty_file_is_no_list_and_a_comment_is(tree: Tree) -> None:
    tree.put("u/1/file")
    tree.old()
    listing = tree.top / "list"
    listing.touch()
    with pytest.raises(Refused, match="is empty"):
        tree.purge(keep_file=str(listing))
    listing.write_text("# none\n\n")
    assert gone(tree.purge(keep_file=str(listing), keep_command=["true"])) == ["u/1"]


def test_a_reference_keeps_what_holds_it_and_what_it_holds(tree: Tree) -> None:
    for name in ("u/1/d/precious.dat", "u/2/x", "v/1/x", "v/2/x"):
        tree.put(name)
    (tree.top / "alias").symlink_to(tree.top / "acme-dev")
    tree.old()

    def kept(*lines: str) -> set[str]:
        return set(why(tree.purge(check=True, keep=list(lines))))

    assert kept() == set()
    assert kept(f"{tree.root}/u") == kept("u") == kept(f"{tree.top}/alias/inputs/u") == {"u/1", "u/2"}
    assert kept("precious.dat") == kept("*.dat") == kept("u/1/d/precious.dat") == kept(f"{tree.root}/u/1/d/") == {"u/1"}
    assert kept(f"{tree.root}/*/d/prec*") == kept(f"{tree.top}/*/u/1") == {"u/1"}
    assert kept(str(tree.root)) == kept("/") == kept(f"{tree.top}/alias") == kept(f"{tree.top}/a*-dev") == tree.names()
    assert kept("/elsewhere/u/1", "u/3", "precious", f"{tree.top}/outside") == set()


def test_a_reference_through_a_symlink_keeps_what_it_leads_to_however_it_is_written(tree: Tree) -> None:
    tree.put("u/run7/in.bam")
    tree.put("u/run8/in.bam")
    (tree.root / "u" / "current").symlink_to("run7")
    tree.old()
    for line in ("u/current/in.bam", f"{tree.root}/u/current/in.bam", "u/current"):
        result = tree.purge(check=True, keep=[line])
        assert why(result) == {"u/run7": "referenced", "u/current": "referenced"} and gone(result) == ["u/run8"], line


def test_states_are_known_or_the_entry_stays(tree: Tree) -> None:
    for name in ("u/1/x", "u/2/x", "u/3/x", "u/4/x", "u/5/x"):
        tree.put(name)
    tree.old()
    states = '{"1": "done", "u/2": "RUNNING", "u/3": "Cancelled", "5": "done"}'
    result = tree.purge(runs_command=["echo", states], runs={"[5]": "running"})
    assert gone(result) == ["u/1", "u/3"] and why(result) == dict.fromkeys(["u/2", "u/4", "u/5"], "state")
    assert [one["detail"] for one in result["kept"]][1] == "u/4: its state is not known"
    assert gone(tree.purge(runs_command=["echo", "{}"])) == gone(tree.purge(runs={})) == []
    assert gone(tree.purge(runs={"*": "running"}, purge_states=["running"])) == ["u/2", "u/4", "u/5"]


# --- limits, rights, reports


def test_limits(tree: Tree) -> None:
    for name in ("u/1/x", "u/2/x", "u/3/x"):
        tree.put(name)
    tree.old()
    assert why(tree.purge(check=True, max_bytes="250B")) == {"u/3": "limit"}
    assert gone(tree.purge(time_limit="0s")) == []
    assert gone(tree.purge(max_entries=2)) == ["u/1", "u/2"]
    assert gone(tree.purge(max_entries=2)) == ["u/3"]


def test_names_of_one_file_count_once_and_do_not_make_each_other_young(tree: Tree) -> None:
    first = tree.put("u/1/x", "y" * 5000)
    for name in ("u/1/again", "u/2"):
        os.link(first, tree.root / name)
    tree.old()
    result = tree.purge(report=str(tree.top / "report.json"))
    assert [(one["path"], one["bytes"], one["objects"]) for one in result["removed"]] == [
        ("u/1", 5000, 3),
        ("u/2", 5000, 1),
    ]
    assert all(one["allocated"] >= 5000 and one["age"] >= WEEK for one in result["removed"])
    assert json.loads((tree.top / "report.json").read_text()) == result and result["bytes"] == 10000


def as_nobody(tree: Tree) -> dict:
    """What the purge of an ordinary account tells: root may everything."""
    if os.geteuid():
        return tree.purge()
    for folder, folders, files in os.walk(tree.top):
        for name in [".", *folders, *files]:
            os.chown(Path(folder, name), 65534, 65534)
    tree.old()
    answer, question = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(question, json.dumps(tree.purge()).encode())
        finally:
            os._exit(0)
    os.close(question)
    with open(answer, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told)


def test_what_may_not_be_looked_into_or_emptied_stays_and_is_told(tree: Tree) -> None:
    for name in ("u/1/shut/x", "u/2/fixed/x", "u/3/x", "v/1"):
        tree.put(name)
    deep = tree.root / "u/4"
    deep.mkdir()
    here = os.open(deep, os.O_DIRECTORY)
    for _level in range(_purge_walk.DEEPEST + 5):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    for path, mode in (("u/1/shut", 0), ("u/2/fixed", 0o555), ("v", 0o300)):
        (tree.root / path).chmod(mode)
    tree.old()
    result = as_nobody(tree)
    for path in ("u/1/shut", "u/2/fixed", "v"):
        (tree.root / path).chmod(0o755)
    assert gone(result) == ["u/3"]
    assert why(result) == {"u/1": "unreadable", "u/2": "denied", "u/4": "unreadable", "v": "unreadable"}
    assert len(result["problems"]) == 4 and "folders deep" in result["problems"][2]
    assert tree.names() == {"u/1", "u/2", "u/4", "v/1"}


def test_the_program_of_a_host(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.put("u/1/x")
    config, broken = tree.top / "inputs.json", tree.top / "broken.json"
    config.write_text(json.dumps({"path": str(tree.root), "depth": 2, "older_than": "0s", "keep": ["none"]}))
    broken.write_text("{}")
    tick()
    assert _purge.main([str(config), "--check"]) == 0
    assert "would remove u/1 (100 bytes" in capsys.readouterr().out and tree.names()
    assert _purge.main([str(config)]) == 0
    assert f"removed 1 entries of {tree.root}: 100 bytes" in capsys.readouterr().out and not tree.names()
    for words in ([str(broken)], [str(tree.top / "none")], [], [str(config), "--force"]):
        assert _purge.main(words) == 1
        assert capsys.readouterr().err


def test_options_of_the_module_are_those_of_the_program() -> None:
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    required = {"path", "older_than"}
    assert {name: one.get("default") for name, one in options.items() if name not in required} == _purge.DEFAULTS
