import { TesseraError } from "#core";
import type { MachineSpecification } from "../contract.ts";
import { LAYERS_MAX } from "./arguments.ts";

const CPUS_MAX = 255;
const MEMORY_BYTES_MIN = 16 * 2 ** 20;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

function faultOf(specification: MachineSpecification): string | undefined {
  const { uuid, cpus, memoryBytes, ports, disks } = specification;
  if (!UUID.test(uuid)) return `"${uuid}" is not a UUID`;
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > CPUS_MAX) return `${cpus} processors`;
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes < MEMORY_BYTES_MIN) {
    return `${memoryBytes} bytes of memory`;
  }
  if (disks.layers.length > LAYERS_MAX) return `${disks.layers.length} layers`;
  if (new Set(ports.map(({ name }) => name)).size < ports.length) return "two ports of one name";
  const wrong = ports.find(({ guest, host = 0 }) => !isPort(guest, 1) || !isPort(host, 0));
  if (wrong !== undefined) return `the port "${wrong.name}"`;
  return undefined;
}

function isPort(port: number, least: number): boolean {
  return Number.isInteger(port) && port >= least && port <= 65_535;
}

/** @throws `hypervisor.specification-invalid` (misuse) */
export function checkSpecification(specification: MachineSpecification): void {
  const fault = faultOf(specification);
  if (fault === undefined) return;
  throw new TesseraError("misuse", "hypervisor.specification-invalid", `QEMU cannot run ${fault}`, {
    subject: specification.uuid,
    remedy: `use 1 to ${CPUS_MAX} processors, 16 MiB of memory or more, at most ${LAYERS_MAX} layers and ports from 1 to 65535 with distinct names`,
  });
}
