import type { Encoding, EncodingConditions } from "./contract.ts";

/** What is to be sent, as far as the choice of an encoding depends on it. */
export interface EncodingFacts {
  /** Above 0. */
  readonly rawBytes: number;
  /** Raw bytes of contents that have a reference. */
  readonly patchableBytes: number;
  /**
   * Raw bytes of packs that refer to their own component: they leave about half of what plain ones
   * do, and are made one at a time, for their memory.
   */
  readonly ownBytes?: number;
  /** Packs that would be solid; 0 where it is not known. */
  readonly packs?: number;
  /** By solid level, the share (0 to 1) of `rawBytes` whose packs are in the cache. */
  readonly cachedShares?: ReadonlyMap<number, number>;
}

/** An encoding and what it does to typical contents of components. */
export interface EncodingOption {
  readonly encoding: Encoding;
  /** MB (10^6 raw bytes) per second of one processor. */
  readonly plain_MBps: number;
  /** Encoded bytes per raw byte. */
  readonly plainRatio: number;
  /** The same for contents with references. */
  readonly patched_MBps: number;
  readonly patchedRatio: number;
}

/** Assumed where nothing is known of the link. */
export const BITS_PER_SECOND_UNKNOWN = 100e6;

function option(
  encoding: Encoding,
  plain: readonly [number, number],
  patched: readonly [number, number] = plain,
): EncodingOption {
  return {
    encoding,
    plain_MBps: plain[0],
    plainRatio: plain[1],
    patched_MBps: patched[0],
    patchedRatio: patched[1],
  };
}

/** Measured: see doc/delta.md. The fastest first; direct packs have no references. */
export const ENCODING_OPTIONS: readonly EncodingOption[] = [
  option({ kind: "direct", level: undefined }, [1_000, 1]),
  option({ kind: "direct", level: 1 }, [307, 0.306]),
  option({ kind: "direct", level: 3 }, [222, 0.281]),
  option({ kind: "solid", level: 1 }, [263, 0.304], [115, 0.035]),
  option({ kind: "solid", level: 3 }, [139, 0.259], [112, 0.0333]),
  option({ kind: "solid", level: 6 }, [75, 0.242], [110, 0.0327]),
  option({ kind: "solid", level: 9 }, [48, 0.234], [105, 0.0322]),
  option({ kind: "solid", level: 18 }, [2.7, 0.209], [32, 0.0297]),
  option({ kind: "solid", level: 19 }, [2.4, 0.208], [9.3, 0.0276]),
];

/** What packs that refer to their own component take of processors, and leave, against plain ones. */
const OWN_WORK = 2;
const OWN_LEFT = 0.5;

/** What a solid pack is assumed to take besides: contents and references are read, and it is put into the cache. */
export const PACK_OVERHEAD_s = 0.01;

/** How long an encoding takes, and what it puts on the wire. */
export interface EncodingForecast {
  readonly seconds: number;
  readonly wireBytes: number;
}

/** Compression and wire work side by side, so the slower of the two decides. */
export function forecastEncoding(
  choice: EncodingOption,
  conditions: EncodingConditions,
  facts: EncodingFacts,
): EncodingForecast {
  const cached = cachedShare(choice.encoding, facts);
  const { patchableBytes } = facts;
  const ownBytes = choice.encoding.kind === "direct" ? 0 : (facts.ownBytes ?? 0);
  const plainBytes = facts.rawBytes - patchableBytes;
  const workBytes = plainBytes + (OWN_WORK - 1) * ownBytes;
  const packs = choice.encoding.kind === "direct" ? 0 : (facts.packs ?? 0);
  const coding_s = (workBytes / choice.plain_MBps + patchableBytes / choice.patched_MBps) / 1e6;
  const cpu_s = coding_s + packs * PACK_OVERHEAD_s;
  const leftBytes = plainBytes - (1 - OWN_LEFT) * ownBytes;
  const wireBytes = leftBytes * choice.plainRatio + patchableBytes * choice.patchedRatio;
  const bitsPerSecond = conditions.bitsPerSecond ?? BITS_PER_SECOND_UNKNOWN;
  const seconds = Math.max(
    (cpu_s * (1 - cached)) / conditions.cores,
    (wireBytes * 8) / bitsPerSecond,
  );
  return { seconds, wireBytes };
}

function cachedShare(encoding: Encoding, facts: EncodingFacts): number {
  if (encoding.kind === "direct") return 0;
  return facts.cachedShares?.get(encoding.level) ?? 0;
}

/** Forecasts are not better than this: what would end so little later counts as equally fast. */
export const EQUAL_SHARE = 1.15;

/** The encoding that ends soonest; of about equally fast ones that with the fewest bytes on the wire. */
export function chooseEncoding(conditions: EncodingConditions, facts: EncodingFacts): Encoding {
  const forecasts = ENCODING_OPTIONS.map((choice) => ({
    encoding: choice.encoding,
    ...forecastEncoding(choice, conditions, facts),
  }));
  const soonest_s = Math.min(...forecasts.map(({ seconds }) => seconds));
  const [best] = forecasts
    .filter(({ seconds }) => seconds <= EQUAL_SHARE * soonest_s)
    .toSorted((a, b) => a.wireBytes - b.wireBytes || a.seconds - b.seconds);
  return best?.encoding ?? { kind: "direct", level: undefined };
}
