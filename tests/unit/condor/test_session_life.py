# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an interactive job is waited for (R5), found again, and attached to (R6), with a clock that a test turns."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _classad, _session_life, _session_work
from ansible_collections.sciops.sites.plugins.module_utils._condor import Refused, Silent


class Schedd:
    """A queue whose job changes with the time; the time passes only while somebody sleeps."""

    def __init__(self, *steps: tuple[float, object]) -> None:
        self.steps, self.time, self.looks = steps, 0.0, []

    def now(self) -> float:
        return 1000.0 + self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0 and len(self.looks) < 5000
        self.time += seconds

    def look(self) -> dict | None:
        self.looks.append(self.time)
        found = [one for since, one in self.steps if since <= self.time][-1]
        if isinstance(found, Exception):
            raise found
        return {"JobStatus": found} if isinstance(found, int) else found

    def wait(self, interval: float = 5, limit: float = 90) -> tuple:
        return _session_life.wait(self.look, self.now, self.sleep, interval, limit)


def test_r5_running_after_12_s_returns_by_17_s() -> None:
    schedd = Schedd((0, 1), (12, 2))
    state, reason, waited, ad = schedd.wait()
    assert (state, reason, waited, ad) == ("started", "", 15.0, {"JobStatus": 2}) and schedd.time <= 17
    assert schedd.looks == [0, 5, 10, 15]


@pytest.mark.parametrize(
    ("ad", "state", "reason"),
    [
        ({"JobStatus": 5, "HoldReason": "cannot make /x: full"}, "held", "cannot make /x: full"),
        ({"JobStatus": 5}, "held", "no reason is given"),
        ({"JobStatus": 3, "RemoveReason": "via condor_rm (by user ann)"}, "removed", "via condor_rm (by user ann)"),
        (
            {"JobStatus": 4, "CompletionDate": 1445984022, "ExitCode": 127},
            "completed",
            "it ended at 2015-10-27 22:13:42 UTC with exit status 127",
        ),
        ({"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9}, "completed", "it has ended by signal 9"),
        ({"JobStatus": 6, "CompletionDate": 0}, "completed", "it has ended"),
    ],
)
def test_r5_each_end_has_its_own_reason(ad: dict, state: str, reason: str) -> None:
    assert Schedd((0, 1), (7, ad)).wait()[:3] == (state, reason, 10.0)


def test_r5_nothing_for_90_s_is_the_limit_and_is_named_so() -> None:
    schedd = Schedd((0, 1))
    assert schedd.wait()[:3] == ("timeout", "not started within 90 s", 90.0)
    # the last look is at the limit, whatever the interval
    odd = Schedd((0, 1), (29, 2))
    assert odd.wait(interval=20, limit=30)[:3] == ("started", "", 30.0) and odd.looks == [0, 20, 30]


def test_r5_limit_0_looks_once() -> None:
    schedd = Schedd((0, 1))
    assert schedd.wait(limit=0)[0] == "timeout" and schedd.looks == [0]


def test_r5_silence_is_no_end() -> None:
    silent = Silent("the schedd is restarted")
    assert Schedd((0, 1), (4, silent), (30, None), (50, 2)).wait()[:2] == ("started", "")
    state, reason, _waited, ad = Schedd((0, 1), (4, silent)).wait()
    assert (state, ad) == ("timeout", {"JobStatus": 1})
    assert reason == "not started within 90 s: the schedd does not answer: the schedd is restarted"
    assert Schedd((0, None)).wait()[1] == "not started within 90 s: neither queue nor history has it"


@given(
    st.lists(st.tuples(st.floats(0, 200), st.sampled_from([1, 2, 3, 4, 5, 6, 7, None, 9])), max_size=6),
    st.floats(0.1, 50),
    st.floats(0, 100),
)
def test_r5_ends_at_the_limit_whatever_happens(steps: list, interval: float, limit: float) -> None:
    schedd = Schedd((-1, 1), *sorted(steps, key=lambda one: one[0]))
    state, _reason, waited, _ad = schedd.wait(interval, limit)
    assert waited <= limit + 0.01 and state in ("started", "held", "removed", "completed", "timeout")
    # what is told is what the last look saw, or that there was no more time
    last = schedd.steps[0][1]
    for since, one in schedd.steps:
        last = one if since <= schedd.looks[-1] else last
    assert (state == "timeout") == (last in (1, None, 9))


class Fake:
    """A client whose answers are given beforehand, and which notes what it was asked to do."""

    def __init__(self, *answers: object, submitted: object = 7, history: object = ()) -> None:
        self.answers, self.submitted, self.past, self.done = list(answers), submitted, list(history), []

    def query(self, constraint: str, projection: list | None = None, limit: int | None = None) -> list:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return list(found)

    def history(self, *_asked: object) -> list:
        return self.past

    def submit(self, commands: dict, items: object, attributes: dict) -> tuple[int, int]:
        self.done.append("submit")
        if isinstance(self.submitted, Exception):
            raise self.submitted
        return int(self.submitted), 1

    def act(self, action: str, constraint: str, reason: str) -> dict:
        self.done.append(f"{action} {constraint}")
        return {"success": 1}


AD = {
    "Cmd": "/a",
    "AcctGroup": "g",
    "AcctGroupUser": "ann",
    "RequestCpus": 1,
    "RequestMemory": 1,
    "JobLeaseDuration": 1200,
    "Args": False,
}


def submit(client: Fake) -> int:
    return _session_work.submit(client, AD, "/home/ann", "ann", "k")


def test_r2_a_lost_reply_finds_the_job_by_its_key() -> None:
    client = Fake([{"ClusterId": 7}], submitted=Silent("no answer within 60 s"))
    assert submit(client) == 7 and client.done == ["submit"]


def test_r2_a_lost_reply_without_a_job_fails_and_submits_nothing_more() -> None:
    client = Fake([], submitted=Silent("no answer within 60 s"))
    with pytest.raises(Silent, match="no answer within 60 s"):
        submit(client)
    lost = Fake(Silent("still none"), submitted=Silent("no answer"))
    with pytest.raises(Silent, match=r"it is not known whether the job was submitted \(still none\): run again"):
        submit(lost)
    assert client.done == lost.done == ["submit"]


def test_r2_two_at_once_leave_the_older_job() -> None:
    late = Fake([{"ClusterId": 6}, {"ClusterId": 7}])
    assert submit(late) == 6
    assert late.done == ["submit", 'remove (Owner =?= "ann") && (ClusterId =?= 7)']
    early = Fake([{"ClusterId": 7}, {"ClusterId": 8}])
    assert submit(early) == 7 and early.done == ["submit"]
    unseen = Fake(Silent("busy"))
    assert submit(unseen) == 7


def test_r5_remove_at_limit_never_ends_what_just_started() -> None:
    given = {"interval": 0.01, "limit": 0, "remove_at_limit": True}
    client = Fake([{"JobStatus": 1}])
    state, reason, _waited, _ad = _session_work.wait(client, "ann", 7, given)
    assert (state, reason) == ("timeout", "not started within 0 s; it was removed")
    assert client.done == ['remove ((Owner =?= "ann") && (ClusterId =?= 7)) && (JobStatus =?= 1)']
    started = Fake([{"JobStatus": 1}], [{"JobStatus": 2}])
    started.act = lambda *_asked: {"success": 0}  # type: ignore[method-assign]
    assert _session_work.wait(started, "ann", 7, given)[:2] == ("started", "")
    stays = Fake([{"JobStatus": 1}])
    assert _session_work.wait(stays, "ann", 7, {**given, "remove_at_limit": False})[0] == "timeout"
    assert stays.done == []


# --- the display


def test_r6_display_on_any_line() -> None:
    out = "starting\nUsing display number provided by\nxpra_Xdummy: :7\nready\n"
    assert _session_life.display([out]) == 7
    assert _session_life.display(["", "a\r\nUsing display number provided by xpra_Xdummy: :3\r\n"]) == 3
    assert _session_life.display(["Xdummy: :7 or so\n", "Xdummy: :x"]) is None
    # what the old line says counts before what newer servers say, wherever it stands
    assert _session_life.display(["created unix domain socket '/run/user/1/xpra/h1-9'", "Xdummy: :12"]) == 12
    assert _session_life.display(["2026 created unix domain socket '/x-1/h-1-42'\n"]) == 42
    # a group that took no part, and digits that make no number
    assert _session_life.display(["x", "y\u00b2", "z" + "9" * 5000, "z7"], [r"x(\d)?", r"y(.)", r"z(\d+)$"]) == 7


def test_patterns_that_name_no_display_are_known_before() -> None:
    assert _session_life.pattern_faults(_session_life.DISPLAY) == []
    assert _session_life.pattern_faults([r"(\d+)", "(", r"display \d+"]) == [
        "display_patterns[1]: '(' is no regular expression: missing ), unterminated subpattern at position 0",
        r"display_patterns[2]: 'display \\d+' has no group; put the number of the display in parentheses",
    ]


def test_the_display_is_waited_for_while_the_job_runs() -> None:
    def found(schedd: Schedd, since: float, limit: float = 90) -> tuple:
        def texts() -> list[str]:
            return ["Xdummy: :7"] if schedd.time >= since else [""]

        return _session_life.find_display(schedd.look, texts, schedd.now, schedd.sleep, 5, limit)

    assert found(Schedd((0, 2)), 12) == ("started", "", 7)
    assert found(Schedd((0, 2), (8, Silent("busy"))), 12) == ("started", "", 7)
    assert found(Schedd((0, 2), (8, {"JobStatus": 4, "ExitCode": 1})), 50) == (
        "completed",
        "it has ended with exit status 1",
        None,
    )
    assert found(Schedd((0, 2)), 91) == ("no_display", "its output names no display within 90 s", None)


def test_paths_of_a_job() -> None:
    strcat = _classad.Expression('strcat("/h/a\\"b","/", ClusterId ,"_x")')
    assert _session_life.path({"Out": strcat, "ClusterId": 5}, "Out") == '/h/a"b/5_x'
    assert _session_life.path({"Out": "/plain/out.txt"}, "Out") == "/plain/out.txt"
    for odd in ("relative", "/two\nlines", _classad.Expression("Iwd"), _classad.Expression("strcat(foo(1))"), None, 5):
        assert _session_life.path({"Out": odd, "ClusterId": 5}, "Out") is None
    assert _session_life.path({"Out": strcat}, "Out") is None


@given(st.text(max_size=40))
def test_any_text_is_a_path_or_none(text: str) -> None:
    for value in (text, _classad.Expression(text), _classad.Expression(f"strcat({text})")):
        found = _session_life.path({"Out": value, "ClusterId": 1}, "Out")
        assert found is None or (found.startswith("/") and "\n" not in found)


# --- attaching

ADDRESS = "<192.0.2.1:9618?addrs=192.0.2.1-9618&sock=schedd_1_2>"
LINE = (
    "/usr/bin/xpra attach --socket-dir=$TEMP --tray-icon=/usr/share/icons/calc.png "
    f"\"--ssh=/usr/bin/condor_ssh_to_job -name '{ADDRESS}' 110\" ssh::7"
)


def test_r6_the_command_character_by_character() -> None:
    words = _session_life.attach(ADDRESS, 110, 7, "/usr/share/icons/calc.png")
    assert words == shlex.split(LINE)
    # as a line, with the agent's variable empty; $TEMP is quoted, since it is the job's and not the desktop's
    assert _session_life.shell(words) == "SSH_AUTH_SOCK= " + LINE.replace("--socket-dir=$TEMP", "'--socket-dir=$TEMP'")
    assert _session_life.attach(ADDRESS, 110, 7) == [one for one in words if not one.startswith("--tray-icon")]
    assert _session_life.attach(ADDRESS, 110, 7, blank=True)[-1] == "ssh: :7"
    with pytest.raises(ValueError, match="is no address"):
        _session_life.attach("x' ; rm -rf /", 1, 1)


@given(st.lists(st.text(min_size=1, max_size=8).filter(lambda one: "\0" not in one), min_size=1, max_size=4))
def test_r6_what_is_shown_is_what_is_run(words: list) -> None:
    assert shlex.split(_session_life.shell(words)) == ["SSH_AUTH_SOCK=", *words]


def test_r6_a_client_that_runs_is_known() -> None:
    words = _session_life.attach(ADDRESS, 110, 7)
    python = ["/usr/bin/python3", *words]
    seen = [(1, ["sh"]), (9, python), (4, words), (5, words[:-1] + ["ssh::8"]), (6, ["vi", *words[:-1]]), (7, [])]
    assert _session_life.attached(words, seen) == [4, 9]


def test_r6_only_own_running_xpra_sessions() -> None:
    mine = {"Owner": "ann", "HMDCInteractive": True, "HMDCUseXpra": True, "JobStatus": 2}
    assert _session_life.is_own(mine, "ann")
    for change in (
        {"Owner": "bob"},
        {"JobStatus": 5},
        {"JobStatus": 1},
        {"HMDCUseXpra": False},
        {"HMDCInteractive": 1},
    ):
        assert not _session_life.is_own({**mine, **change}, "ann")
    assert not _session_life.is_own({}, "ann")
    assert _session_life.own("ann") == (
        '(Owner =?= "ann") && (HMDCInteractive =?= true) && (HMDCUseXpra =?= true) && (JobStatus =?= 2)'
    )
    with pytest.raises(ValueError):
        _session_life.own("\0")


def test_r6_table() -> None:
    assert _session_life.table([[110, "calc", "1", 1, 4096], [7, None, "2.31.3", 12, None]]) == (
        "Job Id  Application  Version  Requested Cpus  Requested Memory\n"
        "110     calc         1        1               4096\n"
        "7       -            2.31.3   12              -"
    )


# --- which schedd


class Pool:
    """A collector, and the configuration of the host h1, on which no schedd is to run unless `own` says so."""

    def __init__(self, *schedds: tuple[str, str], silent: bool = False, **own: str) -> None:
        self.known, self.silent, self.own = schedds, silent, own

    def schedds(self) -> list:
        if self.silent:
            raise Silent("no collector")
        return [{"Name": name, "Machine": machine, "MyAddress": f"<{name}>"} for name, machine in self.known]

    def config(self, names: list) -> dict:
        return {name: {"FULL_HOSTNAME": "h1.example.org", **self.own}.get(name) for name in names}


B = ("b.example.org", "b.example.org")


@pytest.mark.parametrize(
    ("pool", "named", "place"),
    [
        (Pool(("a", "a"), ("h1.example.org", "H1.example.org")), None, (None, "h1.example.org", "<h1.example.org>")),
        (Pool(("a@h1", "h1.example.org"), ("h1.example.org", "h1.example.org")), None, (None, "h1.example.org", "*")),
        (Pool(("a", "a"), ("b", "b")), None, ("a", "a", "<a>")),
        (Pool(("a", "a"), ("b", "b")), "B", ("B", "B", "<b>")),
        (Pool(), "b", ("b", "b", None)),
        (Pool(), None, (None, None, None)),
        (Pool(silent=True), None, (None, None, None)),
        # the collector was just started, and knows only another host's
        (Pool(B, DAEMON_LIST="MASTER, schedd"), None, (None, "h1.example.org", None)),
        (Pool(B, DAEMON_LIST="MASTER SCHEDD", SCHEDD_NAME="x"), None, (None, "x@h1.example.org", None)),
        (Pool(B, DAEMON_LIST="MASTER SCHEDD", SCHEDD_NAME="x@y"), None, (None, "x@y", None)),
        (Pool(B, DAEMON_LIST="MASTER SCHEDD"), "b.example.org", ("b.example.org", "b.example.org", "<b.example.org>")),
        (Pool(B, DAEMON_LIST="MASTER, SCHEDD_X"), None, ("b.example.org", "b.example.org", "<b.example.org>")),
        (Pool(silent=True, DAEMON_LIST="MASTER,SCHEDD"), None, (None, "h1.example.org", None)),
    ],
)
def test_the_local_schedd_else_the_first(pool: Pool, named: str | None, place: tuple) -> None:
    found = _session_work.place(pool, named)
    assert (found.schedd, found.name) == place[:2]
    assert place[2] == "*" or found.address == place[2]


def test_a_schedd_that_the_collector_does_not_know_says_its_address_itself(tmp_path: Path) -> None:
    file = tmp_path / "address"
    for text, address in ((f"{ADDRESS}\n$CondorVersion: 25.14.1 $\n", ADDRESS), ("", None), ("half an <add", None)):
        file.write_text(text)
        found = _session_work.place(Pool(B, DAEMON_LIST="SCHEDD", SCHEDD_ADDRESS_FILE=str(file)))
        assert (found.schedd, found.name, found.address) == (None, "h1.example.org", address)


def test_refused_is_not_silent() -> None:
    assert not issubclass(Refused, Silent) and not issubclass(Silent, Refused)
