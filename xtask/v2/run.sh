#!/bin/bash
# On a machine with cgroup v2 alone, as laptops and CI runners have it: runs what it is given in a VM.
#
#   run.sh FOLDER   FOLDER has `tests/` (test binaries), `bin/` (nodestead and what belongs to it) and
#                   `images/`; either of the first may be missing. All of it is read-only there.
#
# The VM is Debian's kernel, systemd, containerd, runc, crun and AppArmor on a root file system of
# debootstrap's, made once and thrown away after each run; it has no network. inside.sh runs in a login
# session of it. Fails when something in it fails. Needs root, debootstrap and qemu-system-x86; with
# hardware virtualization it takes minutes, without it an hour.
#
# Environment: MIRROR (of Debian; that of this machine, if it has one), CACHE (the image, 1.5 GiB), V2_CPUS (2), V2_MEMORY (6G), V2_LIMIT (seconds).
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
share=$(readlink -f "${1:?a folder}")
vm=${CACHE:-$HOME/.cache/nodestead}/v2
limit=${V2_LIMIT:-7200}

# What a node needs (the Makefile's PACKAGES), and what a machine has.
packages=containerd,runc,crun,nftables,conntrack,iproute2,busybox-static,ca-certificates,curl,procps
packages+=,openssh-server,sudo,systemd-sysv,dbus,udev,libpam-systemd,kmod,apparmor,initramfs-tools
packages+=,linux-image-amd64,openssl,strace

make_image() {
  local root=$vm/root swap=$vm/root/swapfile mirror
  mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | head -1)}
  [ "$mirror" ] || { echo "this machine has no Debian mirror among its sources: name one, MIRROR=http://…" >&2; return 1; }
  rm -rf --one-file-system "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase --include="$packages" bookworm "$root" "$mirror" \
    >"$vm/debootstrap.log" 2>&1 || { tail -20 "$vm/debootstrap.log" >&2; return 1; }
  printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
  echo v2 >"$root/etc/hostname"
  dd if=/dev/zero of="$swap" bs=1M count=512 status=none
  chmod 600 "$swap"
  mkswap "$swap" >/dev/null
  mkdir -p "$root/mnt/nst"
  cat >"$root/etc/fstab" <<'END'
/dev/vda / ext4 noatime 0 1
/swapfile none swap sw 0 0
nst /mnt/nst 9p ro,trans=virtio,version=9p2000.L,msize=262144,cache=mmap 0 0
END
  # A login session, as a user's shell is: its processes are in a scope of systemd's below user.slice.
  cat >"$root/etc/systemd/system/v2.service" <<'END'
[Unit]
After=multi-user.target systemd-logind.service
Requires=systemd-logind.service
[Service]
Type=oneshot
User=root
PAMName=login
WorkingDirectory=/root
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS1
ExecStart=/bin/bash -c '/bin/bash /mnt/nst/inside.sh; echo "status $?" >/dev/ttyS2'
ExecStopPost=/bin/systemctl --no-block poweroff
[Install]
WantedBy=graphical.target
END
  chroot "$root" systemctl --quiet enable v2.service
  chroot "$root" systemctl --quiet set-default graphical.target
  # Instances run their own.
  chroot "$root" systemctl --quiet disable containerd.service ssh.service
  chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer fstrim.timer
  cp "$root"/boot/vmlinuz-* "$vm/kernel"
  cp "$root"/boot/initrd.img-* "$vm/initrd"
  rm -f "$vm/root.img"
  truncate -s 16G "$vm/new.img"
  mkfs.ext4 -q -F -d "$root" "$vm/new.img"
  mv "$vm/new.img" "$vm/root.img"
  rm -rf --one-file-system "$root"
}

mkdir -p "$vm"
# The image is of this script: a change of it makes a new one.
wanted=$(sha256sum "$0" | cut -d' ' -f1)
if [ ! -e "$vm/root.img" ] || [ "$(cat "$vm/of" 2>/dev/null)" != "$wanted" ]; then
  echo "making the image of the VM"
  make_image
  echo "$wanted" >"$vm/of"
fi

# /dev/kvm may be there and be of no use to a kernel like this one.
# Not `-cpu max`: of what that has Debian 12's QEMU emulates something wrong that glibc uses.
accel=(-accel "tcg,thread=multi,tb-size=1024" -cpu Nehalem)
if [ -w /dev/kvm ] && grep -qE '\b(vmx|svm)\b' /proc/cpuinfo; then accel=(-accel kvm -cpu host); fi
cp "$here/inside.sh" "$share/inside.sh"
rm -f "$vm/status"
echo "booting it (${accel[1]}); its console is $vm/console.log"
# `snapshot`: what is written goes to a file that has no name any more.
TMPDIR=$vm timeout "$limit" qemu-system-x86_64 -M q35 "${accel[@]}" -smp "${V2_CPUS:-2}" -m "${V2_MEMORY:-6G}" \
  -nodefaults -display none -no-reboot -kernel "$vm/kernel" -initrd "$vm/initrd" \
  -append "root=/dev/vda rw console=ttyS0" -serial "file:$vm/console.log" -serial stdio \
  -serial "file:$vm/status" -drive "file=$vm/root.img,format=raw,if=virtio,snapshot=on,cache=unsafe" \
  -virtfs "local,path=$share,mount_tag=nst,security_model=none,readonly=on,multidevs=remap" \
  -device virtio-rng-pci </dev/null || { echo "the VM did not end by itself: $?" >&2; exit 1; }
status=$(sed -n 's/^status \([0-9]*\).*/\1/p' "$vm/status")
[ "$status" = 0 ] || { echo "failed in the VM: status ${status:-unknown}; see above and $vm/console.log" >&2; exit 1; }
