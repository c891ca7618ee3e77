/** Reads a user data block from a machine that runs, pass after pass, until the switch pays. */
import { hash } from "node:crypto";
import { BLOCK_BYTES, isZero, type BlockDevice } from "#block";
import {
  endOf,
  subtractRanges,
  totalLength,
  type ByteRange,
  type Clock,
  type StorageMethod,
} from "#core";
import type { RemoteBlocks } from "#transfer";
import { nextStep } from "#userdata";
import { PASSES_MAX, passMap } from "./source-data.ts";

/** Of one read, and of all that are on their way. */
const READ_BYTES = 256 * 1024;
const READERS = 32;
/** Of an earlier copy: what is compared is as much as a disk notes as written. */
const COMPARED_BYTES = BLOCK_BYTES;
const COMPARERS = 128;
/** How many passes are allowed, each time that it is seen whether the switch pays. */
const PASSES: Readonly<Record<StorageMethod, number>> = {
  hybrid: 3,
  push: 39,
  pull: 0,
  shared: 0,
};
/** What a push leaves to the pause, in seconds of the link. */
const PUSH_SECONDS = 0.1;
/** Before a chosen time: what is left of it is halved by each pause, so that the last ones are short. */
const REST_MS_MIN = 10_000;
/** Timers take no more than 24 days. */
const REST_MS_MAX = 20 * 86_400_000;

export interface CopyAheadParts {
  readonly clock: Clock;
  readonly method: StorageMethod;
  readonly local: BlockDevice;
  /** It holds an earlier copy: what is the same at the source need not travel. */
  readonly earlier: boolean;
  remote(): Pick<RemoteBlocks, "fetch" | "fetchUnless">;
  /** Until the switch may come; 0 or less: it may. */
  wait_ms(): number;
  fetchMap(name: string, signal: AbortSignal): Promise<readonly ByteRange[]>;
  progress(doneBytes: number, totalBytes: number): void;
}

/** Keeps what it has done, so that it goes on after a failure. */
export class CopyAhead {
  readonly #parts: CopyAheadParts;
  /** Passes that have ended. */
  passes = 0;
  /** What has travelled. */
  bytes = 0;
  #doneBytes = 0;
  /** Of the pass under way: what has not come. */
  #left: ByteRange[] = [];
  /** Since it was last seen that the switch pays. */
  #round = 0;
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

  /**
   * Resolves when the switch pays, and may come; what is written before that is read from time to time.
   *
   * @throws the signal's reason; what the source says
   */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, method } = this.#parts;
    if (PASSES[method] === 0) {
      await untilZero(() => this.#parts.wait_ms(), clock, signal);
      return;
    }
    if (!this.#known) await this.#beginFirst(signal);
    for (;;) {
      await this.#passes(signal);
      const wait_ms = this.#parts.wait_ms();
      if (wait_ms <= 0) return;
      await clock.sleep(restBefore(wait_ms), signal);
    }
  }

  async #passes(signal: AbortSignal): Promise<void> {
    this.#round = 0;
    while (this.passes + 2 <= PASSES_MAX) {
      await this.#pass(signal);
      const written = await this.#parts.fetchMap(passMap(this.passes + 2), signal);
      const another = this.#isWorthIt(totalLength(written));
      this.passes += 1;
      this.#round += 1;
      this.#begin(written);
      if (!another) return;
    }
  }

  /** What the source has not written is zero, whatever an earlier copy says. */
  async #beginFirst(signal: AbortSignal): Promise<void> {
    const { local, earlier } = this.#parts;
    const written = await this.#parts.fetchMap(passMap(1), signal);
    if (earlier) {
      for (const range of subtractRanges(await local.allocated(), written)) await local.zero(range);
    }
    this.#begin(written);
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
      pass: this.#round + 1,
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
    const workers = this.#compares ? COMPARERS : READERS;
    const all = await Promise.allSettled(Array.from({ length: workers }, work));
    signal.throwIfAborted();
    const first = all.find((result) => result.status === "rejected");
    if (first !== undefined) throw failed.signal.reason;
  }

  /** Later passes are of what has been written: that is hardly as it was. */
  get #compares(): boolean {
    return this.#parts.earlier && this.passes === 0;
  }

  #take(): ByteRange | undefined {
    const first = this.#left[0];
    if (first === undefined) return undefined;
    const { offset } = first;
    const length = Math.min(this.#compares ? COMPARED_BYTES : READ_BYTES, first.length);
    if (length === first.length) this.#left.shift();
    else this.#left[0] = { offset: offset + length, length: endOf(first) - offset - length };
    return { offset, length };
  }

  async #copy(range: ByteRange, signal: AbortSignal): Promise<void> {
    const { local } = this.#parts;
    const bytes = await this.#fetch(range, signal);
    if (bytes === undefined || (bytes !== "same" && isZero(bytes))) await local.zero(range);
    else if (bytes !== "same") await local.write(bytes, range.offset);
    if (bytes !== "same") this.bytes += range.length;
    this.#doneBytes += range.length;
    this.#parts.progress(this.#doneBytes, this.#doneBytes + totalLength(this.#left));
  }

  async #fetch(range: ByteRange, signal: AbortSignal): Promise<Uint8Array | "same" | undefined> {
    const remote = this.#parts.remote();
    if (!this.#compares) return await remote.fetch(range, "background", signal);
    const here = Buffer.allocUnsafe(range.length);
    await this.#parts.local.read(here, range.offset);
    if (isZero(here)) return await remote.fetch(range, "background", signal);
    return await remote.fetchUnless(range, hash("sha256", here, "buffer"), "background", signal);
  }
}

/** Waits for a chosen time. @param wait_ms what is left until it */
export async function untilZero(
  wait_ms: () => number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  for (let left = wait_ms(); left > 0; left = wait_ms()) {
    await clock.sleep(Math.min(left, REST_MS_MAX), signal);
  }
}

/** Half of what is left, but no pause so short that passes follow each other for nothing. */
export function restBefore(wait_ms: number): number {
  return Math.min(wait_ms, Math.max(REST_MS_MIN, wait_ms / 2), REST_MS_MAX);
}
