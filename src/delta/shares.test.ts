import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createShares, type ShareJob } from "#delta";

const MIB = 2 ** 20;

test("one source gets everything at once", () => {
  const shares = createShares([40 * MIB, 1, 50 * MIB], [{ name: "a" }]);
  const job = shares.next("a");
  assert.deepEqual(job?.contents, [0, 1, 2]);
  assert.equal(shares.next("a"), undefined);
  assert.equal(shares.state(), "working");
  if (job) shares.done(job, 10);
  assert.equal(shares.state(), "finished");
});

test("several sources get disjoint jobs of at most 32 MiB", () => {
  const sizes = Array.from({ length: 300 }, () => MIB);
  const shares = createShares(sizes, [
    { name: "a", bitsPerSecond: 1e8 },
    { name: "b", bitsPerSecond: 1e8 },
  ]);
  const [a, b] = [shares.next("a"), shares.next("b")];
  assert.equal(a?.rawBytes, 32 * MIB);
  assert.equal(b?.rawBytes, 32 * MIB);
  assert.ok(a && b && !a.contents.some((content) => b.contents.includes(content)));
});

test("what a failed source did not bring goes to another, which alone gets all of it", () => {
  const shares = createShares([MIB, MIB, MIB], [{ name: "a" }, { name: "b" }]);
  const job = shares.next("a");
  assert.ok(job);
  shares.failed(job, job.contents.slice(1));
  assert.equal(shares.next("a"), undefined);
  assert.deepEqual(shares.sources(), ["b"]);
  assert.deepEqual(shares.next("b")?.contents, [1, 2]);
});

test("contents of a liar are fetched again, from others", () => {
  const shares = createShares([MIB, MIB], [{ name: "a" }, { name: "b" }]);
  const job = shares.next("a");
  assert.ok(job);
  shares.done(job);
  const other = shares.next("b");
  if (other) shares.done(other);
  shares.ban("a", [0]);
  assert.equal(shares.state(), "working");
  assert.equal(shares.next("a"), undefined);
  assert.ok(shares.next("b")?.contents.includes(0));
});

test("a late report of a banned source changes nothing", () => {
  const shares = createShares([MIB], [{ name: "a" }, { name: "b" }]);
  const job = shares.next("a");
  assert.ok(job);
  shares.ban("a");
  shares.done(job);
  assert.deepEqual(shares.next("b")?.contents, [0]);
});

test("without sources the rest is stuck", () => {
  const shares = createShares([MIB], [{ name: "a" }]);
  shares.ban("a");
  assert.equal(shares.state(), "stuck");
  assert.equal(createShares([], []).state(), "finished");
});

test("a slow source gets nothing that the fast one would bring sooner", () => {
  const shares = createShares(
    [8 * MIB],
    [
      { name: "fast", bitsPerSecond: 1e9 },
      { name: "slow", bitsPerSecond: 1e6 },
    ],
  );
  assert.equal(shares.next("slow"), undefined);
  assert.deepEqual(shares.next("fast")?.contents, [0]);
});

const anyPlay = fc.record({
  sizes: fc.array(fc.integer({ min: 1, max: 40 * MIB }), { maxLength: 60 }),
  rates: fc.array(fc.integer({ min: 1, max: 1e9 }), { minLength: 1, maxLength: 4 }),
  fates: fc.array(fc.constantFrom("done", "part", "failed", "lied", "done", "done"), {
    maxLength: 40,
  }),
});

test("whatever fails: all is handed out until done, failed sources get no more, and it ends", () => {
  fc.assert(
    fc.property(anyPlay, ({ sizes, rates, fates }) => {
      const names = rates.map((_, index) => `s${String(index)}`);
      const shares = createShares(
        sizes,
        rates.map((bitsPerSecond, index) => ({ name: `s${String(index)}`, bitsPerSecond })),
      );
      const come = new Set<number>();
      const gone = new Set<string>();
      for (let turn = 0; shares.state() === "working"; turn += 1) {
        assert.ok(turn < 1_000, "it does not end");
        const jobs = names.flatMap((name) => shares.next(name) ?? []);
        assert.ok(jobs.length > 0, "nobody got anything");
        noneTwice(jobs, come, gone);
        for (const job of jobs) play(job, fates.shift() ?? "done");
      }
      assert.equal(shares.state() === "finished", come.size === sizes.length);
      if (shares.state() === "stuck") assert.equal(gone.size, names.length);

      function play(job: ShareJob, fate: string): void {
        const half = job.contents.slice(0, Math.floor(job.contents.length / 2));
        const brought = fate === "done" ? job.contents : fate === "lied" ? [] : half;
        for (const content of brought) come.add(content);
        const missing = job.contents.filter((content) => !brought.includes(content));
        if (fate === "done") shares.done(job, 100);
        else if (fate === "part" && half.length > 0) shares.done(job, 100, missing);
        else if (fate === "lied") shares.ban(job.source);
        else shares.failed(job, missing);
        if (fate === "lied" || fate === "failed" || (fate === "part" && half.length === 0)) {
          gone.add(job.source);
        }
      }
    }),
  );
});

function noneTwice(
  jobs: readonly ShareJob[],
  come: ReadonlySet<number>,
  gone: ReadonlySet<string>,
): void {
  const contents = jobs.flatMap((job) => job.contents);
  assert.equal(new Set(contents).size, contents.length);
  assert.ok(!contents.some((content) => come.has(content)));
  assert.ok(!jobs.some((job) => gone.has(job.source)));
}
