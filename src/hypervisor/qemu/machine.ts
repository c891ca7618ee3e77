import { TesseraError, type PortForward, type ProcessIdentity, type World } from "#core";
import type { HotDescription, HotSource, RunningMachine, RunState } from "../contract.ts";
import { isGone, waitGone } from "./find.ts";
import { describeLaunch } from "./hot/describe.ts";
import { hotUnsupported, HotSession } from "./hot/session.ts";
import { QemuSource } from "./hot/source.ts";
import { readyFile, type Layout } from "./layout.ts";
import { Qmp } from "./qmp.ts";
import { runStateOf } from "./status.ts";
import { stopMachine, type StopOutcome } from "./stop.ts";
import { specificationOf, writeRecord, type LaunchRecord } from "./record.ts";
import { readPart, readTail } from "./texts.ts";

const READY_POLL_MS = 100;
const WATCH_MS = 200;
const READY_BYTES_MAX = 4096;
const CONSOLE_TAIL_BYTES = 4096;

/** The guest's word on its second serial port: its boot is complete. The id is its own boot id. */
const READY_LINE = /^ready [0-9a-f-]{36}\r?$/m;

/** A launch whose process is known. */
export type KnownLaunch = LaunchRecord & { readonly process: ProcessIdentity };

export class QemuMachine implements RunningMachine {
  readonly uuid: string;
  readonly identity: ProcessIdentity;
  readonly consolePath: string;
  readonly #world: World;
  readonly #layout: Layout;
  #launch: KnownLaunch;
  readonly #detached = new AbortController();
  #exited: Promise<void> | undefined;
  #stopping: Promise<StopOutcome> | undefined;

  constructor(world: World, layout: Layout, launch: KnownLaunch) {
    this.#world = world;
    this.#layout = layout;
    this.#launch = launch;
    this.uuid = launch.uuid;
    this.identity = launch.process;
    this.consolePath = layout.console;
  }

  get hostPorts(): Readonly<Record<string, number>> {
    return this.#launch.hostPorts;
  }

  /** What it was asked to forward. */
  get forwards(): readonly PortForward[] {
    return specificationOf(this.#launch).ports;
  }

  /** Its ports are these from now on. */
  async setHostPorts(hostPorts: Readonly<Record<string, number>>): Promise<void> {
    const former = this.hostPorts;
    if (Object.entries(hostPorts).every(([name, port]) => former[name] === port)) return;
    this.#launch = { ...this.#launch, hostPorts };
    await writeRecord(this.#world.files, this.#layout, this.#launch);
  }

  async state(): Promise<RunState> {
    if (await isGone(this.#world, this.identity)) return "exited";
    try {
      const qmp = await Qmp.open(this.#layout.qmpSocket, this.#world.clock);
      try {
        return runStateOf(await qmp.execute("query-status"));
      } finally {
        await qmp.close();
      }
    } catch (error) {
      if (await isGone(this.#world, this.identity)) return "exited";
      throw error;
    }
  }

  async ready(timeout_ms: number, signal?: AbortSignal): Promise<void> {
    const { clock, files } = this.#world;
    const path = readyFile(this.#layout, this.#launch.launch);
    const deadline = clock.monotonic() + timeout_ms;
    for (;;) {
      signal?.throwIfAborted();
      const gone = await isGone(this.#world, this.identity);
      const said = (await readPart(files, path, 0, READY_BYTES_MAX)) ?? "";
      if (READY_LINE.test(said) || (await this.#arrivedReady(gone))) return;
      if (gone) throw await this.#bootError("hypervisor.exited", "the machine ended");
      const rest = deadline - clock.monotonic();
      if (rest <= 0) {
        const late = `the guest was not ready within ${timeout_ms} ms`;
        throw await this.#bootError("hypervisor.boot-timeout", late);
      }
      await clock.sleep(Math.min(READY_POLL_MS, rest), signal);
    }
  }

  /** A guest that arrived has said its word elsewhere; it is ready when it runs. */
  async #arrivedReady(gone: boolean): Promise<boolean> {
    return this.#launch.incoming !== undefined && !gone && (await this.state()) === "running";
  }

  async #bootError(code: string, message: string): Promise<TesseraError> {
    const tail = await readTail(this.#world.files, this.consolePath, CONSOLE_TAIL_BYTES);
    return new TesseraError("environment", code, `${message}; its console ends with:\n${tail}`, {
      subject: this.uuid,
      remedy: `look at ${this.consolePath}`,
    });
  }

  stop(timeout_ms: number): Promise<StopOutcome> {
    this.#stopping ??= stopMachine(this.#world, this.#layout, this.#launch, timeout_ms).finally(
      () => {
        this.#stopping = undefined;
      },
    );
    return this.#stopping;
  }

  /** The watch begins when it is first asked for, and ends, unresolved, with `detach`. */
  get exited(): Promise<void> {
    this.#exited ??= this.#watch();
    return this.#exited;
  }

  async #watch(): Promise<void> {
    const { signal } = this.#detached;
    try {
      await waitGone(this.#world, this.identity, Infinity, WATCH_MS, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
      await new Promise<never>(() => {});
    }
  }

  describe(): HotDescription {
    const description = describeLaunch(this.#launch);
    if (description === undefined) throw hotUnsupported(this.#layout);
    return description;
  }

  async hot(): Promise<HotSource> {
    const [world, layout] = [this.#world, this.#layout];
    const description = this.describe();
    const session = await HotSession.open(world, layout, this.identity);
    return new QemuSource({ world, layout, session, description, end: () => this.stop(0) });
  }

  detach(): Promise<void> {
    this.#detached.abort();
    return Promise.resolve();
  }
}
