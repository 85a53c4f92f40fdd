#!/bin/sh
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# customize.sh ROOT SUPERVISOR   the last step in making the root file system of the hosts: users, keys, sshd, no unit
# that waits for hardware, supervisor (from a folder of its Python packages), images where there is apptainer
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
  proc-sys-fs-binfmt_misc.automount named.service named-resolvconf.service \
  condor.service slapd.service xpra.service xpra.socket; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"

# by the host's own Python; not by PYTHONPATH, which everything that supervisord starts would inherit
cp -r "$2" "$root/opt/supervisor"
chroot "$root" python3 -m compileall -q /opt/supervisor
for program in supervisord supervisorctl; do
  cat > "$root/usr/local/bin/$program" <<X
#!/usr/bin/python3
import sys

sys.path.insert(0, "/opt/supervisor")
from supervisor.$program import main

main()
X
  chmod 755 "$root/usr/local/bin/$program"
done

if [ -d "$root/etc/apptainer" ]; then
  # root of a machine that is itself confined cannot give away every capability
  sed -i 's/^root default capabilities.*/root default capabilities = no/' "$root/etc/apptainer/apptainer.conf"
  mkdir -p "$root/opt/images"
  cat > "$root/opt/images/make" <<'X'
#!/bin/sh
# make FILE TAG   a small image (busybox), made without any network: it runs and starts the command that it is given;
# /etc/tag in it says which one it is
set -eu
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
cd "$tree"
mkdir -p .singularity.d bin dev etc home proc root run sys tmp usr/bin var/tmp
cp "$(command -v busybox)" bin/busybox
for name in $(bin/busybox --list); do [ -e "bin/$name" ] || ln -s busybox "bin/$name"; done
echo root:x:0:0:root:/root:/bin/sh > etc/passwd
echo root:x:0: > etc/group
: > etc/resolv.conf
: > etc/hosts
echo "$2" > etc/tag
for script in runscript startscript; do
  printf '#!/bin/sh\nexec "$@"\n' > ".singularity.d/$script"
  chmod 755 ".singularity.d/$script"
done
apptainer --quiet build --force "$1" "$tree"
X
  chmod 755 "$root/opt/images/make"
  # apptainer wants to find the mount that it stands on, so the folder becomes one
  # shellcheck disable=SC2016 # the inner shell expands it
  unshare --mount sh -euc 'mount --rbind "$1" "$1"
    for tag in one two; do chroot "$1" /opt/images/make "/opt/images/$tag.sif" "$tag"; done' x "$root"
fi
