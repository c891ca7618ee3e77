/** What a plan predicts of a component's contents. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Clock, Component } from "#core";
import type { ComponentStore, PackCache } from "#repository";
import { addTree, edited, memoryPacks, noise, openSecond, sourceFrom } from "./components.suite.ts";
import { estimateContents } from "./estimate-contents.ts";
import { Clouds } from "./fixture.suite.ts";

const FILES = 48;
/** 2 * 10^10 bits each second: nothing is worth compressing. */
const SWIFT = 20e9;

let clouds: Clouds;
let store: ComponentStore;
let [old, fresh]: Component[] = [];
before(async () => {
  clouds = await Clouds.start();
  store = await openSecond(clouds);
  const files = Array.from(
    { length: FILES },
    (_, n) => [`d${n}/program`, noise(`p${n}`, 5000 + 50 * n)] as const,
  );
  const changed = files.map(([path, bytes], n) => [path, edited(bytes, 50 + 40 * n)] as const);
  old = await addTree(clouds, store, "1", Object.fromEntries(files));
  fresh = await addTree(clouds, store, "2", {
    ...Object.fromEntries(changed),
    "d0/text": Buffer.from("a line of the manual\n".repeat(2000)),
  });
});
after(() => clouds[Symbol.asyncDispose]());

/** Time that passes by `step_ms` whenever somebody looks. */
function steps(step_ms: number): Pick<Clock, "monotonic"> {
  let now_ms = 0;
  return { monotonic: () => (now_ms += step_ms) };
}

const BUDGET_ms = 100;

async function estimate(packs: PackCache, step_ms: number, bitsPerSecond = 2e6) {
  assert.ok(old !== undefined && fresh !== undefined);
  const source = sourceFrom(store, packs);
  const component = await source.openComponent(fresh.id);
  const base = await source.openComponent(old.id);
  try {
    const clock = steps(step_ms) as Clock;
    const conditions = { bitsPerSecond, cores: 2 };
    const input = { clock, component, bases: [base], packs, conditions };
    return await estimateContents({ ...input, budget_ms: BUDGET_ms });
  } finally {
    await Promise.all([component.reader.close(), base.reader.close()]);
  }
}

test("with enough time everything is made, known and kept for the migration", async () => {
  const { packs, kept } = memoryPacks();
  const first = await estimate(packs, 0);
  assert.equal(first.knownShare, 1);
  assert.ok(first.contents.patchedBytes > 0 && first.contents.missingBytes > 0);
  const keys = [...kept.keys()];
  assert.deepEqual(await estimate(packs, 0), first);
  assert.deepEqual([...kept.keys()], keys);
});

test("with no time a few of each kind are made, and tell about how large the others get", async () => {
  const exact = await estimate(memoryPacks().packs, 0);
  const { packs, kept } = memoryPacks();
  const guess = await estimate(packs, BUDGET_ms / 2);
  assert.ok(guess.knownShare < exact.knownShare);
  assert.ok(kept.size > 0);
  assert.ok(guess.bytes > exact.bytes / 2 && guess.bytes < exact.bytes * 2);
});

test("where the link is quicker than any compression the raw bytes count", async () => {
  const { packs, kept } = memoryPacks();
  const { bytes, contents } = await estimate(packs, 0, SWIFT);
  assert.ok(bytes > contents.patchedBytes + contents.missingBytes);
  assert.equal(kept.size, 0);
});
