import { TesseraError } from "#core";
import type { HotDescription, MachineSpecification } from "../../contract.ts";
import { devicesOf, qemuArguments, ramBytes, type Launch } from "../arguments.ts";
import { layoutOf } from "../layout.ts";
import type { KnownLaunch } from "../machine.ts";
import { specificationOf } from "../record.ts";

type Host = NonNullable<KnownLaunch["host"]>;

/** What the memory and status of a machine of this specification are tied to, on such a host. */
export function describeMachine(specification: MachineSpecification, host: Host): HotDescription {
  const { directory, cpus, memoryBytes, basePath, dataFormat = "raw", ports } = specification;
  const hostPorts = Object.fromEntries(ports.map(({ name }) => [name, 0]));
  const launch: Launch = { id: "", ...host, hostPorts };
  const args = qemuArguments(specification, launch, layoutOf(directory));
  return {
    hypervisor: "qemu",
    version: host.version,
    architecture: "amd64",
    machineType: host.machineType,
    cpuModel: host.cpuModel,
    accelerator: host.accelerator,
    cpus,
    ramBytes: ramBytes(memoryBytes),
    devices: devicesOf(args),
    formats: basePath === undefined ? [dataFormat] : ["raw", "qcow2"],
  };
}

/** The description of a launch; undefined for one that does not tell what it was started with. */
export function describeLaunch(launch: KnownLaunch): HotDescription | undefined {
  if (launch.host === undefined) return undefined;
  return describeMachine(specificationOf(launch), launch.host);
}

/** What of a machine differs from what the source described, in words; undefined when nothing does. */
function differenceOf(ours: HotDescription, theirs: HotDescription): string | undefined {
  if (ours.cpus !== theirs.cpus) return `${theirs.cpus} processors there, ${ours.cpus} here`;
  if (ours.ramBytes !== theirs.ramBytes) {
    return `${theirs.ramBytes} bytes of RAM there, ${ours.ramBytes} here`;
  }
  const device = theirs.devices.find((text, index) => text !== ours.devices[index]);
  if (device !== undefined) return `the device "${device}" is not so here`;
  return ours.devices.length === theirs.devices.length ? undefined : "there are more devices here";
}

/**
 * Would QEMU make of this specification the machine that the source described?
 *
 * @throws `hypervisor.hot-incompatible`
 */
export function checkDescription(
  specification: MachineSpecification,
  host: Host,
  theirs: HotDescription,
): void {
  const difference = differenceOf(describeMachine(specification, host), theirs);
  if (difference === undefined) return;
  const message = `the machine is not the one that would arrive: ${difference}`;
  throw new TesseraError("peer", "hypervisor.hot-incompatible", message, {
    subject: specification.uuid,
    remedy: "move the machine cold",
  });
}
