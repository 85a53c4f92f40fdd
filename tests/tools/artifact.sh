#!/usr/bin/env bash
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# artifact.sh   builds the collection from the tracked and new files, installs it in an empty place, and there, far from the
# checkout: the documentation of every plugin and role is complete, nothing private to the checkout came along, playbooks parse.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source" "$work/empty"
git ls-files -co --exclude-standard -z | while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
  tar --null -T - -cf - | tar -xf - -C "$work/source"

unset ANSIBLE_CONFIG
export HOME=$work/home ANSIBLE_COLLECTIONS_PATH=$work/installed ANSIBLE_LOCAL_TEMP=$work/tmp
mkdir "$HOME"
ansible-galaxy collection build "$work/source" --output-path "$work" >/dev/null
ansible-galaxy collection install --offline "$work"/sciops-sites-*.tar.gz -p "$work/installed" >/dev/null
installed=$work/installed/ansible_collections/sciops/sites
cd "$work/empty"

for private in tests molecule build .venv .collections .ci .git Makefile; do
  [ ! -e "$installed/$private" ] || { echo "the artifact holds $private" >&2; exit 1; }
done

count=0
doc() { # TYPE NAME: has a description and, where it is a plugin, working examples
  local json
  json=$(ansible-doc -t "$1" --json "$2" 2>"$work/err") || { cat "$work/err" >&2; exit 1; }
  python3 - "$1" "$2" "$json" <<'P'
import json, sys
kind, name, text = sys.argv[1:]
found = json.loads(text)
if name not in found:
    sys.exit(f"ansible-doc -t {kind} {name}: not found")
if kind == "role":
    if not found[name].get("entry_points"):
        sys.exit(f"role {name}: no entry point is documented (meta/argument_specs.yml)")
else:
    doc = found[name].get("doc") or sys.exit(f"{kind} {name}: no documentation")
    for key in ("short_description", "description", "author", "version_added"):
        if not doc.get(key):
            sys.exit(f"{kind} {name}: its documentation has no {key}")
    if not found[name].get("examples"):
        sys.exit(f"{kind} {name}: no examples")
    if kind == "module" and not doc.get("attributes"):
        sys.exit(f"module {name}: no attributes")
P
  count=$((count + 1))
}
for kind in module inventory lookup filter callback; do
  folder=$installed/plugins/${kind/module/modules}
  suffix=py
  [ "$kind" != filter ] || suffix=yml # one file of Python has several, each documented beside it
  for file in "$folder"/[!_]*."$suffix"; do
    [ ! -e "$file" ] || doc "$kind" "sciops.sites.$(basename "$file" ".$suffix")"
  done
done
for file in "$installed"/plugins/action/[!_]*.py; do # its documentation is that of the module of the same name
  [ ! -e "$file" ] || [ -e "$installed/plugins/modules/$(basename "$file")" ] || { echo "action $(basename "$file" .py) has no module file" >&2; exit 1; }
done
for role in "$installed"/roles/*/; do
  [ ! -d "$role" ] || doc role "sciops.sites.$(basename "$role")"
done
[ "$count" -gt 0 ] || { echo "no plugin was found in the artifact" >&2; exit 1; }

books=0
for book in "$installed"/playbooks/*.yml; do
  [ -e "$book" ] || continue
  ansible-playbook --syntax-check -i localhost, "sciops.sites.$(basename "$book" .yml)" >/dev/null 2>"$work/err" || { cat "$work/err" >&2; exit 1; }
  books=$((books + 1))
done
echo "documentation of $count plugins and roles, syntax of $books playbooks, from $(basename "$work"/sciops-sites-*.tar.gz)"
