/** Machines become disks, which boot by BIOS and by UEFI, and are imported again. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { openFileDevice } from "#block";
import { compose, createUserData, resolveAppliance, withUserData } from "#compose";
import type { ComposedDisks } from "#core";
import { planExport, type ExportFormat, type ExportMachine } from "#export";
import { createQemu } from "#hypervisor";
import { surveyImage } from "#import";
import { canonicalTree, treeDigest } from "#image";
import { realWorld } from "#system";
import { testComponents } from "../support/components.ts";
import { pageOf } from "../support/exported-guest.ts";
import { importImage } from "../support/import-image.ts";
import { importedDisks, repositoryWith } from "../support/import-machine.ts";

const READY_MS = 300_000;
const STOP_MS = 120_000;
const BOOT_MS = 600_000;
const PAGE = "served by an exported machine\n";
const DATA_BYTES = 2 ** 30;

const world = realWorld();

async function temporary(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-export-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  for (const name of ["machine", "work"]) await mkdir(join(directory, name));
  return directory;
}

/** The machine runs once, so that its user data block is as a kernel leaves it. */
async function ranOnce(directory: string) {
  const { store, ids } = await testComponents(["kernel-cloud", "debian-12", "nginx"]);
  const { "kernel-cloud": kernel = "", "debian-12": os = "", nginx = "" } = ids;
  const resources = { cpus: 1, memoryBytes: 2 ** 29, dataBytes: DATA_BYTES, ports: [] };
  const serviceLevel = { clouds: [], regions: [], priority: 50, maySlowDown: true };
  const recipe = { name: "web", kernel, os, programs: [nginx], resources, serviceLevel };
  const appliance = await resolveAppliance(recipe, store);
  const uuid = randomUUID();
  const disks = await compose(world, store, appliance, join(directory, "composed"));
  const dataPath = join(directory, "data.raw");
  const files = [{ path: "/var/www/html/index.html", content: Buffer.from(PAGE) }];
  await createUserData(world, dataPath, { uuid, hostname: "web-1", sizeBytes: DATA_BYTES, files });
  const { cpus, memoryBytes } = resources;
  const running = await createQemu(world, { accelerator: "tcg" }).start({
    uuid,
    name: "web-1",
    cpus,
    memoryBytes,
    disks: withUserData(disks, uuid),
    dataPath,
    ports: [],
    directory: join(directory, "machine"),
  });
  try {
    await running.ready(READY_MS);
    assert.equal(await running.stop(STOP_MS), "graceful");
  } finally {
    await running.stop(0);
    await running.detach();
  }
  const component = await store.resolve(kernel);
  return { uuid, disks, dataPath, store, kernel: component };
}

async function exported(
  machine: Omit<ExportMachine, "data">,
  dataPath: string,
  format: ExportFormat,
  directory: string,
) {
  const data = await openFileDevice(world, dataPath, { readOnly: true });
  const work = join(directory, "work", format);
  await mkdir(work);
  try {
    const path = join(directory, `web-1.${format}`);
    const request = {
      machine: { ...machine, data },
      format,
      progress: () => undefined,
      signal: new AbortController().signal,
    };
    return await planExport(world, request, async ({ survey, write }) => {
      return { survey, ...(await write({ path, directory: work })) };
    });
  } finally {
    await data.close();
    await rm(work, { recursive: true });
  }
}

function checked(program: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, `${program}: ${stdout}${stderr}`);
  return stdout;
}

/** Tools that know nothing of us find table and file systems sound. */
function checkStructure(path: string, directory: string): void {
  const table = JSON.parse(checked("sfdisk", ["--json", path])) as {
    partitiontable: { label: string; partitions: { node: string; start: number; size: number }[] };
  };
  const { label, partitions } = table.partitiontable;
  assert.equal(label, "gpt");
  const at = (number: number) => partitions.find(({ node }) => node === `${path}${number}`);
  checked("sfdisk", ["--verify", path]);
  checked("e2fsck", ["-fn", `${path}?offset=${(at(1)?.start ?? 0) * 512}`]);
  const esp = join(directory, "esp");
  const { start = 0, size = 0 } = at(15) ?? {};
  checked("dd", [
    `if=${path}`,
    `of=${esp}`,
    "bs=512",
    `skip=${start}`,
    `count=${size}`,
    "status=none",
  ]);
  checked("fsck.vfat", ["-n", esp]);
}

function machineOf(uuid: string, disks: ComposedDisks, release: string) {
  const size = { cpus: 1, memoryBytes: 2 ** 29 };
  return { uuid, name: "web-1", ...size, disks, kernelRelease: release, architecture: "amd64" };
}

test("an exported machine boots by BIOS and UEFI, and is imported again", async (t) => {
  const directory = await temporary(t);
  const { uuid, disks, dataPath, store, kernel } = await ranOnce(directory);
  const machine = machineOf(uuid, disks, kernel.description.kernelRelease ?? "");
  const raw = await exported(machine, dataPath, "raw", directory);
  t.diagnostic(
    `${raw.proof.entries} paths, ${raw.proof.bytes} bytes, ${raw.file.allocatedBytes} allocated`,
  );
  assert.equal(raw.proof.machineDigest, raw.proof.exportedDigest);
  assert.ok(raw.proof.entries > 5000 && raw.proof.bytes > 1e8, "too little was compared");
  assert.deepEqual(raw.survey.changed, ["etc/fstab"]);
  const { path } = raw.file;

  checkStructure(path, directory);

  const bios = { firmware: "bios", path, format: "raw", bus: "ide" } as const;
  assert.equal(await pageOf(bios, directory, BOOT_MS), PAGE);
  t.diagnostic("booted by BIOS from IDE");
  const qcow2 = await exported(machine, dataPath, "qcow2", directory);
  const uefi = { firmware: "uefi", path: qcow2.file.path, format: "qcow2", bus: "virtio" } as const;
  assert.equal(await pageOf(uefi, directory, BOOT_MS), PAGE);
  t.diagnostic("booted by UEFI from virtio");

  for (const format of ["vmdk", "vpc", "vhdx", "vdi"] as const) {
    const { file } = await exported(machine, dataPath, format, directory);
    const told = JSON.parse(
      checked("qemu-img", ["info", "--output=json", "-f", format, file.path]),
    ) as {
      "virtual-size": number;
    };
    assert.equal(told["virtual-size"], raw.survey.diskBytes, format);
    await rm(file.path);
  }
  const ova = await exported(machine, dataPath, "ova", directory);
  checked("tar", ["-x", "-C", directory, "-f", ova.file.path]);
  const sums = checked("sed", [
    "-E",
    "s/SHA256\\((.*)\\)= (.*)/\\2  \\1/",
    join(directory, "web-1.mf"),
  ]);
  const { status, stdout } = spawnSync("sha256sum", ["-c"], {
    input: sums,
    cwd: directory,
    encoding: "utf8",
  });
  assert.equal(status, 0, stdout);
  const disk = join(directory, "web-1-disk1.vmdk");
  checked("qemu-img", ["compare", "-f", "vmdk", "-F", "raw", disk, path]);

  const image = await surveyImage(world, store, {
    path: ova.file.path,
    backing: [],
    kernel: kernel.id,
    directory: join(directory, "work"),
    progress: () => undefined,
    signal: new AbortController().signal,
  });
  try {
    const { description, format, leftFstab } = image.survey;
    assert.deepEqual([description?.name, description?.cpus, format], ["web-1", 1, "vmdk"]);
    assert.equal(description?.memoryBytes, 2 ** 29);
    assert.deepEqual(leftFstab, []);
    assert.equal(image.survey.distribution, "debian-12");
    const { added, changed, leftOut } = raw.survey;
    const told = new Set([...added, ...changed, ...leftOut, "lost+found"]);
    const same = image.fine.tree.entries.filter(({ path: name }) => !told.has(name));
    assert.equal(await treeDigest(canonicalTree(same)), raw.proof.machineDigest);
  } finally {
    await image.opened.close();
  }
});

test("an imported machine is exported with its own kernel, and boots from NVMe", async (t) => {
  const directory = await temporary(t);
  const { store: built, ids } = await testComponents(["kernel-cloud"]);
  const kernel = await built.resolve(ids["kernel-cloud"] ?? "");
  const store = await repositoryWith(world, join(directory, "repository"), built, kernel.id);
  const made = await importedDisks(world, store, importImage("second"), directory);
  const { uuid, disks, dataPath } = made.specification;
  const machine = machineOf(uuid, disks, made.survey.kernelRelease ?? "");
  const { survey, proof, file } = await exported(machine, dataPath, "raw", directory);
  t.diagnostic(`${proof.entries} paths, ${proof.bytes} bytes`);
  assert.equal(survey.kernel, "own");
  assert.equal(proof.machineDigest, proof.exportedDigest);
  assert.equal(survey.leftFstab.length, 3, "a table that was not used is not used");
  const guest = { firmware: "uefi", path: file.path, format: "raw", bus: "nvme" } as const;
  assert.match(await pageOf(guest, directory, BOOT_MS), /Welcome to nginx/);
});
