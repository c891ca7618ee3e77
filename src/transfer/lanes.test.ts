/** Several connections of one session, priorities and memory on real sockets. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { Clouds, MIB, memoryResume, referenceTo, soon, sourceOf } from "./fixture.suite.ts";
import { HeldTokens, Link } from "./link.ts";
import { startRelay } from "./relay.suite.ts";
import { PRIORITY, TIMING, TYPE, type Priority } from "./protocol.ts";
import type { Receiver } from "./receiver-streams.ts";
import type { DataServer } from "./server.ts";
import { newToken } from "./tokens.ts";
import { WindowBudget } from "./window.ts";

/** Links of one session that share its tokens. */
function linker(
  clouds: Clouds,
  { endpoint }: Pick<DataServer, "endpoint">,
  resume = memoryResume(),
  token = clouds.token,
) {
  const tokens = new HeldTokens(token, resume);
  const budget = new WindowBudget();
  return (lane: number): Link => {
    const link = new Link(clouds.world, {
      identity: clouds.receiver,
      endpoint,
      session: "m1",
      tokens,
      lane,
      budget,
      timing: TIMING,
    });
    clouds.onDispose(() => Promise.resolve(link.close()));
    return link;
  };
}

/** Reads a blob; returns its bytes. */
async function read(receiver: Receiver, blob: Buffer, priority?: Priority): Promise<number> {
  const { digest } = referenceTo(blob);
  const stream = receiver.open({ kind: "blob", digest, offset: 0, priority });
  let bytes = 0;
  for await (const frame of stream.frames()) {
    if (frame.type === TYPE.BYTES) bytes += frame.payload.readUInt32BE(8);
    stream.recycle(frame);
  }
  return bytes;
}

test("every lane has a connection and a chain of tokens of its own", async () => {
  await using clouds = await Clouds.start();
  const blob = randomBytes(3 * MIB);
  const senderResume = memoryResume();
  const server = await clouds.serving(sourceOf([blob]), { resume: senderResume });
  const resume = memoryResume();
  const link = linker(clouds, server, resume);
  const lanes = await Promise.all([0, 1, 7].map((lane) => link(lane).acquire(soon())));
  const came = await Promise.all(lanes.map((receiver) => read(receiver, blob)));
  assert.deepEqual(came, [blob.length, blob.length, blob.length]);
  assert.ok(server.wireBytes("m1") > 3 * blob.length);

  // A newer connection takes over its own lane only.
  const again = await link(1).acquire(soon());
  assert.equal(await read(again, blob), blob.length);
  await new Promise((resolve) => {
    const { signal } = (lanes[1] as Receiver).connection;
    if (signal.aborted) resolve(undefined);
    signal.addEventListener("abort", resolve, { once: true });
  });
  assert.ok(lanes[0]?.connection.signal.aborted === false);
  assert.ok(lanes[2]?.connection.signal.aborted === false);

  // Both sides start again: the kept tokens open every lane, a first token none that was used.
  await server.close();
  const later = await clouds.serving(sourceOf([blob]), { resume: senderResume });
  const relink = linker(clouds, later, resume);
  for (const lane of [7, 0, 2]) {
    assert.equal(await read(await relink(lane).acquire(soon()), blob), blob.length);
  }
  await assert.rejects(linker(clouds, later)(7).acquire(soon()), {
    code: "transfer.token-refused",
  });
  const guess = newToken(clouds.world.random);
  await assert.rejects(linker(clouds, later, memoryResume(), guess)(3).acquire(soon()), {
    code: "transfer.token-refused",
  });
});

test("a demanded stream overtakes those that fill a limited link", async () => {
  await using clouds = await Clouds.start();
  const bulk = randomBytes(MIB);
  const small = randomBytes(4096);
  const bytesPerSecondMax = 2 * MIB;
  const server = await clouds.serving(sourceOf([bulk, small]), { bytesPerSecondMax });
  const receiver = await linker(clouds, server)(0).acquire(soon());
  const order: string[] = [];
  const background = [0, 1, 2].map((number) =>
    read(receiver, bulk).then(() => order.push(`bulk ${number}`)),
  );
  const demanded = read(receiver, small, PRIORITY.demanded).then(() => order.push("demanded"));
  const control = read(receiver, small, PRIORITY.control).then(() => order.push("control"));
  await Promise.all([demanded, control, ...background]);
  assert.deepEqual(order.slice(0, 2).toSorted(), ["control", "demanded"]);
});

test("the round trip and the levels are told", async () => {
  await using clouds = await Clouds.start();
  const text = Buffer.from("to be or not to be. ".repeat(200_000));
  const seen: unknown[] = [];
  const server = await clouds.serving(sourceOf([text]), {
    onProgress: ({ encodings }) => seen.push(encodings),
  });
  const receiver = await linker(clouds, server)(0).acquire(soon());
  await read(receiver, text);
  assert.ok((receiver.connection.roundTrip_ms ?? Infinity) < 1000);
  const last = seen.at(-1) as Record<string, { rawBytes: number; wireBytes: number }>;
  const shares = Object.values(last);
  assert.equal(
    shares.reduce((sum, { rawBytes }) => sum + rawBytes, 0),
    text.length,
  );
  assert.ok(Object.keys(last).some((name) => name.startsWith("direct-")));
});

test("who comes while a connection is given up gets one, whoever gave it up", async () => {
  await using clouds = await Clouds.start();
  const { endpoint } = await clouds.serving(sourceOf([]));
  const [target = { host: "", port: 0 }] = endpoint.candidates;
  const relay = await startRelay({ target });
  clouds.onDispose(() => relay.close());
  relay.setFrozen(true);
  const candidates = [{ host: "127.0.0.1", port: relay.port }];
  const link = linker(clouds, { endpoint: { ...endpoint, candidates } })(0);
  const givenUp = new AbortController();
  const accepted = Promise.withResolvers<void>();
  const watch = setInterval(() => {
    if (relay.connections() > 0) accepted.resolve();
  }, 1);
  const first = link.acquire(givenUp.signal);
  const second = first.catch(() => link.acquire(soon()));
  await accepted.promise;
  clearInterval(watch);
  const reason = new Error("not wanted any more");
  givenUp.abort(reason);
  relay.setFrozen(false);
  await assert.rejects(first, reason);
  const { connection } = await second;
  assert.equal(connection.signal.aborted, false);
  assert.equal(link.current?.connection, connection);
});
