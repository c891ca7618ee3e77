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
  /**
   * Fills `target` at once where that takes no waiting to speak of; false, with any content in
   * `target`, where `read` has to be asked. Fails as `read` does.
   */
  readNow?(target: Uint8Array, offset: number): boolean;
  write(source: Uint8Array, offset: number): Promise<void>;
  /** Makes the range read as zeroes; frees the space where the device can. */
  zero(range: ByteRange): Promise<void>;
  /** True when `zero` of this range takes less time than to write as many bytes. */
  zeroesQuickly?(range: ByteRange): boolean;
  /** Sorted, merged ranges outside of which every byte is zero. */
  allocated(): Promise<ByteRange[]>;
  flush(): Promise<void>;
  close(): Promise<void>;
}
