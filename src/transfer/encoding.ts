/** How a stream of contents is compressed: decided anew for every pack. Pure. */
import {
  SOLID_LEVELS,
  chooseEncoding,
  differenceMemoryBytes,
  solidParameters,
  type Encoding,
  type PackPlan,
  type SolidParameters,
} from "#delta";
import { referenceBytes, withoutOwn } from "./pack-plan.ts";

const MIB = 2 ** 20;
/** Below this rate a migration may use more memory: there it buys the most. */
export const SLOW_BITS_PER_SECOND = 20e6;
const MEMORY_BYTES = 72 * MIB;
const MEMORY_SLOW_BYTES = 288 * MIB;
/** Every memory that packs may have been made with, the larger first. */
export const ENCODING_MEMORY_BYTES = [MEMORY_SLOW_BYTES, MEMORY_BYTES] as const;
/** With references as large as the pack the trees are worth their memory, many roots are not. */
const OWN_HASH_LOG = 20;
/** Windows and what comes out. Two of the largest packs with references go into {@link MEMORY_BYTES}. */
const BUFFERS_BYTES = 12 * MIB;
/** Tables are not made smaller than this, whatever the budget. */
const TABLE_LOG_MIN = 17;

/** Memory that the packs in hand of a session may take at its sender. */
export function encodingMemoryBytes(bitsPerSecond: number | undefined): number {
  return (bitsPerSecond ?? Infinity) < SLOW_BITS_PER_SECOND ? MEMORY_SLOW_BYTES : MEMORY_BYTES;
}

/** Tables as zstd has them at its highest levels; it has smaller ones below. */
const DEFAULT_LOGS = { hashLog: 22, chainLog: 24 } as const;
const DEFAULT_LOGS_FAST = { hashLog: 21, chainLog: 21 } as const;
const TREE_LEVEL = 13;

function tableBytes(parameters: SolidParameters): number {
  const { compressionLevel, hashLog, chainLog } = parameters;
  const logs = compressionLevel < TREE_LEVEL ? DEFAULT_LOGS_FAST : DEFAULT_LOGS;
  return 4 * (2 ** (hashLog ?? logs.hashLog) + 2 ** (chainLog ?? logs.chainLog));
}

/**
 * The most that a solid pack takes at its sender: raw bytes, the references twice (zstd has a copy
 * of its own), its tables (one for the frame, one for a dictionary), and buffers; or what making a
 * difference takes.
 */
function packMemoryBytes(plan: PackPlan, parameters: SolidParameters): number {
  const references = referenceBytes(plan);
  const tables = tableBytes(parameters) * (references > 0 ? 2 : 1);
  const solid = plan.rawBytes + 2 * references + tables + BUFFERS_BYTES;
  if (references === 0) return solid;
  const difference = differenceMemoryBytes(references, plan.rawBytes);
  return Math.max(solid, plan.rawBytes + references + difference);
}

function smaller(log: number): number {
  return Math.max(TABLE_LOG_MIN, log - 1);
}

/** Parameters for a pack, with tables as large as the memory allows. */
export function packParameters(
  plan: PackPlan,
  level: number,
  memoryBytes: number,
): SolidParameters {
  let parameters = solidParameters(level, plan.rawBytes, referenceBytes(plan));
  const isOwn = plan.own !== undefined && level >= TREE_LEVEL;
  if (isOwn)
    parameters = { ...parameters, hashLog: Math.min(parameters.hashLog ?? 0, OWN_HASH_LOG) };
  // Few packs are no differences after all: two at a time are worth more than their tables.
  const share = isPatch(plan) && !isOwn ? memoryBytes / 2 : memoryBytes;
  while (packMemoryBytes(plan, parameters) > share) {
    const { hashLog = DEFAULT_LOGS.hashLog, chainLog = DEFAULT_LOGS.chainLog } = parameters;
    if (Math.max(hashLog, chainLog) <= TABLE_LOG_MIN) break;
    parameters = { ...parameters, hashLog: smaller(hashLog), chainLog: smaller(chainLog) };
  }
  return parameters;
}

/**
 * What a pack refers to within a memory. References to its own component are as large as the pack:
 * with tables that are too small for them it would become larger than without.
 */
export function planWithin(plan: PackPlan, memoryBytes: number): PackPlan {
  return memoryBytes < MEMORY_SLOW_BYTES ? withoutOwn(plan) : plan;
}

/** The most that a solid pack takes that is made within a memory. */
export function neededMemoryBytes(plan: PackPlan, level: number, memoryBytes: number): number {
  const within = planWithin(plan, memoryBytes);
  return packMemoryBytes(within, packParameters(within, level, memoryBytes));
}

/** Whether a pack is as short, and made as quickly, as a patch of what is held. */
export function isPatch({ references, own }: PackPlan): boolean {
  return references.length > 0 && own === undefined;
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
  const patchableBytes = sum(({ plan }) => (isPatch(plan) ? plan.rawBytes : 0));
  const memoryBytes = encodingMemoryBytes(conditions.bitsPerSecond);
  const ownBytes = sum(({ plan }) =>
    planWithin(plan, memoryBytes).own === undefined ? 0 : plan.rawBytes,
  );
  const shares = SOLID_LEVELS.map((level) => {
    const cached = sum(({ plan, cachedLevels }) =>
      cachedLevels.includes(level) ? plan.rawBytes : 0,
    );
    return [level, cached / Math.max(1, rawBytes)] as const;
  });
  const { bitsPerSecond, cores } = conditions;
  const encoding = chooseEncoding(
    { cores, ...(bitsPerSecond === undefined ? {} : { bitsPerSecond }) },
    {
      rawBytes: Math.max(1, rawBytes),
      patchableBytes,
      ownBytes,
      packs: pending.length,
      cachedShares: new Map(shares),
    },
  );
  return encoding.kind === "direct" ? encoding : bestCached(encoding.level, pending[0]);
}

/**
 * What a sender would choose for packs, one after the other, while the link and the processors stay
 * as they are.
 */
export function encodingsOf(
  pending: readonly PendingPack[],
  conditions: { readonly bitsPerSecond: number | undefined; readonly cores: number },
): Encoding[] {
  return pending.map((_pack, index) => encodingOf(pending.slice(index), conditions));
}

/** A pack that is there at a higher level costs nothing more. */
function bestCached(level: number, pack: PendingPack | undefined): Encoding {
  return { kind: "solid", level: Math.max(level, ...(pack?.cachedLevels ?? [])) };
}
