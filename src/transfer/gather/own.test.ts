/** Gathering contents that have much in common, of which nothing is held. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { referenceOf } from "#core";
import { addTree, edited, noise, openSecond, sourceFrom } from "../components.suite.ts";
import { Clouds, MIB, portOf, soon } from "../fixture.suite.ts";
import { gatherComponents } from "./gather.ts";

const CODE = noise("code", 6 * MIB);
const FILES = Object.fromEntries(
  ["check", "dump", "import", "show"].map((name, index) => [
    `usr/bin/tool-${name}`,
    edited(CODE, 300_000 + 1000 * index),
  ]),
);

for (const [count, wireBytesMax] of [
  [1, 13 * MIB],
  [2, 25 * MIB],
] as const) {
  test(`what contents have in common, from sources: ${count}`, async () => {
    await using clouds = await Clouds.start();
    const { store, world } = clouds;
    const sources = [];
    for (let number = 0; number < count; number += 1) {
      const other = await openSecond(clouds, `sender-${number}`);
      await addTree(clouds, other, "1", FILES);
      const offer = { bytesPerSecondMax: 6e6, cores: 1 };
      const receiver = clouds.receiving(portOf(await clouds.serving(sourceFrom(other), offer)));
      const holder = { cloud: `cloud-${number}`, pricePerGB: 0 };
      sources.push({ holder, open: () => receiver, holds: () => true });
    }
    const wanted = await addTree(clouds, await openSecond(clouds, "model"), "1", FILES);
    const report = await gatherComponents(world, {
      store,
      sources,
      references: [referenceOf(wanted)],
      owner: "migration:1",
      signal: soon(),
    });
    const [component] = report.components;
    assert.deepEqual(report.liars, []);
    assert.equal(component?.missingBytes, 24 * MIB);
    assert.equal(component.patchedBytes, 0);
    assert.ok(component.wireBytes < wireBytesMax, `${component.wireBytes} bytes on the wire`);
    assert.deepEqual((await store.verify()).findings, []);
  });
}
