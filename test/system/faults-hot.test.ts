/**
 * The link of a hot migration is cut, or falls silent, in every state of QEMU; the agents' decisions
 * are those of `support/hot-scene.ts`. Allowed end: one machine runs, no other can, every record that
 * was acknowledged is on the disk once, and the guest's memory is sound.
 *
 * `make test` runs each state once, `make faults` a hundred seeded runs (FAULTS=all, SEED=N).
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test, type TestContext } from "node:test";
import type { HotEvent, HotMethod } from "#hypervisor";
import {
  HotScene,
  livingEnds,
  move,
  type LinkFault,
  type MoveOptions,
} from "../support/hot-scene.ts";

const ALL = process.env["FAULTS"] === "all";
const RUNS = ALL ? 100 : 7;
/** Of the default, silence falls just before the devices' status, and a cut comes early in post-copy. */
const SEED = Number(process.env["SEED"] ?? 112);
/** A guest serves so many runs, then another is booted. */
const RUNS_PER_GUEST = 10;
/** Above QEMU's own waits, so that only silence exhausts it. */
const PATIENCE_MS = 2500;

/** Two fractions that follow from the seed and the run's number, so that a run can be had again. */
function fractionsOf(number: number): readonly [number, number] {
  const bytes = createHash("sha256").update(`${SEED}:${number}`).digest();
  return [bytes.readUInt32BE(0) / 2 ** 32, bytes.readUInt32BE(4) / 2 ** 32];
}

const onStatus =
  (status: string) =>
  (event: HotEvent): boolean =>
    event.kind === "status" && event.status === status;

interface Moment {
  readonly name: string;
  readonly when: (event: HotEvent) => boolean;
  /** The fault comes up to so much later. */
  readonly spread_ms: number;
  readonly method?: HotMethod;
  /** So small that the pass in question comes. */
  readonly downtime_ms?: number;
}

const MOMENTS: readonly Moment[] = [
  { name: "setup", when: onStatus("setup"), spread_ms: 0 },
  { name: "first pass", when: onStatus("active"), spread_ms: 600 },
  {
    name: "later pass",
    when: (event) => event.kind === "pass" && event.pass > 1,
    spread_ms: 600,
    downtime_ms: 1,
  },
  { name: "pre-switchover", when: onStatus("pre-switchover"), spread_ms: 0 },
  { name: "device", when: onStatus("device"), spread_ms: 60 },
  { name: "completed", when: onStatus("completed"), spread_ms: 0 },
  {
    name: "post-copy active",
    when: onStatus("postcopy-active"),
    spread_ms: 300,
    method: { postcopy: "preempt" },
    downtime_ms: 1,
  },
];

function runOf(number: number): { readonly name: string; readonly options: MoveOptions } {
  const [whichKind, when] = fractionsOf(number);
  const moment = MOMENTS[number % MOMENTS.length];
  assert.ok(moment !== undefined);
  const kind = whichKind < 0.5 ? "cut" : "silence";
  const delay_ms = Math.round(when * moment.spread_ms);
  const fault: LinkFault = { kind, when: moment.when, delay_ms };
  const { method = {}, downtime_ms = 300 } = moment;
  return {
    name: `${number}: ${kind} ${delay_ms} ms into ${moment.name}`,
    options: { fault, method, downtime_ms, patience_ms: PATIENCE_MS },
  };
}

interface Tally {
  number: number;
  lost: number;
  longest_ms: number;
}

/** Runs until the guest is lost or has served long enough. */
async function oneGuest(guest: TestContext, tally: Tally): Promise<void> {
  const scene = await HotScene.boot(guest);
  const last = Math.min(tally.number + RUNS_PER_GUEST, RUNS);
  while (tally.number < last) {
    const { name, options } = runOf(tally.number++);
    const told = await move(scene, options);
    guest.diagnostic(`${name}: ${JSON.stringify(told)}`);
    assert.ok(told.faulted, name);
    if (told.outcome === "lost") {
      assert.match(name, /post-copy/, "only post-copy can lose a guest");
      assert.deepEqual(await livingEnds(scene), [], name);
      scene.checkRecords();
      tally.lost += 1;
      return;
    }
    assert.deepEqual(await livingEnds(scene), ["running"], name);
    if (Number.isFinite(told.pause_ms)) {
      tally.longest_ms = Math.max(tally.longest_ms, told.pause_ms);
    }
    await scene.progress();
    scene.checkRecords();
  }
}

test("a link that fails in any state leaves one machine with all its records", async (t) => {
  const tally: Tally = { number: 0, lost: 0, longest_ms: 0 };
  while (tally.number < RUNS) {
    const { number } = tally;
    await t.test(`from run ${number}`, (guest) => oneGuest(guest, tally));
    assert.ok(tally.number > number, "a guest boots");
  }
  t.diagnostic(JSON.stringify(tally));
});
