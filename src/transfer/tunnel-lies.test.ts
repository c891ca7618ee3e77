/** A receiver that lies about its tunnel, or never takes what it is sent. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { TesseraError } from "#core";
import type { Connection } from "./connection.ts";
import type { DataSource } from "./contract.ts";
import { dialCandidate } from "./dial.ts";
import { Clouds, MIB, soon } from "./fixture.suite.ts";
import type { Frame } from "./frame.ts";
import { dialHandshake } from "./handshake.ts";
import { encodeCredit, encodeJson } from "./messages.ts";
import { BYTES_PREFIX_BYTES, TIMING, TYPE } from "./protocol.ts";
import { encodeReply, encodeTaken } from "./return-path.ts";
import { newToken } from "./tokens.ts";
import { hypervisor, until } from "./tunnel.suite.ts";

let clouds: Clouds;
before(async () => {
  clouds = await Clouds.start();
});
after(() => clouds[Symbol.asyncDispose]());

/** A receiver that sends what it likes, and notes the frames that come. */
class Liar {
  readonly frames: Frame[] = [];
  readonly #connection: Connection;
  readonly #came = new Map<number, number>();

  private constructor(connection: Connection) {
    this.#connection = connection;
    connection.serve((frame) => this.#take(frame));
  }

  /** Dials as often as is asked; the token is that of the last time. */
  static async dialler(
    source: DataSource,
    limit: { readonly bytesPerSecondMax?: number } = {},
  ): Promise<() => Promise<Liar>> {
    const { world, receiver: identity, sender, token: first } = clouds;
    const server = await clouds.serving(source, limit);
    const candidate = server.endpoint.candidates[0] ?? assert.fail();
    let token = first;
    return async () => {
      const { certificate } = sender;
      const signal = soon();
      const options = { identity, certificate, timing: TIMING, signal };
      const connection = await dialCandidate(world, candidate, options);
      await dialHandshake(connection, { role: "receiver", session: "m1", token }, (fresh) => {
        token = fresh;
        return Promise.resolve();
      });
      return new Liar(connection);
    };
  }

  open(stream: number, tunnel: string, from: number): void {
    const content = { kind: "memory", tunnel, from, credit: 4 * MIB };
    this.#connection.send(TYPE.OPEN, stream, encodeJson(content));
  }

  taken(stream: number, bytes: number): void {
    this.#connection.send(TYPE.TAKEN, stream, encodeTaken(bytes));
  }

  reply(stream: number, offset: number, bytes: Buffer): void {
    this.#connection.send(TYPE.REPLY, stream, encodeReply(offset, bytes));
  }

  credit(stream: number, amountBytes: number): void {
    this.#connection.send(TYPE.CREDIT, stream, encodeCredit({ amountBytes, busyShare: 0 }));
  }

  /** How many bytes came on a stream. */
  came(stream: number): number {
    return this.#came.get(stream) ?? 0;
  }

  #take(frame: Frame): void {
    if (frame.type !== TYPE.BYTES) this.frames.push(frame);
    else this.#came.set(frame.stream, this.came(frame.stream) + frame.length - BYTES_PREFIX_BYTES);
  }

  has(type: number, stream: number): boolean {
    return this.frames.some((frame) => frame.type === type && frame.stream === stream);
  }

  /** What the sender said of a stream. */
  code(stream: number): string {
    const { payload } =
      this.frames.find((frame) => frame.type === TYPE.ERROR && frame.stream === stream) ??
      assert.fail("no error");
    return (JSON.parse(payload.toString()) as { code: string }).code;
  }

  /** Why the connection has ended. */
  async ended(): Promise<string> {
    await until(() => this.#connection.signal.aborted);
    return (this.#connection.signal.reason as TesseraError).code;
  }

  /** As a link that is cut. */
  async cut(): Promise<void> {
    const code = "transfer.link-lost";
    this.#connection.end(Object.assign(new Error("cut"), { code }) as TesseraError, false);
    await this.ended();
  }
}

/** Less than is on its way before anything is known of the other side; and that. */
const PART = 32 * 1024;
const WINDOW = 256 * 1024;
const VIOLATION = "transfer.protocol-violation";

/** A tunnel over whose first stream a hundred bytes have come. */
/** @param limit of the sender's link */
async function begun(limit: { readonly bytesPerSecondMax?: number } = {}) {
  const there = hypervisor();
  const dial = await Liar.dialler(there.source, limit);
  const id = newToken(clouds.world.random);
  const liar = await dial();
  liar.open(1, id, 0);
  there.out.write(Buffer.alloc(100, 7));
  await until(() => liar.came(1) === 100);
  return { ...there, dial, liar, id };
}

async function closedBy(closed: Promise<unknown>, code: string): Promise<void> {
  assert.equal(((await closed) as TesseraError).code, code);
}

test("more taken than sent, a reply out of place: the connection and the tunnel end", async () => {
  const lies: readonly ((liar: Liar) => void)[] = [
    (liar) => liar.taken(1, 101),
    (liar) => liar.reply(1, 1, Buffer.alloc(1)),
    (liar) => {
      liar.reply(1, 0, Buffer.alloc(1));
      liar.reply(1, 0, Buffer.alloc(1));
    },
  ];
  for (const lie of lies) {
    const { liar, closed } = await begun();
    lie(liar);
    assert.equal(await liar.ended(), VIOLATION);
    await closedBy(closed, VIOLATION);
  }
});

test("who goes on beyond what was sent, or before what it took, ends the tunnel", async () => {
  for (const from of [101, 39]) {
    const { liar, closed, dial, id, carried } = await begun();
    liar.taken(1, 20);
    liar.taken(1, 40);
    liar.taken(1, 10);
    liar.reply(1, 0, Buffer.alloc(1));
    await until(() => liar.has(TYPE.TAKEN, 1));
    await liar.cut();
    await until(() => carried.length === 2);
    const again = await dial();
    again.open(1, id, from);
    await until(() => again.has(TYPE.ERROR, 1));
    assert.equal(again.code(1), VIOLATION);
    await closedBy(closed, VIOLATION);
    again.open(2, id, 40);
    await until(() => again.has(TYPE.ERROR, 2));
    assert.equal(again.code(2), "transfer.tunnel-lost");
  }
});

test("who goes on and tells to have taken what has not come again ends the tunnel", async () => {
  const slow = { bytesPerSecondMax: 8 * PART };
  const { liar, closed, dial, id, carried, out } = await begun(slow);
  for (let parts = 1; parts <= 6; parts += 1) {
    out.write(Buffer.alloc(PART));
    await until(() => liar.came(1) === 100 + parts * PART);
  }
  await liar.cut();
  await until(() => carried.length === 2);
  const again = await dial();
  again.open(1, id, 0);
  await until(() => again.came(1) > PART);
  again.taken(1, 100 + 6 * PART);
  await again.ended();
  await closedBy(closed, VIOLATION);
});

test("a reply before the tunnel is open, or in a stream of another kind, is a violation", async () => {
  const never = { openMemory: () => new Promise<never>(() => undefined) };
  const early = await (await Liar.dialler({ ...hypervisor().source, ...never }))();
  early.open(1, newToken(clouds.world.random), 0);
  early.reply(1, 0, Buffer.alloc(1));
  assert.equal(await early.ended(), VIOLATION);
});

test("a later stream takes the tunnel over; what comes on the former counts no more", async () => {
  const { liar, id, replies, out, closed } = await begun();
  liar.open(2, id, 60);
  await until(() => liar.came(2) === 40);
  liar.reply(1, 0, Buffer.from("stale"));
  liar.taken(1, 1_000_000);
  liar.reply(2, 0, Buffer.from("good"));
  await until(() => replies.length > 0);
  assert.equal(Buffer.concat(replies).toString(), "good");
  out.end();
  await until(() => liar.has(TYPE.END, 2));
  liar.taken(2, 100);
  assert.equal(await closed, undefined);
});

test("one that takes nothing is sent little", async () => {
  const { liar, out } = await begun();
  liar.credit(1, 2 ** 30);
  const chunk = Buffer.alloc(MIB, 1);
  for (let written = 0; written < 40; written += 1) out.write(chunk);
  await until(() => liar.came(1) >= WINDOW);
  liar.taken(1, 100);
  const before = liar.came(1);
  assert.ok(before <= 2 * WINDOW, `${before} bytes`);
  liar.taken(1, before);
  await until(() => liar.came(1) > before + WINDOW);
});
