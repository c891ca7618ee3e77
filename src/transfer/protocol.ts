/**
 * The data protocol `tessera/1`, specified in doc/data-protocol.md.
 *
 *     dialler (here: receiver)                     listener (here: sender)
 *        | TCP, TLS 1.3, ALPN tessera/1, both certificates  |
 *        | HELLO {protocol, features, role, session, token} |
 *        |------------------------------------------------->|  token accepted?
 *        |            WELCOME {protocol, features, token'}  |
 *        |<-------------------------------------------------|
 *        | (token' is made durable)                   READY |
 *        |------------------------------------------------->|  only token' counts now
 *        | OPEN stream 1 {blob, digest, offset, credit}     |
 *        |------------------------------------------------->|
 *        |               OPENED, BYTES, ZEROES, ..., END    |
 *        |<-------------------------------------------------|
 *        | CREDIT (as bytes are written to the disk)        |
 *        |------------------------------------------------->|
 *        | OPEN stream 2 {userData, block, credit}          |
 *        |------------------------------------------------->|
 *        |               OPENED, BLOCKS, ..., END {digest}  |
 *        |<-------------------------------------------------|
 *        | PING, PONG, ERROR: either side, at any time      |
 *
 * Version rule: the ALPN name covers the header, the limits and the frames below 0x10; if any of
 * them changes, the name changes. Everything from 0x10 up belongs to the content version, which
 * HELLO and WELCOME negotiate: the highest that both speak. Features are optional parts of a
 * content version, used only when both named them. Unknown JSON members and feature names are
 * ignored; unknown frame types, flags, kinds and roles are errors, so a new one needs a new
 * content version or a feature.
 */

export const ALPN = "tessera/1";

/** The content versions that this implementation speaks. */
export const CONTENT_VERSIONS = { min: 4, max: 4 } as const;

/** READ may carry the digest of what the receiver has, and DATA may say that it is the same. */
export const FEATURE_SAME = "same";

/** The optional parts of the content version that this implementation has. */
export const FEATURES: readonly string[] = [FEATURE_SAME];

export const HEADER_BYTES = 10;
/** Most raw bytes in one frame of data. */
export const RAW_BYTES_MAX = 2 ** 20;
export const CONTROL_BYTES_MAX = 4096;
export const BYTES_PREFIX_BYTES = 12;
export const RUN_BYTES = 12;
export const BLOCKS_PER_FRAME_MAX = 16;
export const RUNS_PER_FRAME_MAX = 16;
export const STREAMS_MAX = 8;
/** What a data frame costs besides its payload, so that tiny frames are bounded too. */
export const FRAME_COST_BYTES = 64;
export const CREDIT_BYTES_MIN = 2 * RAW_BYTES_MAX;
export const CREDIT_BYTES_MAX = 2 ** 31;

/** The credit that this receiver gives to a stream at first, and at most on a long fat path. */
export const WINDOW_BYTES = 4 * 2 ** 20;
export const WINDOW_BYTES_MAX = 32 * 2 ** 20;
/** Most credit that this receiver has given to all streams of a session beyond the first window. */
export const WINDOW_BUDGET_BYTES = 64 * 2 ** 20;
/** After so many raw bytes at most this receiver makes a stream durable. */
export const CHECKPOINT_BYTES = 4 * 2 ** 20;

/** Bit 0 of a frame's flags: the data are one Zstandard frame. */
export const FLAG_ZSTD = 1;
/** Bit 1: the Zstandard frame needs the dictionary that the stream or the frame names. */
export const FLAG_DICTIONARY = 2;

/** Bit 2: the bytes are those whose digest the read told. Only with the feature `same`. */
export const FLAG_SAME = 4;

/** Bit 7: the frame goes on in the next frame of its stream. */
export const FLAG_MORE = 0x80;
/** Least payload of a frame that goes on. */
export const FRAGMENT_BYTES_MIN = 4096;

/** Whose turn it is, for streams that wait for one link; the lowest number first. */
export const PRIORITY = { demanded: 0, control: 1, memory: 2, background: 3 } as const;
export type Priority = (typeof PRIORITY)[keyof typeof PRIORITY];

/** Most components that a receiver names as bases, whose contents may serve as references. */
export const BASES_MAX = 16;
/** Most parts of contents that a receiver says it has. */
export const HELD_PARTS_MAX = 32;
/** Most raw bytes of contents in one pack. */
export const PACK_RAW_BYTES_MAX = 16 * 2 ** 20;
/** Most bytes of references, the dictionary, of one pack. */
export const PACK_REFERENCE_BYTES_MAX = 32 * 2 ** 20;
/** Most bytes of a solid pack on the wire: what a cut may cost. */
export const PACK_WIRE_BYTES_MAX = 8 * 2 ** 20;
/** Most bytes of an encoded WANT or PACK. */
export const WANT_BYTES_MAX = 2 ** 18;
/** A recipe on the wire, compressed, and in memory. */
export const RECIPE_WIRE_BYTES_MAX = 64 * 2 ** 20;
export const RECIPE_BYTES_MAX = 256 * 2 ** 20;
/** Most bytes of an encoded recipe that serves as dictionary. */
export const RECIPE_DICTIONARY_BYTES_MAX = 64 * 2 ** 20;
/** Most bytes of a blob that serves as dictionary, and of one that is sent with it. */
export const BLOB_DICTIONARY_BYTES_MAX = 16 * 2 ** 20;
/** Most reads of blocks of one stream that are not answered. */
export const READS_MAX = 1024;
/** Most extents of a map, and bytes of it, encoded and compressed. */
export const EXTENTS_MAX = 2 ** 20;
export const MAP_BYTES_MAX = 16 * 2 ** 20 + 1024;
/** Most bytes of one REPLY, and of all that the sender has not delivered, with their costs. */
export const REPLY_PREFIX_BYTES = 8;
export const REPLY_BYTES_MAX = 2 ** 16;
export const REPLY_WINDOW_BYTES = 2 ** 18;
/** Most that a sender keeps of a tunnel, until it is told to be taken, with the frames' costs. */
export const TUNNEL_KEPT_BYTES = 16 * 2 ** 20;
/** After so many bytes at most this receiver tells that it has taken them. */
export const TUNNEL_TOLD_BYTES = 2 ** 16;
/** Most connections of one session. */
export const LANES_MAX = 8;

export const TYPE = {
  HELLO: 0x01,
  WELCOME: 0x02,
  READY: 0x03,
  PING: 0x04,
  PONG: 0x05,
  ERROR: 0x06,
  OPEN: 0x10,
  OPENED: 0x11,
  CREDIT: 0x12,
  END: 0x13,
  WANT: 0x14,
  READ: 0x15,
  CANCEL: 0x16,
  REPLY: 0x17,
  TAKEN: 0x18,
  BYTES: 0x20,
  ZEROES: 0x21,
  BLOCKS: 0x22,
  PACK: 0x23,
  CHANGES: 0x24,
  DATA: 0x25,
} as const;

export type FrameType = (typeof TYPE)[keyof typeof TYPE];

interface FrameRule {
  readonly name: string;
  /** Which streams it may name: the connection itself (0), a stream, or both. */
  readonly stream: "connection" | "stream" | "any";
  readonly lengthMin: number;
  readonly lengthMax: number;
  /** Flags that may be set. */
  readonly flags: number;
}

function rule(
  name: string,
  stream: FrameRule["stream"],
  lengthMin: number,
  lengthMax: number,
  flags = 0,
): FrameRule {
  return { name, stream, lengthMin, lengthMax, flags };
}

/** One row per frame type: what a header must satisfy before anything is allocated. */
export const FRAME_RULES: ReadonlyMap<number, FrameRule> = new Map<FrameType, FrameRule>([
  [TYPE.HELLO, rule("HELLO", "connection", 2, CONTROL_BYTES_MAX)],
  [TYPE.WELCOME, rule("WELCOME", "connection", 2, CONTROL_BYTES_MAX)],
  [TYPE.READY, rule("READY", "connection", 0, 0)],
  [TYPE.PING, rule("PING", "connection", 8, 8)],
  [TYPE.PONG, rule("PONG", "connection", 8, 8)],
  [TYPE.ERROR, rule("ERROR", "any", 2, CONTROL_BYTES_MAX)],
  [TYPE.OPEN, rule("OPEN", "stream", 2, CONTROL_BYTES_MAX)],
  [TYPE.OPENED, rule("OPENED", "stream", 2, CONTROL_BYTES_MAX)],
  [TYPE.CREDIT, rule("CREDIT", "stream", 5, 5)],
  [TYPE.END, rule("END", "stream", 2, CONTROL_BYTES_MAX)],
  [TYPE.WANT, rule("WANT", "stream", 1, WANT_BYTES_MAX)],
  [TYPE.READ, rule("READ", "stream", 16, 48)],
  [TYPE.CANCEL, rule("CANCEL", "stream", 4, 4)],
  [
    TYPE.REPLY,
    rule("REPLY", "stream", REPLY_PREFIX_BYTES + 1, REPLY_PREFIX_BYTES + REPLY_BYTES_MAX),
  ],
  [TYPE.TAKEN, rule("TAKEN", "stream", 8, 8)],
  [
    TYPE.BYTES,
    rule("BYTES", "stream", 12, BYTES_PREFIX_BYTES + RAW_BYTES_MAX, FLAG_ZSTD | FLAG_DICTIONARY),
  ],
  [TYPE.ZEROES, rule("ZEROES", "stream", 16, 16)],
  [
    TYPE.BLOCKS,
    rule("BLOCKS", "stream", 14, 2 + RUNS_PER_FRAME_MAX * RUN_BYTES + RAW_BYTES_MAX, FLAG_ZSTD),
  ],
  [TYPE.PACK, rule("PACK", "stream", 16, WANT_BYTES_MAX)],
  [
    TYPE.CHANGES,
    rule("CHANGES", "stream", 2, WANT_BYTES_MAX + RAW_BYTES_MAX, FLAG_ZSTD | FLAG_DICTIONARY),
  ],
  [TYPE.DATA, rule("DATA", "stream", 4, 4 + RAW_BYTES_MAX, FLAG_ZSTD | FLAG_SAME)],
]);

/** The types whose frames may be sent in pieces: see `FLAG_MORE`. */
export const SPLIT_TYPES: ReadonlySet<number> = new Set([
  TYPE.BYTES,
  TYPE.BLOCKS,
  TYPE.PACK,
  TYPE.CHANGES,
  TYPE.DATA,
]);

/** Time limits of a connection; tests shorten them. */
export interface Timing {
  readonly connect_ms: number;
  readonly handshake_ms: number;
  /** Silence of our own after which we send PING. */
  readonly ping_ms: number;
  /** Silence of the peer after which it counts as gone. */
  readonly silence_ms: number;
  readonly tick_ms: number;
  /** After so long without anything of what a receiver waits for it dials anew. */
  readonly idle_ms: number;
  readonly backoffMin_ms: number;
  readonly backoffMax_ms: number;
}

export const TIMING: Timing = {
  connect_ms: 5_000,
  handshake_ms: 10_000,
  ping_ms: 4_000,
  silence_ms: 12_000,
  tick_ms: 1_000,
  idle_ms: 60_000,
  backoffMin_ms: 200,
  backoffMax_ms: 5_000,
};
