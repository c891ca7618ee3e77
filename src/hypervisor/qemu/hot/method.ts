/** Capabilities and parameters of QEMU's migration, equal on both sides where they must be. */
import { TesseraError, type Json } from "#core";
import type { EmigrationOptions, HotMethod } from "../../contract.ts";
import type { HotSession } from "./session.ts";

const PARALLEL_MAX = 16;
const DOWNTIME_MS = 300;
const DOWNTIME_MAX_MS = 2_000_000;
/** QEMU has no word for "no limit"; this is 1 TiB/s. */
const UNLIMITED_BPS = 2 ** 40;

/** Set on both sides, all of them on every attempt: those of an earlier attempt stay otherwise. */
function shared({ postcopy, parallel }: HotMethod): Record<string, boolean> {
  return {
    events: true,
    // Without it the source says "completed" when the destination could not load the state.
    "return-path": true,
    "late-block-activate": true,
    "postcopy-ram": postcopy !== undefined,
    "postcopy-preempt": postcopy === "preempt",
    multifd: parallel !== undefined,
    xbzrle: false,
    compress: false,
  };
}

export function destinationCapabilities(method: HotMethod): Record<string, boolean> {
  return shared(method);
}

export function sourceCapabilities(options: EmigrationOptions): Record<string, boolean> {
  return {
    ...shared(options),
    "pause-before-switchover": true,
    "auto-converge": options.maySlowDown === true,
  };
}

export function destinationParameters({ parallel }: HotMethod): Record<string, Json> {
  if (parallel === undefined) return {};
  return { "multifd-channels": parallel, "multifd-compression": "zstd" };
}

/** QEMU slows a guest down by itself as soon as it may, so it may by 1% at first. */
export function sourceParameters(options: EmigrationOptions): Record<string, Json> {
  return {
    ...destinationParameters(options),
    ...(options.maySlowDown === true ? throttle(1) : {}),
    "max-bandwidth": options.rate_Bps ?? UNLIMITED_BPS,
    "downtime-limit": options.downtime_ms ?? DOWNTIME_MS,
  };
}

/** The order of the limits matters: the greatest must not be below the first. */
export function throttle(percent: number): Record<string, Json> {
  return {
    "cpu-throttle-initial": percent,
    "cpu-throttle-increment": percent,
    "max-cpu-throttle": percent,
    "throttle-trigger-threshold": 50,
  };
}

export async function setCapabilities(
  session: HotSession,
  states: Readonly<Record<string, boolean>>,
): Promise<void> {
  const capabilities = Object.entries(states).map(([capability, state]) => ({ capability, state }));
  await session.execute("migrate-set-capabilities", { capabilities });
}

export async function setParameters(
  session: HotSession,
  parameters: Readonly<Record<string, Json>>,
): Promise<void> {
  if (Object.keys(parameters).length > 0) {
    await session.execute("migrate-set-parameters", parameters);
  }
}

function faultOf({ postcopy, parallel }: HotMethod): string | undefined {
  // With both, QEMU 7.2 at the destination ends by an assertion when post-copy begins.
  if (postcopy !== undefined && parallel !== undefined) {
    return "post-copy and parallel streams exclude each other";
  }
  if (parallel === undefined) return undefined;
  const whole = Number.isInteger(parallel) && parallel >= 1 && parallel <= PARALLEL_MAX;
  return whole ? undefined : `${parallel} parallel streams`;
}

/** @throws `hypervisor.hot-method` (misuse) */
export function checkMethod(method: HotMethod): void {
  const fault = faultOf(method);
  if (fault !== undefined) throw methodError(fault);
}

export function checkEmigration(options: EmigrationOptions): void {
  checkMethod(options);
  const { rate_Bps = 1, downtime_ms = DOWNTIME_MS } = options;
  if (!(rate_Bps >= 1 && rate_Bps <= UNLIMITED_BPS))
    throw methodError(`${rate_Bps} bytes a second`);
  checkDowntime(downtime_ms);
}

export function checkDowntime(downtime_ms: number): void {
  const whole = Number.isInteger(downtime_ms) && downtime_ms >= 0;
  if (!whole || downtime_ms > DOWNTIME_MAX_MS) throw methodError(`a pause of ${downtime_ms} ms`);
}

export function checkPercent(percent: number): void {
  const whole = Number.isInteger(percent) && percent >= 1 && percent <= 99;
  if (!whole) throw methodError(`slowing down by ${percent} percent`);
}

export function methodError(fault: string): TesseraError {
  return new TesseraError(
    "misuse",
    "hypervisor.hot-method",
    `a hot migration cannot have ${fault}`,
    {
      remedy: `choose post-copy or 1 to ${PARALLEL_MAX} parallel streams, a pause of at most ${DOWNTIME_MAX_MS} ms, 1 to 99 percent`,
    },
  );
}
