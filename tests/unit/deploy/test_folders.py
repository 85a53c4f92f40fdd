# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders: ACLs in words and bytes, and the order of steps in which nobody loses a right that he keeps."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _files, _folders

BASE = [_folders.OWNER, _folders.GROUP, _folders.OTHERS]
NAMED = [("u", 11), ("u", 12), ("g", 21), ("g", 22)]
UIDS, GIDS = (10, 11, 12), (20, 21, 22)
rights = st.integers(0, 7)


@st.composite
def acls(draw: st.DrawFn) -> dict[Any, int]:
    acl = {key: draw(rights) for key in BASE}
    acl.update({key: draw(rights) for key in draw(st.lists(st.sampled_from(NAMED), unique=True))})
    if len(acl) > 3:
        acl[_folders.MASK] = draw(rights)
    return acl


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    uid, gid = draw(st.sampled_from(UIDS)), draw(st.sampled_from(GIDS))
    return {
        "uid": uid,
        "gid": gid,
        "special": draw(st.sampled_from([0, 0o2000])),
        "access": draw(acls()),
        "default": {},
    }


def may(state: dict[str, Any], uid: int, gids: frozenset[int], asked: int) -> bool:
    """What the kernel says (acl(5)): whether this user has all these rights at once."""
    acl = state["access"]
    mask = acl.get(_folders.MASK, 7)
    if uid == state["uid"]:
        return asked & ~acl[_folders.OWNER] == 0
    if ("u", uid) in acl:
        return asked & ~(acl[("u", uid)] & mask) == 0
    matching = [acl[_folders.GROUP]] if state["gid"] in gids else []
    matching += [acl[("g", gid)] for gid in gids if ("g", gid) in acl]
    if matching:
        return any(asked & ~(one & mask) == 0 for one in matching)
    return asked & ~acl[_folders.OTHERS] == 0


def way(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """The states on the way, the last one included."""
    found, now = [], dict(old)
    for what, value in _folders.steps(old, new):
        if what == "owner":
            now = {**now, "uid": value[0], "gid": value[1]}
        elif what == "special":
            now = {**now, "special": value & 0o7000}
        else:
            now = {**now, what: value}
        found.append(now)
    return found


users = st.tuples(st.sampled_from((*UIDS, 99)), st.frozensets(st.sampled_from(GIDS)))


@given(old=states(), new=states(), user=users, asked=st.integers(1, 7))
def test_who_has_a_right_before_and_after_has_it_in_between(
    old: dict[str, Any], new: dict[str, Any], user: tuple[int, frozenset[int]], asked: int
) -> None:
    states_on_the_way = way(old, new)
    assert (states_on_the_way or [old])[-1] == new
    if may(old, *user, asked) and may(new, *user, asked):
        assert all(may(one, *user, asked) for one in states_on_the_way)


modes = st.tuples(rights, rights, rights).map(lambda one: [one[0] | one[1] | one[2], one[1] | one[2], one[2]])


@given(old=states(), new=states(), was=modes, will=modes, user=users, asked=st.sampled_from([1, 2, 4]))
def test_nobody_gets_for_a_moment_what_neither_gives(
    old: dict[str, Any], new: dict[str, Any], was: list[int], will: list[int], user: Any, asked: int
) -> None:
    old["access"], new["access"] = dict(zip(BASE, was, strict=True)), dict(zip(BASE, will, strict=True))
    new["uid"] = old["uid"]
    if not may(old, *user, asked) and not may(new, *user, asked):
        assert not any(may(one, *user, asked) for one in way(old, new))


@given(acl=acls())
def test_bytes_of_an_acl_come_back(acl: dict[Any, int]) -> None:
    assert _folders._unpack(_folders._pack(acl)) == acl


def test_words_of_entries() -> None:
    access, default = _folders.entries_of(["d:g:0:rwx", "o::rx", "default:other::r-x", "u:7:-w-", "m::r"])
    assert access == {_folders.OTHERS: 5, ("u", 7): 2, _folders.MASK: 4}
    assert default == {("g", 0): 7, _folders.OTHERS: 5}
    for word in ("g:0", "x:0:rwx", "d:g:0:rwz", "g:0:", "o:0:r", "g:nosuchgroup:r", "g:0:rwx:x", ""):
        with pytest.raises(ValueError, match="acl: "):
            _folders.entries_of([word])
    with pytest.raises(ValueError, match="twice"):
        _folders.entries_of(["o::r", "o::x"])


def folder(path: Path, mode: str = "0775", **more: Any) -> dict[str, Any]:
    return {"path": str(path), "mode": mode, "owner": None, "group": None, "acl": None, "recursive": False, **more}


def test_a_folder_is_made_kept_and_changed(tmp_path: Path) -> None:
    one = folder(tmp_path / "above/it", "2750")
    would = _folders.keep(one, check=True)
    assert would["changed"] and not (tmp_path / "above").exists()
    done = _folders.keep(one)
    assert done["changed"] and done["before"] == [] and done["after"] == would["after"]
    assert stat.S_IMODE((tmp_path / "above/it").stat().st_mode) == 0o2750
    assert not _folders.keep(one)["changed"]
    changed = _folders.keep(folder(tmp_path / "above/it", "0701"))
    assert "mode: 2750" in changed["before"] and "mode: 0701" in changed["after"]
    assert stat.S_IMODE((tmp_path / "above/it").stat().st_mode) == 0o701
    (tmp_path / "file").write_text("")
    with pytest.raises(_files.Failure, match="file: cannot be changed: Not a directory"):
        _folders.keep(folder(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a link of somebody else")
def test_a_link_of_somebody_else_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.chown(tmp_path / "link", 65534, 65534, follow_symlinks=False)
    with pytest.raises(_files.Failure, match="goes through the link"):
        _folders.keep(folder(tmp_path / "link", "0777"))
    assert stat.S_IMODE((tmp_path / "victim").stat().st_mode) == 0o700


def test_a_file_system_without_acls_gets_the_mode_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_folders, "_attribute", lambda handle, name: None)
    done = _folders.keep(folder(tmp_path / "it", acl=["d:g:0:rwx", "o::rwx"]))
    assert done["warnings"] == [f"{tmp_path}/it: its file system has no ACLs, so only the mode is set there"]
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o777
    assert not _folders.keep(folder(tmp_path / "it", acl=["d:g:0:rwx", "o::rwx"]))["changed"]
