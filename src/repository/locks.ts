import { join } from "node:path";
import { hasCode, TesseraError, type ProcessIdentity, type World } from "#core";
import { decodeIdentity } from "./decode.ts";
import type { Layout } from "./layout.ts";

const POLL_MIN_MS = 5;
const POLL_MAX_MS = 100;
const HOLDER_BYTES_MAX = 4096;
/** Each level needs a process that died while it broke a lock; more than a few is a fault. */
const BREAK_DEPTH_MAX = 8;

export interface Lock {
  release(): Promise<void>;
}

export interface LockOptions {
  readonly signal?: AbortSignal | undefined;
  /** Longest wait; absent means without limit. */
  readonly timeout_ms?: number;
}

/**
 * Locks between processes of one host. A lock is a hard link, made at once with its content, to
 * this process's holder file, which names pid, start time and boot; the death of the holder frees
 * it. A lock whose holder is dead is broken under the lock `NAME.break`, so that two who see it at
 * once cannot remove each other's new lock.
 */
export class Locks {
  readonly #world: World;
  readonly #layout: Layout;
  readonly #identity: ProcessIdentity;
  readonly #holder: string;
  #ready: Promise<void> | undefined;

  constructor(world: World, layout: Layout, identity: ProcessIdentity, token: string) {
    this.#world = world;
    this.#layout = layout;
    this.#identity = identity;
    this.#holder = join(layout.holders, `${token}.json`);
  }

  /** @throws `repository.lock-timeout`; the signal's reason when aborted */
  async acquire(name: string, options: LockOptions = {}): Promise<Lock> {
    const { clock, random } = this.#world;
    const start_ms = clock.monotonic();
    let wait_ms = POLL_MIN_MS;
    for (;;) {
      options.signal?.throwIfAborted();
      const lock = await this.tryAcquire(name);
      if (lock !== undefined) return lock;
      if (clock.monotonic() - start_ms > (options.timeout_ms ?? Infinity)) throw timedOut(name);
      await clock.sleep(wait_ms * (0.5 + random.fraction()), options.signal);
      wait_ms = Math.min(wait_ms * 2, POLL_MAX_MS);
    }
  }

  /** The lock, or undefined while a living process has it. */
  async tryAcquire(name: string, depth = 0): Promise<Lock | undefined> {
    const path = join(this.#layout.locks, name);
    const lock = { release: () => this.#world.files.remove(path) };
    if (await this.#link(path)) return lock;
    if ((await this.#look(path)) === "stale") await this.#breakStale(name, depth);
    return (await this.#link(path)) ? lock : undefined;
  }

  /** True when the lock is held by a living process. */
  async busy(name: string): Promise<boolean> {
    return (await this.#look(join(this.#layout.locks, name))) === "held";
  }

  /** Removes the locks, then the holder files, of processes that have died. */
  async tidy(): Promise<void> {
    const { files } = this.#world;
    const { locks, holders } = this.#layout;
    for (const name of await files.list(locks)) {
      if ((await this.#look(join(locks, name))) === "stale") await this.#breakStale(name, 0);
    }
    for (const name of await files.list(holders)) {
      const path = join(holders, name);
      if (name.endsWith(".json") && (await this.#look(path)) === "stale") await files.remove(path);
    }
  }

  async #link(path: string): Promise<boolean> {
    await this.#holderWritten();
    try {
      await this.#world.files.link(this.#holder, path);
      return true;
    } catch (error) {
      if (hasCode(error, "system.exists")) return false;
      throw error;
    }
  }

  /** Once per process and store; tried again when it failed. */
  #holderWritten(): Promise<void> {
    this.#ready ??= this.#world.files
      .writeFileAtomic(this.#holder, JSON.stringify(this.#identity))
      .catch((error: unknown) => {
        this.#ready = undefined;
        throw error;
      });
    return this.#ready;
  }

  /** A lock that cannot be decoded is what a power cut left: its content was not synced. */
  async #look(path: string): Promise<"free" | "held" | "stale"> {
    try {
      const identity = decodeIdentity(await this.#world.files.readFile(path, HOLDER_BYTES_MAX));
      return this.#world.processes.alive(identity) ? "held" : "stale";
    } catch (error) {
      if (hasCode(error, "system.not-found")) return "free";
      if (hasCode(error, "repository.json-invalid")) return "stale";
      throw error;
    }
  }

  async #breakStale(name: string, depth: number): Promise<void> {
    if (depth >= BREAK_DEPTH_MAX) throw timedOut(name);
    const guard = await this.tryAcquire(`${name}.break`, depth + 1);
    if (guard === undefined) return;
    try {
      const path = join(this.#layout.locks, name);
      if ((await this.#look(path)) === "stale") await this.#world.files.remove(path);
    } finally {
      await guard.release();
    }
  }
}

function timedOut(name: string): TesseraError {
  const message = `the repository's lock "${name}" stays held`;
  return new TesseraError("environment", "repository.lock-timeout", message, {
    subject: name,
    remedy: "see which other tessera process uses this repository",
  });
}
