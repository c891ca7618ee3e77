/** What travels twice for each kind of stream when its connection is cut, wherever that is. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import type { Component, Digest } from "#core";
import type { ComponentStore } from "#repository";
import type { DataReceiver, DataSource } from "./contract.ts";
import {
  Contents,
  addTree,
  headOf,
  memoryPacks,
  noise,
  openSecond,
  sourceFrom,
} from "./components.suite.ts";
import {
  Clouds,
  MIB,
  deviceWith,
  memoryResume,
  portOf,
  readerOf,
  referenceTo,
  soon,
} from "./fixture.suite.ts";
import { startRelay } from "./relay.suite.ts";

const SENT_TWICE_MAX = 8 * MIB;
const QUICK = { backoffMin_ms: 1, backoffMax_ms: 5 } as const;
const SIZE = 18 * MIB;

let clouds: Clouds;
let store: ComponentStore;
let large: Component;
let source: DataSource;
const blob = randomBytes(SIZE);
const { packs } = memoryPacks();

before(async () => {
  clouds = await Clouds.start();
  store = await openSecond(clouds);
  // Many names, so that the recipe has some size; one content of more than a pack.
  const names = Array.from({ length: 3000 }, (_, number) => noise(`${number}`, 40).toString("hex"));
  const files = Object.fromEntries(names.map((name) => [name, noise(name, 10)]));
  const letters = Buffer.from(noise("letters", SIZE).map((byte) => 65 + (byte % 4)));
  large = await addTree(clouds, store, "1", { ...files, noise: noise("large", SIZE), letters });
  const device = await deviceWith(2 * SIZE, [{ offset: MIB, bytes: blob }]);
  source = {
    ...sourceFrom(store, packs),
    openBlob: () => Promise.resolve(readerOf(blob)),
    openUserData: () => Promise.resolve({ ...device, close: () => Promise.resolve() }),
  };
});
after(() => clouds[Symbol.asyncDispose]());

async function fetchContents(receiver: DataReceiver): Promise<void> {
  const { recipe } = await store.recipe(large.id);
  const wanted = [...recipe.contents.keys()];
  const contents = new Contents(recipe.contents);
  const request = { component: large.id, recipe, bases: [], wanted };
  await receiver.fetchContents(request, contents.take, soon());
  for (const [index, { head }] of recipe.contents.entries()) {
    assert.equal(headOf(contents.get(index) ?? Buffer.alloc(0)), head);
  }
}

async function fetchBlob(receiver: DataReceiver, to: ComponentStore): Promise<void> {
  await receiver.fetchBlob(referenceTo(blob), soon());
  const reader = await to.openBlob(referenceTo(blob).digest);
  await reader.close();
}

async function fetchUserData(receiver: DataReceiver): Promise<void> {
  const path = clouds.path("disk.raw");
  await receiver.fetchUserData(path, soon());
  await Promise.all([rm(path), rm(`${path}.blocks`, { force: true })]);
}

const BASES: readonly Digest[] = [];
type Fetch = (receiver: DataReceiver, to: ComponentStore) => Promise<unknown>;
const KINDS: readonly (readonly [string, object, Fetch])[] = [
  ["a recipe", {}, (receiver) => receiver.fetchRecipe(large.id, BASES, soon())],
  ["contents as solid packs", { expectedBitsPerSecond: 100e6 }, fetchContents],
  ["contents as direct packs", { compression: "none" }, fetchContents],
  ["a blob", { compression: "none" }, fetchBlob],
  ["user data", { compression: "none" }, fetchUserData],
];

/** Fetches with a session of its own; what the sender sent, with a cut after so many bytes. */
async function sent(offer: object, fetch: Fetch, cutAt?: number): Promise<number> {
  const server = await clouds.serving(source, { resume: memoryResume(), ...offer });
  const relay = await startRelay({ target: { host: "127.0.0.1", port: portOf(server) } });
  if (cutAt !== undefined) relay.cutAfter(cutAt);
  const to = await openSecond(clouds, `to-${clouds.world.random.uuid()}`);
  const options = { timing: QUICK, resume: memoryResume(), store: to };
  const receiver = clouds.receiving(relay.port, options);
  try {
    await fetch(receiver, to);
    assert.equal(relay.connections(), cutAt === undefined ? 1 : 2);
    return server.wireBytes("m1");
  } finally {
    await receiver.close();
    await relay.close();
    await server.close();
  }
}

for (const [name, offer, fetch] of KINDS) {
  test(`${name}: a cut at any byte sends no more than 8 MiB twice`, async () => {
    const wholeBytes = await sent(offer, fetch);
    const cut = fc.asyncProperty(fc.noBias(fc.integer({ min: 1, max: 980 })), async (share) => {
      const cutAt = Math.floor((share / 1000) * wholeBytes);
      const twice = (await sent(offer, fetch, cutAt)) - wholeBytes;
      assert.ok(twice <= SENT_TWICE_MAX, `${twice} bytes of ${wholeBytes} after ${cutAt}`);
    });
    await fc.assert(cut, { numRuns: 5, endOnFailure: true });
  });
}
