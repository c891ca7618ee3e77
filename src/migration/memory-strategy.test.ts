import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  firstAim_ms,
  forecastMemory,
  memoryStep,
  WATCH,
  type MemoryStatistics,
  type MemoryStep,
  type MemoryTerms,
  type MemoryWatch,
} from "./index.ts";

const MB = 1e6;
const TERMS: MemoryTerms = { memory: "auto", canPostcopy: true, maySlowDown: false };

/** Statistics of a pass that has just begun, which came after `seconds` of 10 MB/s. */
function facts(pass: number, remaining_MB: number, dirty_MBps: number): MemoryStatistics {
  return {
    transferredBytes: pass === 1 ? 0 : (pass - 1) * 100 * MB,
    remainingBytes: remaining_MB * MB,
    totalBytes: 100 * MB,
    dirtyRate_Bps: dirty_MBps * MB,
    passes: pass,
    total_ms: (pass - 1) * 10_000,
  };
}

/** The last decision after these passes. */
function after(terms: MemoryTerms, ...passes: readonly MemoryStatistics[]): MemoryStep {
  let watch: MemoryWatch = WATCH;
  let last: MemoryStep | undefined;
  for (const pass of passes) ({ watch, next: last } = memoryStep(watch, pass, terms));
  assert.ok(last !== undefined);
  return last;
}

test("what the link brings down goes on, and what is little switches by itself", () => {
  const first = facts(1, 100, 0);
  assert.equal(after(TERMS, first).step, "go-on");
  assert.deepEqual(after(TERMS, first, facts(2, 40, 4)), { step: "go-on", reason: "worth-it" });
  const little = { step: "go-on", reason: "little-left" };
  assert.deepEqual(after(TERMS, first, facts(2, 2.9, 0.3)), little);
});

test("a pause within the bound is taken, and none beyond it", () => {
  const passes = [facts(1, 100, 0), facts(2, 30, 6)];
  const bound = { ...TERMS, downtimeMax_ms: 4_000 };
  const within = { step: "switch", allow_ms: 3_750, reason: "within-bound" };
  assert.deepEqual(after(bound, ...passes), within);
  const tight = { ...TERMS, downtimeMax_ms: 3_000 };
  assert.deepEqual(after(tight, ...passes), { step: "postcopy", reason: "outrun" });
  assert.equal(firstAim_ms({ ...TERMS, downtimeMax_ms: 450 }), 200);
});

test("a guest is slowed down only where that is allowed and is enough", () => {
  const slow = { ...TERMS, maySlowDown: true };
  const first = facts(1, 100, 0);
  const slowed = { step: "slow-down", percent: 50, reason: "outrun" };
  assert.deepEqual(after(slow, first, facts(2, 80, 8)), slowed);
  // A link that carries a tenth would need more than is bearable.
  assert.equal(after(slow, first, facts(2, 90, 90)).step, "postcopy");
  const waits = { step: "go-on", reason: "takes-effect" };
  assert.deepEqual(after(slow, first, facts(2, 80, 8), facts(3, 80, 8)), waits);
  const then = after(slow, first, facts(2, 80, 8), facts(3, 80, 8), facts(4, 50, 6));
  assert.deepEqual(then, { step: "slow-down", percent: 70, reason: "outrun" });
});

test("without post-copy it is tried again, then switched or given up as the service level says", () => {
  const precopy: MemoryTerms = { ...TERMS, memory: "precopy" };
  const bound = { ...precopy, downtimeMax_ms: 1_000 };
  const passes = [1, 2, 3, 4].map((pass) => facts(pass, pass === 1 ? 100 : 90, 20));
  const again = { step: "go-on", reason: "try-again" };
  assert.deepEqual(after(precopy, ...passes.slice(0, 3)), again);
  const whole = { step: "switch", allow_ms: 13_500, reason: "no-bound" };
  assert.deepEqual(after(precopy, ...passes), whole);
  assert.deepEqual(after(bound, ...passes), { step: "give-up", reason: "outrun" });
});

test("asked for, post-copy comes after one pass, unless little is left then", () => {
  const asked: MemoryTerms = { ...TERMS, memory: "postcopy" };
  const first = facts(1, 100, 0);
  const begun = { step: "postcopy", reason: "asked-for" };
  assert.deepEqual(after(asked, first, facts(2, 20, 2)), begun);
  assert.equal(after(asked, first, facts(2, 1, 0.1)).step, "go-on");
});

test("a link that carries nothing is given up, before and after the first pass", () => {
  const still = (total_ms: number) => ({ ...facts(1, 100, 0), total_ms });
  const idle = { step: "give-up", reason: "link-idle" };
  assert.equal(after(TERMS, still(0), still(300_000)).step, "go-on");
  assert.deepEqual(after(TERMS, still(0), still(300_001)), idle);
  const second = facts(2, 40, 4);
  const late = { ...second, total_ms: 141_000 };
  assert.deepEqual(after(TERMS, facts(1, 100, 0), second, late, late), idle);
});

test("a slow first pass is not taken for an idle link, whichever measure tells of it", () => {
  // As QEMU answers in its status `setup`.
  const setup = { ...facts(1, 0, 0), totalBytes: 0, passes: 0, total_ms: 0 };
  const minutes = Array.from({ length: 60 }, (_, minute) => minute);
  const at = (minute: number) => ({ ...facts(1, 100, 0), total_ms: minute * 60_000 });
  const sent = minutes.map((minute) => ({ ...at(minute), transferredBytes: minute * 20_000 }));
  const left = minutes.map((minute) => ({
    ...at(minute),
    remainingBytes: 100 * MB - minute * 20_000,
  }));
  assert.equal(after(TERMS, setup, ...sent).step, "go-on");
  assert.equal(after(TERMS, setup, ...left).step, "go-on");
  const idle = { step: "give-up", reason: "link-idle" };
  assert.deepEqual(after(TERMS, setup, ...minutes.slice(0, 7).map(at)), idle);
});

const terms = fc.record(
  {
    memory: fc.constantFrom("auto", "precopy", "postcopy"),
    canPostcopy: fc.boolean(),
    maySlowDown: fc.boolean(),
    downtimeMax_ms: fc.integer({ min: 0, max: 60_000 }),
    besides_ms: fc.integer({ min: 0, max: 1_000 }),
  },
  { requiredKeys: ["memory", "canPostcopy", "maySlowDown"] },
);

const statistics = fc.record({
  transferredBytes: fc.double({ min: 0, max: 1e12, noNaN: true }),
  remainingBytes: fc.nat(2 ** 36),
  dirtyRate_Bps: fc.double({ min: 0, max: 1e11 }),
  /** Whether a pass has ended, and how much later this is. */
  ended: fc.boolean(),
  later_ms: fc.integer({ min: 100, max: 20_000 }),
});

/** Steps after which the hypervisor, which is not asked here, goes on nevertheless. */
const LOOKS_MAX = 60_000;

test("it ends whatever the hypervisor says, and keeps to the service level on the way", () => {
  fc.assert(
    fc.property(terms, fc.array(statistics, { minLength: 1, maxLength: 50 }), (term, said) => {
      let watch: MemoryWatch = WATCH;
      let now = { ...facts(1, 0, 0), totalBytes: 2 ** 36 };
      let slowed = 0;
      for (let look = 0; look < LOOKS_MAX; look += 1) {
        const fact = said[look % said.length];
        assert.ok(fact !== undefined);
        const passes = now.passes + (fact.ended ? 1 : 0);
        const total_ms = now.total_ms + fact.later_ms;
        now = { ...fact, totalBytes: 2 ** 36, passes, total_ms };
        const decided = memoryStep(watch, now, term);
        watch = decided.watch;
        const { next } = decided;
        if (next.step === "slow-down") {
          assert.ok(term.maySlowDown && next.percent > slowed && next.percent <= 80);
          slowed = next.percent;
        }
        if (next.step === "switch") {
          assert.ok(Number.isInteger(next.allow_ms) && next.allow_ms <= 2_000_000);
          assert.ok(next.allow_ms <= Math.max(1, term.downtimeMax_ms ?? Infinity));
        }
        if (next.step === "postcopy") {
          assert.ok(term.canPostcopy && term.memory !== "precopy");
          return;
        }
        if (next.step === "give-up") return;
      }
      assert.fail(`no end: ${JSON.stringify(watch)}`);
    }),
    { numRuns: 200 },
  );
});

const guest = fc.record(
  {
    memoryBytes: fc.integer({ min: 2 ** 20, max: 2 ** 40 }),
    dirtyRate_Bps: fc.double({ min: 0, max: 1e10, noNaN: true }),
    hotBytes: fc.integer({ min: 0, max: 2 ** 40 }),
    slowable: fc.double({ min: 0, max: 1, noNaN: true }),
  },
  { requiredKeys: ["memoryBytes", "dirtyRate_Bps"] },
);
const link = fc.record({
  wire_Bps: fc.oneof(fc.constant(0), fc.double({ min: 1, max: 1e10, noNaN: true })),
  wireRatio: fc.double({ min: 0, max: 1, noNaN: true }),
  coder_Bps: fc.constant(3e8),
});

test("guests of any dirty rate over any link: an end, within its bounds", () => {
  fc.assert(
    fc.property(guest, link, terms, (who, over, term) => {
      const forecast = forecastMemory(who, over, term);
      assert.ok(Number.isFinite(forecast.total_ms) && forecast.passes <= 61);
      const givenUp = forecast.method === "none";
      assert.equal(forecast.givenUp !== undefined, givenUp);
      if (forecast.method === "postcopy") {
        assert.ok(term.canPostcopy && term.memory !== "precopy");
      } else if (!givenUp) {
        const { downtimeMax_ms = Infinity, besides_ms = 250 } = term;
        // Memory may take what is left of the bound, and a millisecond where nothing is.
        assert.ok(forecast.pause_ms <= Math.max(downtimeMax_ms, besides_ms + 1) + 1);
      }
      if (!term.maySlowDown) assert.equal(forecast.slowedPercent, 0);
      const unbound = term.downtimeMax_ms === undefined && over.wire_Bps > 0;
      const rate_Bps = Math.min(over.coder_Bps, over.wire_Bps / Math.max(over.wireRatio, 1e-6));
      const bearable = who.memoryBytes / rate_Bps < 1_900;
      // Where nothing forbids it, a link that carries something brings the machine across.
      if (unbound && bearable) assert.ok(!givenUp, JSON.stringify(forecast));
    }),
    { numRuns: 1_000 },
  );
});

test("forecasts tell what will be", () => {
  const precopy: MemoryTerms = { ...TERMS, memory: "precopy" };
  const over = { wire_Bps: 12.5 * MB, wireRatio: 0.5, coder_Bps: 300 * MB };
  const quiet = { memoryBytes: 250 * MB, dirtyRate_Bps: 0 };
  const idle = forecastMemory(quiet, over, TERMS);
  assert.equal(idle.method, "precopy");
  assert.equal(idle.wireBytes, 125 * MB);
  assert.ok(idle.total_ms <= 10_250 && idle.pause_ms <= 550, JSON.stringify(idle));
  const busy = { ...quiet, dirtyRate_Bps: 40 * MB };
  const after = forecastMemory(busy, over, TERMS);
  assert.deepEqual([after.method, after.pause_ms, after.passes], ["postcopy", 250, 2]);
  assert.ok(after.follows_ms > 7_000 && after.follows_ms < 10_000, JSON.stringify(after));
  const slow = forecastMemory(busy, over, { ...precopy, maySlowDown: true });
  assert.equal(slow.method, "slowed");
  assert.ok(slow.slowedPercent >= 50 && slow.pause_ms <= 1_750, JSON.stringify(slow));
  // What is sent again is pages of differences: the link takes more of them.
  const again = forecastMemory(busy, { ...over, againRatio: 0.1 }, precopy);
  assert.ok(again.method === "precopy" && again.pause_ms < 1_000, JSON.stringify(again));
  assert.ok(again.wireBytes > 125 * MB && again.wireBytes < 160 * MB, JSON.stringify(again));
  const bound = forecastMemory(busy, over, { ...precopy, downtimeMax_ms: 500 });
  assert.deepEqual([bound.method, bound.givenUp], ["none", "outrun"]);
  const long = forecastMemory(busy, over, precopy);
  assert.ok(long.method === "precopy" && long.pause_ms > 7_000, JSON.stringify(long));
});
