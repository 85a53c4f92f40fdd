# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ClassAds as text: what is written is read again, by us and by HTCondor's own code."""

from __future__ import annotations

import math

import classad2
import htcondor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _classad as ca

#: what an ad can hold; signs that mean something somewhere come often
TEXT = st.text(
    st.one_of(
        st.sampled_from('\\\\\\""\'\n\t $$()%,;=[]{}ntx0'), st.characters(exclude_characters="\0\r", codec="utf-8")
    ),
    max_size=30,
)
WORD = st.text(
    st.one_of(st.sampled_from("'\" \\\n\t"), st.characters(exclude_characters="\0", codec="utf-8")), max_size=20
)
NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True).filter(
    lambda name: name.lower() not in ("true", "false", "undefined", "error", "is", "isnt", "parent", "my", "target")
)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
)
VALUE = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAME.map(str.lower), inner, max_size=3),
    max_leaves=8,
)


def theirs(ad: dict) -> classad2.ClassAd:
    """Read an ad in its old form with HTCondor's own code."""
    return classad2.parseOne(ca.show(ad), classad2.ParserType.Old)


def python(value: object) -> object:
    if value == classad2.Value.Undefined:
        return None
    if isinstance(value, classad2.ClassAd):
        return {name: python(value.eval(name)) for name in value}
    if isinstance(value, list):
        return [python(one.eval() if isinstance(one, classad2.ExprTree) else one) for one in value]
    return value


@given(TEXT)
def test_a_string_is_read_again(text: str) -> None:
    said = ca.value(ca.quote(text))
    assert said == text and not isinstance(said, ca.Expression)


@given(TEXT)
def test_htcondor_reads_the_same_string(text: str) -> None:
    assert "\n" not in ca.quote(text)
    assert theirs({"A": text}).eval("A") == text


@given(TEXT, TEXT)
def test_a_string_stays_whole_inside_of_an_expression(one: str, two: str) -> None:
    ad = theirs({"A": one, "E": ca.Expression(f"A =?= {ca.quote(one)} && {ca.quote(two)} =?= {ca.quote(two)}")})
    assert ad.eval("E") is True


@given(TEXT)
def test_what_a_schedd_would_replace_is_in_no_attribute(text: str) -> None:
    assert "$$" not in ca.quote(text)


@given(st.dictionaries(NAME, PLAIN, max_size=6))
def test_an_ad_is_read_again(ad: dict) -> None:
    wanted = ca.Ad(ad)
    assert dict(ca.parse(ca.show(wanted))) == dict(wanted)


@given(VALUE)
def test_htcondor_reads_the_same_value(value: object) -> None:
    assert python(theirs({"Some": value}).eval("Some")) == value


@given(TEXT)
def test_an_expression_of_the_new_form_is_the_same_in_the_old_form(text: str) -> None:
    tree = theirs({"E": ca.Expression(f'size("x") == 1 ? {ca.quote(text)} : 0')}).lookup("E")
    assert theirs({"E": ca.Expression(ca.old_form(str(tree)))}).eval("E") == text


@given(TEXT)
def test_a_string_of_the_new_form_is_read(text: str) -> None:
    assert ca.unquote_new(classad2.quote(text)) == text
    new = str(theirs({"A": text}).lookup("A"))
    assert (ca.unquote_new(new) if new.startswith('"') else ca.unquoted_parts(ca.old_form(new))) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"a\\tb"', "a\\tb"),
        ('"a\\\\"', "a\\\\"),
        ('"e\\"', "e\\"),
        ('"a\\"b"', 'a"b'),
        ("TRUE", True),
        ("undefined", None),
        ("-3", -3),
        (".5", 0.5),
        ("1E+300", 1e300),
        ('strcat("n",formatTime(0,"%n"),"l")', "n\nl"),
        ('substr("e\\ ",0,-1)', "e\\"),
        ('strcat("a",formatTime(0,"\\%n"),substr("\\ ",0,-1))', "a\\\n\\"),
    ],
)
def test_values_as_hooks_get_them(text: str, said: object) -> None:
    found = ca.value(text)
    assert found == said and type(found) is type(said)


@pytest.mark.parametrize(
    "text",
    [
        "a + b",
        '"a" + "b"',
        "TARGET.Memory >= 2",
        'strcat("a",b)',
        'strcat("a","b"',
        'strcat("a" "b")',
        'formatTime(0,"%n") + "x"',
        "{ 1,2 }",
        "error",
        '"open',
        "strcat()",
    ],
)
def test_an_expression_stays_one(text: str) -> None:
    assert isinstance(ca.value(text), ca.Expression) and ca.value(text) == text


@pytest.mark.parametrize("text", ["a\0", "\r", "a\r\n"])
def test_what_no_ad_can_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an ad holds no"):
        ca.quote(text)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_a_number_that_is_too_long_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        ca.literal(value)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x"])
def test_a_value_of_no_kind_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        ca.literal(value)


@pytest.mark.parametrize("name", ["", "a b", "1a", "a=b", "a.b", "é", 'a"', "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        ca.show({name: 1})


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_that_are_none(value: float) -> None:
    found = theirs({"R": value}).eval("R")
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_odd_lines_of_an_ad_are_skipped() -> None:
    ad = ca.parse('A = 1\n\nno ad\nB == 2\nC=3\n1x = 4\nD =?= 5\n  E  =  "x"  \nF =\n')
    assert dict(ad) == {"A": 1, "C": 3, "E": "x", "F": ""} and "a" in ad and ad["c"] == 3


def test_names_of_an_ad_know_no_case() -> None:
    ad = ca.Ad(JobStatus=1)
    ad["jobstatus"] = 2
    assert list(ad.items()) == [("JobStatus", 2)] and ad["JOBSTATUS"] == 2 and len(ad) == 1
    del ad["JobSTATUS"]
    assert not ad and "JobStatus" not in ad


# --- words


@given(st.lists(WORD, max_size=6))
def test_arguments_are_read_again(words: list[str]) -> None:
    assert ca.split_arguments(ca.join_arguments(words)) == words


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,8}", fullmatch=True), WORD, max_size=5))
def test_an_environment_is_read_again(variables: dict[str, str]) -> None:
    assert dict(ca.split_environment(ca.join_environment(variables))) == variables


@given(st.lists(st.text(st.characters(exclude_characters="\0\n\r", codec="utf-8"), max_size=10), max_size=5))
def test_a_description_takes_quoted_words(words: list[str]) -> None:
    raw = ca.join_arguments(words)
    submit = htcondor2.Submit(f"executable = /bin/true\narguments = {ca.submit_quoted(raw)}\n")
    assert submit["arguments"] == ca.submit_quoted(raw).strip()


@pytest.mark.parametrize("text", ["'open", "a 'b", "'''"])
def test_an_open_quote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not closed"):
        ca.split_arguments(text)


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a\n", "a\0"])
def test_a_variable_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a variable"):
        ca.join_environment({name: "x"})
