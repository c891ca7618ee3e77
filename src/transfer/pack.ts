/** The payload of PACK: what the bytes that follow are. See doc/data-protocol.md, "Packs". */
import type { PackPlan, PackReference, PackSegment } from "#delta";
import { violation } from "./errors.ts";
import {
  PACK_RAW_BYTES_MAX,
  PACK_REFERENCE_BYTES_MAX,
  PACK_WIRE_BYTES_MAX,
  WANT_BYTES_MAX,
} from "./protocol.ts";
import { VarintReader, VarintWriter, unzigzag, zigzag } from "./varint.ts";

const HEAD_BYTES = 14;
const KINDS = ["direct", "solid", "difference"] as const;

export interface PackHead extends PackPlan {
  readonly kind: (typeof KINDS)[number];
  /** zstd's, for reports; 0 where frames are not compressed. */
  readonly level: number;
  /** Raw bytes of all packs before this one. */
  readonly start: number;
  /** Of the zstd frame; 0 for a direct pack, which has several. */
  readonly encodedBytes: number;
}

/** Something with a list of contents and their sizes: a recipe. */
export interface Sizes {
  readonly contents: readonly { readonly sizeBytes: number }[];
}

/** What a pack may name. */
export interface PackScope {
  readonly component: Sizes;
  /** In the order of the stream's bases. */
  readonly bases: readonly Sizes[];
}

interface Range {
  readonly content: number;
  readonly offset: number;
  readonly length: number;
}

/** A range by the distance of its content from the expected one; a whole content without numbers. */
function writeRange(writer: VarintWriter, range: Range, expected: number, sizes: Sizes): void {
  const { content, offset, length } = range;
  const whole = offset === 0 && length === sizes.contents[content]?.sizeBytes;
  writer.number(2 * zigzag(content - expected) + (whole ? 0 : 1));
  if (whole) return;
  writer.number(offset);
  writer.number(length);
}

/** @throws `transfer.protocol-violation` unless it lies within a content */
function readRange(reader: VarintReader, expected: number, sizes: Sizes): Range {
  const code = reader.number();
  const content = expected + unzigzag(Math.floor(code / 2));
  const sizeBytes = sizes.contents[content]?.sizeBytes;
  if (sizeBytes === undefined) throw violation(`a pack names content ${content}`);
  if (code % 2 === 0) return { content, offset: 0, length: sizeBytes };
  const offset = reader.number();
  const length = reader.number();
  if (length === 0 || offset > sizeBytes || length > sizeBytes - offset) {
    throw violation(`a pack names ${length} bytes at ${offset} of content ${content}`);
  }
  return { content, offset, length };
}

function sizesOf(scope: PackScope, base: number): Sizes {
  const sizes = scope.bases[base];
  if (sizes === undefined) throw violation(`a pack names base ${base}`);
  return sizes;
}

/** May exceed `WANT_BYTES_MAX`: then the pack has to be divided. */
export function encodePack(head: PackHead, scope: PackScope): Buffer {
  const writer = new VarintWriter();
  writer.number(head.references.length);
  let expected = 0;
  for (const reference of head.references) {
    writer.number(reference.base);
    writeRange(writer, reference, expected, sizesOf(scope, reference.base));
    expected = reference.content + 1;
  }
  writer.number(head.segments.length);
  expected = 0;
  for (const segment of head.segments) {
    writeRange(writer, segment, expected, scope.component);
    expected = segment.content + 1;
  }
  const fixed = Buffer.alloc(HEAD_BYTES);
  fixed.writeBigUInt64BE(BigInt(head.start), 0);
  fixed.writeUInt32BE(head.encodedBytes, 8);
  fixed.writeUInt8(KINDS.indexOf(head.kind), 12);
  fixed.writeUInt8(head.level, 13);
  return Buffer.concat([fixed, writer.bytes()]);
}

function readReferences(reader: VarintReader, scope: PackScope): PackReference[] {
  const references: PackReference[] = [];
  let expected = 0;
  let total = 0;
  for (let left = reader.count(2); left > 0; left -= 1) {
    const base = reader.number();
    const range = readRange(reader, expected, sizesOf(scope, base));
    total += range.length;
    if (total > PACK_REFERENCE_BYTES_MAX) throw violation("a pack's references are too large");
    references.push({ base, ...range });
    expected = range.content + 1;
  }
  return references;
}

function readSegments(reader: VarintReader, scope: PackScope) {
  const segments: PackSegment[] = [];
  let expected = 0;
  let rawBytes = 0;
  for (let left = reader.count(1); left > 0; left -= 1) {
    const range = readRange(reader, expected, scope.component);
    rawBytes += range.length;
    if (rawBytes > PACK_RAW_BYTES_MAX) throw violation("a pack is too large");
    segments.push(range);
    expected = range.content + 1;
  }
  if (segments.length === 0) throw violation("a pack of nothing");
  return { segments, rawBytes };
}

function readFixed(payload: Buffer): Pick<PackHead, "start" | "encodedBytes" | "kind" | "level"> {
  const start = Number(payload.readBigUInt64BE(0));
  const encodedBytes = payload.readUInt32BE(8);
  const kind = KINDS[payload.readUInt8(12)];
  const level = payload.readUInt8(13);
  if (!Number.isSafeInteger(start)) throw violation("a number is above 2^53 - 1");
  if (kind === undefined) throw violation("an unknown kind of pack");
  const fits = encodedBytes > 0 && encodedBytes <= PACK_WIRE_BYTES_MAX;
  if (kind === "direct" ? encodedBytes !== 0 : !fits) {
    throw violation(`a ${kind} pack of ${encodedBytes} encoded bytes`);
  }
  return { start, encodedBytes, kind, level };
}

/**
 * Decodes and validates: every range lies within its content, and the sums within the limits.
 *
 * @throws `transfer.protocol-violation`
 */
export function decodePack(payload: Buffer, scope: PackScope): PackHead {
  if (payload.length < HEAD_BYTES || payload.length > WANT_BYTES_MAX) {
    throw violation(`a PACK of ${payload.length} bytes`);
  }
  const fixed = readFixed(payload);
  const reader = new VarintReader(payload, HEAD_BYTES);
  const references = readReferences(reader, scope);
  const { segments, rawBytes } = readSegments(reader, scope);
  if (reader.remaining > 0) throw violation("bytes behind a pack's segments");
  if (fixed.kind === "direct" && references.length > 0) {
    throw violation("a direct pack with references");
  }
  if (fixed.kind === "difference" && references.length === 0) {
    throw violation("a difference without references");
  }
  return { ...fixed, references, segments, rawBytes };
}
