import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "#core";
import { ENCODING_OPTIONS, PACK_OVERHEAD_s, type PackPlan } from "#delta";
import { Pace } from "./pace.ts";

/** A clock that work moves on. */
class Hand implements Pick<Clock, "monotonic"> {
  now_ms = 0;
  monotonic(): number {
    return this.now_ms;
  }
}

const PLAN: PackPlan = { segments: [], references: [], rawBytes: 16e6 };

function expected_ms(level: number): number {
  const option = ENCODING_OPTIONS.find(
    ({ encoding }) => encoding.kind === "solid" && encoding.level === level,
  );
  return 16_000 / (option?.plain_MBps ?? 0);
}

/** What reading a pack and keeping it may take. */
const OVERHEAD_ms = PACK_OVERHEAD_s * 1000;

async function paceAfter(times: number, slowness: number, level = 9): Promise<number> {
  const hand = new Hand();
  const pace = new Pace(hand as unknown as Clock);
  for (let time = 0; time < times; time += 1) {
    await pace.of(PLAN, level, () => {
      hand.now_ms += OVERHEAD_ms + expected_ms(level) * slowness;
      return Promise.resolve();
    });
  }
  return pace.factor;
}

test("work as fast as the table has it keeps the pace", async () => {
  assert.equal(await paceAfter(0, 1), 1);
  assert.ok(Math.abs((await paceAfter(20, 1)) - 1) < 1e-9);
});

test("a busy host is soon known to be slow, and a free one to be free again", async () => {
  assert.ok((await paceAfter(4, 8)) < 0.35);
  assert.ok((await paceAfter(40, 8)) < 0.13);
  assert.ok((await paceAfter(40, 0.5)) > 1.2);
});

test("many small packs, each of which takes its moment, say next to nothing", async () => {
  const hand = new Hand();
  const pace = new Pace(hand as unknown as Clock);
  for (let time = 0; time < 100; time += 1) {
    await pace.of({ ...PLAN, rawBytes: 1000 }, 9, () => {
      hand.now_ms += OVERHEAD_ms;
      return Promise.resolve();
    });
  }
  assert.ok(Math.abs(pace.factor - 1) < 0.01);
});

test("one hiccup of a short pack counts for little, a stop does not end all hope", async () => {
  assert.ok((await paceAfter(1, 3, 1)) > 0.9);
  assert.ok((await paceAfter(1000, 1000)) >= 0.05);
});
