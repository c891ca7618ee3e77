/** `make bench`: runs every benchmark, then writes `bench/RESULTS.md` from `bench/results`. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Report } from "./demo/migrate.ts";
import { writePage } from "./page.ts";
import { writeResults, type Row } from "./rows.ts";

const BENCH = import.meta.dirname;
const ROOT = resolve(BENCH, "..");

function node(...args: readonly string[]): void {
  const { status } = spawnSync(process.execPath, args, { cwd: ROOT, stdio: "inherit" });
  if (status !== 0) throw new Error(`${args.join(" ")} ended with ${status}`);
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

/** The demo's figures as rows: bytes on the link and seconds of transfer, against the monolith. */
function demoRows(reports: readonly Report[], rate: string): Row[] {
  return reports.flatMap((report) => {
    const { monolithic, seconds } = report;
    const how = `demo, ${report.machine} ${report.from} -> ${report.to}, ${rate} link, one run; peer: zstd-compressed qcow2 by socat over the same relay`;
    const transfer_s = (seconds["components"] ?? 0) + (seconds["userData"] ?? 0);
    const row = (id: string, unit: string, ours: number, peer: number): Row => ({
      id: `demo-${report.case}-${id}`,
      ours: rounded(ours),
      peer: rounded(peer),
      ratio: rounded(ours / peer),
      target: "none",
      unit,
      how,
    });
    return [
      row("bytes", "bytes", report.bytes_on_link, monolithic.bytes),
      row("transfer", "s", transfer_s, monolithic.transfer_s),
    ];
  });
}

const rate = process.env["RATE"] ?? "50Mbit/s";
node("bench/clone.ts");
node("bench/demo/main.ts", "--rate", rate);
const report = readFileSync(join(ROOT, "build", "demo", "report.json"), "utf8");
writeResults("demo", demoRows(JSON.parse(report) as Report[], rate));
writePage();
spawnSync("oxfmt", ["bench/RESULTS.md", "bench/results"], { cwd: ROOT, stdio: "inherit" });
