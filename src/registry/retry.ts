import { hasCode, type World } from "#core";

const FIRST_WAIT_MS = 250;
const LAST_WAIT_MS = 15_000;

/**
 * Runs `work` until it succeeds or fails for good. What another attempt may mend
 * (`registry.unreachable`) is tried again after a growing wait; each progress that `work` tells
 * begins the count anew.
 */
export async function persistently<T>(
  { clock, random }: Pick<World, "clock" | "random">,
  { attemptsMax, signal }: { readonly attemptsMax: number; readonly signal?: AbortSignal },
  work: (progressed: () => void) => Promise<T>,
): Promise<T> {
  let failed = 0;
  const progressed = (): void => {
    failed = 0;
  };
  for (;;) {
    try {
      return await work(progressed);
    } catch (error) {
      failed += 1;
      if (!hasCode(error, "registry.unreachable") || failed >= attemptsMax) throw error;
      const wait_ms = Math.min(LAST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failed - 1));
      await clock.sleep(wait_ms * (0.5 + random.fraction()), signal);
    }
  }
}
