# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes to a host and what comes back, as bytes.

Note that this plugin util is **PRIVATE** to the collection.

Nothing is installed on the host: the command is a short bootstrap, the program and the request are its standard input.
See "The wire" in docs/architecture.md and docs/agent.md.
"""

from __future__ import annotations

import ast
import base64
import binascii
import functools
import json
import re
import shlex
import typing as t
import zlib

PACKAGE = "ansible_collections.sciops.sites.plugins.module_utils"

# which files of module_utils a request needs, in the order in which they are loaded
MODULES: dict[str, tuple[str, ...]] = {
    "observe": ("_probe", "_agent"),
    "apply": ("_probe", "_agent", "_logs", "_shim", "_work", "_process"),
    "describe": ("_probe", "_agent", "_logs", "_shim", "_work", "_process"),
}
# what a request with launchers needs beyond the apply's, by launcher
MANAGED = ("_manager", "_managed")
QUEUED = ("_marks", "_jobqueue", "_queued", "_dequeue")
LAUNCHERS: dict[str, tuple[str, ...]] = {
    "supervisord": ("_supervisor", "_supervisord"),
    "systemd": ("_systemctl", "_systemd"),
    "apptainer": ("_apptainer",),
    "slurm": (*QUEUED, "_squeue", "_slurmctl", "_scancel", "_slurm"),
    "htcondor": (*QUEUED, "_classad", "_condorq", "_condorctl", "_condorrm", "_htcondor"),
}


def modules(request: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    """Return the files of module_utils that a request needs. Raises KeyError for an unknown mode or launcher."""
    launchers = set(request.get("launchers") or ())
    if not launchers:
        return MODULES[request["mode"]]
    more = [name for launcher in sorted(launchers) for name in LAUNCHERS[launcher]]
    # what several launchers share is loaded once
    return (*MODULES["apply"], *MANAGED, *dict.fromkeys(more))


# One line, no apostrophe, no exclamation mark: every login shell passes it on as it is. It reads what the header says,
# not to the end of the input, so a connection that stays open does not hold it up; a cut program does not decompress,
# hence never runs.
BOOTSTRAP = (
    "import sys,zlib;i=sys.stdin.buffer;a,b=map(int,i.readline().split()[2:]);R=i.read(a);"
    'P=zlib.decompress(i.read(b)).decode().split("\\0");exec(P[0])'
)

# makes the parts importable under their names in the collection; runs on the host as the first part of the program
_LOADER = f"""
import types
n=""
for k in "{PACKAGE}".split("."):
 n=n+"."+k if n else k
 m=sys.modules[n]=types.ModuleType(n)
 m.__path__=[]
for s in P[1:]:
 k,s=s.split("\\n",1)
 x=sys.modules[n+"."+k]=types.ModuleType(n+"."+k)
 setattr(m,k,x)
 x.SOURCE=s
 exec(compile(s,k,"exec"),x.__dict__)
m._agent.main(R)
"""

_LINE = re.compile(rb"@sciops (\S+) (\d{1,6})/(\d{1,6}) ([0-9a-f]{8}) ([A-Za-z0-9+/=]*)\r?")


class Garbled(Exception):
    """What came back is not one whole answer; the text says in which way. The host is unknown then, never empty."""


def minify(source: str) -> str:
    """Python source without comments, docstrings and wide indentation, the meaning unchanged.

    Raises SyntaxError where the source is none.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    plain = ast.unparse(tree)
    narrow = re.sub(r"^(?: {4})+", lambda m: " " * (len(m.group()) // 4), plain, flags=re.M)
    # indentation inside a text of several lines would be changed too: then the wide form goes
    return narrow if ast.dump(ast.parse(narrow)) == ast.dump(ast.parse(plain)) else plain


@functools.lru_cache(maxsize=64)
def _program(parts: tuple[tuple[str, str], ...]) -> bytes:
    text = "\0".join([_LOADER, *(f"{name}\n{minify(source)}" for name, source in parts)])
    return zlib.compress(text.encode(), 9)


def payload(request: t.Mapping[str, t.Any], sources: t.Mapping[str, str]) -> bytes:
    """The standard input for one request: header, request and program.

    ``sources`` holds the text of the files of module_utils by name without ``.py`` (see ``modules`` for which a request
    needs). Raises KeyError where one is missing or the mode of the request is not known.
    """
    program = _program(tuple((name, sources[name]) for name in modules(request)))
    body = zlib.compress(json.dumps(request, separators=(",", ":")).encode(), 9)
    return b"#sciops.sites 1 %d %d\n" % (len(body), len(program)) + body + program


def command(interpreter: str | None = None) -> str:
    """The command line, for any login shell, that runs what :func:`payload` gives it.

    ``interpreter`` is what ``ansible_python_interpreter`` says; without one, or with one of Ansible's ``auto`` words,
    the host's own python3 is taken, else the one that RHEL keeps for its tools.
    """
    if interpreter and not interpreter.startswith("auto"):
        words = shlex.split(interpreter) if re.match(r"\S*/env\s", interpreter) else [interpreter]
        return shlex.join([*words, "-ISc", BOOTSTRAP])
    search = (
        "for p in /usr/bin/python3 /usr/libexec/platform-python python3 /usr/local/bin/python3; do "
        'command -v $p >/dev/null 2>&1 && exec $p -ISc "$0"; done; '
        "echo sciops.sites: no python3 on this host >&2; exit 127"
    )
    return shlex.join(["/bin/sh", "-c", search, BOOTSTRAP])


def parse(stdout: bytes, nonce: str) -> dict[str, t.Any]:
    """The reply in what a host wrote, whatever else it wrote between the lines.

    Raises Garbled where a line is missing, cut, changed or there twice, or where there is no reply at all.
    """
    found: dict[int, bytes] = {}
    heads: set[tuple[int, bytes]] = set()
    for raw in stdout.split(b"\n"):
        if not raw.startswith(b"@sciops "):
            continue
        line = _LINE.fullmatch(raw)
        if line is None:
            raise Garbled(f"a line of the answer is cut or changed: {_shown(raw)}")
        if line[1] != nonce.encode():
            raise Garbled("there is a line of another answer")
        number = int(line[2])
        if number in found:
            raise Garbled(f"line {number} of the answer is there twice")
        found[number] = line[5]
        heads.add((int(line[3]), line[4]))
    if not found:
        if not stdout.strip():
            raise Garbled("nothing came back")
        raise Garbled(f"no answer in {len(stdout)} bytes: {_shown(stdout[-200:])}")
    if len(heads) > 1:
        raise Garbled("lines of two answers are mixed")
    total, checksum = heads.pop()
    missing = [i for i in range(1, total + 1) if i not in found]
    if missing or len(found) != total:
        raise Garbled(f"{len(missing)} of {total} lines of the answer are missing")
    try:
        data = base64.b64decode(b"".join(found[i] for i in range(1, total + 1)), validate=True)
        if b"%08x" % zlib.crc32(data) != checksum:
            raise Garbled("the checksum of the answer is wrong")
        reply = json.loads(zlib.decompress(data))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise Garbled(f"the answer cannot be read: {error}") from error
    if not isinstance(reply, dict):
        raise Garbled("the answer is not an object")
    return reply


def _shown(raw: bytes) -> str:
    """Some bytes of unknown origin as one short printable line."""
    text = " ".join(raw.decode("utf-8", "replace").split())
    return "".join(c if c.isprintable() else "?" for c in text)[-120:]
