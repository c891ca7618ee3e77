import type { ByteRange } from "#core";

/**
 * A disk of fixed size. Reads and writes are at any offset and length within it; a read of what
 * was never written gives zeroes. `flush` returns when all completed writes are durable. After
 * `close` every call fails with `block.closed`. Overlay, throttling, faults and delays are
 * decorators over it.
 */
export interface BlockDevice {
  readonly sizeBytes: number;
  /** Fills `target`. @throws `block.out-of-range` */
  read(target: Uint8Array, offset: number): Promise<void>;
  write(source: Uint8Array, offset: number): Promise<void>;
  /** Makes the range read as zeroes; frees the space where the device can. */
  zero(range: ByteRange): Promise<void>;
  /** Sorted, merged ranges outside of which every byte is zero. */
  allocated(): Promise<ByteRange[]>;
  flush(): Promise<void>;
  close(): Promise<void>;
}
