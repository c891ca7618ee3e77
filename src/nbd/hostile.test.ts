/** Clients and servers that do what they must not. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { createMemoryDevice, faultyDevice } from "#block";
import { connectNbd, serveNbd } from "./index.ts";
import { code, contentOf, folder, pattern, serve, world } from "./nbd.suite.ts";
import { encodeExportQuery, encodeOption } from "./options.ts";
import { COMMAND, OPTION, REQUEST_BYTES } from "./protocol.ts";
import { encodeRequest } from "./requests.ts";

const fresh = folder();
const quiet = { ...world, log: { ...world.log, log: () => undefined } };

const FLAGS = Buffer.from([0, 0, 0, 3]);
const GO = encodeOption(OPTION.GO, encodeExportQuery({ name: "", items: [] }));
/** Greeting, INFO_EXPORT and ACK. */
const OPENED_BYTES = 18 + 32 + 20;

function request(type: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(REQUEST_BYTES);
  encodeRequest({ flags: 0, type, cookieHigh: 1, cookieLow: 2, offset, length }, bytes);
  return bytes;
}

/** All that a server says to these bytes until it hangs up. */
async function sayUntilHungUp(path: string, ...bytes: readonly Buffer[]): Promise<Buffer> {
  const socket = connect(path);
  const said: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => void said.push(chunk));
  socket.on("error", () => undefined);
  socket.write(Buffer.concat(bytes));
  await once(socket, "close");
  return Buffer.concat(said);
}

test("clients that break the protocol are dropped, and others notice nothing", async () => {
  const device = createMemoryDevice(2 ** 20);
  const content = pattern(2 ** 20);
  await device.write(content, 0);
  await using served = await serve(fresh("bad"), [{ name: "", device }]);
  const good = await served.connect();
  const { path } = served;
  const bad = [
    [Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    [FLAGS, Buffer.alloc(100, 7)],
    [FLAGS, GO, Buffer.alloc(REQUEST_BYTES, 1)],
    [FLAGS, GO, request(COMMAND.WRITE, 0, 2 ** 25 + 1)],
    [FLAGS, GO, request(COMMAND.DISC, 0, 0), Buffer.alloc(1000, 1)],
    [FLAGS, encodeOption(OPTION.EXPORT_NAME, Buffer.from("none"))],
    [FLAGS, encodeOption(OPTION.ABORT)],
  ];
  const all = bad.map((bytes) => sayUntilHungUp(path, ...bytes));
  assert.ok((await contentOf(good)).equals(content));
  await Promise.all(all);
  assert.equal(served.server.clients(""), 1);
  assert.ok((await contentOf(good)).equals(content));
  await good.close();
});

test("a refused write is read to its end, and the next request is understood", async () => {
  const device = createMemoryDevice(2 ** 20);
  await using served = await serve(fresh("skip"), [{ name: "", device, readOnly: true }]);
  const said = await sayUntilHungUp(
    served.path,
    FLAGS,
    GO,
    request(COMMAND.WRITE, 0, 300_000),
    Buffer.alloc(300_000, 1),
    request(99, 0, 0),
    request(COMMAND.DISC, 0, 0),
  );
  const replies = said.subarray(OPENED_BYTES);
  assert.equal(replies.length, 32);
  assert.deepEqual([replies.readUInt32BE(4), replies.readUInt32BE(20)], [1, 22]);
});

test("a client that reads nothing costs bounded memory and harms nobody", async () => {
  const sizeBytes = 64 * 2 ** 20;
  const memory = createMemoryDevice(sizeBytes);
  await memory.write(pattern(2 ** 20), 0);
  let reads = 0;
  const device = {
    ...faultyDevice(memory, []),
    async read(target: Uint8Array, offset: number) {
      reads += target.length;
      await memory.read(target, offset % 2 ** 20);
    },
  };
  await using served = await serve(fresh("deaf"), [{ name: "", device }]);
  const deaf = connect(served.path);
  deaf.on("error", () => undefined);
  await once(deaf, "connect");
  deaf.write(Buffer.concat([FLAGS, GO]));
  for (let count = 0; count < 200; count += 1) {
    deaf.write(request(COMMAND.READ, 0, 2 ** 20));
  }
  const good = await served.connect();
  const target = Buffer.alloc(2 ** 20);
  for (let count = 0; count < 20; count += 1) await good.read(target, 0);
  assert.ok(target.equals(pattern(2 ** 20)));
  assert.ok(reads <= 20 * 2 ** 20 + 20 * 2 ** 20, `${reads} bytes were read`);
  deaf.destroy();
  await good.close();
});

test("who chooses no export in time is dropped, and the oldest of them gives way", async () => {
  const device = createMemoryDevice(4096);
  const address = { path: fresh("slow") };
  const server = await serveNbd(quiet, {
    address,
    exports: [{ name: "", device }],
    connectionsMax: 2,
    handshake_ms: 300,
  });
  const client = await connectNbd(world, { address, exportName: "" });
  const [first, second] = [connect(address.path), connect(address.path)];
  const ended = [first, second].map((socket) => once(socket.resume(), "close"));
  await ended[0];
  assert.equal(second.destroyed, false);
  await ended[1];
  await client.read(Buffer.alloc(10), 0);
  await client.close();
  await server.close();
});

/** A server that says these bytes and then, perhaps, hangs up. */
async function liar(path: string, says: (socket: Socket) => void): Promise<AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on("error", () => undefined).resume());
    says(socket);
  });
  server.listen(path);
  await once(server, "listening");
  return {
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const GREETING = Buffer.from("NBDMAGICIHAVEOPT\0\x03");

test("whatever a server does in the handshake, the client's error has a name", async () => {
  const cases: readonly (readonly [says: (socket: Socket) => void, expected: string])[] = [
    [(socket) => socket.end(), "nbd.handshake-failed"],
    [(socket) => socket.destroy(), "nbd.handshake-failed"],
    [(socket) => socket.write(Buffer.alloc(18)), "nbd.protocol-violation"],
    [(socket) => socket.write(Buffer.alloc(3 * 2 ** 20)), "nbd.protocol-violation"],
    [(socket) => socket.write(Buffer.alloc(10)), "nbd.stalled"],
    [(socket) => socket.write(GREETING), "nbd.stalled"],
    [
      (socket) => socket.write(Buffer.concat([GREETING, Buffer.alloc(20)])),
      "nbd.protocol-violation",
    ],
    [(socket) => socket.end(GREETING), "nbd.handshake-failed"],
  ];
  for (const [says, expected] of cases) {
    const path = fresh("liar");
    await using _ = await liar(path, says);
    const opened = connectNbd(world, { address: { path }, exportName: "", handshake_ms: 200 });
    await assert.rejects(opened, code(expected), expected);
  }
});

test("connecting ends when it is told to", async () => {
  const path = fresh("abort");
  await using _ = await liar(path, () => undefined);
  const stop = new AbortController();
  const address = { path };
  const opened = connectNbd(world, { address, exportName: "", signal: stop.signal });
  stop.abort(new Error("enough"));
  await assert.rejects(opened, /enough/);
  const late = connectNbd(world, { address, exportName: "", signal: stop.signal });
  await assert.rejects(late, /enough/);
});

test("a link that dies fails what is under way, and what comes after it", async () => {
  const never = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const device = {
    ...faultyDevice(createMemoryDevice(2 ** 22), []),
    read: async () => {
      begun.resolve();
      await never.promise;
    },
  };
  const served = await serve(fresh("dies"), [{ name: "", device }]);
  const client = await served.connect();
  const reads = [0, 1, 2].map((at) => client.read(Buffer.alloc(2 ** 20), at * 2 ** 20));
  const ends = Promise.allSettled(reads);
  await begun.promise;
  const closing = served.server.close();
  for (const end of await ends) {
    assert.ok(end.status === "rejected" && code("nbd.link-lost")(end.reason));
  }
  await assert.rejects(client.write(Buffer.alloc(1), 0), code("nbd.link-lost"));
  await client.close();
  await assert.rejects(client.write(Buffer.alloc(1), 0), code("block.closed"));
  never.resolve();
  await closing;
});

test("a server says what is wrong with its address or exports", async () => {
  const device = createMemoryDevice(4096);
  const one = { name: "", device };
  const start = (path: string, ...exports: readonly (typeof one)[]) =>
    serveNbd(quiet, { address: { path }, exports });
  await assert.rejects(start(fresh("x".repeat(110)), one), code("nbd.socket-path-too-long"));
  await assert.rejects(start(fresh("twice"), one, one), code("nbd.export-invalid"));
  const long = { name: "n".repeat(5000), device };
  await assert.rejects(start(fresh("long"), long), code("nbd.export-invalid"));
  await assert.rejects(start(`${fresh("no")}/such/folder`, one), code("nbd.listen-failed"));
  const open = serveNbd(quiet, { address: { host: "0.0.0.0", port: 0 }, exports: [one] });
  await assert.rejects(open, code("nbd.address-public"));
  const local = await serveNbd(quiet, { address: { host: "127.0.0.1", port: 0 }, exports: [one] });
  const client = await connectNbd(world, { address: local.address, exportName: "" });
  assert.match(local.uri("a b"), /^nbd:\/\/127\.0\.0\.1:\d+\/a%20b$/);
  await client.read(Buffer.alloc(10), 0);
  await client.close();
  await local.close();
});
