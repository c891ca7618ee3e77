/** What this room's tests share: components, sources, temporary directories, worlds that fail. */
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  TesseraError,
  type ComponentDescription,
  type Digest,
  type FileSystem,
  type Fragment,
  type OpenFile,
  type World,
} from "#core";
import { bufferSource, canonicalTree, writeErofs, type ContentSource } from "#image";
import { realWorld } from "#system";

export function describe(changes: Partial<ComponentDescription> = {}): ComponentDescription {
  return {
    kind: "program",
    name: "nginx",
    version: "1.22.1-9",
    architecture: "amd64",
    packages: [{ name: "nginx", version: "1.22.1-9", architecture: "amd64" }],
    provides: [],
    requires: [{ type: "soname", name: "libc.so.6", version: "GLIBC_2.34" }],
    instancePaths: ["/var/log/nginx"],
    ...changes,
  };
}

export const FRAGMENTS: readonly Fragment[] = [
  { path: "/etc/passwd", text: "www-data:x:33:33::/var/www:/usr/sbin/nologin\n" },
];

/** Bytes that look random and are the same for the same seed. */
export function bytesOf(seed: string, sizeBytes: number): Uint8Array {
  return createHash("shake256", { outputLength: sizeBytes }).update(seed).digest();
}

export function sourceOf(content: Uint8Array): ContentSource {
  return {
    sizeBytes: content.length,
    read: async (target, position) => {
      target.set(content.subarray(position, position + target.length));
    },
  };
}

export function digestOf(content: Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

/** An image that our writer makes of files by their names. */
export async function imageOf(files: Readonly<Record<string, Uint8Array>>): Promise<Uint8Array> {
  const common = { uid: 0, gid: 0, mtime_s: 1, xattrs: new Map() };
  const tree = canonicalTree([
    { ...common, path: "", mode: 0o755, type: "directory" },
    ...Object.entries(files).map(([path, content]) => ({
      ...common,
      path,
      mode: 0o644,
      type: "file" as const,
      content: bufferSource(content),
    })),
  ]);
  const pieces: Uint8Array[] = [];
  await writeErofs(tree, { write: async (bytes) => void pieces.push(bytes.slice()) });
  return Buffer.concat(pieces);
}

export async function temporary<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-repository-"));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** A host whose processes are named by numbers and end when the test says so. */
export class Host {
  bootId = "boot-1";
  readonly #ended = new Set<number>();
  readonly #open: OpenFile[] = [];
  #next = 1;

  /** A new process; its waits are short. */
  world(files: FileSystem = realWorld().files): World & { readonly id: number } {
    const real = realWorld();
    const [id, bootId] = [this.#next, this.bootId];
    this.#next += 1;
    return {
      ...real,
      id,
      files: this.#tracked(files),
      clock: { ...real.clock, sleep: (_, signal) => real.clock.sleep(1, signal) },
      processes: {
        ...real.processes,
        identify: (pid) => ({ pid, startTicks: id, bootId }),
        alive: (identity) =>
          identity.bootId === this.bootId && !this.#ended.has(identity.startTicks),
      },
    };
  }

  end(id: number): void {
    this.#ended.add(id);
  }

  /** Closes what ended processes left open. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of this.#open) await file.close().catch(() => undefined);
  }

  #tracked(files: FileSystem): FileSystem {
    return {
      ...files,
      open: async (path, mode, permissions) => {
        const file = await files.open(path, mode, permissions);
        this.#open.push(file);
        return file;
      },
    };
  }
}

export class Crash extends Error {}

/**
 * How far the last step gets: not begun, or half done where a step can be (a write, or a file that
 * was to replace another). Done without the process knowing is as the next step not begun.
 */
export type CrashPoint = "before" | "half";

/** Real files until step `count` that changes something; from then on every call fails. */
export function crashingFiles(
  count: number,
  point: CrashPoint,
): FileSystem & { halved(): boolean } {
  const real = realWorld().files;
  let steps = 0;
  let halved = false;
  const step = async <T>(work: () => Promise<T>, half?: () => Promise<unknown>): Promise<T> => {
    steps += 1;
    if (steps < count) return work();
    if (steps === count && point === "half" && half !== undefined) {
      halved = true;
      await half();
    }
    throw new Crash(`step ${steps}`);
  };
  const look = <T>(work: () => Promise<T>): Promise<T> => {
    if (steps >= count) throw new Crash(`after step ${steps}`);
    return work();
  };
  const opened = (file: OpenFile): OpenFile => ({
    read: (target, position) => look(() => file.read(target, position)),
    write: (source, position) =>
      step(
        () => file.write(source, position),
        () => file.write(source.subarray(0, source.length / 2), position),
      ),
    truncate: (sizeBytes) => step(() => file.truncate(sizeBytes)),
    sync: () => step(() => file.sync()),
    status: () => look(() => file.status()),
    close: () => file.close(),
  });
  return {
    halved: () => halved,
    open: async (path, mode, permissions) => {
      const open = () => real.open(path, mode, permissions);
      if (mode === "read" || mode === "write") return opened(await look(open));
      return opened(await step(open));
    },
    readFile: (path, bytesMax) => look(() => real.readFile(path, bytesMax)),
    writeFileAtomic: (path, content, permissions) =>
      step(
        () => real.writeFileAtomic(path, content, permissions),
        () => real.writeFileAtomic(`${path}.dead.new`, content.slice(0, content.length / 2)),
      ),
    rename: (from, to) => step(() => real.rename(from, to)),
    renameUnsynced: (from, to) => step(() => real.renameUnsynced(from, to)),
    link: (existing, path) => step(() => real.link(existing, path)),
    symlink: (target, path) => step(() => real.symlink(target, path)),
    readLink: (path) => look(() => real.readLink(path)),
    remove: (path) => step(() => real.remove(path)),
    removeTree: (path) => step(() => real.removeTree(path)),
    makeDirectory: (path, permissions) => step(() => real.makeDirectory(path, permissions)),
    list: (path) => look(() => real.list(path)),
    status: (path) => look(() => real.status(path)),
    freeBytes: (path) => look(() => real.freeBytes(path)),
  };
}

/** Real files on a disk that is full after `bytes` written through open files. */
export function fullDisk(bytes: number, freeBytes = Number.MAX_SAFE_INTEGER): FileSystem {
  const real = realWorld().files;
  let left = bytes;
  return {
    ...real,
    freeBytes: async () => freeBytes,
    open: async (path, mode, permissions) => {
      const file = await real.open(path, mode, permissions);
      return {
        ...file,
        write: async (source, position) => {
          const fits = Math.min(left, source.length);
          await file.write(source.subarray(0, fits), position);
          left -= fits;
          if (fits < source.length) {
            throw new TesseraError("environment", "system.disk-full", "full", { subject: path });
          }
        },
      };
    },
  };
}

export function withCode(code: string): (error: unknown) => boolean {
  return (error) => {
    if (error instanceof TesseraError && error.code === code) return true;
    throw error;
  };
}
