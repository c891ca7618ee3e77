/**
 * The same migrations in the simulator: two clouds and a link of the same rate, the components as the
 * real source planned them, and as user data what the machine had downloaded: a plan is made while much
 * of that is still in the guest's memory, and the guest writes it to its disk when it stops. Which components are missing is the simulator's own
 * finding, as one migration leaves to the next what it brought.
 */
import { Run, parseScenario, type NamedMigration } from "#simulator";
import { rowOf, type Row } from "../rows.ts";
import type { Point } from "./experiment.ts";
import type { KeptRun } from "./kept.ts";

export interface Compared {
  readonly point: Point;
  readonly simulated: NamedMigration;
  /** For components and user data. */
  readonly transfer_s: number;
  readonly realTransfer_s: number;
}

const HOUR_s = 3600;
/** A full TCP segment in an Ethernet frame: the link counts 66 bytes of headers besides. */
const SEGMENT_BYTES = 1448;
const PAYLOAD_SHARE = SEGMENT_BYTES / (SEGMENT_BYTES + 66);

/** @throws where the simulator finds another case than the real system */
export function simulate(run: KeptRun): Compared[] {
  const scenario = parseScenario(JSON.stringify(scenarioOf(run)), "figure5.yaml");
  const [policy] = scenario.policies;
  if (policy === undefined) throw new Error("a scenario without a policy");
  const clock = new Map<string, number>();
  const simulation = new Run(scenario, policy, {
    onPhase: ({ named }, phase) => clock.set(`${named} ${phase}`, simulation.now_s),
  });
  while (simulation.advance(1000));
  const { named } = simulation.result();
  return run.points.map((point, index) => {
    const simulated = named.find(({ machine }) => machine === point.leg);
    if (simulated?.case !== point.case) {
      throw new Error(`${point.leg} is the ${simulated?.case ?? "missing"} case in the simulator`);
    }
    const between = (from: string, to: string): number =>
      (clock.get(`${index} ${to}`) ?? Number.NaN) - (clock.get(`${index} ${from}`) ?? Number.NaN);
    const { components = 0, userData = 0 } = point.seconds;
    return {
      point,
      simulated,
      transfer_s: between("accepted", "composing") + between("receiving", "received"),
      realTransfer_s: components + userData,
    };
  });
}

function scenarioOf({ points, bitsPerSecond }: KeptRun) {
  const bytes = points.reduce((all, { wireBytes }) => all + wireBytes, 0);
  // Far enough from each other that one has ended when the next begins.
  const apart_s = HOUR_s + (2 * bytes * 8) / bitsPerSecond;
  const cloud = { uplink: `${Math.floor(bitsPerSecond * PAYLOAD_SHARE)}bit/s` };
  return {
    name: "figure5",
    duration: seconds(apart_s * (points.length + 1)),
    network: { roundTrip: "1ms" },
    catalogue: {
      components: componentsOf(points),
      named: points.map(({ leg, plan }) => ({
        name: leg,
        components: plan.components.map(({ component }) => component.name),
      })),
    },
    clouds: [
      { name: "messina", ...cloud },
      { name: "inquadro", ...cloud, holds: heldBefore(points) },
    ],
    machines: {
      userData: { ratio: 1 },
      named: points.map(({ leg, downloadedBytes }) => ({
        name: leg,
        cloud: "messina",
        appliance: leg,
        userData: downloadedBytes,
      })),
      ...spent(points),
    },
    migrations: {
      named: points.map(({ leg }, index) => ({
        machine: leg,
        to: "inquadro",
        at: seconds(apart_s * index),
      })),
    },
    policies: [{ transfer: "cic" }],
  };
}

const seconds = (value: number): string => `${value.toFixed(3)}s`;

/** Each component with what it took on the wire where it was missing, by the real plan. */
function componentsOf(points: readonly Point[]) {
  const all = new Map<string, object>();
  for (const { component, held, bytes } of points.flatMap(({ plan }) => plan.components)) {
    const { name, kind, sizeBytes } = component;
    if (all.has(name) && held) continue;
    const ratio = held ? {} : { ratio: Math.min(1, bytes / sizeBytes) };
    all.set(name, { name, kind, size: sizeBytes, ...ratio });
  }
  return [...all.values()];
}

/** What the destination held already when it was first asked about it. */
function heldBefore(points: readonly Point[]): string[] {
  const first = new Map<string, boolean>();
  for (const { component, held } of points.flatMap(({ plan }) => plan.components)) {
    if (!first.has(component.name)) first.set(component.name, held);
  }
  return [...first].flatMap(([name, held]) => (held ? [name] : []));
}

/** What does not depend on the link is as it was in the run. */
function spent(points: readonly Point[]) {
  const mean = (phase: string): string =>
    seconds(sum(points, (point) => point.seconds[phase] ?? 0) / Math.max(1, points.length));
  return { stop: mean("stop"), compose: mean("compose"), start: "0s", boot: mean("boot") };
}

function sum<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}

export function comparedRows(compared: readonly Compared[], how: string): Row[] {
  const target = "0.9 to 1.1";
  const what = `simulator against the real migrations, sum over ${compared.length}`;
  return [
    rowOf("sim-vs-real", {
      ours: sum(compared, ({ transfer_s }) => transfer_s),
      peer: sum(compared, ({ realTransfer_s }) => realTransfer_s),
      target,
      unit: "s",
      how: `${what}: transfer of components and user data; peer: ${how}`,
    }),
    rowOf("sim-vs-real-bytes", {
      ours: sum(compared, ({ simulated }) => simulated.movedBytes),
      peer: sum(compared, ({ point }) => point.wireBytes),
      target,
      unit: "bytes",
      how: `${what}: bytes on the data plane; peer: ${how}`,
    }),
  ];
}
