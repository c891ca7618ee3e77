/** The descriptor of an OVA (DMTF DSP0243 1.1, Open Virtualization Format). Pure. */

export interface OvfMachine {
  readonly name: string;
  readonly uuid: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  /** Bytes of the disk that are not zero, about. */
  readonly populatedBytes: number;
  readonly file: { readonly name: string; readonly sizeBytes: number };
  readonly controller: Controller;
  readonly network: Network;
}

export interface Controller {
  readonly name: string;
  /** CIM_ResourceAllocationSettingData: 5 IDE, 6 SCSI, 20 other storage. */
  readonly resourceType: 5 | 6 | 20;
  readonly subType: string;
}

export interface Network {
  readonly name: string;
  readonly subType: string;
}

const IDE: Controller = { name: "IDE", resourceType: 5, subType: "PIIX4" };
/** By the driver that the guest needs; the first that its kernel has is taken. */
const CONTROLLERS: readonly (readonly [module: string, controller: Controller])[] = [
  ["ahci", { name: "SATA (AHCI)", resourceType: 20, subType: "AHCI" }],
  ["mptspi", { name: "SCSI (LSI Logic)", resourceType: 6, subType: "lsilogic" }],
  ["ata_piix", IDE],
  ["vmw_pvscsi", { name: "SCSI (paravirtual)", resourceType: 6, subType: "VirtualSCSI" }],
];
const E1000: Network = { name: "E1000", subType: "E1000" };
const NETWORKS: readonly (readonly [module: string, network: Network])[] = [
  ["e1000", E1000],
  ["vmxnet3", { name: "VMXNET3", subType: "VmxNet3" }],
];

/** What the guest has drivers for. */
export function hardwareOf(modules: ReadonlySet<string>): {
  readonly controller: Controller;
  readonly network: Network;
} {
  return {
    controller: CONTROLLERS.find(([module]) => modules.has(module))?.[1] ?? IDE,
    network: NETWORKS.find(([module]) => modules.has(module))?.[1] ?? E1000,
  };
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
};

const escaped = (text: string): string => text.replaceAll(/[&<>"]/g, (c) => ENTITIES[c] ?? c);

/** Elements of RASD stand in the order of the alphabet, as the schema wants. */
function item(members: Readonly<Record<string, string | number>>): string {
  const lines = Object.entries(members)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `        <rasd:${name}>${escaped(String(value))}</rasd:${name}>\n`);
  return `      <Item>\n${lines.join("")}      </Item>\n`;
}

function hardware({ cpus, memoryBytes, controller, network }: OvfMachine): string {
  return [
    item({
      AllocationUnits: "hertz * 10^6",
      ElementName: `${cpus} virtual CPU(s)`,
      InstanceID: 1,
      ResourceType: 3,
      VirtualQuantity: cpus,
    }),
    item({
      AllocationUnits: "byte * 2^20",
      ElementName: "memory",
      InstanceID: 2,
      ResourceType: 4,
      VirtualQuantity: Math.ceil(memoryBytes / 2 ** 20),
    }),
    item({
      Address: 0,
      ElementName: controller.name,
      InstanceID: 3,
      ResourceSubType: controller.subType,
      ResourceType: controller.resourceType,
    }),
    item({
      AddressOnParent: 0,
      ElementName: "disk",
      HostResource: "ovf:/disk/disk1",
      InstanceID: 4,
      Parent: 3,
      ResourceType: 17,
    }),
    item({
      AddressOnParent: 1,
      AutomaticAllocation: "true",
      Connection: "network",
      ElementName: "network card",
      InstanceID: 5,
      ResourceSubType: network.subType,
      ResourceType: 10,
    }),
  ].join("");
}

const DISK_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";

/** One machine with one disk and one network card. Equal machines give equal texts. */
export function encodeOvf(machine: OvfMachine): string {
  const { name, uuid, diskBytes, populatedBytes, file } = machine;
  const id = escaped(name);
  return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <References>
    <File ovf:href="${escaped(file.name)}" ovf:id="file1" ovf:size="${file.sizeBytes}"/>
  </References>
  <DiskSection>
    <Info>The disks of the machine</Info>
    <Disk ovf:capacity="${diskBytes}" ovf:capacityAllocationUnits="byte" ovf:diskId="disk1" ovf:fileRef="file1" ovf:format="${DISK_FORMAT}" ovf:populatedSize="${populatedBytes}"/>
  </DiskSection>
  <NetworkSection>
    <Info>The networks of the machine</Info>
    <Network ovf:name="network">
      <Description>The network of the receiving cloud</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="${id}">
    <Info>A machine exported by Tessera</Info>
    <Name>${id}</Name>
    <OperatingSystemSection ovf:id="101">
      <Info>Linux, 64 bit</Info>
      <Description>Linux</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>One disk, bootable by UEFI and by BIOS</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>${uuid}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>
      </System>
${hardware(machine)}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`;
}
