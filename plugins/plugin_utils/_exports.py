# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of `export NAME=value` lines, read as bash reads them. Pure.

Only what such a file needs is read: quotes, escapes, `$NAME`, `${NAME}`, `~`. Everything else is a fault with its line,
because a line that is skipped or half understood would be a wrong value at some site.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.sciops.sites.plugins.plugin_utils._faults import Problem

#: Names whose values are secrets, whatever file sets them.
SECRET = re.compile(r"(?:.*_)?(?:PW|PASSWORD|PASSWD|SECRET|TOKEN|SECRET_ACCESS_KEY|ACCESS_KEY_ID|PRIVATE_KEY|API_KEY)")
IN_CLEAR = "is a secret; its value was not taken over, give it by the environment or Ansible Vault"
FORM = "only lines of the form export NAME=value are read"
_EXPORT = re.compile(r"[ \t]*export[ \t]+([A-Za-z_][A-Za-z0-9_]*)=")
_REFERENCE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_BRACES = re.compile(r"\{.*(?:,|\.\.).*\}")
_QUOTED = "\0"  # stands for what was quoted, where the shape of a word is looked at
# bash sets these itself, or refuses to have them set
_OF_THE_SHELL = frozenset(
    "_ BASHOPTS BASHPID BASH_ARGC BASH_ARGV BASH_COMMAND BASH_LINENO BASH_SOURCE BASH_SUBSHELL BASH_VERSINFO DIRSTACK "
    "EPOCHREALTIME EPOCHSECONDS EUID FUNCNAME GROUPS HISTCMD LINENO PPID RANDOM SECONDS SHELLOPTS SRANDOM UID".split()
)


@dataclass(frozen=True)
class Reference:
    """A name whose value the files do not tell."""

    name: str


#: Text with references in it; no text in it is empty, no two texts are neighbours. `()` is the empty value.
Value = tuple[str | Reference, ...]


@dataclass(frozen=True)
class Line:
    """One `export NAME=value`; `value` has a reference for each `$NAME` in it."""

    name: str
    value: Value
    line: int

    def place(self, file: ExportFile) -> str:
        """Return where the line stands, for people."""
        return f"{file.file}:{self.line}"


@dataclass(frozen=True)
class ExportFile:
    """What a file exports, in order, and what in it cannot be read."""

    file: str
    lines: tuple[Line, ...]
    problems: tuple[Problem, ...] = ()

    def names(self) -> list[str]:
        """Return the names that the file sets, in the order of their first lines."""
        return list(dict.fromkeys(line.name for line in self.lines))

    def findings(self) -> list[str]:
        """Return one sentence for each name that is set again, and for each secret that lies in the file."""
        before: dict[str, int] = {}
        said = []
        for line in self.lines:
            if line.name in before:
                said.append(
                    f"{line.place(self)}: {line.name}: is set again, after line {before[line.name]}; the last counts"
                )
            if line.value and SECRET.fullmatch(line.name):
                said.append(f"{line.place(self)}: {line.name}: {IN_CLEAR}")
            before[line.name] = line.line
        return said


@dataclass(frozen=True)
class Sources:
    """The files in the order in which the shell reads them; keys are names of deployments (one at least) and sites."""

    default: ExportFile
    deployments: Mapping[str, ExportFile]
    sites: Mapping[str, ExportFile]

    def files(self) -> list[ExportFile]:
        """Return all files, lowest layer first."""
        return [self.default, *self.deployments.values(), *self.sites.values()]


@dataclass
class Layers:
    """What files say, by layer: the key is (site, deployment), each empty where the layer is for all of them.

    `assigned` are all names that any file sets, `ports` those that must differ on one machine, `unset` the places that
    refer to a name that was not set there, `findings` sentences for people.
    """

    values: dict[tuple[str, str], dict[str, Value]] = field(default_factory=dict)
    assigned: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    unset: dict[str, list[str]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


def join(parts: Iterable[str | Reference]) -> Value:
    """Return the parts as a value: neighbouring texts as one, no empty text."""
    value: list[str | Reference] = []
    for part in parts:
        if isinstance(part, str) and value and isinstance(value[-1], str):
            value[-1] += part
        elif part != "":
            value.append(part)
    return tuple(value)


def parse(text: str, file: str) -> ExportFile:
    """Read a file of export lines. No value is in the words of a problem: it may be a secret."""
    lines, problems = [], []
    for number, row in enumerate(text.split("\n"), 1):
        if not row.strip(" \t") or row.lstrip(" \t").startswith("#"):
            continue
        found = _EXPORT.match(row)
        name = found.group(1) if found else ""
        try:
            if not found:
                raise ValueError(_other(row))
            if name in _OF_THE_SHELL:
                raise ValueError("is a variable of the shell itself and cannot be set")
            lines.append(Line(name, _value(row, found.end()), number))
        except ValueError as fault:
            problems.append(Problem(file, number, name, "", str(fault)))
    return ExportFile(file, tuple(lines), tuple(problems))


def run(file: ExportFile, state: Mapping[str, Value], unset: dict[str, list[str]] | None = None) -> dict[str, Value]:
    """Return the values after the file was sourced with the values of `state`.

    Each `$NAME` is replaced at its line, as the shell does. One that is not set there stays a reference, and its place
    is noted in `unset`. A secret never gets the value of a file: it stays a reference to itself.
    """
    values = dict(state)
    for line in file.lines:
        parts: list[str | Reference] = []
        for part in line.value:
            if isinstance(part, Reference) and part.name not in values and unset is not None:
                places = unset.setdefault(part.name, [])
                places += [] if line.place(file) in places else [line.place(file)]
            parts.extend(values.get(part.name, (part,)) if isinstance(part, Reference) else (part,))
        values[line.name] = (Reference(line.name),) if SECRET.fullmatch(line.name) else join(parts)
    return values


def layers(sources: Sources) -> Layers:
    """Return the values of all files by layer.

    A value of a site that depends on the deployment stands at the site and deployment. X_PORT_<DEPLOYMENT> becomes the
    X_PORT of that deployment, over an X_PORT that a file sets, as the old scripts did it after the site's file.
    """
    result = Layers()
    for file in sources.files():
        result.findings += file.findings()
        result.assigned += [name for name in file.names() if name not in result.assigned]
    ports: dict[str, tuple[str, str]] = {}
    for name in result.assigned:
        for deployment in sources.deployments:
            ending = f"_{deployment.upper()}"
            if name.endswith(f"_PORT{ending}"):
                ports[name] = name[: -len(ending)], deployment
    result.ports = list(dict.fromkeys(port for port, _deployment in ports.values()))

    def put(site: str, deployment: str, state: Mapping[str, Value], names: Iterable[str], moved: Iterable[str]) -> None:
        layer = result.values.setdefault((site, deployment), {})
        layer.update((name, state[name]) for name in names if name not in ports)
        layer.update((ports[name][0], state[name]) for name in moved if ports[name][1] == deployment and name in state)

    base = run(sources.default, {}, result.unset)
    put("", "", base, base, [])
    states = {name: run(file, base, result.unset) for name, file in sources.deployments.items()}
    for deployment, state in states.items():
        put("", deployment, state, sources.deployments[deployment].names(), ports)
    for site, file in sources.sites.items():
        after = {deployment: run(file, state, result.unset) for deployment, state in states.items()}
        own = file.names()
        same = [name for name in own if len({state[name] for state in after.values()}) == 1]
        put(site, "", next(iter(after.values())), same, [])
        moved = [name for name in ports if name in own or ports[name][0] in own]
        for deployment, state in after.items():
            put(site, deployment, state, [name for name in own if name not in same], moved)
    return result


def _other(row: str) -> str:
    """Return what is wrong with a line that is no export line."""
    if row.endswith("\r"):
        return "ends in a Windows line end, which the shell would read as part of the line"
    words = row.split()
    word = words[0].split("=")[0]
    if words[0] != "export":
        return f"{word}: {FORM}"
    if len(words) == 1 or "=" not in row:
        return f"exports without a value; {FORM}"
    return FORM


def _value(row: str, at: int) -> Value:
    """Return the value that begins at `at`, in a line that must end with it. ValueError says what cannot be read."""
    for character, words in (("\r", "holds a carriage return (a Windows line end?)"), ("\0", "holds a null character")):
        if character in row:
            raise ValueError(f"{words}, which the shell would read as part of the value")
    parts: list[str | Reference] = []
    shape = ""
    while at < len(row) and row[at] not in " \t":
        character, part, after = row[at], "", at + 1
        seen: str = _QUOTED
        if character == "'":
            after = row.find("'", at + 1) + 1
            if not after:
                raise ValueError("a single quote is not closed in this line")
            part = row[at + 1 : after - 1]
        elif character == '"':
            quoted, after = _double(row, at + 1)
            parts.extend(quoted)
        elif character == "\\":
            if after == len(row):
                raise ValueError("goes on in the next line; write it as one line")
            part, after = row[at + 1], at + 2
        elif character == "$":
            if row[after : after + 1] in ("'", '"'):
                raise ValueError("$'..' and $\"..\" are not read; use plain quotes")
            reference, after = _dollar(row, at)
            parts.append(reference)
        elif character == "~" and shape[-1:] in ("", ":"):
            if row[after : after + 1] not in ("", " ", "\t", "/", ":"):
                raise ValueError("~ with a name is not read; write the folder, or quote the ~")
            parts.append(Reference("HOME"))
        elif character in "`;&|<>()":
            raise ValueError(_command(character))
        else:
            part = seen = character
        parts.append(part)
        shape, at = shape + seen, after
    if _BRACES.search(shape):
        raise ValueError("braces that the shell would expand are not read; quote them")
    rest = row[at:].strip(" \t")
    if rest and not rest.startswith("#"):
        raise ValueError("has a second word, which the shell would not take into the value; quote the value")
    return join(parts)


def _double(row: str, at: int) -> tuple[list[str | Reference], int]:
    """Return what stands between double quotes, from the character after the first one, and the place after them."""
    parts: list[str | Reference] = []
    while at < len(row):
        character = row[at]
        if character == '"':
            return parts, at + 1
        if character == "\\" and row[at + 1 : at + 2] in ("$", "`", '"', "\\"):
            parts.append(row[at + 1])
            at += 2
        elif character == "$":
            reference, at = _dollar(row, at)
            parts.append(reference)
        elif character == "`":
            raise ValueError(_command(character))
        else:
            parts.append(character)
            at += 1
    raise ValueError("a double quote is not closed in this line")


def _dollar(row: str, at: int) -> tuple[str | Reference, int]:
    """Return what the `$` at `at` stands for, and the place after it."""
    found = _REFERENCE.match(row, at)
    if found:
        name = found.group(1) or found.group(2)
        if name in _OF_THE_SHELL:
            raise ValueError(f"${name} is a variable of the shell itself; write the value")
        return Reference(name), found.end()
    follows = row[at + 1 : at + 2]
    if follows == "{":
        raise ValueError("of ${..} only ${NAME} is read; write the value")
    if follows == "(":
        raise ValueError(_command("$("))
    if follows and (follows in "[@*#?-$!" or follows in "0123456789"):
        raise ValueError(f"${follows} is not read; write the value, or quote the $ with a \\")
    return "$", at + 1


def _command(character: str) -> str:
    if character in ("`", "$("):
        return f"{character} runs a command; write the value"
    return f"{character} without quotes is not part of a value; quote it"
