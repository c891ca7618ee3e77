import { compose, createUserData, type InstanceFile } from "#compose";
import {
  componentsOf,
  TesseraError,
  type Appliance,
  type ComposedDisks,
  type Machine,
  type World,
} from "#core";
import type { Hypervisor, MachineSpecification, RunningMachine } from "#hypervisor";
import type { ComponentStore } from "#repository";
import { composedPath, type Layout } from "./layout.ts";
import { openMachineStore, type MachineStore, type StoredMachine } from "./machine-store.ts";
import { createTurns } from "./turns.ts";

export interface MachinesOptions {
  readonly world: World;
  readonly layout: Layout;
  readonly store: ComponentStore;
  readonly hypervisor: Hypervisor;
  /** How long a guest may take to shut down before it is forced. */
  readonly stopTimeout_ms: number;
  /** How long a guest may take to say that it is ready. */
  readonly bootTimeout_ms: number;
  changed(): void;
}

export type StopKind = "graceful" | "forced" | "was-stopped";

/**
 * The machines of this cloud: what is on disk, joined with what the hypervisor runs. Calls about
 * one machine take turns.
 */
export class Machines {
  readonly store: MachineStore;
  readonly #options: MachinesOptions;
  readonly #running = new Map<string, RunningMachine>();
  readonly #turns = createTurns();

  constructor(options: MachinesOptions) {
    this.#options = options;
    this.store = openMachineStore(options.world.files, options.layout.machines);
  }

  /** Finds the machines that survived the agent, and marks those that did not. */
  async adoptAll(): Promise<void> {
    for (const stored of await this.store.list()) {
      const { uuid, state } = stored.machine;
      const running = await this.#options.hypervisor.adopt(this.store.directory(uuid));
      if (running !== undefined) this.#keep(running);
      if (running === undefined && state === "running") await this.#mark(stored, "stopped");
      if (running !== undefined && state === "stopped") await this.#mark(stored, "running");
    }
  }

  async list(): Promise<Machine[]> {
    return (await this.store.list()).map(({ machine }) => machine);
  }

  async create(
    name: string,
    appliance: Appliance,
    files: readonly InstanceFile[],
  ): Promise<Machine> {
    const { world, store } = this.#options;
    return await this.#turns.take(`name:${name}`, async () => {
      await this.#requireFreeName(name);
      const uuid = world.random.uuid();
      await store.pin(
        `machine:${uuid}`,
        componentsOf(appliance).map(({ id }) => id),
      );
      await world.files.makeDirectory(this.store.directory(uuid), 0o700);
      const { dataBytes } = appliance.resources;
      const dataPath = this.store.dataPath(uuid);
      await createUserData(world, dataPath, { uuid, hostname: name, sizeBytes: dataBytes, files });
      const created_ms = world.clock.now();
      const machine: Machine = {
        uuid,
        name,
        appliance,
        state: "stopped",
        created_ms,
        hostPorts: {},
      };
      await this.store.save({ machine });
      this.#options.changed();
      return machine;
    });
  }

  async #requireFreeName(name: string): Promise<void> {
    const taken = (await this.list()).some((m) => m.name === name && m.state !== "gone");
    if (!taken) return;
    throw new TesseraError(
      "misuse",
      "agent.machine-exists",
      `a machine "${name}" is here already`,
      {
        subject: name,
        remedy: "choose another name, or remove the machine",
      },
    );
  }

  /** The composed image of an appliance on this cloud, made if it is not there. */
  async composed(appliance: Appliance): Promise<ComposedDisks> {
    const { world, layout, store } = this.#options;
    const directory = composedPath(layout, appliance.digest);
    return await this.#turns.take(directory, async () => {
      await world.files.makeDirectory(directory);
      return await compose(world, store, appliance, directory);
    });
  }

  async #specification(stored: StoredMachine): Promise<MachineSpecification> {
    const { uuid, name, appliance } = stored.machine;
    const { cpus, memoryBytes, ports } = appliance.resources;
    const disks = await this.composed(appliance);
    const directory = this.store.directory(uuid);
    const dataPath = this.store.dataPath(uuid);
    return { uuid, name, cpus, memoryBytes, disks, dataPath, ports, directory };
  }

  /** Starts a machine of this cloud; returns when its processors run. */
  async start(uuid: string): Promise<RunningMachine> {
    return await this.#turns.take(uuid, async () => {
      const stored = await this.#get(uuid);
      const known = this.#running.get(uuid);
      if (known !== undefined) return known;
      const specification = await this.#specification(stored);
      const running = await this.#options.hypervisor.start(specification);
      this.#keep(running);
      const { hostPorts } = running;
      const machine: Machine = { ...stored.machine, state: "running", hostPorts };
      await this.store.save({ ...stored, machine, composed: specification.disks.digest });
      this.#options.changed();
      return running;
    });
  }

  running(uuid: string): RunningMachine | undefined {
    return this.#running.get(uuid);
  }

  /** Waits for the guest's own word. */
  async ready(uuid: string, signal: AbortSignal, timeout_ms?: number): Promise<void> {
    const running = this.#running.get(uuid);
    if (running === undefined) {
      throw new TesseraError("misuse", "agent.machine-stopped", `machine ${uuid} does not run`, {
        subject: uuid,
      });
    }
    await running.ready(timeout_ms ?? this.#options.bootTimeout_ms, signal);
  }

  /** Stops a machine; idempotent. */
  async stop(uuid: string, timeout_ms = this.#options.stopTimeout_ms): Promise<StopKind> {
    return await this.#turns.take(uuid, async () => {
      const stored = await this.#get(uuid);
      const running = this.#running.get(uuid);
      if (running === undefined) return "was-stopped";
      const lastStop = await running.stop(timeout_ms);
      this.#running.delete(uuid);
      await this.#mark({ ...stored, lastStop }, "stopped");
      return lastStop;
    });
  }

  async remove(uuid: string): Promise<void> {
    await this.#turns.take(uuid, async () => {
      const { machine } = await this.#get(uuid);
      if (this.#running.has(uuid)) throw inUse(machine, "it runs", "stop it first");
      if (machine.migration !== undefined) {
        throw inUse(
          machine,
          `it takes part in migration ${machine.migration}`,
          "cancel that first",
        );
      }
      await this.store.remove(uuid);
      await this.#options.store.unpin(`machine:${uuid}`);
      this.#options.changed();
    });
  }

  /** Changes what is stored, in turn with everything else about the machine. */
  async update(uuid: string, change: (stored: StoredMachine) => StoredMachine): Promise<void> {
    await this.#turns.take(uuid, async () => {
      await this.store.save(change(await this.#get(uuid)));
      this.#options.changed();
    });
  }

  /** Lets go of the hypervisor's processes; they run on. */
  async detach(): Promise<void> {
    await Promise.all([...this.#running.values()].map((running) => running.detach()));
    this.#running.clear();
  }

  async #get(uuid: string): Promise<StoredMachine> {
    const stored = await this.store.find(uuid);
    if (stored !== undefined) return stored;
    throw new TesseraError("misuse", "agent.machine-unknown", `no machine ${uuid} here`, {
      subject: uuid,
    });
  }

  #keep(running: RunningMachine): void {
    const { uuid } = running;
    this.#running.set(uuid, running);
    void running.exited.then(() => this.#exited(uuid, running)).catch(() => {});
  }

  /** A guest may shut itself down, or its hypervisor may die. */
  async #exited(uuid: string, running: RunningMachine): Promise<void> {
    await this.#turns.take(uuid, async () => {
      if (this.#running.get(uuid) !== running) return;
      this.#running.delete(uuid);
      const stored = await this.store.find(uuid);
      if (stored?.machine.state === "running") await this.#mark(stored, "stopped");
    });
  }

  async #mark(stored: StoredMachine, state: Machine["state"]): Promise<void> {
    const hostPorts = state === "running" ? stored.machine.hostPorts : {};
    await this.store.save({ ...stored, machine: { ...stored.machine, state, hostPorts } });
    this.#options.changed();
  }
}

function inUse(machine: Machine, why: string, remedy: string): TesseraError {
  const message = `machine "${machine.name}" cannot be removed: ${why}`;
  return new TesseraError("misuse", "agent.machine-in-use", message, {
    subject: machine.uuid,
    remedy,
  });
}
