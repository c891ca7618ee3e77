/** A qcow2 image of its own, read directly: the usual kind, as QEMU writes it. */
import { mergeRanges, type ByteRange, type OpenFile, type World } from "#core";
import type { BlockDevice } from "./contract.ts";
import { checkRange, closedError, readOnlyError } from "./errors.ts";
import {
  CLUSTER_BYTES,
  HEADER_BYTES,
  TABLE_ENTRIES,
  decodeHeader,
  unsupported,
  type Qcow2Header,
} from "./qcow2-header.ts";
import { QuickReads } from "./quick-reads.ts";

const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const COMPRESSED = 1n << 62n;
const ZERO_FLAG = 1n;
/** Bounds the memory for an image whose clusters lie about. */
const RUNS_MAX = 262_144;

/** Clusters that lie one after the other on the disk and in the file. */
interface Run {
  readonly offset: number;
  length: number;
  readonly position: number;
}

/** Where the clusters are; whatever is not plainly right is refused. */
class RunReader {
  readonly runs: Run[] = [];
  readonly #file: OpenFile;
  readonly #fileBytes: number;
  readonly #path: string;
  #tableBytes = 0;

  constructor(file: OpenFile, fileBytes: number, path: string) {
    this.#file = file;
    this.#fileBytes = fileBytes;
    this.#path = path;
  }

  async read({ l1Entries, l1Offset }: Qcow2Header): Promise<readonly Run[]> {
    const first = await this.#table(l1Offset, l1Entries * 8);
    for (let number = 0; number < l1Entries; number += 1) {
      const position = Number(first.readBigUInt64BE(number * 8) & OFFSET_MASK);
      if (position === 0) continue;
      const table = await this.#table(position, CLUSTER_BYTES);
      for (let at = 0; at < TABLE_ENTRIES; at += 1) {
        const entry = table.readBigUInt64BE(at * 8);
        if (entry !== 0n) this.#add((number * TABLE_ENTRIES + at) * CLUSTER_BYTES, entry);
      }
    }
    return this.runs;
  }

  /** All tables together fit into the file: more of them only come where some repeat. */
  async #table(position: number, length: number): Promise<Buffer> {
    this.#tableBytes += length;
    if (position % CLUSTER_BYTES !== 0 || position + length > this.#fileBytes) {
      throw unsupported(this.#path, "a table lies outside");
    }
    if (this.#tableBytes > this.#fileBytes) throw unsupported(this.#path, "its tables repeat");
    const table = Buffer.alloc(length);
    await this.#file.read(table, position);
    return table;
  }

  #add(offset: number, entry: bigint): void {
    if ((entry & COMPRESSED) !== 0n) throw unsupported(this.#path, "it has compressed clusters");
    const position = Number(entry & OFFSET_MASK);
    if ((entry & ZERO_FLAG) !== 0n || position === 0) return;
    if (position % CLUSTER_BYTES !== 0 || position >= this.#fileBytes) {
      throw unsupported(this.#path, "a cluster lies outside");
    }
    const last = this.runs.at(-1);
    const follows =
      last?.offset !== undefined &&
      last.offset + last.length === offset &&
      last.position + last.length === position;
    if (follows) last.length += CLUSTER_BYTES;
    else this.runs.push({ offset, length: CLUSTER_BYTES, position });
    if (this.runs.length > RUNS_MAX) throw unsupported(this.#path, "its clusters lie about");
  }
}

/** The first run that ends behind this byte. */
function firstBehind(runs: readonly Run[], offset: number): number {
  let [low, high] = [0, runs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const run = runs[middle];
    if (run !== undefined && run.offset + run.length <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

interface Piece {
  /** Within the target. */
  readonly at: number;
  readonly length: number;
  /** In the file; absent where the disk is zero. */
  readonly position?: number;
}

function* piecesOf(runs: readonly Run[], { offset, length }: ByteRange): Generator<Piece> {
  let at = 0;
  for (let index = firstBehind(runs, offset); at < length; index += 1) {
    const run = runs[index];
    const start = Math.min(length, Math.max(0, (run?.offset ?? Infinity) - offset));
    if (start > at) yield { at, length: start - at };
    at = start;
    if (run === undefined || at === length) return;
    const within = offset + at - run.offset;
    const held = Math.min(run.length - within, length - at);
    yield { at, length: held, position: run.position + within };
    at += held;
  }
}

/**
 * Opens a qcow2 image that stands alone, read-only. Nobody may write to it meanwhile.
 *
 * @throws `block.overlay-unsupported` (corrupt) for an image with a backing file, with compressed
 *   clusters, and for whatever `decodeHeader` refuses or is not plainly right: QEMU may read it
 */
export async function openQcow2Image(world: World, path: string): Promise<BlockDevice> {
  const file = await world.files.open(path, "read");
  try {
    const { sizeBytes: fileBytes } = await file.status();
    const head = Buffer.alloc(HEADER_BYTES);
    await file.read(head, 0);
    const header = decodeHeader(head, path);
    if (head.readBigUInt64BE(8) !== 0n) throw unsupported(path, "it has a backing file");
    const runs = await new RunReader(file, fileBytes, path).read(header);
    return imageDevice(world, file, path, header.sizeBytes, runs);
  } catch (cause) {
    await file.close();
    throw cause;
  }
}

function imageDevice(
  world: World,
  file: OpenFile,
  path: string,
  sizeBytes: number,
  runs: readonly Run[],
): BlockDevice {
  const quick = new QuickReads(world.clock);
  const { readSync } = file;
  let closed = false;
  const check = (range: ByteRange, writes = false): void => {
    if (closed) throw closedError(path);
    if (writes) throw readOnlyError(path);
    checkRange(range, sizeBytes);
  };
  return {
    sizeBytes,
    async read(target, offset) {
      check({ offset, length: target.length });
      /* The file may end within its last cluster; the rest is zero. */
      for (const { at, length, position } of piecesOf(runs, { offset, length: target.length })) {
        const part = target.subarray(at, at + length);
        part.fill(0, position === undefined ? 0 : await file.read(part, position));
      }
    },
    readNow(target, offset) {
      check({ offset, length: target.length });
      if (readSync === undefined) return false;
      return quick.attempt(target.length, () => {
        for (const { at, length, position } of piecesOf(runs, { offset, length: target.length })) {
          const part = target.subarray(at, at + length);
          part.fill(0, position === undefined ? 0 : readSync(part, position));
        }
      });
    },
    write: (source, offset) => Promise.try(() => check({ offset, length: source.length }, true)),
    zero: (range) => Promise.try(() => check(range, true)),
    async allocated() {
      check({ offset: 0, length: 0 });
      const within = runs.map(({ offset, length }) => ({
        offset,
        length: Math.min(length, sizeBytes - offset),
      }));
      return mergeRanges(within.filter(({ length }) => length > 0));
    },
    async flush() {
      check({ offset: 0, length: 0 });
    },
    async close() {
      if (closed) return;
      closed = true;
      await file.close();
    },
  };
}
