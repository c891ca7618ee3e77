/**
 * Machines that move between two clouds while they run: agents, hypervisors and guests are real. The
 * guest writes numbered records to its disk, each with fsync, and acknowledges them on its console.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { hasCode, type MemoryMethod, type Receipt, type StorageMethod } from "#core";
import { Scene, SHARED, expectEnd } from "../support/fault-scene.ts";
import type { Journey } from "../support/journey.ts";

/** More than a guest of records writes: what has not changed of it must not come back. */
const NOISE_BYTES = 16 * 2 ** 20;

const LATER_MS = 3000;

const scene = new Scene(SHARED, { noiseBytes: NOISE_BYTES });

interface Way {
  readonly memory: MemoryMethod;
  readonly storage: StorageMethod;
  readonly at_ms?: number;
}

/** Moves the machine while it runs; the guest is not booted anew. Gives the receipt. */
async function move(journey: Journey, how: Way): Promise<Receipt> {
  const boots = (): string[] => [...new Set(journey.acknowledged().map(({ boot }) => boot))];
  assert.equal(boots().length, 1);
  const id = await journey.depart({ mode: "hot", ...how });
  assert.ok(id !== undefined);
  await expectEnd(journey, id, "completed");
  assert.equal(boots().length, 1, "the guest has not been booted anew");
  const receipt = (await journey.show(journey.home, id))?.receipt?.receipt;
  assert.equal(receipt?.mode, "hot");
  const { pause_ms, storage } = receipt.hot ?? assert.fail("a hot migration has its own report");
  const { status, token, resume } = pause_ms;
  assert.ok(Math.abs(status + token + resume - receipt.downtime_ms) < 1, "the parts are the whole");
  assert.equal(storage.method, how.storage);
  return receipt;
}

const WAYS: readonly (Way & { readonly later?: true })[] = [
  { memory: "precopy", storage: "shared" },
  { memory: "auto", storage: "pull" },
  { memory: "precopy", storage: "hybrid", later: true },
  { memory: "postcopy", storage: "push" },
];

for (const { later, ...way } of WAYS) {
  scene.test(`a machine moves while it runs: ${way.memory}, ${way.storage}`, async (journey, t) => {
    const how: Way = later === true ? { ...way, at_ms: Date.now() + LATER_MS } : way;
    const receipt = await move(journey, how);
    t.diagnostic(JSON.stringify({ downtime_ms: receipt.downtime_ms, ...receipt.hot }));
    const entries = (await journey.show(journey.away, receipt.migration))?.journal ?? [];
    const moving = entries.find(({ state }) => state === "moving");
    assert.ok((moving?.at_ms ?? 0) >= (how.at_ms ?? 0), "memory does not flow before its time");
    const { memory, storage } = receipt.hot ?? assert.fail();
    // Where little is left after the first pass, post-copy would not shorten the pause.
    if (how.memory === "precopy") assert.equal(memory.method, "precopy");
    assert.ok(memory.componentPages > 0, "pages of components went as references");
    const ahead = how.storage === "hybrid" || how.storage === "push";
    assert.equal(storage.passes > 0, ahead);
    // The last way leads back, to the copy that the one before has left.
    const { bytes, lineage = false } = receipt.userData;
    assert.equal(lineage, how.storage === "push");
    const all = how.storage === "hybrid" || how.storage === "pull";
    assert.equal(bytes > NOISE_BYTES, all, `${bytes} bytes of user data`);
    // Where its file is no longer shared, nothing of it is left there.
    const { base } = journey.federation;
    const shared = how.storage === "shared" ? [`${journey.uuid}.raw`] : [];
    assert.deepEqual(readdirSync(join(base, "shared")), shared);
    if (how.storage === "pull") assert.ok(storage.backgroundBytes + storage.demandedBytes > 0);
  });
}

scene.test(
  "a machine moves warm, there and back, to the copies that were left",
  async (journey) => {
    // It came hot and writes to a plain file; the second time it writes to an overlay.
    for (const way of ["there", "back"]) {
      const id = await journey.depart({ mode: "warm" });
      assert.ok(id !== undefined);
      await expectEnd(journey, id, "completed");
      const receipt = (await journey.show(journey.home, id))?.receipt?.receipt;
      assert.deepEqual([receipt?.mode, receipt?.stop], ["warm", "graceful"], way);
      const { bytes = NOISE_BYTES, lineage } = receipt?.userData ?? {};
      assert.equal(lineage, true, way);
      assert.ok(bytes < NOISE_BYTES, `${way}: ${bytes} bytes of user data`);
    }
  },
);

scene.test("a machine that does not run is refused by name", async ({ home, away, uuid }) => {
  await home.call("machine.stop", { machine: uuid });
  const wanted = { machine: uuid, to: away.name, mode: "hot" } as const;
  await assert.rejects(
    home.call("migration.start", wanted),
    (error) => hasCode(error, "migration.machine-stopped") && /while it runs/.test(String(error)),
  );
  await home.call("machine.start", { machine: uuid });
});
