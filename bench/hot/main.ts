/**
 * `make bench-hot`: hot migration against libvirt, and its parts against their peers. Needs root, for
 * network namespaces. Writes rows of `bench/results/hot.json` and the page of results.
 *
 *     main.ts [--only ID,...] [--full] [--keep] [--keep-peers]
 *
 * `--only` takes the cells whose ids contain one of these (`--list` tells them), or `nbd` and `demanded`; `--keep`
 * takes what an earlier run measured, `--keep-peers` what it measured of the peers.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writePage } from "../page.ts";
import { mergeResults, rowOf, tellRow, type Row } from "../rows.ts";
import { removeStale } from "../transfer/link.ts";
import { measureDemanded } from "./demanded.ts";
import { cellId, Grid, grid, type Cell } from "./grid.ts";
import { Path, ROUND_TRIP_MS } from "./path.ts";
import { gridRows } from "./results.ts";

const ROOT = join(import.meta.dirname, "../..");
/** The demanded block may take one round trip and so long. */
const ALLOWED_MS = 5;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    full: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
    "keep-peers": { type: "boolean", default: false },
    list: { type: "boolean", default: false },
  },
});

function isWanted(id: string): boolean {
  const { only } = values;
  return only === undefined || only.split(",").some((name) => id.includes(name));
}

function isKept(cell: Cell, measures: Grid): boolean {
  const keeps = values.keep || (values["keep-peers"] && !cell.system.startsWith("ours"));
  return keeps && measures.find(cellId(cell)) !== undefined;
}

/** How long a demanded block takes while the copy fills the link. */
async function demandedRows(): Promise<Row[]> {
  const path = await Path.open("demanded");
  try {
    const rows: Row[] = [];
    for (const mbit of [20, 100]) {
      for (const roundTrip_ms of [0, ROUND_TRIP_MS]) {
        const measured = await measureDemanded(path, { bitsPerSecond: mbit * 1e6, roundTrip_ms });
        const peer = measured.roundTrip_ms + ALLOWED_MS;
        const how = `4 KiB from a disk that is filled on demand, while the background copy runs at ${(measured.copied_bps / 1e6).toFixed(1)} of ${mbit} Mbit/s: median, by one round trip of the idle path (${measured.roundTrip_ms.toFixed(1)} ms) and ${ALLOWED_MS} ms; p95 ${measured.p95_ms.toFixed(0)} ms, without the copy ${measured.idle_ms.toFixed(1)} ms; data plane and disk, no hypervisor`;
        const figures = { ours: measured.median_ms, peer, target: "<= 1.0", unit: "ms", how };
        rows.push(rowOf(`proxy-latency-over-rtt-${mbit}mbit-${roundTrip_ms}ms`, figures));
      }
    }
    const [worst] = rows.toSorted((a, b) => b.ratio - a.ratio);
    if (worst === undefined) return rows;
    const how = `the worst of ${rows.length}: ${worst.how}`;
    return [{ ...worst, id: "proxy-latency-over-rtt", how }, ...rows];
  } finally {
    path.close();
  }
}

function report(rows: readonly Row[]): void {
  rows.forEach(tellRow);
  mergeResults("hot", rows);
}

function nbd(): void {
  const program = join(import.meta.dirname, "nbd.ts");
  const { status } = spawnSync(process.execPath, [program], { cwd: ROOT, stdio: "inherit" });
  if (status !== 0) throw new Error(`nbd.ts ended with ${status}`);
}

/** One boot for all cells of a system; those that fail are named. */
async function cells(): Promise<string[]> {
  const measures = new Grid();
  const wanted = grid(values.full).filter(
    (cell) => isWanted(cellId(cell)) && !isKept(cell, measures),
  );
  const failed: string[] = [];
  for (const [system, group] of Map.groupBy(wanted, (cell) => cell.system)) {
    try {
      failed.push(...(await measures.measure(system, group)).map(cellId));
    } catch (error) {
      failed.push(...group.map(cellId));
      console.error(`${system}: not measured:`, error);
    }
  }
  report(gridRows(measures.all));
  return failed;
}

async function main(): Promise<void> {
  if (values.list) {
    console.log(["nbd", "demanded", ...grid(values.full).map(cellId)].join("\n"));
    return;
  }
  if (process.getuid?.() !== 0) throw new Error("run it as root: it makes network namespaces");
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));
  removeStale();
  if (isWanted("nbd")) nbd();
  if (isWanted("demanded")) report(await demandedRows());
  const failed = await cells();
  writePage();
  spawnSync("oxfmt", ["bench/RESULTS.md", "bench/results"], { cwd: ROOT, stdio: "inherit" });
  if (failed.length > 0) process.exitCode = 1;
}

await main();
