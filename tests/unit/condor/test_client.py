# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said to HTCondor and read from it; the process that holds its bindings."""

from __future__ import annotations

import json
import os
import time

import classad2
import htcondor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _classad as ca
from ansible_collections.sciops.sites.plugins.module_utils import _condor, _condor_cli, _condor_worker

TEXT = st.text(
    st.one_of(st.sampled_from("\\\"' \n\t$(),;/#)\x1f"), st.characters(exclude_characters="\0\r", codec="utf-8")),
    max_size=15,
)
LINE = TEXT.map(lambda text: text.replace("\n", "")).filter(lambda text: "$(dollar" not in text.lower())
VARIABLES = st.dictionaries(st.sampled_from(["A", "B_1", "c"]), TEXT, max_size=3)


def theirs(text: str) -> classad2.ClassAd:
    return classad2.parseOne(text, classad2.ParserType.Old)


# --- JSON


@given(st.dictionaries(st.sampled_from(["A", "B", "Cd"]), TEXT, max_size=3))
def test_json_of_htcondor_is_read(ad: dict[str, str]) -> None:
    text = theirs(ca.show(ad)).printJson()
    assert _condor_cli.ads(f"[{text}]") == [ad] and _condor_cli.ads(text + text) == [ad, ad]


@pytest.mark.parametrize("text", ["", "\n", "[\n]\n"])
def test_no_ads(text: str) -> None:
    assert _condor_cli.ads(text) == []


def test_expressions_are_told_from_strings_that_look_like_them() -> None:
    ad = _condor_cli.ads(
        r'[{"A": "\/Expr(x + \"a\\\\b\")\/", "B": "/Expr(x)/", "C": "\\/Expr(x)\\/", "D": ["\/Expr(y)\/"]}]'
    )
    assert ad == [{"A": 'x + "a\\b"', "B": "/Expr(x)/", "C": "\\/Expr(x)\\/", "D": ["y"]}]
    found = ad[0]
    assert isinstance(found["A"], ca.Expression) and isinstance(found["D"][0], ca.Expression)
    assert not isinstance(found["B"], ca.Expression) and not isinstance(found["C"], ca.Expression)


def test_a_projection_takes_out_what_was_not_asked_for() -> None:
    text = '[{"JobStatus": 1, "ServerTime": 2, "X": 3}]'
    assert _condor_cli.ads(text, ["jobstatus", "Nix"]) == [{"jobstatus": 1}]
    assert _condor_cli.ads(text) == [{"JobStatus": 1, "X": 3}]
    assert _condor_cli.ads(text, ["ServerTime"]) == [{"ServerTime": 2}]


@pytest.mark.parametrize("text", ['[{"A": 1', '[{"A": 1}', "no", "[1]", '[{"A": "x}]', "null"])
def test_an_answer_that_was_cut_off_is_none(text: str) -> None:
    with pytest.raises(_condor.Silent):
        _condor_cli.ads(text)


# --- errors


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ERROR: Can't find address of local schedd", _condor.Silent),
        ("-- Failed to fetch ads from: <10.0.0.1:9618> : h1", _condor.Silent),
        ("Error: Collector has no record of schedd/submitter", _condor.Silent),
        ("Failed communication with collector.", _condor.Silent),
        ("Unable to locate local daemon.", _condor.Silent),
        ("SECMAN:2007:Failed to end classad message.", _condor.Silent),
        ("something that nobody ever saw", _condor.Silent),
        ('-- Parse error in constraint expression "a b"', _condor.Refused),
        ("invalid constraint", _condor.Refused),
        ('Update of immutable attribute "Owner" is not allowed.', _condor.Refused),
        ('SECMAN:2010:Received "DENIED" from server', _condor.Refused),
    ],
)
def test_no_answer_is_told_from_a_no(text: str, kind: type) -> None:
    assert _condor_cli.judge(text) is kind


def test_long_hints_are_left_out() -> None:
    assert _condor_cli.said("Error: x\n  y\n\nExtra Info: You probably saw this") == "Error: x y"


# --- what commands print


def test_results_of_jobs_are_counted() -> None:
    text = "ActionResult = 1\njob_1_0 = 1\njob_1_1 = 4\njob_2_0 = 5\njob_2_1 = 1\nTotalJobAds = 9\n"
    assert _condor_cli.totals(text) == {
        "error": 0,
        "success": 2,
        "not_found": 0,
        "bad_status": 0,
        "already_done": 1,
        "permission_denied": 1,
    }


def test_numbers_of_new_jobs() -> None:
    assert _condor_cli.submitted("12.0 - 12.1999\n") == (12, 2000)
    assert _condor_cli.submitted("WARNING\n7.0 - 7.0\n") == (7, 1)
    for text in ("", "12.0 - 13.1\n", "1 job(s) submitted to cluster 4.\n"):
        with pytest.raises(_condor.Silent, match="did not say which jobs"):
            _condor_cli.submitted(text)


def test_numbers_of_changed_jobs() -> None:
    assert _condor_cli.edited('Set attribute "A" for 21 matching jobs.\n') == 21
    assert _condor_cli.edited('Set attribute "A" for 1 matching job.\n') == 1
    with pytest.raises(_condor.Silent):
        _condor_cli.edited("Set attribute A.\n")


@given(TEXT)
def test_a_reason_is_one_that_htcondor_keeps(text: str) -> None:
    said = _condor_cli.reason(text)
    assert '"' not in said and "\n" not in said and not said.endswith("\\")


# --- words


@given(TEXT, TEXT)
def test_a_constraint_is_true_for_exactly_the_value(one: str, two: str) -> None:
    ad = ca.show({"Key": one, "E": ca.Expression(_condor.both(_condor.equal("Key", two), "true", None, ""))})
    assert theirs(ad).eval("E") is (one == two)


def test_constraints_are_put_together() -> None:
    assert _condor.both() == _condor.both(None, "") == "true"
    assert _condor.both("a || b") == "a || b"
    assert _condor.both("a || b", None, "c") == "(a || b) && (c)"


def test_a_value_is_never_an_option_nor_a_shell_word() -> None:
    words = _condor_cli.read_words("condor_q", '-x $(id) "', ["A", "B"], 3)
    assert words == ["condor_q", "-json", "-allusers", "-constraint", '-x $(id) "', "-attributes", "A,B", "-limit", "3"]
    with pytest.raises(ValueError, match="no name"):
        _condor_cli.read_words("condor_q", None, ["A", "-name x"])


# --- submit descriptions


def expanded(text: str, name: str) -> object:
    """The value that HTCondor's own code makes of ``MY.name`` in a description."""
    return theirs(f"X = {htcondor2.Submit(text).expand('MY.' + name)}\n").eval("X")


@given(st.lists(TEXT, max_size=4), VARIABLES, TEXT)
@settings(deadline=None)
def test_words_of_a_description_are_read_by_htcondor_as_they_are(
    words: list[str], variables: dict[str, str], value: str
) -> None:
    text = _condor_cli.submit_text(
        {"executable": "/bin/true", "arguments": words, "Environment": variables}, attributes={"Word": value}
    )
    assert text.endswith("\nqueue 1\n") and "arguments" not in text.partition("MY.")[0]
    assert ca.split_arguments(expanded(text, "Arguments")) == words
    assert dict(ca.split_environment(expanded(text, "Environment"))) == variables
    assert expanded(text, "Word") == value


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={"arguments": st.lists(TEXT, max_size=3), "environment": VARIABLES, "v": LINE, "n": st.integers()},
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None)
def test_cells_of_items_are_read_by_htcondor_as_they_are(items: list[dict]) -> None:
    description = {"executable": "/bin/true", "arguments": ["base"], "environment": {"Z": "z"}}
    head, rows = _condor_cli.table(description, items)
    text = _condor_cli.description_text(description) + head
    for item, row in zip(items, rows, strict=True):
        # no cell ends before its end, whichever way a version takes cells apart
        assert all(not any(bad in cell for bad in ", \t\n\x1f") and cell for cell in row.values())
        cells = "".join(f"{name} = {cell}\n" for name, cell in row.items())
        if "sciops_Arguments" in row:
            said = ca.split_arguments(expanded(text + cells, "Arguments"))
            assert said == item.get("arguments", ["base"])
        if "sciops_Environment" in row:
            said = dict(ca.split_environment(expanded(text + cells, "Environment")))
            assert said == {"Z": "z", **item.get("environment", {})}
        if "n" in item:
            assert htcondor2.Submit(text + cells + "x = $(n)\n").expand("x") == str(item["n"])


def test_a_row_that_ends_with_a_backslash_does_not_go_on_with_the_next() -> None:
    text = _condor_cli.submit_text({"executable": "x"}, [{"a": "C:\\"}, {"a": "b"}])
    rows = list(htcondor2.Submit(text).itemdata())
    assert len(rows) == 2 and [row["sciops_row"] for row in rows] == ["0", "1"], rows
    (item,) = _condor_cli.table({}, [{"a": "C:\\"}])[1]
    head = _condor_cli.table({}, [{"a": "C:\\"}])[0]
    assert htcondor2.Submit(f"{head}a = {item['a']}\nx = <$(a)>\n").expand("x") == "<C:\\>"


@pytest.mark.parametrize("word", ["$(DOLLAR)", "a$(dollar)(DOLLAR)b", "$$(DOLLAR)", "$(DOLLAR:x)", "$(DOLLARS)"])
def test_what_htcondor_has_for_a_dollar_sign_is_text_too(word: str) -> None:
    given = {"executable": "/bin/true", "arguments": [word], "environment": {"A": word}}
    text = _condor_cli.submit_text(given, attributes={"Word": word})
    assert ca.split_arguments(expanded(text, "Arguments")) == [word]
    assert dict(ca.split_environment(expanded(text, "Environment"))) == {"A": word} and expanded(text, "Word") == word
    assert ca.value(ca.literal(word)) == word
    if "DOLLARS" not in word:
        with pytest.raises(ValueError, match=r"items\[0\]: .* takes no \$\(DOLLAR\)"):
            _condor_cli.table({}, [{"v": word}])


def test_all_rows_have_all_cells() -> None:
    text = _condor_cli.submit_text({"executable": "x"}, [{"a": "1 2", "attributes": {"K": "x"}}, {"b": "", "a": None}])
    assert text.splitlines()[-4:] == [
        "queue sciops_row,a,b,sciops_K from (",
        '0,1$(sciops_blank)2,$(sciops_none),"x"',
        "1,$(sciops_none),$(sciops_none),undefined",
        ")",
    ]


@pytest.mark.parametrize(
    ("description", "items", "text"),
    [
        ({"arguments": "a\nqueue 5"}, None, "arguments: a submit description takes no line break in a value; give arg"),
        ({"x": "a\\"}, None, "x: a submit description takes no backslash at the end"),
        ({"queue": "5"}, None, "queue: is no command"),
        ({"x y": "5"}, None, "x y: is no command"),
        ({"include": "/etc/passwd"}, None, "include: is no command"),
        ({"arguments": ["\r"]}, None, "carriage return"),
        ({"environment": {"a b": "x"}}, None, "no name of a variable"),
        ({}, [{"ok": 1}, {"a": "x\ny"}], r"items\[1\]: 'x\\ny': a variable of an item takes no line break"),
        ({}, [{"a b": 1}], r"items\[0\]: a b: is no name of a variable"),
        ({}, [{"sciops_row": 1}], r"items\[0\]: sciops_row: is no name"),
        ({}, [{"attributes": {"a b": 1}}], r"items\[0\]: 'a b' is no name of an attribute"),
    ],
)
def test_what_would_be_another_description_is_refused(description: dict, items: list | None, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _condor_cli.submit_text(description, items)


def test_lists_and_switches_of_a_description() -> None:
    text = _condor_cli.submit_text(
        {"transfer_input_files": ["a", "b"], "hold": True, "priority": 5, "log": None}, count=7
    )
    assert text == "transfer_input_files = a, b\nhold = true\npriority = 5\nlog = \nqueue 7\n"


# --- the client


def test_ways() -> None:
    assert _condor.connect("auto").way == "bindings" and _condor.connect("commands").way == "commands"
    with pytest.raises(_condor.Refused, match="way: x"):
        _condor.connect("x")


def test_a_missing_program_is_named(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_condor, "PATHS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(_condor.Refused, match="no program condor_q on this host"):
        _condor.connect("commands").query()
    assert _condor.connect("commands").preview({"executable": "/bin/true"}) is None


@pytest.mark.parametrize("way", ["bindings", "commands"])
def test_what_is_no_question_is_refused_before_anybody_is_asked(way: str) -> None:
    client = _condor.connect(way)
    for ask in (
        lambda: client.status("nodes"),
        lambda: client.act("drop", "true"),
        lambda: client.edit("true", "a b", 1),
        lambda: client.edit("true", "A", object()),
        lambda: client.submit({"executable": "x"}, []),
        lambda: client.submit({"executable": "x"}, None, {"A": "\r"}),
        lambda: client.query("true", ["a b"]),
        lambda: client.submit_dag("/no/such/file"),
    ):
        with pytest.raises(_condor.Refused):
            ask()


# --- the process of the bindings


def worker() -> _condor_worker.Worker:
    return _condor_worker.Worker(dict(os.environ), {"pool": None, "schedd": None})


def answers(asked: int, answered: int, place: dict) -> None:
    """Stand in the place of the bindings: what they do when they hang, fall over, or have much to say."""
    with os.fdopen(asked, "rb") as questions, os.fdopen(answered, "wb") as out:
        for line in questions:
            name, args = json.loads(line)
            if name == "hang":
                time.sleep(60)
            if name == "crash":
                os.kill(os.getpid(), 9)
            said = [
                name != "fail",
                {"pid": os.getpid(), "much": len(args[0]) if args else 0, "back": args[0] if args else ""},
            ]
            out.write(json.dumps(said if said[0] else [False, "Failed to connect"]).encode() + b"\n")
            out.flush()


def test_a_question_that_hangs_ends_with_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_condor_worker, "serve", answers)
    one = worker()
    first = one.ask("x", ["é\ud800\n" * 500000], 60)
    assert first["much"] == 1500000 and first["back"] == "é\ud800\n" * 500000
    assert one.ask("x", [], 60)["pid"] == first["pid"]
    with pytest.raises(_condor.Silent, match=r"no answer within 0\.3 s"):
        one.ask("hang", [], 0.3)
    with pytest.raises(ProcessLookupError):
        os.kill(first["pid"], 0)
    # the next question has a new process, and no late answer
    again = one.ask("x", ["y"], 60)
    assert again["pid"] != first["pid"] and again["back"] == "y"
    for name in ("crash", "crash"):
        with pytest.raises(_condor.Silent, match="ended without an answer"):
            one.ask(name, [], 60)
    with pytest.raises(_condor.Silent, match="Failed to connect"):
        one.ask("fail", [], 60)
    last = one.ask("x", [], 60)["pid"]
    one.close()
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


@given(st.dictionaries(st.sampled_from(["A", "B"]), TEXT, max_size=2))
def test_an_ad_that_is_no_utf8_is_told_in_parts(ad: dict[str, str]) -> None:
    class Odd(dict):
        def printJson(self) -> str:  # noqa: N802
            raise UnicodeDecodeError("utf-8", b"", 0, 1, "x")

        def lookup(self, name: str) -> object:
            return self[name]

    real = theirs(ca.show({**ad, "N": 3, "U": None, "T": True, "R": 2.5, "E": ca.Expression('A + "\\x"')}))
    odd = Odd({name: real.lookup(name) for name in real})
    odd["C"] = '"\\377\\351z"'
    found = _condor_cli.ads(_condor_worker.one(odd))[0]
    assert found.pop("C") == "\udcff\udce9z"
    assert found == _condor_cli.ads(real.printJson())[0]
