/** The page of results. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Row } from "./rows.ts";

const BENCH = import.meta.dirname;

function table(name: string): string {
  const rows = JSON.parse(readFileSync(join(BENCH, "results", name), "utf8")) as Row[];
  const lines = rows.map(
    ({ id, ours, peer, ratio, target, unit, how }) =>
      `| ${id} | ${ours} | ${peer} | ${ratio} | ${target} | ${unit} | ${how.replaceAll("|", "\\|")} |`,
  );
  const head = "| id | ours | peer | ratio | target | unit | how |\n|---|---|---|---|---|---|---|";
  return `## ${name.replace(".json", "")}\n\n${head}\n${lines.join("\n")}\n`;
}

/** Writes `bench/RESULTS.md` from all results. */
export function writePage(): void {
  const names = readdirSync(join(BENCH, "results")).toSorted();
  const intro =
    "Written by `make bench` from `bench/results`. `ratio` is ours / peer; absolute figures\ndepend on the machine, ratios less so. A run with `--only` keeps the other rows, so rows of one table may\nbe of different runs: those of `transfer` are of several runs of one night on a machine without other work,\nthe rows of the data disk of an earlier day.\n";
  const page = `# Benchmark results\n\n${intro}\n${names.map(table).join("\n")}`;
  writeFileSync(join(BENCH, "RESULTS.md"), page);
}
