import { TesseraError, endOf, mergeRanges, type ByteRange, type OpenFile, type World } from "#core";
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
import { isZero } from "./zeroes.ts";

/** A disk that is a base with changes over it. */
export interface OverlayDevice extends BlockDevice {
  /** Where the overlay, and not the base, says what the disk holds; whole clusters of 64 KiB. */
  changed(): ByteRange[];
}

const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const COMPRESSED = 1n << 62n;
const ZERO_FLAG = 1n;

type Cluster =
  | { readonly kind: "base" }
  | { readonly kind: "zero" }
  | { readonly kind: "data"; readonly position: number };

const BASE: Cluster = { kind: "base" };

/** Reads up to the file's end; what is behind it is zero. */
async function readPadded(file: OpenFile, target: Uint8Array, position: number): Promise<void> {
  const length = await file.read(target, position);
  target.fill(0, length);
}

class OverlayMap {
  readonly #tables: ReadonlyMap<number, Buffer>;
  readonly #path: string;

  private constructor(tables: ReadonlyMap<number, Buffer>, path: string) {
    this.#tables = tables;
    this.#path = path;
  }

  /** Reads the tables: 64 KiB for each 512 MiB of which something has changed. */
  static async read(file: OpenFile, header: Qcow2Header, path: string): Promise<OverlayMap> {
    const first = Buffer.alloc(header.l1Entries * 8);
    await readPadded(file, first, header.l1Offset);
    const tables = new Map<number, Buffer>();
    for (let number = 0; number < header.l1Entries; number += 1) {
      const position = Number(first.readBigUInt64BE(number * 8) & OFFSET_MASK);
      if (position === 0) continue;
      if (position % CLUSTER_BYTES !== 0) throw unsupported(path, "a table lies askew");
      const table = Buffer.alloc(CLUSTER_BYTES);
      await readPadded(file, table, position);
      tables.set(number, table);
    }
    return new OverlayMap(tables, path);
  }

  /** @throws `block.overlay-unsupported` for a compressed or misplaced cluster */
  at(index: number): Cluster {
    const table = this.#tables.get(Math.floor(index / TABLE_ENTRIES));
    const entry = table?.readBigUInt64BE((index % TABLE_ENTRIES) * 8) ?? 0n;
    if (entry === 0n) return BASE;
    if ((entry & COMPRESSED) !== 0n) throw unsupported(this.#path, "it has compressed clusters");
    if ((entry & ZERO_FLAG) !== 0n) return { kind: "zero" };
    const position = Number(entry & OFFSET_MASK);
    if (position === 0) return BASE;
    if (position % CLUSTER_BYTES === 0) return { kind: "data", position };
    throw unsupported(this.#path, "a cluster lies askew");
  }

  /** The clusters that are not the base's. */
  ranges(sizeBytes: number, keep: (cluster: Cluster) => boolean): ByteRange[] {
    const ranges: ByteRange[] = [];
    for (const number of this.#tables.keys()) {
      for (let at = 0; at < TABLE_ENTRIES; at += 1) {
        const index = number * TABLE_ENTRIES + at;
        const offset = index * CLUSTER_BYTES;
        if (offset >= sizeBytes) break;
        if (!keep(this.at(index))) continue;
        ranges.push({ offset, length: Math.min(CLUSTER_BYTES, sizeBytes - offset) });
      }
    }
    return mergeRanges(ranges);
  }
}

interface Piece {
  readonly cluster: Cluster;
  /** Within the cluster. */
  readonly start: number;
  /** Within the whole range. */
  readonly at: number;
  readonly length: number;
}

function* piecesOf(map: OverlayMap, range: ByteRange): Generator<Piece> {
  for (let at = 0; at < range.length;) {
    const index = Math.floor((range.offset + at) / CLUSTER_BYTES);
    const start = range.offset + at - index * CLUSTER_BYTES;
    const length = Math.min(CLUSTER_BYTES - start, range.length - at);
    yield { cluster: map.at(index), start, at, length };
    at += length;
  }
}

/**
 * A qcow2 file over a raw base, read-only: what the overlay does not say is the base's. No QEMU may
 * write to it meanwhile, or what is read is of several moments. Closing it closes the base.
 *
 * @throws `block.overlay-unsupported` (corrupt): see `decodeHeader`
 */
export async function openOverlayDevice(
  world: World,
  path: string,
  base: BlockDevice,
): Promise<OverlayDevice> {
  const file = await world.files.open(path, "read");
  try {
    const head = Buffer.alloc(HEADER_BYTES);
    await readPadded(file, head, 0);
    const header = decodeHeader(head, path);
    if (header.sizeBytes !== base.sizeBytes) throw unsupported(path, "its base has another size");
    return overlayDevice({ file, path, base, map: await OverlayMap.read(file, header, path) });
  } catch (cause) {
    await file.close();
    throw cause;
  }
}

function overlayDevice(parts: {
  readonly file: OpenFile;
  readonly path: string;
  readonly base: BlockDevice;
  readonly map: OverlayMap;
}): OverlayDevice {
  const { file, path, base, map } = parts;
  const { sizeBytes } = base;
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
      for (const piece of piecesOf(map, { offset, length: target.length })) {
        const { cluster, start, at, length } = piece;
        const part = target.subarray(at, at + length);
        if (cluster.kind === "zero") part.fill(0);
        else if (cluster.kind === "base") await base.read(part, offset + at);
        else await readPadded(file, part, cluster.position + start);
      }
    },
    write: (source, offset) => Promise.try(() => check({ offset, length: source.length }, true)),
    zero: (range) => Promise.try(() => check(range, true)),
    async allocated() {
      check({ offset: 0, length: 0 });
      const own = map.ranges(sizeBytes, ({ kind }) => kind === "data");
      return mergeRanges([...(await base.allocated()), ...own]);
    },
    changed() {
      check({ offset: 0, length: 0 });
      return map.ranges(sizeBytes, ({ kind }) => kind !== "base");
    },
    async flush() {
      check({ offset: 0, length: 0 });
    },
    async close() {
      if (closed) return;
      closed = true;
      await file.close();
      await base.close();
    },
  };
}

/**
 * Makes an empty overlay over a raw base in the same directory, durable when it is there. Whether
 * it is there says whether the base is what counts.
 *
 * @throws `block.overlay-failed` (environment) with the words of `qemu-img`
 */
export async function createOverlay(
  world: World,
  place: { readonly path: string; readonly baseName: string },
): Promise<void> {
  const { files, processes } = world;
  const { path, baseName } = place;
  const beside = `${path}.new`;
  await files.remove(beside);
  const options = "cluster_size=64k,compat=1.1,lazy_refcounts=off";
  const args = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", baseName, "-o", options, beside];
  const { exitCode, errorText } = await processes.run("qemu-img", args);
  if (exitCode !== 0) {
    const message = `no overlay could be made: ${errorText.trim()}`;
    throw new TesseraError("environment", "block.overlay-failed", message, { subject: path });
  }
  const file = await files.open(beside, "write");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
  await files.rename(beside, path);
}

/**
 * Writes what an overlay says into its base. Seen through the overlay nothing changes, at no
 * moment; when this returns, the base alone is the same, durably.
 */
export async function applyOverlay(overlay: OverlayDevice, base: BlockDevice): Promise<void> {
  const buffer = new Uint8Array(CLUSTER_BYTES);
  for (const range of overlay.changed()) {
    for (let offset = range.offset; offset < endOf(range); offset += CLUSTER_BYTES) {
      const bytes = buffer.subarray(0, Math.min(CLUSTER_BYTES, endOf(range) - offset));
      await overlay.read(bytes, offset);
      if (isZero(bytes)) await base.zero({ offset, length: bytes.length });
      else await base.write(bytes, offset);
    }
  }
  await base.flush();
}
