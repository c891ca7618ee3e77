/** What travels twice when a receiver dies, over the data protocol, with contents of many MiB. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { referenceOf, type Component } from "#core";
import type { ComponentStore, PackCache } from "#repository";
import { addTree, memoryPacks, noise, openSecond, sourceFrom } from "../components.suite.ts";
import { Clouds, MIB, portOf, soon } from "../fixture.suite.ts";
import { gatherComponents } from "./gather.ts";
import { changed } from "./gather.suite.ts";

const SENT_TWICE_MAX = 8 * MIB;

/** Of four letters: a quarter of it is information, about as of a program. */
function letters(seed: string, sizeBytes: number): Buffer {
  return Buffer.from(noise(seed, sizeBytes).map((byte) => 65 + (byte % 4)));
}

let clouds: Clouds;
let from: ComponentStore;
let wanted: Component;
before(async () => {
  clouds = await Clouds.start();
  from = await openSecond(clouds, "from");
  wanted = await addTree(clouds, from, "1", {
    large: letters("large", 24 * MIB),
    small: letters("small", MIB),
  });
});
after(() => clouds[Symbol.asyncDispose]());

class Died extends Error {}

/** A repository whose process dies while it makes its checkpoint of this number, from 1 on. */
function dying(
  store: ComponentStore,
  { number, after_ms }: { readonly number: number; readonly after_ms: number },
  onDeath: () => void,
): ComponentStore {
  let made = 0;
  const alive = (): void => {
    if (made >= number) throw new Died("the process is dead");
  };
  return changed(store, {
    assemble: async (blob, signal) => {
      const assembly = await store.assemble(blob, signal);
      if (assembly === undefined) return undefined;
      return {
        ...assembly,
        state: assembly.state,
        write: async (bytes, position) => assembly.write(bytes, position),
        read: (target, position) => assembly.read(target, position),
        checkpoint: async (state) => {
          alive();
          made += 1;
          if (made < number) return assembly.checkpoint(state);
          await sleep(after_ms);
          onDeath();
          return alive();
        },
        commit: () => assembly.commit(),
        release: () => assembly.release(),
        abort: () => assembly.abort(),
        settled: (upTo) => assembly.settled(upTo),
      };
    },
  });
}

/** One attempt by a process of its own; returns what crossed the wire until it ended or died. */
async function attempt(
  store: ComponentStore,
  packs: PackCache,
  offer: object,
  dieAt = { number: Infinity, after_ms: 0 },
): Promise<{ readonly wireBytes: number; readonly died: boolean }> {
  const server = await clouds.serving(sourceFrom(from, packs), offer);
  const receiver = clouds.receiving(portOf(server), { store });
  let wireBytes: number | undefined;
  const lives = dying(store, dieAt, () => (wireBytes = receiver.wireBytes()));
  const holder = { cloud: "from", pricePerGB: 0 };
  const gathering = gatherComponents(clouds.world, {
    store: lives,
    sources: [{ holder, open: () => receiver, holds: () => true }],
    references: [referenceOf(wanted)],
    owner: "migration:1",
    signal: soon(),
  });
  try {
    await gathering;
  } catch (error) {
    if (!(error instanceof Died)) throw error;
  }
  await receiver.close();
  await server.close();
  return { wireBytes: wireBytes ?? receiver.wireBytes(), died: wireBytes !== undefined };
}

/** The checkpoint that is not made any more takes so long: what may come meanwhile comes. */
for (const [name, offer, after_ms] of [
  ["solid packs", { bytesPerSecondMax: 20e6, expectedBitsPerSecond: 100e6 }, 10],
  ["direct packs", { compression: "none" }, 200],
] as const) {
  test(`${name}: at whichever checkpoint a receiver dies, little travels twice`, async () => {
    const { packs } = memoryPacks();
    const whole = await attempt(await openSecond(clouds, `${name} whole`), packs, offer);
    for (let number = 1; ; number += 1) {
      const store = await openSecond(clouds, `${name} ${number}`);
      const first = await attempt(store, packs, offer, { number, after_ms });
      if (!first.died) break;
      const second = await attempt(store, packs, offer);
      const twice = first.wireBytes + second.wireBytes - whole.wireBytes;
      assert.ok(twice <= SENT_TWICE_MAX, `${twice} bytes twice at checkpoint ${number}`);
    }
  });
}
