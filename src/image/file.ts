import type { World } from "#core";
import type { Tree, WrittenImage } from "./contract.ts";
import { writeErofs } from "./erofs-write.ts";

/**
 * Writes the EROFS image of a tree into a file: beside it, synced, then renamed, so that `path` is
 * always whole.
 *
 * @throws `system.disk-full` and other `system` errors, and those of {@link writeErofs}; nothing is
 *   left behind
 */
export async function writeErofsFile(
  world: World,
  tree: Tree,
  path: string,
): Promise<WrittenImage> {
  const beside = `${path}.${world.random.uuid()}.new`;
  const file = await world.files.open(beside, "exclusive");
  try {
    let position = 0;
    const image = await writeErofs(tree, {
      async write(bytes) {
        await file.write(bytes, position);
        position += bytes.length;
      },
    });
    await file.sync();
    await file.close();
    await world.files.rename(beside, path);
    return image;
  } catch (cause) {
    await file.close().catch(() => undefined);
    await world.files.remove(beside);
    throw cause;
  }
}
