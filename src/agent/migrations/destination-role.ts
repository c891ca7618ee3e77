import { hasCode, reportOf, TesseraError, type Json } from "#core";
import {
  destinationEffects,
  eventFromSource,
  isTerminal,
  stepDestination,
  type DestinationEffect,
  type DestinationEvent,
  type DestinationPhase,
} from "#migration";
import type { Course, Happening, Role } from "./course.ts";
import {
  checkToken,
  composeProven,
  finishArrival,
  heardCompleted,
  isSettled,
  mayHaveMoved,
  REFUSALS_MAX,
} from "./destination-steps.ts";
import { fetchUserData, ReceiverHolder } from "./fetch.ts";
import { fetchComponents } from "./fetch-components.ts";
import {
  decodeSourceStatus,
  encode,
  type DestinationStatus,
  type SourceStatus,
} from "./messages.ts";
import { makeReceipt, signReceipt } from "./receipt.ts";
import type { DestinationRecord } from "./record.ts";
import { fenceMachine, landMachine, removeIncoming } from "./landing.ts";
import type { MigrationTools } from "./tools.ts";
import { Replica } from "./warm/replica.ts";

type DestinationCourse = Course<DestinationRecord, DestinationEvent>;
type Heard = Happening<DestinationRecord, DestinationEvent>;

const FETCHING: readonly DestinationPhase[] = ["accepted", "replicating", "receiving"];
const UNDOABLE: readonly DestinationEffect[] = [
  "fetch-components",
  "compose",
  "replicate",
  "fetch-user-data",
];
/** The files of a machine that runs, read at a bad moment; and readers that the source's move ended. */
const AGAIN = ["transfer.source-failed", "transfer.cancelled", "transfer.closing"];

/** The destination's effects and words; one instance for each course. */
export class DestinationRole implements Role<
  DestinationRecord,
  DestinationEvent,
  DestinationEffect
> {
  readonly #tools: MigrationTools;
  readonly #receiver: ReceiverHolder;
  #replica: Replica | undefined;
  #refusals = 0;

  constructor(tools: MigrationTools) {
    this.#tools = tools;
    this.#receiver = new ReceiverHolder(tools);
  }

  step = stepDestination;
  effects = destinationEffects;

  async run(
    effect: DestinationEffect,
    course: DestinationCourse,
    signal: AbortSignal,
  ): Promise<Heard | undefined> {
    switch (effect) {
      case "fetch-components":
        return await fetchComponents(this.#tools, this.#receiver, course, signal);
      case "compose":
        return await this.#compose(course.record);
      case "replicate":
        return await this.#replicaOf(course).replicate(signal);
      case "fetch-user-data":
        if (course.record.mode === "warm") return await this.#replicaOf(course).complete(signal);
        return await fetchUserData(this.#tools, this.#receiver, course, signal);
      case "start-machine":
        await this.#receiver.close();
        return await landMachine(this.#tools, course.record, signal);
      case "await-ready":
        return await this.#awaitReady(course, signal);
      case "finish":
        return await finishArrival(this.#tools, course.record);
      case "clean-up":
        return await this.#cleanUp(course.record);
      case "stop-machine":
        await fenceMachine(this.#tools, course.record);
        return { event: "stopped" };
    }
  }

  async #compose(record: DestinationRecord): Promise<Heard> {
    const heard = await composeProven(this.#tools, record);
    return record.mode === "warm" ? { ...heard, event: "composed-warm" } : heard;
  }

  #replicaOf(course: DestinationCourse): Replica {
    this.#replica ??= new Replica(this.#tools, this.#receiver, course);
    return this.#replica;
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  failure(effect: DestinationEffect, error: TesseraError): DestinationEvent | undefined {
    if (effect === "start-machine" && !hasCode(error, "agent.machine-ran")) return "start-failed";
    if (this.#mayBeMoved(error)) return undefined;
    return UNDOABLE.includes(effect) ? "failed" : undefined;
  }

  /** A restarted source refuses the old token until its status has told us the new one. */
  #mayBeMoved(error: TesseraError): boolean {
    const again = this.#replica !== undefined && AGAIN.some((code) => hasCode(error, code));
    if (!again && !mayHaveMoved(error)) return false;
    this.#refusals += 1;
    void this.#receiver.close();
    return this.#refusals <= REFUSALS_MAX;
  }

  refused(): undefined {
    return undefined;
  }

  message(course: DestinationCourse): { action: "session-info" | "session-terminate"; body: Json } {
    const action = isTerminal(course.record.phase) ? "session-terminate" : "session-info";
    return { action, body: this.status(course) };
  }

  status({ record }: DestinationCourse): Json {
    const { phase, receipt, error } = record;
    const status: DestinationStatus = {
      phase,
      ...(receipt === undefined ? {} : { receipt }),
      ...(error === undefined ? {} : { error }),
    };
    return encode(status);
  }

  hear(course: DestinationCourse, body: Json): Heard | undefined {
    const { record } = course;
    const status = decodeSourceStatus(record.peer, body);
    this.#follow(course, status);
    const event = eventFromSource(status.phase);
    if (event === undefined) return undefined;
    if (event === "peer-completed") return heardCompleted(this.#tools, record, status);
    if (event === "peer-handed-over") {
      checkToken(record, status);
      return { event };
    }
    const { negotiate_ms, stop, error } = status;
    if (event === "peer-frozen" && stop !== undefined) {
      const off_ms = Math.max(0, this.#tools.world.clock.now() - stop.ago_ms);
      const took_ms = { ...record.took_ms, negotiate: negotiate_ms, stop: stop.took_ms };
      return { event, patch: { took_ms, stop: stop.how, off_ms } };
    }
    return { event, ...(error === undefined ? {} : { patch: { error } }) };
  }

  settled(phase: DestinationPhase, body: Json): boolean {
    return isSettled(phase, decodeSourceStatus("peer", body).phase);
  }

  /** A source that was restarted serves under another token, perhaps at another port. */
  #follow(course: DestinationCourse, status: SourceStatus): void {
    const { data, phase } = course.record;
    const { data: moved } = status;
    if (moved === undefined || !FETCHING.includes(phase) || moved.token === data.token) return;
    this.#refusals = 0;
    const noted = this.#receiver
      .close()
      .then(() => course.note({ data: moved, resumeToken: undefined }, "data-moved"));
    // Where it cannot be noted, the next status tells it again.
    noted.then(
      () => course.again(),
      (error: unknown) => course.log.log("warn", "data not moved", { ...reportOf(error) }),
    );
  }

  async #awaitReady(course: DestinationCourse, signal: AbortSignal): Promise<Heard> {
    const { machines, world, cloud, key } = this.#tools;
    const { machine, wasRunning, on_ms } = course.record;
    let error: TesseraError | undefined;
    if (wasRunning) {
      await machines.ready(machine.uuid, signal).catch((thrown: unknown) => {
        // The machine is ours for better or worse: that its guest did not boot is reported.
        if (signal.aborted || !(thrown instanceof TesseraError)) throw thrown;
        error = thrown;
      });
    }
    const now_ms = world.clock.now();
    const boot = wasRunning ? Math.max(0, now_ms - (on_ms ?? now_ms)) : 0;
    const took_ms = { ...course.record.took_ms, boot };
    const receipt = makeReceipt({ ...course.record, took_ms }, cloud, now_ms);
    const patch = { took_ms, receipt: signReceipt(receipt, cloud, key) };
    return {
      event: "booted",
      patch: error === undefined ? patch : { ...patch, error: reportOf(error) },
    };
  }

  async #cleanUp(record: DestinationRecord): Promise<Heard> {
    await this.#receiver.close();
    await removeIncoming(this.#tools, record);
    return { event: "cleaned" };
  }
}
