/** The user data block of an imported machine: what no component has, on ext4. */
import { createFileDevice } from "#block";
import { DATA_LABEL, NO_FSTAB, userDataUuid } from "#compose";
import type { World } from "#core";
import { bufferSource, canonicalTree, type TreeEntry } from "#image";
import { openExt4 } from "./ext4/file-system.ts";
import { readExt4 } from "./ext4/read.ts";
import { writeExt4 } from "./ext4/write.ts";
import type { DiskBytes } from "./source.ts";
import type { FineTree } from "./tree.ts";

const UPPER = "upper";

export interface UserDataRequest {
  readonly uuid: string;
  readonly sizeBytes: number;
  readonly upper: FineTree;
  /** The machine's fstab(5) names disks that it has no more, so nothing is mounted by it. */
  readonly withoutFstab: boolean;
}

const common = { mode: 0o755, uid: 0, gid: 0, mtime_s: 0, xattrs: new Map<string, Uint8Array>() };

const below = (path: string): string => (path === "" ? UPPER : `${UPPER}/${path}`);

/** The block's tree: overlayfs's two directories, and a mark for the initramfs. */
function blockTree({ upper, withoutFstab }: UserDataRequest): FineTree {
  const entries: TreeEntry[] = upper.tree.entries.map((entry) => ({
    ...entry,
    path: below(entry.path),
  }));
  entries.push({ ...common, type: "directory", path: "work" });
  const mark = {
    ...common,
    type: "file" as const,
    path: NO_FSTAB,
    content: bufferSource(new Uint8Array()),
  };
  if (withoutFstab) entries.push(mark);
  const fractions = new Map([...upper.fractions].map(([path, ns]) => [below(path), ns]));
  return { tree: canonicalTree(entries), fractions };
}

/**
 * Makes the block at `path`, where nothing is. Of a failure nothing is left.
 *
 * @throws `import.data-size-invalid`, `import.xattr-unsuitable` (misuse), `system.disk-full`
 */
export async function createImportedData(
  world: World,
  path: string,
  request: UserDataRequest,
): Promise<void> {
  const beside = `${path}.new-${world.random.uuid()}`;
  const uuid = Buffer.from(userDataUuid(request.uuid).replaceAll("-", ""), "hex");
  const device = await createFileDevice(world, beside, request.sizeBytes);
  try {
    await writeExt4(device, blockTree(request), { uuid, label: DATA_LABEL });
    await device.flush();
    await device.close();
    await world.files.rename(beside, path);
  } catch (cause) {
    await device.close();
    await world.files.remove(beside);
    throw cause;
  }
}

export interface UserDataContent {
  readonly upper: FineTree;
  /** Is nothing mounted by the machine's fstab(5)? */
  readonly withoutFstab: boolean;
}

/** What is in a user data block. @throws `import.image-damaged` (corrupt) */
export async function readUserData(disk: DiskBytes): Promise<UserDataContent> {
  const { tree, fractions } = await readExt4(await openExt4(disk, "the user data block"));
  const prefix = `${UPPER}/`;
  const isUpper = ({ path }: TreeEntry): boolean => path === UPPER || path.startsWith(prefix);
  const above = (path: string): string => path.slice(prefix.length);
  const entries = tree.entries
    .filter(isUpper)
    .map((entry) => ({ ...entry, path: above(entry.path) }));
  const own = [...fractions].filter(([path]) => path === UPPER || path.startsWith(prefix));
  const upper = {
    tree: canonicalTree(entries),
    fractions: new Map(own.map(([path, ns]) => [above(path), ns])),
  };
  return { upper, withoutFstab: tree.get(NO_FSTAB) !== undefined };
}
