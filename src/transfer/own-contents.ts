/** References of a stream's packs to contents that the same stream has brought before. */
import type { ContentsReader } from "#repository";
import { packInvalid, type ContentsTarget } from "./contents-target.ts";
import type { Coverage } from "./coverage.ts";
import { unlessAborted } from "./link.ts";
import type { PackHead } from "./pack.ts";

/** A sender that took over divides the contents in another way than the one before. */
export class OtherPacks extends Error {}

/** What has come on one connection, or been announced; packs may refer to it. */
export class OwnContents {
  readonly #target: ContentsTarget;
  /** What is whole when all packs that were announced have come. */
  readonly #announced: Coverage;
  readonly #base: number;
  #arrival = Promise.withResolvers<void>();

  /** @param base the index by which references name the component itself */
  constructor(target: ContentsTarget, base: number) {
    this.#target = target;
    this.#announced = target.coverage();
    this.#base = base;
  }

  /**
   * Checks a pack's references before anything is made ready for it; they may be to whole contents
   * of packs before it alone, of which the receiver had no parts when it asked.
   *
   * @throws `transfer.pack-invalid`; {@link OtherPacks} where the stream went on after a cut
   */
  admit({ references, segments }: PackHead): void {
    for (const { base, content } of references) {
      if (base === this.#base) this.#require(content);
    }
    for (const { content, offset, length } of segments) {
      this.#announced.add(content, offset, length);
    }
  }

  #require(content: number): void {
    const { isResumed, request } = this.#target;
    const isHeld = request.held?.some((part) => part.content === content) === true;
    if (!isHeld && this.#announced.isWhole(content)) return;
    if (isResumed) throw new OtherPacks("the sender divides the contents in another way");
    const message = `a pack refers to content ${content}, which has not come`;
    throw packInvalid(request.component, message);
  }

  /** Some bytes have been taken. */
  arrived(): void {
    this.#arrival.resolve();
    this.#arrival = Promise.withResolvers();
  }

  /**
   * Resolves when everything has come that a pack refers to. Packs are taken in order and each has
   * its memory before the next, so those that are waited for can always end.
   */
  async whole({ references }: PackHead, signal: AbortSignal): Promise<void> {
    for (const { base, content } of references) {
      if (base !== this.#base) continue;
      while (!this.#target.has(content)) await unlessAborted(this.#arrival.promise, signal);
    }
  }
}

/** The reader of what has come; undefined where the sender may not refer to it. */
export function ownReader(target: ContentsTarget): Pick<ContentsReader, "read"> | undefined {
  return target.isExact ? target.request.own : undefined;
}
