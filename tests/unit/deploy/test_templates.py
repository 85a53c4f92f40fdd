# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of templates: every fault at once, with its place; secret files; checks that need no host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.sciops.sites.plugins.plugin_utils._templates import Templates, Unusable, names_used


class Folder:
    """Files of a folder in memory."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = files
        self.reads: list[str] = []

    def read(self, path: str) -> str:
        self.reads.append(path)
        if path not in self.files:
            raise ValueError(f"{path}: there is no such file")
        return self.files[path]

    def tree(self, path: str) -> list[str] | None:
        if path in self.files:
            return None
        found = [name[len(path) + 1 :] for name in self.files if name.startswith(path + "/")]
        if not found:
            raise ValueError("there is no such file or folder")
        return sorted(found)


def target(*entries: Mapping[str, Any], secrets: tuple[str, ...] = (), **values: Any) -> dict[str, Any]:
    given = [{"src": "t", "dest": "/opt/x", **entry} for entry in entries or [{}]]
    return {"system": "jaws", "site": "acme", "version": None, "values": values, "secrets": secrets, "files": given}


def render(files: Mapping[str, str], *entries: Mapping[str, Any], **more: Any) -> list[dict[str, Any]]:
    folder = Folder(files)
    return Templates(folder.read, folder.tree).render(target(*entries, **more))


def faults(files: Mapping[str, str], *entries: Mapping[str, Any], **more: Any) -> list[str]:
    with pytest.raises(Unusable) as caught:
        render(files, *entries, **more)
    return [str(one) for one in caught.value.problems]


def test_a_tree_keeps_its_names_and_drops_the_ending() -> None:
    files = {
        "t/a.conf.j2": "[S]\nk = {{ K }}\n",
        "t/bin/{{ site }}-run.j2": "#!/bin/bash\n",
        "t/plain.txt": "{{ no }}\n",
    }
    found = {one["dest"]: one for one in render(files, {"group": "jaws", "restarts": ["a"]}, K="v")}
    assert {dest: (one["content"], one["validate"]) for dest, one in found.items()} == {
        "/opt/x/a.conf": ("[S]\nk = v\n", "ini"),
        "/opt/x/bin/acme-run": ("#!/bin/bash\n", "bash"),
        "/opt/x/plain.txt": ("{{ no }}\n", None),
    }
    one = found["/opt/x/a.conf"]
    assert (one["mode"], one["owner"], one["group"], one["restarts"], one["secret"]) == (
        "0600",
        None,
        "jaws",
        ["a"],
        False,
    )
    assert set(one) == set("dest content mode owner group validate restarts secret template".split())


def test_a_template_that_fails_never_quotes_a_secret() -> None:
    files = {"t/a.j2": "{{ [].index(PW) }}"}
    (said,) = faults(files, {"mode": "0600"}, secrets=("PW",), PW="hunter2")
    assert "hunter2" not in said and "ValueError" in said
    (said,) = faults(files, {"mode": "0600"}, PW="hunter2")
    assert "hunter2" in said


def test_every_undefined_variable_of_every_file_is_told_with_its_place() -> None:
    files = {
        "t/a.j2": "one\n{{ RMQ_PWD }}\n{% if ACCESS_GROUP %}x{% endif %}\n{{ DB.host }} {{ RMQ_PWD }}\n",
        "t/b.j2": "{% include 't/part' %}\n{{ NUMBER + 1 }}",
        "t/c.j2": "{{ MAYBE | default('d') }} {% if MAYBE is defined %}x{% endif %}",
        "t/part": "\n\n{{ DEEP | ini_value }}",
        "t/{{ NAMED }}.j2": "",
    }
    said = faults(files, RMQ_PW="x", DB={})
    assert said == [
        't/a.j2:2: RMQ_PWD: is undefined, did you mean "RMQ_PW"?',
        "t/a.j2:3: ACCESS_GROUP: is undefined, known here: DB, RMQ_PW, site, system",
        "t/a.j2:4: 'dict object' has no attribute 'host'",
        "t/part:3: DEEP: is undefined, known here: DB, RMQ_PW, site, system",
        "t/b.j2:2: NUMBER: is undefined, known here: DB, RMQ_PW, site, system",
        "t/{{ NAMED }}.j2: its name: 'NAMED' is undefined",
    ]


def test_what_is_no_template_or_fails_is_told_with_its_line() -> None:
    files = {
        "t/a.j2": "\n{% if %}",
        "t/b.j2": "\n\n{{ 1 / ZERO }}",
        "t/c.j2": "\n{{ V | ini_value }}",
        "t/d.j2": "{% include 'no' %}",
    }
    said = faults(files, ZERO=0, V=" a")
    assert said[0].startswith("t/a.j2:2: Expected an expression")
    assert said[1:] == [
        "t/b.j2:3: division by zero",
        "t/c.j2:2: has whitespace at the beginning or end of a line, which configparser takes away",
        "t/d.j2:1: no: there is no such file",
    ]


def test_one_destination_has_one_template() -> None:
    files = {"t/a.j2": "", "u/a": "", "v/x": "", "v/../w": ""}
    said = faults(files, {}, {"src": "u"}, {"src": "v", "dest": "relative"}, {"src": "nothing"})
    assert "u/a: /opt/x/a: is made from t/a.j2 too" in said
    assert "v/x: relative/x: must be an absolute path without . and .., and name a file" in said
    assert "nothing: there is no such file or folder" in said


def test_a_file_that_uses_a_secret_is_secret_and_never_open_to_others() -> None:
    files = {"t/a.j2": "{% include 't/b.j2' %}", "t/b.j2": "x {{ PW }} y\n{{ NAME }}\n", "t/c.j2": "{{ NAME }}"}
    given = {"secrets": ("PW",), "PW": "hush", "NAME": "n"}
    folder = Folder(files)
    templates = Templates(folder.read, folder.tree)
    found = templates.render(target({}, **given))
    assert [one["secret"] for one in found] == [True, True, False]
    sent = templates.payload(target({}, **given), found)
    assert [one["shown"] for one in sent["files"]] == ["x ******** y\nn\n"] * 2 + [None]
    assert sent["secrets"] == ["hush"] and found[0]["content"] == "x hush y\nn\n"
    said = faults(files, {"mode": "0644"}, **given)
    assert said == [f"t/{name}.j2: mode: 0644: lets others at PW; a secret file ends in 0" for name in "ab"]
    assert len(folder.reads) == len(set(folder.reads)) == 3


def test_masks_survive_quoting() -> None:
    files = {"t/a.j2": "k = {{ PW | shell_word }}\nl = {{ PW | ini_value }}"}
    folder = Folder(files)
    templates = Templates(folder.read, folder.tree)
    it = target({}, secrets=("PW",), PW='a%b$HOME "c d"')
    (one,) = templates.payload(it, templates.render(it))["files"]
    assert one["shown"] == "k = '********'\nl = ********"


def test_json_and_yaml_are_checked_before_anything_is_sent() -> None:
    files = {"t/a.json": '{"a": }', "t/b.yml": "a: b\nc: [d\n", "t/c.yaml": "a: !vault x\n---\nb: 1\n", "t/d": "x"}
    said = faults(files)
    assert said[0] == "t/a.json: /opt/x/a.json: is not valid JSON: line 1: Expecting value"
    assert said[1].startswith("t/b.yml: /opt/x/b.yml: is not valid YAML: line 3") and len(said) == 2
    assert render({"t/a.json": "{"}, {"validate": "none"})[0]["validate"] is None
    assert faults({"t/a": ""}, {"validate": "bsh"}) == ['t/a: validate: bsh: did you mean "bash"?']


def test_names_used_for_the_report_of_unused_ones() -> None:
    assert names_used(["{{ A }} {% for x in B %}{{ x }}{{ range(C) }}{% endfor %}", "plain", "{% if"]) == {
        "A",
        "B",
        "C",
    }
    folder = Folder({"t/{{ N }}.j2": "{{ A }}{% include 'p' %}", "p": "{{ B }}", "t/raw": "{{ C }}"})
    assert Templates(folder.read, folder.tree).used([{"src": "t"}]) == {"A", "B", "N"}


def test_blocks_leave_no_empty_lines_and_the_last_line_keeps_its_end() -> None:
    files = {"t/a.j2": "a\n  {% if true %}\nb\n  {% endif %}\n"}
    assert render(files)[0]["content"] == "a\nb\n"
