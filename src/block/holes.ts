import { endOf, type ByteRange, type OpenFile, type World } from "#core";
import { mapFile } from "./map.ts";
import { isZero } from "./zeroes.ts";

const CHUNK_BYTES = 1024 * 1024;
const ZEROES = new Uint8Array(65_536);
/** Below it, to write zeroes is quicker than to start a program. */
const PUNCH_BYTES_MIN = 256 * 1024;
const QUICK_BYTES_MIN = 1024 * 1024;
const PAGE_BYTES = 4096;
/** A file system's time stamps may be a tick old; a map that is as young is not kept. */
const STAMP_SLACK_ms = 100;

export interface RawFile {
  readonly world: World;
  readonly file: OpenFile;
  readonly path: string;
  readonly sizeBytes: number;
}

/** Fills `target`. @throws what `file` does, and what the caller has for a file that is short */
export type ReadExactly = (target: Uint8Array, offset: number) => Promise<void>;

function wholePages(range: ByteRange): ByteRange {
  const offset = Math.ceil(range.offset / PAGE_BYTES) * PAGE_BYTES;
  const end = Math.floor(endOf(range) / PAGE_BYTES) * PAGE_BYTES;
  return { offset, length: Math.max(0, end - offset) };
}

/** The holes of a raw file: where they are, and how they are made. */
export class Holes {
  readonly #raw: RawFile;
  readonly #read: ReadExactly;
  #canPunch = true;
  #map: { readonly stamp: string; readonly ranges: readonly ByteRange[] } | undefined;

  constructor(raw: RawFile, read: ReadExactly) {
    this.#raw = raw;
    this.#read = read;
  }

  isQuick(range: ByteRange): boolean {
    return this.#canPunch && range.length >= QUICK_BYTES_MIN;
  }

  /**
   * Makes a range read as zeroes. Long ones become holes by fallocate(1), as Node has no call for
   * it; in short ones zeroes are written where other bytes are, so that a hole stays one.
   */
  async zero(range: ByteRange): Promise<void> {
    const inner = wholePages(range);
    if (inner.length < PUNCH_BYTES_MIN || !(await this.#punch(inner))) {
      await this.#overwrite(range);
      return;
    }
    await this.#overwrite({ offset: range.offset, length: inner.offset - range.offset });
    await this.#overwrite({ offset: endOf(inner), length: endOf(range) - endOf(inner) });
  }

  /** The ranges that may hold other bytes than zero, as of a moment after the call. */
  async allocated(): Promise<ByteRange[]> {
    const { world, path, sizeBytes } = this.#raw;
    const began_ms = world.clock.now();
    const status = await this.#raw.file.status();
    const { modified_ms, changed_ms, allocatedBytes } = status;
    const stamp = `${modified_ms} ${changed_ms} ${allocatedBytes}`;
    if (this.#map?.stamp === stamp) return [...this.#map.ranges];
    const ranges = await mapFile(world.processes, path, sizeBytes);
    const isSettled = Math.max(modified_ms, changed_ms) < began_ms - STAMP_SLACK_ms;
    this.#map = isSettled ? { stamp, ranges } : undefined;
    return [...ranges];
  }

  async #punch({ offset, length }: ByteRange): Promise<boolean> {
    const { world, file, path } = this.#raw;
    if (!this.#canPunch) return false;
    // The path is what the program is given: it must still lead to the file that is open.
    const named = await world.files.status(path);
    if (named?.inode !== (await file.status()).inode) return false;
    const where = ["--offset", String(offset), "--length", String(length)];
    const args = ["--punch-hole", ...where, path];
    const done = await world.processes.run("fallocate", args).catch(() => undefined);
    this.#canPunch = done?.exitCode === 0;
    return this.#canPunch;
  }

  async #overwrite(range: ByteRange): Promise<void> {
    const buffer = new Uint8Array(Math.min(CHUNK_BYTES, range.length));
    for (let offset = range.offset; offset < endOf(range); offset += CHUNK_BYTES) {
      const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, endOf(range) - offset));
      await this.#read(chunk, offset);
      for (let start = 0; start < chunk.length; start += ZEROES.length) {
        const piece = chunk.subarray(start, start + ZEROES.length);
        if (isZero(piece)) continue;
        await this.#raw.file.write(ZEROES.subarray(0, piece.length), offset + start);
      }
    }
  }
}
