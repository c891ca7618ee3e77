import {
  hasCode,
  type BlobReference,
  type ByteRange,
  type Digest,
  type EncodingShares,
  type World,
} from "#core";
import type { ComponentStore, Ingest } from "#repository";
import { MemoryBudget } from "./budget.ts";
import { BufferPool } from "./buffers.ts";
import type {
  LinkReport,
  ContentPiece,
  ContentsRequest,
  DataEndpoint,
  DataReceiver,
  FetchedRecipe,
  HotReceiver,
  MemoryTunnel,
  RemoteBlocks,
  TransferProgress,
  UserDataHelp,
  UserDataReport,
} from "./contract.ts";
import { isRetryable, peerError } from "./errors.ts";
import type { ResumeStore } from "./handshake.ts";
import type { DataIdentity } from "./identity.ts";
import { Lanes } from "./lanes.ts";
import { unlessAborted } from "./link.ts";
import { Patience } from "./patience.ts";
import { BASES_MAX, STREAMS_MAX, TIMING, type Timing } from "./protocol.ts";
import { BlobTarget, receiveBlob } from "./receive-blob.ts";
import { ContentsTarget } from "./contents-target.ts";
import { receiveContents } from "./receive-contents.ts";
import { receiveMap } from "./receive-map.ts";
import { receiveMemory } from "./receive-memory.ts";
import { receiveRecipe } from "./receive-recipe.ts";
import { receiveUserData } from "./receive-user-data.ts";
import type { Receiver } from "./receiver-streams.ts";
import { SessionBlocks } from "./remote-blocks.ts";
import { Slots } from "./slots.ts";
import { newToken } from "./tokens.ts";
import { UserDataTarget } from "./user-data-target.ts";

export interface ReceiverOptions {
  readonly identity: DataIdentity;
  /** The sender's, as it was signed in the negotiation. */
  readonly endpoint: DataEndpoint;
  readonly session: string;
  readonly token: string;
  readonly store: Pick<ComponentStore, "ingest" | "recipe" | "openContents" | "openBlob">;
  readonly onProgress?: (progress: TransferProgress) => void;
  /** Keeps the newest token, so that a restarted agent can resume. */
  readonly resume?: ResumeStore;
  /** Size agreed on for the user data block; a larger one is refused. */
  readonly userDataBytesMax?: number;
  /** What the path is known or announced to carry: more connections are used to fill it. */
  readonly knownBitsPerSecond?: number;
  readonly timing?: Partial<Timing>;
}

/** Memory for packs that are being received and decoded. */
const MEMORY_BYTES = 96 * 2 ** 20;

class DiallingReceiver implements DataReceiver, HotReceiver {
  readonly #world: World;
  readonly #options: ReceiverOptions;
  readonly #link: Lanes;
  readonly #timing: Timing;
  readonly #slots = new Slots(STREAMS_MAX);
  readonly #memory = new MemoryBudget(MEMORY_BYTES);
  readonly #buffers = new BufferPool(MEMORY_BYTES / 2);
  readonly #onProgress: (progress: TransferProgress) => void;

  constructor(world: World, options: ReceiverOptions) {
    this.#world = world;
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    this.#link = new Lanes(world, { ...options, timing: this.#timing });
    this.#onProgress = options.onProgress ?? (() => undefined);
  }

  wireBytes(): number {
    return this.#link.wireBytes();
  }

  link(): LinkReport {
    return this.#link.report();
  }

  close(): Promise<void> {
    this.#link.close();
    return Promise.resolve();
  }

  fetchBlob(
    blob: BlobReference,
    signal: AbortSignal,
    { base }: { readonly base?: Digest } = {},
  ): Promise<number> {
    return this.#slots.run(async () => {
      signal.throwIfAborted();
      const ingest = await openIngest(this.#options.store, blob, signal);
      if (ingest === undefined) return 0;
      const { store } = this.#options;
      const target = new BlobTarget(ingest);
      const onPiece = (): void => this.#blobProgress(target);
      const received = this.#steadily(signal, (receiver) =>
        receiveBlob(receiver, target, { store, base, signal, onPiece }),
      );
      await keptOnFailure(received, target);
      await target.commit();
      return target.wireBytes;
    });
  }

  fetchRecipe(
    component: Digest,
    bases: readonly Digest[],
    signal: AbortSignal,
  ): Promise<FetchedRecipe> {
    const offered = bases.slice(0, BASES_MAX);
    return this.#slots.run(() =>
      this.#steadily(signal, (receiver) =>
        receiveRecipe(receiver, this.#options.store, { component, bases: offered }, signal),
      ),
    );
  }

  fetchContents(
    request: ContentsRequest,
    take: (piece: ContentPiece) => Promise<void>,
    signal: AbortSignal,
  ): Promise<number> {
    if (request.wanted.length === 0) return Promise.resolve(0);
    const target = new ContentsTarget(request, take);
    const { store } = this.#options;
    const place = { store, memory: this.#memory, buffers: this.#buffers };
    const onPiece = (): void => this.#contentsProgress(target);
    return this.#slots.run(async () => {
      do {
        await this.#steadily(signal, (receiver) =>
          receiveContents(receiver, target, place, { signal, onPiece }),
        );
      } while (!target.isWhole());
      return target.wireBytes;
    });
  }

  fetchUserData(
    path: string,
    signal: AbortSignal,
    help: UserDataHelp = {},
  ): Promise<UserDataReport> {
    return this.#slots.run(async () => {
      signal.throwIfAborted();
      const { lineage } = help;
      const target = await UserDataTarget.open(this.#world, path, this.#options.session, lineage);
      try {
        return await this.#receiveUserData(target, signal, help);
      } catch (cause) {
        if (!isLineageFailure(cause, target)) throw cause;
        this.#world.log.log("warn", "an earlier copy does not serve; all blocks travel", { cause });
        await target.restart();
        return await this.#receiveUserData(target, signal, help);
      }
    });
  }

  readBlocks(sizeBytes: number): RemoteBlocks {
    return new SessionBlocks(sizeBytes, (signal, work) =>
      this.#slots.run(() => this.#overLink(signal, work)),
    );
  }

  tunnelMemory(signal: AbortSignal): Promise<MemoryTunnel> {
    const opened = Promise.withResolvers<MemoryTunnel>();
    const onPiece = (done: { readonly doneBytes: number; readonly wireBytes: number }): void => {
      this.#link.succeeded();
      this.#onProgress({ stream: "memory", totalBytes: 0, ...done });
    };
    const carried = this.#slots.run(() =>
      receiveMemory(
        {
          id: newToken(this.#world.random),
          acquire: (life) => this.#link.acquire(life),
          signal,
          onPiece,
          onCut: (cause) =>
            this.#world.log.log("info", "a tunnel's connection broke; it goes on", { cause }),
        },
        opened.resolve,
      ),
    );
    carried.catch(opened.reject);
    return opened.promise;
  }

  fetchMap(name: string, sizeBytes: number, signal: AbortSignal): Promise<ByteRange[]> {
    return this.#slots.run(() =>
      this.#overLink(signal, (receiver) => receiveMap(receiver, { name, sizeBytes }, signal)),
    );
  }

  async #receiveUserData(
    target: UserDataTarget,
    signal: AbortSignal,
    { images = [] }: UserDataHelp,
  ): Promise<UserDataReport> {
    const sizeBytesMax = this.#options.userDataBytesMax ?? Number.MAX_SAFE_INTEGER;
    const onPiece = (totalBytes: number): void => this.#userDataProgress(target, totalBytes);
    const received = this.#steadily(signal, (receiver) =>
      receiveUserData(receiver, target, { signal, sizeBytesMax, images, onPiece }),
    );
    const end = await keptOnFailure(received, target);
    await target.finish(end);
    const totalBytes = end.changedBytes ?? end.allocatedBytes;
    this.#userDataProgress(target, totalBytes, { doneBytes: totalBytes, encodings: end.encodings });
    const { digest, sizeBytes, allocatedBytes } = end;
    const { wireBytes, buildsOnLineage: lineage } = target;
    return { digest, sizeBytes, allocatedBytes, wireBytes, lineage };
  }

  /** Does `work` over a connection, and again over another as long as that may help. */
  async #overLink<T>(signal: AbortSignal, work: (receiver: Receiver) => Promise<T>): Promise<T> {
    for (;;) {
      const receiver = await this.#link.acquire(signal);
      try {
        return await work(receiver);
      } catch (cause) {
        signal.throwIfAborted();
        if (!isRetryable(cause)) throw cause;
        this.#world.log.log("info", "the data connection broke; resuming", { cause });
      }
    }
  }

  /** As `#overLink`, for what comes without a pause: a connection that brings nothing is ended. */
  #steadily<T>(signal: AbortSignal, work: (receiver: Receiver) => Promise<T>): Promise<T> {
    const { clock } = this.#world;
    const at = { now_ms: clock.monotonic(), bytes: this.wireBytes() };
    const patience = new Patience(this.#timing.idle_ms, at);
    return this.#overLink(signal, async (receiver) => {
      patience.begin(clock.monotonic(), this.wireBytes());
      const stop = this.#watch(receiver, patience);
      try {
        return await work(receiver);
      } finally {
        stop();
      }
    });
  }

  #watch(receiver: Receiver, patience: Patience): () => void {
    const { clock } = this.#world;
    const look = (): void => {
      const isOver = patience.isOver(clock.monotonic(), this.wireBytes());
      if (isOver && !receiver.carriesTunnel) {
        receiver.connection.end(peerError("stalled", "a living connection brings nothing"));
      }
      cancel = clock.after(this.#timing.idle_ms / 4, look);
    };
    let cancel = clock.after(this.#timing.idle_ms / 4, look);
    return () => cancel();
  }

  #blobProgress({ blob, position, wireBytes }: BlobTarget): void {
    this.#link.succeeded();
    const { digest, sizeBytes } = blob;
    this.#onProgress({ stream: digest, doneBytes: position, totalBytes: sizeBytes, wireBytes });
  }

  #contentsProgress(target: ContentsTarget): void {
    this.#link.succeeded();
    this.#onProgress({
      stream: target.request.component,
      doneBytes: target.position,
      totalBytes: target.totalBytes,
      wireBytes: target.wireBytes,
      encodings: target.report(),
    });
  }

  #userDataProgress(
    target: UserDataTarget,
    totalBytes: number,
    end: { readonly doneBytes?: number; readonly encodings?: EncodingShares | undefined } = {},
  ): void {
    this.#link.succeeded();
    const { doneBytes = target.receivedBytes, encodings } = end;
    this.#onProgress({
      stream: "userData",
      doneBytes,
      totalBytes,
      wireBytes: target.wireBytes,
      ...(encodings === undefined ? {} : { encodings }),
    });
  }
}

/** True for what comes of an earlier copy that differs from the sender's. */
function isLineageFailure(error: unknown, target: UserDataTarget): boolean {
  if (hasCode(error, "transfer.lineage-mismatch")) return true;
  return target.buildsOnLineage && hasCode(error, "transfer.digest-mismatch");
}

/** Opens an ingest, for which the store may wait long; one that comes too late is released. */
async function openIngest(
  store: ReceiverOptions["store"],
  blob: BlobReference,
  signal: AbortSignal,
): Promise<Ingest | undefined> {
  const opening = store.ingest(blob);
  try {
    return await unlessAborted(opening, signal);
  } catch (cause) {
    void opening.then(
      (ingest) => ingest?.release(),
      () => undefined,
    );
    throw cause;
  }
}

/** Awaits the work; when it fails, keeps what the target has for a later attempt. */
async function keptOnFailure<T>(work: Promise<T>, target: { keep(): Promise<void> }): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    // The first failure is what the caller must see; what could not be kept travels again.
    await target.keep().catch(() => undefined);
    throw cause;
  }
}

/**
 * The receiving side of one session. It dials when the first object is asked for, tries the
 * candidates in turn, and dials again after a cut, with growing pauses, until the call's signal
 * aborts. Calls may run side by side. What the other side refuses is not tried again:
 * `transfer.not-offered`, `transfer.certificate-mismatch`, `transfer.token-refused`,
 * `transfer.digest-mismatch` and the other errors of doc/data-protocol.md.
 */
export function connectReceiver(
  world: World,
  options: ReceiverOptions,
): DataReceiver & HotReceiver {
  return new DiallingReceiver(world, options);
}
