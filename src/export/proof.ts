/** That the exported root has the machine's tree, read back from the finished disk. */
import { TesseraError } from "#core";
import { canonicalTree, compareTrees, treeDigest, type Tree } from "#image";
import {
  contentBytes,
  openExt4,
  partOf,
  readExt4,
  readPartitions,
  type DiskBytes,
  type FineTree,
} from "#import";
import type { ExportProof } from "./contract.ts";
import { GPT_TYPE } from "./gpt.ts";
import { LOST_AND_FOUND, type ExportedRoot } from "./root.ts";

function notEqual(differences: readonly string[]): TesseraError {
  const shown = differences.slice(0, 5).join("; ");
  const message = `the exported disk is not the machine: ${shown} (${differences.length} differences)`;
  return new TesseraError("bug", "export.proof-failed", message, {
    remedy: "nothing was kept; report it with what is named here",
  });
}

/** The root as any reader of the disk finds it: by the table and its type. */
async function rootOf(disk: DiskBytes): Promise<FineTree> {
  const { partitions } = await readPartitions(disk);
  const root = partitions.find(({ type }) => type === GPT_TYPE.root);
  if (root === undefined) throw notEqual(["the table names no root"]);
  const part = partOf(disk, root.offset, root.sizeBytes);
  return await readExt4(await openExt4(part, "the exported root"));
}

const without = (tree: Tree, paths: ReadonlySet<string>): Tree =>
  canonicalTree(tree.entries.filter(({ path }) => !paths.has(path)));

function fractionFaults(target: FineTree, written: FineTree): string[] {
  const paths = new Set([...target.fractions.keys(), ...written.fractions.keys()]);
  return [...paths].flatMap((path) => {
    const [a = 0, b = 0] = [target.fractions.get(path), written.fractions.get(path)];
    return a === b ? [] : [`${path}: fraction of its time ${a} and ${b} ns`];
  });
}

/**
 * Reads the whole disk, every content among it, and compares it with what was to be written, and with
 * the machine's own tree but for the paths that are told.
 *
 * @throws `export.proof-failed` (bug)
 */
export async function proveExport(disk: DiskBytes, root: ExportedRoot): Promise<ExportProof> {
  const written = await rootOf(disk);
  const exported = without(written.tree, new Set([LOST_AND_FOUND]));
  const faults = fractionFaults(root.target, written);
  if ((await treeDigest(exported)) !== (await treeDigest(root.target.tree))) {
    faults.push(...(await compareTrees(root.target.tree, exported)));
  }
  const told = new Set([...root.added, ...root.changed, ...root.leftOut, LOST_AND_FOUND]);
  const [own, back] = [without(root.machine.tree, told), without(written.tree, told)];
  const [machineDigest, exportedDigest] = [await treeDigest(own), await treeDigest(back)];
  if (machineDigest !== exportedDigest) faults.push(...(await compareTrees(own, back)));
  if (faults.length > 0) throw notEqual(faults);
  const { entries } = back;
  return { entries: entries.length, bytes: contentBytes(entries), machineDigest, exportedDigest };
}
