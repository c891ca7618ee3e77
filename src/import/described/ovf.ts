/** OVF descriptors (DMTF DSP0243 1.1 and 2.0), as far as one machine with one disk needs them. */
import { unsupported } from "../errors.ts";
import {
  boundedNotes,
  cpusOf,
  memoryOf,
  type DescribedDisk,
  type ReadDescription,
} from "./description.ts";
import { childOf, childrenOf, parseXml, textIn, type XmlElement } from "./xml.ts";

/** ResourceType of CIM_ResourceAllocationSettingData. */
const TYPE = { cpu: "3", memory: "4", network: "10", disk: "17" } as const;
const CONTROLLERS: ReadonlySet<string> = new Set(["5", "6", "20"]);
const OTHERS: ReadonlyMap<string, string> = new Map([
  ["14", "floppy drive"],
  ["15", "CD drive"],
  ["16", "DVD drive"],
  ["18", "tape"],
  ["21", "serial port"],
  ["22", "parallel port"],
  ["23", "USB controller"],
  ["24", "graphics"],
  ["35", "sound"],
]);
const ITEMS: ReadonlySet<string> = new Set(["Item", "StorageItem", "EthernetPortItem"]);

/** DSP0004 has programmatic units; older files have words. */
function unitOf(text: string): number | undefined {
  const unit = text.toLowerCase().replaceAll(/\s+/g, "");
  const power = /^byte\*2\^(\d{1,2})$/.exec(unit)?.[1];
  if (power !== undefined) return 2 ** Number(power);
  if (unit === "byte" || unit === "bytes") return 1;
  const letter = /^(k|m|g|t)(?:b|ib|ilobytes?|egabytes?|igabytes?|erabytes?)$/.exec(unit)?.[1];
  return letter === undefined ? undefined : 1024 ** ("kmgt".indexOf(letter) + 1);
}

const attribute = (element: XmlElement, name: string): string => element.attributes.get(name) ?? "";

function onlyMachine(envelope: XmlElement, what: string): XmlElement {
  const [machine, ...more] = childrenOf(envelope, "VirtualSystem");
  const collection = childOf(envelope, "VirtualSystemCollection");
  if (machine !== undefined && more.length === 0 && collection === undefined) return machine;
  const feature =
    machine === undefined && collection === undefined ? "no machine" : "several machines";
  throw unsupported(what, feature, "export each machine as an OVA of its own");
}

class Disks {
  readonly #what: string;
  readonly #files: ReadonlyMap<string, XmlElement>;
  readonly #disks: ReadonlyMap<string, XmlElement>;

  constructor(envelope: XmlElement, what: string) {
    this.#what = what;
    const byId = (section: string, name: string, id: string): Map<string, XmlElement> => {
      const found = childOf(envelope, section);
      const elements = found === undefined ? [] : childrenOf(found, name);
      return new Map(elements.map((element) => [attribute(element, id), element]));
    };
    this.#files = byId("References", "File", "id");
    this.#disks = byId("DiskSection", "Disk", "diskId");
  }

  /** What an item's HostResource leads to; an empty disk has no file. */
  of(hostResource: string): DescribedDisk[] {
    const [, kind, id = ""] = /^(?:ovf:)?\/(disk|file)\/(.*)$/.exec(hostResource) ?? [];
    const disk = kind === "disk" ? this.#disks.get(id) : undefined;
    if (disk !== undefined && attribute(disk, "parentRef") !== "") {
      throw unsupported(this.#what, "a disk that is based on another", "merge it with its parent");
    }
    const reference = disk === undefined ? id : attribute(disk, "fileRef");
    const file = this.#files.get(reference);
    if (kind === undefined || file === undefined) return [];
    const compression = attribute(file, "compression");
    if (compression !== "" && compression !== "identity") {
      throw unsupported(this.#what, `a disk compressed by ${compression}`, "unpack it first");
    }
    if (attribute(file, "chunkSize") !== "") {
      throw unsupported(this.#what, "a disk in several pieces", "join them first");
    }
    return [{ file: attribute(file, "href") }];
  }
}

function noteOfItem(item: XmlElement): string[] {
  const type = textIn(item, "ResourceType");
  const name = textIn(item, "ElementName") || textIn(item, "Caption");
  if (type === TYPE.network) {
    const [card, network] = [textIn(item, "ResourceSubType"), textIn(item, "Connection")];
    return [`network card ${card || name}${network === "" ? "" : ` on "${network}"`}`];
  }
  if (CONTROLLERS.has(type) || Object.values<string>(TYPE).includes(type)) return [];
  return [`${OTHERS.get(type) ?? `hardware of type ${type || "unknown"}`} "${name}"`];
}

function itemsOf(machine: XmlElement): XmlElement[] {
  const hardware = childOf(machine, "VirtualHardwareSection");
  return hardware?.children.filter(({ name }) => ITEMS.has(name)) ?? [];
}

/**
 * @param what for messages
 * @throws `import.image-damaged` (corrupt), `import.unsupported` (misuse)
 */
export function readOvf(text: string, what: string): ReadDescription {
  const envelope = parseXml(text, what);
  if (envelope.name !== "Envelope") throw unsupported(what, `a <${envelope.name}>`, "give an OVF");
  const machine = onlyMachine(envelope, what);
  const items = itemsOf(machine);
  const of = (type: string): XmlElement[] =>
    items.filter((item) => textIn(item, "ResourceType") === type);
  const [cpu] = of(TYPE.cpu).map((item) => cpusOf(textIn(item, "VirtualQuantity")));
  const [memory] = of(TYPE.memory).map((item) =>
    memoryOf(textIn(item, "VirtualQuantity"), unitOf(textIn(item, "AllocationUnits"))),
  );
  const disks = new Disks(envelope, what);
  const found = of(TYPE.disk).flatMap((item) => disks.of(textIn(item, "HostResource")));
  return {
    kind: "ovf",
    name: textIn(machine, "Name") || attribute(machine, "id"),
    disks: found,
    ...(cpu === undefined ? {} : { cpus: cpu }),
    ...(memory === undefined ? {} : { memoryBytes: memory }),
    notCarried: boundedNotes(items.flatMap(noteOfItem)),
  };
}
