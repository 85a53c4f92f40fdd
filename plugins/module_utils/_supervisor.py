# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Talks to supervisord over XML-RPC, reads its configuration and writes sections of it.

Note that this module util is **PRIVATE** to the collection.

Supervisor's own library is not needed. Every call ends in time, and every way to fail has its own class: nobody listens
(``Down``), somebody listens and does not answer (``Silent``), the caller is not let in (``Denied``), the call was
refused (``Fault``). Python 3.6 and the standard library, no f-strings (see _probe).
"""

import base64
import configparser
import errno
import glob
import http.client
import os
import re
import socket
import time
import xmlrpc.client
from collections import OrderedDict

from ansible_collections.sciops.sites.plugins.module_utils import _probe

# numbers of its faults
SHUTDOWN_STATE, BAD_NAME, ALREADY_STARTED, NOT_RUNNING = 6, 10, 60, 70
ALREADY_ADDED, STILL_RUNNING, CANT_REREAD = 90, 91, 92
LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|::1)\Z")
NAME = re.compile(r"[A-Za-z0-9_.@+=-]+\Z")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# sun_path has 107 bytes, and supervisord binds its socket as NAME.PID first
SOCKET_PATH, OWN_SOCKET_PATH = 107, 99
# supervisord reads `;` and `#` after whitespace as a comment, within quotes too; this expands to nothing after that
NOTHING = "%(here).0s"
# what its program is called
DAEMON = re.compile(r"(supervisord[0-9.]*|supervisor\.supervisord)\Z")
# seconds that one without programs takes to end
ENDING = 2
# in these sections supervisord expands %(here)
EXPANDED = ("program", "supervisord", "eventlistener", "fcgi-program", "group")


class Down(Exception):
    """Nobody listens: no supervisord runs with this address."""


class Gone(Down):
    """There is no socket. That one runs whose socket was removed is possible: see ``daemons``."""


class Silent(Exception):
    """Somebody listens and did not answer in time, or answered what is no answer. What it runs is unknown."""


class Denied(Exception):
    """The caller may not talk to it: a password or a file mode."""


class Fault(Exception):
    """The call was refused, with a number and words of supervisord."""

    def __init__(self, code, text):
        Exception.__init__(self, text)
        self.code, self.text = code, text


class _Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout):
        http.client.HTTPConnection.__init__(self, "localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Supervisor:
    """The supervisord at `address`: `unix:///path/to.sock`, or `http://127.0.0.1:9001` with user name and password.

    `timeout` is for a whole call, from the connection to the last byte. Each call is a connection of its own.
    """

    def __init__(self, address, timeout=5.0, username=None, password=None):
        self.address, self.timeout = address, timeout
        self.path, self.host, self.port = None, None, None
        if address.startswith("unix://") and address[7:].startswith("/"):
            self.path = address[7:]
            if len(os.fsencode(self.path)) > SOCKET_PATH:
                raise ValueError("%s: the path of a socket has at most %d bytes" % (address, SOCKET_PATH))
        else:
            found = re.match(r"http://(\[::1\]|[^/:\[\]]+):(\d+)/*(RPC2)?\Z", address)
            if not found or not 1 <= int(found.group(2)) <= 65535:
                raise ValueError("%s: must be unix:///path/to.sock or http://127.0.0.1:9001" % address)
            self.host, self.port = found.group(1).strip("[]"), int(found.group(2))
            if not LOOPBACK.match(self.host):
                raise ValueError(
                    "%s: only addresses of this host itself (127.0.0.1) are talked to, since the password would travel "
                    "in clear; let supervisord listen on a unix socket" % address
                )
            if not username or not password:
                raise ValueError(
                    "%s: has no user name or an empty password, so every process of this host may control it; set both "
                    "in [inet_http_server], or use a unix socket" % address
                )
        self._headers = {"Content-Type": "text/xml", "Connection": "close"}
        if username and password:
            words = ("%s:%s" % (username, password)).encode("utf-8")
            self._headers["Authorization"] = "Basic " + base64.b64encode(words).decode("ascii")

    def call(self, method, *args):
        """What one method answers; a name without a dot is one of supervisor's own namespace."""
        if "." not in method:
            method = "supervisor." + method
        return self._parse(self._post(xmlrpc.client.dumps(args, method).encode("utf-8")))

    def many(self, calls):
        """The results of several calls, (method, argument..) each, in one round trip; a refused one gives its Fault."""
        if not calls:
            return []
        names = [c[0] if "." in c[0] else "supervisor." + c[0] for c in calls]
        batch = [{"methodName": name, "params": list(c[1:])} for name, c in zip(names, calls)]
        results = self.call("system.multicall", batch)
        if not isinstance(results, list) or len(results) != len(calls):
            raise Silent(
                "%s: %d calls were answered by something else than as many results" % (self.address, len(calls))
            )
        return [
            Fault(one["faultCode"], one["faultString"]) if isinstance(one, dict) and "faultCode" in one else one
            for one in results
        ]

    def processes(self):
        """All processes: getAllProcessInfo."""
        rows = self.call("getAllProcessInfo")
        if not isinstance(rows, list) or not all(isinstance(r, dict) and "name" in r and "group" in r for r in rows):
            raise Silent("%s: answered something else than a list of processes" % self.address)
        return rows

    def reread(self):
        """Let it read its files again and say which groups are (added, changed, removed). Nothing is restarted."""
        answer = self.call("reloadConfig")
        try:
            ((added, changed, removed),) = answer
            return list(added), list(changed), list(removed)
        except (TypeError, ValueError):
            raise Silent("%s: answered something else than what its files changed" % self.address)

    def state(self):
        """RUNNING, RESTARTING, SHUTDOWN or FATAL."""
        try:
            return str(self.call("getState").get("statename"))
        except Fault as fault:
            if fault.code == SHUTDOWN_STATE:
                return "SHUTDOWN"
            raise
        except AttributeError:
            raise Silent("%s: answered something else than its state" % self.address)

    def _post(self, body):
        ends = time.monotonic() + self.timeout
        if self.path:
            line = _Unix(self.path, self.timeout)
        else:
            line = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        late = "%s: gave no answer within %g s; its process hangs or is stopped" % (self.address, self.timeout)
        try:
            self._connect(line)
            # the socket lives on in the response after the connection has let go of it
            sock = line.sock
            line.request("POST", "/RPC2", body, self._headers)
            answer, parts = line.getresponse(), []
            while not answer.isclosed():
                sock.settimeout(max(ends - time.monotonic(), 0.001))
                parts.append(answer.read1(65536))
                if not parts[-1]:
                    break
            status = answer.status
        except socket.timeout:
            raise Silent(late)
        except OSError as error:
            raise Silent("%s: broke off: %s" % (self.address, error.strerror or error))
        except http.client.HTTPException as error:
            raise Silent("%s: what answers there does not speak HTTP: %s" % (self.address, type(error).__name__))
        finally:
            line.close()
        if status == 401:
            raise Denied("%s: refuses this user name and password" % self.address)
        if status != 200:
            raise Silent("%s: answers with HTTP status %d; is this a supervisord?" % (self.address, status))
        return b"".join(parts)

    def _connect(self, line):
        try:
            line.connect()
        except socket.timeout:
            raise
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTSOCK, errno.ENOTDIR):
                kind = Gone if error.errno in (errno.ENOENT, errno.ENOTDIR) else Down
                raise kind("%s: nobody listens there; supervisord is not running" % self.address)
            if error.errno in (errno.EACCES, errno.EPERM):
                raise Denied("%s: this user may not connect to it; run as its owner" % self.address)
            raise Silent("%s: takes no connection: %s" % (self.address, error.strerror or error))

    def _parse(self, body):
        try:
            return xmlrpc.client.loads(body)[0][0]
        except xmlrpc.client.Fault as fault:
            raise Fault(fault.faultCode, fault.faultString)
        except Exception as error:
            # expat, the unmarshaller and the conversions each have exceptions of their own
            raise Silent("%s: answered what is no XML-RPC: %s" % (self.address, type(error).__name__))


def _parser():
    """Reads INI files exactly as supervisord does."""
    return configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)


def parse(text, source):
    """Sections of an INI text, name -> options, as supervisord sees them before it expands `%`."""
    parser = _parser()
    try:
        parser.read_string(text, source)
    except configparser.Error as error:
        raise ValueError("%s: is no INI file: %s" % (source, " ".join(str(error).split())))
    return OrderedDict((name, OrderedDict(parser.items(name))) for name in parser.sections())


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as handle:
            return parse(handle.read(), path)
    except OSError as error:
        raise ValueError("%s: cannot be read: %s" % (path, error.strerror))


def read_config(path):
    """How to reach the supervisord of a configuration file, and which files it includes.

    `address` (None where it listens nowhere), `username`, `password`, `includes` (absolute glob patterns), `folder`.
    A unix socket is preferred. What a server section says in an included file counts too where this user may read it.
    """
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    sections, found = _read(path), {"address": None, "username": None, "password": None, "folder": folder}
    found["includes"] = []
    if "include" in sections:
        if "files" not in sections["include"]:
            raise ValueError("%s: [include] has no files" % path)
        words = _expand(path, folder, sections["include"]["files"]).split()
        found["includes"] = [os.path.join(folder, word) for word in words]
    for pattern in [None] + found["includes"]:
        for name in [path] if pattern is None else sorted(glob.glob(pattern)):
            try:
                more = sections if pattern is None else _read(name)
            except ValueError:
                continue
            server = _server(name, os.path.dirname(name), more)
            if server:
                found.update(server)
                return found
    return found


def daemons(config):
    """Pids of the supervisords of a configuration file that live, whether they listen or not. None of a container."""
    ours, noted, found = os.path.realpath(config), _noted(config), []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        words = _probe.argv(pid)
        at = [place for place, word in enumerate(words[:3]) if DAEMON.match(os.path.basename(word))]
        if not at:
            continue
        named = _named(words[at[0] + 1 :])
        # where its command line does not tell, its pidfile does
        mine = os.path.realpath(named) == ours if named.startswith("/") else pid in noted
        if mine and _probe.look(pid) and not _contained(pid):
            found.append(pid)
    return found


def lost(config, address):
    """In words, that a supervisord runs at whose address nobody listens; empty where none does."""
    words = "%s: nobody listens there, and pid %d, the supervisord of %s, still runs; was its socket removed? "
    words += "Restart it (its programs end with it)"
    return "".join(words % (address, pid, config) for pid in daemons(config)[:1])


def occupied(config, address):
    """As ``lost``, for who is about to start one: what is just ending is given its time."""
    ends = time.monotonic() + ENDING
    while lost(config, address) and time.monotonic() < ends:
        time.sleep(0.1)
    return lost(config, address)


def _named(words):
    """The configuration that a command line names, empty where it names none."""
    for place, word in enumerate(words):
        found = re.match(r"(-[nstk]*c|--configuration=?)(.*)\Z", word)
        if found:
            return found.group(2) or "".join(words[place + 1 : place + 2])
    return ""


def _noted(config):
    """What the pidfile of a configuration says. A path that is not absolute is one below where it was started."""
    folder, found = os.path.dirname(config), set()
    try:
        word = _read(config).get("supervisord", {}).get("pidfile", "supervisord.pid")
        path = os.path.expanduser(_expand(config, folder, word).strip())
    except ValueError:
        return found
    for base in (folder, "/"):
        try:
            found.add(int(_probe.read(os.path.join(base, path))))
        except (OSError, ValueError):
            pass
    return found


def _contained(pid):
    """Whether a process is in a container of this host, where the same path is another file."""
    try:
        lines = _probe.read("/proc/%d/status" % pid).splitlines()
    except OSError:
        return False
    return any(line.startswith(b"NSpid:") and len(line.split()) > 2 for line in lines)


def _server(path, folder, sections):
    for kind, key in (("unix_http_server", "file"), ("inet_http_server", "port")):
        for name, options in sections.items():
            if name.partition(":")[0] != kind:
                continue
            if key not in options:
                raise ValueError("%s: [%s] has no %s" % (path, name, key))
            place = _expand(path, folder, options[key]).strip()
            if key == "file":
                address = "unix://" + os.path.normpath(os.path.join(folder, os.path.expanduser(place)))
            else:
                host, _colon, port = place.rpartition(":")
                # one that listens everywhere listens here too
                host = "127.0.0.1" if host in ("", "*", "0.0.0.0") else host.lower()  # noqa: S104
                address = "http://%s:%s" % (host, port)
            words = [_expand(path, folder, options[k]) if k in options else None for k in ("username", "password")]
            return {"address": address, "username": words[0], "password": words[1]}
    return None


def _expand(path, folder, value):
    known = {"ENV_" + name: word for name, word in os.environ.items()}
    known.update(here=folder, host_node_name=os.uname()[1])
    try:
        return value % known
    except KeyError as error:
        raise ValueError("%s: %%(%s)s cannot be expanded here" % (path, error.args[0]))
    except (TypeError, ValueError):
        raise ValueError("%s: a %% in a value is neither doubled nor a %%(name)s" % path)


def quote_words(words):
    """The words of a command as supervisord splits them, `%` not yet doubled."""
    quoted = []
    for word in words:
        if re.match(r"[A-Za-z0-9_@%+=:,./-]+\Z", word):
            quoted.append(word)
            continue
        # quotes end and begin anew between whitespace and what would then be a comment
        inside = re.sub(r"(?<=\s)(?=[;#])", "''", word.replace("'", "'\"'\"'"))
        quoted.append("'%s'" % inside)
    return " ".join(quoted)


def quote_environment(variables):
    """The option environment, `%` not yet doubled. A value that supervisord cannot read back is a ValueError."""
    words = []
    for name, value in variables.items():
        if not VARIABLE.match(name):
            raise ValueError("%r: is no name of an environment variable" % name)
        mark = "'" if '"' in value else '"'
        # it knows no escapes, and cuts quotes off both ends
        if mark in value or value.strip("'\"") != value:
            raise ValueError(
                "%s: supervisord cannot carry a value that begins or ends with a quote, or has both kinds" % name
            )
        words.append("%s=%s%s%s" % (name, mark, value, mark))
    return ",".join(words)


def section(kind, name, options):
    """The INI text of one section; `name` is None for one without, as in [supervisord].

    `options` maps keys to values, or is a list of pairs: None is left out, a bool is true or false, a list is words of
    a command (`command`) or joined by commas, a mapping is `environment`. `%` is doubled: every value is meant as is.
    """
    title = kind if name is None else "%s:%s" % (kind, name)
    if name is not None and not NAME.match(name):
        raise ValueError("[%s]: a name has letters, digits and _ . @ + = - only" % title)
    lines = ["[%s]" % title]
    for key, value in options.items() if hasattr(options, "items") else options:
        if value is None:
            continue
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif hasattr(value, "items"):
            text = _worded(title, key, quote_environment, value)
        elif isinstance(value, (list, tuple)):
            text = quote_words(value) if key == "command" else ",".join(str(v) for v in value)
        else:
            text = str(value)
        lines.append("%s = %s" % (key, _guard(title, key, text)))
    return "\n".join(lines) + "\n"


def _worded(title, key, function, value):
    try:
        return function(value)
    except ValueError as error:
        raise ValueError("[%s] %s: %s" % (title, key, error))


def _guard(title, key, text):
    """The value such that supervisord reads it back unchanged."""
    if re.search(r"[\n\r\0]", text):
        raise ValueError("[%s] %s: has a line break or a NUL, which no supervisord.conf can hold" % (title, key))
    safe = re.sub(r"(?<=\s)(?=[;#])|\A(?=[\s;#])|(?<=\s)\Z", "\0", text.replace("%", "%%"))
    # this one it replaces in doubled form too
    safe = safe.replace("%(here)s", "%(\0here)s")
    if "\0" in safe and title.partition(":")[0] not in EXPANDED:
        raise ValueError(
            "[%s] %s: begins or ends with whitespace, or has ; or # after whitespace, which supervisord reads as a "
            "comment" % (title, key)
        )
    return safe.replace("\0", NOTHING)


def server_config(folder, socket_path=None, user=None, identifier="sciops.sites", include="conf.d/*.conf"):
    """The text of a supervisord.conf that keeps all it has in `folder` (mode 0700, made by the caller, `conf.d` too).

    It listens on a unix socket of mode 0600 only: `supervisor.sock` in the folder, or `socket_path` where that is too
    long. `user` is who it runs as; root needs to say root. `include` is relative to the folder.
    """
    if not folder.startswith("/") or re.search(r"[*?\[\s;#%]", folder):
        raise ValueError(
            "%s: the folder of a supervisord must be an absolute path without whitespace or * ? [ ; # %%" % folder
        )
    sock = socket_path or folder + "/supervisor.sock"
    if len(os.fsencode(sock)) > OWN_SOCKET_PATH:
        raise ValueError("%s: the socket of a supervisord has at most %d bytes" % (sock, OWN_SOCKET_PATH))
    server = [("logfile", folder + "/supervisord.log"), ("logfile_maxbytes", "10MB"), ("logfile_backups", 3)]
    server += [("pidfile", folder + "/supervisord.pid"), ("childlogdir", folder), ("directory", "/")]
    server += [("identifier", identifier), ("nodaemon", False), ("user", user)]
    factory = ("supervisor.rpcinterface_factory", "supervisor.rpcinterface:make_main_rpcinterface")
    parts = [
        section("unix_http_server", None, [("file", sock), ("chmod", "0600")]),
        section("supervisord", None, server),
        section("rpcinterface", "supervisor", [factory]),
        section("supervisorctl", None, [("serverurl", "unix://" + sock)]),
        section("include", None, [("files", include)]),
    ]
    return "\n".join(parts)
