/** Fetching contents from several sources side by side. */
import type { Digest, World } from "#core";
import type { ContentPiece } from "../contract.ts";
import { peerError } from "../errors.ts";
import { Intake, type Building } from "./arrivals.ts";
import type { Checkpoints } from "./checkpoints.ts";
import type { GatherSource } from "./contract.ts";
import { ShareQueue } from "./shares.ts";
import { isSourceFault, type Question, type Sources } from "./sources.ts";
import type { Tally } from "./tally.ts";

/** Raw bytes from which on a second source is worth its recipe. */
const JOIN_BYTES_MIN = 8 * 2 ** 20;
/** A share that would take so much longer is taken from its source when another has nothing. */
const STEAL_MS = 10_000;
/** Where nothing is known: 100 Mbit/s. */
const RATE_UNKNOWN = 12_500_000;

export interface CrewJob {
  readonly world: World;
  readonly building: Building;
  readonly sources: Sources;
  readonly question: Question;
  readonly tally: Tally;
  readonly checkpoints: Checkpoints;
  /**
   * The bases that a source accepts for this recipe; undefined when it has another recipe.
   * @throws as a request
   */
  readonly agree: (source: GatherSource) => Promise<readonly Digest[] | undefined>;
  /** True when it is known to have another recipe. */
  readonly disagrees: (source: GatherSource) => boolean;
}

interface Share {
  readonly source: GatherSource;
  readonly contents: readonly number[];
  readonly begin_ms: number;
  readonly stop: AbortController;
  cameBytes: number;
  readonly ended: Promise<void>;
}

export class Crew {
  readonly #job: CrewJob;
  readonly #queue: ShareQueue<GatherSource>;
  readonly #rates = new Map<GatherSource, number>();
  readonly #working = new Map<GatherSource, Promise<void>>();
  readonly #shares = new Set<Share>();
  readonly #halt = new AbortController();
  #failure: { readonly error: unknown } | undefined;

  constructor(job: CrewJob, contents: readonly number[]) {
    this.#job = job;
    const { recipe } = job.building;
    this.#queue = new ShareQueue(contents, (content) => recipe.contents[content]?.sizeBytes ?? 0);
  }

  /** @throws `transfer.no-source`; what the image's writing throws; the signal's reason */
  async fetch(): Promise<void> {
    try {
      while (this.#queue.openBytes > 0 || this.#working.size > 0) {
        this.#employ();
        await Promise.race(this.#working.values());
        if (this.#failure !== undefined) throw this.#failure.error;
      }
    } finally {
      this.#halt.abort(new Error("the fetch has ended"));
      await Promise.all(this.#working.values());
    }
  }

  /** Sets sources to work: one, or all when there is enough to do. */
  #employ(): void {
    if (this.#queue.openBytes === 0) return;
    const { sources, question, disagrees } = this.#job;
    const usable = sources.usable(question).filter((source) => !disagrees(source));
    const many = this.#queue.openBytes >= JOIN_BYTES_MIN;
    const busy = this.#working.size > 0;
    const idle = usable.filter((source) => !this.#working.has(source));
    const hired = many ? idle : idle.slice(0, busy ? 0 : 1);
    if (hired.length === 0 && !busy) throw sources.exhausted(question);
    for (const source of hired) {
      this.#rates.set(source, (source.holder.bitsPerSecond ?? RATE_UNKNOWN * 8) / 8);
    }
    for (const source of hired) this.#hire(source);
  }

  #hire(source: GatherSource): void {
    const work = this.#work(source)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#working.delete(source);
        this.#rates.delete(source);
      });
    this.#working.set(source, work);
  }

  /** Works off shares until nothing is left or the source fails. */
  async #work(source: GatherSource): Promise<void> {
    const { sources, question } = this.#job;
    try {
      const bases = await this.#job.agree(source);
      if (bases === undefined) return;
      while (!this.#halt.signal.aborted) {
        const contents = this.#queue.take(source, this.#rates);
        if (contents.length > 0) await this.#fetchShare(source, bases, contents);
        else if (!(await this.#steal(source))) return;
      }
    } catch (error) {
      if (this.#halt.signal.aborted) return;
      question.signal.throwIfAborted();
      if (!isSourceFault(error)) throw error;
      sources.fail(source, question, error);
    }
  }

  async #fetchShare(
    source: GatherSource,
    bases: readonly Digest[],
    contents: readonly number[],
  ): Promise<void> {
    const { world, building } = this.#job;
    const stop = new AbortController();
    const ended = Promise.withResolvers<void>();
    const begin_ms = world.clock.monotonic();
    const share: Share = {
      source,
      contents,
      begin_ms,
      stop,
      cameBytes: 0,
      ended: ended.promise,
    };
    this.#shares.add(share);
    try {
      await this.#request(share, bases);
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    } finally {
      this.#shares.delete(share);
      this.#queue.giveBack(contents.filter((content) => building.whole[content] === 0));
      this.#measure(share);
      ended.resolve();
    }
  }

  async #request(share: Share, bases: readonly Digest[]): Promise<void> {
    const { building, sources, question, tally } = this.#job;
    const { component, recipe, whole } = building;
    const { source, contents, stop } = share;
    const wanted = { component, recipe, bases, wanted: contents };
    const take = this.#taker(share);
    const signals = [question.signal, this.#halt.signal, stop.signal];
    const asked = { ...question, signal: AbortSignal.any(signals) };
    await sources.ask(source, asked, async ({ receiver, signal }) => {
      try {
        await receiver.fetchContents(wanted, take, signal);
      } finally {
        tally.wire(source);
      }
    });
    if (contents.every((content) => whole[content] === 1)) return;
    throw peerError("incomplete", `${source.holder.cloud} left out contents that were asked for`, {
      subject: component,
    });
  }

  #taker(share: Share): (piece: ContentPiece) => Promise<void> {
    const { building, tally, checkpoints } = this.#job;
    const intake = new Intake(building, new Set(share.contents));
    return async (piece) => {
      await intake.take(piece);
      const { length } = piece.bytes;
      share.cameBytes += length;
      tally.came(share.source, length, piece.patched);
      await checkpoints.count(length);
    };
  }

  #measure({ source, begin_ms, cameBytes }: Share): void {
    const took_ms = this.#job.world.clock.monotonic() - begin_ms;
    if (took_ms > 0 && cameBytes > 0 && this.#rates.has(source)) {
      this.#rates.set(source, (cameBytes / took_ms) * 1000);
    }
  }

  /**
   * Makes the slowest source give up what it has not sent, when that would take long; true when
   * there is something to take again.
   */
  async #steal(thief: GatherSource): Promise<boolean> {
    const victim = [...this.#shares].find(
      (share) => share.source !== thief && this.#left_ms(share) > STEAL_MS,
    );
    if (victim === undefined) return this.#queue.openBytes > 0;
    victim.stop.abort(new Error("another source goes on with this share"));
    await victim.ended;
    return true;
  }

  #left_ms({ begin_ms, cameBytes, contents, source }: Share): number {
    const { recipe } = this.#job.building;
    let allBytes = 0;
    for (const content of contents) allBytes += recipe.contents[content]?.sizeBytes ?? 0;
    const took_ms = this.#job.world.clock.monotonic() - begin_ms;
    const known = (this.#rates.get(source) ?? RATE_UNKNOWN) / 1000;
    const rate = cameBytes > 0 && took_ms > 0 ? cameBytes / took_ms : known;
    return (allBytes - cameBytes) / rate;
  }
}
