/** The source's hypervisor: memory flows until the machine is paused, and the rest follows. */
import { join } from "node:path";
import { componentsOf, TesseraError, type Log } from "#core";
import type { HotEvent, HotSource, HotStatistics, HotStatus } from "#hypervisor";
import { firstAim_ms, memoryStep, WATCH, type MemoryTerms } from "#migration";
import type { MemoryTunnel, PageIndex } from "#transfer";
import type { HotSourceRecord } from "../record.ts";
import type { MigrationTools } from "../tools.ts";
import { ComponentPagesIndex } from "./component-pages.ts";
import { SourceFlow } from "./source-flow.ts";

/** How often the hypervisor is asked how it gets on. */
const LOOK_MS = 100;
const TELL_MS = 500;
/** The data plane notices a dead link sooner. */
const PATIENCE_MS = 1e9;
const SWITCH_MS = 60_000;
/**
 * For so long a link that broke is waited for: while the machine runs here memory begins anew then, and
 * a machine that stands still goes on here. Nobody is waited for less once memory follows it.
 */
const CUT_RUNNING_MS = 30_000;
const CUT_STANDING_MS = 5_000;
/**
 * The pauses that the hypervisor is to aim at first, each for so many passes that leave little. It
 * reckons with the rate of the bytes that have just gone, most of which shrank to nothing, so that what
 * is left takes some times as long. Afterwards it may be as long as the strategy's first.
 */
const SHORT_MS = [25, 60];
const SHORT_PASSES = 2;

export interface Pause {
  readonly method: "precopy" | "postcopy";
  readonly passes: number;
  readonly componentPages: number;
  readonly repeatedPages: number;
  /** On our clock. */
  readonly off_ms: number;
}

type Waiting = PromiseWithResolvers<MemoryTunnel>;

/** One machine's hypervisor as the source of a migration; one instance for each course. */
export class SourceMemory {
  readonly #tools: MigrationTools;
  readonly #record: () => HotSourceRecord;
  readonly #log: Log;
  #source: Promise<HotSource> | undefined;
  readonly #pages: ComponentPagesIndex;
  /** A destination that has asked for memory and has not been answered. */
  #waiting: Waiting | undefined;
  #asked = Promise.withResolvers<void>();
  #flow: SourceFlow | undefined;

  constructor(tools: MigrationTools, record: () => HotSourceRecord, log: Log) {
    this.#tools = tools;
    this.#pages = new ComponentPagesIndex(tools.store);
    this.#record = record;
    this.#log = log;
  }

  /** @throws `migration.machine-stopped` where its hypervisor has ended */
  source(): Promise<HotSource> {
    this.#source ??= this.#open();
    this.#source.catch(() => (this.#source = undefined));
    return this.#source;
  }

  async #open(): Promise<HotSource> {
    const { uuid, name } = this.#record().machine;
    const running = this.#tools.machines.running(uuid);
    if (running !== undefined) return await running.hot();
    const message = `the hypervisor of machine "${name}" has ended`;
    throw new TesseraError("environment", "migration.machine-stopped", message, { subject: uuid });
  }

  /** Reads the components, so that pages of them can be named. Begun early; it takes its time. */
  index(): Promise<PageIndex> {
    return this.#pages.read(this.#record().appliance);
  }

  /** The destination asks for memory; answered once the time has come. A later one counts. */
  tunnel(): Promise<MemoryTunnel> {
    this.#waiting?.reject(superseded());
    this.#waiting = Promise.withResolvers<MemoryTunnel>();
    this.#waiting.promise.catch(() => undefined);
    void this.#flow?.close(superseded());
    this.#asked.resolve();
    return this.#waiting.promise;
  }

  async #nextRequest(signal: AbortSignal): Promise<Waiting> {
    for (;;) {
      signal.throwIfAborted();
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if (waiting !== undefined) return waiting;
      this.#asked = Promise.withResolvers<void>();
      await unlessAborted(this.#asked.promise, signal);
    }
  }

  /**
   * Lets memory flow to whoever asks for it until the machine is paused: a link that breaks before is
   * begun anew with the next one.
   *
   * @throws `migration.memory-outrun`, `hypervisor.exited`, `hypervisor.hot-blocked`
   */
  async emigrate(signal: AbortSignal): Promise<Pause> {
    const source = await this.source();
    for (;;) {
      await source.cancel();
      const request = await this.#nextRequest(signal);
      const flow = await this.#listen(request);
      const pause = await this.#flowing(source, flow, signal);
      if (pause !== undefined) return pause;
      await flow.close();
      this.#log.log("info", "memory stopped flowing; beginning anew", {});
    }
  }

  async #listen(request: Waiting): Promise<SourceFlow> {
    const { world } = this.#tools;
    const { appliance, plan } = this.#record();
    const { rate } = plan;
    const known = rate.from === "assumed" ? {} : { bitsPerSecond: rate.bitsPerSecond };
    try {
      const flow = await SourceFlow.listen(world, {
        socketPath: this.#socketPath,
        components: { count: componentsOf(appliance).length, pages: await this.index() },
        conditions: () => ({ ...known, cores: Math.max(1, this.#tools.freeCores()) }),
      });
      this.#flow = flow;
      request.resolve(flow.tunnel);
      return flow;
    } catch (cause) {
      request.reject(cause);
      throw cause;
    }
  }

  get #socketPath(): string {
    const { machines } = this.#tools;
    return join(machines.store.directory(this.#record().machine.uuid), "out.sock");
  }

  get #terms(): MemoryTerms {
    const { hot, appliance } = this.#record();
    const { maySlowDown, downtimeMax_ms } = appliance.serviceLevel;
    const bound = downtimeMax_ms === undefined ? {} : { downtimeMax_ms };
    return { memory: hot.memory, canPostcopy: hot.postcopy, maySlowDown, ...bound };
  }

  /** Undefined when the flow has broken and the machine runs on here. */
  async #flowing(
    source: HotSource,
    flow: SourceFlow,
    signal: AbortSignal,
  ): Promise<Pause | undefined> {
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    const stopped = this.#watchStop(source.events(either));
    void flow.endAfterCut(CUT_RUNNING_MS, either);
    const terms = this.#terms;
    const postcopy = mayPostcopy(terms);
    try {
      await source.emigrate({
        socketPath: this.#socketPath,
        downtime_ms: shortAim_ms(0, terms),
        maySlowDown: terms.maySlowDown,
        ...(postcopy ? { postcopy: "plain" } : {}),
      });
      const paused = source.until(["pre-switchover"], { timeout_ms: PATIENCE_MS, signal: either });
      paused.catch(() => undefined);
      const method = await this.#steer(source, terms, { paused, signal, flow });
      if ((await paused) !== "pre-switchover") return undefined;
      const { passes } = await source.statistics();
      const now_ms = this.#tools.world.clock.now();
      const off_ms = Math.min(now_ms, stopped() ?? now_ms);
      const { componentPages, repeatedPages } = flow.figures;
      return { method, passes, componentPages, repeatedPages, off_ms };
    } finally {
      over.abort();
    }
  }

  /** When the machine's processors last stopped. */
  #watchStop(events: AsyncIterable<HotEvent>): () => number | undefined {
    let at_ms: number | undefined;
    const read = async (): Promise<void> => {
      for await (const event of events) if (event.kind === "stopped") at_ms = event.at_ms;
    };
    read().catch(() => undefined);
    return () => at_ms;
  }

  /** Looks at the flow until the machine is paused, and does what the strategy says. */
  async #steer(
    source: HotSource,
    terms: MemoryTerms,
    at: {
      readonly paused: Promise<HotStatus>;
      readonly signal: AbortSignal;
      readonly flow: SourceFlow;
    },
  ): Promise<"precopy" | "postcopy"> {
    const { clock } = this.#tools.world;
    let watch = WATCH;
    let over = false;
    let little = 0;
    const end = (): void => void (over = true);
    at.paused.then(end, end);
    for (;;) {
      await Promise.race([at.paused, clock.sleep(LOOK_MS, at.signal)]).catch(() => undefined);
      if (over || at.signal.aborted) return "precopy";
      // What is measured without a link says nothing of the guest, nor of the link that comes.
      if (at.flow.cut_ms > 0) continue;
      const facts = await source.statistics();
      this.#tell(at.flow, facts);
      const total_ms = Math.max(0, facts.total_ms - at.flow.cuts_ms);
      const decided = memoryStep(watch, { ...facts, total_ms }, terms);
      watch = decided.watch;
      const { next } = decided;
      if (next.step !== "go-on") this.#log.log("info", "memory", { ...next });
      if (next.step === "give-up") throw outrun(next.reason);
      if (next.reason === "little-left") {
        little += 1;
        const aim_ms = shortAim_ms(little, terms);
        if (aim_ms !== shortAim_ms(little - 1, terms)) await source.allowDowntime(aim_ms);
      }
      if (next.step === "switch") await source.allowDowntime(next.allow_ms);
      if (next.step === "slow-down") await source.slowDown(next.percent);
      if (next.step !== "postcopy") continue;
      await source.startPostcopy();
      await at.paused;
      return "postcopy";
    }
  }

  #tell({ figures }: SourceFlow, { remainingBytes, passes }: HotStatistics): void {
    const { id } = this.#record();
    const { rawBytes, encodedBytes } = figures;
    const totalBytes = rawBytes + remainingBytes;
    this.#tools.progress(id, {
      stream: "memory",
      doneBytes: rawBytes,
      totalBytes,
      wireBytes: encodedBytes,
      pass: passes,
    });
  }

  /**
   * By pre-copy lets the rest of memory and the status follow: all is over there when this returns. By
   * post-copy they follow the token. The machine stands still for good, unless it is brought back.
   *
   * @throws `migration.switch-failed` when the machine goes on, or can go on, here
   */
  async switchOver(method: "precopy" | "postcopy", signal: AbortSignal): Promise<void> {
    const source = await this.source();
    if (method === "postcopy") {
      const { migration, run } = await source.state();
      if (migration === "pre-switchover" && run !== "running") return;
      throw switchFailed(`the hypervisor says ${migration}`);
    }
    if (this.#flow === undefined || this.#flow.ended.aborted) {
      if ((await source.state()).migration !== "completed") throw switchFailed("its link broke");
      return;
    }
    await source.switchOver();
    const over = new AbortController();
    void this.#flow.endAfterCut(CUT_STANDING_MS, AbortSignal.any([signal, over.signal]));
    try {
      const status = await source.until([], { timeout_ms: SWITCH_MS, signal });
      if (status !== "completed") throw switchFailed(`the hypervisor says ${status}`);
    } finally {
      over.abort();
    }
  }

  /**
   * By post-copy: lets memory follow the machine, which is the destination's now; a link that breaks
   * is mended with the next one. Resolves when all has gone, or when nothing more can.
   */
  async supply(signal: AbortSignal): Promise<void> {
    const source = await this.source();
    const { migration } = await source.state();
    if (migration === "pre-switchover") await source.switchOver();
    const over = new AbortController();
    const telling = this.#tellFollowing(source, AbortSignal.any([signal, over.signal]));
    try {
      await this.#supplyAll(source, signal);
    } finally {
      over.abort();
      await telling;
    }
  }

  async #supplyAll(source: HotSource, signal: AbortSignal): Promise<void> {
    for (;;) {
      const status = await source.until(["postcopy-paused"], { timeout_ms: PATIENCE_MS, signal });
      if (status !== "postcopy-paused") return;
      const flow = await this.#listen(await this.#nextRequest(signal));
      this.#log.log("info", "memory follows over another link", {});
      await source.recover(this.#socketPath).catch(async (cause: unknown) => {
        await flow.close(cause);
        throw cause;
      });
    }
  }

  /** A hypervisor that hangs on a silent link is asked again. */
  async #tellFollowing(source: HotSource, signal: AbortSignal): Promise<void> {
    const { clock } = this.#tools.world;
    while (!signal.aborted) {
      const facts = await source.statistics().catch(() => undefined);
      if (facts !== undefined && this.#flow !== undefined) this.#tell(this.#flow, facts);
      await clock.sleep(TELL_MS, signal).catch(() => undefined);
    }
  }

  /** The machine goes on here, whatever was under way. False when its hypervisor has ended. */
  async rollBack(): Promise<boolean> {
    await this.endFlow();
    if (this.#tools.machines.running(this.#record().machine.uuid) === undefined) return false;
    const source = await this.source();
    const state = await source.cancel();
    if (state === "completed") await source.resume();
    if (state !== "committed") return true;
    // Its memory has been given away in part: what is left is its disk.
    await this.#tools.machines.stop(this.#record().machine.uuid, 0);
    return false;
  }

  async endFlow(): Promise<void> {
    this.#waiting?.reject(superseded());
    this.#waiting = undefined;
    await this.#flow?.close();
  }

  /** Lets go of the hypervisor, which goes on as it is. */
  async close(): Promise<void> {
    await this.endFlow();
    const source = await this.#source?.catch(() => undefined);
    this.#source = undefined;
    await source?.close();
    await this.#pages.close();
  }
}

/** After so many passes that have left little. */
function shortAim_ms(little: number, terms: MemoryTerms): number {
  const first_ms = firstAim_ms(terms);
  return Math.min(first_ms, SHORT_MS[Math.floor(little / SHORT_PASSES)] ?? first_ms);
}

/** Both sides have to be told before they begin. */
export function mayPostcopy({ memory, canPostcopy }: Pick<MemoryTerms, "memory" | "canPostcopy">) {
  return canPostcopy && memory !== "precopy";
}

async function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<void>();
  const abort = (): void => aborted.resolve();
  signal.addEventListener("abort", abort, { once: true });
  try {
    await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

function superseded(): TesseraError {
  const message = "another tunnel takes the place of this one";
  return new TesseraError("peer", "transfer.cancelled", message);
}

function outrun(reason: string): TesseraError {
  const message = `the machine's memory does not come across: ${reason}`;
  return new TesseraError("environment", "migration.memory-outrun", message, {
    remedy: "use --memory postcopy, allow a longer pause or slowing down, or move it cold",
  });
}

function switchFailed(reason: string): TesseraError {
  const message = `the machine could not be handed over while it runs: ${reason}`;
  return new TesseraError("environment", "migration.switch-failed", message, {
    remedy: "it goes on at the source; migrate again",
  });
}
