# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""One address record of a zone: asked for at the zone's own server, and replaced there by the program nsupdate.

Note that this module util is **PRIVATE** to the collection.

The question is a packet of RFC 1035, so that no dig is needed. The key is a path that nsupdate gets; nothing here reads
the file. Python 3.6 and the standard library, no f-strings.
"""

import os
import re
import socket
import struct
import subprocess
import time

TYPES = {"A": (1, socket.AF_INET), "AAAA": (28, socket.AF_INET6)}
CNAME = 5
NOERROR, NXDOMAIN = 0, 3
RCODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH"}
AUTHORITATIVE, TRUNCATED = 0x0400, 0x0200
# seconds after which a question in UDP is asked again
AGAIN = 2.0
PATHS = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class Failure(Exception):
    """The server does not answer, or not with sense, or refuses; the text says what was said."""


# --- what is wanted, checked


def check_name(option, name):
    """Refuse what is no name of DNS, so that nothing else gets into nsupdate's input."""
    labels = name[:-1].split(".") if name.endswith(".") else name.split(".")
    if len(name) > 253 or not all(re.match(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z", one) for one in labels):
        raise Failure("%s: %r: is no name of DNS" % (option, name))


def check(server, zone, name, kind, address):
    """Refuse values that do not fit; ``address`` is None where the record is to go."""
    check_name("zone", zone)
    check_name("name", name)
    inner, outer = (".%s." % one.rstrip(".").lower() for one in (name, zone))
    if not inner.endswith(outer):
        raise Failure("name: %s: is not in the zone %s" % (name, zone))
    if not re.match(r"[A-Za-z0-9_.:-]+\Z", server):
        raise Failure("server: %r: must be a name or an address" % server)
    if address is not None and packed(kind, address) is None:
        raise Failure("address: %r: is no address of a record %s" % (address, kind))


def packed(kind, address):
    """The bytes of an address, None where it is none of this kind."""
    try:
        return socket.inet_pton(TYPES[kind][1], address)
    except OSError:
        return None


# --- the question


def question(number, name, kind):
    """The packet that asks for the records of a name."""
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    words = b"".join(struct.pack("!B", len(label)) + label for label in labels) + b"\0"
    return struct.pack("!6H", number, 0, 1, 0, 0, 0) + words + struct.pack("!2H", TYPES[kind][0], 1)


def after_name(packet, place):
    """The place behind a name in a packet."""
    while packet[place]:
        if packet[place] >= 0xC0:
            return place + 2
        place += packet[place] + 1
    return place + 1


def records(packet, kind):
    """[(address, ttl)] in an answer, sorted. Raises Failure for one that says nothing about the name."""
    try:
        flags, asked, answers = struct.unpack_from("!2x3H", packet)
        code = flags & 15
        if code not in (NOERROR, NXDOMAIN):
            raise Failure("answers %s" % RCODES.get(code, "with error %d" % code))
        if not flags & AUTHORITATIVE:
            raise Failure("is not a server of this zone")
        place, found = 12, []
        for _question in range(asked):
            place = after_name(packet, place) + 4
        for _answer in range(answers):
            place = after_name(packet, place)
            number, _class, ttl, length = struct.unpack_from("!2HIH", packet, place)
            data = packet[place + 10 : place + 10 + length]
            if number == CNAME:
                raise Failure("has a CNAME there, which takes no other record beside it")
            if number == TYPES[kind][0]:
                found.append((socket.inet_ntop(TYPES[kind][1], data), ttl))
            place += 10 + length
    except (struct.error, IndexError, ValueError, OSError) as error:
        raise Failure("answers what is not understood: %s" % error)
    return sorted(found)


def ask(server, name, kind, seconds):
    """[(address, ttl)] that a server has for a name. Raises Failure where it does not tell."""
    number = struct.unpack("!H", os.urandom(2))[0]
    packet, ends = question(number, name, kind), time.monotonic() + seconds
    try:
        place = socket.getaddrinfo(server, 53, 0, socket.SOCK_DGRAM)[0]
        answer = by_udp(place, packet, ends)
        if struct.unpack_from("!2xH", answer)[0] & TRUNCATED:
            answer = by_tcp(place, packet, ends)
        return records(answer, kind)
    except socket.timeout:
        raise Failure("server: %s: no answer about %s within %.0f s" % (server, name, seconds))
    except (OSError, struct.error) as error:
        raise Failure("server: %s: cannot be asked about %s: %s" % (server, name, error))
    except Failure as failure:
        raise Failure("server: %s: %s, asked about %s" % (server, failure, name))


def by_udp(place, packet, ends):
    """The answer to a packet, which is sent again while none comes."""
    with socket.socket(place[0], socket.SOCK_DGRAM) as link:
        link.connect(place[4])
        while True:
            left = ends - time.monotonic()
            if left <= 0:
                raise socket.timeout()
            link.settimeout(min(AGAIN, left))
            link.send(packet)
            try:
                answer = link.recv(65535)
            except socket.timeout:
                continue
            # one that comes late may be that of another question
            if answer[:2] == packet[:2]:
                return answer


def by_tcp(place, packet, ends):
    """The answer to a packet that does not fit into a datagram."""
    with socket.socket(place[0], socket.SOCK_STREAM) as link:
        link.settimeout(max(0.1, ends - time.monotonic()))
        link.connect(place[4])
        link.sendall(struct.pack("!H", len(packet)) + packet)
        with link.makefile("rb") as stream:
            return stream.read(struct.unpack("!H", stream.read(2))[0])


# --- the change


def lines(server, zone, name, kind, address, ttl):
    """What nsupdate reads: the record replaces all of its kind; without an address it only goes."""
    text = ["server " + server, "zone " + zone, "update del %s %s" % (name, kind)]
    if address is not None:
        text.append("update add %s %d %s %s" % (name, ttl, kind, address))
    return "\n".join(text + ["send", ""])


def update(program, key_file, text, seconds):
    """Have nsupdate send an update. Raises Failure with its words."""
    env = {"PATH": os.environ.get("PATH", "") + ":" + PATHS, "LANG": "C.UTF-8"}
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen([program, "-k", key_file], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=env)
    except OSError as error:
        raise Failure("nsupdate: %s: %s" % (program, error.strerror))
    with child:
        try:
            said = child.communicate(text.encode(), seconds)[0]
        except subprocess.TimeoutExpired:
            child.kill()
            raise Failure("nsupdate: no answer from the server within %.0f s" % seconds)
    if child.returncode:
        words = " ".join(said.decode("utf-8", "replace").split())[-300:]
        raise Failure("nsupdate: %s" % (words or "status %d" % child.returncode))
