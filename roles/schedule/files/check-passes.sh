#!/bin/sh
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# check-passes CONFIG: the dead-man alert. Complains when no pass has come to an end for too long.
# One line in the form of a monitoring plugin, exit status 0 (OK), 2 (CRIT) or 3 (UNKNOWN).
set -u
config=${1:?usage: check-passes CONFIG}
# shellcheck source=/dev/null
. "$config" || exit 3
: "${SCHEDULE_NAME:?}" "${SCHEDULE_STAMP:?}" "${SCHEDULE_ALERT_AFTER:?}" "${SCHEDULE_LOGS:?}"

now=$(date +%s)
then=$(cat -- "$SCHEDULE_STAMP" 2>/dev/null)
case $then in
    '' | *[!0-9]*)
        text="PASSES CRIT | $SCHEDULE_NAME: no pass has ended, $SCHEDULE_STAMP cannot be read |"
        code=2
        ;;
    *)
        age=$((now - then))
        if [ "$age" -gt "$SCHEDULE_ALERT_AFTER" ]; then
            last=$(find "$SCHEDULE_LOGS" -type f -name 'pass.*.log' 2>/dev/null | sort | tail -n 1)
            text="PASSES CRIT | $SCHEDULE_NAME: no pass has ended for $age s, limit $SCHEDULE_ALERT_AFTER s; last log ${last:-none} |"
            code=2
        else
            text="PASSES OK | $SCHEDULE_NAME: a pass ended $age s ago, limit $SCHEDULE_ALERT_AFTER s |"
            code=0
        fi
        ;;
esac
if [ "$code" -eq 0 ]; then
    # quiet for cron, one line for who asks with a second argument
    [ $# -lt 2 ] || echo "$text"
else
    echo "$text" >&2
    # schedule_alert is defined by the configuration; what it cannot do must not hide the alert
    schedule_alert "$text" || echo "sciops.sites $SCHEDULE_NAME: the alert command failed" >&2
fi
exit "$code"
