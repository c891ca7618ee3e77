import { linkBitsPerSecond } from "./meter.ts";
import type { Digest } from "#core";
import { BITS_PER_SECOND_UNKNOWN, solidParameters } from "#delta";
import { encodeRecipe } from "#image";
import type { HeldRecipe } from "#repository";
import { peerError } from "./errors.ts";
import {
  RECIPE_BYTES_MAX,
  RECIPE_DICTIONARY_BYTES_MAX,
  RECIPE_WIRE_BYTES_MAX,
} from "./protocol.ts";
import { closeAll, openBases, type ContentsSession } from "./send-contents.ts";
import type { OutgoingStream } from "./sender-stream.ts";
import { compressFrame, dictionaryOf } from "./solid.ts";
import { sendWhole } from "./whole-frame.ts";

/** Up to so many bytes, recipe and dictionary, the highest level takes about a second. */
const SMALL_BYTES = 4 * 2 ** 20;
const TABLE_LOG_MAX = 23;
/** From this rate on a second of the highest level costs more than it saves. */
const QUICK_BITS_PER_SECOND = 20e6;

/** The dictionary that an encoded recipe is. */
export function recipeDictionary(encoded: Uint8Array): Buffer {
  const dictionary = dictionaryOf(encoded.length);
  dictionary.set(encoded, 1);
  return dictionary;
}

/** The recipe that serves as dictionary: the nearest base's, unless it is too large for one. */
function referenceAmong(bases: readonly HeldRecipe[]) {
  const nearest = bases[0];
  if (nearest === undefined) return undefined;
  const encoded = encodeRecipe(nearest.recipe);
  return encoded.length > RECIPE_DICTIONARY_BYTES_MAX
    ? undefined
    : { base: nearest.component, dictionary: recipeDictionary(encoded) };
}

function capped(log: number | undefined): number {
  return Math.min(log ?? TABLE_LOG_MAX, TABLE_LOG_MAX);
}

async function compressRecipe(
  encoded: Uint8Array,
  dictionary: Uint8Array | undefined,
  quick: boolean,
) {
  const dictionaryBytes = dictionary?.length ?? 0;
  const level = !quick && encoded.length + dictionaryBytes <= SMALL_BYTES ? 19 : 9;
  const chosen = solidParameters(level, encoded.length, dictionaryBytes);
  const { hashLog, chainLog } = chosen;
  const tables = { hashLog: capped(hashLog), chainLog: capped(chainLog) };
  const parameters = { ...chosen, ...tables };
  const bytesMax = RECIPE_WIRE_BYTES_MAX;
  const frame = await compressFrame(encoded, parameters, { bytesMax, dictionary });
  if (frame === undefined) throw peerError("not-offered", "the recipe is too large to travel");
  return { frame, encoding: `solid-${level}` };
}

/**
 * A component's recipe as it travels.
 *
 * @param bases those that both sides hold, the nearest first
 * @param quick rather soon than small
 * @throws `transfer.not-offered` when it is too large
 */
export async function recipeFrame(
  component: HeldRecipe,
  bases: readonly HeldRecipe[],
  { quick = false } = {},
) {
  const encoded = encodeRecipe(component.recipe);
  if (encoded.length > RECIPE_BYTES_MAX) {
    throw peerError("not-offered", "the recipe is too large to travel");
  }
  const reference = referenceAmong(bases);
  const compressed = await compressRecipe(encoded, reference?.dictionary, quick);
  return { ...compressed, sizeBytes: encoded.length, base: reference?.base };
}

/**
 * Sends a component's recipe as one zstd frame, with that of the nearest of the bases that are held
 * here as dictionary.
 *
 * @throws `transfer.not-offered`, what the source throws
 */
export async function sendRecipe(
  stream: OutgoingStream,
  session: ContentsSession,
  request: { readonly component: Digest; readonly bases: readonly Digest[] },
): Promise<void> {
  const component = await session.source.openComponent(request.component);
  const bases = await openBases(session.source, request.bases);
  try {
    const bitsPerSecond = linkBitsPerSecond(session.meter.rate()) ?? BITS_PER_SECOND_UNKNOWN;
    const quick = bitsPerSecond >= QUICK_BITS_PER_SECOND;
    const made = await session.encoders.slots.run(() => recipeFrame(component, bases, { quick }));
    const { frame, encoding, sizeBytes, base } = made;
    const held = bases.map((held) => held.component);
    const content = { sizeBytes, bases: held, ...(base === undefined ? {} : { base }) };
    const progress = { doneBytes: 0, totalBytes: sizeBytes };
    stream.opened(`recipe ${request.component}`, content, progress);
    await sendWhole(stream, frame, { rawBytes: sizeBytes, encoding });
  } finally {
    await closeAll([component, ...bases]);
  }
}
