# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has and reaches, asked of real sockets, a real web server, real programs and files."""

from __future__ import annotations

import base64
import http.server
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _checks


class Web(http.server.BaseHTTPRequestHandler):
    """`/ok`, `/status/<n>`, `/private` for ci with a password, `/to?<address>` leads elsewhere."""

    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        type(self).seen.append((self.path, given))
        status = int(self.path.rpartition("/")[2]) if self.path.startswith("/status/") else 200
        if self.path == "/private" and given != "Basic " + base64.b64encode(b"ci:s3 cret").decode():
            status = 401
        if self.path.startswith("/to?"):
            status = 302
        self.send_response(status)
        self.send_header("Location", self.path.partition("?")[2])
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def serve(**more: Any) -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Web,), {"seen": []}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = serve()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_addresses(web: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    base = f"http://127.0.0.1:{web.server_port}"
    assert _checks.ask({"url": f"{base}/ok"}) == ""
    assert _checks.ask({"url": f"{base}/to?{base}/ok"}) == ""
    assert _checks.ask({"url": f"{base}/status/503"}).startswith("answers 503 Service Unavailable")
    assert "refused" in _checks.ask({"url": f"http://127.0.0.1:{closed()}/"})
    # no certificate, so no TLS
    assert _checks.ask({"url": base.replace("http", "https") + "/ok"})
    monkeypatch.setenv("http_proxy", base)
    assert _checks.ask({"url": "http://central.example.org/ok"}) == ""
    assert web.RequestHandlerClass.seen[-1][0] == "http://central.example.org/ok"


def test_a_password_is_sent_to_its_server_only_and_never_shown(web: http.server.ThreadingHTTPServer) -> None:
    other, place = serve(), f"127.0.0.1:{web.server_port}"
    try:
        right, wrong = f"http://ci:s3%20cret@{place}/private", f"http://ci:n0t%20it@{place}/private"
        assert _checks.ask({"url": right}) == ""
        told = _checks.ask({"url": wrong}) + _checks.title({"url": wrong})
        assert "answers 401" in told and "n0t" not in told and f"http://ci:****@{place}/private" in told
        assert _checks.hidden({"url": wrong}) == ["n0t%20it", "n0t it"] and _checks.hidden({"port": 1}) == []
        there = f"http://127.0.0.1:{other.server_port}/ok"
        assert _checks.ask({"url": f"http://ci:s3%20cret@{place}/to?{there}"}) == ""
        assert other.RequestHandlerClass.seen == [("/ok", None)]
    finally:
        other.shutdown()
        other.server_close()


def test_ports(mute: int) -> None:
    assert _checks.ask({"port": mute}) == "" and _checks.ask({"port": str(mute), "address": "localhost"}) == ""
    assert "refused" in _checks.ask({"port": closed()}) and "look at" in _checks.ask({"port": closed()})


def test_who_does_not_answer_keeps_nobody_waiting(mute: int) -> None:
    begun = time.monotonic()
    late = [{"url": f"http://127.0.0.1:{mute}/", "timeout": 1}] * 20 + [
        {"command": ["sleep", "1000"], "timeout": 1}
    ] * 5
    told = _checks.ask_all(late)
    assert all(told) and told[-1] == "did not end within 1 s"
    # side by side: one after the other it would be 25 s
    assert time.monotonic() - begun < 20


def test_commands(tmp_path: Path) -> None:
    assert _checks.ask({"command": ["true"]}) == ""
    assert _checks.ask({"command": ["sh", "-c", "echo one; echo so sad >&2; exit 3"]}) == "exit status 3: so sad"
    assert _checks.ask({"command": ["/no/such/program"]}) == "/no/such/program: No such file or directory"
    # what a late one had started is ended with it
    there = tmp_path / "pid"
    _checks.ask({"command": ["sh", "-c", f"sleep 1000 & echo $! > {there}; wait"], "timeout": 1})
    ends = time.monotonic() + 30
    while Path(f"/proc/{there.read_text().strip()}/cmdline").exists():
        if not Path(f"/proc/{there.read_text().strip()}/cmdline").read_bytes():
            break
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_programs(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho tool version 1.10.2-rc1\n")
    tool.chmod(0o755)

    def ask(version: str | None) -> str:
        return _checks.ask({"program": str(tool), "version": version})

    for good in (None, ">=1.9", "==1.10.2", ">1.10", "<2", "<=1.10.2", "!=1.10", ">=1.1, <2", "==1.10.2.0"):
        assert ask(good) == "", good
    for bad in (">=1.11", "<1.9", ">=1.1,<1.10", "!=1.10.2"):
        assert ask(bad) == f"{tool} is 1.10.2, needed is {bad}; install another"
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert ask(">=1") == f"{tool} --version says no version" and ask(None) == ""
    assert "no such program" in _checks.ask({"program": "no-such-program"})
    assert _checks.ask({"program": Path(sys.executable).name}) == ""


def test_space_and_rights_are_asked_of_what_is_there_of_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "not" / "there")
    for little in (1, "1", "0.5K", "1 KiB", "1MB"):
        assert _checks.ask({"free": little, "path": path}) == ""
    assert f"file system of {tmp_path}, 1048576000.0 GiB are needed" in _checks.ask(
        {"free": "1024000 TiB", "path": path}
    )
    assert _checks.ask({"writable": path}) == ""
    assert not list(tmp_path.iterdir())
    (tmp_path / "not").write_text("")
    assert _checks.ask({"writable": path}) == f"{tmp_path}/not is no folder"
    assert _checks.ask({"writable": "/proc/sys/kernel/new"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_folder_of_somebody_else_cannot_be_written(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        os.setresuid(65534, 65534, 65534)
        os._exit(0 if "may not write in /usr" in _checks.ask({"writable": "/usr/new"}) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_age_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert "No such file" in _checks.ask({"log_age": 60, "log": str(log)})
    log.write_text("")
    assert _checks.ask({"log_age": 600, "log": str(log)}) == ""
    os.utime(log, (1, 1))
    assert "limit 600 s" in _checks.ask({"log_age": 600, "log": str(log)})


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({}, "must have one of url, port"),
        ({"port": None, "timeout": 3}, "has none"),
        ({"url": "http://h/", "port": 1}, "has url, port"),
        ({"url": "file:///etc/passwd"}, "must begin with http"),
        ({"url": "http://ci:s3cret@/"}, "must begin with http"),
        ({"port": 70000}, "from 1 to 65535"),
        ({"port": True}, "from 1 to 65535"),
        ({"command": "true"}, "must be a list of words"),
        ({"program": "x", "version": "1.1"}, "must be such as '>=1.1'"),
        ({"free": "2 pounds", "path": "/"}, "must be a size such as 2GiB"),
        ({"free": "2I", "path": "/"}, "must be a size such as 2GiB"),
        ({"free": "2GiB"}, "path: None: must be an absolute path"),
        ({"writable": "here"}, "writable: 'here': must be an absolute path"),
        ({"log_age": 3}, "log: None: must be an absolute path"),
        ({"port": 1, "version": ">1"}, "version: no such key; a check of port has port, timeout, address"),
        ({"port": 1, "timeout": 0}, "timeout: 0: must be a number of seconds"),
    ],
)
def test_a_check_that_makes_no_sense_is_told(check: dict[str, Any], words: str) -> None:
    assert words in _checks.fault(check) and "s3cret" not in _checks.fault(check) + _checks.ask(check)
    assert isinstance(_checks.title(check), str)
