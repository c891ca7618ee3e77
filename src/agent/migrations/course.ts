import {
  hasCode,
  reportOf,
  TesseraError,
  type ErrorReport,
  type Json,
  type Log,
  type World,
} from "#core";
import { isTerminal } from "#migration";
import type { FederationTransport, MessageAction } from "#federation";
import type { Journal } from "../journal.ts";
import type { MigrationRecord } from "./record.ts";

/** Something happened; `patch` is journalled together with the phase it leads to. */
export interface Happening<R, E> {
  readonly event: E;
  readonly patch?: Partial<R>;
}

/** What one side contributes: its pure machine, its effects, and its words. */
export interface Role<R extends MigrationRecord, E extends string, F extends string> {
  step(phase: R["phase"], event: E): { phase: R["phase"]; effects: readonly F[] };
  effects(phase: R["phase"]): readonly F[];
  /** Returns when the other side may be spoken to. */
  prepare(course: Course<R, E>): Promise<void>;
  /** Runs an effect; gives what happened, if it is worth an event. Idempotent. */
  run(effect: F, course: Course<R, E>, signal: AbortSignal): Promise<Happening<R, E> | undefined>;
  /** The event for an effect that failed for good, or undefined: it is tried again. */
  failure(effect: F, error: TesseraError): E | undefined;
  /** What the other side is told in answer. */
  status(course: Course<R, E>): Json;
  /** What the other side is told unasked. */
  message(course: Course<R, E>): { readonly action: MessageAction; readonly body: Json };
  /** The event for a message that the other side refused, or undefined: it is told again. */
  refused(phase: R["phase"]): E | undefined;
  /** What the other side's status means. */
  hear(course: Course<R, E>, body: Json): Happening<R, E> | undefined;
  /** Lets go of what effects have left open; the course has ended, or the agent stops. */
  close?(): Promise<void>;
  /** True when the other side's status shows that it needs no more words. */
  settled(phase: R["phase"], body: Json): boolean;
}

/** Fault injection at the journal, for tests: see `faults.ts`. */
export interface JournalHooks {
  beforeSave(record: MigrationRecord): void;
  afterSave(record: MigrationRecord): void;
  /** True while the course is to stay in its phase unless its operator moves it. */
  holds(record: MigrationRecord): boolean;
}

/** What the work that all kinds of migration share needs of the course of its side. */
export interface CourseOf<P extends object> {
  readonly record: P;
  readonly log: Log;
  note(patch: Partial<P>, event: string, detail?: string): Promise<void>;
}

export interface CourseTools {
  readonly world: World;
  readonly journal: Journal;
  readonly transport: FederationTransport;
  readonly hooks: JournalHooks;
  /** Silence of the other side after which a side that may still undo does so. */
  readonly peerTimeout_ms: number;
  readonly retry_ms: number;
  changed(record: MigrationRecord): void;
}

/** What a course shows of itself to the code that needs no knowledge of its effects. */
export interface Course<R extends MigrationRecord, E extends string> {
  readonly record: R;
  readonly log: Log;
  /**
   * Takes the step, journals it, then runs what the new phase asks for. False where the phase has
   * no step for the event: then nothing was changed.
   */
  dispatch(happening: Happening<R, E>): Promise<boolean>;
  /** Journals a change that leaves the phase as it is. */
  note(patch: Partial<R>, event: string, detail?: string): Promise<void>;
  /** Does the current phase's effects afresh, for instance with a new data endpoint. */
  again(): void;
  /** Handles the other side's status and answers with ours. */
  hear(body: Json): Promise<Json>;
  /** What the other side is told. */
  status(): Json;
  /** Starts, or goes on after a restart. */
  begin(): void;
  /** Ends our activity without touching the journal. */
  stop(): Promise<void>;
}

const RETRY_EFFECT_MS = 1000;
const HOLD_MS = 20;
/** A status is told again soon: a side that died has lost the question. */
const ANSWER_MS = 10_000;

function asTesseraError(error: unknown): TesseraError {
  if (error instanceof TesseraError) return error;
  const { code, message } = reportOf(error);
  return new TesseraError("bug", code, message, { cause: error });
}

/** One side of one migration: turns happenings into journalled phases, and phases into effects. */
class RunningCourse<
  R extends MigrationRecord,
  E extends string,
  F extends string,
> implements Course<R, E> {
  readonly log: Log;
  #record: R;
  readonly #role: Role<R, E, F>;
  readonly #tools: CourseTools;
  #queue: Promise<unknown> = Promise.resolve();
  #phaseWork = new AbortController();
  #wake = new AbortController();
  readonly #life = new AbortController();
  #heard_ms: number;
  readonly #running = new Set<Promise<void>>();
  /** Effects that have not ended. */
  #busy = 0;
  /** Ends with the effects of the phase before: those of two phases never overlap. */
  #effects: Promise<unknown> = Promise.resolve();

  constructor(first: R, role: Role<R, E, F>, tools: CourseTools) {
    this.#record = first;
    this.#role = role;
    this.#tools = tools;
    this.#heard_ms = tools.world.clock.monotonic();
    this.log = tools.world.log.with({ migration: first.id, role: first.role });
  }

  get record(): R {
    return this.#record;
  }

  dispatch(happening: Happening<R, E>): Promise<boolean> {
    return this.#inTurn(() => this.#take(happening));
  }

  note(patch: Partial<R>, event: string, detail?: string): Promise<void> {
    return this.#inTurn(() => this.#save({ ...this.#record, ...patch }, event, detail));
  }

  again(): void {
    this.#phaseWork.abort(new TesseraError("misuse", "migration.phase-left", "the phase was left"));
    this.#phaseWork = new AbortController();
    const { signal } = this.#phaseWork;
    if (this.#life.signal.aborted) return;
    const before = this.#effects;
    const effects = this.#role
      .effects(this.#record.phase)
      .map((effect) => before.then(() => this.#attempt(effect, signal)));
    this.#busy += effects.length;
    for (const effect of effects) this.#follow(effect.finally(() => (this.#busy -= 1)));
    this.#effects = Promise.allSettled([before, ...effects]);
    this.#wake.abort();
  }

  async hear(body: Json): Promise<Json> {
    await this.#receive(body);
    return this.status();
  }

  status(): Json {
    return this.#role.status(this);
  }

  begin(): void {
    this.again();
    // Where nothing can be served, the phase's own effect fails, and that is told to the peer.
    const prepared = this.#role.prepare(this).catch(() => undefined);
    this.#follow(prepared.then(() => this.#talk()));
  }

  async stop(): Promise<void> {
    const reason = new TesseraError("misuse", "migration.agent-stopping", "the agent stops");
    this.#life.abort(reason);
    this.#phaseWork.abort(reason);
    this.#wake.abort();
    await Promise.allSettled(this.#running);
    await this.#role.close?.();
  }

  #inTurn<T>(work: () => T): Promise<T> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => {});
    return turn;
  }

  #save(to: R, event: string, detail?: string): void {
    const { world, journal, hooks } = this.#tools;
    this.#life.signal.throwIfAborted();
    hooks.beforeSave(to);
    const at_ms = world.clock.now();
    const more = detail === undefined ? {} : { detail };
    journal.save(to, { event, at_ms, ...more });
    this.#record = to;
    hooks.afterSave(to);
    this.log.log("info", "migration", { phase: to.phase, event, ...more });
    this.#tools.changed(to);
  }

  #take({ event, patch }: Happening<R, E>): boolean {
    if (this.#life.signal.aborted) return false;
    const { phase } = this.#role.step(this.#record.phase, event);
    if (phase === this.#record.phase) return false;
    const ended = isTerminal(phase) ? { ended_ms: this.#tools.world.clock.now() } : {};
    const detail = patch?.error?.message;
    this.#save({ ...this.#record, ...patch, ...ended, phase }, event, detail);
    this.again();
    return true;
  }

  #follow(work: Promise<void>): void {
    this.#running.add(work);
    const ended = (): void => void this.#running.delete(work);
    work.then(ended, (error: unknown) => {
      ended();
      this.log.log("error", "migration work failed", { reason: reportOf(error).message });
    });
  }

  async #attempt(effect: F, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#tools.hooks.holds(this.#record)) {
        await this.#tools.world.clock.sleep(HOLD_MS, signal).catch(() => {});
        continue;
      }
      try {
        const happening = await this.#role.run(effect, this, signal);
        if (happening !== undefined && !signal.aborted) await this.dispatch(happening);
        return;
      } catch (thrown) {
        if (signal.aborted) return;
        await this.#failed(effect, asTesseraError(thrown)).catch(this.#unable);
        await this.#tools.world.clock.sleep(RETRY_EFFECT_MS, signal).catch(() => {});
      }
    }
  }

  async #failed(effect: F, error: TesseraError): Promise<void> {
    const report = reportOf(error);
    this.log.log("warn", "effect failed", { effect, code: error.code, reason: error.message });
    const event = this.#role.failure(effect, error);
    if (event !== undefined) await this.dispatch({ event, patch: withError<R>(report) });
  }

  async #tell(): Promise<void> {
    const { peer, id } = this.#record;
    const message = { session: id, ...this.#role.message(this) };
    await this.#receive(await this.#tools.transport.request(peer, message, ANSWER_MS));
  }

  async #receive(body: Json): Promise<void> {
    if (this.#tools.hooks.holds(this.#record)) return this.#heard();
    const happening = this.#role.hear(this, body);
    this.#heard();
    if (happening !== undefined) await this.dispatch(happening);
    const { phase, settled } = this.#record;
    // What the last phase asks for comes first: nobody would go on with it after a restart.
    if (this.#busy > 0 || settled || !isTerminal(phase)) return;
    if (this.#role.settled(phase, body)) {
      await this.note({ settled: true } as Partial<R>, "settled");
    }
  }

  /** Only what could be understood counts as a sign of life. */
  #heard(): void {
    this.#heard_ms = this.#tools.world.clock.monotonic();
  }

  /** Even the journal may fail, for instance on a full disk; what was to be done is tried again. */
  readonly #unable = (error: unknown): void => {
    this.log.log("error", "a failure cannot be recorded", { ...reportOf(error) });
  };

  async #talk(): Promise<void> {
    const { clock, random } = this.#tools.world;
    while (!this.#life.signal.aborted && !this.#record.settled) {
      this.#wake = new AbortController();
      try {
        await unlessAborted(this.#tell(), this.#life.signal);
      } catch (error) {
        if (this.#life.signal.aborted) return;
        await this.#unanswered(asTesseraError(error)).catch(this.#unable);
      }
      const pause_ms = this.#tools.retry_ms * (0.75 + random.fraction() / 2);
      await clock.sleep(pause_ms, this.#wake.signal).catch(() => {});
    }
  }

  async #unanswered(error: TesseraError): Promise<void> {
    this.log.log("debug", "no answer", { code: error.code, reason: error.message });
    const refused = hasCode(error, "federation.refused");
    const event = refused ? this.#role.refused(this.#record.phase) : undefined;
    if (event === undefined) return await this.#silence();
    const cause = error.cause instanceof TesseraError ? error.cause : error;
    await this.dispatch({ event, patch: withError<R>(reportOf(cause)) });
  }

  async #silence(): Promise<void> {
    const { world, peerTimeout_ms } = this.#tools;
    if (world.clock.monotonic() - this.#heard_ms < peerTimeout_ms) return;
    const { peer } = this.#record;
    const message = `${peer} has been silent for ${peerTimeout_ms} ms`;
    const error = new TesseraError("peer", "migration.peer-silent", message, {
      subject: peer,
      remedy: "check the link and the other agent, then migrate again",
    });
    await this.dispatch({ event: "peer-timeout" as E, patch: withError<R>(reportOf(error)) });
  }
}

function withError<R extends MigrationRecord>(error: ErrorReport): Partial<R> {
  return { error } as Partial<R>;
}

/** Does not wait for an answer that nobody wants any more. */
async function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** A course that has not begun. */
export function createCourse<R extends MigrationRecord, E extends string, F extends string>(
  first: R,
  role: Role<R, E, F>,
  tools: CourseTools,
): Course<R, E> {
  return new RunningCourse(first, role, tools);
}
