/** Random access to the bytes of an image: a disk, a partition, a file. */
export interface DiskBytes {
  readonly sizeBytes: number;
  /** Fills `target`; the caller stays within `sizeBytes`. */
  read(target: Uint8Array, offset: number): Promise<void>;
}

/** A part of a disk as a disk of its own. */
export function partOf(disk: DiskBytes, offset: number, sizeBytes: number): DiskBytes {
  return { sizeBytes, read: (target, at) => disk.read(target, offset + at) };
}

export async function bytesAt(disk: DiskBytes, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await disk.read(bytes, offset);
  return bytes;
}
