import type { JournalHooks } from "./migrations/course.ts";

/** Ends this process as `kill -9` would; injected, so that tests can look on. */
export type Kill = () => void;

/** No faults: what every agent runs with unless a test asks for more. */
export const NO_FAULTS: JournalHooks = { beforeSave: () => undefined, afterSave: () => undefined };

/**
 * A fault of the form `before:ROLE:PHASE` or `after:ROLE:PHASE`: the agent dies just before or just
 * after that phase is journalled, once. It is how the tests place a crash at an exact point; the
 * crash itself is real.
 */
export function journalFault(text: string | undefined, kill: Kill): JournalHooks {
  const match = /^(before|after):(source|destination):([a-z-]+)$/.exec(text ?? "");
  if (match === null) return NO_FAULTS;
  const [, when, role, phase] = match;
  let reached = false;
  const strike = (record: { role: string; phase: string }): void => {
    // Later entries of the same phase are not the step into it.
    if (reached || record.role !== role || record.phase !== phase) return;
    reached = true;
    kill();
  };
  return when === "before"
    ? { beforeSave: strike, afterSave: () => undefined }
    : { beforeSave: () => undefined, afterSave: strike };
}
