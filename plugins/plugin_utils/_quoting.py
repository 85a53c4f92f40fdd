# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as a format writes them, so that its reader gets them back unchanged. What it cannot hold is a ValueError."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

from ansible_collections.sciops.sites.plugins.module_utils import _supervisor, _systemctl

_BLANK_ENDS = re.compile(r"\A\s|\s\Z")
_CONTROL = re.compile(r"[\x01-\x08\x0b-\x1f\x7f]")


def _text(value: Any) -> str:
    """The value as text: numbers as Python writes them, truth as `true` and `false`; ValueError for what is no text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (dict, list, tuple, set)):
        raise ValueError(f"must be text, a number or a truth value, not {_kind(value)}")
    text = str(value)
    if "\0" in text:
        raise ValueError("has a NUL character, which no file of settings can hold")
    return text


def _kind(value: Any) -> str:
    return {"NoneType": "null", "dict": "a mapping", "list": "a list"}.get(type(value).__name__, type(value).__name__)


def ini_value(value: Any, interpolation: bool = True) -> str:
    """A value of an INI file that Python's configparser reads, to stand after `key = `.

    `interpolation`: the reader is a ConfigParser as it comes, for which `%` is doubled; not for a RawConfigParser. More
    lines are continued, where configparser can hold them.
    """
    text = _text(value)
    if "\r" in text:
        raise ValueError("has a carriage return, which is read back as a line feed")
    lines = text.split("\n")
    if any(_BLANK_ENDS.search(line) for line in lines):
        raise ValueError("has whitespace at the beginning or end of a line, which configparser takes away")
    if len(lines) > 1 and not lines[-1]:
        raise ValueError("ends with a line feed, which configparser takes away")
    if any(line.startswith(("#", ";")) for line in lines[1:]):
        raise ValueError("has a line that begins with # or ;, which configparser takes for a comment")
    return "\n        ".join(lines).replace("%", "%%" if interpolation else "%")


def shell_word(value: Any) -> str:
    """One word of a POSIX shell, quoted where that is needed."""
    return shlex.quote(_text(value))


def env_file_value(value: Any, style: str = "shell") -> str:
    """A value of a file of environment variables, to stand after `NAME=`.

    `style` is `shell` for a file that a shell sources, as `apptainer --env-file` with `--no-eval` does, `apptainer` for
    that without it, which then evaluates each value once more, and `docker` for a file whose lines are taken as they
    are (docker, podman).
    """
    text = _text(value)
    if style == "shell":
        return shlex.quote(text)
    if style == "apptainer":
        return shlex.quote(re.sub(r"([\\$`])", r"\\\1", text))
    if style != "docker":
        raise ValueError(f"style: {style}: must be shell, apptainer or docker")
    if re.search(r"[\r\n]", text):
        raise ValueError("has a line break, which an env-file of docker cannot hold")
    return text


def systemd_value(value: Any, style: str = "environment") -> str:
    """A value for systemd.

    `style` is `environment` for what stands after `Environment=NAME=`, `file` for what stands after `NAME=` in the file
    of an `EnvironmentFile=`, `exec` for a word of a command line after the program.
    """
    text = _text(value)
    if style == "exec":
        return str(_systemctl.exec_words(["/x", text])).partition(" ")[2]
    if style == "environment":
        word = str(_systemctl.environment_word("V", text))
        return '"' + word[len('"V=') :] if word.startswith('"') else word[len("V=") :]
    if style != "file":
        raise ValueError(f"style: {style}: must be environment, file or exec")
    if _CONTROL.search(text) or _systemctl.INVALID.search(text):
        raise ValueError("has a control character, which systemd refuses in the environment")
    return '"' + re.sub(r'(["\\$`])', r"\\\1", text) + '"'


def supervisor_value(value: Any, section: str = "inet_http_server") -> str:
    """A value of a supervisord.conf, to stand after `key = ` in a section of this kind.

    A list is the words of a command, a mapping the variables of `environment`. Only `program`, `group`, `supervisord`
    and the like have room for what supervisord else takes for a comment.
    """
    what: Any
    if isinstance(value, dict):
        key, what = "environment", {name: _text(one) for name, one in value.items()}
    elif isinstance(value, (list, tuple)):
        key, what = "command", [_text(one) for one in value]
    else:
        key, what = "value", _text(value)
    written = _supervisor.section(section, None, [(key, what)])
    return str(written).partition(" = ")[2][:-1]


FILTERS: dict[str, Callable[..., str]] = {
    "ini_value": ini_value,
    "shell_word": shell_word,
    "env_file_value": env_file_value,
    "systemd_value": systemd_value,
    "supervisor_value": supervisor_value,
}
