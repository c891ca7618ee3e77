import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import type { MachineSpecification } from "../contract.ts";
import { escaped, LAYERS_MAX, macAddress, qemuArguments, ramBytes } from "./arguments.ts";
import { checkSpecification } from "./check.ts";
import { findProcess, servesDirectory } from "./find.ts";
import { layoutOf } from "./layout.ts";
import { realWorld } from "#system";

const DIGEST = `sha256:${"0".repeat(64)}` as const;
const LAYOUT = layoutOf("/var/lib/tessera/m,1");
const LAUNCH = {
  id: "0123456789abcdef",
  accelerator: "tcg",
  cpuModel: "Nehalem-v1",
  machineType: "pc-q35-7.2",
  hostPorts: { http: 8080, ssh: 2222 },
} as const;

function specification(layers: number): MachineSpecification {
  return {
    uuid: "6f0f1d4e-9a63-4c26-9f3e-0123456789ab",
    name: "web, one",
    cpus: 2,
    memoryBytes: 320 * 2 ** 20,
    dataPath: "/data,block",
    ports: [
      { name: "http", guest: 80 },
      { name: "ssh", guest: 22, host: 2222 },
    ],
    directory: LAYOUT.directory,
    disks: {
      appliance: DIGEST,
      digest: DIGEST,
      kernelPath: "/k",
      initramfsPath: "/i",
      commandLine: "quiet",
      layers: Array.from({ length: layers }, (_, index) => ({
        digest: DIGEST,
        name: `l${index}`,
        path: `/layer-${index}`,
        sizeBytes: 4096,
        uuid: DIGEST,
      })),
    },
  };
}

function valuesOf(args: readonly string[], option: string): string[] {
  return args.flatMap((arg, index) => (args[index - 1] === option ? [arg] : []));
}

test("an overlay writes to itself, and only reads the raw file that it is told of", () => {
  const over = { ...specification(0), dataPath: "/data.qcow2", basePath: "/data.raw" };
  const nodes = valuesOf(qemuArguments(over, LAUNCH, LAYOUT), "-blockdev").map(
    (text) => JSON.parse(text) as Record<string, unknown>,
  );
  const byName = new Map(nodes.map((node) => [node["node-name"], node]));
  assert.equal(byName.get("data")?.["driver"], "qcow2");
  assert.equal(byName.get("data")?.["backing"], "base");
  assert.equal(byName.get("data")?.["discard"], "unmap");
  assert.equal(byName.get("data-file")?.["filename"], "/data.qcow2");
  assert.equal(byName.get("data-file")?.["read-only"], undefined);
  for (const name of ["base", "base-file"]) assert.equal(byName.get(name)?.["read-only"], true);
  assert.equal(byName.get("base-file")?.["filename"], "/data.raw");
});

test("a disk in another format is attached by its driver, and lets discards through", () => {
  const other = { ...specification(0), dataPath: "/disk.vmdk", dataFormat: "vmdk" as const };
  const [file, data] = valuesOf(qemuArguments(other, LAUNCH, LAYOUT), "-blockdev").map(
    (text) => JSON.parse(text) as Record<string, unknown>,
  );
  assert.deepEqual([file?.["driver"], file?.["filename"]], ["file", "/disk.vmdk"]);
  assert.deepEqual([data?.["driver"], data?.["file"]], ["vmdk", file?.["node-name"]]);
  assert.equal(data?.["discard"], "unmap");
});

test("RAM is whole pages, enough, and never a multiple of 256 KiB", () => {
  assert.equal(ramBytes(320 * 2 ** 20), 327_688 * 1024);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 40 }), (bytes) => {
      const ram = ramBytes(bytes);
      assert.ok(ram >= bytes && ram - bytes < 16_384);
      assert.equal(ram % 8192, 0);
      assert.notEqual(ram % (256 * 1024), 0);
    }),
  );
});

test("the user data block is writable, flushed, unmapped and locked", () => {
  const nodes = valuesOf(qemuArguments(specification(1), LAUNCH, LAYOUT), "-blockdev").map(
    (text) => JSON.parse(text) as Record<string, unknown>,
  );
  const cache = { direct: false, "no-flush": false };
  const [file, format, ...layers] = nodes;
  assert.deepEqual(file, {
    driver: "file",
    "node-name": "data-file",
    filename: "/data,block",
    locking: "on",
    discard: "unmap",
    cache,
  });
  assert.equal(format?.["discard"], "unmap");
  assert.equal(format?.["detect-zeroes"], "unmap");
  assert.ok(layers.length === 2 && layers.every((node) => node["read-only"] === true));
});

test("every device has a PCI address of its own, up to the greatest number of layers", () => {
  const args = qemuArguments(specification(LAYERS_MAX), LAUNCH, LAYOUT);
  const devices = valuesOf(args, "-device").filter((text) => text.includes("bus=pcie.0"));
  const addresses = devices.map((text) => /addr=([0-9a-f]+\.[0-7])/.exec(text)?.[1]);
  assert.equal(devices.length, LAYERS_MAX + 3);
  assert.equal(new Set(addresses).size, devices.length);
  assert.ok(addresses.every((text) => Number.parseInt(text ?? "ff", 16) <= 30));
});

test("forwards are bound to the loopback alone; commas do not break out of options", () => {
  const args = qemuArguments(specification(1), LAUNCH, LAYOUT);
  assert.deepEqual(valuesOf(args, "-netdev"), [
    "user,id=network,restrict=off,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:2222-:22",
  ]);
  assert.deepEqual(valuesOf(args, "-name"), ["guest=web,, one"]);
  assert.equal(escaped("a,b,,c"), "a,,b,,,,c");
  assert.ok(args.includes(`socket,id=qmp,path=/var/lib/tessera/m,,1/qmp.sock,server=on,wait=off`));
});

test("the network address is a function of the UUID and locally administered", () => {
  assert.equal(macAddress("6F0F1D4E-9A63-4C26-9F3E-0123456789AB"), "52:54:00:67:89:ab");
});

test("the process of a directory is told by its command line", async () => {
  const args = ["qemu", ...qemuArguments(specification(1), LAUNCH, LAYOUT)];
  const line = `${args.join("\0")}\0`;
  assert.ok(servesDirectory(line.slice(0, 4096), LAYOUT));
  assert.ok(!servesDirectory(line, layoutOf("/var/lib/tessera/m,")));
  assert.ok(!servesDirectory(line, layoutOf("/lib/tessera/m,1")));
  assert.equal(await findProcess(realWorld(), layoutOf("/nowhere/at/all")), undefined);
});

test("a specification out of range is misuse", () => {
  const good = specification(LAYERS_MAX);
  checkSpecification(good);
  const wrong: Partial<MachineSpecification>[] = [
    { uuid: "x,romfile=/etc/passwd" },
    { cpus: 0 },
    { cpus: 1.5 },
    { memoryBytes: 1 },
    { memoryBytes: Number.NaN },
    { ports: [{ name: "a", guest: 0 }] },
    { ports: [{ name: "a", guest: 80, host: 65_536 }] },
    { ports: [...good.ports, ...good.ports] },
    { disks: specification(LAYERS_MAX + 1).disks },
  ];
  for (const change of wrong) {
    assert.throws(
      () => checkSpecification({ ...good, ...change }),
      (error) => hasCode(error, "hypervisor.specification-invalid"),
      JSON.stringify(change).slice(0, 80),
    );
  }
});

test("a directory whose socket path is too long is refused", () => {
  layoutOf(`/${"d".repeat(90)}`);
  assert.throws(
    () => layoutOf(`/${"d".repeat(91)}`),
    (error) => hasCode(error, "hypervisor.path-too-long"),
  );
});
