# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The purge on real trees: what is old and nobody's goes, and nothing else, also while somebody works there (W16)."""

from __future__ import annotations

import os
import shutil
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.deploy.purge_tree import Tree, gone, why

from ansible_collections.sciops.sites.plugins.module_utils import _purge, _purge_walk


@pytest.fixture
def tree() -> Iterator[Tree]:
    one = Tree()
    yield one
    shutil.rmtree(one.top)


# --- random trees

#: what lies in an entry: (path, kind)
CONTENT = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a", "sp ace\n/\udcff"]),
        st.sampled_from(["file", "file", "folder", "out", "loop", "dangling", "hard", "shared"]),
    ),
    max_size=5,
    unique_by=lambda one: one[0],
)
ENTRY = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["folder", "folder", "folder", "file", "link", "hard"]),
        "content": CONTENT,
        "touch": st.sampled_from(["", "", "", "top", "inside", "new"]),
        "refer": st.sampled_from(["", "", "", "", "name", "path", "absolute", "glob", "within", "real"]),
        "state": st.sampled_from(["done", "FAILED", "done", "running", None]),
    }
)
TREES = st.dictionaries(st.sampled_from(["u/1", "u/2", "u/3", "v/1", "v/4", "v/.5"]), ENTRY, max_size=6)


def build(tree: Tree, name: str, entry: dict) -> None:
    path = tree.root / name
    path.parent.mkdir(exist_ok=True)
    if entry["kind"] != "folder":
        make(tree, path, {"link": "out", "hard": "shared"}.get(entry["kind"], "file"))
        return
    path.mkdir()
    for below, kind in entry["content"]:
        inner = path / below
        if not any((path / "/".join(below.split("/")[:n])).is_symlink() for n in (1, 2)):
            try:
                inner.parent.mkdir(parents=True, exist_ok=True)
                make(tree, inner, kind)
            except (FileExistsError, NotADirectoryError):
                pass


def make(tree: Tree, path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind in ("out", "loop", "dangling"):
        path.symlink_to({"out": tree.outside / "folder", "loop": tree.root, "dangling": "/nowhere"}[kind])
    elif kind == "hard":
        os.link(tree.outside / "linked", path)
    elif kind == "shared":
        shared = tree.top / "shared"
        shared.touch()
        os.link(shared, path)
    else:
        path.write_text("text")


def objects(path: Path) -> list[Path]:
    found = [path]
    if path.is_dir() and not path.is_symlink():
        found += [Path(folder, one) for folder, dirs, files in os.walk(path) for one in dirs + files]
    return found


def touch(path: Path, how: str) -> None:
    """Change something as a person or a transfer would, with times of long ago where it can."""
    inside = objects(path)
    if how == "new" and path.is_dir() and not path.is_symlink():
        (path / "fresh").write_text("x")
        os.utime(path / "fresh", (1, 1))
    else:
        os.utime(inside[-1] if how == "inside" else path, (1, 1), follow_symlinks=False)


def reference(tree: Tree, name: str, entry: dict) -> list[str]:
    alias = tree.top / "alias"
    words = {
        "name": name.rsplit("/", 1)[1],
        "path": name,
        "absolute": f"{tree.root}/{name}/",
        "glob": name[:-1] + "[0-9]",
    }
    words |= {"within": f"{tree.root}/{name}/what/ever", "real": f"{alias}/{name}"}
    return [words[entry["refer"]]] if entry["refer"] else []


def referred(name: str, spec: dict[str, dict]) -> bool:
    user, last = name.split("/")
    for other, entry in spec.items():
        how, (its_user, its_last) = entry["refer"], other.split("/")
        if how == "name" and its_last == last:
            return True
        if how == "glob" and user == its_user and len(last) == len(its_last) and (len(last) == 1 or last[0] == "."):
            return True
        if how in ("path", "absolute", "within", "real") and other == name:
            return True
    return False


@given(TREES, st.booleans())
def test_exactly_what_is_old_and_nobodys_goes(spec: dict[str, dict], with_states: bool) -> None:
    tree = Tree()
    try:
        (tree.top / "alias").symlink_to(tree.root)
        (tree.root / "note").write_text("no entry: too high")
        (tree.root / "way-out").symlink_to(tree.outside)
        for name, entry in spec.items():
            build(tree, name, entry)
        tree.old()
        for name, entry in spec.items():
            if entry["touch"]:
                touch(tree.root / name, entry["touch"])
        keep = [line for name, entry in spec.items() for line in reference(tree, name, entry)]
        states = {name: entry["state"] for name, entry in spec.items() if entry["state"]}
        options = {"keep": keep, **({"runs": states} if with_states else {})}
        limit = int(tree.since * 1e9)

        def young(name: str) -> bool:
            return any(path.lstat().st_ctime_ns > limit for path in objects(tree.root / name))

        stays = {name for name in spec if young(name) or referred(name, spec)}
        if "runs" in options:
            stays |= {name for name, entry in spec.items() if (entry["state"] or "").lower() not in ("done", "failed")}
        before, all_names = tree.beside(), tree.names()

        told = tree.purge(check=True, **options)
        assert tree.names() == all_names and tree.beside() == before
        done = tree.purge(**options)
        assert {**done, "check": True} == told
        assert tree.names() == stays | (all_names - set(spec))
        assert set(gone(done)) == set(spec) - stays
        assert set(why(done)) == tree.names() and not done["problems"]
        assert tree.beside() == before

        again = tree.purge(**options)
        assert again["removed"] == [] and tree.names() == set(why(done))
    finally:
        shutil.rmtree(tree.top)


# --- somebody works there meanwhile


@pytest.mark.parametrize("what", ["file", "new", "mode", "replaced"])
def test_what_is_touched_after_the_look_stays_whole(tree: Tree, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    for name in ("u/1/d/file", "u/2/d/file"):
        tree.put(name)
    tree.old()
    check_size = _purge.Limits.check_size

    def between(self: t.Any, path: str, tally: t.Any) -> None:
        check_size(self, path, tally)
        if path == "u/1":
            entry = tree.root / path
            if what == "file":
                (entry / "d/file").write_text("new words")
            elif what == "new":
                (entry / "d/more").write_text("new")
            elif what == "mode":
                entry.chmod(0o700)
            else:
                shutil.rmtree(entry)
                tree.put("u/1/d/file")

    monkeypatch.setattr(_purge.Limits, "check_size", between)
    result = tree.purge()
    assert gone(result) == ["u/2"] and why(result) == {"u/1": "touched"} and not result["problems"]
    assert (tree.root / "u/1/d/file").is_file() and os.listdir(tree.root / "u") == ["1"]


def test_what_is_made_in_an_entry_while_it_goes_is_not_removed(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who has it open can still reach it; what he writes stays, and it is told where."""
    tree.put("u/1/a/file")
    tree.put("u/1/b/file")
    tree.old()
    handle = os.open(tree.root / "u/1", os.O_DIRECTORY)
    put_aside = _purge_walk.Walk.put_aside

    def then(*args: t.Any) -> str:
        aside = put_aside(*args)
        assert os.listdir(tree.root / "u") == [".purge-1"]
        for folder in ("a", "b"):
            with open(os.open(f"{folder}/fresh", os.O_CREAT | os.O_WRONLY, dir_fd=handle), "w") as file:
                file.write("precious")
        return aside

    monkeypatch.setattr(_purge_walk.Walk, "put_aside", then)
    result = tree.purge()
    os.close(handle)
    assert gone(result) == [] and why(result) == {"u/1": "failed"} and "was changed while" in result["problems"][0]
    assert {path.name for path in tree.root.rglob("fresh") if path.read_text() == "precious"} == {"fresh"}
    assert len(list(tree.root.rglob("fresh"))) == 2

    # what is left is an entry like any other, known by its old name
    monkeypatch.undo()
    assert why(tree.purge()) == {"u/.purge-1": "young"}
    tree.old()
    assert why(tree.purge(keep=["u/1"])) == {"u/.purge-1": "referenced"}
    assert why(tree.purge(runs={"1": "running"})) == {"u/.purge-1": "state"}
    assert gone(tree.purge()) == ["u/.purge-1"] and tree.names() == set()


def test_an_entry_that_is_made_anew_meanwhile_is_not_overwritten(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.put("u/1/file", "old words")
    tree.old()
    rename = os.rename

    def renamed(*args: t.Any, **more: t.Any) -> None:
        rename(*args, **more)
        if args[1] == ".purge-1":
            (tree.root / "u/.purge-1/file").write_text("late")
            tree.put("u/1/file", "new")

    monkeypatch.setattr(_purge_walk.os, "rename", renamed)
    result = tree.purge()
    assert why(result) == {"u/1": "failed"} and ".purge-1" in result["problems"][0]
    assert (tree.root / "u/1/file").read_text() == "new" and (tree.root / "u/.purge-1/file").read_text() == "late"


def test_a_folder_that_becomes_a_symlink_meanwhile_is_not_followed(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.put("u/1/d/file")
    tree.old()
    before, put_aside = tree.beside(), _purge_walk.Walk.put_aside

    def then(*args: t.Any) -> str:
        aside = put_aside(*args)
        inner = tree.root / "u" / aside / "d"
        shutil.rmtree(inner)
        inner.symlink_to(tree.outside)
        return aside

    monkeypatch.setattr(_purge_walk.Walk, "put_aside", then)
    assert why(tree.purge()) == {"u/1": "failed"}
    assert tree.beside() == before


def test_a_run_that_is_told_to_stop_gives_names_back(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.put("u/1/file")
    tree.old()
    scan = _purge_walk.Walk.scan

    def stopped(self: t.Any, parent: int, name: str, path: str, renamed: bool = False) -> t.Any:
        if renamed:
            _purge.stop(15, None)
        return scan(self, parent, name, path, renamed)

    monkeypatch.setattr(_purge_walk.Walk, "scan", stopped)
    with pytest.raises(SystemExit):
        tree.purge()
    assert tree.names() == {"u/1"}
