import type { Holder } from "./contract.ts";

/** Assumed of a holder of whose link nothing is known: 20 Mbit/s, 100 ms. */
const UNKNOWN_BITS_PER_SECOND = 20e6;
const UNKNOWN_ROUND_TRIP_MS = 100;
/** Round trips before the first byte comes: connection, TLS, session, recipe. */
const SETUP_ROUND_TRIPS = 6;
/** A cheaper holder comes first when it takes no more than this much longer. */
const SIMILAR_SPEED = 1.1;
/** Another holder is asked besides when that leaves no more than this share of the time. */
const WORTHWHILE_SHARE = 0.85;

type Speed = Pick<Holder, "bitsPerSecond" | "roundTrip_ms">;

/** Seconds until `rawBytes` have come from this holder alone. */
export function fetchSeconds(holder: Speed, rawBytes: number): number {
  return setupSeconds(holder) + (rawBytes * 8) / rateOf(holder);
}

function rateOf(holder: Speed): number {
  const rate = holder.bitsPerSecond;
  return rate === undefined || !(rate > 0) ? UNKNOWN_BITS_PER_SECOND : rate;
}

function setupSeconds(holder: Speed): number {
  return (SETUP_ROUND_TRIPS * (holder.roundTrip_ms ?? UNKNOWN_ROUND_TRIP_MS)) / 1_000;
}

/**
 * The holders, best first: by how soon all would have come, in steps of a tenth, so that of
 * similarly fast ones the cheapest is first; then by cloud name.
 *
 * @param rawBytes to be fetched: a short way counts for few bytes, a wide one for many
 */
export function rankHolders(holders: readonly Holder[], rawBytes: number): Holder[] {
  const step = (holder: Holder): number =>
    Math.floor(Math.log(fetchSeconds(holder, rawBytes) + 1e-3) / Math.log(SIMILAR_SPEED));
  return holders.toSorted(
    (a, b) =>
      step(a) - step(b) ||
      a.pricePerGB - b.pricePerGB ||
      fetchSeconds(a, rawBytes) - fetchSeconds(b, rawBytes) ||
      Number(a.cloud > b.cloud) - Number(a.cloud < b.cloud),
  );
}

/**
 * How many of the ranked holders to ask at once: each further one only while it makes the whole
 * clearly faster.
 *
 * @param bitsPerSecond most that the receiver itself can take; absent where that is unknown
 * @returns the first of `ranked`, at least one where there is one
 */
export function worthwhileHolders(
  ranked: readonly Holder[],
  rawBytes: number,
  bitsPerSecond = Number.POSITIVE_INFINITY,
): Holder[] {
  const chosen = ranked.slice(0, 1);
  for (const holder of ranked.slice(1)) {
    const together = [...chosen, holder];
    const now_s = togetherSeconds(chosen, rawBytes, bitsPerSecond);
    if (togetherSeconds(together, rawBytes, bitsPerSecond) > now_s * WORTHWHILE_SHARE) break;
    chosen.push(holder);
  }
  return chosen;
}

/** Seconds until all have brought their share of the bytes. */
export function togetherSeconds(
  holders: readonly Holder[],
  rawBytes: number,
  bitsPerSecond = Number.POSITIVE_INFINITY,
): number {
  const rates = holders.reduce((sum, holder) => sum + rateOf(holder), 0);
  const rate = Math.min(rates, bitsPerSecond);
  return Math.max(...holders.map(setupSeconds)) + (rawBytes * 8) / rate;
}

/** A holder that sends whole images only, and what an image costs there and elsewhere. */
export interface WholeOffer {
  readonly whole: Holder;
  /** Those that would send what is missing of it, compressed. */
  readonly others: readonly Holder[];
  readonly sizeBytes: number;
  /** Bytes that one of the others would send. */
  readonly otherBytes: number;
}

/**
 * True when it is better to take the whole image than to ask the best of the others: by how soon it
 * would be there, in steps of a tenth, then by price; where nothing tells them apart, it is not.
 */
export function prefersWhole({ whole, others, sizeBytes, otherBytes }: WholeOffer): boolean {
  const [best] = rankHolders(others, otherBytes);
  if (best === undefined) return true;
  const whole_s = fetchSeconds(whole, sizeBytes);
  const other_s = fetchSeconds(best, otherBytes);
  if (whole_s * SIMILAR_SPEED < other_s) return true;
  if (other_s * SIMILAR_SPEED < whole_s) return false;
  return whole.pricePerGB * sizeBytes < best.pricePerGB * otherBytes;
}
