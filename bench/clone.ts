/**
 * Does cloning a machine depend on the size of its components? Composes appliances whose OS
 * component has 64 MiB, 256 MiB and 1 GiB, each into fresh directories, and copies the same disks
 * by `cp --reflink=never` and by `qemu-img convert` for comparison; all are synced, as composing
 * is. The kernel has 52 MB, as Debian's has: composing copies it. Writes `bench/results/clone.json`.
 */
import { spawnSync } from "node:child_process";
import { createCipheriv } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compose, createUserData, resolveAppliance } from "#compose";
import type { ApplianceRecipe } from "#compose";
import type { ComponentDescription, ComponentKind } from "#core";
import { bufferSource, canonicalTree, fileSource, writeErofsFile } from "#image";
import type { ContentSource, TreeEntry } from "#image";
import { openRepository } from "#repository";
import type { ComponentStore } from "#repository";
import { realWorld } from "#system";
import { writeResults, type Row } from "./rows.ts";

const MIB = 2 ** 20;
const SIZES = [64 * MIB, 256 * MIB, 1024 * MIB];
const ROUNDS = 5;
const RELEASE = "6.1.0-bench";

const world = realWorld();

/** Bytes that do not compress and are the same at every reading: AES in counter mode of zeroes. */
function noise(sizeBytes: number, seed: number): ContentSource {
  return {
    sizeBytes,
    async read(target, position) {
      const counter = Buffer.alloc(16);
      counter.writeBigUInt64BE(BigInt(Math.floor(position / 16)), 8);
      const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, seed), counter);
      cipher.update(Buffer.alloc(position % 16));
      target.set(cipher.update(Buffer.alloc(target.length)));
    },
  };
}

function file(path: string, content: ContentSource | string): TreeEntry {
  const source = typeof content === "string" ? bufferSource(Buffer.from(content)) : content;
  const common = { path, mode: 0o644, uid: 0, gid: 0, mtime_s: 0, xattrs: new Map() };
  return { ...common, type: "file", content: source };
}

async function add(
  store: ComponentStore,
  directory: string,
  kind: ComponentKind,
  name: string,
  entries: readonly TreeEntry[],
): Promise<void> {
  const path = join(directory, "image");
  await writeErofsFile(world, canonicalTree(entries), path);
  const image = await fileSource(world, path);
  const description: ComponentDescription = {
    kind,
    name,
    version: "1",
    architecture: "amd64",
    packages: [],
    provides: [],
    requires: [],
    instancePaths: [],
    ...(kind === "kernel" ? { kernelRelease: RELEASE } : {}),
  };
  const fragments =
    kind === "os" ? [{ path: "/etc/passwd", text: "root:x:0:0:root:/root:/bin/sh\n" }] : [];
  await store.add({ description, fragments, image });
  await image.close();
  await rm(path);
}

function kernelEntries(): TreeEntry[] {
  const modules = `usr/lib/modules/${RELEASE}`;
  const builtIn = ["virtio_pci", "virtio_blk", "erofs", "overlay", "ext4"];
  return [
    file("boot/vmlinux", noise(52_000_000, 1)),
    file("usr/lib/tessera/initramfs/busybox", noise(2_000_000, 2)),
    file(`${modules}/modules.dep`, ""),
    file(`${modules}/modules.builtin`, builtIn.map((name) => `${name}.ko\n`).join("")),
  ];
}

function recipeOf(os: string): ApplianceRecipe {
  return {
    name: "bench",
    kernel: "kernel",
    os,
    programs: [],
    resources: { cpus: 1, memoryBytes: 512 * MIB, dataBytes: 1024 * MIB, ports: [] },
    serviceLevel: { clouds: [], regions: [], priority: 50, maySlowDown: true },
  };
}

async function seconds(work: () => unknown): Promise<number> {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1000;
}

async function median(work: (round: number) => Promise<number>): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) times.push(await work(round));
  return times.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? Number.NaN;
}

function run(program: string, ...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program}: ${error?.message ?? stderr}`);
}

/** One clone: its composed disks and its user data block. */
async function clone(store: ComponentStore, os: string, target: string): Promise<number> {
  const appliance = await resolveAppliance(recipeOf(os), store);
  return seconds(async () => {
    await compose(world, store, appliance, target);
    const options = { uuid: world.random.uuid(), hostname: "clone", files: [] };
    const path = join(target, "data.raw");
    await createUserData(world, path, { ...options, sizeBytes: 1024 * MIB });
  });
}

async function cloneOnce(store: ComponentStore, os: string, target: string): Promise<number> {
  const time = await clone(store, os, target);
  await rm(target, { recursive: true });
  return time;
}

async function copyOnce(
  images: readonly string[],
  target: string,
  copy: (from: string, to: string) => void,
): Promise<number> {
  await mkdir(target);
  const time = await seconds(() => {
    for (const [index, image] of images.entries()) {
      const copied = join(target, String(index));
      copy(image, copied);
      run("sync", copied);
    }
  });
  await rm(target, { recursive: true });
  return time;
}

const rounded = (value: number): number => Number(value.toPrecision(3));

async function measure(store: ComponentStore, directory: string, sizeBytes: number) {
  const name = `os-${sizeBytes / MIB}m`;
  await add(store, directory, "os", name, [file("big", noise(sizeBytes, 3))]);
  const appliance = await resolveAppliance(recipeOf(name), store);
  const ids = [appliance.kernel.id, appliance.os.id];
  const images = await Promise.all(ids.map((id) => store.imagePath(id)));
  const target = join(directory, "clone");
  const ours = await median(() => cloneOnce(store, name, target));
  await clone(store, name, target);
  const again = await median(() => clone(store, name, target));
  await rm(target, { recursive: true });
  const cp = await median(() =>
    copyOnce(images, target, (from, to) => run("cp", "--reflink=never", from, to)),
  );
  const convert = await median(() =>
    copyOnce(images, target, (from, to) =>
      run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", from, to),
    ),
  );
  return { sizeBytes, ours, again, cp, convert };
}

function row(id: string, ours: number, peer: number, how: string, target = "none"): Row {
  const [a, b, ratio] = [rounded(ours), rounded(peer), rounded(ours / peer)];
  return { id, ours: a, peer: b, ratio, target, unit: "s", how };
}

function rowsOf(measures: readonly Awaited<ReturnType<typeof measure>>[]): Row[] {
  const [smallest, largest] = [measures[0], measures.at(-1)];
  if (smallest === undefined || largest === undefined) return [];
  const sized = measures.flatMap(({ sizeBytes, ours, again, cp, convert }) => {
    const id = `clone-${sizeBytes / MIB}m`;
    const how = `${sizeBytes / MIB} MiB OS component, 52 MB kernel, all synced, median of ${ROUNDS}, warm cache`;
    return [
      row(`${id}-cp`, ours, cp, `compose and user data block against cp --reflink=never; ${how}`),
      row(`${id}-again-cp`, again, cp, `the same for a further machine of the appliance; ${how}`),
      row(`${id}-qemu-img`, ours, convert, `the first against qemu-img convert to qcow2; ${how}`),
    ];
  });
  const growth = `ours with ${largest.sizeBytes / MIB} MiB against ours with ${smallest.sizeBytes / MIB} MiB`;
  return [...sized, row("clone-growth", largest.ours, smallest.ours, growth, "<= 1.4")];
}

const directory = await mkdtemp(join(tmpdir(), "tessera-clone-"));
try {
  const store = await openRepository(world, join(directory, "repository"));
  await add(store, directory, "kernel", "kernel", kernelEntries());
  const measures = [];
  for (const sizeBytes of SIZES) measures.push(await measure(store, directory, sizeBytes));
  const rows = rowsOf(measures);
  writeResults("clone", rows);
  for (const { id, ours, peer, ratio } of rows) {
    console.log(`${id}: ${ours} s against ${peer} s, ratio ${ratio}`);
  }
} finally {
  await rm(directory, { recursive: true, force: true });
}
