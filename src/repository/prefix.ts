import { createHash } from "node:crypto";
import type { Digest, OpenFile } from "#core";
import { finish, hashFile } from "./blobs.ts";

const STEP_BYTES = 8 * 2 ** 20;

/**
 * sha256 of a file that is written in any order. The prefix that will not change any more is
 * hashed while the rest is still to come.
 */
export class PrefixHash {
  readonly #file: OpenFile;
  #hash = createHash("sha256");
  /** How far the hash has come. */
  #doneBytes = 0;
  /** How far it may go. */
  #settledBytes = 0;
  /** A change below `#doneBytes` makes the hash worthless. */
  #spoilt = false;
  #running: Promise<void> | undefined;

  constructor(file: OpenFile) {
    this.#file = file;
  }

  /** The first `settledBytes` stay as they are; hashes them in the background. */
  advance(settledBytes: number): void {
    this.#settledBytes = Math.max(this.#settledBytes, settledBytes);
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  /** Bytes at `position` are about to change, whatever was said of them. */
  changed(position: number): void {
    this.#settledBytes = Math.min(this.#settledBytes, position);
    if (position < this.#doneBytes) this.#spoilt = true;
  }

  /** Of the whole file, which nobody writes any more. */
  async finish(sizeBytes: number): Promise<Digest> {
    await this.stop();
    if (this.#spoilt) {
      this.#hash = createHash("sha256");
      this.#doneBytes = 0;
    }
    await hashFile(this.#file, sizeBytes, this.#hash, this.#doneBytes);
    return finish(this.#hash);
  }

  /** Returns when the file is no longer read. */
  async stop(): Promise<void> {
    this.#settledBytes = 0;
    await this.#running;
  }

  /** What cannot be read now is read, and its failure told, by `finish`. */
  async #run(): Promise<void> {
    while (!this.#spoilt && this.#doneBytes < this.#settledBytes) {
      const from = this.#doneBytes;
      const to = Math.min(this.#settledBytes, from + STEP_BYTES);
      this.#doneBytes = to;
      try {
        await hashFile(this.#file, to, this.#hash, from);
      } catch {
        this.#spoilt = true;
      }
    }
  }
}
