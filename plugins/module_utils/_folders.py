# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Folders with owner, group, mode and ACL, changed such that nobody loses a right that he had and keeps.

Note that this module util is **PRIVATE** to the collection.

An ACL is a dict (tag, id) -> permissions, 0 to 7: `("u", None)` is the owner, `("g", None)` the owning group, `("o",
None)` all others, `("m", None)` the mask, `("u", 1000)` and `("g", 1000)` are named. It is read and written whole, as
setfacl does it, so that one step changes mode and ACL together. Python 3.6 and the standard library, no f-strings (see
_probe).
"""

import contextlib
import errno
import grp
import os
import pwd
import re
import stat
import struct

from ansible_collections.sciops.sites.plugins.module_utils import _files, _place

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
#: tags in the order in which the kernel wants them; named ones have an id
_TAGS = (
    ("u", False, 0x01),
    ("u", True, 0x02),
    ("g", False, 0x04),
    ("g", True, 0x08),
    ("m", False, 0x10),
    ("o", False, 0x20),
)
_NO_ID = 0xFFFFFFFF
OWNER, GROUP, OTHERS, MASK = ("u", None), ("g", None), ("o", None), ("m", None)
WORDS = {"user": "u", "group": "g", "other": "o", "mask": "m", "u": "u", "g": "g", "o": "o", "m": "m"}
#: a file system that has no ACLs, or no attributes at all
WITHOUT = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


# --- words


def entries_of(words):
    """(access, default) ACLs of entries as setfacl takes them: `d:g:jaws:rwx`, `o::rx`. ValueError names a bad one."""
    found = ({}, {})
    for word in words:
        parts = word.split(":")
        which = found[0]
        if parts[0] in ("d", "default"):
            which, parts = found[1], parts[1:]
        rights = parts[2] if len(parts) == 3 else parts[1] if len(parts) == 2 and parts[0][:1] in "om" else None
        if parts[0] not in WORDS or rights is None or not re.match(r"(?=.)(r?w?[xX]?|[r-][w-][xX-])\Z", rights):
            raise ValueError(
                "acl: %s: must be like g:NAME:rwx, u:NAME:rx, o::rx, with d: in front for a default" % word
            )
        tag, name = WORDS[parts[0]], parts[1] if len(parts) == 3 else ""
        if name and tag in "om":
            raise ValueError("acl: %s: only users and groups have names" % word)
        key = (tag, _id(word, tag, name) if name else None)
        if key in which:
            raise ValueError("acl: %s: is there twice" % word)
        which[key] = sum({"r": 4, "w": 2, "x": 1, "-": 0}[letter] for letter in rights.lower())
    return found


def _id(word, tag, name):
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if tag == "u" else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError("acl: %s: %s is not known on this host" % (word, name))


def shown(acl):
    """The entries of an ACL as getfacl shows them, in its order."""
    lines = []
    for tag, named, _number in _TAGS:
        for (one, ident), rights in sorted(acl.items(), key=lambda pair: pair[0][1] or 0):
            if one == tag and (ident is not None) == named:
                lines.append("%s:%s:%s" % (tag, _name(tag, ident), _letters(rights)))
    return lines


def _name(tag, ident):
    if ident is None:
        return ""
    try:
        return pwd.getpwuid(ident).pw_name if tag == "u" else grp.getgrgid(ident).gr_name
    except KeyError:
        return str(ident)


def _letters(rights):
    return "".join(letter if rights & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))


# --- what is wanted, and the way there


def _mode_of(acl):
    """The permission bits that the kernel shows for an ACL."""
    return acl[OWNER] << 6 | acl.get(MASK, acl[GROUP]) << 3 | acl[OTHERS]


def _base(mode):
    return {OWNER: mode >> 6 & 7, GROUP: mode >> 3 & 7, OTHERS: mode & 7}


def _masked(acl):
    """With the mask that setfacl gives it: what any of the group class has. An ACL without names needs none."""
    if MASK in acl or not any(ident is not None for _tag, ident in acl):
        return acl
    whole = 0
    for (tag, ident), rights in acl.items():
        whole |= rights if tag == "g" or ident is not None else 0
    acl[MASK] = whole
    return acl


def wanted(seen, uid, gid, mode, entries):
    """The state that a folder is to have, from the one it has; -1 for an owner or a group that stays.

    `entries` are (access, default) and all there is beside the mode, or None: then the mode is what chmod makes of it,
    and names and defaults that are there stay.
    """
    access, default = dict(seen["access"]), seen["default"]
    if entries is None:
        access.update({OWNER: mode >> 6 & 7, OTHERS: mode & 7, MASK if MASK in access else GROUP: mode >> 3 & 7})
    else:
        access = _masked(_joined(_base(mode), entries[0]))
        default = {}
        if entries[1]:
            default = _masked(_joined({key: access[key] for key in (OWNER, GROUP, OTHERS)}, entries[1]))
    return {
        "uid": seen["uid"] if uid == -1 else uid,
        "gid": seen["gid"] if gid == -1 else gid,
        "special": mode & 0o7000,
        "access": access,
        "default": default,
    }


def _joined(first, second):
    found = dict(first)
    found.update(second)
    return found


def _effective(acl):
    mask = acl.get(MASK, 7)
    return {key: rights if key in (OWNER, OTHERS) else rights & mask for key, rights in acl.items() if key != MASK}


def between(old, new):
    """The ACL to have while owner or group change: whoever has a right before and after has it in between too.

    It gives nobody what neither gives him, as long as the owner stays and others may no more than the group.
    """
    was, will = _effective(old["access"]), _effective(new["access"])
    acl = {key: was.get(key, 0) | will.get(key, 0) for key in set(was) | set(will)}
    acl[GROUP], acl[OTHERS] = was[GROUP] & will[GROUP], was[OTHERS] & will[OTHERS]
    if old["gid"] != new["gid"]:
        crossing = was[GROUP] & will[OTHERS] | was[OTHERS] & will[GROUP]
        acl[GROUP], acl[OTHERS] = acl[GROUP] | crossing, acl[OTHERS] | crossing
        # an entry of the same group would come before what others may
        for gid, rights in ((old["gid"], was[GROUP]), (new["gid"], will[GROUP])):
            if ("g", gid) in acl:
                acl[("g", gid)] |= rights
    if old["uid"] != new["uid"]:
        # both by name, since one of them is the owner only later, the other no more
        for uid, rights in ((old["uid"], was[OWNER]), (new["uid"], will[OWNER])):
            acl[("u", uid)] = acl.get(("u", uid), 0) | rights
    return _masked(acl)


def steps(old, new):
    """What is done to come from one state to another, in an order in which nobody loses a right that he keeps."""
    found, now = [], old["access"]
    if (old["uid"], old["gid"]) != (new["uid"], new["gid"]):
        now = between(old, new)
        if now != old["access"]:
            found.append(("access", now))
        found.append(("owner", (new["uid"], new["gid"])))
    if now != new["access"]:
        found.append(("access", new["access"]))
    if old["special"] != new["special"]:
        found.append(("special", new["special"] | _mode_of(new["access"])))
    if old["default"] != new["default"]:
        found.append(("default", new["default"]))
    return found


def lines(state):
    """A state as people read it, one fact a line."""
    found = ["owner: " + _name("u", state["uid"]), "group: " + _name("g", state["gid"])]
    found.append("mode: %04o" % (state["special"] | _mode_of(state["access"])))
    if len(state["access"]) > 3:
        found += ["acl: " + one for one in shown(state["access"])]
    return found + ["acl: default:" + one for one in shown(state["default"])]


# --- one file system


def _pack(acl):
    parts = [struct.pack("<I", 2)]
    for tag, named, number in _TAGS:
        for (one, ident), rights in sorted(acl.items(), key=lambda pair: pair[0][1] or 0):
            if one == tag and (ident is not None) == named:
                parts.append(struct.pack("<HHI", number, rights, _NO_ID if ident is None else ident))
    return b"".join(parts)


def _unpack(data):
    kinds = {number: (tag, named) for tag, named, number in _TAGS}
    acl = {}
    for number, rights, ident in struct.iter_unpack("<HHI", data[4:]):
        tag, named = kinds[number]
        acl[(tag, ident if named else None)] = rights
    return acl


def _attribute(handle, name):
    """An ACL that is there, {} where there is none, None where the file system has none at all."""
    try:
        return _unpack(os.getxattr(handle, name))
    except OSError as error:
        if error.errno == errno.ENODATA:
            return {}
        if error.errno in WITHOUT:
            return None
        raise


def look(handle):
    """(state, whether the file system has ACLs) of an open file or folder."""
    seen = os.fstat(handle)
    access = _attribute(handle, ACCESS)
    default = _attribute(handle, DEFAULT) if stat.S_ISDIR(seen.st_mode) and access is not None else {}
    state = {"uid": seen.st_uid, "gid": seen.st_gid, "special": seen.st_mode & 0o7000}
    state.update(access=access or _base(seen.st_mode), default=default or {})
    return state, access is not None


def _apply(handle, old, new, able):
    extended = len(old["access"]) > 3
    for what, value in steps(old, new):
        if what == "owner":
            os.fchown(handle, value[0], value[1])
        elif what == "special":
            os.fchmod(handle, value)
        elif what == "default":
            _set(handle, DEFAULT, value)
        elif able and (extended or len(value) > 3):
            _set(handle, ACCESS, value)
            extended = True
        else:
            os.fchmod(handle, old["special"] | _mode_of(value))


def _set(handle, name, acl):
    if acl:
        os.setxattr(handle, name, _pack(acl))
        return
    try:
        os.removexattr(handle, name)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def keep(folder, check=False):
    """Bring one folder to what is declared; `{"changed", "before", "after", "repaired", "warnings"}`.

    `folder` has path, mode (octal text), owner, group, acl (entries, None for: stay as they are), recursive. Nothing is
    done with `check`. Raises _files.Failure.
    """
    path, mode = folder["path"], int(folder["mode"], 8)
    uid, gid = _files.ids(dict(folder, dest=path))
    found = {"changed": False, "before": [], "after": [], "repaired": [], "warnings": []}
    try:
        entries = None if folder["acl"] is None else entries_of(folder["acl"])
        _files.trusted(path, (0, os.geteuid(), uid))
        if not os.path.lexists(path):
            found["changed"] = True
            fresh = {"uid": os.geteuid(), "gid": os.getegid(), "special": 0, "access": _base(0), "default": {}}
            if check:
                return dict(found, after=lines(wanted(fresh, uid, gid, mode, entries)))
            _place.folder(os.path.dirname(path), 0o755)
            with contextlib.suppress(FileExistsError):  # another run may make it at this moment
                os.mkdir(path, 0o700)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            seen, able = look(handle)
            asked = wanted(seen, uid, gid, mode, entries)
            if not able and (len(asked["access"]) > 3 or asked["default"]):
                found["warnings"].append("%s: its file system has no ACLs, so only the mode is set there" % path)
                asked["access"] = {key: asked["access"][key] for key in (OWNER, GROUP, OTHERS)}
                asked["default"] = {}
            found["before"] = [] if found["changed"] else lines(seen)
            found["after"] = lines(asked)
            if steps(seen, asked):
                found["changed"] = True
                if not check:
                    _apply(handle, seen, asked, able)
                    last, _able = look(handle)
                    if last != asked:
                        raise _files.Failure("%s: is %s, although %s was set" % (path, lines(last), lines(asked)))
        finally:
            os.close(handle)
        if folder["recursive"]:
            _repair(path, gid, asked["default"], found, check)
    except ValueError as error:
        raise _files.Failure("%s: %s" % (path, error))
    except OSError as error:
        words = "only its owner and root may" if error.errno == errno.EPERM else error.strerror
        raise _files.Failure("%s: cannot be changed: %s" % (error.filename or path, words))
    found["changed"] = found["changed"] or bool(found["repaired"])
    return found


def _repair(top, gid, default, found, check):
    """Give group and default ACL of a folder to all that is below it on its file system. No right is taken away."""
    device = os.stat(top).st_dev
    for place, folders, files, handle in os.fwalk(top, follow_symlinks=False):
        # what is another file system is not entered
        inside = {name: os.stat(name, dir_fd=handle, follow_symlinks=False) for name in folders}
        folders[:] = sorted(name for name, seen in inside.items() if seen.st_dev == device)
        for name in folders + sorted(files):
            path = os.path.join(place, name)
            try:
                one = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=handle)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOENT, errno.ENXIO):
                    found["warnings"].append("%s: cannot be repaired: %s" % (path, error.strerror))
                continue
            try:
                _repair_one(one, path, gid, default, found, check)
            except OSError as error:
                found["warnings"].append("%s: cannot be repaired: %s" % (path, error.strerror))
            finally:
                os.close(one)


def _repair_one(handle, path, gid, default, found, check):
    kind = os.fstat(handle)
    folder = stat.S_ISDIR(kind.st_mode)
    if not folder and not stat.S_ISREG(kind.st_mode):
        return
    if not folder and kind.st_nlink > 1:
        # a second name may be one of another user's file anywhere
        found["warnings"].append("%s: has %d names, so it is left as it is" % (path, kind.st_nlink))
        return
    seen, able = look(handle)
    # a file that nobody may execute stays so
    most = 7 if folder or kind.st_mode & 0o111 else 6
    access = dict(seen["access"])
    for key, rights in default.items():
        if key not in (OWNER, MASK):
            access[key] = access.get(key, 0) | rights & most
    access.pop(MASK, None)
    asked = dict(seen, gid=seen["gid"] if gid == -1 else gid, access=_masked(access))
    if folder and default:
        asked["default"] = default
    if steps(seen, asked):
        found["repaired"].append(path)
        if not check:
            _apply(handle, seen, asked, able)
