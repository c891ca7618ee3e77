/** Contents below this have no sketch: they are too small for a reference to pay by similarity. */
export const SKETCH_BYTES_MIN = 4096;
/** Numbers in a sketch. */
export const SKETCH_FEATURES = 8;

/** Bytes that are passed over after a sampled window. */
const SKIP_BYTES = 128;
/** A window of 32 bytes is sampled when the upper seven bits of its hash are zero. */
const SAMPLE_MASK = 0xfe00_0000 | 0;

/** Takes a content piece by piece. */
export interface Sketcher {
  update(bytes: Uint8Array): void;
  /** Empty for contents below {@link SKETCH_BYTES_MIN} bytes and for such as have no windows. */
  digest(): Uint32Array;
}

/**
 * Makes the similarity sketch of a content: of all sampled windows (see doc/delta.md) the least
 * value under each of eight permutations (Broder's min-hash). Equal contents have equal sketches,
 * however they are cut into updates.
 */
export function sketcher(): Sketcher {
  const least = new Int32Array(SKETCH_FEATURES).fill(0x7fff_ffff);
  let sizeBytes = 0;
  let hash = RESTART;
  let skip = 0;
  let windows = 0;
  return {
    update(bytes) {
      const { length } = bytes;
      sizeBytes += length;
      let at = Math.min(skip, length);
      skip -= at;
      while (at < length) {
        at = scan(bytes, at, hash);
        hash = scanned;
        if ((hash & SAMPLE_MASK) !== 0) break;
        take(least, hash);
        windows += 1;
        hash = RESTART;
        skip = Math.max(0, at + SKIP_BYTES - length);
        at += SKIP_BYTES;
      }
    },
    digest() {
      const enough = sizeBytes >= SKETCH_BYTES_MIN && windows > 0;
      return enough ? Uint32Array.from(least) : new Uint32Array(0);
    },
  };
}

/** Share of the numbers that agree, 0 to 1: about the share of windows in common. */
export function similarity(a: Uint32Array, b: Uint32Array): number {
  if (a.length === 0 || a.length !== b.length) return 0;
  let equal = 0;
  for (let index = 0; index < a.length; index += 1) if (a[index] === b[index]) equal += 1;
  return equal / a.length;
}

/** The murmur3 finaliser: a permutation of the 32-bit numbers. */
function mix(value: number): number {
  let mixed = value;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85eb_ca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35);
  return mixed ^ (mixed >>> 16);
}

/** One number per byte value, so chosen that runs of one byte (zeroes among them) have no windows. */
const GEAR = Int32Array.from({ length: 256 }, (_, byte) => mix(byte * 0x9e37_79b9 + 512));
const FACTORS = Int32Array.from({ length: SKETCH_FEATURES }, (_, index) => mix(2 * index + 3) | 1);
const TERMS = Int32Array.from({ length: SKETCH_FEATURES }, (_, index) => mix(index + 0x100));
/** A hash that is not sampled until real bytes have been shifted in. */
const RESTART = -1;

let scanned = 0;

/**
 * Rolls the gear hash over `bytes` from `from` until a window is sampled or the bytes end; leaves
 * the hash in `scanned` and returns the position behind the last byte.
 */
function scan(bytes: Uint8Array, from: number, start: number): number {
  const { length } = bytes;
  let hash = start;
  let at = from;
  while (at < length) {
    hash = ((hash << 1) + (GEAR[bytes[at] as number] as number)) | 0;
    at += 1;
    if ((hash & SAMPLE_MASK) === 0) break;
  }
  scanned = hash;
  return at;
}

/** Multiplication by an odd number and an addition permute the 32-bit numbers. */
function take(least: Int32Array, hash: number): void {
  const window = mix(hash);
  for (let index = 0; index < SKETCH_FEATURES; index += 1) {
    const factor = FACTORS[index] as number;
    const value = (Math.imul(window, factor) + (TERMS[index] as number)) | 0;
    if (value < (least[index] as number)) least[index] = value;
  }
}
