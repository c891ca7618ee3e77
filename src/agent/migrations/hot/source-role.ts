import { reportOf, TesseraError, type Json, type World } from "#core";
import {
  hotEventFromDestination,
  hotSourceEffects,
  isTerminal,
  stepHotSource,
  type HotSourceEffect,
  type HotSourceEvent,
  type HotSourcePhase,
} from "#migration";
import { handedTo, unmarked } from "../../machine-store.ts";
import type { Course, Happening, Role } from "../course.ts";
import { evictKept, releaseData } from "../kept.ts";
import {
  decodeHotDestinationStatus,
  encode,
  VERSIONS,
  type HotDestinationStatus,
  type HotSourceStatus,
  type Proposal,
} from "../messages.ts";
import { countersign } from "../receipt.ts";
import type { HotSourceRecord } from "../record.ts";
import { Serving } from "../serving.ts";
import { removeProof, writeProof } from "../shared-probe.ts";
import { digestOfToken } from "../token.ts";
import type { MigrationTools } from "../tools.ts";
import { SourceData } from "./source-data.ts";
import { SourceMemory } from "./source-memory.ts";

type HotCourse = Course<HotSourceRecord, HotSourceEvent>;
type Heard = Happening<HotSourceRecord, HotSourceEvent>;

const SERVING: readonly HotSourcePhase[] = [
  "proposed",
  "serving",
  "copying",
  "moving",
  "switching",
  "handed-over",
  "supplying",
];
/** A chosen time may be waited for. */
export const WAITING: readonly HotSourcePhase[] = ["proposed", "serving", "copying"];
/** The machine stands still, for good or until it is brought back. */
const STANDING: readonly HotSourcePhase[] = ["handed-over", "supplying"];
const UNDOABLE: readonly HotSourceEffect[] = ["serve", "track-writes", "emigrate", "switch-over"];

/** The effects and words of the source of a hot migration; one instance for each course. */
export class HotSourceRole implements Role<HotSourceRecord, HotSourceEvent, HotSourceEffect> {
  readonly #tools: MigrationTools;
  readonly #serving: Serving;
  /** Whatever happens to the link now, the hypervisor does not let the machine run by itself. */
  #standsStill = false;
  /** The destination has said so before that was certain. */
  #armed = false;
  #parts: { readonly memory: SourceMemory; readonly data: SourceData } | undefined;

  constructor(tools: MigrationTools) {
    this.#tools = tools;
    this.#serving = new Serving(tools);
  }

  step = stepHotSource;
  effects = hotSourceEffects;

  async run(
    effect: HotSourceEffect,
    course: HotCourse,
    signal: AbortSignal,
  ): Promise<Heard | undefined> {
    const { memory, data } = this.#of(course);
    switch (effect) {
      case "serve":
        await this.#serve(course);
        return undefined;
      case "track-writes":
        await Promise.all([memory.source(), memory.index()]);
        return undefined;
      case "emigrate": {
        const { off_ms, ...paused } = await memory.emigrate(signal);
        return { event: "paused", patch: { switch: paused, off_ms } };
      }
      case "switch-over":
        await data.freeze();
        await memory.switchOver(course.record.switch?.method ?? "precopy", signal);
        this.#standsStill = true;
        return this.#armed ? { event: "peer-armed" } : undefined;
      case "supply-memory":
        data.stand();
        await this.#supply(course, signal);
        // Until the other side has said that it runs there, it may have to go on here.
        if (course.record.phase === "supplying") await this.#hangUp(course);
        return undefined;
      case "release-machine":
        return await this.#release(course.record);
      case "roll-back":
        return await this.#rollBack(course, signal);
      case "withdraw":
        data.withdraw();
        await this.#serving.withdraw(course.record.id);
        return undefined;
    }
  }

  async #supply(course: HotCourse, signal: AbortSignal): Promise<void> {
    if (course.record.switch?.method === "postcopy") await this.#of(course).memory.supply(signal);
  }

  /**
   * It runs elsewhere for certain, and all of its memory is there: who asks it here is better off with
   * a connection that is closed. Before, its network card would go over without a link.
   */
  async #hangUp(course: HotCourse): Promise<void> {
    const { memory } = this.#of(course);
    const done = memory.source().then((source) => source.hangUp());
    await done.catch((cause: unknown) => {
      course.log.log("info", "connections to the machine stay open", { ...reportOf(cause) });
    });
  }

  #of(course: HotCourse): { readonly memory: SourceMemory; readonly data: SourceData } {
    if (this.#parts !== undefined) return this.#parts;
    const { world, machines } = this.#tools;
    const { machine, userData, hot } = course.record;
    const memory = new SourceMemory(this.#tools, () => course.record, course.log);
    const data = new SourceData({
      world,
      sizeBytes: userData.sizeBytes,
      shared: hot.storage === "shared",
      source: () => memory.source(),
      openFrozen: () => machines.openData(machine.uuid),
    });
    if (STANDING.includes(course.record.phase)) data.stand();
    return (this.#parts = { memory, data });
  }

  async #serve(course: HotCourse): Promise<void> {
    const { memory, data } = this.#of(course);
    await this.#serving.serve(course.record, {
      openUserData: () => Promise.reject(notWhole(course.record)),
      openBlocks: () => data.openBlocks(),
      openMap: (name) => data.openMap(name),
      openMemory: () => memory.tunnel(),
    });
  }

  /** The proposal carries the data token: it must be good before anybody can use it. */
  async prepare(course: HotCourse): Promise<void> {
    const { phase } = course.record;
    if (phase === "proposed") await writeProof(this.#tools, course.record);
    if (SERVING.includes(phase)) await this.#serve(course);
  }

  async close(): Promise<void> {
    await this.#parts?.memory.close();
    await this.#parts?.data.close();
  }

  failure(effect: HotSourceEffect): HotSourceEvent | undefined {
    return UNDOABLE.includes(effect) ? "failed" : undefined;
  }

  refused(phase: HotSourcePhase): HotSourceEvent | undefined {
    return phase === "proposed" ? "failed" : undefined;
  }

  message(course: HotCourse): {
    action: "session-initiate" | "session-info" | "session-terminate";
    body: Json;
  } {
    const { phase } = course.record;
    if (phase === "proposed") return { action: "session-initiate", body: this.#proposal(course) };
    const action = isTerminal(phase) ? "session-terminate" : "session-info";
    return { action, body: this.status(course) };
  }

  status({ record }: HotCourse): Json {
    const { phase, negotiate_ms, error, off_ms } = record;
    const { cloud, world } = this.#tools;
    const data = this.#serving.data();
    const ago_ms = Math.max(0, world.clock.now() - (off_ms ?? 0));
    const status: HotSourceStatus = {
      phase,
      ...(data !== undefined && SERVING.includes(phase) ? { data } : {}),
      ...(negotiate_ms === undefined ? {} : { negotiate_ms }),
      ...(record.switch === undefined ? {} : { switch: { ...record.switch, ago_ms } }),
      ...(phase === "handed-over" ? { handOver: record.handOver } : {}),
      ...(phase === "completed" ? { signature: record.receipt?.signatures[cloud] } : {}),
      ...(error === undefined ? {} : { error }),
    };
    return encode(status);
  }

  hear({ record }: HotCourse, body: Json): Heard | undefined {
    const status = decodeHotDestinationStatus(record.peer, body);
    if (status.filling !== undefined) {
      this.#tools.progress(record.id, { stream: "userData", ...status.filling, wireBytes: 0 });
    }
    const event = hotEventFromDestination(status.phase);
    if (event === "peer-aborted") {
      const { error } = status;
      return { event, ...(error === undefined ? {} : { patch: { error } }) };
    }
    if (event === "peer-ready") return this.#heardReady(record, status);
    // A destination whose clock is ahead says it again with every status.
    if (event === "peer-listening" && isEarly(record, this.#tools.world)) return undefined;
    if (event === "peer-armed" && record.phase === "switching" && !this.#standsStill) {
      // Until memory has gone over whole, a link that breaks lets the machine run on here.
      this.#armed = true;
      return undefined;
    }
    if (record.phase === "proposed" && record.negotiate_ms === undefined) {
      const negotiate_ms = Math.max(0, this.#tools.world.clock.now() - record.started_ms);
      return { event, patch: { negotiate_ms } };
    }
    return { event };
  }

  settled(phase: HotSourcePhase, body: Json): boolean {
    const peer = decodeHotDestinationStatus("peer", body).phase;
    if (phase === "completed") return peer === "completed" || peer === "unknown";
    return ["aborting", "aborted", "fenced", "unknown"].includes(peer);
  }

  #heardReady(record: HotSourceRecord, status: HotDestinationStatus): Heard | undefined {
    if (record.phase !== "released") return { event: "peer-ready" };
    const card = this.#tools.peer(record.peer);
    if (status.receipt === undefined || card === undefined) return undefined;
    const { cloud, key } = this.#tools;
    const receipt = countersign(record, status.receipt, card.agentKey, cloud, key);
    return { event: "peer-ready", patch: { receipt } };
  }

  #proposal({ record }: HotCourse): Json {
    const { machine, appliance, composed, wasRunning, userData, handOver, hot, at_ms = 0 } = record;
    const wait_ms = Math.max(0, at_ms - this.#tools.world.clock.now());
    const data = this.#serving.data();
    if (data === undefined) {
      throw new TesseraError("bug", "migration.not-served", "proposed before the data was offered");
    }
    const proposal: Proposal = {
      version: VERSIONS.hot,
      machine,
      appliance,
      signatures: this.#serving.signatures(),
      composed,
      mode: "hot",
      hot,
      ...(wait_ms > 0 ? { wait_ms } : {}),
      wasRunning,
      userData,
      handOverDigest: digestOfToken(handOver),
      data,
    };
    return encode(proposal);
  }

  /** The hypervisor still has the guest as it was at the pause; it is not asked to shut down. */
  async #release(record: HotSourceRecord): Promise<Heard> {
    const { machines, store } = this.#tools;
    await this.close();
    await machines.stop(record.machine.uuid, 0);
    await machines.update(record.machine.uuid, (stored) =>
      handedTo(stored, record.id, record.peer),
    );
    await releaseData(this.#tools, record, record.hot.storage === "shared");
    await removeProof(this.#tools, record);
    await store.unpin(`migration:${record.id}`);
    await evictKept(this.#tools);
    return { event: "released" };
  }

  /** Where its hypervisor has ended meanwhile, the machine is started anew, as after a power cut. */
  async #rollBack(course: HotCourse, signal: AbortSignal): Promise<Heard> {
    const { machines, store } = this.#tools;
    const { id, machine } = course.record;
    const { uuid } = machine;
    // Without its mark the machine was brought back before, and is others' since.
    if ((await machines.store.find(uuid))?.machine.migration === id) {
      const { memory } = this.#of(course);
      if (!(await memory.rollBack())) await machines.start(uuid, { migration: id, signal });
      await machines.update(uuid, (stored) => unmarked(stored, id));
    }
    await this.#forget(course);
    await removeProof(this.#tools, course.record);
    await store.unpin(`migration:${id}`);
    return { event: "rolled-back" };
  }

  /** What the hypervisor was asked to note and to show is of no use any more. */
  async #forget(course: HotCourse): Promise<void> {
    const { memory, data } = this.#of(course);
    await data.forget().catch((cause: unknown) => {
      course.log.log("warn", "notes of writes stay", { cause });
    });
    await data.close();
    await memory.close();
  }
}

/** Before its chosen time a machine does not leave. */
function isEarly({ phase, at_ms = 0 }: HotSourceRecord, { clock }: World): boolean {
  return WAITING.includes(phase) && clock.now() < at_ms;
}

function notWhole({ machine }: HotSourceRecord): TesseraError {
  const message = "the machine runs: its user data block is read by blocks";
  return new TesseraError("misuse", "transfer.not-ready", message, { subject: machine.uuid });
}
