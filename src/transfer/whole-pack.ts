/** Encodes a pack as one zstd frame: with its references as dictionary, or as a difference. */
import { encodeDifference, type SolidParameters } from "#delta";
import type { DifferenceThreads } from "./difference-threads.ts";
import { compressFrame } from "./solid.ts";

/** A pack that is one zstd frame. */
export interface WholePack {
  readonly kind: "solid" | "difference";
  readonly data: Uint8Array;
}

/** The bytes of a pack; the buffers are others after a thread has had them. */
export interface PackBytes {
  raw: Buffer | undefined;
  /** As `dictionaryOf` makes it; undefined where there are no references. */
  dictionary: Buffer | undefined;
}

export interface WholeOptions {
  readonly level: number;
  readonly parameters: SolidParameters;
  /** Parameters of a level that is quick, for comparisons. */
  readonly quick: SolidParameters;
  readonly bytesMax: number;
  /** Without them differences are made on this thread. */
  readonly threads: DifferenceThreads | undefined;
}

/** From this level on, where time is not short, both ways are compared. */
const THOROUGH_LEVEL = 19;
/** A difference shorter than this share is hardly ever the larger one. */
const CERTAIN_SHARE = 0.02;
/** Stands for the kind in the cache, in front of the frame. */
const KINDS = [undefined, "solid", "difference"] as const;

export function withKind({ kind, data }: WholePack): Uint8Array {
  return Buffer.concat([Uint8Array.of(KINDS.indexOf(kind)), data]);
}

/** The inverse; undefined when it is none. */
export function withoutKind(cached: Uint8Array): WholePack | undefined {
  const kind = KINDS[cached[0] ?? 0];
  return kind === undefined ? undefined : { kind, data: cached.subarray(1) };
}

function bufferOf({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length);
}

async function differenceOf(bytes: PackBytes, { threads, level }: WholeOptions) {
  const quick = level < THOROUGH_LEVEL;
  const { raw, dictionary } = bytes;
  if (raw === undefined || dictionary === undefined) return undefined;
  if (threads === undefined) return encodeDifference(dictionary.subarray(1), raw, { quick });
  // Should the thread fail, they are gone.
  bytes.raw = undefined;
  bytes.dictionary = undefined;
  const result = await threads.make({ raw, dictionary, quick });
  bytes.raw = bufferOf(result.raw);
  bytes.dictionary = bufferOf(result.dictionary);
  return result.difference;
}

async function solidOf(
  { raw, dictionary }: PackBytes,
  parameters: SolidParameters,
  bytesMax: number,
) {
  if (raw === undefined) return undefined;
  return await compressFrame(raw, parameters, { bytesMax, dictionary });
}

function differenceFrame(difference: Uint8Array, compressionLevel: number, bytesMax: number) {
  return compressFrame(difference, { compressionLevel }, { bytesMax });
}

/** Whether the dictionary leaves less, as far as a quick level tells. */
async function isBetterSolid(bytes: PackBytes, difference: Uint8Array, options: WholeOptions) {
  const { level, quick, bytesMax } = options;
  const rawBytes = bytes.raw?.length ?? 0;
  if (level < THOROUGH_LEVEL || difference.length < CERTAIN_SHARE * rawBytes) return false;
  const made = await differenceFrame(difference, quick.compressionLevel, bytesMax);
  if (made === undefined) return true;
  return (await solidOf(bytes, quick, made.length - 1)) !== undefined;
}

/** Undefined when it would have more than `bytesMax`. */
export async function encodeWhole(
  bytes: PackBytes,
  options: WholeOptions,
): Promise<WholePack | undefined> {
  const { level, parameters, bytesMax } = options;
  const difference =
    bytes.dictionary === undefined ? undefined : await differenceOf(bytes, options);
  if (difference !== undefined && !(await isBetterSolid(bytes, difference, options))) {
    const data = await differenceFrame(difference, level, bytesMax);
    if (data !== undefined) return { kind: "difference", data };
  }
  const data = await solidOf(bytes, parameters, bytesMax);
  return data === undefined ? undefined : { kind: "solid", data };
}
