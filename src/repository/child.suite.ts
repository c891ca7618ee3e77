/** A process that the tests start, watch by its lines, and kill: `node child.suite.ts ACTION DIR ...` */
import { openRepository, type ComponentStore } from "#repository";
import { realWorld } from "#system";
import { bytesOf, describe, digestOf, FRAGMENTS, sourceOf } from "./fixtures.suite.ts";

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Waits to be killed. */
function forever(): Promise<never> {
  return new Promise(() => setInterval(() => undefined, 60_000));
}

/** Components `PREFIX-0` to `PREFIX-(COUNT - 1)`. */
async function add(store: ComponentStore, prefix: string, count: string): Promise<void> {
  for (let number = 0; number < Number(count); number += 1) {
    const name = `${prefix}-${number}`;
    const image = sourceOf(bytesOf(name, 50_000));
    await store.add({ description: describe({ name }), fragments: FRAGMENTS, image });
    say(name);
  }
}

/** The blob of a seed, in pieces, with a checkpoint after every fourth; halts after some pieces. */
async function ingest(store: ComponentStore, seed: string, pieces: string): Promise<void> {
  const content = bytesOf(seed, 100_000);
  const open = await store.ingest({ digest: digestOf(content), sizeBytes: content.length });
  if (open === undefined) return;
  for (let piece = 0; piece < Number(pieces); piece += 1) {
    await open.append(content.subarray(open.writtenBytes, open.writtenBytes + 10_000));
    if (piece % 4 === 3) await open.checkpoint();
  }
  say(`${open.writtenBytes}`);
  await forever();
}

/** Reads what the components are made of, one after the other. */
async function index(store: ComponentStore): Promise<void> {
  for (const { id } of await store.list()) {
    await store.recipe(id);
    say(id);
  }
}

/** Assembles the blob of a seed from the back, with a checkpoint after every piece; then halts. */
async function assemble(store: ComponentStore, seed: string, pieces: string): Promise<void> {
  const content = bytesOf(seed, 100_000);
  const blob = { digest: digestOf(content), sizeBytes: content.length };
  const assembly = await store.assemble(blob);
  for (let piece = 9; piece >= 10 - Number(pieces); piece -= 1) {
    await assembly?.write(content.subarray(piece * 10_000, (piece + 1) * 10_000), piece * 10_000);
    await assembly?.checkpoint(Uint8Array.of(piece));
  }
  await assembly?.write(bytesOf("not counted", 10_000), 0);
  say(pieces);
  await forever();
}

/** Collects without end. */
async function collect(store: ComponentStore): Promise<void> {
  for (let round = 0; ; round += 1) {
    await store.collect({ dryRun: false });
    say(`${round}`);
  }
}

const [action = "", directory = "", ...rest] = process.argv.slice(2);
const store = await openRepository(realWorld(), directory);
const [first = "", second = ""] = rest;
if (action === "add") await add(store, first, second);
if (action === "ingest") await ingest(store, first, second);
if (action === "index") await index(store);
if (action === "assemble") await assemble(store, first, second);
if (action === "collect") await collect(store);
