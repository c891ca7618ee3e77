/**
 * `make bench-transfer`: our data plane against its peers, on real Debian systems and a data disk.
 * Needs root, for network namespaces and loop mounts. Writes the rows of
 * `bench/results/transfer.json` and the page of results.
 *
 *     main.ts [--only ID,...] [--keep-peers] [--keep]
 *
 * `--only` makes the rows whose ids begin so and keeps the others; `--keep-peers` takes what an
 * earlier run measured of the peers, `--keep` of ours too.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writePage } from "../page.ts";
import { mergeResults, tellRow } from "../rows.ts";
import { removeStale } from "./link.ts";
import { Measurements } from "./plan.ts";
import { MAKERS, type Maker } from "./results.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    "keep-peers": { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
  },
});

const ROOT = join(import.meta.dirname, "../..");
const IMAGES = [
  "minbase",
  "nginx",
  "full",
  "full-release",
  "full-trixie",
  "kernel",
  "kernel-release",
];

function program(name: string, ...args: readonly string[]): void {
  const path = join(import.meta.dirname, name);
  const { status } = spawnSync(process.execPath, [path, ...args], { cwd: ROOT, stdio: "inherit" });
  if (status !== 0) throw new Error(`${name} ended with ${String(status)}`);
}

function isWanted({ ids }: Maker): boolean {
  const { only } = values;
  if (only === undefined) return true;
  return only.split(",").some((name) => ids.some((id) => id.startsWith(name)));
}

if (process.getuid?.() !== 0) throw new Error("run it as root: it makes network namespaces");
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));
removeStale();
program("pairs.ts", ...IMAGES);
program("disk.ts");
const fresh = (tool: string): boolean =>
  !values.keep && !(values["keep-peers"] && !tool.startsWith("ours"));
const measurements = new Measurements(fresh);
const failed: string[] = [];
for (const maker of MAKERS.filter(isWanted)) {
  try {
    const rows = await maker.rows(measurements);
    rows.forEach(tellRow);
    mergeResults("transfer", rows);
  } catch (error) {
    failed.push(...maker.ids);
    console.error(`${maker.ids.join(", ")}: not measured:`, error);
  }
}
writePage();
spawnSync("oxfmt", ["bench/RESULTS.md", "bench/results"], { cwd: ROOT, stdio: "inherit" });
if (failed.length > 0) process.exitCode = 1;
