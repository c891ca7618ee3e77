/**
 * A real guest for tests: Debian's cloud kernel and an initramfs of busybox. It boots in about two
 * seconds under TCG, says that it is ready, serves what its data disk holds over HTTP and obeys or
 * ignores the power button. With `tessera.records` it writes `record N` to sector 2048 + N of its data
 * disk, each with fsync, and then says `ack N` on its console. With `tessera.dirty` it writes up to
 * 10 MiB of memory a second and says `memory is damaged` when it does not find what it wrote.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync } from "node:fs";
import { rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { ComposedDisks, ComposedLayer } from "#core";
import { cpioOf } from "./cpio.ts";

const CACHE = resolve(import.meta.dirname, "../../build/cache/tiny-guest");

const MODULES = [
  "drivers/virtio/virtio_ring",
  "drivers/virtio/virtio",
  "drivers/virtio/virtio_pci_modern_dev",
  "drivers/virtio/virtio_pci_legacy_dev",
  "drivers/virtio/virtio_pci",
  "drivers/block/virtio_blk",
  "net/core/failover",
  "drivers/net/net_failover",
  "drivers/net/virtio_net",
  "drivers/input/evdev",
  "drivers/acpi/button",
];

const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in ${MODULES.map((path) => path.split("/").at(-1)).join(" ")}; do
  insmod /modules/$module.ko
done
ip link set lo up; ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
for disk in /sys/block/vd*; do
  name=\${disk##*/}
  [ "$(cat $disk/ro)" = 0 ] && DATA=/dev/$name || echo "$(head -c 32 /dev/$name)" >> /www/layers
done
head -c 64 $DATA > /www/data
mkdir -p /www/cgi-bin
printf '#!/bin/sh\\nprintf "\\\\r\\\\n"\\nread text\\nprintf "%%s" "$text" | dd of=%s conv=notrunc,fsync 2>/dev/null\\nsync\\necho written\\n' "$DATA" > /www/cgi-bin/write
chmod +x /www/cgi-bin/write
httpd -p 80 -h /www
if ! grep -q tessera.deaf /proc/cmdline; then
  for event in /dev/input/event*; do
    ( head -c 24 $event > /dev/null; sync; poweroff -f ) &
  done
fi
grep -q tessera.mute /proc/cmdline || echo "ready $(cat /proc/sys/kernel/random/boot_id)" > /dev/ttyS1
echo "tiny guest is up after $(cut -d' ' -f1 /proc/uptime) s"
grep -q tessera.brief /proc/cmdline && poweroff -f
if grep -q tessera.records /proc/cmdline; then
  sh -c '
    number=0
    while number=$((number + 1)); do
      printf "record %s\n" $number | dd of=$0 bs=512 seek=$((2048 + number)) conv=notrunc,fsync 2>/dev/null &&
        echo "ack $number"
      usleep 10000
    done' $DATA > /dev/ttyS0 &
fi
if grep -q tessera.dirty /proc/cmdline; then
  mount -t tmpfs tmpfs /tmp
  while :; do
    for slot in 1 2 3 4; do
      [ -e /tmp/sum.$slot ] && { md5sum -c -s /tmp/sum.$slot || echo "memory is damaged"; }
      dd if=/dev/urandom of=/tmp/blob.$slot bs=64k count=16 2>/dev/null
      md5sum /tmp/blob.$slot > /tmp/sum.$slot
      usleep 100000
    done
  done &
fi
while :; do sleep 1000; done
`;

/** The kernel and the initramfs; made once and kept under `build/cache`. */
export interface TinyGuest {
  readonly kernelPath: string;
  readonly initramfsPath: string;
}

/** Fetches the packages by apt (unless cached) and makes the initramfs. */
export function tinyGuest(): TinyGuest {
  const made = { kernelPath: join(CACHE, "vmlinuz"), initramfsPath: join(CACHE, "initramfs") };
  if (!existsSync(join(CACHE, "initramfs.recipe"))) fetchPackages();
  if (readText(join(CACHE, "initramfs.recipe")) !== INIT) writeInitramfs();
  return made;
}

function readText(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

/** Works beside the cache and renames, so that parallel tests never see a half-made one. */
function fetchPackages(): void {
  mkdirSync(resolve(CACHE, ".."), { recursive: true });
  const work = mkdtempSync(`${CACHE}-`);
  try {
    const depends = execFileSync("apt-cache", ["depends", "linux-image-cloud-amd64"]).toString();
    const image = /Depends: (linux-image-\S+)/.exec(depends)?.[1] ?? "linux-image-cloud-amd64";
    execFileSync("apt-get", ["download", image, "busybox-static"], { cwd: work, stdio: "pipe" });
    for (const name of readdirSync(work).filter((entry) => entry.endsWith(".deb"))) {
      execFileSync("dpkg-deb", ["-x", name, "root"], { cwd: work });
      rmSync(join(work, name));
    }
    const kernel = readdirSync(join(work, "root/boot")).find((name) => name.startsWith("vmlinuz"));
    if (kernel === undefined) throw new Error(`${image} holds no kernel`);
    symlinkSync(join("root/boot", kernel), join(work, "vmlinuz"));
    writeFileSync(join(work, "initramfs.recipe"), "");
    renameSync(work, CACHE);
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    if (!existsSync(join(CACHE, "initramfs.recipe"))) throw error;
  }
}

function writeInitramfs(): void {
  const root = join(CACHE, "root");
  const release = readdirSync(join(root, "lib/modules"))[0] ?? "";
  const directories = ["bin", "dev", "modules", "proc", "sys", "tmp", "www"];
  const modules = MODULES.map((path) => ({
    name: `modules/${path.split("/").at(-1) ?? path}.ko`,
    mode: 0o100644,
    content: readFileSync(join(root, "lib/modules", release, "kernel", `${path}.ko`)),
  }));
  const archive = cpioOf([
    ...directories.map((name) => ({ name, mode: 0o040755, content: Buffer.alloc(0) })),
    { name: "bin/busybox", mode: 0o100755, content: readFileSync(join(root, "bin/busybox")) },
    { name: "init", mode: 0o100755, content: Buffer.from(INIT) },
    ...modules,
  ]);
  const beside = `${CACHE}/initramfs.${process.pid}`;
  writeFileSync(beside, archive);
  renameSync(beside, join(CACHE, "initramfs"));
  writeFileSync(`${beside}.recipe`, INIT);
  renameSync(`${beside}.recipe`, join(CACHE, "initramfs.recipe"));
}

/** A sparse file of this size that begins with `text`. */
export function writeDisk(path: string, sizeBytes: number, text: string): void {
  writeFileSync(path, text);
  truncateSync(path, sizeBytes);
}

const nibble = (index: number): string => index.toString(16).padStart(64, "0");

/**
 * Composed disks made of `layers` small layer files in `directory`; layer N begins with the line
 * `layer N`, and the guest serves these lines as `/layers`.
 */
export function tinyDisks(directory: string, layers = 2, commandLine = ""): ComposedDisks {
  const made = Array.from({ length: layers }, (_, index): ComposedLayer => {
    const path = join(directory, `layer-${index}`);
    writeDisk(path, 1 << 20, `layer ${index}\n`.padEnd(32, "."));
    const uuid = `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`;
    const digest = `sha256:${nibble(index + 1)}` as const;
    return { digest, name: `layer-${index}`, path, sizeBytes: 1 << 20, uuid };
  });
  return {
    appliance: `sha256:${nibble(0xa)}`,
    digest: `sha256:${nibble(0xd)}`,
    ...tinyGuest(),
    commandLine,
    layers: made,
  };
}
