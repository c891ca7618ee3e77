/** Hashes the contents of an image one after the other and numbers them. */
import { createHash, hash } from "node:crypto";
import type { RecipeContent } from "./contract.ts";
import { numbering } from "./recipe-parts.ts";

/**
 * Sees the bytes of contents in order. Offset 0 begins a content; whatever was seen under this
 * index or a higher one before is void then. An index that is not below the number of contents in
 * the end is void, too: it was a content that had occurred before.
 */
export type ContentVisitor = (index: number, bytes: Uint8Array, offset: number) => void;

export interface Collector {
  readonly contents: readonly RecipeContent[];
  readonly digests: readonly Buffer[];
  /** The number of a content that is there as a whole. */
  add(bytes: Uint8Array, path: string): number;
  /** A content that comes in pieces; none other may come before its end. */
  begin(sizeBytes: number, path: string): { add(bytes: Uint8Array): void; end(): number };
  /** True when two contents cannot be told apart by size and head. */
  collided(): boolean;
}

const DIGEST_BYTES = 32;
const SLAB_DIGESTS = 1024;

/** Keeps digests side by side: a buffer of its own for each would cost several times as much. */
function digestKeeper(): (latin1: string) => Buffer {
  let slab = Buffer.alloc(0);
  let used = 0;
  return (latin1) => {
    if (used === slab.length) {
      slab = Buffer.allocUnsafeSlow(SLAB_DIGESTS * DIGEST_BYTES);
      used = 0;
    }
    const digest = slab.subarray(used, used + DIGEST_BYTES);
    used += digest.write(latin1, "latin1");
    return digest;
  };
}

export function contentCollector(visit: ContentVisitor = () => undefined): Collector {
  const numbered = numbering();
  const digests: Buffer[] = [];
  const keep = digestKeeper();
  let collided = false;
  const number = (latin1: string, sizeBytes: number, path: string) => {
    const digest = keep(latin1);
    const head = digest.toString("hex", 0, 8);
    const added = numbered.add(`${head}${sizeBytes}`, { sizeBytes, head, path });
    if (added.fresh) digests.push(digest);
    else if (digests[added.index]?.equals(digest) !== true) collided = true;
    return added;
  };
  return {
    contents: numbered.contents,
    digests,
    add(bytes, path) {
      const { index, fresh } = number(hash("sha256", bytes, "binary"), bytes.length, path);
      if (fresh) visit(index, bytes, 0);
      return index;
    },
    begin(sizeBytes, path) {
      const hasher = createHash("sha256");
      let offset = 0;
      return {
        add(bytes) {
          hasher.update(bytes);
          visit(digests.length, bytes, offset);
          offset += bytes.length;
        },
        end: () => number(hasher.digest("binary"), sizeBytes, path).index,
      };
    },
    collided: () => collided,
  };
}
