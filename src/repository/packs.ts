import { join } from "node:path";
import { hasCode, hexOf, type Digest, type World } from "#core";
import { digestOf } from "./blobs.ts";
import type { PackCache } from "./contract.ts";
import { digestOfName, type Layout } from "./layout.ts";

/** The first byte is written again at each use: the file's mtime says when that was. */
const MAGIC = Buffer.from("TSPACK1\n");
const DIGEST_BYTES = 32;
const HEADER_BYTES = MAGIC.length + 2 * DIGEST_BYTES;
/** Larger packs are not kept. */
const PACK_BYTES_MAX = 64 * 2 ** 20;
/** What a file costs beside its bytes, so that very small packs are bounded too. */
const FILE_BYTES = 4096;
/** After so large a part of the whole was put here, what others have put is counted too. */
const RECOUNT_SHARE = 1 / 16;
/** Eviction goes down to this share, so that not every put evicts. */
const KEPT_SHARE = 15 / 16;

interface Kept {
  readonly key: Digest;
  readonly bytes: number;
  readonly used_ms: number;
}

/** Packs in files that say what they are; a file that is not whole is a pack that is not there. */
export class PackFiles implements PackCache {
  readonly #world: World;
  readonly #layout: Layout;
  readonly #bytesMax: number;
  /** What is kept, as far as is known; undefined before the first count. */
  #keptBytes: number | undefined;
  #sinceCountBytes = 0;
  #evicting: Promise<void> = Promise.resolve();

  constructor(world: World, layout: Layout, bytesMax: number) {
    this.#world = world;
    this.#layout = layout;
    this.#bytesMax = bytesMax;
  }

  async get(key: Digest): Promise<Uint8Array | undefined> {
    try {
      const path = this.#layout.pack(key);
      const content = await this.#world.files.readFile(path, HEADER_BYTES + PACK_BYTES_MAX);
      const pack = content.subarray(HEADER_BYTES);
      if (!headerOf(key, pack).equals(content.subarray(0, HEADER_BYTES))) {
        await this.#world.files.remove(path);
        return undefined;
      }
      await this.#touch(path);
      return pack;
    } catch (error) {
      this.#report(error, "a pack cannot be read", key);
      return undefined;
    }
  }

  async put(key: Digest, pack: Uint8Array): Promise<void> {
    const bytes = costOf(HEADER_BYTES + pack.length);
    if (pack.length > PACK_BYTES_MAX || bytes > this.#bytesMax) return;
    try {
      await this.#write(key, pack);
      this.#sinceCountBytes += bytes;
      if (this.#keptBytes !== undefined) this.#keptBytes += bytes;
      await this.#evict();
    } catch (error) {
      this.#report(error, "a pack cannot be kept", key);
    }
  }

  async sizeOf(key: Digest): Promise<number | undefined> {
    try {
      const status = await this.#world.files.status(this.#layout.pack(key));
      if (status?.kind !== "file" || status.sizeBytes < HEADER_BYTES) return undefined;
      return status.sizeBytes - HEADER_BYTES;
    } catch (error) {
      this.#report(error, "a pack cannot be found", key);
      return undefined;
    }
  }

  /** Beside, then renamed; not synced, since `get` sees what is not whole. */
  async #write(key: Digest, pack: Uint8Array): Promise<void> {
    const { files, random } = this.#world;
    const path = this.#layout.pack(key);
    const beside = `${path}.${random.uuid()}.new`;
    try {
      const file = await files.open(beside, "exclusive");
      try {
        await file.write(headerOf(key, pack), 0);
        await file.write(pack, HEADER_BYTES);
      } finally {
        await file.close();
      }
      await files.renameUnsynced(beside, path);
    } catch (error) {
      await files.remove(beside);
      throw error;
    }
  }

  async #touch(path: string): Promise<void> {
    const file = await this.#world.files.open(path, "write");
    try {
      await file.write(MAGIC.subarray(0, 1), 0);
    } finally {
      await file.close();
    }
  }

  /** One eviction of this process at a time; other processes may evict the same files. */
  #evict(): Promise<void> {
    const evicted = this.#evicting.then(() => this.#evictNow());
    this.#evicting = evicted.catch(() => undefined);
    return evicted;
  }

  async #evictNow(): Promise<void> {
    const due = this.#sinceCountBytes > this.#bytesMax * RECOUNT_SHARE;
    if (!due && this.#keptBytes !== undefined && this.#keptBytes <= this.#bytesMax) return;
    this.#sinceCountBytes = 0;
    const packs = (await this.#all()).toSorted((a, b) => a.used_ms - b.used_ms);
    let bytes = packs.reduce((sum, pack) => sum + pack.bytes, 0);
    const target = bytes > this.#bytesMax ? this.#bytesMax * KEPT_SHARE : bytes;
    for (const pack of packs) {
      if (bytes <= target) break;
      await this.#world.files.remove(this.#layout.pack(pack.key));
      bytes -= pack.bytes;
    }
    this.#keptBytes = bytes;
  }

  async #all(): Promise<Kept[]> {
    const { files } = this.#world;
    const packs: Kept[] = [];
    for (const name of await files.list(this.#layout.packs)) {
      const key = digestOfName(name, ".pack");
      if (key === undefined) continue;
      const status = await files.status(join(this.#layout.packs, name));
      if (status === undefined) continue;
      packs.push({ key, bytes: costOf(status.sizeBytes), used_ms: status.modified_ms });
    }
    return packs;
  }

  #report(error: unknown, message: string, key: Digest): void {
    if (hasCode(error, "system.not-found")) return;
    const cause = error instanceof Error ? error.message : String(error);
    this.#world.log.log("warn", message, { key, cause });
  }
}

function headerOf(key: Digest, pack: Uint8Array): Buffer {
  const digests = [key, digestOf(pack)].map((digest) => Buffer.from(hexOf(digest), "hex"));
  return Buffer.concat([MAGIC, ...digests]);
}

function costOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / FILE_BYTES) * FILE_BYTES + FILE_BYTES;
}
