# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a collector says of slots and daemons, folded into machines and groups of an inventory. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Ad = Mapping[str, Any]
Json = dict[str, Any]

#: resources of a slot: the attribute and the name of the variable; memory is in MB, disk in KB, as HTCondor has them
RESOURCES = {"Cpus": "cpus", "Memory": "memory", "Disk": "disk", "GPUs": "gpus"}
#: what is asked of each slot; a collector need not send the hundred others
SLOT_ATTRIBUTES = (
    *("Name", "Machine", "MyAddress", "SlotType", "PartitionableSlot", "DynamicSlot", "SlotBackfill"),
    *("State", "Activity", "Offline", "Draining", "RemoteOwner", "JobId", "GlobalJobId"),
    *("Arch", "OpSys", "OpSysAndVer", "CondorVersion", "TotalLoadAvg"),
    *(name for resource in RESOURCES for name in (resource, f"TotalSlot{resource}")),
)
DAEMON_ATTRIBUTES = ("Name", "Machine", "MyAddress", "CondorVersion")
# a name of the machine that Ansible runs on, or one that Ansible takes for something else, is no machine of a pool
_HOST = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}\Z")
_OWN = ("localhost", "all", "ungrouped")
_VERSION = re.compile(r"\$CondorVersion: ([0-9.]+)")
_ADDRESS = re.compile(r"<\[?([0-9A-Fa-f.:]+?)\]?:[0-9]+[?>]")


def host_name(machine: Any, short: bool = False) -> str:
    """The name of a machine in the inventory, empty where its name cannot be one."""
    name = machine.split(".")[0] if short and isinstance(machine, str) else machine
    if not isinstance(name, str) or not _HOST.match(name) or name.lower() in _OWN or name.startswith("127."):
        return ""
    return name


def address(ad: Ad) -> str | None:
    """The address in a contact string such as ``<10.0.0.1:9618?addrs=...>``, None where there is none."""
    found = _ADDRESS.match(str(ad.get("MyAddress") or ""))
    return found.group(1) if found else None


def version(ad: Ad) -> str | None:
    """HTCondor's version as a number."""
    found = _VERSION.match(str(ad.get("CondorVersion") or ""))
    return found.group(1) if found else None


def words(value: Any) -> list[str]:
    """Entitlements as words: a list, or text with commas and blanks between them."""
    if isinstance(value, (list, tuple)):
        return sorted({str(one) for one in value if isinstance(one, str) and one})
    return sorted({one for one in re.split(r"[,\s]+", value) if one}) if isinstance(value, str) else []


def kind(ad: Ad) -> str:
    """Whether a slot is ``partitionable``, ``dynamic`` (a part of one) or ``static``."""
    if ad.get("PartitionableSlot") is True:
        return "partitionable"
    return "dynamic" if ad.get("DynamicSlot") is True else "static"


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if float(value).is_integer() else round(float(value), 3)


def _sum(values: Iterable[int | float | None]) -> int | float | None:
    """The sum, None where one of them is not known."""
    total: int | float = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def resource(slots: Sequence[Ad], name: str) -> Json:
    """``total``, ``used`` and ``free`` of a resource of one machine, None for what is not known.

    A dynamic slot is a part of its partitionable slot, which has only what is left. A backfill slot has what others
    have too. A static slot is used as a whole, from the moment it is claimed.
    """
    totals: list[int | float | None] = []
    frees: list[int | float | None] = []
    for slot in slots:
        if kind(slot) == "dynamic" or slot.get("SlotBackfill") is True:
            continue
        has = _number(slot.get(name))
        whole = _number(slot.get(f"TotalSlot{name}"))
        if kind(slot) == "partitionable":
            totals.append(whole)
            frees.append(has)
        else:
            totals.append(has if whole is None else whole)
            state = slot.get("State")
            frees.append(None if not isinstance(state, str) else has if state in ("Unclaimed", "Owner") else 0)
    if name == "GPUs" and totals and all(value is None for value in totals):
        # a startd that looks for none says nothing of them
        return {"total": 0, "used": 0, "free": 0}
    total, free = _sum(totals), _sum(frees)
    used = None if total is None or free is None else total - free
    return {"total": total, "used": used, "free": free}


def _slot(ad: Ad) -> Json:
    return {
        "name": ad.get("Name"),
        "type": kind(ad),
        "state": ad.get("State"),
        "activity": ad.get("Activity"),
        **{short: _number(ad.get(name)) for name, short in RESOURCES.items() if name in ad},
        "owner": ad.get("RemoteOwner"),
        "job": ad.get("GlobalJobId") or ad.get("JobId"),
    }


def _first(slots: Sequence[Ad], name: str) -> Any:
    """The value of an attribute that all slots of a machine share: of the first that has one."""
    return next((slot[name] for slot in slots if slot.get(name) is not None), None)


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", text)]


def machine(slots: Sequence[Ad], entitlements: str, attributes: Sequence[str]) -> Json:
    """The variables of a machine with these slots, without their prefix."""
    slots = sorted(slots, key=lambda slot: _natural(str(slot.get("Name"))))
    states: dict[str, int] = {}
    for slot in slots:
        # a partitionable slot that is wholly taken is Unclaimed still, and holds nothing of its own
        state = slot.get("State")
        word = state if isinstance(state, str) else "Unknown"
        states[word] = states.get(word, 0) + 1
    held = sorted({word for slot in slots for word in words(slot.get(entitlements))}) if entitlements else []
    return {
        "machine": _first(slots, "Machine"),
        "address": address(slots[0]),
        "version": version(slots[0]),
        "arch": _first(slots, "Arch"),
        "opsys": _first(slots, "OpSysAndVer") or _first(slots, "OpSys"),
        "load": _number(_first(slots, "TotalLoadAvg")),
        "slots": [_slot(slot) for slot in slots],
        "states": states,
        **{short: resource(slots, name) for name, short in RESOURCES.items()},
        "draining": any(slot.get("Draining") is True or slot.get("State") == "Drained" for slot in slots),
        "offline": all(slot.get("Offline") is True for slot in slots),
        "owners": sorted({str(slot["RemoteOwner"]) for slot in slots if slot.get("RemoteOwner")}),
        "entitlements": held,
        "attributes": {name: _first(slots, name) for name in attributes},
    }


def fold(
    slots: Iterable[Ad],
    daemons: Mapping[str, Iterable[Ad]],
    entitlements: str = "",
    attributes: Sequence[str] = (),
    short: bool = False,
) -> tuple[dict[str, Json], list[str]]:
    """(name -> variables of each machine, what was left out and why), the same for every order of the ads.

    ``daemons`` are ads by their kind (``schedd``). A machine without slots has only ``daemons``, ``machine``,
    ``address`` and ``version``.
    """
    by_name: dict[str, list[Ad]] = {}
    others: dict[str, dict[str, Ad]] = {}
    left_out: set[str] = set()

    def place(ad: Ad, what: str) -> str:
        name = host_name(ad.get("Machine"), short)
        if not name:
            shown = str(ad.get("Name"))[:80]
            left_out.add(f"{what} {shown!r} is left out: {str(ad.get('Machine'))[:80]!r} can be no host")
        return name

    for ad in slots:
        name = place(ad, "slot")
        if name:
            by_name.setdefault(name, []).append(ad)
    for what, ads in daemons.items():
        for ad in ads:
            name = place(ad, what)
            if name:
                # of several of a kind on a machine, the one that is named first
                old = others.setdefault(name, {}).get(what)
                if old is None or str(ad.get("Name")) < str(old.get("Name")):
                    others[name][what] = ad
    found: dict[str, Json] = {}
    for name in sorted({*by_name, *others}, key=_natural):
        kinds = sorted({*others.get(name, {}), *(["startd"] if name in by_name else [])})
        if name in by_name:
            found[name] = machine(by_name[name], entitlements, attributes)
        else:
            first = others[name][kinds[0]]
            found[name] = {"machine": first.get("Machine"), "address": address(first), "version": version(first)}
        found[name]["daemons"] = kinds
    return found, sorted(left_out)


def groups(machines: Mapping[str, Json], by: Sequence[str] = ()) -> dict[str, list[str]]:
    """Group -> hosts. The names are not yet fit for Ansible: entitlements and values are as they are.

    ``by`` are attributes for groups of their values.
    """
    found: dict[str, list[str]] = {"condor": list(machines)}

    def add(group: str, name: str) -> None:
        found.setdefault(group, []).append(name)

    for name, one in machines.items():
        for word in one["daemons"]:
            add(f"condor_{word}", name)
        if "slots" not in one:
            continue
        for word in sorted(one["states"]):
            add(f"condor_state_{word.lower()}", name)
        for word in one["entitlements"]:
            add(f"condor_entitlement_{word}", name)
        if one["draining"]:
            add("condor_draining", name)
        if one["offline"]:
            add("condor_offline", name)
        add(f"condor_{room(one)}", name)
        for attribute in by:
            value = one["attributes"].get(attribute)
            if isinstance(value, bool):
                value = str(value).lower()
            if isinstance(value, (str, int, float)) and value != "":
                add(f"condor_{attribute.lower()}_{value}", name)
    return found


def room(one: Json) -> str:
    """``free`` where a job could be put on a machine, ``full`` where none could, ``unknown`` where nobody knows."""
    if one["draining"] or one["offline"]:
        return "full"
    doubt = False
    for slot in one["slots"]:
        if slot["type"] == "dynamic" or slot["state"] in ("Owner", "Drained", "Preempting", "Matched"):
            continue
        if slot["type"] == "static" and slot["state"] not in ("Unclaimed", None):
            continue
        left = [slot.get(key) for key in ("cpus", "memory")]
        if any(value is not None and value <= 0 for value in left):
            continue
        if None not in left and slot["state"] is not None:
            return "free"
        doubt = True
    return "unknown" if doubt else "full"
