/** Values of core's words that the tests of this room print. */
import type { AgentInfo, MigrationStatus, Output } from "#api";
import {
  referenceOf,
  type Appliance,
  type Component,
  type ComponentKind,
  type Digest,
  type ErrorReport,
  type Machine,
  type Offer,
  type Plan,
  type SignedReceipt,
} from "#core";

export const MIGRATION = "1b4e28ba-2fa1-41d2-883f-0016d3cca427";
export const UUID = "6fa459ea-ee8a-4ca4-894e-db77e160355e";
const AT_MS = Date.UTC(2026, 10, 22, 12, 0, 0);

export function digestOf(digit: string): Digest {
  return `sha256:${digit.repeat(64)}`;
}

function component(
  digit: string,
  kind: ComponentKind,
  name: string,
  version: string,
  sizeBytes: number,
): Component {
  return {
    id: digestOf(digit),
    sizeBytes,
    fragments: { digest: digestOf("e"), sizeBytes: 100 },
    manifest: { digest: digestOf("f"), sizeBytes: 500 },
    description: {
      kind,
      name,
      version,
      architecture: "amd64",
      packages: [{ name, version, architecture: "amd64" }],
      provides: [{ type: "os", name: "debian-12" }],
      requires: [],
      instancePaths: [],
      ...(kind === "kernel" ? { kernelRelease: "6.1.0-32-cloud-amd64" } : {}),
    },
  };
}

export const KERNEL = component("1", "kernel", "debian-cloud", "6.1.129-1", 62_100_000);
export const OS = component("2", "os", "debian-12", "12.8", 240_000_000);
export const NGINX = component("3", "program", "nginx", "1.22.1-9", 4_500_000);

export const APPLIANCE: Appliance = {
  name: "web",
  digest: digestOf("a"),
  kernel: referenceOf(KERNEL),
  os: referenceOf(OS),
  programs: [referenceOf(NGINX)],
  resources: {
    cpus: 1,
    memoryBytes: 512 * 2 ** 20,
    dataBytes: 2 ** 30,
    ports: [{ name: "http", guest: 80 }],
  },
  serviceLevel: { clouds: [], regions: ["eu"], priority: 50, maySlowDown: false },
};

export const MACHINE: Machine = {
  uuid: UUID,
  name: "web-1",
  appliance: APPLIANCE,
  state: "running",
  created_ms: AT_MS,
  hostPorts: { http: 40080 },
};

export const PLAN: Plan = {
  machine: UUID,
  source: "messina",
  destination: "inquadro",
  mode: "cold",
  case: "average",
  components: [
    { component: referenceOf(KERNEL), held: true, bytes: 0 },
    { component: referenceOf(OS), held: true, bytes: 0 },
    {
      component: referenceOf(NGINX),
      held: false,
      bytes: 1_700_000,
      contents: { heldBytes: 900_000, patchedBytes: 1_200_000, missingBytes: 2_300_000 },
    },
  ],
  userData: { allocatedBytes: 30_000_000, bytes: 9_000_000 },
  totalBytes: 10_753_500,
  monolithicBytes: 210_000_000,
  rate: { bitsPerSecond: 50_000_000, from: "limit" },
  expected_ms: 1721,
  price: 0,
  notes: ["the machine is stopped while its user data moves"],
};

export const ADVICE: Output<"advice.make"> = {
  policy: "threshold",
  load: 0.85,
  sends: true,
  reason: "load 85%, high mark 80%",
  machines: [
    {
      machine: UUID,
      name: "web-1",
      to: "inquadro",
      reasons: ["load 85% here, 30% at inquadro with it"],
    },
    { machine: "db", name: "db", reasons: ["others are enough, or better ones to go"] },
  ],
};

export const RECEIPT: SignedReceipt = {
  receipt: {
    migration: MIGRATION,
    machine: UUID,
    appliance: digestOf("a"),
    source: "messina",
    destination: "inquadro",
    mode: "cold",
    case: "average",
    components: [
      { id: digestOf("1"), name: "debian-cloud", held: true, bytes: 0 },
      { id: digestOf("2"), name: "debian-12", held: true, bytes: 0 },
      {
        id: digestOf("3"),
        name: "nginx",
        held: false,
        bytes: 1_650_000,
        contents: { heldBytes: 900_000, patchedBytes: 1_200_000, missingBytes: 2_300_000 },
        sources: { messina: 1_000_000, catania: 650_000 },
      },
    ],
    userData: {
      digest: digestOf("d"),
      sizeBytes: 2 ** 30,
      allocatedBytes: 30_000_000,
      bytes: 9_100_000,
    },
    encodings: {
      plain: { rawBytes: 1_000_000, wireBytes: 1_000_000 },
      "solid-19": { rawBytes: 3_500_000, wireBytes: 650_000 },
    },
    wireBytes: 10_800_000,
    phases_ms: {
      negotiate: 420,
      components: 1900,
      compose: 800,
      stop: 3100,
      userData: 1500,
      boot: 21_400,
    },
    downtime_ms: 23_700,
    stop: "graceful",
    started_ms: AT_MS,
    ended_ms: AT_MS + 29_120,
  },
  signatures: { messina: "c2lnbmVk", inquadro: "c2lnbmVk" },
};

export const STATUS: MigrationStatus = {
  migration: MIGRATION,
  machine: UUID,
  machineName: "web-1",
  role: "source",
  peer: "inquadro",
  state: "completed",
  outcome: "completed",
  started_ms: AT_MS,
  ended_ms: AT_MS + 29_120,
  streams: [],
  receipt: RECEIPT,
  journal: [
    { seq: 1, at_ms: AT_MS, state: "proposed", event: "start" },
    { seq: 2, at_ms: AT_MS + 420, state: "serving", event: "peer-accepted", detail: "1 missing" },
  ],
};

export const OFFER: Offer = {
  cloud: "inquadro",
  region: "eu",
  cpusFree: 6,
  memoryFreeBytes: 8_000_000_000,
  storageFreeBytes: 120_000_000_000,
  accelerators: ["tcg"],
  cpuModels: ["qemu64"],
  formats: ["raw", "qcow2"],
  architectures: ["amd64"],
  linkRate: 50_000_000,
  egressPricePerGB: 0.09,
  receives: true,
  repository: { components: 2, heads: ["1111111111111111", "2222222222222222"], complete: true },
  seq: 7,
  expires_ms: AT_MS + 60_000,
};

export const CLOUD = {
  cloud: "inquadro",
  jid: "agent@inquadro.example/agent",
  seen_ms: AT_MS,
  offer: OFFER,
};

export const CARD = {
  cloud: "inquadro",
  domain: "inquadro.example",
  jid: "agent@inquadro.example",
  agentKey: "MCowBQYDK2VwAyEA",
};

export const INFO: AgentInfo = {
  cloud: "messina",
  domain: "messina.example",
  version: "0.1.0",
  directory: "/var/lib/tessera",
  card: { ...CARD, cloud: "messina", domain: "messina.example", jid: "agent@messina.example" },
  fingerprint: digestOf("b"),
  transport: { state: "online" },
  dataPort: 7443,
  accelerator: "tcg",
  started_ms: AT_MS,
};

export const ERROR: ErrorReport = {
  code: "federation.unreachable",
  fault: "peer",
  message: "inquadro does not answer",
  subject: "inquadro",
  remedy: "wait, or choose another cloud",
};

const part = (kind: "os" | "program", digit: string, bytes: number) => ({
  kind,
  name: kind,
  version: "1",
  packages: 3,
  files: 9,
  bytes,
  id: `sha256:${digit.repeat(64)}` as const,
  held: kind === "os",
});

/** A dry run. */
export const IMPORT: Output<"machine.import"> = {
  survey: {
    description: {
      kind: "ovf",
      name: "old-1",
      cpus: 2,
      memoryBytes: 2 ** 30,
      notCarried: ["network card E1000"],
    },
    format: "qcow2",
    sizeBytes: 2 ** 31,
    allocatedBytes: 377_708_544,
    distribution: "debian-12",
    kernelRelease: "6.1.0-1-amd64",
    volumes: [
      { number: 1, sizeBytes: 2 ** 30, kind: "ext4", mountedAt: "/" },
      { number: 2, sizeBytes: 2 ** 29, kind: "swap" },
    ],
    leftFstab: ["UUID=1234 none swap sw 0 0"],
    classes: {
      kernel: { files: 1, bytes: 1e8 },
      os: { files: 2, bytes: 2e8 },
      program: { files: 3, bytes: 1e7 },
      userData: { files: 4, bytes: 30_556_814 },
    },
    packages: { count: 133, bytes: 314_563_013, intactBytes: 298_834_862 },
    parts: [part("os", "a", 2e8), part("program", "b", 1e7)],
  },
  moves: {
    imageBytes: 377_708_544,
    worstBytes: 240_556_814,
    bestBytes: 30_556_814,
    clouds: [{ cloud: "roma", held: 2, bytes: 30_556_814 }],
  },
};

/** What is added when it is none. */
export const IMPORTED: Partial<Output<"machine.import">> = {
  machine: MACHINE,
  proof: {
    entries: 11_806,
    bytes: 346_080_261,
    imageDigest: `sha256:${"c".repeat(64)}`,
    composedDigest: `sha256:${"c".repeat(64)}`,
    added: ["etc/systemd/system/tessera-ready.service"],
  },
};

export const EXPORT: Output<"machine.export"> = {
  survey: {
    entries: 11_868,
    contentBytes: 378_386_809,
    rootBytes: 2 ** 31,
    diskBytes: 2 ** 31 + 2 ** 26,
    kernelRelease: "6.1.0-1-amd64",
    kernel: "made",
    fileSystem: UUID,
    added: ["boot/tessera", "boot/tessera/grub.cfg"],
    changed: ["etc/fstab"],
    leftOut: ["etc/systemd/system/tessera-ready.service"],
    leftFstab: ["UUID=1234 none swap sw 0 0"],
    controller: "IDE",
    network: "VMXNET3",
  },
};

/** What is added when it is none. */
export const EXPORTED: Partial<Output<"machine.export">> = {
  file: { path: "/srv/web-1.qcow2", sizeBytes: 4e8, allocatedBytes: 4e8 },
  proof: {
    entries: 11_860,
    bytes: 378_000_000,
    machineDigest: digestOf("d"),
    exportedDigest: digestOf("d"),
  },
};
