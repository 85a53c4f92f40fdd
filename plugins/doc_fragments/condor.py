# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation of all modules for HTCondor has in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Options by which a module finds HTCondor; their specification is _condor.ARGUMENTS."""

    DOCUMENTATION = r"""
options:
  way:
    description:
      - How HTCondor is spoken to. V(bindings) is its Python package C(htcondor2), which the Python of the host must
        have. V(commands) is C(condor_q) and its like. Both do the same.
      - With V(auto), the bindings are used where they are.
    type: str
    choices: [auto, bindings, commands]
    default: auto
  pool:
    description: The pool's collector, as C(HOST) or C(HOST:PORT). Without it, the one of the host's configuration.
    type: str
  schedd:
    description: Name of the schedd. Without it, the one on the host.
    type: str
  config:
    description: >-
      A file on the host that is used instead of the host's configuration of HTCondor. C(~) and variables in it are
      those of the host.
    type: path
  timeout:
    description: Seconds that one question to HTCondor may take.
    type: float
    default: 60
"""
