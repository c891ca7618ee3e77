/** Copying contents from images that are held into one that is being put together. */
import { TesseraError, type Digest } from "#core";
import type { ContentExtent } from "#image";
import type { BlobReader, ComponentStore, HeldRecipe } from "#repository";
import type { Building } from "./arrivals.ts";
import { settleAll } from "./settle.ts";

/** One read. */
const WINDOW_BYTES = 2 ** 20;
/** Bytes that are read though nobody wants them, rather than reading twice. */
const GAP_BYTES = 32 * 2 ** 10;
const READS_MAX = 4;
/** Contents whose runs are in memory at a time. */
const BATCH_CONTENTS = 8192;

/** A content that a held component has. */
export interface CopyPair {
  /** In the held component's recipe. */
  readonly from: number;
  /** In the recipe of the image that is put together. */
  readonly to: number;
}

/** A held component cannot be read; its contents have to come from elsewhere. */
export class BaseLost extends Error {}

interface Run {
  /** In the held image. */
  readonly from: number;
  /** In the new image. */
  readonly to: number;
  readonly length: number;
}

interface Window {
  readonly from: number;
  to: number;
  readonly runs: Run[];
}

/**
 * Copies contents and marks them as whole.
 *
 * @throws {BaseLost} what was copied before stays marked; what the image's writing throws
 */
export async function copyContents(
  store: ComponentStore,
  held: HeldRecipe,
  building: Building,
  pairs: readonly CopyPair[],
  options: { readonly signal: AbortSignal; onCopied(bytes: number): void },
): Promise<void> {
  const reader = await opened(store, held.component);
  try {
    const ordered = pairs.toSorted((a, b) => a.from - b.from);
    for (let start = 0; start < ordered.length; start += BATCH_CONTENTS) {
      const batch = ordered.slice(start, start + BATCH_CONTENTS);
      await copyWindows(reader, building, windowsOf(runsOf(held, building, batch)), options.signal);
      options.onCopied(markCopied(held, building, batch));
    }
  } finally {
    await reader.close();
  }
}

async function opened(store: ComponentStore, component: Digest): Promise<BlobReader> {
  try {
    return await store.openBlob(component);
  } catch (cause) {
    throw new BaseLost(`${component} cannot be opened`, { cause });
  }
}

function markCopied(held: HeldRecipe, building: Building, batch: readonly CopyPair[]): number {
  let bytes = 0;
  for (const { from, to } of batch) {
    const [digest, sketch] = [held.digests[from], held.sketches[from]];
    if (digest === undefined || sketch === undefined) continue;
    building.whole[to] = 1;
    building.measured[to] = { digest, sketch };
    bytes += building.recipe.contents[to]?.sizeBytes ?? 0;
  }
  return bytes;
}

/** By ascending position in the held image. */
function runsOf(held: HeldRecipe, { recipe }: Building, pairs: readonly CopyPair[]): Run[] {
  const runs: Run[] = [];
  for (const { from, to } of pairs) {
    const [source = []] = held.recipe.places(from);
    for (const place of recipe.places(to)) matchExtents(source, place, runs);
  }
  return runs.toSorted((a, b) => a.from - b.from);
}

/** Two lists of extents that cover the same content, cut so that each run lies in one of both. */
export function matchExtents(
  source: readonly ContentExtent[],
  target: readonly ContentExtent[],
  runs: Run[],
): void {
  let [s, t] = [0, 0];
  for (;;) {
    const [a, b] = [source[s], target[t]];
    if (a === undefined || b === undefined) return;
    const offset = Math.max(a.offset, b.offset);
    const end = Math.min(a.offset + a.length, b.offset + b.length);
    const [from, to] = [a.position + offset - a.offset, b.position + offset - b.offset];
    for (let done = 0; done < end - offset; done += WINDOW_BYTES) {
      const length = Math.min(WINDOW_BYTES, end - offset - done);
      runs.push({ from: from + done, to: to + done, length });
    }
    if (a.offset + a.length === end) s += 1;
    if (b.offset + b.length === end) t += 1;
  }
}

function windowsOf(runs: readonly Run[]): Window[] {
  const windows: Window[] = [];
  for (const run of runs) {
    const last = windows.at(-1);
    const end = run.from + run.length;
    if (last === undefined || run.from > last.to + GAP_BYTES || end > last.from + WINDOW_BYTES) {
      windows.push({ from: run.from, to: end, runs: [run] });
      continue;
    }
    last.to = Math.max(last.to, end);
    last.runs.push(run);
  }
  return windows;
}

async function copyWindows(
  reader: BlobReader,
  { writer }: Building,
  windows: readonly Window[],
  signal: AbortSignal,
): Promise<void> {
  let next = 0;
  let failed = false;
  const work = async (): Promise<void> => {
    const buffer = new Uint8Array(WINDOW_BYTES);
    for (;;) {
      const window = windows[next];
      if (window === undefined || failed) return;
      next += 1;
      signal.throwIfAborted();
      const bytes = buffer.subarray(0, window.to - window.from);
      await readBase(reader, bytes, window.from);
      for (const { from, to, length } of window.runs) {
        await writer.put(bytes.subarray(from - window.from, from - window.from + length), to);
      }
    }
  };
  const guarded = (): Promise<void> =>
    work().catch((error: unknown) => {
      failed = true;
      throw error;
    });
  await settleAll(Array.from({ length: READS_MAX }, guarded));
}

async function readBase(reader: BlobReader, target: Uint8Array, position: number): Promise<void> {
  try {
    await reader.read(target, position);
  } catch (cause) {
    if (!(cause instanceof TesseraError)) throw cause;
    throw new BaseLost(`bytes at ${position} cannot be read`, { cause });
  }
}
