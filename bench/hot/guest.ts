/**
 * The guest of the benchmark: Debian 12 with redis, composed of the example components, with a first
 * process of its own in place of systemd. For the peers
 * it is one monolithic disk: the same files in one ext4, started by the same kernel and modules.
 */
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { compose, createUserData, parseAppliance, resolveAppliance } from "#compose";
import type { ComposedDisks } from "#core";
import { realWorld } from "#system";
import { testComponents } from "../../test/support/components.ts";
import { prepare } from "../transfer/scene.ts";
import { guestFiles } from "./loads.ts";

const COMPONENTS = ["kernel-cloud", "debian-12", "redis"] as const;
export const MEMORY_MIB = 320;
export const DATA_BYTES = 2 ** 30;
const DISK_BYTES = 2 * 2 ** 30;

export const APPLIANCE = `name: bench
kernel: kernel-cloud
os: debian-12
programs: [redis]
resources:
  cpus: 1
  memory: ${MEMORY_MIB}M
  data: ${DATA_BYTES / 2 ** 20}M
  ports: []
`;

/** The directory of a repository with what the guest is made of; built once per work tree. */
export async function components(): Promise<string> {
  return (await testComponents(COMPONENTS)).directory;
}

async function composed(directory: string): Promise<ComposedDisks> {
  const { store } = await testComponents(COMPONENTS);
  const appliance = await resolveAppliance(parseAppliance(APPLIANCE, "bench.yaml"), store);
  return await compose(realWorld(), store, appliance, directory);
}

/** Starts the monolithic machine: the composed machine's `/init` without the stacking. */
const INIT = `#!/bin/sh
PATH=/bin
export PATH
mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t tmpfs -o nosuid,nodev,mode=0755,size=20% tmpfs /run
exec </dev/console >/dev/console 2>&1
while read -r module; do insmod "/modules/$module"; done </modules/order
while [ ! -b /dev/vda ]; do sleep 0.1; done
mount -t ext4 -o rw,noatime,discard /dev/vda /root
for directory in dev proc sys run; do mount -o move "/$directory" "/root/$directory"; done
exec switch_root /root /sbin/init
`;

/** What the peers start. */
export interface Monolith {
  readonly kernelPath: string;
  readonly initramfsPath: string;
  /** Raw, with ext4. */
  readonly diskPath: string;
  /** Of the disk. */
  readonly sizeBytes: number;
  /** That are not holes. */
  readonly usedBytes: number;
}

/** The files of the composed machine as one tree, made once; root's, with their owners. */
async function treeIn(directory: string): Promise<{ tree: string; disks: ComposedDisks }> {
  const disks = await composed(join(directory, "composed"));
  const tree = join(directory, `tree-${disks.digest.slice(7, 23)}`);
  if (existsSync(tree)) return { tree, disks };
  const beside = `${tree}.new`;
  rmSync(beside, { recursive: true, force: true });
  mkdirSync(beside, { recursive: true });
  const paths = disks.layers.map(({ path }) => path);
  for (const path of paths) prepare(`fsck.erofs --extract=${beside} --overwrite ${path}`);
  const data = join(directory, "identity.raw");
  const identity = { uuid: randomUUID(), hostname: "bench", sizeBytes: DATA_BYTES, files: [] };
  await createUserData(realWorld(), data, identity);
  const upper = `${beside}.upper`;
  prepare(
    `mkdir -p ${upper}; debugfs -R 'rdump /upper ${upper}' ${data} 2>/dev/null; ` +
      `cp -a ${upper}/upper/. ${beside}; rm -r ${upper} ${data}; mv ${beside} ${tree}`,
  );
  return { tree, disks };
}

function initramfsIn(directory: string, disks: ComposedDisks): string {
  const path = join(directory, "initramfs");
  const work = join(directory, "initramfs.work");
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  prepare(`cd ${work}; cpio -idm --quiet < ${disks.initramfsPath}`);
  writeFileSync(join(work, "init"), INIT, { mode: 0o755 });
  prepare(`cd ${work}; find . | cpio -o -H newc --quiet > ${path}; rm -r ${work}`);
  return path;
}

/** The machine as one disk, in `directory`. */
export async function monolithIn(directory: string): Promise<Monolith> {
  const { tree, disks } = await treeIn(directory);
  const diskPath = join(directory, "monolith.raw");
  const disk = `${diskPath}.tree`;
  prepare(`rm -rf ${disk}; cp -a --reflink=auto ${tree} ${disk}`);
  for (const { path, text, mode } of guestFiles()) {
    const file = join(disk, path);
    mkdirSync(dirname(file), { recursive: true });
    // What is there may be a link, and lead out of the tree.
    rmSync(file, { force: true });
    writeFileSync(file, text, { mode });
  }
  prepare(
    `rm -f ${diskPath}; truncate -s ${DISK_BYTES} ${diskPath}; ` +
      `mke2fs -q -F -t ext4 -m 0 -J size=16 -E lazy_itable_init=1 -d ${disk} ${diskPath}; rm -r ${disk}`,
  );
  const { stdout } = spawnSync("stat", ["-c", "%b", diskPath], { encoding: "utf8" });
  return {
    kernelPath: disks.kernelPath,
    initramfsPath: initramfsIn(directory, disks),
    diskPath,
    sizeBytes: DISK_BYTES,
    usedBytes: Number(stdout) * 512,
  };
}

/** The guest's files as the agent's API takes them. */
export function instanceFiles(): { path: string; contentBase64: string; mode: number }[] {
  return guestFiles().map(({ path, text, mode }) => ({
    path,
    mode,
    contentBase64: Buffer.from(text).toString("base64"),
  }));
}

/** What the guest has said on its console so far. */
export function consoleTail(path: string): string {
  return existsSync(path) ? readFileSync(path, "latin1").slice(-2000) : "";
}
