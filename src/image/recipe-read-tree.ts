/** Reads an image that our writer made. */
import { TesseraError } from "#core";
import type { ContentSource, Recipe, TreeEntry } from "./contract.ts";
import { BLOCK_BYTES } from "./erofs-format.ts";
import { planErofs, type ErofsPlan, type PlannedInode } from "./erofs-plan.ts";
import { readErofs } from "./erofs-read.ts";
import { inodeRuns, tailPosition } from "./erofs-runs.ts";
import { firstBlock } from "./erofs-write.ts";
import type { Collector } from "./recipe-collect.ts";
import { treeFits } from "./recipe-cost.ts";
import { identityOf, treeRecipe } from "./recipe-model.ts";
import { EMPTY_CONTENT, NumberedContent } from "./recipe-parts.ts";
import { sequentialReader, type SequentialReader } from "./sequential.ts";
import { windowReader, type WindowReader } from "./window.ts";

/** Contents up to this size are hashed in one piece. */
const WHOLE_BYTES = 1024 * 1024;

/** Undefined where an image is not what our writer makes. */
async function foreign<T>(attempt: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await attempt();
  } catch (error) {
    const ours = error instanceof TesseraError && /^image\.(erofs-|too-large)/.test(error.code);
    if (ours) return undefined;
    throw error;
  }
}

/** The plan by which our writer would make this image, when the image could come from it. */
async function planOfImage(
  image: ContentSource,
): Promise<{ entries: readonly TreeEntry[]; plan: ErofsPlan } | undefined> {
  return await foreign(async () => {
    const tree = await readErofs(image);
    if (!treeFits(tree.entries)) return undefined;
    const plan = planErofs(tree);
    return plan.blocks * BLOCK_BYTES === image.sizeBytes
      ? { entries: tree.entries, plan }
      : undefined;
  });
}

/** Passes the next bytes; false when they are not these. */
async function passEqual(reader: SequentialReader, expected: Uint8Array): Promise<boolean> {
  if (expected.length === 0) return true;
  for (let done = 0; done < expected.length;) {
    const bytes = await reader.peek(Math.min(expected.length - done, WHOLE_BYTES));
    if (bytes.length === 0) return false;
    if (Buffer.compare(bytes, expected.subarray(done, done + bytes.length)) !== 0) return false;
    reader.skip(bytes.length);
    done += bytes.length;
  }
  return true;
}

const ZEROES = Buffer.alloc(BLOCK_BYTES);

async function passZeroes(reader: SequentialReader, length: number): Promise<boolean> {
  if (length === 0) return true;
  for (let left = length; left > 0; left -= BLOCK_BYTES) {
    if (!(await passEqual(reader, ZEROES.subarray(0, left)))) return false;
  }
  return true;
}

/** True when the blocks of inodes are as planned, apart from the tails of files. */
async function sameInodes(plan: ErofsPlan, reader: SequentialReader): Promise<boolean> {
  let position = BLOCK_BYTES;
  for (const run of inodeRuns(plan)) {
    if (!(await passZeroes(reader, run.position - position))) return false;
    position = run.position + ("bytes" in run ? run.bytes.length : run.length);
    if ("bytes" in run) {
      if (!(await passEqual(reader, run.bytes))) return false;
    } else {
      await reader.peek(run.length);
      reader.skip(run.length);
    }
  }
  return await passZeroes(reader, plan.dataBlock * BLOCK_BYTES - position);
}

interface Pass {
  readonly plan: ErofsPlan;
  /** From the first block of data on. */
  readonly data: SequentialReader;
  /** For tails. */
  readonly tails: WindowReader;
  readonly collector: Collector;
  readonly scratch: Uint8Array;
}

async function tailOf(pass: Pass, inode: PlannedInode): Promise<Uint8Array> {
  if (inode.tailBytes === 0) return ZEROES.subarray(0, 0);
  const [position, length] = [tailPosition(inode), inode.tailBytes];
  return pass.tails.held(position, length) ?? (await pass.tails.read(position, length));
}

function joined(scratch: Uint8Array, head: Uint8Array, tail: Uint8Array): Uint8Array {
  scratch.set(head);
  scratch.set(tail, head.length);
  return scratch.subarray(0, head.length + tail.length);
}

/** The number of a file's content; reads and hashes it. */
async function numberContent(pass: Pass, inode: PlannedInode): Promise<number> {
  const headBytes = inode.sizeBytes - inode.tailBytes;
  const tail = await tailOf(pass, inode);
  if (inode.sizeBytes > WHOLE_BYTES) {
    const writing = pass.collector.begin(inode.sizeBytes, inode.entry.path);
    for (let done = 0; done < headBytes;) {
      const bytes = await pass.data.peek(headBytes - done);
      writing.add(bytes);
      pass.data.skip(bytes.length);
      done += bytes.length;
    }
    writing.add(tail);
    return writing.end();
  }
  const head = headBytes === 0 ? tail : await pass.data.peek(headBytes);
  const bytes = headBytes === 0 || tail.length === 0 ? head : joined(pass.scratch, head, tail);
  const index = pass.collector.add(bytes, inode.entry.path);
  pass.data.skip(headBytes);
  return index;
}

/** Numbers the contents of all files; undefined when a block is not as planned. */
async function numberContents(
  pass: Pass,
): Promise<ReadonlyMap<ContentSource, NumberedContent> | undefined> {
  const numbers = new Map<ContentSource, NumberedContent>();
  const byIndex: NumberedContent[] = [];
  for (const inode of pass.plan.inodes) {
    const { entry, sizeBytes } = inode;
    if (entry.type === "file" && sizeBytes > 0) {
      const index = await numberContent(pass, inode);
      byIndex[index] ??= new NumberedContent(sizeBytes, index);
      numbers.set(entry.content, byIndex[index]);
    } else if (inode.blocks > 0) {
      const body = pass.plan.metadataOf(inode).subarray(0, sizeBytes - inode.tailBytes);
      if (!(await passEqual(pass.data, body))) return undefined;
    }
    const padding = inode.blocks * BLOCK_BYTES - (sizeBytes - inode.tailBytes);
    if (!(await passZeroes(pass.data, inode.blocks === 0 ? 0 : padding))) return undefined;
  }
  return numbers;
}

async function passImage(pass: Pass, inodes: SequentialReader) {
  try {
    return (await sameInodes(pass.plan, inodes)) ? await numberContents(pass) : undefined;
  } finally {
    await inodes.close();
    await pass.data.close();
  }
}

function numbered(
  entry: TreeEntry,
  numbers: ReadonlyMap<ContentSource, NumberedContent>,
): TreeEntry {
  if (entry.type !== "file") return entry;
  return { ...entry, content: numbers.get(entry.content) ?? EMPTY_CONTENT };
}

/** The recipe of an image that our writer made, byte for byte; undefined for any other. */
export async function readTreeRecipe(
  image: ContentSource,
  collector: Collector,
): Promise<Recipe | undefined> {
  const planned = await planOfImage(image);
  if (planned === undefined) return undefined;
  const { plan } = planned;
  const pass: Pass = {
    plan,
    data: sequentialReader(image, plan.dataBlock * BLOCK_BYTES, WHOLE_BYTES),
    tails: windowReader(image),
    collector,
    scratch: new Uint8Array(Math.min(WHOLE_BYTES, image.sizeBytes)),
  };
  const inodes = sequentialReader(image, BLOCK_BYTES, WHOLE_BYTES);
  const numbers = await passImage(pass, inodes);
  if (numbers === undefined || collector.collided()) return undefined;
  const entries = planned.entries.map((entry) => numbered(entry, numbers));
  const { contents, digests } = collector;
  const numberOf = (content: ContentSource): number => numbers.get(content)?.index ?? -1;
  const recipe = treeRecipe(entries, contents, { plan, numberOf });
  const identity = identityOf(entries, digests);
  const block = new Uint8Array(BLOCK_BYTES);
  await image.read(block, 0);
  return Buffer.compare(firstBlock(plan, identity), block) === 0 ? recipe : undefined;
}
