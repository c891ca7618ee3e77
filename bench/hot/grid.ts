/** The grid: which guests are moved by whom over which path, and how each cell is measured and kept. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SIDES } from "../transfer/link.ts";
import { BUILD } from "../transfer/measure.ts";
import { CloudHosts } from "./clouds.ts";
import type { Hosts, HostsRequest } from "./hosts.ts";
import { LibvirtHosts } from "./libvirt.ts";
import { LOAD_PORT, LOADS, saidBy, TICK_MS, type Load, type LoadId } from "./loads.ts";
import { Path, ROUND_TRIP_MS } from "./path.ts";
import { Ticks } from "./ticks.ts";

export type System = "ours" | "ours-return" | "libvirt-all" | "libvirt-inc";

/** A guest and a path; both sides of a comparison have the same. */
export interface Place {
  readonly load: LoadId;
  readonly mbit: number;
  readonly roundTrip_ms: number;
}

export interface Cell extends Place {
  readonly system: System;
}

export interface Measure extends Cell {
  readonly ended: boolean;
  readonly seconds: number;
  /** On the path, both directions, all headers. */
  readonly bytes: number;
  /** The largest time without a tick of the guest, as seen from outside. */
  readonly gap_ms: number;
  /** As the hypervisor or the receipt says. */
  readonly downtime_ms?: number;
  /** Ticks that came where one was due, before and meanwhile. */
  readonly ticksBefore: number;
  readonly ticksMeanwhile: number;
  /** The guest is one that went on: no tick is missing. */
  readonly whole: boolean;
  readonly more?: Readonly<Record<string, number>>;
  readonly words?: string;
}

/** After which a migration counts as one that does not end; the bytes alone take a third of it. */
const LIMITS_S: Readonly<Record<number, number>> = { 20: 300, 100: 120, 1000: 120 };
const LOAD_MS = 300_000;
const BEFORE_MS = 4_000;
const AFTER_MS = 1_500;
/** What a machine that comes back has done meanwhile. */
const AWAY_MS = 15_000;

const place = (load: LoadId, mbit: number, roundTrip_ms = 0): Place => ({
  load,
  mbit,
  roundTrip_ms,
});
const cells = (at: Place, systems: readonly System[]): Cell[] =>
  systems.map((system) => ({ ...at, system }));

const STRONG: readonly System[] = ["libvirt-inc", "ours"];
const BOTH: readonly System[] = ["libvirt-all", ...STRONG];
const ALL: readonly System[] = [...BOTH, "ours-return"];
const SYSTEMS = ALL;

const USUAL: readonly Cell[] = [
  ...cells(place("idle", 100), ALL),
  ...cells(place("idle", 20), STRONG),
  ...cells(place("idle", 1000), STRONG),
  ...cells(place("idle", 100, ROUND_TRIP_MS), STRONG),
  ...cells(place("warm", 100), BOTH),
  ...cells(place("warm", 20), STRONG),
  ...cells(place("dirty5", 100), STRONG),
  ...cells(place("dirty20", 100), STRONG),
  ...cells(place("write10", 100), STRONG),
  ...cells(place("write50", 100), STRONG),
  ...cells(place("redis", 100), ALL),
  ...cells(place("redis", 20, ROUND_TRIP_MS), STRONG),
];

function everything(): Cell[] {
  const loads = Object.keys(LOADS) as LoadId[];
  return loads.flatMap((load) =>
    [20, 100, 1000].flatMap((mbit) =>
      [0, ROUND_TRIP_MS].flatMap((roundTrip_ms) => cells({ load, mbit, roundTrip_ms }, ALL)),
    ),
  );
}

/** By system, so that one guest serves for all; a load leaves its traces in it, the same for each. */
export function grid(isFull: boolean): Cell[] {
  const loads = Object.keys(LOADS);
  const order = ({ load, system }: Cell): number =>
    SYSTEMS.indexOf(system) * loads.length + loads.indexOf(load);
  return (isFull ? everything() : [...USUAL]).toSorted((a, b) => order(a) - order(b));
}

export function placeId({ load, mbit, roundTrip_ms }: Place): string {
  return `${load}-${mbit}mbit${roundTrip_ms === 0 ? "" : `-${roundTrip_ms}ms`}`;
}

export function cellId(cell: Cell): string {
  return `${placeId(cell)}-${cell.system}`;
}

async function hostsOf(system: System, request: HostsRequest): Promise<Hosts> {
  if (system === "ours") return await CloudHosts.start(request, false);
  if (system === "ours-return") return await CloudHosts.start(request, true);
  return await LibvirtHosts.start(request, system === "libvirt-inc");
}

/** What was measured, in this run and in earlier ones. */
export class Grid {
  readonly #directory = join(BUILD, "hot");
  readonly #file = join(this.#directory, "measures.json");
  readonly #kept: Measure[];

  constructor() {
    mkdirSync(this.#directory, { recursive: true });
    const there = existsSync(this.#file);
    this.#kept = there ? (JSON.parse(readFileSync(this.#file, "utf8")) as Measure[]) : [];
  }

  find(id: string): Measure | undefined {
    return this.#kept.find((one) => cellId(one) === id);
  }

  get all(): readonly Measure[] {
    return this.#kept;
  }

  /** Takes cells of one system, one after the other; those that fail are named. */
  async measure(system: System, wanted: readonly Cell[]): Promise<Cell[]> {
    const path = await Path.open(system);
    // Sockets lie below it, and their paths must be short.
    const directory = mkdtempSync(join(tmpdir(), "tessera-hot-"));
    try {
      const loads = new LoadServer(path, join(directory, "load"));
      const hosts = await hostsOf(system, { path, directory, cache: this.#directory });
      try {
        return await this.#each(wanted, { hosts, path, loads });
      } finally {
        await hosts.close();
      }
    } finally {
      path.close();
      rmSync(directory, { recursive: true, force: true });
    }
  }

  async #each(wanted: readonly Cell[], scene: Scene): Promise<Cell[]> {
    const failed: Cell[] = [];
    for (const cell of wanted) {
      try {
        this.#keep(await one(cell, scene));
      } catch (error) {
        failed.push(cell);
        console.error(`${cellId(cell)}: not measured:`, error);
      }
    }
    return failed;
  }

  #keep(measure: Measure): void {
    const at = this.#kept.findIndex((one) => cellId(one) === cellId(measure));
    if (at >= 0) this.#kept.splice(at, 1);
    this.#kept.push(measure);
    writeFileSync(this.#file, `${JSON.stringify(this.#kept, undefined, 1)}\n`);
    tell(measure);
  }
}

interface Scene {
  readonly hosts: Hosts;
  readonly path: Path;
  readonly loads: LoadServer;
}

/** Tells the guest, at either side, which load it shall have. */
class LoadServer {
  readonly #file: string;

  constructor(path: Path, file: string) {
    this.#file = file;
    writeFileSync(file, "none");
    for (const side of SIDES) {
      const where = `TCP-LISTEN:${LOAD_PORT},bind=127.0.0.1,fork,reuseaddr`;
      const [program, args] = path.command(side, "socat", ["-U", where, `FILE:${file}`]);
      spawn(program, args, { stdio: "ignore" });
    }
  }

  async set(load: Load, ticks: Ticks): Promise<void> {
    if (readFileSync(this.#file, "utf8") === load.id) return;
    writeFileSync(this.#file, load.id);
    await ticks.said(saidBy(load), LOAD_MS);
  }
}

async function one(cell: Cell, { hosts, path, loads }: Scene): Promise<Measure> {
  const limit_s = LIMITS_S[cell.mbit] ?? 120;
  const ticks = new Ticks(hosts.consoles);
  try {
    path.shape({ bitsPerSecond: 1e9 });
    await loads.set(LOADS[cell.load], ticks);
    return await moved(cell, { hosts, path, ticks, limit_s });
  } finally {
    ticks.close();
  }
}

interface Watch {
  readonly hosts: Hosts;
  readonly path: Path;
  readonly ticks: Ticks;
  readonly limit_s: number;
}

async function moved(cell: Cell, { hosts, path, ticks, limit_s }: Watch): Promise<Measure> {
  if (cell.system === "ours-return") {
    const away = await hosts.move(limit_s);
    if (!away.ended) throw new Error(`it did not get away: ${away.words}`);
    await sleep(AWAY_MS);
  }
  path.shape({ bitsPerSecond: cell.mbit * 1e6, roundTrip_ms: cell.roundTrip_ms });
  await sleep(BEFORE_MS);
  const [bytes, from_ms] = [path.bytes(), performance.now()];
  const result = await hosts.move(limit_s);
  const to_ms = performance.now();
  const crossed = path.bytes() - bytes;
  await sleep(AFTER_MS);
  const before = ticks.between(from_ms - BEFORE_MS, from_ms, TICK_MS);
  const meanwhile = ticks.between(from_ms, to_ms, TICK_MS);
  return {
    ...cell,
    ...result,
    bytes: crossed,
    gap_ms: meanwhile.gap_ms,
    ticksBefore: before.tickShare,
    ticksMeanwhile: meanwhile.tickShare,
    whole: ticks.isWhole,
  };
}

function tell(measure: Measure): void {
  const { ended, seconds, bytes, gap_ms, downtime_ms, ticksBefore, ticksMeanwhile } = measure;
  const figures = [
    ended ? `${seconds.toFixed(1)} s` : `did not end in ${seconds.toFixed(0)} s`,
    `${(bytes / 1e6).toFixed(1)} MB`,
    `gap ${gap_ms.toFixed(0)} ms`,
    `downtime ${downtime_ms?.toFixed(0) ?? "?"} ms`,
    `ticks ${ticksBefore.toFixed(2)} -> ${ticksMeanwhile.toFixed(2)}`,
    measure.whole ? "" : "TICKS ARE MISSING",
    measure.words ?? "",
  ];
  console.log(`  ${cellId(measure)}: ${figures.filter(Boolean).join(", ")}`);
}
