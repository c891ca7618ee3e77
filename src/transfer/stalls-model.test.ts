/**
 * Several streams of a session in every order of events: memory at the sender and at the receiver,
 * credit, and pipelines at both ends, of which each may wait for another. Whatever happens, nobody
 * waits for ever.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { pipelined } from "#core";
import { MemoryBudget } from "./budget.ts";
import type { Connection } from "./connection.ts";
import { peerError, violation } from "./errors.ts";
import { encodeError } from "./messages.ts";
import { RAW_BYTES_MAX, TYPE, type FrameType } from "./protocol.ts";
import { IncomingStream } from "./receiver-streams.ts";
import { OutgoingStream, type SenderLink } from "./sender-stream.ts";
import { Slots } from "./slots.ts";
import { WindowBudget } from "./window.ts";

const MIB = 2 ** 20;
const BYTES = Buffer.alloc(RAW_BYTES_MAX);

type Scheduler = fc.Scheduler;

function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Lets things happen, one after the other in the scheduler's order, until nothing is left. */
async function happen(scheduler: Scheduler): Promise<void> {
  for (;;) {
    await turn();
    if (scheduler.count() === 0) return;
    await scheduler.waitOne();
  }
}

interface Pack {
  readonly frames: number;
  readonly sentMiB: number;
  readonly receivedMiB: number;
  readonly fails: "sender" | "receiver" | undefined;
}

const pack: fc.Arbitrary<Pack> = fc.record({
  frames: fc.integer({ min: 1, max: 8 }),
  sentMiB: fc.integer({ min: 1, max: 60 }),
  receivedMiB: fc.integer({ min: 1, max: 120 }),
  fails: fc.oneof(
    { weight: 30, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constantFrom("sender" as const, "receiver" as const) },
  ),
});

/** What crosses the path between two ends, in order but at any time. */
class Line {
  readonly #scheduler: Scheduler;
  #last: Promise<unknown> = Promise.resolve();

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  carry(arrive: () => void): Promise<void> {
    const before = this.#last;
    const carried = this.#scheduler.schedule(Promise.resolve()).then(() => before);
    this.#last = carried;
    return carried.then(arrive);
  }
}

/** Two ends of one stream; connections in memory take the place of TLS. */
function ends(scheduler: Scheduler, down: Line, up: Line, id: number) {
  const ended = new AbortController();
  const { signal } = ended;
  const frame = (type: FrameType, payload: Buffer) => ({
    type,
    payload,
    stream: id,
    flags: 0,
    length: payload.length,
  });
  const sending = {
    signal,
    send: (type: FrameType, _: number, payload: Uint8Array) =>
      void down.carry(() => incoming.push(frame(type, Buffer.from(payload)))),
    sendData: ({ type, parts }: { type: FrameType; parts: readonly Uint8Array[] }) =>
      scheduler
        .schedule(Promise.resolve())
        .then(() => void down.carry(() => incoming.push(frame(type, parts[0] as Buffer)))),
  };
  const receiving = {
    signal,
    now_ms: 0,
    roundTrip_ms: undefined,
    send: (type: FrameType, _: number, payload: Buffer) =>
      void up.carry(() => {
        if (type === TYPE.CREDIT) outgoing.addCredit(payload.readUInt32BE(0));
        else outgoing.cancel(peerError("cancelled", "given up"));
      }),
  };
  const link: SenderLink = {
    limiter: undefined,
    meter: { waiting: (wait: () => Promise<void>) => wait() } as SenderLink["meter"],
    onProgress: () => undefined,
  };
  const open = { id, credit: 4 * MIB };
  const outgoing = new OutgoingStream(sending as unknown as Connection, link, open);
  const incoming: IncomingStream = new IncomingStream(
    receiving as unknown as Connection,
    id,
    new WindowBudget(),
  );
  return { outgoing, incoming, sending, receiving };
}

type Ends = ReturnType<typeof ends>;

/** As contents are sent: memory, work in a slot, frames in order. */
async function send(
  { outgoing, sending }: Ends,
  packs: readonly Pack[],
  memory: MemoryBudget,
  slots: Slots,
  scheduler: Scheduler,
): Promise<void> {
  const stopped = new AbortController();
  const signal = AbortSignal.any([outgoing.signal, stopped.signal]);
  const held = new Set<() => void>();
  const orders = async function* () {
    for (const one of packs) {
      const free = await memory.take(one.sentMiB, signal);
      held.add(free);
      yield { one, free };
    }
  };
  const make = async (order: { one: Pack; free: () => void }) => {
    await slots.run(() => scheduler.schedule(Promise.resolve()));
    if (order.one.fails === "sender") throw peerError("source-failed", "it cannot be read");
    return order;
  };
  const stop = (): void => stopped.abort(violation("stopped"));
  try {
    outgoing.opened("", {}, { doneBytes: 0, totalBytes: 0 });
    for await (const { one, free } of pipelined(orders(), 8, make, stop)) {
      for (let number = 0; number <= one.frames; number += 1) {
        const type = number === 0 ? TYPE.PACK : TYPE.BYTES;
        const parts = [number === 0 ? Buffer.of(one.frames, one.receivedMiB) : BYTES];
        await outgoing.data({ type, flags: 0, parts }, 0);
      }
      free();
    }
    outgoing.ended({});
  } catch (error) {
    const told = encodeError(error as ReturnType<typeof peerError>);
    if (!outgoing.signal.aborted) sending.send(TYPE.ERROR, 0, told);
  } finally {
    for (const free of held) free();
  }
}

/** As contents are received: memory before the bytes, decoding, delivery in order. */
async function receive(
  { incoming, receiving }: Ends,
  fails: ReadonlySet<number>,
  memory: MemoryBudget,
  scheduler: Scheduler,
): Promise<void> {
  const stopped = new AbortController();
  const held = new Set<() => void>();
  const units = async function* () {
    for (let number = 0; ; number += 1) {
      const head = await incoming.next();
      if (head.type === TYPE.END) return;
      if (head.type === TYPE.OPENED) continue;
      incoming.release(head);
      const [frames = 0, bytes = 0] = head.payload;
      const free = await memory.take(bytes, stopped.signal);
      held.add(free);
      for (let came = 0; came < frames; came += 1) incoming.release(await incoming.next());
      yield { number, free };
    }
  };
  const decode = async (unit: { number: number; free: () => void }) => {
    await scheduler.schedule(Promise.resolve());
    if (fails.has(unit.number)) throw violation("it does not decompress");
    return unit;
  };
  const stop = (): void => {
    stopped.abort(violation("stopped"));
    incoming.fail(violation("stopped"));
  };
  try {
    for await (const { free } of pipelined(units(), 6, decode, stop)) {
      await scheduler.schedule(Promise.resolve());
      free();
    }
  } catch {
    receiving.send(TYPE.ERROR, 0, Buffer.alloc(0));
  } finally {
    for (const free of held) free();
  }
}

/** Places, counted as the receiver counts, of the packs that do not decode. */
function undecodable(packs: readonly Pack[]): Set<number> {
  const places = [...packs.keys()].filter((index) => packs[index]?.fails === "receiver");
  // OPENED takes the first place.
  return new Set(places.map((index) => index + 1));
}

test("streams that share memory and a line all end, in every order of events", async () => {
  const streams = fc.array(fc.array(pack, { minLength: 1, maxLength: 12 }), {
    minLength: 1,
    maxLength: 6,
  });
  const ending = fc.asyncProperty(fc.scheduler(), streams, async (scheduler, all) => {
    const [sender, receiver] = [new MemoryBudget(80), new MemoryBudget(96)];
    const slots = new Slots(2);
    const [down, up] = [new Line(scheduler), new Line(scheduler)];
    const waiting = new Set<string>();
    const begun = all.flatMap((packs, index) => {
      const pair = ends(scheduler, down, up, index + 1);
      const work = {
        [`sender ${index}`]: send(pair, packs, sender, slots, scheduler),
        [`receiver ${index}`]: receive(pair, undecodable(packs), receiver, scheduler),
      };
      return Object.entries(work).map(([name, promise]) => {
        waiting.add(name);
        return promise.finally(() => waiting.delete(name));
      });
    });
    await happen(scheduler);
    assert.deepEqual([...waiting], []);
    await Promise.all(begun);
    // All memory has been given back, and is given again.
    for (const memory of [sender, receiver]) (await memory.take(1000))();
  });
  await fc.assert(ending, { numRuns: 60 });
});

test("memory goes to all who wait, in turn, whoever gives up and however it is resized", async () => {
  const taker = fc.record({
    bytes: fc.integer({ min: 1, max: 150 }),
    givesUp: fc.boolean(),
    resizeTo: fc.option(fc.integer({ min: 1, max: 200 }), { nil: undefined }),
  });
  const takers = fc.array(taker, { maxLength: 20 });
  const serving = fc.asyncProperty(fc.scheduler(), takers, async (scheduler, list) => {
    const memory = new MemoryBudget(100);
    let [waiting, used, users] = [list.length, 0, 0];
    for (const { bytes, givesUp, resizeTo } of list) {
      const stop = new AbortController();
      const use = async (): Promise<void> => {
        try {
          const free = await memory.take(bytes, stop.signal);
          used += bytes;
          users += 1;
          assert.ok(users === 1 || used <= 200, `${used} bytes for ${users}`);
          await scheduler.schedule(Promise.resolve());
          used -= bytes;
          users -= 1;
          free();
        } catch (error) {
          if (error !== stop.signal.reason) throw error;
        } finally {
          waiting -= 1;
        }
      };
      void use();
      const change = async (): Promise<void> => {
        await scheduler.schedule(Promise.resolve());
        if (givesUp) stop.abort(new Error("given up"));
        if (resizeTo !== undefined) memory.resize(resizeTo);
      };
      void change();
    }
    await happen(scheduler);
    assert.equal(waiting, 0);
  });
  await fc.assert(serving, { numRuns: 200 });
});

test("slots serve all, so many at a time, whoever fails", async () => {
  const works = fc.array(fc.boolean(), { maxLength: 20 });
  const running = fc.asyncProperty(
    fc.scheduler(),
    works,
    fc.integer({ min: 1, max: 4 }),
    async (scheduler, fails, number) => {
      const slots = new Slots(number);
      let [active, ended] = [0, 0];
      for (const fail of fails) {
        const work = async (): Promise<void> => {
          active += 1;
          assert.ok(active <= number);
          await scheduler.schedule(Promise.resolve());
          active -= 1;
          if (fail) throw new Error("it fails");
        };
        const end = (): void => void (ended += 1);
        void slots.run(work).then(end, end);
      }
      await happen(scheduler);
      assert.equal(ended, fails.length);
    },
  );
  await fc.assert(running, { numRuns: 100 });
});
