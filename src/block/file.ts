import { TesseraError, endOf, type ByteRange, type OpenFile, type World } from "#core";
import type { BlockDevice } from "./contract.ts";
import { checkRange, checkSize, closedError, readOnlyError } from "./errors.ts";
import { mapFile } from "./map.ts";
import { isZero } from "./zeroes.ts";

const CHUNK_BYTES = 1024 * 1024;
const ZEROES = new Uint8Array(65_536);

interface OpenedFile {
  readonly world: World;
  readonly file: OpenFile;
  readonly path: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
}

async function readExactly(file: OpenFile, path: string, target: Uint8Array, offset: number) {
  const length = await file.read(target, offset);
  if (length === target.length) return;
  const message = `${path} ends at byte ${offset + length}, before its end`;
  throw new TesseraError("corrupt", "block.file-short", message, { subject: path });
}

/** Writes zeroes only where other bytes are: a hole that is read stays a hole. */
async function zeroRange({ file, path }: OpenedFile, range: ByteRange): Promise<void> {
  const buffer = new Uint8Array(Math.min(CHUNK_BYTES, range.length));
  for (let offset = range.offset; offset < endOf(range); offset += CHUNK_BYTES) {
    const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, endOf(range) - offset));
    await readExactly(file, path, chunk, offset);
    for (let start = 0; start < chunk.length; start += ZEROES.length) {
      const piece = chunk.subarray(start, start + ZEROES.length);
      if (!isZero(piece)) await file.write(ZEROES.subarray(0, piece.length), offset + start);
    }
  }
}

function fileDevice(opened: OpenedFile): BlockDevice {
  const { world, file, path, sizeBytes, readOnly } = opened;
  let closed = false;
  const check = (range: ByteRange, writes: boolean): void => {
    if (closed) throw closedError(path);
    if (writes && readOnly) throw readOnlyError(path);
    checkRange(range, sizeBytes);
  };
  return {
    sizeBytes,
    async read(target, offset) {
      check({ offset, length: target.length }, false);
      await readExactly(file, path, target, offset);
    },
    async write(source, offset) {
      check({ offset, length: source.length }, true);
      await file.write(source, offset);
    },
    async zero(range) {
      check(range, true);
      await zeroRange(opened, range);
    },
    async allocated() {
      check({ offset: 0, length: 0 }, false);
      return await mapFile(world.processes, path, sizeBytes);
    },
    async flush() {
      check({ offset: 0, length: 0 }, false);
      if (!readOnly) await file.sync();
    },
    async close() {
      if (closed) return;
      closed = true;
      await file.close();
    },
  };
}

/**
 * A disk over a raw file whose size is the disk's size. The file may be open elsewhere; whoever
 * writes to it is a matter between the callers.
 *
 * @throws `system.not-found` and other `system` errors (environment), `block.size-invalid`
 *   (misuse) for an empty file
 */
export async function openFileDevice(
  world: World,
  path: string,
  options: { readonly readOnly: boolean },
): Promise<BlockDevice> {
  const { readOnly } = options;
  const file = await world.files.open(path, readOnly ? "read" : "write");
  try {
    const { sizeBytes } = await file.status();
    checkSize(sizeBytes, path);
    return fileDevice({ world, file, path, sizeBytes, readOnly });
  } catch (cause) {
    await file.close();
    throw cause;
  }
}

/**
 * Creates a sparse raw file, readable by its owner only as it will hold user data, and opens it for
 * writing.
 *
 * @throws `system.exists` (environment) when something is there, `block.size-invalid` (misuse)
 */
export async function createFileDevice(
  world: World,
  path: string,
  sizeBytes: number,
): Promise<BlockDevice> {
  checkSize(sizeBytes, path);
  const file = await world.files.open(path, "exclusive", 0o600);
  try {
    await file.truncate(sizeBytes);
    await file.sync();
    return fileDevice({ world, file, path, sizeBytes, readOnly: false });
  } catch (cause) {
    await file.close();
    await world.files.remove(path);
    throw cause;
  }
}
