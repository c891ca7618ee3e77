import type { Socket } from "node:net";
import { PIECE_BYTES, type BufferPool } from "./buffers.ts";

interface Parcel {
  readonly bytes: Buffer;
  /** What goes back to the pool. */
  readonly whole: Buffer | undefined;
  /** What `onSent` is told. */
  readonly cost: number;
}

/** A place for a short reply, within a buffer that is shared by those before and after it. */
export interface Slot {
  readonly buffer: Buffer;
  readonly at: number;
}

/**
 * What a connection has to send, gathered so that many replies take one system call. Short replies
 * are written straight into one buffer, in order; longer ones bring their own.
 */
export class Outbox {
  readonly #socket: Socket;
  readonly #pool: BufferPool;
  readonly #onSent: (cost: number) => void;
  #parcels: Parcel[] = [];
  #arena: Buffer | undefined;
  #used = 0;

  /** @param onSent is told the cost of replies that the system has taken, or never will */
  constructor(socket: Socket, pool: BufferPool, onSent: (cost: number) => void) {
    this.#socket = socket;
    this.#pool = pool;
    this.#onSent = onSent;
  }

  /** Room for at most `length` bytes, 256 KiB at most; nothing is taken until `fill`. */
  slot(length: number): Slot {
    if (this.#arena !== undefined && this.#used + length > this.#arena.length) this.flush();
    this.#arena ??= this.#pool.take(PIECE_BYTES);
    return { buffer: this.#arena, at: this.#used };
  }

  /** The slot that was given last has so many bytes now; they cost as much. */
  fill(length: number): void {
    this.#used += length;
  }

  /** @param whole goes back to the pool once the bytes are sent */
  add(bytes: Buffer, cost: number, whole?: Buffer): void {
    this.#seal();
    this.#parcels.push({ bytes, cost, whole });
  }

  /** Gives all that was gathered to the socket. */
  flush(): void {
    this.#seal();
    if (this.#parcels.length === 0) return;
    const parcels = this.#parcels;
    this.#parcels = [];
    const done = (): void => this.#sent(parcels);
    const [first] = parcels;
    if (first !== undefined && parcels.length === 1) {
      this.#socket.write(first.bytes, done);
      return;
    }
    this.#socket.cork();
    parcels.forEach(({ bytes }, at) => {
      this.#socket.write(bytes, at === parcels.length - 1 ? done : undefined);
    });
    this.#socket.uncork();
  }

  #seal(): void {
    if (this.#arena === undefined) return;
    const [whole, cost] = [this.#arena, this.#used];
    this.#arena = undefined;
    this.#used = 0;
    if (cost === 0) this.#pool.give(whole);
    else this.#parcels.push({ bytes: whole.subarray(0, cost), cost, whole });
  }

  #sent(parcels: readonly Parcel[]): void {
    let total = 0;
    for (const { cost, whole } of parcels) {
      total += cost;
      if (whole !== undefined) this.#pool.give(whole);
    }
    this.#onSent(total);
  }
}
