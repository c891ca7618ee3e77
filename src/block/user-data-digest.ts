import { createHash, hash } from "node:crypto";
import { TesseraError, type Digest } from "#core";
import { BLOCK_BYTES, nonZeroBlocks } from "./blocks.ts";
import type { BlockDevice } from "./contract.ts";
import { isZero } from "./zeroes.ts";

export interface UserDataDigest {
  readonly digest: Digest;
  /** Bytes in blocks that are not all zero: equal wherever the contents are equal. */
  readonly allocatedBytes: number;
}

/** The incremental form of {@link userDataDigest}, for a receiver. */
export interface UserDataHasher {
  /**
   * Adds a block of 64 KiB (the last one may be shorter). Indices ascend; blocks of zeroes count for
   * nothing and may be left out.
   *
   * @throws `block.order-invalid` (bug)
   */
  add(index: number, bytes: Uint8Array): void;
  /** Ends the computation; to be called once. */
  digest(): UserDataDigest;
}

function bigEndian(value: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

function padded(bytes: Uint8Array): Uint8Array {
  if (bytes.length === BLOCK_BYTES) return bytes;
  const block = new Uint8Array(BLOCK_BYTES);
  block.set(bytes);
  return block;
}

/** See {@link userDataDigest} for what is hashed. `sizeBytes` is the device's size. */
export function userDataHasher(sizeBytes: number): UserDataHasher {
  const outer = createHash("sha256");
  let allocatedBytes = 0;
  let next = 0;
  return {
    add(index, bytes) {
      const expected = Math.min(BLOCK_BYTES, sizeBytes - index * BLOCK_BYTES);
      if (!Number.isSafeInteger(index) || index < next || bytes.length !== expected) {
        const message = `block ${index} of ${bytes.length} bytes cannot follow block ${next - 1}`;
        throw new TesseraError("bug", "block.order-invalid", message);
      }
      next = index + 1;
      if (isZero(bytes)) return;
      allocatedBytes += bytes.length;
      outer.update(bigEndian(index)).update(hash("sha256", padded(bytes), "buffer"));
    },
    digest() {
      outer.update(bigEndian(sizeBytes));
      return { digest: `sha256:${outer.digest("hex")}`, allocatedBytes };
    },
  };
}

/**
 * The identity of a user data block's content: sha256 over, for each 64 KiB block that is not all
 * zero, in order, its index as 64 bits big-endian and the sha256 of its bytes (the last block padded
 * with zeroes to 64 KiB), and at the end the device's size as 64 bits big-endian. Holes and written
 * zeroes give the same digest.
 */
export async function userDataDigest(device: BlockDevice): Promise<UserDataDigest> {
  const hasher = userDataHasher(device.sizeBytes);
  for await (const { index, bytes } of nonZeroBlocks(device)) hasher.add(index, bytes);
  return hasher.digest();
}
