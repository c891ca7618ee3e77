import assert from "node:assert/strict";
import { test } from "node:test";
import { EventQueue } from "./event-queue.ts";

async function all<T>(queue: EventQueue<T>): Promise<T[]> {
  return await Array.fromAsync(queue);
}

test("what is pushed before and during the reading comes in order; the end comes last", async () => {
  const queue = new EventQueue<number>();
  queue.push(1);
  const read = all(queue);
  queue.push(2);
  await Promise.resolve();
  queue.push(3);
  queue.end();
  queue.push(4);
  assert.deepEqual(await read, [1, 2, 3]);
});

test("a reader waits for what comes later", async () => {
  const queue = new EventQueue<string>();
  const read = all(queue);
  await new Promise(setImmediate);
  queue.push("late");
  await new Promise(setImmediate);
  queue.end();
  assert.deepEqual(await read, ["late"]);
});

test("the oldest go when nobody reads, and nothing is kept once reading has ended", async () => {
  const queue = new EventQueue<number>();
  for (let value = 0; value < 1500; value++) queue.push(value);
  for await (const value of queue) {
    assert.equal(value, 500);
    break;
  }
  queue.push(1);
  assert.deepEqual(await all(queue), []);
});
