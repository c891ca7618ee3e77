/** The user's own files. */
import { randomUUID } from "node:crypto";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { TesseraError } from "#core";

const TEXT_BYTES_MAX = 16 * 2 ** 20;

/** @throws `cli.file-not-found`, `cli.file-too-large` (misuse), `cli.file-unreadable` */
export async function readBytes(path: string, bytesMax: number = TEXT_BYTES_MAX): Promise<Buffer> {
  try {
    const { size } = await stat(path);
    if (size > bytesMax) throw tooLarge(path, bytesMax);
    return await readFile(path);
  } catch (cause) {
    if (cause instanceof TesseraError) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    if (isMissing(cause)) {
      throw new TesseraError("misuse", "cli.file-not-found", `there is no file ${path}`, {
        subject: path,
        cause,
      });
    }
    throw new TesseraError("misuse", "cli.file-unreadable", message, { subject: path, cause });
  }
}

function tooLarge(path: string, bytesMax: number): TesseraError {
  const message = `${path} is larger than ${bytesMax} bytes`;
  return new TesseraError("misuse", "cli.file-too-large", message, { subject: path });
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

/** UTF-8. @throws as {@link readBytes}, and `cli.file-unreadable` where it is not UTF-8 */
export async function readText(path: string): Promise<string> {
  const bytes = await readBytes(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    const message = `${path} is not UTF-8`;
    throw new TesseraError("misuse", "cli.file-unreadable", message, { subject: path, cause });
  }
}

export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readText(path);
  } catch (error) {
    if (error instanceof TesseraError && error.code === "cli.file-not-found") return undefined;
    throw error;
  }
}

/** @throws as {@link readText}, and `cli.json-invalid` (misuse) */
export async function readJson(path: string): Promise<unknown> {
  const text = await readText(path);
  try {
    return JSON.parse(text);
  } catch (cause) {
    const message = `${path} is not JSON`;
    throw new TesseraError("misuse", "cli.json-invalid", message, { subject: path, cause });
  }
}

/** Writes beside, syncs, renames: a reader sees the old file or the new one. */
export async function writeText(path: string, text: string): Promise<void> {
  const beside = `${path}.${randomUUID()}.part`;
  try {
    const file = await open(beside, "wx");
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
    await syncDirectory(dirname(path));
  } catch (cause) {
    await rm(beside, { force: true });
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new TesseraError("environment", "cli.file-unwritable", message, { subject: path, cause });
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
