#!/usr/bin/env bash
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# ansible-test.sh COMMAND ARGS..   runs ansible-test --venv on a copy of this checkout, with nothing but a package index at hand.
# ansible-test wants its collection at ansible_collections/<namespace>/<name> without loops of links, so it gets a copy of the
# tracked and new files. Its virtual environments want a get-pip script from a web site; the interpreter's own pip does as well.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy=$work/ansible_collections/sciops/sites
mkdir -p "$copy" build

git ls-files -co --exclude-standard -z | grep -zv '^\.collections' |
  while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done | tar --null -T - -cf - | tar -xf - -C "$copy"
git -C "$copy" init -q
git -C "$copy" add -A

# its environments are kept from one run to the next
export ANSIBLE_TEST_HOME=$PWD/build/ansible-test
cache=$ANSIBLE_TEST_HOME/.ansible/test/cache
mkdir -p "$cache"
pip_versions=$(grep -rhoE "pip==[0-9.]+|pip='[0-9.]+'|get_pip_[0-9_]+|default_version = '[0-9.]+'|'[0-9]{2}\.[0-9](\.[0-9])?'" \
  .venv/lib/python3*/site-packages/ansible_test/_internal/python_requirements.py \
  .venv/lib/python3*/site-packages/ansible_test/_util/target/setup/requirements.py 2>/dev/null | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | sort -uV || true)
for version in $pip_versions 24.2; do
  cat > "$cache/get_pip_${version//./_}.py" <<'P'
"""Installs pip as get-pip would: from the interpreter's bundle, then the wanted version from the package index."""
import ensurepip
import os
import subprocess
import sys

environment = dict(os.environ)  # ensurepip switches the index settings off for this process
ensurepip.bootstrap()
words = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *words], env=environment))
P
done

verb=$1
shift
cd "$copy"
HOME=$ANSIBLE_TEST_HOME ansible-test "$verb" --venv --color no "$@"
