# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates and expressions in declared text: the names they use, and their value, which may be more than text."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, Undefined, UndefinedError, meta, nodes
from jinja2.environment import TemplateExpression
from jinja2.sandbox import ImmutableSandboxedEnvironment

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
_ENVIRONMENT.globals.clear()


class NoValue(Exception):
    """A template has no value here. `names` are those without a value that it wanted."""

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


@dataclass(frozen=True)
class _Compiled:
    names: frozenset[str]
    template: Template
    single: TemplateExpression | None  # where the text is nothing but one expression


@functools.lru_cache(maxsize=8192)
def _compiled(text: str, expression: bool) -> _Compiled:
    source = "{{ (" + text + ") }}" if expression else text
    try:
        tree = _ENVIRONMENT.parse(source)
        template = _ENVIRONMENT.from_string(source)
    except (TemplateError, RecursionError) as exc:
        raise ValueError(f"is not a template: {exc}") from exc
    names = frozenset(meta.find_undeclared_variables(tree))
    parts = [part for node in tree.body for part in (node.nodes if isinstance(node, nodes.Output) else [node])]
    if len(parts) != 1 or not isinstance(parts[0], nodes.Expr) or isinstance(parts[0], nodes.TemplateData):
        return _Compiled(names, template, None)
    # as Environment.compile_expression() does with the text of an expression
    body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), parts[0], lineno=1)]
    alone = nodes.Template(body, lineno=1)
    alone.set_environment(_ENVIRONMENT)
    return _Compiled(names, template, TemplateExpression(_ENVIRONMENT.from_string(alone), False))


def names(text: str, expression: bool = False) -> frozenset[str]:
    """The names that a template uses, or with `expression` an expression without braces.

    Raises ValueError with the reason where the text is no template.
    """
    return _compiled(text, expression).names if expression or "{" in text else frozenset()


def evaluate(text: str, values: Mapping[str, Any], expression: bool = False, hush: bool = False) -> Any:
    """The value of a template. A text that is nothing but one expression keeps the type of its value.

    With `hush` a fault does not show what the template said, which may hold a secret. Raises NoValue.

    >>> evaluate("{{ port + 1 }}", {"port": 1}), evaluate("{{ port }}/tcp", {"port": 1})
    (2, '1/tcp')
    """
    if not expression and "{" not in text:
        return text
    found = _compiled(text, expression)
    try:
        if found.single is None:
            return found.template.render(values)
        value = found.single(**values)
        if isinstance(value, Undefined):
            str(value)  # raises, and says what there is not
        return value
    except UndefinedError as exc:
        unset = [name for name in sorted(found.names) if f"'{name}' is undefined" in str(exc)]
        raise NoValue(f"uses {unset[0]}, which has no value" if unset else f"cannot be made: {exc}", unset) from exc
    except Exception as exc:  # any expression of a template may fail in its own way
        raise NoValue(f"cannot be made: {type(exc).__name__ if hush else exc}") from exc
