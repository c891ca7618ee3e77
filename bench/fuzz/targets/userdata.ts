/** The map of a user data block that is filled on demand. */
import assert from "node:assert/strict";
import { BlockMap } from "../../../src/userdata/block-map.ts";
import {
  RECORD_BYTES,
  decodeMapFile,
  encodeRecord,
  encodeSnapshot,
  recordsThatCount,
  seedOf,
} from "../../../src/userdata/map-format.ts";
import type { FuzzTarget } from "../target.ts";

const BLOCK = 65_536;
const SIZE_BYTES = 9 * BLOCK - 7;

function seed(): Buffer {
  const map = BlockMap.of(SIZE_BYTES, [{ offset: BLOCK, length: 5 * BLOCK }]);
  map.markLocal({ offset: BLOCK + 5, length: 50 });
  const arrivals = { demanded: 1, background: 2, superseded: 3, zero: 4 };
  const bootId = "01234567-89ab-4cde-8f01-23456789abcd";
  const snapshot = encodeSnapshot({ map, bootId, arrivals });
  const range = { offset: 2 * BLOCK, length: BLOCK };
  const first = encodeRecord({ kind: "demanded", range }, seedOf(snapshot));
  const commit = encodeRecord({ kind: "commit", coveredBytes: RECORD_BYTES }, first.seed);
  return Buffer.concat([snapshot, first.bytes, commit.bytes]);
}

const onDemandMap: FuzzTarget = {
  name: "on-demand-map",
  codes: ["userdata.map-invalid"],
  seeds: () => [seed()],
  decode(input) {
    const { map, records } = decodeMapFile(input, "map", SIZE_BYTES);
    for (const { range } of recordsThatCount(records, false)) map.markLocal(range);
    assert.ok(map.remoteBytes >= 0 && map.remoteBytes <= SIZE_BYTES);
  },
};

export const USERDATA_TARGETS: readonly FuzzTarget[] = [onDemandMap];
