# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a manager would run for a service, and what is refused before anything is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import (
    _launch,
    _launch_process,
    _launch_scrontab,
    _launch_supervisord,
    _launch_systemd,
    _launches,
)

CONFIG = "[inet_http_server]\nport=127.0.0.1:1\nusername=jaws\npassword={}\n[supervisord]\nnodaemon={}\n"
SITE = """; a note
[program:runs]
command = /opt/bin/run-daemon
startsecs = 3

[program:rpc-server]
command=/opt/bin/rpc-server
"""
SUPERVISORD = {"method": "supervisord", "supervisord": {"config": "/c/supervisor.conf"}}


def supervisord(files: dict, *services: dict | str) -> dict:
    named = [one if isinstance(one, dict) else {"name": one} for one in services]
    return _launches.definitions(SUPERVISORD, named, files)


def test_a_program_changes_with_its_own_section_and_nothing_else() -> None:
    files = {"/c/supervisor.conf": CONFIG.format("x", "false"), "/c/supervisor.site.conf": SITE, "/b/x.sh": "[ -f x ]"}
    first = supervisord(files, "runs", "rpc-server")
    again = supervisord(
        {**files, "/c/supervisor.site.conf": SITE.replace("; a note", "").replace(" = ", "=")}, "runs", "rpc-server"
    )
    assert first == again and "run-daemon" in first["runs"] and "run-daemon" not in first["rpc-server"]
    other = supervisord({**files, "/c/supervisor.site.conf": SITE.replace("secs = 3", "secs=4")}, "runs", "rpc-server")
    assert other["rpc-server"] == first["rpc-server"] and other["runs"] != first["runs"]


def test_a_group_is_one() -> None:
    files = {"/c/s.conf": SITE + "[group:jaws-site]\nprograms=runs, rpc-server\n"}
    services = [{"name": name, "unit": f"jaws-site:{name}"} for name in ("runs", "rpc-server")]
    first = supervisord(files, *services)
    other = supervisord({"/c/s.conf": files["/c/s.conf"].replace("secs = 3", "secs=4")}, *services)
    assert first["runs"] == first["rpc-server"] and not set(first.values()) & set(other.values())
    with pytest.raises(_launches.Failure, match="is in group jaws-site: say unit jaws-site:runs"):
        supervisord(files, "runs")
    with pytest.raises(_launches.Failure, match="group jaws-site has no program x"):
        supervisord(files, {"name": "x", "unit": "jaws-site:x"})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"/c/s.conf": SITE}, r"service transfers: no file of the release has a section \[program:transfers\]"),
        ({"/c/s.conf": SITE, "/c/t.conf": SITE}, r"/c/t.conf: \[program:runs\] is in /c/s.conf too"),
        ({"/c/s.conf": CONFIG.format("", "false")}, r"/c/s.conf: \[inet_http_server\] has no username or an empty"),
        ({"/c/s.conf": CONFIG.format("x", "True")}, "nodaemon is true"),
        ({"/c/s.conf": "[program:x]\ncommand\n  =\nfoo"}, "/c/s.conf: is no INI file"),
    ],
)
def test_what_supervisord_could_not_run_is_refused(files: dict, words: str) -> None:
    with pytest.raises(_launches.Failure, match=words):
        supervisord(files, "transfers")


WORD = st.text(alphabet="abcxyz%$", min_size=1, max_size=5)


@given(st.dictionaries(WORD, st.tuples(WORD, WORD), min_size=1, max_size=5), st.data())
def test_exactly_the_changed_programs_differ(programs: dict, data: st.DataObject) -> None:
    chosen = data.draw(st.sampled_from(sorted(programs)))
    order = data.draw(st.permutations(sorted(programs)))

    def text(names: list[str], change: bool) -> str:
        return "".join(
            f"[program:{n}]\ncommand=/bin/{programs[n][0]}{'!' * (change and n == chosen)}\nuser={programs[n][1]}\n"
            for n in names
        )

    before = supervisord({"/x.conf": text(sorted(programs), False)}, *programs)
    after = supervisord({"/y.conf": text(order, True)}, *programs)
    assert [name for name in sorted(programs) if before[name] != after[name]] == [chosen]


UNIT = "# note\n[Service]\nExecStart=/bin/bash /b/runs\nRestart=always\n\n[Install]\nWantedBy=default.target\n"


def test_a_unit_is_its_file_and_its_drop_ins() -> None:
    service = {"name": "runs", "unit": "runs-dev.service"}
    launch = {"method": "systemd", "systemd": {"scope": "user"}}
    base = {"/h/.config/systemd/user/runs-dev.service": UNIT, "/other": "x"}
    first = _launches.definitions(launch, [service], base)["runs"]
    assert (
        first
        == _launches.definitions(launch, [service], {k: v.replace("# note", ";") for k, v in base.items()})["runs"]
    )
    more = {**base, "/h/.config/systemd/user/runs-dev.service.d/a.conf": "[Service]\nNice=5\n"}
    assert "Nice=5" in _launches.definitions(launch, [service], more)["runs"]
    with pytest.raises(_launches.Failure, match=r"no file of the release is named x.service"):
        _launches.definitions(launch, [{"name": "x"}], base)
    wrong = {k: v.replace("default.target", "multi-user.target") for k, v in base.items()}
    with pytest.raises(_launches.Failure, match="users have no such target"):
        _launches.definitions(launch, [service], wrong)
    _launch_systemd.definitions({"scope": "system"}, [service], wrong)
    instance = {"name": "m", "unit": "m@1.service"}
    assert "ExecStart" in _launch_systemd.definitions({}, [instance], {"/e/m@.service": UNIT})["m"]


def test_scrontab_keeps_one_job() -> None:
    settings = {"name": "jaws_acme_dev", "starter": "/b/starter.sh"}
    one = [{"name": "jaws-site"}]
    first = _launch_scrontab.definitions(settings, one, {"/b/starter.sh": "sbatch"})
    assert first != _launch_scrontab.definitions(settings, one, {"/b/starter.sh": "sbatch -t 5"})
    entry = _launch_scrontab.entry_of(settings)
    assert (entry["minute"], entry["command"], entry["job_name"]) == ("*/5", "/b/starter.sh", "jaws_acme_dev_starter")
    for wrong, words in (
        ({"entry": {"minute": "61"}}, "entry.minute: 61: must be 0 to 59"),
        ({"entry": {"job_name": "jaws_acme_dev"}}, "is the name of the job that it keeps alive"),
        ({"starter": ""}, "launch.scrontab.starter: is missing"),
        ({"block": "a b"}, "block"),
    ):
        with pytest.raises(_launches.Failure, match=words):
            _launch_scrontab.definitions({**settings, **wrong}, one, {})
    with pytest.raises(_launches.Failure, match="takes one service"):
        _launch_scrontab.definitions(settings, [*one, {"name": "two"}], {})


def test_a_service_may_have_a_method_of_its_own() -> None:
    runner = {"command": ["gitlab-runner", "run", "-c", "/c.toml"], "log": "/l", "prelude": "module load x"}
    services = [
        {"name": "runs"},
        {"name": "runner", "launch": {"method": "process", "process": runner}},
        {"name": "rpc-server", "launch": None},
        {"name": "other", "launch": "process", "command": ["x"], "log": "/l"},
    ]
    found = _launch.groups(SUPERVISORD, services)
    assert [(method, [one["name"] for one in some]) for method, _settings, some in found] == [
        ("supervisord", ["runs", "rpc-server"]),
        ("process", ["runner"]),
        ("process", ["other"]),
    ]
    assert found[0][1] == SUPERVISORD["supervisord"]
    texts = _launches.definitions(SUPERVISORD, services, {"/c/s.conf": SITE})
    assert "module load x" in texts["runner"] and set(texts) == {"runs", "runner", "rpc-server", "other"}
    kinds = [type(one).__module__.rpartition(".")[2] for one in _launches.launches(SUPERVISORD, services)]
    assert kinds == ["_launch_supervisord", "_launch_process", "_launch_process"]
    with pytest.raises(_launches.Failure, match="no method none"):
        _launches.definitions({"method": "none"}, services[:1], {})


@pytest.mark.parametrize(
    ("words", "is_it"),
    [
        ("/usr/bin/gitlab-runner run -c /c.toml", True),
        ("gitlab-runner run -c /c.toml", True),
        ("/opt/gitlab-runner run -c /c.toml", False),
        ("gitlab-runner run -c /c.toml.bak", False),
        ("gitlab-runner run -c /c.toml -x", False),
        ("tail -f /usr/bin/gitlab-runner run -c /c.toml", False),
        ("vi gitlab-runner run -c /c.toml", False),
        ("run -c /c.toml", False),
        ("", False),
    ],
)
def test_a_command_line_is_ours_or_not(words: str, is_it: bool) -> None:
    command = ["/usr/bin/gitlab-runner", "run", "-c", "/c.toml"]
    assert _launch_process.runs(words.split(), command, []) is is_it
    assert _launch_process.runs(["python3", *words.split()], command, ["/usr/bin/python3"]) is is_it
    assert not _launch_process.runs(["python3", "-i", *words.split()], command, ["/usr/bin/python3"])


@pytest.mark.parametrize(
    ("url", "address", "is_it"),
    [
        ("unix:///s/a.sock", "unix:///s/a.sock", True),
        ("unix:///s/a.sock", "unix:///s/b.sock", False),
        ("http://localhost:64101", "http://127.0.0.1:64101", True),
        ("http://localhost:64101", "http://127.0.0.1:64102", False),
        ("unix:///s:64101", "http://127.0.0.1:64101", False),
        (None, "http://127.0.0.1:64101", False),
        ("http://localhost:64101", None, False),
    ],
)
def test_whose_supervisord_started_it(url: str, address: str, is_it: bool) -> None:
    assert _launch_supervisord.same_server(url, address) is is_it
