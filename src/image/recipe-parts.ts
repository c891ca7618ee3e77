/** What lies behind a recipe: the parts that are encoded, apart from what follows from them. */
import { hash } from "node:crypto";
import { TesseraError } from "#core";
import type { ContentSource, Recipe, RecipeContent, TreeEntry } from "./contract.ts";

/** Stands for the content of a file in a recipe's tree: its size and number, and no bytes. */
export class NumberedContent implements ContentSource {
  readonly sizeBytes: number;
  /** In the recipe's contents; -1 for the empty content. */
  readonly index: number;

  constructor(sizeBytes: number, index: number) {
    this.sizeBytes = sizeBytes;
    this.index = index;
  }

  read(): Promise<never> {
    const message = "the contents of a recipe cannot be read";
    return Promise.reject(new TesseraError("bug", "image.recipe-unread", message));
  }
}

export const EMPTY_CONTENT = new NumberedContent(0, -1);
export const EMPTY_DIGEST = hash("sha256", "", "buffer");

/** Files of `entries` have a {@link NumberedContent} each; `contents` are in order of first use. */
export interface TreeParts {
  readonly kind: "tree";
  readonly entries: readonly TreeEntry[];
  readonly contents: readonly RecipeContent[];
}

export interface ChunkParts {
  readonly kind: "chunks";
  /** The numbers of the contents in the order of the image. */
  readonly sequence: Uint32Array;
  readonly contents: readonly RecipeContent[];
}

export type RecipeParts = TreeParts | ChunkParts;

const partsByRecipe = new WeakMap<Recipe, RecipeParts>();

export function withParts(recipe: Recipe, parts: RecipeParts): Recipe {
  partsByRecipe.set(recipe, parts);
  return recipe;
}

/** @throws `image.recipe-foreign` (bug) for an object that this room did not make */
export function partsOf(recipe: Recipe): RecipeParts {
  const parts = partsByRecipe.get(recipe);
  if (parts !== undefined) return parts;
  throw new TesseraError("bug", "image.recipe-foreign", "a recipe was not made by this room");
}

/** The number of the content of a file in a recipe's tree; -1 for the empty one. */
export function numberOf(content: ContentSource): number {
  if (content instanceof NumberedContent) return content.index;
  throw new TesseraError("bug", "image.recipe-foreign", "a content has no number");
}

/** Numbers contents in the order of first use; equal keys are one content. */
export interface Numbering {
  readonly contents: RecipeContent[];
  /** The number of this content, and whether it is new. */
  add(key: string, content: RecipeContent): { readonly index: number; readonly fresh: boolean };
}

export function numbering(): Numbering {
  const contents: RecipeContent[] = [];
  const indices = new Map<string, number>();
  return {
    contents,
    add(key, content) {
      const known = indices.get(key);
      if (known !== undefined) return { index: known, fresh: false };
      const index = contents.push(content) - 1;
      indices.set(key, index);
      return { index, fresh: true };
    },
  };
}
