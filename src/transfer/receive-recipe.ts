import type { Digest } from "#core";
import { decodeRecipe, encodeRecipe } from "#image";
import type { ComponentStore } from "#repository";
import type { FetchedRecipe } from "./contract.ts";
import { peerError, violation } from "./errors.ts";
import { RecipeOpenedSchema, decodeJson } from "./messages.ts";
import { RECIPE_DICTIONARY_BYTES_MAX, RECIPE_WIRE_BYTES_MAX, TYPE } from "./protocol.ts";
import type { IncomingStream, Receiver } from "./receiver-streams.ts";
import { recipeDictionary } from "./send-recipe.ts";
import { decompressFrame } from "./solid.ts";
import { receiveWhole } from "./whole-frame.ts";

interface RecipeOpened {
  readonly sizeBytes: number;
  readonly bases: readonly Digest[];
  readonly base?: Digest | undefined;
}

/** @throws `transfer.protocol-violation` when the sender names a base that was not offered */
async function receiveOpened(
  stream: IncomingStream,
  offered: readonly Digest[],
): Promise<RecipeOpened> {
  const frame = await stream.next();
  if (frame.type !== TYPE.OPENED) throw violation(`frame type ${frame.type} before OPENED`);
  const opened = decodeJson(frame, RecipeOpenedSchema);
  const kept = offered.filter((id) => opened.bases.includes(id));
  const same =
    kept.length === opened.bases.length && kept.every((id, at) => id === opened.bases[at]);
  if (!same) throw violation("bases that were not offered, or not in this order");
  if (opened.base !== undefined && !opened.bases.includes(opened.base)) {
    throw violation("a dictionary that was not offered");
  }
  return opened;
}

async function dictionaryOf(
  store: Pick<ComponentStore, "recipe">,
  base: Digest | undefined,
): Promise<Buffer | undefined> {
  if (base === undefined) return undefined;
  const { recipe } = await store.recipe(base);
  const encoded = encodeRecipe(recipe);
  if (encoded.length > RECIPE_DICTIONARY_BYTES_MAX) throw violation("a dictionary is too large");
  return recipeDictionary(encoded);
}

/**
 * Receives a component's recipe over one connection.
 *
 * @throws `transfer.pack-invalid` when it does not decompress, `image.recipe-invalid`,
 *   `transfer.protocol-violation`, the sender's error, the reason why the connection ended
 */
export async function receiveRecipe(
  receiver: Receiver,
  store: Pick<ComponentStore, "recipe">,
  request: { readonly component: Digest; readonly bases: readonly Digest[] },
  signal: AbortSignal,
): Promise<FetchedRecipe> {
  const { component, bases } = request;
  const stream = receiver.open({ kind: "recipe", component, bases });
  const abort = (): void => stream.fail(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    const opened = await receiveOpened(stream, bases);
    const frame = await receiveWhole(stream, RECIPE_WIRE_BYTES_MAX);
    const dictionary = await dictionaryOf(store, opened.base);
    const encoded = await decompressFrame(frame, opened.sizeBytes, dictionary);
    if (encoded === undefined) {
      throw peerError("pack-invalid", "a recipe does not decompress as announced", {
        subject: component,
      });
    }
    const recipe = decodeRecipe(encoded);
    return { recipe, bases: opened.bases, wireBytes: stream.wireBytes };
  } catch (cause) {
    receiver.done(stream, cause);
    throw cause;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
