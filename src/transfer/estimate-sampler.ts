/** Encodes some packs of a component to see how small they become. */
import { SOLID_LEVELS, type PackPlan } from "#delta";
import type { Clock } from "#core";
import type { PackCache } from "#repository";
import type { ComponentContents } from "./contract.ts";
import { DifferenceThreads } from "./difference-threads.ts";
import { encodingMemoryBytes, neededMemoryBytes, type PendingPack } from "./encoding.ts";
import { Pace } from "./pace.ts";
import { PackEncoder, type ReadyFrame } from "./pack-encoder.ts";
import { RAW_BYTES_MAX } from "./protocol.ts";
import { Slots } from "./slots.ts";

/** Frames of direct packs that are tried. */
const FRAMES_MAX = 256;

export interface SamplerOptions {
  readonly clock: Clock;
  readonly component: ComponentContents;
  /** Those that the receiver would name and that are held here, the nearest first. */
  readonly bases: readonly ComponentContents[];
  readonly packs: PackCache;
  readonly conditions: { readonly bitsPerSecond: number; readonly cores: number };
}

/** A pack with what the cache has of it. */
export interface Candidate extends PendingPack {
  /** By level: the encoded size of a pack that is in the cache; 0 where it has to be divided. */
  readonly cached: ReadonlyMap<number, number>;
}

/** Up to `most` items, each from the middle of an equal share of the list. */
export function spread<T>(items: readonly T[], most: number): T[] {
  const count = Math.min(most, items.length);
  return Array.from({ length: count }, (_none, index) =>
    items.at(Math.floor(((index + 0.5) * items.length) / count)),
  ).filter((item) => item !== undefined);
}

function wireBytesOf(frames: readonly ReadyFrame[]): number {
  const parts = frames.flatMap((frame) => frame.parts);
  return parts.reduce((sum, { length }) => sum + length, 0);
}

/** The samples of one estimate, made side by side; solid packs stay in the cache. */
export class Sampler {
  readonly #options: SamplerOptions;
  readonly #encoder: PackEncoder;
  readonly #memoryBytes: number;
  readonly #cores: number;
  readonly #slots: Slots;
  readonly #threads = new DifferenceThreads();
  /** How fast packs are made here, as far as samples have shown. */
  readonly pace: Pace;

  constructor(options: SamplerOptions) {
    const { clock, component, bases, packs, conditions } = options;
    this.#options = options;
    this.#cores = Math.max(1, Math.floor(conditions.cores));
    this.#slots = new Slots(this.#cores);
    this.pace = new Pace(clock);
    const all = [...bases, component];
    const [slots, threads, pace] = [this.#slots, this.#threads, this.pace];
    this.#encoder = new PackEncoder({ component, bases: all, packs, slots, threads, pace });
    this.#memoryBytes = encodingMemoryBytes(conditions.bitsPerSecond);
  }

  close(): void {
    this.#threads.close(new Error("the estimate is made"));
  }

  async candidates(plans: readonly PackPlan[]): Promise<Candidate[]> {
    await this.#encoder.settled();
    const candidates: Candidate[] = [];
    for (const plan of plans) {
      const sizes = await Promise.all(
        SOLID_LEVELS.map(async (level) => {
          const key = this.#encoder.keyOf(plan, { level, memoryBytes: this.#memoryBytes });
          const bytes = await this.#options.packs.sizeOf(key);
          return bytes === undefined ? [] : ([[level, bytes]] as const);
        }),
      );
      const cached = new Map(sizes.flat());
      candidates.push({ plan, cached, cachedLevels: [...cached.keys()] });
    }
    return candidates;
  }

  /** Encodes `plans` in their order, at least one, until the clock shows `end_ms`. */
  async solid(
    plans: readonly PackPlan[],
    level: number,
    end_ms: number,
  ): Promise<Map<PackPlan, number>> {
    const sizes = new Map<PackPlan, number>();
    const left = [...plans];
    const how = { level, memoryBytes: this.#memoryBytes };
    const worker = async (): Promise<void> => {
      for (let plan = left.shift(); plan !== undefined; plan = left.shift()) {
        sizes.set(plan, wireBytesOf(await this.#encoder.solidFrames(plan, 0, how)));
        if (this.#options.clock.monotonic() > end_ms) return;
      }
    };
    const needed = plans.map((plan) => neededMemoryBytes(plan, level, this.#memoryBytes));
    const workers = Math.max(1, Math.floor(this.#memoryBytes / Math.max(...needed, 1)));
    await Promise.all(Array.from({ length: Math.min(workers, this.#cores) }, worker));
    return sizes;
  }

  /** Ratio of some packs, frame by frame. */
  async direct(
    plans: readonly PackPlan[],
    level: number | undefined,
    framesMax = FRAMES_MAX,
  ): Promise<number> {
    if (level === undefined) return 1;
    const sum = { raw: 0, encoded: 0 };
    const pieces = spread(plans.flatMap(piecesOf), framesMax);
    await Promise.all(
      pieces.map(({ plan, ...range }) =>
        this.#slots.run(async () => {
          const frame = await this.#encoder.directFrame(plan, range, level);
          sum.raw += frame.rawBytes;
          sum.encoded += wireBytesOf([frame]);
          frame.onFree?.();
        }),
      ),
    );
    return sum.raw === 0 ? 1 : sum.encoded / sum.raw;
  }
}

function piecesOf(plan: PackPlan) {
  return Array.from({ length: Math.ceil(plan.rawBytes / RAW_BYTES_MAX) }, (_none, index) => ({
    plan,
    from: index * RAW_BYTES_MAX,
    to: Math.min(plan.rawBytes, (index + 1) * RAW_BYTES_MAX),
  }));
}
