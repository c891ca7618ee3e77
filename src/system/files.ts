import { randomBytes } from "node:crypto";
import * as fs from "node:fs/promises";
import { readFileSync, readSync, type Stats } from "node:fs";
import { dirname } from "node:path";
import {
  TesseraError,
  type FileStatus,
  type FileSystem,
  type OpenFile,
  type OpenMode,
} from "#core";
import { guarded, systemError } from "./errors.ts";

const FLAGS: Readonly<Record<OpenMode, string>> = {
  read: "r",
  write: "r+",
  create: "w+",
  exclusive: "wx+",
};

function statusOf(stats: Stats): FileStatus {
  const kind = stats.isFile()
    ? "file"
    : stats.isDirectory()
      ? "directory"
      : stats.isSymbolicLink()
        ? "link"
        : "other";
  return {
    kind,
    sizeBytes: stats.size,
    allocatedBytes: stats.blocks * 512,
    mode: stats.mode & 0o7777,
    modified_ms: stats.mtimeMs,
    changed_ms: stats.ctimeMs,
    inode: stats.ino,
  };
}

async function readFully(handle: fs.FileHandle, target: Uint8Array, position: number) {
  let done = 0;
  while (done < target.length) {
    const length = target.length - done;
    const { bytesRead } = await handle.read(target, done, length, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

async function writeFully(handle: fs.FileHandle, source: Uint8Array, position: number) {
  let done = 0;
  while (done < source.length) {
    const length = source.length - done;
    const { bytesWritten } = await handle.write(source, done, length, position + done);
    done += bytesWritten;
  }
}

function readFullySync(handle: fs.FileHandle, path: string, target: Uint8Array, position: number) {
  try {
    let done = 0;
    while (done < target.length) {
      const bytesRead = readSync(handle.fd, target, done, target.length - done, position + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  } catch (cause) {
    throw systemError(cause, "read", path);
  }
}

function openFile(handle: fs.FileHandle, path: string): OpenFile {
  return {
    read: (target, position) => guarded("read", path, () => readFully(handle, target, position)),
    readSync: (target, position) => readFullySync(handle, path, target, position),
    write: (source, position) => guarded("write", path, () => writeFully(handle, source, position)),
    truncate: (sizeBytes) => guarded("resize", path, () => handle.truncate(sizeBytes)),
    sync: () => guarded("sync", path, () => handle.sync()),
    status: () => guarded("inspect", path, async () => statusOf(await handle.stat())),
    close: () => guarded("close", path, () => handle.close()),
  };
}

/** Makes a directory's entries durable. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await fs.open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAtomic(path: string, content: Uint8Array | string, permissions: number) {
  const beside = `${path}.${randomBytes(6).toString("hex")}.new`;
  const handle = await fs.open(beside, "wx", permissions);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } catch (cause) {
    await fs.rm(beside, { force: true });
    throw cause;
  } finally {
    await handle.close();
  }
  await fs.rename(beside, path);
  await syncDirectory(dirname(path));
}

async function renameDurably(from: string, to: string): Promise<void> {
  await fs.rename(from, to);
  await syncDirectory(dirname(to));
  if (dirname(from) !== dirname(to)) await syncDirectory(dirname(from));
}

async function readBounded(path: string, bytesMax: number): Promise<Uint8Array> {
  const handle = await fs.open(path, "r");
  try {
    const { size } = await handle.stat();
    if (size > bytesMax) {
      throw new TesseraError("corrupt", "system.too-large", `${path} has ${size} bytes`, {
        subject: path,
        remedy: `at most ${bytesMax} bytes are read`,
      });
    }
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

async function missingAs<T>(work: Promise<T>, value: T): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    // ESRCH: what /proc had of a process that has just ended.
    const { code = "" } = cause as NodeJS.ErrnoException;
    if (["ENOENT", "ESRCH"].includes(code)) return value;
    throw cause;
  }
}

async function linkTarget(path: string): Promise<string | undefined> {
  try {
    return await fs.readlink(path);
  } catch (cause) {
    // EINVAL: it is something else than a link.
    const { code = "" } = cause as NodeJS.ErrnoException;
    if (["ENOENT", "EINVAL"].includes(code)) return undefined;
    throw cause;
  }
}

/** The real file system. */
export function realFiles(): FileSystem {
  return {
    open: (path, mode, permissions = 0o644) =>
      guarded("open", path, async () =>
        openFile(await fs.open(path, FLAGS[mode], permissions), path),
      ),
    readFile: (path, bytesMax) => guarded("read", path, () => readBounded(path, bytesMax)),
    writeFileAtomic: (path, content, permissions = 0o644) =>
      guarded("write", path, () => writeAtomic(path, content, permissions)),
    rename: (from, to) => guarded("rename", from, () => renameDurably(from, to)),
    renameUnsynced: (from, to) => guarded("rename", from, () => fs.rename(from, to)),
    link: (existing, path) => guarded("link", path, () => fs.link(existing, path)),
    symlink: (target, path) =>
      guarded("link", path, async () => {
        await fs.symlink(target, path);
        await syncDirectory(dirname(path));
      }),
    readLink: (path) => guarded("read", path, () => linkTarget(path)),
    remove: (path) => guarded("remove", path, () => missingAs(fs.unlink(path), undefined)),
    removeTree: (path) =>
      guarded("remove", path, () => fs.rm(path, { recursive: true, force: true })),
    makeDirectory: (path, permissions = 0o755) =>
      guarded("create", path, async () => {
        await fs.mkdir(path, { recursive: true, mode: permissions });
      }),
    list: (path) =>
      guarded("list", path, async () => (await missingAs(fs.readdir(path), [])).toSorted()),
    status: (path) =>
      guarded("inspect", path, async () => {
        const stats = await missingAs<Stats | undefined>(fs.lstat(path), undefined);
        return stats === undefined ? undefined : statusOf(stats);
      }),
    freeBytes: (path) =>
      guarded("inspect", path, async () => {
        const { bavail, bsize } = await fs.statfs(path);
        return bavail * bsize;
      }),
  };
}

/** A small file's text, at once; undefined when it cannot be read. Only for fault injection. */
export function readTextSync(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
