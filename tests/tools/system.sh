#!/bin/sh
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# system.sh PROGRAM:PACKAGE...   makes sure that programs exist; installs the Debian package of those that do not.
# The word "venv" stands for a python3 that can make virtual environments. Without root it says what to install and ends with 1.
set -eu

has() {
  case $1 in
    venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 ;;
  esac
}

missing=
for pair in "$@"; do
  has "${pair%%:*}" || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "missing:$missing. Install them (on Debian: apt-get install$missing), then try again." >&2
  exit 1
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of package names
apt-get -qq update >/dev/null && apt-get -qq install -y --no-install-recommends $missing >/dev/null
