/** The conformance suite and QEMU's own cases, with real guests under TCG. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { hasCode, type World } from "#core";
import { createQemu, type MachineSpecification } from "#hypervisor";
import { realWorld } from "#system";
import { hypervisorSuite, type GuestManners } from "../../src/hypervisor/hypervisor.suite.ts";
import { tinyDisks, tinyGuest, writeDisk } from "../support/tiny-guest.ts";

const CHILD = resolve(import.meta.dirname, "../support/start-and-die.ts");

function specification(directory: string, manners: GuestManners = {}): MachineSpecification {
  const { deaf = false, mute = false, brief = false, layers = 2 } = manners;
  const words = Object.entries({ deaf, mute, brief }).filter(([, wanted]) => wanted);
  const commandLine = ["quiet", ...words.map(([word]) => `tessera.${word}`)].join(" ");
  const dataPath = join(directory, "data");
  writeDisk(dataPath, 16 * 2 ** 20, "user data".padEnd(64, "."));
  return {
    uuid: randomUUID(),
    name: "tiny",
    cpus: 1,
    memoryBytes: 128 * 2 ** 20,
    disks: tinyDisks(directory, layers, commandLine),
    dataPath,
    ports: [{ name: "http", guest: 80 }],
    directory,
  };
}

async function startAndDie(machine: MachineSpecification, moment: string): Promise<number> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(machine), moment], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  for await (const line of createInterface({ input: child.stdout })) {
    const pid = /^pid (\d+)$/.exec(line)?.[1];
    if (pid === undefined) continue;
    child.kill("SIGKILL");
    await ended;
    return Number(pid);
  }
  throw new Error("the child ended without starting the machine");
}

hypervisorSuite("QEMU", {
  make: () => createQemu(realWorld(), { accelerator: "tcg" }),
  specification,
  startAndDie,
});

/** A world in which another program takes the host port just before the first QEMU binds it. */
function unluckyWorld(): { world: World; thief: Server; starts: () => number } {
  const world = realWorld();
  const thief = createServer();
  let starts = 0;
  const start: World["processes"]["start"] = async (program, args, options) => {
    starts += 1;
    const port = /hostfwd=tcp:127\.0\.0\.1:(\d+)/.exec(args.join(" "))?.[1];
    if (starts === 1) await once(thief.listen(Number(port), "127.0.0.1"), "listening");
    return world.processes.start(program, args, options);
  };
  return {
    world: { ...world, processes: { ...world.processes, start } },
    thief,
    starts: () => starts,
  };
}

test("a chosen port that is taken before QEMU binds it is chosen anew; a wished one is an error", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "hv-"));
  const { world, thief, starts } = unluckyWorld();
  t.after(() => {
    thief.close();
    rmSync(directory, { recursive: true });
  });
  const qemu = createQemu(world, { accelerator: "tcg" });
  const machine = await qemu.start(specification(directory));
  assert.equal(starts(), 2);
  await machine.stop(0);
  const address = thief.address();
  assert.ok(typeof address === "object" && address !== null);
  const wished = [{ name: "http", guest: 80, host: address.port }];
  await assert.rejects(
    qemu.start({ ...specification(directory), ports: wished }),
    (error) => hasCode(error, "hypervisor.start-failed") && /forwarding rule/.test(error.message),
  );
  assert.equal(starts(), 3);
});

test("a missing QEMU is named with its remedy", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "hv-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const qemu = createQemu(realWorld(), { accelerator: "tcg", program: "qemu-system-none" });
  await assert.rejects(
    qemu.start(specification(directory)),
    (error) => hasCode(error, "hypervisor.start-failed") && /install/.test(error.remedy ?? ""),
  );
});

test("the accelerator is proven once and the outcome is kept", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "hv-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const world = realWorld();
  const options = {
    probeCachePath: join(directory, "probe.json"),
    probeKernelPath: tinyGuest().kernelPath,
  };
  const first = await createQemu(world, options).capabilities();
  assert.equal(first.accelerators.at(-1), "tcg");
  assert.equal(first.name, "qemu");
  assert.match(first.version, /^\d+\.\d+/);
  const kept = JSON.parse(readFileSync(options.probeCachePath, "utf8")) as { works: boolean };
  assert.equal(kept.works, first.accelerators.includes("kvm"));

  const run: World["processes"]["run"] = (program, args, more) => {
    assert.match(args.join(" "), /^--(?:version|help)$/, "no second probe is run");
    return world.processes.run(program, args, more);
  };
  const cached = { ...world, processes: { ...world.processes, run } };
  assert.deepEqual(await createQemu(cached, options).capabilities(), first);
});
