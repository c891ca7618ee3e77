/** What lets a tunnel outlive its connections, without any connection: cuts anywhere, and lies. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import type { Frame } from "./frame.ts";
import { REPLY_BYTES_MAX, REPLY_WINDOW_BYTES, TYPE } from "./protocol.ts";
import { ReplyPath, ReplyQueue, decodeTaken, encodeReply, encodeTaken } from "./return-path.ts";
import { SentBytes, costOf } from "./sent-bytes.ts";

const VIOLATION = { code: "transfer.protocol-violation" };
const BOUND = 2_000;
const STREAM = Buffer.from(Array.from({ length: 5_000 }, (_, index) => index % 251));

/** A sender, the link, and a receiver that takes what has come, piece by piece. */
class Model {
  readonly sent = new SentBytes(BOUND);
  readonly came: Buffer[] = [];
  link: Buffer[] = [];
  acknowledgements: number[] = [];
  at = 0;
  cameBytes = 0;

  add(length: number): void {
    const piece = STREAM.subarray(this.sent.endBytes, this.sent.endBytes + length);
    if (piece.length > 0 && this.sent.hasRoomFor(piece.length)) this.sent.add(piece);
  }

  send(): void {
    const piece = this.sent.at(this.at);
    if (piece === undefined) return;
    this.link.push(piece);
    this.at += piece.length;
  }

  arrive(): void {
    const piece = this.link.shift();
    if (piece === undefined) return;
    this.came.push(piece);
    this.cameBytes += piece.length;
  }

  tell(): void {
    this.acknowledgements.push(this.cameBytes);
  }

  /** One that was overtaken by others tells nothing new. */
  hear(late: boolean): void {
    const upTo = late ? this.acknowledgements.pop() : this.acknowledgements.shift();
    if (upTo !== undefined) this.sent.taken(upTo);
  }

  /** What is on the link is lost in the middle of a piece, both ways. */
  cut(bytes: number): void {
    const piece = this.link[0]?.subarray(0, bytes);
    this.link = piece === undefined || piece.length === 0 ? [] : [piece];
    this.arrive();
    this.link = [];
    this.acknowledgements = [];
    this.sent.resume(this.cameBytes);
    this.sent.taken(this.cameBytes);
    this.at = this.cameBytes;
  }
}

const STEPS = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("add" as const), number: fc.integer({ min: 1, max: 700 }) }),
    fc.record({ kind: fc.constant("cut" as const), number: fc.integer({ min: 0, max: 700 }) }),
    fc.record({
      kind: fc.constantFrom("send" as const, "arrive" as const, "tell" as const),
      number: fc.constant(0),
    }),
    fc.record({ kind: fc.constant("hear" as const), number: fc.integer({ min: 0, max: 1 }) }),
  ),
  { maxLength: 120 },
);

test("whatever is cut wherever, every byte comes once and in order, within the bound", () => {
  fc.assert(
    fc.property(STEPS, (steps) => {
      const model = new Model();
      for (const { kind, number } of steps) {
        if (kind === "add") model.add(number);
        else if (kind === "cut") model.cut(number);
        else if (kind === "hear") model.hear(number === 1);
        else model[kind]();
        assert.ok(model.sent.costBytes <= BOUND);
      }
      model.cut(0);
      while (model.cameBytes < model.sent.endBytes) {
        model.send();
        model.arrive();
      }
      const whole = Buffer.concat(model.came);
      assert.ok(whole.equals(STREAM.subarray(0, model.sent.endBytes)));
      model.tell();
      model.hear(true);
      assert.equal(model.sent.costBytes, 0);
    }),
    { numRuns: 300 },
  );
});

test("who tells to have taken, or goes on from, what cannot be is refused by name", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 5 }),
      fc.nat(1_000),
      fc.integer({ min: 0, max: 3_000 }),
      (sizes, takenAt, claim) => {
        const sent = new SentBytes(1e6);
        for (const size of sizes) sent.add(Buffer.alloc(size));
        const taken = Math.min(takenAt, sent.endBytes);
        sent.taken(taken);
        const resume = (): void => sent.resume(claim);
        if (claim < taken || claim > sent.endBytes) assert.throws(resume, VIOLATION);
        else resume();
        const tell = (): void => sent.taken(claim);
        if (claim > sent.endBytes) assert.throws(tell, VIOLATION);
        else tell();
        assert.equal(sent.takenBytes, claim > sent.endBytes ? taken : Math.max(taken, claim));
      },
    ),
    { numRuns: 200 },
  );
});

test("one piece always has room, many small ones count with their cost", () => {
  const sent = new SentBytes(1_000);
  assert.ok(sent.hasRoomFor(5_000));
  sent.add(Buffer.alloc(5_000));
  assert.ok(!sent.hasRoomFor(1));
  sent.taken(5_000);
  for (let number = 0; sent.hasRoomFor(1); number += 1) sent.add(Buffer.alloc(1));
  assert.equal(sent.endBytes - 5_000, Math.floor(1_000 / costOf(1)));
});

const ignore = (): void => undefined;

function frameOf(payload: Buffer): Frame {
  return { type: TYPE.REPLY, flags: 0, stream: 1, length: payload.length, payload };
}

test("the return path goes on where the other side is, whatever was lost", async () => {
  const sample = fc.sample(fc.array(fc.integer({ min: 1, max: 90_000 }), { maxLength: 12 }), 30);
  for (const sizes of sample) {
    const path = new ReplyPath();
    const queue = new ReplyQueue();
    const all = randomBytes(sizes.reduce((sum, size) => sum + size, 0));
    const resume = (): void => {
      const { receivedBytes: replied, takenBytes: taken } = queue;
      let number = 0;
      // The connection breaks before the third.
      path.resume({ replied, taken }, (payload) => {
        number += 1;
        if (number < 3) queue.take(frameOf(payload));
      });
    };
    const sending = (async () => {
      let at = 0;
      for (const size of sizes) await path.send(all.subarray(at, (at += size)));
    })();
    const delivered: Buffer[] = [];
    for (let bytes = 0; bytes < all.length;) {
      if (queue.receivedBytes < all.length) resume();
      await new Promise((resolve) => setImmediate(resolve));
      if (queue.receivedBytes === queue.takenBytes) continue;
      const next = (await queue.next()) ?? assert.fail();
      delivered.push(next.bytes);
      bytes += next.bytes.length;
      queue.delivered(next);
      path.taken(frameOf(encodeTaken(queue.takenBytes)));
    }
    await sending;
    assert.ok(Buffer.concat(delivered).equals(all));
  }
});

test("replies beyond the window, or out of place, and more taken than sent, are refused", async () => {
  const queue = new ReplyQueue();
  const one = (offset: number) => frameOf(encodeReply(offset, Buffer.alloc(1)));
  let offset = 0;
  for (let cost = 65; cost <= REPLY_WINDOW_BYTES; cost += 65) queue.take(one(offset++));
  assert.throws(() => queue.take(one(offset)), VIOLATION);
  const next = (await queue.next()) ?? assert.fail();
  assert.equal(next.costBytes, next.bytes.length * 65);
  queue.delivered(next);
  assert.throws(() => queue.take(one(offset - 1)), VIOLATION, "a second time");
  assert.throws(() => queue.take(one(offset + 1)), VIOLATION, "a gap");
  queue.close();
  assert.equal(await queue.next(), undefined);

  const path = new ReplyPath();
  assert.throws(() => path.taken(frameOf(encodeTaken(1))), VIOLATION);
  await path.send(Buffer.alloc(REPLY_BYTES_MAX + 1));
  assert.throws(() => path.resume({ replied: REPLY_BYTES_MAX + 2, taken: 0 }, ignore), VIOLATION);
  assert.throws(() => path.resume({ replied: 0, taken: 1 }, ignore), VIOLATION);
  path.resume({ replied: 10, taken: 10 }, ignore);
  assert.throws(() => path.resume({ replied: 9, taken: 0 }, ignore), VIOLATION);
  const beyond = frameOf(Buffer.from("0020000000000000", "hex"));
  assert.throws(() => decodeTaken(beyond), VIOLATION, "above 2^53 - 1");
});
