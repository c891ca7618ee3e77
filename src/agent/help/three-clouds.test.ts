/** A migration whose components come from a third cloud too. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { bufferSource, canonicalTree, writeErofsFile } from "#image";
import { openRepository, type ComponentStore } from "#repository";
import { TestCloud, twoClouds, type TestFederation } from "../clouds.suite.ts";
import type { Config } from "../config.ts";
import { layoutOf } from "../layout.ts";

const MIB = 2 ** 20;
const FILES = 16;

/** The same random files, so that a component of them is the same everywhere. */
const CONTENTS = Array.from({ length: FILES }, () => randomBytes(MIB));

async function addBig(cloud: TestCloud, store: ComponentStore): Promise<void> {
  const path = join(cloud.root, "big.erofs");
  const common = { mode: 0o644, uid: 0, gid: 0, mtime_s: 1, xattrs: new Map<string, Uint8Array>() };
  const entries = CONTENTS.map(
    (bytes, index) =>
      ({ ...common, path: `f${index}`, type: "file", content: bufferSource(bytes) }) as const,
  );
  await writeErofsFile(cloud.world, canonicalTree(entries), path);
  const file = await cloud.world.files.open(path, "read");
  const { sizeBytes } = await file.status();
  await store.add({
    description: {
      kind: "program",
      name: "big",
      version: "1",
      architecture: "amd64",
      packages: [],
      provides: [],
      requires: [],
      instancePaths: [],
    },
    fragments: [],
    image: {
      sizeBytes,
      read: async (target, position) => {
        await file.read(target, position);
      },
    },
  });
  await file.close();
}

/** A third cloud that holds the big component, which the source has but not the destination. */
async function withThird(
  t: TestContext,
  config: Partial<Config> = {},
): Promise<{ readonly federation: TestFederation; readonly third: TestCloud }> {
  const federation = await twoClouds(t);
  const { clouds, host, cards } = federation;
  const [source] = clouds;
  await addBig(source, source.parts.store);
  const root = join(dirname(source.root), "capri");
  const third = new TestCloud(
    { name: "capri", config },
    root,
    host,
    federation.federation,
    () => cards,
  );
  await mkdir(root, { recursive: true });
  await addBig(third, await openRepository(third.world, layoutOf(root).repository));
  cards.push(third.card());
  t.after(() => third.stop());
  await third.start();
  return { federation, third };
}

test("a third cloud helps, and the receipt says how much", async (t) => {
  const { federation, third } = await withThird(t);
  const [source, destination] = federation.clouds;
  const uuid = await source.machine("big-1", { programs: ["big"] });
  // Over a slow link from the source the help is worth it.
  const id = await source.migrate(uuid, destination.name, 40e6);
  const record = await destination.settled(id);
  assert.equal(record.phase, "completed");
  assert.equal(record.role, "destination");
  const big = await destination.parts.store.resolve("big");
  const bySource = record.role === "destination" ? record.componentSources?.[big.id] : undefined;
  assert.ok((bySource?.[third.name] ?? 0) > MIB, JSON.stringify(bySource));
  assert.deepEqual((await destination.parts.store.verify(big.id)).findings, []);
  // The session at the helper has ended, and nothing stays pinned there.
  while ((await third.parts.store.pins()).size > 0) await new Promise((go) => setImmediate(go));
});

test("who does not help does no harm", async (t) => {
  const help = { enabled: false, sessions: 4, time: 60_000 };
  const { federation } = await withThird(t, { help });
  const [source, destination] = federation.clouds;
  const uuid = await source.machine("big-1", { programs: ["big"] });
  const record = await destination.settled(await source.migrate(uuid, destination.name));
  assert.equal(record.phase, "completed");
});
