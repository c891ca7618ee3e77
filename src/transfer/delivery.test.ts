/** What is under way on a connection, against a simulated path. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "#core";
import { Delivery } from "./delivery.ts";

interface Path {
  readonly bytesPerSecond: number;
  readonly delay_ms: number;
}

function never(): never {
  assert.fail("the delivery only reads the clock");
}

/** A clock that is set by hand. */
function setClock() {
  let now_ms = 0;
  const clock: Clock = { now: never, monotonic: () => now_ms, sleep: never, after: never };
  return { clock, set: (ms: number) => void (now_ms = ms) };
}

/** Sends as much as there is room for over a path with a queue; returns what came about. */
function drive(path: Path, seconds: number, offeredBytesPerSecond = Infinity) {
  const { clock, set } = setClock();
  const delivery = new Delivery(clock);
  const pongs: { readonly at_ms: number; readonly payload: Buffer }[] = [];
  let free_ms = 0;
  let sent = 0;
  let deepest_ms = 0;
  for (let now_ms = 0; now_ms < seconds * 1000; now_ms += 1) {
    set(now_ms);
    while ((pongs[0]?.at_ms ?? Infinity) <= now_ms) {
      delivery.pong(pongs.shift()?.payload ?? Buffer.alloc(8));
    }
    while (delivery.hasRoom && sent < (offeredBytesPerSecond * (now_ms + 1)) / 1000) {
      const bytes = Math.min(65_536, delivery.fragmentBytesMax);
      sent += bytes;
      delivery.sent(bytes);
      free_ms = Math.max(free_ms, now_ms) + (bytes * 1000) / path.bytesPerSecond;
      if (now_ms > 3000) deepest_ms = Math.max(deepest_ms, free_ms - now_ms);
      if (!delivery.markDue) continue;
      pongs.push({ at_ms: free_ms + path.delay_ms, payload: delivery.mark() });
    }
  }
  return { delivery, share: sent / (path.bytesPerSecond * seconds), deepest_ms };
}

test("paths are filled, and their queues stay short", () => {
  for (const bytesPerSecond of [1e6, 2.5e6, 25e6, 125e6]) {
    for (const delay_ms of [1, 20, 150]) {
      const { delivery, share, deepest_ms } = drive({ bytesPerSecond, delay_ms }, 20);
      const path = `${bytesPerSecond} B/s, ${delay_ms} ms`;
      assert.ok(share > 0.9, `${path}: only ${share} of the path was used`);
      const floor_ms = (65_536 * 2000) / bytesPerSecond;
      const most_ms = delay_ms + 60 + floor_ms;
      assert.ok(deepest_ms <= most_ms, `${path}: ${deepest_ms} ms wait in the queue`);
      const rate = delivery.bytesPerSecond ?? 0;
      assert.ok(rate > 0.8 * bytesPerSecond && rate < 1.3 * bytesPerSecond, `${path}: ${rate}`);
    }
  }
});

test("a path stays filled when old round trips are measured anew", () => {
  const path = { bytesPerSecond: 2.5e6, delay_ms: 20 };
  const { delivery, share } = drive(path, 120);
  assert.ok(share > 0.95, `only ${share} of the path was used`);
  assert.ok((delivery.roundTrip_ms ?? 0) < 70);
});

test("a PONG that answers nothing changes nothing", () => {
  const { clock } = setClock();
  const delivery = new Delivery(clock);
  const payload = delivery.mark();
  assert.equal(delivery.pong(Buffer.alloc(8)), undefined);
  assert.equal(delivery.pong(Buffer.alloc(8, 255)), undefined);
  assert.ok(delivery.pong(payload));
  assert.equal(delivery.pong(payload), undefined);
});

test("slow links send short fragments, quick ones whole frames", () => {
  const slow = drive({ bytesPerSecond: 2.5e6, delay_ms: 10 }, 5).delivery;
  assert.equal(slow.fragmentBytesMax, 16 * 1024 - 18);
  const quick = drive({ bytesPerSecond: 125e6, delay_ms: 1 }, 5).delivery;
  assert.equal(quick.fragmentBytesMax, Infinity);
});
