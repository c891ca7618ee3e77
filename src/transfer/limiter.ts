import type { Clock } from "#core";

/** Holds back what would exceed a rate. */
export interface RateLimiter {
  /** Most bytes that should be taken at once, for a smooth flow. */
  readonly sliceBytes: number;
  /** Resolves when `bytes` may go; first come, first served. Rejects when the signal aborts. */
  take(bytes: number, signal: AbortSignal): Promise<void>;
}

const BURST_ms = 50;
const SLICE_BYTES_MAX = 64 * 1024;

/**
 * A token bucket as a schedule (the generic cell rate algorithm, ITU-T I.371): `due` is when the
 * bucket would be even; it may lag behind the clock by the burst at most.
 *
 * @param bytesPerSecondMax above 0
 */
export function rateLimiter(clock: Clock, bytesPerSecondMax: number): RateLimiter {
  let due_ms = clock.monotonic();
  return {
    sliceBytes: Math.max(4096, Math.min(SLICE_BYTES_MAX, Math.floor(bytesPerSecondMax / 20))),
    async take(bytes, signal) {
      const now_ms = clock.monotonic();
      const start_ms = Math.max(due_ms, now_ms - BURST_ms);
      due_ms = start_ms + (bytes / bytesPerSecondMax) * 1000;
      if (start_ms > now_ms) await clock.sleep(start_ms - now_ms, signal);
    },
  };
}
