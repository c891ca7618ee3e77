/** Several machines: the queue, the summary, what fails. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { FleetPlan, Handlers, MigrationStatus } from "#api";
import { TesseraError } from "#core";
import { refusal, runWith, withAgent } from "./fixture.suite.ts";
import { nextMove, type Move } from "./fleet-queue.ts";
import * as sample from "./samples.suite.ts";

const NAMES = ["web-1", "web-2", "db-1"];

function planOf(name: string, first?: string): NonNullable<FleetPlan["machines"][number]["plan"]> {
  const shared = (component: (typeof sample.PLAN.components)[number]) =>
    component.held || first === undefined
      ? component
      : { ...component, bytes: 0, comesWith: first };
  return {
    ...sample.PLAN,
    machine: `uuid-${name}`,
    components: sample.PLAN.components.map(shared),
  };
}

const FLEET: FleetPlan = {
  machines: [
    { machine: "uuid-web-1", machineName: "web-1", plan: planOf("web-1") },
    { machine: "uuid-web-2", machineName: "web-2", plan: planOf("web-2", "uuid-web-1") },
    { machine: "uuid-db-1", machineName: "db-1", error: sample.ERROR },
  ],
  totalBytes: 19_800_000,
  sharedBytes: 1_708_500,
  expected_ms: 3200,
  price: 0,
};

/** Tells when a migration was begun and when it ended; `ends` decides how. */
function moving(
  log: string[],
  ends: (machine: string) => Partial<MigrationStatus> = () => ({}),
): Partial<Handlers> {
  return {
    "plan.fleet": () => Promise.resolve(FLEET),
    "migration.start": ({ machine }) => {
      log.push(`begin ${machine}`);
      if (ends(machine).state === "refused") throw refusal("migration.refused");
      return Promise.resolve({ migration: `of-${machine}` });
    },
    "migration.watch": ({ migration }, { progress }) => {
      const machine = migration.slice(3);
      progress({ migration, state: "serving", phase: "components", streams: [] });
      log.push(`end ${machine}`);
      return Promise.resolve({ ...sample.STATUS, machine, migration, ...ends(machine) });
    },
  };
}

test("machines move one after the other by default, and the summary names each", async () => {
  const log: string[] = [];
  await withAgent(moving(log), async (agent) => {
    const ran = await runWith(agent, ["migrate", ...NAMES, "--to", "inquadro"]);
    assert.equal(ran.code, 1, ran.err);
    assert.deepEqual(log, [
      "begin uuid-web-1",
      "end uuid-web-1",
      "begin uuid-web-2",
      "end uuid-web-2",
    ]);
    assert.match(ran.out, /^Plan: 2 of 3 machines would move\n[^]* web-2 +inquadro +average +0 B/);
    assert.match(ran.out, / nginx 1.22.1-9 +web-2 +web-1\n[^]* db-1 +inquadro does not answer\n/);
    assert.match(ran.out, /\nMACHINE .*\nweb-1 +inquadro +completed [^]*\ndb-1 +refused/);
    assert.match(ran.out, /\n2 of 3 machines moved, 21.6 MB on the wire\n$/);
    assert.match(ran.err, /error cli.failed: 1 of 3 machines did not move/);
    assert.deepEqual(JSON.parse(JSON.stringify(agent.calls.slice(0, 2))), [
      { name: "plan.fleet", input: { machines: NAMES, to: "inquadro" } },
      { name: "migration.start", input: { machine: "uuid-web-1", to: "inquadro" } },
    ]);
  });
});

test("one that fails stops no other, and with --json the summary is one document", async () => {
  const log: string[] = [];
  const { receipt: _, ...status } = sample.STATUS;
  const ends = (machine: string): Partial<MigrationStatus> =>
    machine === "uuid-web-1" ? { ...status, outcome: "aborted", error: sample.ERROR } : {};
  await withAgent(moving(log, ends), async (agent) => {
    const argv = ["evacuate", "--json", "--parallel", "2", "--bwlimit", "50Mbit/s"];
    const ran = await runWith(agent, argv);
    assert.equal(ran.code, 1);
    const { machines } = JSON.parse(ran.out) as { machines: readonly Record<string, unknown>[] };
    assert.deepEqual(
      machines.map(({ machineName, outcome }) => [machineName, outcome]),
      [
        ["web-1", "aborted"],
        ["web-2", "completed"],
        ["db-1", "refused"],
      ],
    );
    const [plan, start] = JSON.parse(JSON.stringify(agent.calls)) as { input: unknown }[];
    assert.deepEqual(plan?.input, { bwlimit: 50e6 });
    // Both may be under way, so each has half.
    assert.deepEqual(start?.input, { machine: "uuid-web-1", to: "inquadro", bwlimit: 25e6 });
  });
});

const firstRefused = (machine: string): Partial<MigrationStatus> =>
  machine === "uuid-web-1" ? { state: "refused" } : {};

test("a refusal is one machine's; --dry-run begins nothing; --detach is refused", async () => {
  const log: string[] = [];
  await withAgent(moving(log, firstRefused), async (agent) => {
    const ran = await runWith(agent, ["evacuate"]);
    assert.match(ran.out, /\nweb-1 +refused[^]*\nweb-1: it was refused\n[^]*1 of 3 machines moved/);
    const dry = await runWith(agent, ["evacuate", "--dry-run"]);
    assert.equal(dry.code, 0);
    assert.equal(log.filter((line) => line.startsWith("begin")).length, 2);
    const detached = await runWith(agent, ["migrate", ...NAMES, "--detach"]);
    assert.equal(detached.code, 2);
    const wrong = await runWith(agent, ["migrate", ...NAMES, "--parallel", "0"]);
    assert.equal(wrong.code, 2);
  });
  const none = { ...FLEET, machines: [] };
  await withAgent({ "plan.fleet": () => Promise.resolve(none) }, async (agent) => {
    assert.deepEqual((await runWith(agent, ["evacuate"])).out, "no machine is here\n");
  });
});

test("an interruption begins no other machine, and says what goes on", async () => {
  const interruption = new AbortController();
  const handlers: Partial<Handlers> = {
    ...moving([]),
    "migration.watch": (_, { signal }) => {
      interruption.abort(new TesseraError("environment", "cli.interrupted", "interrupted"));
      return new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
    },
  };
  await withAgent(handlers, async (agent) => {
    const ran = await runWith(agent, ["migrate", ...NAMES], { interrupted: interruption.signal });
    assert.equal(ran.code, 130);
    assert.match(ran.out, /\nweb-1 +goes-on [^]*\nweb-2 +not-begun/);
    assert.equal(agent.calls.filter(({ name }) => name === "migration.start").length, 1);
  });
});

test("any queue is worked off; what is being brought is not brought twice", () => {
  const move = fc.uniqueArray(fc.constantFrom("a", "b", "c", "d", "e", "f"));
  const choices = fc.infiniteStream(fc.nat());
  fc.assert(
    fc.property(
      fc.array(move, { maxLength: 12 }),
      fc.integer({ min: 1, max: 5 }),
      choices,
      (all, parallel, chosen) => {
        const waiting: Move[] = all.map((letters, index) => ({
          machine: `${index}`,
          brings: new Set(letters),
        }));
        const active: Move[] = [];
        let bringing: Move[] = [];
        let ended = 0;
        while (ended < all.length) {
          const next = nextMove(waiting, bringing, { active: active.length, parallel });
          if (next !== undefined) {
            waiting.splice(waiting.indexOf(next), 1);
            for (const other of bringing) assert.ok(other.brings.isDisjointFrom(next.brings));
            active.push(next);
            bringing.push(next);
            assert.ok(active.length <= parallel);
            continue;
          }
          assert.ok(active.length > 0, "nothing moves and nothing may begin");
          const index = (chosen.next().value ?? 0) % active.length;
          const [one] = active.slice(index, index + 1);
          // Its components are there at first; then it has arrived.
          if (one !== undefined && !bringing.includes(one)) {
            active.splice(index, 1);
            ended += 1;
          }
          bringing = bringing.filter((other) => other !== one);
        }
      },
    ),
  );
});
