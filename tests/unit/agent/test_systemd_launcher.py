# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher systemd writes and tells systemd, without one."""

from __future__ import annotations

import json
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _managed, _systemctl, _systemd, _work
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed


class Bed:
    """A host whose systemd does nothing of what it is told; ``started`` has the template's text at each start."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.told, self.started = folder, [], []
        for name in ("instances", "managed/systemd"):
            (folder / name).mkdir(parents=True)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        monkeypatch.setattr(_managed, "PATIENCE", 0.3)
        self.manager = self.fresh()

    def fresh(self, **settings: t.Any) -> _systemd.Manager:
        manager = _systemd.Manager({"scope": "user", **settings}, str(self.folder))
        self.manager = manager

        def ask(what: str, *args: t.Any) -> t.Any:
            self.told.append((what, *args))
            if args[:1] == ("start",):
                self.started.append({path.name: path.read_text() for path in self.files()})
            return {} if what == "show" else []

        manager.ask = ask
        return manager

    def files(self) -> list[Path]:
        return [path for path in Path(self.manager.tool.folder).rglob("*") if path.is_file()]

    def action(self, slot: int, component: str = "p/c", **options: t.Any) -> dict:
        one = {"kind": "start", "host": "h", "component": component, "slot": slot, "token": f"1-{component[-1]}{slot}"}
        one |= {"hash": "0123456789ab", "argv": ["/bin/true"], "environment": {}, "secrets": {}, "cwd": "/"}
        one |= {"user": None, "log": {"path": None, "max_bytes": 1000, "keep": 2}, "settle": 0, "grace": 0}
        return one | {"reason": "test", "launcher": "systemd", "options": options}

    def work(self, *actions: dict) -> _work.Work:
        request = {"site": "s", "deployment": "d", "host": "h", "actions": list(actions), "launchers": {"systemd": {}}}
        work = _work.Work(request, str(self.folder), time.monotonic() + 20)
        work.spent = set()
        return work

    def runs(self, slot: int, **options: t.Any) -> None:
        """A spec as an earlier start wrote it."""
        spec = self.manager.spec(self.action(slot, **options), self.work().request)
        Path(self.manager.spec_path(spec["unit"])).write_text(json.dumps(spec))

    def start(self, *actions: dict) -> list[dict]:
        work = self.work(*actions)
        _managed.start(self.manager, work, range(len(actions)))
        return work.results


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bed:
    return Bed(tmp_path, monkeypatch)


def test_what_is_started_has_its_own_options_however_many_slots_still_have_the_old(bed: Bed) -> None:
    for slot in (1, 2, 3):
        bed.runs(slot, restart="no", drop_in={"Service": {"LimitNOFILE": "10"}})
    new = {"restart": "always", "drop_in": {"Service": {"LimitNOFILE": "20"}}}
    work = bed.work(bed.action(1, **new))
    told = _managed.describe(bed.manager, work, [0])
    said = "".join(one["after"] for path, one in told.items() if not path.endswith(".json"))
    assert "Restart=always" in said and "LimitNOFILE=20" in said
    bed.start(bed.action(1, **new))
    (files,) = bed.started
    assert "LimitNOFILE=20" in files.pop("sciops.conf") and "Restart=always" in "".join(files.values())


def test_the_last_declared_options_stay_while_others_are_stopped(bed: Bed) -> None:
    bed.runs(3, restart="no")
    spec = dict(bed.manager.spec(bed.action(1, restart="always"), bed.work().request), turn=1)
    known = bed.manager.specs()
    assert _managed.turn(known) == 1 and _managed.turn({**known, spec["unit"]: spec}) == 2
    bed.manager.write({**known, spec["unit"]: spec})
    assert "Restart=always" in "".join(path.read_text() for path in bed.files() if not path.is_symlink())
    # when the update did not come up, what still runs decides again
    bed.manager.write(known)
    assert "Restart=no" in "".join(path.read_text() for path in bed.files() if not path.is_symlink())


@pytest.mark.parametrize("value", ["/usr/bin/a ", "a\\"])
def test_a_drop_in_that_no_unit_file_can_hold_refuses_its_component_only(bed: Bed, value: str) -> None:
    bad = bed.action(1, drop_in={"Service": {"ExecStartPre": value}})
    results = bed.start(bad, bed.action(1, "p/d"))
    assert results[0]["outcome"] == "refused"
    assert "p/c: options.systemd.drop_in: [Service] ExecStartPre: begins or ends with" in results[0]["message"]
    # the other one was told to systemd, and nothing is left that spoils later starts
    assert len(bed.started) == 1 and "nothing was started" not in results[1]["message"]
    assert bed.manager.specs() == {}


@pytest.fixture
def no_linger(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Bed:
    """A user whose manager runs and does not linger; ``loginctl`` does as the bed's ``denied`` says."""
    monkeypatch.setattr(_systemctl, "BOOTED", str(bed.folder))
    bed.fresh(linger=True)
    plain, state = bed.manager.ask, {"linger": False}
    bed.denied = ""

    def ask(what: str, *args: t.Any) -> t.Any:
        said = plain(what, *args)
        if what == "enable_linger" and bed.denied:
            raise Failed(bed.denied)
        state["linger"] = state["linger"] or what == "enable_linger"
        if what == "prerequisites" and not state["linger"]:
            return ["linger of user x is off, so its units end with its last login"]
        return state["linger"] if what == "linger" else said

    bed.manager.ask = ask
    return bed


def test_who_looks_turns_no_linger_on_and_who_starts_does(no_linger: Bed) -> None:
    bed = no_linger
    bed.runs(2)
    seen = _managed.observe(bed.manager, {"sets": {}, "wanted": True})
    assert "the next start turns it on" in seen["problems"][0] and "silent" not in seen
    _managed.describe(bed.manager, bed.work(bed.action(1)), [0])
    assert ("enable_linger",) not in bed.told
    bed.start(bed.action(1))
    assert ("enable_linger",) in bed.told and len(bed.started) == 1
    assert bed.manager.prerequisites() == []


def test_where_linger_is_denied_the_start_is_refused_and_nothing_else(no_linger: Bed) -> None:
    bed = no_linger
    bed.denied = "linger of x is off and x may not turn it on, run as root: loginctl enable-linger x"
    with pytest.raises(Failed, match="run as root: loginctl enable-linger x; nothing was started") as raised:
        bed.start(bed.action(1))
    assert raised.value.outcome == "refused" and bed.started == [] and bed.manager.specs() == {}
    seen = _managed.observe(bed.manager, {"sets": {}, "wanted": True})
    assert "silent" not in seen and len(seen["problems"]) == 1
