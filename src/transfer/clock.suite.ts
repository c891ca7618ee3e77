import type { Clock } from "#core";

export interface HandClock extends Clock {
  advance(ms: number): void;
}

/** A clock that stands still until `advance`; sleeping advances it. */
export function handClock(): HandClock {
  let now_ms = 0;
  const due: { at_ms: number; callback: () => void }[] = [];
  const advance = (ms: number): void => {
    const end_ms = now_ms + ms;
    for (;;) {
      due.sort((a, b) => a.at_ms - b.at_ms);
      if ((due[0]?.at_ms ?? Infinity) > end_ms) break;
      const next = due.shift();
      now_ms = next?.at_ms ?? now_ms;
      next?.callback();
    }
    now_ms = end_ms;
  };
  return {
    now: () => now_ms,
    monotonic: () => now_ms,
    sleep: (ms) => {
      advance(ms);
      return Promise.resolve();
    },
    after: (ms, callback) => {
      const entry = { at_ms: now_ms + ms, callback };
      due.push(entry);
      return () => void (due.includes(entry) && due.splice(due.indexOf(entry), 1));
    },
    advance,
  };
}
