import assert from "node:assert/strict";
import { test } from "node:test";
import type { HotCapabilities, HotDescription } from "../../contract.ts";
import { compareVersions, compatible } from "./compatible.ts";

const SOURCE: HotDescription = {
  hypervisor: "qemu",
  version: "7.2.22",
  architecture: "amd64",
  machineType: "pc-q35-7.2",
  cpuModel: "Nehalem-v1",
  accelerator: "tcg",
  cpus: 1,
  ramBytes: 327_688 * 1024,
  devices: ["virtio-blk-pci,addr=4.0"],
  formats: ["raw", "qcow2"],
};
const DESTINATION: HotCapabilities = {
  hypervisor: "qemu",
  version: "7.2.22",
  architecture: "amd64",
  machineTypes: ["pc-q35-6.2", "pc-q35-7.1", "pc-q35-7.2", "pc-i440fx-7.2"],
  cpuModels: { tcg: ["qemu64", "Conroe", "Nehalem", "Nehalem-v1"] },
  features: ["events", "return-path", "late-block-activate", "pause-before-switchover"],
  postcopy: true,
};

const refused = (
  source: Partial<HotDescription>,
  destination: Partial<HotCapabilities>,
  reason: RegExp,
  nearest?: string,
): void => {
  const verdict = compatible({ ...SOURCE, ...source }, { ...DESTINATION, ...destination });
  assert.ok(!verdict.possible);
  assert.match(verdict.reason, reason);
  assert.equal(verdict.nearest, nearest);
};

test("equal hosts are compatible; whether post-copy is, is told", () => {
  assert.deepEqual(compatible(SOURCE, DESTINATION), { possible: true, postcopy: true });
  const without = { ...DESTINATION, postcopy: false };
  assert.deepEqual(compatible(SOURCE, without), { possible: true, postcopy: false });
});

test("each difference is refused with its reason and the nearest model", () => {
  refused({ hypervisor: "xen" }, {}, /xen/);
  refused({ architecture: "arm64" }, {}, /arm64/);
  refused({}, { version: "7.2.9" }, /7\.2\.9 is older/);
  refused({ accelerator: "kvm" }, {}, /kvm/);
  refused({}, { features: DESTINATION.features.slice(1) }, /lacks events/);
  const older = DESTINATION.machineTypes.filter((name) => name !== "pc-q35-7.2");
  refused({}, { machineTypes: older }, /machine type pc-q35-7\.2/, "pc-q35-7.1");
  refused({}, { machineTypes: ["pc-q35-8.0"] }, /machine type/);
  refused({ cpuModel: "Haswell-noTSX" }, {}, /model Haswell-noTSX/, "Nehalem-v1");
  refused({}, { cpuModels: { tcg: ["Westmere", "Conroe", "EPYC"] } }, /Nehalem-v1/, "Conroe");
  refused({ cpuModel: "host" }, {}, /model host/);
});

test("RAM that TCG would corrupt is refused; KVM and later versions take it", () => {
  const ramBytes = 320 * 2 ** 20;
  refused({ ramBytes }, {}, /corrupt/);
  const later = { ...SOURCE, version: "9.0.0", ramBytes };
  assert.ok(compatible(later, { ...DESTINATION, version: "9.0.1" }).possible);
  const kvm = { ...SOURCE, accelerator: "kvm", ramBytes };
  assert.ok(compatible(kvm, { ...DESTINATION, cpuModels: { kvm: ["Nehalem-v1"] } }).possible);
});

test("disks whose nodes block a migration are refused", () => {
  for (const format of ["vmdk", "vpc", "vhdx", "vdi", "parallels", "qcow"]) {
    refused({ formats: ["raw", format] }, {}, new RegExp(format));
  }
});

test("versions are compared by number", () => {
  assert.equal(compareVersions("7.2.22", "7.2.9"), 1);
  assert.equal(compareVersions("10.0", "9.2.1"), 1);
  assert.equal(compareVersions("7.2", "7.2.0"), 0);
  assert.equal(compareVersions("7.1.5", "7.2"), -1);
});
