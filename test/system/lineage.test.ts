/** A real machine that travels to and fro: only the first journey moves its whole user data. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { DiskFormat } from "#core";
import { startFederation, type TestCloud } from "../support/federation.ts";
import { startJourney, type Journey } from "../support/journey.ts";

const MIB = 2 ** 20;
/** A link so quick may carry the few changed blocks of 64 KiB as they are. */
const CHANGES_MAX = MIB / 2;

async function travel(
  journey: Journey,
  how: { readonly format?: DiskFormat } = {},
): Promise<{ bytes: number; lineage: boolean }> {
  const id = await journey.depart(how);
  assert.ok(id !== undefined);
  assert.equal(await journey.settle(id), "completed");
  await journey.assertWhole(id, "completed");
  const { receipt } = (await journey.show(journey.home, id)) ?? {};
  assert.ok(receipt !== undefined);
  const { bytes, lineage = false } = receipt.receipt.userData;
  return { bytes, lineage };
}

test("a machine that comes back moves what it has changed since, also after deaths", async (t) => {
  const federation = await startFederation();
  t.after(() => federation.close());
  const journey = await startJourney(federation, { noiseBytes: 2 * MIB });
  try {
    await toAndFro(journey);
  } catch (error) {
    for (const cloud of [federation.a, federation.b]) t.diagnostic(`${cloud.name}\n${cloud.log()}`);
    throw error;
  }
});

async function toAndFro(journey: Journey): Promise<void> {
  const first = await travel(journey);
  assert.equal(first.lineage, false);
  assert.ok(first.bytes > 2 * MIB);
  const overlay = (cloud: TestCloud): string =>
    join(cloud.root, "machines", journey.uuid, "data.qcow2");
  assert.ok(existsSync(overlay(journey.home)), "it writes to an overlay");

  const back = await travel(journey);
  assert.equal(back.lineage, true);
  assert.ok(back.bytes < CHANGES_MAX, `${back.bytes} bytes came back`);

  // Both clouds have an arrived copy and an overlay now; the destination dies with changes in hand.
  for (const fault of ["after:destination:receiving", "before:destination:received"]) {
    const victim = journey.away;
    victim.faults(fault);
    const id = await journey.depart();
    await victim.died();
    victim.faults();
    await victim.start();
    assert.ok(id !== undefined);
    assert.equal(await journey.settle(id), "completed");
    await journey.assertWhole(id, "completed");
    const { receipt } = (await journey.show(journey.home, id)) ?? {};
    const { bytes, lineage } = receipt?.receipt.userData ?? {};
    // A death after the copy was whole leaves nothing to tell how it came.
    if (fault.startsWith("after")) assert.equal(lineage, true);
    assert.ok((bytes ?? MIB) < CHANGES_MAX, `${bytes} bytes moved after a death`);
  }
  // It boots from another format, with all that it has written.
  const last = await travel(journey, { format: "vmdk" });
  assert.equal(last.lineage, true);
  const { format } = await journey.home.call("machine.show", { machine: journey.uuid });
  assert.equal(format, "vmdk");
  const directory = join(journey.home.root, "machines", journey.uuid);
  assert.ok(existsSync(join(directory, "disk.vmdk")) && !existsSync(join(directory, "data.raw")));
}
