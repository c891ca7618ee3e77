/**
 * What goes into a simulation, what a placement policy sees and says, and what comes out. Clouds,
 * machines and components are numbered from 0; bulk data is in typed arrays, for scale.
 */
import type { ComponentKind, MemoryMethod, MigrationCase } from "#core";

/** A scenario as it was validated: all sizes in bytes, rates in bits per second, times in seconds. */
export interface Scenario {
  readonly name: string;
  readonly seed: number;
  readonly duration_s: number;
  /** Distance of the points of the series. */
  readonly sample_s: number;
  readonly network: NetworkSpec;
  readonly catalogue: CatalogueSpec;
  readonly clouds: readonly CloudGroup[];
  readonly machines: MachinesSpec;
  readonly migrations: MigrationsSpec;
  /** One run for each. */
  readonly policies: readonly PolicySpec[];
  /** Most bytes that a run may take, as estimated before it. */
  readonly memoryMaxBytes: number;
}

/** Flows share the uplinks and downlinks of clouds by max-min fairness; a pair bounds each flow. */
export interface NetworkSpec {
  /** Regions of the matrices, in order; empty where `pairRates` is. */
  readonly regions: readonly string[];
  /** Bits per second that one flow from region i to region j can reach; empty means no bound. */
  readonly pairRates: readonly (readonly number[])[];
  /** Round trips in seconds between regions i and j; empty means `roundTrip_s` everywhere. */
  readonly pairRoundTrips_s: readonly (readonly number[])[];
  readonly roundTrip_s: number;
  /** TCP's slow start: the rate of a flow begins at ten segments a round trip and doubles. */
  readonly rampUp: boolean;
}

/** One family of components, of which versions are released over time. */
export interface CatalogueComponent {
  readonly name: string;
  readonly kind: ComponentKind;
  readonly sizeBytes: number;
  /** Compressed size over raw size: 0 to 1. */
  readonly ratio: number;
  /** For programs: the OS families that it fits; absent means any. */
  readonly os?: readonly string[];
  /** How often it is chosen; absent means by its rank among its kind, with the Zipf exponent. */
  readonly weight?: number;
}

export interface CatalogueSpec {
  readonly components: readonly CatalogueComponent[];
  /** Named appliances of the scenario; where there are none, `appliances` are drawn. */
  readonly named: readonly NamedAppliance[];
  readonly appliances: number;
  /** Mean number of programs of a drawn appliance. */
  readonly programsMean: number;
  /** Exponent of the popularity of appliances and of programs. */
  readonly zipf: number;
  /** Mean time between two versions of a family; absent means that none is released. */
  readonly releaseEvery_s?: number;
  /** What the next version shares with a version, as parts of its raw bytes. */
  readonly similarity: {
    /** Contents that are equal. */
    readonly held: number;
    /** Contents that travel as patches against their old version. */
    readonly patched: number;
  };
}

export interface NamedAppliance {
  readonly name: string;
  /** Names of families, the kernel first, then the OS, then programs. */
  readonly components: readonly string[];
}

export type EvictionPolicy = "unlimited" | "lru" | "lfu" | "greedy-dual-size";

/** `count` clouds that are alike. Their names are the group's, followed by a number where several. */
export interface CloudGroup {
  readonly name: string;
  readonly count: number;
  readonly region: string;
  readonly uplink_bps: number;
  readonly downlink_bps: number;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly egressPricePerGB: number;
  readonly repository: {
    readonly policy: EvictionPolicy;
    /** Of components that no machine of the cloud uses; those in use are never evicted. */
    readonly capacityBytes: number;
  };
  /** Families held from the beginning (the first version), besides those of the cloud's machines. */
  readonly holds: readonly string[];
  readonly joins_s: number;
  /** Its machines are moved away from then on; absent means never. */
  readonly leaves_s?: number;
  /** Mean time between failures; absent means never. */
  readonly failEvery_s?: number;
  readonly repair_s: number;
}

export interface MachinesSpec {
  /** Machines of the scenario by name; where there are none, `count` are drawn. */
  readonly named: readonly NamedMachine[];
  readonly count: number;
  /** User data: log-normal by median and the deviation of the logarithm. */
  readonly userDataMedianBytes: number;
  readonly userDataSigma: number;
  /** Compressed over raw. */
  readonly userDataRatio: number;
  /** New bytes that a machine writes to its user data block each second. */
  readonly writes_Bps: number;
  readonly cpus: number;
  readonly memoryBytes: number;
  /** What a running machine writes to its memory; drawn for each, as user data are. */
  readonly dirty: {
    readonly median_Bps: number;
    readonly sigma: number;
    /** Where it writes again and again; absent means all of its memory. */
    readonly withinBytes?: number;
  };
  /** The service level's bound of the pause of a hot migration; absent means none. */
  readonly downtimeMax_s?: number;
  /** Mean lifetime; the population is kept up by arrivals. Absent means that all stay. */
  readonly lifetime_s?: number;
  readonly load: {
    /** Share of its processors that a machine uses, 0 to 1. */
    readonly mean: number;
    readonly spread: number;
    /** Mean time between two changes; absent means none. */
    readonly changeEvery_s?: number;
    /** Amplitude of the day's wave, as a part of the mean; regions are apart in phase. */
    readonly daily: number;
  };
  /** Seconds that stopping, composing, starting and booting take. */
  readonly stop_s: number;
  readonly compose_s: number;
  readonly start_s: number;
  readonly boot_s: number;
}

export interface NamedMachine {
  readonly name: string;
  readonly cloud: string;
  readonly appliance: string;
  readonly userDataBytes: number;
}

export interface MigrationsSpec {
  /** Asked for by name. */
  readonly named: readonly {
    readonly machine: string;
    readonly to: string;
    readonly at_s: number;
  }[];
  /** How many are asked for in the whole duration, of machines drawn evenly. */
  readonly count: number;
  /** Part of them that goes back to the cloud where the machine was before. */
  readonly returns: number;
}

export type TransferPolicy =
  /** The whole machine as one compressed block, while it is off. */
  | "monolithic"
  /** Composed image cloning as in the paper: missing components whole, from the source. */
  | "cic"
  /** Missing components against the nearest version that the destination holds. */
  | "cic-delta"
  /** As `cic-delta`, each component from the holder that brings it soonest. */
  | "cic-nearest"
  /** As `cic-nearest`, and idle links fetch what is asked for most. */
  | "cic-prefetch";

export interface PolicySpec {
  /** Names the run in results. */
  readonly name: string;
  readonly transfer: TransferPolicy;
  /** Machines go on running while they move, and how their memory travels; absent means cold. */
  readonly hot?: MemoryMethod;
  /** A name in `PLACEMENTS`. */
  readonly placement: string;
  /** How many clouds are drawn as candidates for a machine (power of d choices). */
  readonly candidates: number;
  /** Distance of the rounds in which the placement policy decides. */
  readonly round_s: number;
}

/** What a placement policy sees. Arrays are by cloud or machine, and must not be written to. */
export interface FederationView {
  readonly now_s: number;
  readonly clouds: number;
  readonly machines: number;
  /** 1 where the cloud is there, well, and takes machines. */
  readonly open: Uint8Array;
  /** CPUs in demand now, by cloud, with those of machines that are on their way to it. */
  readonly load: Float64Array;
  /** The same at the round before. */
  readonly loadBefore: Float64Array;
  /** CPUs that the cloud has. */
  readonly capacity: Float64Array;
  readonly memoryFreeBytes: Float64Array;
  readonly egressPricePerGB: Float64Array;
  readonly uplink_bps: Float64Array;
  readonly downlink_bps: Float64Array;
  /** Cloud of a machine; -1 where there is none or it is on its way. */
  readonly cloudOf: Int32Array;
  /** CPUs that a machine demands now, and at the round before. */
  readonly machineLoad: Float64Array;
  readonly machineLoadBefore: Float64Array;
  readonly machineMemoryBytes: number;
  /** Machines of a cloud that may be moved. */
  machinesOf(cloud: number): readonly number[];
  /** Component bytes on the wire that the cloud lacks, by the run's transfer policy. */
  missingBytes(machine: number, cloud: number): number;
  /** User data bytes on the wire; fewer where the cloud has an earlier copy. */
  userDataBytes(machine: number, cloud: number): number;
  /** Seconds that the machine would be off or paused, with the links as good as when idle. */
  downtime_s(machine: number, cloud: number): number;
  /** `count` open clouds, each at most once, drawn evenly by the run's seed. */
  drawClouds(count: number): readonly number[];
  /** 0 to below 1, by the run's seed. */
  random(): number;
}

export interface PlacementDecision {
  readonly machine: number;
  readonly to: number;
}

/**
 * Pure: the same view and memory give the same answer. `Memory` is what it keeps between rounds,
 * and stays within the run.
 */
export interface PlacementPolicy<Memory = unknown> {
  start(view: FederationView): Memory;
  /** The cloud for a machine that has to go; undefined where none of the candidates will do. */
  choose(
    view: FederationView,
    machine: number,
    candidates: readonly number[],
    memory: Memory,
  ): number | undefined;
  /** Called every `round_s`: which machines should go, and where. */
  decide(
    view: FederationView,
    memory: Memory,
  ): { readonly decisions: readonly PlacementDecision[]; readonly memory: Memory };
}

/** Points of the series, one for each `sample_s`; all columns are of the same length. */
export interface Series {
  readonly time_s: readonly number[];
  /** Migrations that ended well since the point before. */
  readonly migrations: readonly number[];
  /** The same by case. */
  readonly cases: Readonly<Record<MigrationCase, readonly number[]>>;
  /** Bytes on the wire of migrations that ended since the point before, and of prefetches. */
  readonly movedBytes: readonly number[];
  /** Part of the asked-for component bytes (raw) that the destination held; NaN where none were. */
  readonly hitRatio: readonly (number | null)[];
  /** Components in all repositories now. */
  readonly repositoryBytes: readonly number[];
  /** What the same repositories would take as one image for each appliance that was there. */
  readonly templateBytes: readonly number[];
  /** Egress paid so far. */
  readonly money: readonly number[];
  /** Jain's index of the load relative to capacity, 1 is even; present clouds only. */
  readonly balance: readonly number[];
  /** Migrations under way. */
  readonly active: readonly number[];
}

/** `fractions[i]` of all values are at most `values[i]`; values ascend. */
export interface Distribution {
  readonly count: number;
  readonly mean: number;
  readonly values: readonly number[];
  readonly fractions: readonly number[];
}

export interface RunTotals {
  readonly migrations: number;
  readonly aborted: number;
  /** Asked for, but no cloud could take the machine, or it was on its way already. */
  readonly refused: number;
  readonly cases: Readonly<Record<MigrationCase, number>>;
  readonly movedBytes: number;
  readonly componentBytes: number;
  readonly userDataBytes: number;
  readonly prefetchBytes: number;
  /** Memory of machines that were moved while they ran. */
  readonly memoryBytes: number;
  /** Of `aborted`: their memory would not come across. */
  readonly givenUp: number;
  /** What the same migrations would have moved as monolithic blocks. */
  readonly monolithicBytes: number;
  readonly requestedBytes: number;
  readonly hitBytes: number;
  readonly hitRatio: number;
  readonly money: number;
}

/** One migration of a machine that the scenario names. */
export interface NamedMigration {
  readonly machine: string;
  readonly from: string;
  readonly to: string;
  readonly case: MigrationCase;
  /** Names of the families that the destination lacked, in the order of the appliance. */
  readonly missing: readonly string[];
  readonly movedBytes: number;
  /** From the request until the machine is ready; null where it was not completed. */
  readonly seconds: number | null;
  readonly downtime_s: number | null;
}

/** The outcome of one run; a function of scenario and policy alone, so no wall-clock time. */
export interface RunResult {
  readonly scenario: string;
  readonly seed: number;
  readonly policy: PolicySpec;
  readonly clouds: number;
  readonly machines: number;
  readonly simulated_s: number;
  readonly events: number;
  readonly totals: RunTotals;
  /**
   * What `totals.hitRatio` cannot exceed with any eviction policy on the requests of this run, one
   * that knows them all beforehand included; null where every repository is unlimited.
   */
  readonly hitRatioBound: number | null;
  readonly series: Series;
  /** Seconds from the request until the machine is ready. */
  readonly migrationTime: Distribution;
  /** Seconds that the machine was off, or paused. */
  readonly downtime: Distribution;
  /** Of machines that the scenario names; empty for drawn ones. */
  readonly named: readonly NamedMigration[];
}
