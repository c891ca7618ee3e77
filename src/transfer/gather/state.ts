/**
 * What an assembly records at a checkpoint: which contents of which recipe are whole.
 *
 *     version (1 byte: 1) | digest of the recipe (32 bytes) | run lengths
 *
 * The run lengths are unsigned LEB128 numbers and alternate, beginning with a run of contents that
 * are not whole; what they do not reach is not whole. Specified in doc/gathering.md.
 */
const VERSION = 1;
const HEAD_BYTES = 33;

/** @param recipe 32 bytes. @param whole one element per content, 1 where it is whole */
export function encodeState(recipe: Uint8Array, whole: Uint8Array): Uint8Array {
  const bytes = [VERSION, ...recipe];
  let value = 0;
  let run = 0;
  for (const element of whole) {
    if (element === value) {
      run += 1;
      continue;
    }
    pushNumber(bytes, run);
    value = element;
    run = 1;
  }
  if (value === 1) pushNumber(bytes, run);
  return Uint8Array.from(bytes);
}

/** The whole contents; undefined when the state is of another recipe or cannot be read. */
export function decodeState(
  state: Uint8Array,
  recipe: Uint8Array,
  contents: number,
): Uint8Array | undefined {
  const own = state[0] === VERSION && Buffer.compare(state.subarray(1, HEAD_BYTES), recipe) === 0;
  if (!own) return undefined;
  const whole = new Uint8Array(contents);
  let [value, at, index] = [0, HEAD_BYTES, 0];
  while (at < state.length) {
    const read = readNumber(state, at);
    if (read === undefined || read.value > contents - index) return undefined;
    whole.fill(value, index, index + read.value);
    index += read.value;
    at = read.end;
    value = 1 - value;
  }
  return whole;
}

function pushNumber(bytes: number[], value: number): void {
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  bytes.push(rest);
}

/** Below 2^35. */
function readNumber(bytes: Uint8Array, at: number): { value: number; end: number } | undefined {
  let value = 0;
  for (let digit = 0; digit < 5; digit += 1) {
    const byte = bytes[at + digit];
    if (byte === undefined) return undefined;
    value += (byte % 128) * 128 ** digit;
    if (byte < 128) return { value, end: at + digit + 1 };
  }
  return undefined;
}
