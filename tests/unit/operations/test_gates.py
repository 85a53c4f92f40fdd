# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates, J19: what cannot be read is closed."""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _gates

NOW = 1_767_225_600.0
DAY = 86400


def reading(used: object, quota: object = 100, age: float = 0) -> dict:
    return {"used": used, "quota": quota, "time": NOW - age}


def test_j19_86_of_100_is_closed_with_its_reason_and_84_is_open() -> None:
    opened, reason = _gates.evaluate(reading(86), 0.85, DAY, NOW)
    assert not opened
    assert reason == "86 of 100 used, limit 0.85 of it"
    assert _gates.evaluate(reading(84), 0.85, DAY, NOW)[0]
    assert _gates.evaluate(reading(85), 0.85, DAY, NOW)[0]


def test_j19_old_or_no_reading_is_closed() -> None:
    assert _gates.evaluate(reading(1, age=25 * 3600), 0.85, DAY, NOW) == (
        False,
        "the reading is 25.0 h old, more than 24.0 h",
    )
    assert _gates.evaluate(reading(1, age=DAY), 0.85, DAY, NOW)[0]
    assert _gates.evaluate(None, 0.85, DAY, NOW) == (False, "no reading")
    assert not _gates.evaluate(reading(1, age=-3600), 0.85, DAY, NOW)[0]


def test_limit_is_exact_in_decimals() -> None:
    assert _gates.evaluate(reading(17, 20), 0.85, None, NOW)[0]
    assert _gates.evaluate(reading(0.3, 1), 0.3, None, NOW)[0] == (Fraction(0.3) <= Fraction("0.3"))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("86", 86),
        (12, 12),
        (1.5, Fraction(3, 2)),
        ("1Ki", 1024),
        ("1.5 Ti", 3 * 2**39),
        ("2PiB", 2**51),
        (" 3Gi ", 3 * 2**30),
        ("5 Mi", 5 * 2**20),
    ],
)
def test_j19_sizes(text: object, size: object) -> None:
    assert _gates.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "-1", -1, True, None, "1 KB", "1G", "1e3", "1,5Ti", "Ti", [], {}, float("nan"), float("inf"), "٣"]
)
def test_j19_size_that_does_not_parse_closes_and_never_counts_as_zero(text: object) -> None:
    with pytest.raises(_gates.Unread):
        _gates.parse_size(text)
    assert not _gates.evaluate(reading(text), 0.85, DAY, NOW)[0]
    assert not _gates.evaluate(reading(1, text), 0.85, DAY, NOW)[0]


@pytest.mark.parametrize(
    "one",
    [
        [],
        "text",
        5,
        {},
        {"used": 1},
        {"used": 1, "quota": 2},
        reading(1, 0),
        {**reading(1), "time": "noon"},
        {**reading(1), "time": None},
    ],
)
def test_j19_reading_of_another_shape_is_closed(one: object) -> None:
    opened, reason = _gates.evaluate(one, 0.85, DAY, NOW)
    assert not opened
    assert reason


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["used", "quota", "time"]), inner),
    max_leaves=8,
)


@given(json_values)
def test_no_reading_whatever_makes_it_fail(one: object) -> None:
    opened, reason = _gates.evaluate(one, 0.85, DAY, NOW)
    assert isinstance(opened, bool)
    assert reason
    if opened:
        assert isinstance(one, dict)
        assert {"used", "quota", "time"} <= set(one)


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "gate.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_j19_command_gives_the_reading(tmp_path: Path) -> None:
    command = script(tmp_path, f"import json; print(json.dumps({reading(86)!r}))")
    found = _gates.check({"quota": {"command": command, "fraction": 0.85, "max_age": DAY}}, NOW)
    assert found == {"quota": {"open": False, "reason": "86 of 100 used, limit 0.85 of it"}}


def test_j19_any_command_is_a_gate_by_its_status() -> None:
    found = _gates.check(
        {"yes": {"command": ["true"]}, "no": {"command": ["false"]}, "gone": {"command": ["/no/such"]}}, NOW
    )
    assert found["yes"] == {"open": True, "reason": "open"}
    assert found["no"] == {"open": False, "reason": "false: ended with status 1"}
    assert not found["gone"]["open"]
    assert "/no/such" in found["gone"]["reason"]


def test_command_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    command = ["sh", "-c", f"sleep 60 & echo $! > {note}; wait"]
    begin = time.monotonic()
    found = _gates.check({"slow": {"command": command}}, NOW, timeout=0.5)
    assert time.monotonic() - begin < 2.5
    assert found["slow"] == {"open": False, "reason": "sh: no answer within 0.5 s"}
    pid = int(note.read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and alive(pid):
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_command_that_never_stops_writing_is_cut_off() -> None:
    found = _gates.check({"loud": {"command": ["yes"], "fraction": 0.5}}, NOW, timeout=5)
    assert found["loud"] == {"open": False, "reason": f"the answer is longer than {_gates.ANSWER_BYTES} bytes"}


def test_command_that_leaves_its_output_open_in_the_background_is_not_waited_for() -> None:
    begin = time.monotonic()
    found = _gates.check({"left": {"command": ["sh", "-c", "sleep 60 & exit 0"]}}, NOW, timeout=10)
    assert found["left"]["open"]
    assert time.monotonic() - begin < 3


def test_file_gate(tmp_path: Path) -> None:
    path = tmp_path / "quota.json"
    gate = {"quota": {"file": str(path), "fraction": 0.85, "max_age": DAY}}
    assert str(path) in _gates.check(gate, NOW)["quota"]["reason"]
    path.write_text("not json")
    assert "not JSON" in _gates.check(gate, NOW)["quota"]["reason"]
    path.write_text(json.dumps({"used": "84Gi", "quota": "100Gi", "time": "2026-01-01T00:00:00Z"}))
    assert _gates.check(gate, NOW)["quota"]["open"]


def test_url_gate_with_a_real_server() -> None:
    over = threading.Event()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                over.wait(30)
            body = json.dumps(reading(84 if self.path == "/ok" else 86)).encode()
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        gates = {
            name: {"url": f"{base}/{name}", "fraction": 0.85, "max_age": DAY}
            for name in ("ok", "full", "broken", "slow")
        }
        begin = time.monotonic()
        found = _gates.check(gates, NOW, timeout=3)
        assert time.monotonic() - begin < 15
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
    assert {name: one["open"] for name, one in found.items()} == {
        "ok": True,
        "full": False,
        "broken": False,
        "slow": False,
    }
    assert "500" in found["broken"]["reason"]


def test_no_child_is_left_behind() -> None:
    _gates.check({"a": {"command": ["true"]}, "b": {"command": ["sleep", "9"]}}, NOW, timeout=0.3)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert [pid for pid in children if alive(int(pid)) and b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()] == []
