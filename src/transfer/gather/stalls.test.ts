/** Sources that bring nothing, on a clock that only the tests move. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode, type Digest } from "#core";
import { realWorld } from "#system";
import { handClock } from "../clock.suite.ts";
import { addFiles, bytesOf, Clouds, never, type Behaviour } from "./gather.suite.ts";
import { gatherComponents } from "./gather.ts";
import { Sources, type Asked, type Question } from "./sources.ts";

const STALL_ms = 1000;
const COMPONENT: Digest = `sha256:${"0".repeat(64)}`;

interface Silence {
  readonly cloud: string;
  readonly waited_ms: number;
  readonly answered: boolean;
}

/** Sources by how long they are silent before they answer; the first is the fastest. */
class Scene {
  readonly clock = handClock();
  readonly heard: Silence[] = [];
  readonly sources: Sources;
  readonly #silences_ms: readonly number[];

  constructor(...silences_ms: readonly number[]) {
    this.#silences_ms = silences_ms;
    const all = silences_ms.map((_, index) => {
      const receiver = { wireBytes: () => 0 } as Asked["receiver"];
      const holder = { cloud: `${index}`, pricePerGB: 0, bitsPerSecond: 1e9 / (index + 1) };
      return { holder, open: () => receiver, holds: () => true };
    });
    this.sources = new Sources({ ...realWorld(), clock: this.clock }, all, STALL_ms);
  }

  readonly question: Question = {
    component: COMPONENT,
    kind: "image",
    signal: new AbortController().signal,
  };

  readonly answer = async ({ source, signal }: Asked): Promise<string> => {
    const { cloud } = source.holder;
    const silence_ms = this.#silences_ms[Number(cloud)] ?? 0;
    let waited_ms = 0;
    for (; waited_ms < silence_ms && !signal.aborted; waited_ms += STALL_ms) {
      assert.ok(waited_ms < 1000 * STALL_ms, `${cloud} is not given up`);
      this.clock.advance(STALL_ms);
    }
    this.heard.push({ cloud, waited_ms, answered: !signal.aborted });
    signal.throwIfAborted();
    return cloud;
  };
}

test("a dead source is given up though the one that answers stalled before it", async () => {
  const scene = new Scene(3 * STALL_ms, Infinity);
  assert.equal(await scene.sources.first(scene.question, scene.answer), "0");
  assert.deepEqual(
    scene.heard.map(({ cloud, waited_ms }) => [cloud, waited_ms / STALL_ms]),
    [
      ["0", 1],
      ["1", 1],
      ["0", 2],
      ["1", 2],
      ["0", 3],
    ],
  );
});

test("whoever answers at all is heard, in a time that follows from how long that takes", async () => {
  const silence = fc.oneof(fc.constant(Infinity), fc.nat({ max: 40 }));
  await fc.assert(
    fc.asyncProperty(fc.array(silence, { maxLength: 5 }), fc.nat({ max: 40 }), async (all, own) => {
      const scene = new Scene(...[...all, own].map((periods) => periods * STALL_ms));
      const answered = await scene.sources.first(scene.question, scene.answer);
      const soonest = Math.min(own, ...all);
      assert.equal(scene.heard.at(-1)?.cloud, answered);
      // All periods of a source together are less than twice the last one, which is at most twice what is needed.
      const each_ms = 4 * Math.max(1, soonest) * STALL_ms;
      assert.ok(scene.clock.monotonic() <= (all.length + 1) * each_ms);
    }),
    { numRuns: 100 },
  );
});

test("the only source is waited for, however long it is silent", async () => {
  const scene = new Scene(500 * STALL_ms);
  await scene.sources.first(scene.question, scene.answer);
  assert.deepEqual(scene.heard, [{ cloud: "0", waited_ms: 500 * STALL_ms, answered: true }]);
});

/** Asks so many times side by side, and lets them all wait until they are given up. */
async function stallTogether({ sources, clock, question }: Scene, cloud: string, times: number) {
  const source = sources.usable(question).find(({ holder }) => holder.cloud === cloud);
  assert.ok(source);
  const waiting = Promise.withResolvers<void>();
  let left = times;
  const wait = ({ signal }: Asked): Promise<never> => {
    left -= 1;
    if (left === 0) waiting.resolve();
    return never(signal);
  };
  const asked = Promise.allSettled(
    Array.from({ length: times }, () => sources.ask(source, question, wait)),
  );
  await waiting.promise;
  clock.advance(STALL_ms);
  for (const end of await asked) {
    assert.ok(end.status === "rejected" && hasCode(end.reason, "transfer.stalled"));
  }
}

test("requests that stall together count once", async () => {
  const scene = new Scene(0, 0);
  const first = (): string | undefined => scene.sources.usable(scene.question)[0]?.holder.cloud;
  await stallTogether(scene, "0", 3);
  assert.equal(first(), "1");
  await stallTogether(scene, "1", 1);
  assert.equal(first(), "0");
});

test("an answer makes good for what was before", async () => {
  const scene = new Scene(0, 0);
  await stallTogether(scene, "0", 1);
  const [other, source] = scene.sources.usable(scene.question);
  assert.ok(source && other && scene.sources.isStalled(source));
  await scene.sources.ask(source, scene.question, scene.answer);
  assert.deepEqual(scene.sources.usable(scene.question), [source, other]);
});

test("goes on with another source when one stalls", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const wanted = await addFiles(there, "nginx", { a: bytesOf("a", 70_000) });
  const clock = handClock();
  const asked: Behaviour["asked"] = async (what, _, signal) => {
    if (what !== "contents") return;
    clock.advance(STALL_ms);
    await never(signal);
  };
  const silent = clouds.source("silent", there, { asked }, 1e9);
  const honest = clouds.source("honest", there, {}, 1e6);
  const options = clouds.options([wanted], [honest, silent], { stall_ms: STALL_ms });
  const report = await gatherComponents({ ...clouds.world, clock }, options);
  assert.deepEqual(report.liars, []);
  assert.deepEqual([silent.log.contents.length, honest.log.contents.length], [1, 1]);
  assert.ok(await clouds.here.find(wanted.id));
});
