import { reportOf, type Offer, type ProcessIdentity, type World } from "#core";
import {
  observe,
  PLACEMENT_SETTINGS,
  startTrend,
  type CloudLoad,
  type GuestLoad,
  type LoadTrend,
} from "#placement";

/** Ticks in which the kernel tells times of processes, proc(5): USER_HZ is 100 on all of Linux. */
const TICKS_PER_S = 100;
const STAT_BYTES_MAX = 4096;

export interface LoadSources {
  readonly world: World;
  readonly cpus: number;
  /** Machines that run here, with their hypervisor's process. */
  running(): readonly { readonly uuid: string; readonly identity: ProcessIdentity }[];
  /** Offers of the clouds that are present. */
  offers(): readonly Offer[];
}

interface Guest {
  readonly used_s: number;
  readonly at_ms: number;
  /** Absent until two observations tell a rate. */
  readonly load?: GuestLoad;
}

/**
 * How busy this cloud, its machines and the clouds that it sees are, and how that changes: observed
 * in fixed distances, kept in memory only.
 */
export class LoadWatch {
  readonly #sources: LoadSources;
  #guests = new Map<string, Guest>();
  #here: LoadTrend | undefined;
  #load = 0;
  #others = new Map<string, LoadTrend>();
  #cancel: () => void = () => undefined;
  #running = false;

  constructor(sources: LoadSources) {
    this.#sources = sources;
  }

  start(): void {
    this.#running = true;
    void this.#go();
  }

  stop(): void {
    this.#running = false;
    this.#cancel();
  }

  async #go(): Promise<void> {
    const { clock, log } = this.#sources.world;
    try {
      await this.sample();
    } catch (error) {
      log.log("warn", "the load cannot be observed", { ...reportOf(error) });
    }
    if (!this.#running) return;
    this.#cancel = clock.after(PLACEMENT_SETTINGS.observation_s * 1000, () => void this.#go());
  }

  /** One observation of everything. */
  async sample(): Promise<void> {
    const running = this.#sources.running();
    const guests = await Promise.all(running.map((each) => this.#observe(each)));
    this.#guests = new Map(guests.flatMap((each) => (each === undefined ? [] : [each])));
    const busy = [...this.#guests.values()].reduce((sum, { load }) => sum + (load?.cpus ?? 0), 0);
    this.#load = busy / this.#sources.cpus;
    this.#here = next(this.#here, this.#load);
    const offers = this.#sources.offers().filter(({ load }) => load !== undefined);
    this.#others = new Map(
      offers.map(({ cloud, load = 0 }) => [cloud, next(this.#others.get(cloud), load)]),
    );
  }

  async #observe({
    uuid,
    identity,
  }: {
    readonly uuid: string;
    readonly identity: ProcessIdentity;
  }): Promise<[string, Guest] | undefined> {
    const { clock, files } = this.#sources.world;
    const path = `/proc/${identity.pid}/stat`;
    const text = await files.readFile(path, STAT_BYTES_MAX).catch(() => undefined);
    const used_s = text === undefined ? undefined : usedSeconds(Buffer.from(text).toString());
    if (used_s === undefined) return undefined;
    const at_ms = clock.monotonic();
    const before = this.#guests.get(uuid);
    if (before === undefined || used_s < before.used_s || at_ms <= before.at_ms) {
      return [uuid, { used_s, at_ms }];
    }
    const cpus = ((used_s - before.used_s) * 1000) / (at_ms - before.at_ms);
    const trend = next(before.load?.trend, cpus);
    return [uuid, { used_s, at_ms, load: { cpus, trend } }];
  }

  /** Share of this cloud's processors that its machines keep busy, as last observed. */
  get load(): number {
    return this.#load;
  }

  here(): CloudLoad {
    const trend = this.#here ?? startTrend(this.#load);
    return { capacity: this.#sources.cpus, load: this.#load, trend };
  }

  /** Undefined for a machine that does not run, or not for long enough. */
  guest(uuid: string): GuestLoad | undefined {
    return this.#guests.get(uuid)?.load;
  }

  /** Undefined for a cloud that does not tell. */
  other({ cloud, cpus, load }: Offer): CloudLoad | undefined {
    if (cpus === undefined || cpus <= 0 || load === undefined) return undefined;
    return { capacity: cpus, load, trend: this.#others.get(cloud) ?? startTrend(load) };
  }
}

function next(trend: LoadTrend | undefined, load: number): LoadTrend {
  return trend === undefined ? startTrend(load) : observe(trend, load);
}

/** Processor time, user and system, from the text of `/proc/PID/stat`, proc(5) fields 14 and 15. */
export function usedSeconds(stat: string): number | undefined {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  return Number.isFinite(ticks) ? ticks / TICKS_PER_S : undefined;
}
