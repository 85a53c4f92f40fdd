#!/usr/bin/env bash
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# floor.sh SSH_CONFIG SOCKETS|none WIDTH PAYLOAD COMMAND HOST..   the least that asking all hosts can cost: WIDTH ssh processes at a
# time run the words of the file COMMAND on each host, with the file PAYLOAD on standard input. SOCKETS: folder of shared connections.
set -euo pipefail
config=$1 sockets=$2 width=$3 payload=$4 command=$5
shift 5
if [ "$sockets" = none ]; then
  share=(-o ControlMaster=no -o ControlPath=none)
else
  share=(-o ControlMaster=auto -o ControlPersist=10m -o "ControlPath=$sockets/%C")
fi
# shellcheck disable=SC2016 # the inner shell expands it
printf '%s\0' "$@" | xargs -0 -P "$width" -n 1 sh -c '
  payload=$1 command=$2; shift 2
  exec "$@" "$(cat "$command")" < "$payload" > /dev/null' x "$payload" "$command" ssh -F "$config" -o BatchMode=yes "${share[@]}"
