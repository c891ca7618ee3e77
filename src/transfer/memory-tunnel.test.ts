/** The tunnel of a hypervisor's stream, over real sessions. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import type { TesseraError } from "#core";
import type { DataSource } from "./contract.ts";
import { Clouds, MIB, digestOf, memoryResume, portOf, soon, sourceOf } from "./fixture.suite.ts";
import { aheadBytes } from "./ahead.ts";
import { liar, type Script } from "./liar.suite.ts";
import { bytesPrefix, encodeJson } from "./messages.ts";
import { FLAG_ZSTD, REPLY_BYTES_MAX, REPLY_WINDOW_BYTES, TYPE } from "./protocol.ts";
import { startRelay } from "./relay.suite.ts";
import { encodeTaken } from "./return-path.ts";
import { hypervisor, until } from "./tunnel.suite.ts";

let clouds: Clouds;
before(async () => {
  clouds = await Clouds.start();
});
after(() => clouds[Symbol.asyncDispose]());

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const chunk of chunks) pieces.push(chunk);
  return Buffer.concat(pieces);
}

test("chunks of any size come in order and whole, replies go back, and both end well", async () => {
  const { source, out, replies, closed, write } = hypervisor();
  const server = await clouds.serving(source);
  const tunnel = await clouds.receiving(portOf(server)).tunnelMemory(soon());
  const sizes = fc.sample(
    fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 3 * MIB })),
    40,
  );
  const all = randomBytes(sizes.reduce((sum, size) => sum + size, 0));
  const writing = (async () => {
    let at = 0;
    for (const size of sizes) {
      await write(all.subarray(at, at + size));
      at += size;
    }
    await until(() => Buffer.concat(replies).length === 200_000);
    out.end();
  })();
  const sent = randomBytes(200_000);
  const replying = Promise.all([
    tunnel.reply(sent.subarray(0, 5)),
    tunnel.reply(sent.subarray(5, 150_000)),
    tunnel.reply(sent.subarray(150_000)),
  ]);
  const came = await collect(tunnel.chunks);
  await Promise.all([writing, replying]);
  assert.equal(digestOf(came), digestOf(all));
  assert.equal(digestOf(Buffer.concat(replies)), digestOf(sent));
  assert.equal(await closed, undefined);
  await assert.rejects(tunnel.reply(Buffer.from("late")), { code: "transfer.cancelled" });
});

test("a small chunk leaves at once, and is answered at once", async () => {
  const { source, replies, write } = hypervisor();
  const tunnel = await clouds.receiving(portOf(await clouds.serving(source))).tunnelMemory(soon());
  const chunks = tunnel.chunks[Symbol.asyncIterator]();
  for (let round = 0; round < 50; round += 1) {
    await write(Buffer.from(`request ${round}`));
    const { value } = await chunks.next();
    assert.equal(Buffer.from(value as Uint8Array).toString(), `request ${round}`);
    await tunnel.reply(Buffer.from([round]));
    await until(() => replies.length === round + 1);
  }
  await tunnel.close();
});

test("small chunks are joined while the link is busy", async () => {
  const { source, out } = hypervisor();
  const server = await clouds.serving(source, { bytesPerSecondMax: 200_000 });
  const tunnel = await clouds.receiving(portOf(server)).tunnelMemory(soon());
  const pieces = Array.from({ length: 5_000 }, () => randomBytes(20));
  for (const piece of pieces) out.write(piece);
  out.end();
  let frames = 0;
  const came: Uint8Array[] = [];
  for await (const chunk of tunnel.chunks) {
    frames += 1;
    came.push(chunk);
  }
  assert.equal(digestOf(Buffer.concat(came)), digestOf(Buffer.concat(pieces)));
  assert.ok(frames < 500, `${frames} frames`);
});

test("who does not take the chunks holds up the hypervisor soon", async () => {
  const { source, out } = hypervisor();
  const tunnel = await clouds.receiving(portOf(await clouds.serving(source))).tunnelMemory(soon());
  const chunk = randomBytes(64 * 1024);
  let written = 0;
  while (written < 32 * MIB) {
    written += chunk.length;
    if (out.write(chunk)) continue;
    const drained = once(out, "drain").then(() => true);
    const waited = new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 500));
    if (!(await Promise.race([drained, waited]))) break;
  }
  assert.ok(written > MIB / 4 && written < 2 * MIB, `${written} bytes`);
  out.end();
  assert.equal((await collect(tunnel.chunks)).length, written);
});

test("a hypervisor that takes no replies holds up who replies", async () => {
  const { source, replies, holdReplies } = hypervisor();
  const open = Promise.withResolvers<void>();
  holdReplies(open.promise);
  const tunnel = await clouds.receiving(portOf(await clouds.serving(source))).tunnelMemory(soon());
  let sent = 0;
  const sending = (async () => {
    for (; sent < 100; sent += 1) await tunnel.reply(Buffer.alloc(10_000, sent));
  })();
  await until(() => sent === Math.floor(REPLY_WINDOW_BYTES / 10_064));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(sent, Math.floor(REPLY_WINDOW_BYTES / 10_064));
  open.resolve();
  await sending;
  await until(() => Buffer.concat(replies).length === 1_000_000);
  await tunnel.close();
});

test("little is taken ahead of a slow link", async () => {
  const { source, out } = hypervisor();
  const server = await clouds.serving(source, { bytesPerSecondMax: 50_000 });
  const tunnel = await clouds.receiving(portOf(server)).tunnelMemory(soon());
  let written = 0;
  while (written < 4 * MIB) {
    written += 4096;
    if (out.write(Buffer.alloc(4096, 1))) continue;
    const drained = once(out, "drain").then(() => true);
    const waited = new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 200));
    if (!(await Promise.race([drained, waited]))) break;
  }
  // The pipe, what is taken ahead, one frame on its way, and what crosses meanwhile.
  assert.ok(written < 400_000, `${written} bytes`);
  await tunnel.close();
  assert.equal(aheadBytes(undefined), 64 * 1024);
  assert.equal(aheadBytes(1e6), 64 * 1024);
  assert.equal(aheadBytes(100e6), 250_000);
  assert.equal(aheadBytes(10e9), 512 * 1024);
});

test("replies go on while the chunks wait", async () => {
  const { source, out, replies } = hypervisor();
  const tunnel = await clouds.receiving(portOf(await clouds.serving(source))).tunnelMemory(soon());
  out.write(randomBytes(16 * MIB));
  for (let round = 0; round < 20; round += 1) await tunnel.reply(Buffer.alloc(REPLY_BYTES_MAX));
  await until(() => Buffer.concat(replies).length === 20 * REPLY_BYTES_MAX);
  await tunnel.close();
});

/** A cloud whose sender is reached through a relay; the next connection is cut after so many bytes. */
async function throughRelay(source: DataSource) {
  const own = await Clouds.start();
  const server = await own.serving(source);
  const relay = await startRelay({ target: { host: "127.0.0.1", port: portOf(server) } });
  own.onDispose(() => relay.close());
  return { own, server, relay, receiver: own.receiving(relay.port) };
}

test("cuts at any byte, again and again: neither hypervisor loses or sees anything twice", async () => {
  const { source, out, replies, closed, write } = hypervisor();
  const { own, relay, receiver } = await throughRelay(source);
  await using _ = own;
  const tunnel = await receiver.tunnelMemory(soon());
  const all = randomBytes(6 * MIB);
  const sent = randomBytes(400_000);
  const cuts = fc.sample(fc.integer({ min: 1, max: 400_000 }), 8);
  const writing = (async () => {
    for (let at = 0; at < all.length; at += 50_000) await write(all.subarray(at, at + 50_000));
    await until(() => Buffer.concat(replies).length === sent.length);
    out.end();
  })();
  const replying = (async () => {
    for (let at = 0; at < sent.length; at += 7_000) {
      await tunnel.reply(sent.subarray(at, at + 7_000));
    }
  })();
  const came: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of tunnel.chunks) {
    came.push(chunk);
    bytes += chunk.length;
    if (bytes > (8 - cuts.length) * 500_000 && cuts.length > 0) relay.cutAfter(cuts.pop() ?? 0);
  }
  await Promise.all([writing, replying]);
  assert.equal(digestOf(Buffer.concat(came)), digestOf(all));
  assert.equal(digestOf(Buffer.concat(replies)), digestOf(sent));
  assert.equal(await closed, undefined);
  assert.ok(relay.connections() > 1, "it was cut");
});

test("while nothing carries it a tunnel holds up both hypervisors, and its source is told", async () => {
  const { source, out, replies, carried } = hypervisor();
  const { own, relay, receiver } = await throughRelay(source);
  await using _ = own;
  const tunnel = await receiver.tunnelMemory(soon());
  const chunks = tunnel.chunks[Symbol.asyncIterator]();
  out.write(Buffer.from("before"));
  assert.equal(Buffer.from((await chunks.next()).value as Uint8Array).toString(), "before");
  assert.deepEqual(carried, [true]);
  relay.cutAll();
  await until(() => carried.length === 2);
  let replied = 0;
  const replying = (async () => {
    for (; replied < 10; replied += 1) await tunnel.reply(Buffer.alloc(REPLY_BYTES_MAX, replied));
  })();
  await until(() => replied === 3);
  out.write(Buffer.from("after"));
  assert.equal(Buffer.from((await chunks.next()).value as Uint8Array).toString(), "after");
  await replying;
  await until(() => Buffer.concat(replies).length === 10 * REPLY_BYTES_MAX);
  assert.deepEqual(carried, [true, false, true]);
  await tunnel.close();
});

test("what is on its way when the last bytes have been written is not lost by a cut", async () => {
  const { source, out, closed } = hypervisor();
  const { own, relay, receiver } = await throughRelay(source);
  await using _ = own;
  const tunnel = await receiver.tunnelMemory(soon());
  const all = randomBytes(MIB);
  out.end(all);
  const came: Uint8Array[] = [];
  for await (const chunk of tunnel.chunks) {
    if (came.length === 0) relay.cutAll();
    came.push(chunk);
  }
  assert.equal(digestOf(Buffer.concat(came)), digestOf(all));
  assert.equal(await closed, undefined);
});

test("a session that is offered anew knows nothing of the tunnel, and says so", async () => {
  const one = hypervisor();
  const { own, server, relay, receiver } = await throughRelay(one.source);
  await using _ = own;
  const tunnel = await receiver.tunnelMemory(soon());
  one.out.write(Buffer.from("some"));
  const chunks = tunnel.chunks[Symbol.asyncIterator]();
  await chunks.next();
  relay.setFrozen(true);
  await server.withdraw("m1");
  const withdrawn = (await one.closed) as TesseraError;
  assert.equal(withdrawn.code, "transfer.not-offered");
  const { token, receiver: peer } = own;
  const offer = { id: "m1", token, peerCertificate: peer.certificate };
  await server.offer({ ...offer, source: hypervisor().source });
  relay.cutAll();
  relay.setFrozen(false);
  await assert.rejects(chunks.next(), ({ code }: TesseraError) =>
    ["transfer.token-refused", "transfer.tunnel-lost", "transfer.not-offered"].includes(code),
  );
  await assert.rejects(tunnel.reply(Buffer.alloc(1)));
});

test("a receiver that was started anew begins another tunnel, and the one before ends", async () => {
  const one = hypervisor();
  const two = hypervisor();
  const sources = [one, two];
  const openMemory = () => sources.shift()?.source.openMemory?.() ?? Promise.reject(new Error());
  const { own, relay, server } = await throughRelay({ ...one.source, openMemory });
  await using _ = own;
  const resume = memoryResume();
  await own.receiving(relay.port, { resume }).tunnelMemory(soon());
  relay.cutAll();
  await until(() => one.carried.length === 2);
  const second = await own.receiving(portOf(server), { resume }).tunnelMemory(soon());
  assert.equal(((await one.closed) as TesseraError).code, "transfer.cancelled");
  two.out.end(Buffer.from("anew"));
  assert.equal((await collect(second.chunks)).toString(), "anew");
  assert.equal(await two.closed, undefined);
});

test("either side may give the tunnel up", async () => {
  const one = hypervisor();
  const first = await clouds
    .receiving(portOf(await clouds.serving(one.source)))
    .tunnelMemory(soon());
  const taking = collect(first.chunks);
  await first.close();
  await assert.rejects(taking, { code: "transfer.cancelled" });
  assert.equal(((await one.closed) as TesseraError).code, "transfer.cancelled");

  const two = hypervisor();
  const stop = new AbortController();
  const receiver = clouds.receiving(portOf(await clouds.serving(two.source)));
  const second = await receiver.tunnelMemory(stop.signal);
  const reason = new Error("enough");
  stop.abort(reason);
  await assert.rejects(collect(second.chunks), reason);
  await assert.rejects(second.reply(Buffer.alloc(1)), reason);
  assert.equal(((await two.closed) as TesseraError).code, "transfer.cancelled");

  const three = hypervisor();
  const third = await clouds
    .receiving(portOf(await clouds.serving(three.source)))
    .tunnelMemory(soon());
  three.out.write(Buffer.alloc(10));
  three.out.destroy(new Error("QEMU is gone, see /run/secret"));
  await assert.rejects(
    collect(third.chunks),
    (error: TesseraError) =>
      error.code === "transfer.source-failed" && !error.message.includes("secret"),
  );
  assert.ok((await three.closed) instanceof Error);
});

test("tunnels that are given up leave their places, whether or not their chunks were taken", async () => {
  const { source } = hypervisor();
  const many = {
    ...source,
    openMemory: () => hypervisor().source.openMemory?.() ?? Promise.reject(new Error()),
  };
  const receiver = clouds.receiving(portOf(await clouds.serving(many)));
  for (let round = 0; round < 40; round += 1) {
    const tunnel = await receiver.tunnelMemory(soon());
    if (round % 2 === 0) await tunnel.close();
    else await tunnel.chunks[Symbol.asyncIterator]().return?.();
  }
});

test("a source without memory says so", async () => {
  const receiver = clouds.receiving(portOf(await clouds.serving(sourceOf([]))));
  await assert.rejects(receiver.tunnelMemory(soon()), { code: "transfer.not-offered" });
});

function bytes(offset: number, raw: number, data: number, flags = 0) {
  const payload = Buffer.concat([bytesPrefix(offset, raw), Buffer.alloc(data)]);
  return [TYPE.BYTES, payload, flags] as const;
}

function openedAt(replied: number, taken: number) {
  return [TYPE.OPENED, encodeJson({ replied, taken }), 0] as const;
}

test("a lying sender ends the tunnel by a violation", async () => {
  const opened = openedAt(0, 0);
  const answers = [
    [bytes(0, 10, 10)],
    [openedAt(1, 0)],
    [openedAt(0, 1)],
    [[TYPE.OPENED, encodeJson({}), 0] as const],
    [opened, opened],
    [opened, bytes(1, 10, 10)],
    [opened, bytes(0, 10, 9)],
    [opened, bytes(0, 10, 10, FLAG_ZSTD)],
    [opened, bytes(0, 10, 10), bytes(0, 10, 10)],
    [opened, [TYPE.ZEROES, Buffer.alloc(16, 1), 0] as const],
    [opened, [TYPE.TAKEN, encodeTaken(1), 0] as const],
    [opened, [TYPE.REPLY, Buffer.alloc(1), 0] as const],
    [opened, [TYPE.END, encodeJson([]), 0] as const],
  ];
  for (const answer of answers) {
    const script: Script = (send) => {
      for (const [type, payload, flags] of answer) send(type, payload, flags);
    };
    const receiver = clouds.receiving(await liar(clouds, script));
    const used = (async () => collect((await receiver.tunnelMemory(soon())).chunks))();
    await assert.rejects(used, { code: "transfer.protocol-violation" });
  }
});
