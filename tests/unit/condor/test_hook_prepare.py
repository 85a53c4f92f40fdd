# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""R7: the folder of a job, and what is said where it cannot be; and what all hooks share."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from unit.condor.hooks_home import CLASSAD, FILES, Home, module, recorded, settings

common, prepare = module("_common"), module("_prepare")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "hooks", job_roots=[f"{tmp_path}/jobs"])


def job(tmp_path: Path, folder: str = "", version: str = "25", *lines: str, without: tuple[str, ...] = ()) -> str:
    """A recorded ad whose folder is below this test's own."""
    where = folder or f'strcat("{tmp_path}/jobs","/","shell_2.31.3","_",ClusterId,"_","202601011796000000")'
    text = recorded(f"prepare-{version}.ad", without=("LocalJobDir", *without))
    return text + "\n".join([f"LocalJobDir = {where}", "ClusterId = 110", *lines, ""])


def held(done: bytes) -> str:
    """The reason of a refusal: nothing else was printed."""
    lines = done.decode().splitlines()
    assert len(lines) == 2 and lines[1] == "HookStatusCode = 190", done
    name, reason = lines[0].split(" = ", 1)
    assert name == "HookStatusMessage"
    return str(common.classad.unquote(reason))


@pytest.mark.parametrize("version", ["25", "23"])
def test_r7_normal_there_already_and_parents(tmp_path: Path, home: Home, version: str) -> None:
    ad = job(tmp_path, "", version)
    folder = tmp_path / "jobs" / "shell_2.31.3_110_202601011796000000"
    for _again in range(2):
        done = home.run("prepare", ad=ad)
        assert (done.returncode, done.stdout.decode()) == (0, ad), done.stderr
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        # one that others may look into is closed
        folder.chmod(0o755)
    home.run("prepare", ad=job(tmp_path, f'"{tmp_path}/jobs/a/b/c"'))
    assert stat.S_IMODE((tmp_path / "jobs/a/b/c").stat().st_mode) == 0o700


@pytest.mark.parametrize("line", ["HMDCNewSubmit", "HMDCInteractive"])
def test_r7_not_ours(tmp_path: Path, home: Home, line: str) -> None:
    for ad in (job(tmp_path, without=(line,)), job(tmp_path, "", "25", f"{line} = false"), ""):
        done = home.run("prepare", ad=ad)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not (tmp_path / "jobs").exists()


def test_r7_a_file_in_the_way(tmp_path: Path, home: Home) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/x").write_text("mine")
    done = home.run("prepare", ad=job(tmp_path, f'"{tmp_path}/jobs/x"'))
    assert held(done.stdout) == f"{tmp_path}/jobs/x is in the way: it is no folder. Move it away, then release the job"
    assert done.returncode == 0 and (tmp_path / "jobs/x").read_text() == "mine"
    held(home.run("prepare", ad=job(tmp_path, f'"{tmp_path}/jobs/x/deeper"')).stdout)


def test_r7_links_and_ways_out(tmp_path: Path, home: Home) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/link").symlink_to(outside)
    for folder in (
        f"{tmp_path}/jobs/link",
        f"{tmp_path}/jobs/link/new",
        f"{tmp_path}/jobs/../outside/new",
        f"{tmp_path}/jobs/./new/..",
        f"{tmp_path}/jobs",
        f"{tmp_path}/outside/new",
        "relative/new",
        "/",
    ):
        assert "folder" in held(home.run("prepare", ad=job(tmp_path, common.classad.quote(folder))).stdout)
    assert list(outside.iterdir()) == []


def test_r7_a_line_break_in_a_name(tmp_path: Path, home: Home) -> None:
    ad = job(tmp_path, common.classad.quote(f"{tmp_path}/jobs/a\nb"))
    assert home.run("prepare", ad=ad).stdout.decode() == ad and (tmp_path / "jobs/a\nb").is_dir()


@pytest.mark.parametrize(
    "value", ["undefined", "7", "strcat(", 'strcat("/x",Nobody)', 'ifThenElse(true,"/a","/b")', '""']
)
def test_r7_no_folder_that_can_be_understood(tmp_path: Path, home: Home, value: str) -> None:
    assert "LocalJobDir" in held(home.run("prepare", ad=job(tmp_path, value)).stdout)


def test_r7_refusals_are_one_line_of_text(tmp_path: Path, home: Home) -> None:
    reason = held(home.run("prepare", ad=job(tmp_path, common.classad.quote('/x/"$$(id) `id`\\'))).stdout)
    assert "\n" not in reason and "`id`/" in reason


def test_prepare_without_settings_holds_with_a_reason(tmp_path: Path, home: Home) -> None:
    (home.folder / "settings.json").write_text('{"job_root": []}')
    assert "job_root: no such setting" in held(home.run("prepare", ad=job(tmp_path)).stdout)


def test_prepare_has_an_end(tmp_path: Path) -> None:
    """A file server that never answers (here: a function that does not) ends in a reason."""
    begun = time.monotonic()
    with pytest.raises(common.Refused, match=r"no answer within 0.3 seconds"):
        common.bounded(lambda: time.sleep(60), 0.3)
    assert time.monotonic() - begun < 30
    with pytest.raises(common.Refused, match="ZeroDivisionError"):
        common.bounded(lambda: 1 // 0, 5)
    assert common.bounded(lambda: "x" * 3_000_000, 30) == b"x" * 3_000_000


def test_prepare_ten_megabytes(tmp_path: Path, home: Home) -> None:
    """An ad with an environment of 10 MB: in time, and not cut short where HTCondor would cut it."""
    ad = job(tmp_path, "", "25", 'Environment = "X=' + "y" * 10_000_000 + '"')
    done = home.run("prepare", ad=ad)
    assert (done.returncode, done.stdout) == (0, b"") and b"left as it is" in done.stderr
    assert (tmp_path / "jobs/shell_2.31.3_110_202601011796000000").is_dir()
    home.configure(job_roots=[f"{tmp_path}/jobs"], print_limit=20_000_000)
    assert home.run("prepare", ad=ad).stdout.decode() == ad


def test_prepare_odd_bytes_are_printed_as_they_came(tmp_path: Path, home: Home) -> None:
    ad = job(tmp_path).encode() + b'Odd = "\xff\xfe"\n'
    assert home.run("prepare", ad=ad).stdout == ad


# what no string of an ad holds as it is makes expressions of its own, which are no folders
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r\n\\$"))


@given(st.lists(TEXT, min_size=1, max_size=5), st.integers(0, 10**9))
def test_evaluate_strcat(words: list[str], cluster: int) -> None:
    quoted = ", ".join(common.classad.quote(word) for word in words)
    ad = common.classad.Ad(ClusterId=cluster, Name="n")
    assert common.evaluate(ad, f"strcat({quoted}, MY.ClusterId,strcat(Name))") == "".join(words) + f"{cluster}n"


@given(st.text(alphabet='strcat("),/ab.1 MY', max_size=40))
def test_evaluate_refuses_or_answers(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(common.evaluate(common.classad.Ad(a=common.classad.Expression("a")), text), str)


@given(
    st.dictionaries(
        st.sampled_from([*common.DEFAULTS, "other"]), st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT)
    )
)
def test_settings_are_whole_or_refused_by_name(found: dict[str, object]) -> None:
    refused = ""
    try:
        assert set(common.check_settings(found)) == set(common.DEFAULTS)
    except ValueError as exc:
        refused = str(exc)
    assert refused.partition(":")[0] in {"", *found}


def test_write_file_is_old_or_new(tmp_path: Path) -> None:
    """Killed in the middle of it again and again: what is there is whole, and the next run goes on."""
    folder = os.open(tmp_path, os.O_RDONLY)
    common.write_file(folder, "x", b"0" * 100_000)
    for number in range(1, 20):
        child = os.fork()
        if child == 0:
            for byte in range(256):
                common.write_file(folder, "x", bytes([48 + byte % 10]) * 100_000)
            os._exit(0)
        time.sleep(0.003 * (number % 7))
        os.kill(child, 9)
        os.waitpid(child, 0)
        data = (tmp_path / "x").read_bytes()
        assert len(data) == 100_000 and len(set(data)) == 1
    os.close(folder)


def test_hooks_stay_within_python_36() -> None:
    """No syntax and no module that is younger, as vermin sees it; no file of more than 500 lines."""
    files = [*FILES.glob("*.py"), CLASSAD]
    for file in files:
        tree = ast.parse(file.read_text(), feature_version=(3, 6))
        assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(tree)), file
        assert len(file.read_text().splitlines()) <= 500
    with contextlib.suppress(FileNotFoundError):
        argv = [Path(sys.prefix) / "bin" / "vermin", "-t=3.6-", "--no-tips", *files]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_settings_of_the_role_are_those_of_the_hooks() -> None:
    """The role sets each of them but sshd, to the same where nobody says otherwise."""
    role = yaml.safe_load((FILES.parent / "vars/main.yml").read_text())["__condor_hooks_settings"]
    # one expression: each value of a mapping of templates is text before ansible-core 2.19 (test_core_matrix.py)
    assert isinstance(role, str)
    assert {*re.findall(r"'(\w+)': ", role), "execute", "sshd"} == set(common.DEFAULTS)
    defaults = yaml.safe_load((FILES.parent / "defaults/main.yml").read_text())
    for name in ("session_command", "session_log", "job_roots", "log_root", "mail_subject", "log_days", "time_limit"):
        assert defaults[f"condor_hooks_{name}"] == settings()[name]
