/** What is shared by the streams of a session: nobody may wait for what nobody gives back. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import type { DataSource } from "./contract.ts";
import { addTree, openSecond, sourceFrom } from "./components.suite.ts";
import { Clouds, MIB, NO_PACKS, portOf, soon } from "./fixture.suite.ts";

/** At this rate packs are made as small as can be, with as much memory as there is. */
const SLOW = { expectedBitsPerSecond: 1e6 } as const;

/** Fails to read the content on which `first` is decided when so many others have been read. */
function failing(source: DataSource, first: number, others: number): DataSource {
  return {
    ...source,
    packs: NO_PACKS,
    openComponent: async (id) => {
      const opened = await source.openComponent(id);
      const enough = Promise.withResolvers<void>();
      let reads = 0;
      const read: typeof opened.reader.read = async (content, target, offset) => {
        if (content === first) {
          await enough.promise;
          throw new Error("the disk is gone");
        }
        await opened.reader.read(content, target, offset);
        reads += 1;
        if (reads === others) enough.resolve();
      };
      return { ...opened, reader: { read, close: () => opened.reader.close() } };
    },
  };
}

test("a sender whose disk fails says so, though packs that are made hold all memory", async () => {
  await using clouds = await Clouds.start();
  const store = await openSecond(clouds);
  const names = ["b", "c", "d", "e", "f", "g", "h"];
  const files = Object.fromEntries(names.map((name) => [name, randomBytes(15 * MIB)]));
  const component = await addTree(clouds, store, "1", { a: randomBytes(14 * MIB), ...files });
  const { recipe } = await store.recipe(component.id);
  const first = recipe.contents.findIndex(({ sizeBytes }) => sizeBytes === 14 * MIB);
  // Two are made while the first waits; what comes next must wait for their memory.
  const source = failing(sourceFrom(store), first, 2);
  const server = await clouds.serving(source, { ...SLOW, cores: 3 });
  const receiver = clouds.receiving(portOf(server));
  const wanted = recipe.contents.map((_, content) => content);
  const request = { component: component.id, recipe, bases: [], wanted };
  const fetching = receiver.fetchContents(request, () => Promise.resolve(), soon());
  await assert.rejects(fetching, { code: "transfer.source-failed" });
});
