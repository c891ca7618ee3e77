import type { ContentSource } from "./contract.ts";

const WINDOW_BYTES = 65_536;
const WINDOWS_MAX = 64;

/** Reads small pieces through a cache of 4 MiB, the least recently used piece of it leaving first. */
export interface WindowReader {
  /** The bytes, not to be changed nor kept for long; the caller stays within the source. */
  read(position: number, length: number): Promise<Buffer>;
  /** The same where they are at hand. */
  held(position: number, length: number): Buffer | undefined;
}

export function windowReader(source: ContentSource): WindowReader {
  const windows = new Map<number, Buffer>();
  const windowAt = async (index: number): Promise<Buffer> => {
    const held = windows.get(index);
    if (held !== undefined) {
      windows.delete(index);
      windows.set(index, held);
      return held;
    }
    const start = index * WINDOW_BYTES;
    const window = Buffer.allocUnsafeSlow(Math.min(WINDOW_BYTES, source.sizeBytes - start));
    await source.read(window, start);
    for (const oldest of windows.keys()) {
      if (windows.size < WINDOWS_MAX) break;
      windows.delete(oldest);
    }
    windows.set(index, window);
    return window;
  };
  return {
    held(position, length) {
      const index = Math.floor(position / WINDOW_BYTES);
      const start = position - index * WINDOW_BYTES;
      const bytes = windows.get(index)?.subarray(start, start + length);
      return bytes?.length === length ? bytes : undefined;
    },
    async read(position, length) {
      if (length === 0) return Buffer.alloc(0);
      const first = Math.floor(position / WINDOW_BYTES);
      const window = await windowAt(first);
      const start = position - first * WINDOW_BYTES;
      if (start + length <= window.length) return window.subarray(start, start + length);
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

/** A source that reads through a cache. */
export function windowSource(reader: WindowReader, sizeBytes: number): ContentSource {
  return {
    sizeBytes,
    async read(target, position) {
      target.set(await reader.read(position, target.length));
    },
  };
}
