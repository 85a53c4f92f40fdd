# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""R12: what is removed after a job, and above all what is not."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from unit.condor.hooks_home import Home, module, recorded, settings

common, hook = module("_common"), module("_exit")


class Jobs:
    """A root with the folder of one job, its logs, and something beside it that is nobody's business."""

    def __init__(self, folder: Path) -> None:
        self.root, self.logs, self.outside = folder / "jobs", folder / "logs", folder / "outside"
        self.folder = self.root / "shell_1"
        (self.folder / "deep" / "er").mkdir(parents=True)
        for name in ("out.txt", "shell.out.txt", "x.log", "core", "deep/er/y", ".hidden"):
            (self.folder / name).write_text(name)
        self.outside.mkdir()
        (self.outside / "precious.txt").write_text("precious")
        (self.root / "other").mkdir()
        (self.root / "other/out.txt").write_text("other")

    def clean(self, *lines: str, reason: str = "exit", now: float | None = None, **given: object) -> None:
        ad = common.pick(recorded("exit-25.ad", f'LocalJobDir = "{self.folder}"', *lines), hook.NEEDED)
        whole = settings(**{"job_roots": [str(self.root)], "log_root": str(self.logs), **given})
        hook.clean(ad, reason, whole, time.time() if now is None else now)

    def untouched(self) -> bool:
        return (self.outside / "precious.txt").read_text() == "precious" and (self.root / "other/out.txt").exists()


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


def test_r12_the_folder_goes_and_logs_stay(jobs: Jobs) -> None:
    jobs.clean()
    assert not jobs.folder.exists() and jobs.untouched()
    assert sorted(os.listdir(jobs.logs / "shell_1")) == ["out.txt", "shell.out.txt", "x.log"]
    assert (jobs.logs / "shell_1").stat().st_mode & 0o777 == 0o700
    jobs.clean()
    assert jobs.untouched()


def test_r12_logs_after_failure_only(jobs: Jobs) -> None:
    jobs.clean(logs="failed")
    assert not jobs.folder.exists() and not jobs.logs.exists()
    for lines, reason in (
        (("ExitCode = 3",), "exit"),
        (("ExitBySignal = true",), "exit"),
        ((), "remove"),
        ((), "evict"),
    ):
        jobs.folder.mkdir()
        (jobs.folder / "out.txt").write_text("why")
        jobs.clean(*lines, reason=reason, logs="failed")
        assert not jobs.folder.exists() and (jobs.logs / "shell_1/out.txt").read_text() == "why"
        (jobs.logs / "shell_1/out.txt").unlink()


def test_r12_logs_for_so_many_days(jobs: Jobs) -> None:
    jobs.clean(log_days=14)
    (jobs.logs / "link").symlink_to(jobs.outside)
    (jobs.logs / "file").write_text("theirs")
    jobs.clean(log_days=14, now=time.time() + 13 * 86400)
    assert (jobs.logs / "shell_1/out.txt").exists()
    jobs.clean(log_days=14, now=time.time() + 15 * 86400)
    assert sorted(os.listdir(jobs.logs)) == ["file", "link"] and jobs.untouched()


@pytest.mark.parametrize(
    "line", ["HMDCUseXpra = false", "HMDCUseXpra = undefined", 'HMDCUseXpra = "true"', "HMDCUseXpra = 1"]
)
def test_r12_no_session_nothing_removed(jobs: Jobs, line: str) -> None:
    jobs.clean(line)
    assert (jobs.folder / "deep/er/y").exists()


def test_r12_ways_out(jobs: Jobs) -> None:
    link = jobs.root / "link"
    link.symlink_to("/")
    (jobs.root / "there").symlink_to(jobs.outside)
    (jobs.root / "file").write_text("x")
    for path in (
        "/home/x/../..",
        f"{jobs.root}/..",
        f"{jobs.folder}/../../outside",
        f"{jobs.root}",
        f"{jobs.root}/",
        f"{jobs.root}/link",
        f"{jobs.root}/link/",
        f"{jobs.root}/there",
        f"{jobs.root}/there/precious.txt",
        f"{jobs.root}/link{jobs.outside}",
        f"{jobs.root}/file",
        f"{jobs.outside}",
        f"{jobs.root}x/y",
        "/",
        "",
        "jobs",
        "~",
    ):
        with contextlib.suppress(common.Refused, OSError):
            jobs.clean(f"LocalJobDir = {common.classad.quote(path)}")
        assert jobs.untouched() and (jobs.folder / "deep/er/y").exists() and link.is_symlink(), path
    for value in ("undefined", "7", 'strcat("/x",Nobody)', "LocalJobDir"):
        with contextlib.suppress(common.Refused):
            jobs.clean(f"LocalJobDir = {value}")
        assert (jobs.folder / "deep/er/y").exists()


def test_r12_links_inside_are_removed_not_followed(jobs: Jobs) -> None:
    (jobs.folder / "to").symlink_to(jobs.outside)
    (jobs.folder / "deep/up").symlink_to("..")
    (jobs.folder / "evil.txt").symlink_to(jobs.outside / "precious.txt")
    os.mkfifo(jobs.folder / "pipe.log")
    jobs.clean()
    assert not jobs.folder.exists() and jobs.untouched()
    assert sorted(os.listdir(jobs.logs / "shell_1")) == ["out.txt", "shell.out.txt", "x.log"]


def test_r12_a_root_behind_a_link_of_the_site(jobs: Jobs, tmp_path: Path) -> None:
    """Homes are often a link to a file server; that is resolved, on both sides."""
    (tmp_path / "home").symlink_to(tmp_path / "jobs")
    jobs.clean(f'LocalJobDir = "{tmp_path}/home/shell_1"', job_roots=[f"{tmp_path}/home"])
    assert not jobs.folder.exists() and jobs.untouched()


def test_r12_folders_without_rights_go_too(jobs: Jobs) -> None:
    (jobs.folder / "deep").chmod(0)
    jobs.clean()
    assert not jobs.folder.exists()


def test_r12_another_file_system_is_not_entered(jobs: Jobs) -> None:
    top = os.open(jobs.root, os.O_RDONLY)
    with pytest.raises(OSError, match="another file system"):
        hook.remove_tree(top, "shell_1", os.fstat(top).st_dev + 1)
    os.close(top)
    assert (jobs.folder / "out.txt").exists()


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the folder of logs be on another file system."""
    rename = os.rename

    def refuses(src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if src_dir_fd != dst_dir_fd:
            raise OSError(errno.EXDEV, "Invalid cross-device link", src)
        rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", refuses)


def test_r12_logs_go_to_another_file_system(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(monkeypatch)
    # what lies there is older than any hook
    monkeypatch.setattr(hook, "HALF_AGE", -1)
    large = os.urandom(3 << 20)
    (jobs.folder / "x.log").write_bytes(large)
    os.utime(jobs.folder / "out.txt", (1000, 2000))
    # of a run that was killed, and of the same job when it was evicted
    (jobs.logs / "shell_1").mkdir(parents=True)
    (jobs.logs / "shell_1" / hook.HALF).write_text("half")
    (jobs.logs / "shell_1" / "out.txt").write_text("before")
    (jobs.folder / "evil.txt").symlink_to(jobs.outside / "precious.txt")
    jobs.clean()
    kept = jobs.logs / "shell_1"
    assert not jobs.folder.exists() and jobs.untouched()
    assert sorted(os.listdir(kept)) == ["out.1.txt", "out.txt", "shell.out.txt", "x.log"]
    assert (kept / "x.log").read_bytes() == large and (kept / "out.txt").read_text() == "before"
    assert (kept / "out.1.txt").read_text() == "out.txt"
    assert {(kept / one).stat().st_mode & 0o777 for one in os.listdir(kept) if one != "out.txt"} == {0o600}
    assert (kept / "out.1.txt").stat().st_mtime == 2000


@pytest.mark.parametrize("far", [False, True])
def test_r12_each_run_of_a_job_keeps_its_logs(jobs: Jobs, monkeypatch: pytest.MonkeyPatch, far: bool) -> None:
    """An evicted job starts again in a folder of the same name, where it makes logs of the same names."""
    if far:
        elsewhere(monkeypatch)
    kept = jobs.logs / "shell_1"
    kept.mkdir(parents=True)
    # another host copies at this moment
    (kept / f"{hook.HALF}.h9.1").write_text("half")
    for run in ("first", "second", "third"):
        jobs.folder.mkdir(exist_ok=True)
        (jobs.folder / "out.txt").write_text(run)
        jobs.clean(reason="evict")
        assert not jobs.folder.exists()
    said = {one: (kept / one).read_text() for one in os.listdir(kept)}
    assert said == {
        "out.txt": "first",
        "out.1.txt": "second",
        "out.2.txt": "third",
        "shell.out.txt": "shell.out.txt",
        "x.log": "x.log",
        f"{hook.HALF}.h9.1": "half",
    }


@pytest.mark.parametrize("far", [False, True])
def test_r12_hooks_at_the_same_time_take_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: bool
) -> None:
    """What looks free may be taken a moment later; and there are only so many names."""
    if far:
        elsewhere(monkeypatch)
    monkeypatch.setattr(hook, "RUNS", 20)
    (tmp_path / "logs").mkdir()
    place = os.open(tmp_path / "logs", os.O_RDONLY)
    children = []
    for one in range(4):
        (tmp_path / str(one)).mkdir()
        children.append(os.fork())
        if children[-1] == 0:
            code = 1
            try:
                folder = os.open(tmp_path / str(one), os.O_RDONLY)
                for number in range(5):
                    (tmp_path / str(one) / "out.txt").write_text(f"{one} {number}")
                    hook.move("out.txt", folder, place)
                code = 0
            finally:
                os._exit(code)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    said = [(tmp_path / "logs" / one).read_text() for one in os.listdir(place)]
    assert sorted(said) == sorted(f"{one} {number}" for one in range(4) for number in range(5))
    (tmp_path / "0/out.txt").write_text("one more")
    folder = os.open(tmp_path / "0", os.O_RDONLY)
    with pytest.raises(FileExistsError, match="20 logs of this name are kept already"):
        hook.move("out.txt", folder, place)
    assert len(os.listdir(place)) == 20 and (tmp_path / "0/out.txt").read_text() == "one more"
    os.close(place)
    os.close(folder)


def test_r12_logs_go_to_a_real_other_file_system(jobs: Jobs) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == jobs.root.stat().st_dev:
            pytest.skip("/dev/shm is the file system of the test's folder")
        jobs.clean(log_root=other)
        assert not jobs.folder.exists()
        assert sorted(os.listdir(f"{other}/shell_1")) == ["out.txt", "shell.out.txt", "x.log"]


def test_r12_a_log_that_cannot_be_copied_stays_and_nothing_half_is_left(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere(monkeypatch)
    sync, calls = os.fsync, []

    def full(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(fd)

    monkeypatch.setattr(os, "fsync", full)
    jobs.clean()
    assert "the log shell.out.txt stays in the folder of the job" in capsys.readouterr().err
    assert sorted(os.listdir(jobs.logs / "shell_1")) == ["out.txt", "x.log"]
    assert (jobs.folder / "shell.out.txt").read_text() == "shell.out.txt"
    assert not (jobs.folder / "out.txt").exists()


def test_r12_mounts_are_seen(tmp_path: Path) -> None:
    """A part of the same file system, mounted there, has no other device."""
    table = tmp_path / "mountinfo"
    table.write_text("36 25 8:1 /data /home/x/jobs/a\\040b/deep rw - ext4 /dev/sda1 rw\n")
    assert hook.mounted_below("/home/x/jobs/a b", str(table)) and not hook.mounted_below("/home/x/jobs/a", str(table))


PATHS = st.lists(st.sampled_from(["..", ".", "", "shell_1", "deep", "there", "other", "outside", "jobs"]), max_size=6)


@profile(max_examples=60)
@given(PATHS)
def test_r12_nothing_outside_whatever_the_path(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    jobs = Jobs(tmp_path_factory.mktemp("any"))
    (jobs.root / "there").symlink_to(jobs.outside)
    with contextlib.suppress(common.Refused, OSError):
        jobs.clean(f'LocalJobDir = "{"/".join([str(jobs.root), *parts])}"')
    assert (jobs.outside / "precious.txt").exists() and jobs.root.is_dir()


def test_r12_always_0_and_in_time(tmp_path: Path) -> None:
    home = Home(tmp_path / "hooks", job_roots=[f"{tmp_path}/jobs"], log_root=f"{tmp_path}/logs", time_limit=20)
    begun = time.monotonic()
    for ad in (b"", b"\xff", recorded("exit-23.ad"), recorded("exit-25.ad", 'LocalJobDir = "/home/x/../.."')):
        for words in ((), ("exit",), ("remove",), ("odd", "words")):
            done = home.run("exit", *words, ad=ad)
            assert (done.returncode, done.stdout) == (0, b"")
    (home.folder / "settings.json").unlink()
    assert home.run("exit", ad=recorded("exit-25.ad")).returncode == 0
    assert time.monotonic() - begun < 60
    with pytest.raises(common.Refused, match="no answer"):
        common.bounded(lambda: time.sleep(60), 0.2)


@pytest.mark.skipif(os.getuid() != 0, reason="shows that root removes nothing, so only as root")
def test_r12_never_as_root(jobs: Jobs, tmp_path: Path) -> None:
    home = Home(tmp_path / "hooks", job_roots=[str(jobs.root)], log_root=str(jobs.logs))
    done = home.run("exit", "exit", ad=recorded("exit-25.ad", f'LocalJobDir = "{jobs.folder}"'))
    assert done.returncode == 0 and b"nothing is removed as root" in done.stderr and jobs.folder.exists()
