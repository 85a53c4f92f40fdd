# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nsupdate is told, and what answers of a server mean; also the windows that Slurm's reservations are."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _nsupdate
from ansible_collections.sciops.sites.plugins.module_utils._nsupdate import Failure
from ansible_collections.sciops.sites.plugins.module_utils._squeue import Garbled
from ansible_collections.sciops.sites.plugins.modules.maintenance_info import windows

NAME, ZONE = "jaws-acme-dev.svc.example.org", "svc.example.org"
POINTER = b"\xc0\x0c"


def answer(records: list[tuple[int, int, bytes]], flags: int = 0x8400, kind: str = "A") -> bytes:
    asked = _nsupdate.question(7, NAME, kind)[12:]
    packet = struct.pack("!6H", 7, flags, 1, len(records), 0, 0) + asked
    for number, ttl, data in records:
        packet += POINTER + struct.pack("!2HIH", number, 1, ttl, len(data)) + data
    return packet


def test_w10_exactly_five_lines() -> None:
    said = _nsupdate.lines("ns1.example.org", ZONE, NAME, "A", "10.0.0.12", 30)
    assert said == (
        "server ns1.example.org\n"
        "zone svc.example.org\n"
        "update del jaws-acme-dev.svc.example.org A\n"
        "update add jaws-acme-dev.svc.example.org 30 A 10.0.0.12\n"
        "send\n"
    )
    gone = _nsupdate.lines("ns1", ZONE, NAME, "AAAA", None, 30)
    assert gone == "server ns1\nzone svc.example.org\nupdate del jaws-acme-dev.svc.example.org AAAA\nsend\n"


def test_question_is_that_of_rfc_1035() -> None:
    wanted = b"\x00\x07\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x1c\x00\x01"
    assert _nsupdate.question(7, "a.bc", "AAAA") == _nsupdate.question(7, "a.bc.", "AAAA") == wanted


def test_answers() -> None:
    two = [(1, 30, b"\x0a\0\0\x02"), (46, 30, b"signature"), (1, 60, b"\x0a\0\0\x01")]
    assert _nsupdate.records(answer(two), "A") == [("10.0.0.1", 60), ("10.0.0.2", 30)]
    assert _nsupdate.records(answer([]), "A") == _nsupdate.records(answer([], 0x8403), "A") == []
    six = socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    assert _nsupdate.records(answer([(28, 5, six)], kind="AAAA"), "AAAA") == [("2001:db8::1", 5)]


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (answer([], 0x8405), "REFUSED"),
        (answer([], 0x8402), "SERVFAIL"),
        (answer([], 0x840F), "error 15"),
        (answer([(1, 30, b"\x0a\0\0\x02")], 0x8000), "not a server of this zone"),
        (answer([(5, 30, b"\x01a\0"), (1, 30, b"\x0a\0\0\x02")]), "CNAME"),
        (answer([(1, 30, b"\x0a")]), "not understood"),
        (answer([(1, 30, b"\x0a\0\0\x02")])[:-9], "not understood"),
        (b"", "not understood"),
    ],
)
def test_answers_that_say_nothing_are_not_an_empty_one(packet: bytes, words: str) -> None:
    with pytest.raises(Failure, match=words):
        _nsupdate.records(packet, "A")


@given(st.binary(max_size=80))
def test_any_bytes_are_records_or_a_failure(data: bytes) -> None:
    for packet in (data, answer([])[:12] + data, b"\0\x07\x84\0\0\1\xff\xff\0\0\0\0" + data):
        try:
            _nsupdate.records(packet, "A")
        except Failure:
            pass


@pytest.mark.parametrize(
    "values",
    [
        ("ns1\nupdate del example.org", ZONE, NAME, "A", "10.0.0.1"),
        ("ns1 5353", ZONE, NAME, "A", "10.0.0.1"),
        ("ns1", "svc example.org", NAME, "A", "10.0.0.1"),
        ("ns1", ZONE, "x\n." + ZONE, "A", "10.0.0.1"),
        ("ns1", ZONE, "", "A", "10.0.0.1"),
        ("ns1", ZONE, "-x." + ZONE, "A", "10.0.0.1"),
        ("ns1", ZONE, "x" * 64 + "." + ZONE, "A", "10.0.0.1"),
        ("ns1", ZONE, "elsewhere.example.org", "A", "10.0.0.1"),
        ("ns1", ZONE, "xsvc.example.org", "A", "10.0.0.1"),
        ("ns1", ZONE, NAME, "A", "2001:db8::1"),
        ("ns1", ZONE, NAME, "AAAA", "10.0.0.1"),
        ("ns1", ZONE, NAME, "A", "10.0.0.1\nsend"),
        ("ns1", ZONE, NAME, "A", "10.0.0"),
    ],
)
def test_what_does_not_fit_is_refused(values: tuple) -> None:
    with pytest.raises(Failure):
        _nsupdate.check(*values)


def test_what_fits() -> None:
    _nsupdate.check("10.0.0.2", ZONE, NAME, "A", "10.0.0.1")
    _nsupdate.check("2001:db8::2", ZONE + ".", NAME.upper() + ".", "AAAA", "2001:DB8:0::1")
    _nsupdate.check("ns1", ZONE, ZONE, "A", None)


def test_a_datagram_that_is_cut_off_is_asked_for_again_by_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small server: it loses the first question, answers another one, and then says that there is more."""
    full = answer([(1, 30, bytes([10, 0, index // 256, index % 256])) for index in range(600)])
    udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
    udp.bind(("127.0.0.1", 0))
    tcp.bind(udp.getsockname())
    tcp.listen(1)

    def serve() -> None:
        udp.recvfrom(512)
        packet, whom = udp.recvfrom(512)
        udp.sendto(bytes([packet[0] ^ 1]) + answer([])[1:], whom)
        udp.sendto(packet[:2] + answer([], 0x8600)[2:], whom)
        link, _whom = tcp.accept()
        with link:
            number = link.recv(512)[2:4]
            link.sendall(struct.pack("!H", len(full)) + number + full[2:])

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    monkeypatch.setattr(_nsupdate, "AGAIN", 0.1)
    monkeypatch.setattr(_nsupdate.socket, "getaddrinfo", lambda *_args: [(socket.AF_INET, 0, 0, "", udp.getsockname())])
    assert len(_nsupdate.ask("ns1", NAME, "A", 30)) == 600
    server.join()
    begun = time.monotonic()
    with pytest.raises(Failure, match="no answer about"):
        _nsupdate.ask("ns1", NAME, "A", 0.3)
    assert time.monotonic() - begun >= 0.3
    udp.close()
    tcp.close()
    with pytest.raises(Failure, match="cannot be asked"):
        _nsupdate.ask("ns1", NAME, "A", 10)


LINES = (
    "ReservationName=login_b StartTime=2000 EndTime=3000 Nodes=h[1-2] Flags=MAINT,SPEC_NODES State=X\n"
    "ReservationName=other StartTime=500 EndTime=900 Nodes=h1 Flags=SPEC_NODES\n"
    "ReservationName=workflow_a StartTime=1000 EndTime=1500 Nodes=(null) Flags=\n"
)


def test_windows_of_reservations() -> None:
    first, second = windows(LINES, ["login", "MAINT", "workflow"])
    assert first == {
        "name": "workflow_a",
        "start": 1000,
        "end": 1500,
        "words": ["workflow"],
        "flags": [],
        "nodes": None,
    }
    assert (second["words"], second["flags"], second["nodes"]) == (
        ["login", "MAINT"],
        ["MAINT", "SPEC_NODES"],
        "h[1-2]",
    )
    assert [one["name"] for one in windows(LINES, [])] == ["other", "workflow_a", "login_b"]
    assert windows("No reservations in the system\n", ["login"]) == []
    other = LINES + "ReservationName=course StartTime=1 EndTime=2 Nodes=x7 Flags= Users=login_a,x7 Accounts=workflow\n"
    assert [one["name"] for one in windows(other, ["login", "workflow"])] == ["workflow_a", "login_b"]
    assert [(one["name"], one["words"]) for one in windows(other, ["x7", "login"])] == [
        ("course", ["x7"]),
        ("login_b", ["login"]),
    ]


@pytest.mark.parametrize(
    "text", ["", "\n", "slurm_load_reservations error\n", LINES.replace("=500", "=soon"), LINES.replace("=900", "=?")]
)
def test_what_slurm_does_not_say_is_no_empty_list(text: str) -> None:
    with pytest.raises(Garbled):
        windows(text, ["login"])
