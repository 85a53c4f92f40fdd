# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person is shown of a pass: its outcome, the table, what failed. Pure. PRIVATE to the collection."""

from __future__ import annotations

import typing as t

from ansible_collections.sciops.sites.plugins.plugin_utils import _report

Json = dict[str, t.Any]


def summary(report: Json) -> str:
    """Return the text for one site: a headline, the table, and each failed action with its last words."""
    kind = "dry run" if report["check"] else f"pass {report['number']}"
    lines = [f"{report['site']} ({report['deployment']}), {kind}: {report['outcome']}" + _because(report)]
    if report["plan"]:
        lines.append(_report.table(report["plan"], heading=False).rstrip("\n"))
    for failure in report["failures"]:
        where = f"{failure['component']} on {failure['host']}"
        lines.append(
            f"{failure['kind']} of {where}: {failure['outcome']}: {failure.get('message') or 'no reason given'}"
        )
        lines += [f"    {line}" for line in failure.get("log_tail") or []]
    lines += [f"authorised: {words}" for words in report["authorised"]]
    return "\n".join(lines) + "\n"


def why(report: Json) -> str:
    """Return in one line why a pass did not come to its end."""
    if report["why"]:
        return str(report["why"])
    plan = report["plan"] or {}
    short = [f"{name}: {one['why']}" for name, one in plan.get("components", {}).items() if one.get("why")]
    aside = [f"{name}: {words}" for name, words in plan.get("set_aside", {}).items()]
    failed = [
        f"{one['kind']} of {one['component']} on {one['host']}: {one.get('message')}" for one in report["failures"]
    ]
    return "; ".join(short + aside + failed) or "the last look still finds something to do"


def _because(report: Json) -> str:
    return f": {report['why']}" if report["why"] else ""
