/** Core's words as schemas. Each is checked at compile time against the type that it mirrors. */
import type * as core from "#core";
import * as z from "zod";
import { bytes, count, digest, list, milliseconds, mirrors, port, rate, text } from "./scalars.ts";

export const componentKind = mirrors<core.ComponentKind>()(z.enum(["kernel", "os", "program"]));

export const blobReference = mirrors<core.BlobReference>()(z.object({ digest, sizeBytes: bytes }));

export const packageReference = mirrors<core.PackageReference>()(
  z.object({ name: text, version: text, architecture: text }),
);

const constraintShape = z.object({
  type: z.enum(["soname", "package", "user", "os"]),
  name: text,
  version: text.exactOptional(),
  relation: z.enum(["<<", "<=", "=", ">=", ">>"]).exactOptional(),
  get alternatives() {
    return list(constraintShape).exactOptional();
  },
});
export const constraint = mirrors<core.Constraint>()(constraintShape);

export const fragment = mirrors<core.Fragment>()(z.object({ path: text, text }));

export const componentDescription = mirrors<core.ComponentDescription>()(
  z.object({
    kind: componentKind,
    name: text,
    version: text,
    architecture: text,
    packages: list(packageReference),
    provides: list(constraint),
    requires: list(constraint),
    instancePaths: list(text),
    recipe: digest.exactOptional(),
    kernelRelease: text.exactOptional(),
  }),
);

export const component = mirrors<core.Component>()(
  z.object({
    id: digest,
    sizeBytes: bytes,
    fragments: blobReference,
    manifest: blobReference,
    description: componentDescription,
  }),
);

export const componentReference = mirrors<core.ComponentReference>()(
  z.object({
    id: digest,
    kind: componentKind,
    name: text,
    version: text,
    sizeBytes: bytes,
    manifest: blobReference,
  }),
);

const portForward = mirrors<core.PortForward>()(
  z.object({ name: text, guest: port, host: z.int().min(0).max(65535).exactOptional() }),
);

const resources = mirrors<core.Resources>()(
  z.object({
    cpus: z.int().min(1).max(255),
    memoryBytes: bytes,
    dataBytes: bytes,
    ports: list(portForward),
  }),
);

const serviceLevel = mirrors<core.ServiceLevel>()(
  z.object({
    downtimeMax_ms: milliseconds.exactOptional(),
    clouds: list(text),
    regions: list(text),
    priority: z.number().min(0).max(100),
    maySlowDown: z.boolean(),
  }),
);

export const appliance = mirrors<core.Appliance>()(
  z.object({
    name: text,
    digest,
    kernel: componentReference,
    os: componentReference,
    programs: list(componentReference),
    resources,
    serviceLevel,
  }),
);

export const diskFormat = mirrors<core.DiskFormat>()(
  z.enum(["raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx"]),
);

export const machine = mirrors<core.Machine>()(
  z.object({
    uuid: text,
    name: text,
    appliance,
    state: z.enum(["stopped", "running", "incoming", "outgoing", "gone", "failed"]),
    created_ms: milliseconds,
    migration: text.exactOptional(),
    hostPorts: z.record(text, z.int().min(0).max(65535)),
    format: diskFormat.exactOptional(),
    cloud: text.exactOptional(),
  }),
);

export const offer = mirrors<core.Offer>()(
  z.object({
    cloud: text,
    region: text,
    cpus: z.number().positive().exactOptional(),
    load: z.number().min(0).exactOptional(),
    cpusFree: z.number().min(0),
    memoryFreeBytes: bytes,
    storageFreeBytes: bytes,
    accelerators: list(text),
    cpuModels: list(text),
    formats: list(text),
    architectures: list(text),
    linkRate: rate.exactOptional(),
    egressPricePerGB: z.number().min(0),
    receives: z.boolean(),
    repository: z.object({ components: count, heads: list(text), complete: z.boolean() }),
    seq: count,
    expires_ms: milliseconds,
  }),
);

const migrationCase = mirrors<core.MigrationCase>()(z.enum(["worst", "average", "best"]));
export const migrationMode = mirrors<core.MigrationMode>()(z.enum(["cold", "warm", "hot"]));

export const memoryMethod = mirrors<core.MemoryMethod>()(z.enum(["precopy", "postcopy", "auto"]));
export const storageMethod = mirrors<core.StorageMethod>()(
  z.enum(["hybrid", "push", "pull", "shared"]),
);

const contentShares = mirrors<core.ContentShares>()(
  z.object({ heldBytes: bytes, patchedBytes: bytes, missingBytes: bytes }),
);

const memoryForecast = mirrors<core.MemoryForecast>()(
  z.object({
    method: z.enum(["precopy", "slowed", "postcopy", "none"]),
    passes: count,
    memoryBytes: bytes,
    wireBytes: bytes,
    total_ms: milliseconds,
    pause_ms: milliseconds,
    follows_ms: milliseconds,
    slowedPercent: z.number().min(0).max(99),
    givenUp: z.enum(["outrun", "link-idle", "overdue"]).exactOptional(),
  }),
);

export const plan = mirrors<core.Plan>()(
  z.object({
    machine: text,
    source: text,
    destination: text,
    mode: migrationMode,
    case: migrationCase,
    components: list(
      z.object({
        component: componentReference,
        held: z.boolean(),
        bytes,
        comesWith: text.exactOptional(),
        contents: contentShares.exactOptional(),
      }),
    ),
    userData: z.object({
      allocatedBytes: bytes,
      bytes,
      lineage: z.boolean().exactOptional(),
    }),
    totalBytes: bytes,
    monolithicBytes: bytes,
    rate: z.object({
      bitsPerSecond: rate,
      from: z.enum(["limit", "measured", "offer", "assumed"]),
    }),
    expected_ms: milliseconds,
    hot: z
      .object({
        memory: memoryMethod,
        storage: storageMethod,
        memoryBytes: bytes,
        forecast: memoryForecast.exactOptional(),
      })
      .exactOptional(),
    format: diskFormat.exactOptional(),
    price: z.number().min(0),
    notes: list(text),
  }),
);

export const phase = mirrors<core.Phase>()(
  z.enum(["negotiate", "components", "compose", "stop", "userData", "memory", "switch", "boot"]),
);

export const hotReport = mirrors<core.HotReport>()(
  z.object({
    memory: z.object({
      method: z.enum(["precopy", "postcopy"]),
      passes: count,
      rawBytes: bytes,
      wireBytes: bytes,
      componentPages: count,
      repeatedPages: count,
    }),
    storage: z.object({
      method: storageMethod,
      passes: count,
      aheadBytes: bytes,
      staleBytes: bytes,
      demandedBytes: bytes,
      backgroundBytes: bytes,
      supersededBytes: bytes,
      zeroBytes: bytes,
    }),
    pause_ms: z.object({ status: milliseconds, token: milliseconds, resume: milliseconds }),
    fill_ms: milliseconds,
    restarted: z.boolean().exactOptional(),
  }),
);

export const signedReceipt = mirrors<core.SignedReceipt>()(
  z.object({
    receipt: z.object({
      migration: text,
      machine: text,
      appliance: digest,
      source: text,
      destination: text,
      mode: migrationMode,
      case: migrationCase,
      components: list(
        z.object({
          id: digest,
          name: text,
          held: z.boolean(),
          bytes,
          contents: contentShares.exactOptional(),
          sources: z.record(text, bytes).exactOptional(),
        }),
      ),
      userData: z.object({
        digest: digest.exactOptional(),
        sizeBytes: bytes,
        allocatedBytes: bytes,
        bytes,
        lineage: z.boolean().exactOptional(),
      }),
      encodings: z.record(text, z.object({ rawBytes: bytes, wireBytes: bytes })).exactOptional(),
      wireBytes: bytes,
      phases_ms: z.object({
        negotiate: milliseconds,
        components: milliseconds,
        compose: milliseconds,
        stop: milliseconds,
        userData: milliseconds,
        memory: milliseconds.exactOptional(),
        switch: milliseconds.exactOptional(),
        boot: milliseconds,
      }),
      downtime_ms: milliseconds,
      stop: z.enum(["graceful", "forced", "was-stopped", "none"]),
      hot: hotReport.exactOptional(),
      started_ms: milliseconds,
      ended_ms: milliseconds,
    }),
    signatures: z.record(text, text),
  }),
);

export const errorReport = mirrors<core.ErrorReport>()(
  z.object({
    code: z.string().regex(/^[a-z][a-z0-9-]*(\.[a-z0-9-]+)+$/),
    fault: z.enum(["bug", "misuse", "peer", "corrupt", "environment"]),
    message: text,
    subject: text.exactOptional(),
    remedy: text.exactOptional(),
  }),
);
