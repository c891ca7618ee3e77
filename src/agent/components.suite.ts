/** Small components for the tests of this room. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { ComponentDescription, World } from "#core";
import { bufferSource, canonicalTree, fileSource, writeErofsFile, type TreeEntry } from "#image";
import type { ComponentStore } from "#repository";

const RELEASE = "6.1.0-0-test";

function describe(changes: Partial<ComponentDescription>): ComponentDescription {
  return {
    kind: "program",
    name: "tool",
    version: "1",
    architecture: "amd64",
    packages: [],
    provides: [],
    requires: [],
    instancePaths: [],
    ...changes,
  };
}

interface Small {
  readonly description: ComponentDescription;
  readonly files: Readonly<Record<string, string>>;
}

const MODULES = ["virtio_pci", "virtio", "virtio_blk", "erofs", "overlay"];

const PARTS: readonly Small[] = [
  {
    description: describe({ kind: "kernel", name: "kernel", kernelRelease: RELEASE }),
    files: {
      "boot/vmlinux": "\x7fELF kernel",
      "usr/lib/tessera/initramfs/busybox": "busybox",
      [`usr/lib/modules/${RELEASE}/modules.builtin`]: "kernel/fs/ext4/ext4.ko\n",
      [`usr/lib/modules/${RELEASE}/modules.dep`]: MODULES.map((m) => `kernel/${m}.ko:\n`).join(""),
      ...Object.fromEntries(
        MODULES.map((m) => [`usr/lib/modules/${RELEASE}/kernel/${m}.ko`, `module ${m}`]),
      ),
    },
  },
  {
    description: describe({ kind: "os", name: "os" }),
    files: { "sbin/init": "init", "etc/os-release": "ID=test\n" },
  },
  { description: describe({ name: "web" }), files: { "usr/bin/web": "serves pages" } },
  { description: describe({ name: "data" }), files: { "usr/bin/data": "keeps records" } },
];

/** Adds the small components that are named to a repository. */
export async function addComponents(
  world: World,
  store: ComponentStore,
  directory: string,
  names: readonly string[] = PARTS.map(({ description }) => description.name),
): Promise<void> {
  for (const { description, files } of PARTS) {
    if (!names.includes(description.name)) continue;
    const path = join(directory, `image-${description.name}`);
    const entries = Object.entries(files).map(([name, text]) => textEntry(name, text));
    await writeErofsFile(world, canonicalTree(entries), path);
    const image = await fileSource(world, path);
    try {
      await store.add({ description, fragments: [], image });
    } finally {
      await image.close();
      await rm(path);
    }
  }
}

function textEntry(path: string, text: string): TreeEntry {
  const content = bufferSource(Buffer.from(text));
  const common = { mode: 0o644, uid: 0, gid: 0, mtime_s: 1, xattrs: new Map<string, Uint8Array>() };
  return { type: "file", path, ...common, content };
}
