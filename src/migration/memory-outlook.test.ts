import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryOutlook, type MemoryTerms } from "./index.ts";

const GIB = 2 ** 30;
const TERMS: MemoryTerms = { memory: "auto", canPostcopy: false, maySlowDown: false };
const outlook = (change: Partial<MemoryTerms> = {}, bitsPerSecond = 100e6) =>
  memoryOutlook(GIB, bitsPerSecond, { ...TERMS, ...change });

const notes = (change: Partial<MemoryTerms>) => outlook(change).notes.join();

test("a calm guest's memory takes a tenth of its size and a short pause", () => {
  const { forecast } = outlook();
  assert.deepEqual([forecast.method, forecast.pause_ms], ["precopy", 250]);
  assert.ok(Math.abs(forecast.wireBytes - GIB / 10) <= 1);
  // The coder is slower than this link.
  assert.ok(Math.abs(forecast.total_ms - (GIB / 120e6) * 1000 - 250) < 2);
  // 20 Mbit/s carry 25 MB of memory a second.
  assert.ok(outlook({}, 20e6).forecast.total_ms > 42_000);
});

test("what becomes of a guest that writes much is said beforehand", () => {
  assert.match(notes({}), /more than 22.3 MB a second .* the pause may grow to \d+\.\d s$/);
  assert.match(notes({ canPostcopy: true }), /memory follows after the switch$/);
  assert.match(notes({ canPostcopy: true, memory: "precopy" }), /the pause may grow/);
  assert.match(notes({ downtimeMax_ms: 500 }), /may be given up; it goes on here then$/);
});

test("a link that carries next to nothing is said to be in vain", () => {
  const { forecast, notes: said } = outlook({}, 1_000);
  assert.deepEqual([forecast.method, forecast.givenUp], ["none", "link-idle"]);
  assert.match(said.join(), /would be given up/);
});
