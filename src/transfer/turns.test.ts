/** Who is next on a link. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { Priority } from "./protocol.ts";
import { Turns, type Claim } from "./turns.ts";

interface Sender extends Claim {
  readonly turnBytes: number;
}

/** Lets every sender claim anew whenever it was served, and counts what each had. */
function share(senders: readonly Sender[], turns: number): Map<Sender, number> {
  const line = new Turns<Sender>();
  const had = new Map(senders.map((sender) => [sender, 0]));
  for (const sender of senders) line.add(sender);
  for (let turn = 0; turn < turns; turn += 1) {
    const sender = line.next();
    assert.ok(sender);
    had.set(sender, (had.get(sender) ?? 0) + sender.turnBytes);
    line.served(sender, sender.turnBytes);
    line.remove(sender);
    line.add(sender);
  }
  return had;
}

const turnBytes = fc.integer({ min: 1, max: 1000 });

test("streams of equal priority have equally many bytes, whatever the size of their frames", () => {
  fc.assert(
    fc.property(fc.array(turnBytes, { minLength: 2, maxLength: 8 }), (sizes) => {
      const senders = sizes.map(
        (size, stream) => ({ stream, priority: 3, turnBytes: size }) as const,
      );
      const had = [...share(senders, 1000).values()];
      assert.ok(Math.max(...had) - Math.min(...had) <= 2 * Math.max(...sizes));
    }),
  );
});

test("a higher class has nearly everything, a lower one never nothing", () => {
  fc.assert(
    fc.property(turnBytes, turnBytes, fc.integer({ min: 0, max: 2 }), (high, low, priority) => {
      const demanded = { stream: 1, priority: priority as Priority, turnBytes: high };
      const bulk = { stream: 2, priority: 3, turnBytes: low } as const;
      const had = share([demanded, bulk], 4000);
      const shareMax = (had.get(demanded) ?? 0) / 16 + 2 * low;
      assert.ok((had.get(bulk) ?? 0) <= shareMax);
      assert.ok((had.get(bulk) ?? 0) > 0);
    }),
  );
});

test("who is demanded overtakes all others at once", () => {
  const line = new Turns<Claim>();
  for (const stream of [1, 2, 3]) line.add({ stream, priority: 3 });
  const control = { stream: 4, priority: 1 } as const;
  const demanded = { stream: 5, priority: 0 } as const;
  line.add(control);
  line.add(demanded);
  assert.equal(line.next(), demanded);
  line.remove(demanded);
  assert.equal(line.next(), control);
  line.remove(control);
  assert.equal(line.all().length, 3);
});

test("who was idle does not get what it has missed", () => {
  const line = new Turns<Claim>();
  const busy = { stream: 1, priority: 3 } as const;
  const late = { stream: 2, priority: 3 } as const;
  line.add(busy);
  for (let turn = 0; turn < 100; turn += 1) line.served(busy, 1000);
  line.add(late);
  let inARow = 0;
  while (line.next() === late) {
    line.served(late, 1000);
    inARow += 1;
  }
  assert.ok(inARow <= 1);
});
