/** The preamble and the frames that a memory stream consists of. */
import {
  BODY_BYTES_MAX,
  COMPONENTS_MAX,
  FRAME,
  FRAME_HEAD_BYTES,
  MAGIC,
  PREAMBLE_BYTES,
  SLOTS_MAX,
  streamCut,
  streamInvalid,
  VERSION,
} from "./format.ts";

/** What the two sides must have in common. */
export interface Preamble {
  /** Number of components whose pages may be referred to. */
  readonly components: number;
  /** Slots of the store of pages. */
  readonly slots: number;
}

export function encodePreamble({ components, slots }: Preamble): Buffer {
  const bytes = Buffer.alloc(PREAMBLE_BYTES);
  bytes.writeUInt32BE(MAGIC, 0);
  bytes.writeUInt8(VERSION, 4);
  bytes.writeUInt8(components, 5);
  bytes.writeUInt32BE(slots, 6);
  return bytes;
}

/** @throws `memory.stream-invalid` */
export function decodePreamble(bytes: Buffer): Preamble {
  if (bytes.readUInt32BE(0) !== MAGIC) throw streamInvalid("it does not begin as one");
  const version = bytes.readUInt8(4);
  if (version !== VERSION) throw streamInvalid(`its version is ${version}, not ${VERSION}`);
  const preamble = { components: bytes.readUInt8(5), slots: bytes.readUInt32BE(6) };
  if (preamble.components > COMPONENTS_MAX || preamble.slots > SLOTS_MAX) {
    throw streamInvalid("it asks for more than is allowed");
  }
  return preamble;
}

/** A frame of the body as it is, or of its zstd frame where there is one. */
export function encodeFrame(body: Buffer, packed: Buffer | undefined): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES);
  const content = packed ?? body;
  head.writeUInt8(packed === undefined ? FRAME.plain : FRAME.zstd, 0);
  head.writeUInt32BE(body.length, 1);
  head.writeUInt32BE(content.length, 5);
  return Buffer.concat([head, content]);
}

/** The last frame. */
export function encodeEnd(): Buffer {
  return Buffer.from([FRAME.end, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/** A frame but the last. */
export interface Frame {
  readonly packed: boolean;
  /** Of the body, 1 to `BODY_BYTES_MAX`. */
  readonly rawBytes: number;
  readonly content: Buffer;
}

interface FrameHead {
  readonly kind: number;
  readonly rawBytes: number;
  readonly contentBytes: number;
}

function decodeHead(bytes: Buffer): FrameHead {
  const kind = bytes.readUInt8(0);
  const head = { kind, rawBytes: bytes.readUInt32BE(1), contentBytes: bytes.readUInt32BE(5) };
  const { rawBytes, contentBytes } = head;
  const isSound =
    (kind === FRAME.end && rawBytes === 0 && contentBytes === 0) ||
    (kind === FRAME.plain && contentBytes === rawBytes) ||
    (kind === FRAME.zstd && contentBytes < rawBytes);
  if (!isSound) throw streamInvalid("the head of a frame contradicts itself");
  if (kind === FRAME.end) return head;
  if (rawBytes > BODY_BYTES_MAX || contentBytes === 0) {
    throw streamInvalid(`a frame of ${rawBytes} bytes`);
  }
  return head;
}

/**
 * Cuts the bytes of a stream into its preamble and frames.
 *
 * @throws `memory.stream-invalid`, `memory.stream-cut`, and as the source
 */
export class FrameReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  async preamble(): Promise<Preamble> {
    return decodePreamble(await this.#take(PREAMBLE_BYTES));
  }

  /** The frames up to the last; nothing may follow that. */
  async *frames(): AsyncGenerator<Frame, void, undefined> {
    for (;;) {
      const { kind, rawBytes, contentBytes } = decodeHead(await this.#take(FRAME_HEAD_BYTES));
      if (kind === FRAME.end) break;
      const content = await this.#take(contentBytes);
      yield { packed: kind === FRAME.zstd, rawBytes, content };
    }
    if (this.#bytes > 0 || !(await this.#isAtEnd())) throw streamInvalid("bytes follow its end");
  }

  /** Lets go of the source. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }

  async #isAtEnd(): Promise<boolean> {
    for (;;) {
      const { done, value } = await this.#source.next();
      if (done === true) return true;
      if (value.length > 0) return false;
    }
  }

  async #take(length: number): Promise<Buffer> {
    while (this.#bytes < length) {
      const { done, value } = await this.#source.next();
      if (done === true) throw streamCut();
      this.#pieces.push(Buffer.from(value.buffer, value.byteOffset, value.byteLength));
      this.#bytes += value.length;
    }
    const first = this.#pieces[0];
    const all = first !== undefined && first.length >= length ? first : Buffer.concat(this.#pieces);
    const rest = all === first ? this.#pieces.slice(1) : [];
    const left = all.subarray(length);
    this.#pieces = left.length === 0 ? rest : [left, ...rest];
    this.#bytes -= length;
    return all.subarray(0, length);
  }
}
