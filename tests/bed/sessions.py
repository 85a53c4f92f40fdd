# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool with what interactive sessions need on its hosts: hooks, xpra, a second schedd and a user."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from bed.condor import condor_pool
from bed.fleet import Fleet, until
from bed.play import Player

Run = Callable[..., list[dict]]
#: a second schedd on the same host, and hooks: the job's folder, and xpra around what wants it
CONFIG = """\
SCHEDD2 = $(SCHEDD)
SCHEDD2_ARGS = -local-name second
SECOND.SCHEDD_NAME = second@
SECOND.SCHEDD_LOG = $(LOG)/SchedLog.second
SECOND.SPOOL = /var/lib/condor/spool2
SECOND.HISTORY = /var/lib/condor/spool2/history
SECOND.JOB_QUEUE_LOG = /var/lib/condor/spool2/job_queue.log
SECOND.SCHEDD_ADDRESS_FILE = /var/lib/condor/spool2/.schedd_address
SECOND.SCHEDD_DAEMON_AD_FILE = /var/lib/condor/spool2/.schedd_classad
DAEMON_LIST = $(DAEMON_LIST) SCHEDD2
STARTER_JOB_HOOK_KEYWORD = HMDC
HMDC_HOOK_PREPARE_JOB = /opt/hooks/prepare
USER_JOB_WRAPPER = /opt/hooks/wrapper
"""
PREPARE = r"""
useradd -m -s /bin/bash ann
cp -r /home/deploy/.ssh /home/ann/ && chown -R ann: /home/ann/.ssh
install -d -o condor -g condor /var/lib/condor/spool2
mkdir -p /opt/hooks /opt/apps
cat > /opt/hooks/prepare <<'X'
#!/usr/bin/python3
import os, sys
import classad2
text = sys.stdin.read()
ad = classad2.parseOne(text)
try:
    if "LocalJobDir" in ad:
        os.makedirs(ad.eval("LocalJobDir"), 0o700, exist_ok=True)
        print(text)
except OSError as error:
    print('HookStatusMessage = "the folder cannot be made"')
    print("HookStatusCode = 1")
X
cat > /opt/hooks/wrapper <<'X'
#!/bin/sh
if grep -q '^HMDCUseXpra = true' "$_CONDOR_JOB_AD" && [ "$1" != /usr/sbin/sshd ]; then
  exec /usr/bin/xpra --no-daemon --exit-with-children start --start-child="$*" --socket-dir="$TEMP"
fi
exec "$@"
X
cat > /opt/apps/show <<'X'
#!/usr/bin/python3
import json, os, sys
with open(os.environ["SEEN"] + ".new", "w") as file:
    json.dump([sys.argv[1:], dict(os.environ)], file)
os.rename(os.environ["SEEN"] + ".new", os.environ["SEEN"])
X
printf '#!/bin/sh\nexec /bin/sleep 1000\n' > /opt/apps/sleep
chmod 755 /opt/hooks/* /opt/apps/*
"""
WORDS = ["a b", 'say "x"', "it's", "", "$(HOME) $$(x) \\", "1\n2"]
CATALOGUE = {
    "calc": {
        "global": {"cpu": 1, "memory": 256, "args": ["-q"], "icon": "/usr/share/icons/calc.png"},
        "1": {"command": "/opt/apps/sleep", "memory": 512},
        "2": {"default": True, "command": "/opt/apps/sleep", "args": ["-a", "-b"]},
    },
    "show": {
        "global": {"cpu": 1, "memory": 256},
        "1": {"default": True, "command": "/opt/apps/show", "args": WORDS},
    },
    "fixed": {
        "global": {"cpu": 1, "memory": 256, "supports_cpu_adjustable": False},
        "1": {"default": True, "command": "/opt/apps/sleep"},
    },
    "gone": {"global": {"cpu": 1, "memory": 256}, "1": {"default": True, "command": "/opt/apps/not-there"}},
    "true": {"global": {"cpu": 1, "memory": 256}, "1": {"default": True, "command": "/bin/true"}},
}


def session_pool(fleet: Fleet) -> None:
    """Make h1 a pool with the schedds `h1` and `second@`, whose users are `ann` and `deploy`."""
    fleet.run("h1", "sh", "-euc", PREPARE)
    condor_pool(fleet, config=CONFIG)
    until(lambda: "second@" in fleet.ssh("h1", "condor_status -schedd -af Name", check=False))


def queue(pool: Fleet) -> list[dict]:
    """The ads of the queues of both schedds, as HTCondor's own program tells them."""
    text = pool.ssh("h1", "condor_q -allusers -json; condor_q -name second@ -allusers -json", user="ann").strip()
    found, at = [], 0
    while at < len(text):
        part, at = json.JSONDecoder(strict=False).raw_decode(text, at)
        found += part
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


def clear(pool: Fleet) -> None:
    """End all jobs of both schedds."""
    for user in ("ann", "deploy"):
        pool.ssh("h1", "condor_rm -all -name second@; condor_rm -all", user=user, check=False)
    until(lambda: not queue(pool))


def runner(pool: Fleet, play: Player, folder: Path) -> Run:
    """Tasks on h1 in one play as one user, failed ones too; returns what each returned, and all that was shown."""
    (folder / "rceapp.yml").write_text(json.dumps(CATALOGUE))

    def tasks(*steps: dict, user: str = "ann", environment: dict | None = None) -> list[dict]:
        done = [{"name": "T", "register": f"r{i}", "ignore_errors": True, **step} for i, step in enumerate(steps)]
        text = "{{ [" + ", ".join(f"r{i}" for i in range(len(steps))) + "] | to_json }}"
        result = folder / "results.json"
        done.append({"name": "T", "copy": {"content": text, "dest": str(result)}, "delegate_to": "localhost"})
        done[-1]["vars"] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        head = {"hosts": "h1", "gather_facts": False, "environment": environment or {}, "vars": {"ansible_user": user}}
        book = folder / "book.yml"
        book.write_text(json.dumps([{**head, "tasks": done}]))
        shown = play(str(book), pool.inventory, "--diff", "-v")
        assert shown.rc == 0, shown.stdout + shown.stderr
        return [{**one, "shown": shown.stdout + shown.stderr} for one in json.loads(result.read_text())]

    return tasks
