# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real virtual environments from a folder of wheels that is made here: no network, and the real pip."""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.wheels import wheel

from ansible_collections.sciops.sites.plugins.module_utils import _install_venv, _installs, _place

SECONDS = 300


class Target:
    """One target on this machine, its wheels beside it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.wheels = folder / "acme-dev", folder / "wheels"
        self.wheels.mkdir()
        self.builds = self.root / "builds"

    def settings(self, requirements: str, **more: Any) -> dict[str, Any]:
        options = more.pop("options", ["--no-index", "--find-links", str(self.wheels)])
        return {
            "path": str(self.root / "site"),
            "python": sys.executable,
            "requirements": requirements,
            "options": options,
            **more,
        }

    def build(
        self, requirements: str, version: str = "1", secrets: dict | None = None, **more: Any
    ) -> tuple[bool, dict]:
        settings = _installs.fit("venv", self.settings(requirements, **more), secrets or {})
        build = _installs.identify("venv", settings, version, str(self.root))
        return _installs.provide(build, settings, str(self.root), SECONDS), build

    def refused(self, requirements: str, **more: Any) -> _installs.Failure:
        with pytest.raises(_installs.Failure) as caught:
            self.build(requirements, **more)
        return caught.value

    def names(self) -> list[str]:
        return sorted(path.name for path in self.builds.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


def says(build: dict, program: str = "acme") -> str:
    return subprocess.run(
        [build["target"] + "/bin/" + program], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_good_build_runs_is_made_once_and_stands_beside_the_old(target: Target) -> None:
    old_umask = os.umask(0o077)
    try:
        made, one = target.build(wheel(target.wheels, "acme", "1.0"), smoke=["acme"])
    finally:
        os.umask(old_umask)
    assert made and says(one) == "acme 1.0"
    assert one["link"] == str(target.root / "site") and not (target.root / "site").exists()
    assert one["target"] == str(target.builds / f"venv-{one['id']}")
    # others may use it, whatever the umask of the caller was
    assert Path(one["target"]).stat().st_mode & 0o777 == 0o755
    assert (Path(one["target"]) / "bin" / "acme").stat().st_mode & 0o777 == 0o755
    before = Path(one["target"], "bin", "acme").stat()
    made, again = target.build(wheel(target.wheels, "acme", "1.0"), version="another name of it")
    assert not made and again == one
    made, two = target.build(wheel(target.wheels, "acme", "2.0"))
    assert made and says(two) == "acme 2.0" and says(one) == "acme 1.0"
    assert Path(one["target"], "bin", "acme").stat() == before
    assert _installs.present(str(target.root)) == [f"venv-{two['id']}", f"venv-{one['id']}"]
    assert not [name for name in target.names() if name.startswith(".private")]


def test_what_is_built_depends_on_all_that_goes_in_and_on_nothing_else(target: Target) -> None:
    line = wheel(target.wheels, "acme", "1.0")

    def ident(requirements: str = line, version: str = "1", **more: Any) -> str:
        settings = _installs.fit("venv", target.settings(requirements, **more), {})
        return _installs.identify("venv", settings, version, str(target.root))["id"]

    same = ident()
    assert ident("# a comment\n\n" + line) == same and ident(version="2") == same
    others = [ident(prelude="true"), ident(options=[]), ident("acme==1.0")]
    assert len({same, *others}) == 4
    # what is not locked is another thing with each version
    assert ident("acme", unlocked=True) != ident("acme", version="2", unlocked=True)


def test_a_build_that_fails_leaves_its_log_and_the_old_build(target: Target) -> None:
    _made, one = target.build(wheel(target.wheels, "acme", "1.0"))
    before = target.names()
    failure = target.refused("acme==9.9")
    assert (
        "pip install: exit status 1" in str(failure) and "9.9" in str(failure) and failure.facts["log"] in str(failure)
    )
    assert any("acme==9.9" in line for line in failure.facts["log_tail"])
    left = set(target.names()) - set(before)
    assert left == {Path(failure.facts["log"]).name} and says(one) == "acme 1.0"
    # a set that does not fit together, and one whose program does not even start
    failure = target.refused(wheel(target.wheels, "needy", "1.0", needs="absent>=2").split()[0])
    assert "pip check" in str(failure) and "absent" in str(failure)
    failure = target.refused(wheel(target.wheels, "crash", "1.0", code="raise SystemExit('so sad')"), smoke=["crash"])
    assert "venv.smoke: exit status 1: so sad" in str(failure)
    assert [name for name in target.names() if not name.endswith(".log")] == [
        n for n in before if not n.endswith(".log")
    ]


def test_another_wheel_than_the_one_that_was_locked_is_refused(target: Target) -> None:
    line = wheel(target.wheels, "acme", "1.0")
    wheel(target.wheels, "acme", "1.0", code="evil = True")
    failure = target.refused(line)
    assert "DO NOT MATCH" in "\n".join(failure.facts["log_tail"])
    assert _installs.present(str(target.root)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("site", "'site' is not locked"),
        ("site>=1.0", "is not locked"),
        ("site==1.*", "is not locked"),
        ("site @ https://h.example.org/site.whl", "is not locked"),
        ("site==1.0\nother==1 --hash=sha256:00", "some lines have --hash"),
        ("-r other.txt", "write out"),
        ("-e .", "write out"),
        ("# nothing\n", "nothing is required"),
        ("--index-url https://u:pw@h.example.org/\nsite==1", "use index_url"),
    ],
)
def test_what_is_not_locked_is_refused_before_anything_is_made(target: Target, text: str, words: str) -> None:
    assert words in str(target.refused(text))
    assert not target.root.exists()


@pytest.mark.parametrize(
    ("text", "lock"),
    [
        ("a==1 --hash=sha256:00\nb==2 \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\n", "hashes"),
        ("--no-binary :all:\na[x,y]==1.0 ; python_version > '3'  # why\n", "versions"),
        ("a @ file:///srv/a.whl --hash=sha256:00", "hashes"),
        ("a===1.0+local", "versions"),
    ],
)
def test_how_far_requirements_are_locked(text: str, lock: str) -> None:
    assert _install_venv.lock_of(text) == lock


def test_faults_of_settings_are_told_all_at_once(target: Target) -> None:
    with pytest.raises(_installs.Failure) as caught:
        _installs.fit(
            "venv", {"pyhton": "x", "options": "x", "index_url": "s3cret"}, {"password": "x", "index_url": ""}
        )
    words = (
        "pyhton: no such setting",
        "options: 'x': must be a list",
        "give it in secrets",
        "password: no such secret",
    )
    assert not [word for word in (*words, "not empty") if word not in str(caught.value)]
    assert "s3cret" not in str(caught.value)
    with pytest.raises(_installs.Failure, match=r"install\.method: conda: there are none, venv, apptainer"):
        _installs.fit("conda", {}, {})


# --- what is cut off, and what runs at one time

RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder
_AnsibleCollectionFinder(paths=[sys.argv[1]])._install()
from ansible_collections.sciops.sites.plugins.module_utils import _installs
settings, root = json.loads(sys.argv[2]), sys.argv[3]
build = _installs.identify("venv", settings, "1", root)
print(json.dumps(_installs.provide(build, settings, root, 300)))
"""


@pytest.fixture
def begin(root: Path, target: Target) -> Iterator[Callable[[dict], subprocess.Popen]]:
    """Build in a process of its own, with a group of its own."""
    linked = root / ".collections"
    place = str(linked if linked.exists() else root.parents[2])
    made: list[subprocess.Popen] = []

    def start(settings: dict) -> subprocess.Popen:
        argv = [sys.executable, "-c", RUN, place, json.dumps(settings), str(target.root)]
        made.append(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return made[-1]

    yield start
    for one in made:
        one.kill()
        one.communicate()


def wait(look: Callable[[], Any], seconds: float = 120) -> Any:
    ends = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.02)
    return look()


def test_a_build_that_was_killed_is_made_again(target: Target, begin: Callable[[dict], subprocess.Popen]) -> None:
    line, gate = wheel(target.wheels, "acme", "1.0"), target.wheels / "gate"
    _made, old = target.build(wheel(target.wheels, "acme", "0.9"))
    # the last command of a build waits here until it is told to go on
    script = f"touch {gate}.there; while [ ! -e {gate} ]; do sleep 0.05; done"
    settings = target.settings(line, smoke=["sh", "-c", script])
    child = begin(settings)
    wait(Path(f"{gate}.there").exists)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert len(_installs.present(str(target.root))) == 1
    assert [name for name in target.names() if name.startswith(".private")]
    # what it had started lives on, and nobody builds in the same place meanwhile
    second = begin(settings)
    time.sleep(0.5)
    assert second.poll() is None
    gate.touch()
    assert json.loads(second.communicate(timeout=SECONDS)[0]) is True
    assert not [name for name in target.names() if name.startswith(".private")]
    made, build = target.build(line, smoke=settings["smoke"])
    assert not made and says(build) == "acme 1.0" and says(old) == "acme 0.9"


def test_of_two_at_one_time_one_builds(target: Target, begin: Callable[[dict], subprocess.Popen]) -> None:
    settings = target.settings(wheel(target.wheels, "acme", "1.0"))
    two = [begin(settings), begin(settings)]
    said = [one.communicate(timeout=SECONDS) for one in two]
    assert sorted(out.strip() for out, _err in said) == ["false", "true"], said


def test_a_build_that_takes_too_long_is_ended(target: Target) -> None:
    settings = target.settings(wheel(target.wheels, "acme", "1.0"), smoke=["sleep", "1000"])
    build = _installs.identify("venv", settings, "1", str(target.root))
    with pytest.raises(_installs.Failure, match="did not end within the timeout"):
        _installs.provide(build, settings, str(target.root), 3)
    assert not Path(build["target"]).exists()


# --- prelude, index, space


def test_the_prelude_runs_in_a_login_shell_before_each_command(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    home = target.wheels.parent / "home"
    home.mkdir()
    (home / ".bash_profile").write_text(
        f'echo welcome; module() {{ [ "$1" = load ] && [ "$2" = python ] && export PATH="{home}/bin:$PATH"; }}\n'
    )
    (home / "bin").mkdir()
    (home / "bin" / "python-of-module").symlink_to(sys.executable)
    monkeypatch.setenv("HOME", str(home))
    line = wheel(target.wheels, "acme", "1.0")
    made, build = target.build(line, python="python-of-module", prelude="module load python # why")
    assert made and says(build) == "acme 1.0"
    failure = target.refused(line, python="python-of-module", prelude="module load pyton")
    assert "after 'module load pyton' does not run: exit status 1" in str(failure)
    lacking = target.settings(line, python="no-such-python", options=["--find-links=/no/such/folder"])
    words = _installs.missing("venv", lacking)
    assert [word.split(":", maxsplit=1)[0] for word in words] == ["venv.python", "venv.options"]
    assert _installs.missing("venv", target.settings("files/requirements.txt")) == []


def test_a_private_index_takes_its_password_from_no_command_line(target: Target) -> None:
    line, password, asked, seen = wheel(target.wheels, "acme", "1.0"), "s3cret%40!", [], []

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            words = (self.headers.get("Authorization") or "").partition(" ")[2]
            asked.append(base64.b64decode(words).decode())
            for entry in Path("/proc").glob("[0-9]*"):
                with_it = (entry / "cmdline", password), (entry / "cmdline", "s3cret@!")
                seen.extend(str(path) for path, word in with_it if word in text_of(path))
            if not words:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.end_headers()
                return
            path = target.wheels / self.path.rpartition("/")[2].partition("#")[0]
            body = (
                path.read_bytes()
                if path.is_file()
                else b'<a href="/f/acme-1.0-py3-none-any.whl">acme-1.0-py3-none-any.whl</a>'
            )
            self.send_response(200)
            self.send_header("Content-Type", "application/zip" if path.is_file() else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    def text_of(path: Path) -> str:
        try:
            return path.read_text(errors="replace")
        except OSError:
            return ""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://ci:{password}@127.0.0.1:{server.server_port}/simple"
        made, build = target.build(line, options=["--no-cache-dir", "-v"], secrets={"index_url": url})
    finally:
        server.shutdown()
        server.server_close()
    assert made and says(build) == "acme 1.0"
    assert "ci:s3cret@!" in asked and not seen
    for path in target.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            assert password.encode() not in data and b"s3cret@!" not in data, path


def test_a_root_that_cannot_be_written_is_told(target: Target) -> None:
    target.root.write_text("a file")
    with pytest.raises(_place.Misplaced, match="acme-dev"):
        target.build(wheel(target.wheels, "acme", "1.0"))
    target.root.unlink()
    target.root.mkdir()
    (target.root / "builds").symlink_to("/proc/sys")
    failure = target.refused(wheel(target.wheels, "acme", "1.0"))
    assert "/builds/.lock: " in str(failure)


# --- pruning


def test_pruning_keeps_the_newest_and_all_that_a_release_needs(target: Target) -> None:
    root, names = str(target.root), []
    target.builds.mkdir(parents=True)
    for number in range(6):
        name = f"venv-{number:012d}" if number else f"apptainer-{number:012d}"
        place = target.builds / (name if number else name + ".sif")
        place.mkdir() if number else place.write_text("image")
        for end in (".json", ".log"):
            path = target.builds / (name + end)
            path.write_text("{}")
            os.utime(path, (1000 + number, 1000 + number))
        names.append(name)
    for number in range(5):
        path = target.builds / f"venv-{number:011d}f.log"
        path.write_text("a build that failed")
        os.utime(path, (number, number))
    (target.builds / "somebody.else").write_text("")
    manifest = target.root / ".sciops" / "releases" / "1-0" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"build": {"target": str(target.builds / names[1])}}))
    (manifest.parent.parent / "none").mkdir()
    (manifest.parent.parent / "none" / "manifest.json").write_text('{"build": null}')
    assert _installs.prune(root, 2, _installs.used(root)) == [names[3], names[2], names[0]]
    left = {f"{names[n]}{end}" for n in (1, 4, 5) for end in ("", ".json", ".log")}
    failed = {f"venv-{number:011d}f.log" for number in (3, 4)}
    assert set(target.names()) == left | failed | {".lock", "somebody.else"}
    assert _installs.prune(root, 2, _installs.used(root)) == []
    manifest.write_text("{")
    with pytest.raises(_installs.Failure, match=r"manifest\.json: not a readable manifest"):
        _installs.used(root)
    shutil.rmtree(target.builds)
    assert _installs.prune(root, 2, set()) == []


def test_a_build_whose_python_is_gone_is_made_again(target: Target) -> None:
    line = wheel(target.wheels, "acme", "1.0")
    _made, build = target.build(line)
    python = Path(build["target"], "bin", "python")
    python.unlink()
    python.symlink_to("/no/such/python")
    assert not _installs.whole(build)
    assert target.build(line)[0] and says(build) == "acme 1.0"
