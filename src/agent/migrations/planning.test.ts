/** What plans and progress rest on: samples, kept ratios, the board, the watch. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";
import * as fc from "fast-check";
import type { Digest } from "#core";
import { realWorld } from "#system";
import { createHandlers } from "../handlers/index.ts";
import { sourceRecords } from "../records.suite.ts";
import { twoClouds } from "../clouds.suite.ts";
import { sampleRatio } from "./estimate.ts";
import { ProgressBoard } from "./progress.ts";
import { RatioCache } from "./ratios.ts";

const compress = promisify(zstdCompress);
const MIB = 2 ** 20;
const ID: Digest = `sha256:${"1".repeat(64)}`;

/** An uneven image: noise, text and zeroes in turns of changing length. */
function image(mebibytes: number): Buffer {
  const pieces = Array.from({ length: mebibytes }, (_none, index) => {
    const noise = createHash("shake256", { outputLength: MIB }).update(`${index}`).digest();
    const share = (index * index) % 7;
    if (share === 0) return Buffer.alloc(MIB);
    return Buffer.concat([noise.subarray(0, (share * MIB) / 8), Buffer.alloc(MIB, `${index} `)]);
  });
  return Buffer.concat(pieces.map((piece) => piece.subarray(0, MIB)));
}

function sourceOf(bytes: Buffer) {
  return {
    read: (target: Uint8Array, position: number) => {
      bytes.copy(target, 0, position, position + target.length);
      return Promise.resolve();
    },
  };
}

test("an uneven image is estimated within a tenth", async () => {
  const bytes = image(70);
  let exact = 0;
  for (let at = 0; at < bytes.length; at += MIB) {
    const piece = bytes.subarray(at, at + MIB);
    if (piece.equals(Buffer.alloc(MIB))) continue;
    exact += (await compress(piece, { params: { [constants.ZSTD_c_compressionLevel]: 3 } })).length;
  }
  const all = [{ offset: 0, length: bytes.length }];
  const estimated = (await sampleRatio(sourceOf(bytes), all)) * bytes.length;
  assert.ok(Math.abs(estimated / exact - 1) < 0.1, `${estimated} for ${exact}`);
  const zeroes = await sampleRatio(sourceOf(Buffer.alloc(MIB)), [{ offset: 0, length: MIB }]);
  assert.equal(zeroes, 0);
  assert.equal(await sampleRatio(sourceOf(bytes), []), 0);
  const noise = createHash("shake256", { outputLength: MIB }).update("noise").digest();
  assert.equal(await sampleRatio(sourceOf(noise), [{ offset: 0, length: MIB }]), 1);
});

test("ratios are measured once, kept across restarts, and failures are not", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "tessera-ratios-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "cache", "ratios.json");
  let measured = 0;
  const measure = (): Promise<number> => {
    measured += 1;
    return measured === 1 ? Promise.reject(new Error("no")) : Promise.resolve(0.5);
  };
  const cache = new RatioCache(realWorld(), path);
  await assert.rejects(cache.ratio(ID, measure), /no/);
  const both = await Promise.all([cache.ratio(ID, measure), cache.ratio(ID, measure)]);
  assert.deepEqual([both, measured], [[0.5, 0.5], 2]);
  await new RatioCache(realWorld(), path).ratio(ID, measure);
  assert.equal(measured, 2);
  writeFileSync(path, readFileSync(path, "utf8").slice(0, 20));
  assert.equal(await new RatioCache(realWorld(), path).ratio(ID, measure), 0.5);
  assert.equal(measured, 3);
});

test("the board shows a component as one stream, by its name, and only what moves", () => {
  let now = 0;
  const board = new ProgressBoard({ ...realWorld().clock, monotonic: () => now });
  const [record] = fc.sample(sourceRecords, { numRuns: 1, seed: 7 });
  if (record === undefined) throw new Error("no sample");
  const { id, appliance } = record;
  const { os } = appliance;
  assert.deepEqual(board.streams(record), []);
  let changes = 0;
  const off = board.onChange(id, () => (changes += 1));
  const config: Digest = `sha256:${"c".repeat(64)}`;
  board.own(id, os.id, [config]);
  const report = (stream: string, wireBytes: number, totalBytes = 100) =>
    board.report(id, { stream, doneBytes: 10, totalBytes, wireBytes });
  report(os.manifest.digest, 5);
  report(config, 6);
  report(os.id, 7);
  now = 1000;
  report(os.id, 107);
  report("userData", 1, 50);
  report(`sha256:${"e".repeat(64)}`, 1);
  assert.deepEqual(board.streams(record), [
    { stream: os.id, name: os.name, doneBytes: 30, totalBytes: 300, wireBytes: 118 },
    { stream: "userData", name: "user data", doneBytes: 10, totalBytes: 50, wireBytes: 1 },
  ]);
  assert.equal(board.bitsPerSecond(id), (118 - 5) * 8);
  off();
  const before = changes;
  report(os.id, 200);
  assert.equal(changes, before);
});

test("a plan says what its rate rests on, and a watch sends few and small snapshots", async (t) => {
  const federation = await twoClouds(t, { config: { link: 50e6 } });
  const [messina] = federation.clouds;
  const uuid = await messina.machine();
  const handlers = createHandlers(messina.parts);
  const context = { progress: () => undefined, signal: new AbortController().signal };
  const rate = async (bwlimit?: number) =>
    (
      await handlers["plan.make"](
        { machine: uuid, to: "inquadro", ...(bwlimit === undefined ? {} : { bwlimit }) },
        context,
      )
    ).plan.rate;
  assert.deepEqual(await rate(), { bitsPerSecond: 50e6, from: "offer" });
  assert.deepEqual(await rate(20e6), { bitsPerSecond: 20e6, from: "limit" });
  assert.deepEqual(await rate(50e6), { bitsPerSecond: 50e6, from: "limit" });
  assert.deepEqual(await rate(1e9), { bitsPerSecond: 50e6, from: "offer" });
  const id = await messina.migrate(uuid, "inquadro", 1e9);
  const snapshots: { readonly state: string; readonly streams: readonly unknown[] }[] = [];
  const begin_ms = performance.now();
  const last = await handlers["migration.watch"](
    { migration: id },
    { ...context, progress: (snapshot) => void snapshots.push(snapshot) },
  );
  const took_ms = performance.now() - begin_ms;
  assert.equal(last.outcome, "completed");
  assert.ok(snapshots.length <= 1 + took_ms / 500, `${snapshots.length} in ${took_ms} ms`);
  assert.ok(snapshots.every((snapshot) => JSON.stringify(snapshot).length < 2000));
  const stopped = new AbortController();
  stopped.abort();
  await handlers["migration.watch"]({ migration: id }, { ...context, signal: stopped.signal });
});
