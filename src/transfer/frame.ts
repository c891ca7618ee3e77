/** The frame header and the bounded decoder of `tessera/1`; see protocol.ts. */
import {
  FLAG_MORE,
  FRAGMENT_BYTES_MIN,
  FRAME_RULES,
  HEADER_BYTES,
  SPLIT_TYPES,
  STREAMS_MAX,
  TYPE,
  type FrameType,
} from "./protocol.ts";
import { violation } from "./errors.ts";

const NOTHING = Buffer.alloc(0);
/** A buffer for the longest frames, with their prefix. */
const SPARE_BYTES = 2 ** 20 + 4096;
const SPARES_MAX = 16;

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
  const splits = SPLIT_TYPES.has(type);
  const goesOn = splits && (flags & FLAG_MORE) !== 0;
  const lengthMin = goesOn ? FRAGMENT_BYTES_MIN : splits ? 0 : rule.lengthMin;
  if (length < lengthMin || length > rule.lengthMax) {
    throw violation(`a ${rule.name} frame cannot have ${length} bytes`);
  }
  if ((flags & ~(rule.flags | (splits ? FLAG_MORE : 0))) !== 0) {
    throw violation(`a ${rule.name} frame has flags ${flags}`);
  }
  if (rule.stream !== "any" && (rule.stream === "connection") !== (stream === 0)) {
    throw violation(`a ${rule.name} frame cannot be on stream ${stream}`);
  }
  return { length, type: type as FrameType, flags, stream };
}

interface Begun {
  readonly type: FrameType;
  readonly flags: number;
  readonly pieces: Buffer[];
  length: number;
}

/**
 * Joins frames that are sent in pieces: pieces of one stream follow each other, those of other
 * streams may come between. At most one frame of each of STREAMS_MAX streams is under way.
 */
class Joiner {
  readonly #begun = new Map<number, Begun>();

  /** Before the payload is allocated. @throws `transfer.protocol-violation` */
  admit(header: FrameHeader): void {
    const { type, flags, stream, length } = header;
    if (!SPLIT_TYPES.has(type)) {
      if (type === TYPE.END && this.#begun.has(stream)) throw violation("END within a frame");
      return;
    }
    const begun = this.#begun.get(stream);
    const rule = FRAME_RULES.get(type);
    const total = (begun?.length ?? 0) + length;
    const isLast = (flags & FLAG_MORE) === 0;
    if (total > (rule?.lengthMax ?? 0) || (isLast && total < (rule?.lengthMin ?? 0))) {
      throw violation(`a ${rule?.name} frame cannot have ${total} bytes`);
    }
    if (begun === undefined) {
      if (!isLast && this.#begun.size >= STREAMS_MAX) throw violation("too many frames in pieces");
    } else if (begun.type !== type || begun.flags !== (flags & ~FLAG_MORE)) {
      throw violation("another frame within a frame");
    }
  }

  /** The frame that is whole with this one; undefined while it goes on. */
  join(header: FrameHeader, payload: Buffer): Frame | undefined {
    const { type, stream } = header;
    if (type === TYPE.ERROR) this.#begun.delete(stream);
    if (!SPLIT_TYPES.has(type)) return { ...header, payload };
    const goesOn = (header.flags & FLAG_MORE) !== 0;
    const flags = header.flags & ~FLAG_MORE;
    const begun = this.#begun.get(stream);
    if (begun === undefined && !goesOn) return { ...header, payload };
    const current = begun ?? { type, flags, pieces: [], length: 0 };
    current.pieces.push(payload);
    current.length += payload.length;
    if (goesOn) {
      this.#begun.set(stream, current);
      return undefined;
    }
    this.#begun.delete(stream);
    const { length, pieces } = current;
    return { type, flags, stream, length, payload: Buffer.concat(pieces, length) };
  }

  clear(): void {
    this.#begun.clear();
  }
}

/**
 * Cuts a sequence of bytes into frames. Bytes are copied out of what is pushed, so the caller may
 * use its buffer again. After an error it takes no more.
 */
export class FrameDecoder {
  readonly #header = Buffer.alloc(HEADER_BYTES);
  readonly #admit: (header: FrameHeader) => void;
  readonly #joiner = new Joiner();
  readonly #spare: Buffer[] = [];
  #current: FrameHeader | undefined;
  #payload: Buffer = NOTHING;
  #filled = 0;
  #stopped = false;

  /** @param admit may refuse a valid header by throwing, before its payload is allocated. */
  constructor(admit: (header: FrameHeader) => void = () => undefined) {
    this.#admit = admit;
  }

  /** Nothing more is emitted. */
  stop(): void {
    this.#stopped = true;
    this.#payload = NOTHING;
    this.#spare.length = 0;
    this.#joiner.clear();
  }

  /** The payload is used by nobody any more: its memory may hold another frame. */
  recycle(payload: Buffer): void {
    const { buffer, byteOffset } = payload;
    const reusable = byteOffset === 0 && buffer.byteLength === SPARE_BYTES;
    if (reusable && this.#spare.length < SPARES_MAX) this.#spare.push(Buffer.from(buffer));
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
      this.#joiner.admit(header);
      this.#admit(header);
      this.#current = header;
      this.#payload = this.#allocate(header.length);
      return;
    }
    const frame = this.#joiner.join(this.#current, this.#payload);
    this.#current = undefined;
    this.#payload = NOTHING;
    if (frame !== undefined) emit(frame);
  }

  /** Long payloads get a whole buffer of one size, so that it can be used again. */
  #allocate(length: number): Buffer {
    if (length < SPARE_BYTES / 4 || length > SPARE_BYTES) return Buffer.allocUnsafe(length);
    const whole = this.#spare.pop() ?? Buffer.allocUnsafeSlow(SPARE_BYTES);
    return whole.subarray(0, length);
  }
}
