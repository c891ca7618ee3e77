import type { Clock } from "#core";
import type { Timing } from "./protocol.ts";

interface Liveness {
  /** Clock readings of the last bytes heard and sent. */
  heard_ms(): number;
  sent_ms(): number;
  ping(): void;
  onSilent(silent_ms: number): void;
}

/**
 * Sends PING when we were silent and reports a silent peer. A tick that comes late means that we
 * were asleep ourselves; the peer's bytes may be waiting unread, so no judgement is made then.
 *
 * @returns a function that ends it
 */
export function startKeepalive(clock: Clock, timing: Timing, link: Liveness): () => void {
  let last_ms = clock.monotonic();
  let cancel: (() => void) | undefined;
  const tick = (): void => {
    const now_ms = clock.monotonic();
    const awake = now_ms - last_ms < 3 * timing.tick_ms;
    last_ms = now_ms;
    if (now_ms - link.sent_ms() >= timing.ping_ms) link.ping();
    const silent_ms = now_ms - link.heard_ms();
    if (awake && silent_ms >= timing.silence_ms) link.onSilent(silent_ms);
    else cancel = clock.after(timing.tick_ms, tick);
  };
  cancel = clock.after(timing.tick_ms, tick);
  return () => cancel?.();
}
