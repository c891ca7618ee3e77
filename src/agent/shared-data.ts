/**
 * User data blocks on storage that several clouds reach: `SHARED/UUID.raw`, and in the machine's
 * directory a link of the name `data.raw`. Who has the link has the machine; while it moves with
 * `--storage shared` both have one. Nothing that removes a directory removes the file behind a link.
 */
import { join } from "node:path";
import type { World } from "#core";
import { removeKept } from "./machine-data.ts";

const linkPath = (directory: string): string => join(directory, "data.raw");

export function sharedPath(shared: string, uuid: string): string {
  return join(shared, `${uuid}.raw`);
}

/** The file on shared storage; undefined for a machine whose user data block is this cloud's alone. */
export async function sharedFileOf(world: World, directory: string): Promise<string | undefined> {
  return await world.files.readLink(linkPath(directory));
}

/** Lets a machine of this cloud use a file on shared storage. An earlier copy that was here goes. */
export async function attachShared(world: World, directory: string, path: string): Promise<void> {
  if ((await sharedFileOf(world, directory)) === path) return;
  await removeKept(world, directory);
  await world.files.symlink(path, linkPath(directory));
}

/** The file is another cloud's from now on. Nothing happens to a machine without a link. */
export async function detachShared(world: World, directory: string): Promise<void> {
  if ((await sharedFileOf(world, directory)) !== undefined) {
    await world.files.remove(linkPath(directory));
  }
}

/** Removes the file, which nobody needs any more, and the link. */
export async function removeShared(world: World, directory: string): Promise<void> {
  const path = await sharedFileOf(world, directory);
  if (path === undefined) return;
  await world.files.remove(path);
  await detachShared(world, directory);
}
