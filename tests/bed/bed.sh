#!/usr/bin/env bash
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# bed.sh - real hosts for the tests on one Linux machine, made of kernel namespaces: each has its own process table, mounts,
# hostname, boot id, network address and sshd. Needs root. Nothing is installed on the machine for the hosts themselves.
#
#   bed.sh check                  says why this machine cannot hold hosts (exit 1), or nothing (exit 0)
#   bed.sh build [RECIPE..]       the root file systems that hosts share (each once; about half a minute each)
#   bed.sh up N [KIND [RECIPE]]   a new set of hosts h1..hN; prints the number of the bed.
#                                 KIND: light (sshd is process 1) or systemd
#   bed.sh down BED|all|orphans   ends a set, every set, or those whose owner (BED_OWNER, a process id) is gone
#   bed.sh list [BED]             host, kind, address, process 1 (its id outside, or "down")
#   bed.sh exec BED HOST CMD..    runs a command in all namespaces of a host, without ssh
#   bed.sh view BED HOST CMD..    runs a command that sees the host's processes and files, not its users' settings (pid and mount namespaces)
#   bed.sh cut|heal BED HOST      network cable out; in again
#   bed.sh mute|unmute BED HOST   sshd accepts connections and says nothing; answers again
#   bed.sh kill|boot BED HOST     power cut; power on again (files kept, new boot id)
#
# Recipes: base; slurm22 (Slurm 22.05); slurm24 (Slurm 24.11, HTCondor 23.9); cluster (the newest Slurm and HTCondor, apptainer and
# images for it, slapd, xpra). All have supervisor.
# A bed has a number, chosen here: hosts of bed 101 are at 10.101.a.b. Several beds live side by side.
# Its folder $BED_DIR/<number> holds ssh_config, inventory.ini; the key is $BED_DIR/id_ed25519. Users: root, deploy (has sudo), jadelta.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BED_DIR=${BED_DIR:-$here/../../build/bed}
mkdir -p "$BED_DIR"
BED_DIR=$(cd "$BED_DIR" && pwd)
key=$BED_DIR/id_ed25519

die() { echo "bed: $*" >&2; exit 1; }

# shellcheck disable=SC2016 # the inner shell expands it
check() {
  [ "$(id -u)" = 0 ] || die "hosts are made of kernel namespaces, which needs root"
  [ "$(uname -s)" = Linux ] || die "needs Linux"
  local probe
  probe=$(mktemp -d)
  if ! unshare --mount --pid --net --uts --ipc --fork bash -euc 'mount --make-rprivate /
      mount -t tmpfs t "$1"; mkdir "$1"/l "$1"/u "$1"/w "$1"/m; mount -t overlay o -o "lowerdir=$1/l,upperdir=$1/u,workdir=$1/w" "$1/m"' x "$probe" 2>/dev/null; then
    rmdir "$probe"
    die "this kernel or container allows no new namespaces or no overlay mounts"
  fi
  rmdir "$probe"
}

# --- root file system ------------------------------------------------------------------------------------------------

supervisor=4.3.0

recipe() { # NAME: sets the Debian suite and the packages of a recipe
  packages=systemd,systemd-sysv,libpam-systemd,dbus,dbus-user-session,openssh-server,python3,sudo,procps,psmisc,iproute2,cron,util-linux,acl,python3-venv,bind9,bind9-dnsutils
  case $1 in
    base) suite=bookworm ;;
    slurm22) suite=bookworm packages+=,slurm-wlm,munge ;;
    slurm24) suite=trixie packages+=,slurm-wlm,munge,condor ;;
    cluster)
      suite=sid packages+=,slurm-wlm,munge,condor,slapd,ldap-utils,xpra,python3-pil,openssh-client
      packages+=,apptainer,squashfs-tools,squashfuse,fuse3,fuse-overlayfs,e2fsprogs,uidmap,busybox-static ;;
    *) die "no recipe $1; there are: base slurm22 slurm24 cluster" ;;
  esac
}

rootfs() { # RECIPE: its folder, whose name holds a digest of all that goes in, so that a changed recipe is a new one
  recipe "$1"
  echo "$BED_DIR/rootfs/$1-$({ echo "$suite $packages $supervisor"; cat "$here/customize.sh"; } | sha256sum | cut -c1-12)"
}

# shellcheck disable=SC2016 # apt expands it
mirror() { # SUITE: the mirror this machine itself uses for it or for another suite, else Debian's own
  local m
  m=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Identifier: Packages' 2>/dev/null |
    awk -v s="$1" '$1 ~ /debian\/?$/ && ($2 == s || !u) {u = $1} $1 ~ /debian\/?$/ && $2 == s {exit} END {print u}') || true
  echo "${m:-http://deb.debian.org/debian}"
}

mmdebstrap_program() { # the installed one; else unpacked into the bed's folder; else installed
  local tool=$BED_DIR/tools
  command -v mmdebstrap && return
  if [ ! -x "$tool/usr/bin/mmdebstrap" ]; then
    mkdir -p "$tool/download"
    { apt-get -qq update && cd "$tool/download" && apt-get -qq download mmdebstrap && dpkg -x mmdebstrap_*.deb "$tool"; } >&2 || true
  fi
  if "$tool/usr/bin/mmdebstrap" --version >/dev/null 2>&1; then
    echo "$tool/usr/bin/mmdebstrap"
  else
    apt-get -qq install -y --no-install-recommends mmdebstrap >&2 && command -v mmdebstrap
  fi
}

supervisor_folder() { # supervisor from PyPI (pure Python), by the pip that is here
  local to=$BED_DIR/tools/supervisor-$supervisor python=$here/../../.venv/bin/python
  if [ ! -d "$to" ]; then
    "$python" -m pip --version >/dev/null 2>&1 || python=python3
    "$python" -m pip --version >/dev/null 2>&1 || { "$here/../tools/venv.sh" run >&2; python=$here/../../.venv/bin/python; }
    rm -rf "$to.new"
    PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
      --target "$to.new" "supervisor==$supervisor" >&2 || die "no supervisor $supervisor from PyPI"
    mv "$to.new" "$to"
  fi
  echo "$to"
}

build() { # RECIPE; what is there already needs no lock, so that nobody waits for the build of another
  local root new tool from
  root=$(rootfs "$1")
  if [ -d "$root" ] && [ -f "$key" ]; then return; fi
  exec 8> "$BED_DIR/build.lock"
  flock 8
  [ -f "$key" ] || ssh-keygen -q -t ed25519 -N '' -C bed -f "$key"
  if [ -d "$root" ]; then exec 8>&-; return; fi
  check
  recipe "$1"
  tool=$(mmdebstrap_program)
  from=$(supervisor_folder)
  new=$root.new
  mkdir -p "$BED_DIR/rootfs"
  rm -rf --one-file-system "$new"
  echo "bed: building the root file system $1 (about half a minute)" >&2
  "$tool" --quiet --variant=minbase --include="$packages" --aptopt='Acquire::Check-Valid-Until "false"' \
    --customize-hook="sh $here/customize.sh \"\$1\" $from" "$suite" "$new" "$(mirror "$suite")" >&2 ||
    { rm -rf --one-file-system "$new"; die "the root file system $1 could not be made"; }
  mv "$new" "$root"
  exec 8>&- # hosts outlive this script and must not hold its lock
}

# --- one host --------------------------------------------------------------------------------------------------------

folder() { echo "$BED_DIR/$1"; }
state() { echo "$BED_DIR/$1/run/$2"; }
netns() { echo "bed$1-$2"; }
address() { echo "10.$1.$(($2 / 200)).$(($2 % 200 + 10))"; }
hosts_of() { local d; for d in "$(folder "$1")"/run/*/; do [ ! -f "$d/spec" ] || basename "$d"; done | sort -V; }
need_host() { [ -f "$(state "$1" "$2")/spec" ] || die "no host $2 in bed $1"; }

pid1() { # id, outside, of process 1 of a host; nothing where it is down
  local p
  p=$(cat "$(state "$1" "$2")/pid" 2>/dev/null) && pgrep -P "$p" || true
}

boot() { # BED HOST: starts the keeper of a host's namespaces, which lives as long as the host
  local s root
  s=$(state "$1" "$2")
  root=$(cat "$(folder "$1")/rootfs")
  [ -z "$(pid1 "$1" "$2")" ] || return 0
  read -r kind _ < "$s/spec"
  BED_DIR=$BED_DIR setsid bash "$here/host.sh" "$1" "$2" "$kind" "$root" "$s" "$(netns "$1" "$2")" </dev/null >>"$s/console.log" 2>&1 &
}

wait_ready() { # BED HOST..: sshd answers, and with systemd the boot is over
  local bed=$1 n tries=0 ip
  shift
  for n in "$@"; do
    read -r _ ip < "$(state "$bed" "$n")/spec"
    until timeout 1 bash -c "exec 3<>/dev/tcp/$ip/22; read -rt 1 x <&3" 2>/dev/null && [ ! -e "/proc/$(pid1 "$bed" "$n")/root/run/nologin" ]; do
      tries=$((tries + 1))
      [ $tries -lt 900 ] || die "host $n of bed $bed does not come up, see $(state "$bed" "$n")/console.log: $(tail -n 3 "$(state "$bed" "$n")/console.log")"
      sleep 0.1
    done
  done
}

power_off() { # BED HOST..
  local bed=$1 n p
  local -a gone=()
  shift
  for n in "$@"; do p=$(pid1 "$bed" "$n"); [ -z "$p" ] || gone+=("$p"); done
  [ ${#gone[@]} -gt 0 ] || return 0
  kill -9 "${gone[@]}" 2>/dev/null || true
  for p in "${gone[@]}"; do
    for _ in $(seq 200); do [ -e "/proc/$p" ] || break; sleep 0.05; done
  done
}

# --- a set of hosts --------------------------------------------------------------------------------------------------

claim() { # the first free number; making the bridge is what claims it
  local b
  for b in $(seq "${BED_FIRST:-101}" 250); do
    if [ ! -e "$(folder "$b")" ] && ip link add "bed$b" type bridge 2>/dev/null; then echo "$b"; return; fi
  done
  die "no free bed number; see: bed.sh list"
}

up() {
  local count=$1 kind=${2:-light} recipe=${3:-base} bed f n i have
  case $kind in light | systemd) ;; *) die "kind is light or systemd, not $kind" ;; esac
  [ "$count" -ge 1 ] && [ "$count" -le 600 ] || die "1 to 600 hosts, not $count"
  build "$recipe"
  bed=$(claim)
  f=$(folder "$bed")
  mkdir -p "$f/run"
  echo "${BED_OWNER:-}" > "$f/owner"
  # kept, so that a host that boots again has the files it had, whatever became of its recipe
  rootfs "$recipe" > "$f/rootfs"
  # what hosts write lives in memory and is gone with them
  mount -t tmpfs -o mode=755 "bed$bed" "$f/run"
  if [ "$kind" = systemd ]; then # each systemd takes a few inotify instances of root's 128
    have=$(cat /proc/sys/fs/inotify/max_user_instances)
    [ "$have" -ge $((128 + count * 10)) ] || echo $((have + 128 + count * 10)) > /proc/sys/fs/inotify/max_user_instances
  fi
  ip addr add "10.$bed.0.1/16" dev "bed$bed"
  ip link set "bed$bed" up
  echo '127.0.0.1 localhost' > "$f/hosts"
  printf 'Host *\n  User root\n  IdentityFile %s\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n  ConnectTimeout 5\n' "$key" > "$f/ssh_config"
  echo '[bed]' > "$f/inventory.ini"
  for i in $(seq 1 "$count"); do
    n=h$i
    echo "$(address "$bed" "$i") $n" >> "$f/hosts"
    printf 'Host %s\n  HostName %s\n' "$n" "$(address "$bed" "$i")" >> "$f/ssh_config"
    echo "$n ansible_host=$(address "$bed" "$i")" >> "$f/inventory.ini"
    mkdir -p "$(state "$bed" "$n")"
    echo "$kind $(address "$bed" "$i")" > "$(state "$bed" "$n")/spec"
  done
  cat >> "$f/inventory.ini" <<X
[bed:vars]
ansible_user=root
ansible_ssh_private_key_file=$key
ansible_python_interpreter=/usr/bin/python3
ansible_ssh_common_args=-o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
X
  for i in $(seq 1 "$count"); do echo "netns add $(netns "$bed" "h$i")"; done | ip -batch -
  # left by a bed that was ended in the middle of its own making
  for i in $(seq 1 "$count"); do ip link del "v$bed-$i" 2>/dev/null || true; done
  for i in $(seq 1 "$count"); do
    echo "link add v$bed-$i type veth peer name eth0 netns $(netns "$bed" "h$i")"
    echo "link set v$bed-$i master bed$bed up"
  done | ip -batch -
  for i in $(seq 1 "$count"); do
    n=h$i
    printf 'link set lo up\naddr add %s/16 dev eth0\nlink set eth0 up\n' "$(address "$bed" "$i")" | ip -n "$(netns "$bed" "$n")" -batch -
    boot "$bed" "$n"
  done
  # shellcheck disable=SC2046
  wait_ready "$bed" $(hosts_of "$bed") || { down "$bed"; exit 1; }
  echo "$bed"
}

down() {
  local bed=$1 f n cg
  f=$(folder "$bed")
  [ -d "$f" ] || return 0
  # shellcheck disable=SC2046
  power_off "$bed" $(hosts_of "$bed")
  for n in $(hosts_of "$bed"); do
    cg=$(cat "$(state "$bed" "$n")/cgroup" 2>/dev/null) && find "$cg" -depth -type d -exec rmdir {} + 2>/dev/null || true
    # the kernel takes a deleted namespace apart later: the link must be gone before the next bed of this number
    ip link del "v$bed-${n#h}" 2>/dev/null || true
    ip netns del "$(netns "$bed" "$n")" 2>/dev/null || true
  done
  umount -l "$f/run" 2>/dev/null || true
  ip link del "bed$bed" 2>/dev/null || true
  rm -rf --one-file-system "$f"
}

beds() { local d; for d in "$BED_DIR"/[0-9]*/; do [ ! -d "$d" ] || basename "$d"; done; }

down_some() {
  local b owner
  case $1 in
    all) for b in $(beds); do down "$b"; done ;;
    orphans)
      for b in $(beds); do
        owner=$(cat "$(folder "$b")/owner" 2>/dev/null || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then down "$b"; fi
      done ;;
    *) down "$1" ;;
  esac
}

list() {
  local b n s
  for b in ${1:-$(beds)}; do
    for n in $(hosts_of "$b"); do
      s=$(pid1 "$b" "$n")
      echo "$b $n $(cat "$(state "$b" "$n")/spec") ${s:-down}"
    done
  done
}

inside() { # BED HOST NSENTER-OPTIONS.. -- CMD..
  local p
  need_host "$1" "$2"
  p=$(pid1 "$1" "$2")
  [ -n "$p" ] || die "host $2 of bed $1 is down"
  shift 2
  exec nsenter --target "$p" "$@"
}

sshd_signal() { # BED HOST SIGNAL: the listening sshd, which on a light host is process 1
  local p listener
  need_host "$1" "$2"
  p=$(pid1 "$1" "$2")
  [ -n "$p" ] || die "host $2 of bed $1 is down"
  read -r kind _ < "$(state "$1" "$2")/spec"
  if [ "$kind" = light ]; then listener=$p; else listener=$(pgrep --ns "$p" --nslist pid -o -x sshd); fi
  kill "-$3" "$listener"
}

link() { need_host "$1" "$2"; ip -n "$(netns "$1" "$2")" link set eth0 "$3"; }

verb=${1:-help}
[ $# = 0 ] || shift
case $verb in
  check) check ;;
  build) for r in "${@:-base}"; do build "$r"; done ;;
  up) up "$@" ;;
  down) down_some "${1:?bed number, all or orphans}" ;;
  list) list "$@" ;;
  exec) b=$1 n=$2; shift 2; inside "$b" "$n" --mount --uts --ipc --net --pid --cgroup --root --wd -- "$@" ;;
  view) b=$1 n=$2; shift 2; inside "$b" "$n" --mount --pid --root --wd -- "$@" ;;
  cut) link "$1" "$2" down ;;
  heal) link "$1" "$2" up ;;
  mute) sshd_signal "$1" "$2" STOP ;;
  unmute) sshd_signal "$1" "$2" CONT ;;
  kill) need_host "$1" "$2"; power_off "$1" "$2" ;;
  boot) need_host "$1" "$2"; boot "$1" "$2"; wait_ready "$1" "$2" ;;
  *) sed -n '6,24p' "$0" ;;
esac
