import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { test } from "node:test";
import { startRelay } from "../../src/transfer/relay.suite.ts";

/** A target that sends `content` to whoever connects, and ends. */
async function sender(content: Buffer) {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.resume().end(content);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return { host: "127.0.0.1", port, close: () => server.close() };
}

async function receive(port: number): Promise<{ bytes: Buffer; error?: Error; seconds: number }> {
  const start_ms = performance.now();
  const socket = connect(port, "127.0.0.1");
  socket.setTimeout(10_000, () => socket.destroy(new Error("the relay is silent")));
  const chunks: Buffer[] = [];
  let error: Error | undefined;
  socket.on("error", (cause) => (error = cause));
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  await new Promise((resolve) => socket.on("close", resolve));
  const seconds = (performance.now() - start_ms) / 1000;
  return { bytes: Buffer.concat(chunks), seconds, ...(error === undefined ? {} : { error }) };
}

test("everything passes, is counted, and keeps the rate within 3 %", async () => {
  const content = randomBytes(2_000_000);
  const target = await sender(content);
  const relay = await startRelay({ target, bitsPerSecond: 10e6 });
  const { bytes, seconds } = await receive(relay.port);
  assert.ok(bytes.equals(content));
  assert.deepEqual(relay.bytes(), { up: 0, down: content.length });
  assert.ok(Math.abs(seconds - 1.6) < 0.05, `${seconds} s in place of 1.6`);
  relay.setRate(undefined);
  assert.ok((await receive(relay.port)).seconds < 1);
  await relay.close();
  target.close();
});

test("the rate is shared by all connections", async () => {
  const target = await sender(randomBytes(500_000));
  const relay = await startRelay({ target, bitsPerSecond: 8e6 });
  const both = await Promise.all([receive(relay.port), receive(relay.port)]);
  const seconds = Math.max(...both.map((result) => result.seconds));
  assert.ok(Math.abs(seconds - 1) < 0.05, `${seconds} s in place of 1`);
  await relay.close();
  target.close();
});

test("it cuts where it is told, and damages one bit", async () => {
  const content = randomBytes(300_000);
  const target = await sender(content);
  const relay = await startRelay({ target });
  relay.cutAfter(100_000);
  const cut = await receive(relay.port);
  assert.ok(cut.bytes.length <= 100_000);
  assert.equal(relay.bytes().down, 100_000);
  relay.corruptAfter(5);
  const damaged = await receive(relay.port);
  assert.equal(damaged.bytes.length, content.length);
  const wrong = [...damaged.bytes.entries()].filter(([at, byte]) => byte !== content[at]);
  assert.deepEqual(wrong, [[5, (content[5] ?? 0) ^ 1]]);
  await relay.close();
  target.close();
});

test("frozen, it delivers nothing until it is thawed", async () => {
  const content = randomBytes(1000);
  const target = await sender(content);
  const relay = await startRelay({ target });
  relay.setFrozen(true);
  const received = receive(relay.port);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(relay.bytes().down, 0);
  relay.setFrozen(false);
  assert.ok((await received).bytes.equals(content));
  await relay.close();
  target.close();
});
