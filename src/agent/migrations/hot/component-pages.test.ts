import assert from "node:assert/strict";
import { test } from "node:test";
import type { Digest } from "#core";
import { sourceRecords } from "../../records.suite.ts";
import { ComponentPagesIndex } from "./component-pages.ts";
import * as fc from "fast-check";

const PAGE_BYTES = 4096;

/** A store of images of one page, each of another byte, that counts what is open. */
function counted(missing?: Digest) {
  const state = { open: 0, opened: 0 };
  const openBlob = (id: Digest) => {
    if (id === missing) return Promise.reject(new Error("missing"));
    state.open += 1;
    const byte = (state.opened += 1);
    return Promise.resolve({
      sizeBytes: PAGE_BYTES,
      read: (target: Uint8Array) => {
        target.fill(byte);
        return Promise.resolve();
      },
      close: () => {
        state.open -= 1;
        return Promise.resolve();
      },
    });
  };
  return { state, store: { openBlob } };
}

const [record] = fc.sample(sourceRecords, { numRuns: 1, seed: 7 });
if (record === undefined) throw new Error("no sample");
const { appliance } = record;

test("images are open until the index is closed, which may be read again", async () => {
  const { state, store } = counted();
  const pages = new ComponentPagesIndex(store);
  const index = await pages.read(appliance);
  assert.equal(await pages.read(appliance), index);
  assert.ok(state.open >= 2);
  const found = await index.find(Buffer.alloc(PAGE_BYTES, 2));
  assert.deepEqual(found, { component: 1, page: 0 });
  await pages.close();
  assert.equal(state.open, 0);
  await pages.read(appliance);
  assert.ok(state.open >= 2);
  await pages.close();
  assert.equal(state.open, 0);
});

test("an image that is missing leaves none open, nor does closing while it reads", async () => {
  const { state, store } = counted(appliance.os.id);
  const pages = new ComponentPagesIndex(store);
  await assert.rejects(pages.read(appliance), /missing/);
  assert.equal(state.open, 0);
  const other = counted();
  const begun = new ComponentPagesIndex(other.store);
  const reading = begun.read(appliance).catch(() => undefined);
  await begun.close();
  await reading;
  assert.equal(other.state.open, 0);
});
