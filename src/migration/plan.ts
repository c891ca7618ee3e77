import {
  caseOf,
  componentsOf,
  type Appliance,
  type ComponentReference,
  type ContentShares,
  type Digest,
  type MigrationMode,
  type Plan,
  type PlannedComponent,
} from "#core";

/** Bytes of frames, TLS records and negotiation beside the payload, as a share of it. */
export const OVERHEAD = 0.005;

/** What the fetch of one component would move. */
export interface ComponentMove {
  /** On the wire. */
  readonly bytes: number;
  readonly contents: ContentShares;
}

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
  /** What components that are not held would move; absent ones move compressed as a whole. */
  readonly moves?: ReadonlyMap<Digest, ComponentMove>;
  readonly userData: Plan["userData"];
  readonly rate: Plan["rate"];
  readonly hot?: NonNullable<Plan["hot"]>;
  /** What the source pays for each gigabyte that leaves it. */
  readonly pricePerGB: number;
  readonly notes: readonly string[];
}

/** What a migration would move, component by component. Pure. */
export function makePlan(input: PlanInput): Plan {
  const held = new Set(input.held);
  const components = componentsOf(input.appliance).map((component) =>
    held.has(component.id) ? { component, held: true, bytes: 0 } : missing(component, input),
  );
  const first = input.userData.bytes + memoryBytes(input);
  const payload = components.reduce((sum, { bytes }) => sum + bytes, first);
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
    expected_ms: expectedOf(totalBytes, input),
    ...(input.hot === undefined ? {} : { hot: input.hot }),
    price: (totalBytes / 1e9) * input.pricePerGB,
    notes,
  };
}

/** What is expected of memory on the wire. */
function memoryBytes({ hot }: PlanInput): number {
  return hot?.forecast?.wireBytes ?? 0;
}

/** Memory may take longer than the link would need: its coder has a pace, and passes repeat. */
function expectedOf(totalBytes: number, { hot, rate }: PlanInput): number {
  const { wireBytes = 0, total_ms = 0 } = hot?.forecast ?? {};
  const others = Math.max(0, totalBytes - wireBytes);
  return Math.ceil((others * 8 * 1000) / rate.bitsPerSecond + total_ms);
}

function missing(component: ComponentReference, { ratios, moves }: PlanInput): PlannedComponent {
  const ratio = ratios.get(component.id) ?? 1;
  const move = moves?.get(component.id) ?? { bytes: Math.ceil(component.sizeBytes * ratio) };
  return { component, held: false, ...move };
}

/** The same machine as one compressed block: every component and the user data. */
function monolithicBytes(input: PlanInput): number {
  const components = componentsOf(input.appliance);
  return components.reduce(
    (sum, { id, sizeBytes }) => sum + Math.ceil(sizeBytes * (input.ratios.get(id) ?? 1)),
    input.userData.bytes,
  );
}
