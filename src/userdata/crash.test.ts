/** Kills the process, or the host, at every step of any run of operations. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { endOf, type ByteRange } from "#core";
import { BLOCK_BYTES } from "#block";
import type { OnDemandDevice } from "./contract.ts";
import { FragileFiles, Killed, Life, Source, worldOf } from "./fixture.suite.ts";
import { openOnDemandDevice } from "./on-demand.ts";

const SIZE_BYTES = 3 * BLOCK_BYTES + 1000;
const DISK = "disk";
const MAP = "disk.stale";
/** What lies in the local file where the current content is at the source. */
const GARBAGE = 0xee;

type Step =
  | { readonly kind: "write" | "zero"; readonly range: ByteRange; readonly byte: number }
  | { readonly kind: "read"; readonly range: ByteRange }
  | { readonly kind: "flush" };

const range = fc
  .tuple(fc.nat(SIZE_BYTES - 1), fc.oneof(fc.nat(5000), fc.nat(2 * BLOCK_BYTES)))
  .map(([offset, length]) => ({ offset, length: Math.min(length + 1, SIZE_BYTES - offset) }));
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant("write" as const), range, byte: fc.integer({ min: 1, max: 200 }) }),
  fc.record({ kind: fc.constant("zero" as const), range, byte: fc.constant(0) }),
  fc.record({ kind: fc.constant("read" as const), range }),
  fc.constant({ kind: "flush" as const }),
);

/** What the guest may see, byte by byte. */
class Expectation {
  /** After all that was acknowledged. */
  readonly now: Buffer;
  /** At the last flush that was acknowledged; what came after it. */
  #flushed: Buffer;
  #since: Step[] = [];
  /** What was not acknowledged. */
  pending: Step | undefined;

  constructor(content: Buffer) {
    this.now = Buffer.from(content);
    this.#flushed = Buffer.from(content);
  }

  acknowledged(done: Step): void {
    this.pending = undefined;
    if (done.kind === "flush") {
      this.#flushed = Buffer.from(this.now);
      this.#since = [];
    } else if (done.kind !== "read") {
      this.now.fill(done.byte, done.range.offset, endOf(done.range));
      this.#since.push(done);
    }
  }

  check(content: Buffer, hostDied: boolean): void {
    const before = hostDied ? this.#flushed : this.now;
    const later = [...(hostDied ? this.#since : []), ...(this.pending ? [this.pending] : [])];
    const changes = later.flatMap((one) =>
      one.kind === "write" || one.kind === "zero" ? [one] : [],
    );
    if (content.equals(before)) return;
    for (let at = 0; at < content.length; at += 1) {
      const byte = content[at];
      if (byte === before[at]) continue;
      const mayBe = changes.some(
        ({ range, byte: other }) => other === byte && at >= range.offset && at < endOf(range),
      );
      assert.ok(mayBe, `byte ${at} is ${byte}, was ${before[at]}`);
    }
  }
}

async function apply(device: OnDemandDevice, expected: Expectation, one: Step): Promise<void> {
  expected.pending = one;
  if (one.kind === "flush") await device.flush();
  else if (one.kind === "zero") await device.zero(one.range);
  else if (one.kind === "write") {
    await device.write(Buffer.alloc(one.range.length, one.byte), one.range.offset);
  } else {
    const target = Buffer.alloc(one.range.length, 0x55);
    await device.read(target, one.range.offset);
    assert.ok(target.equals(expected.now.subarray(one.range.offset, endOf(one.range))));
  }
  expected.acknowledged(one);
}

/** Block 0 is local, 1 and the short last one stale, 2 stale and zero at the source. */
function sceneOf() {
  const content = Buffer.alloc(SIZE_BYTES);
  for (let at = 0; at < SIZE_BYTES; at += 1) content[at] = 201 + (at % 31);
  content.fill(0, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES);
  const local = Buffer.alloc(SIZE_BYTES, GARBAGE);
  content.copy(local, 0, 0, BLOCK_BYTES);
  const stale = [{ offset: BLOCK_BYTES, length: SIZE_BYTES - BLOCK_BYTES }];
  const zeroes = [{ offset: 2 * BLOCK_BYTES, length: BLOCK_BYTES }];
  return { content, local, ranges: { stale, zeroes } };
}

interface Run {
  readonly steps: readonly Step[];
  readonly copying: boolean;
  readonly killAt: number;
  readonly hostDies: boolean;
  readonly seed: number;
}

/** Returns how many operations the process did. */
async function run({ steps, copying, killAt, hostDies, seed }: Run): Promise<number> {
  const { content, local, ranges } = sceneOf();
  let state = seed;
  const choose = (limit: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (state >> 8) % limit;
  };
  const files = new FragileFiles(choose);
  files.put(DISK, local);
  const source = new Source(content);
  const open = async (life: Life, boot: number) =>
    await openOnDemandDevice(worldOf(files, life, boot), {
      local: files.device(DISK, life),
      mapPath: MAP,
      remote: source,
    });
  const armed = await open(new Life(), 1);
  await armed.arm(ranges);
  await armed.close();

  const life = new Life(killAt);
  const expected = new Expectation(content);
  let device: OnDemandDevice | undefined;
  try {
    device = await open(life, 1);
    if (copying) device.startCopy();
    for (const one of steps) await apply(device, expected, one);
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
  }
  life.stepsLeft = 0;
  await device?.close();
  if (hostDies) files.loseHost();

  const again = await open(new Life(), hostDies ? 2 : 1);
  const seen = Buffer.alloc(SIZE_BYTES);
  await again.read(seen, 0);
  expected.check(seen, hostDies);
  again.startCopy();
  await again.complete;
  await again.finish();
  assert.ok(files.content(DISK).equals(seen), "the file alone is what the guest saw");
  await again.close();
  return life.steps;
}

test("no kill at any step loses what was acknowledged or brings back what is stale", async () => {
  const scenario = fc.record({
    steps: fc.array(step, { minLength: 1, maxLength: 7 }),
    copying: fc.boolean(),
    seed: fc.integer({ min: 1, max: 2 ** 30 }),
  });
  await fc.assert(
    fc.asyncProperty(scenario, async ({ steps, copying, seed }) => {
      const common = { steps, copying, seed };
      const total = await run({ ...common, killAt: Infinity, hostDies: false });
      for (let killAt = 1; killAt <= total; killAt += 1) {
        for (const hostDies of [false, true]) await run({ ...common, killAt, hostDies });
      }
    }),
    { numRuns: 25 },
  );
});
