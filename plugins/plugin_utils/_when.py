# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times that people write."""

from __future__ import annotations

from datetime import datetime, timezone


def unix_time(written: float | str | None) -> float | None:
    """Unix time of an ISO 8601 date or time (UTC where it names no zone) or of a number; ValueError for other words."""
    if written is None or not isinstance(written, str):
        return written
    moment = datetime.fromisoformat(written.strip().replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
