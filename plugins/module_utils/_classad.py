# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""ClassAds as text: values, ads in their old form (a line each), and the argument and environment words of a job. Pure.

Note that this module util is **PRIVATE** to the collection.

The rules are those of the HTCondor manual: "Classified Advertisements" for values, condor_submit(1) for the new
syntax of ``arguments`` and ``environment``. Strings are those of the old form, which submit descriptions, the job
queue, ``condor_q -long``, hooks, ``.job.ad`` and constraints have (seen on 23.9 and 25.14): a quote is escaped, a
backslash stands for itself, and a line break cannot be written at all: the schedd refuses it. (``classad2.quote`` is of
the new form and doubles backslashes: no good for a submit description.) So `quote` makes an expression of such a text.
A carriage return is what no expression makes either.

The hooks on execute nodes have a copy of this file beside them, so it imports nothing of the collection. Python 3.6 and
the standard library, no f-strings (see _probe).
"""

import collections
import math
import re
from collections.abc import MutableMapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# in the old form only \" stands for something else, and at the very end it is a backslash and the closing quote
_STRING = re.compile(r'"((?:[^"\\]|\\"(?!\Z)|\\)*)"\Z', re.DOTALL)
_NEW_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# what a backslash and a letter stand for in a string of the new form, which expressions of HTCondor's JSON have
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "v": "\v", "a": "\a"}
_ESCAPED = re.compile(r"\\([0-3][0-7]{2}|[0-7]{1,2}|.)", re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
#: what no string of an ad can hold
UNFIT = re.compile(r"[\n\r\0]")
_SPACE = " \t\n\r\v\f"
# the parts of a text that no string of an ad can hold as it is, see quote()
_PART = re.compile(r'formatTime\(0,"(\\*)%n"\)|substr\(("(?:[^"\\]|\\"|\\)*? "),0,-1\)|("(?:[^"\\]|\\"|\\(?!"))*")')


class Expression(str):
    """Text of an expression, which is no string of an ad: ``TARGET.Memory >= 2``."""

    __slots__ = ()


#: the value of an attribute that is there and says nothing
UNDEFINED = None


class Ad(MutableMapping):
    """Attributes by name, whatever the case of its letters. Keeps their order, and the first spelling of each."""

    def __init__(self, *args, **more):
        self._values = collections.OrderedDict()
        self.update(*args, **more)

    def __getitem__(self, name):
        return self._values[name.lower()][1]

    def __setitem__(self, name, value):
        spelling = self._values.get(name.lower(), (name,))[0]
        self._values[name.lower()] = (spelling, value)

    def __delitem__(self, name):
        del self._values[name.lower()]

    def __iter__(self):
        return iter([spelling for spelling, _value in self._values.values()])

    def __len__(self):
        return len(self._values)

    def __contains__(self, name):
        return isinstance(name, str) and name.lower() in self._values

    def __repr__(self):
        return "Ad(%r)" % dict(self)


# --- values


def _plain(text):
    return '"%s"' % text.replace('"', '\\"')


#: a dollar sign that must not stand beside what follows it
_DOLLARS = re.compile(r"\$(?=\$|\(dollar\b)", re.IGNORECASE)


def quote(text):
    """Text of an ad whose value is this string, in the old form that submit descriptions, constraints and hooks have.

    Only a double quote is escaped there; every other backslash stands for itself. So no string can hold a line break,
    and HTCondor refuses such an attribute. One that ends in a backslash takes the quote after it along. Where ``$$(``
    stands in an attribute, a schedd replaces it, or holds the job. And ``$(DOLLAR)`` in what the macros of a
    description have become is taken for one more. Such a text is put together of parts by an expression, which
    everybody who evaluates the attribute sees as the same string. `value` makes it one again.
    Raises ValueError for NUL and the carriage return, which no attribute of a job can hold.
    """
    for bad, called in (("\0", "NUL"), ("\r", "carriage return")):
        if bad in text:
            raise ValueError("%r: an ad holds no %s" % (text, called))
    parts, lines = [], text.split("\n")
    for i, line in enumerate(lines):
        body = line.rstrip("\\")
        slashes = line[len(body) :]
        pieces = _DOLLARS.sub("$\0", body).split("\0")
        if i + 1 == len(lines) and slashes:
            parts += [_plain(one) for one in pieces[:-1]] + ["substr(%s,0,-1)" % _plain(pieces[-1] + slashes + " ")]
        else:
            parts += [_plain(one) for one in pieces if one]
            if i + 1 < len(lines):
                parts.append('formatTime(0,"%s%%n")' % slashes)
    return parts[0] if len(parts) == 1 else "strcat(%s)" % ",".join(parts) if parts else '""'


def unquote(text):
    """The text of a string of an ad in the old form. Raises ValueError where it is none."""
    match = _STRING.match(text)
    if not match:
        raise ValueError("%r is no string of an ad" % text)
    return match.group(1).replace('\\"', '"')


def unquote_new(text):
    """The text of a string of an ad in the new form, where a backslash escapes what is after it. Raises ValueError."""
    match = _NEW_STRING.match(text)
    if not match or match.end() != len(text):
        raise ValueError("%r is no string of an ad" % text)

    def plain(found):
        word = found.group(1)
        # three digits are a byte of UTF-8
        return chr(int(word, 8)) if word[0] in "01234567" else _ESCAPES.get(word, word)

    said = _ESCAPED.sub(plain, match.group(1))
    if not re.search(r"\\[23][0-7]{2}", text):
        return said
    try:
        return said.encode("latin-1").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return said


def unquoted_parts(text):
    """The string that an expression of `quote` stands for, None where it is another expression."""
    text = text.strip()
    inner = text[len("strcat(") : -1] if text.startswith("strcat(") and text.endswith(")") else text
    said, at = [], 0
    while at < len(inner):
        found = _PART.match(inner, at)
        if not found or (inner is text and found.end() != len(text)):
            return None
        slashes, cut, plain = found.groups()
        if plain is not None:
            said.append(plain[1:-1].replace('\\"', '"'))
        elif cut is not None:
            said.append(cut[1:-2].replace('\\"', '"'))
        else:
            said.append(slashes + "\n")
        at = found.end()
        if at < len(inner):
            if inner[at] != ",":
                return None
            at += 1
    return "".join(said) if said else None


def old_form(text):
    """An expression of the new form, as JSON of HTCondor has it, in the old form, which is what HTCondor reads."""

    def again(found):
        try:
            return quote(unquote_new(found.group(0)))
        except ValueError:
            return found.group(0)

    return _NEW_STRING.sub(again, text)


def literal(value):
    """A Python value as text of an ad: None is undefined, an Expression is itself. Raises TypeError for other types."""
    if value is None:
        return "undefined"
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError("%d: an ad holds no integer of more than 64 bits" % value)
        return str(value)
    if isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return 'real("%s")' % ("NaN" if math.isnan(value) else "INF" if value > 0 else "-INF")
        return repr(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, (list, tuple)):
        return "{ %s }" % ", ".join(literal(one) for one in value) if value else "{ }"
    if isinstance(value, dict):
        return "[ %s ]" % "; ".join("%s = %s" % (name(key), literal(one)) for key, one in value.items())
    raise TypeError("%r: an ad holds no %s" % (value, type(value).__name__))


def value(text):
    """The Python value of a text of an ad: an Expression where it is no plain value, None where it is undefined."""
    text = text.strip()
    low = text.lower()
    if low in ("true", "false"):
        return low == "true"
    if low == "undefined":
        return UNDEFINED
    if _INTEGER.match(text):
        return int(text)
    if _REAL.match(text):
        return float(text)
    if _STRING.match(text):
        return unquote(text)
    said = unquoted_parts(text) if text.startswith(("strcat(", "substr(", "formatTime(")) else None
    return Expression(text) if said is None else said


def name(text):
    """This name, where it can be one of an attribute. Raises ValueError."""
    if not isinstance(text, str) or not NAME.match(text):
        raise ValueError("%r is no name of an attribute: letters, digits and _ only" % (text,))
    return text


# --- ads in their old form, as hooks get them and as .job.ad and .machine.ad have them


def parse(text):
    """The attributes of an ad in its old form, one ``Name = value`` on each line.

    A line that is none is skipped: what comes from a starter is a whole line each, and a hook that fails on one odd
    attribute would hold the job.
    """
    found = Ad()
    for line in text.split("\n"):
        key, equals, rest = line.partition("=")
        key = key.strip()
        if equals and NAME.match(key) and not rest.startswith(("=", "?", "!")):
            found[key] = value(rest)
    return found


def show(ad):
    """An ad in its old form. Raises ValueError for a name that is none, TypeError for a value of another kind."""
    return "".join("%s = %s\n" % (name(key), literal(ad[key])) for key in ad)


# --- words of a job


def _word(text):
    if text and not any(one in text for one in _SPACE + "'"):
        return text
    return "'%s'" % text.replace("'", "''")


def join_arguments(words):
    """Arguments as the attribute ``Arguments`` has them (the new syntax, without its outer quotes)."""
    return " ".join(_word(one) for one in words)


def split_arguments(text):
    """The words of the attribute ``Arguments``. Raises ValueError where a quote is not closed."""
    words, word, quoted, at = [], None, False, 0
    while at < len(text):
        one = text[at]
        if quoted:
            if one == "'" and text[at + 1 : at + 2] == "'":
                word += "'"
                at += 1
            elif one == "'":
                quoted = False
            else:
                word += one
        elif one == "'":
            quoted, word = True, word or ""
        elif one in _SPACE:
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + one
        at += 1
    if quoted:
        raise ValueError("%r: a single quote is not closed" % text)
    return words + ([word] if word is not None else [])


def join_environment(variables):
    """Variables as the attribute ``Environment`` has them. Raises ValueError for a name that is none."""
    for key in variables:
        if not key or "=" in key or "\0" in key or any(one in key for one in _SPACE):
            raise ValueError("%r is no name of a variable" % (key,))
    return " ".join(_word("%s=%s" % pair) for pair in variables.items())


def split_environment(text):
    """The variables of the attribute ``Environment``. Raises ValueError for a word without ``=``."""
    found = collections.OrderedDict()
    for word in split_arguments(text):
        key, equals, rest = word.partition("=")
        if not equals or not key:
            raise ValueError("%r is no NAME=value" % word)
        found[key] = rest
    return found


def submit_quoted(raw):
    """Words as a submit description takes them, between double quotes. Raises ValueError for a line break.

    Words that have one go into the ad as an expression, see `quote`.
    """
    if UNFIT.search(raw):
        raise ValueError("a submit description takes no line break in %r" % raw)
    return '"%s"' % raw.replace('"', '""')
