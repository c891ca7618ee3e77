/** Predicts what the contents of a component will take on the wire, before any of it travels. */
import { SOLID_LEVELS, estimateBytes, isCompressed, type PackPlan, type PackSample } from "#delta";
import type { Clock, ContentShares } from "#core";
import type { PackCache } from "#repository";
import type { ComponentContents } from "./contract.ts";
import { DifferenceThreads } from "./difference-threads.ts";
import {
  encodingMemoryBytes,
  encodingOf,
  isPatch,
  neededMemoryBytes,
  type PendingPack,
} from "./encoding.ts";
import { PackEncoder, type ReadyFrame } from "./pack-encoder.ts";
import { planContents } from "./pack-plan.ts";
import { RAW_BYTES_MAX } from "./protocol.ts";
import { recipeFrame } from "./send-recipe.ts";
import { Slots } from "./slots.ts";

/** A level at which everything can be tried; the ratio of the real one to it is sampled. */
const QUICK_LEVEL = 1;
const QUICK_PATCH_LEVEL = 6;
/** Below this level what has references is sampled once, at the level itself. */
const SLOW_LEVEL = 18;
const QUICK_FRAMES_MAX = 256;
const SLOW_SAMPLES_MAX = 24;
/** Times that packs are sampled: plain ones, and the two kinds with references, quickly and not. */
const SAMPLINGS_MAX = 5;

export interface EstimateInput {
  readonly clock: Clock;
  readonly component: ComponentContents;
  /** Those that the receiver would name and that are held here, the nearest first. */
  readonly bases: readonly ComponentContents[];
  readonly packs: PackCache;
  readonly conditions: { readonly bitsPerSecond: number; readonly cores: number };
  /** About how long the samples may take; at least one of each kind is taken. */
  readonly budget_ms: number;
}

export interface ContentsEstimate {
  /** Of recipe and contents, with frames, TLS and TCP. */
  readonly bytes: number;
  readonly contents: ContentShares;
  /** Share of the raw bytes, 0 to 1, that is known rather than estimated. */
  readonly knownShare: number;
}

function keyOf({ digests }: ComponentContents, index: number): string {
  return Buffer.from(digests[index] ?? []).toString("base64");
}

/** Contents of the component that none of the bases has. */
function wantedOf({ component, bases }: EstimateInput): number[] {
  const held = new Set(
    bases.flatMap((base) => base.recipe.contents.map((_content, index) => keyOf(base, index))),
  );
  return [...component.recipe.contents.keys()].filter(
    (index) => !held.has(keyOf(component, index)),
  );
}

function sharesOf(
  { component: { recipe } }: EstimateInput,
  wanted: readonly number[],
  plans: readonly PackPlan[],
): ContentShares {
  const missing = new Set(wanted);
  const heldBytes = recipe.contents.reduce(
    (sum, { sizeBytes }, index) => sum + (missing.has(index) ? 0 : sizeBytes),
    0,
  );
  const bytes = (patched: boolean): number =>
    plans
      .filter((plan) => isPatch(plan) === patched)
      .reduce((sum, { rawBytes }) => sum + rawBytes, 0);
  return { heldBytes, patchedBytes: bytes(true), missingBytes: bytes(false) };
}

interface Candidate extends PendingPack {
  /** By level: the encoded size of a pack that is in the cache; 0 where it has to be divided. */
  readonly cached: ReadonlyMap<number, number>;
}

/** Packs of one kind are predicted from each other's samples. */
type Kind = "patched" | "compressed" | "own" | "plain";

/** `compressed` is what is patched and yet hardly smaller, as the contents are compressed. */
function kindOf(plan: PackPlan, { component }: EstimateInput): Kind {
  if (plan.references.length === 0) return "plain";
  if (!isPatch(plan)) return "own";
  const compressed = plan.segments.filter(({ content }) =>
    isCompressed(component.recipe.contents[content]?.path ?? ""),
  );
  const bytes = compressed.reduce((sum, { length }) => sum + length, 0);
  return 2 * bytes > plan.rawBytes ? "compressed" : "patched";
}

/** Up to `most` items, each from the middle of an equal share of the list. */
function spread<T>(items: readonly T[], most: number): T[] {
  const count = Math.min(most, items.length);
  return Array.from({ length: count }, (_none, index) =>
    items.at(Math.floor(((index + 0.5) * items.length) / count)),
  ).filter((item) => item !== undefined);
}

/**
 * The same list so that every beginning of it is spread over the whole: packs come by size, and the
 * time may not suffice for all.
 */
function interleaved<T>(items: readonly T[]): T[] {
  const step = Math.max(1, Math.round(items.length * (Math.sqrt(5) / 2 - 0.5)));
  const taken = new Set<number>();
  for (let at = Math.floor(items.length / 2); taken.size < items.length; at += step) {
    let index = at % items.length;
    while (taken.has(index)) index = (index + 1) % items.length;
    taken.add(index);
  }
  return [...taken].flatMap((index) => items[index] ?? []);
}

function wireBytesOf(frames: readonly ReadyFrame[]): number {
  const parts = frames.flatMap((frame) => frame.parts);
  return parts.reduce((sum, { length }) => sum + length, 0);
}

/** The samples of one estimate, made side by side as long as the time lasts. */
class Sampler {
  readonly #input: EstimateInput;
  readonly #encoder: PackEncoder;
  readonly #memoryBytes: number;
  readonly #slots: Slots;
  readonly #threads = new DifferenceThreads();

  constructor(input: EstimateInput) {
    const { component, bases, packs, conditions } = input;
    this.#input = input;
    this.#slots = new Slots(Math.max(1, Math.floor(conditions.cores)));
    const all = [...bases, component];
    const [slots, threads] = [this.#slots, this.#threads];
    this.#encoder = new PackEncoder({ component, bases: all, packs, slots, threads });
    this.#memoryBytes = encodingMemoryBytes(conditions.bitsPerSecond);
  }

  close(): void {
    this.#threads.close(new Error("the estimate is made"));
  }

  async candidates(plans: readonly PackPlan[]): Promise<Candidate[]> {
    const candidates: Candidate[] = [];
    for (const plan of plans) {
      const sizes = await Promise.all(
        SOLID_LEVELS.map(async (level) => {
          const key = this.#encoder.keyOf(plan, { level, memoryBytes: this.#memoryBytes });
          const bytes = await this.#input.packs.sizeOf(key);
          return bytes === undefined ? [] : ([[level, bytes]] as const);
        }),
      );
      const cached = new Map(sizes.flat());
      candidates.push({ plan, cached, cachedLevels: [...cached.keys()] });
    }
    return candidates;
  }

  /** Encodes `plans` in their order, at least one, as long as its shares of time last. */
  async solid(
    plans: readonly PackPlan[],
    level: number,
    samplings = 1,
  ): Promise<Map<PackPlan, number>> {
    const sizes = new Map<PackPlan, number>();
    const left = [...plans];
    const { clock, budget_ms } = this.#input;
    const end_ms = clock.monotonic() + (samplings * budget_ms) / SAMPLINGS_MAX;
    const worker = async (): Promise<void> => {
      for (let plan = left.shift(); plan !== undefined; plan = left.shift()) {
        sizes.set(plan, wireBytesOf(await this.#solidFrames(plan, level)));
        if (clock.monotonic() > end_ms) return;
      }
    };
    const memory = Math.max(...plans.map((plan) => this.#memoryOf(plan, level)), 1);
    const workers = Math.max(1, Math.floor(this.#memoryBytes / memory));
    const cores = Math.max(1, Math.floor(this.#input.conditions.cores));
    await Promise.all(Array.from({ length: Math.min(workers, cores) }, worker));
    return sizes;
  }

  #memoryOf(plan: PackPlan, level: number): number {
    return neededMemoryBytes(plan, level, this.#memoryBytes);
  }

  #solidFrames(plan: PackPlan, level: number): Promise<ReadyFrame[]> {
    return this.#encoder.solidFrames(plan, 0, { level, memoryBytes: this.#memoryBytes });
  }

  /** Ratio of some packs, frame by frame. */
  async direct(
    plans: readonly PackPlan[],
    level: number | undefined,
    framesMax: number,
  ): Promise<number> {
    const pieces = plans.flatMap((plan) =>
      Array.from({ length: Math.ceil(plan.rawBytes / RAW_BYTES_MAX) }, (_none, index) => ({
        plan,
        from: index * RAW_BYTES_MAX,
        to: Math.min(plan.rawBytes, (index + 1) * RAW_BYTES_MAX),
      })),
    );
    const sum = { raw: 0, encoded: 0 };
    await Promise.all(
      spread(pieces, framesMax).map(({ plan, ...range }) =>
        this.#slots.run(async () => {
          const frame = await this.#encoder.directFrame(plan, range, level);
          sum.raw += frame.rawBytes;
          sum.encoded += wireBytesOf([frame]);
        }),
      ),
    );
    return sum.raw === 0 ? 1 : sum.encoded / sum.raw;
  }
}

/**
 * Samples of the packs that are to be solid and are not in the cache: each at a quick level, some at
 * the real one, which then are in the cache.
 */
async function solidSamples(
  sampler: Sampler,
  plans: readonly PackPlan[],
  level: number,
  input: EstimateInput,
): Promise<PackSample[]> {
  const of = (kind: Kind) => plans.filter((plan) => kindOf(plan, input) === kind);
  const plain = of("plain");
  const samples: PackSample[] = [];
  if (plain.length > 0) {
    const quick = new Map<PackPlan, number>();
    const framesMax = Math.max(1, Math.floor(QUICK_FRAMES_MAX / plain.length));
    for (const plan of plain) {
      quick.set(plan, plan.rawBytes * (await sampler.direct([plan], QUICK_LEVEL, framesMax)));
    }
    samples.push(await sampleOf("plain", sampler, quick, level));
  }
  for (const kind of ["patched", "compressed", "own"] as const) {
    const some = of(kind);
    if (some.length === 0) continue;
    if (level < SLOW_LEVEL) {
      samples.push(scaled(kind, await sampler.solid(interleaved(some), level, 2), 1));
      continue;
    }
    const quick = await sampler.solid(interleaved(some), QUICK_PATCH_LEVEL);
    samples.push(await sampleOf(kind, sampler, quick, level));
  }
  return samples;
}

/**
 * Encodes some packs at the real level, those first that are most like the whole, as there may be
 * time for few; what the quick sizes say of the others corrects them.
 */
async function sampleOf(
  kind: string,
  sampler: Sampler,
  quick: ReadonlyMap<PackPlan, number>,
  level: number,
): Promise<PackSample> {
  const tried = [...quick.keys()];
  const overall = ratioOf(tried, quick);
  const distance = (plan: PackPlan): number => Math.abs(ratioOf([plan], quick) - overall);
  const typical = tried.toSorted((a, b) => distance(a) - distance(b)).slice(0, SLOW_SAMPLES_MAX);
  const real = await sampler.solid(typical, level);
  const measured = ratioOf([...real.keys()], quick);
  return scaled(kind, real, measured > 0 ? overall / measured : 1);
}

/** Encoded over raw bytes of some packs; each has a size. */
function ratioOf(plans: readonly PackPlan[], sizes: ReadonlyMap<PackPlan, number>): number {
  const raw = plans.reduce((sum, { rawBytes }) => sum + rawBytes, 0);
  const encoded = plans.reduce((sum, plan) => sum + (sizes.get(plan) ?? 0), 0);
  return encoded / Math.max(1, raw);
}

function scaled(kind: string, sizes: ReadonlyMap<PackPlan, number>, factor: number): PackSample {
  const rawBytes = [...sizes.keys()].reduce((sum, plan) => sum + plan.rawBytes, 0);
  const encoded = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  return { kind, rawBytes: Math.max(1, rawBytes), encodedBytes: Math.round(encoded * factor) };
}

async function samplesOf(
  sampler: Sampler,
  candidates: readonly Candidate[],
  level: number,
  input: EstimateInput,
): Promise<PackSample[]> {
  const open = candidates.filter(({ cached }) => !isWhole(cached, level)).map(({ plan }) => plan);
  return await solidSamples(sampler, open, level, input);
}

/** True when the cache has the pack itself, and not that it has to be divided. */
function isWhole(cached: ReadonlyMap<number, number>, level: number): boolean {
  return (cached.get(level) ?? 0) > 0;
}

/**
 * What fetching a component by its recipe would put on the wire: packs that were made before by
 * their size, others by samples. What is sampled at the level that is going to be used stays in the
 * cache.
 */
export async function estimateContents(input: EstimateInput): Promise<ContentsEstimate> {
  const sampler = new Sampler(input);
  try {
    return await estimated(input, sampler);
  } finally {
    sampler.close();
  }
}

async function estimated(input: EstimateInput, sampler: Sampler): Promise<ContentsEstimate> {
  const { component, bases, conditions } = input;
  const wanted = wantedOf(input);
  const plans = planContents(component, bases, wanted, { except: new Set() });
  const contents = sharesOf(input, wanted, plans);
  const recipe = await recipeFrame(component, bases);
  const candidates = await sampler.candidates(plans);
  const encoding = encodingOf(candidates, conditions);
  const sized = (cachedOf: (one: Candidate) => number | undefined) =>
    candidates.map((candidate) => {
      const { rawBytes, segments, references } = candidate.plan;
      const kind = encoding.kind === "direct" ? "direct" : kindOf(candidate.plan, input);
      const cachedBytes = cachedOf(candidate);
      const counts = { segments: segments.length, references: references.length };
      return { rawBytes, kind, ...counts, ...(cachedBytes === undefined ? {} : { cachedBytes }) };
    });
  const own = { rawBytes: 0, kind: "recipe", segments: 0, references: 0 };
  const base = { ...own, cachedBytes: recipe.frame.length };
  if (encoding.kind === "direct") {
    const ratio =
      encoding.level === undefined
        ? 1
        : await sampler.direct(plans, encoding.level, QUICK_FRAMES_MAX);
    const { wireBytes, knownShare } = estimateBytes([base, ...sized(() => undefined)], [], ratio);
    return { bytes: wireBytes, contents, knownShare };
  }
  const { level } = encoding;
  const samples = await samplesOf(sampler, candidates, level, input);
  const after = await sampler.candidates(plans);
  const sizes = new Map(after.map(({ plan, cached }) => [plan, cached.get(level)]));
  const known = sized(({ plan }) => {
    const bytes = sizes.get(plan);
    return bytes === undefined || bytes === 0 ? undefined : bytes;
  });
  const { wireBytes, knownShare } = estimateBytes([base, ...known], samples);
  return { bytes: wireBytes, contents, knownShare };
}
