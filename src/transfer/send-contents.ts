import { pipelined, type Digest } from "#core";
import { SOLID_LEVELS, type PackPlan } from "#delta";
import type { GiveBack } from "./budget.ts";
import type { CompressionMode } from "./compression.ts";
import type { ComponentContents, DataSource } from "./contract.ts";
import type { Encoders } from "./encoders.ts";
import {
  ENCODING_MEMORY_BYTES,
  encodingMemoryBytes,
  encodingOf,
  neededMemoryBytes,
} from "./encoding.ts";
import { peerError } from "./errors.ts";
import { heldOf, withoutHeld, type HeldTuple } from "./held-parts.ts";
import { PackEncoder, type ReadyFrame } from "./pack-encoder.ts";
import { planContents, plansFrom } from "./pack-plan.ts";
import { linkBitsPerSecond, type LinkMeter } from "./meter.ts";
import { PACK_WIRE_BYTES_MAX, RAW_BYTES_MAX } from "./protocol.ts";
import type { OutgoingStream } from "./sender-stream.ts";
import { decodeWant, wantedIndices } from "./want.ts";

/** Packs and direct frames in hand. */
const PIPELINE_DEPTH = 8;
/** What a direct frame takes: raw, compressed, and the compressor. */
const DIRECT_MEMORY_BYTES = 4 * RAW_BYTES_MAX;
/** Keys are looked up for so many packs at a time. */
const LOOKUPS_MAX = 16;

export interface ContentsSession {
  readonly source: DataSource;
  readonly meter: LinkMeter;
  readonly compression: CompressionMode;
  readonly encoders: Encoders;
}

interface Pending {
  readonly start: number;
  readonly plan: PackPlan;
  readonly cachedLevels: readonly number[];
  /** By level, the memory that the cached pack was made with, on which its parameters depend. */
  readonly cachedMemory: ReadonlyMap<number, number>;
}

/** Opens the bases that are held here, in the order in which they were named. */
export async function openBases(
  source: DataSource,
  ids: readonly Digest[],
): Promise<ComponentContents[]> {
  const opened = await Promise.allSettled(ids.map((id) => source.openBase(id)));
  return opened.flatMap((result) =>
    result.status === "fulfilled" && result.value !== undefined ? [result.value] : [],
  );
}

export async function closeAll(opened: readonly ComponentContents[]): Promise<void> {
  await Promise.allSettled(opened.map(({ reader }) => reader.close()));
}

/** One work unit: a whole solid pack, or a frame of a direct one. Gives its memory back. */
interface Unit {
  readonly frames: readonly ReadyFrame[];
  readonly free: GiveBack;
}

/** What is to be made, with the memory for it. */
interface Order {
  readonly make: () => Promise<readonly ReadyFrame[]>;
  readonly free: GiveBack;
}

/** One stream of contents at its sender. */
class ContentsSender {
  readonly #session: ContentsSession;
  readonly #encoder: PackEncoder;
  readonly #signal: AbortSignal;
  readonly #stopped = new AbortController();
  readonly #pending: Pending[];
  /** Memory that orders hold: those that are dropped when the stream ends early, too. */
  readonly #held = new Set<GiveBack>();

  constructor(
    session: ContentsSession,
    encoder: PackEncoder,
    pending: readonly Pending[],
    signal: AbortSignal,
  ) {
    this.#session = session;
    this.#encoder = encoder;
    this.#pending = [...pending];
    this.#signal = AbortSignal.any([signal, this.#stopped.signal]);
  }

  /** Ends the wait for memory, which may be for that of orders that nobody takes any more. */
  stop(): void {
    this.#stopped.abort(peerError("cancelled", "the stream has ended"));
  }

  /** Gives back what is still held, when nothing is at work any more. */
  end(): void {
    for (const free of this.#held) free();
    this.#held.clear();
  }

  async #take(bytes: number): Promise<GiveBack> {
    const free = await this.#session.encoders.memory.take(bytes, this.#signal);
    this.#held.add(free);
    return (keptBytes = 0) => {
      if (keptBytes === 0) this.#held.delete(free);
      free(keptBytes);
    };
  }

  /** What is to be made, one after the other, each as soon as there is memory for it. */
  async *orders(): AsyncGenerator<Order, void, undefined> {
    for (;;) {
      const pack = this.#pending[0];
      if (pack === undefined) return;
      const { compression, meter, encoders } = this.#session;
      const bitsPerSecond = linkBitsPerSecond(meter.rate());
      const memoryBytes = encodingMemoryBytes(bitsPerSecond);
      encoders.memory.resize(memoryBytes);
      const encoding =
        compression === "none"
          ? ({ kind: "direct", level: undefined } as const)
          : encodingOf(this.#pending, {
              bitsPerSecond,
              cores: encoders.cores * encoders.pace.factor,
            });
      this.#pending.shift();
      if (encoding.kind === "direct") yield* this.#direct(pack, encoding.level);
      else yield await this.#solid(pack, encoding.level, memoryBytes);
    }
  }

  async #solid(pack: Pending, level: number, budgetBytes: number): Promise<Order> {
    const { plan, start, cachedMemory } = pack;
    const madeWith = cachedMemory.get(level);
    const memoryBytes = madeWith ?? budgetBytes;
    // Should the cached pack have gone meanwhile, it is made as it was, alone if need be.
    const needed =
      madeWith === undefined
        ? neededMemoryBytes(plan, level, memoryBytes)
        : 2 * PACK_WIRE_BYTES_MAX;
    const free = await this.#take(needed);
    return { make: () => this.#encoder.solidFrames(plan, start, { level, memoryBytes }), free };
  }

  async *#direct({ plan, start }: Pending, level: number | undefined): AsyncGenerator<Order> {
    const { rawBytes } = plan;
    const head = this.#encoder.directHead(plan, start, level);
    for (let from = 0; from < rawBytes; from += RAW_BYTES_MAX) {
      const to = Math.min(from + RAW_BYTES_MAX, rawBytes);
      const free = await this.#take(DIRECT_MEMORY_BYTES);
      const make = async () => {
        const frame = await this.#encoder.directFrame(plan, { from, to }, level);
        return from === 0 ? [head, frame] : [frame];
      };
      yield { make, free };
    }
  }
}

/** What was made waits for the link in far less memory than making it took. */
async function made({ make, free }: Order): Promise<Unit> {
  try {
    const frames = await make();
    free(frames.flatMap(({ parts }) => parts).reduce((sum, { length }) => sum + length, 0));
    return { frames, free };
  } catch (cause) {
    free();
    throw cause;
  }
}

/** The packs that are to be sent, with what the cache has of them. */
async function withCached(
  plans: readonly { readonly start: number; readonly plan: PackPlan }[],
  encoder: PackEncoder,
  session: ContentsSession,
): Promise<Pending[]> {
  const { packs } = session.source;
  const lookUp = async (plan: PackPlan): Promise<Map<number, number>> => {
    const found = new Map<number, number>();
    for (const memoryBytes of ENCODING_MEMORY_BYTES) {
      const open = SOLID_LEVELS.filter((level) => !found.has(level));
      const keys = open.map((level) => encoder.keyOf(plan, { level, memoryBytes }));
      const sizes = await Promise.all(keys.map((key) => packs.sizeOf(key)));
      for (const [index, level] of open.entries()) {
        if (sizes[index] !== undefined) found.set(level, memoryBytes);
      }
    }
    return found;
  };
  const pending: Pending[] = [];
  for (let at = 0; at < plans.length; at += LOOKUPS_MAX) {
    const looked = plans.slice(at, at + LOOKUPS_MAX).map(async ({ start, plan }) => {
      const cachedMemory = await lookUp(plan);
      return { start, plan, cachedMemory, cachedLevels: [...cachedMemory.keys()] };
    });
    pending.push(...(await Promise.all(looked)));
  }
  return pending;
}

async function sendPacks(stream: OutgoingStream, sender: ContentsSender): Promise<void> {
  const units = pipelined(sender.orders(), PIPELINE_DEPTH, made, () => sender.stop());
  try {
    for await (const { frames, free } of units) {
      for (const { rawBytes, encoding, ...frame } of frames) {
        await stream.data(frame, rawBytes, encoding);
      }
      free();
    }
  } finally {
    sender.end();
  }
}

/**
 * Sends the contents that WANT names but for the parts `held`, from `from` raw bytes on.
 *
 * @throws `transfer.not-offered`, `transfer.protocol-violation`, what the source throws
 */
export async function sendContents(
  stream: OutgoingStream,
  session: ContentsSession,
  request: {
    readonly component: Digest;
    readonly bases: readonly Digest[];
    readonly from: number;
    readonly held?: readonly HeldTuple[] | undefined;
    readonly own?: boolean | undefined;
  },
): Promise<void> {
  const { source } = session;
  const component = await source.openComponent(request.component);
  const bases: ComponentContents[] = [];
  try {
    bases.push(...(await openBases(source, request.bases)));
    if (bases.length < request.bases.length) {
      throw peerError("not-offered", "a base is no longer held here");
    }
    const wanted = decodeWant(await stream.wanted(), component.recipe.contents.length);
    const indices = wantedIndices(wanted);
    const held = heldOf(request.held, indices, component.recipe);
    const own = { except: new Set(held.map(({ content }) => content)) };
    const all = planContents(component, bases, indices, request.own === true ? own : undefined);
    const plans = withoutHeld(all, held);
    const totalBytes = plans.reduce((sum, { rawBytes }) => sum + rawBytes, 0);
    if (request.from > totalBytes) throw peerError("not-offered", "nothing is there to go on with");
    const progress = { doneBytes: request.from, totalBytes };
    stream.opened(request.component, { sizeBytes: totalBytes }, progress);
    const encoder = new PackEncoder({
      component,
      bases: [...bases, component],
      packs: source.packs,
      slots: session.encoders.slots,
      buffers: session.encoders.buffers,
      pace: session.encoders.pace,
      threads: session.encoders.threads,
    });
    const pending = await withCached(plansFrom(plans, request.from), encoder, session);
    try {
      await sendPacks(stream, new ContentsSender(session, encoder, pending, stream.signal));
    } finally {
      await encoder.settled();
    }
    stream.ended({});
  } finally {
    await closeAll([component, ...bases]);
  }
}
