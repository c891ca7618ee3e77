/** One migration of the demo: plan, move, prove, and measure the monolithic peer. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { userDataDigest } from "#block";
import { formatBytes, type Plan, type SignedReceipt } from "#core";
import { verifySignature } from "#federation";
import { realWorld } from "#system";
import { openMachineData } from "../../src/agent/machine-data.ts";
import { receiptBytes } from "../../src/agent/migrations/receipt.ts";
import { until, type Demo, type DemoCloud, DEMO } from "./clouds.ts";
import { Writer, type DemoMachine } from "./machines.ts";
import { measureMonolith, type Monolith } from "./monolith.ts";
import { guestsBelow } from "./processes.ts";
import { headline, run, say, tessera } from "./screen.ts";

const world = realWorld();

/** One object of `build/demo/report.json`. */
export interface Report {
  readonly case: string;
  readonly machine: string;
  readonly from: string;
  readonly to: string;
  readonly components_held: readonly string[];
  readonly components_missing: readonly string[];
  readonly bytes_planned: number;
  readonly bytes_moved: number;
  /** As the link's relay counted them. */
  readonly bytes_on_link: number;
  readonly seconds: Readonly<Record<string, number>>;
  readonly downtime_s: number;
  readonly records_acknowledged: number;
  readonly records_found: number;
  readonly monolithic: Monolith;
}

interface Move {
  readonly from: DemoCloud;
  readonly to: DemoCloud;
  readonly machine: DemoMachine;
  readonly bitsPerSecond: number;
  readonly demo: Demo;
  /** Records that were acknowledged in earlier moves. */
  readonly known: ReadonlyMap<string, string>;
}

export function check(holds: boolean, claim: string): void {
  if (!holds) throw new Error(`NOT TRUE: ${claim}`);
  say(`  proven: ${claim}`);
}

async function portOf(cloud: DemoCloud, machine: DemoMachine): Promise<number> {
  const { hostPorts } = await cloud.api.call("machine.show", { machine: machine.name });
  const port = hostPorts[machine.port];
  if (port === undefined) throw new Error(`${machine.name} has no port ${machine.port}`);
  return port;
}

export async function move(
  title: string,
  { known, ...rest }: Move,
): Promise<{ report: Report; records: ReadonlyMap<string, string> }> {
  const { from, to, machine, demo, bitsPerSecond } = rest;
  headline(title);
  const { plan } = await from.api.call("plan.make", { machine: machine.name, to: to.name });
  const writer = new Writer(machine, await portOf(from, machine), known.size);
  await until("the first records are written", () =>
    Promise.resolve(writer.acknowledged.size >= 20),
  );
  const before = await demo.linkBytes();
  await tessera(from.directory, ["migrate", machine.name, "--to", to.name]);
  const bytes_on_link = (await demo.linkBytes()) - before;
  await writer.stop();
  const records = new Map([...known, ...writer.acknowledged]);
  const signed = await prove({ ...rest, known: records });
  const found = await countRecords(rest, records);
  check(
    found === records.size,
    `all ${records.size} records acknowledged before the stop are there`,
  );
  const monolithic = await peer(rest, signed);
  const report = reportOf(rest, plan, signed, {
    bytes_on_link,
    monolithic,
    found,
    all: records.size,
  });
  compare(report, bitsPerSecond);
  return { report, records };
}

async function countRecords(
  { to, machine }: Omit<Move, "known">,
  records: ReadonlyMap<string, string>,
): Promise<number> {
  const port = await portOf(to, machine);
  let found = 0;
  for (const [key, value] of records) if ((await machine.read(port, key)) === value) found += 1;
  return found;
}

async function prove({ from, to, machine }: Move): Promise<SignedReceipt> {
  const signed = await receiptsAgree(from, to);
  const { receipt } = signed;
  const greeting = await machine.greet(await portOf(to, machine));
  check(greeting !== "", `the service answers at ${to.name}: ${greeting}`);
  const left = join(from.directory, "machines", receipt.machine);
  check(guestsBelow(left).length === 0, `no process of the machine runs at ${from.name}`);
  const there = join(to.directory, "machines", receipt.machine);
  check(guestsBelow(there).length === 1, `one process of the machine runs at ${to.name}`);
  const here = await from.api.call("machine.show", { machine: receipt.machine });
  check(
    here.state === "gone" && here.cloud === to.name,
    `${from.name} knows that it is at ${to.name}`,
  );
  const device = await openMachineData(world, left);
  const { digest } = await userDataDigest(device);
  await device.close();
  check(digest === receipt.userData.digest, "the user data block arrived as it was at the stop");
  const [ours = "?", theirs = ""] = await Promise.all(
    [from, to].map((cloud) => composedSums(cloud, receipt.appliance)),
  );
  check(ours === theirs, "both clouds composed the same kernel, initramfs and glue, byte for byte");
  const { findings, components } = await to.api.call("component.verify", {});
  check(
    findings.length === 0,
    `all ${components} components at ${to.name} agree with their digests`,
  );
  return signed;
}

async function composedSums(cloud: DemoCloud, appliance: string): Promise<string> {
  const directory = join(cloud.directory, "composed", appliance.slice(7, 39));
  const command = 'cd "$0" && sha256sum vmlinux initramfs.cpio glue.erofs';
  return await run("sh", ["-c", command, directory]);
}

export async function receiptsAgree(from: DemoCloud, to: DemoCloud): Promise<SignedReceipt> {
  const receipts = await Promise.all(
    [from, to].map(async ({ api }) => {
      const { migrations } = await api.call("migration.list", {});
      const id = migrations[0]?.migration ?? "";
      return (await api.call("migration.show", { migration: id })).receipt;
    }),
  );
  const [one, other] = receipts;
  if (one === undefined || other === undefined) throw new Error("a receipt is missing");
  check(JSON.stringify(one) === JSON.stringify(other), "both clouds keep the same receipt");
  for (const { name, api } of [from, to]) {
    const { card } = await api.call("agent.info", {});
    const valid = verifySignature(
      card.agentKey,
      receiptBytes(one.receipt),
      one.signatures[name] ?? "",
    );
    check(valid, `${name} has signed it`);
  }
  return one;
}

async function peer(
  { from, bitsPerSecond }: Omit<Move, "known">,
  { receipt }: SignedReceipt,
): Promise<Monolith> {
  say("the same machine as one monolithic qcow2 (zstd, zeroes trimmed), over the same link …");
  const images = receipt.components.map(({ id }) =>
    join(from.directory, "repository", "blobs", "sha256", id.slice("sha256:".length)),
  );
  const glue = join(from.directory, "composed", receipt.appliance.slice(7, 39), "glue.erofs");
  const data = await rawDataOf(join(from.directory, "machines", receipt.machine));
  return await measureMonolith(join(DEMO, "monolith"), [...images, glue], data, bitsPerSecond);
}

/** The user data block as one raw file. */
async function rawDataOf(directory: string): Promise<string> {
  const overlay = join(directory, "data.qcow2");
  if (!existsSync(overlay)) return join(directory, "data.raw");
  const whole = join(DEMO, "monolith-data.raw");
  await run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", overlay, whole]);
  return whole;
}

interface Measured {
  readonly bytes_on_link: number;
  readonly monolithic: Monolith;
  readonly found: number;
  readonly all: number;
}

function reportOf(
  { from, to, machine }: Omit<Move, "known">,
  plan: Plan,
  { receipt }: SignedReceipt,
  measured: Measured,
): Report {
  const named = (held: boolean): string[] =>
    receipt.components.filter((component) => component.held === held).map(({ name }) => name);
  const seconds = Object.entries(receipt.phases_ms).map(([phase, ms]) => [phase, ms / 1000]);
  return {
    case: receipt.case,
    machine: machine.name,
    from: from.name,
    to: to.name,
    components_held: named(true),
    components_missing: named(false),
    bytes_planned: plan.totalBytes,
    bytes_moved: receipt.wireBytes,
    bytes_on_link: measured.bytes_on_link,
    seconds: Object.fromEntries(seconds) as Record<string, number>,
    downtime_s: receipt.downtime_ms / 1000,
    records_acknowledged: measured.all,
    records_found: measured.found,
    monolithic: measured.monolithic,
  };
}

function share(ours: number, theirs: number): string {
  return `${((100 * ours) / theirs).toFixed(1)}%`;
}

function compare(report: Report, bitsPerSecond: number): void {
  const { bytes_on_link, monolithic, seconds } = report;
  const moved_s = (seconds["components"] ?? 0) + (seconds["userData"] ?? 0);
  say(`composed:   ${formatBytes(bytes_on_link)} on the link, ${moved_s.toFixed(1)} s of transfer`);
  say(
    `monolithic: ${formatBytes(monolithic.bytes)}, ${monolithic.transfer_s.toFixed(1)} s of transfer ` +
      `at ${bitsPerSecond / 1e6} Mbit/s (and ${monolithic.prepare_s.toFixed(1)} s to make the image)`,
  );
  say(
    `            so ${share(bytes_on_link, monolithic.bytes)} of the bytes, ` +
      `${share(moved_s, monolithic.transfer_s)} of the time`,
  );
}
