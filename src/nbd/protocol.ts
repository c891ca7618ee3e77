/**
 * The numbers of the Network Block Device protocol (NetworkBlockDevice/nbd, doc/proto.md).
 *
 *     server: NBDMAGIC IHAVEOPT, handshake flags
 *     client: client flags
 *     client: IHAVEOPT, option, length, data        } repeated until GO is
 *     server: REPLY_MAGIC, option, type, length, data } acknowledged
 *     client: REQUEST_MAGIC, flags, type, cookie, offset, length [, data]
 *     server: SIMPLE_MAGIC, error, cookie [, data]
 *         or: CHUNK_MAGIC, flags, type, cookie, length, payload; the last has DONE
 *     client: DISC
 *
 * Integers are unsigned and big-endian. There is no version: what both sides can do is told by
 * flags and options, and what is not known is refused by name.
 */

export const INIT_MAGIC = 0x4e42_444d_4147_4943n;
export const OPTION_MAGIC = 0x4948_4156_454f_5054n;
export const OPTION_REPLY_MAGIC = 0x0003_e889_0455_65a9n;
export const REQUEST_MAGIC = 0x2560_9513;
export const SIMPLE_MAGIC = 0x6744_6698;
export const CHUNK_MAGIC = 0x668e_33ef;

export const GREETING_BYTES = 18;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
export const REQUEST_BYTES = 28;
export const SIMPLE_BYTES = 16;
export const CHUNK_BYTES = 20;

/** The longest string: a name, a query, a message. */
export const STRING_BYTES_MAX = 4096;
/** Longer option data, and replies to options, end the connection. */
export const OPTION_BYTES_MAX = 65_536;
/** Whoever haggles for longer has no honest purpose. */
export const OPTIONS_MAX = 128;
/** The longest payload of one request that every server must take ("Size constraints"). */
export const PAYLOAD_BYTES_MAX = 2 ** 25;
/** Most descriptors of one reply to BLOCK_STATUS that a server should send. */
export const EXTENTS_MAX = 2 ** 20;

/** Of the server, and of the client in answer. */
export const HANDSHAKE = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;

/** What follows the size and flags of EXPORT_NAME unless NO_ZEROES was agreed on. */
export const EXPORT_NAME_ZEROES_BYTES = 124;

/** What an export can do. */
export const TRANSMISSION = {
  HAS_FLAGS: 1,
  READ_ONLY: 2,
  SEND_FLUSH: 4,
  SEND_FUA: 8,
  SEND_TRIM: 32,
  SEND_WRITE_ZEROES: 64,
  SEND_DF: 128,
  CAN_MULTI_CONN: 256,
  SEND_CACHE: 1024,
  SEND_FAST_ZERO: 2048,
} as const;

export const OPTION = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
} as const;

/** Types of replies to options; those with bit 31 are errors. */
export const REPLY = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERROR: 0x8000_0000,
  ERR_UNSUP: 0x8000_0001,
  ERR_POLICY: 0x8000_0002,
  ERR_INVALID: 0x8000_0003,
  ERR_TLS_REQD: 0x8000_0005,
  ERR_UNKNOWN: 0x8000_0006,
  ERR_SHUTDOWN: 0x8000_0007,
  ERR_BLOCK_SIZE_REQD: 0x8000_0008,
  ERR_TOO_BIG: 0x8000_0009,
} as const;

export const INFO = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

export const COMMAND = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

/** Flags of requests. */
export const FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16 } as const;

/** Types of chunks; those with bit 15 are errors. */
export const CHUNK = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const;

/** The flag of the last chunk of a reply. */
export const DONE = 1;

/** The metadata context of what is allocated, and its flags. */
export const ALLOCATION = "base:allocation";
export const EXTENT = { HOLE: 1, ZERO: 2 } as const;

/** What the protocol's errors are called on every system. */
export const ERRNO = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;
