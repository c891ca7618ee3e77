/** Which measurements the rows of the result need, and how they are taken and kept. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUILD, measure, PEERS, prepared, TOOLS } from "./measure.ts";
import { predicted } from "./ours.ts";
import type { LinkShape } from "./link.ts";
import type { Measure, Pair, Tool } from "./scene.ts";

const image = (name: string): string => join(BUILD, "images", name);

export const PAIRS = {
  P1: { name: "P1", old: image("minbase"), new: image("nginx") },
  P2: { name: "P2", old: image("nginx"), new: image("full") },
  P3: { name: "P3", old: image("full-release"), new: image("full") },
  P4: { name: "P4", old: image("full"), new: image("full-trixie") },
  kernel: { name: "kernel", old: image("kernel-release"), new: image("kernel") },
  cold: { name: "cold", new: image("full") },
  disk: {
    name: "disk",
    old: join(BUILD, "disk/before"),
    new: join(BUILD, "disk/after"),
    disk: true,
  },
} as const satisfies Readonly<Record<string, Pair>>;

export type PairName = keyof typeof PAIRS;

/** What a name of a pair stands for, in sentences of a row. */
export const ABOUT: Readonly<Record<PairName, string>> = {
  P1: "P1: Debian 12 minbase, then with nginx",
  P2: "P2: nginx, then with MariaDB, Redis and Python",
  P3: "P3: P2's system of Debian's release, then with its security updates",
  P4: "P4: P2's system of Debian 12, then of Debian 13",
  kernel: "Debian's cloud kernel of the release, then of the security suite",
  cold: "P2's system where nothing is held",
  disk: "6 GiB ext4 disk: database, log and media edits, with lineage",
};

/** Takes measurements once per run and keeps them for `--only`. */
export class Measurements {
  readonly #file = join(BUILD, "measures.json");
  readonly #kept: Measure[];
  readonly #fresh: (tool: string) => boolean;
  readonly #taken = new Set<Measure>();

  /** @param fresh which tools are measured anew, though a measure of an earlier run is there */
  constructor(fresh: (tool: string) => boolean) {
    this.#fresh = fresh;
    this.#kept = existsSync(this.#file)
      ? (JSON.parse(readFileSync(this.#file, "utf8")) as Measure[])
      : [];
  }

  async of(tool: Tool, pair: Pair, shape: LinkShape = {}): Promise<Measure> {
    const known = this.#kept.find((one) => isOf(one, tool, pair, shape));
    if (known !== undefined && (this.#taken.has(known) || !this.#fresh(tool.name))) return known;
    const taken = { ...(await measure(tool, pair, shape)), ...delayOf(shape) };
    const rest = this.#kept.filter((one) => one !== known);
    this.#kept.splice(0, this.#kept.length, ...rest, taken);
    this.#taken.add(taken);
    mkdirSync(BUILD, { recursive: true });
    writeFileSync(this.#file, JSON.stringify(this.#kept, undefined, 1));
    tell(taken);
    return taken;
  }

  async ours(pair: Pair, shape: LinkShape = {}): Promise<Measure> {
    return await this.of(toolOf("ours"), pair, shape);
  }

  /**
   * The peer that is first with a pair at a rate. One that could not be first, as its bytes alone
   * take longer or it was slower without a link, is not waited for.
   */
  async fastest(pair: Pair, bitsPerSecond: number): Promise<Measure> {
    const bounds: { tool: Tool; bound_s: number }[] = [];
    for (const tool of PEERS) {
      if (tool.slow === true) continue;
      const { bytes, seconds } = await this.of(tool, pair);
      bounds.push({ tool, bound_s: Math.max((bytes * 8) / bitsPerSecond, 0.7 * seconds) });
    }
    let best: Measure | undefined;
    for (const { tool, bound_s } of bounds.toSorted((a, b) => a.bound_s - b.bound_s)) {
      if (best !== undefined && bound_s > best.seconds) break;
      const taken = await this.of(tool, pair, { bitsPerSecond });
      if (best === undefined || taken.seconds < best.seconds) best = taken;
    }
    if (best === undefined) throw new Error("there are no peers");
    return best;
  }
}

function delayOf({ roundTrip_ms }: LinkShape) {
  return roundTrip_ms === undefined ? {} : { roundTrip_ms };
}

function isOf(one: Measure, tool: Tool, pair: Pair, shape: LinkShape): boolean {
  return (
    one.tool === tool.name &&
    one.pair === pair.name &&
    one.bitsPerSecond === shape.bitsPerSecond &&
    one.roundTrip_ms === shape.roundTrip_ms
  );
}

export function toolOf(name: string): Tool {
  const tool = TOOLS.find((one) => one.name === name);
  if (tool === undefined) throw new Error(`there is no tool ${name}`);
  return tool;
}

/** What a plan predicts for a pair at a rate. */
export function predictedBytes(pair: Pair, bitsPerSecond: number): number {
  return predicted(pair, prepared(toolOf("ours"), pair), bitsPerSecond);
}

function tell({ pair, tool, bitsPerSecond, roundTrip_ms, seconds, bytes, cpu_s }: Measure): void {
  const rate = bitsPerSecond === undefined ? "unlimited" : `${bitsPerSecond / 1e6} Mbit/s`;
  const delay = roundTrip_ms === undefined ? "" : `, ${roundTrip_ms} ms`;
  const figures = `${(bytes / 1e6).toFixed(2)} MB, ${seconds.toFixed(2)} s`;
  console.log(`  ${pair} ${tool} (${rate}${delay}): ${figures}, CPU ${cpu_s?.toFixed(1) ?? "?"} s`);
}
