/**
 * A guest that moves between QEMUs on this host while it writes numbered records, and the agents'
 * part in small: who may let it run, and when. Its disk is one file that both ends open.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { hasCode, type ComposedDisks } from "#core";
import {
  createQemu,
  type HotEvent,
  type HotMethod,
  type HotSource,
  type HotStatus,
  type IncomingOptions,
  type IncomingMachine,
  type MachineSpecification,
  type RunningMachine,
} from "#hypervisor";
import { realWorld } from "#system";
import { startRelay, type Relay } from "../../src/transfer/relay.suite.ts";
import { tinyDisks, writeDisk } from "./tiny-guest.ts";

const RECORD_SECTOR = 2048;
const READY_MS = 60_000;
const RATE_BPS = 400e6;

export class HotScene {
  readonly hypervisor = createQemu(realWorld(), { accelerator: "tcg" });
  readonly directory = mkdtempSync(join(tmpdir(), "hot-"));
  readonly dataPath = join(this.directory, "data");
  readonly #uuid = randomUUID();
  readonly #disks: ComposedDisks;
  /** Of the ends at which the guest ran, in order. */
  readonly #consoles: string[] = [];
  #ends = 0;
  #machine: RunningMachine | undefined;

  private constructor(words: string) {
    this.#disks = tinyDisks(this.directory, 2, `quiet ${words}`);
    writeDisk(this.dataPath, 32 * 2 ** 20, "user data");
  }

  /** Boots the guest; all of it goes away with the test. */
  static async boot(t: TestContext, words = "tessera.records tessera.dirty"): Promise<HotScene> {
    const scene = new HotScene(words);
    t.after(() => scene.#remove());
    const machine = await scene.hypervisor.start(scene.nextSpecification());
    scene.arrived(machine);
    await machine.ready(READY_MS);
    await scene.progress();
    return scene;
  }

  get machine(): RunningMachine {
    assert.ok(this.#machine !== undefined);
    return this.#machine;
  }

  /** Where the guest runs now. */
  arrived(machine: RunningMachine): void {
    this.#machine = machine;
    this.#consoles.push(machine.consolePath);
  }

  /** The machine in a new directory: another end. */
  nextSpecification(changes: Partial<MachineSpecification> = {}): MachineSpecification {
    const directory = join(this.directory, `end-${this.#ends++}`);
    mkdirSync(directory);
    return {
      uuid: this.#uuid,
      name: "tiny",
      cpus: 1,
      memoryBytes: 128 * 2 ** 20,
      disks: this.#disks,
      dataPath: this.dataPath,
      ports: [{ name: "echo", guest: 7 }],
      directory,
      ...changes,
    };
  }

  #words(): string {
    return this.#consoles.map((path) => readFileSync(path, "latin1")).join("");
  }

  /** The last number that the guest has acknowledged. Each number came once and in its turn. */
  acknowledged(): number {
    const words = this.#words();
    assert.doesNotMatch(words, /damaged|panic|Oops|BUG/, "the guest's memory is sound");
    const numbers = [...words.matchAll(/^ack (\d+)\r?\n/gm)].map(([, number]) => Number(number));
    for (const [index, number] of numbers.entries()) assert.equal(number, index + 1);
    return numbers.length;
  }

  /** Returns once the guest has written and acknowledged two more records. */
  async progress(): Promise<void> {
    const from = this.acknowledged();
    const deadline = performance.now() + 20_000;
    while (this.acknowledged() < from + 2) {
      assert.ok(performance.now() < deadline, `the guest stands still after record ${from}`);
      await sleep(20);
    }
  }

  /** All that was acknowledged is in this file. */
  checkRecords(path = this.dataPath): void {
    const last = this.acknowledged();
    const data = readFileSync(path);
    for (let number = 1; number <= last; number++) {
      const start = 512 * (RECORD_SECTOR + number);
      const text = `record ${number}\n`;
      assert.equal(data.subarray(start, start + text.length).toString(), text);
    }
  }

  async #remove(): Promise<void> {
    for (let end = 0; end < this.#ends; end++) {
      const left = await this.hypervisor.adopt(join(this.directory, `end-${end}`));
      await left?.stop(0);
    }
    rmSync(this.directory, { recursive: true });
  }
}

/** What happens to the link, once. */
export interface LinkFault {
  readonly kind: "cut" | "silence";
  /** Asked with every event of the source; true when the time has come. */
  readonly when: (event: HotEvent) => boolean;
  readonly delay_ms: number;
}

export interface MoveOptions {
  readonly method?: HotMethod;
  readonly downtime_ms?: number;
  readonly fault?: LinkFault;
  /** The destination's user data block: a file of its own behind a server, instead of the shared one. */
  readonly data?: { readonly path: string; readonly server: NonNullable<IncomingOptions["data"]> };
  /** Done at pre-switchover, when the guest stands still. */
  readonly atSwitch?: (source: HotSource) => Promise<void>;
  /** What the agents take for a dead link. */
  readonly patience_ms?: number;
}

/**
 * `lost`: post-copy was begun and the link failed before the destination had the status of the devices.
 * QEMU offers no way back; the machine is as after a power cut.
 */
export type Outcome = "moved" | "stayed" | "lost";

export interface Move {
  readonly outcome: Outcome;
  /** The link failed as it was told to. */
  readonly faulted: boolean;
  /** Of the guest's processors, by the two hypervisors' own words. */
  readonly pause_ms: number;
  readonly recoveries: number;
  readonly statuses: readonly string[];
  readonly passes: number;
}

/** One migration; the scene's machine is afterwards where the guest runs. */
export async function move(scene: HotScene, options: MoveOptions = {}): Promise<Move> {
  const moving = new Moving(scene, options);
  try {
    return await moving.run();
  } finally {
    await moving.close();
  }
}

class Moving {
  readonly #scene: HotScene;
  readonly #options: MoveOptions;
  readonly #relays: Relay[] = [];
  readonly #watch = new AbortController();
  #directory = "";
  #faulted = false;
  #recoveries = 0;
  #source!: HotSource;
  #incoming!: IncomingMachine;

  constructor(scene: HotScene, options: MoveOptions) {
    this.#scene = scene;
    this.#options = options;
  }

  async run(): Promise<Move> {
    const { method = {}, data } = this.#options;
    const place = data === undefined ? {} : { dataPath: data.path };
    const specification = this.#scene.nextSpecification(place);
    this.#directory = specification.directory;
    this.#source = await this.#scene.machine.hot();
    const { description } = this.#source;
    this.#incoming = await this.#scene.hypervisor.startIncoming(specification, {
      description,
      ...(data === undefined ? {} : { data: data.server }),
    });
    const there = join(this.#directory, "in.sock");
    await this.#incoming.listen(there, method);
    const socketPath = await this.#link(there, "out.sock");
    const source = this.#observe(this.#source, true);
    const incoming = this.#observe(this.#incoming, false);
    const downtime_ms = this.#options.downtime_ms ?? 300;
    await this.#source.emigrate({ socketPath, downtime_ms, ...method });
    const outcome = await this.#drive();
    if (outcome !== "stayed") {
      await this.#source.hangUp();
      await this.#source.finish();
    }
    if (outcome === "moved") this.#scene.arrived(this.#incoming.machine);
    else await this.#incoming.abort();
    return this.#told(outcome, [source, incoming]);
  }

  #told(outcome: Outcome, observers: readonly HotEvent[][]): Move {
    const [source = [], incoming = []] = observers;
    const stopped = source.findLast(({ kind }) => kind === "stopped")?.at_ms ?? Number.NaN;
    const resumed = [...source, ...incoming].findLast(({ kind }) => kind === "resumed");
    return {
      outcome,
      faulted: this.#faulted,
      pause_ms: (resumed?.at_ms ?? Number.NaN) - stopped,
      recoveries: this.#recoveries,
      statuses: source.flatMap((event) => (event.kind === "status" ? [event.status] : [])),
      passes: source.findLast((event) => event.kind === "pass")?.pass ?? 0,
    };
  }

  async #link(there: string, name: string): Promise<string> {
    const path = join(this.#directory, name);
    const relay = await startRelay({
      target: { path: there },
      listen: { path },
      bitsPerSecond: RATE_BPS,
    });
    this.#relays.push(relay);
    return path;
  }

  /** Notes events; those of the source bring the fault about. */
  #observe(end: HotSource | IncomingMachine, isSource: boolean): HotEvent[] {
    const seen: HotEvent[] = [];
    const { fault } = this.#options;
    const read = async (): Promise<void> => {
      for await (const event of end.events(this.#watch.signal)) {
        seen.push(event);
        if (isSource && fault?.when(event) === true && !this.#faulted) void this.#fail(fault);
      }
    };
    void read();
    return seen;
  }

  async #fail({ kind, delay_ms }: LinkFault): Promise<void> {
    this.#faulted = true;
    if (delay_ms > 0) await sleep(delay_ms);
    for (const relay of this.#relays) {
      if (kind === "cut") relay.cutAll();
      else relay.setFrozen(true);
    }
  }

  get #patience(): { timeout_ms: number } {
    return { timeout_ms: this.#options.patience_ms ?? 20_000 };
  }

  /**
   * Did the guest go over? From the moment the source says `completed`, or post-copy is begun, the
   * guest never runs at the source again unless the destination is known to be dead.
   */
  async #drive(): Promise<Outcome> {
    const { method } = this.#options;
    try {
      if (method?.postcopy !== undefined) await this.#afterOnePass();
      const status = await this.#whileMoving(["pre-switchover"]);
      if (status === "pre-switchover") {
        await this.#options.atSwitch?.(this.#source);
        await this.#source.switchOver();
      }
      const next = await this.#whileMoving(["postcopy-active", "postcopy-paused"]);
      if (next === "postcopy-active" || next === "postcopy-paused") return await this.#postcopy();
      if (next === "completed") return await this.#takeOver();
    } catch (error) {
      if (!isPatienceOver(error)) throw error;
    }
    const outcome = await this.#source.cancel();
    if (outcome === "committed") return await this.#postcopy();
    return outcome === "completed" ? await this.#takeOver() : "stayed";
  }

  /** As the source's `until`, and as patient for as long as bytes are sent. */
  async #whileMoving(statuses: readonly HotStatus[]): Promise<HotStatus> {
    for (let sentBytes = -1; ;) {
      const status = await this.#sourceOr(undefined, statuses);
      if (status !== undefined) return status;
      const { transferredBytes } = await this.#source.statistics();
      if (transferredBytes === sentBytes) throw new Error(STILL);
      sentBytes = transferredBytes;
    }
  }

  async #afterOnePass(): Promise<void> {
    const watch = AbortSignal.timeout(10 * this.#patience.timeout_ms);
    for await (const event of this.#source.events(watch)) {
      if (event.kind === "pass" && event.pass > 1) break;
      if (event.kind === "status" && ["failed", "pre-switchover"].includes(event.status)) return;
    }
    await this.#source.startPostcopy();
  }

  async #takeOver(): Promise<Outcome> {
    await this.#incoming.until(["completed"], this.#patience);
    await this.#incoming.resume();
    return "moved";
  }

  async #postcopy(): Promise<Outcome> {
    const states: readonly HotStatus[] = ["postcopy-active", "postcopy-paused", "completed"];
    const there = await this.#incoming.until(states, this.#patience).catch(() => "gone" as const);
    if (there === "gone" || !states.includes(there)) return await this.#beforeStatus();
    if (!(await this.#resumed())) return await this.#beforeStatus();
    for (;;) {
      const status = await this.#whileMoving(["postcopy-paused"]).catch((error: unknown) => {
        if (isPatienceOver(error)) return "silence";
        throw error;
      });
      if (status === "completed") break;
      assert.ok(status === "postcopy-paused" || status === "silence", status);
      assert.ok(this.#recoveries < 3, "the new link is sound");
      await this.#recover();
    }
    assert.equal(await this.#incoming.until(["completed"], this.#patience), "completed");
    return "moved";
  }

  /** QEMU says that post-copy is active before it has the devices' status; without it, it ends. */
  async #resumed(): Promise<boolean> {
    try {
      await this.#incoming.resume();
      return true;
    } catch (error) {
      if (!hasCode(error, "hypervisor.qmp-closed")) throw error;
      return false;
    }
  }

  async #sourceOr<T>(otherwise: T, statuses: readonly HotStatus[]): Promise<HotStatus | T> {
    return await this.#source.until(statuses, this.#patience).catch((error: unknown) => {
      if (isPatienceOver(error)) return otherwise;
      throw error;
    });
  }

  /** The destination has never been in post-copy, and will not be. */
  async #beforeStatus(): Promise<Outcome> {
    const status = await this.#sourceOr("silence", ["postcopy-paused"]);
    if (status !== "failed") return "lost";
    await this.#source.resume();
    return "stayed";
  }

  async #recover(): Promise<void> {
    this.#recoveries += 1;
    await Promise.all([this.#source.pause(), this.#incoming.pause()]);
    const there = join(this.#directory, `again-${this.#recoveries}.sock`);
    await this.#incoming.recover(there);
    await this.#source.recover(await this.#link(there, `out-${this.#recoveries}.sock`));
  }

  async close(): Promise<void> {
    this.#watch.abort();
    await Promise.all(this.#relays.map((relay) => relay.close()));
    await this.#source?.close();
    await this.#incoming?.close();
  }
}

const STILL = "nothing was sent for as long as the agents wait";

function isPatienceOver(error: unknown): boolean {
  if (error instanceof Error && error.message === STILL) return true;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "hypervisor.migration-timeout" || code === "hypervisor.qmp-timeout";
}

/** Exactly this many QEMUs of the scene's directory run a guest, or could. */
export async function livingEnds(scene: HotScene): Promise<string[]> {
  const states: string[] = [];
  for (let end = 0; existsSync(join(scene.directory, `end-${end}`)); end++) {
    const machine = await scene.hypervisor.adopt(join(scene.directory, `end-${end}`));
    if (machine !== undefined) states.push(await machine.state());
  }
  return states;
}
