/** From an image and its composed disks to the machine's user data block, proven equal. */
import { openFileDevice } from "#block";
import type { ComposedDisks, World } from "#core";
import {
  canonicalTree,
  fileSource,
  mergeTrees,
  readErofs,
  type Tree,
  type TreeEntry,
} from "#image";
import type { ImportProgress, ImportProof } from "./contract.ts";
import { fineDifference } from "./difference.ts";
import { proveEqual } from "./proof.ts";
import type { FineTree } from "./tree.ts";
import { createImportedData, readUserData } from "./user-data.ts";

export interface ImportedMachine {
  readonly uuid: string;
  readonly fine: FineTree;
  readonly disks: ComposedDisks;
  /** Where the block is to be; nothing is there. */
  readonly dataPath: string;
  readonly sizeBytes: number;
  readonly withoutFstab: boolean;
  /** Is the kernel another than the image's own? Then its modules are added. */
  readonly foreignKernel: boolean;
  readonly progress: (event: ImportProgress) => void;
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf("/")));

async function withLayers<T>(
  world: World,
  { layers }: ComposedDisks,
  work: (trees: readonly Tree[]) => Promise<T>,
): Promise<T> {
  const sources: Awaited<ReturnType<typeof fileSource>>[] = [];
  try {
    const trees: Tree[] = [];
    for (const { path } of layers) {
      const source = await fileSource(world, path);
      sources.push(source);
      trees.push(await readErofs(source));
    }
    return await work(trees);
  } finally {
    for (const source of sources) await source.close();
  }
}

/** What of a layer is to be seen beside the image's own files: entries whose place is free. */
function additions(
  layer: Tree | undefined,
  target: Tree,
  isWanted: (path: string) => boolean,
): TreeEntry[] {
  const added = new Map<string, TreeEntry>();
  for (const entry of layer?.entries ?? []) {
    if (target.get(entry.path) !== undefined || !isWanted(entry.path)) continue;
    const parent = parentOf(entry.path);
    if (added.has(parent) || target.get(parent)?.type === "directory") added.set(entry.path, entry);
  }
  return [...added.values()];
}

const isModules = (path: string): boolean => path.startsWith("usr/lib/modules/");

/**
 * Makes the user data block, so that it gives the image's tree over the layers, and proves it by
 * reading everything back. Beside the image's files the machine has the sign that it is ready (the
 * glue) and, with another's kernel, that kernel's modules.
 *
 * @throws `import.proof-failed` (bug), `import.data-size-invalid`, `import.xattr-unsuitable`,
 *   `image.overlay-unsupported` (misuse); the block is removed then
 */
export async function makeMachineData(
  world: World,
  machine: ImportedMachine,
): Promise<ImportProof> {
  const { fine, disks, dataPath, progress } = machine;
  return await withLayers(world, disks, async (layers) => {
    progress({ step: "user-data", detail: dataPath });
    const extra = [
      ...additions(layers.at(-1), fine.tree, () => true),
      ...(machine.foreignKernel ? additions(layers[0], fine.tree, isModules) : []),
    ];
    const whole = { ...fine, tree: canonicalTree([...fine.tree.entries, ...extra]) };
    const upper = await fineDifference(mergeTrees(layers), whole);
    await createImportedData(world, dataPath, { ...machine, upper });
    try {
      progress({ step: "prove", detail: dataPath });
      const disk = await openFileDevice(world, dataPath, { readOnly: true });
      try {
        const { upper: written } = await readUserData(disk);
        return await proveEqual(
          fine,
          layers,
          written,
          extra.map(({ path }) => path),
        );
      } finally {
        await disk.close();
      }
    } catch (cause) {
      await world.files.remove(dataPath);
      throw cause;
    }
  });
}
