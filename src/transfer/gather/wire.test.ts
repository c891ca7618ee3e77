/** Gathering over the data protocol, between real repositories. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { referenceOf } from "#core";
import { addTree, edited, noise, openSecond, sourceFrom } from "../components.suite.ts";
import { Clouds, MIB, portOf, soon } from "../fixture.suite.ts";
import { gatherComponents } from "./gather.ts";

test("an update crosses the wire as patches, from two sources", async () => {
  await using clouds = await Clouds.start();
  const { store, world } = clouds;
  const other = await openSecond(clouds);
  const third = await openSecond(clouds, "third");
  const [big, kept, many] = [noise("big", MIB), noise("kept", 500_000), noise("many", 12 * MIB)];
  const parts = Object.fromEntries(
    Array.from({ length: 12 }, (_, index) => [
      `part-${index}`,
      many.subarray(index * MIB, (index + 1) * MIB),
    ]),
  );
  const before = { kept, "lib.so": big };
  const after = { kept, "lib.so": edited(big, 50_000), ...parts };
  const base = await addTree(clouds, store, "1.0-1", before);
  for (const one of [other, third]) await addTree(clouds, one, "1.0-1", before);
  const wanted = await addTree(clouds, other, "1.0-2", after);
  await addTree(clouds, third, "1.0-2", after);

  // On a quick link nothing would be compared.
  const offer = { expectedBitsPerSecond: 50e6 };
  const servers = [
    await clouds.serving(sourceFrom(other), offer),
    await clouds.serving(sourceFrom(third), offer),
  ];
  const receivers = servers.map((server) => clouds.receiving(portOf(server)));
  const sources = receivers.map((receiver, index) => ({
    holder: { cloud: `cloud-${index}`, pricePerGB: 0 },
    open: () => receiver,
    holds: () => true,
  }));
  const report = await gatherComponents(world, {
    store,
    sources,
    references: [referenceOf(wanted)],
    owner: "migration:1",
    signal: soon(),
  });
  const [component] = report.components;
  assert.deepEqual(report.liars, []);
  assert.deepEqual(component?.copiedFrom, [{ component: base.id, bytes: 500_000 }]);
  assert.equal(component.missingBytes, 13 * MIB);
  assert.ok(component.patchedBytes >= MIB, `${component.patchedBytes} bytes patched`);
  assert.ok(component.wireBytes < 12.2 * MIB, `${component.wireBytes} bytes on the wire`);
  // Credit and keepalive may follow the last byte of a component.
  const all = receivers.reduce((sum, receiver) => sum + receiver.wireBytes(), 0);
  assert.ok(
    report.wireBytes <= all && all - report.wireBytes < 2000,
    `${report.wireBytes}, ${all}`,
  );
  assert.deepEqual((await store.verify()).findings, []);
  assert.ok(await store.find(wanted.id));
});

test("another source goes on when one is gone for good", async () => {
  await using clouds = await Clouds.start();
  const { store, world } = clouds;
  const other = await openSecond(clouds);
  const files = Object.fromEntries(
    Array.from({ length: 16 }, (_, index) => [`part-${index}`, noise(`${index}`, MIB)]),
  );
  const wanted = await addTree(clouds, other, "1.0-1", files);
  const stays = await clouds.serving(sourceFrom(other));
  const leaves = await clouds.serving(sourceFrom(other));
  const receivers = [stays, leaves].map((server) => clouds.receiving(portOf(server)));
  let gone: Promise<void> | undefined;
  const report = await gatherComponents(world, {
    store,
    sources: receivers.map((receiver, index) => ({
      holder: { cloud: index === 0 ? "stays" : "leaves", pricePerGB: 0, bitsPerSecond: 10e6 },
      open: () => receiver,
      holds: () => true,
    })),
    references: [referenceOf(wanted)],
    owner: "migration:1",
    signal: soon(),
    stall_ms: 500,
    onProgress: ({ source }) => {
      if (source === "leaves") gone ??= leaves.close();
    },
  });
  assert.ok(gone, "it was never asked");
  await gone;
  assert.deepEqual(report.liars, []);
  assert.deepEqual((await store.verify()).findings, []);
  assert.ok(await store.find(wanted.id));
});
