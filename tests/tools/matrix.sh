#!/usr/bin/env bash
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# matrix.sh [LINE..]   runs tests/integration/test_core_matrix.py with each supported ansible-core (2.16 2.17 2.18 2.19), a venv each
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- 2.16 2.17 2.18 2.19
for line in "$@"; do
  folder=build/core-$line
  tests/tools/venv.sh core "$line" "$folder"
  PATH=$PWD/$folder/bin:$PATH "$folder/bin/ansible" --version | sed -n 1p
  PATH=$PWD/$folder/bin:$PATH "$folder/bin/python" -m pytest -q tests/integration/test_core_matrix.py
done
