#!/bin/sh
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# customize.sh ROOT   the last step in making the root file system of the hosts: users, keys, sshd, and no unit that waits for hardware
set -eu
root=$1
key=${BED_DIR:-$(dirname "$root")/..}/id_ed25519.pub

login() { # USER HOME
  uid=$(chroot "$root" id -u "$1")
  gid=$(chroot "$root" id -g "$1")
  install -d -m 700 -o "$uid" -g "$gid" "$root$2/.ssh"
  install -m 600 -o "$uid" -g "$gid" "$key" "$root$2/.ssh/authorized_keys"
}
for user in deploy jadelta; do chroot "$root" useradd -m -s /bin/bash "$user"; done
login root /root
login deploy /home/deploy
login jadelta /home/jadelta
echo 'deploy ALL=(ALL) NOPASSWD:ALL' > "$root/etc/sudoers.d/deploy"
chmod 440 "$root/etc/sudoers.d/deploy"

mkdir -p "$root/etc/ssh/sshd_config.d" "$root/var/lib/systemd/linger"
: > "$root/var/lib/systemd/linger/deploy"
printf 'UseDNS no\nMaxStartups 500\nMaxSessions 200\nPermitRootLogin prohibit-password\nPrintMotd no\n' > "$root/etc/ssh/sshd_config.d/bed.conf"
: > "$root/etc/resolv.conf"
rm -f "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"
: > "$root/etc/machine-id"

for unit in systemd-networkd.service systemd-resolved.service systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer \
  e2scrub_all.timer fstrim.timer dpkg-db-backup.timer getty@tty1.service console-getty.service systemd-udevd.service \
  systemd-firstboot.service sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount sys-fs-fuse-connections.mount \
  proc-sys-fs-binfmt_misc.automount; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
