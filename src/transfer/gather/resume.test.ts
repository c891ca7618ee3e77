import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import * as fc from "fast-check";
import { TesseraError, type Component } from "#core";
import type { ComponentStore } from "#repository";
import { addFiles, bytesOf, Clouds, MIB } from "./gather.suite.ts";
import { gatherComponents } from "./gather.ts";
import { checkHeld } from "../held-parts.ts";
import { decodeState, encodeState } from "./state.ts";

const SENT_TWICE_MAX = 8 * MIB;

function manyFiles(): Record<string, Buffer> {
  const names = Array.from({ length: 60 }, (_, index) => `f${index}`);
  return Object.fromEntries(names.map((name) => [name, bytesOf(name, MIB / 2 + 7)]));
}

const SIZE = 1000;

/** Which of some contents are whole, and two parts of some of the others. */
const states = fc.array(fc.constantFrom(0, 1), { maxLength: 300 }).map((list) => {
  const parts = [...list.keys()]
    .filter((content) => list[content] === 0)
    .slice(0, 16)
    .flatMap((content) => [
      { content, offset: content, length: 1 },
      { content, offset: content + 2, length: SIZE - content - 2 },
    ]);
  return { whole: Uint8Array.from(list), parts };
});

function sizes(count: number) {
  return Array.from({ length: count }, () => ({ sizeBytes: SIZE }));
}

test("a state gives back what is there, for its recipe only", () => {
  const recipe = bytesOf("recipe", 32);
  fc.assert(
    fc.property(states, (before) => {
      const state = encodeState(recipe, before);
      const contents = sizes(before.whole.length);
      assert.deepEqual(decodeState(state, recipe, contents), before);
      assert.equal(decodeState(state, bytesOf("other", 32), contents), undefined);
    }),
  );
});

test("any bytes are a sound state or none", () => {
  const recipe = bytesOf("recipe", 32);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(1000), (bytes, count) => {
      for (const state of [bytes, Buffer.concat([Buffer.of(2), recipe, bytes])]) {
        const known = decodeState(state, recipe, sizes(count));
        if (known === undefined) continue;
        assert.equal(known.whole.length, count);
        checkHeld(known.parts, (content) => (known.whole[content] === 0 ? SIZE : undefined));
      }
    }),
  );
});

test("goes on after kill -9 with what was there", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const wanted = await addFiles(there, "big", manyFiles());
  const program = join(import.meta.dirname, "killed.suite.ts");
  const child = spawn(process.execPath, [program, clouds.directory, wanted.id], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let sentBytes = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    sentBytes = Number(line);
    if (sentBytes > 20 * MIB) break;
  }
  child.kill("SIGKILL");
  await once(child, "exit");
  const source = clouds.source("there", there);
  const { components } = await gatherComponents(clouds.world, clouds.options([wanted], [source]));
  const missing = components[0]?.missingBytes ?? 0;
  const all = 60 * (MIB / 2 + 7);
  assert.ok(missing <= all - sentBytes + SENT_TWICE_MAX, `${missing} of ${all} after ${sentBytes}`);
  assert.deepEqual((await clouds.here.verify()).findings, []);
});

test("goes on after an abort with all that came", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const wanted = await addFiles(there, "big", manyFiles());
  const stop = new AbortController();
  let pieces = 0;
  const source = clouds.source("there", there, {
    piece: (piece) => {
      pieces += 1;
      if (pieces === 30) stop.abort(new Error("cancelled"));
      return piece;
    },
  });
  const gathering = gatherComponents(
    clouds.world,
    clouds.options([wanted], [source], { signal: stop.signal }),
  );
  await assert.rejects(gathering, { message: "cancelled" });
  assert.deepEqual(await clouds.here.list(), []);
  const again = clouds.source("there", there);
  const { components } = await gatherComponents(clouds.world, clouds.options([wanted], [again]));
  // All that came before the abort is kept, as there was time to.
  assert.equal(components[0]?.missingBytes, 30 * (MIB / 2 + 7));
});

/** Overwrites the beginning of a content in an assembly that nobody works on. */
async function damage(
  { here }: Clouds,
  there: ComponentStore,
  { id, sizeBytes }: Component,
  content = 0,
): Promise<void> {
  const assembly = await here.assemble({ digest: id, sizeBytes });
  assert.ok(assembly?.state);
  const { recipe } = await there.recipe(id);
  await assembly.write(new Uint8Array(100), recipe.places(content)[0]?.[0]?.position ?? 0);
  await assembly.release();
}

test("a damaged part is found when a fetch goes on", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const files = manyFiles();
  const wanted = await addFiles(there, "big", files);
  const stop = new AbortController();
  let pieces = 0;
  const source = clouds.source("there", there, {
    piece: (piece) => {
      pieces += 1;
      if (pieces === 30) stop.abort(new Error("cancelled"));
      return piece;
    },
  });
  const options = clouds.options([wanted], [source], { signal: stop.signal });
  await assert.rejects(gatherComponents(clouds.world, options), { message: "cancelled" });
  await damage(clouds, there, wanted, 3);
  const again = clouds.source("there", there);
  const { components } = await gatherComponents(clouds.world, clouds.options([wanted], [again]));
  assert.equal(components[0]?.missingBytes, 31 * (MIB / 2 + 7));
});

for (const damaged of [false, true]) {
  test(`a part of a content is gone on with${damaged ? ", or given up when damaged" : ""}`, async () => {
    await using clouds = await Clouds.start();
    const there = await clouds.store("there");
    const wanted = await addFiles(there, "big", { large: bytesOf("large", 20 * MIB) });
    const stop = new AbortController();
    let pieces = 0;
    const source = clouds.source("there", there, {
      piece: (piece) => {
        pieces += 1;
        if (pieces === 12) stop.abort(new Error("cancelled"));
        return piece;
      },
    });
    const options = clouds.options([wanted], [source], { signal: stop.signal });
    await assert.rejects(gatherComponents(clouds.world, options), { message: "cancelled" });
    if (damaged) await damage(clouds, there, wanted);
    const again = clouds.source("there", there);
    const report = await gatherComponents(clouds.world, clouds.options([wanted], [again]));
    // The rest alone, or the rest and then the whole.
    const missing = damaged ? 8 * MIB + 20 * MIB : 8 * MIB;
    assert.equal(report.components[0]?.missingBytes, missing);
    assert.deepEqual(report.liars, []);
    assert.deepEqual((await clouds.here.verify()).findings, []);
  });
}

test("what came is kept when the only source is gone", async () => {
  await using clouds = await Clouds.start();
  const there = await clouds.store("there");
  const wanted = await addFiles(there, "big", manyFiles());
  const lost = new TesseraError("peer", "transfer.token-refused", "it was restarted");
  let pieces = 0;
  const dying = clouds.source("there", there, {
    piece: (piece) => {
      pieces += 1;
      if (pieces > 30) throw lost;
      return piece;
    },
  });
  const deaf = clouds.source("there", there, { asked: () => Promise.reject(lost) });
  for (const source of [dying, deaf]) {
    const gathering = gatherComponents(clouds.world, clouds.options([wanted], [source]));
    await assert.rejects(gathering, { code: "transfer.token-refused" });
  }
  const again = clouds.source("there", there);
  const { components } = await gatherComponents(clouds.world, clouds.options([wanted], [again]));
  assert.equal(components[0]?.missingBytes, 30 * (MIB / 2 + 7));
});
