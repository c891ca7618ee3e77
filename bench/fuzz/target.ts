import type { FuzzRandom } from "./random.ts";

/** A decoder of input that others may have made. */
export interface FuzzTarget {
  readonly name: string;
  /** Codes of the errors that it may throw; anything else is a finding. */
  readonly codes: readonly string[];
  /** Valid inputs: each must be accepted, and is what inputs are made from. */
  seeds(): Promise<readonly Buffer[]> | readonly Buffer[];
  /** Inputs by the grammar instead of by mutation; used for half of all inputs. */
  generate?(random: FuzzRandom, seeds: readonly Buffer[]): Buffer;
  /** Decodes. A property that does not hold is thrown as an ordinary error. */
  decode(input: Buffer): unknown;
}

/** What a worker reports about a target. */
export interface FuzzReport {
  readonly name: string;
  readonly count: number;
  readonly accepted: number;
  readonly seconds: number;
  readonly slowest_ms: number;
  /** Peak of the heap and array buffers, as sampled. */
  readonly memoryBytes: number;
  readonly findings: readonly FuzzFinding[];
}

export interface FuzzFinding {
  readonly index: number;
  readonly what: string;
  /** Base64, cut at 4096 characters. */
  readonly input: string;
}
