import { componentsOf, type Clock, type Phase } from "#core";
import type { TransferProgress } from "#transfer";
import type { MigrationRecord } from "./record.ts";

export interface StreamView {
  readonly stream: string;
  readonly name: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly wireBytes: number;
}

const RATE_WINDOW_MS = 5000;

/** What is moving now, in memory only: a restarted agent shows it again from the first frame. */
export class ProgressBoard {
  readonly #clock: Clock;
  readonly #streams = new Map<string, Map<string, TransferProgress>>();
  readonly #samples = new Map<string, { at_ms: number; bytes: number }[]>();
  readonly #listeners = new Map<string, Set<() => void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  report(migration: string, progress: TransferProgress): void {
    const streams = this.#streams.get(migration) ?? new Map<string, TransferProgress>();
    this.#streams.set(migration, streams.set(progress.stream, progress));
    const bytes = [...streams.values()].reduce((sum, { wireBytes }) => sum + wireBytes, 0);
    const now_ms = this.#clock.monotonic();
    const recent = (this.#samples.get(migration) ?? []).filter(
      ({ at_ms }) => now_ms - at_ms < RATE_WINDOW_MS,
    );
    this.#samples.set(migration, [...recent, { at_ms: now_ms, bytes }]);
    this.changed(migration);
  }

  changed(migration: string): void {
    for (const listener of this.#listeners.get(migration) ?? []) listener();
  }

  onChange(migration: string, listener: () => void): () => void {
    const set = this.#listeners.get(migration) ?? new Set();
    this.#listeners.set(migration, set.add(listener));
    return () => void set.delete(listener);
  }

  streams(record: MigrationRecord): StreamView[] {
    const names = new Map<string, string>();
    for (const { id, manifest, name } of componentsOf(record.appliance)) {
      names.set(id, name);
      names.set(manifest.digest, `${name} (manifest)`);
    }
    return [...(this.#streams.get(record.id)?.values() ?? [])].map((progress) => ({
      ...progress,
      name: names.get(progress.stream) ?? progress.stream,
    }));
  }

  bitsPerSecond(migration: string): number | undefined {
    const samples = this.#samples.get(migration) ?? [];
    const [first] = samples;
    const last = samples.at(-1);
    if (first === undefined || last === undefined || last.at_ms - first.at_ms < 200)
      return undefined;
    return Math.max(0, ((last.bytes - first.bytes) * 8000) / (last.at_ms - first.at_ms));
  }
}

const PHASES: Readonly<Record<string, Phase>> = {
  proposed: "negotiate",
  serving: "components",
  accepted: "components",
  composing: "compose",
  prepared: "stop",
  stopping: "stop",
  frozen: "userData",
  receiving: "userData",
  "handed-over": "boot",
  starting: "boot",
  running: "boot",
};

/** The receipt's phase that a state belongs to. */
export function phaseOf(state: string): Phase | undefined {
  return PHASES[state];
}
