import { componentsOf, TesseraError, type Digest, type Json } from "#core";
import {
  eventFromDestination,
  isTerminal,
  sourceEffects,
  stepSource,
  type SourceEffect,
  type SourceEvent,
  type SourcePhase,
} from "#migration";
import { newToken, type DataSource } from "#transfer";
import { noteSent, openArrived } from "../machine-data.ts";
import { handedTo, unmarked } from "../machine-store.ts";
import type { Course, Happening, Role } from "./course.ts";
import {
  decodeDestinationStatus,
  encode,
  VERSIONS,
  type DestinationStatus,
  type Proposal,
  type SourceStatus,
} from "./messages.ts";
import { componentSource, notOffered } from "./contents.ts";
import { evictKept } from "./kept.ts";
import { countersign } from "./receipt.ts";
import type { SourceRecord } from "./record.ts";
import { digestOfToken } from "./token.ts";
import type { MigrationTools } from "./tools.ts";

type SourceCourse = Course<SourceRecord, SourceEvent>;
type Heard = Happening<SourceRecord, SourceEvent>;

const SERVING: readonly SourcePhase[] = ["proposed", "serving", "stopping", "frozen"];

/** The source's effects and words; one instance for each course. */
export class SourceRole implements Role<SourceRecord, SourceEvent, SourceEffect> {
  readonly #tools: MigrationTools;
  #dataToken: string | undefined;
  #offered: Promise<void> | undefined;
  #allowed: Promise<ReadonlySet<Digest>> | undefined;

  constructor(tools: MigrationTools) {
    this.#tools = tools;
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
        await this.#withdraw(course);
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
    const data = this.#data();
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
    const data = this.#data();
    if (data === undefined) {
      throw new TesseraError("bug", "migration.not-served", "proposed before the data was offered");
    }
    const proposal: Proposal = {
      version: VERSIONS.cold,
      machine,
      appliance,
      composed,
      mode: "cold",
      wasRunning,
      userData,
      handOverDigest: digestOfToken(handOver),
      data,
    };
    return encode(proposal);
  }

  #data(): Proposal["data"] | undefined {
    if (this.#dataToken === undefined) return undefined;
    const { candidates, certificate } = this.#tools.endpoint();
    const endpoint = {
      candidates: candidates.map(({ host, port }) => ({ host, port })),
      certificate,
    };
    return { endpoint, token: this.#dataToken };
  }

  /**
   * Offers the migration's data to the destination's certificate. A restarted agent offers it
   * anew under a new token, which the destination learns from the next status.
   */
  async #serve(course: SourceCourse): Promise<void> {
    this.#offered ??= this.#offer(course);
    try {
      await this.#offered;
    } catch (cause) {
      this.#offered = undefined;
      throw cause;
    }
  }

  async #offer(course: SourceCourse): Promise<void> {
    const { world, dataServer } = this.#tools;
    const { id, peerCertificate, bytesPerSecondMax, plan } = course.record;
    const token = newToken(world.random);
    await dataServer.withdraw(id);
    await dataServer.offer({
      id,
      token,
      peerCertificate,
      source: this.#source(course),
      ...(bytesPerSecondMax === undefined ? {} : { bytesPerSecondMax }),
      cores: Math.max(1, this.#tools.freeCores()),
      ...(plan.rate.from === "assumed" ? {} : { expectedBitsPerSecond: plan.rate.bitsPerSecond }),
      onProgress: (event) => this.#tools.progress(id, event),
    });
    this.#dataToken = token;
  }

  async #withdraw(course: SourceCourse): Promise<void> {
    this.#dataToken = undefined;
    await this.#tools.dataServer.withdraw(course.record.id);
  }

  #source(course: SourceCourse): DataSource {
    const { store, machines, world } = this.#tools;
    const directory = machines.store.directory(course.record.machine.uuid);
    const components = componentsOf(course.record.appliance).map(({ id }) => id);
    return {
      ...componentSource(store, components),
      openBlob: async (digest) => {
        this.#allowed ??= this.#blobs(course.record);
        if ((await this.#allowed).has(digest)) return await store.openBlob(digest);
        throw notOffered(digest);
      },
      openLineage: async (digest) => await openArrived(world, directory, digest),
      userDataSent: async (digests) => await noteSent(world, directory, digests),
      openUserData: async () => {
        const { phase, machine } = course.record;
        if (phase === "frozen") {
          return await machines.openData(machine.uuid);
        }
        throw new TesseraError("misuse", "transfer.not-ready", "the machine has not stopped yet", {
          subject: machine.uuid,
        });
      },
    };
  }

  async #blobs(record: SourceRecord): Promise<ReadonlySet<Digest>> {
    const { store } = this.#tools;
    const lists = await Promise.all(
      componentsOf(record.appliance).map(async ({ id, manifest }) => {
        const blobs = [manifest, ...(await store.blobsOf(manifest))].map(({ digest }) => digest);
        this.#tools.own(record.id, id, blobs);
        return blobs;
      }),
    );
    return new Set(lists.flat());
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
