import type { BlockDevice } from "#block";
import type { ByteRange } from "#core";

/** Where a server listens or is found: a unix socket, or TCP. */
export type NbdAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number };

/** A device that clients may open by name. */
export interface NbdExport {
  /** At most 4096 bytes of UTF-8; the empty name is the default export. */
  readonly name: string;
  /** Stays the caller's: the server never closes it. One device may be in several exports. */
  readonly device: BlockDevice;
  /** Default false. */
  readonly readOnly?: boolean;
  /** For people; shown by `nbdinfo`. */
  readonly description?: string;
  /**
   * May a client use several connections at once? Default true: all are served from one device,
   * so what one flushes the others see. False for a device that orders requests itself.
   */
  readonly multipleConnections?: boolean;
  /** Preferred size of requests in bytes, a power of two from 512 to 32 MiB. Default 4096. */
  readonly preferredBytes?: number;
}

export interface NbdServerOptions {
  /**
   * A unix socket that is made with mode 0600, or a loopback address; port 0 lets the system
   * choose.
   */
  readonly address: NbdAddress;
  readonly exports: readonly NbdExport[];
  /** Most connections at a time; default 32. */
  readonly connectionsMax?: number;
  /** How long a client may take until it has chosen an export; default 10 s. */
  readonly handshake_ms?: number;
}

export interface NbdServer {
  /** With the port that the system chose. */
  readonly address: NbdAddress;
  /** For QEMU's `-drive`, `nbdinfo` and others: `nbd+unix:///NAME?socket=PATH` (NBD URI). */
  uri(exportName: string): string;
  /** Clients that have opened this export and are still there. */
  clients(exportName: string): number;
  /**
   * Takes no more connections and requests, answers those in hand for at most 2 s, then cuts them
   * off. The devices stay open.
   */
  close(): Promise<void>;
}

export interface NbdClientOptions {
  readonly address: NbdAddress;
  readonly exportName: string;
  /** Metadata contexts beside `base:allocation`, for instance `qemu:dirty-bitmap:NAME`. */
  readonly contexts?: readonly string[];
  /** Most requests on the way at a time; default 64. */
  readonly requestsMax?: number;
  /** Most bytes of requests on the way at a time; default 16 MiB. */
  readonly inFlightBytesMax?: number;
  /** How long connecting and negotiating may take; default 10 s. */
  readonly handshake_ms?: number;
  /** Ends connecting; has no effect on a device that is open. */
  readonly signal?: AbortSignal;
}

/** A run of bytes with one status; what the flags mean is the context's to say. */
export interface StatusExtent extends ByteRange {
  readonly flags: number;
}

/**
 * A server's export as a block device. Requests are sent as they come, up to the limits, and their
 * order is not kept: whoever needs one after the other waits. When the connection ends, by whatever
 * reason, every call fails with that reason; connecting again is the caller's.
 */
export interface NbdDevice extends BlockDevice {
  readonly readOnly: boolean;
  /** The contexts that the server has among those asked for. */
  readonly contexts: readonly string[];
  /** Aborts with a TesseraError when the connection has ended. */
  readonly signal: AbortSignal;
  /**
   * The status of every byte of `range`, in order and without gaps; neighbours differ.
   *
   * @throws `nbd.context-missing` (peer) when the server has no such context, `nbd.too-many-extents`
   *   (peer) above 4 million, and what `read` throws
   */
  status(range: ByteRange, context: string): Promise<StatusExtent[]>;
  /** Tells that the content is not needed: it may read as zeroes or as before. */
  trim(range: ByteRange): Promise<void>;
}
