import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { EventQueue } from "./event-queue.ts";

type Expected = { time: number; order: number; subject: number; handle: number };

const step = fc.oneof(
  fc.record({ act: fc.constant("add" as const), time: fc.integer({ min: 0, max: 9 }) }),
  fc.record({ act: fc.constant("move" as const), time: fc.integer({ min: 0, max: 9 }) }),
  fc.record({ act: fc.constant("remove" as const), time: fc.nat() }),
  fc.record({ act: fc.constant("pop" as const), time: fc.nat() }),
);

test("events come by time, then in the order in which their time was set", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const queue = new EventQueue();
      const expected: Expected[] = [];
      let order = 0;
      const first = () => expected.toSorted((a, b) => a.time - b.time || a.order - b.order)[0];
      for (const { act, time } of steps) {
        const victim = expected[time % Math.max(1, expected.length)];
        order += 1;
        if (act === "add") {
          expected.push({ time, order, subject: order, handle: queue.add(time, 3, order, 7) });
        } else if (act === "move" && victim !== undefined) {
          queue.move(victim.handle, time);
          Object.assign(victim, { time, order });
        } else if (act === "remove" && victim !== undefined) {
          queue.remove(victim.handle);
          expected.splice(expected.indexOf(victim), 1);
        } else if (act === "pop") {
          const next = first();
          assert.equal(queue.pop(), next !== undefined);
          if (next === undefined) continue;
          const { now_s, kind, subject, detail } = queue;
          assert.deepEqual([now_s, kind, subject, detail], [next.time, 3, next.subject, 7]);
          expected.splice(expected.indexOf(next), 1);
        }
      }
      assert.equal(queue.size, expected.length);
      assert.equal(queue.nextTime_s(), first()?.time ?? Number.POSITIVE_INFINITY);
    }),
  );
});

test("many events grow the queue and come in order", () => {
  const queue = new EventQueue();
  for (let index = 0; index < 5000; index += 1) queue.add((index * 7919) % 5003, 0, index);
  let last = -1;
  for (let index = 0; index < 5000; index += 1) {
    assert.ok(queue.pop());
    assert.ok(queue.now_s >= last);
    last = queue.now_s;
  }
  assert.ok(!queue.pop());
});
