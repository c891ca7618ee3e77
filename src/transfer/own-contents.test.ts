/** Packs that refer to contents that came before them in the same stream. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import type { Component } from "#core";
import type { Recipe } from "#image";
import type { ComponentStore } from "#repository";
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
import type { ContentPiece, ContentsRequest } from "./contract.ts";
import { Clouds, MIB, portOf, soon } from "./fixture.suite.ts";
import { liar, type Script } from "./liar.suite.ts";
import { bytesPrefix, decodeJson, encodeJson, OpenSchema } from "./messages.ts";
import { encodePack, type PackHead } from "./pack.ts";
import { TYPE } from "./protocol.ts";
import { startRelay } from "./relay.suite.ts";

const QUICK = { backoffMin_ms: 1, backoffMax_ms: 5 } as const;
const CODE = noise("code", 6 * MIB);

let clouds: Clouds;
let store: ComponentStore;
let tools: Component;
before(async () => {
  clouds = await Clouds.start();
  store = await openSecond(clouds);
  const names = ["check", "dump", "import", "show"];
  const files = names.map((name, index) => [
    `usr/bin/tool-${name}`,
    edited(CODE, 300_000 + 1000 * index),
  ]);
  tools = await addTree(clouds, store, "1", Object.fromEntries(files));
});
after(() => clouds[Symbol.asyncDispose]());

/** Reads back what has been gathered; only what is whole. */
function readerOf(contents: Contents, recipe: Recipe): NonNullable<ContentsRequest["own"]> {
  return {
    read: (content, target, offset) => {
      const bytes = contents.get(content) ?? Buffer.alloc(0);
      assert.equal(headOf(bytes), recipe.contents[content]?.head);
      target.set(bytes.subarray(offset, offset + target.length));
      return Promise.resolve();
    },
  };
}

for (const [name, cuts] of [
  ["what contents have in common travels once", []],
  ["and so it does when the link is cut", [7 * MIB, 100_000, 5 * MIB]],
] as const) {
  test(name, async () => {
    const offer = { bytesPerSecondMax: 6e6, cores: 2 };
    const server = await clouds.serving(sourceFrom(store, memoryPacks().packs), offer);
    const relay = await startRelay({ target: { host: "127.0.0.1", port: portOf(server) } });
    const receiver = clouds.receiving(relay.port, { timing: QUICK });
    const { recipe } = await receiver.fetchRecipe(tools.id, [], soon());
    const contents = new Contents(recipe.contents);
    const wanted = recipe.contents.map((_, index) => index);
    const own = readerOf(contents, recipe);
    const request = { component: tools.id, recipe, bases: [], wanted, own };
    const patched: ContentPiece[] = [];
    for (const at of cuts.slice(0, 1)) relay.cutAfter(at);
    let [came, left] = [0, cuts.slice(1)];
    const take = async (piece: ContentPiece): Promise<void> => {
      await contents.take(piece);
      if (piece.patched === true) patched.push(piece);
      came += piece.bytes.length;
      const [next] = left;
      if (next === undefined || came < 6 * MIB) return;
      left = left.slice(1);
      came = 0;
      relay.cutAfter(relay.bytes().down + next);
    };
    const wireBytes = await receiver.fetchContents(request, take, soon());
    assert.deepEqual(left, []);
    assert.ok(wireBytes < 13 * MIB + cuts.length * 8 * MIB, `${wireBytes} on the wire`);
    for (const [index, { head }] of recipe.contents.entries()) {
      assert.equal(headOf(contents.get(index) ?? Buffer.alloc(0)), head);
    }
    // Nothing of it is held here, so that nothing counts as changed.
    assert.deepEqual(patched, []);
    await receiver.close();
    await relay.close();
    await server.close();
  });
}

const SIZES = { contents: [500, 700, 900].map((sizeBytes) => ({ sizeBytes })) };
const BYTES = SIZES.contents.map(({ sizeBytes }, content) => noise(`${content}`, sizeBytes));
type Answer = Parameters<Script>[0];

function packOf(change: Partial<PackHead>): Buffer {
  const head: PackHead = {
    kind: "direct",
    level: 0,
    start: 0,
    encodedBytes: 0,
    rawBytes: 500,
    segments: [{ content: 0, offset: 0, length: 500 }],
    references: [],
    ...change,
  };
  return encodePack(head, { component: SIZES, bases: [SIZES] });
}

function data(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytesPrefix(0, bytes.length), bytes]);
}

/** A content as a direct pack. */
function sendPlain(send: Answer, start: number, content: number): void {
  const bytes = BYTES[content] ?? Buffer.alloc(0);
  const segments = [{ content, offset: 0, length: bytes.length }];
  send(TYPE.PACK, packOf({ start, segments, rawBytes: bytes.length }));
  send(TYPE.BYTES, data(bytes));
}

/** A content as a solid pack that refers to another. */
function sendReferring(send: Answer, start: number, content: number, to: number): void {
  const bytes = BYTES[content] ?? Buffer.alloc(0);
  const dictionary = Buffer.concat([Buffer.alloc(1), BYTES[to] ?? Buffer.alloc(0)]);
  const encoded = zstdCompressSync(bytes, { dictionary });
  const segments = [{ content, offset: 0, length: bytes.length }];
  const references = [{ base: 0, content: to, offset: 0, length: BYTES[to]?.length ?? 0 }];
  const head = {
    kind: "solid",
    encodedBytes: encoded.length,
    start,
    segments,
    references,
  } as const;
  send(TYPE.PACK, packOf({ ...head, rawBytes: bytes.length }));
  send(TYPE.BYTES, data(encoded));
}

async function requestOf(wanted: readonly number[], contents: Contents): Promise<ContentsRequest> {
  const { recipe } = await store.recipe(tools.id);
  const made = SIZES.contents.map(({ sizeBytes }, index) => {
    return { sizeBytes, head: headOf(BYTES[index] ?? Buffer.alloc(0)), path: `f${index}` };
  });
  const small: Recipe = { ...recipe, contents: made };
  const own = readerOf(contents, small);
  return { component: tools.id, recipe: small, bases: [], wanted, own };
}

const LIES: readonly (readonly [string, string, (send: Answer) => void])[] = [
  [
    "to a content of a later pack",
    "transfer.pack-invalid",
    (send) => {
      sendReferring(send, 0, 0, 1);
      sendPlain(send, 500, 1);
    },
  ],
  ["to itself", "transfer.pack-invalid", (send) => sendReferring(send, 0, 0, 0)],
  [
    "to what is not wanted",
    "transfer.pack-invalid",
    (send) => {
      sendPlain(send, 0, 0);
      sendReferring(send, 500, 1, 2);
    },
  ],
  [
    "to a content of which only a part has come",
    "transfer.pack-invalid",
    (send) => {
      const segments = [{ content: 0, offset: 0, length: 400 }];
      send(TYPE.PACK, packOf({ segments, rawBytes: 400 }));
      send(TYPE.BYTES, data(BYTES[0]?.subarray(0, 400) ?? Buffer.alloc(0)));
      sendReferring(send, 400, 1, 0);
    },
  ],
  [
    "behind its end",
    "transfer.protocol-violation",
    (send) => {
      sendPlain(send, 0, 0);
      const references = [{ base: 0, content: 0, offset: 100, length: 401 }];
      send(TYPE.PACK, packOf({ kind: "solid", encodedBytes: 9, start: 500, references }));
    },
  ],
  [
    "to another base",
    "transfer.protocol-violation",
    (send) => {
      sendPlain(send, 0, 0);
      const head = packOf({ kind: "solid", encodedBytes: 9, start: 500, references: [] });
      // One reference: base 1, content 0, whole.
      send(TYPE.PACK, Buffer.concat([head.subarray(0, 14), Buffer.from([1, 1, 0, 1, 2])]));
    },
  ],
];

for (const [name, code, lie] of LIES) {
  test(`a reference ${name}: ${code}`, async () => {
    const port = await liar(clouds, (send) => {
      send(TYPE.OPENED, encodeJson({ sizeBytes: 1200 }));
      lie(send);
    });
    const contents = new Contents(SIZES.contents);
    const receiver = clouds.receiving(port, { timing: QUICK });
    const request = await requestOf([0, 1], contents);
    const fetching = receiver.fetchContents(request, contents.take, soon());
    await assert.rejects(fetching, { code, fault: "peer" });
    await receiver.close();
  });
}

test("without leave to refer, a reference to the component itself is refused", async () => {
  const port = await liar(clouds, (send, { payload }) => {
    assert.equal(OpenSchema.parse(JSON.parse(payload.toString())).kind, "contents");
    assert.ok(!payload.toString().includes("own"));
    send(TYPE.OPENED, encodeJson({ sizeBytes: 1200 }));
    sendPlain(send, 0, 0);
    sendReferring(send, 500, 1, 0);
  });
  const contents = new Contents(SIZES.contents);
  const receiver = clouds.receiving(port, { timing: QUICK });
  const { own: _own, ...request } = await requestOf([0, 1], contents);
  const fetching = receiver.fetchContents(request, contents.take, soon());
  await assert.rejects(fetching, { code: "transfer.protocol-violation" });
  await receiver.close();
});

test("a sender that takes over may divide contents in another way", async () => {
  const froms: number[] = [];
  const port = await liar(clouds, (send, frame) => {
    const open = decodeJson(frame, OpenSchema);
    assert.ok(open.kind === "contents" && open.own === true);
    froms.push(open.from);
    send(TYPE.OPENED, encodeJson({ sizeBytes: froms.length < 3 ? 2100 : 1600 }));
    if (froms.length === 1) return sendPlain(send, 0, 0);
    if (froms.length === 2) return sendReferring(send, 500, 1, 2);
    sendPlain(send, 0, 2);
    sendReferring(send, 900, 1, 2);
    send(TYPE.END, encodeJson({}));
  });
  const relay = await startRelay({ target: { host: "127.0.0.1", port } });
  const contents = new Contents(SIZES.contents);
  const receiver = clouds.receiving(relay.port, { timing: QUICK });
  const take = async (piece: ContentPiece): Promise<void> => {
    await contents.take(piece);
    if (froms.length === 1) relay.cutAll();
  };
  await receiver.fetchContents(await requestOf([0, 1, 2], contents), take, soon());
  assert.deepEqual(froms, [0, 500, 0]);
  for (const [index, bytes] of BYTES.entries()) assert.ok(contents.get(index)?.equals(bytes));
  await receiver.close();
  await relay.close();
});
