/** Peers that are not who they should be, break the protocol, or lie. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir, stat } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { connect as connectTls, createServer } from "node:tls";
import { zstdCompressSync } from "node:zlib";
import { after, before, test } from "node:test";
import { Clouds, MIB, memoryResume, portOf, referenceTo, soon, sourceOf } from "./fixture.suite.ts";
import { FrameDecoder, encodeFrame, encodeHeader, type Frame } from "./frame.ts";
import type { DataIdentity } from "./identity.ts";
import { blocksPrefix, bytesPrefix, encodeJson, encodeZeroes } from "./messages.ts";
import { ALPN, CONTENT_VERSIONS, FLAG_ZSTD, TYPE } from "./protocol.ts";
import { liar, type Script } from "./liar.suite.ts";
import { decodeHeld, newToken } from "./tokens.ts";

const BYTES = randomBytes(3 * MIB);
let clouds: Clouds;
before(async () => {
  clouds = await Clouds.start();
});
after(() => clouds[Symbol.asyncDispose]());

/** A client that speaks as it likes; collects the frames that it is sent. */
async function rawClient(port: number, identity?: DataIdentity, protocols = [ALPN]) {
  const socket = connectTls({
    host: "127.0.0.1",
    port,
    rejectUnauthorized: false,
    ALPNProtocols: protocols,
    ...(identity === undefined ? {} : { key: identity.key, cert: identity.certificatePem }),
  });
  const frames: Frame[] = [];
  const decoder = new FrameDecoder();
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  socket.on("data", (chunk: Buffer) => decoder.push(chunk, (frame) => frames.push(frame)));
  socket.on("error", () => undefined);
  socket.on("end", () => socket.end());
  return { socket, frames, closed };
}

function codesOf(frames: readonly Frame[]): string[] {
  return frames
    .filter(({ type }) => type === TYPE.ERROR)
    .map(({ payload }) => (JSON.parse(payload.toString()) as { code: string }).code);
}

function hello(token: string, change: object = {}): Buffer {
  const protocol = CONTENT_VERSIONS;
  const content = { protocol, features: [], role: "receiver", session: "m1", token, ...change };
  return encodeFrame(TYPE.HELLO, 0, encodeJson(content));
}

test("a server with another certificate is told nothing", async () => {
  const received: Buffer[] = [];
  const impostor = createServer({
    key: clouds.stranger.key,
    cert: clouds.stranger.certificatePem,
    ALPNProtocols: [ALPN],
  });
  impostor.on("secureConnection", (socket) => {
    socket.on("data", (chunk: Buffer) => received.push(chunk));
    socket.on("error", () => undefined);
  });
  impostor.on("tlsClientError", () => undefined);
  impostor.listen(0, "127.0.0.1");
  await once(impostor, "listening");
  const { port } = impostor.address() as { port: number };
  await assert.rejects(clouds.receiving(port).fetchBlob(referenceTo(BYTES), soon()), {
    code: "transfer.certificate-mismatch",
  });
  assert.deepEqual(received, []);

  // Behind it in the list is the right one: a private address may lead elsewhere.
  const server = await clouds.serving(sourceOf([Buffer.from("behind")]));
  const candidates = [{ host: "127.0.0.1", port }, ...server.endpoint.candidates];
  const receiver = clouds.receiving(0, {
    endpoint: { candidates, certificate: clouds.sender.certificate },
  });
  await receiver.fetchBlob(referenceTo(Buffer.from("behind")), soon());
  assert.deepEqual(received, []);
  await new Promise((resolve) => impostor.close(resolve));
});

test("a client without the signed certificate is refused, whatever it knows", async () => {
  const server = await clouds.serving(sourceOf([BYTES]));
  for (const identity of [undefined, clouds.stranger]) {
    const { socket, frames, closed } = await rawClient(portOf(server), identity);
    socket.write(hello(clouds.token));
    await closed;
    assert.deepEqual(codesOf(frames), ["transfer.certificate-mismatch"]);
  }
  const impostor = clouds.receiving(portOf(server), { identity: clouds.stranger });
  await assert.rejects(impostor.fetchBlob(referenceTo(BYTES), soon()), {
    code: "transfer.certificate-mismatch",
  });
});

test("the certificate of one session does not open another", async () => {
  const server = await clouds.serving(sourceOf([BYTES]));
  const token = newToken(clouds.world.random);
  const peerCertificate = clouds.stranger.certificate;
  await server.offer({ id: "m2", token, peerCertificate, source: sourceOf([BYTES]) });
  const receiver = clouds.receiving(portOf(server), { session: "m2", token });
  await assert.rejects(receiver.fetchBlob(referenceTo(BYTES), soon()), {
    code: "transfer.certificate-mismatch",
  });
});

test("a token opens once, and a refused replay does not disturb the rightful receiver", async () => {
  const blobs = [Buffer.from("one"), Buffer.from("two"), Buffer.from("three")] as const;
  const server = await clouds.serving(sourceOf(blobs));
  const resume = memoryResume();
  const receiver = clouds.receiving(portOf(server), { resume });
  await receiver.fetchBlob(referenceTo(blobs[0]), soon());
  const replay = clouds.receiving(portOf(server));
  await assert.rejects(replay.fetchBlob(referenceTo(blobs[1]), soon()), {
    code: "transfer.token-refused",
  });
  const guess = clouds.receiving(portOf(server), { token: newToken(clouds.world.random) });
  await assert.rejects(guess.fetchBlob(referenceTo(blobs[1]), soon()), {
    code: "transfer.token-refused",
  });
  await receiver.fetchBlob(referenceTo(blobs[1]), soon());
  const stale = await resume.load();
  await receiver.close();
  const next = clouds.receiving(portOf(server), { resume });
  await next.fetchBlob(referenceTo(blobs[2]), soon());
  // The resume token rotates as well: the one before is worth nothing now.
  assert.notEqual(await resume.load(), stale);
  const old = clouds.receiving(portOf(server), { token: decodeHeld(stale ?? "").get(0) ?? "" });
  await assert.rejects(old.fetchBlob(referenceTo(BYTES), soon()), {
    code: "transfer.token-refused",
  });
});

test("a WELCOME that is lost locks nobody out", async () => {
  const server = await clouds.serving(sourceOf([BYTES]));
  const { socket, frames } = await rawClient(portOf(server), clouds.receiver);
  socket.write(hello(clouds.token));
  while (frames.length === 0) await once(socket, "data");
  socket.destroy();
  const bytes = Buffer.from("not locked out");
  const again = await clouds.serving(sourceOf([bytes]));
  const lost = await rawClient(portOf(again), clouds.receiver);
  lost.socket.write(hello(clouds.token));
  while (lost.frames.length === 0) await once(lost.socket, "data");
  lost.socket.destroy();
  await clouds.receiving(portOf(again)).fetchBlob(referenceTo(bytes), soon());
});

test("other versions, roles and protocols are refused with a reason", async () => {
  const server = await clouds.serving(sourceOf([BYTES]));
  const cases = [
    [{ protocol: { min: 5, max: 9 } }, "transfer.version-unsupported"],
    [{ role: "sender" }, "transfer.role-unsupported"],
    [{ role: "spy" }, "transfer.protocol-violation"],
    [{ session: "m9" }, "transfer.not-offered"],
  ] as const;
  for (const [change, code] of cases) {
    const { socket, frames, closed } = await rawClient(portOf(server), clouds.receiver);
    socket.write(hello(clouds.token, change));
    await closed;
    assert.deepEqual(codesOf(frames), [code]);
  }
  const without = await rawClient(portOf(server), clouds.receiver, ["http/1.1"]);
  await without.closed;
  assert.deepEqual(without.frames, []);
  const outdated = connectTls({
    host: "127.0.0.1",
    port: portOf(server),
    rejectUnauthorized: false,
    ALPNProtocols: [ALPN],
    maxVersion: "TLSv1.2",
    key: clouds.receiver.key,
    cert: clouds.receiver.certificatePem,
  });
  await assert.rejects(once(outdated, "secureConnect"));
  const { socket, frames } = await rawClient(portOf(server), clouds.receiver);
  socket.write(hello(clouds.token, { protocol: { min: 1, max: 7 }, features: ["later"] }));
  while (frames.length === 0) await once(socket, "data");
  const welcome = JSON.parse(frames[0]?.payload.toString() ?? "") as object;
  assert.deepEqual({ ...welcome, token: "" }, { protocol: 4, features: [], token: "" });
  socket.destroy();
});

test("garbage, oversize and misplaced frames end the connection, not the server", async () => {
  const bytes = Buffer.from("still there");
  const server = await clouds.serving(sourceOf([bytes]));
  const oversize = encodeHeader({ length: 2 ** 31, type: TYPE.HELLO, flags: 0, stream: 0 });
  const open = { kind: "blob", digest: referenceTo(bytes).digest, offset: 0, credit: 4 * MIB };
  const early = encodeFrame(TYPE.OPEN, 1, encodeJson(open));
  const cases = [
    randomBytes(5000),
    oversize,
    Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    early,
    encodeFrame(TYPE.HELLO, 0, Buffer.from("{not json")),
    Buffer.concat(Array.from({ length: 200 }, () => early)),
    encodeHeader({ length: MIB, type: TYPE.BYTES, flags: 0, stream: 1 }),
  ];
  for (const garbage of cases) {
    const { socket, frames, closed } = await rawClient(portOf(server), clouds.receiver);
    socket.write(garbage);
    await closed;
    assert.deepEqual(codesOf(frames), ["transfer.protocol-violation"]);
  }
  // No TLS at all.
  const plain = connect(portOf(server), "127.0.0.1");
  plain.on("error", () => undefined);
  plain.resume();
  plain.write(randomBytes(1000));
  await once(plain, "close");
  await clouds.receiving(portOf(server)).fetchBlob(referenceTo(bytes), soon());
});

function openBlob(offset: number): Buffer {
  const { digest } = referenceTo(BYTES);
  return encodeJson({ kind: "blob", digest, offset, credit: 4 * MIB });
}

test("violations after the handshake end the connection too", async () => {
  const cases = [
    [encodeFrame(TYPE.CREDIT, 1, Buffer.alloc(5))],
    [encodeFrame(TYPE.OPEN, 5, openBlob(0)), encodeFrame(TYPE.OPEN, 5, openBlob(0))],
    [encodeFrame(TYPE.OPEN, 1, openBlob(0)), encodeFrame(TYPE.CREDIT, 1, Buffer.alloc(5, 0xff))],
    Array.from({ length: 9 }, (_, n) => encodeFrame(TYPE.OPEN, n + 1, openBlob(0))),
    [encodeFrame(TYPE.HELLO, 0, Buffer.from("{}"))],
    [encodeFrame(TYPE.OPEN, 1, encodeJson({ kind: "tree" }))],
  ];
  for (const frames of cases) {
    const server = await clouds.serving(sourceOf([BYTES]));
    const client = await rawClient(portOf(server), clouds.receiver);
    client.socket.write(hello(clouds.token));
    while (client.frames.length === 0) await once(client.socket, "data");
    client.socket.write(Buffer.concat([encodeFrame(TYPE.READY, 0), ...frames]));
    await client.closed;
    assert.deepEqual(codesOf(client.frames), ["transfer.protocol-violation"]);
  }
});

test("an offset behind the end is refused for its stream alone", async () => {
  const server = await clouds.serving(sourceOf([BYTES]));
  const client = await rawClient(portOf(server), clouds.receiver);
  const open = { kind: "blob", digest: referenceTo(BYTES).digest, credit: 4 * MIB };
  client.socket.write(hello(clouds.token));
  while (client.frames.length === 0) await once(client.socket, "data");
  client.socket.write(encodeFrame(TYPE.READY, 0));
  client.socket.write(encodeFrame(TYPE.OPEN, 1, encodeJson({ ...open, offset: 2 ** 40 })));
  while (codesOf(client.frames).length === 0) await once(client.socket, "data");
  assert.deepEqual(codesOf(client.frames), ["transfer.not-offered"]);
  client.socket.write(encodeFrame(TYPE.OPEN, 2, encodeJson({ ...open, offset: BYTES.length - 1 })));
  while (client.frames.at(-1)?.type !== TYPE.END) await once(client.socket, "data");
  client.socket.destroy();
});

test("connections that never say who they are do not keep others out", async () => {
  const bytes = Buffer.from("through the crowd");
  const server = await clouds.serving(sourceOf([bytes]));
  const idle: Socket[] = [];
  for (let number = 0; number < 100; number += 1) {
    const socket = connect(portOf(server), "127.0.0.1");
    socket.on("error", () => undefined);
    await once(socket, "connect");
    idle.push(socket);
  }
  await clouds.receiving(portOf(server)).fetchBlob(referenceTo(bytes), soon());
  for (const socket of idle) socket.destroy();
});

test("a handshake that stops half-way is ended in time", async () => {
  const server = await clouds.serving(sourceOf([BYTES]), {}, { timing: { handshake_ms: 200 } });
  const { frames, closed } = await rawClient(portOf(server), clouds.receiver);
  await closed;
  assert.deepEqual(codesOf(frames), ["transfer.stalled"]);
});

const SIZE = 2 * MIB;
const opened = encodeJson({ sizeBytes: SIZE });
const bytesOf = (offset: number, raw: number, data: Buffer) =>
  Buffer.concat([bytesPrefix(offset, raw), data]);

const BLOB_LIES: readonly (readonly [name: string, code: string, script: Script])[] = [
  [
    "another size",
    "transfer.size-mismatch",
    (send) => send(TYPE.OPENED, encodeJson({ sizeBytes: SIZE + 1 })),
  ],
  [
    "other bytes",
    "transfer.digest-mismatch",
    (send) => {
      send(TYPE.OPENED, opened);
      send(TYPE.BYTES, bytesOf(0, MIB, randomBytes(MIB)));
      send(TYPE.ZEROES, encodeZeroes(MIB, MIB));
      send(TYPE.END, encodeJson({}));
    },
  ],
  [
    "an end before the end",
    "transfer.protocol-violation",
    (send) => {
      send(TYPE.OPENED, opened);
      send(TYPE.END, encodeJson({}));
    },
  ],
  [
    "more zeroes than there is room",
    "transfer.protocol-violation",
    (send) => {
      send(TYPE.OPENED, opened);
      send(TYPE.ZEROES, encodeZeroes(0, 2 ** 52));
    },
  ],
  [
    "a gap",
    "transfer.protocol-violation",
    (send) => {
      send(TYPE.OPENED, opened);
      send(TYPE.BYTES, bytesOf(1, 10, Buffer.alloc(10)));
    },
  ],
  [
    "a wrong raw length",
    "transfer.protocol-violation",
    (send) => {
      send(TYPE.OPENED, opened);
      send(TYPE.BYTES, bytesOf(0, 11, Buffer.alloc(10)));
    },
  ],
  [
    "a decompression bomb",
    "transfer.protocol-violation",
    (send) => {
      send(TYPE.OPENED, opened);
      const bomb = zstdCompressSync(Buffer.alloc(2 ** 28));
      send(TYPE.BYTES, bytesOf(0, MIB, bomb), FLAG_ZSTD);
    },
  ],
  [
    "damaged compressed data",
    "transfer.protocol-violation",
    (send) => {
      send(TYPE.OPENED, opened);
      send(TYPE.BYTES, bytesOf(0, MIB, randomBytes(100)), FLAG_ZSTD);
    },
  ],
  [
    "data without OPENED",
    "transfer.protocol-violation",
    (send) => send(TYPE.BYTES, bytesOf(0, 10, Buffer.alloc(10))),
  ],
  [
    "OPENED again and again",
    "transfer.protocol-violation",
    (send) => {
      for (let n = 0; n < 100; n += 1) send(TYPE.OPENED, opened);
    },
  ],
  [
    "blocks in a blob",
    "transfer.protocol-violation",
    (send) => {
      send(TYPE.OPENED, opened);
      send(TYPE.BLOCKS, blocksPrefix([{ index: 0, count: 1 }]));
    },
  ],
  [
    "more than the credit",
    "transfer.protocol-violation",
    (send) => {
      for (let n = 0; n < 8; n += 1) send(TYPE.BYTES, bytesOf(n * MIB, MIB, randomBytes(MIB)));
    },
  ],
  [
    "a foreign code",
    "transfer.protocol-violation",
    (send) => send(TYPE.ERROR, encodeJson({ code: "system.disk-full", message: "" })),
  ],
];

for (const [name, code, script] of BLOB_LIES) {
  test(`a sender that sends ${name} is refused, and no blob is there`, async () => {
    const port = await liar(clouds, script);
    const blob = { digest: referenceTo(randomBytes(32)).digest, sizeBytes: SIZE };
    await assert.rejects(clouds.receiving(port).fetchBlob(blob, soon()), { code, fault: "peer" });
    assert.equal(await clouds.store.hasBlob(blob.digest), false);
  });
}

const disk = (allocatedBytes = MIB) => encodeJson({ sizeBytes: SIZE, allocatedBytes });
const blocksOf = (index: number, data: Buffer) =>
  Buffer.concat([blocksPrefix([{ index, count: data.length / 65_536 }]), data]);
const END = encodeJson({ digest: referenceTo(Buffer.alloc(1)).digest, allocatedBytes: 65_536 });

const DISK_LIES: readonly (readonly [name: string, code: string, script: Script])[] = [
  [
    "another digest",
    "transfer.digest-mismatch",
    (send) => {
      send(TYPE.OPENED, disk());
      send(TYPE.BLOCKS, blocksOf(3, randomBytes(65_536)));
      send(TYPE.END, END);
    },
  ],
  [
    "blocks behind the end",
    "transfer.protocol-violation",
    (send) => {
      send(TYPE.OPENED, disk());
      send(TYPE.BLOCKS, blocksOf(32, randomBytes(65_536)));
    },
  ],
  [
    "blocks twice",
    "transfer.protocol-violation",
    (send) => {
      send(TYPE.OPENED, disk());
      send(TYPE.BLOCKS, blocksOf(3, randomBytes(65_536)));
      send(TYPE.BLOCKS, blocksOf(3, randomBytes(65_536)));
    },
  ],
  [
    "a bomb",
    "transfer.protocol-violation",
    (send) => {
      send(TYPE.OPENED, disk());
      const bomb = zstdCompressSync(Buffer.alloc(2 ** 28));
      const prefix = blocksPrefix([{ index: 0, count: 16 }]);
      send(TYPE.BLOCKS, Buffer.concat([prefix, bomb]), FLAG_ZSTD);
    },
  ],
  [
    "more allocated than there is",
    "transfer.protocol-violation",
    (send) => send(TYPE.OPENED, disk(SIZE + 1)),
  ],
  [
    "a disk that fits nowhere",
    "transfer.no-space",
    (send) => send(TYPE.OPENED, encodeJson({ sizeBytes: 2 ** 50, allocatedBytes: 2 ** 50 })),
  ],
];

for (const [name, code, script] of DISK_LIES) {
  test(`user data with ${name} are refused, and no disk is there`, async () => {
    const port = await liar(clouds, script);
    const path = clouds.path(`disk-${name.replaceAll(" ", "-")}`);
    await assert.rejects(clouds.receiving(port).fetchUserData(path, soon()), { code });
    await assert.rejects(stat(path), { code: "ENOENT" });
    if (code !== "transfer.digest-mismatch") return;
    const names = await readdir(clouds.directory);
    assert.deepEqual(
      names.filter((entry) => path.endsWith(entry.replace(/\.(part|resume)$/, ""))),
      [],
    );
  });
}

test("a peer that asks without reading the answers is dropped, its memory bounded", async () => {
  const server = await clouds.serving(sourceOf([BYTES]));
  const client = await rawClient(portOf(server), clouds.receiver);
  client.socket.write(hello(clouds.token));
  while (client.frames.length === 0) await once(client.socket, "data");
  client.socket.removeAllListeners("data");
  client.socket.pause();
  client.socket.write(encodeFrame(TYPE.READY, 0));
  const pings = Buffer.concat(
    Array.from({ length: 50_000 }, () => encodeFrame(TYPE.PING, 0, Buffer.alloc(8))),
  );
  const dropped = client.closed.then(() => true);
  for (let round = 0; round < 60; round += 1) {
    const drained = new Promise<boolean>((resolve) =>
      client.socket.once("drain", () => resolve(false)),
    );
    const full = !client.socket.write(pings);
    if (full && (await Promise.race([drained, dropped]))) return;
  }
  assert.fail("the peer was never dropped");
});
