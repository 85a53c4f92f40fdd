# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers and where values come from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _declaration, _layers, _source
from ansible_collections.sciops.sites.plugins.plugin_utils._layers import Document

KEYS = st.sampled_from("abcd")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 9)
    | st.text("xyz", max_size=2)
    | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.lists(st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=5)


def reference(low, high):
    """What merging means, in plain values."""
    if isinstance(high, dict):
        if isinstance(low, dict):
            keys = [*high, *(key for key in low if key not in high)]
            return {
                key: reference(low[key], high[key]) if key in low and key in high else high.get(key, low.get(key))
                for key in keys
            }
        return high or low
    return low if isinstance(low, dict) and high is None else high


def documents(layers):
    return [Document(f"layer {number}", f"{number}.yml", data) for number, data in enumerate(layers)]


@given(MAPPINGS)
def test_merge_is_the_reference_merge(layers):
    expected = {}
    for data in layers:
        expected = reference(expected, data)
    merged = _layers.plain(_layers.stack([_layers.tree(document) for document in documents(layers)]))
    assert merged == expected
    assert list(merged) == list(expected)


@given(MAPPINGS)
def test_every_value_names_the_layer_that_has_it(layers):
    found = list(_layers.leaves(_layers.stack([_layers.tree(document) for document in documents(layers)])))
    for path, leaf in found:
        for origin in (leaf, *leaf.shadows):
            assert int(origin.layer.split()[1]) < len(layers)
        data = layers[int(leaf.layer.split()[1])]
        for part in path:
            data = data[part]
        assert data == leaf.value
        # what hides comes from a higher layer than all that it hides
        assert all(int(hidden.layer.split()[1]) < int(leaf.layer.split()[1]) for hidden in leaf.shadows)


@given(MAPPINGS)
def test_a_higher_layer_that_says_the_same_changes_no_value(layers):
    trees = [_layers.tree(document) for document in documents(layers)]
    merged = _layers.stack(trees)
    again = _layers.merge(merged, _layers.tree(Document("top", "top.yml", _layers.plain(merged))))
    assert _layers.plain(again) == _layers.plain(merged)


def test_the_five_layers_in_their_order(tmp_path):
    (tmp_path / "prod").mkdir()
    (tmp_path / "layers").mkdir()
    body = "defaults: {{grace: {0}}}\nhosts: {{h1: {{}}}}\npipes: {{p: {{components: {{c: {{command: /bin/c}}}}}}}}\n"
    names = ["all.yml", "prod.yml", "lab.site.yml"]
    for number, name in enumerate(names, 1):
        (tmp_path / "layers" / name).write_text(f"defaults: {{grace: {number}}}\n")
    site = tmp_path / "prod" / "lab.site.yml"
    site.write_text("plugin: sciops.sites.site\n" + body.format(4))
    read = _source.load_documents(str(site))
    assert [document.layer for document in read] == ["all", "deployment prod", "site lab", "site and deployment"]
    declaration, problems = _declaration.compile_site(read)
    assert (declaration["site"], declaration["deployment"], problems) == ("lab", "prod", [])
    assert declaration["components"]["p/c"]["grace"] == 4
    (row,), unknown = _declaration.explain(read, ["pipes.p.components.c.grace"])
    assert unknown == []
    assert (row["value"], row["layer"], row["file"], row["line"]) == (4, "site and deployment", str(site), 2)
    assert [(hidden["value"], hidden["layer"]) for hidden in row["shadows"]] == [
        (3, "site lab"), (2, "deployment prod"), (1, "all"), (10, "collection"),
    ]  # fmt: skip
    assert _declaration.explain(read, ["policy.nothing"]) == ([], ["policy.nothing"])


def test_a_component_wins_over_the_defaults_of_a_higher_layer(compiled):
    declaration, _problems = compiled(
        "plugin: sciops.sites.site\nhosts: {h: {}}\ndefaults: {grace: 1}\n",
        all="pipes: {p: {components: {c: {command: /bin/c, grace: 7}}}}\n",
    )
    assert declaration["components"]["p/c"]["grace"] == 7


def test_the_host_is_the_last_layer(compiled):
    declaration, _problems = compiled(
        "plugin: sciops.sites.site\nhost_defaults: {hot_limit: 2}\nhosts: {h1: {}, h2: {hot_limit: 5}, h3: }\n",
        all="hosts: {h1: {hot_limit: 1}}\n",
    )
    assert {name: host["hot_limit"] for name, host in declaration["hosts"].items()} == {"h1": 1, "h2": 5, "h3": 2}


def test_an_empty_layer_says_nothing_and_a_bad_one_is_refused(tmp_path):
    (tmp_path / "prod").mkdir()
    (tmp_path / "layers").mkdir()
    site = tmp_path / "prod" / "lab.site.yml"
    site.write_text("plugin: sciops.sites.site\nhosts: {h1: {}}\n")
    layer = tmp_path / "layers" / "all.yml"
    layer.write_text("# nothing yet\n")
    assert _declaration.compile_site(_source.load_documents(str(site)))[0] is not None
    layer.write_text("polcy: {}\n")
    declaration, problems = _declaration.compile_site(_source.load_documents(str(site)))
    assert declaration is None
    assert [str(problem) for problem in problems] == [f'{layer}:1: polcy: unknown key, did you mean "policy"?']
