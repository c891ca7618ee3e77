/** Counting what a component costs, and telling of it while it comes. */
import type { ComponentReference, Digest, World } from "#core";
import type { ComponentReport, GatherProgress, GatherSource } from "./contract.ts";
import type { Sources } from "./sources.ts";

const INTERVAL_MS = 100;

export class Tally {
  readonly #world: World;
  readonly #sources: Sources;
  readonly #reference: ComponentReference;
  readonly #onProgress: (progress: GatherProgress) => void;
  readonly #wireBytes = new Map<string, number>();
  readonly #copied = new Map<Digest, number>();
  #doneBytes = 0;
  #missingBytes = 0;
  #patchedBytes = 0;
  #told_ms = Number.NEGATIVE_INFINITY;
  asBlob = false;

  constructor(
    world: World,
    sources: Sources,
    reference: ComponentReference,
    onProgress: ((progress: GatherProgress) => void) | undefined,
  ) {
    this.#world = world;
    this.#sources = sources;
    this.#reference = reference;
    this.#onProgress = onProgress ?? (() => undefined);
  }

  /** Bytes of the image were copied from a held component: `bytes` each once. */
  copied(component: Digest, bytes: number): void {
    this.#copied.set(component, (this.#copied.get(component) ?? 0) + bytes);
    this.#doneBytes += bytes;
    this.#tell(undefined);
  }

  /** Bytes of contents came; returns what has crossed the wire for them, about. */
  came(source: GatherSource, bytes: number, patched = false): number {
    this.#missingBytes += bytes;
    if (patched) this.#patchedBytes += bytes;
    this.#doneBytes += bytes;
    const wireBytes = this.wire(source);
    this.#tell(source.holder.cloud);
    return wireBytes;
  }

  /** Counts what has crossed the wire to a source since anybody looked. */
  wire(source: GatherSource): number {
    const { cloud } = source.holder;
    const bytes = this.#sources.takeWireBytes(source);
    if (bytes > 0) this.#wireBytes.set(cloud, (this.#wireBytes.get(cloud) ?? 0) + bytes);
    return bytes;
  }

  /** Everything is to be done again; what travelled has travelled. */
  restart(): void {
    this.#doneBytes = 0;
    this.#copied.clear();
  }

  whole(): void {
    this.#doneBytes = this.#reference.sizeBytes;
    this.#told_ms = Number.NEGATIVE_INFINITY;
    this.#tell(undefined);
  }

  report(): ComponentReport {
    const { id, name, sizeBytes } = this.#reference;
    const copiedFrom = [...this.#copied].map(([component, bytes]) => ({ component, bytes }));
    return {
      id,
      name,
      sizeBytes,
      heldBytes: sum(this.#copied.values()),
      copiedFrom,
      patchedBytes: this.#patchedBytes,
      missingBytes: this.#missingBytes,
      wireBytes: sum(this.#wireBytes.values()),
      wireBytesBySource: Object.fromEntries(this.#wireBytes),
      asBlob: this.asBlob,
    };
  }

  #tell(source: string | undefined): void {
    const now_ms = this.#world.clock.monotonic();
    if (now_ms - this.#told_ms < INTERVAL_MS) return;
    this.#told_ms = now_ms;
    const { id, sizeBytes } = this.#reference;
    const doneBytes = Math.min(this.#doneBytes, sizeBytes);
    const wireBytes = sum(this.#wireBytes.values());
    this.#onProgress({
      component: id,
      doneBytes,
      totalBytes: sizeBytes,
      wireBytes,
      savedBytes: Math.max(0, doneBytes - wireBytes),
      ...(source === undefined ? {} : { source }),
    });
  }
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
