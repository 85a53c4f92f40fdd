# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared programs of a supervisord: what is refused, what is written, and that a change touches nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _place, _programs, _secrets
from ansible_collections.sciops.sites.plugins.module_utils._programs import Unfit

COMMANDS = st.lists(st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"])), min_size=1)
LISTS = ("removed", "restarted", "started", "added", "taken")


def program(name: str = "mover", **more: Any) -> dict[str, Any]:
    return {"name": name, "command": ["sleep", "9"], **more}


def live(*names: str, state: str = "RUNNING", **more: Any) -> dict[str, dict[str, Any]]:
    return {name: {"name": name, "group": name, "statename": state, "exitstatus": 0, **more} for name in names}


def sections(*programs: dict[str, Any]) -> tuple[dict, dict]:
    wanted = _programs.definitions(programs)
    files = {name: f"/secrets/{name}.1" for name in wanted}
    text = _programs.document("set", wanted, files)
    return wanted, _programs.read_document("set", text, "file")[0]


@given(COMMANDS, st.integers(0, 6), st.integers(0, 6))
def test_a_count_names_no_survivor(command: list[str], old: int, new: int) -> None:
    _wanted, before = sections(program(command=command, count=old))
    wanted, after = sections(program(command=command, count=new))
    plan = _programs.plan(before, (), after, live(*before, "foreign"), wanted)
    survivors = {f"mover-{i}" for i in range(1, min(old, new) + 1)}
    assert set(plan["kept"]) == survivors
    for key in LISTS:
        assert not survivors & set(plan[key]) and "foreign" not in plan[key]
    assert plan["added"] == [f"mover-{i}" for i in range(old + 1, new + 1)]
    assert plan["removed"] == [f"mover-{i}" for i in range(new + 1, old + 1)]


@given(st.data())
def test_every_program_has_one_fate_and_strangers_have_none(data: st.DataObject) -> None:
    names = [f"p{i}" for i in range(5)]
    version = st.dictionaries(st.sampled_from(names), st.sampled_from(["1", "2"]))
    old, new = data.draw(version), data.draw(version)
    _wanted, before = sections(*[program(n, environment={"V": v}) for n, v in old.items()])
    wanted, after = sections(*[program(n, environment={"V": v}) for n, v in new.items()])
    pending = data.draw(st.sets(st.sampled_from(names)))
    states = st.sampled_from(["RUNNING", "FATAL", "EXITED", "STOPPED", "STARTING"])
    seen = {n: live(n, state=data.draw(states))[n] for n in data.draw(st.sets(st.sampled_from([*names, "x"])))}
    plan = _programs.plan(before, pending, after, seen, wanted)
    fates = [name for key in (*LISTS, "kept") for name in plan[key]]
    assert len(fates) == len(set(fates))
    assert set(fates) <= set(before) | set(after) | pending
    assert set(after) <= set(fates)
    for name in plan["kept"]:
        assert before[name] == after[name] and name not in pending and name in seen
    for name in plan["taken"]:
        assert name not in before and name not in pending
    # nothing is left to do once it was done
    done = {n: live(n)[n] for n in after}
    assert _programs.plan(after, (), after, done, wanted)["kept"] == list(after)


def test_states_of_a_kept_program() -> None:
    def fate(state: str, code: int = 0, **more: Any) -> str:
        wanted, after = sections(program(**more))
        plan = _programs.plan(after, (), after, live("mover", state=state, exitstatus=code), wanted)
        return next(key for key in ("kept", "started") if plan[key])

    assert [fate(s) for s in ("RUNNING", "STARTING", "BACKOFF")] == ["kept"] * 3
    assert [fate(s) for s in ("STOPPED", "FATAL", "UNKNOWN")] == ["started"] * 3
    assert fate("STOPPED", autostart=False) == "kept"
    assert fate("EXITED", 0) == "kept"  # it has done its work
    assert fate("EXITED", 3) == "kept"  # supervisord starts it again by itself
    assert fate("EXITED", 3, autorestart="never") == "started"
    assert fate("EXITED", 3, autorestart="never", exitcodes=[3]) == "kept"
    assert fate("EXITED", 0, exitcodes=[3], autorestart="never") == "started"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "a:b"}, "a name has"),
        ({"command": []}, "must be a list of words"),
        ({"command": "'"}, "cannot be split"),
        ({"command": ["a", None]}, "must be text or a number"),
        ({"count": -1}, "must be 0 to 10000"),
        ({"environment": {"1A": "x"}}, "no name of an environment variable"),
        ({"secrets": {"A": ["x"]}}, "must be text or a number"),
        ({"secrets": {"A": "\0"}}, "NUL"),
        ({"count": 2, "stdout_logfile": "/var/log/x"}, "put {instance} into it"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        _programs.definitions([program(**wrong)])


def test_names_that_come_twice_are_refused() -> None:
    with pytest.raises(Unfit, match="declared twice"):
        _programs.definitions([program(count=2), program("mover-2")])


def test_what_supervisord_cannot_carry_has_a_hint_and_no_value_in_it() -> None:
    wanted = _programs.definitions([program(environment={"A": "its 'a' \"b\""})])
    with pytest.raises(Unfit, match="give it under secrets") as raised:
        _programs.document("set", wanted, {})
    assert "its" not in str(raised.value)


def test_copies_have_their_own_words() -> None:
    wanted = _programs.definitions(
        [
            program(
                command="run --slot {instance}",
                count=2,
                environment={"N": "{instance}"},
                stdout_logfile="/l-{instance}",
            )
        ]
    )
    assert [one["command"] for one in wanted.values()] == [["run", "--slot", "1"], ["run", "--slot", "2"]]
    assert [one["environment"]["N"] + one["stdout_logfile"] for one in wanted.values()] == ["1/l-1", "2/l-2"]
    assert _programs.definitions([program(command="run {instance}")])["mover"]["command"] == ["run", "{instance}"]


def test_files_of_others_are_told_from_ours() -> None:
    with pytest.raises(Unfit, match="left alone"):
        _programs.read_document("set", "[program:x]\ncommand=y\n", "/f")
    with pytest.raises(Unfit, match="left alone"):
        _programs.read_document("set", _programs.MARK % "other", "/f")
    assert _programs.read_document("set", None, "/f") == ({}, set())
    text = _programs.document("set", _programs.definitions([program()]), {}, ["mover", "b"])
    found, pending = _programs.read_document("set", text, "/f")
    assert pending == {"mover", "b"} and found["mover"]["command"] == "sleep 9"
    # edited into no INI file at all: what is not yet done is still known
    assert _programs.read_document("set", text + "garbage", "/f") == ({}, {"mover", "b"})


def test_the_include_pattern_decides_the_name_of_the_file() -> None:
    file = _programs.include_file
    assert file(["/e/conf.d/*.conf"], "x", "c") == "/e/conf.d/sciops.x.conf"
    assert file(["/e/config/supervisor.*.conf"], "x", "c") == "/e/config/supervisor.sciops.x.conf"
    assert file(["/e/one.conf", "/e/*/x.ini", "/e/../b/*.ini"], "x", "c") == "/b/sciops.x.ini"
    for patterns in ([], ["/e/one.conf"], ["/e/*.con?"], ["/[ab]/*.conf"]):
        with pytest.raises(Unfit, match="takes a new file"):
            file(patterns, "x", "c")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_shell_reads_secrets_back(value: str) -> None:
    # a shell is slow to start; one of many values is enough for a line
    text = _programs.secret_text({"A": value})
    assert text.startswith("export A='") and text.endswith("'\n")
    assert text[len("export A='") : -2].replace("'\\''", "'") == value


def test_a_real_shell_reads_secrets_back_and_becomes_the_program(tmp_path: Path) -> None:
    values = {"A": 'a%b$HOME "c d"', "B": "it's\nnew\n", "C": "", "D": "`x` \\ \t;#"}
    (tmp_path / "f").write_text(_programs.secret_text(values))
    words = [*_programs.SHIM, str(tmp_path / "f"), "env", "-0"]
    done = subprocess.run(words, env={}, capture_output=True, text=True, check=True)
    seen = dict(one.split("=", 1) for one in done.stdout.split("\0") if one)
    assert {key: seen[key] for key in values} == values


def test_a_changed_secret_is_a_new_version_and_the_old_one_stays_until_swept(tmp_path: Path) -> None:
    def of(value: str) -> _secrets.Secrets:
        wanted = _programs.definitions([program(secrets={"A": value}), program("plain")])
        return _secrets.Secrets(str(tmp_path / "s"), wanted, 0)

    first = of("x")
    assert not (tmp_path / "s").exists()
    first.write()
    assert first.files == {"mover": f"{tmp_path}/s/mover.1"}
    assert _place.fits(first.files["mover"], 0o600)
    again = of("x")
    assert (again.new, again.wrong, again.old) == ([], [], [])
    (tmp_path / "s" / "mover.1").chmod(0o644)
    assert len(of("x").wrong) == 1
    second = of("y")
    second.write()
    assert second.files == {"mover": f"{tmp_path}/s/mover.2"} and second.old == [f"{tmp_path}/s/mover.1"]
    second.sweep(second.old)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["mover.2"]
    third = of("z")
    third.write()
    third.undo()
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["mover.2"]


def test_a_file_is_never_wider_than_it_ends_up(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    _place.write(path, "secret", 0o600)
    assert _place.fits(path, 0o600)
    _place.write(path, "new", 0o644)
    assert _place.fits(path, 0o644) and _place.read(path) == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["f"]
    assert _place.drop(path) and not _place.drop(path)
    assert _place.read(path) is None
    with pytest.raises(_place.Misplaced, match="cannot be written"):
        _place.write(str(tmp_path / "no" / "f"), "x", 0o600)
    _place.folder(str(tmp_path / "a" / "b"), 0o711)
    assert _place.fits(str(tmp_path / "a"), 0o711) and _place.fits(str(tmp_path / "a" / "b"), 0o711)


def test_a_folder_that_another_process_makes_at_the_same_time_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.mkdir

    def late(path: str, mode: int) -> None:
        make(path, 0o755)
        make(path, mode)

    monkeypatch.setattr(_place.os, "mkdir", late)
    _place.folder(str(tmp_path / "a" / "b"), 0o711)
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "f").write_text("")
    with pytest.raises(_place.Misplaced, match="f: cannot be made: File exists"):
        _place.folder(str(tmp_path / "f"), 0o711)
