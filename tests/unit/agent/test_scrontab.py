# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The block in a user's scrontab: the lines of others stay byte by byte, and what Slurm disabled comes back."""

from __future__ import annotations

import types
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _scrontab
from ansible_collections.sciops.sites.plugins.module_utils._scrontab import ScrontabError
from ansible_collections.sciops.sites.plugins.modules import slurm_scrontab, slurm_scrontab_info

RECORDED = Path(__file__).parent / "slurm_output"
# what a person may have: CRLF, comments, options, other blocks of ours, of others, no line feed at the end, odd bytes
LINES = st.sampled_from(
    [
        "# mine",
        "A=b",
        "#SCRON -t 5",
        "*/7 * * * * /bin/true mine",
        "#DISABLED: * * * * * /bin/off",
        "",
        "\t",
        "# BEGIN somebody else",
        "# END somebody else",
        " # BEGIN sciops.sites x",
        "caf\udce9 \u96ea",
        "a\rb",
        "form\x0cfeed \x85 \u2028 line",
    ]
)
TEXTS = st.builds(
    lambda lines, last: "".join(line + end for line, end in lines) + last,
    st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n"])), max_size=6),
    st.sampled_from(["", "# no line feed", "* * * * * last\r"]),
)
OTHERS = st.lists(st.sampled_from(["other", "x.y", "x2"]), unique=True, max_size=2)
ENTRIES = st.lists(
    st.builds(
        dict,
        minute=st.sampled_from(["*", "*/5", "0"]),
        command=st.sampled_from(["/bin/true", "sleep 1 # $A 50%", "x y"]),
        options=st.lists(st.sampled_from(["--partition=cron", "-t 5"]), max_size=2),
        job_name=st.sampled_from([None, "job"]),
    ),
    min_size=1,
    max_size=3,
)


def made(name: str, entries: list, old: list | None = None, held: bool = False) -> list[str]:
    return _scrontab.wanted(name, entries, old, held)


@given(TEXTS, OTHERS, ENTRIES, ENTRIES)
def test_lines_of_others_stay_byte_by_byte(text: str, others: list[str], first: list, second: list) -> None:
    for other in others:
        text = _scrontab.put(text, other, made(other, [{"command": other}]))
    block = made("x", first)
    with_it = _scrontab.put(text, "x", block)
    assert _scrontab.block_of(with_it, "x") == block
    # without our block, and only without it, it is what it was
    assert with_it.replace("".join(block), "", 1) == text
    assert _scrontab.put(with_it, "x", []) == text
    # again: nothing changes; another content: nothing else changes, and the place stays
    assert _scrontab.put(with_it, "x", made("x", first, block)) == with_it
    changed = _scrontab.put(with_it, "x", made("x", second, block))
    assert _scrontab.put(changed, "x", block) == with_it
    assert list(_scrontab.find_all(changed)) == list(_scrontab.find_all(with_it))


@given(ENTRIES, st.data())
def test_what_slurm_disabled_comes_back_unless_it_is_held(entries: list, data: st.DataObject) -> None:
    block = made("x", entries)
    off = data.draw(st.sets(st.sampled_from(range(len(entries)))))
    lines, kinds = [block[0]], []
    for i, entry in enumerate(entries):
        own = [line + "\n" for line in _scrontab.entry_lines("x", entry)]
        lines += [_scrontab.DISABLED + line for line in own] if i in off else own
        kinds.append(i in off)
    lines.append(block[-1])
    seen = [one for one in _scrontab.entries_of(lines) if "command" in one]
    assert [one["disabled"] for one in seen] == kinds
    assert [one["lines"] for one in seen] == [_scrontab.entry_lines("x", entry) for entry in entries]
    assert made("x", entries, lines) == block
    held = [one for one in _scrontab.entries_of(made("x", entries, lines, held=True)) if "command" in one]
    assert [one["lines"] for one in held] == [one["lines"] for one in seen]
    on = [one["lines"] for one in seen if not one["disabled"]]
    # nothing is on that was not, and what was on is on
    assert all((one["lines"] in on) == (not one["disabled"]) for one in held)
    assert made("x", entries, made("x", entries, lines, held=True), held=True) == made("x", entries, lines, held=True)


def test_while_held_a_changed_entry_is_written_as_disabled() -> None:
    old = made("x", [{"command": "one"}, {"command": "two"}])
    new = made("x", [{"command": "one"}, {"command": "three"}], old, held=True)
    assert [(one["command"], one["disabled"]) for one in _scrontab.entries_of(new)] == [("one", False), ("three", True)]


def test_a_block_is_what_slurm_reads() -> None:
    entry = {
        "minute": "*/5",
        "weekday": "mon",
        "command": "$HOME/x y",
        "options": ["--partition=cron"],
        "job_name": "j",
    }
    lines = made("look.out", [entry, {"special": "hourly", "command": "/bin/true"}])
    digests = [line.rsplit(":", 1)[1].strip() for line in lines if "--comment=" in line]
    assert [line.rstrip("\n") for line in lines] == [
        "# BEGIN sciops.sites look.out",
        "#SCRON --job-name=j",
        "#SCRON --partition=cron",
        f"#SCRON --comment=sciops.sites:look.out:{digests[0]}",
        "*/5 * * * mon $HOME/x y",
        f"#SCRON --comment=sciops.sites:look.out:{digests[1]}",
        "@hourly /bin/true",
        "# END sciops.sites look.out",
    ]
    assert digests[0] != digests[1]
    first, second = _scrontab.entries_of(lines)
    assert (first["when"], first["command"], first["disabled"]) == ("*/5 * * * mon", "$HOME/x y", False)
    assert (second["when"], second["command"]) == ("@hourly", "/bin/true")


@pytest.mark.parametrize("version", ["24.11", "26.05"])
def test_what_scancel_leaves(version: str) -> None:
    """As two versions wrote it: options and entry begin with #DISABLED:, the lines around it stay."""
    # the user's first line ended with CRLF, which a file of this repository does not
    text = (RECORDED / f"scrontab-{version}.txt").read_bytes().decode().replace("# mine\n", "# mine\r\n")
    (one, two), (three,) = (_scrontab.entries_of(_scrontab.block_of(text, name) or []) for name in ("first", "second"))
    assert [entry["disabled"] for entry in (one, two, three)] == [False, True, False]
    entries = [
        {"minute": "*/5", "command": "sleep 1 # $A 50%", "options": ["--partition=main"]},
        {"special": "hourly", "command": "/bin/true", "job_name": "ours"},
    ]
    mended = _scrontab.put(text, "first", made("first", entries, _scrontab.block_of(text, "first")))
    assert mended.count(_scrontab.DISABLED) == 0
    assert mended.replace(_scrontab.DISABLED, "") == text.replace(_scrontab.DISABLED, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# BEGIN sciops.sites x\n", "line 1: block x begins, and does not end"),
        ("a\n# END sciops.sites x\n", "line 2: block x ends, and does not begin"),
        ("# BEGIN sciops.sites x\n# BEGIN sciops.sites y\n", "line 2: block y begins inside of block x"),
        ("# BEGIN sciops.sites x\n# END sciops.sites y\n", "line 2: block y ends"),
        ("# BEGIN sciops.sites x\n# END sciops.sites x\n" * 2, "line 3: block x is there a second time"),
    ],
)
def test_markers_that_do_not_fit_together_are_refused(text: str, words: str) -> None:
    with pytest.raises(ScrontabError, match=words):
        _scrontab.put(text, "x", [])


RANGES = {name: (low, high, names) for name, low, high, names in _scrontab.FIELDS}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        # as 24.11 and 26.05 take them, or do not
        ("minute", "*", ""),
        ("minute", "*/5", ""),
        ("minute", "0,15,30-40", ""),
        ("minute", "20,1-9/2", ""),
        ("hour", "8-17/2", ""),
        ("month", "jan", ""),
        ("weekday", "WED", ""),
        ("weekday", "5-7", ""),
        ("minute", "61", "61: must be 0 to 59"),
        ("hour", "24", "24: must be 0 to 23"),
        ("day", "0", "0: must be 1 to 31"),
        ("minute", "*/1", "*/1: the step after / must be 2 to 59"),
        ("minute", "5-6/15", "5-6/15: the step after / must be 2 to 1"),
        ("minute", "5-5", "5-5: the end of a range must be higher than its beginning"),
        ("minute", "1/2", "1/2: a step needs * or a range before it"),
        ("minute", "1-9/2,20", "1-9/2: must stand last, since scrontab takes nothing after a step"),
        ("month", "jan-jun", "jan-jun: must be * or */2, one name like jan, or numbers and ranges"),
        ("weekday", "mon,tue", "mon: must be * or */2, one name like sun, or numbers and ranges"),
        ("minute", "*,5", "*: must be * or */2, or numbers and ranges"),
        ("minute", "", "nothing: must be * or */2"),
        ("minute", "5,,6", "nothing: must be"),
        ("minute", "-5", "-5: must be"),
        ("minute", "5 * * * * rm", "5 * * * * rm: must be"),
    ],
)
def test_fields(field: str, value: str, words: str) -> None:
    said = _scrontab.field_fault(value, *RANGES[field])
    assert said.startswith(words) and bool(said) == bool(words)


@given(st.text("0123456789*,/-jan \n", max_size=8), st.sampled_from(sorted(RANGES)))
def test_a_field_that_is_taken_is_one_word_of_numbers_in_range(value: str, field: str) -> None:
    low, high, names = RANGES[field]
    if _scrontab.field_fault(value, low, high, names) == "":
        assert value and not set(value) & set(" \n")
        for part in value.split(","):
            for word in part.partition("/")[0].split("-"):
                assert word in ("*", *names) or low <= int(word) <= high


def test_entries_that_are_refused() -> None:
    def said(**entry: t.Any) -> str:
        return "; ".join(_scrontab.entry_faults({"command": "x"} | entry))

    assert said() == ""
    assert said(minute="61") == "minute: 61: must be 0 to 59"
    assert "cannot be together with minute" in said(special="hourly", minute="5")
    assert "must be one of" in said(special="often")
    assert said(command=" ") == "command: must be one line, and not be empty"
    assert said(command="a\nb") == said(command=" ")
    assert "options: 'x'" in said(options=["x"])
    assert "options: '--a\\n--b'" in said(options=["--a\n--b"])
    assert "how jobs of this block are known" in said(options=["--comment=x"])
    assert "job_name" in said(job_name="a b")


# --- the tool and the modules, over a crontab in memory


class Memory(_scrontab.Scrontab):
    """A scrontab in memory; `between` is what somebody else does right before a write."""

    def __init__(self, text: str = "", jobs: list | None = None) -> None:
        super().__init__(None, 1)
        self.text, self.queue, self.written, self.cancelled = text, jobs or [], 0, []
        self.between: list[t.Callable[[str], str]] = []

    def read(self) -> str:
        return self.text

    def write(self, text: str) -> None:
        self.written += 1
        self.text = text
        if self.between:
            self.text = self.between.pop()(self.text)

    def jobs(self) -> list:
        return [job for job in self.queue if job["id"] not in self.cancelled]

    def cancel(self, numbers: list[int]) -> None:
        self.cancelled += numbers


def run(tab: Memory, monkeypatch: pytest.MonkeyPatch, check: bool = False, **params: t.Any) -> dict:
    base = {"name": "x", "state": "present", "entries": [{"command": "a"}], "held": False, "user": None, "timeout": 30}
    monkeypatch.setattr(_scrontab, "Scrontab", lambda *_words: tab)
    module = types.SimpleNamespace(params=base | params, check_mode=check)
    return slurm_scrontab.work(module)


def test_module_present_and_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    tab = Memory("# mine")
    seen = run(tab, monkeypatch, check=True)
    assert seen["changed"] and tab.written == 0
    done = run(tab, monkeypatch)
    assert done == seen
    assert tab.text.endswith("# mine") and tab.written == 1
    assert "mine" not in done["diff"]["before"] + done["diff"]["after"], "lines of others are not shown"
    assert run(tab, monkeypatch)["changed"] is False and tab.written == 1
    tab.text = "\n".join(
        "#DISABLED: " + line if line.startswith(("#SCRON", "* ")) else line for line in tab.text.split("\n")
    )
    held = run(tab, monkeypatch, held=True)
    assert (held["changed"], held["disabled"], held["enabled"]) == (False, ["* * * * * a"], [])
    mended = run(tab, monkeypatch)
    assert (mended["changed"], mended["disabled"], mended["enabled"]) == (True, [], ["* * * * * a"])
    comment = _scrontab.comment("x", "00000000")
    tab.queue = [{"id": 7, "comment": comment, "word": "RUNNING", "waits": False, "start": 1}]
    tab.queue += [{"id": 8, "comment": "sciops.sites:xy:0", "word": "RUNNING", "waits": False, "start": 1}]
    seen = run(tab, monkeypatch, check=True, state="absent")
    assert tab.cancelled == []
    gone = run(tab, monkeypatch, state="absent")
    assert gone == seen and gone["cancelled"] == [7]
    assert (tab.text, tab.cancelled) == ("# mine", [7])
    assert run(tab, monkeypatch, state="absent")["changed"] is False


def test_what_somebody_adds_at_the_same_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    tab = Memory("# mine\n")
    reads = []

    def read() -> str:
        reads.append(1)
        if len(reads) == 2:
            tab.text += "# added before the write\n"
        return tab.text

    monkeypatch.setattr(tab, "read", read)
    tab.between = [lambda text: text + "# added after it\n"]
    assert run(tab, monkeypatch)["changed"] is True
    assert "# added before the write\n" in tab.text and "# added after it\n" in tab.text
    assert _scrontab.block_of(tab.text, "x") == made("x", [{"command": "a"}])


def test_somebody_who_never_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    tab = Memory()
    tab.between = [lambda _text: "# theirs\n"] * 20
    with pytest.raises(ScrontabError, match="changes it again and again"):
        run(tab, monkeypatch)


def test_info(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"minute": "*/5", "command": "go", "options": ["--partition=cron"]}
    lines = made("x", [entry, {"command": "b"}])
    comment = _scrontab.entries_of(lines)[0]["comment"]
    text = "# a\n" + "".join(lines[:-1]) + "# odd\n" + lines[-1] + "# b"
    tab = Memory(text, [{"id": 5, "comment": comment, "word": "RUNNING", "waits": False, "start": 1}])
    tab.queue.append({"id": 6, "comment": comment, "word": "PENDING", "waits": True, "start": 1795601400})
    monkeypatch.setattr(_scrontab, "Scrontab", lambda *_words: tab)
    said: dict = {}
    module = types.SimpleNamespace(params={"name": None, "user": None, "timeout": 1}, exit_json=said.update)
    monkeypatch.setattr(slurm_scrontab_info, "AnsibleModule", lambda **_words: module)
    slurm_scrontab_info.main()
    (block,) = said["blocks"]
    assert (block["name"], block["line"], block["stray"], said["other_lines"]) == ("x", 2, ["# odd"], 2)
    assert block["entries"][0] == {
        "when": "*/5 * * * *", "command": "go", "disabled": False, "options": ["--partition=cron"],
        "job": 6, "state": "PENDING", "next_run": 1795601400,
    }  # fmt: skip
    assert block["entries"][1]["job"] is None


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text("#!/bin/sh\n" + text)
    (folder / name).chmod(0o755)


def test_the_tool_and_its_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tab = _scrontab.Scrontab(timeout=0.5)
    with pytest.raises(ScrontabError, match=r"there is no program scrontab on this host; .*ScronParameters=enable"):
        tab.read()
    program(tmp_path, "scrontab", 'echo "no crontab for me" >&2; exit 1')
    assert tab.read() == ""
    program(tmp_path, "scrontab", 'echo "scrontab: fatal: scrontab is disabled on this cluster" >&2; exit 1')
    with pytest.raises(ScrontabError, match=r"scrontab -l: .*disabled on this cluster"):
        tab.read()
    program(tmp_path, "scrontab", "sleep 5")
    with pytest.raises(ScrontabError, match=r"no answer from slurmctld within 0\.5 s"):
        tab.read()
    program(tmp_path, "scrontab", 'echo "The error message was: invalid partition"; exit 1')
    with pytest.raises(ScrontabError, match="nothing was changed: The error message was: invalid partition"):
        tab.write("x\n")
    log = tmp_path / "log"
    program(tmp_path, "scrontab", f'echo "$@" >> {log}; [ "$3" != - ] || cat >> {log}')
    other = _scrontab.Scrontab("somebody", 5)
    other.write("caf\udce9 \r\n# no line feed")
    other.write("")
    assert log.read_bytes() == b"-u somebody -\ncaf\xe9 \r\n# no line feed-u somebody -r\n"
    program(tmp_path, "squeue", "echo '{}'")
    with pytest.raises(ScrontabError, match="an answer without jobs"):
        tab.jobs()
