/** The initramfs of an exported disk: our busybox and the kernel's drivers of disks, no tool of the guest's. */
import { initramfsTree } from "#compose";
import { bufferSource, writeCpio, type ContentSource, type Tree } from "#image";

/** Whatever a cloud may attach a disk with. */
const DISK_DRIVERS: readonly string[] = [
  "virtio_pci",
  "virtio_blk",
  "virtio_scsi",
  "sd_mod",
  "nvme",
  "ahci",
  "ata_piix",
  "ata_generic",
  "mptspi",
  "mptsas",
  "vmw_pvscsi",
  "BusLogic",
  "hv_vmbus",
  "hv_storvsc",
  "xen_blkfront",
  "xen_scsifront",
  "crc32c_generic",
];

/**
 * `/init`: loads what drivers load, waits for at most a minute for the partition whose ext4 has the
 * UUID of `root=`, and hands over. Offsets are those of the composed machine's script, in hexadecimal
 * digits from byte 1024.
 */
const INIT_SCRIPT = `#!/bin/sh
PATH=/bin
export PATH

fail() {
  echo "cannot start this machine: $1" >/dev/console
  sync
  sleep 10
  poweroff -f
  sleep 60
}

scan() {
  for entry in /sys/class/block/*; do
    name=\${entry##*/}
    case $name in loop* | ram* | zram* | sr* | fd* | dm-* | md*) continue ;; esac
    head=$(hexdump -v -s 1024 -n 136 -e '136/1 "%02x"' "/dev/$name" 2>/dev/null)
    [ "\${head:112:4}" = 53ef ] || continue
    [ "\${head:208:32}" = "$uuid" ] && found=$name
  done
}

mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t tmpfs -o nosuid,nodev,mode=0755,size=20% tmpfs /run
exec </dev/console >/dev/console 2>&1

uuid=
mode=ro
read -r line </proc/cmdline
for word in $line; do
  case $word in
  root=UUID=*) uuid=\${word#root=UUID=} ;;
  ro | rw) mode=$word ;;
  esac
done
uuid=\${uuid//-/}
case $uuid in '' | *[!0-9a-f]*) fail "the command line names no root=UUID=" ;; esac

while read -r module; do
  insmod "/modules/$module" 2>/dev/null
done </modules/order

found=
rounds=0
scan
while [ -z "$found" ]; do
  rounds=$((rounds + 1))
  [ $rounds -le 300 ] || fail "no disk holds the file system $uuid"
  sleep 0.2
  scan
done
mount -t ext4 -o "$mode" "/dev/$found" /root || fail "the root on $found cannot be mounted"
[ -x /root/sbin/init ] || [ -L /root/sbin/init ] || fail "the root holds no /sbin/init"
for directory in dev proc sys run; do
  mount -o move "/$directory" "/root/$directory" || fail "the root holds no /$directory"
done
exec switch_root /root /sbin/init
`;

/**
 * The archive, equal for equal kernels.
 *
 * @param kernel the kernel component's tree
 * @throws `compose.kernel-unsuitable` (misuse)
 */
export async function exportInitramfs(kernel: Tree, release: string): Promise<ContentSource> {
  const modules = { needed: ["ext4"], wanted: DISK_DRIVERS };
  const tree = await initramfsTree(kernel, release, { init: INIT_SCRIPT, modules });
  const pieces: Uint8Array[] = [];
  await writeCpio(tree, { write: async (bytes) => void pieces.push(Buffer.from(bytes)) });
  return bufferSource(Buffer.concat(pieces));
}
