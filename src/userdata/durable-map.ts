import { TesseraError, type ByteRange, type OpenFile, type World } from "#core";
import type { BlockDevice } from "#block";
import type { BlockMap } from "./block-map.ts";
import {
  RECORD_BYTES,
  decodeMapFile,
  encodeRecord,
  encodeSnapshot,
  mapBytesMax,
  recordsThatCount,
  seedOf,
  type ArrivalKind,
  type MapRecord,
} from "./map-format.ts";

/** So many bytes of records may follow a snapshot at least. */
const RECORDS_BYTES_MIN = 2 ** 20;

interface Waiting {
  /** Asked when their turn has come. */
  readonly records: () => readonly MapRecord[];
  readonly done: PromiseWithResolvers<void>;
}

export interface MapPlace {
  readonly world: World;
  readonly path: string;
  /** The disk that the map is of. */
  readonly local: BlockDevice;
}

function bootIdOf({ processes }: World): string {
  const identity = processes.identify(process.pid);
  if (identity !== undefined) return identity.bootId;
  throw new TesseraError("bug", "userdata.no-identity", "this process cannot identify itself");
}

/**
 * The map of a disk, on disk. The rule: data first, then the record, then the acknowledgement. So
 * whatever was acknowledged is in the map even when the process is killed. When the host dies, only
 * what a commit covers counts; a commit is written when the data of all records before it are
 * durable, and {@link flush} returns when it is durable itself.
 */
export class DurableMap {
  readonly map: BlockMap;
  readonly #place: MapPlace;
  readonly #bootId: string;
  readonly #arrivals: Record<ArrivalKind, number>;
  readonly #waiting: Waiting[] = [];
  readonly #syncs = new Set<Promise<void>>();
  #pumping: Promise<void> | undefined;
  #file: OpenFile | undefined;
  /** Grows with every file that replaces the one before. */
  #generation = 0;
  #snapshotBytes = 0;
  #recordBytes = 0;
  /** Where the last record of an arrival ends, and up to where a commit covers them, durably. */
  #newsBytes = 0;
  #committedBytes = 0;
  #compactAtBytes = RECORDS_BYTES_MIN;
  #seed = 0;

  private constructor(place: MapPlace, map: BlockMap, arrivals: Record<ArrivalKind, number>) {
    this.#place = place;
    this.map = map;
    this.#arrivals = arrivals;
    this.#bootId = bootIdOf(place.world);
  }

  /** Flushes the disk and makes a map durable: what it calls local must have been written. */
  static async create(place: MapPlace, map: BlockMap): Promise<DurableMap> {
    const arrivals = { demanded: 0, background: 0, superseded: 0, zero: 0 };
    const durable = new DurableMap(place, map, arrivals);
    await durable.#compact();
    return durable;
  }

  /**
   * What was there when the process or the host ended; undefined without a file.
   *
   * @throws `userdata.map-invalid` (corrupt)
   */
  static async open(place: MapPlace): Promise<DurableMap | undefined> {
    const { world, path, local } = place;
    if ((await world.files.status(path)) === undefined) return undefined;
    const bytes = Buffer.from(await world.files.readFile(path, mapBytesMax(local.sizeBytes)));
    const { map, arrivals, bootId, records } = decodeMapFile(bytes, path, local.sizeBytes);
    const durable = new DurableMap(place, map, { ...arrivals });
    for (const { kind, range } of recordsThatCount(records, bootId === durable.#bootId)) {
      durable.#arrivals[kind] += map.markLocal(range);
    }
    await durable.#compact();
    return durable;
  }

  /** Bytes that became local, by how. */
  get arrivals(): Readonly<Record<ArrivalKind, number>> {
    return this.#arrivals;
  }

  /**
   * Ranges whose data have been written are local now. When it resolves, that is known even if the
   * process is killed, and the map says so.
   */
  record(kind: ArrivalKind, ranges: readonly ByteRange[]): Promise<void> {
    if (ranges.length === 0) return Promise.resolve();
    const records = ranges.map((range) => ({ kind, range }));
    return this.#append(() => records);
  }

  /** Makes all data that have been written durable, and the records of them. */
  async flush(): Promise<void> {
    const generation = this.#generation;
    const coveredBytes = this.#newsBytes;
    const isNews = coveredBytes > this.#committedBytes;
    await this.#place.local.flush();
    // A file that was made anew meanwhile covers more than a commit of the old one would.
    const isCurrent = (): boolean => generation === this.#generation;
    if (!isNews || !isCurrent()) return;
    await this.#append(() => (isCurrent() ? [{ kind: "commit", coveredBytes }] : []));
    if (!isCurrent()) return;
    await this.#sync();
    if (isCurrent()) this.#committedBytes = Math.max(this.#committedBytes, coveredBytes);
  }

  /** Everything is local and durable: the disk needs no map any more. */
  async remove(): Promise<void> {
    await this.close();
    await this.#place.world.files.remove(this.#place.path);
  }

  /** What was recorded before is in the file. */
  async close(): Promise<void> {
    await this.#pumping;
    await Promise.allSettled(this.#syncs);
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async #sync(): Promise<void> {
    const sync = this.#requireFile().sync();
    const settled = sync.catch(() => undefined);
    this.#syncs.add(settled);
    try {
      await sync;
    } finally {
      this.#syncs.delete(settled);
    }
  }

  #requireFile(): OpenFile {
    if (this.#file !== undefined) return this.#file;
    throw new TesseraError("bug", "block.closed", "the map of the disk was closed before", {
      subject: this.#place.path,
    });
  }

  #append(records: Waiting["records"]): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#waiting.push({ records, done });
    this.#pumping ??= this.#pump();
    return done.promise;
  }

  /** Writes what waits, all at once. Never rejects: who waits learns of a failure. */
  async #pump(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      try {
        await this.#write(batch.flatMap(({ records }) => records()));
        for (const { done } of batch) done.resolve();
      } catch (cause) {
        for (const { done } of batch) done.reject(cause);
      }
      if (this.#recordBytes > this.#compactAtBytes) await this.#compactIfPossible();
    }
    this.#pumping = undefined;
  }

  /**
   * Behind the last record that is whole: what a failed write has left there is written over, and
   * counts for nothing since every record is chained to the one before.
   */
  async #write(records: readonly MapRecord[]): Promise<void> {
    const file = this.#requireFile();
    let seed = this.#seed;
    const parts = records.map((record) => {
      const encoded = encodeRecord(record, seed);
      ({ seed } = encoded);
      return encoded.bytes;
    });
    await file.write(Buffer.concat(parts), this.#snapshotBytes + this.#recordBytes);
    this.#seed = seed;
    this.#recordBytes += records.length * RECORD_BYTES;
    for (const record of records) {
      if (record.kind === "commit") continue;
      this.#newsBytes = this.#recordBytes;
      this.#arrivals[record.kind] += this.map.markLocal(record.range);
    }
  }

  /** A full disk is no reason to stop: the file grows on, and it is tried again later. */
  async #compactIfPossible(): Promise<void> {
    try {
      await this.#compact();
    } catch (cause) {
      this.#compactAtBytes *= 2;
      this.#place.world.log.log("warn", "the map of a disk cannot be rewritten yet", { cause });
    }
  }

  /** Writes the map anew; nothing is recorded meanwhile, and all that it says is durable. */
  async #compact(): Promise<void> {
    const { world, path, local } = this.#place;
    await local.flush();
    const bytes = encodeSnapshot({
      map: this.map,
      bootId: this.#bootId,
      arrivals: this.#arrivals,
    });
    await world.files.writeFileAtomic(path, bytes, 0o600);
    const former = this.#file;
    this.#file = await world.files.open(path, "write");
    this.#generation += 1;
    this.#snapshotBytes = bytes.length;
    this.#recordBytes = 0;
    this.#newsBytes = 0;
    this.#committedBytes = 0;
    this.#compactAtBytes = Math.max(RECORDS_BYTES_MIN, 2 * bytes.length);
    this.#seed = seedOf(bytes);
    if (former === undefined) return;
    await Promise.allSettled(this.#syncs);
    await former.close();
  }
}
