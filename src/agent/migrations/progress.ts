import { componentsOf, type Clock, type Digest, type Phase } from "#core";
import type { TransferProgress } from "#transfer";
import type { MigrationRecord } from "./record.ts";

export interface StreamView {
  /** A component's id, `userData` or `memory`. */
  readonly stream: string;
  readonly name: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly wireBytes: number;
  readonly savedBytes?: number;
  /** The clouds that have sent, where they are known. */
  readonly sources?: readonly string[];
  /** The pass under way, of what a running machine goes on changing. */
  readonly pass?: number;
}

/** What is told of a stream. */
export interface StreamReport extends TransferProgress {
  readonly pass?: number;
}

const RATE_WINDOW_MS = 5000;
const SAMPLE_MS = 100;
/** Migrations whose streams are kept, the newest. */
const KEPT_MAX = 64;
export const USER_DATA = "userData";
export const MEMORY = "memory";
const OTHERS = [
  { id: USER_DATA, name: "user data" },
  { id: MEMORY, name: "memory" },
];

interface Sample {
  readonly at_ms: number;
  readonly bytes: number;
}

/** What is known of one migration. */
interface Moving {
  /** What a blob belongs to: the id of its component. */
  readonly owners: Map<string, Digest>;
  readonly blobs: Map<string, StreamReport>;
  /** By stream: who has sent. */
  readonly sources: Map<string, Set<string>>;
  samples: Sample[];
  wireBytes: number;
}

/**
 * What is moving now, in memory only: a restarted agent shows it again from the first frame. The
 * blobs of a component (image, manifest, config, fragments) are one stream, named by its id.
 */
export class ProgressBoard {
  readonly #clock: Clock;
  readonly #moving = new Map<string, Moving>();
  readonly #listeners = new Map<string, Set<() => void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Says which component blobs belong to, beside image and manifest, which are known. */
  own(migration: string, component: Digest, blobs: readonly Digest[]): void {
    const { owners } = this.#of(migration);
    for (const blob of blobs) owners.set(blob, component);
  }

  report(migration: string, progress: StreamReport): void {
    const moving = this.#of(migration);
    moving.wireBytes += progress.wireBytes - (moving.blobs.get(progress.stream)?.wireBytes ?? 0);
    moving.blobs.set(progress.stream, progress);
    const sources = moving.sources.get(progress.stream) ?? new Set();
    if (progress.source !== undefined) {
      moving.sources.set(progress.stream, sources.add(progress.source));
    }
    this.#sample(moving);
    this.changed(migration);
  }

  changed(migration: string): void {
    for (const listener of this.#listeners.get(migration) ?? []) listener();
  }

  onChange(migration: string, listener: () => void): () => void {
    const set = this.#listeners.get(migration) ?? new Set();
    this.#listeners.set(migration, set.add(listener));
    return () => {
      set.delete(listener);
      if (set.size === 0) this.#listeners.delete(migration);
    };
  }

  /** In the order of the appliance, then user data and memory; only what has begun. */
  streams(record: MigrationRecord): StreamView[] {
    const moving = this.#moving.get(record.id);
    if (moving === undefined) return [];
    const components = componentsOf(record.appliance);
    const owners = new Map<string, string>(moving.owners);
    for (const { id, manifest } of components) owners.set(id, id).set(manifest.digest, id);
    const named = [...components.map(({ id, name }) => ({ id, name })), ...OTHERS];
    return named.flatMap(({ id, name }) => {
      const blobs = [...moving.blobs.values()].filter(
        ({ stream }) => stream === id || owners.get(stream) === id,
      );
      const sources = [...(moving.sources.get(id) ?? [])];
      const from = sources.length === 0 ? {} : { sources };
      return blobs.length === 0 ? [] : [{ stream: id, name, ...sumOf(blobs), ...from }];
    });
  }

  bitsPerSecond(migration: string): number | undefined {
    const samples = this.#moving.get(migration)?.samples ?? [];
    const [first] = samples;
    const last = samples.at(-1);
    if (first === undefined || last === undefined || last.at_ms - first.at_ms < 2 * SAMPLE_MS) {
      return undefined;
    }
    return Math.max(0, ((last.bytes - first.bytes) * 8000) / (last.at_ms - first.at_ms));
  }

  #of(migration: string): Moving {
    const known = this.#moving.get(migration);
    if (known !== undefined) return known;
    const moving: Moving = {
      owners: new Map(),
      blobs: new Map(),
      sources: new Map(),
      samples: [],
      wireBytes: 0,
    };
    const oldest = this.#moving.keys().next();
    if (this.#moving.size >= KEPT_MAX && oldest.done === false) this.#moving.delete(oldest.value);
    this.#moving.set(migration, moving);
    return moving;
  }

  /** One sample in a while, however many frames come. */
  #sample(moving: Moving): void {
    const at_ms = this.#clock.monotonic();
    const last = moving.samples.at(-1);
    if (last !== undefined && at_ms - last.at_ms < SAMPLE_MS) return;
    const recent = moving.samples.filter((sample) => at_ms - sample.at_ms < RATE_WINDOW_MS);
    moving.samples = [...recent, { at_ms, bytes: moving.wireBytes }];
  }
}

function sumOf(blobs: readonly StreamReport[]): Omit<StreamView, "stream" | "name" | "sources"> {
  const add = (of: (blob: StreamReport) => number): number =>
    blobs.reduce((sum, blob) => sum + of(blob), 0);
  return {
    doneBytes: add(({ doneBytes }) => doneBytes),
    totalBytes: add(({ totalBytes }) => totalBytes),
    wireBytes: add(({ wireBytes }) => wireBytes),
    ...(blobs.some(({ savedBytes }) => savedBytes !== undefined)
      ? { savedBytes: add(({ savedBytes }) => savedBytes ?? 0) }
      : {}),
    ...passOf(blobs),
  };
}

function passOf(blobs: readonly StreamReport[]): { readonly pass?: number } {
  const pass = Math.max(0, ...blobs.map((blob) => blob.pass ?? 0));
  return pass === 0 ? {} : { pass };
}

const PHASES: Readonly<Record<string, Phase>> = {
  proposed: "negotiate",
  serving: "components",
  accepted: "components",
  composing: "compose",
  replicating: "userData",
  prepared: "stop",
  stopping: "stop",
  frozen: "userData",
  receiving: "userData",
  received: "userData",
  copying: "userData",
  listening: "memory",
  moving: "memory",
  switching: "switch",
  arming: "switch",
  armed: "switch",
  supplying: "userData",
  filling: "userData",
  "handed-over": "boot",
  starting: "boot",
  running: "boot",
};

const HOT_PHASES: Readonly<Record<string, Phase>> = {
  ...PHASES,
  composing: "compose",
  "handed-over": "switch",
  starting: "switch",
};

/** The receipt's phase that a state belongs to. */
export function phaseOf({ phase, mode }: MigrationRecord): Phase | undefined {
  return (mode === "hot" ? HOT_PHASES : PHASES)[phase];
}
