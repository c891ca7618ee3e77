import type { PackPlan, PackReference, WantedFact } from "./contract.ts";
import { kindOf } from "./content-kind.ts";
import { comparable, SIMILARITY_MIN } from "./references.ts";
import { similarity } from "./sketch.ts";
import { baseName } from "./version-path.ts";

/** Contents below this gain more from their neighbours in the pack than from a dictionary. */
const OWN_BYTES_MIN = 65_536;
/** So many first characters of a name make a family. */
const FAMILY_LETTERS = 5;
/** Relatives by name of one content. */
const RELATIVES_MAX = 2;
/** A dictionary that is a smaller share of the pack does not pay for the search in it. */
const SHARE_MIN = 0.25;
/** Of each key so many are looked at, the last that were sent. */
const CANDIDATES_MAX = 24;

/**
 * Most bytes of references of a pack to its own component: with more the tables of the encoder are
 * too small for what they hold, or need memory that there is not.
 */
export const OWN_REFERENCE_BYTES_MAX = 16 * 2 ** 20;

/** How a component's packs may refer to contents that were sent before. */
export interface OwnReferences {
  /** The index by which references name the component itself: the number of the bases. */
  readonly base: number;
  /** Contents that are not referred to. */
  readonly except?: ReadonlySet<number>;
}

/** Name by which programs and libraries of one origin are recognised: without `lib`. */
export function familyName(path: string): string {
  return baseName(path).replace(/^lib/, "");
}

/**
 * Gives packs references to contents of packs before them, which the receiver has by then: for each
 * large content the most similar one by sketch, and those of the same kind whose names have the
 * longest beginning in common. Where there is nothing of the kind, a pack that goes on with the kind
 * of the pack before it refers to that. Only contents that earlier packs have
 * whole are referred to; what there is no room for is left out, the least similar first.
 *
 * @param plans without references, in the order in which they are sent
 * @param facts of all contents of the plans
 */
export function referToEarlier(
  plans: readonly PackPlan[],
  facts: readonly WantedFact[],
  own: OwnReferences,
): PackPlan[] {
  const byContent = new Map(facts.map((fact) => [fact.content, fact]));
  const sent = new Sent();
  let before: readonly WantedFact[] = [];
  return plans.map((plan) => {
    const members = plan.segments.flatMap(({ content }) => byContent.get(content) ?? []);
    const found = worthwhile(relativesOf(sent, members.filter(isLarge)), plan.rawBytes);
    const follows = found.length === 0 && continues(members[0], before.at(-1));
    const chosen = follows ? worthwhile(newest(before), plan.rawBytes) : found;
    before = wholeWith(plan, byContent).filter(({ content }) => own.except?.has(content) !== true);
    for (const fact of before) if (isLarge(fact)) sent.add(fact);
    const references = chosen.map((fact) => referenceTo(fact, own.base));
    return references.length === 0 ? plan : { ...plan, references, own: own.base };
  });
}

/** What is whole with this pack: slices of a content are sent in their order. */
function wholeWith(
  { segments }: PackPlan,
  facts: ReadonlyMap<number, WantedFact>,
): readonly WantedFact[] {
  return segments.flatMap(({ content, offset, length }) => {
    const fact = facts.get(content);
    return fact === undefined || offset + length < fact.sizeBytes ? [] : [fact];
  });
}

/** Contents of one kind go on in the next pack. */
function continues(fact: WantedFact | undefined, before: WantedFact | undefined): boolean {
  if (fact === undefined || before === undefined) return false;
  return kindOf(fact.path) === kindOf(before.path);
}

function referenceTo({ content, sizeBytes }: WantedFact, base: number): PackReference {
  return { base, content, offset: 0, length: sizeBytes };
}

function isLarge({ sizeBytes }: WantedFact): boolean {
  return sizeBytes >= OWN_BYTES_MIN;
}

/** Contents of earlier packs, by what they may be found by. */
class Sent {
  readonly #byFeature = new Map<number, WantedFact[]>();
  readonly #byFamily = new Map<string, WantedFact[]>();

  add(fact: WantedFact): void {
    for (const key of featuresOf(fact)) push(this.#byFeature, key, fact);
    push(this.#byFamily, familyOf(fact), fact);
  }

  similar(fact: WantedFact): WantedFact | undefined {
    const keys = featuresOf(fact);
    const found = new Set(keys.flatMap((key) => last(this.#byFeature.get(key))));
    return [...found]
      .filter((other) => comparable(fact.sizeBytes, other.sizeBytes))
      .map((other) => ({ other, rate: similarity(fact.sketch, other.sketch) }))
      .filter(({ rate }) => rate >= SIMILARITY_MIN)
      .toSorted((a, b) => b.rate - a.rate)[0]?.other;
  }

  relatives(fact: WantedFact): WantedFact[] {
    const name = familyName(fact.path);
    if (name.length < FAMILY_LETTERS) return [];
    return last(this.#byFamily.get(familyOf(fact)))
      .filter((other) => comparable(fact.sizeBytes, other.sizeBytes))
      .map((other, age) => ({ other, age, common: commonLength(name, familyName(other.path)) }))
      .toSorted((a, b) => b.common - a.common || a.age - b.age)
      .slice(0, RELATIVES_MAX)
      .map(({ other }) => other);
  }
}

function featuresOf({ sketch }: WantedFact): number[] {
  return Array.from(sketch, (value, position) => position * 2 ** 32 + value);
}

function familyOf({ path }: WantedFact): string {
  return `${kindOf(path)}\0${familyName(path).slice(0, FAMILY_LETTERS)}`;
}

function push<K>(lists: Map<K, WantedFact[]>, key: K, fact: WantedFact): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [fact]);
  else list.push(fact);
}

/** The newest first. */
function last(list: readonly WantedFact[] = []): WantedFact[] {
  return list.slice(-CANDIDATES_MAX).toReversed();
}

function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length += 1;
  return length;
}

/** What serves some contents, the best first; the contents themselves do not. */
function relativesOf(sent: Sent, members: readonly WantedFact[]): WantedFact[] {
  const here = new Set(members);
  const alike = members.flatMap((fact) => sent.similar(fact) ?? []);
  const related = members.flatMap((fact) => sent.relatives(fact));
  const distinct = new Set([...alike, ...related].filter((fact) => !here.has(fact)));
  return fitting([...distinct]);
}

/** The last contents of a pack, the newest first. */
function newest(members: readonly WantedFact[]): WantedFact[] {
  return fitting(members.toReversed());
}

/** Those for which there is room, in their order. */
function fitting(facts: readonly WantedFact[]): WantedFact[] {
  let left = OWN_REFERENCE_BYTES_MAX;
  return facts.filter(({ sizeBytes }) => {
    if (sizeBytes > left) return false;
    left -= sizeBytes;
    return true;
  });
}

/** In the order of the dictionary: the best last, where the distance to it is the least. */
function worthwhile(facts: readonly WantedFact[], rawBytes: number): WantedFact[] {
  const bytes = facts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return bytes < SHARE_MIN * rawBytes ? [] : facts.toReversed();
}
