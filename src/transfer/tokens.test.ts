/** The tokens of lanes, and when there is another lane. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { realWorld } from "#system";
import { wantsLane } from "./lanes.ts";
import { LANES_MAX } from "./protocol.ts";
import {
  decodeHeld,
  decodeTokens,
  encodeHeld,
  encodeTokens,
  firstTokens,
  laneToken,
  newToken,
} from "./tokens.ts";

test("every lane has a first token of its own, which only the session's token gives away", () => {
  const { random } = realWorld();
  const token = newToken(random);
  const lanes = Array.from({ length: LANES_MAX }, (_, lane) => laneToken(token, lane));
  assert.equal(lanes[0], token);
  assert.equal(new Set(lanes).size, LANES_MAX);
  for (const lane of lanes) assert.match(lane, /^[A-Za-z0-9_-]{43}$/);
  const expected = createHash("sha256").update(`tessera lane 3${token}`).digest("base64url");
  assert.equal(lanes[3], expected);
});

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}

test("the tokens of all lanes are kept; what was kept before there were lanes counts", () => {
  const lane = fc.integer({ min: 1, max: LANES_MAX - 1 });
  const token = fc.uint8Array({ minLength: 32, maxLength: 32 });
  const anyHeld = fc.array(fc.tuple(lane, token), { maxLength: 8 });
  fc.assert(
    fc.property(token, anyHeld, (first, others) => {
      const held = new Map([[0, text(first)], ...others.map(([n, t]) => [n, text(t)] as const)]);
      assert.deepEqual(decodeHeld(encodeHeld(held)), held);
      const states = new Map([...held].map(([n, t]) => [n, firstTokens(t)]));
      assert.deepEqual(decodeTokens(encodeTokens(states)), states);
      assert.deepEqual(decodeHeld(text(first)), new Map([[0, text(first)]]));
      const old = JSON.stringify(firstTokens(text(first)));
      assert.deepEqual(decodeTokens(old), new Map([[0, firstTokens(text(first))]]));
    }),
  );
  for (const damaged of [
    "",
    "{}",
    "[]",
    '{"lanes":{"8":"x"}}',
    `{"lanes":{"9":"${"a".repeat(43)}"}}`,
  ]) {
    assert.throws(() => decodeHeld(damaged), { code: "transfer.state-invalid" });
  }
});

test("another connection is opened only where it can pay", () => {
  const long = { lanes: 1, streams: 4, bitsPerSecond: 300e6, roundTrip_ms: 150 };
  assert.ok(wantsLane(long));
  assert.ok(!wantsLane({ ...long, streams: 1 }), "nothing to put on it");
  assert.ok(!wantsLane({ ...long, roundTrip_ms: 2 }), "a short path");
  assert.ok(!wantsLane({ ...long, bitsPerSecond: undefined }), "nothing is known yet");
  assert.ok(!wantsLane({ ...long, bitsPerSecond: 20e6 }), "a slow path: little is under way");
  const lossy = { ...long, bitsPerSecond: 20e6, knownBitsPerSecond: 100e6 };
  assert.ok(wantsLane(lossy), "far below what is known of the path");
  assert.ok(!wantsLane({ ...lossy, bitsPerSecond: 90e6 }), "nearly full");
  assert.ok(wantsLane({ ...long, lanes: 2, bitsPerSecond: 500e6, formerBitsPerSecond: 300e6 }));
  assert.ok(
    !wantsLane({ ...long, lanes: 2, formerBitsPerSecond: 290e6 }),
    "the last brought nothing",
  );
  assert.ok(!wantsLane({ ...long, lanes: LANES_MAX, streams: 20, bitsPerSecond: 5e9 }));
});
