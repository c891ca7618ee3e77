import assert from "node:assert/strict";
import { test } from "node:test";
import { renderBars, renderLines } from "./index.ts";
import { parseXml } from "./xml.suite.ts";

const plot = (value: number | null) =>
  renderLines({
    title: "Bytes & money",
    x: { title: "hours" },
    y: { title: "GB", max: 10 },
    lines: [
      {
        name: "a < b",
        points: [
          [0, 1],
          [1, value],
          [2, 3],
        ],
        marked: true,
      },
      {
        name: "other",
        points: [
          [0, 2],
          [2, 2],
        ],
        dashed: true,
      },
    ],
  });

const heights = (svg: string) => new Set(svg.match(/d="[^"]*"/g));

test("titles, names and lines are in the plot, as text", () => {
  const svg = plot(2);
  parseXml(svg);
  for (const text of ["Bytes &amp; money", "a &lt; b", "other", "hours", "GB"]) {
    assert.ok(svg.includes(text), text);
  }
  assert.match(svg, /stroke-dasharray/);
});

test("a line goes where its values are, and is broken where there is none", () => {
  assert.notDeepEqual(heights(plot(2)), heights(plot(9)));
  assert.notDeepEqual(heights(plot(2)), heights(plot(null)));
});

test("bars of one name stand beside each other", () => {
  const svg = renderBars({
    title: "Moved",
    y: { title: "GB" },
    names: ["monolithic", "cic"],
    bars: [
      { name: "components", values: [3, 1] },
      { name: "user data", values: [2, 2] },
    ],
  });
  parseXml(svg);
  for (const text of ["monolithic", "cic", "components", "user data"])
    assert.ok(svg.includes(text));
});
