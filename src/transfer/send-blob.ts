import { pipelined, type Digest } from "#core";
import { isZero } from "#block";
import { compressWith } from "./blob-dictionary.ts";
import type { BlobReader } from "#repository";
import { Compressor } from "./compression.ts";
import { peerError } from "./errors.ts";
import { bytesPrefix, encodeZeroes } from "./messages.ts";
import { FLAG_DICTIONARY, FLAG_ZSTD, RAW_BYTES_MAX, TYPE } from "./protocol.ts";
import type { OutgoingStream } from "./sender-stream.ts";
import { Spares } from "./spares.ts";

export const PIPELINE_DEPTH = 4;

/** The level of the moment, or undefined for no compression. */
export type LevelNow = () => number | undefined;

interface BlobPiece {
  readonly offset: number;
  readonly length: number;
  /** Absent for zeroes. */
  readonly bytes?: Buffer;
}

/** The blob in pieces of up to 1 MiB; consecutive pieces of zeroes as one. */
async function* piecesOf(
  reader: BlobReader,
  from: number,
  spares: Spares,
): AsyncGenerator<BlobPiece> {
  let zeroesFrom = from;
  for (let offset = from; offset < reader.sizeBytes; offset += RAW_BYTES_MAX) {
    const bytes = spares.take(Math.min(RAW_BYTES_MAX, reader.sizeBytes - offset));
    await reader.read(bytes, offset);
    if (isZero(bytes)) {
      spares.give(bytes);
      continue;
    }
    if (zeroesFrom < offset) yield { offset: zeroesFrom, length: offset - zeroesFrom };
    yield { offset, length: bytes.length, bytes };
    zeroesFrom = offset + bytes.length;
  }
  const length = reader.sizeBytes - zeroesFrom;
  if (length > 0) yield { offset: zeroesFrom, length };
}

/** Sends a blob from `offset` on. @throws `transfer.not-offered`, what the source throws */
export async function sendBlob(
  stream: OutgoingStream,
  reader: BlobReader,
  options: {
    readonly name: string;
    readonly offset: number;
    readonly level: LevelNow;
    /** A blob that both sides hold, as dictionary. */
    readonly base?: { readonly digest: Digest; readonly dictionary: Buffer } | undefined;
  },
): Promise<void> {
  const { name, offset, level, base } = options;
  const { sizeBytes } = reader;
  if (offset > sizeBytes) throw peerError("not-offered", "the offset is behind the blob's end");
  const content = base === undefined ? { sizeBytes } : { sizeBytes, base: base.digest };
  stream.opened(name, content, { doneBytes: offset, totalBytes: sizeBytes });
  const packer = new Compressor();
  const spares = new Spares();
  const flagsOf = base === undefined ? FLAG_ZSTD : FLAG_ZSTD | FLAG_DICTIONARY;
  const pieces = pipelined(piecesOf(reader, offset, spares), PIPELINE_DEPTH, async (piece) => {
    const chosen = level();
    if (base !== undefined && piece.bytes !== undefined) {
      return { piece, packed: await compressWith(piece.bytes, base.dictionary), level: "solid-19" };
    }
    const packed = piece.bytes === undefined ? undefined : await packer.pack(piece.bytes, chosen);
    return { piece, packed, level: packed === undefined ? 0 : chosen };
  });
  for await (const { piece, packed, level } of pieces) {
    const { offset, length, bytes } = piece;
    if (bytes === undefined) {
      const parts = [encodeZeroes(offset, length)];
      await stream.data({ type: TYPE.ZEROES, flags: 0, parts }, length);
    } else {
      const flags = packed === undefined ? 0 : flagsOf;
      const parts = [bytesPrefix(offset, length), packed ?? bytes];
      const free = (): void => spares.give(bytes);
      if (packed !== undefined) free();
      const onFree = packed === undefined ? free : undefined;
      await stream.data({ type: TYPE.BYTES, flags, parts, onFree }, length, level);
    }
  }
  stream.ended({});
}
