# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ad of an interactive job (R2), its variables (R3), and whether a slot can hold it (R4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _classad, _condor_cli, _session, _session_life
from ansible_collections.sciops.sites.plugins.module_utils._session import Refused

CALC = {"application": "calc", "version": "1", "command": "/opt/calc1", "args": ["-q"], "cpu": 1, "memory": 4096}
EPOCH = 1445984022  # 2015-10-27 22:13:42 UTC


def ad(choice: dict | None = None, environment: dict | None = None, **facts: object) -> dict:
    given = {"domain": "example.org", **facts}
    return _session.ad({**CALC, **(choice or {})}, "ann", "/home/ann", EPOCH, environment or {}, "k", given)


def test_r2_every_attribute() -> None:
    folder = 'strcat("/home/ann/.HMDC/jobs/interactive","/","calc_1","_",ClusterId,"_","201510271445984022"'
    found = ad(environment={"LANG": "C", "A": "x y"}, email="ann@example.org", entitlements=["a", "b"])
    assert dict(found) == {
        "AcctGroup": "group_interactive",
        "AcctGroupUser": "ann",
        "AccountingGroup": "group_interactive.ann",
        "HMDCNewSubmit": True,
        "HMDCInteractive": True,
        "HMDCUseXpra": True,
        "HMDCApplicationName": "calc",
        "HMDCApplicationVersion": "1",
        "LocalJobDir": folder + ")",
        "Out": folder + ',"/out.txt")',
        "Err": folder + ',"/err.txt")',
        "Cmd": "/opt/calc1",
        "Args": "-q",
        "RequestCpus": 1,
        "RequestMemory": 4096,
        "Environment": "LANG=C 'A=x y'",
        "Entitlements": "a,b",
        "Email": "ann@example.org",
        "NotifyUser": "ann@example.org",
        "FileSystemDomain": "example.org",
        "JobLeaseDuration": 1200,
        "JobNotification": 1,
        "ShouldTransferFiles": "NO",
        "TransferExecutable": False,
        "TransferIn": False,
        "DebugPrepareJobHook": True,
        "SciopsSitesKey": "k",
    }
    assert all(isinstance(found[name], _classad.Expression) for name in ("LocalJobDir", "Out", "Err"))
    placed = {**found, "ClusterId": 110}
    assert _session_life.path(placed, "LocalJobDir") == (
        "/home/ann/.HMDC/jobs/interactive/calc_1_110_201510271445984022"
    )
    assert _session_life.path(placed, "Out") == _session_life.path(placed, "LocalJobDir") + "/out.txt"


def test_r2_what_is_not_there() -> None:
    found = ad({"args": []}, xpra=False, root="/scratch/jobs")
    assert found["Args"] is False and found["HMDCUseXpra"] is False
    assert [found[name] for name in ("Entitlements", "Email", "NotifyUser")] == [None, None, None]
    assert _session_life.path({**found, "ClusterId": 1}, "LocalJobDir").startswith("/scratch/jobs/calc_1_1_")
    assert "Email = undefined\n" in _session.shown(found)


def test_arguments_that_need_quotes_take_the_form_that_has_them() -> None:
    words = ["a b", 'say "x"', "it's", "", "two\nlines"]
    found = ad({"args": words})
    assert "Args" not in found and _classad.split_arguments(found["Arguments"]) == words
    commands, more = _session.description(found, "/home/ann")
    assert "arguments" not in commands and more["Arguments"] == found["Arguments"]


def test_a_description_makes_what_the_ad_says() -> None:
    commands, more = _session.description(ad({"command": "/opt/$(HOME)/calc"}), "/home/ann")
    assert commands["executable"] == "/opt/$(DOLLAR)(HOME)/calc" and commands["arguments"] == "-q"
    # each attribute is made in one way, not in two
    assert not set(more) & set(_session._MADE) and "Args" not in more
    text = _condor_cli.description_text(commands, more)
    assert "MY.Email = undefined\n" in text and 'MY.SciopsSitesKey = "k"\n' in text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"group": 'x" || true'}, "group: "),
        ({"email": "a\0b"}, "holds no NUL"),
        ({"root": "/a\r"}, "carriage return"),
    ],
)
def test_what_no_ad_can_hold_is_refused(given: dict, words: str) -> None:
    with pytest.raises(Refused, match=words):
        ad(**given)


# --- variables


def test_r3_only_what_is_allowed_and_never_dbus_or_gnome() -> None:
    environ = {"HOME": "/h", "LC_ALL": "C", "EDITOR": "vi", "DBUS_SESSION_BUS_ADDRESS": "x", "GNOME_KEYRING": "y"}
    found, warnings = _session.variables(environ, _session.ALLOWED, {"A": "1", "DBUS_X": "2", "GNOME": "3"})
    assert dict(found) == {"A": "1", "HOME": "/h", "LC_ALL": "C"}
    assert [one.split(" is left out")[0] for one in warnings] == ["environment: DBUS_X", "environment: GNOME"]
    everything, _warnings = _session.variables(environ, ["*"], {})
    assert sorted(everything) == ["EDITOR", "HOME", "LC_ALL"]


SECRET = "hunter2-and-more"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWORD", SECRET),
        ("PGPASSFILE_PASSWD", SECRET),
        ("api_token", SECRET),
        ("AWS_SECRET_ACCESS", SECRET),
        ("SSH_KEY", SECRET),
        ("XDG_SESSION_COOKIE", SECRET),
        ("PW", SECRET),
        ("http_proxy", f"http://ann:{SECRET}@proxy:3128"),
        ("PLAIN", f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}"),
        ("DB_PASSWORD_FILE", SECRET),  # no path: the secret itself under a wrong name
        ("DB_PASSWORD_FILE", f"/home/ann/x\n{SECRET}"),
    ],
)
def test_r3_secrets_are_refused_and_never_named_by_value(name: str, value: str) -> None:
    with pytest.raises(Refused, match=f"environment: {name}: looks like a secret") as refused:
        _session.variables({}, (), {name: value})
    assert SECRET not in str(refused.value)
    found, warnings = _session.variables({name: value, "A": "1"}, ["*"], {})
    assert dict(found) == {"A": "1"} and len(warnings) == 1 and SECRET not in warnings[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [("DB_PASSWORD_FILE", "/home/ann/.pw"), ("HMDC_KEYS_PATH", "/home/ann/keys"), ("URL", "http://host:80/a@b")],
)
def test_r3_a_path_of_a_secret_is_none(name: str, value: str) -> None:
    assert dict(_session.variables({}, (), {name: value})[0]) == {name: value}


def test_r3_what_only_looks_like_one() -> None:
    assert dict(_session.variables({}, (), {"KEYBOARD": "de"}, known=["KEYBOARD"])[0]) == {"KEYBOARD": "de"}


@pytest.mark.parametrize("name", ["", "A B", "A=B", "1A", "A\n"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(Refused, match="is no name of a variable"):
        _session.variables({}, (), {name: "x"})


_TEXT = st.text("ab '\"\\\n$(%)=;", max_size=12)
_NAMES = st.text("ABC_", min_size=1, max_size=3)


@given(st.dictionaries(_NAMES, _TEXT, max_size=4), st.lists(_TEXT, max_size=4))
def test_r3_values_come_back_out_of_the_ad(environment: dict, words: list) -> None:
    found = ad({"args": words}, environment=environment)
    text = _condor_cli.description_text(*_session.description(found, "/home/ann"))
    lines = dict(line.split(" = ", 1) for line in text.splitlines())
    stored = lines["MY.Environment"].replace("$(DOLLAR)", "$")
    assert dict(_classad.split_environment(_classad.value(stored))) == environment
    if "MY.Arguments" in lines:
        assert _classad.split_arguments(_classad.value(lines["MY.Arguments"].replace("$(DOLLAR)", "$"))) == words
    else:
        assert lines.get("arguments", "").split() == words


# --- slots


def slot(name: str, cpus: int, memory: int, **more: object) -> dict:
    return {"Name": name, "Cpus": cpus, "Memory": memory, **more}


def test_r4_what_no_slot_can_hold_names_the_largest() -> None:
    slots = [
        slot("slot1@a", 0, 100, TotalSlotCpus=8, TotalSlotMemory=4000, SlotType="Partitionable"),
        slot("slot1_1@a", 64, 90000, DynamicSlot=True, SlotType="Dynamic"),
        slot("slot1@b", 16, 2000),
        {"Name": "broken"},
    ]
    # what is in use now counts, what a part of a slot has does not
    assert _session.too_large(slots, 8, 4000) == _session.too_large(slots, 16, 2000) == ""
    assert _session.too_large(slots, 16, 4000) == (
        "no slot of the pool has 16 cpus and 4000 MB together; the largest is slot1@a with 8 cpus and 4000 MB, "
        "the one with most cpus slot1@b with 16 cpus and 2000 MB"
    )
    assert _session.too_large(slots[:1], 1, 4001).endswith("the largest is slot1@a with 8 cpus and 4000 MB")


def test_r4_unknown_is_not_too_small() -> None:
    assert _session.too_large([], 999, 999999) == ""
    assert _session.too_large([{"Name": "broken", "Cpus": True}], 999, 999999) == ""
