import type { Digest } from "#core";
import { BLOCK_BYTES, BlockDigests, blockDigest, type UserDataDigest } from "#block";

/**
 * The digests of the blocks of a session's user data as far as they have been read, in order. It
 * lives as long as the session, so that a resumed stream need not read the beginning again.
 */
export class UserDataLedger {
  #digests: BlockDigests | undefined;
  #lineage: Digest | undefined;
  #nextBlock = 0;

  /** The first block that is not yet accounted for. */
  get nextBlock(): number {
    return this.#nextBlock;
  }

  /** Of every block, once a stream has ended. */
  get digests(): BlockDigests | undefined {
    return this.#digests;
  }

  /** Begins with the blocks of an old copy, or none; goes on where it began with the same. */
  begin(
    sizeBytes: number,
    lineage?: { readonly digest: Digest; readonly digests: BlockDigests },
  ): void {
    const same = this.#digests !== undefined && this.#lineage === lineage?.digest;
    if (same && this.#digests?.sizeBytes === sizeBytes) return;
    this.#digests = lineage?.digests.copy() ?? new BlockDigests(sizeBytes);
    this.#lineage = lineage?.digest;
    this.#nextBlock = 0;
  }

  /** Notes a block that differs from the copy that the ledger began with. */
  add(index: number, bytes: Uint8Array): void {
    if (index < this.#nextBlock) return;
    this.#digests?.set(index, blockDigest(bytes));
    this.#nextBlock = index + 1;
  }

  /** When every block has been looked at. */
  end(sizeBytes: number): UserDataDigest {
    const digests = this.#digests ?? new BlockDigests(sizeBytes);
    this.#nextBlock = Math.ceil(sizeBytes / BLOCK_BYTES);
    return digests.userDataDigest();
  }
}
