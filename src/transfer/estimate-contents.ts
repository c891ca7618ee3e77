/** Predicts what the contents of a component will take on the wire, before any of it travels. */
import { estimateBytes, type Encoding, type PackPlan, type PackSample } from "#delta";
import type { ContentShares } from "#core";
import type { ComponentContents } from "./contract.ts";
import { encodingsOf, isPatch } from "./encoding.ts";
import { packKindOf } from "./estimate-kinds.ts";
import { Sampler, type Candidate, type SamplerOptions } from "./estimate-sampler.ts";
import { planContents } from "./pack-plan.ts";
import { recipeFrame } from "./send-recipe.ts";

/** A level at which everything can be tried; the ratio of the real one to it is sampled. */
const QUICK_LEVEL = 1;
const QUICK_PATCH_LEVEL = 6;
/** Below this level packs are sampled once, at the level itself. */
const SLOW_LEVEL = 18;
const QUICK_FRAMES_MAX = 256;
const SLOW_SAMPLES_MAX = 24;
/** Choices and samples lead to each other; mostly the second choice is that of the first. */
const ROUNDS_MAX = 4;

export interface EstimateInput extends SamplerOptions {
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
    rawBytesOf(plans.filter((plan) => isPatch(plan) === patched));
  return { heldBytes, patchedBytes: bytes(true), missingBytes: bytes(false) };
}

function rawBytesOf(plans: readonly PackPlan[]): number {
  return plans.reduce((sum, { rawBytes }) => sum + rawBytes, 0);
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

/** Packs that are predicted from each other's samples: of one kind, encoded in one way. */
interface Group {
  readonly name: string;
  readonly kind: string;
  readonly encoding: Encoding;
  readonly plans: PackPlan[];
}

function nameOf(kind: string, { kind: way, level }: Encoding): string {
  return way === "direct" ? `direct-${level ?? 0}` : `${kind}-${level}`;
}

interface Choice extends Candidate {
  readonly encoding: Encoding;
  readonly kind: string;
}

/** Open packs only: what the cache has is known. */
function groupsOf(choices: readonly Choice[]): Group[] {
  const groups = new Map<string, Group>();
  for (const { plan, kind, encoding, cached } of choices) {
    if (knownBytes(cached, encoding) !== undefined) continue;
    const name = nameOf(kind, encoding);
    const group = groups.get(name) ?? { name, kind, encoding, plans: [] };
    group.plans.push(plan);
    groups.set(name, group);
  }
  return [...groups.values()];
}

/** The size of a pack that the cache has, and that does not have to be divided. */
function knownBytes(cached: Candidate["cached"], { kind, level }: Encoding): number | undefined {
  const bytes = kind === "solid" ? cached.get(level) : undefined;
  return bytes === 0 ? undefined : bytes;
}

/** What a sender would choose for each pack, at the pace that samples have shown. */
async function choicesOf(
  input: EstimateInput,
  sampler: Sampler,
  plans: readonly PackPlan[],
): Promise<Choice[]> {
  const { bitsPerSecond, cores } = input.conditions;
  const candidates = await sampler.candidates(plans);
  const conditions = { bitsPerSecond, cores: cores * sampler.pace.factor };
  const encodings = encodingsOf(candidates, conditions);
  return candidates.flatMap((candidate, index) => {
    const encoding = encodings[index];
    const kind = packKindOf(candidate.plan, input);
    return encoding === undefined ? [] : [{ ...candidate, encoding, kind }];
  });
}

/**
 * How much more a raw byte of a kind is worth looking at: packs whose sketches agree little differ
 * most from each other, and leave the most.
 */
const WORTH: Partial<Record<string, number>> = { far: 4, near: 0.25 };

function worthOf({ kind, plans }: Group): number {
  return rawBytesOf(plans) * (WORTH[kind] ?? 1);
}

/** Samples of groups that have none yet; each gets its share, by worth, of what time is left. */
async function takeSamples(
  input: EstimateInput,
  sampler: Sampler,
  groups: readonly Group[],
  end_ms: number,
): Promise<PackSample[]> {
  const { clock } = input;
  const samples: PackSample[] = [];
  let left = groups.reduce((sum, group) => sum + worthOf(group), 0);
  for (const group of groups.toSorted((a, b) => worthOf(a) - worthOf(b))) {
    const left_ms = Math.max(0, end_ms - clock.monotonic());
    const share_ms = (left_ms * worthOf(group)) / Math.max(1, left);
    left -= worthOf(group);
    samples.push(await sampleGroup(group, sampler, { clock, share_ms }));
  }
  return samples;
}

interface Time {
  readonly clock: EstimateInput["clock"];
  readonly share_ms: number;
}

async function sampleGroup(group: Group, sampler: Sampler, time: Time): Promise<PackSample> {
  const { name, kind, encoding, plans } = group;
  const { clock, share_ms } = time;
  if (encoding.kind === "direct") {
    const ratio = await sampler.direct(plans, encoding.level);
    return { kind: name, rawBytes: 1e6, encodedBytes: Math.round(1e6 * ratio) };
  }
  const { level } = encoding;
  const begin_ms = clock.monotonic();
  if (level < SLOW_LEVEL) {
    return scaled(name, await sampler.solid(interleaved(plans), level, begin_ms + share_ms), 1);
  }
  const quick =
    kind === "plain"
      ? await quickPlain(plans, sampler)
      : await sampler.solid(interleaved(plans), QUICK_PATCH_LEVEL, begin_ms + share_ms / 2);
  return await sampleSlow(name, sampler, quick, { level, end_ms: begin_ms + share_ms });
}

async function quickPlain(plans: readonly PackPlan[], sampler: Sampler) {
  const quick = new Map<PackPlan, number>();
  const framesMax = Math.max(1, Math.floor(QUICK_FRAMES_MAX / plans.length));
  for (const plan of plans) {
    quick.set(plan, plan.rawBytes * (await sampler.direct([plan], QUICK_LEVEL, framesMax)));
  }
  return quick;
}

/**
 * Encodes some packs at the real level, those first that are most like the whole, as there may be
 * time for few; what the quick sizes say of the others corrects them.
 */
async function sampleSlow(
  kind: string,
  sampler: Sampler,
  quick: ReadonlyMap<PackPlan, number>,
  { level, end_ms }: { readonly level: number; readonly end_ms: number },
): Promise<PackSample> {
  const tried = [...quick.keys()];
  const overall = ratioOf(tried, quick);
  const distance = (plan: PackPlan): number => Math.abs(ratioOf([plan], quick) - overall);
  const typical = tried.toSorted((a, b) => distance(a) - distance(b)).slice(0, SLOW_SAMPLES_MAX);
  const real = await sampler.solid(typical, level, end_ms);
  const measured = ratioOf([...real.keys()], quick);
  return scaled(kind, real, measured > 0 ? overall / measured : 1);
}

/** Encoded over raw bytes of some packs; each has a size. */
function ratioOf(plans: readonly PackPlan[], sizes: ReadonlyMap<PackPlan, number>): number {
  const encoded = plans.reduce((sum, plan) => sum + (sizes.get(plan) ?? 0), 0);
  return encoded / Math.max(1, rawBytesOf(plans));
}

function scaled(kind: string, sizes: ReadonlyMap<PackPlan, number>, factor: number): PackSample {
  const encoded = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  const rawBytes = Math.max(1, rawBytesOf([...sizes.keys()]));
  return { kind, rawBytes, encodedBytes: Math.round(encoded * factor) };
}

/**
 * What fetching a component by its recipe would put on the wire: packs that were made before by
 * their size, others by samples. What is sampled stays in the cache, so that the migration that
 * follows sends it as it is: where the time suffices for all packs the estimate is exact.
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
  const { clock, component, bases, budget_ms } = input;
  const end_ms = clock.monotonic() + budget_ms;
  const wanted = wantedOf(input);
  const plans = planContents(component, bases, wanted, { except: new Set() });
  const contents = sharesOf(input, wanted, plans);
  const recipe = await recipeFrame(component, bases);
  const samples: PackSample[] = [];
  let choices = await choicesOf(input, sampler, plans);
  // What has been made, and how fast, may lead to another choice.
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const sampled = new Set(samples.map(({ kind }) => kind));
    const inTime = clock.monotonic() < end_ms;
    const open = groupsOf(choices).filter(({ name }) => inTime || !sampled.has(name));
    if (open.length === 0) break;
    samples.push(...(await takeSamples(input, sampler, open, end_ms)));
    choices = await choicesOf(input, sampler, plans);
  }
  const own = { rawBytes: 0, kind: "recipe", segments: 0, references: 0 };
  const packs = choices.map(({ plan, kind, encoding, cached }) => {
    const bytes = knownBytes(cached, encoding);
    const { rawBytes, segments, references } = plan;
    const counts = { segments: segments.length, references: references.length };
    const known = bytes === undefined ? {} : { cachedBytes: bytes };
    return { rawBytes, kind: nameOf(kind, encoding), ...counts, ...known };
  });
  const all = [{ ...own, cachedBytes: recipe.frame.length }, ...packs];
  const { wireBytes, knownShare } = estimateBytes(all, samples);
  return { bytes: wireBytes, contents, knownShare };
}
