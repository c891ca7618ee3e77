/** Reads a user data block from a machine that runs, pass after pass, until the switch pays. */
import { isZero, type BlockDevice } from "#block";
import { endOf, totalLength, type ByteRange, type Clock, type StorageMethod } from "#core";
import { nextStep, type RemoteReader } from "#userdata";
import { PASSES_MAX, passMap } from "./source-data.ts";

/** Of one read, and of all that are on their way. */
const READ_BYTES = 256 * 1024;
const READERS = 32;
/** How many passes are allowed. */
const PASSES: Readonly<Record<StorageMethod, number>> = {
  hybrid: 3,
  push: PASSES_MAX - 1,
  pull: 0,
};
/** What a push leaves to the pause, in seconds of the link. */
const PUSH_SECONDS = 0.1;

export interface CopyAheadParts {
  readonly clock: Clock;
  readonly method: StorageMethod;
  readonly local: BlockDevice;
  remote(): RemoteReader;
  fetchMap(name: string, signal: AbortSignal): Promise<readonly ByteRange[]>;
  progress(doneBytes: number, totalBytes: number): void;
}

/** Keeps what it has done, so that it goes on after a failure. */
export class CopyAhead {
  readonly #parts: CopyAheadParts;
  /** Passes that have ended. */
  passes = 0;
  bytes = 0;
  /** Of the pass under way: what has not come. */
  #left: ByteRange[] = [];
  #passBytes = 0;
  #began_ms = 0;
  #known = false;

  constructor(parts: CopyAheadParts) {
    this.#parts = parts;
  }

  /** What is known not to be here, and will not change but for what the machine writes. */
  get rest(): readonly ByteRange[] {
    return this.#left;
  }

  /** Resolves when the switch pays. @throws the signal's reason; what the source says */
  async run(signal: AbortSignal): Promise<void> {
    if (PASSES[this.#parts.method] === 0) return;
    if (!this.#known) this.#begin(await this.#parts.fetchMap(passMap(1), signal));
    for (;;) {
      await this.#pass(signal);
      const written = await this.#parts.fetchMap(passMap(this.passes + 2), signal);
      const another = this.#isWorthIt(totalLength(written));
      this.passes += 1;
      this.#begin(written);
      if (!another) return;
    }
  }

  #begin(ranges: readonly ByteRange[]): void {
    this.#known = true;
    this.#left = [...ranges];
    this.#passBytes = totalLength(ranges);
    this.#began_ms = this.#parts.clock.monotonic();
  }

  #isWorthIt(dirtyBytes: number): boolean {
    const { clock, method } = this.#parts;
    const seconds = Math.max(1, clock.monotonic() - this.#began_ms) / 1000;
    const { step } = nextStep({
      pass: this.passes + 1,
      dirtyBytes,
      formerDirtyBytes: this.#passBytes,
      dirtyBytesPerSecond: dirtyBytes / seconds,
      linkBytesPerSecond: this.#passBytes / seconds,
      passesMax: PASSES[method],
      ...(method === "push" ? { pullSecondsMax: PUSH_SECONDS } : {}),
    });
    return step === "pass";
  }

  /** Several reads at a time; what fails is put back. */
  async #pass(signal: AbortSignal): Promise<void> {
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    const work = async (): Promise<void> => {
      for (let next = this.#take(); next !== undefined; next = this.#take()) {
        try {
          either.throwIfAborted();
          await this.#copy(next, either);
        } catch (cause) {
          this.#left.push(next);
          failed.abort(cause);
          throw cause;
        }
      }
    };
    const all = await Promise.allSettled(Array.from({ length: READERS }, work));
    signal.throwIfAborted();
    const first = all.find((result) => result.status === "rejected");
    if (first !== undefined) throw failed.signal.reason;
  }

  #take(): ByteRange | undefined {
    const first = this.#left[0];
    if (first === undefined) return undefined;
    const { offset } = first;
    const length = Math.min(READ_BYTES, first.length);
    if (length === first.length) this.#left.shift();
    else this.#left[0] = { offset: offset + length, length: endOf(first) - offset - length };
    return { offset, length };
  }

  async #copy(range: ByteRange, signal: AbortSignal): Promise<void> {
    const { local } = this.#parts;
    const bytes = await this.#parts.remote().fetch(range, "background", signal);
    if (bytes === undefined || isZero(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))) {
      await local.zero(range);
    } else await local.write(bytes, range.offset);
    this.bytes += range.length;
    this.#parts.progress(this.bytes, this.bytes + totalLength(this.#left));
  }
}
