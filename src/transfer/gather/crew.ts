/** Fetching contents from several sources side by side. */
import type { Digest, World } from "#core";
import { createShares, worthwhileHolders, type ShareJob, type Shares } from "#delta";
import type { ContentPiece } from "../contract.ts";
import { peerError } from "../errors.ts";
import { Intake, readerOf, type Building } from "./arrivals.ts";
import type { Checkpoints } from "./checkpoints.ts";
import type { GatherSource } from "./contract.ts";
import { isSourceFault, type Question, type Sources } from "./sources.ts";
import type { Tally } from "./tally.ts";

/** Raw bytes from which on a second source is worth its recipe. */
const JOIN_BYTES_MIN = 8 * 2 ** 20;
/** A share that would take so much longer is taken from its source when another has nothing. */
const STEAL_MS = 10_000;
/** How often a source without work looks whether there is some. */
const LOOK_MS = 1_000;

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

/** A job while a source works on it. */
interface Share {
  readonly job: ShareJob;
  readonly source: GatherSource;
  /** In the recipe. */
  readonly contents: readonly number[];
  readonly begin_ms: number;
  readonly stop: AbortController;
  cameBytes: number;
  readonly ended: Promise<void>;
}

/** Fetches contents: in rounds, each with the sources that can be asked when it begins. */
export class Crew {
  readonly #job: CrewJob;
  #open: readonly number[];
  readonly #halt = new AbortController();

  constructor(job: CrewJob, contents: readonly number[]) {
    this.#job = job;
    this.#open = contents;
  }

  /** @throws `transfer.no-source`; what the image's writing throws; the signal's reason */
  async fetch(): Promise<void> {
    const { building } = this.#job;
    while (this.#open.length > 0) {
      const round = new Round(this.#job, this.#open, this.#chosen(), this.#halt);
      await round.run();
      this.#open = this.#open.filter((content) => building.whole[content] === 0);
    }
  }

  /** One source where there is little to do, else as many as make it clearly faster. */
  #chosen(): GatherSource[] {
    const { sources, question, disagrees, building } = this.#job;
    const bytes = bytesOf(building, this.#open);
    const usable = sources.usable(question, bytes).filter((source) => !disagrees(source));
    const [best] = usable;
    if (best === undefined) throw sources.exhausted(question);
    if (bytes < JOIN_BYTES_MIN || sources.isStalled(best)) return [best];
    const moving = usable.filter((source) => !sources.isStalled(source));
    const worth = worthwhileHolders(
      moving.map(({ holder }) => holder),
      bytes,
    );
    return moving.filter(({ holder }) => worth.includes(holder));
  }
}

function bytesOf({ recipe }: Building, contents: readonly number[]): number {
  return contents.reduce((sum, content) => sum + (recipe.contents[content]?.sizeBytes ?? 0), 0);
}

class Round {
  readonly #job: CrewJob;
  readonly #contents: readonly number[];
  readonly #crew: readonly GatherSource[];
  readonly #halt: AbortController;
  readonly #queue: Shares;
  readonly #shares = new Set<Share>();
  #change = Promise.withResolvers<void>();
  #failure: { readonly error: unknown } | undefined;

  constructor(
    job: CrewJob,
    contents: readonly number[],
    crew: readonly GatherSource[],
    halt: AbortController,
  ) {
    this.#job = job;
    this.#contents = contents;
    this.#crew = crew;
    this.#halt = halt;
    const { recipe } = job.building;
    const sizes = contents.map((content) => recipe.contents[content]?.sizeBytes ?? 0);
    this.#queue = createShares(
      sizes,
      crew.map(({ holder: { cloud, bitsPerSecond } }) =>
        bitsPerSecond === undefined ? { name: cloud } : { name: cloud, bitsPerSecond },
      ),
    );
  }

  /** Returns when everything has come, or nobody of the crew is left. */
  async run(): Promise<void> {
    await Promise.all(this.#crew.map((source) => this.#guarded(source)));
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #guarded(source: GatherSource): Promise<void> {
    try {
      await this.#work(source);
    } catch (error) {
      this.#failure ??= { error };
      this.#halt.abort(new Error("the fetch has failed"));
    }
    // Who leaves, for whatever reason, gets nothing more.
    this.#queue.ban(source.holder.cloud);
    this.#changed();
  }

  #changed(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }

  /** Works off jobs until nothing is left or the source fails. */
  async #work(source: GatherSource): Promise<void> {
    const { sources, question } = this.#job;
    try {
      const bases = await this.#job.agree(source);
      if (bases === undefined) return;
      while (this.#queue.state() === "working" && !this.#halt.signal.aborted) {
        const job = this.#queue.next(source.holder.cloud);
        if (job !== undefined) await this.#fetchShare(source, bases, job);
        else if (!(await this.#steal(source))) await this.#wait();
      }
    } catch (error) {
      if (this.#halt.signal.aborted) return;
      question.signal.throwIfAborted();
      if (!isSourceFault(error)) throw error;
      sources.fail(source, question, error);
    }
  }

  async #wait(): Promise<void> {
    const { clock } = this.#job.world;
    const look = Promise.withResolvers<void>();
    const cancel = clock.after(LOOK_MS, () => look.resolve());
    await Promise.race([this.#change.promise, look.promise]);
    cancel();
  }

  async #fetchShare(source: GatherSource, bases: readonly Digest[], job: ShareJob): Promise<void> {
    const contents = job.contents.map((position) => this.#contents[position] ?? 0);
    const stop = new AbortController();
    const ended = Promise.withResolvers<void>();
    const begin_ms = this.#job.world.clock.monotonic();
    const promise = ended.promise;
    const share: Share = { job, source, contents, begin_ms, stop, cameBytes: 0, ended: promise };
    this.#shares.add(share);
    try {
      await this.#request(share, bases);
      this.#end(share);
    } catch (error) {
      if (!stop.signal.aborted) {
        this.#queue.failed(job, this.#missing(share));
        throw error;
      }
      this.#end(share);
    } finally {
      this.#shares.delete(share);
      this.#changed();
      ended.resolve();
    }
  }

  /** Gives back what did not come; the rate is that of what came. */
  #end(share: Share): void {
    const { job, begin_ms, cameBytes } = share;
    const took_ms = this.#job.world.clock.monotonic() - begin_ms;
    const whole_ms = cameBytes > 0 ? (took_ms * job.rawBytes) / cameBytes : undefined;
    this.#queue.done(job, whole_ms, this.#missing(share));
  }

  /** Positions of what is not whole. */
  #missing({ job, contents }: Share): number[] {
    const { whole } = this.#job.building;
    return job.contents.filter((_, index) => whole[contents[index] ?? -1] !== 1);
  }

  async #request(share: Share, bases: readonly Digest[]): Promise<void> {
    const { building, sources, question, tally } = this.#job;
    const { component, recipe, whole } = building;
    const { source, contents, stop } = share;
    const intake = new Intake(building, new Set(contents), source);
    const wanted = {
      component,
      recipe,
      bases,
      wanted: contents,
      held: intake.held,
      own: readerOf(building),
    };
    const take = this.#taker(share, intake);
    const signals = [question.signal, this.#halt.signal, stop.signal];
    const asked = { ...question, signal: AbortSignal.any(signals) };
    await sources.ask(source, asked, async ({ receiver, signal }) => {
      try {
        await receiver.fetchContents(wanted, take, signal);
      } finally {
        tally.wire(source);
      }
    });
    if (contents.every((content) => whole[content] === 1 || intake.unsound.has(content))) return;
    throw peerError("incomplete", `${source.holder.cloud} left out contents that were asked for`, {
      subject: component,
    });
  }

  #taker(share: Share, intake: Intake): (piece: ContentPiece) => Promise<void> {
    const { tally, checkpoints } = this.#job;
    return async (piece) => {
      await intake.take(piece);
      const { length } = piece.bytes;
      share.cameBytes += length;
      const wireBytes = tally.came(share.source, length, piece.patched);
      await checkpoints.count(length, wireBytes);
    };
  }

  /**
   * Makes the slowest source give up what it has not sent, when that would take long; true when
   * there may be something to take again.
   */
  async #steal(thief: GatherSource): Promise<boolean> {
    const victim = [...this.#shares].find(
      (share) => share.source !== thief && this.#left_ms(share) > STEAL_MS,
    );
    if (victim === undefined || victim.stop.signal.aborted) return false;
    victim.stop.abort(new Error("another source goes on with this share"));
    await victim.ended;
    return true;
  }

  /** As far as it can be told: nothing is known before something came. */
  #left_ms({ begin_ms, cameBytes, job }: Share): number {
    const took_ms = this.#job.world.clock.monotonic() - begin_ms;
    if (cameBytes === 0) return took_ms > STEAL_MS ? Number.POSITIVE_INFINITY : 0;
    return ((job.rawBytes - cameBytes) * took_ms) / cameBytes;
  }
}
