/**
 * Spike, kept as a test: the migration streams of real machines, captured under loads, run through
 * the coder of memory with the machine's components as the destination's. The table is that of
 * doc/memory.md. One load at one level, unless `LOADS=all` and `LEVELS=1,3,9,19` say more: a load
 * takes a minute, and level 19 another.
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { decodeMemory, MemoryEncoder, memoryLevel, type MemoryFigures } from "#memory";
import { realWorld } from "#system";
import { PageIndex } from "#transfer";
import { captureRam, LOADS } from "../support/ram-capture.ts";

const world = realWorld();
/** Bits per second at which each level is chosen. */
const RATES: Readonly<Record<number, number>> = { 1: 900e6, 3: 300e6, 9: 50e6, 19: 2e6 };
const LEVELS = (process.env["LEVELS"] ?? "3").split(",").map(Number);
const CHUNK_BYTES = 65_536;
/** What migrates in practice: much of the memory is of files. */
const USUAL = "warm page cache";
/** Bytes on the wire per byte of QEMU's stream: the targets. */
const RATIO_MAX: Readonly<Record<string, number>> = { idle: 0.25, "warm page cache": 0.25 };
const RATIO_MAX_USUAL = 0.6;

async function openImage(path: string) {
  const file = await world.files.open(path, "read");
  const { sizeBytes } = await file.status();
  const read = async (target: Uint8Array, offset: number): Promise<void> => {
    assert.equal(await file.read(target, offset), target.length);
  };
  return { sizeBytes, read, close: () => file.close() };
}

type Image = Awaited<ReturnType<typeof openImage>>;

async function* chunks(stream: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < stream.length; at += CHUNK_BYTES) {
    yield stream.subarray(at, at + CHUNK_BYTES);
  }
}

interface Coded {
  readonly figures: MemoryFigures;
  readonly encode_s: number;
  readonly decode_s: number;
}

function cpuSeconds(since?: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
}

async function code(stream: Buffer, images: readonly Image[], level: number): Promise<Coded> {
  const conditions = { bitsPerSecond: RATES[level] ?? 0, cores: 1 };
  assert.equal(memoryLevel(conditions), level);
  const pages = await PageIndex.build(images, new AbortController().signal);
  const components = { count: images.length, pages };
  const { clock } = world;
  const encoder = new MemoryEncoder({ clock, components, conditions: () => conditions });
  const before = process.cpuUsage();
  const frames: Buffer[] = [];
  for await (const frame of encoder.encode(chunks(stream))) frames.push(frame);
  const encode_s = cpuSeconds(before);
  assert.equal(encoder.off, undefined);
  const between = process.cpuUsage();
  let at = 0;
  for await (const piece of decodeMemory(chunks(Buffer.concat(frames)), { images })) {
    assert.equal(stream.compare(piece, 0, piece.length, at, at + piece.length), 0, `at ${at}`);
    at += piece.length;
  }
  assert.equal(at, stream.length);
  return { figures: encoder.figures, encode_s, decode_s: cpuSeconds(between) };
}

const MB = (bytes: number): string => (bytes / 1e6).toFixed(1);

function row(load: string, level: number, { figures, encode_s, decode_s }: Coded): string {
  const pages = [
    figures.fillPages,
    figures.componentPages,
    figures.repeatedPages,
    figures.patchedPages,
    figures.literalPages,
  ];
  return [
    load,
    level,
    MB(figures.rawBytes),
    MB(figures.encodedBytes),
    (figures.encodedBytes / figures.rawBytes).toFixed(3),
    ...pages,
    (figures.rawBytes / 1e6 / encode_s).toFixed(0),
    (figures.rawBytes / 1e6 / decode_s).toFixed(0),
  ].join(" | ");
}

const CHOSEN = process.env["LOADS"] === "all" ? LOADS : LOADS.filter(({ name }) => name === USUAL);

for (const load of CHOSEN) {
  test(`memory of a machine, ${load.name}`, async (context) => {
    const directory = await mkdtemp(join(tmpdir(), "ram-"));
    context.after(() => rm(directory, { recursive: true, force: true }));
    const path = join(directory, "stream");
    const capture = await captureRam(directory, load, path);
    const stream = await readFile(path);
    const images = await Promise.all(capture.images.map(openImage));
    context.after(() => Promise.all(images.map((image) => image.close())));
    for (const level of LEVELS) {
      const coded = await code(stream, images, level);
      context.diagnostic(row(load.name, level, coded));
      const ratio = coded.figures.encodedBytes / coded.figures.rawBytes;
      assert.ok(ratio <= (RATIO_MAX[load.name] ?? RATIO_MAX_USUAL), `${ratio}`);
    }
  });
}
