/** The report of a simulation in a real browser: headless Chromium as Debian has it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { renderReport } from "#simulator";
import { sampleResult } from "../../src/simulator/results.suite.ts";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--host-resolver-rules=MAP * ~NOTFOUND",
];

/** The page's document as the browser has it once it is loaded. */
function domOf(file: string, profile: string): string {
  const args = [...FLAGS, `--user-data-dir=${profile}`, "--dump-dom", pathToFileURL(file).href];
  const { status, stdout, stderr } = spawnSync("chromium", args, {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  assert.equal(status, 0, stderr);
  return stdout;
}

test("a browser shows the table and every plot of a report", () => {
  const directory = mkdtempSync(join(tmpdir(), "tessera-report-"));
  try {
    const file = join(directory, "report.html");
    const results = [sampleResult("monolithic", 4e8), sampleResult("cic <best>", 5e7)];
    writeFileSync(file, renderReport("Hundreds of clouds", results));
    const dom = domOf(file, join(directory, "profile"));
    assert.match(dom, /<h1>Hundreds of clouds<\/h1>/);
    assert.match(dom, /<td>cic &lt;best&gt;<\/td><td>240<\/td>/);
    const plots = dom.match(/<svg[\s\S]*?<\/svg>/g) ?? [];
    assert.equal(plots.length, 9);
    for (const plot of plots) assert.ok((plot.match(/<(path|text)/g) ?? []).length > 10);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
