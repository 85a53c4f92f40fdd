# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""The files of secrets that a manager's definitions name, and that only who needs them may read.

Note that this module util is **PRIVATE** to the collection.

Python 3.6 and the standard library, no f-strings (see _probe).
"""

import contextlib
import os
import pwd
import stat

from ansible_collections.sciops.sites.plugins.module_utils import _place, _programs


def reaches(path, uid):
    """The first folder above a file that this user may not pass, None where there is none."""
    if uid == 0:
        return None
    try:
        user = pwd.getpwuid(uid)
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
    except KeyError:
        groups = []
    while path != "/":
        path = os.path.dirname(path)
        with contextlib.suppress(FileNotFoundError):
            seen = os.stat(path)
            bit = stat.S_IXOTH
            if seen.st_uid == uid:
                bit = stat.S_IXUSR
            elif seen.st_gid in groups:
                bit = stat.S_IXGRP
            if not seen.st_mode & bit:
                return path
    return None


def owner(user, uid):
    """Whose the secrets of a program of this user are, (uid, gid); without one, of supervisord's."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        known = pwd.getpwnam(user) if user and not user.isdigit() else pwd.getpwuid(int(user or uid))
    except KeyError:
        raise _programs.Unfit("user %s is not known on this host" % (user or uid))
    return known.pw_uid, known.pw_gid


class Secrets:
    """The files of secrets of a set: one for each name, `NAME.VERSION`, a new version where the content is new.

    The version is in the definition, so that a definition has changed where a secret has.
    """

    def __init__(self, folder, wanted, uid, text_of=_programs.secret_text):
        self.folder, self.files, self.new, self.wrong = folder, {}, [], []
        names = os.listdir(folder) if os.path.isdir(folder) else []
        for title, one in wanted.items():
            if not one["secrets"]:
                continue
            tails = [name[len(title) + 1 :] for name in names if name.startswith(title + ".")]
            versions = [int(tail) for tail in tails if tail.isdigit()]
            whose, last = owner(one["user"], uid), max(versions or [0])
            text = text_of(one["secrets"])
            path = "%s/%s.%d" % (folder, title, last)
            if not last or _place.read(path) != text:
                path = "%s/%s.%d" % (folder, title, last + 1)
                self.new.append((path, text, whose))
            elif not _place.fits(path, 0o600, whose):
                self.wrong.append((path, text, whose))
            self.files[title] = path
            barred = reaches(path, whose[0])
            if barred:
                words = "program %s: its user may not pass %s to its secrets; chmod o+x it, or use another config"
                raise _programs.Unfit(words % (title, barred))
        kept = set(self.files.values())
        self.old = [os.path.join(folder, name) for name in names if os.path.join(folder, name) not in kept]

    def write(self):
        if self.new or self.wrong:
            _place.folder(self.folder, 0o711)
        for path, text, whose in self.new + self.wrong:
            _place.write(path, text, 0o600, whose)

    def undo(self):
        for path, _text, _whose in self.new:
            _place.drop(path)
        self.sweep([])

    def sweep(self, paths):
        for path in paths:
            _place.drop(path)
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)
