/**
 * The guest's ticks as they come out of its console at either side. The largest gap between two of
 * them is the pause as it is felt; the guest's own clock stands still in it and cannot tell.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const POLL_MS = 2;
const BYTES_MAX = 2 ** 20;

/** One console, which may not be there yet, or be made anew. */
class Console {
  readonly #path: string;
  #at: number;

  constructor(path: string) {
    this.#path = path;
    this.#at = sizeOf(path);
  }

  /** What came since the last call. */
  read(): string {
    const file = tryOpen(this.#path);
    if (file === undefined) return "";
    try {
      const size = fstatSync(file).size;
      if (size < this.#at) this.#at = 0;
      if (size === this.#at) return "";
      const buffer = Buffer.alloc(Math.min(BYTES_MAX, size - this.#at));
      this.#at += readSync(file, buffer, 0, buffer.length, this.#at);
      return buffer.toString("latin1");
    } finally {
      closeSync(file);
    }
  }
}

function tryOpen(path: string): number | undefined {
  try {
    return openSync(path, "r");
  } catch {
    return undefined;
  }
}

function sizeOf(path: string): number {
  const file = tryOpen(path);
  if (file === undefined) return 0;
  const { size } = fstatSync(file);
  closeSync(file);
  return size;
}

interface Tick {
  readonly number: number;
  readonly at_ms: number;
}

export interface Felt {
  /** The largest time between two ticks. */
  readonly gap_ms: number;
  /** How many ticks came where one was due. */
  readonly tickShare: number;
}

/** Watches from the moment that it is made. */
export class Ticks {
  readonly #consoles: readonly Console[];
  readonly #timer: NodeJS.Timeout;
  readonly #seen: Tick[] = [];
  readonly #words: string[] = [];
  /** A line that has not ended: its end may come out of the other console. */
  #rest = "";

  constructor(paths: readonly string[]) {
    this.#consoles = paths.map((path) => new Console(path));
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
  }

  #poll(): void {
    const at_ms = performance.now();
    for (const console of this.#consoles) {
      const text = console.read();
      if (text === "") continue;
      const lines = `${this.#rest}${text}`.split("\n");
      this.#rest = lines.pop() ?? "";
      for (const line of lines) this.#note(line.trimEnd(), at_ms);
    }
  }

  #note(line: string, at_ms: number): void {
    const number = /^tick (\d+)/.exec(line)?.[1];
    if (number !== undefined) this.#seen.push({ number: Number(number), at_ms });
    else this.#words.push(line);
  }

  /** Returns when the guest has said so. @throws when it does not within the time */
  async said(words: string, timeout_ms: number): Promise<void> {
    const deadline = performance.now() + timeout_ms;
    while (!this.#words.some((line) => line.includes(words))) {
      if (performance.now() > deadline) {
        throw new Error(`the guest does not say "${words}": ${this.#words.slice(-10).join("\n")}`);
      }
      await sleep(50);
    }
  }

  /** Between two moments; the gaps that reach into it count. @param period_ms of the guest's ticks */
  between(from_ms: number, to_ms: number, period_ms: number): Felt {
    let gap_ms = 0;
    let inside = 0;
    for (const [index, { at_ms }] of this.#seen.entries()) {
      if (at_ms < from_ms) continue;
      const before = this.#seen[index - 1]?.at_ms ?? at_ms;
      if (before > to_ms) break;
      gap_ms = Math.max(gap_ms, at_ms - before);
      if (at_ms <= to_ms) inside += 1;
    }
    return { gap_ms, tickShare: (inside * period_ms) / (to_ms - from_ms) };
  }

  /** No tick came twice or was left out: it is one guest that went on. */
  get isWhole(): boolean {
    return this.#seen.every(({ number }, index) => {
      const before = this.#seen[index - 1]?.number;
      return before === undefined || number === before + 1;
    });
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
