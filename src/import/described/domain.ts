/** Domains of libvirt (libvirt.org/formatdomain.html), as far as one machine with one disk needs them. */
import { unsupported } from "../errors.ts";
import { IMAGE_FORMATS, type ImageFormat } from "../format.ts";
import {
  boundedNotes,
  cpusOf,
  memoryOf,
  type DescribedDisk,
  type ReadDescription,
} from "./description.ts";
import { childOf, childrenOf, parseXml, textIn, type XmlElement } from "./xml.ts";

const UNITS: ReadonlyMap<string, number> = new Map([
  ["b", 1],
  ["bytes", 1],
  ["", 1024],
  ["kb", 1e3],
  ["k", 1024],
  ["kib", 1024],
  ["mb", 1e6],
  ["m", 1024 ** 2],
  ["mib", 1024 ** 2],
  ["gb", 1e9],
  ["g", 1024 ** 3],
  ["gib", 1024 ** 3],
  ["tb", 1e12],
  ["t", 1024 ** 4],
  ["tib", 1024 ** 4],
]);

/** Devices that every machine has, or that only the host sees. */
const SILENT: ReadonlySet<string> = new Set(
  ["emulator", "controller", "input", "memballoon", "rng", "console", "serial", "channel"].concat([
    "disk",
    "interface",
    "panic",
  ]),
);

const attribute = (element: XmlElement | undefined, name: string): string =>
  element?.attributes.get(name) ?? "";

const kindOf = (disk: XmlElement): string => attribute(disk, "device") || "disk";

/** A file, a device, or a volume's name. */
function sourceOf(disk: XmlElement): string {
  const source = childOf(disk, "source");
  const names = ["file", "dev", "name", "volume"];
  return names.map((name) => attribute(source, name)).find((value) => value !== "") ?? "";
}

function diskOf(element: XmlElement): DescribedDisk {
  const stated = attribute(childOf(element, "driver"), "type");
  const format: ImageFormat | undefined = IMAGE_FORMATS.find((item) => item === stated);
  return { file: sourceOf(element), ...(format === undefined ? {} : { format }) };
}

function noteOfInterface(card: XmlElement): string {
  const source = childOf(card, "source");
  const names = ["bridge", "network", "dev", "portgroup"];
  const to = names.map((name) => attribute(source, name)).find((value) => value !== "");
  const mac = attribute(childOf(card, "mac"), "address");
  return `network card ${mac}${to === undefined ? "" : ` on "${to}"`}`;
}

function notesOf(domain: XmlElement, devices: readonly XmlElement[]): string[] {
  const disks = devices.filter((item) => item.name === "disk" && kindOf(item) !== "disk");
  const os = childOf(domain, "os");
  const loader = os === undefined ? "" : textIn(os, "loader") || attribute(os, "firmware");
  const mode = attribute(childOf(domain, "cpu"), "mode");
  return [
    ...devices.filter(({ name }) => name === "interface").map(noteOfInterface),
    ...disks.map((disk) => `${kindOf(disk)} "${sourceOf(disk)}"`),
    ...devices.filter(({ name }) => !SILENT.has(name)).map(({ name }) => `device <${name}>`),
    ...(loader === "" ? [] : [`firmware "${loader}": machines here start their kernel directly`]),
    ...(mode === "" ? [] : [`processor mode "${mode}"`]),
  ];
}

/**
 * @param what for messages
 * @throws `import.image-damaged` (corrupt), `import.unsupported` (misuse)
 */
export function readDomain(text: string, what: string): ReadDescription {
  const domain = parseXml(text, what);
  if (domain.name !== "domain") {
    throw unsupported(what, `a <${domain.name}>`, "give what virsh dumpxml prints");
  }
  const devices = childOf(domain, "devices")?.children ?? [];
  const [memory] = childrenOf(domain, "memory");
  const unit = UNITS.get(attribute(memory, "unit").toLowerCase());
  const memoryBytes = memoryOf(memory?.text.trim() ?? "", unit);
  const cpus = cpusOf(textIn(domain, "vcpu"));
  return {
    kind: "libvirt",
    name: textIn(domain, "name"),
    disks: devices.filter((item) => item.name === "disk" && kindOf(item) === "disk").map(diskOf),
    ...(cpus === undefined ? {} : { cpus }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
    notCarried: boundedNotes(notesOf(domain, devices)),
  };
}
