import type { BlobReference, Digest } from "#core";
import type { BlockDevice } from "#block";
import type { BlobReader } from "#repository";

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
}

export interface TransferProgress {
  readonly stream: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** On the wire. */
  readonly wireBytes: number;
}

export interface UserDataReport {
  /** Over index and content of every non-zero block: see `userDataDigest`. */
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly wireBytes: number;
}

/**
 * The receiver's side: one connection to a source, re-established as needed. Every method resumes
 * by itself after a cut connection until `signal` aborts; what had arrived durably does not travel
 * again.
 */
export interface DataReceiver {
  /** Fetches and commits a blob into the store; returns the bytes that crossed the wire. */
  fetchBlob(blob: BlobReference, signal: AbortSignal): Promise<number>;
  /**
   * Fetches the user data block into `path`. `path` appears only when the whole is verified and
   * durable; a partial file and its resume map lie beside it.
   */
  fetchUserData(path: string, signal: AbortSignal): Promise<UserDataReport>;
  /** Bytes read from and written to the sockets so far. */
  wireBytes(): number;
  close(): Promise<void>;
}
