/** Frames on a socket whose path is simulated: whatever it does, no frame waits for ever. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { Clock } from "#core";
import { Delivery } from "./delivery.ts";
import { FrameDecoder } from "./frame.ts";
import { PRIORITY, TYPE } from "./protocol.ts";
import { SocketWriter } from "./writer.ts";

function never(): never {
  assert.fail("the writer only reads the clock");
}

/** Lets everything run that does not wait for the path. */
function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** How the path is from a moment on. */
interface Weather {
  /** Time until the next, in which the sender offers so many bytes. */
  readonly for_ms: number;
  readonly offeredBytes: number;
  readonly bytesPerSecond: number;
  readonly delay_ms: number;
}

/** A path in virtual time; nobody sends PING because of silence. */
class Path {
  now_ms = 0;
  weather: Weather = { for_ms: 0, offeredBytes: 0, bytesPerSecond: 1e6, delay_ms: 1 };
  readonly #events: { readonly at_ms: number; readonly run: () => void }[] = [];
  readonly #ended = new AbortController();
  readonly #decoder = new FrameDecoder();
  readonly #writer: SocketWriter;
  /** When what is on the path has been read, and when the last PONG comes: neither overtakes. */
  #free_ms = 0;
  #pong_ms = 0;
  waiting = 0;

  constructor() {
    const clock: Clock = { now: never, monotonic: () => this.now_ms, sleep: never, after: never };
    const socket = { write: (part: Uint8Array, written?: () => void) => this.#take(part, written) };
    this.#writer = new SocketWriter(clock, socket, new Delivery(clock), this.#ended.signal);
  }

  offer(bytes: number): void {
    this.waiting += 1;
    const frame = { type: TYPE.BYTES, flags: 0, stream: 1, parts: [Buffer.alloc(bytes)] };
    const sent = this.#writer.data({ ...frame, priority: PRIORITY.background });
    void sent.then(() => (this.waiting -= 1));
  }

  #at(at_ms: number, run: () => void): void {
    const after = this.#events.findIndex((event) => event.at_ms > at_ms);
    this.#events.splice(after < 0 ? this.#events.length : after, 0, { at_ms, run });
  }

  #take(part: Uint8Array, written?: () => void): boolean {
    const { bytesPerSecond, delay_ms } = this.weather;
    this.#free_ms = Math.max(this.#free_ms, this.now_ms) + (part.length * 1000) / bytesPerSecond;
    if (written !== undefined) this.#at(this.#free_ms, written);
    this.#decoder.push(part, ({ type, payload }) => {
      if (type !== TYPE.PING) return;
      this.#pong_ms = Math.max(this.#pong_ms, this.#free_ms + delay_ms);
      this.#at(this.#pong_ms, () => void this.#writer.pong(payload));
    });
    return true;
  }

  /** Runs until a moment, or until nothing is left that would happen. */
  async until(end_ms: number): Promise<void> {
    for (;;) {
      await settled();
      const next = this.#events[0];
      if (next === undefined || next.at_ms > end_ms) break;
      this.#events.shift();
      this.now_ms = Math.max(this.now_ms, next.at_ms);
      next.run();
    }
    if (end_ms !== Infinity) this.now_ms = end_ms;
  }
}

const weather: fc.Arbitrary<Weather> = fc.record({
  for_ms: fc.constantFrom(0.5, 5, 50, 1_500, 25_000),
  offeredBytes: fc.constantFrom(0, 1_000, 60_000, 1_000_000, 3_000_000),
  bytesPerSecond: fc.constantFrom(1e5, 1e7, 1e9),
  delay_ms: fc.constantFrom(0.1, 1, 100, 2_000),
});

test("whatever the path does, what was offered is sent without a PING of the keepalive", async () => {
  const schedule = fc.array(weather, { minLength: 1, maxLength: 12 });
  const sends = fc.asyncProperty(schedule, async (spells) => {
    const path = new Path();
    for (const spell of spells) {
      path.weather = spell;
      for (let left = spell.offeredBytes; left > 0; left -= 500_000) {
        path.offer(Math.min(left, 500_000));
      }
      await path.until(path.now_ms + spell.for_ms);
    }
    await path.until(Infinity);
    assert.equal(path.waiting, 0);
  });
  await fc.assert(sends, { numRuns: 300 });
});
