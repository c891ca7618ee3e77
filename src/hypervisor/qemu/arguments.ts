/**
 * The command line of QEMU as a pure function of what is to run. Devices have fixed PCI addresses,
 * so that one specification is one machine to the guest, wherever it starts.
 */
import { TesseraError, type ComposedLayer } from "#core";
import type { MachineSpecification } from "../contract.ts";
import {
  DATA_NODE,
  dataNodes,
  readOnlyNodes,
  type BlockNode,
  type RemoteData,
} from "./data-nodes.ts";
import { readyFile, type Layout } from "./layout.ts";

export type Accelerator = "kvm" | "tcg";

/** What one launch adds to the specification. */
export interface Launch {
  /** Names this launch among all of this directory: it is part of the ready file's name. */
  readonly id: string;
  readonly accelerator: Accelerator;
  readonly cpuModel: string;
  /** Versioned, so that it means the same to every QEMU. */
  readonly machineType: string;
  readonly hostPorts: Readonly<Record<string, number>>;
  /** It waits for a guest from elsewhere, whose data may be elsewhere too. */
  readonly incoming?: { readonly data?: RemoteData | undefined } | undefined;
}

const PAGE_BYTES = 8192;
const TCG_TRAP_BYTES = 256 * 1024;

/** Slots of the root complex (PCI has 32; 0 and 31 are the chipset's). */
const SLOT_NETWORK = 2;
const SLOT_RANDOM = 3;
const SLOT_DATA = 4;
const SLOT_LAYERS = 5;
const SLOT_LAST = 30;
const FUNCTIONS = 8;

/** Layers that fit: eight functions of every slot from the fifth on. */
export const LAYERS_MAX = (SLOT_LAST - SLOT_LAYERS + 1) * FUNCTIONS;

/**
 * RAM in bytes that QEMU gets: whole 8 KiB, and never a multiple of 256 KiB. With such a size the
 * dirty bitmap of TCG before QEMU 9.0 takes a fast path that does not reset the TLB, and a live
 * migration corrupts the guest's memory. KVM is given the same: both ends must have equal sizes.
 */
export function ramBytes(memoryBytes: number): number {
  const whole = Math.ceil(memoryBytes / PAGE_BYTES) * PAGE_BYTES;
  return isTrapped(whole) ? whole + PAGE_BYTES : whole;
}

/** Would a guest of this RAM be corrupted by a live migration under TCG before QEMU 9.0? */
export function isTrapped(bytes: number): boolean {
  return bytes % TCG_TRAP_BYTES === 0;
}

function pair(option: string, value: string): string[] {
  return [option, value];
}

/** QEMU's option parser takes a doubled comma as a comma. */
export function escaped(value: string): string {
  return value.replaceAll(",", ",,");
}

/** A locally administered address made of the machine's UUID: the same on every cloud. */
export function macAddress(uuid: string): string {
  const tail = uuid.replaceAll("-", "").slice(-6).toLowerCase();
  return `52:54:00:${tail.slice(0, 2)}:${tail.slice(2, 4)}:${tail.slice(4, 6)}`;
}

/** All arguments, the program's name not included. */
export function qemuArguments(
  specification: MachineSpecification,
  launch: Launch,
  layout: Layout,
): string[] {
  return [
    ...identityArguments(specification, layout),
    ...processorArguments(specification, launch),
    ...bootArguments(specification),
    ...channelArguments(layout, launch),
    ...networkArguments(specification, launch),
    ...dataArguments(specification, launch),
    ...specification.disks.layers.flatMap(layerArguments),
    ...(launch.incoming === undefined ? [] : ["-S", ...pair("-incoming", "defer")]),
  ];
}

/** The devices as the guest sees them, with their places: equal lists are equal machines. */
export function devicesOf(args: readonly string[]): string[] {
  return args.filter((_, index) => args[index - 1] === "-device");
}

/** First, so that a search for the process reads only the head of a command line. */
function identityArguments({ uuid, name }: MachineSpecification, layout: Layout): string[] {
  return [
    "-no-user-config",
    "-nodefaults",
    ...pair("-pidfile", layout.pidFile),
    ...pair("-name", `guest=${escaped(name)}`),
    ...pair("-uuid", uuid),
  ];
}

function processorArguments(specification: MachineSpecification, launch: Launch): string[] {
  const { accelerator, cpuModel, machineType } = launch;
  const kibibytes = ramBytes(specification.memoryBytes) / 1024;
  return [
    ...pair("-machine", `${machineType},usb=off,vmport=off,dump-guest-core=off`),
    ...pair("-accel", accelerator === "tcg" ? "tcg,thread=multi" : "kvm"),
    ...pair("-cpu", `${cpuModel},enforce=on`),
    ...pair("-smp", String(specification.cpus)),
    ...pair("-m", `size=${kibibytes}K`),
    ...pair("-rtc", "base=utc"),
    ...pair("-global", "ICH9-LPC.disable_s3=1"),
    ...pair("-global", "ICH9-LPC.disable_s4=1"),
    ...pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
    ...pair("-display", "none"),
  ];
}

function bootArguments({ disks }: MachineSpecification): string[] {
  return [
    ...pair("-kernel", disks.kernelPath),
    ...pair("-initrd", disks.initramfsPath),
    ...pair("-append", `${disks.commandLine} console=ttyS0`.trim()),
  ];
}

/** Console, ready channel and two monitors: QEMU serves one connection at a time on each. */
function channelArguments(layout: Layout, launch: Launch): string[] {
  return [
    ...pair("-chardev", `file,id=console,path=${escaped(layout.console)},append=on`),
    ...pair("-device", "isa-serial,chardev=console,index=0"),
    ...pair("-chardev", `file,id=ready,path=${escaped(readyFile(layout, launch.id))}`),
    ...pair("-device", "isa-serial,chardev=ready,index=1"),
    ...pair("-chardev", `socket,id=qmp,path=${escaped(layout.qmpSocket)},server=on,wait=off`),
    ...pair("-mon", "chardev=qmp,mode=control"),
    ...pair("-chardev", `socket,id=hot,path=${escaped(layout.hotSocket)},server=on,wait=off`),
    ...pair("-mon", "chardev=hot,mode=control"),
  ];
}

function networkArguments(specification: MachineSpecification, launch: Launch): string[] {
  const forwards = specification.ports.map(
    ({ name, guest }) => `,hostfwd=tcp:127.0.0.1:${hostPort(launch, name)}-:${guest}`,
  );
  return [
    ...pair("-netdev", `user,id=network,restrict=off${forwards.join("")}`),
    ...device("virtio-net-pci", address(SLOT_NETWORK), {
      netdev: "network",
      mac: macAddress(specification.uuid),
      romfile: "",
    }),
    ...pair("-object", "rng-random,id=random,filename=/dev/urandom"),
    ...device("virtio-rng-pci", address(SLOT_RANDOM), { rng: "random" }),
  ];
}

function hostPort(launch: Launch, name: string): number {
  const port = launch.hostPorts[name];
  if (port !== undefined) return port;
  throw new TesseraError("bug", "hypervisor.port-unknown", `no host port was chosen for ${name}`);
}

function blockdevs(nodes: readonly BlockNode[]): string[] {
  return nodes.flatMap((node) => pair("-blockdev", JSON.stringify(node)));
}

function dataArguments(specification: MachineSpecification, { incoming }: Launch): string[] {
  return [
    ...blockdevs(dataNodes(specification, incoming?.data)),
    ...device("virtio-blk-pci", address(SLOT_DATA), {
      drive: DATA_NODE,
      "write-cache": "on",
      discard: "on",
      werror: "stop",
      rerror: "stop",
    }),
  ];
}

/** One read-only disk; the layers share PCI slots, eight functions each. */
function layerArguments(layer: ComposedLayer, index: number): string[] {
  const slot = SLOT_LAYERS + Math.floor(index / FUNCTIONS);
  return [
    ...blockdevs(readOnlyNodes(layer.path, `layer${index}`)),
    ...device("virtio-blk-pci", `${address(slot, index % FUNCTIONS)},multifunction=on`, {
      drive: `layer${index}`,
      "num-queues": "1",
    }),
  ];
}

function address(slot: number, part = 0): string {
  return `addr=${slot.toString(16)}.${part}`;
}

/** Modern virtio only: legacy devices need I/O ports, and many of them slow the boot down. */
function device(driver: string, place: string, properties: Readonly<Record<string, string>>) {
  const text = Object.entries(properties).map(([key, value]) => `,${key}=${value}`);
  return ["-device", `${driver},bus=pcie.0,${place},disable-legacy=on${text.join("")}`];
}
