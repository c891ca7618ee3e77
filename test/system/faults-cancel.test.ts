/**
 * `cancel` at every phase, on either side: before the hand-over both sides end as they were, after
 * it the request is refused and the migration completes. Also what comes of a destination that
 * dies and never returns.
 */
import assert from "node:assert/strict";
import { hasCode } from "#core";
import { ALL, chosen, expectEnd, Scene } from "../support/fault-scene.ts";
import { until } from "../support/federation.ts";
import type { Journey, Role } from "../support/journey.ts";

type Place = readonly [Role, string];

const BEFORE: readonly Place[] = [
  ["source", "proposed"],
  ["destination", "accepted"],
  ["source", "serving"],
  ["destination", "composing"],
  ["source", "stopping"],
  ["destination", "prepared"],
  ["source", "frozen"],
  ["destination", "receiving"],
  ["destination", "received"],
];

const AFTER: readonly Place[] = [
  ["source", "handed-over"],
  ["destination", "starting"],
  ["source", "releasing"],
  ["destination", "running"],
  ["source", "released"],
  ["destination", "ready"],
];

const scene = new Scene();

/** Starts a migration and waits until one side stays in a phase. */
async function holdAt(journey: Journey, [role, phase]: Place): Promise<string> {
  const side = journey.side(role);
  side.faults(`hold:${role}:${phase}`);
  const id = await journey.depart();
  assert.ok(id !== undefined);
  await until(`the ${role} is ${phase}`, async () => {
    journey.atMostOne();
    return (await journey.show(side, id))?.state === phase ? true : undefined;
  });
  return id;
}

const isTooLate = (error: unknown): boolean => hasCode(error, "migration.too-late");

for (const place of chosen(BEFORE, (_, index) => index % 2 === 0)) {
  const [role, phase] = place;
  scene.test(`cancel at the ${role} while it is ${phase}`, async (journey) => {
    const id = await holdAt(journey, place);
    const side = journey.side(role);
    const { state, error } = await side.call("migration.cancel", { migration: id });
    side.faults();
    assert.ok(["aborting", "aborted"].includes(state), state);
    assert.equal(error?.code, "migration.cancelled");
    await expectEnd(journey, id, "aborted");
    for (const cloud of [journey.home, journey.away]) {
      const shown = await journey.show(cloud, id);
      if (shown !== undefined) assert.equal(shown.error?.code, "migration.cancelled", cloud.name);
    }
  });
}

for (const place of chosen(AFTER, (_, index) => index < 2)) {
  const [role, phase] = place;
  scene.test(`it is too late to cancel while the ${role} is ${phase}`, async (journey) => {
    const id = await holdAt(journey, place);
    for (const cloud of [journey.home, journey.away]) {
      const seen = (await journey.show(cloud, id))?.state ?? "";
      // The held side's partner may be a step behind, where its own operator may still cancel.
      if (["frozen", "received"].includes(seen)) continue;
      await assert.rejects(cloud.call("migration.cancel", { migration: id }), isTooLate);
    }
    journey.side(role).faults();
    await expectEnd(journey, id, "completed");
  });
}

/** Whatever the moment, the answer to `cancel` and the end agree. */
async function cancelSometime(journey: Journey, role: Role, delay_ms: number): Promise<void> {
  const id = await journey.depart();
  assert.ok(id !== undefined);
  await new Promise((resolve) => setTimeout(resolve, delay_ms));
  const side = journey.side(role);
  const refused = await side.call("migration.cancel", { migration: id }).then(
    () => false,
    (error: unknown) => {
      assert.ok(isTooLate(error) || hasCode(error, "migration.unknown"), String(error));
      return true;
    },
  );
  await expectEnd(journey, id, refused ? "completed" : "aborted");
}

const DELAYS_MS = ALL ? [0, 150, 300, 600, 900, 1200, 1500, 2000, 3000, 4000] : [700];
for (const [index, delay_ms] of DELAYS_MS.entries()) {
  const role: Role = index % 2 === 0 ? "source" : "destination";
  scene.test(`cancel at the ${role} after ${delay_ms} ms`, (journey) =>
    cancelSometime(journey, role, delay_ms),
  );
}
