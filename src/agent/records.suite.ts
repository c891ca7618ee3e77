/** Arbitrary records for the property tests of this room. */
import * as fc from "fast-check";
import type { Appliance, ComponentReference, Digest } from "#core";
import {
  DESTINATION,
  HOT_DESTINATION,
  HOT_SOURCE,
  SOURCE,
  type DestinationPhase,
  type HotDestinationPhase,
  type HotSourcePhase,
  type SourcePhase,
} from "#migration";
import type {
  DestinationRecord,
  HotDestinationRecord,
  HotSourceRecord,
  SourceRecord,
} from "./migrations/record.ts";

const HEX = "0123456789abcdef";
const uuid = fc.uuid();
const text = fc.string({ maxLength: 40 });
const bytes = fc.nat();
const time = fc.double({ min: 0, max: 1e15, noNaN: true }).map((value) => value + 0);

const digest = fc
  .string({ unit: fc.constantFrom(...HEX.split("")), minLength: 64, maxLength: 64 })
  .map((hex): Digest => `sha256:${hex}`);

const blob = fc.record({ digest, sizeBytes: bytes });

const reference: fc.Arbitrary<ComponentReference> = fc.record({
  id: digest,
  kind: fc.constantFrom("kernel", "os", "program"),
  name: text,
  version: text,
  sizeBytes: bytes,
  manifest: blob,
});

export const appliances: fc.Arbitrary<Appliance> = fc.record({
  name: text,
  digest,
  kernel: reference,
  os: reference,
  programs: fc.array(reference, { maxLength: 3 }),
  resources: fc.record({
    cpus: fc.integer({ min: 1, max: 255 }),
    memoryBytes: bytes,
    dataBytes: bytes,
    ports: fc.constant([{ name: "http", guest: 80 }]),
  }),
  serviceLevel: fc.record({
    clouds: fc.array(text, { maxLength: 2 }),
    regions: fc.constant([]),
    priority: fc.integer({ min: 0, max: 100 }),
    maySlowDown: fc.boolean(),
  }),
});

const error = fc.record(
  {
    code: fc.constant("migration.cancelled"),
    fault: fc.constantFrom("misuse" as const, "peer" as const, "bug" as const),
    message: fc.string(),
    subject: text,
  },
  { requiredKeys: ["code", "fault", "message"] },
);

const common = {
  id: uuid,
  machine: fc.record({ uuid, name: text, created_ms: time }),
  appliance: appliances,
  peer: text,
  wasRunning: fc.boolean(),
  started_ms: time,
  settled: fc.boolean(),
};

const endpoint = fc.record({
  candidates: fc.array(
    fc.record({ host: fc.string({ minLength: 1 }), port: fc.integer({ min: 1, max: 65535 }) }),
    { minLength: 1, maxLength: 3 },
  ),
  certificate: digest,
});

const how = fc.constantFrom("graceful" as const, "forced" as const, "was-stopped" as const);

export const sourceRecords: fc.Arbitrary<SourceRecord> = fc
  .record(
    {
      ...common,
      mode: fc.constant("cold" as const),
      phase: fc.constantFrom(...(Object.keys(SOURCE) as SourcePhase[])),
      composed: digest,
      handOver: text,
      peerCertificate: digest,
      bytesPerSecondMax: fc.double({ min: 1, max: 1e12, noNaN: true }),
      userData: fc.record({ sizeBytes: bytes, allocatedBytes: bytes }),
      negotiate_ms: time,
      stop: fc.record({ how, took_ms: time, off_ms: time }),
      ended_ms: time,
      error,
    },
    {
      requiredKeys: [
        ...(Object.keys(common) as (keyof typeof common)[]),
        "mode",
        "phase",
        "composed",
        "handOver",
        "peerCertificate",
        "userData",
      ],
    },
  )
  .map((record) => ({ ...record, role: "source", plan: planOf(record.machine.uuid) }));

function planOf(machine: string): SourceRecord["plan"] {
  return {
    machine,
    source: "a",
    destination: "b",
    mode: "cold",
    case: "worst",
    components: [],
    userData: { allocatedBytes: 1, bytes: 1 },
    totalBytes: 2,
    monolithicBytes: 3,
    rate: { bitsPerSecond: 1e6, from: "limit" },
    expected_ms: 5,
    price: 0,
    notes: [],
  };
}

const hot = fc.record({
  memory: fc.constantFrom("precopy" as const, "postcopy" as const, "auto" as const),
  storage: fc.constantFrom("hybrid" as const, "push" as const, "pull" as const, "shared" as const),
  postcopy: fc.boolean(),
  description: fc.record({
    hypervisor: text,
    version: fc.constantFrom("7.2", "7.2.22"),
    architecture: text,
    machineType: text,
    cpuModel: text,
    accelerator: text,
    cpus: fc.integer({ min: 0, max: 1024 }),
    ramBytes: bytes,
    devices: fc.array(text, { maxLength: 3 }),
    formats: fc.array(text, { maxLength: 2 }),
  }),
});

const paused = fc.record({
  method: fc.constantFrom("precopy" as const, "postcopy" as const),
  passes: bytes,
  componentPages: bytes,
  repeatedPages: bytes,
});

/** Those of a cold migration, with what a hot one has in their place. */
export const hotSourceRecords: fc.Arbitrary<HotSourceRecord> = fc
  .tuple(
    sourceRecords,
    hot,
    fc.constantFrom(...(Object.keys(HOT_SOURCE) as HotSourcePhase[])),
    fc.record({ switch: paused, off_ms: time }, { requiredKeys: [] }),
  )
  .map(([{ stop: _stop, ...record }, terms, phase, more]) => ({
    ...record,
    mode: "hot",
    hot: terms,
    phase,
    ...more,
  }));

export const destinationRecords: fc.Arbitrary<DestinationRecord> = fc
  .record(
    {
      ...common,
      mode: fc.constant("cold" as const),
      phase: fc.constantFrom(...(Object.keys(DESTINATION) as DestinationPhase[])),
      composed: digest,
      handOverDigest: digest,
      data: fc.record({ endpoint, token: text }),
      held: fc.array(digest, { maxLength: 3 }),
      componentBytes: fc.dictionary(digest, bytes, { maxKeys: 3 }),
      userDataSizeBytes: bytes,
      wireBytes: bytes,
      took_ms: fc.record({ components: time, boot: time }, { requiredKeys: [] }),
      resumeToken: text,
      userData: fc.record({ digest, sizeBytes: bytes, allocatedBytes: bytes, wireBytes: bytes }),
      stop: how,
      off_ms: time,
      on_ms: time,
      error,
    },
    {
      requiredKeys: [
        ...(Object.keys(common) as (keyof typeof common)[]),
        "mode",
        "phase",
        "composed",
        "handOverDigest",
        "data",
        "held",
        "componentBytes",
        "userDataSizeBytes",
        "wireBytes",
        "took_ms",
      ],
    },
  )
  .map((record) => ({ ...record, role: "destination" }));

export const hotDestinationRecords: fc.Arbitrary<HotDestinationRecord> = fc
  .tuple(
    destinationRecords,
    hot,
    fc.constantFrom(...(Object.keys(HOT_DESTINATION) as HotDestinationPhase[])),
    fc.record(
      {
        switch: paused,
        ahead: fc.record({ passes: bytes, bytes }),
        staleBytes: bytes,
        memory: fc.record({ rawBytes: bytes, wireBytes: bytes }),
        armed_ms: time,
        token_ms: time,
        restarted: fc.boolean(),
      },
      { requiredKeys: [] },
    ),
  )
  .map(([{ stop: _stop, userData: _userData, ...record }, terms, phase, more]) => ({
    ...record,
    mode: "hot",
    hot: terms,
    phase,
    ...more,
  }));
