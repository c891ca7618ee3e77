import assert from "node:assert/strict";
import { test } from "node:test";
import { parseXml } from "./xml.suite.ts";
import { renderReport, renderSummary, seriesCsv } from "./index.ts";
import { quantileOf } from "./summary.ts";
import { sampleResult } from "./results.suite.ts";

const RESULTS = [sampleResult("monolithic", 4e8), sampleResult("cic", 5e7)];

test("the summary has a line for each run and the same columns in all", () => {
  const lines = renderSummary(RESULTS).trimEnd().split("\n");
  assert.equal(lines.length, 3);
  assert.match(lines[1] ?? "", /^monolithic +240 +96\.0 GB +100\.0% +90\.0% +50\.0% +36\.0 s/);
  assert.match(lines[2] ?? "", /^cic +240 +12\.0 GB +12\.5%/);
});

test("a quantile is the least value that so many do not exceed", () => {
  const four = { count: 4, mean: 0, values: [1, 2, 3, 4], fractions: [0.25, 0.5, 0.75, 1] };
  assert.deepEqual(
    [0, 0.5, 0.51, 1].map((part) => quantileOf(four, part)),
    [1, 2, 3, 4],
  );
  assert.equal(quantileOf({ count: 0, mean: 0, values: [], fractions: [] }, 0.5), undefined);
});

test("the series are a table with a line for each run and point, gaps empty, names quoted", () => {
  const csv = seriesCsv([sampleResult('a,"b"', 1), sampleResult("=1+1", 1)]);
  const lines = csv.split("\r\n");
  assert.equal(lines.length, 2 + 2 * 24);
  assert.equal(lines[1], '"a,""b""",3600,10,1,4,5,10,0.5,1000000000,4000000000,0.5,0.875,3');
  assert.match(lines[4] ?? "", /,10,,4000000000,/);
  assert.match(lines[25] ?? "", /^'=1\+1,/);
});

test("every plot of the report is well-formed SVG, and nothing is loaded", () => {
  const html = renderReport("Hundreds of clouds", RESULTS);
  const plots = html.match(/<svg[\s\S]*?<\/svg>/g) ?? [];
  assert.equal(plots.length, 9);
  for (const plot of plots) assert.ok(parseXml(plot).elements > 20);
  const addresses = (html.match(/https?:[^"\s<]*/g) ?? []).filter(
    (each) => !each.includes("w3.org"),
  );
  assert.deepEqual(addresses, []);
  assert.doesNotMatch(html, /<script|<link|src=/);
});

test("names are text, wherever they are shown", () => {
  const html = renderReport("<b>&", [sampleResult("<img src=x onerror=1>", 1)]);
  assert.doesNotMatch(html, /<img|<b>/);
  for (const plot of html.match(/<svg[\s\S]*?<\/svg>/g) ?? []) parseXml(plot);
});

test("a federation without any run or migration has a report too", () => {
  assert.match(renderReport("none", []), /No run/);
  const empty = sampleResult("cic", 0);
  const nothing = { count: 0, mean: 0, values: [], fractions: [] };
  const html = renderReport("idle", [{ ...empty, migrationTime: nothing, downtime: nothing }]);
  assert.match(html, /<td>-<\/td>/);
});
