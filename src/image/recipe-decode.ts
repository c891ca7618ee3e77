import { TesseraError } from "#core";
import type { Recipe, TreeEntry } from "./contract.ts";
import { recipeInvalid } from "./errors.ts";
import { PATH_BYTES_MAX, compareBytes } from "./path.ts";
import { decodeText, recipeReader, unzigzag, type RecipeReader } from "./recipe-bytes.ts";
import { CHUNK_COST_BYTES, RECIPE_MEMORY_BYTES_MAX, rowCost, xattrCost } from "./recipe-cost.ts";
import { HEADING, LETTERS, encodeParts } from "./recipe-encode.ts";
import { chunkRecipe, treeRecipe } from "./recipe-model.ts";
import {
  EMPTY_CONTENT,
  NumberedContent,
  numbering,
  partsOf,
  type Numbering,
} from "./recipe-parts.ts";
import { ENTRIES_MAX, canonicalTree } from "./tree.ts";

/** What a recipe may cost; each has a default that suits every component. */
export interface RecipeLimits {
  /** Entries of a tree, or chunks: at most and by default 2,000,000. */
  readonly entriesMax?: number;
  /** Estimated memory of the decoded recipe; by default 384 MiB. */
  readonly memoryBytesMax?: number;
}

const XATTRS_MAX = 8192;
const XATTR_NAME_BYTES_MAX = 300;
const XATTR_VALUE_BYTES_MAX = 0xffff;
const IMAGE_BYTES_MAX = 2 ** 44;
const HEAD_BYTES = 8;

interface Decoding {
  readonly reader: RecipeReader;
  readonly numbered: Numbering;
  readonly sources: NumberedContent[];
  /** The rows so far. */
  readonly entries: TreeEntry[];
  /** The path before, and its bytes. */
  readonly path: Buffer;
  pathBytes: number;
  memoryBytes: number;
}

function spend(state: Decoding, bytes: number): void {
  state.memoryBytes -= bytes;
  if (state.memoryBytes < 0) throw recipeInvalid("it takes too much memory");
}

function readPath(state: Decoding): string {
  const shared = state.reader.number();
  if (shared > state.pathBytes) throw recipeInvalid("a path shares more than there is");
  const rest = state.reader.string(PATH_BYTES_MAX - shared);
  state.path.set(rest, shared);
  state.pathBytes = shared + rest.length;
  return decodeText(state.path.subarray(0, state.pathBytes));
}

const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

function readXattrs(state: Decoding): ReadonlyMap<string, Uint8Array> {
  const { reader } = state;
  const count = reader.number();
  if (count === 0) return NO_XATTRS;
  if (count > XATTRS_MAX) throw recipeInvalid("an entry has too many xattrs");
  const xattrs = new Map<string, Uint8Array>();
  for (let index = 0; index < count; index += 1) {
    const nameBytes = reader.string(XATTR_NAME_BYTES_MAX);
    const valueBytes = reader.string(XATTR_VALUE_BYTES_MAX);
    spend(state, xattrCost(nameBytes.length, valueBytes.length));
    const [name, value] = [decodeText(nameBytes), Uint8Array.from(valueBytes)];
    if (xattrs.has(name)) throw recipeInvalid(`an entry has the xattr ${name} twice`);
    xattrs.set(name, value);
  }
  return xattrs;
}

function readContent(state: Decoding, path: string): number {
  const sizeBytes = state.reader.number();
  if (sizeBytes === 0) return -1;
  if (sizeBytes > IMAGE_BYTES_MAX) throw recipeInvalid("a content has more than 16 TiB");
  const head = state.reader.bytes(HEAD_BYTES).toString("hex");
  return state.numbered.add(`${head}${sizeBytes}`, { sizeBytes, head, path }).index;
}

function sourceOf(state: Decoding, index: number): NumberedContent {
  if (index < 0) return EMPTY_CONTENT;
  const known = state.sources[index];
  if (known !== undefined) return known;
  const source = new NumberedContent(state.numbered.contents[index]?.sizeBytes ?? 0, index);
  state.sources.push(source);
  return source;
}

/** Where this path is in the rows so far; they are in order, or refused in the end. */
function indexOf(entries: readonly TreeEntry[], path: string): number {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareBytes(entries[middle]?.path ?? "", path) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function readLink(state: Decoding, path: string): TreeEntry {
  const { entries, reader } = state;
  const target = decodeText(reader.string(PATH_BYTES_MAX));
  const index = indexOf(entries, target);
  const first = entries[index];
  if (first?.type !== "file" || first.path !== target) {
    throw recipeInvalid(`"${path}" is a link of what is no file before it`);
  }
  const linkGroup = target;
  if (first.linkGroup === undefined) entries[index] = { ...first, linkGroup };
  return { ...first, path, linkGroup };
}

type Body =
  | { readonly type: "file"; readonly content: NumberedContent }
  | { readonly type: "symlink"; readonly target: string }
  | { readonly type: "character" | "block"; readonly major: number; readonly minor: number }
  | { readonly type: "directory" | "fifo" | "socket" };

function readTarget(state: Decoding): Body {
  const target = decodeText(state.reader.string(PATH_BYTES_MAX));
  return { type: "symlink", target };
}

function readDevice({ reader }: Decoding, type: "character" | "block"): Body {
  return { type, major: reader.number(), minor: reader.number() };
}

function readBody(state: Decoding, kind: string, path: string): Body {
  switch (kind) {
    case LETTERS.directory:
      return { type: "directory" };
    case LETTERS.file:
      return { type: "file", content: sourceOf(state, readContent(state, path)) };
    case LETTERS.symlink:
      return readTarget(state);
    case LETTERS.character:
      return readDevice(state, "character");
    case LETTERS.block:
      return readDevice(state, "block");
    case LETTERS.fifo:
      return { type: "fifo" };
    case LETTERS.socket:
      return { type: "socket" };
    default:
      throw recipeInvalid("an entry is of an unknown kind");
  }
}

function entryOf(state: Decoding, kind: string, path: string): TreeEntry {
  const { reader } = state;
  const [mode, uid, gid] = [reader.number(), reader.number(), reader.number()];
  const xattrs = readXattrs(state);
  const body = readBody(state, kind, path);
  return { path, mode, uid, gid, mtime_s: unzigzag(reader.number()), xattrs, ...body };
}

function readEntry(state: Decoding): TreeEntry {
  const kind = String.fromCharCode(state.reader.number());
  const path = readPath(state);
  const entry = kind === LETTERS.link ? readLink(state, path) : entryOf(state, kind, path);
  spend(state, rowCost(entry));
  return entry;
}

function readCount(state: Decoding, entriesMax: number): number {
  const count = state.reader.number();
  if (count <= Math.min(entriesMax, ENTRIES_MAX, state.reader.remaining())) return count;
  throw recipeInvalid(`it claims ${count} entries`);
}

/** Runs what checks trees by their own rules; its errors are the recipe's. */
function checked<T>(make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof TesseraError) || cause.fault !== "misuse") throw cause;
    throw recipeInvalid(cause.message, cause);
  }
}

function readTree(state: Decoding, entriesMax: number): Recipe {
  const count = readCount(state, entriesMax);
  const { entries } = state;
  for (let index = 0; index < count; index += 1) entries.push(readEntry(state));
  return checked(() => treeRecipe(canonicalTree(entries).entries, state.numbered.contents));
}

function readChunks(state: Decoding, entriesMax: number): Recipe {
  const sequence = new Uint32Array(readCount(state, entriesMax));
  let sizeBytes = 0;
  for (let index = 0; index < sequence.length; index += 1) {
    spend(state, CHUNK_COST_BYTES);
    const content = readContent(state, "");
    if (content < 0) throw recipeInvalid("a chunk is empty");
    sequence[index] = content;
    sizeBytes += state.numbered.contents[content]?.sizeBytes ?? 0;
    if (sizeBytes > IMAGE_BYTES_MAX) throw recipeInvalid("the image would exceed 16 TiB");
  }
  return chunkRecipe(sequence, state.numbered.contents);
}

/** One recipe has one encoding: what is not the encoding of what it says is not accepted. */
function checkCanonical(recipe: Recipe, input: Buffer): void {
  let at = 0;
  encodeParts(partsOf(recipe), (bytes) => {
    if (!bytes.equals(input.subarray(at, at + bytes.length))) {
      throw recipeInvalid("it is not in canonical form");
    }
    at += bytes.length;
  });
  if (at !== input.length) throw recipeInvalid("it is not in canonical form");
}

/**
 * The recipe that these bytes encode, from whatever source: every count, length and reference is
 * checked, and memory is bounded. Takes a copy of what it keeps.
 *
 * @throws `image.recipe-invalid` (corrupt)
 */
export function decodeRecipe(bytes: Uint8Array, limits: RecipeLimits = {}): Recipe {
  const input = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const reader = recipeReader(input);
  const state: Decoding = {
    reader,
    numbered: numbering(),
    sources: [],
    entries: [],
    path: Buffer.alloc(PATH_BYTES_MAX),
    pathBytes: 0,
    memoryBytes: limits.memoryBytesMax ?? RECIPE_MEMORY_BYTES_MAX,
  };
  if (reader.bytes(HEADING.length).toString("latin1") !== HEADING) {
    throw recipeInvalid("it does not begin as one");
  }
  const kind = String.fromCharCode(reader.number());
  const entriesMax = limits.entriesMax ?? ENTRIES_MAX;
  const tree = kind === LETTERS.tree;
  if (!tree && kind !== LETTERS.chunks) throw recipeInvalid("it is of an unknown kind");
  const recipe = tree ? readTree(state, entriesMax) : readChunks(state, entriesMax);
  if (reader.remaining() > 0) throw recipeInvalid("bytes follow its end");
  checkCanonical(recipe, input);
  return recipe;
}
