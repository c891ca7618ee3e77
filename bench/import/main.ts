/**
 * `make bench-import`: two Debian machines that were made without us are imported. How much of what
 * packages brought becomes components, how long it takes against unpacking and hashing the same
 * image, and how much of the second the first has already. As root, for the peer's loop mount.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Digest } from "#core";
import { encodeRecipe } from "#image";
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
import { mergeResults, rowOf, tellRow } from "../rows.ts";

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

/** Contents of these components, each once. */
async function contentsOf(store: ComponentStore, ids: readonly Digest[]) {
  const contents = new Map<string, number>();
  let recipeBytes = 0;
  for (const id of ids) {
    const { recipe } = await store.recipe(id);
    recipeBytes += encodeRecipe(recipe).length;
    for (const { head, sizeBytes } of recipe.contents)
      contents.set(`${head} ${sizeBytes}`, sizeBytes);
  }
  return { contents, recipeBytes };
}

/** What a migration of the second would move to a cloud that has the first, before compression. */
async function secondShare(store: ComponentStore, one: ImportedDisks, two: ImportedDisks) {
  const known = await contentsOf(
    store,
    one.parts.map(({ id }) => id),
  );
  const fresh = two.parts.filter(({ held }) => !held);
  const wanted = await contentsOf(
    store,
    fresh.map(({ id }) => id),
  );
  const missing = [...wanted.contents].filter(([key]) => !known.contents.has(key));
  const bytes = missing.reduce((sum, [, sizeBytes]) => sum + sizeBytes, wanted.recipeBytes);
  return rowOf("second-machine-share", {
    ours: bytes,
    peer: two.survey.allocatedBytes,
    target: "< 0.1",
    unit: "bytes",
    how: `another machine of the distribution with another program; of its ${two.parts.length} components ${two.parts.length - fresh.length} are the first machine's; bytes of contents of the others that no component of the first has, and their recipes, uncompressed; peer: allocated bytes of its image`,
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

interface Measured {
  readonly store: ComponentStore;
  readonly one: ImportedDisks;
  readonly ours_s: number;
  readonly peer_s: number;
}

/** @param timed also the peer, before */
async function turn(
  image: string,
  { store: built, ids }: Awaited<ReturnType<typeof testComponents>>,
  at: string,
  timed: boolean,
): Promise<Measured> {
  const kernel = ids["kernel-cloud"];
  if (kernel === undefined) throw new Error("no kernel component");
  await mkdir(at);
  const store = await repositoryWith(world, join(at, "repository"), built, kernel);
  const peer_s = timed ? await unpackAndHash(image, at) : 0;
  const from = performance.now();
  const one = await importedDisks(world, store, image, join(at, "one"));
  const measured = { store, one, ours_s: seconds(from), peer_s };
  if (timed) process.stdout.write(`${measured.ours_s.toFixed(2)} s, peer ${peer_s.toFixed(2)} s\n`);
  return measured;
}

/** `--shares`: without the times, which need a calm machine; their row stays. */
async function main(): Promise<void> {
  const timed = !process.argv.includes("--shares");
  const [first, second] = [importImage("first"), importImage("second")];
  const components = await testComponents(["kernel-cloud"]);
  const directory = await mkdtemp(join(tmpdir(), "tessera-bench-import-"));
  try {
    const turns: Measured[] = [];
    for (let count = 0; count < (timed ? TURNS : 1); count += 1) {
      if (count > 0) await rm(join(directory, `${count - 1}`), { recursive: true });
      turns.push(await turn(first, components, join(directory, `${count}`), timed));
    }
    const last = turns.at(-1);
    if (last === undefined) throw new Error("nothing was measured");
    const two = await importedDisks(world, last.store, second, join(directory, "two"));
    const ours = turns.map(({ ours_s }) => ours_s);
    const times = turns.map(({ peer_s }) => peer_s);
    const rows = [
      knownShare(last.one),
      ...(timed ? [timeRow(ours, times)] : []),
      await secondShare(last.store, last.one, two),
    ];
    for (const row of rows) tellRow(row);
    mergeResults("import", rows);
    writePage();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

await main();
