/** The frame header and the bounded decoder of `tessera/1`; see protocol.ts. */
import { FRAME_RULES, HEADER_BYTES, type FrameType } from "./protocol.ts";
import { violation } from "./errors.ts";

export interface FrameHeader {
  readonly length: number;
  readonly type: FrameType;
  readonly flags: number;
  readonly stream: number;
}

export interface Frame extends FrameHeader {
  readonly payload: Buffer;
}

interface RawHeader {
  readonly length: number;
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
}

/** The header as it stands on the wire. */
export function encodeHeader(header: RawHeader): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES);
  bytes.writeUInt32BE(header.length, 0);
  bytes.writeUInt8(header.type, 4);
  bytes.writeUInt8(header.flags, 5);
  bytes.writeUInt32BE(header.stream, 6);
  return bytes;
}

/** A whole frame in one piece, for short payloads. */
export function encodeFrame(
  type: FrameType,
  stream: number,
  payload: Uint8Array = new Uint8Array(0),
  flags = 0,
): Buffer {
  const header = encodeHeader({ length: payload.length, type, flags, stream });
  return Buffer.concat([header, payload]);
}

function decodeHeader(bytes: Buffer): RawHeader {
  return {
    length: bytes.readUInt32BE(0),
    type: bytes.readUInt8(4),
    flags: bytes.readUInt8(5),
    stream: bytes.readUInt32BE(6),
  };
}

/** @throws `transfer.protocol-violation` */
function validateHeader(header: RawHeader): FrameHeader {
  const { length, type, flags, stream } = header;
  const rule = FRAME_RULES.get(type);
  if (rule === undefined) throw violation(`unknown frame type ${type}`);
  if (length < rule.lengthMin || length > rule.lengthMax) {
    throw violation(`a ${rule.name} frame cannot have ${length} bytes`);
  }
  if ((flags & ~rule.flags) !== 0) throw violation(`a ${rule.name} frame has flags ${flags}`);
  if (rule.stream !== "any" && (rule.stream === "connection") !== (stream === 0)) {
    throw violation(`a ${rule.name} frame cannot be on stream ${stream}`);
  }
  return { length, type: type as FrameType, flags, stream };
}

/**
 * Cuts a sequence of bytes into frames. Bytes are copied out of what is pushed, so the caller may
 * use its buffer again. After an error it takes no more.
 */
export class FrameDecoder {
  readonly #header = Buffer.alloc(HEADER_BYTES);
  readonly #admit: (header: FrameHeader) => void;
  #current: FrameHeader | undefined;
  #payload = Buffer.alloc(0);
  #filled = 0;
  #stopped = false;

  /** @param admit may refuse a valid header by throwing, before its payload is allocated. */
  constructor(admit: (header: FrameHeader) => void = () => undefined) {
    this.#admit = admit;
  }

  /** Nothing more is emitted. */
  stop(): void {
    this.#stopped = true;
    this.#payload = Buffer.alloc(0);
  }

  /** @throws `transfer.protocol-violation`, and what `admit` and `emit` throw */
  push(chunk: Uint8Array, emit: (frame: Frame) => void): void {
    let at = 0;
    try {
      while (!this.#stopped) {
        const wanted = (this.#current?.length ?? HEADER_BYTES) - this.#filled;
        const piece = chunk.subarray(at, at + wanted);
        (this.#current === undefined ? this.#header : this.#payload).set(piece, this.#filled);
        this.#filled += piece.length;
        at += piece.length;
        if (piece.length < wanted) return;
        this.#complete(emit);
      }
    } catch (cause) {
      this.stop();
      throw cause;
    }
  }

  #complete(emit: (frame: Frame) => void): void {
    this.#filled = 0;
    if (this.#current === undefined) {
      const header = validateHeader(decodeHeader(this.#header));
      this.#admit(header);
      this.#current = header;
      this.#payload = Buffer.allocUnsafe(header.length);
      return;
    }
    const frame = { ...this.#current, payload: this.#payload };
    this.#current = undefined;
    emit(frame);
  }
}
