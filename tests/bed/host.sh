#!/usr/bin/env bash
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# host.sh BED HOST KIND ROOTFS STATE NETNS   keeps one host of bed.sh alive until its process 1 ends; a reboot from inside starts it again
set -euo pipefail

cgroups=/sys/fs/cgroup/unified
[ -e $cgroups/cgroup.procs ] || cgroups=/sys/fs/cgroup

keep() {
  local bed=$1 host=$2 state=$5 netns=$6 rc group
  trap '' HUP INT
  mkdir -p "$state"/{root,up,work}
  group=
  if [ -e $cgroups/cgroup.procs ] && mkdir -p "$cgroups/bed$bed/$host" 2>/dev/null; then group=$cgroups/bed$bed/$host; fi
  echo "$group" > "$state/cgroup"
  while :; do
    [ -z "$group" ] || mkdir -p "$group"
    nsenter "--net=/run/netns/$netns" unshare --mount --pid --uts --ipc --fork --kill-child bash "$0" inside "$@" </dev/null &
    echo $! > "$state/pid"
    rc=0
    wait $! || rc=$?
    rm -f "$state/pid"
    [ -z "$group" ] || find "$group" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true
    # the kernel ends process 1 by SIGHUP for a reboot
    [ $rc = 129 ] || break
  done
}

inside() { # process 1 of the new process table: builds the view of the host, then becomes its init
  local host=$2 kind=$3 lower=$4 state=$5
  local root=$state/root node name major minor
  [ ! -s "$state/cgroup" ] || echo 0 > "$(cat "$state/cgroup")/cgroup.procs"
  mount --make-rprivate /
  mount -t overlay overlay -o "lowerdir=$lower,upperdir=$state/up,workdir=$state/work" "$root"
  mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
  # settings of the whole machine are read-only here; those of the own network stay writable
  mount --bind "$root/proc/sys" "$root/proc/sys"
  mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
  mount -o remount,bind,ro "$root/proc/sys"
  cat /proc/sys/kernel/random/uuid > "$state/boot_id"
  mount --bind "$state/boot_id" "$root/proc/sys/kernel/random/boot_id"
  : > "$state/empty"
  mount --bind "$state/empty" "$root/proc/sysrq-trigger" 2>/dev/null || true
  mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
  mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
  for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<< "$node"
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
  done
  mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  ln -s /proc/self/fd "$root/dev/fd"
  for node in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${node%:*}" "$root/dev/${node#*:}"; done
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
  mkdir -p "$root/run/sshd" "$root/run/lock"
  if [ -d "$root/etc/apptainer" ]; then
    mknod -m 666 "$root/dev/fuse" c 10 229
    # users may mount proc in namespaces of their own only where one is that nothing covers
    mkdir -p "$root/run/host/proc"
    mount -t proc -o nosuid,nodev,noexec proc "$root/run/host/proc"
  fi
  [ -s "$root/etc/machine-id" ] || tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
  echo "$host" > "$root/etc/hostname"
  hostname "$host"
  cp "$state/../../hosts" "$root/etc/hosts"
  # the cgroup namespace comes last, so that the host's own cgroup is its root
  # shellcheck disable=SC2016
  exec unshare --cgroup bash -euc '
    if [ "$2" = systemd ]; then mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$1/sys/fs/cgroup"; fi
    cd "$1"; mkdir -p .old; pivot_root . .old; cd /; umount -l /.old; rmdir /.old || true
    path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    if [ "$2" = systemd ]; then
      exec setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog env -i container=bed PATH=$path LANG=C.UTF-8 /lib/systemd/systemd --system
    fi
    exec env -i PATH=$path LANG=C.UTF-8 /usr/sbin/sshd -D' x "$root" "$kind"
}

if [ "$1" = inside ]; then shift; inside "$@"; else keep "$@"; fi
