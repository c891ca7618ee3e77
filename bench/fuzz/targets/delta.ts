/** Differences from references. */
import assert from "node:assert/strict";
import { TesseraError } from "#core";
import { decodeDifference, encodeDifference } from "../../../src/delta/difference.ts";
import type { FuzzTarget } from "../target.ts";

const CODE = "transfer.pack-invalid";
const MARGIN_BYTES = 64;
const MARK = 0xa5;

/** Bytes in which nothing occurs twice. */
const OLD = Buffer.from(
  Array.from({ length: 4000 }, (_, n) => Math.imul(n + 1, 0x9e3779b1) >>> 24),
);
/** Moved, with an insertion and changes of one to six bytes in place. */
const FRESH = Buffer.concat([OLD.subarray(2000), Buffer.from("inserted"), OLD.subarray(0, 1900)]);
for (const [at, length] of [
  [100, 1],
  [300, 2],
  [700, 3],
  [1500, 4],
  [2900, 6],
] as const) {
  for (let step = 0; step < length; step += 1) FRESH.writeUInt8(0xff - step, at + step);
}

/** What is decoded fills exactly what it may. */
function decode(input: Buffer): void {
  const room = Buffer.alloc(FRESH.length + 2 * MARGIN_BYTES, MARK);
  const raw = room.subarray(MARGIN_BYTES, MARGIN_BYTES + FRESH.length);
  const isOne = decodeDifference(input, OLD, raw);
  assert.ok(room.subarray(0, MARGIN_BYTES).every((byte) => byte === MARK));
  assert.ok(room.subarray(MARGIN_BYTES + FRESH.length).every((byte) => byte === MARK));
  if (!isOne) throw new TesseraError("peer", CODE, "no difference");
}

export const DELTA_TARGETS: readonly FuzzTarget[] = [
  {
    name: "difference",
    codes: [CODE],
    seeds: () =>
      [encodeDifference(OLD, FRESH), encodeDifference(FRESH, FRESH)].flatMap((one) => one ?? []),
    decode,
  },
];
