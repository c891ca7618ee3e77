/** Most raw bytes of one job where several sources work side by side. */
export const JOB_BYTES_MAX = 32 * 2 ** 20;
/** Assumed of a source of which no rate is known. */
const UNKNOWN_BITS_PER_SECOND = 20e6;

/** Contents that one source is asked for at once. */
export interface ShareJob {
  readonly id: number;
  readonly source: string;
  /** Positions in the list of sizes, ascending. */
  readonly contents: readonly number[];
  readonly rawBytes: number;
}

export interface ShareSource {
  readonly name: string;
  readonly bitsPerSecond?: number;
}

/**
 * Divides contents among sources. The caller asks for a source's next job whenever that source is
 * idle and anything has changed; it reports each job's end. Not the least is handed out twice
 * unless it was taken back.
 */
export interface Shares {
  /** Undefined when there is nothing that this source should do now. */
  next(source: string): ShareJob | undefined;
  /**
   * @param elapsed_ms since the job was handed out, from which the source's rate follows
   * @param missing contents that did not come after all, which go to any source
   */
  done(job: ShareJob, elapsed_ms?: number, missing?: readonly number[]): void;
  /** Takes back what had not come; the source gets nothing more. */
  failed(job: ShareJob, missing?: readonly number[]): void;
  /** The source gets nothing more; contents of it that proved wrong go to others. */
  ban(source: string, wrong?: readonly number[]): void;
  /** Names of the sources that may still get jobs. */
  sources(): string[];
  /** `stuck`: contents remain, and no source. */
  state(): "working" | "finished" | "stuck";
}

interface Worker {
  readonly name: string;
  bitsPerSecond: number;
  readonly jobs: Map<number, ShareJob>;
  usable: boolean;
}

/**
 * @param sizes raw bytes of each content, above 0
 * @param sources distinct names, the best first
 */
export function createShares(
  sizes: readonly number[],
  sources: readonly ShareSource[],
  jobBytesMax = JOB_BYTES_MAX,
): Shares {
  return new SharesOfContents(sizes, sources, jobBytesMax);
}

class SharesOfContents implements Shares {
  readonly #sizes: readonly number[];
  readonly #jobBytesMax: number;
  readonly #workers: ReadonlyMap<string, Worker>;
  /** Not handed out, in descending order, so that the first is taken from the end. */
  #waiting: number[];
  /** Those that have come: only these count as done. */
  readonly #come: Set<number> = new Set();
  #waitingBytes: number;
  #count = 0;

  constructor(sizes: readonly number[], sources: readonly ShareSource[], jobBytesMax: number) {
    this.#sizes = sizes;
    this.#jobBytesMax = jobBytesMax;
    this.#waiting = Array.from(sizes.keys()).reverse();
    this.#waitingBytes = this.#bytesOf(this.#waiting);
    this.#workers = new Map(sources.map((source) => [source.name, workerOf(source)]));
  }

  next(source: string): ShareJob | undefined {
    const worker = this.#workers.get(source);
    if (worker?.usable !== true || this.#waiting.length === 0) return undefined;
    if (!this.#isSoonest(worker)) return undefined;
    const several = this.#usable().length > 1;
    const contents = this.#takeUpTo(several ? this.#jobBytesOf(worker) : Infinity);
    const rawBytes = this.#bytesOf(contents);
    this.#count += 1;
    const job = { id: this.#count, source, contents, rawBytes };
    worker.jobs.set(job.id, job);
    return job;
  }

  done(job: ShareJob, elapsed_ms?: number, missing: readonly number[] = []): void {
    const worker = this.#end(job);
    if (worker === undefined) return;
    this.#settle(job, missing);
    if (elapsed_ms === undefined || elapsed_ms <= 0) return;
    const measured = (job.rawBytes * 8_000) / elapsed_ms;
    worker.bitsPerSecond = (worker.bitsPerSecond + measured) / 2;
  }

  failed(job: ShareJob, missing: readonly number[] = job.contents): void {
    const worker = this.#end(job);
    if (worker === undefined) return;
    worker.usable = false;
    this.#settle(job, missing);
  }

  ban(source: string, wrong: readonly number[] = []): void {
    const worker = this.#workers.get(source);
    if (worker === undefined) return;
    worker.usable = false;
    const jobs = [...worker.jobs.values()];
    worker.jobs.clear();
    const back = jobs.flatMap((job) => job.contents);
    for (const content of wrong) if (this.#come.delete(content)) back.push(content);
    this.#putBack(back);
  }

  sources(): string[] {
    return this.#usable().map((worker) => worker.name);
  }

  state(): "working" | "finished" | "stuck" {
    if (this.#come.size === this.#sizes.length) return "finished";
    const busy = [...this.#workers.values()].some((worker) => worker.jobs.size > 0);
    return busy || this.#usable().length > 0 ? "working" : "stuck";
  }

  /** Ends a job once; undefined when it had ended before, or its source was banned meanwhile. */
  #end(job: ShareJob): Worker | undefined {
    const worker = this.#workers.get(job.source);
    return worker?.jobs.delete(job.id) === true ? worker : undefined;
  }

  #settle(job: ShareJob, missing: readonly number[]): void {
    const absent = new Set(missing);
    for (const content of job.contents) if (!absent.has(content)) this.#come.add(content);
    this.#putBack(job.contents.filter((content) => absent.has(content)));
  }

  #putBack(contents: readonly number[]): void {
    if (contents.length === 0) return;
    this.#waiting = [...this.#waiting, ...contents].sort((a, b) => b - a);
    this.#waitingBytes += this.#bytesOf(contents);
  }

  #takeUpTo(bytesMax: number): number[] {
    const taken: number[] = [];
    let bytes = 0;
    for (let content = this.#waiting.at(-1); content !== undefined;) {
      const size = this.#sizes[content] ?? 0;
      if (taken.length > 0 && bytes + size > bytesMax) break;
      taken.push(content);
      bytes += size;
      this.#waiting.pop();
      content = this.#waiting.at(-1);
    }
    this.#waitingBytes -= bytes;
    return taken;
  }

  /** Smaller jobs towards the end, so that all sources end at about the same time. */
  #jobBytesOf(worker: Worker): number {
    const rates = this.#usable().reduce((sum, other) => sum + other.bitsPerSecond, 0);
    const share = (this.#waitingBytes * worker.bitsPerSecond) / rates;
    return Math.min(this.#jobBytesMax, Math.max(2 ** 20, share));
  }

  /** False when a faster source, busy or not, would be done with what waits before this one. */
  #isSoonest(worker: Worker): boolean {
    const job = Math.min(this.#jobBytesOf(worker), this.#waitingBytes);
    const first = this.#sizes[this.#waiting.at(-1) ?? 0] ?? 0;
    const own_s = (Math.max(job, first) * 8) / worker.bitsPerSecond + backlog_s(worker);
    return !this.#usable().some((other) => {
      if (other === worker || other.bitsPerSecond <= worker.bitsPerSecond) return false;
      return backlog_s(other) + (this.#waitingBytes * 8) / other.bitsPerSecond < own_s;
    });
  }

  #usable(): Worker[] {
    return [...this.#workers.values()].filter((worker) => worker.usable);
  }

  #bytesOf(contents: readonly number[]): number {
    return contents.reduce((sum, content) => sum + (this.#sizes[content] ?? 0), 0);
  }
}

function workerOf(source: ShareSource): Worker {
  const rate = source.bitsPerSecond;
  const bitsPerSecond = rate === undefined || !(rate > 0) ? UNKNOWN_BITS_PER_SECOND : rate;
  return { name: source.name, bitsPerSecond, jobs: new Map(), usable: true };
}

/** Seconds that the jobs of a worker take. */
function backlog_s(worker: Worker): number {
  let bytes = 0;
  for (const job of worker.jobs.values()) bytes += job.rawBytes;
  return (bytes * 8) / worker.bitsPerSecond;
}
