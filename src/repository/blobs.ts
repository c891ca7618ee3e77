import { createHash, type Hash } from "node:crypto";
import { hasCode, type Digest, type FileStatus, type OpenFile, type World } from "#core";
import { decodeChecked, type CheckedRecord } from "./decode.ts";
import { blobCorrupt, blobMissing } from "./failures.ts";
import { RECORD_BYTES_MAX, type Layout } from "./layout.ts";

const READ_BYTES = 4 * 2 ** 20;
/** Two changes of a file within this time may carry the same time stamp (kernel tick). */
const TIMESTAMP_GRAIN_MS = 20;

/** What reading and hashing a held blob showed. */
export interface Inspection {
  readonly sizeBytes: number;
  readonly sound: boolean;
}

/**
 * The committed blobs. A blob is trusted while size, inode, mtime and ctime are those recorded
 * when it was last hashed; otherwise it is hashed again before use.
 */
export class Blobs {
  readonly #world: World;
  readonly #layout: Layout;

  constructor(world: World, layout: Layout) {
    this.#world = world;
    this.#layout = layout;
  }

  path(digest: Digest): string {
    return this.#layout.blob(digest);
  }

  /** The size of a held, sound blob; undefined when it is missing or corrupt. */
  async sizeOf(digest: Digest): Promise<number | undefined> {
    try {
      const { file, sizeBytes } = await this.open(digest);
      await file.close();
      return sizeBytes;
    } catch (error) {
      if (hasCode(error, "repository.blob-missing") || hasCode(error, "repository.blob-corrupt")) {
        return undefined;
      }
      throw error;
    }
  }

  /** Is there a file of this name, sound or not? */
  async present(digest: Digest): Promise<boolean> {
    return (await this.#world.files.status(this.path(digest)))?.kind === "file";
  }

  /** @throws `repository.blob-missing`, `repository.blob-corrupt` */
  async open(digest: Digest): Promise<{ readonly file: OpenFile; readonly sizeBytes: number }> {
    const file = await this.#openFile(digest);
    try {
      const status = await file.status();
      if (!sameStatus(await this.#record(digest), status)) await this.#recheck(digest, file);
      return { file, sizeBytes: status.sizeBytes };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * A small blob's bytes; they are always hashed.
   *
   * @throws `repository.blob-missing`, `repository.blob-corrupt`
   */
  async read(digest: Digest, bytesMax: number): Promise<Uint8Array> {
    const file = await this.#openFile(digest);
    try {
      const { sizeBytes } = await file.status();
      if (sizeBytes > bytesMax) throw blobCorrupt(digest, `${sizeBytes} bytes, above the bound`);
      const content = new Uint8Array(sizeBytes);
      const length = await file.read(content, 0);
      if (digestOf(content.subarray(0, length)) === digest) return content;
      throw blobCorrupt(digest, "its bytes have another digest");
    } finally {
      await file.close();
    }
  }

  /** Reads and hashes the blob whatever was recorded, and records the result. */
  async inspect(digest: Digest): Promise<Inspection | undefined> {
    let file: OpenFile;
    try {
      file = await this.#openFile(digest);
    } catch (error) {
      if (hasCode(error, "repository.blob-missing")) return undefined;
      throw error;
    }
    try {
      const { sizeBytes } = await file.status();
      await this.#recheck(digest, file);
      return { sizeBytes, sound: true };
    } catch (error) {
      if (!hasCode(error, "repository.blob-corrupt")) throw error;
      await this.forget(digest);
      return { sizeBytes: (await file.status()).sizeBytes, sound: false };
    } finally {
      await file.close();
    }
  }

  /** Trusts the file as it is now; the caller has hashed these very bytes. */
  async trust(digest: Digest, file: OpenFile, seen: FileStatus): Promise<void> {
    const age_ms = this.#world.clock.now() - seen.changed_ms;
    if (age_ms < TIMESTAMP_GRAIN_MS) await this.#world.clock.sleep(TIMESTAMP_GRAIN_MS);
    const status = await file.status();
    if (!sameStatus(seen, status)) return;
    const { sizeBytes, modified_ms, changed_ms, inode } = status;
    const record: CheckedRecord = { sizeBytes, modified_ms, changed_ms, inode };
    await this.#world.files.writeFileAtomic(
      this.#layout.checkedRecord(digest),
      JSON.stringify(record),
    );
  }

  forget(digest: Digest): Promise<void> {
    return this.#world.files.remove(this.#layout.checkedRecord(digest));
  }

  async delete(digest: Digest): Promise<void> {
    await this.#world.files.remove(this.path(digest));
    await this.forget(digest);
  }

  async #openFile(digest: Digest): Promise<OpenFile> {
    try {
      return await this.#world.files.open(this.path(digest), "read");
    } catch (error) {
      if (hasCode(error, "system.not-found")) throw blobMissing(digest);
      throw error;
    }
  }

  /** Undefined where nothing usable is recorded: then the blob is hashed. */
  async #record(digest: Digest): Promise<CheckedRecord | undefined> {
    try {
      const path = this.#layout.checkedRecord(digest);
      return decodeChecked(await this.#world.files.readFile(path, RECORD_BYTES_MAX));
    } catch (error) {
      if (hasCode(error, "system.not-found") || hasCode(error, "repository.json-invalid")) {
        return undefined;
      }
      throw error;
    }
  }

  async #recheck(digest: Digest, file: OpenFile): Promise<void> {
    const before = await file.status();
    const hash = createHash("sha256");
    await hashFile(file, before.sizeBytes, hash);
    if (finish(hash) !== digest) throw blobCorrupt(digest, "its bytes have another digest");
    await this.trust(digest, file, before);
  }
}

function sameStatus(a: CheckedRecord | undefined, b: CheckedRecord): boolean {
  return (
    a?.sizeBytes === b.sizeBytes &&
    a.inode === b.inode &&
    a.modified_ms === b.modified_ms &&
    a.changed_ms === b.changed_ms
  );
}

/**
 * Adds the bytes of the file from `fromBytes` up to `lengthBytes`, or what there is of them, to the
 * hash. One piece is read while the one before is hashed.
 */
export async function hashFile(
  file: OpenFile,
  lengthBytes: number,
  hash: Hash,
  fromBytes = 0,
): Promise<void> {
  const bufferBytes = Math.min(READ_BYTES, Math.max(lengthBytes - fromBytes, 0));
  let [buffer, spare] = [new Uint8Array(bufferBytes), new Uint8Array(bufferBytes)];
  const read = (target: Uint8Array, position: number) =>
    file.read(target.subarray(0, Math.min(target.length, lengthBytes - position)), position);
  let position = fromBytes;
  let done = position < lengthBytes ? await read(buffer, position) : 0;
  while (done > 0) {
    position += done;
    const next = position < lengthBytes ? read(spare, position) : 0;
    hash.update(buffer.subarray(0, done));
    [buffer, spare] = [spare, buffer];
    done = await next;
  }
}

export function digestOf(content: Uint8Array): Digest {
  return finish(createHash("sha256").update(content));
}

/** Ends the hash. */
export function finish(hash: Hash): Digest {
  return `sha256:${hash.digest("hex")}`;
}
