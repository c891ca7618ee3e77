import { createHash } from "node:crypto";
import { sketcher } from "#delta";

/** What the repository keeps of a content. */
export interface Measured {
  /** sha256, 32 bytes. */
  readonly digest: Uint8Array;
  /** See room delta. */
  readonly sketch: Uint32Array;
}

/** Takes a content's bytes in order, in pieces. */
export class Measure {
  readonly #hash = createHash("sha256");
  readonly #sketcher = sketcher();
  #takenBytes = 0;

  get takenBytes(): number {
    return this.#takenBytes;
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#sketcher.update(bytes);
    this.#takenBytes += bytes.length;
  }

  end(): Measured {
    return { digest: this.#hash.digest(), sketch: this.#sketcher.digest() };
  }
}

export function measured(bytes: Uint8Array): Measured {
  const measure = new Measure();
  measure.update(bytes);
  return measure.end();
}
