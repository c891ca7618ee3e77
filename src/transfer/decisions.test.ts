/** The small decisions: tokens, rates, levels, pauses, versions, the pipeline. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { constants, zstdCompressSync } from "node:zlib";
import { test } from "node:test";
import * as fc from "fast-check";
import { realWorld } from "#system";
import { pipelined, type Clock } from "#core";
import { handClock } from "./clock.suite.ts";
import { Compressor, compress, compressionLevel, decompress } from "./compression.ts";
import { chooseVersion } from "./handshake.ts";
import { startKeepalive } from "./keepalive.ts";
import { rateLimiter } from "./limiter.ts";
import { backoff_ms } from "./link.ts";
import { linkBitsPerSecond, LinkMeter } from "./meter.ts";
import { TIMING } from "./protocol.ts";
import {
  confirmToken,
  decodeTokens,
  encodeTokens,
  firstTokens,
  newToken,
  presentToken,
  type TokenState,
} from "./tokens.ts";

test("a token opens once: after READY only the fresh one counts", () => {
  const first = firstTokens("first");
  const second = presentToken(first, "first", "second");
  assert.ok(second);
  assert.equal(presentToken(confirmToken("second"), "first", "x"), undefined);
  assert.ok(presentToken(confirmToken("second"), "second", "x"));
  assert.equal(presentToken(first, "other", "x"), undefined);
});

test("whatever is lost, the rightful receiver is never locked out and old tokens never count", () => {
  // What becomes of each attempt: WELCOME lost; saved but READY lost; READY arrives.
  const attempts = fc.array(fc.constantFrom("welcome-lost", "ready-lost", "ready"), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(attempts, (outcomes) => {
      let listener: TokenState = firstTokens("t0");
      let held = "t0";
      const dead = new Set<string>();
      outcomes.forEach((outcome, number) => {
        const fresh = `t${number + 1}`;
        const next = presentToken(listener, held, fresh);
        assert.ok(next, "the receiver is locked out");
        const kept = decodeTokens(encodeTokens(new Map([[0, next]])));
        listener = kept.get(0) ?? firstTokens("lost");
        if (outcome === "welcome-lost") return;
        if (outcome === "ready") {
          listener = confirmToken(fresh);
          dead.add(held);
        }
        held = fresh;
        for (const old of dead) assert.equal(presentToken(listener, old, "x"), undefined);
      });
      assert.ok(listener.accepted.length <= 2);
    }),
  );
});

test("tokens are 32 random bytes; the kept state holds none of them", () => {
  const { random } = realWorld();
  const token = newToken(random);
  assert.match(token, /^[A-Za-z0-9_-]{43}$/);
  assert.notEqual(newToken(random), token);
  assert.ok(!encodeTokens(new Map([[0, firstTokens(token)]])).includes(token));
  assert.throws(() => decodeTokens('{"accepted":[]}'), { code: "transfer.state-invalid" });
});

test("versions: the highest in common, or none", () => {
  assert.equal(chooseVersion({ min: 4, max: 4 }), 4);
  assert.equal(chooseVersion({ min: 1, max: 9 }), 4);
  assert.equal(chooseVersion({ min: 1, max: 3 }), undefined);
  assert.equal(chooseVersion({ min: 5, max: 9 }), undefined);
});

function levelAt(bitsPerSecond: number, cores = 1): number | undefined {
  return compressionLevel({ limitBitsPerSecond: bitsPerSecond }, cores);
}

test("the level follows the rate: 19 on a slow line, none where compression is slower", () => {
  assert.equal(levelAt(120e3), 19);
  assert.equal(levelAt(2e6), 19);
  assert.equal(levelAt(50e6), 9);
  assert.equal(levelAt(500e6), 3);
  assert.equal(levelAt(1.2e9), 1);
  assert.equal(levelAt(10e9), undefined);
  // More processors make a higher level pay on quicker links.
  assert.equal(levelAt(1.5e9, 4), 3);
  assert.equal(levelAt(30e6, 8), 19);
  assert.equal(compressionLevel({}), 3);
  const both = { limitBitsPerSecond: 10e9, availableBitsPerSecond: 20e6 };
  assert.equal(compressionLevel(both), 9);
  const levels = [1e5, 1e6, 1e7, 1e8, 1e9, 1e10].map((rate) => levelAt(rate) ?? 0);
  assert.deepEqual(
    levels,
    levels.toSorted((a, b) => b - a),
  );
});

test("a stream that does not shrink is not compressed again and again", async () => {
  const noise = randomBytes(65_536);
  const words = Buffer.from("to be or not to be. ".repeat(3000));
  const compressor = new Compressor();
  assert.equal(await compressor.pack(words, undefined), undefined);
  for (let piece = 0; piece < 4; piece += 1) await compressor.pack(noise, 1);
  const packed: boolean[] = [];
  for (let piece = 0; piece < 8; piece += 1) {
    packed.push((await compressor.pack(words, 1)) !== undefined);
  }
  assert.deepEqual(packed, [false, false, false, false, false, false, false, true]);
  assert.ok((await compressor.pack(words, 1)) !== undefined);
});

test("the meter tells rate, waiting and round trip within 300 ms, and what the link can take", async () => {
  const clock = handClock();
  const meter = new LinkMeter(clock, { bytesPerSecondMax: 10_000_000 });
  assert.deepEqual(meter.rate(), { limitBitsPerSecond: 80_000_000 });
  const deliver = async (wait_ms: number, pause_ms: number, bytes: number): Promise<void> => {
    await meter.waiting(() => clock.sleep(wait_ms));
    clock.advance(pause_ms);
    meter.delivered({ bytes, roundTrip_ms: 20 });
  };
  for (let turn = 0; turn < 15; turn += 1) await deliver(15, 5, 50_000);
  const full = meter.rate();
  assert.deepEqual(
    { ...full, waitingShare: undefined },
    {
      limitBitsPerSecond: 80_000_000,
      measuredBitsPerSecond: 20_000_000,
      availableBitsPerSecond: 20_000_000,
      waitingShare: undefined,
      roundTrip_ms: 20,
    },
  );
  assert.ok(Math.abs((full.waitingShare ?? 0) - 0.75) < 0.01);
  // The sender is the slower one: the link is not thought to be slower than it was.
  for (let turn = 0; turn < 50; turn += 1) await deliver(2, 18, 5_000);
  const idle = meter.rate();
  assert.ok((idle.measuredBitsPerSecond ?? 0) < 3_000_000);
  assert.equal(idle.availableBitsPerSecond, 20_000_000);
  // It gets faster without filling the link: there may be more.
  for (let turn = 0; turn < 50; turn += 1) await deliver(2, 18, 100_000);
  assert.equal(meter.rate().availableBitsPerSecond, 80_000_000);
  // The link gets slower.
  for (let turn = 0; turn < 100; turn += 1) await deliver(20, 0, 2_500);
  const slow = meter.rate().availableBitsPerSecond ?? 0;
  assert.ok(slow < 1_100_000, `${slow} is thought to be available`);
});

test("a link is not thought slow because a side of it is busy", async () => {
  const clock = handClock();
  const meter = new LinkMeter(clock, { expectedBitsPerSecond: 1e9 });
  const deliver = async (): Promise<void> => {
    await meter.waiting(() => clock.sleep(18));
    clock.advance(2);
    meter.delivered({ bytes: 20_000, roundTrip_ms: 20 });
  };
  meter.receiverBusy(0.9);
  for (let turn = 0; turn < 50; turn += 1) await deliver();
  assert.ok((meter.rate().availableBitsPerSecond ?? 0) >= 1e9);
  meter.receiverBusy(0.3);
  for (let turn = 0; turn < 50; turn += 1) await deliver();
  const known = meter.rate().availableBitsPerSecond ?? 0;
  assert.ok(known >= 8_000_000 && known < 8_100_000, `${known}`);
});

test("of a link that was never full the round trip tells what to assume", () => {
  assert.equal(linkBitsPerSecond({ roundTrip_ms: 0.5 }), 10e9);
  assert.equal(linkBitsPerSecond({ roundTrip_ms: 30 }), undefined);
  assert.equal(linkBitsPerSecond({ roundTrip_ms: 30, measuredBitsPerSecond: 1e9 }), 2e9);
  assert.equal(linkBitsPerSecond({ roundTrip_ms: 0.5, availableBitsPerSecond: 2e6 }), 2e6);
  assert.equal(linkBitsPerSecond({ roundTrip_ms: 0.5, limitBitsPerSecond: 3e6 }), 3e6);
});

test("the limiter never lets more through than the rate and its burst", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1000, max: 10 ** 9 }),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 65_536 }), fc.nat(200)), { minLength: 1 }),
      async (rate, steps) => {
        const clock = handClock();
        const limiter = rateLimiter(clock, rate);
        let taken = 0;
        for (const [bytes, pause_ms] of steps) {
          clock.advance(pause_ms);
          await limiter.take(bytes, new AbortController().signal);
          // What was taken before must have had its time, but for the burst of 50 ms.
          assert.ok(taken <= ((clock.monotonic() + 50) * rate) / 1000 + 1);
          taken += bytes;
        }
      },
    ),
  );
});

test("pauses double from nothing to the most, shortened by up to a half", () => {
  assert.equal(backoff_ms(0, TIMING, 0.5), 0);
  assert.deepEqual(
    [1, 2, 3, 6, 1000].map((attempt) => backoff_ms(attempt, TIMING, 0)),
    [200, 400, 800, 5000, 5000],
  );
  assert.equal(backoff_ms(1, TIMING, 0.999).toFixed(0), "100");
});

test("a silent peer is noticed within 15 s; one that sends anything is not", () => {
  for (const silent of [true, false]) {
    const clock = handClock();
    let heard_ms = 0;
    let pings = 0;
    let noticed_ms = 0;
    const stop = startKeepalive(clock, TIMING, {
      heard_ms: () => heard_ms,
      sent_ms: () => 0,
      ping: () => (pings += 1),
      onSilent: () => (noticed_ms = clock.monotonic()),
    });
    for (let second = 0; second < 60; second += 1) {
      clock.advance(1000);
      if (!silent) heard_ms = clock.monotonic();
    }
    stop();
    assert.ok(pings > 0);
    if (silent) assert.ok(noticed_ms > 0 && noticed_ms <= 15_000);
    else assert.equal(noticed_ms, 0);
  }
});

test("who was asleep itself gives the peer another period", () => {
  let now_ms = 0;
  const ticks: (() => void)[] = [];
  const clock: Clock = {
    ...realWorld().clock,
    monotonic: () => now_ms,
    after: (_, callback) => {
      ticks.push(callback);
      return () => undefined;
    },
  };
  let silent = 0;
  const heard = { heard_ms: () => 0, sent_ms: () => 0, ping: () => undefined };
  startKeepalive(clock, TIMING, { ...heard, onSilent: () => (silent += 1) });
  now_ms = 600_000;
  ticks.shift()?.();
  assert.equal(silent, 0);
  now_ms += 1000;
  ticks.shift()?.();
  assert.equal(silent, 1);
});

test("what is compressed comes out again; what does not shrink is not compressed", async () => {
  for (const level of [3, 9]) {
    const raw = Buffer.from("to be or not to be. ".repeat(50_000)).subarray(0, 2 ** 20);
    const packed = await compress(raw, level);
    assert.ok(packed !== undefined && packed.length < raw.length / 20);
    assert.deepEqual(await decompress(packed, raw.length), raw);
    // RFC 8878, section 3.1.1.1.1: bit 2 of the descriptor announces the checksum.
    assert.ok(((packed[4] ?? 0) & 4) !== 0);
  }
  assert.equal(await compress(randomBytes(65_536), 3), undefined);
});

test("a bomb, a lie about the length, a wide window and damage are refused", async () => {
  const violation = { code: "transfer.protocol-violation" };
  const raw = Buffer.alloc(65_536, "x");
  const packed = zstdCompressSync(raw);
  assert.equal((await decompress(packed, raw.length)).length, raw.length);
  await assert.rejects(decompress(packed, raw.length - 1), violation);
  await assert.rejects(decompress(packed, raw.length + 1), violation);
  await assert.rejects(decompress(zstdCompressSync(Buffer.alloc(2 ** 26)), 2 ** 20), violation);
  const params = { [constants.ZSTD_c_windowLog]: 24, [constants.ZSTD_c_contentSizeFlag]: 0 };
  const wide = zstdCompressSync(randomBytes(2 ** 22), { params });
  await assert.rejects(decompress(wide, 2 ** 20), violation);
  await assert.rejects(decompress(packed.subarray(0, packed.length - 5), raw.length), violation);
  await assert.rejects(decompress(randomBytes(100), 100), violation);
  await assert.rejects(decompress(Buffer.alloc(0), 100), violation);
  const params3 = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };
  const damaged = zstdCompressSync(raw, params3);
  damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
  await assert.rejects(decompress(damaged, raw.length), violation);
});

async function* numbers(count: number, failAt = Infinity): AsyncGenerator<number, void, undefined> {
  for (let number = 0; number < count; number += 1) {
    if (number === failAt) throw new Error("source");
    yield number;
  }
}

test("the pipeline keeps the order, the depth, and what came before an error", async () => {
  let running = 0;
  let most = 0;
  const work = async (number: number): Promise<string> => {
    running += 1;
    most = Math.max(most, running);
    for (let turns = (number * 7) % 5; turns > 0; turns -= 1) await Promise.resolve();
    running -= 1;
    return createHash("sha256").update(String(number)).digest("hex");
  };
  const expected = Array.from({ length: 50 }, (_, number) =>
    createHash("sha256").update(String(number)).digest("hex"),
  );
  const results: string[] = [];
  for await (const result of pipelined(numbers(50), 4, work)) results.push(result);
  assert.deepEqual(results, expected);
  assert.ok(most > 1 && most <= 4);

  const before: string[] = [];
  await assert.rejects(async () => {
    for await (const result of pipelined(numbers(50, 10), 4, work)) before.push(result);
  }, /source/);
  assert.deepEqual(before, expected.slice(0, 10));
});

test("the pipeline gives out a result though the source waits for the next item", async () => {
  const gate = Promise.withResolvers<void>();
  let closed = false;
  async function* slow(): AsyncGenerator<number, void, undefined> {
    try {
      yield 1;
      await gate.promise;
    } finally {
      closed = true;
    }
  }
  for await (const result of pipelined(slow(), 4, (n) => Promise.resolve(n), gate.resolve)) {
    assert.equal(result, 1);
    break;
  }
  assert.ok(closed);
});
