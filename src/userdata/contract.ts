import type { ByteRange } from "#core";
import type { BlockDevice } from "#block";

/** How urgent a read of the source is. */
export type FetchPriority = "demanded" | "background";

/** Reads of the frozen user data block at the source. */
export interface RemoteReader {
  /**
   * The bytes of a range of at most 1 MiB, or undefined where all are zero. Waits while the link is
   * cut; gives up when the signal aborts.
   */
  fetch(
    range: ByteRange,
    priority: FetchPriority,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined>;
}

/** What the local file lacks at the moment of the switch, all other bytes being the source's. */
export interface StaleRanges {
  /** Sorted; widened to whole blocks of 64 KiB. */
  readonly stale: readonly ByteRange[];
  /** Of these, what is known to be zeroes or holes at the source: it never crosses the link. */
  readonly zeroes?: readonly ByteRange[];
}

/** Bytes that became local, by how. They survive a restart of the agent. */
export interface ArrivalCounts {
  /** Fetched because the guest waited for them. */
  readonly demandedBytes: number;
  /** Fetched by the copier, or ahead of a sequential reader. */
  readonly backgroundBytes: number;
  /** Written or discarded by the guest before they had come. */
  readonly supersededBytes: number;
  /** Zeroes at the source. */
  readonly zeroBytes: number;
}

export interface OnDemandState extends ArrivalCounts {
  /** False before the switch: reads pass through, writes are refused. */
  readonly armed: boolean;
  /** Bytes of which the only current copy is at the source. */
  readonly remoteBytes: number;
  /** Stale bytes that are zeroes at the source: no link is needed for them. */
  readonly pendingZeroBytes: number;
  /** Reads of the guest that wait for the source now. */
  readonly waitingReads: number;
  /** Why the last fetch failed; absent when the last one succeeded. */
  readonly failure?: unknown;
}

/**
 * A user data block that is partly still at its source. Reads of stale bytes are fetched, writes go
 * to the local file and supersede what is stale. While the source cannot be reached reads wait, as
 * an error would be taken for damage; writes go on.
 */
export interface OnDemandDevice extends BlockDevice {
  /**
   * The switch: from now on what is not stale is local. Returns when that is durable; the local file
   * is flushed for it, so it should have been flushed just before.
   *
   * @throws `userdata.armed-twice` (misuse)
   */
  arm(ranges: StaleRanges): Promise<void>;
  /** The reader to use from now on; undefined while there is none. What was asked is asked again. */
  setRemote(remote: RemoteReader | undefined): void;
  /** Begins to fetch everything. @param hints ranges to begin with: those used recently, in order */
  startCopy(hints?: readonly ByteRange[]): void;
  /** Resolves when everything is local. Rejects when the device is closed or given up before. */
  readonly complete: Promise<void>;
  state(): OnDemandState;
  /**
   * The operator gives the source up: reads that need it fail with `reason` from now on. What is
   * local stays, and writes go on.
   */
  abandon(reason: Error): void;
  /**
   * When all is local and the hypervisor uses the local file itself: flushes and removes the map. Not
   * before, since a disk that is opened again without a map is taken for one before the switch.
   *
   * @throws `userdata.not-complete` (misuse)
   */
  finish(): Promise<void>;
}
