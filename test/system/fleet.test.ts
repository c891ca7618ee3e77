/** The command line empties a real cloud: one machine runs, two do not, one has no place to go. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { test } from "node:test";
import type { FleetPlan, MigrationStatus } from "#api";
import { startFederation, type Federation, type TestCloud } from "../support/federation.ts";

const TESSERA = resolve(import.meta.dirname, "../../src/cli/main.ts");
/** `beta` has 4 processors, which are taken by the first two. */
const MACHINES = [
  { name: "web-1", cpus: 2, priority: 90, start: true },
  { name: "web-2", cpus: 2, priority: 50, start: false },
  { name: "web-3", cpus: 1, priority: 10, start: false },
];

interface Results {
  readonly machines: readonly {
    readonly machineName: string;
    readonly outcome: string;
    readonly status?: MigrationStatus;
    readonly error?: { readonly code: string };
  }[];
}

/** The exit code and what was printed as JSON. */
async function tessera<T>(cloud: TestCloud, ...args: readonly string[]): Promise<[number, T]> {
  const argv = [TESSERA, ...args, "--json", "--agent", cloud.root];
  const { promise, resolve: done } = Promise.withResolvers<[number, string, string]>();
  execFile(process.execPath, argv, { maxBuffer: 2 ** 26 }, (error, stdout, stderr) =>
    done([typeof error?.code === "number" ? error.code : 0, stdout, stderr]),
  );
  const [code, stdout, stderr] = await promise;
  assert.ok(stdout !== "", stderr);
  return [code, JSON.parse(stdout) as T];
}

async function makeMachines({ a }: Federation): Promise<void> {
  for (const { name, cpus, priority, start } of MACHINES) {
    const text = `name: ${name}-app
kernel: tiny-kernel
os: tiny-os
programs: []
resources: { cpus: ${cpus}, memory: 128M, data: 64M }
serviceLevel: { priority: ${priority} }
`;
    await a.call("appliance.add", { fileName: `${name}.yaml`, text });
    await a.call("machine.create", { name, appliance: `${name}-app` });
    if (start) await a.call("machine.start", { machine: name });
  }
}

async function statesAt(cloud: TestCloud): Promise<Record<string, string>> {
  const { machines } = await cloud.call("machine.list", {});
  return Object.fromEntries(machines.map(({ name, state }) => [name, state]));
}

test("a cloud is emptied as far as there is room; what machines share travels once", async (t) => {
  const federation = await startFederation();
  t.after(() => federation.close());
  const { a, b } = federation;
  await makeMachines(federation);

  const [planned, plan] = await tessera<FleetPlan>(a, "evacuate", "--dry-run");
  assert.equal(planned, 0);
  assert.deepEqual(
    plan.machines.map((entry) => [entry.machineName, entry.plan?.destination ?? entry.error?.code]),
    [
      ["web-1", "beta"],
      ["web-2", "beta"],
      ["web-3", "migration.no-destination"],
    ],
  );
  assert.ok(plan.sharedBytes > 0);
  assert.deepEqual((await b.call("machine.list", {})).machines, []);

  const [code, { machines }] = await tessera<Results>(a, "evacuate", "--parallel", "2");
  assert.equal(code, 1, "one has to stay");
  assert.deepEqual(
    machines.map(({ machineName, outcome, error }) => [machineName, outcome, error?.code]),
    [
      ["web-1", "completed", undefined],
      ["web-2", "completed", undefined],
      ["web-3", "refused", "migration.no-destination"],
    ],
  );
  const [first, second] = machines.map(({ status }) => status?.receipt?.receipt);
  assert.ok(first?.components.every(({ held, bytes }) => !held && bytes > 0));
  assert.ok(second?.components.every(({ held, bytes }) => held && bytes === 0));
  assert.deepEqual(await statesAt(b), { "web-1": "running", "web-2": "stopped" });
  assert.deepEqual(await statesAt(a), { "web-1": "gone", "web-2": "gone", "web-3": "stopped" });
});
