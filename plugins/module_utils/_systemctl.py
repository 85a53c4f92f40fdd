# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Talks to systemd, of the system or of a user, and writes unit files.

Note that this module util is **PRIVATE** to the collection.

Works with systemd 239 and later: text of ``systemctl show``, no JSON. Every call ends in time, and every way to fail
has its own class: there is no manager (``Down``), it does not answer (``Silent``), it refused (``Failed``). Python 3.6
and the standard library, no f-strings (see _probe).
"""

import os
import pwd
import re
import signal
import subprocess
from collections import OrderedDict

# properties whose value is always one line; `show` tells no line of a value from the next property
SAFE = frozenset(
    "Id Names LoadState ActiveState SubState UnitFileState FragmentPath DropInPaths NeedDaemonReload Result Type "
    "Restart RestartUSec NRestarts MainPID ExecMainPID ExecMainCode ExecMainStatus StatusErrno InvocationID Job "
    "ControlGroup User WorkingDirectory MemoryCurrent TasksCurrent ConditionResult ExecMainStartTimestampMonotonic "
    "ExecMainExitTimestampMonotonic ActiveEnterTimestampMonotonic ActiveExitTimestampMonotonic "
    "InactiveEnterTimestampMonotonic StateChangeTimestampMonotonic".split()
)
ARGV = 100000
LINGER = "/var/lib/systemd/linger"
BOOTED = "/run/systemd/system"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# what systemd takes for no valid UTF-8, in a unit file and behind an escape
INVALID = re.compile(
    "[\0\ud800-\udfff\ufdd0-\ufdef]|[%s]" % "".join(chr(p * 65536 + e) for p in range(17) for e in (0xFFFE, 0xFFFF))
)
NO_MANAGER = re.compile(
    "Failed to connect to (the )?(system |user scope |user |session )?(bus|scope bus)|not been booted with systemd|"
    "Failed to get D-Bus connection|Host is down"
)


class Down(Exception):
    """There is no such manager: systemd is not process 1, or the user has none."""


class Silent(Exception):
    """The manager did not answer in time, or answered what is no answer. What it runs is unknown."""


class Failed(Exception):
    """The manager was asked and refused: exit status and words of systemctl."""

    def __init__(self, code, text):
        Exception.__init__(self, text)
        self.code, self.text = code, text


class Raw(str):
    """A value of a unit file that is already in systemd's own form; nothing in it is doubled or quoted again."""

    __slots__ = ()


class Systemd:
    """The manager of the system (`scope` system) or of the user this runs as (user); `timeout` is for each call."""

    def __init__(self, scope, timeout=10.0):
        if scope not in ("system", "user"):
            raise ValueError("scope: %r: must be system or user" % (scope,))
        self.scope, self.timeout = scope, timeout
        self.uid = os.geteuid()
        try:
            self.user, home = pwd.getpwuid(self.uid).pw_name, pwd.getpwuid(self.uid).pw_dir
        except KeyError:
            self.user, home = str(self.uid), os.path.expanduser("~")
        self.runtime = "/run/user/%d" % self.uid
        self.env = dict(os.environ, LC_ALL="C.UTF-8", SYSTEMD_COLORS="0", SYSTEMD_PAGER="", SYSTEMD_URLIFY="0")
        if scope == "user":
            # what a login of somebody else left behind would lead to his manager
            if os.environ.get("XDG_RUNTIME_DIR", self.runtime) != self.runtime:
                self.env.pop("DBUS_SESSION_BUS_ADDRESS", None)
            self.env["XDG_RUNTIME_DIR"] = self.runtime
            base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
            self.folder = os.path.join(base, "systemd", "user")
            # multi-user.target does not exist for users
            self.target = "default.target"
        else:
            self.folder, self.target = "/etc/systemd/system", "multi-user.target"

    def run(self, *args):
        """What `systemctl ARGS` writes; Failed where it ends with another status than 0."""
        # to load a unit that it does not know yet takes a manager a few milliseconds
        seconds = self.timeout + 0.02 * len(args)
        return self._program(seconds, "systemctl", "--%s" % self.scope, "--no-pager", "--no-ask-password", *args)

    def job(self, verb, names, seconds):
        """Have jobs done (start, stop, restart) and wait for them; what went wrong in words, empty where nothing did.

        A job that takes longer goes on, and is no sign that the manager hangs.
        """
        try:
            self._program(seconds, "systemctl", "--%s" % self.scope, "--no-pager", "--no-ask-password", verb, *names)
        except Failed as error:
            return error.text
        except Silent:
            return "%s is still under way after %g s" % (verb, seconds)
        return ""

    def log_tail(self, unit):
        """The last lines of a unit's journal, where there is one that this user may read."""
        which = "--unit" if self.scope == "system" else "--user-unit"
        try:
            text = self._program(5, "journalctl", "--no-pager", "-q", "-o", "cat", "-n", "10", which, unit)
        except (Down, Silent, Failed):
            return []
        return text.splitlines()

    def show(self, names, properties):
        """Properties of units, name -> property -> value, asked with one call however many they are."""
        self._check(properties)
        found, chunk, size = OrderedDict(), [], 0
        for name in names:
            if chunk and size + len(os.fsencode(name)) + 1 > ARGV:
                self._show(chunk, properties, found)
                chunk, size = [], 0
            chunk.append(name)
            size += len(os.fsencode(name)) + 1
        if chunk:
            self._show(chunk, properties, found)
        return found

    def _show(self, names, properties, found):
        blocks = self._blocks(names, properties)
        if len(blocks) != len(names):
            raise Silent("systemctl show: told of %d units when asked for %d" % (len(blocks), len(names)))
        found.update(zip(names, blocks))

    def _blocks(self, names, properties):
        # Id comes with every unit, so that no block is empty
        keys = ",".join(["Id"] + [p for p in properties if p != "Id"])
        blocks = self.run("show", "--property=" + keys, "--", *names).split("\n\n")
        lines = [[line.partition("=") for line in b.strip("\n").split("\n")] for b in blocks if b.strip()]
        return [{key: value for key, _is, value in block} for block in lines]

    @staticmethod
    def _check(properties):
        unsafe = sorted(set(properties) - SAFE)
        if unsafe:
            raise ValueError("%s: may hold several lines, which cannot be read back" % ", ".join(unsafe))

    def find(self, patterns, properties):
        """Properties of units, asked with one call, where patterns stand for what the manager has loaded.

        A name without a pattern is always in the answer, under its Id.
        """
        self._check(properties)
        blocks = self._blocks(patterns, properties)
        return OrderedDict((block["Id"], block) for block in blocks if "Id" in block)

    def linger(self, user=None):
        """Whether the user's manager runs without a login, from boot on."""
        return os.path.exists(os.path.join(LINGER, user or self.user))

    def enable_linger(self, user=None):
        """Let the user's manager run without a login. Root may; whether others may is polkit's matter."""
        user = user or self.user
        try:
            self._program(self.timeout, "loginctl", "--no-ask-password", "enable-linger", user)
        except Failed as error:
            raise Failed(
                error.code,
                "%s; linger of %s is off and %s may not turn it on, run as root: loginctl enable-linger %s"
                % (error.text, user, self.user, user),
            )

    def prerequisites(self):
        """What is missing on this host, in words; empty where nothing is."""
        if not os.path.isdir(BOOTED):
            return ["systemd is not process 1 of this host: nothing can be started through it"]
        missing = []
        if self.scope == "system":
            if self.uid != 0:
                missing.append("units of the system need root, this is %s: become root, or use user units" % self.user)
            return missing
        if not os.path.exists(self.runtime + "/systemd/private"):
            missing.append(
                "user %s has no systemd manager (user@%d.service does not run): as root, loginctl enable-linger %s"
                % (self.user, self.uid, self.user)
            )
        if not self.linger():
            missing.append(
                "linger of user %s is off, so its units end with its last login and do not start at boot: "
                "as root, loginctl enable-linger %s" % (self.user, self.user)
            )
        return missing

    def _program(self, seconds, *argv):
        # in a group of its own, since what it asked for a password would outlive it
        try:
            child = subprocess.Popen(
                argv,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise Down("%s cannot be run: %s; is systemd installed?" % (argv[0], error.strerror))
        try:
            out, err = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            raise Silent("%s: systemd (%s) gave no answer within %g s" % (argv[0], self.scope, seconds))
        out, err = out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "replace").strip()
        if not child.returncode:
            return out
        text = "; ".join(line.strip() for line in err.splitlines() if line.strip())
        if "timed out" in err:
            raise Silent("systemd (%s): %s" % (self.scope, text))
        if NO_MANAGER.search(err):
            whose = "of this host" if self.scope == "system" else "of user %s" % self.user
            raise Down("there is no systemd manager %s: %s" % (whose, text))
        raise Failed(child.returncode, text or "%s ended with status %d" % (argv[0], child.returncode))


def escape(text):
    """A text as part of a unit's name, as systemd-escape writes it; names may hold letters, digits and `:_.` as is."""
    result = []
    for place, byte in enumerate(text.encode("utf-8")):
        char = chr(byte)
        if char == "/":
            result.append("-")
        elif (char.isalnum() and byte < 128) or char in ":_" or (char == "." and place):
            result.append(char)
        else:
            result.append("\\x%02x" % byte)
    return "".join(result)


def _quote(text):
    """A word in double quotes with C escapes, always on one line. `%` and `$` are as they were."""
    if INVALID.search(text):
        raise ValueError("%r: has a character that no unit file can hold" % text)
    if re.match(r"[A-Za-z0-9_@%+=:,./-]+\Z", text):
        return text
    names = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"%s"' % "".join(names.get(c) or ("\\x%02x" % ord(c) if ord(c) < 32 or ord(c) == 127 else c) for c in text)


def exec_words(words):
    """The value of ExecStart= that runs exactly these words: no variable, specifier or quote in them counts."""
    words = list(words)
    if not words or not words[0].startswith("/"):
        raise ValueError("%s: the program of a unit must be an absolute path" % (words[0] if words else "no command"))
    if "$" in words[0] or words[0].endswith("/"):
        # systemd takes `$` literally in the path and as a variable in the same word as the program's own name
        raise ValueError("%s: the path of a program in a unit can neither hold $ nor end with /" % words[0])
    return Raw(" ".join(_quote(word.replace("%", "%%").replace("$", "$$")) for word in words))


def environment_word(name, value):
    """The value of one Environment= line; what is in the value means itself."""
    if not VARIABLE.match(name):
        raise ValueError("%r: is no name of an environment variable" % name)
    if re.search(r"[\x01-\x08\x0b-\x1f\x7f]", value):
        raise ValueError("%s: systemd refuses control characters in the environment" % name)
    return Raw(_quote("%s=%s" % (name, value.replace("%", "%%"))))


def unit_text(sections, raw=False):
    """The text of a unit file from a list of (section, [(key, value)..]); a key may come again.

    None is left out, a bool is yes or no. `%` is doubled, so that a value means itself, except in a Raw value, or
    everywhere with `raw`.
    """
    blocks = []
    for title, pairs in sections:
        if not re.match(r"[A-Za-z0-9_-]+\Z", title):
            raise ValueError("[%s]: is no name of a section" % title)
        lines = ["[%s]" % title]
        for key, value in pairs:
            if not re.match(r"[A-Za-z0-9_-]+\Z", key):
                raise ValueError("[%s] %s: is no name of a setting" % (title, key))
            if value is not None:
                lines.append("%s=%s" % (key, _value(title, key, value, raw)))
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _value(title, key, value, raw):
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if re.search(r"[\n\r]", text) or INVALID.search(text):
        raise ValueError("[%s] %s: has a line break or a character that no unit file can hold" % (title, key))
    if text != text.strip(" \t") or text.endswith("\\"):
        raise ValueError("[%s] %s: begins or ends with a blank, or ends with a backslash" % (title, key))
    return text if raw or isinstance(value, Raw) else text.replace("%", "%%")
