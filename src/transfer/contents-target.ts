import { totalLength, type Digest, type EncodingShares } from "#core";
import type { ContentPiece, ContentsRequest } from "./contract.ts";
import { Coverage } from "./coverage.ts";
import { peerError } from "./errors.ts";
import type { HeldPart } from "./held-parts.ts";
import type { PackHead } from "./pack.ts";
import { decodeWant, encodeWant, wantedIndices } from "./want.ts";

/** Contents on their way; it outlives connections. */
export class ContentsTarget {
  readonly request: ContentsRequest;
  readonly take: (piece: ContentPiece) => Promise<void>;
  readonly #coverage: Coverage;
  #want: Buffer;
  #held: readonly HeldPart[] = [];
  #totalBytes = 0;
  #resumed = false;
  #exact = true;
  /** Raw bytes taken whole: where another connection continues. */
  position = 0;
  wireBytes = 0;
  readonly encodings: Record<string, { rawBytes: number; wireBytes: number }> = {};

  constructor(request: ContentsRequest, take: (piece: ContentPiece) => Promise<void>) {
    this.request = request;
    this.take = take;
    const sizes = request.wanted.map((content) => [content, this.#sizeOf(content)] as const);
    this.#coverage = new Coverage(new Map(sizes));
    for (const { content, offset, length } of request.held ?? []) {
      this.#coverage.add(content, offset, length);
    }
    this.#want = this.#ask(request.wanted);
  }

  get want(): Buffer {
    return this.#want;
  }

  /** What the receiver has of what WANT names. */
  get held(): readonly HeldPart[] {
    return this.#held;
  }

  /** Raw bytes of everything that WANT names, filled gaps included, without what is held. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  #sizeOf(content: number): number {
    const found = this.request.recipe.contents[content];
    if (found === undefined) throw new RangeError(`the recipe has no content ${content}`);
    return found.sizeBytes;
  }

  /** What is held of a content need not come again, whatever else was lost on the way. */
  #ask(wanted: readonly number[]): Buffer {
    const want = encodeWant(wanted);
    const indices = wantedIndices(decodeWant(want, this.request.recipe.contents.length));
    this.#exact = indices.length === wanted.length;
    const asked = new Set(indices);
    this.#held = (this.request.held ?? []).filter(({ content }) => asked.has(content));
    const sizeBytes = indices.reduce((sum, content) => sum + this.#sizeOf(content), 0);
    this.#totalBytes = sizeBytes - totalLength(this.#held);
    this.position = 0;
    return want;
  }

  /** WANT names nothing but what is wanted: no gaps had to be filled. */
  get isExact(): boolean {
    return this.#exact;
  }

  /** The connection goes on where another has ended. */
  get isResumed(): boolean {
    return this.#resumed;
  }

  /** True when a wanted content has come whole. */
  has(content: number): boolean {
    return this.#coverage.isWhole(content);
  }

  /** A copy: what has come so far. */
  coverage(): Coverage {
    return this.#coverage.copy();
  }

  /** A connection begins where the one before has ended. */
  begin(): void {
    this.#resumed = this.position > 0;
  }

  /**
   * Hands on what is wanted of some segments' bytes.
   *
   * @param patched their pack had references
   */
  async deliver(segments: PackHead["segments"], raw: Uint8Array, patched = false): Promise<void> {
    let at = 0;
    for (const { content, offset, length } of segments) {
      const bytes = raw.subarray(at, at + length);
      at += length;
      if (!this.#coverage.awaits(content)) continue;
      await this.take({ content, offset, bytes, ...(patched ? { patched } : {}) });
      this.#coverage.add(content, offset, length);
    }
    this.position += at;
  }

  account(name: string, rawBytes: number, wireBytes: number): void {
    const share = (this.encodings[name] ??= { rawBytes: 0, wireBytes: 0 });
    share.rawBytes += rawBytes;
    share.wireBytes += wireBytes;
  }

  /**
   * True when everything has come. A sender that was replaced while the connection was cut may have
   * divided the contents into other packs: then what is missing is asked for again.
   *
   * @throws `transfer.pack-invalid`
   */
  isWhole(): boolean {
    const missing = this.#coverage.missing();
    if (missing.length === 0) return true;
    if (!this.#resumed) {
      throw packInvalid(this.request.component, `${missing.length} wanted contents did not come`);
    }
    this.#want = this.#ask(missing);
    return false;
  }

  report(): EncodingShares {
    return structuredClone(this.encodings);
  }
}

export function packInvalid(component: Digest, message: string) {
  return peerError("pack-invalid", message, {
    subject: component,
    remedy: "run verify at the cloud that sent it; another source is asked where there is one",
  });
}
