/** Disk images of a few files, for the tests of other rooms. */
import { createFileDevice } from "#block";
import type { World } from "#core";
import { canonicalTree, type TreeEntry } from "#image";
import { writeExt4 } from "./ext4/write.ts";

/** A disk without partitions that holds these entries on ext4. */
export async function writeImage(
  world: World,
  path: string,
  entries: readonly TreeEntry[],
  fractions: ReadonlyMap<string, number>,
): Promise<void> {
  const device = await createFileDevice(world, path, 16 * 2 ** 20);
  const source = { tree: canonicalTree(entries), fractions };
  await writeExt4(device, source, { uuid: Buffer.alloc(16, 1), label: "root" });
  await device.close();
}
