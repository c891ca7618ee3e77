import { pipelined, type Clock } from "#core";
import type { EncodingConditions } from "#delta";
import { RamStreamParser, type RamStreamEvent } from "#hypervisor";
import type { ComponentPages, MemoryFigures } from "./contract.ts";
import { SLOTS_MAX } from "./format.ts";
import { encodeEnd, encodeFrame, encodePreamble } from "./frames.ts";
import { memoryLevel, urgentLevel } from "./level.ts";
import { PageEncoder } from "./page-encoder.ts";
import { shrink } from "./zstd.ts";

/** Bytes of a body after which it is compressed and sent. */
const BODY_BYTES = 2 ** 20;
/** The same while the other side waits for pages. */
const URGENT_BODY_BYTES = 2 ** 16;
/** When so long nothing comes, what there is is sent. */
const PAUSE_MS = 2;
/** Opaque bytes are cut so, that bodies stay within their bound. */
const OPAQUE_BYTES = 2 ** 16;
/** Bodies that are compressed at a time. */
const DEPTH = 2;
const SLOTS = 2 ** 15;

export interface MemoryEncoderOptions {
  readonly clock: Clock;
  /** The components that the destination holds; absent where no references are wanted. */
  readonly components?: { readonly count: number; readonly pages: ComponentPages };
  /** Slots for pages, of 4096 bytes at both sides, up to 2^16. Default 2^15 (128 MiB). */
  readonly slots?: number;
  /** Asked for every frame, so that the level follows the link. */
  readonly conditions: () => EncodingConditions;
}

/** A body to be compressed. */
interface Batch {
  readonly body: Buffer;
  readonly level: number | undefined;
}

const PAUSE = Symbol("pause");

async function frameOf({ body, level }: Batch): Promise<Buffer> {
  return encodeFrame(body, level === undefined ? undefined : await shrink(body, level));
}

/**
 * Encodes one hypervisor's stream of a migration (`doc/memory.md`). What is not understood of it
 * passes through as it is. The source is read only as quickly as frames are taken.
 */
export class MemoryEncoder {
  readonly #options: MemoryEncoderOptions;
  readonly #parser = new RamStreamParser();
  readonly #pages: PageEncoder;
  readonly #slots: number;

  constructor(options: MemoryEncoderOptions) {
    this.#options = options;
    this.#slots = Math.min(options.slots ?? SLOTS, SLOTS_MAX);
    this.#pages = new PageEncoder(options.components?.pages, this.#slots);
  }

  /** Up to now. */
  get figures(): MemoryFigures {
    return { ...this.#pages.figures };
  }

  /** Why references are off, as the end of "the stream has ..."; undefined while they are on. */
  get off(): string | undefined {
    return this.#parser.off;
  }

  /**
   * The memory stream, frame by frame. Called once.
   *
   * @param source pieces that are not changed afterwards; its `return` is called at the end
   */
  async *encode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void, undefined> {
    const count = this.#options.components?.count ?? 0;
    yield this.#counted(encodePreamble({ components: count, slots: this.#slots }));
    const iterator = source[Symbol.asyncIterator]();
    const stop = (): void => void iterator.return?.().catch(() => undefined);
    for await (const frame of pipelined(this.#batches(iterator), DEPTH, frameOf, stop)) {
      yield this.#counted(frame);
    }
    yield this.#counted(encodeEnd());
  }

  #counted(bytes: Buffer): Buffer {
    this.#pages.figures.encodedBytes += bytes.length;
    return bytes;
  }

  async *#batches(source: AsyncIterator<Uint8Array>): AsyncGenerator<Batch, void, undefined> {
    for (;;) {
      const next = source.next();
      const first = await this.#unlessPaused(next);
      if (first === PAUSE) yield* this.#flushed();
      const { done, value } = first === PAUSE ? await next : first;
      if (done === true) break;
      this.#pages.figures.rawBytes += value.length;
      yield* this.#add(this.#parser.push(value));
    }
    yield* this.#flushed();
  }

  async *#flushed(): AsyncGenerator<Batch, void, undefined> {
    yield* this.#add(this.#parser.flush());
    yield* this.#finish();
  }

  /** What comes, or `PAUSE` when nothing came for a while. */
  async #unlessPaused<T>(next: Promise<T>): Promise<T | typeof PAUSE> {
    const pause = Promise.withResolvers<typeof PAUSE>();
    const cancel = this.#options.clock.after(PAUSE_MS, () => pause.resolve(PAUSE));
    try {
      return await Promise.race([next, pause.promise]);
    } finally {
      cancel();
    }
  }

  async *#add(events: readonly RamStreamEvent[]): AsyncGenerator<Batch, void, undefined> {
    for (const whole of events) {
      for (const event of pieces(whole)) {
        await this.#pages.add(event);
        if (this.#pages.isFull || this.#pages.bytes >= this.#target) yield* this.#finish();
      }
    }
  }

  get #target(): number {
    return this.#parser.stage === "postcopy" ? URGENT_BODY_BYTES : BODY_BYTES;
  }

  *#finish(): Generator<Batch, void, undefined> {
    const body = this.#pages.finish();
    if (body === undefined) return;
    const level = memoryLevel(this.#options.conditions());
    yield { body, level: this.#parser.stage === "precopy" ? level : urgentLevel(level) };
  }
}

/** The event, or its bytes cut so that each fits. */
function* pieces(event: RamStreamEvent): Generator<RamStreamEvent, void, undefined> {
  if (event.kind !== "opaque") return yield event;
  for (let at = 0; at < event.bytes.length; at += OPAQUE_BYTES) {
    yield { kind: "opaque", bytes: event.bytes.subarray(at, at + OPAQUE_BYTES) };
  }
}
