import { createHash, hash } from "node:crypto";
import { hasCode, type World } from "#core";
import { BLOCK_BYTES, nonZeroBlocks } from "./blocks.ts";
import type { BlockDevice } from "./contract.ts";
import type { UserDataDigest } from "./user-data-digest.ts";
import { isZero } from "./zeroes.ts";

const DIGEST_BYTES = 32;
const CHUNK_BLOCKS = 1024;
const CHUNK_BYTES = CHUNK_BLOCKS * DIGEST_BYTES;
const HEAD_BYTES = 16;
const ROW_BYTES = 4 + CHUNK_BYTES;
const MAGIC = "TSRBLKS1";
const ABSENT = new Uint8Array(DIGEST_BYTES);

/**
 * The sha256 of a block, padded with zeroes to 64 KiB; undefined for one that is all zero.
 */
export function blockDigest(bytes: Uint8Array): Uint8Array | undefined {
  if (isZero(bytes)) return undefined;
  if (bytes.length === BLOCK_BYTES) return hash("sha256", bytes, "buffer");
  const block = new Uint8Array(BLOCK_BYTES);
  block.set(bytes);
  return hash("sha256", block, "buffer");
}

/**
 * The digests of all blocks of a user data block, so that what has not changed need not be hashed
 * again. Takes 32 bytes for every 64 KiB, in pieces for 64 MiB of which some byte is not zero.
 */
export class BlockDigests {
  readonly sizeBytes: number;
  readonly #chunks = new Map<number, Uint8Array>();

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  /** Notes a block's digest; undefined where the block is all zero. */
  set(index: number, digest: Uint8Array | undefined): void {
    const number = Math.floor(index / CHUNK_BLOCKS);
    const chunk = this.#chunks.get(number) ?? new Uint8Array(CHUNK_BYTES);
    if (digest !== undefined) this.#chunks.set(number, chunk);
    chunk.set(digest ?? ABSENT, (index % CHUNK_BLOCKS) * DIGEST_BYTES);
  }

  /** Undefined where the block is all zero. */
  get(index: number): Uint8Array | undefined {
    const at = (index % CHUNK_BLOCKS) * DIGEST_BYTES;
    const found = this.#chunks
      .get(Math.floor(index / CHUNK_BLOCKS))
      ?.subarray(at, at + DIGEST_BYTES);
    return found === undefined || isZero(found) ? undefined : found;
  }

  copy(): BlockDigests {
    const copy = new BlockDigests(this.sizeBytes);
    for (const [number, chunk] of this.#chunks) copy.#chunks.set(number, chunk.slice());
    return copy;
  }

  /** As `userDataDigest` has it. */
  userDataDigest(): UserDataDigest {
    const outer = createHash("sha256");
    const row = Buffer.alloc(8 + DIGEST_BYTES);
    let allocatedBytes = 0;
    for (const index of this.#indices()) {
      row.writeBigUInt64BE(BigInt(index), 0);
      row.set(this.get(index) ?? ABSENT, 8);
      outer.update(row);
      allocatedBytes += Math.min(BLOCK_BYTES, this.sizeBytes - index * BLOCK_BYTES);
    }
    row.writeBigUInt64BE(BigInt(this.sizeBytes), 0);
    outer.update(row.subarray(0, 8));
    return { digest: `sha256:${outer.digest("hex")}`, allocatedBytes };
  }

  /** The blocks that are not all zero, in order. */
  *#indices(): Generator<number> {
    for (const number of this.#ordered()) {
      for (let at = 0; at < CHUNK_BLOCKS; at += 1) {
        const index = number * CHUNK_BLOCKS + at;
        if (this.get(index) !== undefined) yield index;
      }
    }
  }

  #ordered(): number[] {
    return [...this.#chunks.keys()].toSorted((one, other) => one - other);
  }

  /** Magic (8), size (8), and for each piece its number (4) and 1,024 digests. */
  encode(): Uint8Array {
    const numbers = this.#ordered();
    const bytes = Buffer.alloc(HEAD_BYTES + numbers.length * ROW_BYTES);
    bytes.write(MAGIC, 0, "latin1");
    bytes.writeBigUInt64BE(BigInt(this.sizeBytes), 8);
    numbers.forEach((number, position) => {
      const at = HEAD_BYTES + position * ROW_BYTES;
      bytes.writeUInt32BE(number, at);
      bytes.set(this.#chunks.get(number) ?? ABSENT, at + 4);
    });
    return bytes;
  }

  /** Undefined when the bytes are not a list for a device of this size. */
  static decode(input: Uint8Array, sizeBytes: number): BlockDigests | undefined {
    const bytes = Buffer.from(input.buffer, input.byteOffset, input.length);
    const rows = (bytes.length - HEAD_BYTES) / ROW_BYTES;
    if (!Number.isInteger(rows) || rows < 0 || bytes.toString("latin1", 0, 8) !== MAGIC) {
      return undefined;
    }
    if (bytes.readBigUInt64BE(8) !== BigInt(sizeBytes)) return undefined;
    const digests = new BlockDigests(sizeBytes);
    const chunks = chunksOf(sizeBytes);
    for (let at = HEAD_BYTES, last = -1; at < bytes.length; at += ROW_BYTES) {
      const number = bytes.readUInt32BE(at);
      if (number <= last || number >= chunks) return undefined;
      digests.#chunks.set(number, Uint8Array.from(bytes.subarray(at + 4, at + ROW_BYTES)));
      last = number;
    }
    return digests;
  }
}

function chunksOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK_BYTES / CHUNK_BLOCKS);
}

/** Reads and hashes a whole device. */
export async function hashBlocks(device: BlockDevice): Promise<BlockDigests> {
  const digests = new BlockDigests(device.sizeBytes);
  for await (const { index, bytes } of nonZeroBlocks(device)) {
    digests.set(index, blockDigest(bytes));
  }
  return digests;
}

/** Writes the list, atomically. */
export async function saveBlockDigests(
  world: Pick<World, "files">,
  path: string,
  digests: BlockDigests,
): Promise<void> {
  await world.files.writeFileAtomic(path, digests.encode(), 0o600);
}

/**
 * The list in a file; undefined where there is none or it is damaged: it is a shortcut, and the
 * data can always be hashed. Its `userDataDigest` says of which data it is.
 */
export async function readBlockDigests(
  world: Pick<World, "files">,
  path: string,
  sizeBytes: number,
): Promise<BlockDigests | undefined> {
  const bytesMax = HEAD_BYTES + chunksOf(sizeBytes) * ROW_BYTES;
  try {
    return BlockDigests.decode(await world.files.readFile(path, bytesMax), sizeBytes);
  } catch (error) {
    if (hasCode(error, "system.not-found") || hasCode(error, "system.too-large")) return undefined;
    throw error;
  }
}

/**
 * As {@link readBlockDigests}; undefined also where it is of other user data.
 *
 * @param of the size and digest of the user data block that it must belong to
 */
export async function loadBlockDigests(
  world: Pick<World, "files">,
  path: string,
  of: { readonly sizeBytes: number; readonly digest: string },
): Promise<BlockDigests | undefined> {
  const digests = await readBlockDigests(world, path, of.sizeBytes);
  return digests?.userDataDigest().digest === of.digest ? digests : undefined;
}
