# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What condor_session and condor_session_info do with their options, with a pool in memory."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.action import condor_session as session_action
from ansible_collections.sciops.sites.plugins.action import condor_session_info as info_action
from ansible_collections.sciops.sites.plugins.module_utils import _condor, _session_life, _session_work
from ansible_collections.sciops.sites.plugins.modules import condor_session, condor_session_info

ADDRESS = "<192.0.2.1:9618>"
USER = pwd.getpwuid(os.geteuid()).pw_name


class Ended(Exception):
    """What a module said at its end."""


class Client:
    """A schedd with the jobs of a test; what changes something is an error."""

    pool = schedd = None

    def __init__(self, ads: list[dict], address: str | None = ADDRESS) -> None:
        self.ads, self.address = ads, address

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def schedds(self) -> list[dict]:
        return [{"Name": "h1", "Machine": "h1", "MyAddress": self.address}]

    def config(self, names: list[str]) -> dict:
        return dict.fromkeys(names, "h1")

    def query(self, constraint: str, projection: list, limit: int | None = None) -> list[dict]:
        return self.ads


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Run a module; `client` None is a pool that must not be asked. Returns what it said, `failed` where it failed."""

    def one(module: ModuleType, client: Client | None, check: bool = True, **given: Any) -> dict:
        class Module:
            def __init__(self, argument_spec: dict, supports_check_mode: bool) -> None:
                self.params = {name: spec.get("default") for name, spec in argument_spec.items()} | given
                self.check_mode = check

            def warn(self, text: str) -> None:
                pass

            def exit_json(self, **result: Any) -> None:
                raise Ended(result)

            def fail_json(self, msg: str, **result: Any) -> None:
                raise Ended({"msg": msg, "failed": True, **result})

        def connect(*_asked: object) -> Client:
            assert client is not None, "nothing was to be asked"
            return client

        monkeypatch.setattr(module, "AnsibleModule", Module)
        monkeypatch.setattr(_condor, "connect", connect)
        with pytest.raises(Ended) as ended:
            module.main()
        return dict(ended.value.args[0])

    return one


PAYLOAD = {"choice": {"cpu": 1, "memory": 1024, "icon": None}, "key": "k"}


@pytest.mark.parametrize("module", [condor_session, condor_session_info])
@pytest.mark.parametrize(("pattern", "words"), [("(", "is no regular expression"), (r"\d+", "has no group")])
def test_a_bad_pattern_is_refused_before_anything_is_asked(  # type: ignore[no-untyped-def]
    run, module: ModuleType, pattern: str, words: str
) -> None:
    payload = json.dumps(PAYLOAD if module is condor_session else [])
    done = run(module, None, check=False, payload=payload, display_patterns=[r"(\d+)", pattern])
    assert done["failed"] and f"display_patterns[1]: {pattern!r} {words}" in done["msg"]


@pytest.mark.parametrize(("action", "more"), [(session_action, {"state": "absent", "key": "k"}), (info_action, {})])
def test_a_path_of_the_host_gets_there_as_it_was_written(
    monkeypatch: pytest.MonkeyPatch, action: ModuleType, more: dict
) -> None:
    """Home and variables of the controller are not those of the host, and the module expands it there."""
    monkeypatch.setenv("SCIOPS_TEST_PLACE", "controller")
    monkeypatch.setattr(ActionBase, "run", lambda *_given: {})
    sent = {}

    def execute(module_name: str, module_args: dict, task_vars: dict | None) -> dict:
        sent.update(module_args)
        return {}

    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = SimpleNamespace(args={"config": "~/condor/$SCIOPS_TEST_PLACE/config", **more})
    plugin._execute_module = execute
    plugin.run()
    assert sent["config"] == "~/condor/$SCIOPS_TEST_PLACE/config"
    assert (sent["way"], sent["timeout"]) == ("auto", 60.0) and _condor.ARGUMENTS["config"]["type"] == "path"


class Session:
    """A session that runs, with an output, and the processes of its user."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = folder / "out.txt"
        self.ad = {
            "ClusterId": 110,
            "JobStatus": 2,
            "Owner": USER,
            "HMDCInteractive": True,
            "HMDCUseXpra": True,
            "RequestCpus": 1,
            "RequestMemory": 1024,
            "LocalJobDir": str(folder),
            "Out": str(self.out),
        }
        self.processes: list[tuple[int, list[str]]] = []
        monkeypatch.setattr(_session_work, "processes", lambda: self.processes)
        for name in ("attach", "wait", "submit"):
            monkeypatch.setattr(_session_work, name, None)
        monkeypatch.setattr(_session_life, "find_display", None)

    def client(self, address: str | None = ADDRESS, **change: object) -> Client:
        return Client([{**self.ad, **change}], address)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    return Session(tmp_path, monkeypatch)


GIVEN = {"payload": json.dumps(PAYLOAD), "app": "shell", "attach": "run", "blank_host": False}


def test_check_mode_tells_of_the_client_that_would_be_started(run, session: Session) -> None:  # type: ignore[no-untyped-def]
    session.out.write_text("Xdummy: :7\n")
    done = run(condor_session, session.client(), **GIVEN)
    assert (done["changed"], done["outcome"], done["display"]) == (True, "started", 7)
    words = _session_life.attach(ADDRESS, 110, 7)
    assert done["attach"]["words"] == words and "pid" not in done["attach"]
    session.processes = [(9, words)]
    done = run(condor_session, session.client(), **GIVEN)
    assert (done["changed"], done["attach"]["pid"]) == (False, 9)


def test_check_mode_without_a_display_foresees_a_client(run, session: Session) -> None:  # type: ignore[no-untyped-def]
    done = run(condor_session, session.client(), **GIVEN)
    assert done["changed"] and done["display"] is None and "attach" not in done
    # without the address of the schedd, there is no command, whatever the display
    for text in ("", "Xdummy: :7\n"):
        session.out.write_text(text)
        assert not run(condor_session, session.client(address=None), **GIVEN)["changed"]


@pytest.mark.parametrize(
    ("given", "change"),
    [
        ({"attach": "command"}, {}),
        ({"attach": "none"}, {}),
        ({"xpra": False}, {}),
        ({"wait": False}, {}),
        ({}, {"HMDCUseXpra": False}),
        ({}, {"JobStatus": 1}),
        ({}, {"JobStatus": 5}),
    ],
)
def test_check_mode_foresees_no_client_where_none_would_be_started(  # type: ignore[no-untyped-def]
    run, session: Session, given: dict, change: dict
) -> None:
    session.out.write_text("Xdummy: :7\n")
    assert not run(condor_session, session.client(**change), **{**GIVEN, **given})["changed"]
