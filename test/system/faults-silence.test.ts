/** A destination that dies and never comes back: before the hand-over, and after it. */
import assert from "node:assert/strict";
import { hasCode } from "#core";
import { expectEnd, Scene } from "../support/fault-scene.ts";
import { until, Violation } from "../support/federation.ts";
import type { Journey } from "../support/journey.ts";

const PEER_TIMEOUT_MS = 3000;

const scene = new Scene({ times: { peerTimeout: `${PEER_TIMEOUT_MS}ms` } });

async function killDestinationAt(journey: Journey, phase: string): Promise<string> {
  journey.away.faults(`hold:destination:${phase}`);
  const id = await journey.depart();
  assert.ok(id !== undefined);
  await until(`the destination is ${phase}`, async () =>
    (await journey.show(journey.away, id))?.state === phase ? true : undefined,
  );
  await journey.away.kill();
  return id;
}

/** What only the living side can show: its end, and its machine. */
async function endsAtSource(journey: Journey, id: string): Promise<string | undefined> {
  const { state, error } = await until("the source ends", async () => {
    journey.atMostOne();
    const shown = await journey.show(journey.home, id);
    return shown?.outcome === undefined ? undefined : shown;
  });
  assert.equal(state, "aborted");
  assert.equal(journey.home.guests(journey.uuid).length, 1);
  return error?.code;
}

scene.test("before the hand-over the source goes on with its machine", async (journey) => {
  const id = await killDestinationAt(journey, "receiving");
  assert.equal(await endsAtSource(journey, id), "migration.peer-silent");
  // It may return much later: it learns how it ended, and keeps nothing.
  journey.away.faults();
  await journey.away.start();
  await expectEnd(journey, id, "aborted");
});

scene.test("after the hand-over the machine waits until its operator decides", async (journey) => {
  const id = await killDestinationAt(journey, "starting");
  const { home, uuid } = journey;
  await until("the source has handed over", async () =>
    (await journey.show(home, id))?.state === "handed-over" ? true : undefined,
  );
  const end_ms = performance.now() + 3 * PEER_TIMEOUT_MS;
  await until("three times the time-out have passed", async () => {
    const state = (await journey.show(home, id))?.state;
    if (state !== "handed-over") throw new Violation(`the source is ${state}`);
    if (home.guests(uuid).length > 0) throw new Violation("the source runs the machine");
    return performance.now() > end_ms ? true : undefined;
  });
  await assert.rejects(home.call("machine.start", { machine: uuid }), (error) =>
    hasCode(error, "agent.machine-migrating"),
  );
  const decision = { migration: id, outcome: "keep-here", fenced: true } as const;
  await home.call("migration.resolve", decision);
  assert.equal(await endsAtSource(journey, id), "migration.resolved");
  assert.ok((await journey.records()).length > 0);
});
