# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's own connection plugins as the fleet's transport. PRIVATE to the collection.

The connection API is internal to ansible-core, so everything that touches it is in this file, and the integration
tests run it on every supported ansible-core. It follows what `ansible.executor.task_executor` does for one task on one
host: choose the plugin, give it its options from the host's variables, wrap the command for become.
"""

from __future__ import annotations

import copy
import functools
import pathlib
import secrets
import shlex
import subprocess
import threading
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import become_loader, connection_loader
from ansible.template import Templar

from ansible_collections.sciops.sites.plugins.plugin_utils import _wire
from ansible_collections.sciops.sites.plugins.plugin_utils._apply import request_for
from ansible_collections.sciops.sites.plugins.plugin_utils._fanout import Job, Outcome, fan_out


@functools.cache
def host_sources(modules: tuple[str, ...]) -> dict[str, str]:
    """Return the texts of these host-side files, by module name."""
    folder = pathlib.Path(__file__).resolve().parent.parent / "module_utils"
    return {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in modules}


Json = dict[str, t.Any]


class AnsibleConnection:
    """One Ansible connection plugin, set up for one host."""

    def __init__(self, plugin: t.Any, command: str) -> None:
        self.plugin = plugin
        self.command = command

    def run(self, payload: bytes) -> tuple[int, bytes, bytes]:
        """Run the command on the host, through become where the host's variables ask for it."""
        plugin, command = self.plugin, self.command
        if plugin.become is not None:
            command = plugin.become.build_become_command(command, plugin._shell)
        if plugin.allow_executable:
            # the login shell may be any shell; what runs must be read by a POSIX one
            command = f"/bin/sh -c {shlex.quote(command)}"
        rc, stdout, stderr = plugin.exec_command(command, in_data=payload, sudoable=True)
        return rc, _as_bytes(stdout), _as_bytes(stderr)

    def drop(self) -> None:
        """End a persistent ssh master whose host no longer answers."""
        plugin = self.plugin
        if hasattr(plugin, "_build_command") and getattr(plugin, "control_path", None) is not None:
            # the public reset() only asks the master to take no more sessions: it would live on with the hanging one
            command = plugin._build_command(plugin.get_option("ssh_executable"), "ssh", "-O", "exit", plugin.host)
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=2, check=False)
        plugin.close()


def _as_bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


class Connector:
    """Makes connections from the variables of hosts.

    Set-up is serialised: Ansible's loaders and configuration are not written for threads. It is a few milliseconds a
    host and overlaps with the execs of the hosts before it.
    """

    def __init__(
        self,
        variables: t.Callable[[str], t.Mapping[str, t.Any]],
        loader: t.Any,
        play_context: PlayContext | None = None,
        task_keys: t.Mapping[str, t.Any] | None = None,
    ) -> None:
        self._variables = variables
        self._loader = loader
        self._play_context = play_context or PlayContext()
        self._task_keys = dict(task_keys or {})
        # the task's timeout and retries are the task's, not the connection's
        self._task_keys["timeout"] = self._play_context.timeout
        self._task_keys.pop("retries", None)
        if self._play_context.password:
            self._task_keys["password"] = self._play_context.password
        self._lock = threading.Lock()

    def connect(self, host: str) -> AnsibleConnection:
        """Return a connection for `host`, to run what `_wire.command` says with the host's own Python.

        Raises `AnsibleError` when the host's variables name no usable plugin.
        """
        with self._lock:
            variables = self._variables(host)
            kind = (
                self._option("ansible_connection", variables)
                or self._task_keys.get("connection")
                or C.DEFAULT_TRANSPORT
            )
            kind = "ssh" if kind == "smart" else str(kind)
            play_context = copy.copy(self._play_context)
            play_context.remote_addr = str(self._option("ansible_host", variables) or host)
            plugin = connection_loader.get(kind, play_context)
            if plugin is None:
                raise AnsibleError(f"{host}: ansible_connection: {kind}: there is no such connection plugin")
            plugin.set_become_plugin(self._become(host, variables))
            plugin.set_options(task_keys=self._task_keys, var_options=self._options("connection", plugin, variables))
            shell = plugin._shell
            shell.set_options(task_keys=self._task_keys, var_options=self._options("shell", shell, variables))
            # the discovery words (`auto` and the like) name no interpreter: then the command looks for one itself
            interpreter = self._option("ansible_python_interpreter", variables)
            return AnsibleConnection(plugin, _wire.command(str(interpreter) if interpreter else None))

    def _become(self, host: str, variables: t.Mapping[str, t.Any]) -> t.Any:
        wanted = self._option("ansible_become", variables)
        if not (self._task_keys.get("become") if wanted is None else boolean(wanted)):
            return None
        method = self._option("ansible_become_method", variables) or self._task_keys.get("become_method") or "sudo"
        plugin = become_loader.get(str(method))
        if plugin is None:
            raise AnsibleError(f"{host}: ansible_become_method: {method}: there is no such become plugin")
        keys = dict(self._task_keys)
        if self._play_context.become_pass:
            keys["become_pass"] = self._play_context.become_pass
        plugin.set_options(task_keys=keys, var_options=self._options("become", plugin, variables))
        return plugin

    def _options(self, kind: str, plugin: t.Any, variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        names = C.config.get_plugin_vars(kind, plugin._load_name)
        return {name: self._option(name, variables) for name in names if name in variables}

    def _option(self, name: str, variables: t.Mapping[str, t.Any]) -> t.Any:
        value = variables.get(name)
        plain = type(value) in (str, int, float, bool)  # no subclass: the templar must see tagged and vaulted ones
        if value is None or (plain and "{" not in str(value)):
            return value  # templating costs more than all the rest of the set-up
        return Templar(loader=self._loader, variables=dict(variables)).template(value)


class Exec(t.NamedTuple):
    """One request for one host, with its wall-clock limit in seconds."""

    request: Json
    timeout: float


class AnsibleFleet:
    """Sends requests to agents on hosts and gives back observations, as docs/architecture.md describes them."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        #: Number of execs done and bytes sent, for the budgets that tests hold.
        self.execs = 0
        self.sent = 0

    def ask(self, requests: t.Mapping[str, Exec], width: int, limit: float) -> dict[str, Json]:
        """Send each host its request, all side by side; return an observation for every host of `requests`."""
        nonces: dict[str, str] = {}
        jobs: list[Job] = []
        for host, (request, timeout) in requests.items():
            nonces[host] = secrets.token_hex(6)
            # the host gives up a little before the controller, so that a killed exec leaves nothing there
            sent = {**request, "v": 1, "nonce": nonces[host], "timeout": max(1.0, timeout - 1.0)}
            payload = _wire.payload(sent, host_sources(_wire.modules(request)))
            jobs.append(Job(host, functools.partial(self._connector.connect, host), payload, timeout))
            self.execs += 1
            self.sent += len(payload)
        outcomes = fan_out(jobs, width, limit)
        return {host: observation(outcomes[host], nonces[host]) for host in requests}


def observation(outcome: Outcome, nonce: str) -> Json:
    """Turn what came back from a host into an observation.

    Everything that is not a whole answer is unknown, with a reason.
    """
    if outcome.kind:
        return {"answered": False, "kind": outcome.kind, "reason": outcome.reason}
    try:
        reply = _wire.parse(outcome.stdout, nonce)
    except _wire.Garbled as exc:
        said = (outcome.stderr or outcome.stdout).decode("utf-8", "replace").strip().splitlines()
        words = f"{exc}, exit status {outcome.rc}" + (f": {said[-1].strip()[:300]}" if said else "")
        return {"answered": False, "kind": "unreachable" if outcome.rc == 255 else "garbled", "reason": words}
    return {"answered": True, **reply}


def observe_sites(
    declarations: t.Mapping[str, Json], hostvars: t.Mapping[str, Json], loader: t.Any
) -> dict[str, dict[str, Json]]:
    """Look at all hosts of some sites without a fence, and return their observations by site and host.

    For use while an inventory is read: `hostvars` are the variables of each host as far as they are known then.
    """
    fleet = AnsibleFleet(Connector(lambda host: hostvars[host], loader))
    requests = {
        host: Exec(request_for(declaration, host, "observe", fence=None), float(declaration["policy"]["host_timeout"]))
        for declaration in declarations.values()
        for host in declaration["hosts"]
    }
    policies = [declaration["policy"] for declaration in declarations.values()]
    width = max([int(policy["fanout"]) for policy in policies] or [1])
    observed = fleet.ask(requests, width, max([float(policy["pass_timeout"]) for policy in policies] or [1.0]))
    return {site: {host: observed[host] for host in declaration["hosts"]} for site, declaration in declarations.items()}
