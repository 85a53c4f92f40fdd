#!/bin/sh
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# run-pass CONFIG: one pass of the loop, for a timer or cron. It is quiet when all is well.
# Exit status: 0 unchanged, 10 changed, 20 not converged, 30 unsafe, 40 halted, 75 another pass is at work, 1 error;
# of several sites the worst. Without a report of this run: ansible-playbook's own status, or 1 where that says nothing.
set -u
umask 077
config=${1:?usage: run-pass CONFIG}
# shellcheck source=/dev/null
. "$config" || exit 1
: "${SCHEDULE_NAME:?}" "${SCHEDULE_DIRECTORY:?}" "${SCHEDULE_LOGS:?}" "${SCHEDULE_STAMP:?}"
: "${SCHEDULE_LOG_DAYS:=14}" "${SCHEDULE_LIMIT:=900}" "${SCHEDULE_JITTER:=0}" "${SCHEDULE_TAIL:=30}"

say() { echo "sciops.sites $SCHEDULE_NAME: $*" >&2; }

mkdir -p -- "$SCHEDULE_LOGS" || exit 1
cd -- "$SCHEDULE_DIRECTORY" || exit 1
# N days are N times 24 hours here; find rounds an age down, and +N means more than N
find "$SCHEDULE_LOGS" -type f -name 'pass.*' -mtime "+$((SCHEDULE_LOG_DAYS - 1))" -exec rm -f {} +

if [ "$SCHEDULE_JITTER" -gt 0 ]; then
    random=$(od -An -N2 -tu2 /dev/urandom | tr -d ' \n')
    sleep $((${random:-0} % (SCHEDULE_JITTER + 1)))
fi

run=$(date +%s).$$
log=$SCHEDULE_LOGS/pass.$run.log
report=$SCHEDULE_LOGS/pass.$run.json
: >"$log" || exit 1

child=
# shellcheck disable=SC2329
stop() {
    trap '' HUP INT TERM
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap stop HUP INT TERM

# The configuration defines what is run, with its arguments each a word: schedule_command REPORT.
# timeout gives it a process group of its own and ends the whole group.
schedule_command "$report" >"$log" 2>&1 </dev/null &
child=$!
wait "$child"
status=$?
# a trapped signal ends the wait before the child has ended
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    status=$?
done
child=

# The number after each "exit_code", of the whole run and of each site; a quote in a text is escaped, so it cannot match.
codes=
[ ! -s "$report" ] || codes=$(tr '{,}' '[\n*3]' <"$report" | sed -n 's/^ *"exit_code" *: *\([0-9][0-9]*\) *$/\1/p')
rm -f -- "$report"

if [ -z "$codes" ]; then
    case $status in
        124 | 137) say "ended after its limit of $SCHEDULE_LIMIT s, or killed" ;;
        *) say "ended with status $status and left no report" ;;
    esac
    case $status in
        # these would be read as the outcome of a pass
        0 | 10 | 20 | 30 | 40 | 75) code=1 ;;
        *) code=$status ;;
    esac
else
    code=0
    for level in 10 75 40 20 30; do
        for one in $codes; do [ "$one" -ne "$level" ] || code=$level; done
    done
    for one in $codes; do
        case $one in 0 | 10 | 20 | 30 | 40 | 75) ;; *) code=1 ;; esac
    done
    # all sites are well, yet something beside the pass failed
    [ "$status" -eq 0 ] || case $code in 0 | 10) code=1 ;; esac
    # what the dead-man alert looks at: passes come to an end; one that finds another at work does not count
    case $code in
        1 | 75) ;;
        *) date +%s >"$SCHEDULE_STAMP.$$" && mv -f "$SCHEDULE_STAMP.$$" "$SCHEDULE_STAMP" ;;
    esac
fi

case $code in
    0 | 10) ;;
    *)
        say "exit $code; the end of $log:"
        tail -n "$SCHEDULE_TAIL" "$log" >&2
        ;;
esac
exit "$code"
