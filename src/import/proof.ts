/** That components and user data give the image's tree again, read back from what was written. */
import { TesseraError } from "#core";
import { canonicalTree, compareTrees, mergeTrees, treeDigest, type Tree } from "#image";
import type { ImportProof } from "./contract.ts";
import { contentBytes, type FineTree } from "./tree.ts";

function notEqual(differences: readonly string[]): TesseraError {
  const shown = differences.slice(0, 5).join("; ");
  const message = `the composed machine is not the image: ${shown} (${differences.length} differences)`;
  return new TesseraError("bug", "import.proof-failed", message, {
    remedy: "nothing was kept; report it with what is named here",
  });
}

/** Whiteouts and unchanged paths have no fraction; the highest layer that has the path counts. */
function fractionFaults(target: FineTree, upper: FineTree): string[] {
  const faults: string[] = [];
  for (const [path, ns] of target.fractions) {
    if (upper.fractions.get(path) !== ns) faults.push(`${path}: fraction of its time ${ns} ns`);
  }
  for (const path of upper.fractions.keys()) {
    if (!target.fractions.has(path)) faults.push(`${path}: its time has a fraction`);
  }
  return faults;
}

/**
 * Compares the image's tree with what the layers and the user data block show together. All that was
 * written is read again, every content among it.
 *
 * @param layers as the repository and the composition have them, lowest first
 * @param upper as the user data block has it
 * @param added paths that are Tessera's own
 * @throws `import.proof-failed` (bug)
 */
export async function proveEqual(
  target: FineTree,
  layers: readonly Tree[],
  upper: FineTree,
  added: readonly string[],
): Promise<ImportProof> {
  const own = new Set(added);
  const merged = mergeTrees([...layers, upper.tree]);
  const composed = canonicalTree(merged.entries.filter(({ path }) => !own.has(path)));
  const [imageDigest, composedDigest] = [await treeDigest(target.tree), await treeDigest(composed)];
  const faults = fractionFaults(target, upper);
  if (imageDigest !== composedDigest) faults.push(...(await compareTrees(target.tree, composed)));
  if (faults.length > 0 || imageDigest !== composedDigest) throw notEqual(faults);
  const { entries } = target.tree;
  return {
    entries: entries.length,
    bytes: contentBytes(entries),
    imageDigest,
    composedDigest,
    added,
  };
}
