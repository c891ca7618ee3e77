import { TesseraError, type Json, type World } from "#core";
import {
  eventFromDestination,
  isTerminal,
  sourceEffects,
  stepSource,
  type SourceEffect,
  type SourceEvent,
  type SourcePhase,
} from "#migration";
import { handedTo, unmarked } from "../machine-store.ts";
import type { Course, Happening, Role } from "./course.ts";
import {
  decodeDestinationStatus,
  encode,
  versionOf,
  type DestinationStatus,
  type Proposal,
  type SourceStatus,
} from "./messages.ts";
import { evictKept, releaseData } from "./kept.ts";
import { countersign } from "./receipt.ts";
import type { SourceRecord } from "./record.ts";
import { notOffered } from "./contents.ts";
import { Serving, type OwnSource } from "./serving.ts";
import { digestOfToken } from "./token.ts";
import type { MigrationTools } from "./tools.ts";
import { FROZEN_MAP, LIVE_MAP } from "./warm/replica.ts";

type SourceCourse = Course<SourceRecord, SourceEvent>;
type Heard = Happening<SourceRecord, SourceEvent>;

const SERVING: readonly SourcePhase[] = ["proposed", "serving", "stopping", "frozen"];

/** The source's effects and words; one instance for each course. */
export class SourceRole implements Role<SourceRecord, SourceEvent, SourceEffect> {
  readonly #tools: MigrationTools;
  readonly #serving: Serving;

  constructor(tools: MigrationTools) {
    this.#tools = tools;
    this.#serving = new Serving(tools);
  }

  step = stepSource;
  effects = sourceEffects;

  async run(
    effect: SourceEffect,
    course: SourceCourse,
    signal: AbortSignal,
  ): Promise<Heard | undefined> {
    switch (effect) {
      case "serve":
        await this.#serve(course);
        return undefined;
      case "stop-machine":
        return await this.#stopMachine(course.record, signal);
      case "release-machine":
        return await this.#release(course.record);
      case "roll-back":
        return await this.#rollBack(course.record, signal);
      case "withdraw":
        await this.#serving.withdraw(course.record.id);
        return undefined;
    }
  }

  /** The proposal carries the data token: it must be good before anybody can use it. */
  async prepare(course: SourceCourse): Promise<void> {
    if (SERVING.includes(course.record.phase)) await this.#serve(course);
  }

  failure(effect: SourceEffect): SourceEvent | undefined {
    return effect === "serve" || effect === "stop-machine" ? "failed" : undefined;
  }

  refused(phase: SourcePhase): SourceEvent | undefined {
    return phase === "proposed" ? "failed" : undefined;
  }

  message(course: SourceCourse): {
    action: "session-initiate" | "session-info" | "session-terminate";
    body: Json;
  } {
    const { phase } = course.record;
    if (phase === "proposed") return { action: "session-initiate", body: this.#proposal(course) };
    const action = isTerminal(phase) ? "session-terminate" : "session-info";
    return { action, body: this.status(course) };
  }

  status(course: SourceCourse): Json {
    const { record } = course;
    const { phase, stop, negotiate_ms, error } = record;
    const { cloud, world } = this.#tools;
    const data = this.#serving.data();
    const status: SourceStatus = {
      phase,
      ...(data !== undefined && SERVING.includes(phase) ? { data } : {}),
      ...(negotiate_ms === undefined ? {} : { negotiate_ms }),
      ...(stop === undefined
        ? {}
        : {
            stop: {
              how: stop.how,
              took_ms: stop.took_ms,
              ago_ms: Math.max(0, world.clock.now() - stop.off_ms),
            },
          }),
      ...(phase === "handed-over" ? { handOver: record.handOver } : {}),
      ...(phase === "completed" ? { signature: record.receipt?.signatures[cloud] } : {}),
      ...(error === undefined ? {} : { error }),
    };
    return encode(status);
  }

  hear(course: SourceCourse, body: Json): Heard | undefined {
    const { record } = course;
    const status = decodeDestinationStatus(record.peer, body);
    const event = eventFromDestination(status.phase);
    if (event === "peer-aborted") {
      const error = status.error;
      return { event, ...(error === undefined ? {} : { patch: { error } }) };
    }
    if (event === "peer-ready") return this.#heardReady(record, status);
    if (event === "peer-prepared" && isEarly(record, this.#tools.world)) return undefined;
    if (record.phase === "proposed" && record.negotiate_ms === undefined) {
      // A clock that was set back must not make a record that cannot be read again.
      const negotiate_ms = Math.max(0, this.#tools.world.clock.now() - record.started_ms);
      return { event, patch: { negotiate_ms } };
    }
    return { event };
  }

  settled(phase: SourcePhase, body: Json): boolean {
    const peer = decodeDestinationStatus("peer", body).phase;
    if (phase === "completed") return peer === "completed" || peer === "unknown";
    return ["aborting", "aborted", "fenced", "unknown"].includes(peer);
  }

  #heardReady(record: SourceRecord, status: DestinationStatus): Heard | undefined {
    if (record.phase !== "released") return { event: "peer-ready" };
    const card = this.#tools.peer(record.peer);
    if (status.receipt === undefined || card === undefined) return undefined;
    const { cloud, key } = this.#tools;
    const receipt = countersign(record, status.receipt, card.agentKey, cloud, key);
    return { event: "peer-ready", patch: { receipt } };
  }

  #proposal(course: SourceCourse): Json {
    const { machine, appliance, composed, wasRunning, userData, handOver } = course.record;
    const data = this.#serving.data();
    if (data === undefined) {
      throw new TesseraError("bug", "migration.not-served", "proposed before the data was offered");
    }
    const proposal: Proposal = {
      ...this.#modeOf(course.record),
      version: versionOf(course.record.mode, course.record.format),
      machine,
      appliance,
      signatures: this.#serving.signatures(),
      composed,
      wasRunning,
      userData,
      handOverDigest: digestOfToken(handOver),
      data,
    };
    return encode(proposal);
  }

  #modeOf({ mode, at_ms = 0, format }: SourceRecord) {
    const wanted = format === undefined ? {} : { format };
    if (mode === "cold") return { mode, ...wanted } as const;
    const wait_ms = Math.max(0, at_ms - this.#tools.world.clock.now());
    return { mode, ...wanted, ...(wait_ms > 0 ? { wait_ms } : {}) } as const;
  }

  async #serve(course: SourceCourse): Promise<void> {
    const { machines } = this.#tools;
    await this.#serving.serve(course.record, {
      openUserData: async () => {
        const { phase, machine } = course.record;
        if (phase === "frozen") return await machines.openData(machine.uuid);
        throw new TesseraError("misuse", "transfer.not-ready", "the machine has not stopped yet", {
          subject: machine.uuid,
        });
      },
      ...(course.record.mode === "warm" ? this.#replicated(course) : {}),
    });
  }

  /** The files as they are at each moment: of a machine that runs only a last comparison counts. */
  #replicated(course: SourceCourse): Pick<OwnSource, "openBlocks" | "openMap"> {
    const { machines } = this.#tools;
    const { uuid } = course.record.machine;
    return {
      openBlocks: async () => await machines.openData(uuid),
      openMap: async (name) => {
        if (name !== LIVE_MAP && name !== FROZEN_MAP) throw notOffered(`"${name}"`);
        if (name === FROZEN_MAP && course.record.phase !== "frozen") {
          throw new TesseraError("misuse", "transfer.not-ready", "the machine has not stopped yet");
        }
        const device = await machines.openData(uuid);
        try {
          return await device.allocated();
        } finally {
          await device.close();
        }
      },
    };
  }

  async #stopMachine(record: SourceRecord, signal: AbortSignal): Promise<Heard> {
    const { machines, world } = this.#tools;
    const { uuid } = record.machine;
    const begin_ms = world.clock.monotonic();
    const how = await machines.stop(uuid);
    signal.throwIfAborted();
    const off_ms = world.clock.now();
    const took_ms = world.clock.monotonic() - begin_ms;
    const lastStop = (await machines.store.find(uuid))?.lastStop ?? "graceful";
    const told = how === "was-stopped" && record.wasRunning ? lastStop : how;
    return { event: "stopped", patch: { stop: { how: told, took_ms, off_ms } } };
  }

  async #release(record: SourceRecord): Promise<Heard> {
    const { machines, store } = this.#tools;
    await machines.update(record.machine.uuid, (stored) =>
      handedTo(stored, record.id, record.peer),
    );
    await releaseData(this.#tools, record, false);
    await store.unpin(`migration:${record.id}`);
    await evictKept(this.#tools);
    return { event: "released" };
  }

  async #rollBack({ id, machine, wasRunning }: SourceRecord, signal: AbortSignal): Promise<Heard> {
    const { machines, store } = this.#tools;
    const { uuid } = machine;
    // Without its mark the machine was brought back before, and is others' since.
    if ((await machines.store.find(uuid))?.machine.migration === id) {
      if (wasRunning) await machines.start(uuid, { migration: id, signal });
      await machines.update(uuid, (stored) => unmarked(stored, id));
    }
    await store.unpin(`migration:${id}`);
    return { event: "rolled-back" };
  }
}

/** The destination says so again and again: once the time has come it counts. */
function isEarly({ phase, at_ms = 0 }: SourceRecord, { clock }: World): boolean {
  return phase === "serving" && clock.now() < at_ms;
}
