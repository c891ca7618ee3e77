/** The bytes of a device that are read or written in one step. */
export const PIECE_BYTES = 256 * 1024;

/** Room for a reply's head before a piece. */
const HEAD_BYTES = 64;
const CLASSES: readonly { readonly bytes: number; readonly keptMax: number }[] = [
  { bytes: 8192, keptMax: 128 },
  { bytes: 65_536 + HEAD_BYTES, keptMax: 32 },
  { bytes: PIECE_BYTES + HEAD_BYTES, keptMax: 32 },
];

/** Buffers that are used again: at most 11 MiB of them are kept. */
export class BufferPool {
  readonly #kept = CLASSES.map((): Buffer[] => []);

  /** A buffer of at least this length with any content. */
  take(length: number): Buffer {
    const index = CLASSES.findIndex(({ bytes }) => bytes >= length);
    const bytes = CLASSES[index]?.bytes ?? length;
    return this.#kept[index]?.pop() ?? Buffer.allocUnsafeSlow(bytes);
  }

  /** The buffer, as `take` gave it, is used by nobody any more. */
  give(buffer: Buffer): void {
    const index = CLASSES.findIndex(({ bytes }) => bytes === buffer.length);
    const kept = this.#kept[index];
    if (kept !== undefined && kept.length < (CLASSES[index]?.keptMax ?? 0)) kept.push(buffer);
  }
}
