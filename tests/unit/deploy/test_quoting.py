# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quoted values come back unchanged from what reads them: configparser, bash, dash and supervisord's own parser."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _supervisor
from ansible_collections.sciops.sites.plugins.plugin_utils import _quoting

PASSWORD = 'a%b$HOME "c d"'
AWKWARD = [
    PASSWORD,
    "",
    "plain",
    "100%",
    "%(here)s",
    "%%",
    "${HOME}",
    "$(id)",
    "`id`",
    "it's",
    "both'\"",
    "back\\slash\\",
    "\\n",
    "a ; b # c",
    ";a",
    "#a",
    "a = b: c",
    "[section]",
    "two\nlines",
    "two\n\nlines with = in them",
    "tab\there",
    "grüße ☃",
    "!history!",
    "-n",
    "~root",
    "*",
]
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
awkward = st.text(st.sampled_from("a%$\"' \\;#=:[]\n\t{}()!`~é"), max_size=20)


def from_configparser(written: str, parser: configparser.RawConfigParser, tmp_path: Path) -> str:
    path = tmp_path / "it.conf"
    path.write_bytes(f"[S]\nfirst = 1\nkey = {written}\nlast = 2\n[T]\na = b\n".encode())
    parser.read(path, encoding="utf-8")
    assert parser.sections() == ["S", "T"] and set(parser["S"]) == {"first", "key", "last"}
    assert (parser["S"]["first"], parser["S"]["last"]) == ("1", "2")
    return parser["S"]["key"]


@pytest.mark.parametrize("value", AWKWARD)
def test_configparser_reads_back_what_was_meant(value: str, tmp_path: Path) -> None:
    written = _quoting.ini_value(value)
    assert from_configparser(written, configparser.ConfigParser(), tmp_path) == value
    plain = _quoting.ini_value(value, interpolation=False)
    assert from_configparser(plain, configparser.RawConfigParser(), tmp_path) == value


@given(value=text | awkward)
def test_a_value_is_refused_or_read_back_by_configparser(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        written = _quoting.ini_value(value)
    except ValueError:
        # only for what configparser takes away by itself
        lines = value.split("\n")
        rest = any(line != line.strip() for line in lines) or "\r" in value or any(not line for line in lines[-1:])
        assert rest or any(line[:1] in tuple("#;") for line in lines[1:])
        return
    base = tmp_path_factory.getbasetemp()
    assert from_configparser(written, configparser.ConfigParser(), base) == value


def shells() -> list[str]:
    return [name for name in ("bash", "dash") if shutil.which(name)]


def from_shell(shell: str, written: list[str], tmp_path: Path, sourced: bool) -> list[str]:
    """What a shell makes of all values, in one call: as words of a command, or as variables of a file that it reads."""
    path = tmp_path / f"values.{shell}"
    if sourced:
        lines = "".join(f"V{n}={word}\n" for n, word in enumerate(written))
        path.write_text(lines + "".join(f"printf '%s\\0' \"$V{n}\"\n" for n in range(len(written))), encoding="utf-8")
    else:
        path.write_text("".join(f"printf '%s\\0' {word}\n" for word in written), encoding="utf-8")
    argv = [shell, "-eu", "-c", '. "$1"', "sh", str(path)]
    done = subprocess.run(argv, capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=20)
@given(values=st.lists(text | awkward, min_size=40, max_size=60))
def test_shells_read_back_what_was_meant(values: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    values = AWKWARD + values
    assert "bash" in shells()
    for shell in shells():
        base = tmp_path_factory.getbasetemp()
        assert from_shell(shell, [_quoting.shell_word(one) for one in values], base, False) == values
        assert from_shell(shell, [_quoting.env_file_value(one) for one in values], base, True) == values


def test_docker_takes_lines_as_they_are() -> None:
    assert _quoting.env_file_value(PASSWORD, "docker") == PASSWORD
    with pytest.raises(ValueError, match="line break"):
        _quoting.env_file_value("two\nlines", style="docker")
    with pytest.raises(ValueError, match="must be shell, apptainer or docker"):
        _quoting.env_file_value("a", style="podman")


@given(value=text | awkward)
def test_supervisord_reads_back_what_was_meant_or_it_is_refused(value: str) -> None:
    known = {"here": "/etc/x", "host_node_name": "h"}
    for section in ("inet_http_server", "program"):
        try:
            written = _quoting.supervisor_value(value, section)
        except ValueError:
            continue
        read = _supervisor.parse(f"[{section}:x]\nkey = {written}\nlast = 1\n", "it")[f"{section}:x"]
        assert read["key"] % known == value and read["last"] == "1"
    assume("\n" not in value and "\r" not in value and value == value.strip())
    _quoting.supervisor_value(value, "program")


def test_supervisord_gets_words_and_variables() -> None:
    assert _quoting.supervisor_value(["/bin/echo", "a b", "100%"], "program") == "/bin/echo 'a b' 100%%"
    assert _quoting.supervisor_value({"A": "b%c", "N": 5}, "program") == 'A="b%%c",N="5"'
    with pytest.raises(ValueError, match="comment"):
        _quoting.supervisor_value("a ;b")


@pytest.mark.parametrize("name", _quoting.FILTERS)
def test_numbers_and_truth_are_text_and_nothing_else_is(name: str) -> None:
    function = _quoting.FILTERS[name]
    assert function(5).strip("\"'") == "5" and function(True).strip("\"'") == "true"
    with pytest.raises(ValueError):
        function(None)
    with pytest.raises(ValueError):
        function("a\0b")


def test_every_filter_is_documented_and_says_what_went_wrong(root: Path) -> None:
    from ansible.errors import AnsibleFilterError

    from ansible_collections.sciops.sites.plugins.filter.quoting import FilterModule

    filters = FilterModule().filters()
    assert {path.stem for path in (root / "plugins/filter").glob("*.yml")} >= set(filters) == set(_quoting.FILTERS)
    assert filters["ini_value"](PASSWORD) == 'a%%b$HOME "c d"'
    with pytest.raises(AnsibleFilterError, match="ini_value: has whitespace"):
        filters["ini_value"](" a")
