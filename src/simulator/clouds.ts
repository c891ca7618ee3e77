/** The clouds of a run: what the scenario gives them, and how they are. Arrays by cloud. */
import type { CloudGroup, Scenario } from "./contract.ts";

export class Clouds {
  readonly count: number;
  readonly groups: readonly CloudGroup[];
  readonly names: readonly string[];
  readonly regions: Int32Array;
  readonly cpus: Float64Array;
  readonly memoryFreeBytes: Float64Array;
  readonly egressPricePerGB: Float64Array;
  readonly uplink_bps: Float64Array;
  readonly downlink_bps: Float64Array;
  /** CPUs in demand. */
  readonly load: Float64Array;
  /** Takes machines: has joined, does not leave, has not failed. */
  readonly open: Uint8Array;
  /** Its agent answers. */
  readonly up: Uint8Array;

  readonly #pairRates: readonly (readonly number[])[];
  readonly #roundTrips_s: readonly (readonly number[])[];
  readonly #roundTrip_s: number;

  constructor({ clouds, network }: Scenario) {
    this.groups = clouds.flatMap((group) => Array<CloudGroup>(group.count).fill(group));
    this.names = clouds.flatMap(({ name, count }) =>
      Array.from({ length: count }, (_, index) => (count === 1 ? name : `${name}-${index + 1}`)),
    );
    this.count = this.groups.length;
    const places = new Map(network.regions.map((region, index) => [region, index]));
    this.regions = Int32Array.from(this.groups, ({ region }) => places.get(region) ?? 0);
    const of = (value: (group: CloudGroup) => number): Float64Array =>
      Float64Array.from(this.groups, value);
    this.cpus = of((group) => group.cpus);
    this.memoryFreeBytes = of((group) => group.memoryBytes);
    this.egressPricePerGB = of((group) => group.egressPricePerGB);
    this.uplink_bps = of((group) => group.uplink_bps);
    this.downlink_bps = of((group) => group.downlink_bps);
    this.load = new Float64Array(this.count);
    this.open = Uint8Array.from(this.groups, ({ joins_s }) => (joins_s === 0 ? 1 : 0));
    this.up = this.open.slice();
    this.#pairRates = network.pairRates;
    this.#roundTrips_s = network.pairRoundTrips_s;
    this.#roundTrip_s = network.roundTrip_s;
  }

  /** What one flow can reach at most, whoever else is on the links. */
  pairRate(from: number, to: number): number {
    const row = this.#pairRates[this.regions[from] as number];
    return row?.[this.regions[to] as number] ?? Number.POSITIVE_INFINITY;
  }

  roundTrip_s(from: number, to: number): number {
    const row = this.#roundTrips_s[this.regions[from] as number];
    return row?.[this.regions[to] as number] ?? this.#roundTrip_s;
  }

  /** With the links idle. */
  rate_bps(from: number, to: number): number {
    return Math.min(
      this.uplink_bps[from] as number,
      this.downlink_bps[to] as number,
      this.pairRate(from, to),
    );
  }
}
