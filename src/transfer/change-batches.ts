/** What the sender of changes puts into its frames: from two devices to blocks and pages. */
import { alignRanges, endOf, mergeRanges, type ByteRange } from "#core";
import { BLOCK_BYTES, isZero, type BlockDevice } from "#block";
import { PAGES_PER_BLOCK, PAGE_BYTES, type BlockChange, type PageSegment } from "./changes.ts";
import type { Lineage } from "./contract.ts";
import type { PageIndex, PagePlace } from "./page-index.ts";
import { BLOCKS_PER_FRAME_MAX, RAW_BYTES_MAX } from "./protocol.ts";

/** A block that differs from the old copy, or from zeroes where there is none. */
export interface ChangedBlock {
  readonly index: number;
  readonly bytes: Buffer;
  /** Absent without an old copy. */
  readonly old?: Buffer;
}

/** The content of one CHANGES frame. */
export interface ChangeBatch {
  readonly changes: readonly BlockChange[];
  readonly raw: Buffer;
  /** The old contents of the blocks that `raw` gives bytes of. */
  readonly olds: readonly Uint8Array[];
}

/** Where the present block may differ from its old copy, in whole blocks. */
export async function changedRanges(
  device: BlockDevice,
  lineage: Lineage | undefined,
): Promise<ByteRange[]> {
  const { sizeBytes } = device;
  const known = lineage?.changed;
  if (known !== undefined) return alignRanges(known, BLOCK_BYTES, sizeBytes);
  const old = (await lineage?.old.allocated()) ?? [];
  return alignRanges(mergeRanges([...(await device.allocated()), ...old]), BLOCK_BYTES, sizeBytes);
}

/** The blocks that differ, in order, between two indices. */
export async function* changedBlocks(
  device: BlockDevice,
  old: BlockDevice | undefined,
  ranges: readonly ByteRange[],
  between: { readonly from: number; readonly to: number },
): AsyncGenerator<ChangedBlock, void, undefined> {
  for (const range of ranges) {
    const end = Math.min(endOf(range), between.to * BLOCK_BYTES, device.sizeBytes);
    const start = Math.max(range.offset, between.from * BLOCK_BYTES);
    for (let offset = start; offset < end; offset += RAW_BYTES_MAX) {
      const length = Math.min(RAW_BYTES_MAX, end - offset);
      const read = async (from: BlockDevice): Promise<Buffer> => {
        const bytes = Buffer.allocUnsafe(length);
        await from.read(bytes, offset);
        return bytes;
      };
      const [bytes, before] = await Promise.all([
        read(device),
        old === undefined ? undefined : read(old),
      ]);
      yield* differences(offset / BLOCK_BYTES, bytes, before);
    }
  }
}

function* differences(
  first: number,
  bytes: Buffer,
  before: Buffer | undefined,
): Generator<ChangedBlock> {
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    const index = first + at / BLOCK_BYTES;
    const block = bytes.subarray(at, at + BLOCK_BYTES);
    const old = before?.subarray(at, at + BLOCK_BYTES);
    if (old === undefined ? !isZero(block) : !block.equals(old)) {
      yield { index, bytes: block, ...(old === undefined ? {} : { old }) };
    }
  }
}

/** Where the page comes from, if not from the frame's data. */
async function sourceOf(
  page: Buffer,
  old: Buffer | undefined,
  index: PageIndex | undefined,
  last: PageSegment | undefined,
): Promise<"zero" | "data" | "old" | PagePlace> {
  if (isZero(page)) return "zero";
  if (old?.equals(page) === true) return "old";
  return (await index?.find(page, last === undefined ? undefined : after(last))) ?? "data";
}

/** The page that would continue a reference. */
function after(segment: PageSegment): PagePlace | undefined {
  if (segment.kind !== "reference") return undefined;
  return { component: segment.component, page: segment.page + segment.count };
}

function joins(last: PageSegment | undefined, from: PageSegment["kind"] | PagePlace): boolean {
  if (last === undefined) return false;
  if (typeof from === "string") return last.kind === from;
  const next = after(last);
  return next?.component === from.component && next.page === from.page;
}

/** How a block is composed of its pages. */
async function segmentsOf(
  { bytes, old }: ChangedBlock,
  index: PageIndex | undefined,
): Promise<PageSegment[]> {
  const segments: PageSegment[] = [];
  for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
    const page = bytes.subarray(at, at + PAGE_BYTES);
    const before = old?.subarray(at, at + PAGE_BYTES);
    const last = segments.at(-1);
    const from = await sourceOf(page, before, index, last);
    if (last !== undefined && joins(last, from)) {
      segments.splice(-1, 1, { ...last, count: last.count + 1 });
    } else if (typeof from === "string") segments.push({ kind: from, count: 1 });
    else segments.push({ kind: "reference", count: 1, ...from });
  }
  return segments;
}

/** Describes a block, and gives the bytes of it that have to travel. */
async function describe(
  block: ChangedBlock,
  index: PageIndex | undefined,
): Promise<{ readonly change: BlockChange; readonly pieces: readonly Buffer[] }> {
  const { bytes } = block;
  if (isZero(bytes)) return { change: { kind: "zero", index: block.index, count: 1 }, pieces: [] };
  const whole = { change: { kind: "whole", index: block.index }, pieces: [bytes] } as const;
  if (bytes.length < BLOCK_BYTES) return whole;
  const segments = await segmentsOf(block, index);
  if (segments[0]?.kind === "data" && segments[0].count === PAGES_PER_BLOCK) return whole;
  return {
    change: { kind: "pages", index: block.index, segments },
    pieces: dataPieces(bytes, segments),
  };
}

function dataPieces(bytes: Buffer, segments: readonly PageSegment[]): Buffer[] {
  const pieces: Buffer[] = [];
  let at = 0;
  for (const { kind, count } of segments) {
    const end = at + count * PAGE_BYTES;
    if (kind === "data") pieces.push(bytes.subarray(at, end));
    at = end;
  }
  return pieces;
}

/** Gathers described blocks into batches of up to sixteen. */
class Batcher {
  #changes: BlockChange[] = [];
  #blocks = 0;
  #pieces: Buffer[] = [];
  #olds: Uint8Array[] = [];

  add(change: BlockChange, pieces: readonly Buffer[], old: Uint8Array | undefined): void {
    const last = this.#changes.at(-1);
    const joined = change.kind === "zero" && last?.kind === "zero";
    if (joined && last.index + last.count === change.index) {
      this.#changes.splice(-1, 1, { ...last, count: last.count + 1 });
      return;
    }
    this.#changes.push(change);
    this.#blocks += change.kind === "zero" ? 0 : 1;
    this.#pieces.push(...pieces);
    if (pieces.length > 0 && old !== undefined) this.#olds.push(old);
  }

  get full(): boolean {
    return this.#blocks === BLOCKS_PER_FRAME_MAX || this.#changes.length === ENTRIES_MAX;
  }

  take(): ChangeBatch | undefined {
    if (this.#changes.length === 0) return undefined;
    const raw = Buffer.concat(this.#pieces);
    const batch = { changes: this.#changes, raw, olds: this.#olds };
    this.#changes = [];
    this.#blocks = 0;
    this.#pieces = [];
    this.#olds = [];
    return batch;
  }
}

const ENTRIES_MAX = 2 * BLOCKS_PER_FRAME_MAX;

/** The frames' contents for a sequence of blocks that differ. */
export async function* changeBatches(
  blocks: AsyncIterable<ChangedBlock>,
  index: PageIndex | undefined,
): AsyncGenerator<ChangeBatch, void, undefined> {
  const batcher = new Batcher();
  for await (const block of blocks) {
    const { change, pieces } = await describe(block, index);
    batcher.add(change, pieces, block.old);
    const full = batcher.full ? batcher.take() : undefined;
    if (full !== undefined) yield full;
  }
  const rest = batcher.take();
  if (rest !== undefined) yield rest;
}
