/** What the tests of this room share: a store in a directory, identities, a session over TLS. */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TesseraError, type BlobReference, type Digest, type World } from "#core";
import { createMemoryDevice, type BlockDevice } from "#block";
import type { BlobReader, Ingest } from "#repository";
import { realWorld } from "#system";
import type { DataSource } from "./contract.ts";
import type { ResumeStore } from "./handshake.ts";
import { loadOrCreateDataIdentity, type DataIdentity } from "./identity.ts";

export function digestOf(bytes: Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

export function referenceTo(bytes: Uint8Array): BlobReference {
  return { digest: digestOf(bytes), sizeBytes: bytes.length };
}

/** Half random, half text, with a stretch of zeroes: every kind of frame occurs. */
export function sampleBytes(sizeBytes: number): Buffer {
  const bytes = randomBytes(sizeBytes);
  const third = Math.floor(sizeBytes / 3);
  bytes.fill(0, third, 2 * third);
  bytes.fill("all work and no play makes a dull boy. ", 2 * third);
  return bytes;
}

/** A directory of its own, removed by `dispose`. */
export async function temporaryDirectory() {
  const path = await mkdtemp(join(tmpdir(), "tessera-transfer-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

export function readerOf(bytes: Uint8Array): BlobReader {
  return {
    sizeBytes: bytes.length,
    read: (target, position) => {
      target.set(bytes.subarray(position, position + target.length));
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  };
}

export function sourceOf(blobs: readonly Uint8Array[], userData?: BlockDevice): DataSource {
  const held = new Map(blobs.map((bytes) => [digestOf(bytes), bytes]));
  return {
    openBlob: (digest) => {
      const bytes = held.get(digest);
      if (bytes !== undefined) return Promise.resolve(readerOf(bytes));
      return Promise.reject(new TesseraError("peer", "transfer.not-offered", "no such blob"));
    },
    openUserData: () => {
      if (userData !== undefined) return Promise.resolve({ ...userData, close: async () => {} });
      return Promise.reject(new TesseraError("peer", "transfer.not-ready", "still running"));
    },
  };
}

/** A token or token state in memory; it outlives the objects that use it. */
export function memoryResume(): ResumeStore & { text: string | undefined } {
  return {
    text: undefined,
    load() {
      return Promise.resolve(this.text);
    },
    save(text) {
      this.text = text;
      return Promise.resolve();
    },
  };
}

/** Writes `blocks` at their indices into a device in memory. */
export async function deviceWith(
  sizeBytes: number,
  writes: readonly { readonly offset: number; readonly bytes: Uint8Array }[],
): Promise<BlockDevice> {
  const device = createMemoryDevice(sizeBytes);
  for (const { offset, bytes } of writes) await device.write(bytes, offset);
  return device;
}

/**
 * The part of a store that a receiver needs, in memory: only what was checkpointed survives
 * `crash`, as on a disk.
 */
export class MemoryStore {
  readonly blobs = new Map<Digest, Buffer>();
  readonly #partial = new Map<Digest, Buffer>();
  appendedBytes = 0;

  partialBytes(digest: Digest): number {
    return this.#partial.get(digest)?.length ?? 0;
  }

  ingest(blob: BlobReference): Promise<Ingest | undefined> {
    if (this.blobs.has(blob.digest)) return Promise.resolve(undefined);
    const chunks = [this.#partial.get(blob.digest) ?? Buffer.alloc(0)];
    const partial = this.#partial;
    const { blobs } = this;
    const store = this;
    return Promise.resolve({
      blob,
      writtenBytes: chunks[0]?.length ?? 0,
      append: (bytes) => {
        chunks.push(Buffer.from(bytes));
        store.appendedBytes += bytes.length;
        return Promise.resolve();
      },
      checkpoint: () => {
        partial.set(blob.digest, Buffer.concat(chunks));
        return Promise.resolve();
      },
      commit: () => {
        const whole = Buffer.concat(chunks);
        partial.delete(blob.digest);
        if (digestOf(whole) !== blob.digest) {
          const message = "the digest is another";
          const error = new TesseraError("corrupt", "repository.digest-mismatch", message);
          return Promise.reject(error);
        }
        blobs.set(blob.digest, whole);
        return Promise.resolve();
      },
      release: () => Promise.resolve(),
      abort: () => {
        partial.delete(blob.digest);
        return Promise.resolve();
      },
    });
  }
}

export interface TwoClouds {
  readonly world: World;
  readonly directory: string;
  readonly sender: DataIdentity;
  readonly receiver: DataIdentity;
  readonly stranger: DataIdentity;
}

/** Three identities in a temporary directory. */
export async function twoClouds(directory: string): Promise<TwoClouds> {
  const world = realWorld();
  const make = (name: string) => loadOrCreateDataIdentity(world, join(directory, name));
  const [sender, receiver, stranger] = await Promise.all([
    make("sender"),
    make("receiver"),
    make("stranger"),
  ]);
  return { world, directory, sender, receiver, stranger };
}
