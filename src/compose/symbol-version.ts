/** Symbol versions of shared objects, as the ELF version sections name them (GNU symbol versioning). */

interface SymbolVersion {
  /** `GLIBC` of `GLIBC_2.36`; the whole name where no number ends it (`GLIBC_PRIVATE`). */
  readonly series: string;
  /** The numbers, empty where there are none. */
  readonly numbers: readonly number[];
  /** Letters after the numbers, as in `OPENSSL_1.0.2d`. */
  readonly suffix: string;
}

function parseSymbolVersion(text: string): SymbolVersion {
  const match = /^(.*?)[_.-]?(\d+(?:[._]\d+)*)([a-z]*\d*)$/.exec(text);
  if (match === null) return { series: text, numbers: [], suffix: "" };
  const numbers = (match[2] ?? "").split(/[._]/).map(Number);
  return { series: match[1] ?? "", numbers, suffix: match[3] ?? "" };
}

/** True when both belong to one series, such as `GLIBC_2.2.5` and `GLIBC_2.36`. */
export function isSameSeries(a: string, b: string): boolean {
  return parseSymbolVersion(a).series === parseSymbolVersion(b).series;
}

/** True when an object whose highest version of the series is `highest` has `needed` too. */
export function reachesSymbolVersion(highest: string, needed: string): boolean {
  const have = parseSymbolVersion(highest);
  const want = parseSymbolVersion(needed);
  if (have.series !== want.series) return false;
  const length = Math.max(have.numbers.length, want.numbers.length);
  for (let index = 0; index < length; index += 1) {
    const difference = (have.numbers[index] ?? 0) - (want.numbers[index] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return have.suffix >= want.suffix;
}
