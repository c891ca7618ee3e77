import type { ContentSource } from "./contract.ts";

const WINDOW_BYTES = 65_536;
const WINDOWS_MAX = 64;

/** Reads small pieces through a cache of 4 MiB, the least recently used piece of it leaving first. */
export interface WindowReader {
  /** The bytes, in memory of their own; the caller stays within the source. */
  read(position: number, length: number): Promise<Buffer>;
}

export function windowReader(source: ContentSource): WindowReader {
  const windows = new Map<number, Uint8Array>();
  const windowAt = async (index: number): Promise<Uint8Array> => {
    const held = windows.get(index);
    if (held !== undefined) {
      windows.delete(index);
      windows.set(index, held);
      return held;
    }
    const start = index * WINDOW_BYTES;
    const window = new Uint8Array(Math.min(WINDOW_BYTES, source.sizeBytes - start));
    await source.read(window, start);
    for (const oldest of windows.keys()) {
      if (windows.size < WINDOWS_MAX) break;
      windows.delete(oldest);
    }
    windows.set(index, window);
    return window;
  };
  return {
    async read(position, length) {
      const target = Buffer.alloc(length);
      for (let done = 0; done < length;) {
        const index = Math.floor((position + done) / WINDOW_BYTES);
        const start = position + done - index * WINDOW_BYTES;
        const piece = (await windowAt(index)).subarray(start, start + length - done);
        target.set(piece, done);
        done += piece.length;
      }
      return target;
    },
  };
}
