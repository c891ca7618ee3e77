/**
 * Debian's order of version numbers (deb-version(7), Debian policy 5.6.12): the epoch as a number,
 * then the upstream version, then the revision, each by {@link compareParts}.
 *
 * @returns less than, equal to or more than 0; total for any text, so that a version that is not
 *   Debian's sorts by the same rule
 */
export function compareDebianVersions(a: string, b: string): number {
  const left = splitVersion(a);
  const right = splitVersion(b);
  return (
    compareParts(left.epoch, right.epoch) ||
    compareParts(left.upstream, right.upstream) ||
    compareParts(left.revision, right.revision)
  );
}

interface Version {
  readonly epoch: string;
  readonly upstream: string;
  readonly revision: string;
}

/** An absent epoch or revision is empty, which counts as 0. */
function splitVersion(text: string): Version {
  const epoch = /^\d+(?=:)/.exec(text)?.[0];
  const rest = epoch === undefined ? text : text.slice(epoch.length + 1);
  const dash = rest.lastIndexOf("-");
  const upstream = dash < 0 ? rest : rest.slice(0, dash);
  return { epoch: epoch ?? "", upstream, revision: dash < 0 ? "" : rest.slice(dash + 1) };
}

/** Alternately the longest run without digits by {@link weight}, and the run of digits by value. */
function compareParts(a: string, b: string): number {
  let [restA, restB] = [a, b];
  while (restA !== "" || restB !== "") {
    const [textA, textB] = [/^\D*/.exec(restA)?.[0] ?? "", /^\D*/.exec(restB)?.[0] ?? ""];
    const byText = compareText(textA, textB);
    if (byText !== 0) return byText;
    [restA, restB] = [restA.slice(textA.length), restB.slice(textB.length)];
    const [digitsA, digitsB] = [/^\d*/.exec(restA)?.[0] ?? "", /^\d*/.exec(restB)?.[0] ?? ""];
    const byNumber = compareDigits(digitsA, digitsB);
    if (byNumber !== 0) return byNumber;
    [restA, restB] = [restA.slice(digitsA.length), restB.slice(digitsB.length)];
  }
  return 0;
}

function compareText(a: string, b: string): number {
  const length = Math.max(a.length, b.length);
  for (let index = 0; index < length; index += 1) {
    const difference = weight(a.charAt(index)) - weight(b.charAt(index));
    if (difference !== 0) return difference;
  }
  return 0;
}

/** A tilde sorts before the end, the end before letters, letters before everything else. */
function weight(character: string): number {
  if (character === "") return 0;
  if (character === "~") return -1;
  const code = character.charCodeAt(0);
  return /[A-Za-z]/.test(character) ? code : code + 256;
}

/** By value at any length: a longer number without leading zeroes is the greater one. */
function compareDigits(a: string, b: string): number {
  const [left, right] = [a.replace(/^0+/, ""), b.replace(/^0+/, "")];
  if (left.length !== right.length) return left.length - right.length;
  if (left === right) return 0;
  return left < right ? -1 : 1;
}
