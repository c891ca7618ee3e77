/** File systems for the tests of this room: written by ourselves or by mke2fs, read back. */
import { execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { createMemoryDevice } from "#block";
import { canonicalTree } from "#image";
import type { DiskBytes } from "../source.ts";
import type { FineTree } from "../tree.ts";
import { openExt4 } from "./file-system.ts";
import { readExt4 } from "./read.ts";
import { writeExt4 } from "./write.ts";

export const MIB = 2 ** 20;
export const IDENTITY = {
  uuid: Buffer.from("00112233445566778899aabbccddeeff", "hex"),
  label: "test",
};

export async function written(source: FineTree, sizeBytes = 16 * MIB) {
  const device = createMemoryDevice(sizeBytes);
  await writeExt4(device, source, IDENTITY);
  return device;
}

/** Without `lost+found`, which every new file system has. */
export async function readBack(disk: DiskBytes): Promise<FineTree> {
  const { tree, fractions } = await readExt4(await openExt4(disk, "the disk"));
  const own = tree.entries.filter(({ path }) => path !== "lost+found");
  return { tree: canonicalTree(own), fractions };
}

export function diskOf(bytes: Buffer): DiskBytes {
  return {
    sizeBytes: bytes.length,
    read: async (target, offset) => {
      if (offset < 0 || offset + target.length > bytes.length)
        throw new Error("a read beyond the disk");
      target.set(bytes.subarray(offset, offset + target.length));
    },
  };
}

/** What mke2fs makes of a directory. */
export function made(
  directory: string,
  image: string,
  options: readonly string[],
  size = "16M",
): Buffer {
  const args = ["-q", "-F", ...options, "-d", directory, image, size];
  execFileSync("mke2fs", args, { stdio: ["ignore", "ignore", "pipe"] });
  if (statSync(image).size === 0) throw new Error("mke2fs made nothing");
  return readFileSync(image);
}
