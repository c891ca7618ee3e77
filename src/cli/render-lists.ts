/** Components, appliances, machines, clouds and peers as text. Pure. */
import type { AgentInfo, ApplianceCheck, CloudStatus, Output, PeerStatus } from "#api";
import {
  componentsOf,
  formatBytes,
  formatRate,
  shortDigest,
  type Appliance,
  type Component,
  type ComponentReference,
  type Constraint,
  type Machine,
  type Offer,
} from "#core";
import { plural, renderMembers, renderSize, renderTable, renderTime } from "./render-table.ts";

const titles = (...names: string[]) => names.map((title) => ({ title }));

export function renderComponents(components: readonly Component[]): string {
  const columns = [
    ...titles("KIND", "NAME", "VERSION", "ARCH"),
    { title: "SIZE", align: "right" as const },
    { title: "ID" },
  ];
  const rows = components.map(({ id, sizeBytes, description }) => {
    const { kind, name, version, architecture } = description;
    return [kind, name, version, architecture, formatBytes(sizeBytes), shortDigest(id)];
  });
  return renderTable(columns, rows);
}

export function renderComponent({ component, pinnedBy }: Output<"component.show">): string {
  const { description, id, sizeBytes } = component;
  return renderMembers([
    ["id", id],
    ["kind", description.kind],
    ["name", description.name],
    ["version", description.version],
    ["architecture", description.architecture],
    ["size", `${formatBytes(sizeBytes)} (${sizeBytes} bytes)`],
    ["kernel", description.kernelRelease],
    ["recipe", description.recipe],
    ["manifest", component.manifest.digest],
    ["packages", plural(description.packages.length, "package")],
    ["provides", plural(description.provides.length, "constraint")],
    ["requires", plural(description.requires.length, "constraint")],
    ["instance paths", joined(description.instancePaths)],
    ["used by", joined(pinnedBy)],
  ]);
}

function joined(words: readonly string[]): string {
  return words.length === 0 ? "-" : words.join(", ");
}

export function renderVerify(report: Output<"component.verify">): string {
  const { components, blobs, bytes, findings, signatures = [] } = report;
  const counts = `${plural(components, "component")} and ${plural(blobs, "blob")}`;
  const summary = `read ${counts}, ${formatBytes(bytes)}: ${
    findings.length === 0 ? "all is well" : plural(findings.length, "problem")
  }\n`;
  const rows = findings.map((one) => [one.problem, one.component ?? "-", one.digest]);
  const problems =
    rows.length === 0 ? "" : renderTable(titles("PROBLEM", "COMPONENT", "DIGEST"), rows);
  return summary + problems + renderSignatures(signatures);
}

type Signatures = NonNullable<Output<"component.verify">["signatures"]>;

function renderSignatures(signatures: Signatures): string {
  if (signatures.length === 0) return "";
  const rows = signatures.map(({ componentName, key, signer, valid }) => {
    const verdict = valid === undefined ? "key not known here" : valid ? "valid" : "WRONG";
    return [componentName, verdict, signer ?? "-", shortDigest(key)];
  });
  return renderTable(titles("SIGNED", "SIGNATURE", "SIGNER", "KEY"), rows);
}

export function renderCollect({ removed, bytes, dryRun }: Output<"component.collect">): string {
  const verb = dryRun ? "would remove" : "removed";
  const summary = `${verb} ${plural(removed.length, "blob")}, ${formatBytes(bytes)}\n`;
  const rows = removed.map((blob) => [formatBytes(blob.sizeBytes), blob.digest]);
  return summary + renderTable([{ title: "", align: "right" }, { title: "" }], rows, "  ");
}

const titleOf = ({ name, version }: ComponentReference): string => `${name} ${version}`;

export function renderAppliances(appliances: readonly Appliance[]): string {
  const rows = appliances.map(({ name, kernel, os, programs, resources, digest }) => [
    name,
    titleOf(kernel),
    titleOf(os),
    joined(programs.map((program) => program.name)),
    String(resources.cpus),
    renderSize(resources.memoryBytes),
    shortDigest(digest),
  ]);
  return renderTable(titles("NAME", "KERNEL", "OS", "PROGRAMS", "CPUS", "MEMORY", "DIGEST"), rows);
}

export function renderAppliance(appliance: Appliance): string {
  const { name, digest, resources, serviceLevel } = appliance;
  const ports = resources.ports.map(
    ({ name, guest, host }) => `${name}: ${host === undefined ? "" : `${host} to `}${guest}`,
  );
  const parts = componentsOf(appliance);
  const rows = parts.map((one) => [
    one.kind,
    titleOf(one),
    formatBytes(one.sizeBytes),
    shortDigest(one.id),
  ]);
  const members = renderMembers([
    ["name", name],
    ["digest", digest],
    ["cpus", String(resources.cpus)],
    ["memory", renderSize(resources.memoryBytes)],
    ["user data", renderSize(resources.dataBytes)],
    ["ports", joined(ports)],
    ["downtime", limitOf(serviceLevel.downtimeMax_ms)],
    ["clouds", serviceLevel.clouds.length === 0 ? "any" : joined(serviceLevel.clouds)],
    ["regions", serviceLevel.regions.length === 0 ? "any" : joined(serviceLevel.regions)],
    ["priority", String(serviceLevel.priority)],
    ["may be slowed", serviceLevel.maySlowDown ? "yes" : "no"],
  ]);
  return `${members}\n${renderTable(titles("KIND", "COMPONENT", "SIZE", "ID"), rows)}`;
}

function limitOf(milliseconds: number | undefined): string {
  return milliseconds === undefined ? "no limit" : `at most ${milliseconds} ms`;
}

export function renderCheck({ appliance, fits, unmet }: ApplianceCheck): string {
  const verdict = `${appliance.name}: ${fits ? "fits" : "does not fit"}\n`;
  const table = unmet.length === 0 ? "" : renderUnmet(unmet);
  return `${verdict}${table}\n${renderAppliance(appliance)}`;
}

export function renderUnmet(unmet: ApplianceCheck["unmet"]): string {
  const rows = unmet.map(({ level, componentName, need, found }) => [
    level,
    componentName,
    needText(need),
    found ?? "nothing",
  ]);
  return renderTable(titles("LEVEL", "COMPONENT", "NEEDS", "FOUND"), rows, "  ");
}

type Need = ApplianceCheck["unmet"][number]["need"];

function needText(need: Need | Constraint): string {
  if (need.type === "architecture") return `architecture ${need.name}`;
  const { type, name, version, relation, alternatives = [] } = need;
  const bound = version === undefined ? "" : ` ${relation ?? ">="} ${version}`;
  const others = alternatives.map((other) => ` or ${needText(other)}`).join("");
  return `${type} ${name}${bound}${others}`;
}

export function renderMachines(machines: readonly Machine[]): string {
  const rows = machines.map((one) => [
    one.name,
    one.state === "gone" ? `gone to ${one.cloud ?? "?"}` : one.state,
    one.appliance.name,
    portsOf(one),
    one.uuid,
  ]);
  return renderTable(titles("NAME", "STATE", "APPLIANCE", "PORTS", "UUID"), rows);
}

function portsOf({ hostPorts }: Machine): string {
  return joined(Object.entries(hostPorts).map(([name, port]) => `${name}=127.0.0.1:${port}`));
}

export function renderMachine(machine: Machine): string {
  const { appliance } = machine;
  return renderMembers([
    ["name", machine.name],
    ["uuid", machine.uuid],
    ["state", machine.state],
    ["cloud", machine.cloud],
    ["migration", machine.migration],
    ["appliance", `${appliance.name} (${shortDigest(appliance.digest)})`],
    ["components", joined(componentsOf(appliance).map(titleOf))],
    ["cpus", String(appliance.resources.cpus)],
    ["memory", renderSize(appliance.resources.memoryBytes)],
    ["user data", renderSize(appliance.resources.dataBytes)],
    ["format", machine.format],
    ["ports", portsOf(machine)],
    ["created", renderTime(machine.created_ms)],
  ]);
}

export function renderClouds(clouds: readonly CloudStatus[]): string {
  const rows = clouds.map(({ cloud, offer }) => {
    if (offer === undefined) return [cloud, "-", "no offer", "", "", "", ""];
    return [
      cloud,
      offer.region,
      offer.receives ? "yes" : "no",
      String(offer.cpusFree),
      formatBytes(offer.memoryFreeBytes),
      formatBytes(offer.storageFreeBytes),
      String(offer.repository.components),
    ];
  });
  const columns = titles("CLOUD", "REGION", "RECEIVES", "CPUS", "MEMORY", "STORAGE", "COMPONENTS");
  return renderTable(columns, rows);
}

export function renderCloud(cloud: CloudStatus, offer: Offer): string {
  const price = offer.egressPricePerGB;
  return renderMembers([
    ["cloud", offer.cloud],
    ["agent", cloud.jid],
    ["region", offer.region],
    ["receives", offer.receives ? "yes" : "no"],
    ["cpus free", String(offer.cpusFree)],
    ["memory free", formatBytes(offer.memoryFreeBytes)],
    ["storage free", formatBytes(offer.storageFreeBytes)],
    ["link", offer.linkRate === undefined ? "unknown" : formatRate(offer.linkRate)],
    ["price per GB", String(price)],
    ["accelerators", joined(offer.accelerators)],
    ["cpu models", joined(offer.cpuModels)],
    ["formats", joined(offer.formats)],
    ["architectures", joined(offer.architectures)],
    ["components", String(offer.repository.components)],
    ["offer", `number ${offer.seq}, confirmed, until ${renderTime(offer.expires_ms)}`],
  ]);
}

export function renderPeers(peers: readonly PeerStatus[]): string {
  const rows = peers.map(({ card, fingerprint, present }) => [
    card.cloud,
    card.jid,
    present ? "present" : "away",
    fingerprint,
  ]);
  return renderTable(titles("CLOUD", "AGENT", "", "FINGERPRINT"), rows);
}

export function renderAgent(info: AgentInfo): string {
  const { transport } = info;
  const detail = transport.detail === undefined ? "" : `: ${transport.detail}`;
  return renderMembers([
    ["cloud", info.cloud],
    ["domain", info.domain],
    ["version", info.version],
    ["directory", info.directory],
    ["agent", info.card.jid],
    ["fingerprint", info.fingerprint],
    ["federation", `${transport.state}${detail}`],
    ["data port", info.dataPort === 0 ? "does not listen" : String(info.dataPort)],
    ["accelerator", info.accelerator],
    ["started", renderTime(info.started_ms)],
  ]);
}
