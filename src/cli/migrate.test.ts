/** `tessera migrate` and `migration watch` against a real API server. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Handlers, MigrationProgress, MigrationStatus } from "#api";
import { TesseraError } from "#core";
import { NOW_MS, runWith, withAgent } from "./fixture.suite.ts";
import * as sample from "./samples.suite.ts";

const id = sample.MIGRATION;

const FIRST: MigrationProgress = {
  migration: id,
  state: "serving",
  phase: "components",
  streams: [{ stream: sample.NGINX.id, name: "nginx", doneBytes: 1e6, totalBytes: 4e6 }],
};
const SECOND: MigrationProgress = {
  migration: id,
  state: "frozen",
  phase: "userData",
  streams: [],
};

function ending(status: MigrationStatus): Partial<Handlers> {
  return {
    "migration.start": ({ dryRun }) =>
      Promise.resolve({ plan: sample.PLAN, ...(dryRun === true ? {} : { migration: id }) }),
    "migration.watch": (_, { progress }) => {
      progress(FIRST);
      progress(SECOND);
      return Promise.resolve(status);
    },
  };
}

test("a migration tells its plan, its progress and its receipt", async () => {
  await withAgent(ending(sample.STATUS), async (agent) => {
    const ran = await runWith(agent, ["migrate", "web-1", "--to", "inquadro"]);
    assert.equal(ran.code, 0);
    assert.match(ran.out, /^Plan: web-1 from messina[^]*\n\nReceipt: web-1 went[^]*messina\n$/);
    const [remark, ...lines] = ran.err.trimEnd().split("\n");
    assert.equal(remark, `migration ${id}`);
    assert.deepEqual(
      lines.map((line) => JSON.parse(line) as unknown),
      JSON.parse(JSON.stringify([{ progress: FIRST }, { progress: SECOND }])),
    );
    assert.deepEqual(
      agent.calls.map(({ name }) => name),
      ["migration.start", "migration.watch"],
    );
  });
});

test("on a terminal bars are drawn over each other", async () => {
  await withAgent(ending(sample.STATUS), async (agent) => {
    const { err } = await runWith(agent, ["migrate", "web-1"], { columns: 60 });
    assert.equal(
      err,
      `migration ${id}\nserving (components)\n` +
        "nginx [######.....................]  25%  1.0 MB of 4.0 MB\n" +
        "\u001b[2A\u001b[Jfrozen (userData)\n",
    );
  });
});

test("with --json one document is the result, and progress is JSON Lines on a terminal too", async () => {
  await withAgent(ending(sample.STATUS), async (agent) => {
    const ran = await runWith(agent, ["migrate", "web-1", "--json"], { columns: 60 });
    const status = JSON.parse(ran.out) as MigrationStatus;
    assert.equal(status.receipt?.receipt.wireBytes, 10_800_000);
    const lines = ran.err.trimEnd().split("\n");
    assert.equal(lines.length, 2);
    for (const line of lines) assert.ok("progress" in (JSON.parse(line) as object));
  });
});

test("--dry-run prints the plan and starts nothing", async () => {
  await withAgent(ending(sample.STATUS), async (agent) => {
    const ran = await runWith(agent, ["migrate", "web-1", "--dry-run"]);
    assert.match(ran.out, /^Plan: web-1[^]*data moves\n$/);
    assert.deepEqual(JSON.parse(JSON.stringify(agent.calls)), [
      { name: "migration.start", input: { machine: "web-1", dryRun: true } },
    ]);
  });
});

test("--at is told as an instant", async () => {
  await withAgent(ending(sample.STATUS), async (agent) => {
    await runWith(agent, ["migrate", "web-1", "--dry-run", "--at", "+2min"]);
    const at_ms = NOW_MS + 120_000;
    assert.deepEqual(JSON.parse(JSON.stringify(agent.calls)), [
      { name: "migration.start", input: { machine: "web-1", at_ms, dryRun: true } },
    ]);
  });
});

test("--detach prints the id and does not wait", async () => {
  await withAgent(ending(sample.STATUS), async (agent) => {
    const ran = await runWith(agent, ["migrate", "web-1", "--detach"]);
    assert.match(
      ran.out,
      new RegExp(`migration ${id}\nwatch it by: tessera migration watch ${id}\n$`),
    );
    const json = await runWith(agent, ["migrate", "web-1", "--detach", "--json"]);
    assert.equal((JSON.parse(json.out) as { migration: string }).migration, id);
    assert.ok(!agent.calls.some(({ name }) => name === "migration.watch"));
  });
});

test("without --to the agent's choice and its reason come first", async () => {
  const choice = {
    cloud: "inquadro",
    reason: "moves the fewest bytes",
    considered: [{ cloud: "roma", accepted: false, reason: "does not receive" }],
  };
  const handlers: Partial<Handlers> = {
    "plan.make": () => Promise.resolve({ plan: sample.PLAN, choice }),
  };
  await withAgent(handlers, async (agent) => {
    const { out } = await runWith(agent, ["plan", "web-1"]);
    assert.match(out, /^Destination: inquadro: moves the fewest bytes\n[^]* roma +no +does not/);
    assert.match(out, /\n\nPlan: web-1/);
  });
});

test("a migration that failed has its error's exit code; one without an error has 1", async () => {
  const { receipt: _, ...status } = { ...sample.STATUS, outcome: "aborted" as const };
  const argv = ["migration", "watch", id];
  await withAgent(ending({ ...status, error: sample.ERROR }), async (agent) => {
    const ran = await runWith(agent, argv);
    assert.equal(ran.code, 3);
    assert.equal(ran.out, `migration ${id} of web-1: aborted\n`);
    assert.match(ran.err, /error federation\.unreachable: inquadro does not answer\n/);
  });
  await withAgent(ending(status), async (agent) => {
    const ran = await runWith(agent, argv);
    assert.equal(ran.code, 1);
    assert.match(ran.err, /error cli\.failed: the migration ended as aborted\n/);
  });
});

test("an interruption leaves the migration going, and says how to come back", async () => {
  const interruption = new AbortController();
  const handlers: Partial<Handlers> = {
    "migration.watch": (_, { progress, signal }) => {
      progress(FIRST);
      interruption.abort(new TesseraError("environment", "cli.interrupted", "interrupted"));
      return new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
    },
  };
  await withAgent(handlers, async (agent) => {
    const options = { interrupted: interruption.signal };
    const environment = { TESSERA_AGENT: agent.socketPath };
    const argv = ["migration", "watch", id];
    const ran = await runWith(agent, argv, { ...options, environment });
    assert.equal(ran.code, 130);
    assert.match(
      ran.err,
      /the migration goes on\n {2}about: .*\n {2}what to do: tessera migration watch/,
    );
  });
});
