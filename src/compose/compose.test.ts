import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  appendFile,
  mkdir,
  readFile,
  readdir,
  stat,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import type { Appliance, ComposedDisks } from "#core";
import { fileSource, readAll, readErofs } from "#image";
import type { ComponentStore } from "#repository";
import { realWorld } from "#system";
import { compose } from "./compose.ts";
import type { ApplianceRecipe } from "./contract.ts";
import { PARTS, describe, program, repositoryOf, temporary, withCode } from "./fixtures.suite.ts";
import type { Part } from "./fixtures.suite.ts";
import { applianceDigest, resolveAppliance } from "./resolve.ts";

const RECIPE: ApplianceRecipe = {
  name: "both",
  kernel: "kernel",
  os: "os",
  programs: ["web", "data"],
  resources: { cpus: 1, memoryBytes: 2 ** 29, dataBytes: 2 ** 30, ports: [] },
  serviceLevel: { clouds: [], regions: [], priority: 50, maySlowDown: true },
};

const OUTPUTS = ["composed.json", "glue.erofs", "initramfs.cpio", "vmlinux"];

interface Composition {
  readonly store: ComponentStore;
  readonly appliance: Appliance;
  readonly directory: string;
  readonly disks: ComposedDisks;
}

async function composeIn(
  directory: string,
  parts: readonly Part[] = PARTS,
  recipe: ApplianceRecipe = RECIPE,
): Promise<Composition> {
  const store = await repositoryOf(directory, parts);
  const appliance = await resolveAppliance(recipe, store);
  const target = join(directory, "composed");
  const disks = await compose(realWorld(), store, appliance, target);
  return { store, appliance, directory: target, disks };
}

async function textsOf(directory: string): Promise<string[]> {
  return Promise.all(OUTPUTS.map((name) => readFile(join(directory, name), "latin1")));
}

async function glueFile(disks: ComposedDisks, path: string): Promise<string> {
  const source = await fileSource(realWorld(), disks.layers.at(-1)?.path ?? "");
  try {
    const entry = (await readErofs(source)).get(path);
    assert.ok(entry?.type === "file", path);
    return Buffer.from(await readAll(entry.content, 1e6)).toString("utf8");
  } finally {
    await source.close();
  }
}

test("composing writes four files and refers to the components where they are", async () => {
  await temporary(async (directory) => {
    const { store, appliance, disks, directory: target } = await composeIn(directory);
    assert.deepEqual(await readdir(target), OUTPUTS);
    assert.deepEqual(
      disks.layers.map(({ name }) => name),
      ["kernel", "os", "web", "data", "glue"],
    );
    assert.equal(disks.layers[1]?.path, await store.imagePath(appliance.os.id));
    assert.equal(await readFile(disks.kernelPath, "latin1"), "\x7fELF kernel");
    const uuids = disks.layers.map(({ uuid }) => uuid.replaceAll("-", "")).join(",");
    assert.equal(disks.commandLine, `quiet panic=10 tessera.layers=${uuids}`);
    assert.equal(disks.appliance, appliance.digest);
  });
});

test("the glue is a sound EROFS image with merged files and the ready signal", async () => {
  await temporary(async (directory) => {
    const { disks } = await composeIn(directory);
    const glue = disks.layers.at(-1)?.path ?? "";
    const check = spawnSync("fsck.erofs", [glue], { encoding: "utf8" });
    assert.equal(check.status, 0, check.stderr);
    const users = (await glueFile(disks, "etc/passwd"))
      .split("\n")
      .map((line) => line.split(":")[0]);
    assert.deepEqual(users, ["root", "web", "data", ""]);
    assert.match(await glueFile(disks, "var/lib/dpkg/status"), /Package: web\n/);
    assert.match(await glueFile(disks, "etc/systemd/system/tessera-ready.service"), /ttyS1/);
    const source = await fileSource(realWorld(), glue);
    const tree = await readErofs(source);
    const shadow = tree.get("etc/shadow");
    assert.deepEqual([shadow?.mode, shadow?.uid, shadow?.gid], [0o640, 0, 42]);
    const link = tree.get("etc/systemd/system/multi-user.target.wants/tessera-ready.service");
    assert.equal(link?.type === "symlink" ? link.target : "", "../tessera-ready.service");
    await source.close();
  });
});

test("the initramfs holds the modules in loading order and our programs", async () => {
  await temporary(async (directory) => {
    const { disks } = await composeIn(directory);
    const input = await readFile(disks.initramfsPath);
    for (const name of ["init", "shutdown", "bin/busybox", "modules/erofs.ko", "dev/console"]) {
      assert.ok(input.includes(`${name}\0`), name);
    }
    assert.ok(input.includes("virtio.ko\nvirtio_pci.ko\nvirtio_blk.ko\nerofs.ko\noverlay.ko\n"));
  });
});

const glueOf = async ({ directory }: Composition) => readFile(join(directory, "glue.erofs"));

test("independent repositories compose equal bytes, in whatever order they were filled", async () => {
  const reversed = PARTS.toReversed().map((part) => ({
    ...part,
    fragments: part.fragments.toReversed(),
    files: Object.fromEntries(Object.entries(part.files).toReversed()),
  }));
  await temporary((one) =>
    temporary(async (two) => {
      const [a, b] = [await composeIn(one), await composeIn(two, reversed)];
      assert.equal(a.disks.digest, b.disks.digest);
      assert.deepEqual(await glueOf(a), await glueOf(b));
      assert.deepEqual(
        await readFile(a.disks.initramfsPath),
        await readFile(b.disks.initramfsPath),
      );
    }),
  );
});

test("composing again writes nothing and gives the same", async () => {
  await temporary(async (directory) => {
    const { store, appliance, directory: target, disks } = await composeIn(directory);
    const times = async () =>
      Promise.all(OUTPUTS.map(async (name) => (await stat(join(target, name))).ino));
    const before = await times();
    assert.deepEqual(await compose(realWorld(), store, appliance, target), disks);
    assert.deepEqual(await times(), before);
  });
});

test("whatever is damaged or missing is made again", async () => {
  await temporary(async (directory) => {
    const { store, appliance, directory: target, disks } = await composeIn(directory);
    const expected = await textsOf(target);
    const damages: readonly ((path: string) => Promise<unknown>)[] = [
      (path) => writeFile(path, "{}"),
      (path) => truncate(path, 1),
      (path) => appendFile(path, "x"),
    ];
    for (const name of OUTPUTS) {
      for (const damage of damages) {
        await damage(join(target, name));
        assert.deepEqual(await compose(realWorld(), store, appliance, target), disks, name);
        assert.deepEqual(await textsOf(target), expected, name);
      }
    }
  });
});

test("what a process that died has left is removed after an hour", async () => {
  await temporary(async (directory) => {
    const target = join(directory, "composed");
    await mkdir(target);
    for (const name of ["vmlinux.new-old", "vmlinux.new-young"]) {
      await writeFile(join(target, name), "half");
    }
    await utimes(join(target, "vmlinux.new-old"), 1, 1);
    await composeIn(directory);
    assert.deepEqual(await readdir(target), [...OUTPUTS, "vmlinux.new-young"]);
  });
});

test("a record that is too large to be one is made again", async () => {
  await temporary(async (directory) => {
    const { store, appliance, directory: target, disks } = await composeIn(directory);
    await writeFile(join(target, "composed.json"), " ".repeat(2 ** 20 + 1));
    assert.deepEqual(await compose(realWorld(), store, appliance, target), disks);
  });
});

test("a change of one byte of the same length is seen", async () => {
  await temporary(async (directory) => {
    const { store, appliance, directory: target } = await composeIn(directory);
    const path = join(target, "initramfs.cpio");
    const bytes = await readFile(path);
    bytes[200] = (bytes[200] ?? 0) ^ 1;
    await writeFile(path, bytes);
    await compose(realWorld(), store, appliance, target);
    assert.notDeepEqual(await readFile(path), bytes);
  });
});

test("the order of programs is part of the composition", async () => {
  await temporary(async (directory) => {
    const { store, appliance, disks } = await composeIn(directory);
    const other = await resolveAppliance({ ...RECIPE, programs: ["data", "web"] }, store);
    assert.notEqual(other.digest, appliance.digest);
    const swapped = await compose(realWorld(), store, other, join(directory, "other"));
    assert.notEqual(swapped.digest, disks.digest);
  });
});

test("a directory that held another composition is composed anew", async () => {
  await temporary(async (directory) => {
    const { store, directory: target } = await composeIn(directory);
    const other = await resolveAppliance({ ...RECIPE, programs: ["web"] }, store);
    const disks = await compose(realWorld(), store, other, target);
    assert.equal(disks.layers.length, 4);
    assert.doesNotMatch(await glueFile(disks, "etc/passwd"), /data/);
  });
});

test("components that do not fit are refused before anything is written", async () => {
  const picky: Part = {
    description: describe({
      name: "picky",
      requires: [{ type: "soname", name: "libc.so.6", version: "GLIBC_2.99" }],
    }),
    fragments: [],
    files: {},
  };
  await temporary(async (directory) => {
    const store = await repositoryOf(directory, [...PARTS, picky]);
    const appliance = await resolveAppliance({ ...RECIPE, programs: ["picky"] }, store);
    const target = join(directory, "composed");
    await assert.rejects(
      compose(realWorld(), store, appliance, target, { allowPackageFaults: true }),
      /picky needs libc\.so\.6 \(GLIBC_2\.99\), but found libc\.so\.6 GLIBC_2\.36/,
    );
    await assert.rejects(stat(target));
  });
});

test("package faults are refused unless they are allowed", async () => {
  const part = program("web", 501);
  const requires = [{ type: "package", name: "adduser" }] as const;
  const needy: Part = { ...part, description: { ...part.description, requires } };
  await temporary(async (directory) => {
    const [kernel, os] = PARTS;
    assert.ok(kernel !== undefined && os !== undefined);
    const store = await repositoryOf(directory, [kernel, os, needy]);
    const appliance = await resolveAppliance({ ...RECIPE, programs: ["web"] }, store);
    const target = join(directory, "composed");
    await assert.rejects(
      compose(realWorld(), store, appliance, target),
      withCode("compose.constraint-unmet"),
    );
    const options = { allowPackageFaults: true };
    assert.equal((await compose(realWorld(), store, appliance, target, options)).layers.length, 4);
  });
});

test("programs whose users collide are refused by name", async () => {
  const [kernel, os] = PARTS;
  assert.ok(kernel !== undefined && os !== undefined);
  const parts = [kernel, os, program("web", 501), program("data", 501)];
  await temporary(async (directory) => {
    await assert.rejects(composeIn(directory, parts), /user web of web and user data of data/);
  });
});

test("an appliance of another cloud is checked, not trusted", async () => {
  await temporary(async (directory) => {
    const { store, appliance } = await composeIn(directory);
    const target = join(directory, "x");
    const wrong = { ...appliance, digest: applianceDigest([]) };
    await assert.rejects(
      compose(realWorld(), store, wrong, target),
      withCode("compose.appliance-mismatch"),
    );
    const swapped = { ...appliance, os: appliance.kernel, kernel: appliance.os };
    const ids = [swapped.kernel, swapped.os, ...swapped.programs].map(({ id }) => id);
    await assert.rejects(
      compose(realWorld(), store, { ...swapped, digest: applianceDigest(ids) }, target),
      /not of a kernel, an OS and programs/,
    );
    const missing = { ...appliance, os: { ...appliance.os, id: applianceDigest([]) } };
    await assert.rejects(
      compose(realWorld(), store, missing, target),
      withCode("compose.component-missing"),
    );
  });
});

test("a name is looked up among components of its kind; a wrong kind is refused", async () => {
  await temporary(async (directory) => {
    const store = await repositoryOf(directory);
    await assert.rejects(
      resolveAppliance({ ...RECIPE, os: "program/web" }, store),
      withCode("compose.kind-mismatch"),
    );
    await assert.rejects(
      resolveAppliance({ ...RECIPE, os: "web" }, store),
      withCode("repository.component-unknown"),
    );
    await assert.rejects(
      resolveAppliance({ ...RECIPE, programs: ["web", "program/web"] }, store),
      withCode("compose.component-twice"),
    );
  });
});

test("an appliance's digest is over ids in order, and over nothing else", async () => {
  await temporary(async (directory) => {
    const store = await repositoryOf(directory);
    const one = await resolveAppliance(RECIPE, store);
    const two = await resolveAppliance({ ...RECIPE, name: "other" }, store);
    assert.equal(one.digest, two.digest);
  });
  const id = fc.stringMatching(/^[0-9a-f]{64}$/).map((hex) => `sha256:${hex}` as const);
  fc.assert(
    fc.property(fc.uniqueArray(id, { minLength: 2, maxLength: 6 }), (ids) => {
      assert.notEqual(applianceDigest(ids), applianceDigest(ids.toReversed()));
      assert.notEqual(applianceDigest(ids), applianceDigest(ids.slice(1)));
    }),
  );
});
