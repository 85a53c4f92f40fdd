#!/usr/bin/env bash
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# gates.sh GATE..|all|list   runs the named gates in this order, prints the time of each, and ends at the first that fails.
# What pytest printed last in each gate is repeated at the end. Nothing that was started is left running.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
tools=$root/tests/tools
bin=$root/.venv/bin
export PATH=$bin:$PATH:/usr/sbin:/sbin ANSIBLE_CONFIG=$root/ansible.cfg PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1
export BED_OWNER=$$ BED_DIR=${BED_DIR:-$root/build/bed}
passed=()

venv() { "$tools/venv.sh" "${1:-test}"; }

host_programs() { # what test hosts need on this machine
  "$tools/system.sh" ip:iproute2 ssh:openssh-client nsenter:util-linux pgrep:procps perl:perl
}

# pytest whose last line is kept for the end
run_pytest() {
  local log rc=0
  mkdir -p build
  log=$(mktemp build/pytest.XXXXXX)
  "$bin/python" -m pytest "$@" 2>&1 | tee "$log" || rc=$?
  passed+=("$gate: $(grep -E '^=*.*(passed|failed|error|no tests ran)' "$log" | tail -n 1 | tr -d '=')")
  rm -f "$log"
  return $rc
}

gate_lint() {
  venv
  ruff check .
  ruff format --check .
  mypy -p ansible_collections.sciops.sites.plugins.plugin_utils
  yamllint --strict .
  ansible-lint --strict -q
  # scripts by their first line; templates of scripts are checked as what they render to, by the unit tests
  git ls-files -zco --exclude-standard -- ':!*.j2' ':!.collections' |
    xargs -0 awk 'FNR == 1 && /^#!(\/bin\/sh|\/usr\/bin\/env bash)/ {printf "%s%c", FILENAME, 0} {nextfile}' | xargs -0 shellcheck
  antsibull-changelog lint
}

gate_sanity() {
  venv
  "$tools/ansible-test.sh" sanity --python "$("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
}

gate_unit() {
  venv
  if [ $# -gt 0 ]; then run_pytest "$@"; else run_pytest -q tests/unit tests/faults -n 2; fi
}

gate_integration() {
  venv
  host_programs
  if [ $# -gt 0 ]; then run_pytest "$@"; else run_pytest -q tests/integration -n 3 --dist loadfile --durations=15; fi
}

gate_conformance() { # every launcher on the real thing, all side by side: they mostly wait; the page of the docs must be what was shown
  local name pid rc=0 log
  local -a running=() names=()
  venv
  host_programs
  if [ $# -gt 0 ]; then run_pytest "$@"; return; fi
  rm -rf build/conformance
  tests/bed/bed.sh build base slurm24 cluster
  "$bin/python" tests/tools/conformance_table.py --launchers > build/conformance.txt
  mapfile -t names < build/conformance.txt
  for name in "${names[@]}"; do
    log="build/conformance-${name//[^a-z0-9]/-}.log"
    "$bin/python" -m pytest -q tests/conformance --launcher "$name" --durations=3 >"$log" 2>&1 &
    running+=("$! $log $name")
  done
  for name in "${running[@]}"; do
    read -r pid log name <<< "$name"
    if ! wait "$pid"; then rc=1; cat "$log"; fi
    passed+=("$gate, $name: $(tail -n 1 "$log" | tr -d '=')")
  done
  [ $rc = 0 ] || return $rc
  "$bin/python" tests/tools/conformance_table.py --check
}

gate_artifact() {
  venv
  "$tools/artifact.sh"
}

gate_matrix() {
  host_programs
  "$tools/matrix.sh"
}

gate_molecule() {
  venv
  host_programs
  "$tools/molecule.sh"
}

gate_demo() { # the README's first command, twice: the second time changes nothing
  local log=build/demo.log
  make --no-print-directory reconcile
  make --no-print-directory reconcile | tee "$log"
  if ! grep -Eq 'changed=0 .*failed=0' "$log" || grep -Eq 'changed=[1-9]|failed=[1-9]|unreachable=[1-9]' "$log"; then
    echo "the second run of the demo changed something" >&2
    return 1
  fi
  make --no-print-directory stop
}

gate_bench() {
  venv
  host_programs
  "$bin/python" tests/bench/bench_pass.py
  "$bin/python" tests/bench/bench_launchers.py
  "$bin/python" tests/bench/bench_render.py
  "$bin/python" tests/bench/bench_condor.py
}

all=(lint unit demo artifact sanity matrix molecule integration conformance)

finish() {
  local rc=$?
  # what runs side by side, where this one is stopped in the middle
  # shellcheck disable=SC2046
  [ -z "$(jobs -p)" ] || kill $(jobs -p) 2>/dev/null || true
  [ ! -d "$BED_DIR" ] || "$root/tests/bed/bed.sh" down orphans || true
  for b in "$BED_DIR"/[0-9]*/owner; do # hosts of this very run, where it was stopped in the middle
    if [ -f "$b" ] && [ "$(cat "$b")" = $$ ]; then "$root/tests/bed/bed.sh" down "$(basename "$(dirname "$b")")" || true; fi
  done
  [ ${#passed[@]} -eq 0 ] || printf '%s\n' "${passed[@]}"
  if [ $rc -ne 0 ]; then echo "FAILED: ${gate:-start}" >&2; else echo "all gates passed: ${done_gates[*]}"; fi
}

case ${1:-list} in
  list) printf '%s\n' "${all[@]}" bench; exit ;;
  all) gates=("${all[@]}"); shift ;;
  *) gates=("$1"); shift ;;
esac
done_gates=()
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for gate in "${gates[@]}"; do
  declare -F "gate_$gate" >/dev/null || { echo "no gate $gate; there are: ${all[*]} bench" >&2; exit 2; }
  echo "=== $gate"
  begun=$SECONDS
  "gate_$gate" "$@"
  done_gates+=("$gate ($((SECONDS - begun)) s)")
  echo "=== $gate: passed after $((SECONDS - begun)) s"
done
