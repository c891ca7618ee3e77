/**
 * Components of a real machine that boots in seconds: Debian's cloud kernel with a handful of
 * modules, and an OS that is one busybox and one script. The guest writes numbered records to its
 * user data block, each followed by fsync, and acknowledges them on its console; so that a copy
 * too many, a lost write or a repeated one can be seen from outside.
 */
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Component, ComponentDescription } from "#core";
import { bufferSource, canonicalTree, fileSource, writeErofsFile, type TreeEntry } from "#image";
import type { ComponentStore } from "#repository";
import { realWorld } from "#system";
import { decompress, payloadOf } from "../../src/build/bzimage.ts";
import { tinyGuest } from "./tiny-guest.ts";

const CACHE = resolve(import.meta.dirname, "../../build/cache/tiny-components");
const world = realWorld();

/** What the initramfs loads: as `compose` asks, and what the OS's own script loads. */
const FOR_INITRAMFS = [
  "virtio_pci",
  "virtio_blk",
  "erofs",
  "overlay",
  "ext4",
  "virtio_scsi",
  "sd_mod",
  "crc32c_generic",
];
const FOR_OS = ["virtio_net", "evdev", "button"];

const APPLETS =
  "cat cut date dd echo grep head httpd insmod ip mount poweroff sh sleep sync tail".split(" ");

const initOf = (modules: readonly string[]): string => `#!/bin/sh
PATH=/bin
export PATH
${modules.map((path) => `insmod ${path} 2>/dev/null`).join("\n")}
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
for event in /dev/input/event*; do
  ( head -c 24 "$event" >/dev/null; sync; mount -o remount,ro / 2>/dev/null; poweroff -f ) &
done
boot=$(cat /proc/sys/kernel/random/boot_id)
httpd -p 80 -h /www
last=$(tail -n 1 /www/records 2>/dev/null)
number=\${last%% *}
number=\${number:-0}
echo "ready $boot" >/dev/ttyS1
while :; do
  number=$((number + 1))
  echo "$number $boot" | dd of=/www/records oflag=append conv=notrunc,fsync 2>/dev/null &&
    echo "ack $number $boot" >/dev/ttyS0
  sleep 0.1
done
`;

const common = (path: string, mode: number) => ({
  path,
  mode,
  uid: 0,
  gid: 0,
  mtime_s: 1,
  xattrs: new Map<string, Uint8Array>(),
});

const file = (path: string, content: Uint8Array, mode = 0o644): TreeEntry => ({
  ...common(path, mode),
  type: "file",
  content: bufferSource(content),
});

const directory = (path: string): TreeEntry => ({ ...common(path, 0o755), type: "directory" });

/** `modules.dep` as depmod(8) prints it: a path, and what it needs, the nearest first. */
function dependenciesOf(root: string, release: string): Map<string, string[]> {
  const text = execFileSync("depmod", ["-n", "-b", root, release], {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
    stdio: ["ignore", "pipe", "ignore"],
  });
  const lines = text.split("\n").flatMap((line) => {
    const [, path, needs] = /^(kernel\S+\.ko):(.*)$/.exec(line) ?? [];
    return path === undefined ? [] : [[path, (needs ?? "").split(" ").filter(Boolean)] as const];
  });
  return new Map(lines);
}

const moduleName = (path: string): string =>
  path.replace(/^.*\//, "").replace(/\.ko$/, "").replaceAll("-", "_");

/** The modules of these names and what they need, each after what it needs. */
function closureOf(names: readonly string[], dependencies: ReadonlyMap<string, string[]>) {
  const wanted = [...dependencies].filter(([path]) => names.includes(moduleName(path)));
  const all = wanted.flatMap(([path, needs]) => [...needs.toReversed(), path]);
  return [...new Set(all)];
}

interface Parts {
  readonly kernel: readonly TreeEntry[];
  readonly os: readonly TreeEntry[];
  readonly release: string;
}

function readParts(): Parts {
  const { kernelPath } = tinyGuest();
  const root = resolve(kernelPath, "../root");
  const release = readdirSync(join(root, "lib/modules"))[0] ?? "";
  const modules = join(root, "lib/modules", release);
  const inGuest = `usr/lib/modules/${release}`;
  const dependencies = dependenciesOf(root, release);
  const paths = closureOf([...FOR_INITRAMFS, ...FOR_OS], dependencies);
  const lines = paths.map((path) => `${path}: ${(dependencies.get(path) ?? []).join(" ")}\n`);
  const busybox = readFileSync(join(root, "bin/busybox"));
  const init = initOf(closureOf(FOR_OS, dependencies).map((path) => `/${inGuest}/${path}`));
  return {
    release,
    kernel: [
      file("boot/vmlinux", decompress(payloadOf(readFileSync(kernelPath)))),
      file("usr/lib/tessera/initramfs/busybox", busybox, 0o755),
      file(`${inGuest}/modules.dep`, Buffer.from(lines.join(""))),
      file(`${inGuest}/modules.builtin`, readFileSync(join(modules, "modules.builtin"))),
      ...paths.map((path) => file(`${inGuest}/${path}`, readFileSync(join(modules, path)))),
    ],
    os: [
      ...["dev", "proc", "sys", "run", "tmp", "www"].map(directory),
      file("bin/busybox", busybox, 0o755),
      ...APPLETS.map((name): TreeEntry => ({
        ...common(`bin/${name}`, 0o777),
        type: "symlink",
        target: "busybox",
      })),
      file("sbin/init", Buffer.from(init), 0o755),
    ],
  };
}

const RECIPE = createHash("sha256")
  .update(readFileSync(import.meta.filename))
  .digest("hex")
  .slice(0, 16);

/** Images are made once and kept; a change of this file makes them anew. */
async function images(): Promise<{ directory: string; release: string }> {
  const directory = join(CACHE, RECIPE);
  if (!existsSync(directory)) {
    mkdirSync(CACHE, { recursive: true });
    const work = mkdtempSync(join(CACHE, "work-"));
    const { kernel, os, release } = readParts();
    await writeErofsFile(world, canonicalTree(kernel), join(work, "kernel.erofs"));
    await writeErofsFile(world, canonicalTree(os), join(work, "os.erofs"));
    writeFileSync(join(work, "release"), release);
    try {
      renameSync(work, directory);
    } catch (error) {
      rmSync(work, { recursive: true });
      if (!existsSync(directory)) throw error;
    }
  }
  return { directory, release: readFileSync(join(directory, "release"), "utf8") };
}

const describe = (changes: Partial<ComponentDescription>): ComponentDescription => ({
  kind: "program",
  name: "program",
  version: "1",
  architecture: "amd64",
  packages: [],
  provides: [],
  requires: [],
  instancePaths: [],
  ...changes,
});

async function addImage(
  store: ComponentStore,
  path: string,
  changes: Partial<ComponentDescription>,
): Promise<Component> {
  const image = await fileSource(world, path);
  try {
    return await store.add({ description: describe(changes), fragments: [], image });
  } finally {
    await image.close();
  }
}

/** Adds the kernel `tiny-kernel` and the OS `tiny-os`. */
export async function addTinySystem(store: ComponentStore): Promise<void> {
  const { directory, release } = await images();
  const kernel = { kind: "kernel", name: "tiny-kernel", kernelRelease: release } as const;
  await addImage(store, join(directory, "kernel.erofs"), kernel);
  await addImage(store, join(directory, "os.erofs"), { kind: "os", name: "tiny-os" });
}

/** Adds a program of so many bytes that no compressor shrinks. */
export async function addNoise(
  store: ComponentStore,
  name: string,
  sizeBytes: number,
  directoryPath: string,
): Promise<Component> {
  const path = join(directoryPath, `${name}.erofs`);
  const tree = canonicalTree([file(`usr/share/${name}`, randomBytes(sizeBytes))]);
  await writeErofsFile(world, tree, path);
  try {
    return await addImage(store, path, { name });
  } finally {
    rmSync(path);
  }
}
