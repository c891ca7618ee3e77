import assert from "node:assert/strict";
import { test } from "node:test";
import { hasCode } from "#core";
import type { MachineSpecification } from "../../contract.ts";
import { qemuArguments } from "../arguments.ts";
import { layoutOf } from "../layout.ts";
import { checkDescription, describeMachine } from "./describe.ts";
import { answerOf } from "./probe.ts";

const DIGEST = `sha256:${"0".repeat(64)}` as const;
const HOST = {
  version: "7.2.22",
  machineType: "pc-q35-7.2",
  cpuModel: "Nehalem-v1",
  accelerator: "tcg",
} as const;
const LAYER = { digest: DIGEST, name: "l", path: "/l", sizeBytes: 4096, uuid: DIGEST };
const SPECIFICATION: MachineSpecification = {
  uuid: "6f0f1d4e-9a63-4c26-9f3e-0123456789ab",
  name: "web",
  cpus: 2,
  memoryBytes: 2 ** 28,
  dataPath: "/data",
  ports: [{ name: "http", guest: 80 }],
  directory: "/m",
  disks: {
    appliance: DIGEST,
    digest: DIGEST,
    kernelPath: "/k",
    initramfsPath: "/i",
    commandLine: "quiet",
    layers: [LAYER, LAYER],
  },
};

test("places, paths and ports of a host are no part of the machine; all else is", () => {
  const here = describeMachine(SPECIFICATION, HOST);
  assert.equal(here.ramBytes, 2 ** 28 + 8192);
  assert.equal(here.devices.length, 7);
  const elsewhere = {
    ...SPECIFICATION,
    directory: "/elsewhere",
    dataPath: "/other",
    name: "renamed",
    ports: [{ name: "http", guest: 80, host: 8080 }],
  };
  checkDescription(elsewhere, HOST, here);
  const changes: Partial<MachineSpecification>[] = [
    { cpus: 1 },
    { memoryBytes: 2 ** 29 },
    { uuid: "6f0f1d4e-9a63-4c26-9f3e-0123456789ff" },
    { disks: { ...SPECIFICATION.disks, layers: [LAYER] } },
    { disks: { ...SPECIFICATION.disks, layers: [LAYER, LAYER, LAYER] } },
  ];
  for (const change of changes) {
    assert.throws(
      () => checkDescription({ ...SPECIFICATION, ...change }, HOST, here),
      (error) => hasCode(error, "hypervisor.hot-incompatible"),
      JSON.stringify(change).slice(0, 60),
    );
  }
});

test("an incoming machine waits, and its data come from a server that is no backing file", () => {
  const data = { socketPath: "/s", exportName: "data" };
  const launch = { id: "0", ...HOST, hostPorts: { http: 1 }, incoming: { data } };
  const args = qemuArguments(SPECIFICATION, launch, layoutOf("/m"));
  assert.deepEqual(args.slice(-3), ["-S", "-incoming", "defer"]);
  const nodes = args
    .filter((_, index) => args[index - 1] === "-blockdev")
    .map((text) => JSON.parse(text) as Record<string, unknown>);
  const [server, disk] = nodes;
  assert.equal(server?.["driver"], "nbd");
  assert.ok(Number(server?.["reconnect-delay"]) >= 60, "requests wait for a server that is gone");
  assert.equal(disk?.["node-name"], "data");
  assert.ok([server, disk].every((node) => node?.["discard"] === "unmap"));
  assert.ok(nodes.every((node) => node["backing"] === undefined));
  assert.ok(!nodes.some((node) => node["filename"] === "/data"));
});

test("what a QEMU can receive is read from its answers, or told with its words", () => {
  const model = { name: "Nehalem-v1", "unavailable-features": [], "migration-safe": true };
  const models = [
    model,
    { ...model, name: "Haswell", "unavailable-features": ["avx2"] },
    { ...model, name: "max", "migration-safe": false },
  ];
  const values = [{}, [{ name: "pc-q35-7.2" }], models, [{ capability: "events" }], {}, {}];
  const messages = values.map((value, id) => ({ type: "return", id, value }) as const);
  const told = { machineTypes: ["pc-q35-7.2"], cpuModels: ["Nehalem-v1"], features: ["events"] };
  assert.deepEqual(answerOf(messages, ""), { ...told, postcopy: true });
  const refused = messages.filter(({ id }) => id !== 4);
  assert.deepEqual(answerOf(refused, ""), { ...told, postcopy: false });
  assert.throws(
    () => answerOf([], "invalid accelerator kvm"),
    (error) => hasCode(error, "hypervisor.probe-failed") && /accelerator kvm/.test(error.message),
  );
});
