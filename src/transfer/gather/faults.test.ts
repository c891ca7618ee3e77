import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { hasCode, TesseraError, type Component, type Digest } from "#core";
import { openRepository, type ComponentStore } from "#repository";
import type { ContentPiece } from "../contract.ts";
import type { GatherReport, GatherSource } from "./contract.ts";
import {
  addFiles,
  bytesOf,
  changed,
  Clouds,
  MIB,
  notOffered,
  type Behaviour,
  type TestSource,
} from "./gather.suite.ts";
import { gatherComponents } from "./gather.ts";

const FILES = {
  a: bytesOf("a", 3 * MIB),
  b: bytesOf("b", 5000),
  c: bytesOf("c", 70_000),
};

interface Scene {
  readonly clouds: Clouds;
  readonly there: ComponentStore;
  readonly wanted: Component;
}

async function scene(): Promise<Scene & AsyncDisposable> {
  const clouds = await Clouds.start();
  const there = await clouds.store("there");
  const wanted = await addFiles(there, "nginx", FILES);
  return { clouds, there, wanted, [Symbol.asyncDispose]: () => clouds[Symbol.asyncDispose]() };
}

async function gather(
  { clouds, wanted }: Scene,
  sources: readonly GatherSource[],
  more: Parameters<Clouds["options"]>[2] = {},
): Promise<GatherReport> {
  const report = await gatherComponents(clouds.world, clouds.options([wanted], sources, more));
  assert.deepEqual((await clouds.here.verify()).findings, []);
  assert.ok(await clouds.here.find(wanted.id));
  return report;
}

/** The liar is asked first, as the faster one. */
function liarAndHonest(
  { clouds, there }: Scene,
  lie: Behaviour,
): { readonly liar: TestSource; readonly honest: TestSource } {
  const honest = clouds.source("honest", there, {}, 1e6);
  return { honest, liar: clouds.source("liar", there, lie, 1e9) };
}

function named(report: GatherReport): (readonly [string, string])[] {
  return report.liars.map(({ cloud, error }) => [cloud, error.code] as const);
}

function flip(piece: ContentPiece): ContentPiece {
  const bytes = Uint8Array.from(piece.bytes);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  return { ...piece, bytes };
}

function flipSecond(piece: ContentPiece): ContentPiece {
  return piece.offset === MIB ? flip(piece) : piece;
}

function renumber(piece: ContentPiece): ContentPiece {
  return { ...piece, content: 99 };
}

function dieAfterOne(piece: ContentPiece): ContentPiece {
  if (piece.offset === 0) return piece;
  throw new TesseraError("peer", "transfer.link-lost", "the link is gone");
}

async function withoutRecipes(what: string, id: Digest): Promise<void> {
  if (what === "recipe") throw notOffered(id);
}

async function refuse(_: string, id: Digest): Promise<void> {
  throw notOffered(id);
}

async function lost(): Promise<void> {
  throw new TesseraError("peer", "transfer.unreachable", "nobody answers");
}

async function damaged(): Promise<void> {
  throw new TesseraError("corrupt", "repository.blob-corrupt", "damaged");
}

test("names a source that sends a wrong content, and fetches it elsewhere", async () => {
  await using there = await scene();
  const { liar, honest } = liarAndHonest(there, { piece: flip });
  const report = await gather(there, [honest, liar]);
  assert.deepEqual(named(report), [["liar", "transfer.source-lied"]]);
  assert.equal(report.components[0]?.asBlob, false);
  assert.equal(liar.log.contents.length, 1, "it was asked again");
});

test("names a source whose content is wrong in the middle of many pieces", async () => {
  await using there = await scene();
  const { liar, honest } = liarAndHonest(there, { piece: flipSecond, pieceBytes: MIB / 2 });
  assert.deepEqual(named(await gather(there, [honest, liar])), [["liar", "transfer.source-lied"]]);
});

test("names a source that sends what was not asked for", async () => {
  await using there = await scene();
  const { liar, honest } = liarAndHonest(there, { piece: renumber });
  assert.deepEqual(named(await gather(there, [honest, liar])), [["liar", "transfer.source-lied"]]);
});

test("names a source whose recipe leads to another image", async () => {
  await using there = await scene();
  // Equal contents and size, another layout: only the image's digest shows the lie.
  const false_ = await addFiles(there.there, "false", { a: FILES.a, b: FILES.b, d: FILES.c });
  assert.equal(false_.sizeBytes, there.wanted.sizeBytes);
  const { liar, honest } = liarAndHonest(there, { recipeOf: () => false_.id });
  const report = await gather(there, [honest, liar]);
  assert.deepEqual(named(report), [["liar", "transfer.source-lied"]]);
  assert.equal(report.components[0]?.asBlob, false);
});

test("names a source whose recipe has another size", async () => {
  await using there = await scene();
  const other = await addFiles(there.there, "other", { a: bytesOf("x", 10) });
  const { liar, honest } = liarAndHonest(there, { recipeOf: () => other.id });
  const report = await gather(there, [honest, liar]);
  assert.deepEqual(named(report), [["liar", "transfer.source-lied"]]);
  assert.deepEqual(liar.log.contents, []);
});

test("names a second source with a false recipe once the image is proven", async () => {
  await using there = await scene();
  const files = Object.fromEntries(
    Array.from({ length: 12 }, (_, index) => [`f${index}`, bytesOf(`${index}`, MIB)]),
  );
  const wanted = await addFiles(there.there, "big", files);
  const false_ = await addFiles(there.there, "false", { ...files, f0: bytesOf("0'", MIB) });
  const liar = there.clouds.source("liar", there.there, { recipeOf: () => false_.id }, 8e6);
  const asked = async (what: string): Promise<void> => {
    // The honest one begins only when the other's recipe has been seen.
    if (what !== "contents") return;
    while (liar.log.recipes.length === 0) await there.clouds.world.clock.sleep(1);
    await there.clouds.world.clock.sleep(20);
  };
  const honest = there.clouds.source("honest", there.there, { asked }, 10e6);
  const report = await gather({ ...there, wanted }, [honest, liar]);
  assert.deepEqual(named(report), [["liar", "transfer.source-lied"]]);
  assert.deepEqual(liar.log.contents, []);
});

test("takes the image as a blob when its only source has a false recipe", async () => {
  await using there = await scene();
  const false_ = await addFiles(there.there, "false", { a: FILES.a, b: FILES.b, d: FILES.c });
  const source = there.clouds.source("main", there.there, { recipeOf: () => false_.id });
  const report = await gather(there, [source]);
  assert.deepEqual(named(report), [["main", "transfer.source-lied"]]);
  assert.equal(report.components[0]?.asBlob, true);
});

test("takes the image as a blob where nobody gives a recipe", async () => {
  await using there = await scene();
  const source = there.clouds.source("main", there.there, { asked: withoutRecipes });
  const report = await gather(there, [source]);
  assert.equal(report.components[0]?.asBlob, true);
  assert.deepEqual(report.liars, []);
});

test("goes on with another source when one dies in the middle", async () => {
  await using there = await scene();
  const { liar, honest } = liarAndHonest(there, { piece: dieAfterOne, pieceBytes: MIB });
  const report = await gather(there, [honest, liar]);
  assert.deepEqual(report.liars, []);
  assert.equal(honest.log.contents.length, 1);
});

test("fails when no source is left, with the causes", async () => {
  await using there = await scene();
  const sources = [
    there.clouds.source("a", there.there, { asked: refuse }),
    there.clouds.source("b", there.there, { asked: lost }),
  ];
  await assert.rejects(gather(there, sources), (error) => {
    assert.ok(hasCode(error, "transfer.no-source"));
    assert.match(error.message, /a: transfer\.not-offered, b: transfer\.unreachable/);
    return true;
  });
});

test("refuses a manifest of another component", async () => {
  await using there = await scene();
  const other = await addFiles(there.there, "other", { a: bytesOf("x", 10) });
  const wanted = { ...there.wanted, manifest: other.manifest };
  const source = there.clouds.source("main", there.there);
  const gathering = gather({ ...there, wanted }, [source]);
  await assert.rejects(gathering, { code: "migration.component-mismatch" });
  assert.deepEqual(await there.clouds.here.list(), []);
});

test("fetches what a held component had when that cannot be read", async () => {
  await using there = await scene();
  const { clouds } = there;
  const base = await addFiles(clouds.here, "nginx", { a: FILES.a }, "0.9-1");
  const here = changed(clouds.here, {
    openBlob: async (id) => {
      const reader = await clouds.here.openBlob(id);
      if (id !== base.id) return reader;
      return { ...reader, read: damaged };
    },
  });
  const source = clouds.source("main", there.there);
  const report = await gather(there, [source], { store: here });
  assert.equal(report.components[0]?.heldBytes, 0);
  assert.equal(report.components[0]?.missingBytes, 3 * MIB + 75_000);
});

test("fetches what was found in a component that is gone since", async () => {
  await using there = await scene();
  const { clouds } = there;
  const gone = { component: there.wanted.id, content: 0, digest: new Uint8Array(32) };
  const here = changed(clouds.here, {
    locate: (contents) => Promise.resolve(contents.map(() => gone)),
  });
  const report = await gather(there, [clouds.source("main", there.there)], { store: here });
  assert.equal(report.components[0]?.heldBytes, 0);
});

test("keeps what it copies from against collection and removal", async () => {
  await using there = await scene();
  const { clouds } = there;
  const base = await addFiles(clouds.here, "nginx", { a: FILES.a }, "0.9-1");
  const asked = async (what: string): Promise<void> => {
    if (what !== "contents") return;
    await assert.rejects(clouds.here.remove(base.id), { code: "repository.component-pinned" });
    await clouds.here.collect({ dryRun: false });
  };
  const report = await gather(there, [clouds.source("main", there.there, { asked })]);
  assert.equal(report.components[0]?.heldBytes, 3 * MIB);
});

test("blames nobody when a held component is unsound, and goes on without it", async () => {
  await using there = await scene();
  const { clouds } = there;
  const base = await addFiles(clouds.here, "nginx", { a: FILES.a }, "0.9-1");
  // Damage that neither size nor times tell of, as a failing disk's.
  const here = changed(clouds.here, {
    openBlob: async (id) => {
      const reader = await clouds.here.openBlob(id);
      if (id !== base.id) return reader;
      const read = async (target: Uint8Array, position: number): Promise<void> => {
        await reader.read(target, position);
        target.fill(1);
      };
      return { ...reader, read };
    },
    verify: async () => ({
      components: 1,
      blobs: 1,
      bytes: 1,
      findings: [{ digest: base.id, problem: "digest" }],
    }),
  });
  const report = await gather(there, [clouds.source("main", there.there)], { store: here });
  assert.deepEqual(report.liars, []);
  assert.equal(report.components[0]?.heldBytes, 0);
  assert.equal(report.components[0]?.asBlob, false);
});

test("tells of a full disk and blames nobody for it", async () => {
  await using there = await scene();
  const { clouds } = there;
  const real = clouds.world.files;
  let full = false;
  const files = {
    ...real,
    open: async (...parameters: Parameters<typeof real.open>) => {
      const file = await real.open(...parameters);
      const write = async (source: Uint8Array, position: number): Promise<void> => {
        if (!full || source.length < 4096) return await file.write(source, position);
        throw new TesseraError("environment", "system.disk-full", "no space");
      };
      return { ...file, write };
    },
  };
  const store = await openRepository({ ...clouds.world, files }, join(clouds.directory, "here"));
  const asked = async (what: string): Promise<void> => void (full ||= what === "contents");
  const sources = ["a", "b"].map((name) => clouds.source(name, there.there, { asked }));
  await assert.rejects(gather(there, sources, { store }), { code: "repository.no-space" });
  full = false;
  const again = await gather(there, [clouds.source("c", there.there)], { store });
  assert.deepEqual(again.liars, []);
});

test("two that want one component fetch it once", async () => {
  await using there = await scene();
  const { clouds } = there;
  const other = await clouds.store("here");
  const piece = async (part: ContentPiece) => (await clouds.world.clock.sleep(5), part);
  const sources = ["a", "b"].map((name) =>
    clouds.source(name, there.there, { piece, pieceBytes: MIB / 2 }),
  );
  const reports = await Promise.all([
    gather(there, sources.slice(0, 1), { owner: "migration:1" }),
    gather(there, sources.slice(1), { owner: "migration:2", store: other }),
  ]);
  const missing = new Set(reports.map(({ components }) => components[0]?.missingBytes));
  assert.deepEqual(missing, new Set([0, 3 * MIB + 75_000]));
});

test("components that wait for one whose source lied do not keep it from beginning anew", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const shared = bytesOf("shared", MIB);
  const first = await addFiles(there, "first", { a: FILES.a, b: FILES.b, shared });
  const false_ = await addFiles(there, "false", { a: FILES.a, b: FILES.b, sharee: shared });
  assert.equal(false_.sizeBytes, first.sizeBytes);
  const others = await Promise.all(
    ["x", "y"].map((name) => addFiles(there, name, { [name]: bytesOf(name, 9000), shared })),
  );
  const began = Promise.withResolvers<void>();
  const waiting = Promise.withResolvers<void>();
  const asked: Behaviour["asked"] = async (what, id) => {
    if (what === "contents" && id === first.id) {
      began.resolve();
      await waiting.promise;
    } else if (what === "recipe" && id !== first.id) await began.promise;
    // One of the others waits for what the first brings, the last one for its turn.
    else if (what === "contents") setTimeout(() => waiting.resolve(), 50);
  };
  const recipeOf = (id: Digest): Digest => (id === first.id ? false_.id : id);
  const liar = clouds.source("liar", there, { asked, recipeOf }, 10e6);
  const honest = clouds.source("honest", there, {}, 8e6);
  const options = clouds.options([first, ...others], [liar, honest], {
    signal: AbortSignal.timeout(20_000),
  });
  const report = await gatherComponents(clouds.world, options);
  assert.deepEqual(named(report), [["liar", "transfer.source-lied"]]);
  assert.deepEqual((await clouds.here.verify()).findings, []);
});
