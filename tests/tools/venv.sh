#!/bin/sh
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# venv.sh [run|test]         brings .venv at the root of the checkout up to requirements.txt (run) and tests/requirements.txt (test).
# venv.sh core 2.17 FOLDER   makes FOLDER with the newest ansible-core of that line, jsonschema and pytest.
# Does nothing where the lists did not change since the last time. PYTHON names another interpreter.
set -eu

cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}

# A folder that was moved or half made is made again: its programs name the place they were made for.
make_venv() {
  if [ ! -x "$1/bin/python" ] || ! "$1/bin/python" -c 'import pip' 2>/dev/null || ! head -n1 "$1/bin/pip" | grep -qF "$(realpath "$1")/bin/"; then
    tests/tools/system.sh venv:python3-venv
    rm -rf "$1"
    "$python" -m venv "$1"
  fi
}

# fill FOLDER STAMP PIP-ARGUMENTS..: installs once per state of the lists, whose digest is kept in STAMP
fill() {
  folder=$1 stamp=$1/.filled-$2 sum=$(cat requirements.txt tests/requirements.txt | sha256sum)
  shift 2
  if [ "$(cat "$stamp" 2>/dev/null)" != "$sum $*" ]; then
    echo "preparing $folder ($*)" >&2
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    echo "$sum $*" > "$stamp"
  fi
}

# two calls at once wait for each other
mkdir -p build
exec 9> build/.venv.lock
flock 9

case ${1:-run} in
  run) make_venv .venv; fill .venv run -r requirements.txt ;;
  test) make_venv .venv; fill .venv test -r requirements.txt -r tests/requirements.txt ;;
  core) mkdir -p "$(dirname "$3")"; make_venv "$3"; fill "$3" "core-$2" "ansible-core~=$2.0" jsonschema==4.26.0 pytest==9.2.0 ;;
  *) sed -n '6,8p' "$0" >&2; exit 2 ;;
esac
