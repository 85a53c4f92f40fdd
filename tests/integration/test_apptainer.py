# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of containers on a real host: fetched when the digest is new, switched whole, the last ones kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bed.fleet import Fleet
from conformance.launchers import KINDS, Host, unique

pytestmark = pytest.mark.hosts
ONE, TWO = "/opt/images/one.sif", "/opt/images/two.sif"


@pytest.fixture(scope="module")
def made(fleet: Callable[..., Fleet]) -> Iterator[Fleet]:
    with fleet(1, "light", "cluster") as one:
        yield one


@pytest.fixture
def host(made: Fleet) -> Iterator[Host]:
    one = Host(made, "h1", KINDS["apptainer"], "apptainer")
    one.sh("rm -rf img; mkdir img")
    yield one
    one.clean()


def digest(host: Host, path: str) -> str:
    return "sha256:" + host.root(f"sha256sum {path}").split()[0]


def box(host: Host, source: str | None, **more: Any) -> dict:
    return {"image": f"{host.home}/img/x.sif", "source": source, "binds": ["/usr:/usr:ro"], "keep": 2} | more


def test_w13_an_image_is_fetched_when_its_digest_is_new(host: Host) -> None:
    one, two, what = digest(host, ONE), digest(host, TWO), unique()
    start = host.action("/bin/sleep", what, container=box(host, ONE, digest=one))
    (result,) = host.apply(start)
    assert result["outcome"] == "started", str(result)
    there = host.sh("stat -c '%i %Y' img/x.sif")
    (result,) = host.apply(host.action("/bin/sleep", what, slot=2, container=box(host, ONE, digest=one)))
    assert result["outcome"] == "started", str(result)
    assert host.sh("stat -c '%i %Y' img/x.sif") == there
    # a source that is gone is not asked for while the digest is there
    gone = box(host, "/no/such/file", digest=one)
    (result,) = host.apply(host.action("/bin/sleep", what, slot=3, container=gone))
    assert result["outcome"] == "started", str(result)
    (result,) = host.apply(host.action("/bin/sleep", what, slot=4, container=box(host, TWO, digest=two)))
    assert result["outcome"] == "started", str(result)
    assert digest(host, f"{host.home}/img/x.sif") == two
    # those of before go on with the image that they began with
    assert len(host.pids(f"sleep {what}")) == 4
    assert host.sh("apptainer instance list 2>/dev/null").count(".sif") == 4


def test_w13_the_last_images_are_kept(host: Host) -> None:
    for path in (ONE, TWO, ONE, TWO):
        wanted = box(host, path, digest=digest(host, path))
        row = host.start("/bin/sleep", unique(), container=wanted)
        host.stop(row)
        host.root("sleep 1.1")
    kept = host.sh("ls img").split()
    assert len([name for name in kept if name.startswith("x.sif.1")]) == 1, kept
    assert not [name for name in kept if name.endswith((".part", ".fetched"))], kept


def test_an_image_with_another_digest_is_refused_and_the_old_one_stays(host: Host) -> None:
    one, two = digest(host, ONE), digest(host, TWO)
    host.stop(host.start("/bin/sleep", unique(), container=box(host, ONE, digest=one)))
    (result,) = host.apply(host.action("/bin/sleep", "9", container=box(host, ONE, digest=two)))
    assert result["outcome"] == "failed" and two[:19] in result["message"] and one[:19] in result["message"], result
    assert digest(host, f"{host.home}/img/x.sif") == one
    (result,) = host.apply(host.action("/bin/sleep", "9", container=box(host, None, digest=two)))
    assert result["outcome"] == "failed" and "no source" in result["message"], result
    (result,) = host.apply(host.action("/bin/sleep", "9", container=box(host, "/no/such.sif", digest=two)))
    assert result["outcome"] == "failed" and "/no/such.sif" in result["message"], result
    assert host.rows() == []


def test_a_slow_fetch_goes_on_beyond_the_request(host: Host) -> None:
    what = unique()
    host.sh("mkfifo img/source")
    action = host.action("/bin/sleep", what, container=box(host, f"{host.home}/img/source"))
    boot = host.ask()["boot_id"]
    for _twice in range(2):
        told = host.ask("apply", actions=[action], expect={"boot_id": boot}, timeout=5)
        (result,) = told["results"]
        assert result["outcome"] == "refused" and "is being fetched" in result["message"], result
    host.sh(f"cat {ONE} > img/source")
    host.until(lambda: "x.sif.fetched" in host.sh("ls img"))
    (result,) = host.apply(action)
    assert result["outcome"] == "started", str(result)
    assert digest(host, f"{host.home}/img/x.sif") == digest(host, ONE)
    host.stop(*host.rows())
    # the same source is not fetched again
    host.sh("rm img/source")
    (result,) = host.apply(host.action("/bin/sleep", what, container=action["container"]))
    assert result["outcome"] == "started", str(result)


def test_w13_what_apptainer_is_given(host: Host) -> None:
    """cleanenv, an environment file without a name, binds and own words; no secret in any command line."""
    value = f"s3cret-{unique()}"
    host.file("shim", '#!/bin/sh\ntr "\\0" "\\n" < /proc/$$/cmdline >> ~/words\nexec /usr/bin/apptainer "$@"\n')
    kind = {"program": f"{host.home}/shim"}
    more = {"options": ["--no-home"], "binds": ["/usr:/usr:ro"]}
    action = host.action("/bin/sh", "-c", 'echo "$A/$KEY"; exec sleep 99', environment={"A": "a $b"}, manager=kind)
    action |= {"container": box(host, ONE, **more), "secrets": {"KEY": {"value": value}}}
    (result,) = host.apply(action, launchers={"apptainer": kind})
    assert result["outcome"] == "started", str(result)
    words = host.sh("cat words").splitlines()
    begin = words.index("instance")
    assert words[begin : begin + 4] == ["instance", "start", "--cleanenv", "--no-eval"], words
    assert words[words.index("--bind") + 1] == "/usr:/usr:ro" and "--no-home" in words
    assert words[words.index("--env-file") + 1].startswith("/proc/self/fd/")
    assert value not in json.dumps(words) and value not in host.root("cat /proc/*/cmdline | tr '\\0' ' '")
    assert host.log(host.rows()[0]) == f"a $b/{value}"


def test_the_log_of_an_instance_may_be_on_another_file_system_than_the_home(host: Host) -> None:
    what = unique()
    host.root(f"test $(stat -c %d /dev/shm) != $(stat -c %d {host.home})")
    logs = "mkdir -p .apptainer/instances; find .apptainer/instances -type f"
    before = set(host.sh(logs).split())
    action = host.action("/bin/sh", "-c", f"echo one; echo two >&2; sleep 1; echo three; exec sleep {what}")
    action |= {"container": box(host, ONE), "log": {**action["log"], "path": f"/dev/shm/{what}.log"}}
    (result,) = host.apply(action)
    assert result["outcome"] == "started", str(result)
    (row,) = host.rows()
    host.until(lambda: "three" in host.log(row))
    assert sorted(host.log(row).split()) == ["one", "three", "two"]
    host.stop(row)
    host.until(lambda: set(host.sh(logs).split()) <= before)
