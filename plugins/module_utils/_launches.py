# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The launch methods that there are. A new one is its file and a line here.

Note that this module util is **PRIVATE** to the collection.

Only modules use it: Python 3.8 as these, and the standard library.
"""

from ansible_collections.sciops.sites.plugins.module_utils import (
    _launch_process,
    _launch_scrontab,
    _launch_supervisord,
    _launch_systemd,
)
from ansible_collections.sciops.sites.plugins.module_utils._launch import Failure, groups

METHODS = {
    "process": _launch_process,
    "scrontab": _launch_scrontab,
    "supervisord": _launch_supervisord,
    "systemd": _launch_systemd,
}


def known(method):
    """The module of a launch method. Raises Failure."""
    if method not in METHODS:
        raise Failure("launch: there is no method %s for a service; there are: %s" % (method, ", ".join(METHODS)))
    return METHODS[method]


def launches(launch, services):
    """A Launch for each method and its settings that these services are under. Raises Failure."""
    return [known(method).Launch(settings, some) for method, settings, some in groups(launch, services)]


def definitions(launch, services, files):
    """What the managers would run for each service, see docs/architecture-deploy.md. Raises Failure."""
    found = {}
    for method, settings, some in groups(launch, services):
        found.update(known(method).definitions(settings, some, files))
    return found
