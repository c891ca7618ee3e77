import type { BlobReference, ByteRange, Digest, EncodingShares } from "#core";
import type { BlockDevice, BlockDigests } from "#block";
import type { Recipe } from "#image";
import type { BlobReader, ContentsReader, HeldRecipe, PackCache } from "#repository";
import type { HeldPart } from "./held-parts.ts";

/** Where a data port may be reached. */
export interface Candidate {
  readonly host: string;
  readonly port: number;
}

/** What one side tells the other in the signed negotiation so that they can connect. */
export interface DataEndpoint {
  readonly candidates: readonly Candidate[];
  /** sha256 of the DER certificate that this side will show. */
  readonly certificate: Digest;
}

/**
 * The sender's side of a migration's data: opens what the receiver asks for. Only what belongs to
 * the migration may be opened: anything else is `transfer.not-offered`.
 */
export interface DataSource {
  openBlob(digest: Digest): Promise<BlobReader>;
  /** The frozen user data block, once the machine has stopped; before: `transfer.not-ready`. */
  openUserData(): Promise<BlockDevice>;
  /**
   * The user data block for single reads, frozen, or as it is while the machine runs: that is for
   * the caller to arrange. Absent: such reads are not offered.
   */
  openBlocks?(): Promise<BlockDevice>;
  /**
   * The stream of a hypervisor whose machine migrates, and its return path. A call may come while an
   * earlier tunnel is still open, when the receiver has begun anew: the later one counts.
   * Absent: no memory is offered.
   */
  openMemory?(): Promise<MemoryTunnel>;
  /**
   * Where the user data block has what `name` says, such as `allocated`; in any order. Names that
   * are not known are `transfer.not-offered`. Absent: there are no maps.
   */
  openMap?(name: string): Promise<readonly ByteRange[]>;
  /** A component that belongs to the migration, by its recipe. */
  openComponent(id: Digest): Promise<ComponentContents>;
  /** One that the receiver says that it holds; undefined when it is not held here. */
  openBase(id: Digest): Promise<ComponentContents | undefined>;
  /** A blob that the receiver says that it holds; undefined when it is not held here. */
  openBaseBlob?(digest: Digest): Promise<BlobReader | undefined>;
  readonly packs: PackCache;
  /**
   * The copy of the user data block with this digest, and where the present one may differ from
   * it; undefined when it is not kept.
   */
  openLineage?(digest: Digest): Promise<Lineage | undefined>;
  /** Called when all blocks have been read, before the receiver is told: their digests. */
  userDataSent?(digests: BlockDigests): Promise<void>;
  /** The appliance's components, which both sides hold once components are fetched, in order. */
  readonly components?: readonly Digest[];
}

/** A component to read from, whole or by content. */
export interface ComponentContents extends HeldRecipe {
  readonly reader: ContentsReader;
}

/** An earlier copy of a user data block. */
export interface Lineage {
  readonly old: BlockDevice;
  /** Outside of these the present block equals the old one; absent when that is not known. */
  readonly changed?: readonly ByteRange[];
  /** Of the old copy, checked; without them it is read and hashed. */
  readonly digests?: BlockDigests;
}

/** A recipe as it came, with the bases that the sender holds too. */
export interface FetchedRecipe {
  readonly recipe: Recipe;
  readonly bases: readonly Digest[];
  readonly wireBytes: number;
}

export interface ContentsRequest {
  readonly component: Digest;
  readonly recipe: Recipe;
  /** As {@link FetchedRecipe} has them. */
  readonly bases: readonly Digest[];
  /** Ascending indices of the recipe's contents. */
  readonly wanted: readonly number[];
  /**
   * What is there of wanted contents and need not come: at most 32 parts, those of a content
   * ascending and apart, and never all of it.
   */
  readonly held?: readonly HeldPart[];
  /**
   * Reads back contents that `take` has taken whole; with it the sender may refer to them, so that
   * what the wanted contents have in common travels once.
   */
  readonly own?: Pick<ContentsReader, "read">;
}

/** A run of a content's bytes that has come. */
export interface ContentPiece {
  readonly content: number;
  readonly offset: number;
  /** Valid until the promise of its consumer resolves. */
  readonly bytes: Uint8Array;
  /** They came as changes of contents that are held here. */
  readonly patched?: boolean;
}

export interface TransferProgress {
  readonly stream: string;
  readonly doneBytes: number;
  /** 0 where nobody knows: of memory. */
  readonly totalBytes: number;
  /** On the wire. */
  readonly wireBytes: number;
  /** What the stream's bytes so far were compressed with; at the sender of any stream. */
  readonly encodings?: EncodingShares;
  /** Bytes that need not cross the wire; where a component is put together. */
  readonly savedBytes?: number;
  /** The cloud that the last bytes came from, where there may be several. */
  readonly source?: string;
}

/** What a receiver has that makes a user data block's way shorter. */
export interface UserDataHelp {
  /**
   * A raw file with an earlier copy of the user data block. When the sender has that copy too, the
   * file is consumed: the user data block is made of it. `path.blocks` beside it may hold the digests
   * of its blocks.
   */
  readonly lineage?: { readonly path: string; readonly digest: Digest };
  /** Opens the images of the appliance's components, which are all held, in the appliance's order. */
  readonly images?: readonly (() => Promise<BlobReader>)[];
}

export interface UserDataReport {
  /** Over index and content of every non-zero block: see `userDataDigest`. */
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly wireBytes: number;
  /** It came as changes of an earlier copy. */
  readonly lineage?: boolean;
}

/** What a receiver has measured of its link to a source; absent before there are data. */
export interface LinkReport {
  /** Connections at present. */
  readonly lanes: number;
  /** All connections together, lately. */
  readonly bitsPerSecond?: number;
  /** The shortest lately. */
  readonly roundTrip_ms?: number;
}

/** Reads of blocks at the sender, answered in any order. */
export interface RemoteBlocks {
  /**
   * The bytes of a range of 1 byte to 1 MiB, or undefined where all are zero. What is demanded goes
   * before everything else on the link. Waits while the link is cut, and asks again over the next
   * connection; the signal cancels it.
   *
   * @throws `transfer.not-offered`, `transfer.size-mismatch` and other errors of the session
   */
  fetch(
    range: ByteRange,
    priority: "demanded" | "background",
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined>;
  /**
   * As `fetch`, of a range of which something is here that may be what is there.
   *
   * @param known sha256 of what is here
   * @returns `same` where what is there has that digest; a sender that cannot compare sends it all
   */
  fetchUnless(
    range: ByteRange,
    known: Uint8Array,
    priority: "demanded" | "background",
    signal: AbortSignal,
  ): Promise<Uint8Array | "same" | undefined>;
  /** What is under way fails with `transfer.cancelled`. */
  close(): void;
}

/**
 * A connection of two hypervisors, seen from the side of one of them: bytes in order one way, and a
 * return path. It outlives the data connections that carry it, as long as both agents live; what is on
 * its way when one breaks is sent again over the next. While there is none both directions stand still.
 */
export interface MemoryTunnel {
  /**
   * To be taken once, by one taker, and each chunk is the taker's to keep. Ends when the hypervisor
   * at the source has written all. Not to ask for the next is the back-pressure.
   *
   * @throws why the tunnel has ended before: `transfer.cancelled`, `transfer.tunnel-lost` and others
   */
  readonly chunks: AsyncIterable<Uint8Array>;
  /**
   * Sends bytes towards the hypervisor at the source, in the order of the calls and before all data;
   * resolves when they are on their way or kept for the next connection, or, at the source, when the
   * hypervisor has them.
   *
   * @throws why the tunnel has ended
   */
  reply(bytes: Uint8Array): Promise<void>;
  /** Ends the tunnel, if it has not ended; `chunks` ends or fails. @param reason absent: all is well */
  close(reason?: unknown): Promise<void>;
  /** At the source: told when a connection carries the tunnel, and when none does any more. */
  carried?(isCarried: boolean): void;
}

/** The part of a receiver that serves machines which cross while they run. */
export interface HotReceiver extends BlocksReceiver {
  /**
   * Opens a tunnel to the source's hypervisor, once there is a connection. It goes on over the next
   * connection after a cut, while its chunks are taken, and must be closed unless they have ended or
   * failed. It takes one of the session's eight streams.
   *
   * @param signal ends the tunnel at any time
   * @throws `transfer.not-offered` and other errors of the session
   */
  tunnelMemory(signal: AbortSignal): Promise<MemoryTunnel>;
  /**
   * Where the user data block of `sizeBytes` has what `name` says: ascending and apart, at most 2^20
   * ranges; where there were more, small gaps are taken in.
   *
   * @param name 1 to 32 lower-case letters, digits and `-`, the first a letter
   * @throws `transfer.not-offered`, `transfer.protocol-violation` for ranges beyond the end
   */
  fetchMap(name: string, sizeBytes: number, signal: AbortSignal): Promise<ByteRange[]>;
}

/** The part of a receiver that reads single blocks. */
export interface BlocksReceiver {
  /**
   * Reads of the user data block of `sizeBytes`, for as long as they are needed. They take two of the
   * session's eight streams, from the first read of each priority on.
   */
  readBlocks(sizeBytes: number): RemoteBlocks;
}

/**
 * The receiver's side: one connection to a source, re-established as needed. Every method resumes
 * by itself after a cut connection until `signal` aborts; what had arrived durably does not travel
 * again.
 */
export interface DataReceiver {
  /**
   * Fetches and commits a blob into the store; returns the bytes that crossed the wire. `base` is a
   * held blob that is likely to have the same bytes in places: it serves as dictionary where both
   * are at most 16 MiB and the sender holds it too.
   */
  fetchBlob(
    blob: BlobReference,
    signal: AbortSignal,
    options?: { readonly base?: Digest },
  ): Promise<number>;
  /**
   * Fetches the recipe of a component's image. @throws `transfer.not-offered`; `image.recipe-invalid`
   */
  fetchRecipe(
    component: Digest,
    bases: readonly Digest[],
    signal: AbortSignal,
  ): Promise<FetchedRecipe>;
  /**
   * Fetches contents, in the sender's order, each byte at least once. `take` is called for one
   * piece after the other; its promise is the back-pressure. Resumes over cut connections after the
   * last pack of which `take` has taken everything. Returns the bytes on the wire.
   *
   * @throws `transfer.not-offered`, `transfer.pack-invalid` (peer), what `take` throws
   */
  fetchContents(
    request: ContentsRequest,
    take: (piece: ContentPiece) => Promise<void>,
    signal: AbortSignal,
  ): Promise<number>;
  /**
   * Fetches the user data block into `path`. `path` appears only when the whole is verified and
   * durable; a partial file and its resume map lie beside it. `path.blocks` then holds the digests
   * of its blocks. When the sender does not have the copy that `help` offers, all blocks travel.
   */
  fetchUserData(path: string, signal: AbortSignal, help?: UserDataHelp): Promise<UserDataReport>;
  /** Bytes read from and written to the sockets so far. */
  wireBytes(): number;
  /** For receipts, and to rank sources. */
  link?(): LinkReport;
  close(): Promise<void>;
}
