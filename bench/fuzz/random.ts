/** Random numbers that repeat, and what is made of them. */
import { hash } from "node:crypto";

export interface FuzzRandom {
  /** 0 up to but not including `end`. */
  below(end: number): number;
  chance(fraction: number): boolean;
  pick<T>(choices: readonly T[]): T;
  bytes(length: number): Buffer;
}

/** A number that stands for a text. */
export function seedOf(text: string): number {
  return hash("sha256", text, "buffer").readInt32BE(0);
}

/** Mulberry32: quick, of 32 bits of state, good enough to choose mutations. */
export function fuzzRandom(seed: number): FuzzRandom {
  let state = seed | 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (end: number): number => Math.floor(next() * end);
  return {
    below,
    chance: (fraction) => next() < fraction,
    pick<T>(choices: readonly T[]): T {
      const choice = choices[below(choices.length)];
      if (choice === undefined) throw new Error("there is nothing to choose from");
      return choice;
    },
    bytes: (length) => Buffer.from(Array.from({ length }, () => below(256))),
  };
}

/** Numbers at the borders of what decoders tell apart. */
export const NUMBERS: readonly number[] = [
  0,
  1,
  2,
  3,
  4,
  7,
  8,
  11,
  12,
  15,
  16,
  31,
  32,
  63,
  64,
  127,
  128,
  255,
  256,
  511,
  512,
  1023,
  1024,
  4095,
  4096,
  4097,
  65_535,
  65_536,
  2 ** 20,
  2 ** 20 + 1,
  2 ** 24,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 40,
  2 ** 43,
  2 ** 44,
  2 ** 45,
  2 ** 52,
  2 ** 53 - 1,
];

function writeNumber(random: FuzzRandom, bytes: Buffer): void {
  const value = BigInt(random.pick(NUMBERS)) * (random.chance(0.1) ? -1n : 1n);
  const width = random.pick([1, 2, 4, 8]);
  const at = random.below(Math.max(1, bytes.length - width));
  const wide = Buffer.alloc(8);
  const little = random.chance(0.5);
  if (little) wide.writeBigUInt64LE(BigInt.asUintN(64, value));
  else wide.writeBigUInt64BE(BigInt.asUintN(64, value));
  bytes.set(
    little
      ? wide.subarray(0, Math.min(width, bytes.length))
      : wide.subarray(8 - Math.min(width, bytes.length)),
    at,
  );
}

/** Bytes put in the place of others, or between them. */
function splice(bytes: Buffer, at: number, removed: number, added: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + removed)]);
}

type Mutation = (random: FuzzRandom, bytes: Buffer, seeds: readonly Buffer[]) => Buffer;

/** In place where the length stays. */
const MUTATIONS: readonly Mutation[] = [
  (random, bytes) => {
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    return bytes;
  },
  (random, bytes) => {
    bytes[random.below(bytes.length)] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
    return bytes;
  },
  (random, bytes) => {
    writeNumber(random, bytes);
    return bytes;
  },
  (random, bytes) => {
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] ?? 0) + random.pick([-1, 1]);
    return bytes;
  },
  (random, bytes) => bytes.subarray(0, random.below(bytes.length)),
  (random, bytes) => {
    return splice(
      bytes,
      random.below(bytes.length),
      random.below(Math.min(64, bytes.length)),
      Buffer.alloc(0),
    );
  },
  (random, bytes) => splice(bytes, random.below(bytes.length), 0, random.bytes(random.below(16))),
  (random, bytes) => {
    const at = random.below(bytes.length);
    const copied = Buffer.from(bytes.subarray(at, at + random.below(256)));
    return splice(
      bytes,
      random.below(bytes.length),
      random.chance(0.5) ? copied.length : 0,
      copied,
    );
  },
  (random, bytes, seeds) => {
    const other = random.pick(seeds);
    const at = random.below(Math.max(1, other.length));
    const piece = other.subarray(at, at + random.below(512));
    return splice(bytes, random.below(bytes.length), random.chance(0.5) ? piece.length : 0, piece);
  },
];

/** A seed with one to eight changes. */
export function mutate(random: FuzzRandom, seeds: readonly Buffer[]): Buffer {
  let bytes: Buffer = Buffer.from(random.pick(seeds));
  for (let left = 1 + random.below(random.chance(0.5) ? 2 : 8); left > 0; left -= 1) {
    if (bytes.length === 0) return bytes;
    bytes = random.pick(MUTATIONS)(random, bytes, seeds);
  }
  return bytes;
}
