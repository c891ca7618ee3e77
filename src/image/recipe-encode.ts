import type { Recipe, RecipeContent, TreeEntry } from "./contract.ts";
import { PATH_BYTES_MAX } from "./path.ts";
import { recipeWriter, zigzag, type RecipeWriter } from "./recipe-bytes.ts";
import {
  numberOf,
  partsOf,
  type ChunkParts,
  type RecipeParts,
  type TreeParts,
} from "./recipe-parts.ts";

export const HEADING = "tessera recipe 1\n";

export const LETTERS = {
  directory: "d",
  file: "f",
  symlink: "l",
  character: "c",
  block: "b",
  fifo: "p",
  socket: "s",
  link: "h",
  tree: "t",
  chunks: "k",
} as const;

function letter(writer: RecipeWriter, kind: keyof typeof LETTERS): void {
  writer.number(LETTERS[kind].charCodeAt(0));
}

/** Writes each path as what it shares with the path before, and the rest. */
function pathWriter(writer: RecipeWriter): (path: string) => void {
  let previous = Buffer.alloc(PATH_BYTES_MAX);
  let previousBytes = 0;
  let current = Buffer.alloc(PATH_BYTES_MAX);
  return (path) => {
    const length = current.write(path);
    const most = Math.min(length, previousBytes);
    let shared = 0;
    while (shared < most && current[shared] === previous[shared]) shared += 1;
    writer.number(shared);
    writer.string(current.subarray(shared, length));
    [previous, current, previousBytes] = [current, previous, length];
  };
}

function writeContent(writer: RecipeWriter, content: RecipeContent): void {
  writer.number(content.sizeBytes);
  writer.bytes(Buffer.from(content.head, "hex"));
}

function writeCommon(writer: RecipeWriter, entry: TreeEntry): void {
  for (const field of [entry.mode, entry.uid, entry.gid]) writer.number(field);
  writer.number(entry.xattrs.size);
  for (const [name, value] of entry.xattrs) {
    writer.text(name);
    writer.string(value);
  }
}

function writeBody(writer: RecipeWriter, parts: TreeParts, entry: TreeEntry): void {
  if (entry.type === "file") {
    const content = parts.contents[numberOf(entry.content)];
    if (content === undefined) writer.number(0);
    else writeContent(writer, content);
  } else if (entry.type === "symlink") writer.text(entry.target);
  else if (entry.type === "character" || entry.type === "block") {
    writer.number(entry.major);
    writer.number(entry.minor);
  }
}

function writeTree(writer: RecipeWriter, parts: TreeParts): void {
  const writePath = pathWriter(writer);
  writer.number(parts.entries.length);
  for (const entry of parts.entries) {
    const group = entry.type === "file" ? entry.linkGroup : undefined;
    const later = group !== undefined && group !== entry.path;
    letter(writer, later ? "link" : entry.type);
    writePath(entry.path);
    if (later) {
      writer.text(group);
      continue;
    }
    writeCommon(writer, entry);
    writeBody(writer, parts, entry);
    writer.number(zigzag(entry.mtime_s));
  }
}

function writeChunks(writer: RecipeWriter, { sequence, contents }: ChunkParts): void {
  writer.number(sequence.length);
  for (const index of sequence) {
    const content = contents[index];
    if (content !== undefined) writeContent(writer, content);
  }
}

/** The encoding of a recipe piece by piece; a piece is in memory that is used again. */
export function encodeParts(parts: RecipeParts, flush: (bytes: Buffer) => void): void {
  const writer = recipeWriter(flush);
  writer.bytes(Buffer.from(HEADING));
  letter(writer, parts.kind);
  if (parts.kind === "tree") writeTree(writer, parts);
  else writeChunks(writer, parts);
  writer.end();
}

/** The one encoding of a recipe (`doc/recipe.md`). */
export function encodeRecipe(recipe: Recipe): Uint8Array {
  const pieces: Buffer[] = [];
  encodeParts(partsOf(recipe), (bytes) => pieces.push(Buffer.from(bytes)));
  return Buffer.concat(pieces);
}
