/** Predicts what a user data block will take on the wire, before any of it travels. */
import { totalLength, type ByteRange } from "#core";
import type { BlockDevice } from "#block";
import { changeBatches, changedBlocks, changedRanges } from "./change-batches.ts";
import { encodeChanges } from "./changes.ts";
import type { Lineage } from "./contract.ts";
import { patchLevel } from "./patch.ts";
import { HEADER_BYTES, RAW_BYTES_MAX } from "./protocol.ts";
import { packChanges, withBefore } from "./send-changes.ts";

/** Neighbours are taken together, as each frame builds on the one before. */
const GROUP_BYTES = 4 * RAW_BYTES_MAX;
const GROUPS_MAX = 24;
/** Level 19 is too slow to try; it gives this share of what level 9 does. */
const SLOW_LEVEL = 19;
const TRIED_LEVEL = 9;
const SLOW_SHARE = 0.975;

export interface UserDataConditions {
  /** The copy that both sides have. */
  readonly lineage?: Lineage | undefined;
  readonly bitsPerSecond: number;
  /** Processors that are free to compress. */
  readonly cores: number;
}

/** Up to `most` groups, spread evenly; all where there are no more. */
function groupsOf(ranges: readonly ByteRange[], most: number): ByteRange[] {
  const groups = ranges.flatMap(({ offset, length }) =>
    Array.from({ length: Math.ceil(length / GROUP_BYTES) }, (_none, index) => ({
      offset: offset + index * GROUP_BYTES,
      length: Math.min(GROUP_BYTES, length - index * GROUP_BYTES),
    })),
  );
  const count = Math.min(most, groups.length);
  return Array.from({ length: count }, (_none, index) =>
    groups.at(Math.floor(((index + 0.5) * groups.length) / count)),
  ).filter((group) => group !== undefined);
}

/**
 * Bytes of the frames that would carry a user data block, or its changes since the lineage. Exact
 * up to 96 MiB of changed ranges but for level 19 and for pages of components; more is sampled.
 */
export async function estimateUserData(
  device: BlockDevice,
  { lineage, bitsPerSecond, cores }: UserDataConditions,
): Promise<number> {
  const ranges = await changedRanges(device, lineage);
  const level = patchLevel({ limitBitsPerSecond: bitsPerSecond }, cores);
  const tried = level === SLOW_LEVEL ? TRIED_LEVEL : level;
  const between = { from: 0, to: Number.MAX_SAFE_INTEGER };
  let bytes = 0;
  let sampledBytes = 0;
  for (const group of groupsOf(ranges, GROUPS_MAX)) {
    const blocks = changedBlocks(device, lineage?.old, [group], between);
    for await (const frame of withBefore(changeBatches(blocks, undefined))) {
      const { data } = await packChanges(frame, tried);
      bytes += HEADER_BYTES + encodeChanges(frame.changes).length + data.length;
    }
    sampledBytes += group.length;
  }
  const share = sampledBytes === 0 ? 0 : totalLength(ranges) / sampledBytes;
  return Math.ceil(bytes * share * (level === SLOW_LEVEL ? SLOW_SHARE : 1));
}
