/** Debian package versions (deb-version(7)). */

interface Parts {
  readonly epoch: bigint;
  readonly upstream: string;
  readonly revision: string;
}

function partsOf(version: string): Parts {
  const colon = version.indexOf(":");
  const epoch = colon < 0 ? "0" : version.slice(0, colon);
  const rest = version.slice(colon + 1);
  const dash = rest.lastIndexOf("-");
  return {
    epoch: /^\d+$/.test(epoch) ? BigInt(epoch) : 0n,
    upstream: dash < 0 ? rest : rest.slice(0, dash),
    revision: dash < 0 ? "" : rest.slice(dash + 1),
  };
}

/** `~` sorts before the end, letters before everything else. */
function weight(text: string, index: number): number {
  const code = text.charCodeAt(index);
  if (Number.isNaN(code) || (code >= 48 && code <= 57)) return 0;
  if (code === 126) return -1;
  const letter = (code >= 65 && code <= 90) || (code >= 97 && code <= 122);
  return letter ? code : code + 256;
}

function isDigit(text: string, index: number): boolean {
  const code = text.charCodeAt(index);
  return code >= 48 && code <= 57;
}

/** Length of the run from `start` that is (or is not) digits. */
function runLength(text: string, start: number, digits: boolean): number {
  let end = start;
  while (end < text.length && isDigit(text, end) === digits) end += 1;
  return end - start;
}

function compareRuns(a: string, b: string): number {
  for (let index = 0; index < Math.max(a.length, b.length); index += 1) {
    const difference = weight(a, index) - weight(b, index);
    if (difference !== 0) return difference;
  }
  return 0;
}

function compareNumbers(a: string, b: string): number {
  const [x, y] = [a.replace(/^0+/, ""), b.replace(/^0+/, "")];
  if (x.length !== y.length) return x.length - y.length;
  return x === y ? 0 : x < y ? -1 : 1;
}

function comparePart(a: string, b: string): number {
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    for (const digits of [false, true]) {
      const [m, n] = [runLength(a, i, digits), runLength(b, j, digits)];
      const compare = digits ? compareNumbers : compareRuns;
      const difference = compare(a.slice(i, i + m), b.slice(j, j + n));
      if (difference !== 0) return difference;
      i += m;
      j += n;
    }
  }
  return 0;
}

/** Below zero when `a` is older than `b`, as `dpkg --compare-versions` decides. */
export function compareVersions(a: string, b: string): number {
  const [x, y] = [partsOf(a), partsOf(b)];
  if (x.epoch !== y.epoch) return x.epoch < y.epoch ? -1 : 1;
  return comparePart(x.upstream, y.upstream) || comparePart(x.revision, y.revision);
}

export type Relation = "<<" | "<=" | "=" | ">=" | ">>";

const HOLDS: Readonly<Record<Relation, (order: number) => boolean>> = {
  "<<": (order) => order < 0,
  "<=": (order) => order <= 0,
  "=": (order) => order === 0,
  ">=": (order) => order >= 0,
  ">>": (order) => order > 0,
};

/** Does `offered` stand in `relation` to `needed`? */
export function satisfies(offered: string, relation: Relation, needed: string): boolean {
  return HOLDS[relation](compareVersions(offered, needed));
}
