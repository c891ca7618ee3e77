import type { JournalHooks } from "./migrations/course.ts";
import type { MigrationRecord } from "./migrations/record.ts";

/** What the tests put in place of the outside world. */
export interface FaultTools {
  /** Ends this process as `kill -9` would. */
  kill(): void;
  /** The text of a small file, or undefined when it is not there. */
  read(path: string): string | undefined;
}

/** No faults: what every agent runs with unless a test asks for more. */
export const NO_FAULTS: JournalHooks = {
  beforeSave: () => undefined,
  afterSave: () => undefined,
  holds: () => false,
};

type Form = "before" | "after" | "hold";
const FILE = "file:";

/**
 * Faults at the journal, for tests. `text` is one of:
 *
 * - `before:ROLE:PHASE`, `after:ROLE:PHASE`: the agent dies just before or just after that phase is
 *   journalled; `settled` stands for the last entry of all. It is how the tests place a crash at an
 *   exact point; the crash itself is real.
 * - `hold:ROLE:PHASE`: the agent stays in that phase: it answers, and obeys its operator, but
 *   starts no effect and takes no step that the other side asks for.
 * - `file:PATH`: the file holds any number of the above, one on a line, and may change or go at any
 *   time.
 */
export function journalFault(text: string | undefined, tools: FaultTools): JournalHooks {
  if (text === undefined) return NO_FAULTS;
  const wanted = (): string[] =>
    (text.startsWith(FILE) ? (tools.read(text.slice(FILE.length)) ?? "") : text).split("\n");
  const meets = (form: Form, { role, phase, settled }: MigrationRecord): boolean =>
    wanted().includes(`${form}:${role}:${settled ? "settled" : phase}`);
  return {
    beforeSave: (record) => {
      if (meets("before", record)) tools.kill();
    },
    afterSave: (record) => {
      if (meets("after", record)) tools.kill();
    },
    holds: (record) => meets("hold", record),
  };
}
