# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a target made from its templates: whole trees, every fault of every file told at once."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import yaml
from jinja2 import (
    ChainableUndefined,
    FunctionLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
    UndefinedError,
    meta,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ansible_collections.sciops.sites.plugins.plugin_utils._faults import Problem, hint
from ansible_collections.sciops.sites.plugins.plugin_utils._quoting import FILTERS

Json = dict[str, Any]

MASK = "********"
#: what templates know beside the variables of the system
TARGET_NAMES = ("system", "site", "deployment", "host", "address", "machine", "version", "root")
CHECKS = ("none", "ini", "supervisor", "systemd", "bash", "json", "yaml")
_BY_NAME = {"conf": "ini", "ini": "ini", "sh": "bash", "json": "json", "yml": "yaml", "yaml": "yaml"}
_BY_NAME |= dict.fromkeys(("service", "timer", "socket"), "systemd")
_SHELL_LINE = re.compile(r"#! */(usr/)?bin/(env +)?(ba|da)?sh\b")
_UNDEFINED = re.compile(r"'(\w+)' is undefined\Z")
_MODE = re.compile(r"0?[0-7]{3,4}\Z")


class Unusable(Exception):
    """Templates cannot be used; `problems` has every fault of every file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(one) for one in problems))
        self.problems = list(problems)


class Templates:
    """The templates of one folder; each is read and compiled once, however many targets are rendered.

    `read` gives the text of a file, `tree` the names of all files below a folder, None where the path is a file. Both
    take paths as an entry or an include has them, and raise ValueError with the reason.
    """

    def __init__(self, read: Callable[[str], str], tree: Callable[[str], Sequence[str] | None]) -> None:
        self._read, self._tree = read, tree
        self._texts: dict[str, str] = {}
        self._trees: dict[str, Sequence[str] | None] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._short: dict[str, Template] = {}
        self._env = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            cache_size=-1,
            loader=FunctionLoader(lambda path: (self._text(path), path, lambda: True)),
        )
        del self._env.globals["lipsum"]
        for name, function in FILTERS.items():
            self._env.filters[name] = self._env.filters[f"sciops.sites.{name}"] = function

    def render(self, target: Mapping[str, Any]) -> list[Json]:
        """Every file of a resolved target, rendered; raises Unusable. Nothing is left out and nothing is guessed."""
        files: list[Json] = []
        problems: list[Problem] = []
        for entry in target["files"]:
            for path, name in self._below(entry["src"], problems):
                found = self._file(target, entry, path, name, problems)
                if found:
                    files.append(found)
        owners: dict[str, str] = {}
        for one in files:
            other = owners.setdefault(one["dest"], one["template"])
            if other != one["template"]:
                problems.append(Problem(one["template"], 0, one["dest"], "", f"is made from {other} too"))
        if problems:
            raise Unusable(list(dict.fromkeys(problems)))
        return files

    def payload(self, target: Mapping[str, Any], files: Iterable[Mapping[str, Any]]) -> Json:
        """What the host is sent of rendered files: each secret one with `shown`, its text with every secret masked.

        `shown` is None where a template cannot be rendered so; `secrets` are the values that nobody is to see.
        """
        values = _values(target)
        secrets = {name: str(values[name]) for name in target["secrets"] if values.get(name) not in (None, "")}
        values.update(dict.fromkeys(secrets, MASK))
        order = sorted(secrets.values(), key=len, reverse=True)
        sent = []
        for one in files:
            shown: str | None = None
            if one["secret"] and one["template"].endswith(".j2"):
                try:
                    shown = self._env.get_template(one["template"]).render(values)
                except Exception:  # noqa: S110  (a template that counts on the form of a secret)
                    pass
                for value in order:
                    shown = shown and shown.replace(value, MASK)
            sent.append({**one, "shown": shown})
        return {"files": sent, "secrets": order}

    def used(self, files: Iterable[Mapping[str, Any]]) -> frozenset[str]:
        """The names of the variables that the templates of these entries use, in their texts and in their names."""
        found: set[str] = set()
        for entry in files:
            for path, name in self._below(entry["src"], []):
                found |= names_used([name])
                if path.endswith(".j2"):
                    found |= self._used_by(path)
        return frozenset(found)

    # --- one file

    def _below(self, src: str, problems: list[Problem]) -> list[tuple[str, str]]:
        """(path, name below dest) of the files of an entry; the name of a single one is empty."""
        if src not in self._trees:
            try:
                self._trees[src] = self._tree(src)
            except ValueError as error:
                problems.append(Problem(src, 0, "", "", str(error)))
                return []
        names = self._trees[src]
        if names is None:
            return [(src, "")]
        if not names:
            problems.append(Problem(src, 0, "", "", "has no files"))
        return [(posixpath.join(src, name), name.removesuffix(".j2")) for name in names]

    def _text(self, path: str) -> str:
        if path not in self._texts:
            self._texts[path] = self._read(path)
        return self._texts[path]

    def _used_by(self, path: str) -> frozenset[str]:
        """The names that a template and those it includes use; what is no template uses none here."""
        if path not in self._names:
            self._names[path] = frozenset()  # one that includes itself ends here
            try:
                parsed = self._env.parse(self._text(path))
            except (TemplateError, ValueError):
                return frozenset()
            names = meta.find_undeclared_variables(parsed) - set(self._env.globals)
            for other in meta.find_referenced_templates(parsed):
                names |= self._used_by(other) if other else set()
            self._names[path] = frozenset(names)
        return self._names[path]

    def _file(
        self, target: Mapping[str, Any], entry: Mapping[str, Any], path: str, name: str, problems: list[Problem]
    ) -> Json | None:
        before = len(problems)
        values = _values(target)
        if "{" in name:
            short = self._short.get(name)
            try:
                short = short or self._env.from_string(name)
                self._short[name] = short
                name = short.render(values)
            except Exception as error:
                problems.append(Problem(path, 0, "its name", "", str(error)))
                return None
        dest = posixpath.join(entry["dest"], name) if name else entry["dest"]
        if not dest.startswith("/") or posixpath.normpath(dest) != dest or "\0" in dest:
            problems.append(Problem(path, 0, dest, "", "must be an absolute path without . and .., and name a file"))
        used: frozenset[str] = frozenset()
        try:
            if path.endswith(".j2"):
                content = self._render(path, values, target["secrets"], problems)
                used = self._used_by(path)
            else:
                content = self._text(path)
        except ValueError as error:
            problems.append(Problem(path, 0, "", "", str(error)))
            return None
        secret = bool(entry.get("secret")) or not used.isdisjoint(target["secrets"])
        mode = str(entry.get("mode") or "0600")
        if not _MODE.match(mode):
            problems.append(Problem(path, 0, "mode", mode, "must be an octal mode such as 0640"))
        elif secret and int(mode, 8) & 0o007:
            names = ", ".join(sorted(used & set(target["secrets"]))) or "what is declared secret"
            problems.append(Problem(path, 0, "mode", mode, f"lets others at {names}; a secret file ends in 0"))
        if len(problems) > before:
            return None
        check = entry.get("validate") or _check_of(dest, content)
        fault = _checked_here(check, content)
        if isinstance(check, str) and check not in CHECKS:
            problems.append(Problem(path, 0, "validate", check, hint(check, CHECKS)))
        elif fault:
            problems.append(Problem(path, 0, dest, "", fault))
        return {
            "dest": dest,
            "content": content,
            "mode": mode.zfill(4),
            "owner": entry.get("owner"),
            "group": entry.get("group"),
            "validate": None if check == "none" else check,
            "restarts": "all" if entry.get("restarts") is None else entry["restarts"],
            "secret": secret,
            "template": path,
        }

    def _render(self, path: str, values: Json, secrets: Iterable[str], problems: list[Problem]) -> str:
        """The text of a template; every undefined variable of it becomes a problem, at the line of its first use."""
        told: Json = {}
        while True:
            try:
                return self._env.get_template(path).render({**values, **told})
            except UndefinedError as error:
                found = _UNDEFINED.match(str(error))
                name = found.group(1) if found else ""
                file, line = _place(error.__traceback__, path)
                if name in told:
                    return ""
                if name:
                    words = f"is undefined, {hint(name, values)}"
                    problems.append(Problem(file, line, name, "", words))
                    told[name] = ChainableUndefined(name=name)
                    continue
                problems.append(Problem(file, line, "", "", str(error)))
            except TemplateSyntaxError as error:
                problems.append(Problem(error.name or path, error.lineno, "", "", error.message or "is no template"))
            except Exception as error:  # any expression of a template may fail in its own way
                # what failed for want of an undefined variable says nothing more
                if not told:
                    # its words may quote a value; of a template with secrets nobody is to see them
                    hush = not self._used_by(path).isdisjoint(secrets)
                    words = f"fails with {type(error).__name__}" if hush else str(error)
                    problems.append(Problem(*_place(error.__traceback__, path), "", "", words))
            return ""


def names_used(templates: Iterable[str]) -> set[str]:
    """The names of the variables that these texts use as templates; one that is no template uses none."""
    found: set[str] = set()
    for text in templates:
        if "{" in text:
            try:
                found |= meta.find_undeclared_variables(_PARSER.parse(text))
            except TemplateError:
                continue
    return found - set(_PARSER.globals)


_PARSER = ImmutableSandboxedEnvironment()


def _values(target: Mapping[str, Any]) -> Json:
    return {**{name: target.get(name) for name in TARGET_NAMES if target.get(name) is not None}, **target["values"]}


def _place(trace: TracebackType | None, path: str) -> tuple[str, int]:
    """Template and line that an exception came from; jinja2 puts both into its traceback."""
    found = (path, 0)
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals:
            found = (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _check_of(dest: str, content: str) -> str:
    ending = posixpath.basename(dest).rpartition(".")[2]
    return _BY_NAME.get(ending) or ("bash" if _SHELL_LINE.match(content) else "none")


def _checked_here(check: Any, content: str) -> str:
    """What is wrong with a text whose form needs no host to be checked; empty where nothing is."""
    try:
        if check == "json":
            json.loads(content)
        elif check == "yaml":
            for _event in yaml.parse(content):
                pass
    except ValueError as error:
        return f"is not valid JSON: line {getattr(error, 'lineno', '?')}: {getattr(error, 'msg', '')}"
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return f"is not valid YAML: line {mark.line + 1 if mark else '?'}: {getattr(error, 'problem', '')}"
    return ""
