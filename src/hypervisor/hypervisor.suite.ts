/** What every hypervisor must do, shown with a real guest. It boots several machines: some 30 s. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { hasCode } from "#core";
import type { Hypervisor, MachineSpecification } from "./contract.ts";

/** Ways in which the tests' guest departs from good behaviour. */
export interface GuestManners {
  /** Ignores the power button. */
  readonly deaf?: boolean;
  /** Never says that it is ready. */
  readonly mute?: boolean;
  /** Powers itself off once it is up. */
  readonly brief?: boolean;
  readonly layers?: number;
}

export interface HypervisorFixture {
  readonly make: () => Hypervisor;
  /**
   * A machine of the tests' guest with its disks in `directory`. It serves on guest port 80, forward
   * `http`: `/data` (the first 64 bytes of the user data block), `/layers` (a line `layer N` each)
   * and `/cgi-bin/write`, which puts a posted line at the start of the user data block.
   */
  readonly specification: (directory: string, manners?: GuestManners) => MachineSpecification;
  /**
   * Starts the machine in another process and kills that process: once `start` has returned
   * (`started`), or as soon as the hypervisor's process exists (`spawned`). Returns its pid.
   */
  readonly startAndDie: (
    specification: MachineSpecification,
    moment: "started" | "spawned",
  ) => Promise<number>;
}

const READY_MS = 60_000;

/** A directory that goes away with the test, together with a machine that still runs in it. */
function directoryFor(t: TestContext, hypervisor: Hypervisor): string {
  const directory = mkdtempSync(join(tmpdir(), "hv-"));
  t.after(async () => {
    const left = await hypervisor.adopt(directory).catch(() => undefined);
    await left?.stop(0);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

async function get(port: number | undefined, path: string, body?: string): Promise<string> {
  const options = body === undefined ? {} : { method: "POST", body };
  const response = await fetch(`http://127.0.0.1:${port}${path}`, options);
  return response.text();
}

function fails(code: string, text = ""): (error: unknown) => boolean {
  return (error) => hasCode(error, code) && error.message.includes(text);
}

export function hypervisorSuite(name: string, fixture: HypervisorFixture): void {
  describe(`${name}: conformance`, () => {
    test("a machine boots, is ready, serves and stops gracefully", async (t) => {
      const hypervisor = fixture.make();
      const specification = fixture.specification(directoryFor(t, hypervisor), { layers: 40 });
      const [machine, again] = await Promise.all([
        hypervisor.start(specification),
        hypervisor.start(specification),
      ]);
      assert.equal(again.identity.pid, machine.identity.pid, "two starts give one process");
      assert.equal(await machine.state(), "running");
      await machine.ready(READY_MS);
      const port = machine.hostPorts["http"];
      assert.match(await get(port, "/data"), /^user data/);
      const layers = await get(port, "/layers");
      for (let index = 0; index < 40; index++) assert.ok(layers.includes(`layer ${index}\n`));
      assert.match(await get(port, "/cgi-bin/write", "moved\n"), /written/);

      const other = { ...specification, name: "other" };
      await assert.rejects(hypervisor.start(other), fails("hypervisor.specification-differs"));

      const { exited } = machine;
      assert.equal(await machine.stop(20_000), "graceful");
      await exited;
      assert.equal(await machine.state(), "exited");
      assert.equal(await machine.stop(20_000), "graceful", "a repeated stop says the same");
      assert.equal(readFileSync(specification.dataPath).subarray(0, 5).toString(), "moved");
      assert.equal(await hypervisor.adopt(specification.directory), undefined);
    });

    test("a guest that ignores the power button is stopped by force", async (t) => {
      const hypervisor = fixture.make();
      const directory = directoryFor(t, hypervisor);
      const machine = await hypervisor.start(fixture.specification(directory, { deaf: true }));
      await machine.ready(READY_MS);
      assert.equal(await machine.stop(500), "forced");
      assert.equal(await machine.state(), "exited");

      // The word of the boot before must not count.
      const mute = await hypervisor.start(fixture.specification(directory, { mute: true }));
      await assert.rejects(mute.ready(1000), fails("hypervisor.boot-timeout"));
      assert.equal(await mute.stop(0), "forced");
    });

    test("a machine that ends by itself is noticed", async (t) => {
      const hypervisor = fixture.make();
      const directory = directoryFor(t, hypervisor);
      const specification = fixture.specification(directory, { mute: true, brief: true });
      const machine = await hypervisor.start(specification);
      const { exited } = machine;
      await assert.rejects(machine.ready(READY_MS), fails("hypervisor.exited", "guest is up"));
      await exited;
      assert.equal(await hypervisor.adopt(directory), undefined);
    });

    test("a wait for readiness can be given up", async (t) => {
      const hypervisor = fixture.make();
      const directory = directoryFor(t, hypervisor);
      const machine = await hypervisor.start(fixture.specification(directory, { mute: true }));
      const reason = new Error("no longer wanted");
      const signal = AbortSignal.any([AbortSignal.abort(reason)]);
      await assert.rejects(machine.ready(READY_MS, signal), reason);
      await machine.stop(0);
    });

    test("a machine survives the death of its starter and is adopted", async (t) => {
      const hypervisor = fixture.make();
      const directory = directoryFor(t, hypervisor);
      const specification = fixture.specification(directory);
      const pid = await fixture.startAndDie(specification, "started");
      const machine = await hypervisor.adopt(directory);
      assert.equal(machine?.identity.pid, pid);
      assert.equal(machine?.uuid, specification.uuid);
      await machine?.ready(READY_MS);
      assert.match(await get(machine?.hostPorts["http"], "/data"), /^user data/);
      assert.equal(await machine?.stop(20_000), "graceful");
    });

    test("a process that its starter could not record is found, not doubled", async (t) => {
      const hypervisor = fixture.make();
      const specification = fixture.specification(directoryFor(t, hypervisor));
      const pid = await fixture.startAndDie(specification, "spawned");
      const machine = await hypervisor.start(specification);
      assert.equal(machine.identity.pid, pid);
      assert.equal(await machine.state(), "running");
      await machine.stop(0);
    });

    test("a machine that cannot start leaves nothing behind", async (t) => {
      const hypervisor = fixture.make();
      const directory = directoryFor(t, hypervisor);
      const specification = fixture.specification(directory);
      const before = readdirSync(directory);
      const dataPath = join(directory, "missing");
      await assert.rejects(
        hypervisor.start({ ...specification, dataPath }),
        fails("hypervisor.start-failed", dataPath),
      );
      const logs = new Set(["console.log", "qemu.log"]);
      const after = readdirSync(directory).filter((entry) => !logs.has(entry));
      assert.deepEqual(after, before);
      assert.equal(await hypervisor.adopt(directory), undefined);
    });

    test("a user data block in use is not opened twice", async (t) => {
      const hypervisor = fixture.make();
      const first = fixture.specification(directoryFor(t, hypervisor));
      const second = fixture.specification(directoryFor(t, hypervisor));
      const machine = await hypervisor.start(first);
      await assert.rejects(
        hypervisor.start({ ...second, dataPath: first.dataPath }),
        fails("hypervisor.start-failed", "lock"),
      );
      await machine.stop(0);
    });
  });
}
