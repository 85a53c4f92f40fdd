# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes docs/conformance.md from what the last run of the conformance suite showed.

conformance_table.py              writes it
conformance_table.py --check      ends with 1 where the page says something else than the run
conformance_table.py --launchers  names the launchers, a line each
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "build" / "conformance"
PAGE = ROOT / "docs" / "conformance.md"
HEAD = """# Launchers, case by case

Written by `tests/tools/conformance_table.py` from a run of `make conformance`. Each cell is a test on the real thing:
supervisord 4.3 from PyPI, systemd as process 1, apptainer 1.4.5, Slurm 24.11 and 26.05, HTCondor 23.9 and 25.14, each
on a host of its own. An empty cell is a case about something that the launcher does not have. A power cut of the only
node of a cluster is not shown here: test hosts have the uptime of the machine, by which Slurm takes the node for one
that was not off; what HTCondor does then is in `tests/integration/test_condor_launcher.py`.

"""


def page() -> str:
    """Return the page for what was recorded; ends the program where a case failed or nothing was recorded."""
    rows = [json.loads(path.read_text()) for path in sorted(RECORD.glob("*.json"))]
    if not rows:
        sys.exit(f"{RECORD}: nothing is recorded; run the conformance suite first")
    bad = [f"{row['case']} ({row['launcher']})" for row in rows if row["outcome"] != "passed"]
    if bad:
        sys.exit("these did not pass: " + "; ".join(bad))
    launchers = sorted({row["launcher"] for row in rows}, key=lambda one: (ORDER.index(one), one))
    cases = sorted({(row["file"], row["line"], row["case"]) for row in rows})
    shown = {(row["case"], row["launcher"]) for row in rows}
    lines = ["| case | " + " | ".join(launchers) + " |", "|---" * (len(launchers) + 1) + "|"]
    for _file, _line, case in cases:
        cells = ["yes" if (case, launcher) in shown else "" for launcher in launchers]
        lines.append("| " + " | ".join([case.replace("|", "\\|"), *cells]) + " |")
    return HEAD + f"{len(cases)} cases, {len(shown)} tests.\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / ".collections")]
    from conformance.launchers import KINDS

    ORDER = list(KINDS)
    if "--launchers" in sys.argv:
        sys.stdout.write("".join(f"{name}\n" for name in ORDER))
        sys.exit()
    text = page()
    if "--check" in sys.argv:
        if not PAGE.exists() or PAGE.read_text() != text:
            sys.exit(f"{PAGE.relative_to(ROOT)} is not what the run showed; write it with {Path(__file__).name}")
    else:
        PAGE.write_text(text)
        sys.stdout.write(f"{PAGE}\n")
