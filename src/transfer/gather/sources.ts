/** The clouds that may be asked, and what became of asking them. */
import { hasCode, reportOf, TesseraError, type Digest, type World } from "#core";
import { rankHolders } from "#delta";
import type { DataReceiver } from "../contract.ts";
import { peerError } from "../errors.ts";
import type { GatherSource, Liar } from "./contract.ts";
import { isMoving } from "../patience.ts";
import { Slots } from "../slots.ts";
import { Stalls } from "./stalls.ts";

/** Requests to one source at a time; the protocol allows eight streams. */
const REQUESTS_MAX = 6;
/** For what of sources are ranked where it is not known how much will come. */
const SMALL_BYTES = 2 ** 20;
const STALL_MS = 20_000;
/** Who lied is asked, where that is possible, when all others have stalled so often. */
const LIE_STALLS = 4;

/** What only somebody sends who does not have what he offered. */
const LIES: readonly string[] = [
  "transfer.source-lied",
  "transfer.digest-mismatch",
  "transfer.size-mismatch",
  "transfer.pack-invalid",
  "image.recipe-invalid",
];

export function isLie(error: unknown): boolean {
  return LIES.some((code) => hasCode(error, code));
}

/** True for what another source may cure; this cloud's own disk and bugs are not. */
export function isSourceFault(error: unknown): boolean {
  if (!(error instanceof TesseraError)) return false;
  return error.fault === "peer" || isLie(error) || error.code.startsWith("transfer.");
}

/**
 * What is asked for, and on whose behalf. A `blob` is named by its digest, which decides; an `image`
 * is asked for by recipe and contents.
 */
export interface Question {
  readonly component: Digest;
  readonly kind: "blob" | "image";
  readonly signal: AbortSignal;
}

function keyOf({ kind, component }: Question): string {
  return `${kind} ${component}`;
}

export interface Asked {
  readonly source: GatherSource;
  readonly receiver: DataReceiver;
  readonly signal: AbortSignal;
}

export class Sources {
  readonly #world: World;
  readonly #all: readonly GatherSource[];
  readonly #gates = new Map<GatherSource, Slots>();
  readonly #banned = new Set<GatherSource>();
  readonly #stalls: Stalls<GatherSource>;
  /** By source: bytes on the wire that have been counted. */
  readonly #countedBytes = new Map<GatherSource, number>();
  /** By question: who could not answer it. */
  readonly #failed = new Map<string, Map<GatherSource, unknown>>();
  readonly liars: Liar[] = [];

  constructor(world: World, all: readonly GatherSource[], stall_ms: number | undefined) {
    this.#world = world;
    this.#all = all;
    this.#stalls = new Stalls(stall_ms ?? STALL_MS);
  }

  /**
   * Who may be asked: who stalled least often first, of those who stalled equally often whose turn it is,
   * else the best by room delta. The first source of all, the one that answers for the component, is asked
   * for blobs even when it lied.
   */
  usable(question: Question, rawBytes = SMALL_BYTES): GatherSource[] {
    const failed = this.#failed.get(keyOf(question));
    const [main] = this.#all;
    const mayLie = (source: GatherSource): boolean => question.kind === "blob" && source === main;
    const usable = this.#all.filter(
      (source) =>
        source.holds(question.component) &&
        failed?.has(source) !== true &&
        (!this.#banned.has(source) || mayLie(source)),
    );
    const order = rankHolders(
      usable.map(({ holder }) => holder),
      rawBytes,
    );
    const rank = (source: GatherSource): number =>
      (this.#banned.has(source) ? LIE_STALLS : 0) + this.#stalls.count(source);
    return usable.toSorted(
      (a, b) =>
        rank(a) - rank(b) ||
        this.#stalls.turn(a) - this.#stalls.turn(b) ||
        order.indexOf(a.holder) - order.indexOf(b.holder),
    );
  }

  isStalled(source: GatherSource): boolean {
    return this.#stalls.count(source) > 0;
  }

  ban(source: GatherSource, question: Question, error: unknown): void {
    const { cloud } = source.holder;
    const { component } = question;
    this.#note(source, question, error);
    if (this.#banned.has(source)) return;
    this.#banned.add(source);
    this.liars.push({ cloud, component, error: reportOf(error) });
    const message = "a cloud sent what does not match its digest; it is not asked again";
    this.#world.log.log("warn", message, { code: "transfer.source-lied", cloud, component });
  }

  /** Keeps why a source could not answer, and does not ask it that again. */
  fail(source: GatherSource, question: Question, error: unknown): void {
    if (isLie(error)) return this.ban(source, question, error);
    // It may be asked again; `ask` has counted it.
    if (hasCode(error, "transfer.stalled")) return;
    this.#note(source, question, error);
    const { component } = question;
    const fields = { cloud: source.holder.cloud, component, error: reportOf(error) };
    this.#world.log.log("warn", "a source failed", fields);
  }

  #note(source: GatherSource, question: Question, error: unknown): void {
    const key = keyOf(question);
    const failed = this.#failed.get(key) ?? new Map<GatherSource, unknown>();
    this.#failed.set(key, failed.set(source, error));
  }

  /** True when asking another way may help: somebody answered, but not what was asked. */
  wasMisled(question: Question): boolean {
    const codes = ["transfer.protocol-violation", "transfer.incomplete"];
    const failed = [...(this.#failed.get(keyOf(question))?.values() ?? [])];
    return failed.some((error) => isLie(error) || codes.some((code) => hasCode(error, code)));
  }

  /** True when everybody who was asked answered that it is not offered. */
  wasRefused(question: Question): boolean {
    const failed = [...(this.#failed.get(keyOf(question))?.values() ?? [])];
    return failed.every((error) => hasCode(error, "transfer.not-offered"));
  }

  /** The error when nobody is left. */
  exhausted(question: Question): TesseraError {
    const failed = [...(this.#failed.get(keyOf(question)) ?? [])];
    const causes = failed.map(([{ holder }, error]) => `${holder.cloud}: ${reportOf(error).code}`);
    const reasons = causes.length === 0 ? "no cloud offers it" : causes.join(", ");
    const [only] = failed;
    if (failed.length === 1 && only?.[1] instanceof TesseraError) return only[1];
    return peerError("no-source", `no source is left for a component (${reasons})`, {
      subject: question.component,
      remedy: "try again when a cloud that holds it is reachable",
      cause: new AggregateError(failed.map(([, error]) => error)),
    });
  }

  /**
   * Asks one source. It is given up as stalled when nothing comes for long and another source
   * is better then.
   */
  async ask<T>(
    source: GatherSource,
    question: Question,
    work: (asked: Asked) => Promise<T>,
  ): Promise<T> {
    const gate = this.#gates.get(source) ?? new Slots(REQUESTS_MAX);
    this.#gates.set(source, gate);
    return await gate.run(async () => {
      question.signal.throwIfAborted();
      const receiver = this.#open(source);
      const given = new AbortController();
      const stalls = this.#stalls.count(source);
      const stop = this.#watch(source, question, receiver, given);
      try {
        const signal = AbortSignal.any([question.signal, given.signal]);
        const result = await work({ source, receiver, signal });
        this.#stalls.clear(source);
        return result;
      } catch (error) {
        const byItself = hasCode(error, "transfer.stalled") && !given.signal.aborted;
        if (byItself) this.#stalls.add(source, stalls);
        throw error;
      } finally {
        stop();
      }
    });
  }

  /** Asks one source after the other until one answers. @throws `transfer.no-source` */
  async first<T>(question: Question, work: (asked: Asked) => Promise<T>): Promise<T> {
    for (;;) {
      const [source] = this.usable(question);
      if (source === undefined) throw this.exhausted(question);
      try {
        return await this.ask(source, question, work);
      } catch (error) {
        question.signal.throwIfAborted();
        if (!isSourceFault(error)) throw error;
        this.fail(source, question, error);
      }
    }
  }

  /** Bytes that crossed the wire to a source since the last call. */
  takeWireBytes(source: GatherSource): number {
    const counted = this.#countedBytes.get(source);
    if (counted === undefined) return 0;
    const bytes = source.open().wireBytes();
    this.#countedBytes.set(source, bytes);
    return bytes - counted;
  }

  #open(source: GatherSource): DataReceiver {
    const receiver = source.open();
    if (!this.#countedBytes.has(source)) this.#countedBytes.set(source, receiver.wireBytes());
    return receiver;
  }

  #watch(
    source: GatherSource,
    question: Question,
    receiver: DataReceiver,
    given: AbortController,
  ): () => void {
    const { clock } = this.#world;
    let cancel: (() => void) | undefined;
    const wait = (): void => {
      const begin = { stalls: this.#stalls.count(source), bytes: receiver.wireBytes() };
      const period_ms = this.#stalls.period_ms(source);
      cancel = clock.after(period_ms, () => {
        const movedBytes = receiver.wireBytes() - begin.bytes;
        if (isMoving(movedBytes, period_ms)) this.#stalls.clear(source);
        else this.#stalls.add(source, begin.stalls);
        const [best] = this.usable(question);
        if (!this.isStalled(source) || best === undefined || best === source) return wait();
        const message = `${source.holder.cloud} sent nothing for ${period_ms} ms`;
        given.abort(peerError("stalled", message, { subject: question.component }));
      });
    };
    wait();
    return () => cancel?.();
  }
}
