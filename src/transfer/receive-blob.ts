import { TesseraError, hasCode, type BlobReference, type Digest, pipelined } from "#core";
import type { ComponentStore, Ingest } from "#repository";
import { blobDictionary } from "./blob-dictionary.ts";
import { decompress } from "./compression.ts";
import { peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import {
  BlobEndSchema,
  BlobOpenedSchema,
  decodeBytes,
  decodeJson,
  decodeZeroes,
} from "./messages.ts";
import { CHECKPOINT_BYTES, FLAG_DICTIONARY, FLAG_ZSTD, RAW_BYTES_MAX, TYPE } from "./protocol.ts";
import type { IncomingStream, Receiver } from "./receiver-streams.ts";
import { decompressFrame } from "./solid.ts";

const PIPELINE_DEPTH = 4;
const ZEROES = new Uint8Array(RAW_BYTES_MAX);

interface Piece {
  readonly frame: Frame;
  readonly offset: number;
  readonly length: number;
  /** Absent for zeroes and at the end. */
  readonly bytes?: Uint8Array;
}

/** A blob on its way into the store; it outlives connections. */
export class BlobTarget {
  readonly blob: BlobReference;
  readonly #ingest: Ingest;
  #durableBytes: number;
  #position: number;
  wireBytes = 0;

  constructor(ingest: Ingest) {
    this.#ingest = ingest;
    this.blob = ingest.blob;
    this.#position = ingest.writtenBytes;
    this.#durableBytes = ingest.writtenBytes;
  }

  /** What has been appended: where another connection continues. */
  get position(): number {
    return this.#position;
  }

  /** @throws `transfer.protocol-violation` unless the piece continues what is there */
  async take({ offset, length, bytes }: Piece): Promise<void> {
    if (offset !== this.#position || offset + length > this.blob.sizeBytes) {
      throw violation(`bytes at ${offset} where ${this.#position} was due`);
    }
    if (bytes !== undefined) await this.#append(bytes);
    for (let left = bytes === undefined ? length : 0; left > 0; left -= ZEROES.length) {
      await this.#append(ZEROES.subarray(0, left));
    }
  }

  async #append(bytes: Uint8Array): Promise<void> {
    await this.#ingest.append(bytes);
    this.#position += bytes.length;
    if (this.#position - this.#durableBytes >= CHECKPOINT_BYTES) await this.checkpoint();
  }

  async checkpoint(): Promise<void> {
    await this.#ingest.checkpoint();
    this.#durableBytes = this.#position;
  }

  /** Keeps what is there for a later attempt. */
  async keep(): Promise<void> {
    try {
      await this.checkpoint();
    } finally {
      await this.#ingest.release();
    }
  }

  /** @throws `transfer.digest-mismatch` (peer): the bytes are removed */
  async commit(): Promise<void> {
    try {
      await this.#ingest.commit();
    } catch (cause) {
      if (!hasCode(cause, "repository.digest-mismatch")) throw cause;
      throw new TesseraError("peer", "transfer.digest-mismatch", "a blob has another digest", {
        subject: this.blob.digest,
        remedy: "run verify at the other cloud; the bytes that came were removed",
        cause,
      });
    }
  }
}

async function decodePiece(frame: Frame, dictionary: Buffer | undefined): Promise<Piece> {
  if (frame.type === TYPE.ZEROES) return { frame, ...decodeZeroes(frame) };
  if (frame.type === TYPE.END) {
    decodeJson(frame, BlobEndSchema);
    return { frame, offset: 0, length: 0 };
  }
  if (frame.type !== TYPE.BYTES) throw violation(`frame type ${frame.type} in a blob`);
  const { offset, rawBytes, data } = decodeBytes(frame);
  if ((frame.flags & FLAG_DICTIONARY) !== 0) {
    const bytes = dictionary && (await decompressFrame(data, rawBytes, dictionary));
    if (bytes === undefined) throw violation("a frame that needs a dictionary does not decompress");
    return { frame, offset, length: rawBytes, bytes };
  }
  if ((frame.flags & FLAG_ZSTD) !== 0) {
    return { frame, offset, length: rawBytes, bytes: await decompress(data, rawBytes) };
  }
  if (data.length !== rawBytes) throw violation(`${data.length} bytes in place of ${rawBytes}`);
  return { frame, offset, length: rawBytes, bytes: data };
}

/** The base that the sender uses as dictionary. */
async function receiveOpened(
  stream: IncomingStream,
  blob: BlobReference,
  offered: Digest | undefined,
): Promise<Digest | undefined> {
  const frame = await stream.next();
  if (frame.type !== TYPE.OPENED) throw violation(`frame type ${frame.type} before OPENED`);
  const { sizeBytes, base } = decodeJson(frame, BlobOpenedSchema);
  if (base !== undefined && base !== offered) throw violation("a dictionary that was not offered");
  if (sizeBytes === blob.sizeBytes) return base;
  throw peerError("size-mismatch", `the blob has ${sizeBytes} bytes, not ${blob.sizeBytes}`, {
    subject: blob.digest,
  });
}

async function openDictionary(
  store: Pick<ComponentStore, "openBlob">,
  base: Digest | undefined,
): Promise<Buffer | undefined> {
  if (base === undefined) return undefined;
  const reader = await store.openBlob(base);
  try {
    return await blobDictionary(reader);
  } finally {
    await reader.close();
  }
}

export interface BlobReceiving {
  readonly store: Pick<ComponentStore, "openBlob">;
  /** A held blob that may serve as dictionary. */
  readonly base: Digest | undefined;
  readonly signal: AbortSignal;
  readonly onPiece: () => void;
}

/**
 * Receives what a blob lacks over one connection, up to END.
 *
 * @throws `transfer.protocol-violation`, `transfer.size-mismatch`, the sender's error, the reason
 *   why the connection ended, what the store throws
 */
export async function receiveBlob(
  receiver: Receiver,
  target: BlobTarget,
  { store, base, signal, onPiece }: BlobReceiving,
): Promise<void> {
  const { blob } = target;
  const offer = base === undefined ? {} : { base };
  const open = { kind: "blob", digest: blob.digest, offset: target.position } as const;
  const stream = receiver.open({ ...open, ...offer });
  const abort = (): void => stream.fail(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  const wireBytes = target.wireBytes;
  try {
    const dictionary = await openDictionary(store, await receiveOpened(stream, blob, base));
    const decode = (frame: Frame) => decodePiece(frame, dictionary);
    const stop = (): void => stream.fail(violation("stopped"));
    for await (const piece of pipelined(stream.frames(), PIPELINE_DEPTH, decode, stop)) {
      if (piece.frame.type !== TYPE.END) await target.take(piece);
      stream.recycle(piece.frame);
      target.wireBytes = wireBytes + stream.wireBytes;
      onPiece();
    }
    if (target.position < blob.sizeBytes) throw violation(`the blob ends at ${target.position}`);
  } catch (cause) {
    receiver.done(stream, cause);
    throw cause;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
