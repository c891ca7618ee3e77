import { hasCode, TesseraError, type Json, type ProcessIdentity, type World } from "#core";
import type { HotEvent, HotStatistics, HotStatus, RunState } from "../../contract.ts";
import { waitGone } from "../find.ts";
import type { Layout } from "../layout.ts";
import { Qmp } from "../qmp.ts";
import { runStateOf } from "../status.ts";
import { readTail } from "../texts.ts";
import { ENDED, hotEventOf, migrationInfoOf, type MigrationInfo } from "./decode.ts";
import { EventQueue } from "./event-queue.ts";

type Arguments = Readonly<Record<string, Json>>;

const WORDS_BYTES_MAX = 4096;
/** A monitor that closes is followed by the end of its process, at once or never. */
const GONE_MS = 2000;
const PAUSE_MS = 10_000;
/** A QEMU that does not answer this soon hangs, and its guest may be standing still. */
const ANSWER_MS = 2000;
const SETTLE_MS = 100;
const SETTLE_TRIES = 10;

/**
 * The monitor of one end of a hot migration. It is opened before anything can hang: a hanging QEMU
 * takes commands out of band, but only on a connection that has negotiated them.
 */
export class HotSession {
  readonly #world: World;
  readonly #layout: Layout;
  readonly #identity: ProcessIdentity;
  readonly #qmp: Qmp;
  readonly #listeners = new Set<(event: HotEvent) => void>();

  private constructor(world: World, layout: Layout, identity: ProcessIdentity, qmp: Qmp) {
    this.#world = world;
    this.#layout = layout;
    this.#identity = identity;
    this.#qmp = qmp;
    qmp.onEvent((raw) => {
      const event = hotEventOf(raw);
      if (event !== undefined) for (const listener of this.#listeners) listener(event);
    });
  }

  /**
   * @throws `hypervisor.hot-unsupported`: the process was started without this monitor;
   *   `hypervisor.qmp-timeout`: another holds it
   */
  static async open(world: World, layout: Layout, identity: ProcessIdentity): Promise<HotSession> {
    if ((await world.files.status(layout.hotSocket)) === undefined) throw hotUnsupported(layout);
    const qmp = await Qmp.open(layout.hotSocket, world.clock);
    return new HotSession(world, layout, identity, qmp);
  }

  execute(command: string, args: Arguments = {}, timeout_ms?: number): Promise<unknown> {
    return this.#qmp.execute(command, args, timeout_ms === undefined ? {} : { timeout_ms });
  }

  /** Runs even while QEMU's main loop hangs. */
  outOfBand(command: string, args: Arguments = {}): Promise<unknown> {
    return this.#qmp.execute(command, args, { outOfBand: true });
  }

  async info(timeout_ms?: number): Promise<MigrationInfo> {
    return migrationInfoOf(await this.execute("query-migrate", {}, timeout_ms));
  }

  async run(): Promise<RunState> {
    return runStateOf(await this.execute("query-status"));
  }

  async state(): Promise<{ migration: HotStatus; run: RunState }> {
    return { migration: (await this.info()).status, run: await this.run() };
  }

  /** The downtime is there some 300 ms after the end, so it is waited for. */
  async statistics(): Promise<HotStatistics> {
    for (let tries = 1; ; tries++) {
      const { blockedBy: _, ...statistics } = await this.info(ANSWER_MS);
      const settled = statistics.status !== "completed" || statistics.downtime_ms !== undefined;
      if (settled || tries === SETTLE_TRIES) return statistics;
      await this.#world.clock.sleep(SETTLE_MS);
    }
  }

  /** A queue takes events from this call on, not from the first step of the iteration. */
  events(signal?: AbortSignal): AsyncIterable<HotEvent> {
    const queue = new EventQueue<HotEvent>();
    const leave = this.#listen((event) => queue.push(event));
    const end = (): void => {
      leave();
      queue.end();
    };
    signal?.addEventListener("abort", end, { once: true });
    if (signal?.aborted === true) end();
    void this.#qmp.closed.then(end);
    return queue;
  }

  #listen(listener: (event: HotEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async until(
    statuses: readonly HotStatus[],
    options: { readonly timeout_ms: number; readonly signal?: AbortSignal },
  ): Promise<HotStatus> {
    const { timeout_ms, signal } = options;
    signal?.throwIfAborted();
    const wanted = new Set([...statuses, ...ENDED]);
    const { promise, resolve, reject } = Promise.withResolvers<HotStatus>();
    const settle = (status: HotStatus): void => void (wanted.has(status) && resolve(status));
    const leave = this.#listen((event) => event.kind === "status" && settle(event.status));
    const late = (): void => reject(timeoutError(statuses, timeout_ms));
    const cancel = this.#world.clock.after(timeout_ms, late);
    const abort = (): void => reject(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    let waiting = true;
    const watch = async (): Promise<void> => {
      await this.#qmp.closed;
      if (waiting) reject(await this.#goneError());
    };
    void watch();
    // A hanging QEMU does not answer; then events decide, or the time-out.
    this.info(timeout_ms).then(
      ({ status }) => settle(status),
      (error: unknown) => {
        const silent = ["hypervisor.qmp-timeout", "hypervisor.qmp-closed"];
        if (!silent.some((code) => hasCode(error, code))) reject(error);
      },
    );
    try {
      return await promise;
    } finally {
      waiting = false;
      leave();
      cancel();
      signal?.removeEventListener("abort", abort);
    }
  }

  /** See `HotEnd.pause`: QEMU itself notices only a link that was reset. */
  async pause(): Promise<void> {
    const paused = this.until(["postcopy-paused"], { timeout_ms: PAUSE_MS });
    // It is waited for below, whatever the command says.
    paused.catch(() => {});
    // It is refused where the link has broken already; the status decides.
    await this.outOfBand("migrate-pause").catch(ignoreRefusal);
    await paused;
  }

  /** The process has ended, or its monitor was taken away; with QEMU's last words. */
  async #goneError(): Promise<TesseraError> {
    const gone = await waitGone(this.#world, this.#identity, GONE_MS);
    const words = await readTail(this.#world.files, this.#layout.log, WORDS_BYTES_MAX);
    const [code, fact] = gone
      ? ["hypervisor.exited", "QEMU ended; its log ends with"]
      : ["hypervisor.qmp-closed", "QEMU's monitor was closed; its log ends with"];
    return new TesseraError("environment", code, `${fact}:\n${words.trim()}`, {
      subject: this.#layout.directory,
      remedy: `look at ${this.#layout.log}`,
    });
  }

  close(): Promise<void> {
    return this.#qmp.close();
  }
}

export function ignoreRefusal(error: unknown): void {
  if (!hasCode(error, "hypervisor.qmp-refused")) throw error;
}

function timeoutError(statuses: readonly HotStatus[], timeout_ms: number): TesseraError {
  return new TesseraError(
    "environment",
    "hypervisor.migration-timeout",
    `the migration was not ${statuses.join(" or ")} within ${timeout_ms} ms`,
    { remedy: "cancel the migration, or recover it if it is post-copy" },
  );
}

export function hotUnsupported(layout: Layout): TesseraError {
  return new TesseraError(
    "misuse",
    "hypervisor.hot-unsupported",
    "the machine was started by a version that could not move machines hot",
    { subject: layout.directory, remedy: "stop and start the machine, or move it cold" },
  );
}
