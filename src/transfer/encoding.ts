/** How a stream of contents is compressed: decided anew for every pack. Pure. */
import {
  SOLID_LEVELS,
  chooseEncoding,
  solidParameters,
  type Encoding,
  type PackPlan,
} from "#delta";
import type { LinkRate } from "./meter.ts";
import { referenceBytes } from "./pack-plan.ts";
import type { FrameParameters } from "./solid.ts";

const MIB = 2 ** 20;
/** Below this rate a migration may use more memory: there it buys the most. */
export const SLOW_BITS_PER_SECOND = 20e6;
const MEMORY_BYTES = 160 * MIB;
const MEMORY_SLOW_BYTES = 384 * MIB;
/** Tables are not made smaller than this, whatever the budget. */
const TABLE_LOG_MIN = 17;

/** Memory that the packs in hand of a session may take at its sender. */
export function encodingMemoryBytes(bitsPerSecond: number | undefined): number {
  return (bitsPerSecond ?? Infinity) < SLOW_BITS_PER_SECOND ? MEMORY_SLOW_BYTES : MEMORY_BYTES;
}

/** What the link carries, as far as it is known: at most the limit. */
export function linkBitsPerSecond(rate: LinkRate): number | undefined {
  const { limitBitsPerSecond = Infinity, availableBitsPerSecond = Infinity } = rate;
  const bitsPerSecond = Math.min(limitBitsPerSecond, availableBitsPerSecond);
  return bitsPerSecond === Infinity ? undefined : bitsPerSecond;
}

/**
 * The most that a solid pack takes at its sender: raw bytes, the references twice (zstd has a copy
 * of its own), its tables twice (for the dictionary and for the frame), and buffers.
 */
export function packMemoryBytes(plan: PackPlan, parameters: FrameParameters): number {
  const tables = 4 * (2 ** parameters.hashLog + 2 ** parameters.chainLog);
  return plan.rawBytes + 2 * referenceBytes(plan) + 2 * tables + 16 * MIB;
}

/** Parameters for a pack, with tables as large as the memory allows. */
export function packParameters(
  plan: PackPlan,
  level: number,
  memoryBytes: number,
): FrameParameters {
  let parameters: FrameParameters = solidParameters(level, plan.rawBytes, referenceBytes(plan));
  while (packMemoryBytes(plan, parameters) > memoryBytes && parameters.hashLog > TABLE_LOG_MIN) {
    const { hashLog, chainLog } = parameters;
    parameters = {
      ...parameters,
      hashLog: hashLog - 1,
      chainLog: Math.max(TABLE_LOG_MIN, chainLog - 1),
    };
  }
  return parameters;
}

/** A pack that is still to be sent. */
export interface PendingPack {
  readonly plan: PackPlan;
  /** The levels at which it is in the cache. */
  readonly cachedLevels: readonly number[];
}

/** The encoding of the next of some packs, by which all of them will end soonest. */
export function encodingOf(
  pending: readonly PendingPack[],
  conditions: { readonly bitsPerSecond: number | undefined; readonly cores: number },
): Encoding {
  const sum = (count: (pack: PendingPack) => number): number =>
    pending.reduce((total, pack) => total + count(pack), 0);
  const rawBytes = sum(({ plan }) => plan.rawBytes);
  const patchableBytes = sum(({ plan }) => (plan.references.length > 0 ? plan.rawBytes : 0));
  const shares = SOLID_LEVELS.map((level) => {
    const cached = sum(({ plan, cachedLevels }) =>
      cachedLevels.includes(level) ? plan.rawBytes : 0,
    );
    return [level, cached / Math.max(1, rawBytes)] as const;
  });
  const { bitsPerSecond, cores } = conditions;
  const encoding = chooseEncoding(
    { cores, ...(bitsPerSecond === undefined ? {} : { bitsPerSecond }) },
    { rawBytes: Math.max(1, rawBytes), patchableBytes, cachedShares: new Map(shares) },
  );
  return encoding.kind === "direct" ? encoding : bestCached(encoding.level, pending[0]);
}

/** A pack that is there at a higher level costs nothing more. */
function bestCached(level: number, pack: PendingPack | undefined): Encoding {
  return { kind: "solid", level: Math.max(level, ...(pack?.cachedLevels ?? [])) };
}
