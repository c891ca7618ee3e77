/** Numbers of the memory stream; `doc/memory.md` is its specification. */
import { TesseraError } from "#core";

export const PAGE_BYTES = 4096;

/** `TSMM`. */
export const MAGIC = 0x5453_4d4d;
export const VERSION = 1;
export const PREAMBLE_BYTES = 10;
export const FRAME_HEAD_BYTES = 9;

export const FRAME = { plain: 0, zstd: 1, end: 2 } as const;

/** Kinds of operations, in the order of their numbers. */
export const OPERATIONS = [
  "opaque",
  "define",
  "block",
  "fill",
  "literal",
  "component",
  "repeat",
  "patch",
] as const;
export type OperationKind = (typeof OPERATIONS)[number];

/** Most bytes of a frame's body before compression. */
export const BODY_BYTES_MAX = 2 ** 21;
/** Most bytes of the operations of a frame. */
export const HEAD_BYTES_MAX = 2 ** 19;
/** Most guest pages that a frame stands for. */
export const PAGES_MAX = 2 ** 13;
export const BLOCKS_MAX = 1024;
export const BLOCK_NAME_BYTES_MAX = 255;
/** Most slots of a store: 256 MiB. */
export const SLOTS_MAX = 2 ** 16;
export const COMPONENTS_MAX = 255;
/** Pages of a block are numbered below this. */
export const PAGE_NUMBERS = 2 ** 40;

/** The peer's stream breaks its rules. */
export function streamInvalid(what: string, cause?: unknown): TesseraError {
  return new TesseraError(
    "peer",
    "memory.stream-invalid",
    `the memory stream is invalid: ${what}`,
    {
      remedy: "check that both clouds run compatible versions",
      cause,
    },
  );
}

/** The stream ended before its end. */
export function streamCut(): TesseraError {
  return new TesseraError("peer", "memory.stream-cut", "the memory stream ended before its end");
}
