/**
 * The payload of WANT: which contents of a recipe a receiver wants, as alternating run lengths,
 * beginning with a run that is not wanted. See doc/data-protocol.md, "Contents".
 */
import { violation } from "./errors.ts";
import { WANT_BYTES_MAX } from "./protocol.ts";
import { VarintReader, VarintWriter } from "./varint.ts";

/** `count` contents from `first` on. */
export interface WantedRun {
  readonly first: number;
  readonly count: number;
}

/** Runs of consecutive indices; gaps of at most `gapMax` are taken in. */
function runsOf(wanted: readonly number[], gapMax: number): WantedRun[] {
  const runs: { first: number; count: number }[] = [];
  for (const index of wanted) {
    const last = runs.at(-1);
    const gap = last === undefined ? Infinity : index - last.first - last.count;
    if (last !== undefined && gap <= gapMax) last.count = index - last.first + 1;
    else runs.push({ first: index, count: 1 });
  }
  return runs;
}

function encodeRuns(runs: readonly WantedRun[]): Buffer {
  const writer = new VarintWriter();
  let end = 0;
  for (const { first, count } of runs) {
    writer.number(first - end);
    writer.number(count);
    end = first + count;
  }
  return writer.bytes();
}

/**
 * At most `bytesMax` bytes. Where the indices would need more, small gaps are filled, the smallest
 * first: then more is wanted than was asked for, as {@link decodeWant} of the result tells.
 *
 * @param wanted ascending, each once, at least one
 */
export function encodeWant(wanted: readonly number[], bytesMax = WANT_BYTES_MAX): Buffer {
  for (let gapMax = 0; ; gapMax = 2 * gapMax + 1) {
    const bytes = encodeRuns(runsOf(wanted, gapMax));
    if (bytes.length <= bytesMax) return bytes;
  }
}

/**
 * The wanted runs in order.
 *
 * @param contents how many the recipe has
 * @throws `transfer.protocol-violation` for an empty run, an index behind the end, or nothing wanted
 */
export function decodeWant(payload: Uint8Array, contents: number): WantedRun[] {
  const reader = new VarintReader(payload);
  const runs: WantedRun[] = [];
  let end = 0;
  while (reader.remaining > 0) {
    const gap = reader.number();
    const count = reader.number();
    if (count === 0 || (gap === 0 && runs.length > 0)) throw violation("an empty run is wanted");
    if (gap + count > contents - end) throw violation("a wanted content is not in the recipe");
    runs.push({ first: end + gap, count });
    end += gap + count;
  }
  if (runs.length === 0) throw violation("nothing is wanted");
  return runs;
}

/** The indices of all runs. */
export function wantedIndices(runs: readonly WantedRun[]): number[] {
  return runs.flatMap(({ first, count }) =>
    Array.from({ length: count }, (_, step) => first + step),
  );
}
