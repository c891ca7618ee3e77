/** What this room's tests share: small components, repositories that hold them, directories. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TesseraError } from "#core";
import type { Component, ComponentDescription, Fragment } from "#core";
import { bufferSource, canonicalTree, fileSource, writeErofsFile } from "#image";
import type { TreeEntry } from "#image";
import { openRepository } from "#repository";
import type { ComponentStore } from "#repository";
import { realWorld } from "#system";

export const RELEASE = "6.1.0-0-test";

export async function temporary<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-compose-"));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

export function withCode(code: string): (error: unknown) => boolean {
  return (error) => error instanceof TesseraError && error.code === code;
}

/** The error that `work` ends with. */
export function failureOf(work: () => unknown): TesseraError {
  try {
    work();
  } catch (error) {
    if (error instanceof TesseraError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

export function describe(changes: Partial<ComponentDescription> = {}): ComponentDescription {
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

/** A component that is in no repository, for what looks at descriptions only. */
export function component(name: string, changes: Partial<ComponentDescription> = {}): Component {
  const hex = Buffer.from(name).toString("hex").padEnd(64, "0").slice(0, 64);
  const blob = { digest: `sha256:${hex}`, sizeBytes: 1 } as const;
  const description = describe({ name, ...changes });
  return { id: blob.digest, sizeBytes: 1, fragments: blob, manifest: blob, description };
}

export function textEntry(path: string, text: string, mode = 0o644): TreeEntry {
  const content = bufferSource(Buffer.from(text));
  return { type: "file", path, mode, uid: 0, gid: 0, mtime_s: 1, xattrs: new Map(), content };
}

/** A component to be, and its files as `path: text`. */
export interface Part {
  readonly description: ComponentDescription;
  readonly fragments: readonly Fragment[];
  readonly files: Readonly<Record<string, string>>;
}

const KERNEL: Part = {
  description: describe({ kind: "kernel", name: "kernel", kernelRelease: RELEASE }),
  fragments: [],
  files: {
    "boot/vmlinux": "\x7fELF kernel",
    "usr/lib/tessera/initramfs/busybox": "busybox",
    [`usr/lib/modules/${RELEASE}/modules.builtin`]: "kernel/fs/ext4/ext4.ko\n",
    [`usr/lib/modules/${RELEASE}/modules.dep`]:
      "kernel/virtio_pci.ko: kernel/virtio.ko\nkernel/virtio.ko:\nkernel/virtio_blk.ko: kernel/virtio.ko\nkernel/erofs.ko:\nkernel/overlay.ko:\n",
    ...Object.fromEntries(
      ["virtio_pci", "virtio", "virtio_blk", "erofs", "overlay"].map((name) => [
        `usr/lib/modules/${RELEASE}/kernel/${name}.ko`,
        `module ${name}`,
      ]),
    ),
  },
};

const OS: Part = {
  description: describe({
    kind: "os",
    name: "os",
    provides: [{ type: "soname", name: "libc.so.6", version: "GLIBC_2.36" }],
  }),
  fragments: [
    { path: "/etc/passwd", text: "root:x:0:0:root:/root:/bin/sh\n" },
    { path: "/etc/shadow", text: "root:*:19000:0:99999:7:::\n" },
    { path: "/var/lib/dpkg/status", text: "Package: base\nArchitecture: all\nVersion: 1\n\n" },
  ],
  files: { "sbin/init": "init", "etc/os-release": "ID=test\n" },
};

export function program(name: string, id: number): Part {
  return {
    description: describe({
      name,
      requires: [{ type: "soname", name: "libc.so.6", version: "GLIBC_2.34" }],
    }),
    fragments: [
      { path: "/etc/passwd", text: `${name}:x:${id}:${id}::/var/lib/${name}:/bin/false\n` },
      {
        path: "/var/lib/dpkg/status",
        text: `Package: ${name}\nArchitecture: amd64\nVersion: 1\n\n`,
      },
    ],
    files: { [`usr/bin/${name}`]: name },
  };
}

export const PARTS: readonly Part[] = [KERNEL, OS, program("web", 501), program("data", 502)];

/** A repository that holds these parts, added in this order. */
export async function repositoryOf(
  directory: string,
  parts: readonly Part[] = PARTS,
): Promise<ComponentStore> {
  const world = realWorld();
  const store = await openRepository(world, join(directory, "repository"));
  for (const { description, fragments, files } of parts) {
    const path = join(directory, "image");
    const entries = Object.entries(files).map(([name, text]) => textEntry(name, text));
    await writeErofsFile(world, canonicalTree(entries), path);
    const image = await fileSource(world, path);
    try {
      await store.add({ description, fragments, image });
    } finally {
      await image.close();
    }
    await rm(path);
  }
  return store;
}
