/** The steps in which a machine that runs comes over, at its destination. */
import type { ByteRange } from "#core";
import type { HotDestinationEvent } from "#migration";
import type { HotReceiver, RemoteBlocks } from "#transfer";
import type { Course, Happening } from "../course.ts";
import type { ReceiverHolder } from "../fetch.ts";
import { signReceipt } from "../receipt.ts";
import type { HotDestinationRecord } from "../record.ts";
import type { MigrationTools } from "../tools.ts";
import { attachArriving } from "./arrival.ts";
import { CopyAhead, untilZero } from "./copy-ahead.ts";
import { ArrivingDisk, type DiskServer } from "./destination-disk.ts";
import { ArrivingMemory } from "./destination-memory.ts";
import { makeHotReceipt } from "./hot-receipt.ts";
import { STALE_MAP } from "./source-data.ts";

type HotCourse = Course<HotDestinationRecord, HotDestinationEvent>;
type Heard = Happening<HotDestinationRecord, HotDestinationEvent>;

const LOOK_MS = 500;
const AGAIN_MS = 500;

/** What a destination keeps open of a machine that comes over; one instance for each course. */
export class Arriving {
  readonly disk: ArrivingDisk;
  readonly memory: ArrivingMemory;
  readonly #tools: MigrationTools;
  readonly #holder: ReceiverHolder;
  readonly #course: HotCourse;
  readonly #life = new AbortController();
  #blocks: RemoteBlocks | undefined;
  #ahead: CopyAhead | undefined;
  /** What is read ahead builds on a copy that was kept here. */
  #lineage = false;
  #stale: Promise<readonly ByteRange[]> | undefined;
  #listening_ms: number | undefined;
  readonly #postcopy = Promise.withResolvers<void>();
  /** Of the user data block that was not here at the switch; undefined before it is filled. */
  filling: { readonly doneBytes: number; readonly totalBytes: number } | undefined;

  constructor(tools: MigrationTools, holder: ReceiverHolder, course: HotCourse) {
    this.#tools = tools;
    this.#holder = holder;
    this.#course = course;
    this.disk = new ArrivingDisk(tools, () => course.record);
    this.memory = new ArrivingMemory(tools, () => course.record);
  }

  get #receiver(): HotReceiver {
    return this.#holder.open(this.#course);
  }

  /** The reader of the moment. */
  #remote(): RemoteBlocks {
    if (this.#blocks === undefined) {
      this.#blocks = this.#receiver.readBlocks(this.#course.record.userDataSizeBytes);
      this.disk.setRemote(this.#blocks);
    }
    return this.#blocks;
  }

  /** The source serves elsewhere from now on. */
  reconnect(): void {
    this.#blocks?.close();
    this.#blocks = undefined;
    this.#remote();
  }

  /** Both clouds reach the user data block: nothing of it moves. */
  get #shared(): boolean {
    return this.#course.record.hot.storage === "shared";
  }

  /** What the hypervisor asks for the disk; undefined where it opens the file itself. */
  get #server(): DiskServer | undefined {
    return this.#shared ? undefined : this.disk.server;
  }

  async #openDisk(): Promise<void> {
    if (!this.#shared) await this.disk.open();
  }

  /** Until the source may be switched, by our clock. */
  #wait_ms(): number {
    const { notBefore_ms = 0 } = this.#course.record;
    return notBefore_ms - this.#tools.world.clock.now();
  }

  async #attach(signal: AbortSignal): Promise<Heard> {
    await untilZero(() => this.#wait_ms(), this.#tools.world.clock, signal);
    await attachArriving(this.#tools, this.#course.record);
    await this.memory.begin(undefined);
    this.#listening_ms = this.#tools.world.clock.now();
    return { event: "listening", patch: { ahead: { passes: 0, bytes: 0 } } };
  }

  async copyAhead(signal: AbortSignal): Promise<Heard> {
    if (this.#shared) return await this.#attach(signal);
    const { clock } = this.#tools.world;
    const begin_ms = clock.monotonic();
    const { took_ms } = this.#course.record;
    const ahead = (this.#ahead ??= await this.#newAhead());
    await ahead.run(signal);
    this.disk.rest = ahead.rest;
    this.#remote();
    const device = await this.disk.open();
    // The pause makes sure that what was read is on the disk; nearly all of it should be before.
    await Promise.all([device.flush(), this.memory.begin(this.#server)]);
    this.#listening_ms = this.#tools.world.clock.now();
    const { passes, bytes } = ahead;
    const userData = (took_ms.userData ?? 0) + clock.monotonic() - begin_ms;
    return {
      event: "listening",
      patch: {
        ahead: { passes, bytes, ...(this.#lineage ? { lineage: true } : {}) },
        took_ms: { ...took_ms, userData },
      },
    };
  }

  async #newAhead(): Promise<CopyAhead> {
    const { id, hot } = this.#course.record;
    const { device, earlier, lineage } = await this.disk.create();
    this.#lineage = lineage;
    return new CopyAhead({
      clock: this.#tools.world.clock,
      method: hot.storage,
      local: device,
      earlier,
      remote: () => this.#remote(),
      wait_ms: () => this.#wait_ms(),
      fetchMap: (name, signal) => this.#fetchMap(name, signal),
      progress: (doneBytes, totalBytes) =>
        this.#tools.progress(id, {
          stream: "userData",
          doneBytes,
          totalBytes,
          wireBytes: 0,
          pass: (this.#ahead?.passes ?? 0) + 1,
        }),
    });
  }

  #fetchMap(name: string, signal: AbortSignal): Promise<readonly ByteRange[]> {
    return this.#receiver.fetchMap(name, this.#course.record.userDataSizeBytes, signal);
  }

  /** What was written last; the answer comes as soon as the machine stands still at the source. */
  #lastWritten(): Promise<readonly ByteRange[]> {
    this.#stale ??= this.#fetchMap(STALE_MAP, this.#life.signal);
    this.#stale.catch(() => (this.#stale = undefined));
    return this.#stale;
  }

  async takeMemory(signal: AbortSignal): Promise<Heard | undefined> {
    const { phase } = this.#course.record;
    this.#remote();
    if (phase !== "listening") {
      if (!(await this.disk.isFinished())) await this.#openDisk();
      return undefined;
    }
    await this.#openDisk();
    for (;;) {
      const ended = await this.memory.flow(this.#receiver, this.#server, signal);
      const stale = this.#lastWritten().then(() => "switch" as const);
      const first = await Promise.race([stale, aborted(ended), aborted(signal)]);
      signal.throwIfAborted();
      if (first === "switch") return { event: "peer-switching" };
      this.#course.log.log("info", "memory stopped flowing; beginning anew", {});
      await this.#tools.world.clock.sleep(AGAIN_MS, signal);
    }
  }

  async arm(signal: AbortSignal): Promise<Heard> {
    const { world } = this.#tools;
    this.#remote();
    const written = await this.#lastWritten();
    const staleBytes = this.#shared ? 0 : await this.disk.arm(written);
    if (this.#course.record.hot.storage === "push") await this.#fillNow(signal);
    // By post-copy the rest of memory follows the token.
    await Promise.race([this.memory.arrive(signal), this.#postcopy.promise]);
    const { rawBytes, wireBytes } = this.memory.figures;
    const armed_ms = world.clock.now();
    const took = Math.max(0, armed_ms - (this.#listening_ms ?? armed_ms));
    const took_ms = { ...this.#course.record.took_ms, memory: took };
    return {
      event: "armed",
      patch: { staleBytes, memory: { rawBytes, wireBytes }, armed_ms, took_ms },
    };
  }

  /** What the source says of how memory comes. */
  told(method: "precopy" | "postcopy"): void {
    if (method === "postcopy") this.#postcopy.resolve();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    if (this.#course.record.switch?.method !== "postcopy") return;
    await this.memory.follow(() => this.#receiver, signal);
  }

  async #fillNow(signal: AbortSignal): Promise<void> {
    const device = await this.disk.open();
    device.startCopy();
    await Promise.race([device.complete, aborted(signal)]);
    signal.throwIfAborted();
  }

  async fill(signal: AbortSignal): Promise<Heard> {
    const { world, machines, cloud, key } = this.#tools;
    const { uuid } = this.#course.record.machine;
    const begin_ms = world.clock.monotonic();
    this.#remote();
    if (this.#shared) await this.#follow(signal);
    const whole = this.#shared || (await this.disk.isFinished());
    const disk = whole ? undefined : await this.#fillDisk(signal);
    const restarted = machines.running(uuid) === undefined;
    if (restarted) await machines.start(uuid, { migration: this.#course.record.id, signal });
    const { record } = this.#course;
    const { took_ms } = record;
    const userData = (took_ms.userData ?? 0) + world.clock.monotonic() - begin_ms;
    const ended = {
      ...record,
      ...(restarted ? { restarted } : {}),
      memory: this.#memoryOf(record),
      wireBytes: record.wireBytes + this.#holder.takeWireBytes(),
      took_ms: { ...took_ms, userData },
    };
    const path = machines.store.dataPath(uuid);
    const file = await world.files.status((await world.files.readLink(path)) ?? path);
    const allocatedBytes = file?.allocatedBytes ?? 0;
    const end = { cloud, ended_ms: world.clock.now(), disk, allocatedBytes };
    const receipt = makeHotReceipt(ended, end);
    const { wireBytes, memory } = ended;
    return {
      event: "whole",
      patch: {
        wireBytes,
        memory,
        took_ms: ended.took_ms,
        ...(restarted ? { restarted } : {}),
        receipt: signReceipt(receipt, cloud, key),
      },
    };
  }

  /** What came before an agent was restarted is in the record, what came since is not. */
  #memoryOf({ memory }: HotDestinationRecord): HotDestinationRecord["memory"] {
    const { figures } = this.memory;
    return memory === undefined || figures.rawBytes > memory.rawBytes ? figures : memory;
  }

  async #fillDisk(signal: AbortSignal) {
    const device = await this.disk.open();
    device.startCopy();
    const over = new AbortController();
    void this.#tellFilling(AbortSignal.any([signal, over.signal]));
    try {
      // A guest that has waited too long for its disk stands still.
      await (await this.memory.hypervisor())?.resume().catch(() => undefined);
      const all = Promise.all([device.complete, this.#follow(signal)]);
      await Promise.race([all, aborted(signal)]);
      signal.throwIfAborted();
      const arrivals = device.state();
      // Where it has ended, the machine is started on the file alone.
      await (await this.memory.hypervisor())?.pivotData();
      await this.disk.finish();
      return arrivals;
    } finally {
      over.abort();
    }
  }

  async #tellFilling(signal: AbortSignal): Promise<void> {
    const { clock } = this.#tools.world;
    const { id, staleBytes = 0 } = this.#course.record;
    while (!signal.aborted) {
      const { remoteBytes } = (await this.disk.open()).state();
      const doneBytes = Math.max(0, staleBytes - remoteBytes);
      this.filling = { doneBytes, totalBytes: staleBytes };
      this.#tools.progress(id, { stream: "userData", ...this.filling, wireBytes: 0 });
      await clock.sleep(LOOK_MS, signal).catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    this.#life.abort(new Error("the migration goes on without this agent"));
    this.#blocks?.close();
    this.#blocks = undefined;
    await this.disk.close();
    await this.memory.close();
  }
}

async function aborted(signal: AbortSignal): Promise<"aborted"> {
  if (signal.aborted) return "aborted";
  return await new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve("aborted"), { once: true });
  });
}
