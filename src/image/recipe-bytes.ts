/** Numbers, texts and byte strings of encoded recipes (`doc/recipe.md`, "Primitives"). */
import { recipeInvalid } from "./errors.ts";

const BUFFER_BYTES = 65_536;
/** A number of 53 bits takes at most so many bytes. */
const NUMBER_BYTES_MAX = 8;

export interface RecipeWriter {
  /** 0 to 2^53 - 1. */
  number(value: number): void;
  bytes(bytes: Uint8Array): void;
  /** A number of bytes, then as many bytes. */
  string(bytes: Uint8Array): void;
  text(text: string): void;
  end(): void;
}

/** Gathers what is written; `flush` gets it in order, in memory that is used again. */
export function recipeWriter(flush: (bytes: Buffer) => void): RecipeWriter {
  const buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  let used = 0;
  const end = (): void => {
    if (used > 0) flush(buffer.subarray(0, used));
    used = 0;
  };
  const number = (value: number): void => {
    if (used + NUMBER_BYTES_MAX > BUFFER_BYTES) end();
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) {
      buffer[used] = (rest % 0x80) | 0x80;
      used += 1;
    }
    buffer[used] = rest;
    used += 1;
  };
  const bytes = (source: Uint8Array): void => {
    for (let done = 0; done < source.length;) {
      if (used === BUFFER_BYTES) end();
      const piece = source.subarray(done, done + BUFFER_BYTES - used);
      buffer.set(piece, used);
      used += piece.length;
      done += piece.length;
    }
  };
  const string = (source: Uint8Array): void => {
    number(source.length);
    bytes(source);
  };
  return { number, bytes, string, text: (text) => string(Buffer.from(text)), end };
}

export interface RecipeReader {
  /** @throws `image.recipe-invalid`, as all here, when it is cut short or not in shortest form */
  number(): number;
  /** A view of the input. */
  bytes(length: number): Buffer;
  /** A view of the input of at most `lengthMax` bytes, preceded by its length. */
  string(lengthMax: number): Buffer;
  remaining(): number;
}

export function recipeReader(input: Buffer): RecipeReader {
  let at = 0;
  const byte = (): number => {
    const value = input[at];
    if (value === undefined) throw recipeInvalid("it is cut short");
    at += 1;
    return value;
  };
  const number = (): number => {
    let value = byte();
    if (value < 0x80) return value;
    value -= 0x80;
    for (let factor = 0x80, count = 1; ; factor *= 0x80, count += 1) {
      const next = byte();
      value += (next & 0x7f) * factor;
      if (count >= NUMBER_BYTES_MAX || value > Number.MAX_SAFE_INTEGER) {
        throw recipeInvalid("a number is above 2^53 - 1");
      }
      if (next === 0) throw recipeInvalid("a number is not in its shortest form");
      if (next < 0x80) return value;
    }
  };
  const bytes = (length: number): Buffer => {
    if (length > input.length - at) throw recipeInvalid("it is cut short");
    at += length;
    return input.subarray(at - length, at);
  };
  const string = (lengthMax: number): Buffer => {
    const length = number();
    if (length > lengthMax) throw recipeInvalid(`a string has more than ${lengthMax} bytes`);
    return bytes(length);
  };
  return { number, bytes, string, remaining: () => input.length - at };
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @throws `image.recipe-invalid` unless the bytes are UTF-8 */
export function decodeText(bytes: Buffer): string {
  for (const byte of bytes) if (byte >= 0x80) return decodeUnicode(bytes);
  return bytes.toString("latin1");
}

function decodeUnicode(bytes: Buffer): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw recipeInvalid("a text is not UTF-8", cause);
  }
}

/** Non-negative for every whole number of less than 53 bits: 0, -1, 1, -2 become 0, 1, 2, 3. */
export function zigzag(value: number): number {
  return value >= 0 ? value * 2 : -value * 2 - 1;
}

export function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}
