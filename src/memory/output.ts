const PIECE_BYTES = 2 ** 18;

/** Gathers small writes into pieces; every piece is memory of its own. */
export class Output {
  #piece = Buffer.alloc(0);
  #used = 0;

  /** Takes the bytes; gives the pieces that are full. */
  *put(bytes: Uint8Array): Generator<Buffer, void, undefined> {
    for (let done = 0; done < bytes.length;) {
      if (this.#used === this.#piece.length) this.#piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
      const part = bytes.subarray(done, done + this.#piece.length - this.#used);
      this.#piece.set(part, this.#used);
      this.#used += part.length;
      done += part.length;
      if (this.#used === this.#piece.length) yield* this.flush();
    }
  }

  /** Gives what there is. */
  *flush(): Generator<Buffer, void, undefined> {
    if (this.#used === 0) return;
    const piece = this.#piece.subarray(0, this.#used);
    this.#piece = Buffer.alloc(0);
    this.#used = 0;
    yield piece;
  }
}
