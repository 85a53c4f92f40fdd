# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on a real file system: drift, writing whole, what is refused, checks before anything goes live."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _files, _place, _release


def entry(path: Path | str, text: str = "text\n", **more: Any) -> dict[str, Any]:
    found = {"dest": str(path), "mode": "0600", "owner": None, "group": None, "digest": _files.digest(text)}
    return {**found, "restarts": "all", "secret": False, "validate": None, "text": text, **more}


def refused(validate: Any, text: str, **more: Any) -> str:
    name = {"systemd": "x.service"}.get(validate, "x.conf") if isinstance(validate, str) else "x.conf"
    with pytest.raises(_files.Failure) as caught:
        _files.validate(entry(f"/nowhere/{name}", validate=validate, **more), text)
    return str(caught.value)


def test_what_differs_is_written_and_nothing_else(tmp_path: Path) -> None:
    files = [entry(tmp_path / "new/deep/a", "a"), entry(tmp_path / "b", "b", mode="0640"), entry(tmp_path / "c", "c")]
    (tmp_path / "b").write_text("b")
    (tmp_path / "c").write_text("c")
    (tmp_path / "c").chmod(0o600)
    (tmp_path / "b").chmod(0o600)
    same = (tmp_path / "c").stat()
    a, b = files[0]["dest"], files[1]["dest"]
    assert _files.drift(files) == [(a, "missing"), (b, "mode")]
    assert _files.put(files) == [a, b]
    assert _files.drift(files) == [] and _files.put(files) == []
    assert (tmp_path / "c").stat() == same
    assert stat.S_IMODE((tmp_path / "new/deep").stat().st_mode) == 0o750
    # whoever may have read another text is told of by it, whatever else differs
    (tmp_path / "b").write_text("other")
    (tmp_path / "b").chmod(0o600)
    assert _files.drift(files) == [(b, "content")]
    (tmp_path / "b").chmod(0o640)
    assert _files.drift(files) == [(b, "content")]
    _files.put(files, backup=True)
    (kept,) = [path for path in tmp_path.iterdir() if path.name.endswith("~")]
    assert kept.read_text() == "other" and stat.S_IMODE(kept.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["new", "b", "c", kept.name])


def test_a_file_that_cannot_be_read_for_its_mode_is_put_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = entry(tmp_path / "a")
    _files.put([one])

    def unreadable(path: str) -> str:
        raise _place.Misplaced(f"{path}: cannot be read: Permission denied")

    monkeypatch.setattr(_place, "read", unreadable)
    with pytest.raises(_place.Misplaced, match="a: cannot be read"):
        _files.drift([one])
    (tmp_path / "a").chmod(0)
    assert _files.put([one]) == [one["dest"]]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_group_are_kept_and_noticed(tmp_path: Path) -> None:
    one = entry(tmp_path / "sub/a", owner="nobody", group=1)
    _files.put([one])
    seen = Path(one["dest"]).stat()
    assert (seen.st_uid, seen.st_gid) == (_files.ids(one)[0], 1)
    assert Path(one["dest"]).parent.stat().st_gid == 1
    os.chown(one["dest"], 0, 1)
    assert _files.drift([one]) == [(one["dest"], "owner")]
    os.chown(one["dest"], seen.st_uid, 0)
    assert _files.drift([one]) == [(one["dest"], "group")]
    with pytest.raises(_files.Failure, match="owner nosuchuser is not known"):
        _files.drift([entry(tmp_path / "sub/a", owner="nosuchuser")])


def test_links_and_folders_in_the_place_of_a_file_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with pytest.raises(_files.Failure, match=f"{name}: is a "):
            _files.put([entry(tmp_path / "first"), entry(tmp_path / name)])
    assert not (tmp_path / "first").exists() and (tmp_path / "victim").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a link of somebody else")
def test_a_way_through_a_link_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "real")
    _files.put([entry(tmp_path / "way/mine")])
    os.chown(tmp_path / "way", 65534, 65534, follow_symlinks=False)
    with pytest.raises(_files.Failure, match=r"goes through the link .*/way of another user"):
        _files.put([entry(tmp_path / "way/x")])
    _files.put([entry(tmp_path / "way/his", owner=65534)])
    assert sorted(os.listdir(tmp_path / "real")) == ["his", "mine"]


def test_a_file_that_cannot_be_written_leaves_all_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [entry(tmp_path / name, "new") for name in "abc"]
    for one in files:
        Path(one["dest"]).write_text("old")
    real = _place.write

    def full(path: str, *args: Any) -> None:
        if path.endswith(".c.put"):
            raise _place.Misplaced("no space")
        real(path, *args)

    monkeypatch.setattr(_place, "write", full)
    with pytest.raises(_place.Misplaced):
        _files.put(files)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("abc", "old")


def test_ini_faults_are_told_by_line_and_never_by_content() -> None:
    assert "line 1: stands before the first section" in refused("ini", "hush = 1\n[S]")
    assert "line 3: is no key = value" in refused("ini", "[S]\na = 1\nhush\n")
    assert "line 3: S.a is there twice" in refused("ini", "[S]\na = hush\na = hush\n")
    assert "hush" not in refused("ini", "[S]\nhush\n")
    assert _files.validate(entry("/x", validate="ini"), "[S]\na = 50%\n") == ""


def test_supervisor_faults() -> None:
    assert "[program:a]: has no command" in refused("supervisor", "[program:a]\nstartsecs = 1\n")
    assert "[inet_http_server] username: a % is neither" in refused(
        "supervisor", "[inet_http_server]\nusername = a%b\n"
    )
    assert "%(nope)s is no name" in refused("supervisor", "[program:a]\ncommand = /bin/x %(nope)s\n")
    assert "empty password" in refused("supervisor", "[inet_http_server]\nport = 127.0.0.1:1\npassword =\n")
    good = "[program:a]\ncommand = /bin/x %(program_name)s %(process_num)02d %(ENV_HOME)s 50%% ; more\n"
    good += "[include]\nfiles = a\n"
    assert _files.validate(entry("/x", validate="supervisor"), good) == ""


def test_shell_faults() -> None:
    assert "line 3: syntax error" in refused("bash", "#!/bin/bash\nif true; then\n")
    assert "line 2: is no assignment" in refused("bash", "#!/bin/bash\n$PATH=/opt/bin:$PATH\n")
    assert "line 1: is no assignment" in refused("bash", "export PATH = /opt/bin\n")
    hidden = refused("bash", "X='hush\n", secret=True)
    assert "hush" not in hidden and "line 1" in hidden and "not shown" in hidden
    assert (
        _files.validate(entry("/x", validate="bash"), "export PATH=/x:$PATH\n[ $A = b ]\ncat <<X\npassword = x\nX\n")
        == ""
    )


def test_what_systemd_says_counts_as_far_as_it_is_about_the_unit() -> None:
    def of(code: int, *lines: str) -> tuple[int, list[str], str]:
        return _files._of_unit(code, list(lines), "x.service", ["/opt/later", "/etc/systemd/system/next.service"])

    soon = "x.service: Command /opt/later is not executable: No such file or directory"
    unknown = "x.service:3: Unknown key 'New' in section [Service], ignoring."
    lost = "x.service:4: Failed to parse sec value, ignoring: foo"
    obsolete = "x.service:5: Standard output type syslog is obsolete"
    assert of(1, soon, "other.service:1: bad") == (0, [], "")
    assert of(1, "x.service: Failed to create x.service/start: Unit next.service not found.")[0] == 0
    assert of(1, soon.replace("later", "never"))[0] == 1
    assert of(1, soon, unknown) == (0, [], unknown) == of(0, unknown)
    assert of(0, lost, obsolete) == (1, [lost], "")


def test_a_command_of_ones_own(tmp_path: Path) -> None:
    said = tmp_path / "said"
    look = 'stat -c %a "$1" "$(dirname "$1")"; cat "$1"; test "$(basename "$1")" = x.conf'
    script = ["sh", "-c", f"{{ {look}; }} > {said}", "sh", "{file}"]
    assert _files.validate(entry(tmp_path / "x.conf", validate=script), "hush") == ""
    assert said.read_text() == "600\n700\nhush"
    assert "x.conf: is refused by its check (sh): status 3" in refused(["sh", "-c", "exit 3"], "")
    assert "no; more" in refused(["sh", "-c", "echo no; echo more >&2; exit 1"], "")
    missing = _files.validate(entry("/x", validate=["nosuchprogram", "{file}"]), "")
    assert missing == "/x: was not checked, since this host has no nosuchprogram"
    assert [path.name for path in tmp_path.iterdir()] == ["said"]


def test_the_payload_is_small_and_comes_back() -> None:
    sent = {"files": [{"content": f"line {n} grüße\n" * 100} for n in range(30)], "secrets": []}
    word = _files.pack(sent)
    assert _files.unpack(word) == sent and len(word) < 2000
    with pytest.raises(ValueError, match="is not what the controller packs"):
        _files.unpack("x")


def test_a_release_is_named_by_all_that_is_in_it() -> None:
    rendered = dict.fromkeys(_release.OF_A_FILE) | {"content": "text", "dest": "/a", "template": "t"}
    one = _release.entry(rendered)
    assert set(one) == set(_release.OF_A_FILE) and one["digest"] == _release.digest("text")
    build = {"method": "venv", "id": "0123", "target": "/x"}
    base = ["2.8", build, [one], {"method": "none"}, [{"name": "a"}]]
    word = _release.release_id(*base)
    assert word.startswith("2.8-") and len(word) == 16
    assert _release.release_id(*base[:1], {**build, "target": "/y"}, *base[2:]) == word
    others = [["2.9"], ["2.8", None], ["2.8", build, []], [*base[:3], {}], [*base[:4], []]]
    words = {_release.release_id(*other, *base[len(other) :]) for other in others}
    assert len(words | {word}) == 6
    assert "/" not in _release.release_id("../x y", *base[1:]) and not _release.release_id("..", *base[1:]).startswith(
        "."
    )
