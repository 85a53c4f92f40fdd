# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is asked in order to start an instance."""

from __future__ import annotations

import collections
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _render

SITE = """\
plugin: sciops.sites.site
site: lab
deployment: test
hosts:
  n-1.lab.example: {vars: {spool: /big, ansible_host: 127.0.0.1}}
  n-2.lab.example: {}
vars: {spool: "/a b", nodes: 4}
pipes:
  p:
    components:
      a:
        command: /bin/a --slot {{ slot }} --spool={{ vars.spool }} '{{ host }} x' {{ node }}
        environment: {WHO: "{{ instance }}"}
        secrets: {T: {file: /etc/token}, U: {controller_env: U}}
        cwd: "{{ site_dir }}"
        user: jadelta
        log: {path: "/log/{{ component }}.run.{{ short_host }}.{{ epoch }}.log"}
        draw: {node: {of: [5, 6, 7, 8]}}
"""


@pytest.fixture
def declaration(compiled):
    found, problems = compiled(SITE)
    assert [str(problem) for problem in problems] == []
    return found


def start(declaration, slot=1, token="1-0", host="n-2.lab.example", secrets=None):
    given_secrets = {"U": "hush"} if secrets is None else secrets
    return _render.start_request(declaration, "p/a", host, slot, token, 1700000000, 7, given_secrets)


def test_j11_start_request(declaration):
    """J11: command line, working directory, environment and the log name NAME.run.HOST.EPOCH.log."""
    request = start(declaration, slot=3)
    node = request["argv"].pop()
    assert node in {"5", "6", "7", "8"}
    assert request == {
        "kind": "start", "component": "p/a", "slot": 3, "token": "1-0", "hash": declaration["components"]["p/a"]["hash"],  # noqa: E501
        "argv": ["/bin/a", "--slot", "3", "--spool=/a b", "n-2.lab.example x"],
        "environment": {"WHO": "p-a.3"},
        "secrets": {"T": {"file": "/etc/token"}, "U": {"value": "hush"}},
        "cwd": "/sites/test", "user": "jadelta",
        "log": {"path": "/log/a.run.n-2.1700000000.log", "max_bytes": 104857600, "keep": 5},
        "settle": 2, "grace": 10,
    }  # fmt: skip


def test_variables_of_the_host_win_and_ansible_variables_stay_out(declaration):
    assert start(declaration, host="n-1.lab.example")["argv"][3] == "--spool=/big"
    assert declaration["hosts"]["n-1.lab.example"]["vars"] == {"spool": "/big"}


def test_a_log_path_of_null_stays_null(component):
    found, _problems = component()
    assert found["log"]["path"] is None


def test_a_secret_without_a_value_is_an_error_that_names_it(declaration):
    with pytest.raises(_render.RenderError, match=r"^p/a: secrets.U: U: has no value on the controller$"):
        start(declaration, secrets={})


def test_an_error_at_render_names_component_place_template_and_host(declaration):
    declaration["components"]["p/a"]["command"] = ["/bin/a", "{{ vars.nodes // 0 }}"]
    with pytest.raises(
        _render.RenderError, match=r"^p/a: command\[1\]: \{\{ vars.nodes // 0 \}\}: .*zero.*\(slot 1, n-2"
    ):
        start(declaration)


def test_templates_cannot_reach_python(declaration):
    declaration["components"]["p/a"]["command"] = ["{{ ''.__class__.__mro__[1].__subclasses__() }}"]
    with pytest.raises(_render.RenderError):
        start(declaration)


def test_j12_thousand_draws_are_uniform(declaration):
    """J12: 1,000 draws from {5, 6, 7, 8}: each within 5 sigma of 250, and the value is in the argument list."""
    drawn = collections.Counter(start(declaration, token=f"{number:x}-0")["argv"][-1] for number in range(1000))
    assert set(drawn) == {"5", "6", "7", "8"}
    assert all(abs(count - 250) <= 5 * math.sqrt(1000 * 0.25 * 0.75) for count in drawn.values())


def test_j12_a_draw_is_decided_by_seed_component_and_token(declaration):
    assert len({start(declaration)["argv"][-1] for _again in range(5)}) == 1


def test_j12_round_robin(declaration):
    """J12: round robin by slot."""
    declaration["components"]["p/a"]["draw"]["node"]["how"] = "round_robin"
    assert [start(declaration, slot=slot)["argv"][-1] for slot in range(1, 7)] == ["5", "6", "7", "8", "5", "6"]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30))
def test_a_value_stays_one_word_whatever_is_in_it(value):
    words = _render.split_command("/bin/a --x {{ vars.x }}-{{ slot }}")
    assert words == ["/bin/a", "--x", "{{ vars.x }}-{{ slot }}"]
    declaration = {
        "site": "s", "deployment": "d", "file": "/x/y.site.yml", "vars": {"x": value}, "hosts": {"h": {"vars": {}}},
        "components": {"p/a": {
            "pipe": "p", "name": "a", "command": words, "environment": {}, "secrets": {}, "cwd": None, "user": None,
            "log": {"path": None, "max_bytes": 1, "keep": 1}, "draw": {}, "hash": "0" * 12, "settle": 1, "grace": 1,
        }},
    }  # fmt: skip
    request = _render.start_request(declaration, "p/a", "h", 1, "1-0", 0, 0, {})
    assert request["argv"] == ["/bin/a", "--x", f"{value}-1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a 'b c' \"d e\" f\\ g", ["a", "b c", "d e", "f g"]),
        ("a {{ slot + 1 }}{{host}} b", ["a", "{{ slot + 1 }}{{host}}", "b"]),
        ("a '{{ \"x y\" }}' b", ["a", '{{ "x y" }}', "b"]),
        ("a {{ '}}' }} b", ["a", "{{ '}}' }}", "b"]),
        ("a '' b", ["a", "", "b"]),
    ],
)
def test_commands_are_split_as_a_shell_does(text, words):
    assert _render.split_command(text) == words


@pytest.mark.parametrize(
    "line",
    [
        "environment: {A: b}", "cwd: /x", "user: other", "log: {path: /x}", "secrets: {A: {file: /x}}",
        "draw: {n: {of: [1]}}",
    ],
)  # fmt: skip
def test_the_hash_changes_with_what_runs(component, line):
    assert component(line)[0]["hash"] != component()[0]["hash"]


@pytest.mark.parametrize(
    "line", ["count: 3", "hot: true", "grace: 99", "priority: 4", "log: {keep: 9}", "match: [[a]]"]
)
def test_the_hash_stays_with_what_does_not(component, line):
    assert component(line)[0]["hash"] == component()[0]["hash"]


def test_the_hash_follows_the_variables_that_are_used(compiled):
    text = "plugin: sciops.sites.site\nhosts: {{h: {{}}}}\nvars: {{x: {0}, y: {1}}}\npipes: {{p: {{components: {{a: {{command: '/a {{{{ vars.x }}}}'}}}}}}}}\n"  # noqa: E501

    def hash_of(*values):
        return compiled(text.format(*values))[0]["components"]["p/a"]["hash"]

    assert hash_of(1, 1) == hash_of(1, 2)
    assert hash_of(1, 1) != hash_of(2, 1)


def test_stop_and_rotate_requests(declaration):
    component = declaration["components"]["p/a"]
    stop = {
        "kind": "stop",
        "host": "h",
        "component": "p/a",
        "slot": 1,
        "token": "1-0",
        "pid": 5,
        "start": 6,
        "reason": "r",
    }
    assert _render.other_request(stop, component) == {
        "kind": "stop", "component": "p/a", "slot": 1, "token": "1-0", "pid": 5, "start": 6, "grace": 10,
    }  # fmt: skip
    assert _render.other_request(stop, {})["grace"] == 10
    rotate = {"kind": "rotate", "host": "h", "component": "p/a", "token": "1-0", "log": "/l", "reason": "r"}
    found = _render.other_request(rotate, component)
    assert (found["kind"], found["log"], found["keep"], found["user"]) == ("rotate", "/l", 5, "jadelta")
