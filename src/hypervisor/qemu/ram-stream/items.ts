/** Items of the stream, each decoded whole or not at all. */
import type { Cursor } from "./cursor.ts";
import { GUEST_PAGE_BITS, GUEST_PAGE_BYTES, RAM_FLAG, RAM_VERSION } from "./format.ts";

/** Thrown for what this parser does not know; the message completes "the stream has ...". */
export class UnknownItem extends Error {}

/** Capabilities that change the form of the `ram` section. */
const FORM_CHANGERS: readonly string[] = ["x-ignore-shared", "mapped-ram"];
const CAPABILITIES_MAX = 256;
const BLOCKS_MAX = 4096;
const UUID_BYTES = 16;
const ADDRESS_HIGH_MAX = 2 ** 20;

/** Passes one of the subsections that may follow the configuration. */
export function passSubsection(cursor: Cursor): void {
  const name = cursor.text();
  cursor.uint32();
  if (name === "configuration/target-page-bits") {
    const bits = cursor.uint32();
    if (bits !== GUEST_PAGE_BITS) throw new UnknownItem(`pages of 2^${bits} bytes`);
  } else if (name === "configuration/uuid") {
    cursor.view(UUID_BYTES);
  } else if (name === "configuration/capabilities") {
    passCapabilities(cursor);
  } else {
    throw new UnknownItem(`the subsection ${name}`);
  }
}

function passCapabilities(cursor: Cursor): void {
  const count = cursor.uint32();
  if (count > CAPABILITIES_MAX) throw new UnknownItem(`${count} capabilities`);
  for (let index = 0; index < count; index += 1) {
    const name = cursor.text();
    if (FORM_CHANGERS.includes(name)) throw new UnknownItem(`the capability ${name}`);
  }
}

export interface SectionHead {
  readonly id: number;
  /** True for the section `ram` in the version that is known. */
  readonly isRam: boolean;
}

/** What follows the type of a section that is begun or full. */
export function readSectionHead(cursor: Cursor): SectionHead {
  const id = cursor.uint32();
  const name = cursor.text();
  cursor.uint32();
  const version = cursor.uint32();
  if (name !== "ram") return { id, isRam: false };
  if (version !== RAM_VERSION) throw new UnknownItem(`version ${version} of the section ram`);
  return { id, isRam: true };
}

/**
 * Passes the payload of the command that post-copy is possible. Block lists have further fields
 * where pages of the host are of other sizes, and the list does not say so: then nothing is known.
 */
export function passAdvice(cursor: Cursor, length: number): void {
  if (length === 0) return;
  const sizes = length === 16 ? [cursor.uint64(), cursor.uint64()] : [];
  if (sizes.some((size) => size !== GUEST_PAGE_BYTES) || sizes.length === 0) {
    throw new UnknownItem("pages of a host that are not of 4096 bytes");
  }
}

/** Passes the list of blocks, of which `totalBytes` is the sum. */
function passBlocks(cursor: Cursor, totalBytes: number): void {
  let restBytes = totalBytes;
  for (let count = 0; restBytes > 0; count += 1) {
    if (count === BLOCKS_MAX) throw new UnknownItem(`more than ${BLOCKS_MAX} blocks`);
    cursor.text();
    restBytes -= cursor.uint64();
  }
  if (restBytes < 0) throw new UnknownItem("blocks that are more than their sum");
}

/** A record of a `ram` section. */
export type RamRecord =
  | { readonly kind: "end" }
  | { readonly kind: "other" }
  | {
      readonly kind: "page" | "fill" | "encoded";
      readonly address: number;
      /** Undefined where it is that of the record before. */
      readonly name: string | undefined;
      /** Of a page: its bytes. */
      readonly bytes?: Buffer;
      readonly fill?: number;
    };

/** @throws CUT_SHORT, UnknownItem */
export function readRamRecord(cursor: Cursor): RamRecord {
  const high = cursor.uint32();
  const low = cursor.uint32();
  const flags = low & (GUEST_PAGE_BYTES - 1);
  if (high >= ADDRESS_HIGH_MAX) throw new UnknownItem("an address above 2^52");
  const address = high * 2 ** 32 + (low - flags);
  switch (flags & ~RAM_FLAG.continue) {
    case RAM_FLAG.page:
    case RAM_FLAG.zero:
    case RAM_FLAG.xbzrle:
    case RAM_FLAG.compressed:
      return readPage(cursor, flags, address);
  }
  if (flags === RAM_FLAG.blocks) passBlocks(cursor, address);
  else if (flags === RAM_FLAG.end) return { kind: "end" };
  else if (flags !== RAM_FLAG.multifdFlush) throw unknownFlags(flags);
  return { kind: "other" };
}

function unknownFlags(flags: number): UnknownItem {
  return new UnknownItem(`a record with the flags 0x${flags.toString(16)}`);
}

function readPage(cursor: Cursor, flags: number, address: number): RamRecord {
  const name = (flags & RAM_FLAG.continue) === 0 ? cursor.text() : undefined;
  if ((flags & RAM_FLAG.page) !== 0) {
    return { kind: "page", address, name, bytes: cursor.view(GUEST_PAGE_BYTES) };
  }
  if ((flags & RAM_FLAG.zero) !== 0) return { kind: "fill", address, name, fill: cursor.byte() };
  if ((flags & RAM_FLAG.xbzrle) !== 0) {
    cursor.byte();
    cursor.view(cursor.uint16());
  } else {
    cursor.view(boundedLength(cursor.uint32()));
  }
  return { kind: "encoded", address, name };
}

/** zlib adds at most a few bytes to a page that does not shrink. */
function boundedLength(length: number): number {
  if (length <= 2 * GUEST_PAGE_BYTES) return length;
  throw new UnknownItem(`a compressed page of ${length} bytes`);
}
