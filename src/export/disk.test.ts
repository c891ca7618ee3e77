/** A whole disk of a few files, without GRUB: written, read back, proven. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openFileDevice } from "#block";
import { hasCode } from "#core";
import { bufferSource, canonicalTree, type TreeEntry } from "#image";
import { realWorld } from "#system";
import { writeDisk } from "./disk.ts";
import { identityOf } from "./identity.ts";
import { diskLayout } from "./layout.ts";
import { proveExport } from "./proof.ts";
import type { ExportedRoot } from "./root.ts";

const world = realWorld();
const IDENTITY = identityOf("6fa459ea-ee8a-4ca4-894e-db77e160355e");
const LOADER = {
  bootCode: Buffer.alloc(440, 1),
  core: Buffer.alloc(512, 2),
  efi: Buffer.from("efi"),
};
const common = { mode: 0o644, uid: 7, gid: 8, mtime_s: 9, xattrs: new Map<string, Uint8Array>() };

const file = (path: string, text: string): TreeEntry => ({
  ...common,
  path,
  type: "file",
  content: bufferSource(Buffer.from(text)),
});

/** What is told of an export of these files. */
function rootOf(machine: readonly TreeEntry[], more: Partial<ExportedRoot> = {}): ExportedRoot {
  const fractions = new Map([["srv/notes", 12_345]]);
  const kept = machine.filter(({ path }) => path !== "etc/ready");
  const target = canonicalTree([...kept, file("boot/tessera/grub.cfg", "menu")]);
  return {
    machine: { tree: canonicalTree(machine), fractions },
    target: { tree: target, fractions },
    added: ["boot", "boot/tessera", "boot/tessera/grub.cfg"],
    changed: [],
    leftOut: ["etc/ready"],
    leftFstab: [],
    kernel: "own",
    modules: new Set(),
    ...more,
  };
}

const FILES = [file("srv/notes", "notes"), file("etc/ready", "ready"), file("etc/name", "web")];

async function withDisk<T>(work: (path: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "tessera-disk-"));
  try {
    return await work(join(directory, "disk.raw"));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function prove(path: string, root: ExportedRoot) {
  const disk = await openFileDevice(world, path, { readOnly: true });
  try {
    return await proveExport(disk, root);
  } finally {
    await disk.close();
  }
}

/** Places and sums of all that is not zero. */
async function allocatedOf(path: string) {
  const disk = await openFileDevice(world, path, { readOnly: true });
  try {
    const found: [offset: number, sum: string][] = [];
    for (const { offset, length } of await disk.allocated()) {
      const bytes = Buffer.alloc(length);
      await disk.read(bytes, offset);
      found.push([offset, hash("sha256", bytes, "hex")]);
    }
    return found;
  } finally {
    await disk.close();
  }
}

test("a disk is proven equal, and two of one machine are the same", async () => {
  const root = rootOf(FILES);
  const layout = diskLayout(root.target.tree, 0);
  const made = await Promise.all(
    [1, 2].map(() =>
      withDisk(async (path) => {
        await writeDisk(world, path, layout, IDENTITY, LOADER, root.target);
        const proof = await prove(path, root);
        assert.equal(proof.machineDigest, proof.exportedDigest);
        assert.equal(proof.bytes, 8);
        return await allocatedOf(path);
      }),
    ),
  );
  assert.deepEqual(made[0], made[1]);
});

test("a disk that differs in what was not told is not taken", async () => {
  const root = rootOf(FILES);
  const layout = diskLayout(root.target.tree, 0);
  await withDisk(async (path) => {
    await writeDisk(world, path, layout, IDENTITY, LOADER, root.target);
    const wrong = [
      rootOf([...FILES, file("srv/more", "lost")]),
      rootOf(FILES, { leftOut: [] }),
      rootOf(FILES, { added: [] }),
      rootOf([file("srv/notes", "other"), ...FILES.slice(1)], { target: root.target }),
      { ...root, target: { ...root.target, fractions: new Map([["srv/notes", 1]]) } },
    ];
    for (const claim of wrong) {
      await assert.rejects(prove(path, claim), (error) => hasCode(error, "export.proof-failed"));
    }
  });
});

test("sizes are whole, have room for what was asked, and are refused where they have not", async () => {
  const { tree } = rootOf(FILES).target;
  const room = diskLayout(tree, 2 ** 30);
  assert.ok(room.rootBytes > 2 ** 30 && room.diskBytes % 2 ** 20 === 0);
  assert.equal(diskLayout(tree, 0, 2 ** 30 + 1).diskBytes, 2 ** 30 + 2 ** 20);
  for (const size of [1, 2 ** 20, 100 * 2 ** 20, 2 ** 50]) {
    assert.throws(
      () => diskLayout(tree, 0, size),
      (error) => hasCode(error, "export.size-invalid"),
    );
  }
  const content = bufferSource(Buffer.alloc(8 * 2 ** 20, 1));
  const large = canonicalTree([{ ...common, path: "a", type: "file", content }]);
  await withDisk(async (path) => {
    const layout = { ...room, rootBytes: 8 * 2 ** 20 };
    const root = { tree: large, fractions: new Map<string, number>() };
    const write = writeDisk(world, path, layout, IDENTITY, LOADER, root);
    await assert.rejects(write, (error) => hasCode(error, "export.size-invalid"));
  });
});
