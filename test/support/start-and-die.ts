/**
 * A program that starts a machine and is killed by its parent: argument 1 is the specification as
 * JSON, argument 2 the moment at which it says the pid and waits for its end.
 */
import type { MachineSpecification } from "#hypervisor";
import { createQemu } from "#hypervisor";
import { realWorld } from "#system";

const [, , text = "", moment = "started"] = process.argv;
const specification = JSON.parse(text) as MachineSpecification;
const world = realWorld();

function say(pid: number): void {
  process.stdout.write(`pid ${pid}\n`);
  setInterval(() => {}, 60_000);
}

/** From the birth of the process on, nothing that is written reaches the disk. */
const dying = {
  ...world,
  processes: {
    ...world.processes,
    start: async (...args: Parameters<typeof world.processes.start>) => {
      const started = await world.processes.start(...args);
      if (moment !== "spawned") return started;
      say(started.identity.pid);
      return new Promise<never>(() => {});
    },
  },
};

const machine = await createQemu(dying, { accelerator: "tcg" }).start(specification);
say(machine.identity.pid);
