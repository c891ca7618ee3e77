/** Recipes and contents over links that break, and from senders that lie. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import type { Component } from "#core";
import { encodeRecipe, type Recipe } from "#image";
import type { ComponentStore } from "#repository";
import { startRelay } from "./relay.suite.ts";
import type { DataReceiver, TransferProgress } from "./contract.ts";
import {
  Contents,
  addTree,
  edited,
  headOf,
  memoryPacks,
  noise,
  openSecond,
  sourceFrom,
} from "./components.suite.ts";
import { Clouds, MIB, memoryResume, portOf, soon } from "./fixture.suite.ts";
import { liar, type Script } from "./liar.suite.ts";
import { bytesPrefix, encodeJson } from "./messages.ts";
import { encodePack, type PackHead } from "./pack.ts";
import { ContentsTarget } from "./contents-target.ts";
import { FLAG_DICTIONARY, FLAG_ZSTD, TYPE } from "./protocol.ts";

const QUICK = { backoffMin_ms: 1, backoffMax_ms: 5 } as const;
const TEXT = Buffer.from("nothing is written here but this. ".repeat(60));

let clouds: Clouds;
let store: ComponentStore;
let small: Component;
let old: Component;
let large: Component;
before(async () => {
  clouds = await Clouds.start();
  store = await openSecond(clouds);
  const first = { "etc/a": noise("a", 900), "etc/text": TEXT, "usr/lib/b": noise("b", 3000) };
  old = await addTree(clouds, store, "1", first);
  await addTree(clouds, clouds.store, "1", first);
  small = await addTree(clouds, store, "2", {
    ...first,
    "usr/lib/b": edited(noise("b", 3000), 700),
    "usr/lib/c": noise("c", 1500),
  });
  large = await addTree(clouds, store, "3", {
    "usr/lib/x": noise("x", 30 * MIB),
    "usr/lib/y": noise("y", 3 * MIB),
    "usr/lib/text": Buffer.from("the quick brown fox. ".repeat(200_000)),
  });
});
after(() => clouds[Symbol.asyncDispose]());

/** Fetches everything of a component and compares it by heads. */
async function fetchAll(receiver: DataReceiver, { id }: Component): Promise<number> {
  const fetched = await receiver.fetchRecipe(id, [old.id], soon());
  const { recipe, bases } = fetched;
  const wanted = recipe.contents.map((_, index) => index);
  const contents = new Contents(recipe.contents);
  const request = { component: id, recipe, bases, wanted };
  const wireBytes = await receiver.fetchContents(request, contents.take, soon());
  for (const [index, { head }] of recipe.contents.entries()) {
    assert.equal(headOf(contents.get(index) ?? Buffer.alloc(0)), head);
  }
  return fetched.wireBytes + wireBytes;
}

/** Runs `work` with a session of its own between the same repositories. */
async function withSession<T>(
  offer: object,
  work: (port: number, token: string, attempt: Clouds) => Promise<T>,
  packs = store.packs,
): Promise<T> {
  const server = await clouds.serving(sourceFrom(store, packs), {
    resume: memoryResume(),
    ...offer,
  });
  try {
    return await work(portOf(server), clouds.token, clouds);
  } finally {
    await server.close();
  }
}

test("a session that is cut anywhere ends with everything", async () => {
  const downBytes = await withSession({}, async (port) => {
    const relay = await startRelay({ target: { host: "127.0.0.1", port } });
    const receiver = clouds.receiving(relay.port);
    await fetchAll(receiver, small);
    const { down } = relay.bytes();
    await receiver.close();
    await relay.close();
    return down;
  });
  for (let at = 0; at < downBytes; at += 97) {
    await withSession({}, async (port) => {
      const relay = await startRelay({ target: { host: "127.0.0.1", port } });
      relay.cutAfter(at);
      const receiver = clouds.receiving(relay.port, { timing: QUICK, resume: memoryResume() });
      await fetchAll(receiver, small);
      await receiver.close();
      await relay.close();
    });
  }
});

for (const [name, expectedBitsPerSecond] of [
  ["packs", 5e6],
  ["frames", 100e9],
] as const) {
  test(`what has come as ${name} before a cut does not travel again`, async () => {
    const offer = { expectedBitsPerSecond };
    await withSession(offer, async (port) => {
      const relay = await startRelay({ target: { host: "127.0.0.1", port } });
      const receiver = clouds.receiving(relay.port, { timing: QUICK });
      const { recipe } = await receiver.fetchRecipe(large.id, [], soon());
      const wanted = recipe.contents.map((_, index) => index);
      const contents = new Contents(recipe.contents);
      let cuts = 0;
      let came = 0;
      const take: typeof contents.take = async (piece) => {
        await contents.take(piece);
        came += piece.bytes.length;
        if (came <= (cuts + 1) * 9 * MIB) return;
        cuts += 1;
        relay.cutAll();
      };
      const request = { component: large.id, recipe, bases: [], wanted };
      const wireBytes = await receiver.fetchContents(request, take, soon());
      assert.ok(cuts >= 2);
      assert.ok(wireBytes < 33 * MIB + (cuts + 1) * 8 * MIB, `${wireBytes} for ${cuts} cuts`);
      for (const [index, { head }] of recipe.contents.entries()) {
        assert.equal(headOf(contents.get(index) ?? Buffer.alloc(0)), head);
      }
      await receiver.close();
      await relay.close();
    });
  });
}

test("a sender that comes back goes on where it was", async () => {
  const resume = memoryResume();
  const offer = { resume, expectedBitsPerSecond: 100e9 };
  let server = await clouds.serving(sourceFrom(store), offer);
  const port = portOf(server);
  const receiver = clouds.receiving(port, { timing: QUICK });
  const { recipe } = await receiver.fetchRecipe(large.id, [], soon());
  const contents = new Contents(recipe.contents);
  let restarted: Promise<void> | undefined;
  let came = 0;
  const restart = async (): Promise<void> => {
    await server.close();
    server = await clouds.serving(sourceFrom(store), offer, { port });
  };
  const take: typeof contents.take = async (piece) => {
    await contents.take(piece);
    came += piece.bytes.length;
    if (came > 10 * MIB) restarted ??= restart();
  };
  const wanted = recipe.contents.map((_, index) => index);
  const request = { component: large.id, recipe, bases: [], wanted };
  const wireBytes = await receiver.fetchContents(request, take, soon());
  await restarted;
  assert.ok(wireBytes < 50 * MIB);
  assert.deepEqual(contents.numbers(), wanted);
  await receiver.close();
  await server.close();
});

test("a pack from the cache is the pack that was made", async () => {
  const { packs, kept, hits } = memoryPacks();
  // So slow that packs are worth their while, however small.
  const offer = { bytesPerSecondMax: 1e6, expectedBitsPerSecond: 1e5 };
  const fetch = () =>
    withSession(
      offer,
      async (port) => {
        const receiver = clouds.receiving(port);
        const wireBytes = await fetchAll(receiver, small);
        await receiver.close();
        return wireBytes;
      },
      packs,
    );
  const first = await fetch();
  const made = new Map(kept);
  assert.ok(made.size > 0);
  assert.equal(hits(), 0);
  const second = await fetch();
  assert.ok(hits() > 0);
  assert.deepEqual(new Map(kept), made);
  assert.ok(Math.abs(second - first) < 1000);
});

test("what was not wanted but came to fill gaps is dropped", async () => {
  const { recipe } = await store.recipe(small.id);
  const contents = new Contents(recipe.contents);
  const request = { component: small.id, recipe, bases: [], wanted: [0, 2] };
  const target = new ContentsTarget(request, contents.take);
  const segments = recipe.contents.map(({ sizeBytes }, content) => {
    return { content, offset: 0, length: sizeBytes };
  });
  const rawBytes = segments.reduce((sum, { length }) => sum + length, 0);
  await target.deliver(segments, Buffer.alloc(rawBytes));
  assert.deepEqual(contents.numbers(), [0, 2]);
  assert.equal(target.position, rawBytes);
  assert.ok(target.isWhole());
});

test("what a consumer throws ends the work with its own error, and the link lives on", async () => {
  await withSession({}, async (port) => {
    const seen: TransferProgress[] = [];
    const receiver = clouds.receiving(port, { onProgress: (progress) => seen.push(progress) });
    const { recipe } = await receiver.fetchRecipe(large.id, [], soon());
    const request = { component: large.id, recipe, bases: [], wanted: [0, 1] };
    const full = new Error("the disk is full");
    const take = () => Promise.reject(full);
    await assert.rejects(receiver.fetchContents(request, take, soon()), full);
    await fetchAll(receiver, small);
    await assert.rejects(receiver.fetchRecipe(`sha256:${"0".repeat(64)}`, [], soon()), {
      code: "transfer.not-offered",
    });
    await receiver.close();
  });
});

const RAW = TEXT.subarray(0, 500);
const ZSTD = zstdCompressSync(RAW);
type Answer = Parameters<Script>[0];
const bytes = (at: number, data: Uint8Array, rawBytes = data.length) =>
  Buffer.concat([bytesPrefix(at, rawBytes), data]);

/** Lies about two contents of 500 and 700 bytes, of a component without bases. */
const LIES: readonly (readonly [string, string, (send: Answer, pack: typeof packOf) => void])[] = [
  ["too few bytes", "transfer.protocol-violation", (send) => send(TYPE.END, encodeJson({}))],
  [
    "bytes without a pack",
    "transfer.protocol-violation",
    (send) => send(TYPE.BYTES, bytes(0, RAW)),
  ],
  [
    "a pack of another place",
    "transfer.protocol-violation",
    (send, pack) => send(TYPE.PACK, pack({ start: 1 })),
  ],
  [
    "more than was wanted",
    "transfer.protocol-violation",
    (send, pack) => {
      for (const start of [0, 500, 1000]) {
        send(TYPE.PACK, pack({ start, kind: "direct", encodedBytes: 0 }));
        send(TYPE.BYTES, bytes(0, RAW));
      }
    },
  ],
  [
    "a pack that does not decompress",
    "transfer.pack-invalid",
    (send, pack) => {
      send(TYPE.PACK, pack({ encodedBytes: 500 }));
      send(TYPE.BYTES, bytes(0, RAW));
    },
  ],
  [
    "a difference from nothing",
    "transfer.protocol-violation",
    (send, pack) => send(TYPE.PACK, pack({ kind: "difference" })),
  ],
  [
    "a bomb",
    "transfer.pack-invalid",
    (send, pack) => {
      const bomb = zstdCompressSync(Buffer.alloc(64 * MIB));
      send(TYPE.PACK, pack({ encodedBytes: bomb.length }));
      send(TYPE.BYTES, bytes(0, bomb));
    },
  ],
  [
    "a pack that is too short",
    "transfer.pack-invalid",
    (send, pack) => {
      const short = zstdCompressSync(RAW.subarray(1));
      send(TYPE.PACK, pack({ encodedBytes: short.length }));
      send(TYPE.BYTES, bytes(0, short));
    },
  ],
  [
    "more encoded bytes than announced",
    "transfer.protocol-violation",
    (send, pack) => {
      send(TYPE.PACK, pack({ encodedBytes: ZSTD.length - 1 }));
      send(TYPE.BYTES, bytes(0, ZSTD));
    },
  ],
  [
    "a pack within a pack",
    "transfer.protocol-violation",
    (send, pack) => {
      send(TYPE.PACK, pack({}));
      send(TYPE.PACK, pack({ start: 500 }));
    },
  ],
  [
    "a reference that is not there",
    "transfer.protocol-violation",
    (send, pack) => {
      const references = [{ base: 0, content: 0, offset: 0, length: 1 }];
      send(TYPE.PACK, pack({ references }, [{ contents: [{ sizeBytes: 1 }] }]));
    },
  ],
  [
    "a dictionary in a pack",
    "transfer.protocol-violation",
    (send, pack) => {
      send(TYPE.PACK, pack({ kind: "direct", encodedBytes: 0 }));
      send(TYPE.BYTES, bytes(0, ZSTD, 500), FLAG_ZSTD | FLAG_DICTIONARY);
    },
  ],
  [
    "the same content twice",
    "transfer.pack-invalid",
    (send, pack) => {
      const again = { segments: [{ content: 0, offset: 0, length: 200 }], rawBytes: 200 };
      for (const [start, change] of [
        [0, {}],
        [500, {}],
        [1000, again],
      ] as const) {
        send(TYPE.PACK, pack({ start, kind: "direct", encodedBytes: 0, ...change }));
        send(TYPE.BYTES, bytes(0, RAW.subarray(0, start === 1000 ? 200 : 500)));
      }
      send(TYPE.END, encodeJson({}));
    },
  ],
];

const SIZES = { contents: [{ sizeBytes: 500 }, { sizeBytes: 700 }] };
function packOf(change: Partial<PackHead>, bases: readonly (typeof SIZES)[] = []): Buffer {
  const head: PackHead = {
    kind: "solid",
    level: 3,
    start: 0,
    encodedBytes: ZSTD.length,
    rawBytes: 500,
    segments: [{ content: 0, offset: 0, length: 500 }],
    references: [],
    ...change,
  };
  return encodePack(head, { component: SIZES, bases });
}

for (const [name, code, lie] of LIES) {
  test(`contents: ${name}: ${code}`, async () => {
    const port = await liar(clouds, (send) => {
      send(TYPE.OPENED, encodeJson({ sizeBytes: 1200 }));
      lie(send, packOf);
    });
    const { recipe } = await store.recipe(small.id);
    const made: Recipe = {
      ...recipe,
      contents: SIZES.contents.map((size, index) => ({ ...size, head: "", path: `f${index}` })),
    };
    const request = { component: small.id, recipe: made, bases: [], wanted: [0, 1] };
    const receiver = clouds.receiving(port, { timing: QUICK });
    const fetching = receiver.fetchContents(request, () => Promise.resolve(), soon());
    await assert.rejects(fetching, { code, fault: "peer" });
    await receiver.close();
  });
}

const RECIPE_LIES: readonly (readonly [string, string, (send: Answer, encoded: Buffer) => void])[] =
  [
    [
      "a base that was not offered",
      "transfer.protocol-violation",
      (send) =>
        send(TYPE.OPENED, encodeJson({ sizeBytes: 9, bases: [`sha256:${"1".repeat(64)}`] })),
    ],
    [
      "too large",
      "transfer.protocol-violation",
      (send) => send(TYPE.OPENED, encodeJson({ sizeBytes: 2 ** 40, bases: [] })),
    ],
    [
      "a bomb",
      "transfer.pack-invalid",
      (send) => {
        send(TYPE.OPENED, encodeJson({ sizeBytes: 1000, bases: [] }));
        send(TYPE.BYTES, bytes(0, zstdCompressSync(Buffer.alloc(64 * MIB))));
        send(TYPE.END, encodeJson({}));
      },
    ],
    [
      "no recipe",
      "image.recipe-invalid",
      (send) => {
        send(TYPE.OPENED, encodeJson({ sizeBytes: 500, bases: [] }));
        send(TYPE.BYTES, bytes(0, ZSTD));
        send(TYPE.END, encodeJson({}));
      },
    ],
    [
      "a gap",
      "transfer.protocol-violation",
      (send, encoded) => {
        send(TYPE.OPENED, encodeJson({ sizeBytes: encoded.length, bases: [] }));
        send(TYPE.BYTES, bytes(1, zstdCompressSync(encoded)));
        send(TYPE.END, encodeJson({}));
      },
    ],
  ];

for (const [name, code, lie] of RECIPE_LIES) {
  test(`recipe: ${name}: ${code}`, async () => {
    const encoded = Buffer.from(encodeRecipe((await store.recipe(small.id)).recipe));
    const port = await liar(clouds, (send) => lie(send, encoded));
    const receiver = clouds.receiving(port, { timing: QUICK });
    await assert.rejects(receiver.fetchRecipe(small.id, [], soon()), { code });
    await receiver.close();
  });
}
