import { join } from "node:path";
import { hasCode, type Digest, type ProcessIdentity, type World } from "#core";
import { decodeLease, type Lease } from "./decode.ts";
import { RECORD_BYTES_MAX, type Layout } from "./layout.ts";

/** A lease that nobody renewed for a day no longer holds a blob. */
const LEASE_MS = 24 * 60 * 60 * 1000;
const RENEWAL_MS = 60 * 60 * 1000;

/**
 * Leases keep blobs that are held but not yet named by an admitted manifest from being collected.
 * Each open store has one lease file. A lease begins when a blob is ingested or found held by an
 * ingest, and ends when the manifest is admitted, when the ingest is aborted, after 24 hours, or
 * with its process.
 */
export class Leases {
  readonly #world: World;
  readonly #layout: Layout;
  readonly #identity: ProcessIdentity;
  readonly #path: string;
  readonly #mine = new Map<Digest, number>();
  #tail: Promise<void> = Promise.resolve();

  constructor(world: World, layout: Layout, identity: ProcessIdentity, token: string) {
    this.#world = world;
    this.#layout = layout;
    this.#identity = identity;
    this.#path = join(layout.leases, `${token}.json`);
  }

  /** Returns when the lease is visible to every process. */
  async take(digest: Digest): Promise<void> {
    const now_ms = this.#world.clock.now();
    if (now_ms - (this.#mine.get(digest) ?? -Infinity) < RENEWAL_MS) return this.#tail;
    this.#mine.set(digest, now_ms);
    return this.#write();
  }

  async drop(digests: readonly Digest[]): Promise<void> {
    const dropped = digests.filter((digest) => this.#mine.delete(digest));
    if (dropped.length > 0) await this.#write();
  }

  /** All blobs leased by living processes. */
  async all(): Promise<Set<Digest>> {
    const leased = new Set<Digest>();
    for (const name of await this.#world.files.list(this.#layout.leases)) {
      const lease = await this.#read(name);
      if (lease === undefined || !this.#world.processes.alive(lease.holder)) continue;
      for (const [digest, taken_ms] of Object.entries(lease.blobs)) {
        if (this.#world.clock.now() - taken_ms < LEASE_MS) leased.add(digest as Digest);
      }
    }
    return leased;
  }

  /** Removes the files of processes that have died. */
  async tidy(): Promise<void> {
    for (const name of await this.#world.files.list(this.#layout.leases)) {
      if (!name.endsWith(".json")) continue;
      const lease = await this.#read(name);
      if (lease !== undefined && this.#world.processes.alive(lease.holder)) continue;
      await this.#world.files.remove(join(this.#layout.leases, name));
    }
  }

  async #read(name: string): Promise<Lease | undefined> {
    try {
      const path = join(this.#layout.leases, name);
      return decodeLease(await this.#world.files.readFile(path, RECORD_BYTES_MAX));
    } catch (error) {
      if (hasCode(error, "system.not-found") || hasCode(error, "repository.json-invalid")) {
        return undefined;
      }
      throw error;
    }
  }

  /** Writes follow each other, so that the file never goes back to an older state. */
  #write(): Promise<void> {
    const write = this.#tail.then(() => {
      const lease: Lease = {
        holder: this.#identity,
        blobs: Object.fromEntries(this.#mine),
      };
      return this.#world.files.writeFileAtomic(this.#path, JSON.stringify(lease));
    });
    this.#tail = write.catch(() => undefined);
    return write;
  }
}
