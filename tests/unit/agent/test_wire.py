# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire: what is sent is small, what comes back is either the whole answer or none."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
import sys
import types
import zlib
from pathlib import Path

import pytest
from bench import bench_pass
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _agent
from ansible_collections.sciops.sites.plugins.plugin_utils import _wire

from .conftest import SOURCES, UTILS

NONCE = "5f3a"
# what a request of this size answers is several lines long
REPLY = {
    "answered": True,
    "instances": [{"pid": i, "token": zlib.crc32(b"%d" % i)} for i in range(900)],
    "problems": ["ü\n"],
}
FRAMED = _agent.frame(REPLY, NONCE)
noise = st.lists(
    st.one_of(st.binary(max_size=40), st.sampled_from([b"@sciops", b"@sciops x", b"motd", b"\r", b"@"])), max_size=4
)


def test_what_two_launchers_share_goes_once() -> None:
    for launchers in (["slurm", "htcondor"], list(_wire.LAUNCHERS)):
        sent = _wire.modules({"mode": "apply", "launchers": {key: {} for key in launchers}})
        assert len(sent) == len(set(sent))
        assert set(sent) >= {name for launcher in launchers for name in _wire.LAUNCHERS[launcher]}


def test_a_reply_comes_back_as_it_was_sent() -> None:
    assert FRAMED.count(b"@sciops") > 2
    assert max(len(line) for line in FRAMED.splitlines()) < 3060
    assert _wire.parse(FRAMED, NONCE) == REPLY
    assert _wire.parse(FRAMED.replace(b"\n", b"\r\n"), NONCE) == REPLY


@given(before=noise, between=noise, after=noise)
def test_noise_between_lines_never_changes_an_answer(before: list, between: list, after: list) -> None:
    lines = FRAMED.split(b"\n")
    middle = len(lines) // 2
    data = b"\n".join([*before, *lines[:middle], *between, *lines[middle:], *after])
    lost = any(line.startswith(b"@sciops ") for line in b"\n".join([*before, *between, *after]).split(b"\n"))
    if lost:
        with pytest.raises(_wire.Garbled):
            _wire.parse(data, NONCE)
    else:
        assert _wire.parse(data, NONCE) == REPLY


@given(st.integers(0, len(FRAMED)), st.booleans())
def test_a_cut_answer_is_no_answer(at: int, from_the_end: bool) -> None:
    data = FRAMED[:at] if from_the_end else FRAMED[at:]
    whole = FRAMED.strip(b"\n") in data
    if whole:
        assert _wire.parse(data, NONCE) == REPLY
    else:
        with pytest.raises(_wire.Garbled):
            _wire.parse(data, NONCE)


@given(st.integers(0, len(FRAMED) - 1), st.binary(min_size=1, max_size=8))
def test_bytes_within_a_line_never_make_a_wrong_answer(at: int, what: bytes) -> None:
    try:
        assert _wire.parse(FRAMED[:at] + what + FRAMED[at:], NONCE) == REPLY
    except _wire.Garbled:
        pass


@given(st.integers(0, len(FRAMED) - 1), st.integers(1, 255))
def test_a_changed_byte_never_makes_a_wrong_answer(at: int, by: int) -> None:
    try:
        assert _wire.parse(FRAMED[:at] + bytes([FRAMED[at] ^ by]) + FRAMED[at + 1 :], NONCE) == REPLY
    except _wire.Garbled:
        pass


@given(st.binary(max_size=200))
def test_whatever_comes_is_no_answer(data: bytes) -> None:
    with pytest.raises(_wire.Garbled):
        _wire.parse(data, NONCE)


def test_what_is_wrong_is_said() -> None:
    cases = {
        b"": "nothing came back",
        b"bash: python3: command not found\n": "no answer in 33 bytes: bash: python3: command not found",
        FRAMED + FRAMED: "line 1 of the answer is there twice",
        _agent.frame(REPLY, "other"): "there is a line of another answer",
        FRAMED[: len(FRAMED) // 2]: "of 4 lines of the answer are missing",
        FRAMED[:-3].replace(b"=", b"") + b"\x07": "a line of the answer is cut or changed",
        b"\n".join(FRAMED.split(b"\n")[3:]): "lines of the answer are missing",
        _agent.frame([1], NONCE): "the answer is not an object",
    }
    for data, words in cases.items():
        with pytest.raises(_wire.Garbled) as error:
            _wire.parse(data, NONCE)
        assert words in str(error.value)


def fleet_request(n: int = 20) -> dict:
    """What a pass asks a host for n components, each with match and health, as long as they are in life."""
    components = {}
    for i in range(n):
        name = f"pipe{i % 3}/site-move-verifier-return-{i}"
        components[name] = {
            "match": [["bash", f"pipe{i % 3}-site-move-verifier-{i}\\.sh"], ["python3?", "-m", f"lta\\.verifier{i}"]],
            "user": "jadelta",
            "health": {"log_age": 600 + i, "port": 9000 + i, "command": ["/home/jadelta/check", f"c{i}"], "timeout": 5},
        }
    base = {"v": 1, "nonce": "0123456789abcdef", "mode": "observe", "site": "wipac", "deployment": "prod"}
    fence = {"number": 123456, "holder": "control.icecube.example:4711:0123456789abcdef"}
    return base | {"host": "c9-12.icecube.example", "fence": fence, "timeout": 15, "components": components}


def test_a_converged_host_is_sent_less_than_8_kib() -> None:
    request = fleet_request()
    sent = len(_wire.payload(request, SOURCES)) + len(_wire.command())
    assert sent < 8192, sent


def test_minify_keeps_the_meaning() -> None:
    for name, source in SOURCES.items():
        small = _wire.minify(source)
        assert len(small) < len(source), name
        bare = ast.parse(source)
        for node in ast.walk(bare):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        assert ast.dump(ast.parse(small)) == ast.dump(bare), name
    text = 'def f():\n    """doc"""\n    return """a\n    b"""\n'
    space: dict = {}
    exec(_wire.minify(text), space)
    assert space["f"]() == "a\n    b"
    assert "doc" not in _wire.minify(text)
    exec(_wire.minify('class A:\n    """only words"""\n'), space)


@pytest.mark.parametrize("name", ["_probe", "_agent", "_logs", "_shim", "_work", "_process"])
def test_what_travels_is_python_36(name: str) -> None:
    for text in (SOURCES[name], _wire.minify(SOURCES[name])):
        tree = ast.parse(text, feature_version=(3, 6))
        # newer controllers write f-strings back in a way that 3.6 cannot read
        assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(tree))


def test_vermin_says_36() -> None:
    vermin = shutil.which("vermin") or shutil.which("vermin", path=str(sys.prefix) + "/bin")
    if not vermin:
        pytest.skip("vermin is not installed")
    # os.pidfd_open and signal.pidfd_send_signal are used only where they are there
    guarded = ["--exclude", "os.pidfd_open", "--exclude", "signal.pidfd_send_signal"]
    files = [str(UTILS / f"{name}.py") for name in _wire.MODULES["apply"]]
    done = subprocess.run(
        [vermin, "-t=3.6-", "--no-tips", *guarded, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_passes_any_shell(tmp_path) -> None:
    """The bootstrap has nothing in it that a login shell, csh included, would change."""
    assert not set("'!\n`") & set(_wire.BOOTSTRAP)
    assert shlex.split(_wire.command("/opt/my python/bin/python3"))[0] == "/opt/my python/bin/python3"
    assert shlex.split(_wire.command("/usr/bin/env python3.9"))[:2] == ["/usr/bin/env", "python3.9"]
    assert _wire.command("auto_silent") == _wire.command() == _wire.command(None)
    for shell in ("sh", "bash", "dash", "csh", "tcsh", "zsh", "fish", "ksh"):
        if not shutil.which(shell):
            continue
        request = fleet_request(1) | {"fence": None, "site": "nowhere"}
        done = subprocess.run(
            [shell, "-c", _wire.command()], input=_wire.payload(request, SOURCES), capture_output=True, check=False
        )
        assert _wire.parse(done.stdout, request["nonce"])["answered"], done.stderr


def test_a_host_without_python_says_so() -> None:
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            _wire.command().replace("/bin/", "/none/").replace("/libexec/", "/none/").replace("/none/sh", "/bin/sh"),
        ],
        capture_output=True,
        text=True,
        env={"PATH": "/nowhere"},
        check=False,
    )
    assert done.returncode == 127
    assert "no python3 on this host" in done.stderr


def test_the_bootstrap_does_not_wait_for_the_end_of_input() -> None:
    request = fleet_request(1) | {"fence": None, "site": "nowhere"}
    child = subprocess.Popen(
        ["/bin/sh", "-c", _wire.command(sys.executable)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child.stdin.write(_wire.payload(request, SOURCES))
    child.stdin.flush()
    out = child.stdout.read()
    assert _wire.parse(out, request["nonce"])["answered"]
    child.stdin.close()
    child.stdout.close()
    assert child.wait(5) == 0


@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.999])
def test_a_cut_request_does_nothing(host, part: float) -> None:
    action = host.action("sleep", "60")
    seen = host.ask()
    request = host.request("apply", actions=[action], expect={"boot_id": seen["boot_id"]})
    data = _wire.payload(request, SOURCES)
    out = host.raw(request, data=data[: int(len(data) * part)])
    with pytest.raises(_wire.Garbled):
        _wire.parse(out, request["nonce"])
    assert host.marked() == []


def test_request_and_reply_are_json_of_the_contract(host) -> None:
    seen = host.ask()
    keys = {
        "answered",
        "boot_id",
        "uptime",
        "user",
        "uid",
        "python",
        "cores",
        "memory",
        "loadavg",
        "fence",
        "superseded",
    }
    assert set(seen) == keys | {"instances", "problems"}
    assert json.loads(json.dumps(seen)) == seen
    assert host.ask(v=2) == {"answered": False, "kind": "refused", "reason": "version 2 of a request is not known"}


def test_the_bench_sends_what_a_pass_sends(tmp_path: Path) -> None:
    """The floor that a pass is held against is made of these very bytes."""
    place = types.SimpleNamespace(payload=tmp_path / "payload", command=tmp_path / "command")
    bench_pass.Measure._write_payload(place)
    assert 1000 < place.payload.stat().st_size < 8192 and place.command.read_text() == _wire.command("/usr/bin/python3")
