/**
 * `make bench-import`: two Debian machines that were made without us are imported. How much of what
 * packages brought becomes components, how long it takes against unpacking and hashing the same
 * image, and how much of the second the first has already. As root, for the peer's loop mount.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ComponentStore } from "#repository";
import { realWorld } from "#system";
import { testComponents } from "../../test/support/components.ts";
import { importImage } from "../../test/support/import-image.ts";
import {
  importedDisks,
  repositoryWith,
  type ImportedDisks,
} from "../../test/support/import-machine.ts";
import { writePage } from "../page.ts";
import { rowOf, tellRow, writeResults } from "../rows.ts";

/** Of the partition that the images have. */
const OFFSET = 2 ** 20;
/** Of both, one after the other, so that other work on the machine meets both. */
const TURNS = 3;

const world = realWorld();

const seconds = (from: number): number => (performance.now() - from) / 1000;

/** Unpacks the image and hashes each of its files, as `sha256sum` does. */
async function unpackAndHash(path: string, directory: string): Promise<number> {
  const raw = join(directory, "peer.raw");
  const root = join(directory, "peer");
  await mkdir(root);
  const from = performance.now();
  execFileSync("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", path, raw]);
  execFileSync("mount", ["-o", `loop,ro,offset=${OFFSET}`, raw, root]);
  try {
    const find = 'find "$0" -xdev -type f -print0 | xargs -0 sha256sum >/dev/null';
    const { status } = spawnSync("sh", ["-c", find, root], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    if (status !== 0) throw new Error("the files cannot be hashed");
    return seconds(from);
  } finally {
    execFileSync("umount", [root]);
    await rm(raw);
  }
}

function knownShare({ survey }: ImportedDisks) {
  const { intactBytes, bytes, count } = survey.packages;
  return rowOf("known-share", {
    ours: intactBytes,
    peer: bytes,
    target: ">= 0.9",
    unit: "bytes",
    how: `Debian 12 machine of ${count} packages made by mmdebstrap and mke2fs, /etc changed, files added and removed; bytes of files of packages in components, peer: of all files of packages`,
  });
}

function secondShare({ survey, parts }: ImportedDisks) {
  const fresh = parts.filter(({ held }) => !held);
  return rowOf("second-machine-share", {
    ours: fresh.reduce((sum, { bytes }) => sum + bytes, 0),
    peer: survey.allocatedBytes,
    target: "< 0.1",
    unit: "bytes",
    how: `another machine of the distribution with another program: bytes of its components that the first import did not make (${fresh.length} of ${parts.length}), uncompressed; peer: allocated bytes of its image`,
  });
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

function timeRow(ours: readonly number[], peer: readonly number[]) {
  return rowOf("time-vs-qemu-img-sha256", {
    ours: median(ours),
    peer: median(peer),
    target: "<= 3",
    unit: "s",
    how: `whole import of the first machine from qcow2 into an empty repository, the proof included; peer: qemu-img convert to raw, mounted read-only, sha256sum of every file; in turns with each other, medians of ${TURNS}`,
  });
}

function tellTurn(turn: number, ours: readonly number[], peer: readonly number[]): void {
  const [own = 0, other = 0] = [ours[turn], peer[turn]];
  process.stdout.write(`turn ${turn + 1}: ${own.toFixed(2)} s, peer ${other.toFixed(2)} s\n`);
}

async function main(): Promise<void> {
  const [first, second] = [importImage("first"), importImage("second")];
  const { store: built, ids } = await testComponents(["kernel-cloud"]);
  const kernel = ids["kernel-cloud"];
  if (kernel === undefined) throw new Error("no kernel component");
  const directory = await mkdtemp(join(tmpdir(), "tessera-bench-import-"));
  try {
    const [ours, peer]: [number[], number[]] = [[], []];
    let last: { one: ImportedDisks; store: ComponentStore } | undefined;
    for (let turn = 0; turn < TURNS; turn += 1) {
      const at = join(directory, `turn-${turn}`);
      await mkdir(at);
      const store = await repositoryWith(world, join(at, "repository"), built, kernel);
      peer.push(await unpackAndHash(first, at));
      const from = performance.now();
      last = { one: await importedDisks(world, store, first, join(at, "one")), store };
      ours.push(seconds(from));
      tellTurn(turn, ours, peer);
      if (turn + 1 < TURNS) await rm(at, { recursive: true });
    }
    if (last === undefined) throw new Error("nothing was measured");
    const two = await importedDisks(world, last.store, second, join(directory, "two"));
    const rows = [knownShare(last.one), timeRow(ours, peer), secondShare(two)];
    for (const row of rows) tellRow(row);
    writeResults("import", rows);
    writePage();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

await main();
