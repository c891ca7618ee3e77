import { TesseraError, type ByteRange, type OpenFile, type World } from "#core";
import type { BlockDevice } from "./contract.ts";
import { checkRange, checkSize, closedError, readOnlyError } from "./errors.ts";
import { Holes, type RawFile } from "./holes.ts";
import { QuickReads } from "./quick-reads.ts";

interface OpenedFile extends RawFile {
  readonly readOnly: boolean;
}

function checkRead(path: string, target: Uint8Array, offset: number, length: number): void {
  if (length === target.length) return;
  const message = `${path} ends at byte ${offset + length}, before its end`;
  throw new TesseraError("corrupt", "block.file-short", message, { subject: path });
}

async function readExactly(file: OpenFile, path: string, target: Uint8Array, offset: number) {
  checkRead(path, target, offset, await file.read(target, offset));
}

function fileDevice(opened: OpenedFile): BlockDevice {
  const { world, file, path, sizeBytes, readOnly } = opened;
  const holes = new Holes(opened, (target, offset) => readExactly(file, path, target, offset));
  const quick = new QuickReads(world.clock);
  const { readSync } = file;
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
    readNow(target, offset) {
      check({ offset, length: target.length }, false);
      if (readSync === undefined) return false;
      return quick.attempt(target.length, () =>
        checkRead(path, target, offset, readSync(target, offset)),
      );
    },
    async write(source, offset) {
      check({ offset, length: source.length }, true);
      await file.write(source, offset);
    },
    async zero(range) {
      check(range, true);
      await holes.zero(range);
    },
    zeroesQuickly: (range) => holes.isQuick(range),
    async allocated() {
      check({ offset: 0, length: 0 }, false);
      return await holes.allocated();
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
