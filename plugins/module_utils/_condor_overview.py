# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What is free in a pool and who uses how much of it, as rows and as tables. Pure.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import re

#: slots that a job could be put on: partitionable ones that start jobs and are not their owner's
AVAILABLE = 'regexp("^slot1@",Name) && Start == true && RemoteOwner =?= undefined'
SLOT_ATTRIBUTES = ["Name", "Machine", "Cpus", "Memory"]
RUNNING = "JobStatus == 2"
JOB_ATTRIBUTES = ["ClusterId", "ProcId", "Owner", "User"] + [
    "RequestCpus",
    "CpusProvisioned",
    "RequestMemory",
    "MemoryProvisioned",
    "ResidentSetSize_RAW",
]
AVAILABLE_COLUMNS = ("CpusAvailable", "MemoryAvailable(gb)", "Machine")
USED_COLUMNS = ("User", "Cpus", "Requested(gb)", "Used(gb)", "Unused(gb)")
MB_IN_GB = 1024.0
KB_IN_GB = 1024.0 * 1024.0


def entitlements(value):
    """Words of a list, or of text with commas and blanks between them."""
    if isinstance(value, str):
        value = re.split(r"[,\s]+", value)
    return sorted({word for one in value or [] for word in re.split(r"[,\s]+", str(one)) if word})


def rule_faults(rules):
    """What is wrong with rules, in words."""
    found = []
    for i, rule in enumerate(rules):
        try:
            re.compile(rule["pattern"])
        except re.error as error:
            found.append(
                "entitlement_rules[%d].pattern: %r: is no regular expression: %s" % (i, rule["pattern"], error)
            )
        if not entitlements(rule["entitlement"]):
            found.append("entitlement_rules[%d].entitlement: is empty" % i)
    return found


def barred(machine, rules, held):
    """Whether a rule keeps a machine for those who hold what this user does not."""
    return any(
        re.search(rule["pattern"], machine) and not set(entitlements(rule["entitlement"])) & set(held) for rule in rules
    )


def _number(value):
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _first(*values):
    return next((value for value in (_number(one) for one in values) if value is not None), None)


def gb(value, of):
    """A size in GB, two digits, None where it is not known."""
    return None if value is None else round(value / of, 2)


def available(slots, rules, held):
    """Rows of what can be had, the most processors first, then the most memory. Not known comes last."""
    rows = []
    for slot in slots:
        machine = str(slot.get("Machine") or "")
        if not barred(machine, rules, held):
            cpus, memory = _number(slot.get("Cpus")), _number(slot.get("Memory"))
            row = {"machine": machine, "slot": slot.get("Name"), "cpus": cpus, "memory_mb": memory}
            rows.append(dict(row, memory_gb=gb(memory, MB_IN_GB)))
    return sorted(rows, key=lambda row: (_falling(row["cpus"]), _falling(row["memory_mb"]), row["machine"]))


def _falling(value):
    return (1, 0) if value is None else (0, -value)


def used(jobs):
    """A row for each user of running jobs, who leaves the most memory unused first.

    What a job uses is not known before its first update. Such a job counts in ``jobs``, ``cpus`` and ``requested_gb``,
    and is named in ``unmeasured``: it is in neither ``used_gb`` nor ``unused_gb``. A size that no job of the user has
    is None, as is one of which a part is not known.
    """
    by_user = {}
    for job in jobs:
        name = str(job.get("Owner") or str(job.get("User") or "").partition("@")[0] or "?")
        by_user.setdefault(name, []).append(job)
    rows = []
    for name, mine in by_user.items():
        cpus = [_first(job.get("RequestCpus"), job.get("CpusProvisioned")) for job in mine]
        asked = [_first(job.get("RequestMemory"), job.get("MemoryProvisioned")) for job in mine]
        taken = [_number(job.get("ResidentSetSize_RAW")) for job in mine]
        pairs = [(a, t) for a, t in zip(asked, taken) if a is not None and t is not None]
        known = [t for t in taken if t is not None]
        unused = sum(a / MB_IN_GB - t / KB_IN_GB for a, t in pairs)
        rows.append(
            {
                "user": name,
                "jobs": len(mine),
                "cpus": None if None in cpus else sum(cpus),
                "requested_gb": None if None in asked else gb(sum(asked), MB_IN_GB),
                "used_gb": gb(sum(known), KB_IN_GB) if known else None,
                "unused_gb": round(unused, 2) if pairs else None,
                "unmeasured": len(mine) - len(pairs),
            }
        )
    return sorted(rows, key=lambda row: (_falling(row["unused_gb"]), row["user"]))


def totals(rows, names):
    """Sums over rows, None where a part is not known."""
    return {name: _total([row[name] for row in rows]) for name in names}


def _total(values):
    return None if None in values else round(sum(values), 2)


def shown(value):
    """A value of a table: no zeros behind the point, and a question mark for what is not known."""
    if value is None:
        return "?"
    if isinstance(value, float):
        return ("%.1f" % value)[:-2] if ("%.1f" % value).endswith(".0") else "%.1f" % value
    return str(value)


def table(columns, rows, words):
    """Lines of a table: its head, then the rows. ``words`` are numbers of columns that stand at the left."""
    cells = [list(columns)] + [[shown(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = []
    for line in cells:
        parts = [
            cell.ljust(width) if i in words else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths))
        ]
        lines.append(" ".join(parts).rstrip())
    return lines


def available_table(rows):
    return table(AVAILABLE_COLUMNS, [(row["cpus"], row["memory_gb"], row["machine"]) for row in rows], (2,))


def used_table(rows):
    """Lines of the table, and one more where jobs were not measured."""
    keys = ("user", "cpus", "requested_gb", "used_gb", "unused_gb")
    lines = table(USED_COLUMNS, [tuple(row[key] for key in keys) for row in rows], (0,))
    late = sum(row["unmeasured"] for row in rows)
    if late:
        lines.append("%d running job%s not measured yet" % (late, " is" if late == 1 else "s are"))
    return lines
