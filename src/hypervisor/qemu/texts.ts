import { hasCode, type FileSystem } from "#core";

/** Up to `bytesMax` bytes from `position`; undefined where there is no file. */
export async function readPart(
  files: FileSystem,
  path: string,
  position: number,
  bytesMax: number,
): Promise<string | undefined> {
  try {
    const file = await files.open(path, "read");
    try {
      const target = new Uint8Array(bytesMax);
      const bytes = await file.read(target, position);
      return Buffer.from(target.subarray(0, bytes)).toString("utf8");
    } finally {
      await file.close();
    }
  } catch (error) {
    // A process that ends while its /proc entry is read gives an input/output error.
    if (hasCode(error, "system.not-found") || hasCode(error, "system.io")) return undefined;
    if (hasCode(error, "system.permission")) return undefined;
    throw error;
  }
}

/** The last `bytesMax` bytes; empty where there is no file. */
export async function readTail(
  files: FileSystem,
  path: string,
  bytesMax: number,
  from = 0,
): Promise<string> {
  const size = await sizeOf(files, path);
  const start = Math.max(from, size - bytesMax, 0);
  return (await readPart(files, path, start, bytesMax)) ?? "";
}

export async function sizeOf(files: FileSystem, path: string): Promise<number> {
  return (await files.status(path))?.sizeBytes ?? 0;
}

/** Empties a log that has grown over `bytesMax`; its writers append, so they may go on. */
export async function boundLog(files: FileSystem, path: string, bytesMax: number): Promise<void> {
  if ((await sizeOf(files, path)) <= bytesMax) return;
  const file = await files.open(path, "write");
  try {
    await file.truncate(0);
  } finally {
    await file.close();
  }
}
