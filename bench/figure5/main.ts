/**
 * `make figure5`: the paper's experiment on the real system. Needs root (network namespaces).
 * Options: --rate, --sizes (downloaded MB, ascending, by commas). The figures of the last run are
 * kept in build/figure5/points.json; --draw makes tables and plots of them again.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { formatRate, parseRate } from "#core";
import { testComponents } from "../../test/support/components.ts";
import { headline, say } from "../demo/screen.ts";
import { writePage } from "../page.ts";
import { removeStale } from "../transfer/link.ts";
import { openScene, SCENE, type Scene } from "./clouds.ts";
import { Traveller, type Point } from "./experiment.ts";
import { writeFigures, type Measured } from "./figures.ts";

const APPLIANCES = resolve(import.meta.dirname, "../../examples/appliances");
const POINTS = join(SCENE, "points.json");
/** What is downloaded after the last move. */
const REST_BYTES = 4e6;

async function runAll(scene: Scene, sizes: readonly number[]): Promise<Point[]> {
  for (const name of ["web", "database"]) {
    const fileName = join(APPLIANCES, `${name}.yaml`);
    const text = readFileSync(fileName, "utf8");
    await scene.messina.api.call("appliance.add", { fileName, text });
  }
  const points: Point[] = [];
  const keep = (point: Point): void => {
    points.push(point);
    say(`composed ${point.whole_s.toFixed(1)} s, monolithic ${point.monolithWhole_s.toFixed(1)} s`);
  };
  const [smallest = 0] = sizes;
  headline("Worst case: inquadro holds nothing");
  const web = await Traveller.start(scene, "web", "web");
  keep(await web.go(smallest));
  for (const size of sizes) {
    headline(`Best case, ${size / 1e6} MB downloaded`);
    keep(await web.go(size));
  }
  await web.arrive();
  headline("Average case: inquadro misses the program");
  const database = await Traveller.start(scene, "database", "database");
  keep(await database.go(smallest));
  await database.arrive();
  return points;
}

async function measure(bitsPerSecond: number, sizes: readonly number[]): Promise<void> {
  removeStale();
  headline(`Figure 5 over a link of ${formatRate(bitsPerSecond)}`);
  const { directory } = await testComponents();
  const scene = await openScene(bitsPerSecond, (sizes.at(-1) ?? 0) + REST_BYTES, directory);
  try {
    const points = await runAll(scene, sizes);
    writeFileSync(POINTS, `${JSON.stringify({ bitsPerSecond, points }, null, 2)}\n`);
  } finally {
    for (const { web } of [scene.messina, scene.inquadro]) web.end();
    scene.link.close();
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rate: { type: "string", default: "8Mbit/s" },
      sizes: { type: "string", default: "10,25,40,55,70" },
      draw: { type: "boolean", default: false },
    },
  });
  const sizes = values.sizes.split(",").map((size) => Number(size) * 1e6);
  if (!values.draw) await measure(parseRate(values.rate), sizes);
  writeFigures(SCENE, JSON.parse(readFileSync(POINTS, "utf8")) as Measured);
  writePage();
}

await main();
