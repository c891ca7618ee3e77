/**
 * Migrations that cannot be: each is refused or undone with a stable error code, the machine at the
 * source is as it was, and nothing is left anywhere.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { openSync, readSync, writeSync, closeSync } from "node:fs";
import { join } from "node:path";
import { hasCode, hexOf } from "#core";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import { Scene } from "../support/fault-scene.ts";
import { meet, until, type TestCloud } from "../support/federation.ts";
import { makeMachine, type Journey } from "../support/journey.ts";
import { addNoise } from "../support/tiny-components.ts";

const MIB = 2 ** 20;
const isRoot = process.getuid?.() === 0;

const scene = new Scene();

/** Tries to migrate a machine from the first cloud; gives the error's code and message. */
async function refusal(journey: Journey, machine: string, to: string) {
  const { a } = journey.federation;
  const error: unknown = await a.call("migration.start", { machine, to }).then(
    () => assert.fail("it was not refused"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof Error && "code" in error, String(error));
  return { code: String(error.code), message: error.message };
}

/** Begins a migration of a machine from the first cloud to the second one. */
async function begin(journey: Journey, machine: string): Promise<string> {
  const { migration } = await journey.federation.a.call("migration.start", { machine, to: "beta" });
  assert.ok(migration !== undefined);
  return migration;
}

/** Removes a machine and its appliance again; it must be free for that. */
async function dismiss(cloud: TestCloud, machine: string): Promise<void> {
  const { state, migration } = await cloud.call("machine.show", { machine });
  assert.equal(state, "stopped");
  assert.equal(migration, undefined);
  await cloud.call("machine.remove", { machine });
}

scene.test("a machine that needs more processors than the destination has", async (journey) => {
  const machine = await makeMachine(journey.federation, { name: "wide", cpus: 8 });
  const { code, message } = await refusal(journey, machine, "beta");
  assert.equal(code, "migration.refused");
  assert.match(message, /4 of 8 CPUs/);
  await dismiss(journey.federation.a, machine);
  await journey.assertWhole(undefined, undefined);
});

scene.test("a cloud that is not known", async (journey) => {
  const { code, message } = await refusal(journey, journey.uuid, "gamma");
  assert.equal(code, "federation.unreachable");
  assert.match(message, /gamma is not in the federation/);
  await journey.assertWhole(undefined, undefined);
});

scene.test("a machine that is at the destination already", async (journey) => {
  const { a, b } = journey.federation;
  const machine = await makeMachine(journey.federation, { name: "twin" });
  const copy = join(b.root, "machines", machine);
  cpSync(join(a.root, "machines", machine), copy, { recursive: true });
  const { code, message } = await refusal(journey, machine, "beta");
  assert.equal(code, "migration.refused");
  assert.match(message, /has this machine already/);
  rmSync(copy, { recursive: true });
  await dismiss(a, machine);
});

scene.test("a name that the destination has given to another machine", async (journey) => {
  const { a, b } = journey.federation;
  const first = await makeMachine(journey.federation, { name: "namesake" });
  const moved = await begin(journey, first);
  await ends(a, moved, "completed");
  await ends(b, moved, "completed");
  const second = await a.call("machine.create", { name: "namesake", appliance: "namesake" });
  const { code, message } = await refusal(journey, second.uuid, "beta");
  assert.equal(code, "migration.refused");
  assert.match(message, /another machine named "namesake"/);
  await dismiss(a, second.uuid);
  await journey.assertWhole(undefined, undefined);
});

scene.test("a destination that cannot be reached", async (journey) => {
  const { a, b } = journey.federation;
  await b.stop();
  const { code } = await refusal(journey, journey.uuid, "beta");
  assert.equal(code, "federation.unreachable");
  await b.start();
  await meet(a, b);
  await journey.assertWhole(undefined, undefined);
});

/** Waits for the end at one cloud, and gives the error's code. */
async function ends(cloud: TestCloud, migration: string, outcome: string) {
  const shown = await until(`${cloud.name} ends it`, async () => {
    const now = await cloud.call("migration.show", { migration });
    return now.outcome === undefined ? undefined : now;
  });
  assert.equal(shown.outcome, outcome);
  return shown.error?.code;
}

async function noiseMachine(journey: Journey, name: string, sizeBytes: number) {
  const { a, base } = { ...journey.federation };
  const store = await openRepository(realWorld(), join(a.root, "repository"));
  const component = await addNoise(store, name, sizeBytes, base);
  const machine = await makeMachine(journey.federation, { name, programs: [name] });
  return { component, machine };
}

async function isUndone(journey: Journey, migration: string, code: string): Promise<void> {
  const { a } = journey.federation;
  assert.equal(await ends(a, migration, "aborted"), code);
  await journey.assertWhole(undefined, undefined);
}

scene.test("a component whose bytes have changed on the source's disk", async (journey) => {
  const { a, b } = journey.federation;
  const { component, machine } = await noiseMachine(journey, "rotten", 2 * MIB);
  const blob = join(a.root, "repository", "blobs", "sha256", hexOf(component.id));
  const flip = (): void => flipByte(blob, MIB);
  flip();
  const started = await begin(journey, machine).catch((error: unknown) => error);
  if (typeof started === "string") {
    assert.equal(await ends(a, started, "aborted"), "repository.blob-corrupt");
  } else {
    assert.ok(hasCode(started, "repository.blob-corrupt"), String(started));
  }
  assert.ok(!(await b.call("component.list", {})).components.some(({ id }) => id === component.id));
  const { findings } = await a.call("component.verify", {});
  assert.deepEqual(
    findings.map(({ digest, problem }) => ({ digest, problem })),
    [{ digest: component.id, problem: "digest" }],
  );
  flip();
  await dismiss(a, machine);
  await journey.assertWhole(undefined, undefined);
});

function flipByte(path: string, position: number): void {
  spawnSync("chmod", ["u+w", path]);
  const file = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, position);
  byte[0] = (byte[0] ?? 0) ^ 1;
  writeSync(file, byte, 0, 1, position);
  closeSync(file);
}

scene.test("a destination whose files may not grow", async (journey) => {
  const { a, b } = journey.federation;
  const { machine } = await noiseMachine(journey, "long", 24 * MIB);
  await b.stop();
  await b.start({ prefix: ["prlimit", `--fsize=${16 * MIB}`] });
  await meet(a, b);
  const migration = await begin(journey, machine);
  await isUndone(journey, migration, "system.io");
  await b.stop();
  await b.start();
  await meet(a, b);
  await dismiss(a, machine);
});

const skip = isRoot ? false : "a small file system can be mounted by root only";

scene.test(
  "a destination whose disk becomes full",
  async (journey) => {
    const { a, b } = journey.federation;
    const { machine } = await noiseMachine(journey, "big", 24 * MIB);
    const blobs = join(b.root, "repository");
    await b.stop();
    const kept = `${blobs}.kept`;
    cpSync(blobs, kept, { recursive: true });
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=160M", "tmpfs", blobs]);
    assert.equal(mounted.status, 0, mounted.stderr.toString());
    try {
      cpSync(kept, blobs, { recursive: true });
      await b.start();
      await meet(a, b);
      b.faults("hold:destination:accepted");
      const migration = await begin(journey, machine);
      await until("it is accepted", async () =>
        (await b.call("migration.show", { migration })).state === "accepted" ? true : undefined,
      );
      const filler = join(blobs, "filler");
      spawnSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=1M"], { stdio: "ignore" });
      writeFileSync(filler, Buffer.alloc(0), { flag: "a" });
      spawnSync("truncate", ["-s", "-10M", filler]);
      b.faults();
      assert.equal(await ends(a, migration, "aborted"), "repository.no-space");
      rmSync(filler);
      await journey.assertWhole(undefined, undefined);
    } finally {
      await b.stop();
      spawnSync("umount", [blobs]);
    }
    mkdirSync(blobs, { recursive: true });
    rmSync(kept, { recursive: true });
    await b.start();
    await meet(a, b);
    await dismiss(a, machine);
    await journey.assertWhole(undefined, undefined);
  },
  skip,
);
