import type { Clock } from "#core";
import { MemoryBudget } from "./budget.ts";
import { BufferPool, SPARE_BYTES_MAX } from "./buffers.ts";
import { DifferenceThreads } from "./difference-threads.ts";
import { encodingMemoryBytes } from "./encoding.ts";
import { Pace } from "./pace.ts";
import { Slots } from "./slots.ts";

/** What the encoders of a session share. */
export interface Encoders {
  /** One for each processor: more would only wait for each other, and for files. */
  readonly slots: Slots;
  readonly memory: MemoryBudget;
  readonly buffers: BufferPool;
  /** Processors that may be used, above 0, may be a fraction. */
  readonly cores: number;
  readonly pace: Pace;
  /** Closed with the session. */
  readonly threads: DifferenceThreads;
}

export function newEncoders(cores: number, clock: Clock): Encoders {
  const slots = new Slots(Math.max(1, Math.floor(cores)));
  const memory = new MemoryBudget(encodingMemoryBytes(undefined));
  const buffers = new BufferPool(SPARE_BYTES_MAX);
  const threads = new DifferenceThreads();
  return { slots, memory, buffers, cores, pace: new Pace(clock), threads };
}
