import { FRAME_COST_BYTES } from "./protocol.ts";

/** Most bytes that are joined to one frame. */
const FRAME_BYTES_MAX = 256 * 1024;
/**
 * What is taken from the hypervisor ahead of the link: what the link carries in this time, within
 * bounds. A page that a guest waits for comes behind it, in the same stream.
 */
const AHEAD_ms = 20;
const AHEAD_BYTES_MIN = 64 * 1024;
const AHEAD_BYTES_MAX = 512 * 1024;

/** Undefined where the rate is not known. Pure. */
export function aheadBytes(bitsPerSecond: number | undefined): number {
  if (bitsPerSecond === undefined) return AHEAD_BYTES_MIN;
  const bytes = (bitsPerSecond / 8) * (AHEAD_ms / 1000);
  return Math.min(AHEAD_BYTES_MAX, Math.max(AHEAD_BYTES_MIN, bytes));
}

/**
 * Between the hypervisor and the link: what comes while the link is busy is joined, what comes while
 * it is idle leaves at once.
 */
export class Ahead {
  readonly #bytesMax: () => number;
  readonly #onNews: () => void;
  readonly #chunks: Uint8Array[] = [];
  #costBytes = 0;
  #isOver = false;
  #hasRoom = (): void => undefined;

  /** @param onNews called when there is something to take, or nothing more will come */
  constructor(bytesMax: () => number, onNews: () => void) {
    this.#bytesMax = bytesMax;
    this.#onNews = onNews;
  }

  /** All was taken, and nothing more will come. */
  get isOver(): boolean {
    return this.#isOver && this.#chunks.length === 0;
  }

  /** Resolves when more may be put, or nothing more is wanted. */
  async put(chunk: Uint8Array): Promise<void> {
    if (chunk.length === 0 || this.#isOver) return;
    this.#chunks.push(chunk);
    this.#costBytes += chunk.length + FRAME_COST_BYTES;
    this.#onNews();
    while (this.#costBytes >= this.#bytesMax() && !this.#isOver) {
      await new Promise<void>((resolve) => (this.#hasRoom = resolve));
    }
  }

  /** Nothing more will be put. */
  end(): void {
    this.#isOver = true;
    this.#hasRoom();
    this.#onNews();
  }

  /** What there is, as much as goes into one frame, as a piece of its own; undefined: nothing. */
  take(): Buffer | undefined {
    if (this.#chunks.length === 0) return undefined;
    const piece = Buffer.concat(this.#cut());
    this.#hasRoom();
    return piece;
  }

  #cut(): readonly Uint8Array[] {
    const parts: Uint8Array[] = [];
    for (let left = FRAME_BYTES_MAX; left > 0;) {
      const chunk = this.#chunks[0];
      if (chunk === undefined) break;
      const part = chunk.subarray(0, left);
      parts.push(part);
      left -= part.length;
      this.#costBytes -= part.length;
      if (part.length < chunk.length) this.#chunks[0] = chunk.subarray(part.length);
      else {
        this.#chunks.shift();
        this.#costBytes -= FRAME_COST_BYTES;
      }
    }
    return parts;
  }
}
