# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state folder: locks that end with their process, files that are whole or an error."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.plugin_utils import _store
from ansible_collections.sciops.sites.plugins.plugin_utils._store import Busy, Store, StoreError

HOLDER = textwrap.dedent(
    """
    import sys, time
    from ansible_collections.sciops.sites.plugins.plugin_utils._store import Store
    with Store(sys.argv[1], "wipac", "prod").lock("pass 7"):
        print("held", flush=True)
        time.sleep(60)
    """
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state", "wipac", "prod")


@pytest.fixture
def other_process(store: Store):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.root)], stdout=subprocess.PIPE, text=True, env=env()
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / ".collections")}


def test_j13_lock_of_another_process_is_busy_with_holder_and_age(store: Store, other_process) -> None:
    with pytest.raises(Busy) as caught, store.lock("pass 8"):
        pass
    assert caught.value.holder["pid"] == other_process.pid
    assert caught.value.holder["pass"] == "pass 7"
    assert caught.value.age is not None
    assert 0 <= caught.value.age < 30
    assert f"pid {other_process.pid}" in str(caught.value)
    assert store.holder()["pid"] == other_process.pid


def test_lock_ends_with_its_process_and_its_stale_text_blocks_nobody(store: Store, other_process) -> None:
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    assert json.loads((store.folder / "lock").read_text())["pid"] == other_process.pid
    assert store.holder() is None
    with store.lock("pass 8") as mine:
        assert mine["pid"] == os.getpid()
        assert store.holder()["pass"] == "pass 8"
    assert (store.folder / "lock").read_text() == ""


def test_lock_is_not_inherited_by_what_the_holder_starts(store: Store) -> None:
    with store.lock("pass 1"):
        child = subprocess.Popen(["sleep", "30"])
    try:
        with store.lock("pass 2"):
            pass
    finally:
        child.kill()
        child.wait()


def test_of_many_threads_and_processes_one_is_in_at_a_time(store: Store) -> None:
    inside = multiprocessing.Value("i", 0)
    worst = multiprocessing.Value("i", 0)
    taken = multiprocessing.Value("i", 0)

    def work() -> None:
        mine, deadline = 0, time.monotonic() + 60
        while mine < 20 and time.monotonic() < deadline:
            try:
                with store.lock("x"):
                    with inside.get_lock():
                        inside.value += 1
                        worst.value = max(worst.value, inside.value)
                        taken.value += 1
                    mine += 1
                    time.sleep(0.001)
                    with inside.get_lock():
                        inside.value -= 1
            except Busy:
                time.sleep(0.001)

    def threads() -> None:
        some = [threading.Thread(target=work) for _index in range(3)]
        for one in some:
            one.start()
        for one in some:
            one.join()

    processes = [multiprocessing.get_context("fork").Process(target=threads) for _index in range(2)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(90)
        assert one.exitcode == 0
    assert worst.value == 1
    assert taken.value == 2 * 3 * 20


def test_modes_are_private(store: Store) -> None:
    with store.lock("x"):
        store.reserve()
        store.save_memory({"number": 1})
        store.append_history({"number": 1})
        store.write_report({"outcome": "unchanged"})
        store.set_halt("ana", "flood")
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    names = list(store.folder.iterdir())
    assert {path.name for path in names} >= {"lock", "memory.json", "history.jsonl", "report.json", "HALT", "reserve"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in names} == {0o600}


def test_folder_that_anybody_may_write_is_refused(store: Store) -> None:
    store.folder.mkdir(parents=True)
    store.folder.chmod(0o777)
    with pytest.raises(StoreError, match="anybody may write"):
        store.reserve()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a.b", "a b", "-a", "a\n", "ä"])
def test_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="site"):
        Store(tmp_path, name, "prod")


def test_memory_comes_back_and_keeps_its_clock(tmp_path: Path) -> None:
    clock = {"boot_id": "a", "boottime": 100.0, "wall": 1e9}
    first = Store(tmp_path, "s", "d", clock=lambda: dict(clock))
    assert first.load_memory() == {}
    assert first.now() == 1e9
    first.save_memory({"number": 3, "hosts": {}})
    clock.update(boottime=160.0, wall=5.0)  # a minute later, with the wall clock set to 1970
    second = Store(tmp_path, "s", "d", clock=lambda: dict(clock))
    assert second.load_memory() == {"number": 3, "hosts": {}}
    assert second.now() == 1e9 + 60
    second.save_memory({"number": 4})
    clock.update(boot_id="b", boottime=2.0, wall=4e9)  # a reboot, and a wall clock far ahead
    assert Store(tmp_path, "s", "d", clock=lambda: dict(clock)).now() == 1e9 + 60 + 600
    assert json.loads((second.folder / "memory.json.previous").read_text())["memory"]["number"] == 3


@pytest.mark.parametrize("name", ["memory.json", "holds.json"])
@pytest.mark.parametrize(
    "text",
    ["", "   \n", "{", '{"version": 1, "memory": {"nu', "[]", "null", '{"version": 2}', '{"version": 1}', "\x00\xff"],
)
def test_damaged_file_is_an_error_that_names_it_never_an_empty_state(store: Store, name: str, text: str) -> None:
    store.folder.mkdir(parents=True)
    path = store.folder / name
    path.write_bytes(text.encode("latin-1"))
    read = store.load_memory if name == "memory.json" else store.load_holds
    with pytest.raises(StoreError, match=name) as caught:
        read()
    assert str(path) in str(caught.value)
    assert path.read_bytes() == text.encode("latin-1")


def test_every_truncation_of_the_memory_is_an_error(store: Store) -> None:
    store.save_memory({"number": 1, "pending": [{"host": "a"}]})
    path = store.folder / "memory.json"
    whole = path.read_bytes().rstrip()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError):
            Store(store.root, "wipac", "prod").load_memory()


def test_memory_that_may_not_be_read_is_an_error(store: Store) -> None:
    store.folder.mkdir(parents=True)
    (store.folder / "memory.json").mkdir()
    with pytest.raises(StoreError, match=r"memory\.json: cannot be read"):
        store.load_memory()


def test_clock_is_not_begun_anew_when_memory_is_saved_before_it_was_read(tmp_path: Path) -> None:
    clock = {"boot_id": "a", "boottime": 0.0, "wall": 1000.0}
    Store(tmp_path, "s", "d", clock=lambda: dict(clock)).save_memory({})
    clock.update(wall=999999.0, boottime=5.0)
    again = Store(tmp_path, "s", "d", clock=lambda: dict(clock))
    again.save_memory({})
    assert again.now() == 1005


@pytest.fixture
def small_disk(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("a disk of its own needs root")
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "small", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"a disk of its own needs mount: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    path = place / "filler"
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return path


def test_full_disk_is_seen_before_anything_is_touched(small_disk: Path) -> None:
    fill(small_disk)
    store = Store(small_disk, "wipac", "prod")
    with pytest.raises(StoreError, match="free space"):
        store.reserve()
    assert not (store.folder / "reserve").exists()


def test_disk_that_fills_during_a_pass_leaves_room_to_remember(small_disk: Path) -> None:
    store = Store(small_disk, "wipac", "prod")
    store.reserve()
    store.save_memory({"number": 1})
    filler = fill(small_disk)
    store.save_memory({"number": 2, "pending": [{"host": f"h{index}"} for index in range(1000)]})
    store.append_history({"number": 2})
    assert Store(small_disk, "wipac", "prod").load_memory()["number"] == 2
    fill(small_disk)
    with pytest.raises(StoreError, match="free space"):
        store.reserve()
    filler.unlink()
    (small_disk / "filler").unlink(missing_ok=True)
    store.reserve()


def test_failed_write_leaves_the_old_memory(small_disk: Path) -> None:
    store = Store(small_disk, "wipac", "prod")
    store.save_memory({"number": 1})
    fill(small_disk)
    with pytest.raises(StoreError, match="free space"):
        store.save_memory({"number": 2, "blob": "x" * 1_000_000})
    assert Store(small_disk, "wipac", "prod").load_memory() == {"number": 1}
    assert [path.name for path in store.folder.iterdir() if path.name.startswith(".memory.json.")] in (
        [],
        [".memory.json.previous"],
    )


def test_history_survives_a_torn_line(store: Store) -> None:
    store.append_history({"number": 1, "why": "größer"})
    path = store.folder / "history.jsonl"
    with path.open("ab") as file:
        file.write(b'{"number": 2, "pla')
    assert [one["number"] for one in store.read_history()[0]] == [1]
    store.append_history({"number": 3})
    entries, problems = store.read_history()
    assert [one["number"] for one in entries] == [1, 3]
    assert problems == [f"{path}:2: not a whole line, left out (18 bytes)"]


def test_history_rotates_and_the_tail_reads_across_files(store: Store) -> None:
    for number in range(100):
        store.append_history({"number": number}, max_bytes=200, keep=3)
    names = sorted(path.name for path in store.folder.glob("history.jsonl*"))
    assert names == ["history.jsonl", "history.jsonl.1", "history.jsonl.2", "history.jsonl.3"]
    assert [one["number"] for one in store.read_history(last=20)[0]] == list(range(80, 100))


def test_history_lines_of_many_writers_stay_whole(store: Store) -> None:
    def work(index: int) -> None:
        for number in range(50):
            store.append_history({"writer": index, "number": number, "blob": "y" * 5000})

    processes = [multiprocessing.get_context("fork").Process(target=work, args=(index,)) for index in range(3)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(60)
    entries, problems = store.read_history(last=1000)
    assert problems == []
    for index in range(3):
        assert [one["number"] for one in entries if one["writer"] == index] == list(range(50))


def test_j17_kill_switch_tells_by_whom_and_why(store: Store) -> None:
    assert store.halted() is None
    store.set_halt("ana", "flood in the machine room")
    found = store.halted()
    assert found is not None
    assert (found["by"], found["reason"]) == ("ana", "flood in the machine room")
    store.clear_halt()
    store.clear_halt()
    assert store.halted() is None


@pytest.mark.parametrize(
    ("text", "reason"), [("", "exists"), ("stop now", "stop now"), ("[1]", "[1]"), ('{"by": 1', '"by"')]
)
def test_kill_switch_counts_whatever_its_text(store: Store, text: str, reason: str) -> None:
    store.folder.mkdir(parents=True)
    (store.folder / "HALT").write_text(text)
    found = store.halted()
    assert found is not None
    assert reason in found["reason"]
    assert found["by"] == _store.login()


def test_kill_switch_that_cannot_be_read_counts(store: Store) -> None:
    store.folder.mkdir(parents=True)
    (store.folder / "HALT").mkdir()
    assert "cannot be read" in store.halted()["reason"]
    (store.folder / "HALT").rmdir()
    (store.folder / "HALT").symlink_to(store.folder / "nowhere")
    assert store.halted() is not None


def test_kill_switch_in_the_root_halts_every_site(store: Store) -> None:
    store.root.mkdir()
    (store.root / "HALT").write_text("all of it")
    assert store.halted()["reason"] == "all of it"
    store.clear_halt()
    assert store.halted() is not None


def test_holds_changed_by_two_at_once_are_all_kept(store: Store) -> None:
    def work(index: int) -> None:
        for number in range(20):
            with store.changing_holds() as keep:
                keep([*store.load_holds(), {"scope": f"host:{index}-{number}", "mode": "hold"}])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len({hold["scope"] for hold in store.load_holds()}) == 60


def test_reading_creates_nothing(store: Store) -> None:
    assert store.load_memory() == {}
    assert store.load_holds() == []
    assert store.holder() is None
    assert store.halted() is None
    assert store.read_history() == ([], [])
    assert store.read_report() is None
    assert not store.root.exists()


def test_default_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert _store.default_root({"SCIOPS_SITES_STATE_DIR": "/srv/s", "XDG_STATE_HOME": "/x"}) == Path("/srv/s")
    assert _store.default_root({"XDG_STATE_HOME": "/x"}) == Path("/x/sciops.sites")
    assert _store.default_root({}) == Path("/home/x/.local/state/sciops.sites")


def test_worst_outcome_wins() -> None:
    assert _store.worst([]) == "unchanged"
    assert _store.worst(["changed", "unchanged"]) == "changed"
    assert _store.worst(["unsafe", "not_converged", "busy"]) == "unsafe"
    assert _store.worst(["unsafe", "a new word"]) == "error"
    assert {
        word: _store.OUTCOMES[word] for word in ("unchanged", "changed", "not_converged", "unsafe", "halted", "error")
    } == {
        "unchanged": 0,
        "changed": 10,
        "not_converged": 20,
        "unsafe": 30,
        "halted": 40,
        "error": 1,
    }
