/** Recipes from their parts: the layout, and the bytes that belong to no content. */
import { TesseraError, type Digest } from "#core";
import type { ContentSource, Recipe, RecipeContent, TreeEntry } from "./contract.ts";
import { BLOCK_BYTES } from "./erofs-format.ts";
import { planErofs, type ErofsPlan } from "./erofs-plan.ts";
import { imageRuns, tailPosition } from "./erofs-runs.ts";
import { EMPTY_DIGEST, numberOf, withParts } from "./recipe-parts.ts";
import { placesOf, type Occurrence, type Places } from "./recipe-places.ts";
import { treeDigestFrom } from "./tree-digest.ts";

function planOf(entries: readonly TreeEntry[]): ErofsPlan {
  return planErofs({ entries, get: () => undefined });
}

type NumberOf = (content: ContentSource) => number;

function occurrencesOf(plan: ErofsPlan, numberOf: NumberOf): Occurrence[] {
  return plan.inodes.flatMap((inode) => {
    const { entry, sizeBytes, firstBlock, tailBytes } = inode;
    if (entry.type !== "file" || sizeBytes === 0) return [];
    return [
      {
        content: numberOf(entry.content),
        position: firstBlock * BLOCK_BYTES,
        tailPosition: tailPosition(inode),
        tailBytes,
      },
    ];
  });
}

/** @throws `image.digest-missing` (misuse) unless there are 32 bytes for each content */
function digestOf(digests: readonly Uint8Array[], index: number): Uint8Array {
  if (index < 0) return EMPTY_DIGEST;
  const digest = digests[index];
  if (digest?.length === 32) return digest;
  const message = `no digest is given for content ${index} of a recipe`;
  throw new TesseraError("misuse", "image.digest-missing", message);
}

/** The tree digest of entries of which each file has a `NumberedContent`. */
export function identityOf(entries: readonly TreeEntry[], digests: readonly Uint8Array[]): Digest {
  return treeDigestFrom(entries, (content) => digestOf(digests, numberOf(content)));
}

/**
 * @param entries in canonical order, each file with a `NumberedContent`
 * @param planned the plan of these entries, where it is known, and the numbers of its contents
 * @throws `image.too-large` (misuse) when the image would exceed 16 TiB
 */
export function treeRecipe(
  entries: readonly TreeEntry[],
  contents: readonly RecipeContent[],
  planned?: { readonly plan: ErofsPlan; readonly numberOf: NumberOf },
): Recipe {
  const { plan, numberOf: number } = planned ?? { plan: planOf(entries), numberOf };
  const places: Places = placesOf(contents, occurrencesOf(plan, number));
  const recipe: Recipe = {
    kind: "tree",
    sizeBytes: plan.blocks * BLOCK_BYTES,
    contents,
    places,
    metadata: (digests) => imageRuns(planOf(entries), identityOf(entries, digests)),
  };
  return withParts(recipe, { kind: "tree", entries, contents });
}

/** @param sequence the number of the content of each chunk, in the order of the image */
export function chunkRecipe(sequence: Uint32Array, contents: readonly RecipeContent[]): Recipe {
  let position = 0;
  const occurrences = Array.from(sequence, (content): Occurrence => {
    const start = position;
    position += contents[content]?.sizeBytes ?? 0;
    return { content, position: start, tailPosition: 0, tailBytes: 0 };
  });
  const recipe: Recipe = {
    kind: "chunks",
    sizeBytes: position,
    contents,
    places: placesOf(contents, occurrences),
    metadata: () => [],
  };
  return withParts(recipe, { kind: "chunks", sequence, contents });
}
