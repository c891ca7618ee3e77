import { TesseraError, alignRanges, endOf, mergeRanges, type ByteRange, type World } from "#core";
import { BLOCK_BYTES, checkRange, closedError, type BlockDevice } from "#block";
import { BlockMap, STALE, STALE_ZERO, blocksOf, overlapOf } from "./block-map.ts";
import type { OnDemandDevice, OnDemandState, RemoteReader, StaleRanges } from "./contract.ts";
import { Copier } from "./copier.ts";
import { DurableMap } from "./durable-map.ts";
import { Fetches, type FetchPlace } from "./fetches.ts";
import { RangeLocks } from "./range-locks.ts";
import { ReadAhead, type BlockRun } from "./read-ahead.ts";
import { RemoteSlot } from "./remote-slot.ts";

const PASS_BYTES_MAX = 2 ** 20;
/** Least that is demanded: a small read should not wait for a block to cross a slow link. */
const PAGE_BYTES = 4096;
/** Zeroes of the source are written in such pieces, so that nobody waits long for a lock. */
const ZERO_BYTES_MAX = 2 ** 22;
const RETRY_ms = 1_000;

export interface OnDemandOptions {
  /** The disk; whoever opened it leaves it to the device, which closes it. */
  readonly local: BlockDevice;
  /** Where the map is kept. One that is there is gone on with: the switch was before. */
  readonly mapPath: string;
  readonly remote?: RemoteReader;
}

/** What there is from the switch on. */
interface Armed {
  readonly durable: DurableMap;
  readonly fetches: Fetches;
  readonly copier: Copier;
}

function misuse(code: string, message: string): TesseraError {
  return new TesseraError("misuse", `userdata.${code}`, message);
}

class FileOnDemand implements OnDemandDevice {
  readonly sizeBytes: number;
  readonly complete: Promise<void>;
  readonly #world: World;
  readonly #local: BlockDevice;
  readonly #mapPath: string;
  readonly #remote: RemoteSlot;
  readonly #locks = new RangeLocks();
  readonly #readAhead = new ReadAhead();
  readonly #ended = new AbortController();
  readonly #completed = Promise.withResolvers<void>();
  /** Writes and merges that are under way. */
  readonly #work = new Set<Promise<unknown>>();
  #armed: Armed | undefined;
  #arming = false;
  #closed = false;
  #waitingReads = 0;

  constructor(world: World, { local, mapPath, remote }: OnDemandOptions) {
    this.#world = world;
    this.#local = local;
    this.#mapPath = mapPath;
    this.sizeBytes = local.sizeBytes;
    this.#remote = new RemoteSlot(world);
    this.#remote.set(remote);
    this.complete = this.#completed.promise;
    this.complete.catch(() => undefined);
    this.#ended.signal.addEventListener("abort", () =>
      this.#completed.reject(this.#ended.signal.reason as Error),
    );
  }

  /** Goes on with a map. */
  resume(durable: DurableMap): void {
    const place: FetchPlace = {
      world: this.#world,
      local: this.#local,
      durable,
      locks: this.#locks,
      remote: this.#remote,
      arrived: () => this.#checkComplete(),
      signal: this.#ended.signal,
    };
    const fetches = new Fetches(place);
    this.#armed = { durable, fetches, copier: new Copier(place, fetches) };
    this.#checkComplete();
  }

  async arm({ stale, zeroes = [] }: StaleRanges): Promise<void> {
    if (this.#armed !== undefined || this.#arming) {
      throw misuse("armed-twice", "the switch of this disk was before");
    }
    this.#arming = true;
    try {
      const map = BlockMap.of(this.sizeBytes, stale, zeroes);
      const place = { world: this.#world, path: this.#mapPath, local: this.#local };
      this.resume(await DurableMap.create(place, map));
    } finally {
      this.#arming = false;
    }
  }

  setRemote(remote: RemoteReader | undefined): void {
    this.#remote.set(remote);
  }

  startCopy(hints: readonly ByteRange[] = []): void {
    const { copier, durable } = this.#requireArmed();
    copier.start(hints.map((range) => runOf(range)));
    void this.#copyZeroes(durable);
  }

  state(): OnDemandState {
    const { failure } = this.#remote;
    const map = this.#armed?.durable.map;
    const arrivals = this.#armed?.durable.arrivals;
    return {
      armed: map !== undefined,
      remoteBytes: map?.remoteBytes ?? this.sizeBytes,
      pendingZeroBytes: map?.zeroBytes ?? 0,
      waitingReads: this.#waitingReads,
      demandedBytes: arrivals?.demanded ?? 0,
      backgroundBytes: arrivals?.background ?? 0,
      supersededBytes: arrivals?.superseded ?? 0,
      zeroBytes: arrivals?.zero ?? 0,
      ...(failure === undefined ? {} : { failure }),
    };
  }

  abandon(reason: Error): void {
    this.#ended.abort(reason);
  }

  async finish(): Promise<void> {
    const { durable } = this.#requireArmed();
    if (!durable.map.isLocal) throw misuse("not-complete", "something is still at the source");
    await this.flush();
    await durable.remove();
  }

  async read(target: Uint8Array, offset: number): Promise<void> {
    const range = this.#check(offset, target.length);
    if (this.#armed === undefined) {
      await this.#passThrough(target, offset);
      return;
    }
    await this.#makeLocal(this.#armed, range);
    await this.#local.read(target, offset);
  }

  readNow(target: Uint8Array, offset: number): boolean {
    const range = this.#check(offset, target.length);
    const map = this.#armed?.durable.map;
    if (map === undefined) return false;
    if (!map.isLocal) {
      if (map.missing(range).length > 0) return false;
      this.#lookAhead(range);
    }
    return this.#local.readNow?.(target, offset) ?? false;
  }

  async write(source: Uint8Array, offset: number): Promise<void> {
    const range = this.#check(offset, source.length);
    await this.#supersede(range, () => this.#local.write(source, offset));
  }

  async zero(range: ByteRange): Promise<void> {
    this.#check(range.offset, range.length);
    await this.#supersede(range, () => this.#local.zero(range));
  }

  zeroesQuickly(range: ByteRange): boolean {
    return this.#local.zeroesQuickly?.(range) ?? false;
  }

  async allocated(): Promise<ByteRange[]> {
    const whole = this.#check(0, this.sizeBytes);
    if (this.#armed === undefined) return [whole];
    const { map } = this.#armed.durable;
    const local = await this.#local.allocated();
    return mergeRanges([...local, ...map.missing(whole, STALE)]);
  }

  async flush(): Promise<void> {
    this.#check(0, 0);
    if (this.#armed === undefined) await this.#local.flush();
    else await this.#armed.durable.flush();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#ended.abort(closedError());
    await Promise.allSettled(this.#work);
    await this.#armed?.fetches.settled();
    await this.#armed?.durable.close();
    await this.#local.close();
  }

  /** Before the switch: what the source says at this moment, kept nowhere. */
  async #passThrough(target: Uint8Array, offset: number): Promise<void> {
    for (let at = 0; at < target.length; at += PASS_BYTES_MAX) {
      const part = target.subarray(at, at + PASS_BYTES_MAX);
      const range = { offset: offset + at, length: part.length };
      const bytes = await this.#remote.fetch(range, "demanded", this.#ended.signal);
      if (bytes === undefined) part.fill(0);
      else part.set(bytes);
    }
  }

  async #makeLocal({ durable, fetches, copier }: Armed, range: ByteRange): Promise<void> {
    const { map } = durable;
    if (map.isLocal) return;
    const waits: Promise<unknown>[] = [];
    for (const part of map.missing(range, STALE_ZERO)) waits.push(this.#writeZeroes(durable, part));
    for (const part of map.missing(range, STALE)) {
      for (const block of blocksOf(part)) {
        const wanted = pagesOf(overlapOf(part, map.rangeOf(block)), map.rangeOf(block));
        const done = fetches.demand(wanted, copier.usual_ms);
        copier.demanded(block, done);
        waits.push(done);
      }
    }
    this.#lookAhead(range);
    if (waits.length === 0) return;
    this.#waitingReads += 1;
    try {
      await Promise.all(waits);
    } finally {
      this.#waitingReads -= 1;
    }
  }

  #lookAhead(range: ByteRange): void {
    const ahead = range.length === 0 ? undefined : this.#readAhead.onRead(runOf(range));
    if (ahead !== undefined) this.#armed?.copier.ahead(ahead);
  }

  /** Data first, then the record, then the acknowledgement. */
  async #supersede(range: ByteRange, work: () => Promise<void>): Promise<void> {
    const armed = this.#armed;
    if (armed === undefined) throw misuse("not-armed", "the machine is still at the source");
    const { map } = armed.durable;
    if (map.isLocal || map.missing(range).length === 0) {
      await work();
      return;
    }
    await this.#counted(
      this.#locks.run(range, async () => {
        await work();
        await armed.durable.record("superseded", map.missing(range));
      }),
    );
    this.#checkComplete();
  }

  async #writeZeroes(durable: DurableMap, range: ByteRange): Promise<void> {
    const { map } = durable;
    await this.#counted(
      this.#locks.run(range, async () => {
        const missing = map.missing(range, STALE_ZERO);
        for (const part of missing) await this.#local.zero(part);
        await durable.record("zero", missing);
      }),
    );
    this.#checkComplete();
  }

  /** All that is zero at the source, one piece after the other; a full disk makes it wait. */
  async #copyZeroes(durable: DurableMap): Promise<void> {
    const { signal } = this.#ended;
    while (durable.map.zeroBytes > 0 && !signal.aborted) {
      try {
        await this.#writeAllZeroes(durable);
      } catch (cause) {
        this.#world.log.log("warn", "zeroes cannot be written; trying again", { cause });
        await this.#world.clock.sleep(RETRY_ms, signal).catch(() => undefined);
      }
    }
  }

  async #writeAllZeroes(durable: DurableMap): Promise<void> {
    const whole = { offset: 0, length: this.sizeBytes };
    for (const range of durable.map.missing(whole, STALE_ZERO)) {
      for (let offset = range.offset; offset < endOf(range); offset += ZERO_BYTES_MAX) {
        if (this.#ended.signal.aborted) return;
        const length = Math.min(ZERO_BYTES_MAX, endOf(range) - offset);
        await this.#writeZeroes(durable, { offset, length });
      }
    }
  }

  async #counted<T>(work: Promise<T>): Promise<T> {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.#work.add(settled);
    try {
      return await work;
    } finally {
      this.#work.delete(settled);
    }
  }

  #checkComplete(): void {
    if (this.#armed?.durable.map.isLocal === true) this.#completed.resolve();
  }

  #requireArmed(): Armed {
    if (this.#armed !== undefined) return this.#armed;
    throw misuse("not-armed", "the machine is still at the source");
  }

  #check(offset: number, length: number): ByteRange {
    if (this.#closed) throw closedError();
    const range = { offset, length };
    checkRange(range, this.sizeBytes);
    return range;
  }
}

/** Widened to whole pages within a block. */
function pagesOf(range: ByteRange, block: ByteRange): ByteRange {
  const [wide = range] = alignRanges([range], PAGE_BYTES, endOf(block));
  return wide;
}

/** The blocks that a range touches. */
function runOf({ offset, length }: ByteRange): BlockRun {
  const first = Math.floor(offset / BLOCK_BYTES);
  return { first, count: Math.ceil((offset + length) / BLOCK_BYTES) - first };
}

/**
 * Opens a disk that is filled on demand. Without a map it is before the switch: reads pass through to
 * the source and writes are refused (`userdata.not-armed`) until `arm`. With a map it goes on where
 * it was, whatever ended the process or the host.
 *
 * @throws `userdata.map-invalid` (corrupt)
 */
export async function openOnDemandDevice(
  world: World,
  options: OnDemandOptions,
): Promise<OnDemandDevice> {
  const { local, mapPath: path } = options;
  const device = new FileOnDemand(world, options);
  const durable = await DurableMap.open({ world, path, local });
  if (durable !== undefined) device.resume(durable);
  return device;
}
