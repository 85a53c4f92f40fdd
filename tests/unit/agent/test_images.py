# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image whose digest takes longer than a request holds up nobody else, and is read once."""

from __future__ import annotations

import contextlib
import hashlib
import time
import types
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _apptainer, _logs, _manager
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

ME = _logs.account(None)
# it waits as long as there is a file that says so
SLOW = '#!/bin/sh\necho x >> {0}/runs\nwhile [ -e {0}/slow ]; do sleep 0.05; done\nexec /usr/bin/sha256sum "$@"\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_manager, "PATHS", f"{tmp_path}/bin:/usr/bin:/bin")
    for name in ("bin", "state", "img"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin" / "sha256sum").write_text(SLOW.format(tmp_path))
    (tmp_path / "bin" / "sha256sum").chmod(0o755)
    (tmp_path / "img" / "x.sif").write_bytes(b"old")
    (tmp_path / "source").write_bytes(b"new")
    return tmp_path


def work(place: Path, seconds: float = 20) -> types.SimpleNamespace:
    return types.SimpleNamespace(folder=str(place / "state"), ends=time.monotonic() + seconds)


def runs(place: Path) -> int:
    return len((place / "runs").read_text().split())


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def until_done(place: Path, box: dict) -> None:
    """As passes do, one after the other."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        with contextlib.suppress(Failed):
            return _apptainer.provide(work(place), box, ME, {})
        time.sleep(0.1)
    raise AssertionError("it never came to its end")


def test_a_check_goes_on_beyond_the_request_and_takes_no_more_than_its_share(place: Path) -> None:
    box = {"image": str(place / "img" / "x.sif"), "digest": digest(b"old")}
    (place / "slow").touch()
    begun = time.monotonic()
    with pytest.raises(Failed, match=r"x\.sif is being checked, pid") as raised:
        _apptainer.provide(work(place, 1), box, ME, {})
    # half of the request is left for others
    assert raised.value.outcome == "refused" and time.monotonic() - begun < 0.9
    begun = time.monotonic()
    with pytest.raises(Failed, match=r"x\.sif is being checked") as raised:
        _apptainer.provide(work(place), box, ME, {})
    assert raised.value.outcome == "refused" and time.monotonic() - begun < 2 and runs(place) == 1
    (place / "slow").unlink()
    until_done(place, box)
    _apptainer.provide(work(place), box, ME, {})
    assert runs(place) == 1 and list((place / "state" / "images").iterdir()) == []
    # another content is another image, also where what was begun for the last one is still there
    (place / "img" / "x.sif").write_bytes(b"other")
    with pytest.raises(Failed, match="is declared, and there is no source"):
        _apptainer.provide(work(place), box, ME, {})
    assert runs(place) == 2


def test_what_was_fetched_is_checked_once_and_nobody_fetches_meanwhile(place: Path) -> None:
    image, source = place / "img" / "x.sif", place / "source"
    box = {"image": str(image), "source": str(source), "digest": digest(b"new")}
    with pytest.raises(Failed, match="no source"):
        _apptainer.provide(work(place), {"image": str(image), "digest": digest(b"new")}, ME, {})
    (place / "slow").touch()
    with pytest.raises(Failed, match=r"x\.sif\.fetched is being checked, pid"):
        _apptainer.provide(work(place, 5), box, ME, {})
    with pytest.raises(Failed, match=r"x\.sif is being fetched or checked"):
        _apptainer.provide(work(place), box, ME, {})
    assert image.read_bytes() == b"old"
    (place / "slow").unlink()
    until_done(place, box)
    assert image.read_bytes() == b"new" and runs(place) == 2
    until_done(place, box)
    assert runs(place) == 2


def test_an_image_that_cannot_be_read_is_told(place: Path) -> None:
    box = {"image": str(place / "img" / "x.sif"), "digest": digest(b"old")}
    (place / "bin" / "sha256sum").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(Failed, match=r"x\.sif: cannot be read to its end") as raised:
        _apptainer.provide(work(place), box, ME, {})
    assert raised.value.outcome == "failed"
