/** Plots as SVG text, without a browser: what is drawn is ours, the drawing is ECharts'. */
import { createRequire } from "node:module";
import type * as ECharts from "echarts";
import type { EChartsCoreOption } from "echarts/core";

// Loaded at the first plot: it takes longer than the whole start of a command.
const require = createRequire(import.meta.url);
const library = (): typeof ECharts => require("echarts") as typeof ECharts;

export interface Axis {
  readonly title: string;
  readonly logarithmic?: boolean;
  readonly max?: number;
}

export interface Line {
  readonly name: string;
  /** A null is a gap. */
  readonly points: readonly (readonly [number, number | null])[];
  readonly dashed?: boolean;
  /** Marks at the points: what was measured. */
  readonly marked?: boolean;
}

export interface LinePlot {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly lines: readonly Line[];
}

export interface BarPlot {
  readonly title: string;
  readonly y: Axis;
  readonly names: readonly string[];
  /** Values in the order of `names`; bars of one name stand beside each other. */
  readonly bars: readonly { readonly name: string; readonly values: readonly number[] }[];
}

const WIDTH = 720;
const HEIGHT = 380;

export function renderLines({ title, x, y, lines }: LinePlot): string {
  return draw(title, {
    xAxis: { ...axisOf(x), nameLocation: "middle", nameGap: 28 },
    yAxis: axisOf(y),
    series: lines.map(({ name, points, dashed, marked }) => ({
      type: "line",
      name,
      data: points.map(([at, value]) => [at, value ?? "-"]),
      showSymbol: marked === true,
      symbolSize: 7,
      lineStyle: { width: 2, type: dashed === true ? "dashed" : "solid" },
    })),
  });
}

export function renderBars({ title, y, names, bars }: BarPlot): string {
  return draw(title, {
    xAxis: { type: "category", data: [...names] },
    yAxis: axisOf(y),
    series: bars.map(({ name, values }) => ({ type: "bar", name, data: [...values] })),
  });
}

function axisOf({ title, logarithmic, max }: Axis) {
  return {
    type: logarithmic === true ? ("log" as const) : ("value" as const),
    name: title,
    nameTextStyle: { align: "left" },
    ...(max === undefined ? {} : { max }),
  };
}

function draw(title: string, option: EChartsCoreOption): string {
  const chart = library().init(null, null, {
    renderer: "svg",
    ssr: true,
    width: WIDTH,
    height: HEIGHT,
  });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: "#fff",
      title: { text: title, left: "center", textStyle: { fontSize: 15 } },
      legend: { bottom: 0, type: "plain" },
      grid: { left: 70, right: 30, top: 60, bottom: 70 },
      ...option,
    });
    return chart.renderToSVGString();
  } finally {
    chart.dispose();
  }
}
