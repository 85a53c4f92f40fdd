#!/usr/bin/env bash
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# molecule.sh [SCENARIO..]   makes hosts for each scenario of molecule/, runs its whole sequence, ends the hosts.
# A scenario says what it wants in the first line of its molecule.yml: "# hosts: 2 light" or "# hosts: 1 systemd cluster",
# with a recipe of tests/bed/bed.sh.
# It finds its hosts by MOLECULE_BED (folder with inventory.ini and ssh_config) and MOLECULE_BED_NUMBER.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
export PATH=$root/.venv/bin:$PATH BED_OWNER=${BED_OWNER:-$$} BED_DIR=${BED_DIR:-$root/build/bed}
export ANSIBLE_CONFIG=$root/ansible.cfg ANSIBLE_HOST_KEY_CHECKING=false
[ $# -gt 0 ] || { cd molecule; set -- */; cd ..; }
bed=
trap '[ -z "$bed" ] || tests/bed/bed.sh down "$bed"' EXIT
for scenario in "${@%/}"; do
  [ -f "molecule/$scenario/molecule.yml" ] || { echo "no scenario $scenario" >&2; exit 2; }
  read -r _ _ count kind recipe < "molecule/$scenario/molecule.yml"
  bed=$(tests/bed/bed.sh up "$count" "$kind" "${recipe:-base}")
  export MOLECULE_BED=$BED_DIR/$bed MOLECULE_BED_NUMBER=$bed
  # what molecule keeps of a scenario, from its start to its end
  export MOLECULE_EPHEMERAL_DIRECTORY=$root/build/molecule/$scenario
  rm -rf "$MOLECULE_EPHEMERAL_DIRECTORY"
  mkdir -p "$MOLECULE_EPHEMERAL_DIRECTORY"
  molecule test --scenario-name "$scenario" --destroy always
  tests/bed/bed.sh down "$bed"
  bed=
done
