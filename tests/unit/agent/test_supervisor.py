# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written for supervisord is read back unchanged; every way in which it does not answer has its own name."""

from __future__ import annotations

import base64
import configparser
import os
import shlex
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from xmlrpc.server import SimpleXMLRPCDispatcher

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _managed, _supervise, _supervisor, _supervisord
from ansible_collections.sciops.sites.plugins.module_utils._supervisor import (
    Denied,
    Down,
    Fault,
    Silent,
    Supervisor,
    read_config,
    section,
    server_config,
)

AWKWARD = 'a%b$HOME "c d"'
WORD = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=12)
TRICKY = st.text(st.sampled_from(" \t;#%()'\"\\$=,:\u00a0\x1fahers{}"), max_size=12) | WORD


# --- what supervisord 4 does with a file, written from its own source and none of the code under test


def load(text: str, here: str = "/here") -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(text)
    found: dict[str, dict[str, str]] = {}
    for name in parser.sections():
        found[name] = {}
        for key, value in parser.items(name):
            # expand_here, which knows nothing of a doubled percent sign
            found[name][key] = value.replace("%(here)s", here) % {
                "here": here,
                "program_name": "x",
                "ENV_HOME": "/root",
            }
    return found


def environment(text: str) -> dict[str, str]:
    lexer = shlex.shlex(text)
    lexer.wordchars += "/.+-():"
    tokens = list(lexer)
    result, i = {}, 0
    while i < len(tokens):
        key, equals, value = tokens[i : i + 3]
        assert equals == "="
        result[key] = value.strip("'\"")
        i += 4
    return result


@given(st.lists(TRICKY, min_size=1, max_size=5))
@example(["a b", "", ";x", "# y", "z ;q #r", "it's", "%(here)s", "%", "\\", '"', " "])
def test_words_of_a_command_come_back(words: list[str]) -> None:
    options = load(section("program", "p", [("command", words), ("numprocs", 1)]))["program:p"]
    assert shlex.split(options["command"]) == words
    assert options["numprocs"] == "1"


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True), TRICKY, max_size=4))
@example({"A": "x ;y #z", "B": " lead %(here)s", "C": 'say "x" now', "D": "it's", "E": "a,b=c", "F": ""})
def test_an_environment_comes_back_or_is_refused(variables: dict[str, str]) -> None:
    options = {"command": ["x"], "environment": variables}
    if any(v.strip("'\"") != v or ('"' in v and "'" in v) for v in variables.values()):
        with pytest.raises(ValueError, match="environment: "):
            section("program", "p", options)
    else:
        assert environment(load(section("program", "p", options))["program:p"]["environment"]) == variables


@given(TRICKY)
@example("%(here)s/x ;y")
def test_any_other_value_comes_back(value: str) -> None:
    # an option that is given has its value, blank ones included
    assert load(section("program", "p", {"directory": value}))["program:p"]["directory"] == value


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"])
def test_a_line_break_is_refused(bad: str) -> None:
    for options in ({"command": [bad]}, {"environment": {"A": bad}}, {"directory": bad}):
        with pytest.raises(ValueError, match="line break"):
            section("program", "p", options)


def test_what_supervisord_cannot_expand_is_refused_where_it_would_be_cut() -> None:
    with pytest.raises(ValueError, match="comment"):
        section("inet_http_server", None, {"password": "a ;b"})
    assert load(section("inet_http_server", None, {"password": AWKWARD}))["inet_http_server"]["password"] == AWKWARD
    for name in ("a b", "a:b", "a]", "", "a\nb"):
        with pytest.raises(ValueError, match="a name has"):
            section("program", name, {})


def test_our_own_server_configuration_reads_back(tmp_path: Path) -> None:
    text = server_config(str(tmp_path), user="root")
    (tmp_path / "supervisord.conf").write_text(text)
    found = read_config(str(tmp_path / "supervisord.conf"))
    assert found == {
        "address": f"unix://{tmp_path}/supervisor.sock",
        "username": None,
        "password": None,
        "folder": str(tmp_path),
        "includes": [f"{tmp_path}/conf.d/*.conf"],
    }
    assert load(text)["unix_http_server"]["chmod"] == "0600"
    with pytest.raises(ValueError, match="at most"):
        server_config("/" + "x" * 100)
    with pytest.raises(ValueError, match="absolute path"):
        server_config("/a b")


def test_configurations_of_others_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, monkey = tmp_path / "c.conf", monkeypatch
    monkey.setenv("PORT", "64101")
    config.write_text(
        "[include]\nfiles = %(here)s/a.*.conf b/*.ini ; ours\n[inet_http_server]\nport=0.0.0.0:%(ENV_PORT)s\n"
        "username=jaws\npassword=" + AWKWARD.replace("%", "%%") + "\n"
    )
    found = read_config(str(config))
    assert (found["address"], found["username"], found["password"]) == ("http://127.0.0.1:64101", "jaws", AWKWARD)
    assert found["includes"] == [f"{tmp_path}/a.*.conf", f"{tmp_path}/b/*.ini"]
    # supervisord reads server sections of included files too, and prefers a socket
    config.write_text("[include]\nfiles = *.inc\n[supervisord]\n")
    assert read_config(str(config))["address"] is None
    (tmp_path / "x.inc").write_text("[unix_http_server]\nfile = %(here)s/s\n[inet_http_server]\nport=1\n")
    assert read_config(str(config))["address"] == f"unix://{tmp_path}/s"
    for text, words in [
        ("nonsense", "no INI file"),
        ("[include]\nx=y", "no files"),
        ("[unix_http_server]\nfile=%(nope)s", "cannot be expanded"),
        ("[unix_http_server]\nfile=50%", "neither doubled"),
        ("[inet_http_server]\nx=y", "no port"),
    ]:
        config.write_text(text)
        with pytest.raises(ValueError, match=words) as raised:
            read_config(str(config))
        assert str(config) in str(raised.value)
    with pytest.raises(ValueError, match="cannot be read"):
        read_config(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("address", "login", "words"),
    [
        ("http://127.0.0.1:9001", (None, None), "empty password"),
        ("http://127.0.0.1:9001", ("me", ""), "empty password"),
        ("http://192.0.2.1:9001", ("me", "x"), "only addresses of this host"),
        ("http://localhost.example:9001", ("me", "x"), "only addresses of this host"),
        ("https://127.0.0.1:9001", ("me", "x"), "must be"),
        ("unix://relative", (None, None), "must be"),
        ("unix:///" + "x" * 200, (None, None), "at most"),
    ],
)
def test_addresses_that_are_not_talked_to(address: str, login: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Supervisor(address, 1, *login)


# --- one that answers


class Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    login: str | None = None
    page: bytes | None = None


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        login = self.server.login
        if login and self.headers["Authorization"] != "Basic " + base64.b64encode(login.encode()).decode():
            self.send_error(401)
            return
        answer = self.server.page or self.server.calls._marshaled_dispatch(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def address_string(self) -> str:
        return ""

    def log_message(self, *args: object) -> None:
        pass


class Calls:
    """Some of supervisord's methods, with its way of results in a multicall: not wrapped in lists."""

    def _dispatch(self, method: str, params: tuple) -> object:
        from xmlrpc.client import Fault as Refusal

        if method == "system.multicall":
            results = []
            for one in params[0]:
                try:
                    results.append(self._dispatch(one["methodName"], tuple(one["params"])))
                except Refusal as fault:
                    results.append({"faultCode": fault.faultCode, "faultString": fault.faultString})
            return results
        answers = {"getState": {"statename": "RUNNING"}, "getPID": 7, "reloadConfig": [[["a"], [], ["b"]]]}
        answers["getAllProcessInfo"] = [{"name": "a", "group": "a"}]
        name = method.partition(".")[2]
        if name not in answers:
            raise Refusal(10, f"BAD_NAME: {params}")
        return answers[name]


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sv") as folder:
        yield Path(folder)


@pytest.fixture
def server(place: Path) -> Iterator[Unix]:
    one = Unix(str(place / "s"), Handler)
    one.calls = SimpleXMLRPCDispatcher(allow_none=False)
    one.calls.register_instance(Calls())
    thread = threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield one
    one.shutdown()
    one.server_close()
    thread.join()


def client(place: Path, timeout: float = 5, *login: str) -> Supervisor:
    return Supervisor(f"unix://{place}/s", timeout, *login)


def test_calls_answers_and_refusals(server: Unix, place: Path) -> None:
    rpc = client(place)
    assert rpc.state() == "RUNNING"
    assert rpc.processes() == [{"name": "a", "group": "a"}]
    assert rpc.reread() == (["a"], [], ["b"])
    assert rpc.many([]) == []
    pid, refused = rpc.many([("getPID",), ("stopProcess", "x", False)])
    assert pid == 7
    assert isinstance(refused, Fault) and refused.code == _supervisor.BAD_NAME
    with pytest.raises(Fault, match="BAD_NAME") as raised:
        rpc.call("startProcess", "x")
    assert (raised.value.code, raised.value.text) == (10, "BAD_NAME: ('x',)")
    server.login = f"me:{AWKWARD}"
    assert client(place, 5, "me", AWKWARD).state() == "RUNNING"
    with pytest.raises(Denied):
        client(place, 5, "me", "other").state()


@pytest.mark.parametrize("page", [b"<html>", b"", b"<?xml version='1.0'?><methodResponse></methodResponse>", b"\xff"])
def test_garbage_is_no_answer(server: Unix, place: Path, page: bytes) -> None:
    server.page = page or b" "
    for ask in ("state", "processes", "reread"):
        with pytest.raises(Silent):
            getattr(client(place), ask)()


def test_nobody_there_is_down(place: Path) -> None:
    with pytest.raises(Down):
        client(place).state()
    (place / "s").write_text("")
    with pytest.raises(Down):
        client(place).state()
    (place / "s").unlink()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(place / "s"))
    with pytest.raises(Down):
        client(place).state()


@pytest.fixture
def daemon(place: Path) -> Iterator[Callable[..., int]]:
    """Start what looks like a supervisord in the table of processes; returns its pid."""
    (place / "supervisord").write_text("#!/bin/sh\nread end\n")
    (place / "supervisord").chmod(0o755)
    begun = []

    def start(*words: str) -> int:
        begun.append(subprocess.Popen([str(place / "supervisord"), *words], stdin=subprocess.PIPE))
        path = Path(f"/proc/{begun[-1].pid}/cmdline")
        ends = time.monotonic() + 10
        while b"/bin/sh\0" not in path.read_bytes() and time.monotonic() < ends:
            time.sleep(0.01)
        return begun[-1].pid

    yield start
    for one in begun:
        one.communicate()


def test_one_whose_socket_was_removed_is_told_from_none(place: Path, daemon: Callable[..., int]) -> None:
    with pytest.raises(_supervisor.Gone):
        client(place).state()
    config = place / "supervisord.conf"
    config.write_text("[unix_http_server]\nfile=%(here)s/s\n[supervisord]\npidfile=%(here)s/run/pid\n")
    (place / "link.conf").symlink_to(config)
    for name in ("other.conf", "run"):
        (place / name).mkdir()
    assert _supervisor.daemons(str(config)) == [] == _supervisor.daemons(str(place / "nothing.conf"))
    others = daemon("-c", str(place / "other.conf"))
    (place / "run" / "pid").write_text(str(others))
    assert _supervisor.daemons(str(config)) == []
    (place / "run" / "pid").write_text(f"{os.getpid()}\n")
    assert _supervisor.daemons(str(config)) == []
    ours = [daemon(*words) for words in (["-c", str(config)], [f"-nc{config}"], [f"--configuration={place}/link.conf"])]
    # one that was started in a way that does not say which
    unnamed = daemon("-n")
    assert _supervisor.daemons(str(config)) == sorted(ours)
    (place / "run" / "pid").write_text(f"{unnamed}\n")
    assert _supervisor.daemons(str(config)) == sorted([*ours, unnamed])


def test_no_second_one_is_started_where_the_socket_was_removed(
    place: Path, daemon: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_supervisor, "ENDING", 0.2)
    (place / "programs").mkdir()
    config = place / "supervisord.conf"
    config.write_text("[unix_http_server]\nfile=%(here)s/s\n[supervisord]\n[include]\nfiles=%(here)s/programs/*.conf\n")
    manager = _supervisord.Manager({"config": str(config), "program": str(place / "supervisord")}, str(place))
    with pytest.raises(_managed.Down):
        manager.states(["x"])
    server = _supervise.Server(str(config), 5)
    assert server.live() is None
    pid = daemon("-c", str(config))
    with pytest.raises(_managed.Silent, match=f"pid {pid}, the supervisord of {config}, still runs"):
        manager.states(["x"])
    with pytest.raises(_supervise.Failure, match=f"pid {pid}, .* still runs") as raised:
        server.live()
    assert raised.value.facts == {"running": None}
    # nor where the socket is there and nobody listens
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(place / "s"))
    assert server.live() is None
    with pytest.raises(_supervise.Failure, match=f"pid {pid}, .* still runs"):
        server.launch(str(place / "supervisord"))
    with pytest.raises(_managed.Failed, match=f"pid {pid}, .* still runs") as refused:
        manager.launch()
    assert refused.value.outcome == "refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="root is kept out by nothing, and needs to become somebody else here")
def test_a_socket_of_somebody_else_lets_nobody_in(server: Unix, place: Path) -> None:
    child = os.fork()
    if not child:
        os.seteuid(65534)
        try:
            client(place).state()
        except Denied:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("words", [b"", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n<?"])
def test_one_that_hangs_is_left_in_time(place: Path, words: bytes) -> None:
    def hang(listener: socket.socket, done: Callable[[], bool]) -> None:
        other, _address = listener.accept()
        other.sendall(words)
        while not done():
            time.sleep(0.01)
        other.close()

    over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "s"))
        listener.listen(1)
        thread = threading.Thread(target=hang, args=(listener, over.is_set))
        thread.start()
        begun = time.monotonic()
        with pytest.raises(Silent, match="no answer within"):
            client(place, 0.3).state()
        assert time.monotonic() - begun < 5
        over.set()
        thread.join()
