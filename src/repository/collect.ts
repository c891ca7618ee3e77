import { join } from "node:path";
import { hexOf, type Digest, type World } from "#core";
import type { Blobs } from "./blobs.ts";
import type { Catalogue } from "./catalogue.ts";
import type { CollectReport } from "./contract.ts";
import { digestOfName, directoriesOf, type Layout } from "./layout.ts";
import type { Leases } from "./leases.ts";
import type { Locks } from "./locks.ts";
import type { Pins } from "./pins.ts";

/** A file written beside its target that is as old as this was left by a process that died. */
const LEFTOVER_MS = 60 * 60 * 1000;

interface Removed {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** Removes blobs and parts that nothing protects. */
export class Collector {
  readonly #world: World;
  readonly #layout: Layout;
  readonly #blobs: Blobs;
  readonly #locks: Locks;
  readonly #leases: Leases;
  readonly #pins: Pins;
  readonly #catalogue: Catalogue;

  constructor(
    world: World,
    layout: Layout,
    rooms: {
      readonly blobs: Blobs;
      readonly locks: Locks;
      readonly leases: Leases;
      readonly pins: Pins;
      readonly catalogue: Catalogue;
    },
  ) {
    this.#world = world;
    this.#layout = layout;
    this.#blobs = rooms.blobs;
    this.#locks = rooms.locks;
    this.#leases = rooms.leases;
    this.#pins = rooms.pins;
    this.#catalogue = rooms.catalogue;
  }

  async collect(dryRun: boolean): Promise<CollectReport> {
    const safe = await this.#protected();
    const candidates = (await this.#found()).filter((digest) => !safe.has(digest));
    const removed: Removed[] = [];
    for (const digest of candidates) {
      const sizeBytes = dryRun ? await this.#measure(digest) : await this.sweep(digest);
      if (sizeBytes !== undefined) removed.push({ digest, sizeBytes });
    }
    if (!dryRun) await this.#removeLeftovers();
    return { removed, bytes: removed.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0), dryRun };
  }

  /**
   * Removes one blob with its part and records, unless something protects it or an ingest has it
   * open. The blob's lock is held from the check to the removal, and an ingest takes its lease
   * under that lock, so none can find the blob held in between.
   *
   * @returns the bytes removed, undefined when it stays
   */
  async sweep(digest: Digest): Promise<number | undefined> {
    const lock = await this.#locks.tryAcquire(hexOf(digest));
    if (lock === undefined) return undefined;
    try {
      if ((await this.#protected()).has(digest)) return undefined;
      const sizeBytes = await this.#sizeOf(digest);
      await this.#blobs.delete(digest);
      for (const path of this.#besides(digest)) await this.#world.files.remove(path);
      return sizeBytes;
    } finally {
      await lock.release();
    }
  }

  /**
   * Leases are read before the index: `admit` writes the index before it drops its leases, so a
   * blob on its way from one to the other is seen in at least one of them.
   */
  async #protected(): Promise<Set<Digest>> {
    const leased = await this.#leases.all();
    const reachable = await this.#catalogue.reachable();
    const pinned = [...(await this.#pins.all()).values()].flat();
    return new Set([...leased, ...reachable, ...pinned]);
  }

  /** Every digest that has a blob, a part or a record. */
  async #found(): Promise<Digest[]> {
    const { files } = this.#world;
    const { blobs, parts, checked } = this.#layout;
    const names = [
      ...(await files.list(blobs)).map((name) => digestOfName(name)),
      ...(await files.list(parts)).flatMap((name) => [
        digestOfName(name, ".part"),
        digestOfName(name, ".json"),
        digestOfName(name, ".assembly"),
        digestOfName(name, ".state"),
      ]),
      ...(await files.list(checked)).map((name) => digestOfName(name, ".json")),
    ];
    return [...new Set(names)].filter((digest) => digest !== undefined).toSorted();
  }

  async #measure(digest: Digest): Promise<number | undefined> {
    return (await this.#locks.busy(hexOf(digest))) ? undefined : this.#sizeOf(digest);
  }

  async #sizeOf(digest: Digest): Promise<number> {
    const blob = await this.#world.files.status(this.#layout.blob(digest));
    const part = await this.#world.files.status(this.#layout.part(digest));
    // An assembly has its full size from the start; what counts is what it occupies.
    const assembly = await this.#world.files.status(this.#layout.assembly(digest));
    const assemblyBytes = Math.min(assembly?.sizeBytes ?? 0, assembly?.allocatedBytes ?? 0);
    return (blob?.sizeBytes ?? 0) + (part?.sizeBytes ?? 0) + assemblyBytes;
  }

  /** What may lie in the ingest directory for a digest; states go before what they describe. */
  #besides(digest: Digest): string[] {
    const layout = this.#layout;
    return [
      layout.partState(digest),
      layout.part(digest),
      layout.assemblyState(digest),
      layout.assembly(digest),
    ];
  }

  async #removeLeftovers(): Promise<void> {
    const { files, clock } = this.#world;
    for (const directory of [this.#layout.directory, ...directoriesOf(this.#layout)]) {
      for (const name of await files.list(directory)) {
        if (!name.endsWith(".new")) continue;
        const status = await files.status(join(directory, name));
        const old = status !== undefined && clock.now() - status.changed_ms > LEFTOVER_MS;
        if (old) await files.remove(join(directory, name));
      }
    }
  }
}
