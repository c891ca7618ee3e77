import { hasCode, reportOf, type Json, type TesseraError } from "#core";
import {
  hotDestinationEffects,
  hotEventFromSource,
  isTerminal,
  stepHotDestination,
  type HotDestinationEffect,
  type HotDestinationEvent,
  type HotDestinationPhase,
} from "#migration";
import type { Course, Happening, Role } from "../course.ts";
import {
  checkToken,
  composeProven,
  finishArrival,
  heardCompleted,
  isSettled,
  mayHaveMoved,
  REFUSALS_MAX,
} from "../destination-steps.ts";
import { ReceiverHolder } from "../fetch.ts";
import { fetchComponents } from "../fetch-components.ts";
import { fenceMachine } from "../landing.ts";
import {
  decodeHotSourceStatus,
  encode,
  type HotDestinationStatus,
  type HotSourceStatus,
} from "../messages.ts";
import type { HotDestinationRecord } from "../record.ts";
import type { MigrationTools } from "../tools.ts";
import { removeArrival, resumeMachine } from "./arrival.ts";
import { Arriving } from "./arriving.ts";

type HotCourse = Course<HotDestinationRecord, HotDestinationEvent>;
type Heard = Happening<HotDestinationRecord, HotDestinationEvent>;

/** Phases in which something is asked of the source's data port. */
const ASKING: readonly HotDestinationPhase[] = [
  "accepted",
  "copying",
  "listening",
  "arming",
  "armed",
  "starting",
  "filling",
];
/** What is tried again over the next connection. */
const BROKEN = ["transfer.link-lost", "transfer.cancelled", "transfer.closing"];
const UNDOABLE: readonly HotDestinationEffect[] = [
  "fetch-components",
  "compose",
  "copy-ahead",
  "take-memory",
  "arm",
];

/** The effects and words of the destination of a hot migration; one instance for each course. */
export class HotDestinationRole implements Role<
  HotDestinationRecord,
  HotDestinationEvent,
  HotDestinationEffect
> {
  readonly #tools: MigrationTools;
  readonly #receiver: ReceiverHolder;
  #arriving: Arriving | undefined;
  #refusals = 0;

  constructor(tools: MigrationTools) {
    this.#tools = tools;
    this.#receiver = new ReceiverHolder(tools);
  }

  step = stepHotDestination;
  effects = hotDestinationEffects;

  async run(
    effect: HotDestinationEffect,
    course: HotCourse,
    signal: AbortSignal,
  ): Promise<Heard | undefined> {
    const arriving = this.#of(course);
    switch (effect) {
      case "fetch-components":
        return await fetchComponents(this.#tools, this.#receiver, course, signal);
      case "compose":
        return await composeProven(this.#tools, course.record);
      case "copy-ahead":
        return await arriving.copyAhead(signal);
      case "take-memory":
        return await arriving.takeMemory(signal);
      case "arm":
        return await arriving.arm(signal);
      case "resume-machine":
        return await resumeMachine(this.#tools, course.record, arriving.memory, signal);
      case "fill":
        return await arriving.fill(signal);
      case "finish":
        await this.close();
        return await finishArrival(this.#tools, course.record);
      case "clean-up":
        await arriving.disk.close();
        await removeArrival(this.#tools, course.record, arriving.memory);
        await this.close();
        return { event: "cleaned" };
      case "stop-machine":
        await this.close();
        await fenceMachine(this.#tools, course.record);
        return { event: "stopped" };
    }
  }

  #of(course: HotCourse): Arriving {
    this.#arriving ??= new Arriving(this.#tools, this.#receiver, course);
    return this.#arriving;
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#arriving?.close();
    await this.#receiver.close();
  }

  failure(effect: HotDestinationEffect, error: TesseraError): HotDestinationEvent | undefined {
    if (effect === "resume-machine" && !hasCode(error, "agent.machine-ran")) return "start-failed";
    if (this.#mayBeMoved(error)) return undefined;
    return UNDOABLE.includes(effect) ? "failed" : undefined;
  }

  /**
   * A restarted source refuses the old token until its status has told us the new one; what was under
   * way over the old connection fails with it.
   */
  #mayBeMoved(error: TesseraError): boolean {
    const broken = BROKEN.some((code) => hasCode(error, code));
    if (!broken && !mayHaveMoved(error)) return false;
    this.#refusals += 1;
    return this.#refusals <= REFUSALS_MAX;
  }

  refused(): undefined {
    return undefined;
  }

  message(course: HotCourse): { action: "session-info" | "session-terminate"; body: Json } {
    const action = isTerminal(course.record.phase) ? "session-terminate" : "session-info";
    return { action, body: this.status(course) };
  }

  status({ record }: HotCourse): Json {
    const { phase, receipt, error } = record;
    const filling = phase === "filling" ? this.#arriving?.filling : undefined;
    const status: HotDestinationStatus = {
      phase,
      ...(filling === undefined ? {} : { filling }),
      ...(receipt === undefined ? {} : { receipt }),
      ...(error === undefined ? {} : { error }),
    };
    return encode(status);
  }

  hear(course: HotCourse, body: Json): Heard | undefined {
    const { record } = course;
    const status = decodeHotSourceStatus(record.peer, body);
    this.#follow(course, status);
    if (status.switch !== undefined) this.#of(course).told(status.switch.method);
    const event = hotEventFromSource(status.phase);
    if (event === undefined) return undefined;
    if (event === "peer-handed-over") return this.#heardToken(record, status);
    if (event === "peer-completed") return heardCompleted(this.#tools, record, status);
    const { error } = status;
    return { event, ...(error === undefined ? {} : { patch: { error } }) };
  }

  /** The source says how long ago it paused the machine; its word was on its way for half a turn. */
  #heardToken(record: HotDestinationRecord, status: HotSourceStatus): Heard {
    checkToken(record, status);
    const token_ms = this.#tools.world.clock.now();
    const { switch: told, negotiate_ms } = status;
    if (told === undefined) return { event: "peer-handed-over", patch: { token_ms } };
    const { ago_ms, ...paused } = told;
    const onItsWay_ms = (this.#receiver.link()?.roundTrip_ms ?? 0) / 2;
    const off_ms = Math.max(0, token_ms - ago_ms - onItsWay_ms);
    const took_ms = { ...record.took_ms, negotiate: negotiate_ms };
    return { event: "peer-handed-over", patch: { token_ms, off_ms, switch: paused, took_ms } };
  }

  settled(phase: HotDestinationPhase, body: Json): boolean {
    return isSettled(phase, decodeHotSourceStatus("peer", body).phase);
  }

  /** A source that was restarted serves under another token, perhaps at another port. */
  #follow(course: HotCourse, status: HotSourceStatus): void {
    const { data, phase } = course.record;
    const { data: moved } = status;
    if (moved === undefined || !ASKING.includes(phase) || moved.token === data.token) return;
    this.#refusals = 0;
    const noted = this.#receiver
      .close()
      .then(() => course.note({ data: moved, resumeToken: undefined }, "data-moved"));
    noted.then(
      () => {
        this.#arriving?.reconnect();
        return phase === "accepted" ? course.again() : undefined;
      },
      // Where it cannot be noted, the next status tells it again.
      (error: unknown) => course.log.log("warn", "data not moved", { ...reportOf(error) }),
    );
  }
}
