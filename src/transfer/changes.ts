/** The payload of CHANGES: decoded, then validated; see doc/data-protocol.md, "User data". */
import { BLOCK_BYTES } from "#block";
import { violation } from "./errors.ts";
import { BLOCKS_PER_FRAME_MAX } from "./protocol.ts";
import { VarintReader, VarintWriter } from "./varint.ts";

export const PAGE_BYTES = 4096;
export const PAGES_PER_BLOCK = BLOCK_BYTES / PAGE_BYTES;
/** Most bytes of the list of changes that precedes a frame's data. */
export const CHANGES_HEAD_BYTES_MAX = 8192;
/** Most changes in a frame: its blocks, and runs of zero blocks between them. */
const CHANGES_PER_FRAME_MAX = 2 * BLOCKS_PER_FRAME_MAX + 1;
const LENGTH_BYTES = 2;

const KINDS = ["zero", "whole", "pages"] as const;
const SEGMENTS = ["zero", "data", "old", "reference"] as const;

/** A run of a block's pages. */
export type PageSegment =
  /** All zero; from the frame's data; as in the old copy. */
  | { readonly kind: "zero" | "data" | "old"; readonly count: number }
  /** As `count` pages from `page` on in the image of the component with this ordinal. */
  | {
      readonly kind: "reference";
      readonly count: number;
      readonly component: number;
      readonly page: number;
    };

export type BlockChange =
  /** `count` blocks that are all zero. */
  | { readonly kind: "zero"; readonly index: number; readonly count: number }
  /** All of it from the frame's data. */
  | { readonly kind: "whole"; readonly index: number }
  /** A block of full size by its pages, which the segments cover in order. */
  | { readonly kind: "pages"; readonly index: number; readonly segments: readonly PageSegment[] };

/** What the changes of a stream may refer to. */
export interface ChangesContext {
  readonly sizeBytes: number;
  /** True when there is an old copy. */
  readonly lineage: boolean;
  /** Whole pages of each component's image, by ordinal. */
  readonly imagePages: readonly number[];
}

export interface ChangesHead {
  readonly changes: readonly BlockChange[];
  /** Bytes of the frame's data before compression; may be 0. */
  readonly rawBytes: number;
  /** The index after the last block. */
  readonly nextBlock: number;
  readonly data: Buffer;
}

/** Bytes of a block, which are fewer for a device's last. */
export function blockLength(index: number, sizeBytes: number): number {
  return Math.min(BLOCK_BYTES, sizeBytes - index * BLOCK_BYTES);
}

/** Bytes that a change takes of the frame's data. */
export function dataBytesOf(change: BlockChange, sizeBytes: number): number {
  if (change.kind === "zero") return 0;
  if (change.kind === "whole") return blockLength(change.index, sizeBytes);
  const pages = change.segments.map(({ kind, count }) => (kind === "data" ? count : 0));
  return pages.reduce((sum, count) => sum + count, 0) * PAGE_BYTES;
}

/** The list of changes with its length, to be followed by the data. */
export function encodeChanges(changes: readonly BlockChange[]): Buffer {
  const writer = new VarintWriter();
  let next = 0;
  for (const change of changes) {
    writer.number(change.index - next);
    writer.number(KINDS.indexOf(change.kind));
    if (change.kind === "zero") writer.number(change.count);
    if (change.kind === "pages") writeSegments(writer, change.segments);
    next = change.index + (change.kind === "zero" ? change.count : 1);
  }
  const list = writer.bytes();
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt16BE(list.length);
  return Buffer.concat([length, list]);
}

function writeSegments(writer: VarintWriter, segments: readonly PageSegment[]): void {
  for (const segment of segments) {
    writer.number((segment.count - 1) * SEGMENTS.length + SEGMENTS.indexOf(segment.kind));
    if (segment.kind !== "reference") continue;
    writer.number(segment.component);
    writer.number(segment.page);
  }
}

/**
 * Decodes and validates what a frame changes.
 *
 * @param nextBlock the first block that it may name
 * @throws `transfer.protocol-violation`
 */
export function decodeChanges(
  payload: Buffer,
  context: ChangesContext,
  nextBlock: number,
): ChangesHead {
  if (payload.length < LENGTH_BYTES) throw violation("a CHANGES frame without a list");
  const dataAt = LENGTH_BYTES + payload.readUInt16BE(0);
  if (dataAt > LENGTH_BYTES + CHANGES_HEAD_BYTES_MAX || dataAt > payload.length) {
    throw violation(`a list of changes of ${dataAt - LENGTH_BYTES} bytes`);
  }
  const changes = readChanges(payload.subarray(LENGTH_BYTES, dataAt));
  const validated = validateChanges(changes, context, nextBlock);
  return { changes, ...validated, data: payload.subarray(dataAt) };
}

function readChanges(list: Buffer): BlockChange[] {
  const reader = new VarintReader(list);
  const changes: BlockChange[] = [];
  let next = 0;
  while (reader.remaining > 0) {
    if (changes.length === CHANGES_PER_FRAME_MAX) throw violation("too many changes in a frame");
    const index = next + reader.number();
    const kind = KINDS[reader.number()];
    if (kind === undefined) throw violation("an unknown kind of change");
    if (kind === "zero") changes.push({ kind, index, count: reader.number() });
    else if (kind === "whole") changes.push({ kind, index });
    else changes.push({ kind, index, segments: readSegments(reader) });
    const last = changes.at(-1);
    next = index + (last?.kind === "zero" ? last.count : 1);
  }
  return changes;
}

function readSegments(reader: VarintReader): PageSegment[] {
  const segments: PageSegment[] = [];
  for (let pages = 0; pages < PAGES_PER_BLOCK; pages += segments.at(-1)?.count ?? 1) {
    const word = reader.number();
    const kind = SEGMENTS[word % SEGMENTS.length] ?? "zero";
    const count = Math.floor(word / SEGMENTS.length) + 1;
    if (pages + count > PAGES_PER_BLOCK) throw violation("pages beyond the end of a block");
    if (kind !== "reference") segments.push({ kind, count });
    else segments.push({ kind, count, component: reader.number(), page: reader.number() });
  }
  return segments;
}

function validateChanges(
  changes: readonly BlockChange[],
  context: ChangesContext,
  from: number,
): { readonly rawBytes: number; readonly nextBlock: number } {
  const { sizeBytes } = context;
  const blocks = Math.ceil(sizeBytes / BLOCK_BYTES);
  let nextBlock = from;
  let rawBytes = 0;
  let changed = 0;
  for (const change of changes) {
    const count = change.kind === "zero" ? change.count : 1;
    if (count === 0 || change.index < nextBlock || change.index + count > blocks) {
      throw violation(`blocks ${change.index} and ${count} on, out of order or of the device`);
    }
    if (change.kind !== "zero") changed += 1;
    if (change.kind === "pages") validatePages(change, context);
    nextBlock = change.index + count;
    rawBytes += dataBytesOf(change, sizeBytes);
  }
  if (changes.length === 0 || changed > BLOCKS_PER_FRAME_MAX) {
    throw violation(`a CHANGES frame of ${changed} blocks`);
  }
  return { rawBytes, nextBlock };
}

function validatePages(
  { index, segments }: BlockChange & { readonly kind: "pages" },
  { sizeBytes, lineage, imagePages }: ChangesContext,
): void {
  if (blockLength(index, sizeBytes) !== BLOCK_BYTES) throw violation("pages of a short block");
  for (const segment of segments) {
    if (segment.kind === "old" && !lineage) throw violation("a page of an old copy without one");
    if (segment.kind !== "reference") continue;
    const pages = imagePages[segment.component];
    if (pages !== undefined && segment.page + segment.count <= pages) continue;
    throw violation(`page ${segment.page} of component ${segment.component} is out of range`);
  }
}
