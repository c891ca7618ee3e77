import { ENCODING_OPTIONS, forecastEncoding, PACK_OVERHEAD_s, type PackPlan } from "#delta";
import type { Clock } from "#core";
import { isPatch } from "./encoding.ts";

/** Below this share of what the table says a measurement is taken for a hiccup. */
const PACE_MIN = 0.05;
const PACE_MAX = 1.5;
/**
 * Seconds of expected work after which measurements count as much as all before them. What little
 * work took tells little: the first packs are small, and wait for files and for threads to start.
 */
const MEMORY_s = 0.5;

/** Seconds that one free processor of the table's kind takes for a solid pack. */
function expectedSeconds(plan: PackPlan, level: number): number | undefined {
  const option = ENCODING_OPTIONS.find(
    ({ encoding }) => encoding.kind === "solid" && encoding.level === level,
  );
  if (option === undefined) return undefined;
  const { rawBytes } = plan;
  const patchableBytes = isPatch(plan) ? rawBytes : 0;
  const ownBytes = plan.own === undefined ? 0 : rawBytes;
  const conditions = { bitsPerSecond: Infinity, cores: 1 };
  return forecastEncoding(option, conditions, { rawBytes, patchableBytes, ownBytes }).seconds;
}

/**
 * How fast solid packs are made here and now, compared with the table that encodings are chosen by:
 * other hosts are slower, and other programs want the processors too.
 */
export class Pace {
  readonly #clock: Clock;
  #factor = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** 1 as the table has it, less when it takes longer. */
  get factor(): number {
    return this.#factor;
  }

  /** Does the work of a pack and learns from how long it took. */
  async of<T>(plan: PackPlan, level: number, work: () => Promise<T>): Promise<T> {
    const begin_ms = this.#clock.monotonic();
    const result = await work();
    const took_s = (this.#clock.monotonic() - begin_ms) / 1000;
    const expected_s = expectedSeconds(plan, level);
    if (expected_s !== undefined) this.#learn(expected_s + PACK_OVERHEAD_s, took_s);
    return result;
  }

  #learn(expected_s: number, took_s: number): void {
    const seen = Math.max(PACE_MIN, Math.min(PACE_MAX, expected_s / took_s));
    const weight = expected_s / (expected_s + MEMORY_s);
    this.#factor += (seen - this.#factor) * weight;
  }
}
