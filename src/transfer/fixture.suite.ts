/** What the tests of this room share: two clouds and a session over TLS. */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TesseraError, type BlobReference, type Clock, type Digest, type World } from "#core";
import { createMemoryDevice, type BlockDevice } from "#block";
import { openRepository, type BlobReader, type ComponentStore, type PackCache } from "#repository";
import { realWorld } from "#system";
import type { DataReceiver, DataSource, HotReceiver } from "./contract.ts";
import type { ResumeStore } from "./handshake.ts";
import { loadOrCreateDataIdentity, type DataIdentity } from "./identity.ts";
import { connectReceiver, type ReceiverOptions } from "./receiver.ts";
import { startDataServer, type DataServer, type DataServerOptions } from "./server.ts";
import type { SessionOffer } from "./session.ts";
import { newToken } from "./tokens.ts";

export const MIB = 2 ** 20;
export const BLOCK = 65_536;

export function digestOf(bytes: Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

export function referenceTo(bytes: Uint8Array): BlobReference {
  return { digest: digestOf(bytes), sizeBytes: bytes.length };
}

/** Random bytes, zeroes, and text, a third each: every kind of frame occurs. */
export function sampleBytes(sizeBytes: number): Buffer {
  const bytes = randomBytes(sizeBytes);
  const third = Math.floor(sizeBytes / 3);
  bytes.fill(0, third, 2 * third);
  bytes.fill("all work and no play makes a dull boy. ", 2 * third);
  return bytes;
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

/** A cache that keeps nothing. */
export const NO_PACKS: PackCache = {
  get: () => Promise.resolve(undefined),
  put: () => Promise.resolve(),
  sizeOf: () => Promise.resolve(undefined),
};

export function sourceOf(blobs: readonly Uint8Array[], userData?: BlockDevice): DataSource {
  const held = new Map(blobs.map((bytes) => [digestOf(bytes), bytes]));
  return {
    openBlob: (digest) => {
      const bytes = held.get(digest);
      if (bytes !== undefined) return Promise.resolve(readerOf(bytes));
      return Promise.reject(new TesseraError("peer", "transfer.not-offered", "no such blob"));
    },
    openUserData: () => {
      if (userData !== undefined) {
        return Promise.resolve({ ...userData, close: () => Promise.resolve() });
      }
      return Promise.reject(new TesseraError("peer", "transfer.not-ready", "still running"));
    },
    openComponent: () =>
      Promise.reject(new TesseraError("peer", "transfer.not-offered", "no such component")),
    openBase: () => Promise.resolve(undefined),
    packs: NO_PACKS,
  };
}

/** A text that outlives the objects that use it, as the agent's journal does. */
export function memoryResume(): ResumeStore {
  let kept: string | undefined;
  return {
    load: () => Promise.resolve(kept),
    save: (text) => {
      kept = text;
      return Promise.resolve();
    },
  };
}

/** A device in memory with `bytes` at their offsets. */
export async function deviceWith(
  sizeBytes: number,
  writes: readonly { readonly offset: number; readonly bytes: Uint8Array }[],
): Promise<BlockDevice> {
  const device = createMemoryDevice(sizeBytes);
  for (const { offset, bytes } of writes) await device.write(bytes, offset);
  return device;
}

/** A directory of its own, removed when it goes out of scope. */
export async function temporaryDirectory() {
  const path = await mkdtemp(join(tmpdir(), "tessera-transfer-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Two clouds, a stranger, and everything that was started between them; all of it disposable. */
export class Clouds {
  readonly world: World = realWorld();
  readonly directory: string;
  readonly sender: DataIdentity;
  readonly receiver: DataIdentity;
  readonly stranger: DataIdentity;
  readonly store: ComponentStore;
  readonly token: string;
  readonly #closing: (() => Promise<unknown>)[] = [];

  private constructor(
    directory: string,
    identities: readonly [DataIdentity, DataIdentity, DataIdentity],
    store: ComponentStore,
  ) {
    this.directory = directory;
    [this.sender, this.receiver, this.stranger] = identities;
    this.store = store;
    this.token = newToken(this.world.random);
  }

  static async start(): Promise<Clouds> {
    const temporary = await temporaryDirectory();
    const world = realWorld();
    const identity = (name: string) => loadOrCreateDataIdentity(world, join(temporary.path, name));
    const identities = await Promise.all([
      identity("sender"),
      identity("receiver"),
      identity("stranger"),
    ]);
    const store = await openRepository(world, join(temporary.path, "repository"));
    const clouds = new Clouds(temporary.path, identities, store);
    clouds.#closing.push(() => temporary[Symbol.asyncDispose]());
    return clouds;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  onDispose(close: () => Promise<unknown>): void {
    this.#closing.push(close);
  }

  async server(
    options: Partial<DataServerOptions> = {},
    clock: Clock = this.world.clock,
  ): Promise<DataServer> {
    const server = await startDataServer(
      { ...this.world, clock },
      {
        identity: this.sender,
        host: "127.0.0.1",
        port: 0,
        ...options,
      },
    );
    this.onDispose(() => server.close());
    return server;
  }

  /** A server that offers the session `m1`. */
  async serving(
    source: DataSource,
    offer: Partial<SessionOffer> = {},
    options: Partial<DataServerOptions> = {},
    clock?: Clock,
  ): Promise<DataServer> {
    const server = await this.server(options, clock);
    const peerCertificate = this.receiver.certificate;
    await server.offer({ id: "m1", token: this.token, peerCertificate, source, ...offer });
    return server;
  }

  /** A receiver of `m1`, by the server's port or another one. */
  receiving(port: number, options: Partial<ReceiverOptions> = {}): DataReceiver & HotReceiver {
    const receiver = connectReceiver(this.world, {
      identity: this.receiver,
      endpoint: {
        candidates: [{ host: "127.0.0.1", port }],
        certificate: this.sender.certificate,
      },
      session: "m1",
      token: this.token,
      store: this.store,
      ...options,
    });
    this.onDispose(() => receiver.close());
    return receiver;
  }

  /** The bytes of a blob that the receiver's repository holds. */
  async held(digest: Digest): Promise<Buffer> {
    const reader = await this.store.openBlob(digest);
    const bytes = Buffer.alloc(reader.sizeBytes);
    await reader.read(bytes, 0);
    await reader.close();
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closing.toReversed()) await close();
  }
}

export function portOf(server: DataServer): number {
  return server.endpoint.candidates[0]?.port ?? 0;
}

/** A signal that ends a test that hangs. */
export function soon(): AbortSignal {
  return AbortSignal.timeout(60_000);
}
