import {
  caseOf,
  componentsOf,
  type Appliance,
  type Digest,
  type MigrationMode,
  type Plan,
  type PlannedComponent,
} from "#core";

/** Bytes of frames, TLS records and negotiation beside the payload, as a share of it. */
const OVERHEAD = 0.005;

export interface PlanInput {
  readonly machine: string;
  readonly source: string;
  readonly destination: string;
  readonly mode: MigrationMode;
  readonly appliance: Appliance;
  /** Ids that the destination holds, as it confirmed itself. */
  readonly held: readonly Digest[];
  /** Compressed size over raw size by component id, from a sample: 0 to 1. */
  readonly ratios: ReadonlyMap<Digest, number>;
  readonly userData: { readonly allocatedBytes: number; readonly bytes: number };
  readonly rate: Plan["rate"];
  /** What the source pays for each gigabyte that leaves it. */
  readonly pricePerGB: number;
  readonly notes: readonly string[];
}

/** What a migration would move, component by component. Pure. */
export function makePlan(input: PlanInput): Plan {
  const held = new Set(input.held);
  const components = componentsOf(input.appliance).map((component): PlannedComponent => {
    const ratio = input.ratios.get(component.id) ?? 1;
    const isHeld = held.has(component.id);
    return { component, held: isHeld, bytes: isHeld ? 0 : Math.ceil(component.sizeBytes * ratio) };
  });
  const payload = components.reduce((sum, { bytes }) => sum + bytes, input.userData.bytes);
  const totalBytes = Math.ceil(payload * (1 + OVERHEAD));
  const { machine, source, destination, mode, userData, rate, notes } = input;
  return {
    machine,
    source,
    destination,
    mode,
    case: caseOf(components),
    components,
    userData,
    totalBytes,
    monolithicBytes: monolithicBytes(input),
    rate,
    expected_ms: Math.ceil((totalBytes * 8 * 1000) / rate.bitsPerSecond),
    price: (totalBytes / 1e9) * input.pricePerGB,
    notes,
  };
}

/** The same machine as one compressed block: every component and the user data. */
function monolithicBytes(input: PlanInput): number {
  const components = componentsOf(input.appliance);
  return components.reduce(
    (sum, { id, sizeBytes }) => sum + Math.ceil(sizeBytes * (input.ratios.get(id) ?? 1)),
    input.userData.bytes,
  );
}
