import type { BlobReference, World } from "#core";
import type { ComponentStore, Ingest } from "#repository";
import type { DataEndpoint, DataReceiver, TransferProgress, UserDataReport } from "./contract.ts";
import { isRetryable } from "./errors.ts";
import type { ResumeStore } from "./handshake.ts";
import type { DataIdentity } from "./identity.ts";
import { Link, unlessAborted } from "./link.ts";
import { STREAMS_MAX, TIMING, type Timing } from "./protocol.ts";
import { BlobTarget, receiveBlob } from "./receive-blob.ts";
import { receiveUserData } from "./receive-user-data.ts";
import type { Receiver } from "./receiver-streams.ts";
import { UserDataTarget } from "./user-data-target.ts";

export interface ReceiverOptions {
  readonly identity: DataIdentity;
  /** The sender's, as it was signed in the negotiation. */
  readonly endpoint: DataEndpoint;
  readonly session: string;
  readonly token: string;
  readonly store: Pick<ComponentStore, "ingest">;
  readonly onProgress?: (progress: TransferProgress) => void;
  /** Keeps the newest token, so that a restarted agent can resume. */
  readonly resume?: ResumeStore;
  /** Size agreed on for the user data block; a larger one is refused. */
  readonly userDataBytesMax?: number;
  readonly timing?: Partial<Timing>;
}

/** Lets so many run at a time; the others wait in line. */
class Slots {
  #free: number;
  readonly #line: (() => void)[] = [];

  constructor(number: number) {
    this.#free = number;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free === 0) await new Promise<void>((resolve) => this.#line.push(resolve));
    else this.#free -= 1;
    try {
      return await work();
    } finally {
      const next = this.#line.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}

class DiallingReceiver implements DataReceiver {
  readonly #world: World;
  readonly #options: ReceiverOptions;
  readonly #link: Link;
  readonly #slots = new Slots(STREAMS_MAX);
  readonly #onProgress: (progress: TransferProgress) => void;

  constructor(world: World, options: ReceiverOptions) {
    this.#world = world;
    this.#options = options;
    this.#link = new Link(world, { ...options, timing: { ...TIMING, ...options.timing } });
    this.#onProgress = options.onProgress ?? (() => undefined);
  }

  wireBytes(): number {
    return this.#link.wireBytes();
  }

  close(): Promise<void> {
    this.#link.close();
    return Promise.resolve();
  }

  fetchBlob(blob: BlobReference, signal: AbortSignal): Promise<number> {
    return this.#slots.run(async () => {
      signal.throwIfAborted();
      const ingest = await openIngest(this.#options.store, blob, signal);
      if (ingest === undefined) return 0;
      const target = new BlobTarget(ingest);
      const received = this.#overLink(signal, (receiver) =>
        receiveBlob(receiver, target, signal, () => this.#blobProgress(target)),
      );
      await keptOnFailure(received, target);
      await target.commit();
      return target.wireBytes;
    });
  }

  fetchUserData(path: string, signal: AbortSignal): Promise<UserDataReport> {
    const { session, userDataBytesMax = Number.MAX_SAFE_INTEGER } = this.#options;
    return this.#slots.run(async () => {
      signal.throwIfAborted();
      const target = await UserDataTarget.open(this.#world, path, session);
      const onPiece = (opened: { readonly allocatedBytes: number }): void =>
        this.#userDataProgress(target, opened.allocatedBytes);
      const options = { signal, sizeBytesMax: userDataBytesMax, onPiece };
      const received = this.#overLink(signal, (receiver) =>
        receiveUserData(receiver, target, options),
      );
      const end = await keptOnFailure(received, target);
      await target.finish(end);
      this.#userDataProgress(target, end.allocatedBytes, end.allocatedBytes);
      const { digest, sizeBytes, allocatedBytes } = end;
      return { digest, sizeBytes, allocatedBytes, wireBytes: target.wireBytes };
    });
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

  #blobProgress({ blob, position, wireBytes }: BlobTarget): void {
    this.#link.succeeded();
    const { digest, sizeBytes } = blob;
    this.#onProgress({ stream: digest, doneBytes: position, totalBytes: sizeBytes, wireBytes });
  }

  #userDataProgress(target: UserDataTarget, totalBytes: number, doneBytes?: number): void {
    this.#link.succeeded();
    this.#onProgress({
      stream: "userData",
      doneBytes: doneBytes ?? target.receivedBytes,
      totalBytes,
      wireBytes: target.wireBytes,
    });
  }
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
export function connectReceiver(world: World, options: ReceiverOptions): DataReceiver {
  return new DiallingReceiver(world, options);
}
