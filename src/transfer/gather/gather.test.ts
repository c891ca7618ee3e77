import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { addFiles, addImage, bytesOf, Clouds, MIB, type Files } from "./gather.suite.ts";
import { gatherComponents } from "./gather.ts";

const SIZES = [1, 100, 4000, 4096, 5000, 70_000, 300_000];

/** Some files; equal numbers have equal contents, also between trees. */
function filesArbitrary(): fc.Arbitrary<Files> {
  const file = fc.tuple(fc.integer({ min: 0, max: 30 }), fc.constantFrom(...SIZES));
  return fc
    .array(file, { maxLength: 14 })
    .map((list) =>
      Object.fromEntries(
        list.map(([number, size], index) => [`f${index}`, bytesOf(`${number}`, size)]),
      ),
    );
}

test("gives equal images for any held components, sources and pieces", async () => {
  const runs = fc.record({
    missing: fc.array(filesArbitrary(), { minLength: 1, maxLength: 3 }),
    held: fc.array(filesArbitrary(), { maxLength: 3 }),
    sources: fc.integer({ min: 1, max: 3 }),
    pieceBytes: fc.constantFrom(777, 4096, 65_536, MIB),
    repeats: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(runs, async ({ missing, held, sources, pieceBytes, repeats }) => {
      await using clouds = await Clouds.start();
      const there = await clouds.store("there");
      const wanted = [];
      for (const [index, files] of missing.entries()) {
        wanted.push(await addFiles(there, `wanted-${index}`, files));
      }
      for (const [index, files] of held.entries()) {
        await addFiles(clouds.here, `held-${index}`, files);
      }
      const offers = Array.from({ length: sources }, (_, index) =>
        clouds.source(`cloud-${index}`, there, { pieceBytes, repeats }),
      );
      const unique = [...new Map(wanted.map((component) => [component.id, component])).values()];
      const report = await gatherComponents(clouds.world, clouds.options(unique, offers));
      assert.deepEqual(report.liars, []);
      for (const { id } of unique) {
        assert.ok(await clouds.here.find(id));
        const digest = createHash("sha256")
          .update(await clouds.image(id))
          .digest("hex");
        assert.equal(`sha256:${digest}`, id);
      }
      const all = [...(await clouds.here.verify()).findings];
      assert.deepEqual(all, []);
    }),
    { numRuns: 6 },
  );
});

test("copies what is held, fetches the rest, and says so", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const common = { a: bytesOf("a", 300_000), b: bytesOf("b", 5000) };
  const held = await addFiles(clouds.here, "nginx", { ...common, old: bytesOf("old", 9000) });
  const files = { ...common, c: bytesOf("c", 200_000) };
  const wanted = await addFiles(there, "nginx", files, "1.0-2");
  const source = clouds.source("there", there);
  const events: number[] = [];
  const onProgress = ({ doneBytes }: { doneBytes: number }): void => void events.push(doneBytes);
  const options = clouds.options([wanted], [source], { onProgress });
  const { components, wireBytes } = await gatherComponents(clouds.world, options);
  const [report] = components;
  assert.equal(report?.heldBytes, 305_000);
  assert.deepEqual(report.copiedFrom, [{ component: held.id, bytes: 305_000 }]);
  assert.equal(report.missingBytes, 200_000);
  assert.equal(report.asBlob, false);
  assert.deepEqual(report.wireBytesBySource, { there: wireBytes });
  assert.ok(wireBytes < 203_000, `${wireBytes} bytes`);
  assert.equal(events.at(-1), wanted.sizeBytes);
  const pins = await clouds.here.pins();
  assert.deepEqual(new Set(pins.get("migration:test")), new Set([wanted.id, held.id]));
  // The repository knows what it is made of, with the sketches.
  assert.deepEqual(
    (await clouds.here.recipe(wanted.id)).sketches,
    (await there.recipe(wanted.id)).sketches,
  );
});

test("asks for nothing when everything is held", async () => {
  await using clouds = await Clouds.start();
  const held = await addFiles(clouds.here, "nginx", { a: bytesOf("a", 10) });
  const source = clouds.source("there", await clouds.store("there"));
  const report = await gatherComponents(clouds.world, clouds.options([held], [source]));
  assert.deepEqual(report, { components: [], wireBytes: 0, liars: [] });
  assert.deepEqual(source.log, { blobs: [], recipes: [], contents: [] });
});

test("gathers an image that is no tree", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const image = bytesOf("opaque", 3 * MIB + 17);
  await addImage(clouds.here, "old", Buffer.concat([image.subarray(0, 2 * MIB), bytesOf("x", 99)]));
  const wanted = await addImage(there, "opaque", image);
  const source = clouds.source("there", there);
  const { components } = await gatherComponents(clouds.world, clouds.options([wanted], [source]));
  assert.ok((components[0]?.heldBytes ?? 0) > MIB);
  assert.ok(image.equals(await clouds.image(wanted.id)));
});

test("shares the contents among sources", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const names = Array.from({ length: 40 }, (_, index) => `f${index}`);
  const files = Object.fromEntries(names.map((name) => [name, bytesOf(name, MIB)]));
  const wanted = await addFiles(there, "big", files);
  // A source that waits lets the others begin.
  const pause = { piece: async (piece: never) => (await clouds.world.clock.sleep(2), piece) };
  const sources = ["a", "b", "c"].map((name) => clouds.source(name, there, pause));
  const { components } = await gatherComponents(clouds.world, clouds.options([wanted], sources));
  const bySource = components[0]?.wireBytesBySource ?? {};
  for (const name of ["a", "b", "c"]) {
    assert.ok((bySource[name] ?? 0) > 4 * MIB, JSON.stringify(bySource));
  }
  const sent = sources.flatMap(({ log }) => log.contents.flatMap((request) => request.wanted));
  assert.equal(new Set(sent).size, sent.length, "a content was asked for twice");
});

test("takes from a source what it would send too slowly", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const names = Array.from({ length: 24 }, (_, index) => `f${index}`);
  const files = Object.fromEntries(names.map((name) => [name, bytesOf(name, MIB)]));
  const wanted = await addFiles(there, "big", files);
  const { clock } = clouds.world;
  // A hundred times as fast as the real one, so that ten seconds are soon over.
  const fast: typeof clock = {
    ...clock,
    monotonic: () => clock.monotonic() * 100,
    after: (wait_ms, callback) => clock.after(wait_ms / 100, callback),
  };
  const drip = {
    piece: async (piece: never) => (await clock.sleep(100), piece),
    pieceBytes: 65_536,
  };
  const sources = [
    clouds.source("quick", there, {}, 10e6),
    clouds.source("slow", there, drip, 10e6),
  ];
  const world = { ...clouds.world, clock: fast };
  const { components } = await gatherComponents(world, clouds.options([wanted], sources));
  const slow = components[0]?.wireBytesBySource["slow"] ?? 0;
  // Half of it was its share.
  assert.ok(slow > 0 && slow < 9 * MIB, `${slow} bytes from the slow source`);
});

test("what several missing components share travels once", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const common = { shared: bytesOf("shared", 2 * MIB), too: bytesOf("too", 9000) };
  const components = [];
  for (const name of ["one", "two", "three"]) {
    const own = { [name]: bytesOf(name, 100_000) };
    components.push(await addFiles(there, name, { ...common, ...own }));
  }
  const source = clouds.source("there", there);
  const report = await gatherComponents(clouds.world, clouds.options(components, [source]));
  const missing = report.components.reduce((sum, { missingBytes }) => sum + missingBytes, 0);
  assert.equal(missing, 2 * MIB + 9000 + 3 * 100_000);
  assert.deepEqual((await clouds.here.verify()).findings, []);
});

test("a gathering that failed leaves nothing in the way of the next", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const common = { shared: bytesOf("shared", 2 * MIB) };
  const one = await addFiles(there, "one", { ...common, one: bytesOf("one", MIB) });
  const two = await addFiles(there, "two", { ...common, two: bytesOf("two", MIB) });
  const source = clouds.source("there", there);
  const [first, second] = [{ ...one, manifest: two.manifest }, two];
  const both = gatherComponents(clouds.world, clouds.options([first, second], [source]));
  await assert.rejects(both, { code: "migration.component-mismatch" });
  const report = await gatherComponents(clouds.world, clouds.options([one, two], [source]));
  assert.ok(report.components.length > 0);
  assert.equal((await clouds.here.list()).length, 2);
});
