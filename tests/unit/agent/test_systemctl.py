# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written into a unit is read back unchanged; every way in which systemd does not answer has its own name."""

from __future__ import annotations

import re
import stat
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _systemctl
from ansible_collections.sciops.sites.plugins.module_utils._systemctl import (
    Down,
    Failed,
    Raw,
    Silent,
    Systemd,
    environment_word,
    escape,
    exec_words,
    unit_text,
)

TRICKY = st.text(st.sampled_from(" \t\n;#%i$H{}'\"\\x0a=,:\u00a0\x01\x7f"), max_size=12)
WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | TRICKY
# characters of which systemd says that they are no text
NO_TEXT = re.compile("[\ufdd0-\ufdef]|[\ufffe\uffff]")


# --- what systemd does with a value, written from its manual and none of the code under test


def split(text: str) -> list[str]:
    words, word, mark, i = [], None, "", 0
    simple = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
    while i < len(text):
        c = text[i]
        if c == "\\":
            word = word or ""
            if text[i + 1] == "x":
                word += chr(int(text[i + 2 : i + 4], 16))
                i += 3
            else:
                word += simple[text[i + 1]]
                i += 1
        elif mark:
            if c == mark:
                mark = ""
            else:
                word += c
        elif c in "\"'":
            mark, word = c, word or ""
        elif c in " \t\n\r":
            if word is not None:
                words.append(word)
            word = None
        else:
            assert c != ";" or word is not None, "a command would end here"
            word = (word or "") + c
        i += 1
    assert not mark
    return [*words, word] if word is not None else words


def specifiers(text: str) -> str:
    assert not re.search(r"%(?!%)", text.replace("%%", "")), text
    return text.replace("%%", "%")


def variables(words: list[str]) -> list[str]:
    for word in words:
        assert not re.search(r"\$", word.replace("$$", "")), word
    return [word.replace("$$", "$") for word in words]


def read(text: str) -> list[tuple[str, str]]:
    pairs = []
    for line in text.split("\n"):
        assert not line.endswith("\\"), "the next line would belong to it"
        if "=" in line and not line.startswith(("#", ";", "[")):
            key, _is, value = line.partition("=")
            pairs.append((key, value.strip(" \t")))
    return pairs


@given(st.lists(WORD, max_size=5))
@example(["", "a b", ";", "#y", "$HOME", "${HOME}", "x$$", "%i %%n", "it's", "\\", '"', "\u20ac", " ", "a\nb", "end\\"])
def test_words_of_a_command_come_back(words: list[str]) -> None:
    if any(NO_TEXT.search(word) or any(ord(c) & 0xFFFE == 0xFFFE for c in word) for word in words):
        with pytest.raises(ValueError, match="no unit file can hold"):
            exec_words(["/x", *words])
        return
    text = unit_text([("Service", [("ExecStart", exec_words(["/x", *words]))])])
    ((key, value),) = read(text)
    assert key == "ExecStart"
    assert variables([specifiers(word) for word in split(value)]) == ["/x", *words]


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True), WORD)
@example("A", 'x #y "q" $HOME %i \\')
def test_an_environment_comes_back_or_is_refused(name: str, value: str) -> None:
    controls = any((ord(c) < 32 and c not in "\t\n") or ord(c) == 127 for c in value)
    if controls or any(NO_TEXT.search(c) or ord(c) & 0xFFFE == 0xFFFE for c in value):
        with pytest.raises(ValueError, match=r"control characters|no unit file"):
            environment_word(name, value)
        return
    text = unit_text([("Service", [("Environment", environment_word(name, value))])])
    ((_key, line),) = read(text)
    assert [specifiers(word) for word in split(line)] == [f"{name}={value}"]


@given(WORD)
def test_any_other_value_comes_back_or_is_refused(value: str) -> None:
    try:
        text = unit_text([("Unit", [("Description", value)])])
    except ValueError:
        assert re.search(r"[\n\r\0]|^[ \t]|[ \t]$|\\$", value) or any(
            NO_TEXT.search(c) or ord(c) & 0xFFFE == 0xFFFE for c in value
        )
    else:
        assert [(k, specifiers(v)) for k, v in read(text)] == [("Description", value)]


def test_keys_may_come_again_and_raw_values_stay() -> None:
    pairs = [("A", "1%"), ("A", Raw("%i")), ("B", None), ("C", True), ("D", 0.5), ("E", False)]
    text = unit_text([("Unit", pairs), ("Install", [])])
    assert text == "[Unit]\nA=1%%\nA=%i\nC=yes\nD=0.5\nE=no\n\n[Install]\n"
    assert unit_text([("Unit", [("A", "%i")])], raw=True) == "[Unit]\nA=%i\n"
    for sections in ([("Un it", [])], [("Unit", [("A=", "x")])], [("Unit", [("A", "x\ny")])]):
        with pytest.raises(ValueError, match=r"^\[U"):
            unit_text(sections)


@pytest.mark.parametrize("words", [[], ["sleep"], ["/opt/$x/y"], ["/opt/"]])
def test_programs_that_no_unit_can_start(words: list[str]) -> None:
    with pytest.raises(ValueError, match="program"):
        exec_words(words)


def test_names_are_escaped_as_systemd_escape_does() -> None:
    assert escape("pipe0/bundler 1") == "pipe0-bundler\\x201"
    assert escape(".a-b_c:d\u00e9") == "\\x2ea\\x2db_c:d\\xc3\\xa9"


# --- a systemctl that answers as told


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a systemctl in the way that runs this shell text."""

    def put(text: str) -> Systemd:
        program = tmp_path / "systemctl"
        program.write_text(f'#!/bin/sh\necho "$#" "$@" >> {tmp_path}/said\n{text}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return Systemd("system", 5)

    return put


def test_many_units_are_asked_for_with_one_call(answer, tmp_path: Path) -> None:
    blocks = "\\n".join(f"Id=a@{i}.service\\nActiveState=active\\nFragmentPath=/x=y\\n" for i in range(3))
    units = [f"a@{i}.service" for i in range(3)]
    seen = answer(f"printf '{blocks}'").show(units, ["ActiveState", "FragmentPath"])
    assert list(seen) == units
    assert seen["a@1.service"] == {"Id": "a@1.service", "ActiveState": "active", "FragmentPath": "/x=y"}
    (said,) = (tmp_path / "said").read_text().splitlines()
    assert said.endswith("show --property=Id,ActiveState,FragmentPath -- " + " ".join(units))
    with pytest.raises(Silent, match="told of 3 units when asked for 2"):
        answer(f"printf '{blocks}'").show(units[:2], ["ActiveState"])
    assert list(answer(f"printf '{blocks}'").find(["a@*.service"], ["ActiveState"])) == units
    assert answer("").find(["a@*.service"], ["ActiveState"]) == {}
    with pytest.raises(ValueError, match="several lines"):
        answer("").show(units, ["Environment"])


def test_more_names_than_one_call_can_carry(answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_systemctl, "ARGV", 20)
    systemd = answer('while [ "$1" != -- ]; do shift; done; shift; for u; do printf "Id=$u\\n\\n"; done')
    assert list(systemd.show(["one.service", "two.service", "three.service"], [])) == [
        "one.service",
        "two.service",
        "three.service",
    ]
    assert len((tmp_path / "said").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Failed to connect to bus: No such file or directory", Down),
        ("Failed to connect to bus: No medium found", Down),
        ("System has not been booted with systemd as init system (PID 1). Can't operate.", Down),
        ("Failed to connect to bus: Connection timed out", Silent),
        ("Failed to get properties: Connection timed out", Silent),
        ("Failed to start x.service: Unit x.service not found.", Failed),
        ("", Failed),
    ],
)
def test_ways_to_fail(answer, words: str, kind: type[Exception]) -> None:
    systemd = answer(f'echo "{words}" >&2; exit 5')
    with pytest.raises(kind) as raised:
        systemd.run("start", "x.service")
    assert words in str(raised.value)
    if kind is Failed:
        assert raised.value.code == 5
        assert systemd.job("start", ["x.service"], 5) == (words or "systemctl ended with status 5")


def test_one_that_hangs_is_left_in_time_with_all_it_began(answer, tmp_path: Path) -> None:
    systemd = answer(f"sleep 60 & echo $! > {tmp_path}/child; wait")
    systemd.timeout, begun = 0.3, time.monotonic()
    with pytest.raises(Silent, match="no answer within"):
        systemd.run("x")
    assert "still under way" in systemd.job("stop", ["x"], 0.3)
    assert time.monotonic() - begun < 10
    child = Path("/proc") / (tmp_path / "child").read_text().strip()

    def lives() -> bool:
        try:
            return (child / "stat").read_text().split(") ")[1][0] not in "ZX"
        except OSError:
            return False

    # killed it is at once, but a busy machine takes its time to end it
    while lives() and time.monotonic() - begun < 30:
        time.sleep(0.05)
    assert not lives()


def test_a_host_without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Down, match="is systemd installed"):
        Systemd("user", 1).run("status")
    monkeypatch.setattr(_systemctl, "BOOTED", str(tmp_path / "no"))
    assert Systemd("system").prerequisites() == [
        "systemd is not process 1 of this host: nothing can be started through it"
    ]
    with pytest.raises(ValueError, match="must be system or user"):
        Systemd("global")


def test_linger_and_folders_of_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_systemctl, "LINGER", str(tmp_path))
    monkeypatch.setattr(_systemctl, "BOOTED", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/4711")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/user/4711/bus")
    one = Systemd("user")
    one.runtime = str(tmp_path)
    assert (one.folder, one.target) == ("/c/systemd/user", "default.target")
    # a bus of somebody else's login is not ours
    assert one.env["XDG_RUNTIME_DIR"] == f"/run/user/{one.uid}" and "DBUS_SESSION_BUS_ADDRESS" not in one.env
    assert not one.linger() and len(one.prerequisites()) == 2
    (tmp_path / one.user).touch()
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "private").touch()
    assert one.linger() and one.prerequisites() == []
    assert (Systemd("system").folder, Systemd("system").target) == ("/etc/systemd/system", "multi-user.target")
