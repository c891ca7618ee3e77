#!/bin/sh
# Makes a disk image of a Debian 12 machine without any of our code: mmdebstrap, changes such as an
# operator makes, mke2fs, a partition table, qemu-img.
#   import-image.sh OUT.qcow2 PACKAGES MARK
# MARK makes machines differ in their own files. Another user than root goes into a user namespace for
# what follows mmdebstrap; there device nodes and capabilities cannot be made, and are left out.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
out=$1
packages=$2
mark=$3
if [ -z "${IMPORT_IMAGE_WORK:-}" ]; then
  IMPORT_IMAGE_WORK=$(mktemp -d "$(dirname "$out")/image.XXXXXX")
  export IMPORT_IMAGE_WORK
  trap 'rm -rf "$IMPORT_IMAGE_WORK"' EXIT
  # No initramfs of the machine's own is started, so none is made.
  INITRD=No TMPDIR=$IMPORT_IMAGE_WORK mmdebstrap --quiet --mode=auto --variant=minbase \
    --format=tar --dpkgopt=force-unsafe-io --include="$packages" bookworm \
    "$IMPORT_IMAGE_WORK/root.tar" http://deb.debian.org/debian
  if [ "$(id -u)" = 0 ]; then "$0" "$@"; else unshare --map-root-user --map-auto "$0" "$@"; fi
  mv "$IMPORT_IMAGE_WORK/out" "$out"
  exit
fi
work=$IMPORT_IMAGE_WORK
root=$work/root
mkdir "$root"
tar -x --numeric-owner --xattrs --xattrs-include='*' -C "$root" -f "$work/root.tar" \
  --exclude='./dev/*'
rm "$work/root.tar"

# What an operator and the machine's first start do.
echo "$mark" >"$root/etc/hostname"
echo "changed by an operator: $mark" >>"$root/etc/issue"
cat >"$root/etc/fstab" <<'END'
UUID=11111111-2222-4333-8444-555555555555 / ext4 errors=remount-ro 0 1
UUID=ABCD-0123 /boot/efi vfat umask=0077 0 1
UUID=99999999-2222-4333-8444-555555555555 none swap sw 0 0
END
wants=$root/etc/systemd/system/multi-user.target.wants
mkdir -p "$root/etc/systemd/network" "$wants"
printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
  >"$root/etc/systemd/network/80-dhcp.network"
ln -s /lib/systemd/system/systemd-networkd.service "$wants"
# What is wanted by the target is awaited by it: a machine that is ready has its address.
ln -s /lib/systemd/system/systemd-networkd-wait-online.service "$wants"
if [ -e "$root/etc/redis/redis.conf" ]; then
  sed -i 's/^bind .*/bind 0.0.0.0/; s/^protected-mode yes/protected-mode no/' \
    "$root/etc/redis/redis.conf"
fi
touch "$root/etc/.updated" "$root/var/.updated"
rm "$root/usr/share/common-licenses/BSD"
rm -rf "$root/usr/share/doc/adduser"

# What its users have.
home=$root/home/alice
mkdir -p "$home/many" "$root/srv/database"
seq 1 200000 | sed "s/^/$mark row /" >"$root/srv/database/table"
echo "notes of $mark" >"$home/notes"
ln "$home/notes" "$home/hard"
ln -s ../nowhere "$home/dangling"
truncate -s 300M "$home/sparse"
echo "the end" >>"$home/sparse"
mkfifo "$home/pipe"
(cd "$home/many" && seq 1 300 | split -l 1 -a 3 -d - 'file ')
chmod 4750 "$home/many/file 001"
chown -R 1000:1000 "$home"
setfattr -n user.note -v "$mark" "$home/notes"
cp "$root/bin/true" "$home/capable"
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 "$home/capable" || true
mknod "$home/device" c 1 7 || true

# One partition of type 83 from 1 MiB on: 2048 and 1638400 sectors.
truncate -s 801M "$work/disk"
mke2fs -q -t ext4 -E offset=1048576 -U 11111111-2222-4333-8444-555555555555 -d "$root" \
  "$work/disk" 800M
# Times of a running machine have fractions of seconds, which mke2fs does not copy.
printf 'sif /home/alice/notes mtime_extra 493827156\nsif /srv/database mtime_extra 40\n' \
  >"$work/commands"
debugfs -w -f "$work/commands" "$work/disk?offset=1048576" >/dev/null 2>&1
printf '\203\0\0\0\0\010\0\0\0\0\031\0' | dd of="$work/disk" bs=1 seek=450 conv=notrunc 2>/dev/null
printf '\125\252' | dd of="$work/disk" bs=1 seek=510 conv=notrunc 2>/dev/null
qemu-img convert -f raw -O qcow2 "$work/disk" "$work/out"
