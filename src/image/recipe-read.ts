/** What an image is made of: read once, hashed once. */
import { CHUNK_BYTES_MAX, chunkLength } from "./chunker.ts";
import type { ContentSource, Recipe } from "./contract.ts";
import { contentCollector, type Collector, type ContentVisitor } from "./recipe-collect.ts";
import { chunksFit } from "./recipe-cost.ts";
import { chunkRecipe } from "./recipe-model.ts";
import { readTreeRecipe } from "./recipe-read-tree.ts";
import { sequentialReader } from "./sequential.ts";

export interface RecipeReading {
  readonly recipe: Recipe;
  /** sha256 of each content, 32 bytes, by index. */
  readonly digests: readonly Buffer[];
}

async function readChunks(image: ContentSource, collector: Collector): Promise<Recipe | undefined> {
  const reader = sequentialReader(image, 0, CHUNK_BYTES_MAX);
  const sequence: number[] = [];
  try {
    for (let done = 0; done < image.sizeBytes;) {
      const bytes = await reader.peek(CHUNK_BYTES_MAX);
      const length = chunkLength(bytes, 0, bytes.length);
      sequence.push(collector.add(bytes.subarray(0, length), ""));
      reader.skip(length);
      done += length;
      if (!chunksFit(sequence.length) || collector.collided()) return undefined;
    }
  } finally {
    await reader.close();
  }
  return chunkRecipe(Uint32Array.from(sequence), collector.contents);
}

async function readWhole(image: ContentSource, collector: Collector): Promise<Recipe> {
  const reader = sequentialReader(image, 0, CHUNK_BYTES_MAX);
  const whole = collector.begin(image.sizeBytes, "");
  try {
    for (let done = 0; done < image.sizeBytes;) {
      const bytes = await reader.peek(image.sizeBytes - done);
      whole.add(bytes);
      reader.skip(bytes.length);
      done += bytes.length;
    }
  } finally {
    await reader.close();
  }
  return chunkRecipe(Uint32Array.of(whole.end()), collector.contents);
}

/**
 * What an image is made of. It is a tree when our writer makes exactly these bytes from the tree
 * that is in it, which is checked in full; otherwise it is cut into chunks. Should two contents
 * agree in size and head, or the recipe exceed the limits of the decoder, the next way is taken; the
 * last has the whole image as one content. Each content is read and hashed once, in order,
 * and shown to `visit`.
 *
 * @throws what the image throws when it is read
 */
export async function readRecipe(
  image: ContentSource,
  options: { readonly visit?: ContentVisitor } = {},
): Promise<RecipeReading> {
  const ways = [readTreeRecipe, readChunks];
  for (const read of ways) {
    const collector = contentCollector(options.visit);
    const recipe = await read(image, collector);
    if (recipe === undefined || collector.collided()) continue;
    return { recipe, digests: collector.digests };
  }
  const collector = contentCollector(options.visit);
  return { recipe: await readWhole(image, collector), digests: collector.digests };
}
