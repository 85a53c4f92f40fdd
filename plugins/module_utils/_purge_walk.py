# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Below one folder and never outside of it: what is there, how old it is, and how it is removed.

Note that this module util is **PRIVATE** to the collection.

Everything is reached by descriptors of folders that were opened one below the other, never by a path that somebody else
could turn elsewhere. No symlink is followed, no other mount is entered, also not one of the same device. Linux only.
Python 3.6 and the standard library, no f-strings: the role copies this file to hosts without Ansible.
"""

import errno
import os
import pwd
import stat

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# a folder on the way to the root needs to be passable, not readable
PASSED = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# first words of paths that belong to the operating system
SYSTEM = frozenset("bin boot dev etc lib lib32 lib64 libx32 proc root run sbin sys usr".split())
LEAST = 2
# each level costs a descriptor, of which a process has 1024 as a rule
DEEPEST = 256
# an entry that is being removed has this before its name, so that nobody meets half of it
ASIDE = ".purge-"
LINKS = 40


class Refused(Exception):
    """Nothing may be removed with these settings, and nothing was; the text says why."""


class Kept(Exception):
    """An entry is not removed; ``why`` is one word for it."""

    def __init__(self, why, text):
        Exception.__init__(self, text)
        self.why = why


# --- the root


def user(name):
    """The number of an account given by name or number."""
    try:
        return int(name) if str(name).isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise Refused("owner: %s: there is no such account on this host" % name)


def words_of(path):
    """The components of a path that is written plainly."""
    if not path:
        raise Refused("path: it is empty; give the folder whose entries are removed")
    if not path.startswith("/"):
        raise Refused("path: %s: must be absolute" % path)
    words = path.rstrip("/").split("/")[1:]
    if any(word in ("", ".", "..") for word in words) or "\0" in path:
        raise Refused("path: %s: write it without //, . and .." % path)
    return words


def check_place(path, least, uids):
    """The components of a path. Refused where it holds more than one deployment's data.

    That is a short path, a folder of the system, and a home of one of ``uids`` or what such a home is in.
    """
    words = words_of(path)
    if len(words) < max(LEAST, least):
        raise Refused("path: %s: must have %d components at least" % (path, max(LEAST, least)))
    if words[0] in SYSTEM:
        raise Refused("path: %s: /%s belongs to the operating system" % (path, words[0]))
    for uid in uids:
        try:
            home = pwd.getpwuid(uid).pw_dir
        except KeyError:
            continue
        if (home + "/").startswith("/" + "/".join(words) + "/"):
            raise Refused("path: %s: is or holds the home %s" % (path, home))
    return words


def resolve(path, left, uids):
    """The real path of the components ``left``; symlinks on the way must be of ``uids``, the last may be none."""
    here, links = [], LINKS
    while left:
        word = left.pop(0)
        if word == "..":
            here = here[:-1]
        if word in ("", ".", ".."):
            continue
        full = "/" + "/".join(here + [word])
        seen = os.lstat(full)
        if not stat.S_ISLNK(seen.st_mode):
            here.append(word)
            continue
        links -= 1
        if not left or not links:
            raise Refused("path: %s: %s is a symlink; name the folder itself" % (path, full))
        if seen.st_uid not in uids:
            raise Refused("path: %s: the symlink %s belongs to another account" % (path, full))
        target = os.readlink(full)
        here, left = ([] if target.startswith("/") else here), target.split("/") + left
    return "/" + "/".join(here)


def mount_of(folder):
    """Where an open folder is mounted: (device, number of the mount)."""
    with open("/proc/self/fdinfo/%d" % folder) as handle:
        for line in handle:
            if line.startswith("mnt_id:"):
                return os.fstat(folder).st_dev, int(line.split()[1])
    raise Refused("path: the kernel does not tell which mount a folder is on")


def open_root(path, owner, least):
    """(descriptor, real path) of a root that passes all guards, else Refused.

    ``owner`` is the number of the account that it must belong to, ``least`` how many components it must have.
    """
    uids = {0, os.geteuid(), owner}
    try:
        real = resolve(path, check_place(path, least, uids), uids)
        words = check_place(real, least, uids)
        above = os.open("/", PASSED)
        try:
            for word in words[:-1]:
                here = os.open(word, PASSED | os.O_DIRECTORY, dir_fd=above)
                os.close(above)
                above = here
            root = os.open(words[-1], FOLDER, dir_fd=above)
            mounted = mount_of(root) != mount_of(above)
        finally:
            os.close(above)
    except OSError as error:
        raise Refused("path: %s: %s" % (path, error.strerror))
    found = os.fstat(root).st_uid
    if mounted or found != owner:
        os.close(root)
    if mounted:
        raise Refused("path: %s: a file system is mounted there; name a folder in it" % path)
    if found != owner:
        text = "path: %s: belongs to account %d, not %d; run as that account, or name it as owner"
        raise Refused(text % (path, found, owner))
    return root, real


# --- what is below it


def look(folder, name):
    """What lstat says of a name in an open folder."""
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def same(one, other):
    """Whether two looks were at one object."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def there(folder, name):
    """Whether an open folder has something of a name."""
    try:
        look(folder, name)
        return True
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise


def check_rights(folder, path):
    """Raise Kept where names in an open folder may not be removed: known before anything goes, or half of it stays."""
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
        raise Kept("denied", "%s: this account may not remove what is in it" % path)


class Tally:
    """What an entry is made of: ``top`` is lstat's answer for itself, ``youngest`` in nanoseconds since 1970."""

    def __init__(self, top):
        self.top, self.youngest = top, 0
        self.bytes = self.allocated = self.objects = 0
        self.linked = set()

    def add(self, seen, changed):
        """Count one object; one with several names counts once."""
        self.objects += 1
        self.youngest = max(self.youngest, changed)
        if seen.st_nlink > 1 and not stat.S_ISDIR(seen.st_mode):
            if (seen.st_dev, seen.st_ino) in self.linked:
                return
            self.linked.add((seen.st_dev, seen.st_ino))
        self.allocated += seen.st_blocks * 512
        if not stat.S_ISDIR(seen.st_mode):
            self.bytes += seen.st_size


class Walk:
    """Entries of an open root, those that nothing changed after ``limit`` (nanoseconds since 1970) may be removed.

    ``meets(path)`` raises Kept for a path (relative to the root) of anything that something refers to.
    """

    def __init__(self, root, limit, meets):
        self.root, self.limit, self.meets = root, limit, meets
        self.mount = mount_of(root)
        # file with several names of which we removed one: what its change time was before, and is since
        self.ours = {}

    def changed(self, seen):
        """When something other than this walk changed an object last."""
        before, after = self.ours.get((seen.st_dev, seen.st_ino), (None, None))
        return before if seen.st_ctime_ns == after else seen.st_ctime_ns

    def enter(self, parent, name, path, seen, level=0):
        """A descriptor of a folder that was seen. Raises Kept."""
        if level >= DEEPEST:
            raise Kept("unreadable", "%s: more than %d folders deep" % (path, DEEPEST))
        try:
            folder = os.open(name, FOLDER, dir_fd=parent)
        except OSError as error:
            raise Kept("unreadable", "%s: cannot be opened: %s" % (path, error.strerror))
        try:
            if mount_of(folder) != self.mount:
                raise Kept("mount", "%s: is on another file system" % path)
            if not same(os.fstat(folder), seen):
                raise Kept("touched", "%s: was replaced by another folder" % path)
        except Kept:
            os.close(folder)
            raise
        return folder

    def entries(self, depth, parent=None, above=""):
        """Yield (open folder, name, path relative to the root, None or why it cannot be entered) ``depth`` levels down.

        What is no folder has nothing below it, so above that depth only folders are looked into.
        """
        parent = self.root if parent is None else parent
        for name in sorted(os.listdir(parent)):
            if depth == 1:
                yield parent, name, above + name, None
                continue
            try:
                seen = look(parent, name)
                if not stat.S_ISDIR(seen.st_mode):
                    continue
                folder = self.enter(parent, name, above + name, seen)
                try:
                    yield from self.entries(depth - 1, folder, above + name + "/")
                finally:
                    os.close(folder)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    yield parent, name, above + name, Kept("unreadable", "%s: %s" % (above + name, error.strerror))
            except Kept as kept:
                yield parent, name, above + name, kept

    def scan(self, parent, name, path, renamed=False):
        """Tally of an entry that may go. Raises Kept at the first thing that says otherwise.

        ``renamed``: its own change time is that of our renaming.
        """
        try:
            seen = look(parent, name)
            tally = Tally(seen)
            self._scan(parent, name, path, seen, tally, 0, renamed)
            check_rights(parent, os.path.dirname(path) or ".")
        except OSError as error:
            raise Kept("touched" if error.errno == errno.ENOENT else "unreadable", "%s: %s" % (path, error.strerror))
        return tally

    def _scan(self, parent, name, path, seen, tally, level, renamed):
        self.meets(path)
        changed = self.changed(seen)
        if changed > self.limit and not renamed:
            raise Kept("young", "%s: was changed too short a time ago" % path)
        tally.add(seen, changed)
        if not stat.S_ISDIR(seen.st_mode):
            return
        folder = self.enter(parent, name, path, seen, level)
        try:
            check_rights(folder, path)
            for one in os.listdir(folder):
                self._scan(folder, one, path + "/" + one, look(folder, one), tally, level + 1, False)
        finally:
            os.close(folder)

    # --- removing

    def take(self, parent, name, path, tally):
        """Remove an entry that was scanned: whole, or not at all where something touched it meanwhile (Kept).

        Where the removal itself fails, the rest stays under a name that begins with ASIDE, and Kept says ``failed``.
        """
        try:
            seen = look(parent, name)
            if not same(seen, tally.top) or seen.st_ctime_ns != tally.top.st_ctime_ns:
                raise Kept("touched", "%s: was changed meanwhile" % path)
            if stat.S_ISDIR(seen.st_mode):
                aside = self.put_aside(parent, name, path)
                self.remove(parent, aside, path, 0)
            else:
                self.unlink(parent, name, seen)
        except OSError as error:
            raise Kept("failed", "%s: %s cannot be removed: %s" % (path, error.filename or name, error.strerror))

    def put_aside(self, parent, name, path):
        """Rename a folder, so that nobody finds it any more, and scan it once more. Returns its new name."""
        aside = name if name.startswith(ASIDE) else ASIDE + name
        if aside != name:
            if there(parent, aside):
                raise Kept("failed", "%s: remove %s first, which an interrupted run left" % (path, aside))
            os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=parent)
        try:
            self.scan(parent, aside, path, True)
        except BaseException as error:
            if aside != name:
                if there(parent, name):
                    raise Kept("failed", "%s: was made anew while the old one was set aside as %s" % (path, aside))
                os.rename(aside, name, src_dir_fd=parent, dst_dir_fd=parent)
            if isinstance(error, Kept) and error.why == "young":
                raise Kept("touched", "%s: was changed meanwhile" % path)
            raise
        return aside

    def remove(self, parent, name, path, level):
        """Remove a folder and what is in it, as long as nothing in it is younger than it may be."""
        try:
            folder = self.enter(parent, name, path, look(parent, name), level)
        except Kept as kept:
            raise Kept("failed", str(kept))
        try:
            for one in os.listdir(folder):
                seen = look(folder, one)
                if self.changed(seen) > self.limit:
                    raise Kept("failed", "%s/%s: was changed while it was being removed" % (path, one))
                if stat.S_ISDIR(seen.st_mode):
                    self.remove(folder, one, path + "/" + one, level + 1)
                else:
                    self.unlink(folder, one, seen)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=parent)

    def unlink(self, folder, name, seen):
        """Remove one name of an object that is no folder."""
        if seen.st_nlink == 1:
            os.unlink(name, dir_fd=folder)
            return
        handle = os.open(name, PASSED, dir_fd=folder)
        try:
            before = self.changed(os.fstat(handle))
            os.unlink(name, dir_fd=folder)
            # the other names of the file got a new change time by this, and are not younger for it
            left = os.fstat(handle)
            self.ours[left.st_dev, left.st_ino] = (before, left.st_ctime_ns)
        finally:
            os.close(handle)
