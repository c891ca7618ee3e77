/**
 * The two programs of ours that run in a guest before and after its operating system, as busybox
 * shell scripts. They are text here, not files, so that a bundled program carries them.
 */

/** Applets of busybox that the scripts call by name. */
export const APPLETS: readonly string[] = [
  "cp",
  "halt",
  "hexdump",
  "insmod",
  "ln",
  "mkdir",
  "mount",
  "poweroff",
  "reboot",
  "sh",
  "sleep",
  "switch_root",
  "sync",
  "umount",
];

/** The label of a user data block, by which it is found when the command line names none. */
export const DATA_LABEL = "tessera-data";

/** A file at the root of a user data block: the machine's fstab names disks that it does not have. */
export const NO_FSTAB = "no-fstab";

const LABEL_HEX = Buffer.from(DATA_LABEL.padEnd(16, "\0")).toString("hex");

/**
 * `/init`: loads modules, finds the disks by the UUIDs in their superblocks, stacks them with the
 * user data block on top, and hands over to the guest's own init. Waits for disks for at most
 * 300 rounds of a tenth of a second. On failure it says why on the console and powers off.
 *
 * The mounts of the single layers are given up once the overlay holds them: then unmounting the
 * overlay at shutdown lets go of the user data block too, and its journal is closed cleanly.
 *
 * Superblocks: EROFS has its magic at 1024 and its UUID at 1072 (erofs_fs.h); ext4 its magic at
 * 1080, UUID at 1128 and label at 1144 (ext4 disk layout). The offsets below are in hexadecimal
 * digits from 1024.
 */
export const INIT_SCRIPT = `#!/bin/sh
PATH=/bin
export PATH

fail() {
  echo "tessera: cannot start this machine: $1" >/dev/console
  sync
  sleep 1
  poweroff -f
  sleep 60
}

scan() {
  for entry in /sys/block/*; do
    name=\${entry##*/}
    case $name in loop* | ram* | zram* | sr* | fd* | dm-* | md*) continue ;; esac
    case $scanned in *" $name "*) continue ;; esac
    head=$(hexdump -v -s 1024 -n 136 -e '136/1 "%02x"' "/dev/$name" 2>/dev/null)
    [ "\${#head}" -eq 272 ] || continue
    scanned="$scanned$name "
    if [ "\${head:0:8}" = e2e1f5e0 ]; then
      eval "layer_\${head:96:32}=$name"
    elif [ "\${head:112:4}" = 53ef ]; then
      if [ -n "$data_uuid" ]; then
        [ "\${head:208:32}" = "$data_uuid" ] && data="$data $name"
      elif [ "\${head:240:32}" = ${LABEL_HEX} ]; then
        data="$data $name"
      fi
    fi
  done
}

missing() {
  absent=
  for uuid in $layers; do
    eval "name=\\$layer_$uuid"
    [ -n "$name" ] || absent="$absent layer $uuid"
  done
  [ -n "$data" ] || absent="$absent user data block $data_uuid"
  [ -n "$absent" ]
}

mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t tmpfs -o nosuid,nodev,mode=0755,size=20% tmpfs /run
exec </dev/console >/dev/console 2>&1

layers=
data=
data_uuid=
scanned=" "
read -r line </proc/cmdline
for word in $line; do
  case $word in
  tessera.layers=*) layers=\${word#*=} ;;
  tessera.data=*) data_uuid=\${word#*=} ;;
  esac
done
case $layers$data_uuid in *[!0-9a-f,-]*) fail "the command line is malformed" ;; esac
layers=\${layers//,/ }
layers=\${layers//-/}
data_uuid=\${data_uuid//-/}
[ -n "$layers" ] || fail "the command line names no layers"

while read -r module; do
  insmod "/modules/$module" || fail "kernel module $module does not load"
done </modules/order

rounds=0
scan
while missing; do
  rounds=$((rounds + 1))
  [ $rounds -le 300 ] || fail "no disk holds$absent"
  sleep 0.1
  scan
done
data=\${data# }
case $data in *" "*) fail "more than one disk is a user data block: $data" ;; esac

lower=
depth=0
for uuid in $layers; do
  eval "name=\\$layer_$uuid"
  mkdir -p "/l/$depth"
  mount -t erofs -o ro "/dev/$name" "/l/$depth" || fail "layer $uuid on $name cannot be mounted"
  lower="/l/$depth\${lower:+:$lower}"
  depth=$((depth + 1))
done
mount -t ext4 -o rw,noatime,discard "/dev/$data" /data || fail "the user data block on $data cannot be mounted"
mount -t overlay -o "noatime,lowerdir=$lower,upperdir=/data/upper,workdir=/data/work,xino=off,index=off,metacopy=off,redirect_dir=off" overlay /root || fail "the layers cannot be stacked"
if [ -e /data/${NO_FSTAB} ]; then
  mkdir -p /run/systemd/system-generators /run/systemd/system
  ln -s /dev/null /run/systemd/system-generators/systemd-fstab-generator
  ln -s /dev/null /run/systemd/system/systemd-remount-fs.service
fi
umount /data || fail "the user data block is busy"
while [ $depth -gt 0 ]; do
  depth=$((depth - 1))
  umount "/l/$depth" || fail "layer $depth is busy"
done
[ -x /root/sbin/init ] || [ -L /root/sbin/init ] || fail "the layers hold no /sbin/init"

mkdir -p /run/initramfs
cp -a /bin /shutdown /run/initramfs/ || fail "no memory for the shutdown program"
for directory in dev proc sys run; do
  mount -o move "/$directory" "/root/$directory" || fail "the layers hold no /$directory"
done
exec switch_root /root /sbin/init
`;

/**
 * `/run/initramfs/shutdown`: systemd makes the memory file system its root as its last act, with
 * the old root at `/oldroot`, and runs this with `poweroff`, `reboot` or `halt`
 * (bootup(7), "System Manager Shutdown"). It unmounts the overlay, which a root cannot do to
 * itself, so that the user data block is left clean.
 */
export const SHUTDOWN_SCRIPT = `#!/bin/sh
PATH=/bin
export PATH

targets() {
  found=
  while read -r source target rest; do
    case $target in /oldroot | /oldroot/*) found="$target $found" ;; esac
  done </proc/mounts
}

for round in 1 2 3 4 5; do
  targets
  for target in $found; do
    umount "$target" 2>/dev/null
  done
  targets
  [ -n "$found" ] || break
  sleep 0.2
done
if [ -n "$found" ]; then
  echo "tessera: still mounted at shutdown: $found" >/dev/console
  mount -o remount,ro /oldroot
fi
sync
case $1 in
reboot | kexec) reboot -f ;;
halt) halt -f ;;
*) poweroff -f ;;
esac
`;
