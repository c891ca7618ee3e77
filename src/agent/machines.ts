import type { BlockDevice } from "#block";
import {
  cloudInitParts,
  compose,
  createUserData,
  guestFacts,
  withUserData,
  type CloudInit,
  type InstanceFile,
} from "#compose";
import {
  componentsOf,
  reportOf,
  TesseraError,
  type Appliance,
  type ComposedDisks,
  type Machine,
  type ProcessIdentity,
} from "#core";
import type {
  IncomingMachine,
  IncomingOptions,
  MachineSpecification,
  RunningMachine,
} from "#hypervisor";
import { composedPath } from "./layout.ts";
import { removeReaders } from "./formatted-data.ts";
import { beginRun, diskOf, openMachineData } from "./machine-data.ts";
import { attachShared, removeShared, sharedPath } from "./shared-data.ts";
import type { MachinesOptions } from "./machines-options.ts";
import { openMachineStore, type MachineStore, type StoredMachine } from "./machine-store.ts";
import { inUse, isRunning, NAME, nameInvalid, refuseStart, type Starter } from "./machine-rules.ts";
import { createTurns } from "./turns.ts";

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
    this.store = openMachineStore(options.world, options.layout.machines);
  }

  /** Finds the machines that survived the agent, and marks those that did not. */
  async adoptAll(): Promise<void> {
    for (const stored of await this.store.list()) {
      await this.#adopt(stored).catch((error: unknown) => {
        const { uuid } = stored.machine;
        const report = reportOf(error);
        this.#options.world.log.log("error", "a machine cannot be adopted", { uuid, ...report });
      });
    }
  }

  async #adopt(stored: StoredMachine): Promise<void> {
    const { uuid, state } = stored.machine;
    // A hypervisor in the directory of a machine that is elsewhere waits for it to come back.
    if (state === "gone") return;
    const running = await this.#options.hypervisor.adopt(this.store.directory(uuid));
    if (running !== undefined) this.#keep(running);
    await removeReaders(this.#options.world, this.store.directory(uuid));
    if (running === undefined && state === "running") await this.#mark(stored, "stopped");
    if (running !== undefined && state === "stopped") await this.#markRunning(stored, running);
  }

  async list(): Promise<Machine[]> {
    return (await this.store.list()).map(({ machine }) => machine);
  }

  /**
   * Makes a stopped machine with a new user data block; `files` win over what `cloudInit` makes.
   *
   * @throws `agent.name-invalid`, `agent.machine-exists`, `repository.component-unknown` (misuse),
   * and what making the user data block throws; nothing is left of it then
   */
  async create(
    name: string,
    appliance: Appliance,
    files: readonly InstanceFile[],
    cloudInit?: CloudInit,
  ): Promise<Machine> {
    const { world, store } = this.#options;
    const sizeBytes = appliance.resources.dataBytes;
    return await this.createWith(name, appliance, async (uuid, dataPath) => {
      const identity = { uuid, hostname: name };
      const parts =
        cloudInit === undefined
          ? { files: [] }
          : await cloudInitParts(cloudInit, await guestFacts(store, appliance), identity);
      const all = { ...parts, files: [...parts.files, ...files] };
      await createUserData(world, dataPath, { ...identity, sizeBytes, ...all });
    });
  }

  /** As `create`, with a user data block that `makeData` makes at the path that it is told. */
  async createWith(
    name: string,
    appliance: Appliance,
    makeData: (uuid: string, dataPath: string) => Promise<void>,
  ): Promise<Machine> {
    if (!NAME.test(name)) throw nameInvalid(name);
    const { clock, random } = this.#options.world;
    return await this.#turns.take(`name:${name}`, async () => {
      await this.#requireFreeName(name);
      const uuid = random.uuid();
      const created_ms = clock.now();
      const machine: Machine = {
        uuid,
        name,
        appliance,
        state: "stopped",
        created_ms,
        hostPorts: {},
      };
      try {
        await this.#make(machine, makeData);
      } catch (cause) {
        await this.#forget(uuid);
        throw cause;
      }
      this.#options.changed();
      return machine;
    });
  }

  async #make(
    machine: Machine,
    makeData: (uuid: string, dataPath: string) => Promise<void>,
  ): Promise<void> {
    const { world, store } = this.#options;
    const { uuid, appliance } = machine;
    const ids = componentsOf(appliance).map(({ id }) => id);
    await store.pin(`machine:${uuid}`, ids);
    for (const id of ids) await store.resolve(id);
    await world.files.makeDirectory(this.store.directory(uuid), 0o700);
    const shared = this.#sharedPath(uuid);
    await makeData(uuid, shared ?? this.store.dataPath(uuid));
    if (shared !== undefined) await attachShared(world, this.store.directory(uuid), shared);
    await this.store.save({ machine });
  }

  #sharedPath(uuid: string): string | undefined {
    const { sharedDirectory } = this.#options;
    return sharedDirectory === undefined ? undefined : sharedPath(sharedDirectory, uuid);
  }

  /** What runs, with its hypervisor's process. */
  processes(): { readonly uuid: string; readonly identity: ProcessIdentity }[] {
    return [...this.#running.values()].map(({ uuid, identity }) => ({ uuid, identity }));
  }

  /** The user data block, read-only; of a machine that runs it is of several moments. */
  async openData(uuid: string): Promise<BlockDevice> {
    return await openMachineData(this.#options.world, this.store.directory(uuid));
  }

  /** Removes what failed to become a machine; a failure here must not hide the first one. */
  async #forget(uuid: string): Promise<void> {
    const { store, world } = this.#options;
    const shared = this.#sharedPath(uuid);
    const removals = [
      this.store.remove(uuid),
      store.unpin(`machine:${uuid}`),
      ...(shared === undefined ? [] : [world.files.remove(shared)]),
    ];
    for (const result of await Promise.allSettled(removals)) {
      if (result.status === "fulfilled") continue;
      world.log.log("error", "a leftover stays", { uuid, ...reportOf(result.reason) });
    }
  }

  /**
   * Asked before long work for a machine of this name.
   *
   * @throws `agent.name-invalid`, `agent.machine-exists` (misuse)
   */
  async requireName(name: string): Promise<void> {
    if (!NAME.test(name)) throw nameInvalid(name);
    await this.#requireFreeName(name);
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
    const disks = withUserData(await this.composed(appliance), uuid);
    const directory = this.store.directory(uuid);
    const disk = await diskOf(this.#options.world, directory);
    return { uuid, name, cpus, memoryBytes, disks, ...disk, ports, directory };
  }

  /**
   * Starts a machine of this cloud; returns when its processors run. An error means that it does
   * not run.
   *
   * @throws `agent.machine-gone`, `agent.machine-migrating` (misuse), `agent.machine-unknown`
   */
  async start(uuid: string, starter?: Starter): Promise<RunningMachine> {
    return await this.#turns.take(uuid, async () => {
      const stored = await this.#get(uuid);
      const known = this.running(uuid);
      refuseStart(stored.machine, starter);
      if (known !== undefined) return known;
      const specification = await this.#specification(stored);
      starter?.signal.throwIfAborted();
      await beginRun(this.#options.world, specification.directory);
      const running = await this.#options.hypervisor.start(specification);
      this.#keep(running);
      await this.#markRunning({ ...stored, composed: specification.disks.digest }, running);
      return running;
    });
  }

  /** What runs, runs, also where the disk is too full to say so: the next start finds it out. */
  async #markRunning(stored: StoredMachine, { uuid, hostPorts }: RunningMachine): Promise<void> {
    const machine: Machine = { ...stored.machine, state: "running", hostPorts };
    await this.store.save({ ...stored, machine }).catch((error: unknown) => {
      const report = reportOf(error);
      this.#options.world.log.log("error", "a start is not recorded", { uuid, ...report });
    });
    this.#options.changed();
  }

  /**
   * Starts a hypervisor that waits for the guest of a machine, which need not be ours yet; one that
   * waits already is returned.
   */
  async receive(
    { uuid, name, appliance }: Pick<Machine, "uuid" | "name" | "appliance">,
    options: IncomingOptions,
  ): Promise<IncomingMachine> {
    const { cpus, memoryBytes, ports } = appliance.resources;
    const disks = withUserData(await this.composed(appliance), uuid);
    const directory = this.store.directory(uuid);
    await this.#options.world.files.makeDirectory(directory, 0o700);
    const dataPath = this.store.dataPath(uuid);
    const specification = { uuid, name, cpus, memoryBytes, disks, dataPath, ports, directory };
    return await this.#options.hypervisor.startIncoming(specification, options);
  }

  /** The hypervisor that waits for this machine's guest, or has received it, if it lives. */
  async received(uuid: string): Promise<IncomingMachine | undefined> {
    return await this.#options.hypervisor.adoptIncoming(this.store.directory(uuid));
  }

  /** The guest of a machine of this cloud has arrived and runs. */
  async arrived(uuid: string, running: RunningMachine): Promise<void> {
    await this.#turns.take(uuid, async () => {
      if (!this.#running.has(uuid)) this.#keep(running);
      await this.#markRunning(await this.#get(uuid), running);
    });
  }

  /** What runs; of a hypervisor that has just died, its end may not have been heard of yet. */
  running(uuid: string): RunningMachine | undefined {
    const known = this.#running.get(uuid);
    const { processes } = this.#options.world;
    return known !== undefined && processes.alive(known.identity) ? known : undefined;
  }

  /** Waits for the guest's own word. */
  async ready(uuid: string, signal: AbortSignal, timeout_ms?: number): Promise<void> {
    const running = this.running(uuid);
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

  /**
   * Works with a machine that does not run; its start waits for the end of it.
   *
   * @throws `agent.machine-running`, `agent.machine-gone`, `agent.machine-migrating` (misuse)
   */
  async whileStopped<T>(uuid: string, work: (machine: Machine) => Promise<T>): Promise<T> {
    return await this.#turns.take(uuid, async () => {
      const { machine } = await this.#get(uuid);
      refuseStart(machine);
      if (this.#running.has(uuid)) throw isRunning(machine);
      return await work(machine);
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
      await this.#removeShared(machine);
      await this.store.remove(uuid);
      await this.#options.store.unpin(`machine:${uuid}`);
      this.#options.changed();
    });
  }

  /** Of one that is elsewhere the file is not ours. */
  async #removeShared({ uuid, state }: Machine): Promise<void> {
    if (state === "gone") return;
    await removeShared(this.#options.world, this.store.directory(uuid));
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
