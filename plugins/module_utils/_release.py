# Copyright (c) 2026, sciops.sites contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What a release is: its identity, and its files without their texts.

Note that this module util is **PRIVATE** to the collection.

Nothing here touches a host; the controller uses it too. Python 3.6 and the standard library, no f-strings (see _probe).
"""

import hashlib
import json
import re

#: what a manifest says of a file
OF_A_FILE = ("dest", "mode", "owner", "group", "digest", "restarts", "secret", "validate")


def digest(text):
    """SHA-256 of a text, in hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def entry(rendered):
    """What a manifest says of a rendered file."""
    return {key: digest(rendered["content"]) if key == "digest" else rendered[key] for key in OF_A_FILE}


def release_id(version, build, files, launch, services):
    """The identity of a release, `<version>-<12 hex>`: the same input gives the same word.

    `files` are entries of a manifest. Of a build only its method and identity count.
    """
    made = build and {"method": build["method"], "id": build["id"]}
    parts = {"version": version, "build": made, "files": files, "launch": launch, "services": services}
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    # a folder is named by it
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", str(version)).lstrip(".-") or "0"
    return "%s-%s" % (name[:60], digest(canonical)[:12])
