import { MemoryBudget } from "./budget.ts";
import { encodingMemoryBytes } from "./encoding.ts";
import { Slots } from "./slots.ts";

/** What the encoders of a session share. */
export interface Encoders {
  /** One for each processor: more would only wait for each other, and for files. */
  readonly slots: Slots;
  readonly memory: MemoryBudget;
  /** Processors that may be used, above 0, may be a fraction. */
  readonly cores: number;
}

export function newEncoders(cores: number): Encoders {
  const slots = new Slots(Math.max(1, Math.floor(cores)));
  return { slots, memory: new MemoryBudget(encodingMemoryBytes(undefined)), cores };
}
